//! Makes a sandbox: cgroups, volumes, run directory, shim. Blocking; run beside the worker.

use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use podwright_core::pod::resources::{self, PodLimits};
use podwright_core::pod::spec::{PodSpec, Qos};
use podwright_proto::{SUPERVISOR, SandboxConfig, VERSION};
use podwright_sys::cgroup::{Cgroup, CgroupError};
use podwright_sys::durable::{Durability, WriteError, write_atomic};
use podwright_sys::tree::RemoveError;
use tokio::process::Child;

use super::files::{self, FilesError};
use super::leftovers::{self, Left};
use super::volumes::{self, VolumeError};
use crate::clock::Clock;
use crate::context::Context;
use crate::paths::{PodPaths, short};

/// Why there is no sandbox.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// A cgroup could not be made or limited.
    #[error("the pod's cgroup could not be set up")]
    Cgroup(#[from] CgroupError),
    /// A volume could not be had.
    #[error(transparent)]
    Volume(#[from] VolumeError),
    /// The files that each container gets could not be made.
    #[error(transparent)]
    Files(#[from] FilesError),
    /// The shim's configuration could not be written.
    #[error("the sandbox's configuration could not be written")]
    Write(#[from] WriteError),
    /// Something of an earlier sandbox is left.
    #[error(transparent)]
    Remove(#[from] RemoveError),
    /// Something else in the run directory.
    #[error("{action} {} failed", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> SetupError {
    let path = path.to_owned();
    move |source| SetupError::Io { action, path, source }
}

/// The pod's cgroup.
pub fn pod_cgroup(ctx: &Context, spec: &PodSpec) -> Cgroup {
    let name = format!("pod{}", spec.uid);
    match qos_directory(spec) {
        Some(class) => ctx.cgroup_root.child(class).child(&name),
        None => ctx.cgroup_root.child(&name),
    }
}

/// Where a pod of this uid may have its cgroup: which it is follows from its manifest.
pub fn cgroups(ctx: &Context, uid: &str) -> Vec<Cgroup> {
    let root = &ctx.cgroup_root;
    let all = [root.clone(), root.child("burstable"), root.child("besteffort")];
    all.into_iter().map(|class| class.child(&format!("pod{uid}"))).filter(Cgroup::exists).collect()
}

fn qos_directory(spec: &PodSpec) -> Option<&'static str> {
    match resources::qos(spec) {
        Qos::Guaranteed => None,
        Qos::Burstable => Some("burstable"),
        Qos::BestEffort => Some("besteffort"),
    }
}

/// Makes everything and starts the shim. Whatever an earlier sandbox left is removed first; in the `first` one of a run of the
/// pod its volumes as well, which are empty then.
///
/// # Errors
/// The first thing that fails. What was made stays; `dismantle` removes it.
pub fn make(
    ctx: &Arc<Context>,
    spec: &PodSpec,
    paths: &PodPaths,
    number: u32,
    first: bool,
) -> Result<Child, SetupError> {
    let cgroup = make_cgroups(ctx, spec)?;
    let left = if first { Some(paths.volumes()) } else { None };
    for left in [paths.layers(), paths.run.clone()].into_iter().chain(left) {
        leftovers::clear(ctx, &left)?;
    }
    leftovers::hold(ctx, &paths.volumes());
    volumes::make(spec, paths)?;
    for directory in [&paths.run, &paths.records()] {
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(directory);
        made.map_err(io_error("making", directory))?;
    }
    files::make(ctx, spec, paths)?;
    let file = paths.sandbox();
    write_config(ctx, spec, paths, &cgroup, number)?;
    let socket = paths.socket();
    let bound = short(&socket).and_then(|(path, _directory)| UnixListener::bind(path));
    let listener = bound.map_err(io_error("listening on", &socket))?;
    ctx.shim.spawn(&file, listener, &paths.shim_log()).map_err(io_error("starting the shim with", &file))
}

/// Writes what a shim has to know about its pod, and the next agent about the shim.
///
/// # Errors
/// Those of the file system.
pub fn write_config(
    ctx: &Context,
    spec: &PodSpec,
    paths: &PodPaths,
    cgroup: &Cgroup,
    number: u32,
) -> Result<(), SetupError> {
    let config = SandboxConfig {
        version: VERSION,
        uid: spec.uid.clone(),
        namespace: spec.namespace.clone(),
        name: spec.name.clone(),
        number,
        boot_id: ctx.clock.boot_id().to_owned(),
        hostname: (!spec.host_network).then(|| spec.hostname.clone()),
        unshare_net: !spec.host_network,
        unshare_ipc: !spec.host_ipc,
        cgroup: cgroup.path().to_owned(),
        records: paths.records(),
        run: paths.run.clone(),
        files: Some(paths.files()),
    };
    let file = paths.sandbox();
    let text = serde_json::to_vec(&config).map_err(|e| io_error("writing", &file)(e.into()))?;
    Ok(write_atomic(&file, &text, Durability::Rename)?)
}

fn make_cgroups(ctx: &Context, spec: &PodSpec) -> Result<Cgroup, CgroupError> {
    if let Some(class) = qos_directory(spec) {
        let class_cgroup = ctx.cgroup_root.child(class);
        if class_cgroup.create()? && spec_is_best_effort(spec) && ctx.controls("cpu") {
            // What asked for nothing gets what the others leave.
            class_cgroup.write("cpu.weight", "1")?;
        }
        class_cgroup.enable_controllers(&ctx.controllers)?;
    }
    let pod = pod_cgroup(ctx, spec);
    pod.create()?;
    pod.enable_controllers(&ctx.controllers)?;
    for (file, value) in limit_files(&resources::pod_limits(spec), ctx.live.borrow().pod_pids_limit) {
        let controller = file.split('.').next().unwrap_or(file);
        if ctx.controls(controller) {
            pod.write(file, &value)?;
        }
    }
    pod.child(SUPERVISOR).create()?;
    Ok(pod)
}

fn spec_is_best_effort(spec: &PodSpec) -> bool {
    resources::qos(spec) == Qos::BestEffort
}

/// Files of the pod's cgroup and their values.
fn limit_files(limits: &PodLimits, pids: Option<u64>) -> Vec<(&'static str, String)> {
    let or_max = |value: Option<u64>| value.map_or_else(|| "max".to_owned(), |v| v.to_string());
    vec![
        ("cpu.weight", limits.cpu_weight.to_string()),
        (
            "cpu.max",
            limits.cpu_max.map_or_else(|| "max 100000".to_owned(), |(quota, period)| format!("{quota} {period}")),
        ),
        ("memory.max", or_max(limits.memory_max)),
        ("pids.max", or_max(pids)),
    ]
}

/// Kills what is left of a sandbox and removes its cgroup and directories; returns what could not be removed. Nothing of it may
/// exist.
///
/// # Errors
/// When processes survive SIGKILL. Files that cannot be removed hold up nobody.
pub fn dismantle(clock: &Clock, cgroup: &Cgroup, paths: &PodPaths) -> Result<Vec<Left>, CgroupError> {
    cgroup.remove()?;
    let left = [&paths.run, &paths.layers()].map(|path| leftovers::remove(clock, path));
    Ok(left.into_iter().flatten().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_become_file_contents() {
        let limits = PodLimits { cpu_weight: 59, cpu_max: Some((50_000, 100_000)), memory_max: Some(4096) };
        let text: Vec<String> = limit_files(&limits, Some(7)).iter().map(|(f, v)| format!("{f}={v}")).collect();
        assert_eq!(text, ["cpu.weight=59", "cpu.max=50000 100000", "memory.max=4096", "pids.max=7"]);
        let none = PodLimits { cpu_weight: 1, cpu_max: None, memory_max: None };
        let text: Vec<String> = limit_files(&none, None).into_iter().map(|(_, v)| v).collect();
        assert_eq!(text, ["1", "max 100000", "max", "max"]);
    }
}
