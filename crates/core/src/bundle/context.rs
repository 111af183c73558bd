//! What a container's spec depends on besides the pod.

use std::collections::BTreeMap;
use std::path::PathBuf;

use oci_spec::runtime::{LinuxDevice, Spec};

use super::node::NodeFacts;

/// What a container's spec depends on besides the pod.
#[derive(Debug, Clone, PartialEq)]
pub struct Context {
    /// The bundle's `config.json`.
    pub bundle: Spec,
    /// Where the container's root file system is mounted, absolute.
    pub rootfs: PathBuf,
    /// By name of the volume: what to bind.
    pub volumes: BTreeMap<String, PathBuf>,
    /// By index in the container's `volumeMounts`, for those with a `subPath`: what to bind.
    pub sub_paths: BTreeMap<usize, PathBuf>,
    /// The container's cgroup, absolute below the cgroup v2 mount.
    pub cgroups_path: PathBuf,
    /// The node.
    pub node: NodeFacts,
    /// The host name that the container sees: the pod's, or the node's with `hostNetwork`.
    pub hostname: String,
    /// Bound at `/etc/hosts`; as with the next two, a file of the pod's own: containers write to it.
    pub hosts: Option<PathBuf>,
    /// Bound at `/etc/hostname`.
    pub hostname_file: Option<PathBuf>,
    /// Bound at `/etc/resolv.conf`.
    pub resolv_conf: Option<PathBuf>,
    /// Bound at the container's `terminationMessagePath`.
    pub message: Option<PathBuf>,
    /// Bound at `/dev/shm`: a tmpfs that the pod's containers share, or the node's with `hostIPC`. `None`: one of its own.
    pub shm: Option<PathBuf>,
    /// What this node has that is hidden like the paths that are hidden everywhere: sensors of its processors.
    pub sensors: Vec<String>,
    /// The node's devices; used for privileged containers.
    pub host_devices: Vec<LinuxDevice>,
}
