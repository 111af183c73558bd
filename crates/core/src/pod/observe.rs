//! What is known of a pod: the input of [`decide()`](super::decide()), and the events that change it.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::ledger::{Asker, Cause, Health, LogLoss, Outcome};
use crate::time::Time;

/// Everything known of one pod besides its spec. Containers are indexed as in `PodSpec::containers`.
#[derive(Debug, Clone, PartialEq)]
pub struct Observed {
    /// `status.startTime`: when the agent first accepted this run of the pod.
    pub accepted_at: Time,
    /// Sandboxes of earlier runs (10.12) have smaller numbers; their records count for attempts, not for the status.
    pub first_sandbox: u32,
    /// `podwright restart`: sandboxes with smaller numbers have to be replaced, whatever the restart policy says.
    pub restart_below: u32,
    /// When that restart was asked for.
    pub restart_at: Option<Time>,
    /// The request to remove the pod, if there is one.
    pub deletion: Option<Deletion>,
    /// When this agent began to look after the pod. A stop for which nobody asked (the mains are done, the deadline has
    /// passed) begins then at the earliest, so that its grace does not run while nobody is there to signal anything.
    pub taken_up_at: Time,
    /// When `activeDeadlineSeconds` last changed in place: a shorter one passes then at the earliest.
    pub deadline_set_at: Time,
    /// A disk `emptyDir` grew over its `sizeLimit`: the message for the status, and when it was noticed.
    pub evicted: Option<(Time, String)>,
    /// What has to be on disk of the pod itself, and is not yet: until then no sandbox is made.
    pub unsaved: Option<Unsaved>,
    /// The newest sandbox.
    pub sandbox: Sandbox,
    /// The last failure to make a sandbox, since none was made.
    pub sandbox_failure: Option<StartFailure>,
    /// One for each container of the spec, in its order.
    pub containers: Vec<ContainerObserved>,
}

/// A request to remove the pod. A later request may only move `deadline` forward.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Deletion {
    /// Who made the first request, and why.
    pub cause: Cause,
    /// When.
    pub requested_at: Time,
    /// The earliest end of grace over all requests (request + max(grace, 1 s)).
    pub deadline: Time,
}

/// What is known of a pod is not on disk as it is. What is started all the same would be unknown to the next agent: it would
/// be killed by it, or run a second time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unsaved {
    /// Since when.
    pub since: Time,
    /// Why the last try failed; `None`: it has not been tried yet.
    pub error: Option<String>,
}

/// The newest sandbox of a pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sandbox {
    /// There never was one.
    None,
    /// Asked for, no answer yet.
    Creating {
        /// Its number.
        number: u32,
    },
    /// Up.
    Ready {
        /// Its number.
        number: u32,
        /// When its namespaces stood.
        created_at: Time,
    },
    /// Asked to go, no answer yet.
    Removing {
        /// Its number.
        number: u32,
    },
    /// It is gone: removed on purpose or lost (the records tell which: a lost one leaves `Outcome::Lost`).
    Gone {
        /// Its number.
        number: u32,
    },
}

/// What is known of one container.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ContainerObserved {
    /// Known instances, oldest first: the newest ones, and the first of this run, from which restarts are counted.
    pub instances: Vec<Instance>,
    /// The last failure before any instance could be made (image, configuration), since the newest instance.
    pub failure: Option<StartFailure>,
    /// Probe state of the newest instance.
    pub probes: Probes,
    /// How the newest instance has fared. Decides nothing: it is for its record.
    pub health: Health,
}

impl Observed {
    /// A pod just accepted, of which nothing exists yet.
    pub fn new(accepted_at: Time, containers: usize) -> Observed {
        Observed {
            accepted_at,
            first_sandbox: 1,
            restart_below: 0,
            restart_at: None,
            deletion: None,
            taken_up_at: accepted_at,
            deadline_set_at: accepted_at,
            evicted: None,
            unsaved: None,
            sandbox: Sandbox::None,
            sandbox_failure: None,
            containers: vec![ContainerObserved::default(); containers],
        }
    }
}

impl Observed {
    /// Whether any container has a process, or may have one soon.
    pub fn any_live(&self) -> bool {
        self.containers.iter().any(|c| c.instances.iter().any(Instance::is_live))
    }

    /// Whether nothing was started in this run of the pod yet: nothing that an earlier run has left is for it.
    pub fn is_fresh(&self) -> bool {
        !self.containers.iter().any(|c| c.instances.iter().any(|i| i.sandbox >= self.first_sandbox))
    }
}

impl Sandbox {
    /// Its number; 0 if there never was one.
    pub fn number(self) -> u32 {
        match self {
            Sandbox::None => 0,
            Sandbox::Creating { number }
            | Sandbox::Ready { number, .. }
            | Sandbox::Removing { number }
            | Sandbox::Gone { number } => number,
        }
    }
}

impl Instance {
    /// One that was just asked for.
    pub fn starting(attempt: u32, sandbox: u32, restart_delay: Duration, requested_at: Time) -> Instance {
        Instance {
            attempt,
            sandbox,
            restart_delay,
            requested_at,
            state: InstanceState::Starting,
            stop_signal: None,
            post_start: None,
            pre_stop: None,
            cause: None,
            signaled_at: None,
            killed_at: None,
            message: String::new(),
            log_lost: None,
        }
    }

    /// When its end was asked for first, if that has been done: by its preStop hook or its stop signal.
    pub fn stop_begun(&self) -> Option<Time> {
        self.pre_stop.as_ref().map(|run| run.begun).into_iter().chain(self.signaled_at).min()
    }

    /// Whether a probe is why it was stopped: then its exit code says nothing.
    pub fn is_probe_killed(&self) -> bool {
        self.cause.as_ref().is_some_and(|cause| matches!(cause.by, Asker::LivenessProbe | Asker::StartupProbe))
    }

    /// When it ended.
    pub fn finished_at(&self) -> Option<Time> {
        match self.state {
            InstanceState::Ended { finished_at, .. } => Some(finished_at),
            InstanceState::Starting | InstanceState::Running { .. } => None,
        }
    }

    /// Whether it may still have processes.
    pub fn is_live(&self) -> bool {
        !matches!(self.state, InstanceState::Ended { .. })
    }
}

/// Why there is no new instance (or sandbox).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StartFailure {
    /// When it was tried.
    pub at: Time,
    /// The waiting reason for the status: `ErrImagePull`, `CreateContainerConfigError`, …
    pub reason: String,
    /// For people.
    pub message: String,
    /// Failures in a row, this one included; sets the delay of the next try.
    pub count: u32,
}

/// One run of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instance {
    /// 0 for the first under this pod uid; never used twice.
    pub attempt: u32,
    /// The sandbox it ran in.
    pub sandbox: u32,
    /// The back-off that holds after its end, decided when it was started.
    pub restart_delay: Duration,
    /// When it was asked for.
    pub requested_at: Time,
    /// Where it is in its life.
    pub state: InstanceState,
    /// What its stop signal is; `None`: not known yet.
    pub stop_signal: Option<i32>,
    /// Its postStart hook, once begun.
    pub post_start: Option<HookRun>,
    /// Its preStop hook, once begun.
    pub pre_stop: Option<HookRun>,
    /// What asked for its end first, if anything did that decides what follows ([`Asker::decides`]).
    pub cause: Option<Cause>,
    /// When the first stop signal was sent.
    pub signaled_at: Option<Time>,
    /// When SIGKILL was sent.
    pub killed_at: Option<Time>,
    /// Its termination message; empty while it lives.
    pub message: String,
    /// What of its output is not in its log.
    pub log_lost: Option<LogLoss>,
}

/// One run of a hook. There is never a second one for an instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HookRun {
    /// When it began.
    pub begun: Time,
    /// How it ended, once it has. The end of a sleep follows from its begin and is not told.
    pub ended: Option<HookEnd>,
}

/// The end of a hook.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HookEnd {
    /// When.
    pub at: Time,
    /// Why it failed, for people; `None`: it did not.
    pub failure: Option<String>,
}

/// Which hook.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum HookKind {
    /// `postStart`.
    PostStart,
    /// `preStop`.
    PreStop,
}

/// Where an instance is in its life.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InstanceState {
    /// The shim was asked to start it.
    Starting,
    /// Its process runs.
    Running {
        /// Since when.
        started_at: Time,
    },
    /// It is over.
    Ended {
        /// Absent if it never ran.
        started_at: Option<Time>,
        /// When.
        finished_at: Time,
        /// How.
        outcome: Outcome,
    },
}

/// State of an instance's probes. The verdicts outlive the agent ([`Memo`]); the rest starts anew with it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Probes {
    /// The startup probe, if the container has one.
    pub startup: ProbeState,
    /// The readiness probe, if the container has one.
    pub readiness: ProbeState,
    /// The liveness probe, if the container has one.
    pub liveness: ProbeState,
    /// Whether readiness has ever succeeded for this instance.
    pub was_ready: bool,
}

/// State of one probe of one instance.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ProbeState {
    /// The verdict, once a threshold was reached.
    pub verdict: Option<bool>,
    /// The last outcome and how often it came in a row.
    pub run: Option<(bool, u32)>,
    /// When the last attempt began.
    pub last_attempt: Option<Time>,
    /// An attempt is under way.
    pub in_flight: bool,
    /// Attempts in a row that could not be made: the next one need not wait for its period, for a while.
    pub errors: u8,
    /// What the last failure said.
    pub failure: Option<String>,
    /// Why the last attempt could not be made; nothing is known while that is so.
    pub untried: Option<String>,
}

/// Which probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ProbeKind {
    /// `startupProbe`.
    Startup,
    /// `readinessProbe`.
    Readiness,
    /// `livenessProbe`.
    Liveness,
}

impl ProbeKind {
    /// As the ledger calls it.
    pub fn name(self) -> &'static str {
        match self {
            ProbeKind::Startup => "startup",
            ProbeKind::Readiness => "readiness",
            ProbeKind::Liveness => "liveness",
        }
    }
}

/// What one attempt of a probe showed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProbeOutcome {
    /// It succeeded.
    Success,
    /// It failed, and how.
    Failure(String),
    /// It could not be tried at all (4.1): counts for nothing.
    Error(String),
    /// Its instance ended, or the way to it broke, while it was tried: counts for nothing, and nobody has to know.
    Cut,
}

/// Something happened. Applied by `Machine::apply`.
#[expect(clippy::large_enum_variant, reason = "an event is moved from a channel into the machine, one at a time")]
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// The sandbox is up (also told by an adopted shim).
    SandboxReady {
        /// Its number.
        number: u32,
        /// When its namespaces stood.
        created_at: Time,
    },
    /// The sandbox could not be made.
    SandboxFailed {
        /// Its number.
        number: u32,
        /// For people.
        message: String,
    },
    /// The sandbox is gone, asked for or not; whatever ran in it is dead and its cgroup empty.
    SandboxGone {
        /// Its number.
        number: u32,
    },
    /// Something changed that has to be on disk, and is being written.
    Saving,
    /// It could not be written, and is tried again.
    NotSaved {
        /// For people.
        message: String,
    },
    /// All is on disk.
    Saved,
    /// The newest word on an instance; replaces what was known of it.
    Instance {
        /// Index of the container.
        container: usize,
        /// The instance.
        instance: Instance,
    },
    /// A start did not get as far as an instance.
    StartFailed {
        /// Index of the container.
        container: usize,
        /// The attempt number that was not used.
        attempt: u32,
        /// Waiting reason.
        reason: String,
        /// For people.
        message: String,
    },
    /// An attempt of a probe is through.
    Probed {
        /// Index of the container.
        container: usize,
        /// The instance it was for.
        attempt: u32,
        /// Which probe.
        kind: ProbeKind,
        /// What it showed.
        outcome: ProbeOutcome,
    },
    /// A hook that the agent runs itself has ended.
    Hooked {
        /// Index of the container.
        container: usize,
        /// The instance.
        attempt: u32,
        /// Which hook.
        kind: HookKind,
        /// Why it failed, for people.
        failure: Option<String>,
    },
    /// The pod is to be removed; `grace` overrides the spec's.
    Delete {
        /// Who asks, and why.
        cause: Cause,
        /// `None`: the spec's.
        grace: Option<Duration>,
    },
    /// `podwright restart`.
    Restart,
    /// A disk volume is over its limit.
    Evict {
        /// For people.
        message: String,
    },
}

/// What must outlive the agent but not the sandbox: kept by the shim, in memory.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memo {
    /// Verdicts by container name.
    pub verdicts: std::collections::BTreeMap<String, Verdicts>,
    /// `lastTransitionTime` by condition type, with the value it belongs to.
    pub transitions: std::collections::BTreeMap<String, (bool, Time)>,
}

/// Probe verdicts of one instance.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdicts {
    /// The instance.
    pub attempt: u32,
    /// Startup.
    pub startup: Option<bool>,
    /// Readiness.
    pub readiness: Option<bool>,
    /// Liveness.
    #[serde(default)]
    pub liveness: Option<bool>,
    /// See [`Probes::was_ready`].
    pub was_ready: bool,
}

/// Exit code 0.
pub(super) fn succeeded(instance: &Instance) -> bool {
    matches!(&instance.state, InstanceState::Ended { outcome: Outcome::Exited { code: 0, .. }, .. })
}

/// Preparing it failed before the runtime was called: no process ever was, so it is tried again under every policy.
pub(super) fn never_ran(instance: &Instance) -> bool {
    matches!(&instance.state, InstanceState::Ended { outcome: Outcome::StartFailed { by_runtime: false, .. }, .. })
}
