//! `exec`: another process in a container that runs.

use std::collections::{HashSet, VecDeque};
use std::fs;
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sched::{CloneFlags, setns};
use nix::sys::stat::Mode;
use nix::sys::wait::WaitStatus;
use nix::unistd::Pid;
use oci_spec::runtime::{Capability, Process, Spec, User};
use podwright_sys::cgroup::{Cgroup, v2_mount};
use podwright_sys::process::{self, Cloned};
use podwright_sys::sched;

use super::control::{first_process, hook_state};
use super::launch::clone_into;
use super::terminal::Console;
use super::{attend_to_end, descriptors, hold_signals, listener, read_json, terminal, wrong_status};
use crate::apply::{self, Init};
use crate::error::{Error, Result, file, kernel};
use crate::hooks::HookState;
use crate::log;
use crate::plan::{self, PlanError, Step};
use crate::state::{LOCK_TIMEOUT, State, StateDir, Status, replace};
use crate::sync::{self, Said};

/// What is to run.
#[derive(Debug, Clone)]
pub enum Command {
    /// A file with the specification's `process` object.
    File(PathBuf),
    /// The container's own `process` with these changes.
    Changed(Changes),
}

/// What differs from the container's own `process`.
#[derive(Debug, Clone, Default)]
pub struct Changes {
    /// Program and arguments.
    pub args: Vec<String>,
    /// `KEY=VALUE`, instead of the container's or besides them.
    pub env: Vec<String>,
    /// Working directory.
    pub cwd: Option<PathBuf>,
    /// User and group.
    pub user: Option<(u32, Option<u32>)>,
    /// Groups besides the container's.
    pub groups: Vec<u32>,
    /// Capabilities besides the container's.
    pub capabilities: Vec<String>,
    /// Whether it may gain privileges by execve(2).
    pub no_new_privileges: Option<bool>,
    /// AppArmor profile.
    pub apparmor: Option<String>,
    /// Whether it gets a terminal.
    pub terminal: bool,
    /// SELinux label.
    pub selinux: Option<String>,
}

/// What `exec` is given.
#[derive(Debug, Clone)]
pub struct ExecOptions {
    /// Where states are kept.
    pub root: PathBuf,
    /// The container.
    pub id: String,
    /// What is to run.
    pub command: Command,
    /// Return as soon as it runs.
    pub detach: bool,
    /// Where its pid is written to.
    pub pid_file: Option<PathBuf>,
    /// Descriptors after the first three that it gets.
    pub preserve_fds: u32,
    /// The Unix socket that gets the master of its terminal, if it has one.
    pub console_socket: Option<PathBuf>,
    /// The Unix socket that gets its pidfd.
    pub pidfd_socket: Option<PathBuf>,
    /// A cgroup below the container's own, which exists, for it to run in.
    pub cgroup: Option<PathBuf>,
    /// Whether it may be started in a paused container, where it waits for `resume` like the rest.
    pub ignore_paused: bool,
}

/// Runs a process in a container. Without `detach`, waits for its end and gives its exit status.
///
/// # Errors
/// [`Error::NotFound`], [`Error::WrongStatus`]; [`Error::Container`] when the program cannot be executed.
pub fn exec(options: &ExecOptions) -> Result<i32> {
    let passed = descriptors::of_this_process(options.preserve_fds)?;
    let dir = StateDir::new(&options.root, &options.id)?;
    let mut state = dir.load()?;
    let mut status = dir.status(state.as_ref())?;
    if status == Status::Creating {
        // Its program may be at work already, and the runtime just not have noticed.
        dir.wait_until_made(LOCK_TIMEOUT)?;
        state = dir.load()?;
        status = dir.status(state.as_ref())?;
    }
    let allowed = match status {
        Status::Running | Status::Created => true,
        Status::Paused => options.ignore_paused,
        Status::Creating | Status::Stopped => false,
    };
    let state = state.filter(|_| allowed).ok_or_else(|| wrong_status(&options.id, status, "exec"))?;
    let target = first_process(&state)?.ok_or_else(|| wrong_status(&options.id, Status::Stopped, "exec"))?;
    // What the container was made from, whatever has become of its bundle (runtime-spec, runtime.md, "Create").
    let spec: Spec = read_json(&dir.config())?;
    let process = process_of(&options.command, &spec, &state)?;
    let mut plan = plan::exec(&spec, &process, &options.id).map_err(|source| plan_error(options, &state, source))?;
    listener::check(plan.listener.as_ref()).map_err(|source| plan_error(options, &state, source))?;
    let filter = plan.seccomp.as_ref().map(|profile| profile.compile()).transpose()?;
    let Console { theirs: console, ours: own_console } =
        terminal::connect(&mut plan.steps, options.console_socket.as_deref(), !options.detach)?;
    if !options.detach {
        hold_signals()?;
    }
    let root = plan.steps.contains(&Step::EnterRoot).then(|| open_root(&state)).transpose()?;
    if let Some(list) = &plan.first_affinity {
        sched::set_affinity(list).map_err(kernel("process.execCPUAffinity.initial"))?;
        log::debug(|| format!("initial affinity: {}", sched::mask(list)));
    }
    let cgroup = cgroup_of(options, &state)?;
    let group = cgroup.open()?;
    let succeeded = plan.steps.contains(&Step::Succeed);
    if !succeeded {
        enter_pids(&target, &options.id)?;
    }
    let (mut ours, theirs) = UnixStream::pair().map_err(file("make", "socketpair"))?;
    let (cloned, inside) = match options.cgroup {
        Some(_) => clone_into(CloneFlags::empty(), &group)?,
        None => clone_beside(&group, &state)?,
    };
    let Cloned::Parent { pid, pidfd } = cloned else {
        drop((ours, own_console));
        let init = Init {
            report: theirs,
            listener: None,
            filter: filter.as_ref(),
            seccomp_listener: plan.listener.as_ref(),
            cgroup: cgroup.path(),
            enter_cgroup: !inside,
            target: Some(&target),
            target_root: root.as_ref(),
            passed: &passed,
            console,
            sources: VecDeque::new(),
            hooks: None,
            state: HookState { id: &options.id, bundle: &state.bundle, annotations: None },
        };
        apply::run(init, &plan.steps);
    };
    drop((theirs, console));
    let (pid, pidfd) = if succeeded { successor(&pidfd, &mut ours)? } else { (pid, pidfd) };
    let sent = terminal::send_pidfd(options.pidfd_socket.as_deref(), &pidfd);
    sent.and_then(|()| attend(options, &state, pid.as_raw(), &mut ours)).inspect_err(|_| {
        // It may wait for a word that will not come.
        process::pidfd_send_signal(&pidfd, nix::libc::SIGKILL).ok();
        process::wait(&pidfd).ok();
    })?;
    if options.detach { Ok(0) } else { attend_to_end(&pidfd, own_console.as_ref()) }
}

/// For the children of this process.
fn enter_pids(target: &OwnedFd, id: &str) -> Result<()> {
    setns(target, CloneFlags::CLONE_NEWPID).map_err(|errno| match errno {
        Errno::ESRCH => wrong_status(id, Status::Stopped, "exec"),
        errno => kernel("enter the container's PID namespace")(errno),
    })
}

/// The process that goes on where one in between has ended ([`Step::Succeed`]). It is our child all the same.
fn successor(between: &OwnedFd, stream: &mut UnixStream) -> Result<(Pid, OwnedFd)> {
    let ended = process::wait(between).map_err(kernel("wait for the process in between"))?;
    if !matches!(ended, WaitStatus::Exited(_, 0)) {
        // One that nobody was told of waits for a word, and takes this for the end.
        stream.shutdown(Shutdown::Write).map_err(file("shut down", "the socket to the process in between"))?;
    }
    let said = sync::receive_pid(stream).map_err(file("read from", "the process in between"))?;
    let pid = Pid::from_raw(said.map_err(Error::Container)?);
    // Nobody but us waits for it, so the pid is its own.
    Ok((pid, process::pidfd_open(pid).map_err(kernel(format!("pidfd_open {pid}")))?))
}

fn attend(options: &ExecOptions, state: &State, pid: i32, stream: &mut UnixStream) -> Result<()> {
    if let Some(path) = &options.pid_file {
        replace(path, pid.to_string().as_bytes())?;
    }
    let mut lives = sync::send_go(stream).map_err(file("write to", "the new process"))?;
    loop {
        match sync::listen(stream).map_err(file("read from", "the new process"))? {
            Said::Failed(text) | Said::HookFailed(text) => return Err(Error::Container(text)),
            Said::Listener(listener) => {
                let json = hook_state(state).json(Status::Running.as_str(), state.pid);
                lives = listener::hand_over(stream, &listener, pid, &json)?;
            }
            Said::Executing if lives => return Ok(()),
            _ => return Err(Error::Container("the process ended before it could execute its program".into())),
        }
    }
}

/// The first process's root. That is known to be its own still, since its pidfd was opened before.
fn open_root(state: &State) -> Result<OwnedFd> {
    let path = format!("/proc/{}/root", state.pid);
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    open(path.as_str(), flags, Mode::empty()).map_err(kernel(format!("open {path}")))
}

fn cgroup_of(options: &ExecOptions, state: &State) -> Result<Cgroup> {
    let Some(below) = &options.cgroup else { return Ok(Cgroup::at(&state.cgroup)) };
    let below = below.strip_prefix("/").unwrap_or(below);
    if !below.components().all(|component| matches!(component, Component::Normal(_))) {
        let problem =
            format!("--cgroup {}: a path below the container's cgroup is accepted, without . or ..", below.display());
        return Err(Error::Usage(problem));
    }
    Ok(Cgroup::at(state.cgroup.join(below)))
}

/// Clones into the container's cgroup. A container that manages cgroups of its own may have made that one an inner node, which
/// holds no processes: then into the cgroup of the first process.
fn clone_beside(group: &OwnedFd, state: &State) -> Result<(Cloned, bool)> {
    use std::os::fd::AsFd as _;
    match process::clone(CloneFlags::empty(), Some(group.as_fd())) {
        Ok(cloned) => return Ok((cloned, true)),
        Err(Errno::EBUSY) => {}
        // A container whose first process has just ended takes no new processes.
        Err(Errno::ENOMEM) => return Err(Error::Container("the container has ended".into())),
        Err(_) => return clone_into(CloneFlags::empty(), group),
    }
    let path = format!("/proc/{}/cgroup", state.pid);
    let text = fs::read_to_string(&path).map_err(file("read", &path))?;
    let own = text.lines().find_map(|line| line.strip_prefix("0::/")).unwrap_or_default();
    let inner = Cgroup::at(v2_mount()?.join(own)).open()?;
    clone_into(CloneFlags::empty(), &inner)
}

fn process_of(command: &Command, spec: &Spec, state: &State) -> Result<Process> {
    let changes = match command {
        Command::File(path) => return Ok(confined(read_json(path)?, spec.process().as_ref())),
        Command::Changed(changes) => changes,
    };
    let process = spec.process().clone().ok_or_else(|| Error::Plan {
        path: state.bundle.join("config.json"),
        source: PlanError::new("process", "is missing, and --process is not given"),
    })?;
    changed(process, changes)
}

/// A process with the container's rights and labels where it names none, as runc and crun have it: it comes from the runtime, which is
/// not confined.
fn confined(mut process: Process, container: Option<&Process>) -> Process {
    let Some(container) = container else { return process };
    if process.capabilities().is_none() {
        process.set_capabilities(container.capabilities().clone());
    }
    if process.apparmor_profile().is_none() {
        process.set_apparmor_profile(container.apparmor_profile().clone());
    }
    if process.selinux_label().is_none() {
        process.set_selinux_label(container.selinux_label().clone());
    }
    process
}

fn changed(mut process: Process, changes: &Changes) -> Result<Process> {
    process.set_args(Some(changes.args.clone()));
    process.set_env(Some(merged(process.env().clone().unwrap_or_default(), &changes.env)));
    process.set_terminal(Some(changes.terminal));
    if let Some(cwd) = &changes.cwd {
        process.set_cwd(cwd.clone());
    }
    if let Some((uid, gid)) = changes.user {
        let mut chosen = User::default();
        chosen.set_uid(uid).set_gid(gid.unwrap_or(0)).set_umask(process.user().umask());
        process.set_user(chosen);
    }
    if !changes.groups.is_empty() {
        let mut user = process.user().clone();
        let groups = user.additional_gids().iter().flatten().chain(&changes.groups).copied().collect();
        user.set_additional_gids(Some(groups));
        process.set_user(user);
    }
    if changes.no_new_privileges.is_some() {
        process.set_no_new_privileges(changes.no_new_privileges);
    }
    if changes.apparmor.is_some() {
        process.set_apparmor_profile(changes.apparmor.clone());
    }
    if changes.selinux.is_some() {
        process.set_selinux_label(changes.selinux.clone());
    }
    add_capabilities(&mut process, &changes.capabilities)?;
    Ok(process)
}

/// Adds to the sets that matter at once; to the ambient one only where the container has inheritable ones, as runc does.
fn add_capabilities(process: &mut Process, names: &[String]) -> Result<()> {
    if names.is_empty() {
        return Ok(());
    }
    let parse = |name: &String| {
        let full = if name.starts_with("CAP_") { name.clone() } else { format!("CAP_{name}") };
        let parsed = serde_json::from_value::<Capability>(full.into());
        parsed.map_err(|_| Error::Usage(format!("--cap {name:?}: a name such as CAP_NET_ADMIN is accepted")))
    };
    let added = names.iter().map(parse).collect::<Result<HashSet<_>>>()?;
    let mut sets = process.capabilities().clone().unwrap_or_default();
    let with = |set: &Option<HashSet<Capability>>| Some(set.iter().flatten().chain(&added).copied().collect());
    let (bounding, effective, permitted) = (with(sets.bounding()), with(sets.effective()), with(sets.permitted()));
    if sets.inheritable().as_ref().is_some_and(|set| !set.is_empty()) {
        let ambient = with(sets.ambient());
        sets.set_ambient(ambient);
    }
    sets.set_bounding(bounding).set_effective(effective).set_permitted(permitted);
    process.set_capabilities(Some(sets));
    Ok(())
}

/// The environment with some variables replaced or added.
fn merged(mut env: Vec<String>, changes: &[String]) -> Vec<String> {
    let key = |entry: &str| entry.split('=').next().unwrap_or_default().to_owned();
    env.retain(|entry| !changes.iter().any(|change| key(change) == key(entry)));
    env.extend_from_slice(changes);
    env
}

fn plan_error(options: &ExecOptions, state: &State, source: PlanError) -> Error {
    let path = match &options.command {
        Command::File(path) => path.clone(),
        Command::Changed(_) => Path::new(&state.bundle).join("config.json"),
    };
    Error::Plan { path, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_without_labels_is_confined_as_the_container_is() {
        let process = |value: serde_json::Value| serde_json::from_value::<Process>(value).unwrap();
        let user = serde_json::json!({"uid": 0, "gid": 0});
        let container = process(serde_json::json!({
            "user": user, "cwd": "/", "apparmorProfile": "p", "selinuxLabel": "l", "capabilities": {"bounding": ["CAP_KILL"]}
        }));
        let found = confined(process(serde_json::json!({"user": user, "cwd": "/"})), Some(&container));
        assert_eq!((found.apparmor_profile(), found.selinux_label()), (&Some("p".into()), &Some("l".into())));
        assert_eq!(found.capabilities(), container.capabilities());
        let own = process(serde_json::json!({"user": user, "cwd": "/", "apparmorProfile": "", "capabilities": {}}));
        let found = confined(own.clone(), Some(&container));
        assert_eq!((found.apparmor_profile(), found.capabilities()), (own.apparmor_profile(), own.capabilities()));
    }

    #[test]
    fn later_variables_replace_earlier_ones() {
        let env = |list: &[&str]| list.iter().map(|&entry| entry.to_owned()).collect::<Vec<_>>();
        let got = merged(env(&["A=1", "B=2"]), &env(&["A=3", "C=4"]));
        assert_eq!(got, env(&["B=2", "A=3", "C=4"]));
    }
}
