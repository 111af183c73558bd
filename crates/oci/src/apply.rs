//! Does the steps of a plan in the container's first process. No decisions here: what is to be done, and in which order, is
//! the plan's.
//!
//! Everything below the container's root is resolved by [`Root`], to a descriptor, once. Until the root has changed, `/proc`
//! is the host's; nothing after that needs a `/proc`.

mod mounts;
mod process;
mod terminal;

use std::fs::{self, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::stat::{Mode, umask};
use nix::sys::statfs::{PROC_SUPER_MAGIC, fstatfs};
use oci_spec::runtime::Hooks;
use podwright_sys::path::Root;
use podwright_sys::process as sys_process;
use podwright_sys::seccomp::Program as Filter;

use crate::error::chain;
use crate::hooks::{self, HookState};
use crate::plan::{Gate, Step};
use crate::sync;

/// Exit status of a first process that could not become the program; its reason went to the runtime.
const FAILED: i32 = 1;

/// Why a step failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StepError {
    #[error("{what}")]
    Kernel { what: String, source: Errno },
    #[error("exec: {name:?}")]
    Exec { name: String, source: Errno },
    #[error("exec: {0:?}: executable file not found in $PATH")]
    NotInPath(String),
    #[error("{path}: a symlink; a file system of type {fstype} is mounted on plain directories only")]
    Symlink { path: String, fstype: String },
    #[error("{0}: is not in a proc file system")]
    NotProc(String),
    #[error("linux.sysctl: {0}: the container shares the host's {1} namespace, so it would change the host")]
    HostSysctl(String, &'static str),
    #[error("{0}: exists and is another device")]
    WrongDevice(String),
    #[error("process.terminal: send it to the console socket")]
    Console(#[source] std::io::Error),
    #[error("the runtime has ended")]
    RuntimeGone,
    #[error("waiting to be started")]
    Start(#[source] std::io::Error),
    #[error(transparent)]
    Hook(#[from] crate::Error),
    #[error("a step of the plan comes before what it needs")]
    Misplaced,
    #[error("the plan does not end with a program")]
    NoProgram,
}

type Result<T> = std::result::Result<T, StepError>;

fn kernel(what: impl Into<String>) -> impl FnOnce(Errno) -> StepError {
    let what = what.into();
    move |source| StepError::Kernel { what, source }
}

/// What the first process is given by the runtime.
pub(crate) struct Init<'a> {
    /// Where errors go: the runtime at first, `start` later.
    pub(crate) report: UnixStream,
    /// Where `start` will knock.
    pub(crate) listener: Option<UnixListener>,
    /// The compiled filter.
    pub(crate) filter: Option<&'a Filter>,
    /// The container's cgroup.
    pub(crate) cgroup: &'a Path,
    /// Enter the cgroup first, since the clone could not.
    pub(crate) enter_cgroup: bool,
    /// Another container's process whose namespaces to enter first.
    pub(crate) target: Option<&'a OwnedFd>,
    /// Descriptors after the first three that the program gets.
    pub(crate) preserve: u32,
    /// Whom to send the terminal's master.
    pub(crate) console: Option<UnixStream>,
    /// Name of the session keyring.
    pub(crate) id: &'a str,
    /// The configuration's hooks, and the state that they get.
    pub(crate) hooks: Option<&'a Hooks>,
    /// For the hooks' standard input.
    pub(crate) state: HookState<'a>,
}

/// All that steps leave for later steps.
struct Progress<'a> {
    init: Init<'a>,
    root: Option<Root>,
    sealed: Vec<OwnedFd>,
    null: Option<OwnedFd>,
    terminal: Option<OwnedFd>,
}

/// The namespaces of a container, entered through its first process.
const ALL_BUT_PID: CloneFlags = CloneFlags::CLONE_NEWNS
    .union(CloneFlags::CLONE_NEWIPC)
    .union(CloneFlags::CLONE_NEWUTS)
    .union(CloneFlags::CLONE_NEWNET)
    .union(CloneFlags::CLONE_NEWCGROUP);

/// Does all steps. Returns only on failure, which it has reported: the exit status.
pub(crate) fn run(init: Init<'_>, steps: &[Step]) -> i32 {
    let mut progress = Progress { init, root: None, sealed: Vec::new(), null: None, terminal: None };
    // Modes of nodes and mount points are what the configuration says; `Step::Umask` sets the program's.
    umask(Mode::empty());
    let result = prepare(&mut progress).and_then(|()| steps.iter().try_for_each(|step| apply(&mut progress, step)));
    let error = result.err().unwrap_or(StepError::NoProgram);
    sync::send_error(&mut progress.init.report, &chain(&error));
    FAILED
}

fn prepare(progress: &mut Progress<'_>) -> Result<()> {
    if progress.init.enter_cgroup {
        let path = progress.init.cgroup.join("cgroup.procs");
        let entered = OpenOptions::new().write(true).open(&path).and_then(|mut file| file.write_all(b"0"));
        entered.map_err(|err| kernel(format!("write {}", path.display()))(errno_of(&err)))?;
    }
    Ok(())
}

fn apply(progress: &mut Progress<'_>, step: &Step) -> Result<()> {
    match step {
        Step::Join { kind, path } => join(*kind, path),
        Step::EnterContainer => match progress.init.target {
            Some(target) => setns(target, ALL_BUT_PID).map_err(kernel("enter the container's namespaces")),
            None => Ok(()),
        },
        Step::UnshareCgroup => unshare(CloneFlags::CLONE_NEWCGROUP).map_err(kernel("make a cgroup namespace")),
        Step::SessionKeyring => session_keyring(progress.init.id),
        Step::OomScoreAdj(value) => write_proc(Path::new("/proc/self/oom_score_adj"), &value.to_string()),
        Step::Hostname(name) => nix::unistd::sethostname(name).map_err(kernel("hostname")),
        Step::Domainname(name) => sys_process::set_domainname(name).map_err(kernel("domainname")),
        Step::Propagation(_)
        | Step::BindRoot(_)
        | Step::MountFs(_)
        | Step::Bind(_)
        | Step::MountCgroup { .. }
        | Step::Devices(_)
        | Step::DevLinks
        | Step::MakeCwd(_)
        | Step::SealMounts
        | Step::Mask(_)
        | Step::ReadonlyPath(_)
        | Step::ReadonlyRoot
        | Step::PivotRoot
        | Step::MoveRoot
        | Step::RootPropagation(_) => mounts::apply(progress, step),
        Step::OpenTerminal { .. } | Step::AttachTerminal => terminal::apply(progress, step),
        Step::Sysctl { path, value, shared_namespace } => sysctl(path, value, *shared_namespace),
        Step::RuntimeHooks => sync::ask_for_hooks(&mut progress.init.report).map_err(|_| StepError::RuntimeGone),
        Step::CreateContainerHooks => run_hooks(
            progress,
            "createContainer",
            progress.init.hooks.and_then(|hooks| hooks.create_container().as_ref()),
        ),
        Step::StartContainerHooks => run_hooks(
            progress,
            "startContainer",
            progress.init.hooks.and_then(|hooks| hooks.start_container().as_ref()),
        ),
        Step::Await(Gate::Go) => sync::wait_for_go(&mut progress.init.report).map_err(|_| StepError::RuntimeGone),
        Step::Await(Gate::Start) => wait_for_start(&mut progress.init),
        Step::LoadFilter => match progress.init.filter {
            Some(filter) => filter.load().map_err(kernel("linux.seccomp")),
            None => Ok(()),
        },
        Step::CloseDescriptors => {
            sys_process::close_on_exec_from(3 + progress.init.preserve).map_err(kernel("close_range"))
        }
        Step::FindProgram { .. }
        | Step::OwnStdio(_)
        | Step::Rlimit { .. }
        | Step::ResetSignals
        | Step::NewSession
        | Step::Chdir(_)
        | Step::LimitBounding(_)
        | Step::SwitchUser { .. }
        | Step::Capabilities { .. }
        | Step::NoNewPrivileges
        | Step::Umask(_)
        | Step::Exec(_) => process::apply(step),
    }
}

fn join(kind: CloneFlags, path: &Path) -> Result<()> {
    let what = || format!("linux.namespaces: enter {}", path.display());
    let file = nix::fcntl::open(path, OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty()).map_err(kernel(what()))?;
    setns(file, kind).map_err(kernel(what()))
}

fn session_keyring(id: &str) -> Result<()> {
    let name = std::ffi::CString::new(format!("_ses.{id}")).map_err(|_| kernel("session keyring")(Errno::EINVAL))?;
    match sys_process::join_session_keyring(&name) {
        // The quota of keys is per user and host; a container is not refused for it.
        Ok(()) | Err(Errno::EDQUOT) => Ok(()),
        Err(errno) => Err(kernel("session keyring")(errno)),
    }
}

/// Writes a file of procfs, having made sure that it is one: what answers under the name `/proc` may be something else.
fn write_proc(path: &Path, value: &str) -> Result<()> {
    let what = || format!("write {value:?} to {}", path.display());
    let mut file = OpenOptions::new().write(true).open(path).map_err(|err| kernel(what())(errno_of(&err)))?;
    if fstatfs(&file).map_err(kernel(what()))?.filesystem_type() != PROC_SUPER_MAGIC {
        return Err(StepError::NotProc(path.display().to_string()));
    }
    file.write_all(value.as_bytes()).map_err(|err| kernel(what())(errno_of(&err)))
}

fn sysctl(path: &Path, value: &str, shared_namespace: Option<&'static str>) -> Result<()> {
    if let Some(kind) = shared_namespace {
        let of = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/{kind}"));
        let differs = matches!((of("self"), of("1")), (Ok(own), Ok(host)) if own != host);
        if !differs {
            return Err(StepError::HostSysctl(path.display().to_string(), kind));
        }
    }
    write_proc(&Path::new("/proc/sys").join(path), value)
}

fn run_hooks(progress: &Progress<'_>, kind: &'static str, list: Option<&Vec<oci_spec::runtime::Hook>>) -> Result<()> {
    let status = if kind == "createContainer" { "creating" } else { "created" };
    let state = progress.init.state.json(status, nix::unistd::getpid().as_raw());
    hooks::run_all(kind, list.map(Vec::as_slice).unwrap_or_default(), &state).map_err(StepError::Hook)
}

/// Tells the runtime that all is ready, then waits for `start`, who is told of errors from here on.
fn wait_for_start(init: &mut Init<'_>) -> Result<()> {
    sync::send_ready(&mut init.report).map_err(|_| StepError::RuntimeGone)?;
    let listener = init.listener.take().ok_or(StepError::RuntimeGone)?;
    let (mut connection, _) = listener.accept().map_err(StepError::Start)?;
    let mut byte = [0];
    connection.read_exact(&mut byte).map_err(StepError::Start)?;
    init.report = connection;
    Ok(())
}

fn errno_of(error: &std::io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::EIO, Errno::from_raw)
}

fn show(path: &Path) -> String {
    PathBuf::from(path).display().to_string()
}
