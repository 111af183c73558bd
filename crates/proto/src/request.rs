//! What the agent asks of a shim.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::hook::HookKind;
use crate::instance::InstanceId;
use crate::ledger::{Cause, Health, Origin};
use crate::limits::{is_unsaid, unsaid_limit};

/// What the agent asks of a shim. The socket is the shim's standard input, listening.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Request {
    /// First line of a connection; answered by [`crate::Event::State`].
    Hello {
        /// [`crate::VERSION`] of the agent.
        version: u32,
        /// [`crate::MAX_EVENT`] of the agent.
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
    /// Runs a command in a running instance (exec probes); answered by [`crate::Event::ExecDone`], on the same connection only:
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
    /// Keeps a text for the next agent, in memory only: it is part of [`crate::Event::State`] and dies with the sandbox.
    Remember {
        /// Opaque to the shim; at most [`crate::MAX_MEMO`] bytes.
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
