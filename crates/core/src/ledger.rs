//! The exit ledger as the core sees it: what is on record of each run of a container, besides what the state machine goes by.

use serde::{Deserialize, Serialize};

use crate::time::Time;

/// One run of a container.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// The container.
    pub container: String,
    /// 0 for the first under this pod uid.
    pub attempt: u32,
    /// The sandbox it ran in.
    pub sandbox: u32,
    /// The boot it ran in.
    pub boot_id: String,
    /// When it was asked for.
    pub requested_at: Time,
    /// When its process ran; absent if it never did.
    pub started_at: Option<Time>,
    /// When its preStop hook began.
    pub pre_stop_at: Option<Time>,
    /// When the first stop signal was sent.
    pub signaled_at: Option<Time>,
    /// When SIGKILL was sent.
    pub killed_at: Option<Time>,
    /// Who asked for its end; absent if nobody did.
    pub cause: Option<Cause>,
    /// How it fared while it ran.
    pub health: Health,
    /// What it was made from.
    pub origin: Option<Origin>,
    /// Its end; absent while it lives.
    pub end: Option<End>,
}

/// Lines of a run that could not be written to its log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogLoss {
    /// How many, so far.
    pub lines: u64,
    /// Their bytes in the log.
    pub bytes: u64,
    /// When the first was lost.
    pub first: Time,
    /// When the last was lost.
    pub last: Time,
    /// Why.
    pub error: String,
    /// More are going to be lost.
    pub ongoing: bool,
}

/// Who asked for an end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cause {
    /// Who.
    pub by: Asker,
    /// Details: a probe's last output, a volume's size, why a job removes its pod. May be empty.
    pub text: String,
}

impl From<Asker> for Cause {
    /// Without details.
    fn from(by: Asker) -> Cause {
        Cause { by, text: String::new() }
    }
}

/// Who can ask for the end of a run. The only names there are: of the state machine, the agent, the shim, and those who read
/// records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "&'static str", from = "String")]
pub enum Asker {
    /// Whoever removed the pod: written by agents that did not say who.
    Deletion,
    /// `podwright delete`, or DELETE on the API.
    User,
    /// The pod's manifest is no longer in the directory.
    ManifestRemoved,
    /// The manifest describes another pod now.
    ManifestChanged,
    /// The job that the pod belongs to does not want it any more: it is suspended, wants fewer, is over, or is removed.
    Owner,
    /// `podwright restart`.
    Restart,
    /// The pod's mains are done, or an init container failed for good; the rest follows.
    Completion,
    /// `activeDeadlineSeconds`.
    Deadline,
    /// A volume grew over its limit.
    Eviction,
    /// `startupProbe`.
    StartupProbe,
    /// `livenessProbe`.
    LivenessProbe,
    /// The `postStart` hook failed.
    PostStart,
    /// A restart rule of a container restarts the whole pod.
    RestartRule,
    /// The pod's sandbox was removed while it ran.
    SandboxRemoved,
    /// Nobody: the shim died, and the pod's processes with it.
    ShimDied,
    /// Nobody: the machine was restarted.
    Reboot,
    /// Somebody whom this version does not know.
    Other,
}

impl From<Asker> for &'static str {
    fn from(asker: Asker) -> &'static str {
        asker.name()
    }
}

impl From<String> for Asker {
    fn from(name: String) -> Asker {
        Asker::of_name(&name)
    }
}

impl Asker {
    const NAMES: [(Asker, &'static str); 16] = [
        (Asker::Deletion, "deletion"),
        (Asker::User, "user"),
        (Asker::ManifestRemoved, "manifest-removed"),
        (Asker::ManifestChanged, "manifest-changed"),
        (Asker::Owner, "owner"),
        (Asker::Restart, "restart"),
        (Asker::Completion, "completion"),
        (Asker::Deadline, "deadline"),
        (Asker::Eviction, "eviction"),
        (Asker::StartupProbe, "startup-probe"),
        (Asker::LivenessProbe, "liveness-probe"),
        (Asker::PostStart, "post-start-hook"),
        (Asker::RestartRule, "restart-all-containers"),
        (Asker::SandboxRemoved, "sandbox-removed"),
        (Asker::ShimDied, "shim-died"),
        (Asker::Reboot, "reboot"),
    ];

    /// Its name in records.
    pub fn name(self) -> &'static str {
        Self::NAMES.iter().find(|(asker, _)| *asker == self).map_or("other", |(_, name)| name)
    }

    /// Whether it ends one instance alone, and not with its pod: then what follows is its restart policy's.
    pub fn is_of_instance(self) -> bool {
        matches!(self, Asker::LivenessProbe | Asker::StartupProbe | Asker::PostStart)
    }

    /// Whether it is podwright that told the instance to stop, so that what follows is decided by that and not by how it
    /// ended. The shim and a new agent also write down what nobody asked for.
    pub fn decides(self) -> bool {
        !matches!(self, Asker::SandboxRemoved | Asker::ShimDied | Asker::Reboot | Asker::Other)
    }

    /// Whom a record names.
    pub fn of_name(name: &str) -> Asker {
        Self::NAMES.iter().find(|(_, known)| *known == name).map_or(Asker::Other, |(asker, _)| *asker)
    }
}

/// How a run fared, the newest changes of each kind ([`MAX_CHANGES`]).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Health {
    /// When it became ready, or ceased to be; oldest first.
    pub ready: Vec<(Time, bool)>,
    /// Failures of its probes, in runs; oldest first.
    pub failures: Vec<ProbeFailures>,
}

/// Most changes of one kind that are kept.
pub const MAX_CHANGES: usize = 8;

/// Failures of one probe in a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProbeFailures {
    /// `startup`, `readiness`, `liveness`.
    pub probe: String,
    /// The first of them.
    pub first: Time,
    /// The last of them.
    pub last: Time,
    /// How many.
    pub count: u32,
    /// What the last one said.
    pub output: String,
}

impl Health {
    /// Takes note of readiness, if it has changed.
    pub fn set_ready(&mut self, ready: bool, now: Time) {
        if self.ready.last().map_or(ready, |(_, before)| *before != ready) {
            self.ready.push((now, ready));
            self.ready.drain(..self.ready.len().saturating_sub(MAX_CHANGES));
        }
    }

    /// Takes note of a failed probe: one more in its run, or the first of a new one.
    pub fn failed(&mut self, probe: &str, in_a_row: u32, output: &str, now: Time) {
        match self.failures.iter_mut().rfind(|run| run.probe == probe) {
            Some(run) if in_a_row > run.count => {
                (run.last, run.count, run.output) = (now, in_a_row, output.to_owned());
            }
            _ => {
                let (probe, output) = (probe.to_owned(), output.to_owned());
                self.failures.push(ProbeFailures { probe, first: now, last: now, count: in_a_row, output });
                self.failures.drain(..self.failures.len().saturating_sub(MAX_CHANGES));
            }
        }
    }
}

/// What a run was made from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// Version of the agent that started it.
    pub agent: String,
    /// Changes when the image does; empty: not known.
    pub image: String,
}

/// How an instance ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// With this status.
    Exited {
        /// 0..=255.
        code: i32,
        /// The kernel killed a process of it for memory.
        oom: bool,
    },
    /// By this signal.
    Signaled {
        /// Signal number.
        signal: i32,
        /// The kernel killed a process of it for memory.
        oom: bool,
    },
    /// It could not be started.
    StartFailed {
        /// Whether the runtime itself refused it (`StartError`) or what comes before (`CreateContainerError`).
        by_runtime: bool,
        /// For people.
        message: String,
    },
    /// Nobody saw its end.
    Lost,
}

impl Outcome {
    /// The exit code Kubernetes shows: 128 + n for signal n, 128 for a failed start, 137 for an end nobody saw.
    pub fn exit_code(&self) -> i32 {
        match self {
            Outcome::Exited { code, .. } => *code,
            Outcome::Signaled { signal, .. } => 128 + signal,
            Outcome::StartFailed { .. } => 128,
            Outcome::Lost => 137,
        }
    }
}

/// The end of a run.
#[derive(Debug, Clone, PartialEq)]
pub struct End {
    /// When.
    pub at: Time,
    /// How.
    pub outcome: Outcome,
    /// The process that the kernel chose to kill for memory, if its log says so.
    pub victim: Option<Victim>,
    /// What it had used.
    pub figures: Figures,
    /// The last lines it wrote.
    pub tail: Vec<String>,
}

/// A process that was killed for memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Victim {
    /// In the host's numbering.
    pub pid: i32,
    /// Its name.
    pub name: String,
    /// Whether it was the container's first process.
    pub first_process: bool,
    /// Whose memory was used up.
    pub limit: OomLimit,
}

/// Whose memory was used up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OomLimit {
    /// The container's own limit.
    Container,
    /// The limit of a cgroup above: the pod's, or that of all pods.
    Above,
    /// The machine's memory.
    Node,
}

/// What a run used in its whole life. Absent: not known.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Figures {
    /// Largest memory use, bytes.
    pub memory_peak: Option<u64>,
    /// Processes killed for memory.
    pub oom_kills: Option<u64>,
    /// How often it met its memory limit.
    pub memory_max_hits: Option<u64>,
    /// CPU time.
    pub cpu: Option<CpuTime>,
    /// Time lost waiting for the CPU: some task, all tasks (microseconds).
    pub cpu_pressure: Option<(u64, u64)>,
    /// Time lost for want of memory.
    pub memory_pressure: Option<(u64, u64)>,
    /// Time lost waiting for disks.
    pub io_pressure: Option<(u64, u64)>,
    /// Most processes and threads at a time.
    pub pids_peak: Option<u64>,
    /// How often a fork was refused.
    pub pids_refused: Option<u64>,
}

/// CPU time in microseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CpuTime {
    /// Used.
    pub usage_us: u64,
    /// Enforcement periods with something to run.
    pub periods: u64,
    /// Of these, how many were throttled.
    pub throttled: u64,
    /// Time that threads were throttled.
    pub throttled_us: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn askers_have_names() {
        for (asker, name) in Asker::NAMES {
            assert_eq!((asker.name(), Asker::of_name(name)), (name, asker));
        }
        assert_eq!((Asker::of_name("the-moon"), Asker::Other.name()), (Asker::Other, "other"));
    }

    #[test]
    fn readiness_is_noted_when_it_changes() {
        let mut health = Health::default();
        for (at, ready) in [(1, false), (2, true), (3, true), (4, false)] {
            health.set_ready(ready, Time(at));
        }
        assert_eq!(health.ready, [(Time(2), true), (Time(4), false)]);
        for at in 5..50 {
            health.set_ready(at % 2 == 1, Time(at));
        }
        assert_eq!((health.ready.len(), health.ready[MAX_CHANGES - 1]), (MAX_CHANGES, (Time(49), true)));
    }

    #[test]
    fn failures_in_a_row_are_one_run() {
        let mut health = Health::default();
        for (at, probe, in_a_row) in [(1, "liveness", 1), (2, "readiness", 1), (3, "liveness", 2), (5, "liveness", 1)] {
            health.failed(probe, in_a_row, &format!("at {at}"), Time(at));
        }
        let runs: Vec<_> = health
            .failures
            .iter()
            .map(|f| (f.probe.as_str(), f.first.0, f.last.0, f.count, f.output.as_str()))
            .collect();
        assert_eq!(
            runs,
            [("liveness", 1, 3, 2, "at 3"), ("readiness", 2, 2, 1, "at 2"), ("liveness", 5, 5, 1, "at 5")]
        );
    }
}
