//! Does the steps of a plan in the container's first process. No decisions here: what is to be done, and in which order, is
//! the plan's.
//!
//! Everything below the container's root is resolved by [`Root`], to a descriptor, once. Until the root has changed, `/proc`
//! is the host's; nothing after that needs a `/proc`.

mod copy;
mod label;
mod mounts;
mod namespaces;
mod terminal;
mod user;

use std::collections::VecDeque;
use std::fs::OpenOptions;
use std::io::{Read as _, Write as _};
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sched::CloneFlags;
use nix::sys::stat::{Mode, umask};
use oci_spec::runtime::Hooks;
use podwright_inside::{self as inside, Passed};
use podwright_sys::path::Root;
use podwright_sys::process::{self as sys_process, Cloned};
use podwright_sys::procfs::Proc;
use podwright_sys::seccomp::{Aside, Program as Filter};

use crate::hooks::{self, HookState};
use crate::plan::{Gate, Listener, Step};
use crate::sync;
use podwright_sys::error::chain;

/// Exit status of a first process that could not become the program; its reason went to the runtime.
const FAILED: i32 = 1;

/// Why a step failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StepError {
    #[error("{what}")]
    Kernel { what: String, source: Errno },
    #[error(transparent)]
    Inside(#[from] inside::StepError),
    #[error("{path}: is a symlink; a file system of type {fstype} must be mounted on ordinary directory")]
    Symlink { path: String, fstype: String },
    #[error("copy up what is at {path}")]
    CopyUp { path: String, source: Errno },
    #[error("{0}: is not in a proc file system")]
    NotProc(String),
    #[error("{0}: in /proc; only some files there, such as /proc/meminfo, can be mounted on")]
    InsideProc(String),
    #[error("{0}: only a proc file system can be mounted here")]
    InsteadOfProc(String),
    #[error("linux.sysctl: {0}: the container shares the host's {1} namespace, so it would change the host")]
    HostSysctl(String, &'static str),
    #[error("{0}: the user namespace that was joined has other mappings: {1}")]
    WrongMappings(&'static str, String),
    #[error("{0}: exists and is another device")]
    WrongDevice(String),
    #[error("process.terminal: send it to the console socket")]
    Console(#[source] std::io::Error),
    #[error("{field}: is asked for, and this kernel runs without {module}")]
    NoModule { field: &'static str, module: &'static str },
    #[error("linux.seccomp.listenerPath: hand the listener over")]
    Listener(#[source] std::io::Error),
    #[error("the runtime has ended")]
    RuntimeGone,
    #[error("the container has ended")]
    ContainerEnded,
    #[error("waiting to be started")]
    Start(#[source] std::io::Error),
    #[error(transparent)]
    Hook(#[from] crate::Error),
    #[error("a step of the plan comes before what it needs")]
    Misplaced,
    #[error("process: is missing; there is nothing to start")]
    NoProcess,
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
    /// Who gets the filter's listener.
    pub(crate) seccomp_listener: Option<&'a Listener>,
    /// The container's cgroup.
    pub(crate) cgroup: &'a Path,
    /// Enter the cgroup first, since the clone could not.
    pub(crate) enter_cgroup: bool,
    /// Another container's process whose namespaces to enter first.
    pub(crate) target: Option<&'a OwnedFd>,
    /// Descriptors after the first three that the program gets.
    pub(crate) passed: &'a Passed,
    /// Whom to send the terminal's master.
    pub(crate) console: Option<UnixStream>,
    /// Its root, where entering its mount namespace does not lead there.
    pub(crate) target_root: Option<&'a OwnedFd>,
    /// What the runtime has opened for the steps that ask for it, in their order.
    pub(crate) sources: VecDeque<OwnedFd>,
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
    /// A filter whose listener has been handed over.
    aside: Option<Aside>,
    /// The host's, for what is written after its `/proc` is gone.
    proc: Option<Proc>,
}

impl Progress<'_> {
    fn context(&self) -> inside::Context<'_> {
        let Init { target, filter, passed, .. } = &self.init;
        let terminal = self.terminal.as_ref().map(AsFd::as_fd);
        inside::Context { target: target.map(AsFd::as_fd), filter: *filter, passed, terminal }
    }
}

impl Init<'_> {
    /// All descriptors that the steps need. Everything else is closed before the first of them; so that none is forgotten,
    /// all fields are named here.
    fn descriptors(&self) -> Vec<RawFd> {
        let Self {
            report,
            listener,
            target,
            console,
            target_root,
            sources,
            filter: _,
            seccomp_listener: _,
            cgroup: _,
            enter_cgroup: _,
            passed: _,
            hooks: _,
            state: _,
        } = self;
        let mut found = vec![report.as_raw_fd()];
        found.extend(listener.as_ref().map(AsRawFd::as_raw_fd));
        found.extend(console.as_ref().map(AsRawFd::as_raw_fd));
        found.extend(target.iter().chain(target_root).map(|fd| fd.as_raw_fd()));
        found.extend(sources.iter().map(AsRawFd::as_raw_fd));
        found
    }
}

/// Does all steps. Comes back only to exit, having reported why.
pub(crate) fn run(init: Init<'_>, steps: &[Step]) -> ! {
    let keep = init.descriptors();
    sys_process::finish_with_only(&keep, init.passed.count, || follow(init, steps))
}

fn follow(init: Init<'_>, steps: &[Step]) -> i32 {
    let mut progress =
        Progress { init, root: None, sealed: Vec::new(), null: None, terminal: None, aside: None, proc: None };
    // Modes of nodes and mount points are what the configuration says; `Step::Umask` sets the program's.
    umask(Mode::empty());
    let (hidden, seen) = steps.split_at(steps.iter().position(|step| *step == Step::Succeed).unwrap_or(steps.len()));
    let done = prepare(&mut progress).and_then(|()| apply_all(&mut progress, hidden));
    let (Ok(()), Some((_, seen))) = (&done, seen.split_first()) else { return tell(progress, done) };
    // What has entered the container is done with, and gone before the next process begins: a way to the container's first
    // process is more than the container has itself.
    (progress.init.target, progress.init.target_root) = (None, None);
    let mut keep = progress.init.descriptors();
    keep.extend(progress.terminal.as_ref().map(AsRawFd::as_raw_fd));
    sys_process::finish_with_only(&keep, progress.init.passed.count, || {
        let done = succeed(&mut progress.init.report).and_then(|()| apply_all(&mut progress, seen));
        tell(progress, done)
    })
}

fn apply_all(progress: &mut Progress<'_>, steps: &[Step]) -> Result<()> {
    steps.iter().try_for_each(|step| apply(progress, step))
}

/// Tells why there is no program; the exit status.
fn tell(mut progress: Progress<'_>, done: Result<()>) -> i32 {
    let error = done.err().unwrap_or(StepError::NoProgram);
    sync::send_error(&mut progress.init.report, &chain(&error), matches!(error, StepError::Hook(_)));
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
        Step::Join { .. }
        | Step::EnterRoot
        | Step::UnshareCgroup
        | Step::UnshareTime { .. }
        | Step::Hostname(_)
        | Step::Domainname(_)
        | Step::Sysctl { .. } => namespaces::apply(progress, step),
        Step::AwaitMappings | Step::CheckMappings(_) | Step::BecomeRoot { .. } => user::apply(progress, step),
        Step::NoProcess => Err(StepError::NoProcess),
        Step::Propagation(_)
        | Step::BindRoot { .. }
        | Step::MountFs(_)
        | Step::Bind(_)
        | Step::MountCgroup { .. }
        | Step::ChangeMount { .. }
        | Step::Remount { .. }
        | Step::Devices(_)
        | Step::DevLinks
        | Step::MakeCwd(_)
        | Step::SealMounts
        | Step::Mask(_)
        | Step::ReadonlyPath(_)
        | Step::ReadonlyRoot
        | Step::PivotRoot
        | Step::MoveRoot
        | Step::Chroot
        | Step::RootPropagation(_) => mounts::apply(progress, step),
        Step::OpenTerminal { .. } | Step::AttachTerminal => terminal::apply(progress, step),
        Step::RuntimeHooks => sync::ask_for_hooks(&mut progress.init.report).map_err(|_| StepError::RuntimeGone),
        Step::CreateContainerHooks => run_hooks(progress, "createContainer", &[]),
        Step::StartContainerHooks { env } => run_hooks(progress, "startContainer", env),
        Step::Await(Gate::Go) => sync::wait_for_go(&mut progress.init.report).map_err(|_| StepError::RuntimeGone),
        Step::Await(Gate::Start) => wait_for_start(&mut progress.init),
        Step::OfferListener => offer_listener(progress),
        Step::Succeed => Err(StepError::Misplaced),
        Step::FindModule { .. } | Step::Label { .. } => label::apply(progress, step),
        Step::FindProgram { program, cwd } => Ok(program.find(cwd)?),
        Step::Inside(inside::Step::LoadFilter) => load_filter(progress),
        Step::Inside(step) => Ok(inside::apply(step, &progress.context())?),
    }
}

/// Goes on as another process, which the runtime is told of; comes back only there.
fn succeed(report: &mut UnixStream) -> Result<()> {
    match sys_process::clone_sibling(CloneFlags::empty()) {
        Ok(Cloned::Child) => Ok(()),
        Ok(Cloned::Parent { pid, .. }) => {
            sys_process::exit_now(if sync::send_pid(report, pid.as_raw()).is_ok() { 0 } else { FAILED })
        }
        // The PID namespace has lost its first process.
        Err(Errno::ENOMEM) => Err(StepError::ContainerEnded),
        Err(errno) => Err(kernel("clone3")(errno)),
    }
}

fn run_hooks(progress: &Progress<'_>, kind: &'static str, env: &[String]) -> Result<()> {
    let Some(hooks) = progress.init.hooks else { return Ok(()) };
    let (list, status) = match kind {
        "createContainer" => (hooks.create_container(), "creating"),
        _ => (hooks.start_container(), "created"),
    };
    let state = progress.init.state.json(status, nix::unistd::getpid().as_raw());
    let list = list.as_deref().unwrap_or_default();
    hooks::run_all(kind, list, &state, hooks::Place::Container, env).map_err(StepError::Hook)
}

fn offer_listener(progress: &mut Progress<'_>) -> Result<()> {
    let Some(filter) = progress.init.filter else { return Err(StepError::Misplaced) };
    let listener = progress.init.seccomp_listener.ok_or(StepError::Misplaced)?;
    if let Some((aside, fd)) = filter.load_aside().map_err(kernel("linux.seccomp"))? {
        sync::send_listener(&mut progress.init.report, &fd, listener).map_err(StepError::Listener)?;
        progress.aside = Some(aside);
    }
    Ok(())
}

fn load_filter(progress: &mut Progress<'_>) -> Result<()> {
    if let Some(aside) = progress.aside.take() {
        return aside.adopt().map_err(kernel("linux.seccomp"));
    }
    let init = &progress.init;
    match init.filter {
        Some(filter) if filter.has_listener() => load_with_listener(init, filter),
        Some(filter) => filter.load().map_err(kernel("linux.seccomp")),
        None => Ok(()),
    }
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

/// Loads a filter whose listener goes to the runtime, or to `start`, to be passed on.
fn load_with_listener(init: &Init<'_>, filter: &Filter) -> Result<()> {
    let listener = init.seccomp_listener.cloned().ok_or(StepError::Misplaced)?;
    let mut report = init.report.try_clone().map_err(StepError::Listener)?;
    let sent = filter.load_with_listener(move |fd| sync::send_listener(&mut report, &fd, &listener));
    sent.map_err(kernel("linux.seccomp"))?.map_err(StepError::Listener)
}

/// The host's procfs, as long as the root has not changed.
fn host_proc() -> Result<Proc> {
    Proc::open().map_err(kernel("open /proc"))?.ok_or_else(|| StepError::NotProc("/proc".into()))
}

fn errno_of(error: &std::io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::EIO, Errno::from_raw)
}

fn show(path: &Path) -> String {
    PathBuf::from(path).display().to_string()
}
