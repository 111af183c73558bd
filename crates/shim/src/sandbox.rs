//! Makes the pod's sandbox out of this process: its cgroup, its namespaces, its place as the parent of all.

use std::fs;
use std::io;

use nix::sched::{CloneFlags, unshare};
use podwright_proto::{SUPERVISOR, SandboxConfig};
use podwright_sys::cgroup::{Cgroup, CgroupError};
use podwright_sys::{child, netns, podmount};

/// The kernel's killer takes any other process of the pod first: with the shim the whole pod would be lost. What it
/// starts gets the value of its own config.
const OOM_SCORE_ADJ: &str = "-999";

/// What the containers of a pod may add to its `/etc/hosts` and its like in all, bytes.
const FILES_SLACK: u64 = 64 << 10;

/// A step towards the sandbox that failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SandboxError {
    /// The shim could not move into its own cgroup.
    #[error("cannot enter the cgroup of the pod's supervisor")]
    Cgroup(#[source] CgroupError),
    /// The pod's own files could not be made.
    #[error("cannot make the pod's files")]
    Files(#[source] podmount::PodMountError),
    /// A system call failed.
    #[error("cannot {action}")]
    Call {
        /// What was tried, as a verb.
        action: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
}

fn failed<E: Into<io::Error>>(action: &'static str) -> impl FnOnce(E) -> SandboxError {
    move |source| SandboxError::Call { action, source: source.into() }
}

/// Does it, in the order that later steps need: the cgroup first, so that nothing made here is accounted elsewhere.
pub(crate) fn enter(config: &SandboxConfig) -> Result<(), SandboxError> {
    Cgroup::at(&config.cgroup).child(SUPERVISOR).add(0).map_err(SandboxError::Cgroup)?;
    if let Err(error) = fs::write("/proc/self/oom_score_adj", OOM_SCORE_ADJ)
        && error.kind() != io::ErrorKind::PermissionDenied
    {
        return Err(failed("set oom_score_adj")(error));
    }
    child::become_subreaper().map_err(failed("become the parent of orphans"))?;
    let mut namespaces = CloneFlags::CLONE_NEWNS;
    namespaces.set(CloneFlags::CLONE_NEWUTS, config.hostname.is_some());
    namespaces.set(CloneFlags::CLONE_NEWIPC, config.unshare_ipc);
    namespaces.set(CloneFlags::CLONE_NEWNET, config.unshare_net);
    unshare(namespaces).map_err(failed("make the pod's namespaces"))?;
    podmount::follow_host().map_err(failed("detach the pod's mounts from the host's"))?;
    if let Some(files) = &config.files {
        podmount::cover_with_copies(files, FILES_SLACK).map_err(SandboxError::Files)?;
    }
    if config.unshare_net {
        netns::loopback_up().map_err(failed("set the loopback device up"))?;
    }
    if let Some(hostname) = &config.hostname {
        nix::unistd::sethostname(hostname).map_err(failed("set the host name"))?;
    }
    Ok(())
}

/// Removes what is left of the containers' cgroups: a command that came too late for its container may have kept one.
pub(crate) fn leave(config: &SandboxConfig) -> Result<(), CgroupError> {
    for entry in fs::read_dir(&config.cgroup).into_iter().flatten().flatten() {
        if entry.file_name() != SUPERVISOR && entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            let cgroup = Cgroup::at(entry.path());
            cgroup.kill()?;
            cgroup.remove()?;
        }
    }
    Ok(())
}
