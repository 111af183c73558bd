//! `podwright why`: what a pod is doing or waiting for, what ended it last and who asked for that, the figures that matter,
//! what changed since it last worked, and what to do. Pure: values in, an [`Explanation`] out.
//!
//! [`explain`] looks at each container ([`state`]), chooses the one that matters most, and tells about that one. A name
//! that is not known is [`missing()`]'s. Jobs and cron jobs are explained in the same form by [`crate::job::why`] and
//! [`crate::cron::why`].

mod advice;
mod changes;
mod end;
mod figures;
mod hook;
mod missing;
mod state;
mod unusable;
pub(crate) mod words;

#[cfg(test)]
pub(crate) mod tests;

use k8s_openapi::api::core::v1::PodStatus;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::conditions::GATES_CLOSED;
use super::decide::{Goal, Stop, goal};
use super::observe::Observed;
use super::spec::{PodSpec, Role};
use super::view::{NodePolicy, View};
use crate::ledger::{Cause, Entry};
use crate::objects::Kind;
use crate::time::Time;
pub use changes::worked;
pub(crate) use end::{RECENT, signal_name};
pub use missing::{Known, missing};
use state::State;
pub use unusable::{Unusable, discard, unusable};
pub use words::duration;

/// All that an explanation is made from.
#[derive(Debug, Clone)]
pub struct Case<'a> {
    /// The pod.
    pub spec: &'a PodSpec,
    /// The node's settings.
    pub policy: &'a NodePolicy,
    /// What is known of it.
    pub observed: &'a Observed,
    /// Its status now; of a pod that is over, the last one.
    pub status: &'a PodStatus,
    /// Whether it is over: it will never do anything again.
    pub over: bool,
    /// Its records, of each container the oldest first.
    pub entries: &'a [Entry],
    /// The manifest as its author wrote it.
    pub manifest: &'a Value,
    /// The newest earlier pod of that name of which a container ran well.
    pub earlier: Option<Revision<'a>>,
    /// What is wrong with the file that it comes from: then it runs by an older content of it.
    pub file_problems: &'a [String],
    /// That file.
    pub file: &'a str,
    /// The job that made it.
    pub job: Option<Job<'a>>,
    /// What of it cannot be written to disk now, a sentence each.
    pub unwritten: &'a [String],
    /// The boot now.
    pub boot_id: &'a str,
    /// Now.
    pub now: Time,
}

/// What a pod belongs to.
#[derive(Debug, Clone, Copy)]
pub struct Job<'a> {
    /// `metadata.name`.
    pub name: &'a str,
    /// What it says of itself.
    pub says: &'a JobSays,
}

/// What the job of a pod says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JobSays {
    /// It is gone.
    Gone,
    /// It is the one that asks about its pod.
    Asks,
    /// In one sentence.
    Says(String),
}

impl Case<'_> {
    /// Who removed it, if somebody did.
    fn removed_by(&self) -> Option<&Cause> {
        self.observed.deletion.as_ref().map(|deletion| &deletion.cause)
    }
}

/// An earlier pod of the same name, or of the same job.
#[derive(Debug, Clone)]
pub struct Revision<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its manifest.
    pub manifest: &'a Value,
    /// Its records.
    pub entries: &'a [Entry],
}

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

/// Explains a pod, or (`container`, an index in the spec) one container of it.
pub fn explain(case: &Case<'_>, container: Option<usize>) -> Explanation {
    let view = View::new(case.spec, case.policy, case.observed, case.now);
    let goal = goal(view);
    // Its sandbox may stay for a while yet: until its ends are on disk, say.
    let ended = matches!(&goal, Goal::Stop(stop) if !stop.why.goes_on()) && !view.any_live();
    let case = &Case { over: case.over || ended, ..case.clone() };
    let states: Vec<State> = (0..case.spec.containers.len()).map(|i| state::of(case, view, i)).collect();
    let focus = container.unwrap_or_else(|| if case.over { end::decisive(case) } else { foremost(case, &states) });
    // What can be done about one that is held back is done about the one that holds it.
    let actor = match states.get(focus) {
        Some(State::Held { holder: Some(holder) }) if !case.over => *holder,
        _ => focus,
    };
    let told = match (&goal, states.get(focus)) {
        _ if case.over => end::of_pod(case),
        (Goal::Stop(stop), _) if container.is_none() && view.any_live() => stopping(case, view, stop),
        (_, Some(state)) => {
            let alone = container.is_some() || states.len() == 1;
            state::tell(case, view, focus, state, alone)
        }
        (_, None) => end::of_pod(case),
    };
    let spec = case.spec.containers.get(focus);
    let runs: Vec<&Entry> = case.entries.iter().filter(|e| spec.is_some_and(|c| c.name == e.container)).collect();
    let last = runs.iter().rev().find(|run| run.end.is_some()).copied();
    let matters = container.is_some()
        || told.situation != Situation::Running
        || last.is_some_and(|l| end::is_recent(l, case.now));
    let shown = last.filter(|_| matters);
    let changes = if told.situation.is_trouble() { changes::since_it_worked(case, focus, &runs) } else { Vec::new() };
    let mut details = told.details;
    if !case.file_problems.is_empty() {
        details.push(format!("{} has a problem, so an older content of it is in force:", case.file));
        details.extend(case.file_problems.iter().map(|problem| format!("  {problem}")));
    }
    details.extend(closed_gates(case));
    details.extend(lost_lines(case));
    details.extend(case.unwritten.iter().cloned());
    details.splice(0..0, case.job.and_then(|job| belongs(&job)));
    let name = (case.spec.namespace.as_str(), case.spec.name.as_str());
    Explanation {
        owner: case.job.map(|job| format!("job/{}", job.name)),
        container: spec.filter(|_| shown.is_some() || container.is_some()).map(|c| c.name.clone()),
        phase: case.status.phase.clone().unwrap_or_default(),
        details,
        last_end: shown.map(|run| end::of_run(case, run)),
        figures: shown.zip(spec).map_or_else(Vec::new, |(run, container)| figures::of(run, container)),
        changes,
        advice: advice::advise(case, told.situation, actor, last.filter(|_| actor == focus)),
        containers: lines(case, &states),
        ..Explanation::new(Kind::Pod, name, told.situation, told.summary)
    }
}

/// What of the containers' output is not in their logs.
fn lost_lines(case: &Case<'_>) -> Vec<String> {
    let containers = case.spec.containers.iter().zip(&case.observed.containers);
    let lost =
        containers.filter_map(|(container, known)| Some((container, known.instances.last()?.log_lost.as_ref()?)));
    let told = lost.map(|(container, loss)| {
        let so_far = if loss.ongoing { "are being lost, so far" } else { "were lost," };
        format!(
            "lines of the log of {} {so_far} {} ({} bytes), from {} to {}: {}",
            container.name,
            loss.lines,
            loss.bytes,
            words::clock(loss.first),
            words::clock(loss.last),
            words::line(&loss.error)
        )
    });
    told.collect()
}

/// Why it is not ready although its containers are.
fn closed_gates(case: &Case<'_>) -> Option<String> {
    let conditions = case.status.conditions.iter().flatten();
    let ready = conditions.into_iter().find(|c| c.type_ == "Ready" && c.reason.as_deref() == Some(GATES_CLOSED))?;
    let message = ready.message.as_deref().unwrap_or_default();
    Some(format!("the pod is not ready ({message}): nothing here sets such conditions, remove spec.readinessGates"))
}

fn belongs(job: &Job<'_>) -> Option<String> {
    match job.says {
        JobSays::Gone => Some(format!("its job was {}, which is gone", job.name)),
        JobSays::Asks => None,
        JobSays::Says(said) => Some(format!("its job: {said}")),
    }
}

/// What is told of a pod before the rest.
struct Told {
    situation: Situation,
    summary: String,
    details: Vec<String>,
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

/// The container that matters most; of several, the one that failed last, else the first.
fn foremost(case: &Case<'_>, states: &[State]) -> usize {
    let most = states.iter().map(State::weight).max().unwrap_or(0);
    let candidates = (0..states.len()).filter(|i| states.get(*i).is_some_and(|state| state.weight() == most));
    candidates.rev().max_by_key(|i| end::failed_at(case, *i)).unwrap_or(0)
}

fn stopping(case: &Case<'_>, view: View<'_>, stop: &Stop) -> Told {
    let by = end::stop_reason(case, stop);
    let mut details = Vec::new();
    for (i, container, known) in view.containers() {
        let Some(instance) = known.instances.last().filter(|n| n.is_live()) else { continue };
        details.push(state::how_it_stops(case, container, instance, stop.deadline, state::role(case, i)));
        details.extend(hook::at_stop(case, view, i, instance).into_iter().flat_map(|hook| hook.lines).map(indented));
    }
    let pod = format!("{}/{}", case.spec.namespace, case.spec.name);
    Told { situation: Situation::Stopping, summary: format!("{pod} is being stopped: {by}"), details }
}

fn indented(line: String) -> String {
    format!("  {line}")
}

fn lines(case: &Case<'_>, states: &[State]) -> Vec<ContainerLine> {
    if states.len() < 2 {
        return Vec::new();
    }
    let one = |(i, state): (usize, &State)| ContainerLine {
        name: case.spec.containers[i].name.clone(),
        role: state::role(case, i).to_owned(),
        text: state::brief(case, i, state),
    };
    states.iter().enumerate().map(one).collect()
}

/// `init`, `sidecar` or `main`.
pub fn role_name(role: Role) -> &'static str {
    match role {
        Role::Init => "init",
        Role::Sidecar => "sidecar",
        Role::Main => "main",
    }
}
