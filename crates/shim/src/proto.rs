//! What the agent and a shim say to each other, and what a shim leaves on disk.
//!
//! The wire is a Unix stream socket with one JSON object a line, [`Request`] towards the shim and [`Event`] towards the
//! agent. The newest connection is the agent; an older one is closed. Everything here is read by other versions of
//! podwright: a shim outlives upgrades of the agent. A field may be added with `#[serde(default)]`, and a request of which
//! only pods have need that older agents refused; any other change raises [`VERSION`], and the golden files in
//! `tests/golden/` keep the old forms readable.
//!
//! Times are pairs of boot-time and wall-clock nanoseconds ([`Stamp`]): the first for arithmetic within one boot, the
//! second for people and for comparison across boots.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

mod ledger;

pub use ledger::{
    Cause, CpuTime, Evidence, Figures, Health, LogLoss, MAX_CHANGES, MAX_TEXT, MemoryEvents, OomLimit, Origin,
    Pressure, ProbeFailures, ReadyChange, SANDBOX_REMOVED, Victim,
};

/// Version of the wire and of the disk format.
pub const VERSION: u32 = 1;

/// Longest request a shim takes, in bytes: the 2 MiB of arguments and variables that execve(2) takes, each byte of them as an
/// escape of JSON (`\u0001`), and twice as much as a bundle's configuration may have for all the rest. It says so in
/// [`Event::State`]; nobody sends it more, since it closes such a connection.
pub const MAX_REQUEST: usize = 6 * (2 << 20) + 2 * (4 << 20);

/// Longest event an agent takes, in bytes: the states of a pod of 2000 containers, of which each record has 64 KiB at most, all
/// of it escapes. It says so in [`Request::Hello`], and the shim tells of no more instances than there is room for.
pub const MAX_EVENT: usize = 128 << 20;

/// What a peer takes that says nothing: all did, in both directions, before they said so.
pub const UNSAID_LIMIT: usize = 1 << 20;

/// Longest [`Request::Remember::memo`], in bytes.
pub const MAX_MEMO: usize = 512 << 10;

fn unsaid_limit() -> usize {
    UNSAID_LIMIT
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
fn is_unsaid(limit: &usize) -> bool {
    *limit == UNSAID_LIMIT
}

/// A moment: `CLOCK_BOOTTIME` and `CLOCK_REALTIME`, in nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stamp {
    /// Nanoseconds since boot, sleep included.
    pub boot_ns: i64,
    /// Nanoseconds since the Unix epoch.
    pub wall_ns: i64,
}

/// One run of one container of the pod: the identity behind every request and record.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct InstanceId {
    /// The container's name in the pod.
    pub container: String,
    /// 0 for the first run under this pod uid, never used twice.
    pub attempt: u32,
}

/// `sandbox.json`, the one argument of a shim: all it has to know about its pod.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SandboxConfig {
    /// [`VERSION`] of the writer.
    pub version: u32,
    /// The pod's uid.
    pub uid: String,
    /// The pod's namespace.
    pub namespace: String,
    /// The pod's name.
    pub name: String,
    /// Counts the sandboxes under this pod uid, from 1.
    pub number: u32,
    /// The boot id of the host when the agent wrote this.
    pub boot_id: String,
    /// Host name to set in the pod's UTS namespace; `None` with the host's network: no UTS namespace is made.
    pub hostname: Option<String>,
    /// Whether to unshare the network namespace and bring its loopback up.
    pub unshare_net: bool,
    /// Whether to unshare the IPC namespace.
    pub unshare_ipc: bool,
    /// The pod's cgroup directory in the cgroup v2 file system; the shim moves itself into its `_supervisor` child.
    pub cgroup: PathBuf,
    /// Directory with one record per instance, `<container>/<attempt>.json`; durable.
    pub records: PathBuf,
    /// Directory for what lives as long as the sandbox: bundles, mount points, runtime state. On a tmpfs.
    pub run: PathBuf,
    /// Directory of the files that every container of the pod gets (`/etc/hosts` and its like), as the agent has made them. The
    /// shim covers it with a tmpfs of its own that holds copies: what containers write stays in the pod, and is bounded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub files: Option<PathBuf>,
}

/// What the agent asks of a shim. The socket is the shim's standard input, listening.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Request {
    /// First line of a connection; answered by [`Event::State`].
    Hello {
        /// [`VERSION`] of the agent.
        version: u32,
        /// [`MAX_EVENT`] of the agent.
        #[serde(default = "unsaid_limit", skip_serializing_if = "is_unsaid")]
        max_event: usize,
    },
    /// Starts an instance. One that the shim has heard of already is not started again: its state is repeated instead.
    Start(Box<StartRequest>),
    /// Sends a signal to the first process of a running instance. Late ones (it has ended) are ignored.
    Signal {
        /// Whom.
        id: InstanceId,
        /// Signal number.
        signal: i32,
        /// Who asks; kept in the record unless somebody asked before.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        cause: Option<Cause>,
    },
    /// A hook of a running instance begins. One that has begun already does not begin again. It is not tied to the
    /// connection, and nothing ends it but its own end or that of the instance.
    Hook {
        /// Whose.
        id: InstanceId,
        /// Which.
        kind: HookKind,
        /// To be run in the container by the shim; without it the agent runs the hook, and tells its end.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        command: Option<Vec<String>>,
        /// Of a preStop hook: why the instance is stopped, for the record.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        cause: Option<Cause>,
    },
    /// A hook that the agent runs has ended.
    HookDone {
        /// Whose.
        id: InstanceId,
        /// Which.
        kind: HookKind,
        /// Why it failed, for people.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        failure: Option<String>,
    },
    /// SIGKILL to every process in the instance's cgroup. An instance that is still starting is killed too.
    Kill {
        /// Whom.
        id: InstanceId,
        /// As with [`Request::Signal`].
        #[serde(default, skip_serializing_if = "Option::is_none")]
        cause: Option<Cause>,
    },
    /// Runs a command in a running instance (exec probes); answered by [`Event::ExecDone`], on the same connection only:
    /// with a new connection the commands of the one before are killed.
    Exec {
        /// The agent's number for this run.
        seq: u64,
        /// Where.
        id: InstanceId,
        /// The command and its arguments.
        command: Vec<String>,
        /// Its processes are killed when it takes longer.
        timeout_ms: u64,
    },
    /// Keeps a text for the next agent, in memory only: it is part of [`Event::State`] and dies with the sandbox.
    Remember {
        /// Opaque to the shim; at most [`MAX_MEMO`] bytes.
        memo: String,
        /// How running instances fare, each in full, by container. Goes into the record when it is written next; it is no
        /// reason to write it.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        health: BTreeMap<String, (u32, Health)>,
    },
    /// Kills what is left, then leaves. Everything of the sandbox goes with it.
    Shutdown,
}

/// All that is needed to start one instance.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StartRequest {
    /// Whom.
    pub id: InstanceId,
    /// Kept in the record for the next agent: the back-off that holds after this instance's end, in milliseconds.
    pub restart_delay_ms: u64,
    /// The OCI runtime's binary.
    pub runtime: PathBuf,
    /// Mounts made in the pod's mount namespace before the runtime is called, in order; undone when the instance has ended.
    pub mounts: Vec<PodMount>,
    /// The container's `config.json`, complete; the shim writes it into the bundle directory.
    pub config: serde_json::Value,
    /// The container's cgroup directory in the cgroup v2 file system.
    pub cgroup: PathBuf,
    /// The log file in CRI format.
    pub log: PathBuf,
    /// Rotate at this size, bytes.
    pub log_max_bytes: u64,
    /// Files to keep, the current one included.
    pub log_max_files: u32,
    /// Kept in the record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<Origin>,
    /// The signal that stops it, kept in the record for the next agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop_signal: Option<i32>,
    /// Where its termination message comes from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<MessageRequest>,
}

/// Where the termination message of an instance comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MessageRequest {
    /// The file that the container writes it to, seen from the host. Made by the shim, and removed with the instance.
    pub file: PathBuf,
    /// Take the end of the log instead, when the instance failed and the file is empty.
    pub fallback_to_log: bool,
    /// The file is alone in its directory, which becomes a tmpfs of this many bytes: what the container writes is bounded.
    /// Absent in requests of older agents, which keep several files in one directory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bound: Option<u64>,
}

/// Which hook.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HookKind {
    /// After the start.
    PostStart,
    /// Before the stop signal.
    PreStop,
}

/// One run of a hook.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HookRun {
    /// When it began. Written before anything is run.
    pub begun: Stamp,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<Stamp>,
    /// Why it failed, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
}

/// A mount in the pod's mount namespace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum PodMount {
    /// The container's root: an overlay over a bundle's rootfs, which is never written.
    Overlay {
        /// The bundle's rootfs.
        lower: PathBuf,
        /// A directory that gets `upper` and `work`; made here, removed when the instance has ended.
        layer: PathBuf,
        /// Mount point; made here.
        target: PathBuf,
    },
    /// An `emptyDir` with `medium: Memory`. Mounted once per sandbox; a repeated request finds it in place.
    Tmpfs {
        /// Mount point; made here.
        target: PathBuf,
        /// Upper bound in bytes; `None`: the kernel's default, half of the memory.
        size: Option<u64>,
    },
    /// A `subPath` of a volume, resolved beneath the volume's root (symlinks may not leave it), bound at a stable place.
    Subpath {
        /// The volume's root.
        volume: PathBuf,
        /// Relative, without `..`.
        path: PathBuf,
        /// Mount point; made here, a file or a directory like its source.
        target: PathBuf,
    },
}

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
    /// [`VERSION`] of the writer.
    pub version: u32,
    /// Whose.
    pub id: InstanceId,
    /// [`SandboxConfig::number`] of the sandbox it ran in.
    pub sandbox: u32,
    /// [`SandboxConfig::boot_id`].
    pub boot_id: String,
    /// [`StartRequest::restart_delay_ms`].
    pub restart_delay_ms: u64,
    /// [`StartRequest::origin`].
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
    /// [`StartRequest::stop_signal`].
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
    /// How and when it ended, once it has. Durable (fsync) before any [`Event`] tells of it, unless that says `unsaved`.
    pub exit: Option<Exit>,
    /// Only in an [`Event`], never in a file: what it says could not be written so far. The shim knows it, tries again until
    /// it is written, says so then, and does not leave before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unsaved: Option<Unsaved>,
    /// Only in an [`Event`]: the start could not be written down, so nothing was started. There is no such instance, and its
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

/// What a shim tells the agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Event {
    /// Answer to [`Request::Hello`].
    State {
        /// [`VERSION`] of the shim.
        version: u32,
        /// [`SandboxConfig::number`].
        sandbox: u32,
        /// The shim's pid.
        pid: i32,
        /// When the namespaces stood.
        created: Stamp,
        /// The instances of this sandbox in the order of their start: all that have not ended, and of each container the
        /// newest that have ([`crate::machine::REMEMBERED`]), as far as the agent's limit lets it; the others are in their
        /// record files.
        instances: Vec<Record>,
        /// The last [`Request::Remember`].
        memo: Option<String>,
        /// [`MAX_REQUEST`] of the shim.
        #[serde(default = "unsaid_limit", skip_serializing_if = "is_unsaid")]
        max_request: usize,
    },
    /// An instance started, was signalled, or ended; its whole record.
    Instance(Box<Record>),
    /// A command of [`Request::Exec`] is through.
    ExecDone {
        /// [`Request::Exec::seq`].
        seq: u64,
        /// How it went.
        result: ExecResult,
        /// The first 10 KiB of stdout and stderr together.
        output: String,
    },
    /// The sandbox itself could not be made; the shim leaves after this.
    Failed {
        /// What went wrong, for people.
        message: String,
    },
}

/// How an exec ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "how", rename_all = "snake_case")]
pub enum ExecResult {
    /// It left with this status (128 + n for signal n).
    Exited {
        /// 0..=255.
        code: i32,
    },
    /// It was killed at its timeout.
    TimedOut,
    /// The instance has ended, before it or in its middle: nothing can be said of it.
    InstanceEnded,
    /// It could not be run: no such file, say.
    Error {
        /// What went wrong, for people.
        message: String,
    },
}
