//! The life of an instance.

use serde::{Deserialize, Serialize};

use crate::hook::HookRun;
use crate::instance::{InstanceId, Stamp};
use crate::ledger::{Cause, Evidence, Health, LogLoss, Origin};

/// How an instance ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "how", rename_all = "snake_case")]
pub enum Outcome {
    /// It left with this status.
    Exited {
        /// 0..=255.
        code: i32,
    },
    /// A signal ended its first process.
    Signaled {
        /// Signal number.
        signal: i32,
    },
    /// It never ran: a mount or the runtime failed.
    StartFailed {
        /// Which step failed.
        stage: StartStage,
        /// What went wrong, for people.
        message: String,
    },
    /// Nobody saw its end: the shim was gone. Written by the agent, never by a shim.
    Lost,
}

/// Where a start failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StartStage {
    /// Before the runtime was called: mounts, log file, cgroup.
    Prepare,
    /// The runtime refused or could not execute the command.
    Runtime,
}

/// The life of one instance, as the shim answers it and as it stands in its record file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// [`crate::VERSION`] of the writer.
    pub version: u32,
    /// Whose.
    pub id: InstanceId,
    /// [`crate::SandboxConfig::number`] of the sandbox it ran in.
    pub sandbox: u32,
    /// [`crate::SandboxConfig::boot_id`].
    pub boot_id: String,
    /// [`crate::StartRequest::restart_delay_ms`].
    pub restart_delay_ms: u64,
    /// [`crate::StartRequest::origin`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<Origin>,
    /// When the shim took the request. Written before anything is started.
    pub requested: Stamp,
    /// First process, in the host's numbering, once it runs.
    pub pid: Option<i32>,
    /// Start time of `pid` in clock ticks since boot (proc(5), stat field 22): with it a pid is an identity.
    pub pid_start: Option<u64>,
    /// When the runtime reported the process running.
    pub started: Option<Stamp>,
    /// [`crate::StartRequest::stop_signal`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop_signal: Option<i32>,
    /// Its postStart hook, once begun.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub post_start: Option<HookRun>,
    /// Its preStop hook, once begun.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pre_stop: Option<HookRun>,
    /// When the first stop signal was sent.
    #[serde(default)]
    pub signaled: Option<Stamp>,
    /// When SIGKILL was sent.
    #[serde(default)]
    pub killed: Option<Stamp>,
    /// Who asked for its end; absent while nobody has, and when it ended by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<Cause>,
    /// How it fared; in the file as of its last write.
    #[serde(default, skip_serializing_if = "Health::is_empty")]
    pub health: Health,
    /// What of its output is not in its log; absent if nothing was lost. In the file as of its last write.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log_lost: Option<LogLoss>,
    /// How and when it ended, once it has. Durable (fsync) before any [`crate::Event`] tells of it, unless that says `unsaved`.
    pub exit: Option<Exit>,
    /// Only in an [`crate::Event`], never in a file: what it says could not be written so far. The shim knows it, tries again until
    /// it is written, says so then, and does not leave before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unsaved: Option<Unsaved>,
    /// Only in an [`crate::Event`]: the start could not be written down, so nothing was started. There is no such instance, and its
    /// number is free; `exit` says why.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub refused: bool,
}

/// Why a record is not on disk yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unsaved {
    /// The kernel's number of the error, where it has one.
    pub errno: Option<i32>,
    /// For people.
    pub message: String,
}

/// The end of an instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    /// How.
    pub outcome: Outcome,
    /// Whether the kernel killed a process of its cgroup for memory (`oom_kill` in memory.events).
    pub oom: bool,
    /// When the shim saw it.
    pub finished: Stamp,
    /// What was found then; absent if it never ran, if nobody saw its end, and in records of older shims.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evidence: Option<Box<Evidence>>,
    /// The termination message; may be empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
}

impl Exit {
    /// An end without processes, or one that nobody saw.
    pub fn without_evidence(outcome: Outcome, finished: Stamp) -> Exit {
        Exit { outcome, oom: false, finished, evidence: None, message: String::new() }
    }
}
