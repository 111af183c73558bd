//! `exec`: another process in a container that runs.

use std::collections::VecDeque;
use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sched::{CloneFlags, setns};
use nix::sys::stat::Mode;
use oci_spec::runtime::{Process, Spec, User};
use podwright_sys::cgroup::{Cgroup, v2_mount};
use podwright_sys::process::{self, Cloned};
use podwright_sys::sched;

use super::control::{first_process, hook_state};
use super::{Passed, hold_signals, listener, load_config, read_json, terminal, wait_and_forward};
use crate::apply::{self, Init};
use crate::error::{Error, Result, file, kernel};
use crate::hooks::HookState;
use crate::plan::{self, PlanError, Step};
use crate::state::{State, StateDir, Status, replace};
use crate::sync::{self, Said};

/// What is to run.
#[derive(Debug, Clone)]
pub enum Command {
    /// A file with the specification's `process` object.
    File(PathBuf),
    /// The container's own `process` with these changes.
    Args {
        /// Program and arguments.
        args: Vec<String>,
        /// `KEY=VALUE`, instead of the container's or besides them.
        env: Vec<String>,
        /// Working directory.
        cwd: Option<PathBuf>,
        /// User and group.
        user: Option<(u32, Option<u32>)>,
    },
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
}

/// Runs a process in a container. Without `detach`, waits for its end and gives its exit status.
///
/// # Errors
/// [`Error::NotFound`], [`Error::WrongStatus`]; [`Error::Container`] when the program cannot be executed.
pub fn exec(options: &ExecOptions) -> Result<i32> {
    let passed = Passed::of_this_process(options.preserve_fds)?;
    let dir = StateDir::new(&options.root, &options.id)?;
    let state = dir.load()?;
    let status = dir.status(state.as_ref())?;
    let wrong = || Error::WrongStatus {
        id: options.id.clone(),
        found: status.as_str(),
        command: "exec",
        needed: "running or created",
    };
    let state = state.filter(|_| matches!(status, Status::Running | Status::Created)).ok_or_else(wrong)?;
    let target = first_process(&state)?.ok_or_else(wrong)?;
    let spec = load_config(&state.bundle)?;
    let process = process_of(&options.command, &spec, &state)?;
    let plan = plan::exec(&spec, &process).map_err(|source| plan_error(options, &state, source))?;
    listener::check(plan.listener.as_ref()).map_err(|source| plan_error(options, &state, source))?;
    let filter = plan.seccomp.as_ref().map(|profile| profile.compile()).transpose()?;
    let console = terminal::connect(&plan.steps, options.console_socket.as_deref())?;
    if !options.detach {
        hold_signals()?;
    }
    let root = plan.steps.contains(&Step::EnterRoot).then(|| open_root(&state)).transpose()?;
    if let Some(list) = &plan.first_affinity {
        sched::set_affinity(list).map_err(kernel("process.execCPUAffinity.initial"))?;
    }
    let group = current_cgroup(&state)?;
    setns(&target, CloneFlags::CLONE_NEWPID).map_err(kernel("enter the container's PID namespace"))?;
    let (mut ours, theirs) = UnixStream::pair().map_err(file("make", "socketpair"))?;
    let (cloned, inside) = clone_beside(&group, &state)?;
    let Cloned::Parent { pid, pidfd } = cloned else {
        drop(ours);
        let init = Init {
            report: theirs,
            listener: None,
            filter: filter.as_ref(),
            seccomp_listener: plan.listener.as_ref(),
            cgroup: &state.cgroup,
            enter_cgroup: !inside,
            target: Some(&target),
            target_root: root.as_ref(),
            passed: &passed,
            console,
            sources: VecDeque::new(),
            id: &options.id,
            hooks: None,
            state: HookState { id: &options.id, bundle: &state.bundle, annotations: None },
        };
        std::process::exit(apply::run(init, &plan.steps));
    };
    drop((theirs, console));
    attend(options, &state, pid.as_raw(), &mut ours).inspect_err(|_| {
        // It may wait for a word that will not come.
        process::pidfd_send_signal(&pidfd, nix::libc::SIGKILL).ok();
        process::wait(&pidfd).ok();
    })?;
    if options.detach { Ok(0) } else { wait_and_forward(&pidfd) }
}

fn attend(options: &ExecOptions, state: &State, pid: i32, stream: &mut UnixStream) -> Result<()> {
    if let Some(path) = &options.pid_file {
        replace(path, pid.to_string().as_bytes())?;
    }
    sync::send_go(stream).map_err(file("write to", "the new process"))?;
    loop {
        match sync::listen(stream).map_err(file("read from", "the new process"))? {
            Said::Failed(text) => return Err(Error::Container(text)),
            Said::Listener(listener) => {
                let json = hook_state(state).json(Status::Running.as_str(), state.pid);
                listener::hand_over(stream, &listener, pid, &json)?;
            }
            Said::Hooks | Said::Ready | Said::Executing => return Ok(()),
        }
    }
}

/// The first process's root. That is known to be its own still, since its pidfd was opened before.
fn open_root(state: &State) -> Result<OwnedFd> {
    let path = format!("/proc/{}/root", state.pid);
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    open(path.as_str(), flags, Mode::empty()).map_err(kernel(format!("open {path}")))
}

fn current_cgroup(state: &State) -> Result<OwnedFd> {
    Ok(Cgroup::at(&state.cgroup).open()?)
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
        Err(_) => return super::launch::clone_into(CloneFlags::empty(), group),
    }
    let path = format!("/proc/{}/cgroup", state.pid);
    let text = fs::read_to_string(&path).map_err(file("read", &path))?;
    let own = text.lines().find_map(|line| line.strip_prefix("0::/")).unwrap_or_default();
    let inner = Cgroup::at(v2_mount()?.join(own)).open()?;
    super::launch::clone_into(CloneFlags::empty(), &inner)
}

fn process_of(command: &Command, spec: &Spec, state: &State) -> Result<Process> {
    let (args, env, cwd, user) = match command {
        Command::File(path) => {
            return read_json(path);
        }
        Command::Args { args, env, cwd, user } => (args, env, cwd, user),
    };
    let mut process = spec.process().clone().ok_or_else(|| Error::Plan {
        path: state.bundle.join("config.json"),
        source: PlanError::new("process", "is missing, and --process is not given"),
    })?;
    process.set_args(Some(args.clone()));
    process.set_env(Some(merged(process.env().clone().unwrap_or_default(), env)));
    process.set_terminal(Some(false));
    if let Some(cwd) = cwd {
        process.set_cwd(cwd.clone());
    }
    if let Some((uid, gid)) = user {
        let mut chosen = User::default();
        chosen.set_uid(*uid).set_gid(gid.unwrap_or(0)).set_umask(process.user().umask());
        process.set_user(chosen);
    }
    Ok(process)
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
        Command::Args { .. } => Path::new(&state.bundle).join("config.json"),
    };
    Error::Plan { path, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn later_variables_replace_earlier_ones() {
        let env = |list: &[&str]| list.iter().map(|&entry| entry.to_owned()).collect::<Vec<_>>();
        let got = merged(env(&["A=1", "B=2"]), &env(&["A=3", "C=4"]));
        assert_eq!(got, env(&["B=2", "A=3", "C=4"]));
    }
}
