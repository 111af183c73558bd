//! The answer to a question why.

use serde::{Deserialize, Serialize};

use crate::objects::Kind;

/// The answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Explanation {
    /// What it is about.
    #[serde(default)]
    pub about: Kind,
    /// `metadata.namespace`.
    pub namespace: String,
    /// `metadata.name`.
    pub name: String,
    /// What it belongs to: `job/NAME` of a pod, `cronjob/NAME` of a job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// The container that it is mostly about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<String>,
    /// `status.phase`, of a job what it is (`Running`, `Suspended`, `Complete`, `Failed`, …); empty if there is no such object.
    pub phase: String,
    /// In one word, for programs.
    pub situation: Situation,
    /// In one sentence, for people.
    pub summary: String,
    /// What it is doing or waiting for.
    pub details: Vec<String>,
    /// What ended the container last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_end: Option<LastEnd>,
    /// The figures that matter.
    pub figures: Vec<String>,
    /// What changed since it last worked.
    pub changes: Vec<String>,
    /// What to do.
    pub advice: Vec<Advice>,
    /// A line about each container, if there are several.
    pub containers: Vec<ContainerLine>,
    /// A line about each pod of a job, each job of a cron job.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub members: Vec<Member>,
}

impl Explanation {
    /// One that says nothing more than what the matter is.
    pub fn new(about: Kind, (namespace, name): (&str, &str), situation: Situation, summary: String) -> Explanation {
        Explanation {
            about,
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            owner: None,
            container: None,
            phase: String::new(),
            situation,
            summary,
            details: Vec::new(),
            last_end: None,
            figures: Vec::new(),
            changes: Vec::new(),
            advice: Vec::new(),
            containers: Vec::new(),
            members: Vec::new(),
        }
    }

    /// What the summary says after the name.
    pub fn said(&self) -> &str {
        let name = format!("{}/{}", self.namespace, self.name);
        let rest = self.summary.strip_prefix(&name).unwrap_or(&self.summary);
        rest.trim_start_matches(':').trim_start()
    }
}

/// The end of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LastEnd {
    /// The pod, where that is not said already.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<String>,
    /// The run's number.
    pub attempt: u32,
    /// When and how.
    pub text: String,
    /// Who or what asked for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asked: Option<String>,
    /// The last lines that it wrote.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub output: Vec<String>,
}

/// Something to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Advice {
    /// What for.
    pub text: String,
    /// A command, or a field of the manifest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub with: Option<String>,
}

/// A line about a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ContainerLine {
    /// Its name.
    pub name: String,
    /// `init`, `sidecar` or `main`.
    pub role: String,
    /// What it is doing.
    pub text: String,
}

/// A line about a pod of a job, or a job of a cron job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Member {
    /// Its name.
    pub name: String,
    /// What it is doing.
    pub text: String,
}

/// What the matter is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Situation {
    /// There is no such pod.
    NotFound,
    /// There is a manifest for it that is not accepted, and no pod.
    Rejected,
    /// All is well.
    Running,
    /// Its sandbox is being made.
    Creating,
    /// It is not on disk yet (which is full, mostly), and nothing of it is started before it is.
    NotSaved,
    /// Its sandbox cannot be made, or was lost.
    SandboxFailed,
    /// An init container is at work.
    Initializing,
    /// A container is being started.
    Starting,
    /// An image is not there or not usable.
    ImageUnavailable,
    /// A container cannot be made as its manifest says: configuration, volumes, mounts.
    ConfigError,
    /// A container's command cannot be executed.
    StartError,
    /// A container keeps ending and waits to be started again.
    CrashLoop,
    /// As before, and it is killed for memory.
    OutOfMemory,
    /// As before, and a probe of it fails.
    ProbeFailed,
    /// It runs, and its liveness probe has begun to fail: if that goes on, it is stopped.
    ProbeFailing,
    /// A probe has to succeed before it goes on: a gate, or the startup of a container.
    ProbePending,
    /// A postStart hook has to end before it goes on.
    HookPending,
    /// It runs and is not ready.
    NotReady,
    /// It is being stopped.
    Stopping,
    /// It ended, and all mains left with 0.
    Succeeded,
    /// It ended, and not well.
    Failed,
    /// It was ended by its deadline.
    DeadlineExceeded,
    /// It was ended by a volume over its limit.
    Evicted,
    /// It was stopped because somebody removed it.
    Removed,
    /// A job or cron job does nothing as long as its `spec.suspend` is set.
    Suspended,
    /// A job waits before it makes another pod, since one failed or could not be made.
    BackOff,
    /// It waits for another one to end: a job for a pod that is on its way out, a cron job for a job.
    Waiting,
    /// A cron job waits for its next time.
    Scheduled,
    /// What is kept of it on disk cannot be used: a newer podwright's, or damaged.
    StateUnusable,
}

impl Situation {
    /// Whether somebody should look at it.
    pub fn is_trouble(self) -> bool {
        match self {
            Situation::Running | Situation::Creating | Situation::Initializing | Situation::Starting => false,
            Situation::Stopping | Situation::Succeeded | Situation::Removed => false,
            Situation::HookPending | Situation::Suspended | Situation::Waiting | Situation::Scheduled => false,
            Situation::NotFound
            | Situation::Rejected
            | Situation::NotSaved
            | Situation::SandboxFailed
            | Situation::ImageUnavailable
            | Situation::ConfigError
            | Situation::StartError
            | Situation::CrashLoop
            | Situation::OutOfMemory
            | Situation::ProbeFailed
            | Situation::ProbeFailing
            | Situation::ProbePending
            | Situation::NotReady
            | Situation::Failed
            | Situation::DeadlineExceeded
            | Situation::Evicted
            | Situation::StateUnusable
            | Situation::BackOff => true,
        }
    }
}
