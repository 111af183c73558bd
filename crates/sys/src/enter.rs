//! Another process in a container that runs, without a runtime in between: cloned into a cgroup of the container, in its
//! namespaces, with the limits and privileges that its runtime has written down as an [`Entry`].

use std::ffi::CString;
use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sched::{CloneFlags, setns};
use nix::sys::prctl;
use nix::sys::stat::{Mode, umask};
use nix::unistd::{
    Gid, Uid, dup2_stderr, dup2_stdin, dup2_stdout, execve, fchdir, fchown, pipe2, setgroups, setresgid, setresuid,
    setsid,
};
use serde::{Deserialize, Serialize};

use crate::caps::{self, CapSet};
use crate::path::Root;
use crate::process::{self, Cloned};
use crate::seccomp::Program as Filter;
use crate::stdio;

/// Version of [`Entry`] as a file.
pub const VERSION: u32 = 1;

/// Exit status of a process that could not become its program; why is in its report.
const FAILED: i32 = 126;
/// Longest report, bytes.
const MAX_REPORT: u64 = 4096;
/// Where programs are looked up when the environment has no `PATH`.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// The namespaces that [`Step::Enter`] enters. The PID namespace is not among them: it holds for children only.
pub const NAMESPACES: CloneFlags = CloneFlags::CLONE_NEWNS
    .union(CloneFlags::CLONE_NEWIPC)
    .union(CloneFlags::CLONE_NEWUTS)
    .union(CloneFlags::CLONE_NEWNET)
    .union(CloneFlags::CLONE_NEWCGROUP);

/// How a further process of a container is made: the runtime's decisions, as data.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// [`VERSION`] of the writer.
    pub version: u32,
    /// What the process does before its program, in order.
    pub steps: Vec<Step>,
    /// Its environment, `KEY=VALUE`.
    pub env: Vec<String>,
    /// The seccomp filter's instructions; empty: there is none.
    pub filter: Vec<u64>,
    /// Flags of the filter.
    pub filter_flags: u32,
}

/// One thing that the process does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// Write `/proc/self/oom_score_adj`.
    OomScoreAdj(i32),
    /// Join a new session keyring.
    SessionKeyring(String),
    /// Enter [`NAMESPACES`] of the container. What follows sees its files.
    Enter,
    /// setsid(2).
    NewSession,
    /// Give descriptors 0 to 2 to this user; the container's `/dev/null` for any other.
    OwnStdio(u32),
    /// Set a resource limit: its number in getrlimit(2), soft, hard.
    Rlimit(u32, u64, u64),
    /// Mark all descriptors but the first three close-on-exec.
    CloseDescriptors,
    /// Default handling and an empty mask for all signals.
    ResetSignals,
    /// Enter the working directory.
    Chdir(PathBuf),
    /// Set the file mode creation mask.
    Umask(u32),
    /// Drop what is not in this set from the bounding set.
    LimitBounding(CapSet),
    /// Become this user, group, and member of these groups, keeping permitted capabilities.
    SwitchUser(u32, u32, Vec<u32>),
    /// Load the filter.
    LoadFilter,
    /// Effective, permitted, inheritable and ambient capabilities.
    Capabilities(CapSet, CapSet, CapSet, CapSet),
    /// Never gain privileges by execve(2) again.
    NoNewPrivileges,
}

impl Entry {
    /// Whether the container's processes may trace others, whatever these have done to prevent it (CAP_SYS_PTRACE): then what
    /// enters must have nothing that the container may not have, from its first moment on. [`spawn`] does not see to that.
    #[must_use]
    pub fn lets_trace(&self) -> bool {
        self.steps.iter().any(|step| matches!(step, Step::LimitBounding(keep) if keep.contains(caps::SYS_PTRACE)))
    }
}

/// A container to enter.
#[derive(Debug, Clone, Copy)]
pub struct Door<'a> {
    /// A pidfd of its first process.
    pub target: BorrowedFd<'a>,
    /// The caller's own PID namespace (`/proc/self/ns/pid`).
    pub own_pid_namespace: BorrowedFd<'a>,
    /// The directory of the cgroup that the process is to be in.
    pub cgroup: BorrowedFd<'a>,
}

/// A process that was started.
#[derive(Debug)]
pub struct Entered {
    /// Its pid, in the caller's numbering. It is a child of the caller.
    pub pid: i32,
    report: File,
}

/// Why no process was started.
#[derive(Debug, thiserror::Error)]
pub enum EnterError {
    /// The kernel refused; nothing has changed.
    #[error("cannot {what}")]
    Kernel {
        /// What was tried.
        what: &'static str,
        /// Its answer.
        source: Errno,
    },
    /// The caller's children will be made in the container's PID namespace from now on: it must not make any.
    #[error("cannot come back from the container's PID namespace")]
    Stranded(#[source] Errno),
}

fn kernel(what: &'static str) -> impl FnOnce(Errno) -> EnterError {
    move |source| EnterError::Kernel { what, source }
}

/// Starts `args` in the container, with standard input from `null` and both outputs to `output`.
///
/// The caller must not be dumpable, which the new process inherits: until it executes the program, it holds a copy of the caller's
/// memory, and at first its descriptors, in the sight of the container. That keeps everybody out who has no CAP_SYS_PTRACE; see
/// [`Entry::lets_trace`] for who has.
///
/// # Errors
/// [`EnterError`]. That the program cannot be executed is told later, by [`Entered::failure`].
pub fn spawn(
    entry: &Entry,
    door: Door<'_>,
    args: &[String],
    null: BorrowedFd<'_>,
    output: BorrowedFd<'_>,
) -> Result<Entered, EnterError> {
    let filter = Filter::from_words(&entry.filter, entry.filter_flags);
    // Reading never waits: whoever else came by the other end could hold it open for ever.
    let (report, end) = pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK).map_err(kernel("make a pipe"))?;
    setns(door.target, CloneFlags::CLONE_NEWPID).map_err(kernel("enter the container's PID namespace"))?;
    let cloned = process::clone(CloneFlags::empty(), Some(door.cgroup));
    if let Ok(Cloned::Child) = cloned {
        let keep = [end.as_raw_fd(), door.target.as_raw_fd()];
        let stdio = isolate(null, output);
        process::finish_with_only(&keep, 0, || {
            let error = match stdio {
                Ok(()) => become_program(entry, filter.as_ref(), door.target, args),
                Err(error) => error,
            };
            // Nobody may be left to read it.
            File::from(end).write_all(error.as_bytes()).unwrap_or(());
            process::exit_now(FAILED)
        });
    }
    setns(door.own_pid_namespace, CloneFlags::CLONE_NEWPID).map_err(EnterError::Stranded)?;
    match cloned.map_err(kernel("clone a process into the container's cgroup"))? {
        Cloned::Parent { pid, pidfd: _ } => Ok(Entered { pid: pid.as_raw(), report: report.into() }),
        Cloned::Child => Err(EnterError::Kernel { what: "tell parent and child apart", source: Errno::EINVAL }),
    }
}

impl Entered {
    /// Once it has ended: why it could not become its program; `None`: it did.
    pub fn failure(&mut self) -> Option<String> {
        let mut text = Vec::new();
        match (&mut self.report).take(MAX_REPORT).read_to_end(&mut text) {
            // All that it wrote is there, since it has ended.
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => return None,
        }
        (!text.is_empty()).then(|| String::from_utf8_lossy(&text).into_owned())
    }
}

/// The first thing that the new process does: it is in the container's PID namespace already, where it must neither be looked
/// into nor share descriptors with its maker (CVE-2016-9962).
fn isolate(null: BorrowedFd<'_>, output: BorrowedFd<'_>) -> Result<(), String> {
    prctl::set_dumpable(false).map_err(|errno| format!("cannot be hidden: {}", io::Error::from(errno)))?;
    let stdio = dup2_stdin(null).and_then(|()| dup2_stdout(output)).and_then(|()| dup2_stderr(output));
    stdio.map_err(|errno| format!("cannot set standard descriptors: {}", io::Error::from(errno)))
}

/// Returns only on failure: why.
fn become_program(entry: &Entry, filter: Option<&Filter>, target: BorrowedFd<'_>, args: &[String]) -> String {
    for step in &entry.steps {
        if let Err(error) = apply(step, filter, target) {
            return format!("cannot enter the container: {step:?}: {error}");
        }
    }
    exec(args, &entry.env)
}

fn apply(step: &Step, filter: Option<&Filter>, target: BorrowedFd<'_>) -> io::Result<()> {
    match step {
        Step::OomScoreAdj(value) => fs::write("/proc/self/oom_score_adj", value.to_string())?,
        Step::SessionKeyring(name) => match process::join_session_keyring(&CString::new(name.as_str())?) {
            // The quota of keys is per user and host; nobody is refused for it.
            Ok(()) | Err(Errno::EDQUOT) => {}
            Err(errno) => return Err(errno.into()),
        },
        Step::Enter => setns(target, NAMESPACES)?,
        Step::NewSession => setsid().map(drop)?,
        Step::OwnStdio(uid) => own_stdio(*uid)?,
        Step::Rlimit(resource, soft, hard) => process::set_rlimit(*resource, *soft, *hard)?,
        Step::CloseDescriptors => process::close_on_exec_from(3)?,
        Step::ResetSignals => process::reset_signals()?,
        Step::Chdir(path) => chdir(path)?,
        Step::Umask(mask) => {
            umask(Mode::from_bits_truncate(*mask));
        }
        Step::LimitBounding(keep) => caps::limit_bounding(*keep)?,
        Step::SwitchUser(uid, gid, groups) => switch_user(*uid, *gid, groups)?,
        Step::LoadFilter => filter.map_or(Ok(()), Filter::load)?,
        Step::Capabilities(effective, permitted, inheritable, ambient) => {
            let own = caps::permitted()?;
            let [effective, permitted, inheritable, ambient] =
                [effective, permitted, inheritable, ambient].map(|set| set.intersection(own));
            caps::set(effective, permitted, inheritable)?;
            caps::set_ambient(ambient)?;
            prctl::set_dumpable(false)?;
        }
        Step::NoNewPrivileges => prctl::set_no_new_privs()?,
    }
    Ok(())
}

/// Both outputs are one pipe.
fn own_stdio(uid: u32) -> nix::Result<()> {
    stdio::use_null_of(&own_root()?)?;
    match fchown(io::stdout().as_fd(), Some(Uid::from_raw(uid)), None) {
        Err(Errno::EINVAL | Errno::EPERM | Errno::EROFS) => Ok(()),
        other => other,
    }
}

/// Enters a directory below the root, never through a magic link to one outside (CVE-2024-21626).
fn chdir(path: &Path) -> nix::Result<()> {
    fchdir(own_root()?.open(path, OFlag::O_PATH | OFlag::O_DIRECTORY)?)
}

fn own_root() -> nix::Result<Root> {
    open("/", OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty()).map(Root::new)
}

fn switch_user(uid: u32, gid: u32, groups: &[u32]) -> nix::Result<()> {
    let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
    let groups: Vec<Gid> = groups.iter().copied().map(Gid::from_raw).collect();
    setgroups(&groups)?;
    setresgid(gid, gid, gid)?;
    if uid.is_root() {
        return setresuid(uid, uid, uid);
    }
    prctl::set_keepcaps(true)?;
    setresuid(uid, uid, uid)?;
    // A change of ids sets it anew, to what fs.suid_dumpable says.
    prctl::set_dumpable(false)?;
    prctl::set_keepcaps(false)?;
    caps::raise_permitted()
}

/// Becomes the program, looked up in the environment's `PATH` as execvp(3) does, or says why not.
fn exec(args: &[String], env: &[String]) -> String {
    let strings = |list: &[String]| list.iter().map(|text| CString::new(text.as_str())).collect::<Result<Vec<_>, _>>();
    let (Some(name), Ok(argv), Ok(envp)) = (args.first(), strings(args), strings(env)) else {
        return "the command is empty, or it or the environment holds a NUL byte".to_owned();
    };
    let path = env.iter().find_map(|entry| entry.strip_prefix("PATH=")).unwrap_or(DEFAULT_PATH);
    let candidates: Vec<String> = if name.contains('/') {
        vec![name.clone()]
    } else {
        path.split(':').map(|dir| if dir.is_empty() { name.clone() } else { format!("{dir}/{name}") }).collect()
    };
    let mut failed = format!("exec: {name:?}: executable file not found in $PATH");
    for candidate in candidates {
        let Ok(path) = CString::new(candidate) else { continue };
        let Err(errno) = execve(&path, &argv, &envp);
        match errno {
            Errno::ENOENT | Errno::ENOTDIR if !name.contains('/') => {}
            errno => {
                failed = format!("exec: {name:?}: {}", io::Error::from(errno));
                if errno != Errno::EACCES || name.contains('/') {
                    break;
                }
            }
        }
    }
    failed
}
