//! What a shim is started with, and where it puts what it leaves.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::instance::InstanceId;

/// The shim's own cgroup below the pod's: container names cannot begin with an underscore.
pub const SUPERVISOR: &str = "_supervisor";

/// Where the record of an instance is, below [`SandboxConfig::records`].
#[must_use]
pub fn record_file(records: &Path, id: &InstanceId) -> PathBuf {
    records.join(&id.container).join(format!("{}.json", id.attempt))
}

/// The attempt that a file in a container's directory of records is about; `None`: it is no record.
#[must_use]
pub fn attempt_of(file: &str) -> Option<u32> {
    file.strip_suffix(".json")?.parse().ok()
}

/// `sandbox.json`, the one argument of a shim: all it has to know about its pod.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SandboxConfig {
    /// [`crate::VERSION`] of the writer.
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
    /// The pod's cgroup directory in the cgroup v2 file system; the shim moves itself into its [`SUPERVISOR`] child.
    pub cgroup: PathBuf,
    /// Directory with one record per instance, see [`record_file`]; durable.
    pub records: PathBuf,
    /// Directory for what lives as long as the sandbox: bundles, mount points, runtime state. On a tmpfs.
    pub run: PathBuf,
    /// Directory of the files that every container of the pod gets (`/etc/hosts` and its like), as the agent has made them. The
    /// shim covers it with a tmpfs of its own that holds copies: what containers write stays in the pod, and is bounded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub files: Option<PathBuf>,
}
