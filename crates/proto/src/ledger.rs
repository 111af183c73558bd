//! The exit ledger: what a record says of an instance besides its times and its exit status. Who asked for its end, what
//! it was made from, how it fared while it ran, and what was found when its last process had gone.
//!
//! Every field is absent from what older shims and agents write, and from what has nothing to say.

use serde::{Deserialize, Serialize};

use crate::instance::Stamp;

/// Longest text of a [`Cause`] or of a probe's output, bytes.
pub const MAX_TEXT: usize = 512;

/// Most [`Health::ready`] changes and [`Health::failures`] that are kept, the newest ones.
pub const MAX_CHANGES: usize = 8;

/// What asked for the end of an instance: the first that did. Opaque to the shim, but for [`SANDBOX_REMOVED`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cause {
    /// A word: `liveness-probe`, `deletion`, ….
    pub kind: String,
    /// More of it, for people: a probe's last output, say. May be empty; at most [`MAX_TEXT`] bytes.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
}

/// [`Cause::kind`] of an instance that was killed because its sandbox was removed; given by the shim itself.
pub const SANDBOX_REMOVED: &str = "sandbox-removed";

impl Cause {
    /// Within the bounds of a record, whatever was sent.
    pub fn bounded(self) -> Cause {
        Cause { kind: bounded(self.kind), message: bounded(self.message) }
    }
}

/// What an instance was made from, so that a later one can be compared with it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// Version of the agent that started it.
    pub agent: String,
    /// Changes when the image does (see the agent); empty: not known.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub image: String,
}

/// How an instance fared while it ran, as far as its agent told ([`crate::Request::Remember`]).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// When it became ready, or ceased to be; oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ready: Vec<ReadyChange>,
    /// Runs of failures of its probes, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failures: Vec<ProbeFailures>,
}

impl Health {
    /// Whether there is nothing to tell.
    pub fn is_empty(&self) -> bool {
        self.ready.is_empty() && self.failures.is_empty()
    }

    /// Within the bounds of a record, whatever was sent.
    pub fn bounded(mut self) -> Health {
        self.ready.drain(..self.ready.len().saturating_sub(MAX_CHANGES));
        self.failures.drain(..self.failures.len().saturating_sub(MAX_CHANGES));
        for failures in &mut self.failures {
            failures.probe = bounded(std::mem::take(&mut failures.probe));
            failures.output = bounded(std::mem::take(&mut failures.output));
        }
        self
    }
}

/// A change of readiness.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadyChange {
    /// When.
    pub at: Stamp,
    /// To what.
    pub ready: bool,
}

/// Failures of one probe in a row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProbeFailures {
    /// `startup`, `readiness`, `liveness`.
    pub probe: String,
    /// The first of them.
    pub first: Stamp,
    /// The last of them.
    pub last: Stamp,
    /// How many.
    pub count: u32,
    /// What the last one said; at most [`MAX_TEXT`] bytes.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub output: String,
}

/// Lines that could not be written to an instance's log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLoss {
    /// How many, so far.
    pub lines: u64,
    /// Their bytes in the log.
    pub bytes: u64,
    /// When the first was lost.
    pub first: Stamp,
    /// When the last was lost.
    pub last: Stamp,
    /// Why the last was lost; at most [`MAX_TEXT`] bytes.
    pub error: String,
    /// The last one that was written failed: more are going to be lost.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub ongoing: bool,
}

/// What was found when the last process of an instance had gone, and before its cgroup went.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evidence {
    /// The process that the kernel chose to kill for memory, if it did and the kernel's log says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub victim: Option<Victim>,
    /// What it had used by then.
    #[serde(default, skip_serializing_if = "Figures::is_empty")]
    pub figures: Figures,
    /// The last lines that it wrote, without control characters: at most 10 lines and 2 KiB.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tail: Vec<String>,
}

/// A process that the kernel killed for memory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Victim {
    /// In the host's numbering.
    pub pid: i32,
    /// Its name (`comm`, cut at 15 bytes by the kernel).
    pub name: String,
    /// Whether it was the instance's first process.
    pub first_process: bool,
    /// Whose memory was used up.
    pub limit: OomLimit,
}

/// Whose memory was used up when the kernel killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OomLimit {
    /// The container's own limit.
    Container,
    /// The limit of a cgroup above it: the pod's, or that of all pods.
    Above,
    /// The machine's memory.
    Node,
}

/// What an instance used in its whole life, from its cgroup. Absent: the controller is not enabled there, or this kernel does
/// not tell.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Figures {
    /// `memory.peak`, bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_peak: Option<u64>,
    /// `memory.events`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_events: Option<MemoryEvents>,
    /// `cpu.stat`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu: Option<CpuTime>,
    /// `cpu.pressure`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_pressure: Option<Pressure>,
    /// `memory.pressure`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_pressure: Option<Pressure>,
    /// `io.pressure`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub io_pressure: Option<Pressure>,
    /// `pids.peak`: most processes and threads at a time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pids_peak: Option<u64>,
    /// `max` of `pids.events`: how often a fork was refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pids_refused: Option<u64>,
}

impl Figures {
    /// Whether nothing is known.
    pub fn is_empty(&self) -> bool {
        *self == Figures::default()
    }
}

/// How often the container met its memory limits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemoryEvents {
    /// Reclaimed because over `memory.high`.
    pub high: u64,
    /// About to go over `memory.max`.
    pub max: u64,
    /// Reclaim did not help.
    pub oom: u64,
    /// Processes killed.
    pub oom_kill: u64,
}

/// CPU time in microseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CpuTime {
    /// Used.
    pub usage_us: u64,
    /// Of it in user mode.
    pub user_us: u64,
    /// Of it in the kernel.
    pub system_us: u64,
    /// Enforcement periods with something to run.
    pub periods: u64,
    /// Of these, how many were throttled.
    pub throttled: u64,
    /// Time that threads were throttled.
    pub throttled_us: u64,
}

/// Totals of a pressure file (PSI): time lost for want of a resource, microseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pressure {
    /// Some task waited.
    pub some_us: u64,
    /// No task could run.
    pub full_us: u64,
}

/// At most [`MAX_TEXT`] bytes, cut at a character.
fn bounded(mut text: String) -> String {
    text.truncate(text.floor_char_boundary(MAX_TEXT));
    text
}
