//! What it takes to make a container, as a value: [`Spec`] to [`Plan`], nothing is touched.
//!
//! The order of [`Plan::steps`] is the security property of a runtime: mounts are made and masked while the host's `/proc` is
//! still there, privileges go after the root has changed, the filter comes last. Tests hold it as data.

mod cgroup;
mod context;
mod devices;
mod error;
mod ids;
mod mounts;
mod namespaces;
mod net;
mod place;
mod process;
mod rdt;
mod resources;
mod schedule;
mod seccomp;
mod step;
mod user;
mod write;

use std::path::{Path, PathBuf};

use nix::mount::MsFlags;
use nix::sched::CloneFlags;
use oci_spec::runtime::{Linux, Process, Spec};
use podwright_inside as inside;
use podwright_sys::caps;
use podwright_sys::seccomp as filter;
use podwright_sys::timens::CLONE_NEWTIME;

pub use cgroup::CgroupPlan;
pub use context::Context;
pub use error::PlanError;
use error::Result;
pub use ids::{IdMap, IdRange, Mappings};
use namespaces::{Mounts, Namespaces, names, sysctls, time_offsets};
pub use net::{NetDevice, NetDevices};
pub use place::{Place, Unit};
pub use rdt::Rdt;
pub use resources::{Current, update};
pub use seccomp::Listener;
pub use step::{BindMount, DeviceNode, FsMount, Gate, MountMapping, SecurityModule, Step, TerminalSize};
pub use user::UserNamespace;
pub use write::{Absent, Write};

/// All that is done to make a container.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// Namespaces made by clone3(2). The cgroup namespace is not among them: it has to be made from inside the cgroup.
    pub namespaces: CloneFlags,
    /// A PID namespace to enter before the clone: it holds for children only.
    pub pid_namespace: Option<PathBuf>,
    /// Namespaces that a process in between enters, in order, which then makes the container's first process. Empty: none does.
    pub on_the_way: Vec<(CloneFlags, PathBuf)>,
    /// The user namespace, with what the runtime has to do for it.
    pub user: Option<UserNamespace>,
    /// The container's cgroup.
    pub cgroup: CgroupPlan,
    /// A mount that the runtime's own mount namespace gets, to be taken away with the container.
    pub host_mount: Option<PathBuf>,
    /// Whom the cgroup is given to: the process's user, where it can write there and is not the host's root.
    pub cgroup_owner: Option<u32>,
    /// Devices to move into the container's network namespace.
    pub net_devices: Option<NetDevices>,
    /// A group for caches and memory bandwidth.
    pub rdt: Option<Rdt>,
    /// The filter, to be compiled before the clone.
    pub seccomp: Option<filter::Profile>,
    /// Who gets the filter's listener.
    pub listener: Option<Listener>,
    /// What the container's first process does, in order; the last one is [`inside::Step::Exec`].
    pub steps: Vec<Step>,
}

/// All that is done to make another process in a container.
#[derive(Debug, Clone, PartialEq)]
pub struct ExecPlan {
    /// What it does, in order; the last one is [`inside::Step::Exec`].
    pub steps: Vec<Step>,
    /// The filter, to be compiled before the clone.
    pub seccomp: Option<filter::Profile>,
    /// Who gets the filter's listener.
    pub listener: Option<Listener>,
    /// Processors that the runtime keeps to from before it makes the process.
    pub first_affinity: Option<Vec<u32>>,
}

/// Plans a container.
///
/// # Errors
/// [`PlanError`] for the first field that is invalid or not supported.
pub fn container(spec: &Spec, context: &Context<'_>) -> Result<Plan> {
    let linux = spec.linux().as_ref().ok_or_else(|| PlanError::new("linux", "is missing; this runtime needs it"))?;
    refuse(spec)?;
    spec.hooks().as_ref().map_or(Ok(()), crate::hooks::check)?;
    let nobody;
    if let Some(process) = spec.process() {
        // For `exec`, which would be late to find out.
        schedule::affinity(process)?;
    }
    let process = match (spec.process(), context.gate) {
        (Some(process), _) => process,
        (None, Gate::Go) => return Err(PlanError::new("process", "is missing; there is nothing to start")),
        (None, Gate::Start) => {
            nobody = process::nobody()?;
            &nobody
        }
    };
    let namespaces = Namespaces::of(linux)?;
    let user = UserNamespace::of(linux, spec.process().as_ref(), &namespaces)?;
    let on_the_way = namespaces.on_the_way();
    let (seccomp, listener) = linux.seccomp().as_ref().map(seccomp::plan).transpose()?.unzip();
    let listener = listener.flatten();
    let scene = Scene { spec, linux, process, context, namespaces: &namespaces, user: user.as_ref() };
    let mut steps = Vec::with_capacity(64);
    steps.extend(scene.entry(!on_the_way.is_empty())?);
    steps.extend(names(spec, &namespaces)?);
    steps.extend(scene.file_system()?);
    if spec.process().is_some() {
        steps.extend(process::attach(process));
        steps.extend(hooks_and_gate(spec, process, context.gate, listener.is_some())?);
        steps.extend(process::steps(process, Some(linux), false)?);
    } else {
        steps.extend([Step::Await(context.gate), Step::NoProcess]);
    }
    let host_mount = steps.iter().find_map(|step| match step {
        Step::BindRoot { path, .. } if namespaces.mounts() == Mounts::Inherited => Some(path.clone()),
        _ => None,
    });
    Ok(Plan {
        namespaces: namespaces.new,
        cgroup: CgroupPlan {
            open: writes_cgroup(&steps),
            ..resources::plan(linux.resources().as_ref(), place::of(spec, linux, context)?)?
        },
        cgroup_owner: cgroup_owner(process.user().uid(), user.as_ref(), &namespaces, &steps),
        host_mount,
        net_devices: net::plan(linux, &namespaces)?,
        rdt: rdt::plan(linux, context.id)?,
        pid_namespace: namespaces.pid.filter(|_| on_the_way.is_empty()),
        on_the_way,
        user,
        seccomp,
        listener,
        steps,
    })
}

/// Plans another process for the container `id`, which runs: what it does after it has entered the namespaces, and its filter.
///
/// # Errors
/// [`PlanError`] for the first field that is invalid or not supported.
pub fn exec(spec: &Spec, process: &Process, id: &str) -> Result<ExecPlan> {
    let linux = spec.linux().as_ref();
    let seccomp = linux.and_then(|linux| linux.seccomp().as_ref());
    let namespaces = linux.map(Namespaces::of).transpose()?;
    let owns = |kind| namespaces.as_ref().is_some_and(|namespaces| namespaces.owns(kind));
    let mut enter = CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWIPC
        | CloneFlags::CLONE_NEWUTS
        | CloneFlags::CLONE_NEWNET
        | CloneFlags::CLONE_NEWCGROUP;
    let sets = process::Sets::of(process)?;
    let traceable = may_trace(spec, &sets)?;
    enter.set(CloneFlags::CLONE_NEWPID, traceable);
    // Entering one's own user namespace is an error, and time namespaces are newer than the rest.
    enter.extend([CloneFlags::CLONE_NEWUSER, CLONE_NEWTIME].into_iter().filter(|kind| owns(*kind)));
    let affinity = schedule::affinity(process)?;
    let mut steps: Vec<Step> = oom_score_adj(process).collect();
    let session_keyring = session_keyring(id);
    let enter = Step::from(inside::Step::Enter(enter));
    steps.extend(process::modules(process));
    if owns(CloneFlags::CLONE_NEWUSER) {
        steps.extend(process::raised_limits(process)?);
        steps.extend([inside::Step::DropGroups.into(), enter, session_keyring]);
    } else {
        steps.extend([session_keyring, enter]);
    }
    if namespaces.as_ref().is_some_and(|namespaces| namespaces.mounts() != Mounts::Own) {
        steps.push(Step::EnterRoot);
    }
    steps.extend(process::terminal(process, false)?);
    steps.extend(process::attach(process));
    steps.push(Step::Await(Gate::Go));
    steps.extend(affinity.last.map(|list| inside::Step::Affinity(list).into()));
    steps.extend(process::steps(process, linux, traceable)?);
    if traceable {
        steps = out_of_sight(steps, &sets);
    }
    let (seccomp, listener) = seccomp.map(seccomp::plan).transpose()?.unzip();
    Ok(ExecPlan { steps, seccomp, listener: listener.flatten(), first_affinity: affinity.first })
}

fn oom_score_adj(process: &Process) -> impl Iterator<Item = Step> {
    process.oom_score_adj().map(|value| inside::Step::OomScoreAdj(value).into()).into_iter()
}

/// All processes of a container have one.
fn session_keyring(id: &str) -> Step {
    inside::Step::SessionKeyring(format!("_ses.{id}")).into()
}

/// Whether a process of the container can look into any other that it sees, whatever that has done against it.
fn may_trace(spec: &Spec, process: &process::Sets) -> Result<bool> {
    let container = spec.process().as_ref().map(process::Sets::of).transpose()?.unwrap_or_default();
    Ok(container.bounding.union(process.bounding).contains(caps::SYS_PTRACE))
}

/// Puts all that needs privileges or the host before the process that the container gets to see, which begins with nothing that the
/// container does not have: another process does that in its namespaces, but not in its PID namespace (CVE-2016-9962).
fn out_of_sight(steps: Vec<Step>, sets: &process::Sets) -> Vec<Step> {
    let (seen, mut hidden): (Vec<Step>, Vec<Step>) = steps.into_iter().partition(|step| {
        matches!(
            step,
            Step::AttachTerminal
                | Step::Await(_)
                | Step::Inside(
                    inside::Step::NewSession
                        // A process under SCHED_DEADLINE cannot be cloned.
                        | inside::Step::Scheduler(_)
                        | inside::Step::LoadFilter
                        | inside::Step::Capabilities { .. }
                        | inside::Step::NoNewPrivileges
                        | inside::Step::Exec(_)
                )
        )
    });
    let mut kept = sets.permitted.union(sets.effective).union(sets.inheritable);
    if seen.iter().any(|step| matches!(step, Step::Inside(inside::Step::Scheduler(_)))) {
        kept = kept.union(caps::SYS_NICE);
    }
    hidden.extend([inside::Step::KeepCapabilities(kept).into(), Step::Succeed]);
    hidden.extend(seen);
    hidden
}

/// Who executes the program gets the cgroup where there is a new cgroup namespace with its root mounted for writing (runtime-spec,
/// config-linux.md, "Cgroup ownership").
fn cgroup_owner(uid: u32, user: Option<&UserNamespace>, namespaces: &Namespaces, steps: &[Step]) -> Option<u32> {
    let owner = match user {
        None => Some(uid).filter(|uid| *uid != 0),
        Some(user) if user.new => user.mappings.as_ref()?.uids.outside(uid),
        Some(_) => None,
    };
    owner.filter(|_| namespaces.unshare_cgroup && writes_cgroup(steps))
}

/// Whether the container's cgroup is mounted for writing.
fn writes_cgroup(steps: &[Step]) -> bool {
    let writable = |step: &Step| matches!(step, Step::MountCgroup { flags, .. } if !flags.contains(MsFlags::MS_RDONLY));
    steps.iter().any(writable)
}

/// What the file system is planned from.
struct Scene<'a> {
    spec: &'a Spec,
    linux: &'a Linux,
    process: &'a Process,
    context: &'a Context<'a>,
    namespaces: &'a Namespaces,
    user: Option<&'a UserNamespace>,
}

impl Scene<'_> {
    /// Everything from the clone to being root of a root file system that is a mount.
    fn entry(&self, joined: bool) -> Result<Vec<Step>> {
        let Self { linux, process, context, namespaces, user, .. } = *self;
        let mut steps = Vec::new();
        if let Some(user) = user {
            steps.push(Step::AwaitMappings);
            steps.extend(user.mappings.iter().filter(|_| !user.new).cloned().map(Step::CheckMappings));
        }
        if !joined {
            steps.extend(namespaces.joins.iter().cloned().map(|(kind, path)| Step::Join { kind, path }));
        }
        steps.extend(namespaces.unshare_cgroup.then_some(Step::UnshareCgroup));
        steps.extend(time_offsets(linux, namespaces)?);
        let keyring = context.keyring.then(|| session_keyring(context.id));
        if user.is_none() {
            steps.extend(keyring.clone());
            steps.extend(oom_score_adj(process));
            // Limits that cannot be had are an error of `create`, though they hold from `start` on.
            if context.gate == Gate::Start {
                steps.extend(process::raised_limits(process)?);
            }
        }
        steps.extend(process::modules(process));
        if mount_label(linux)?.is_some() {
            steps.push(Step::FindModule { module: SecurityModule::SeLinux, field: "linux.mountLabel" });
        }
        steps.extend(self.root()?);
        if let Some(user) = user {
            steps.push(Step::BecomeRoot { uid: user.uid, gid: user.gid });
            steps.extend(keyring);
        }
        Ok(steps)
    }

    /// The root file system, as a mount.
    fn root(&self) -> Result<Vec<Step>> {
        let root = self.spec.root().as_ref().ok_or_else(|| PlanError::new("root", "is missing"))?;
        let (initial, _) = root_propagation(self.linux)?;
        if root.path().as_os_str().is_empty() {
            return Err(PlanError::new("root.path", "is missing"));
        }
        let path = self.context.bundle.join(root.path());
        let own = self.namespaces.mounts() == Mounts::Own;
        let mut steps = Vec::new();
        // It would be everybody's in the namespace.
        steps.extend(own.then_some(Step::Propagation(initial)));
        // What a namespace that is joined has at this path may be something else.
        steps.push(Step::BindRoot { path, early: self.user.is_some() || !own });
        Ok(steps)
    }

    /// Everything between the root and its becoming the root.
    fn file_system(&self) -> Result<Vec<Step>> {
        let Self { spec, linux, process, context, namespaces, user } = *self;
        let (initial, propagation) = root_propagation(linux)?;
        let view =
            mounts::View { bundle: context.bundle, namespaces, user, propagation: initial, label: mount_label(linux)? };
        let mut steps = mounts::plan(spec.mounts().as_deref().unwrap_or_default(), &view)?;
        let seals = steps.iter().any(|step| matches!(step, Step::MountFs(mount) if mount.seal));
        let host_dev = steps.iter().any(|step| matches!(step, Step::Bind(bind) if bind.target == Path::new("/dev")));
        // With the host's /dev bound in, making nodes there would make them on the host.
        let nodes = devices::plan(linux.devices().as_deref().unwrap_or_default(), !host_dev)?;
        if !nodes.is_empty() {
            steps.push(Step::Devices(nodes));
        }
        if !host_dev {
            steps.push(Step::DevLinks);
        }
        steps.extend(process::terminal(process, true)?);
        steps.push(Step::MakeCwd(process.cwd().clone()));
        steps.extend(sysctls(linux, namespaces)?);
        steps.extend(runtime_hooks(spec));
        if seals {
            steps.push(Step::SealMounts);
        }
        for path in paths(linux.readonly_paths().as_ref(), "linux.readonlyPaths")? {
            steps.push(Step::ReadonlyPath(path));
        }
        for path in paths(linux.masked_paths().as_ref(), "linux.maskedPaths")? {
            steps.push(Step::Mask(path));
        }
        if spec.root().as_ref().is_some_and(|root| root.readonly() == Some(true)) {
            steps.push(Step::ReadonlyRoot);
        }
        steps.push(match (namespaces.mounts(), context.pivot) {
            (Mounts::Own, true) => Step::PivotRoot,
            (Mounts::Own, false) => Step::MoveRoot,
            (Mounts::Joined | Mounts::Inherited, _) => Step::Chroot,
        });
        steps.extend(propagation.map(Step::RootPropagation));
        Ok(steps)
    }
}

/// Paths in the container, all absolute.
fn paths(list: Option<&Vec<String>>, field: &str) -> Result<Vec<PathBuf>> {
    let path = |(index, path): (usize, &String)| match path.starts_with('/') {
        // What is put over the root is not seen by who is there already.
        true if Path::new(path).file_name().is_none() => Err(PlanError::new(
            format!("{field}[{index}]"),
            format!("{path:?} is the root; a path below it is accepted"),
        )),
        true => Ok(path.into()),
        false => Err(PlanError::new(format!("{field}[{index}]"), format!("{path:?} is not absolute"))),
    };
    list.into_iter().flatten().enumerate().map(path).collect()
}

fn mount_label(linux: &Linux) -> Result<Option<&str>> {
    match linux.mount_label().as_deref().filter(|label| !label.is_empty()) {
        Some(label) if label.contains(['"', '\\', '\0']) => {
            Err(PlanError::new("linux.mountLabel", format!("{label:?} found, which is no SELinux context")))
        }
        label => Ok(label),
    }
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
        // A group of its own, not the host's.
        "shared" => Ok((MsFlags::MS_SLAVE, Some(MsFlags::MS_SHARED))),
        "rshared" => Ok((MsFlags::MS_SLAVE, Some(MsFlags::MS_SHARED | MsFlags::MS_REC))),
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

fn hooks_and_gate(spec: &Spec, process: &Process, gate: Gate, listens: bool) -> Result<Vec<Step>> {
    let mut steps = Vec::new();
    if gate == Gate::Start {
        steps.push(Step::FindProgram { program: process::program(process)?, cwd: process.cwd().clone() });
        // `create` applies all but `process`, and agents wait for the listener before they call `start`.
        steps.extend(listens.then_some(Step::OfferListener));
    }
    steps.push(Step::Await(gate));
    if spec.hooks().as_ref().and_then(|hooks| hooks.start_container().as_ref()).is_some_and(|list| !list.is_empty()) {
        steps.push(Step::StartContainerHooks { env: process.env().clone().unwrap_or_default() });
    }
    Ok(steps)
}

/// The mount options that are understood.
#[must_use]
pub fn mount_options() -> Vec<String> {
    mounts::option_names()
}

/// Modes and flags of `linux.memoryPolicy`, by name.
#[must_use]
pub fn memory_policies() -> serde_json::Value {
    serde_json::json!({
        "modes": schedule::MEMORY_MODES.map(|(mode, _)| mode),
        "flags": schedule::MEMORY_FLAGS.map(|(flag, _)| flag),
    })
}

/// The architectures that a profile may name. Those that this host does not have say nothing there.
#[must_use]
pub fn seccomp_architectures() -> Vec<String> {
    seccomp::architectures()
}

/// Refuses what would otherwise be ignored.
fn refuse(spec: &Spec) -> Result<()> {
    let foreign = [
        ("solaris", spec.solaris().is_some()),
        ("vm", spec.vm().is_some()),
        ("windows", spec.windows().is_some()),
        ("zos", spec.zos().is_some()),
    ];
    if let Some((field, _)) = foreign.into_iter().find(|(_, present)| *present) {
        return Err(PlanError::new(field, crate::config::FOREIGN));
    }
    let accepted = |c: char| c.is_ascii_alphanumeric() || ".-+".contains(c);
    let minor = spec.version().strip_prefix("1.").filter(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
    if minor.is_none_or(|rest| !rest.chars().all(accepted)) {
        return Err(PlanError::new("ociVersion", format!("{:?} found, 1.x accepted", spec.version())));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
