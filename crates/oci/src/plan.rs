//! What it takes to make a container, as a value: [`Spec`] to [`Plan`], nothing is touched.
//!
//! The order of [`Plan::steps`] is the security property of a runtime: mounts are made and masked while the host's `/proc` is
//! still there, privileges go after the root has changed, the filter comes last. Tests hold it as data.

mod devices;
mod mounts;
mod process;
mod resources;
mod seccomp;

use std::path::{Component, Path, PathBuf};

use nix::mount::MsFlags;
use nix::sched::CloneFlags;
use oci_spec::runtime::{Linux, LinuxNamespaceType, Process, Spec};
use podwright_sys::caps::CapSet;
use podwright_sys::mount::Change;
use podwright_sys::{device, seccomp as filter};

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

/// How the first process learns that it may execute the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gate {
    /// `run`: the runtime says go once the state is saved.
    Go,
    /// `create`: a later `start` does.
    Start,
}

/// One thing that the container's first process does.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// Enter an existing namespace.
    Join {
        /// Its kind, one bit.
        kind: CloneFlags,
        /// A file such as `/proc/1/ns/net`.
        path: PathBuf,
    },
    /// Enter the namespaces of a container that runs, but for its PID namespace.
    EnterContainer,
    /// Make a cgroup namespace whose root is the container's cgroup.
    UnshareCgroup,
    /// Leave the caller's session keyring.
    SessionKeyring,
    /// Set `oom_score_adj`.
    OomScoreAdj(i32),
    /// Set the host name.
    Hostname(String),
    /// Set the NIS domain name.
    Domainname(String),
    /// Set the propagation of all mounts of the new mount namespace.
    Propagation(MsFlags),
    /// Bind the root file system to itself: it becomes a mount that can be pivoted to.
    BindRoot(PathBuf),
    /// Mount a new file system.
    MountFs(FsMount),
    /// Mount an existing directory or file.
    Bind(BindMount),
    /// Show the container its cgroup.
    MountCgroup {
        /// Where.
        target: PathBuf,
        /// `MS_*` flags.
        flags: MsFlags,
        /// With an own cgroup namespace a cgroup2 mount shows the right part; without one the directory is bound.
        namespaced: bool,
    },
    /// Make device nodes.
    Devices(Vec<DeviceNode>),
    /// Make symlinks (link, target) in `/dev` where nothing is.
    DevLinks,
    /// Make the working directory where it is missing.
    MakeCwd(PathBuf),
    /// Write a kernel parameter.
    Sysctl {
        /// Below `/proc/sys`.
        path: PathBuf,
        /// What to write.
        value: String,
        /// The namespace that holds it, to be checked against the host's when the container has not its own.
        shared_namespace: Option<&'static str>,
    },
    /// Let the runtime run the prestart and createRuntime hooks.
    RuntimeHooks,
    /// Run the createContainer hooks.
    CreateContainerHooks,
    /// Make file systems read-only whose mount points had to be filled first.
    SealMounts,
    /// Hide a file or directory.
    Mask(PathBuf),
    /// Make a file or directory read-only, with all mounts below it.
    ReadonlyPath(PathBuf),
    /// Make the root file system's own mount read-only.
    ReadonlyRoot,
    /// Change the root and let go of the old one.
    PivotRoot,
    /// Set the propagation of the container's root.
    RootPropagation(MsFlags),
    /// Look for the program, so that `create` can report that it is missing.
    FindProgram {
        /// The program.
        program: Program,
        /// For a name relative to it.
        cwd: PathBuf,
    },
    /// Wait for the runtime or for `start`.
    Await(Gate),
    /// Run the startContainer hooks.
    StartContainerHooks,
    /// Give pipes and terminals on descriptors 0 to 2 to the user, so that `/dev/stdout` can be opened.
    OwnStdio(u32),
    /// Set a resource limit.
    Rlimit {
        /// Number in getrlimit(2).
        resource: u32,
        /// Soft limit.
        soft: u64,
        /// Hard limit.
        hard: u64,
    },
    /// Mark all descriptors but the first ones (0 to 2 and those preserved) close-on-exec.
    CloseDescriptors,
    /// Unblock signals and restore their default handling.
    ResetSignals,
    /// setsid(2): a session and a process group of its own, without a terminal, as other runtimes start a process.
    NewSession,
    /// Enter the working directory.
    Chdir(PathBuf),
    /// Drop from the bounding set.
    LimitBounding(CapSet),
    /// Become the user, keeping the permitted capabilities for the steps that follow.
    SwitchUser {
        /// User.
        uid: u32,
        /// Group.
        gid: u32,
        /// Supplementary groups.
        groups: Vec<u32>,
    },
    /// Load the seccomp filter.
    LoadFilter,
    /// Set the capability sets.
    Capabilities {
        /// Effective.
        effective: CapSet,
        /// Permitted.
        permitted: CapSet,
        /// Inheritable.
        inheritable: CapSet,
        /// Ambient.
        ambient: CapSet,
    },
    /// Never gain privileges by execve(2) again.
    NoNewPrivileges,
    /// Set the file mode creation mask.
    Umask(u32),
    /// Become the program.
    Exec(Program),
}

/// A new file system to mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FsMount {
    /// Where, seen from the container.
    pub target: PathBuf,
    /// Type, as in `/proc/filesystems`.
    pub fstype: String,
    /// What the mount table shows as its source.
    pub source: PathBuf,
    /// `MS_*` flags.
    pub flags: MsFlags,
    /// Options of the file system.
    pub data: String,
    /// A propagation type and whether it is recursive.
    pub propagation: Option<MsFlags>,
    /// To be made read-only by [`Step::SealMounts`] instead of at once.
    pub seal: bool,
}

/// An existing directory or file to mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BindMount {
    /// Where, seen from the container.
    pub target: PathBuf,
    /// What, seen from the host.
    pub source: PathBuf,
    /// With the mounts below it.
    pub recursive: bool,
    /// Attributes for the top mount.
    pub change: Change,
    /// Attributes and propagation for all of its mounts.
    pub recursive_change: Change,
}

/// A device node to make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceNode {
    /// Where, seen from the container.
    pub path: PathBuf,
    /// `None`: a fifo.
    pub kind: Option<device::Kind>,
    /// Major number.
    pub major: u32,
    /// Minor number.
    pub minor: u32,
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

/// A program and what it gets.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Program {
    /// The name to look up, and its arguments.
    pub args: Vec<String>,
    /// `KEY=VALUE`; `PATH` here is where the name is looked up.
    pub env: Vec<String>,
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
    steps.extend([Step::SessionKeyring, Step::EnterContainer, Step::Await(Gate::Go)]);
    steps.extend(process::steps(process, seccomp.is_some(), "process")?);
    Ok((steps, seccomp.map(seccomp::profile).transpose()?))
}

/// The namespaces of a container: made, joined, or the caller's.
struct Namespaces {
    new: CloneFlags,
    joins: Vec<(CloneFlags, PathBuf)>,
    pid: Option<PathBuf>,
    unshare_cgroup: bool,
}

impl Namespaces {
    fn of(linux: &Linux) -> Result<Self> {
        let mut found = Self { new: CloneFlags::empty(), joins: Vec::new(), pid: None, unshare_cgroup: false };
        for (index, namespace) in linux.namespaces().iter().flatten().enumerate() {
            let field = format!("linux.namespaces[{index}]");
            let kind = match namespace.typ() {
                LinuxNamespaceType::Mount => CloneFlags::CLONE_NEWNS,
                LinuxNamespaceType::Cgroup => CloneFlags::CLONE_NEWCGROUP,
                LinuxNamespaceType::Uts => CloneFlags::CLONE_NEWUTS,
                LinuxNamespaceType::Ipc => CloneFlags::CLONE_NEWIPC,
                LinuxNamespaceType::Pid => CloneFlags::CLONE_NEWPID,
                LinuxNamespaceType::Network => CloneFlags::CLONE_NEWNET,
                LinuxNamespaceType::User | LinuxNamespaceType::Time => {
                    return Err(PlanError::unsupported(format!("{field} (type {})", namespace.typ())));
                }
            };
            if found.owns(kind) {
                return Err(PlanError::new(field, format!("type {} is listed twice", namespace.typ())));
            }
            match namespace.path().as_ref().filter(|path| !path.as_os_str().is_empty()) {
                Some(path) if !path.is_absolute() => {
                    return Err(PlanError::new(field, format!("path {} is not absolute", path.display())));
                }
                Some(_) if kind == CloneFlags::CLONE_NEWNS => {
                    return Err(PlanError::unsupported(format!("{field}.path (type mount)")));
                }
                Some(path) if kind == CloneFlags::CLONE_NEWPID => found.pid = Some(path.clone()),
                Some(path) => found.joins.push((kind, path.clone())),
                None if kind == CloneFlags::CLONE_NEWCGROUP => found.unshare_cgroup = true,
                None => found.new |= kind,
            }
        }
        if found.new.contains(CloneFlags::CLONE_NEWNS) {
            Ok(found)
        } else {
            Err(PlanError::new("linux.namespaces", "has no entry of type mount; a container needs its own mounts"))
        }
    }

    /// Whether the container has its own one of this kind, or joins one that it names.
    fn owns(&self, kind: CloneFlags) -> bool {
        self.new.contains(kind)
            || self.joins.iter().any(|(joined, _)| *joined == kind)
            || kind == CloneFlags::CLONE_NEWPID && self.pid.is_some()
            || kind == CloneFlags::CLONE_NEWCGROUP && self.unshare_cgroup
    }
}

fn names(spec: &Spec, namespaces: &Namespaces) -> Result<Vec<Step>> {
    let mut steps = Vec::new();
    for (field, value, step) in [
        ("hostname", spec.hostname(), Step::Hostname as fn(String) -> Step),
        ("domainname", spec.domainname(), Step::Domainname),
    ] {
        let Some(value) = value.as_ref().filter(|value| !value.is_empty()) else { continue };
        if !namespaces.owns(CloneFlags::CLONE_NEWUTS) {
            return Err(PlanError::new(
                field,
                "needs an entry of type uts in linux.namespaces: it would name the host",
            ));
        }
        steps.push(step(value.clone()));
    }
    Ok(steps)
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
    steps.push(Step::PivotRoot);
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

/// Kernel parameters by the namespace they belong to (sysctl(5), namespaces(7)).
fn sysctls(linux: &Linux, namespaces: &Namespaces) -> Result<Vec<Step>> {
    const IPC: [&str; 8] = ["msgmax", "msgmnb", "msgmni", "sem", "shmall", "shmmax", "shmmni", "shm_rmid_forced"];
    let mut steps = Vec::new();
    for (key, value) in linux.sysctl().iter().flatten() {
        let field = format!("linux.sysctl.{key}");
        // As sysctl(8) reads it: the separator that comes first decides, the other one is part of names.
        let path = match key.find(['.', '/']) {
            Some(at) if key.as_bytes()[at] == b'.' => swap_separators(key),
            _ => key.clone(),
        };
        let (kind, file) = match path.split_once('/') {
            Some(("net", _)) => (CloneFlags::CLONE_NEWNET, "net"),
            Some(("kernel", "hostname" | "domainname")) => (CloneFlags::CLONE_NEWUTS, "uts"),
            Some(("kernel", name)) if IPC.contains(&name) => (CloneFlags::CLONE_NEWIPC, "ipc"),
            Some(("fs", name)) if name.starts_with("mqueue/") => (CloneFlags::CLONE_NEWIPC, "ipc"),
            _ => {
                return Err(PlanError::new(
                    field,
                    "belongs to the whole host; accepted are net.*, fs.mqueue.*, the kernel.msg*, kernel.sem and \
                     kernel.shm* of an IPC namespace, kernel.hostname and kernel.domainname",
                ));
            }
        };
        if !is_plain(Path::new(&path)) {
            return Err(PlanError::new(field, "has . or .. as a component"));
        }
        let shared_namespace = (!namespaces.owns(kind)).then_some(file);
        steps.push(Step::Sysctl { path: path.into(), value: value.clone(), shared_namespace });
    }
    steps.sort_by(|a, b| match (a, b) {
        (Step::Sysctl { path: a, .. }, Step::Sysctl { path: b, .. }) => a.cmp(b),
        _ => std::cmp::Ordering::Equal,
    });
    Ok(steps)
}

fn swap_separators(key: &str) -> String {
    key.chars()
        .map(|c| match c {
            '.' => '/',
            '/' => '.',
            other => other,
        })
        .collect()
}

/// Relative, and each component a name.
fn is_plain(path: &Path) -> bool {
    path.components().all(|component| matches!(component, Component::Normal(_)))
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
