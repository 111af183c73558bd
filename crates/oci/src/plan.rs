//! What it takes to make a container, as a value: [`Spec`] to [`Plan`], nothing is touched.
//!
//! The order of [`Plan::steps`] is the security property of a runtime: mounts are made and masked while the host's `/proc` is
//! still there, privileges go after the root has changed, the filter comes last. Tests hold it as data.

mod devices;
mod mounts;
mod namespaces;
mod process;
mod resources;
mod seccomp;
mod step;

use std::path::{Path, PathBuf};

use nix::mount::MsFlags;
use nix::sched::CloneFlags;
use oci_spec::runtime::{Linux, Process, Spec};
use podwright_sys::{device, seccomp as filter};

use namespaces::{Namespaces, is_plain, names, sysctls};
pub use step::{BindMount, DeviceNode, FsMount, Gate, Program, Step, TerminalSize};

/// A configuration that this runtime cannot do, by field.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {problem}")]
pub struct PlanError {
    /// Path of the field in config.json.
    pub field: String,
    /// What was found, and what is accepted instead.
    pub problem: String,
}

impl PlanError {
    pub(crate) fn new(field: impl Into<String>, problem: impl Into<String>) -> Self {
        Self { field: field.into(), problem: problem.into() }
    }

    fn unsupported(field: impl Into<String>) -> Self {
        Self::new(field, "is not supported by podwright-oci yet; remove it or use another runtime (crun, runc)")
    }
}

type Result<T> = std::result::Result<T, PlanError>;

/// All that is done to make a container.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// Namespaces made by clone3(2). The cgroup namespace is not among them: it has to be made from inside the cgroup.
    pub namespaces: CloneFlags,
    /// A PID namespace to enter before the clone: it holds for children only.
    pub pid_namespace: Option<PathBuf>,
    /// The container's cgroup.
    pub cgroup: CgroupPlan,
    /// The filter, to be compiled before the clone.
    pub seccomp: Option<filter::Profile>,
    /// What the container's first process does, in order; the last one is [`Step::Exec`].
    pub steps: Vec<Step>,
}

/// The container's cgroup and what is written there before the first process enters it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CgroupPlan {
    /// Below the cgroup v2 mount, relative.
    pub path: PathBuf,
    /// Controllers that the writes need, without repetition.
    pub controllers: Vec<String>,
    /// Files and values, in order.
    pub writes: Vec<(String, String)>,
    /// Device rules; empty: no program is attached.
    pub devices: Vec<device::Rule>,
}

/// What comes from the command line and not from config.json.
#[derive(Debug, Clone)]
pub struct Context<'a> {
    /// The container's id.
    pub id: &'a str,
    /// The bundle directory, absolute.
    pub bundle: &'a Path,
    /// What the first process waits for.
    pub gate: Gate,
    /// Make a session keyring.
    pub keyring: bool,
    /// Change the root with pivot_root(2), which the initial ramfs does not allow.
    pub pivot: bool,
}

/// Plans a container.
///
/// # Errors
/// [`PlanError`] for the first field that is invalid or not supported.
pub fn container(spec: &Spec, context: &Context<'_>) -> Result<Plan> {
    let linux = spec.linux().as_ref().ok_or_else(|| PlanError::new("linux", "is missing; this runtime needs it"))?;
    let process =
        spec.process().as_ref().ok_or_else(|| PlanError::new("process", "is missing; this runtime needs it"))?;
    refuse(spec, linux)?;
    let namespaces = Namespaces::of(linux)?;
    let mut steps = Vec::with_capacity(64);
    steps.extend(namespaces.joins.iter().cloned().map(|(kind, path)| Step::Join { kind, path }));
    if namespaces.unshare_cgroup {
        steps.push(Step::UnshareCgroup);
    }
    if context.keyring {
        steps.push(Step::SessionKeyring);
    }
    steps.extend(process.oom_score_adj().map(Step::OomScoreAdj));
    steps.extend(names(spec, &namespaces)?);
    steps.extend(file_system(spec, linux, process, context, &namespaces)?);
    steps.extend(hooks_and_gate(spec, process, context.gate)?);
    steps.extend(process::steps(process, linux.seccomp().is_some(), "process")?);
    let cgroup = resources::plan(linux.resources().as_ref(), cgroup_path(linux, context.id)?)?;
    let seccomp = linux.seccomp().as_ref().map(seccomp::profile).transpose()?;
    Ok(Plan { namespaces: namespaces.new, pid_namespace: namespaces.pid, cgroup, seccomp, steps })
}

/// Plans another process for a container that runs: what it does after it has entered the namespaces, and its filter.
///
/// # Errors
/// [`PlanError`] for the first field that is invalid or not supported.
pub fn exec(spec: &Spec, process: &Process) -> Result<(Vec<Step>, Option<filter::Profile>)> {
    let seccomp = spec.linux().as_ref().and_then(|linux| linux.seccomp().as_ref());
    let mut steps: Vec<Step> = process.oom_score_adj().map(Step::OomScoreAdj).into_iter().collect();
    steps.extend([Step::SessionKeyring, Step::EnterContainer]);
    steps.extend(process::terminal(process, false, "process")?);
    steps.push(Step::Await(Gate::Go));
    steps.extend(process::steps(process, seccomp.is_some(), "process")?);
    Ok((steps, seccomp.map(seccomp::profile).transpose()?))
}

/// Everything between the new mount namespace and the new root.
fn file_system(
    spec: &Spec,
    linux: &Linux,
    process: &Process,
    context: &Context<'_>,
    namespaces: &Namespaces,
) -> Result<Vec<Step>> {
    let root = spec.root().as_ref().ok_or_else(|| PlanError::new("root", "is missing"))?;
    let (initial, propagation) = root_propagation(linux)?;
    let mut steps = vec![Step::Propagation(initial), Step::BindRoot(context.bundle.join(root.path()))];
    let namespaced = namespaces.owns(CloneFlags::CLONE_NEWCGROUP);
    let mounts = mounts::plan(spec.mounts().as_deref().unwrap_or_default(), context.bundle, namespaced)?;
    let seals = mounts.iter().any(|step| matches!(step, Step::MountFs(mount) if mount.seal));
    let host_dev = mounts.iter().any(|step| matches!(step, Step::Bind(bind) if bind.target == Path::new("/dev")));
    steps.extend(mounts);
    // With the host's /dev bound in, making nodes there would make them on the host.
    let nodes = devices::plan(linux.devices().as_deref().unwrap_or_default(), !host_dev)?;
    if !nodes.is_empty() {
        steps.push(Step::Devices(nodes));
    }
    if !host_dev {
        steps.push(Step::DevLinks);
    }
    steps.extend(process::terminal(process, true, "process")?);
    steps.push(Step::MakeCwd(process.cwd().clone()));
    steps.extend(sysctls(linux, namespaces)?);
    steps.extend(runtime_hooks(spec));
    if seals {
        steps.push(Step::SealMounts);
    }
    steps.extend(linux.readonly_paths().iter().flatten().map(|path| Step::ReadonlyPath(path.into())));
    steps.extend(linux.masked_paths().iter().flatten().map(|path| Step::Mask(path.into())));
    if root.readonly() == Some(true) {
        steps.push(Step::ReadonlyRoot);
    }
    steps.push(if context.pivot { Step::PivotRoot } else { Step::MoveRoot });
    steps.extend(propagation.map(Step::RootPropagation));
    Ok(steps)
}

/// The propagation for all mounts at first, and for the root in the end.
fn root_propagation(linux: &Linux) -> Result<(MsFlags, Option<MsFlags>)> {
    let Some(value) = linux.rootfs_propagation().as_deref().filter(|value| !value.is_empty()) else {
        return Ok((MsFlags::MS_SLAVE, None));
    };
    match value {
        "slave" | "rslave" => Ok((MsFlags::MS_SLAVE, None)),
        "private" | "rprivate" => Ok((MsFlags::MS_PRIVATE, None)),
        "unbindable" => Ok((MsFlags::MS_PRIVATE, Some(MsFlags::MS_UNBINDABLE))),
        "runbindable" => Ok((MsFlags::MS_PRIVATE, Some(MsFlags::MS_UNBINDABLE | MsFlags::MS_REC))),
        "shared" | "rshared" => Err(PlanError::unsupported(format!("linux.rootfsPropagation: {value}"))),
        other => Err(PlanError::new(
            "linux.rootfsPropagation",
            format!("{other:?} is none of slave, private, unbindable, shared (or these with an r before)"),
        )),
    }
}

fn runtime_hooks(spec: &Spec) -> Vec<Step> {
    let Some(hooks) = spec.hooks() else { return Vec::new() };
    let mut steps = Vec::new();
    if hooks.prestart().iter().chain(hooks.create_runtime()).any(|list| !list.is_empty()) {
        steps.push(Step::RuntimeHooks);
    }
    if hooks.create_container().iter().any(|list| !list.is_empty()) {
        steps.push(Step::CreateContainerHooks);
    }
    steps
}

fn hooks_and_gate(spec: &Spec, process: &Process, gate: Gate) -> Result<Vec<Step>> {
    let mut steps = match gate {
        Gate::Go => vec![Step::Await(gate)],
        Gate::Start => {
            let program = process::program(process, "process")?;
            vec![Step::FindProgram { program, cwd: process.cwd().clone() }, Step::Await(gate)]
        }
    };
    if spec.hooks().as_ref().and_then(|hooks| hooks.start_container().as_ref()).is_some_and(|list| !list.is_empty()) {
        steps.push(Step::StartContainerHooks);
    }
    Ok(steps)
}

/// Where the cgroup goes below the v2 mount; relative paths of the configuration start there too.
fn cgroup_path(linux: &Linux, id: &str) -> Result<PathBuf> {
    let Some(path) = linux.cgroups_path().as_ref().filter(|path| !path.as_os_str().is_empty()) else {
        return Ok(id.into());
    };
    let problem = |text: &str| Err(PlanError::new("linux.cgroupsPath", format!("{}: {text}", path.display())));
    if path.to_string_lossy().matches(':').count() == 2 {
        return problem("looks like slice:prefix:name; the systemd cgroup driver is not supported, give a path");
    }
    let relative = path.strip_prefix("/").unwrap_or(path);
    if relative.as_os_str().is_empty() || !is_plain(relative) {
        return problem("has to name a cgroup below the cgroup v2 mount, without . or ..");
    }
    Ok(relative.to_owned())
}

/// The mount options that are understood.
#[must_use]
pub fn mount_options() -> Vec<String> {
    mounts::option_names()
}

/// Refuses what would otherwise be ignored.
fn refuse(spec: &Spec, linux: &Linux) -> Result<()> {
    let present: [(&str, bool); 10] = [
        ("linux.uidMappings", linux.uid_mappings().iter().any(|list| !list.is_empty())),
        ("linux.gidMappings", linux.gid_mappings().iter().any(|list| !list.is_empty())),
        ("linux.netDevices", linux.net_devices().iter().any(|map| !map.is_empty())),
        ("linux.intelRdt", linux.intel_rdt().is_some()),
        ("linux.memoryPolicy", linux.memory_policy().is_some()),
        ("linux.personality", linux.personality().is_some()),
        ("linux.timeOffsets", linux.time_offsets().iter().any(|map| !map.is_empty())),
        ("linux.mountLabel", linux.mount_label().iter().any(|label| !label.is_empty())),
        ("vm", spec.vm().is_some()),
        ("windows", spec.windows().is_some()),
    ];
    if let Some((field, _)) = present.iter().find(|(_, present)| *present) {
        return Err(PlanError::unsupported(*field));
    }
    if !spec.version().starts_with("1.") {
        return Err(PlanError::new("ociVersion", format!("{:?} found, 1.x accepted", spec.version())));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
