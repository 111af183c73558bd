//! Does the steps. No decisions here: what is to be done, and in which order, is the plan's.

use std::ffi::CString;
use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sched::setns;
use nix::sys::prctl;
use nix::sys::stat::{Mode, SFlag, fstat, umask};
use nix::unistd::{Uid, fchdir, fchown, getgroups, isatty, setsid};
use podwright_sys::caps::CapSet;
use podwright_sys::path::file_type;
use podwright_sys::procfs::Proc;
use podwright_sys::seccomp::Program as Filter;
use podwright_sys::{caps, ids, process, sched, stdio};

use crate::error::{StepError, kernel};
use crate::program::Passed;
use crate::root::own_root;
use crate::step::{Step, rlimit_name};

type Result<T> = std::result::Result<T, StepError>;

/// What the steps need besides what they say.
#[derive(Debug, Clone, Copy)]
pub struct Context<'a> {
    /// A pidfd of a process of the container that [`Step::Enter`] enters.
    pub target: Option<BorrowedFd<'a>>,
    /// What [`Step::LoadFilter`] loads.
    pub filter: Option<&'a Filter>,
    /// What the program gets besides its first three descriptors.
    pub passed: &'a Passed,
    /// A terminal that will take the place of these.
    pub terminal: Option<BorrowedFd<'a>>,
}

/// Does a step. [`Step::Exec`] comes back only on failure.
///
/// # Errors
/// [`StepError`].
pub fn apply(step: &Step, context: &Context<'_>) -> Result<()> {
    match step {
        Step::OomScoreAdj(value) => set_oom_score_adj(*value),
        Step::SessionKeyring(name) => join_session_keyring(name),
        Step::DropGroups => ids::set_groups(&[]).map_err(kernel("leave all groups")),
        Step::RaiseLimit { resource, hard } => process::raise_hard_limit(0, *resource, *hard).map_err(limit(*resource)),
        Step::Enter(kinds) => {
            let target = context.target.ok_or(StepError::Misplaced)?;
            setns(target, *kinds).map_err(kernel("enter the container's namespaces"))
        }
        Step::Affinity(list) => sched::set_affinity(list).map_err(kernel("process.execCPUAffinity.final")),
        Step::NewSession => setsid().map(drop).map_err(kernel("setsid")),
        Step::OwnStdio(uid) => own_stdio(*uid, context.terminal),
        Step::Scheduler(attributes) => sched::set_attributes(*attributes).map_err(kernel("process.scheduler")),
        Step::IoPriority { class, level } => {
            sched::set_io_priority(*class, *level).map_err(kernel("process.ioPriority"))
        }
        Step::MemoryPolicy { mode, nodes } => {
            sched::set_memory_policy(*mode, nodes).map_err(kernel("linux.memoryPolicy"))
        }
        Step::Personality(persona) => sched::set_personality(*persona).map_err(kernel("linux.personality")),
        Step::Rlimit { resource, soft, hard } => process::set_rlimit(*resource, *soft, *hard).map_err(limit(*resource)),
        Step::CloseDescriptors => process::close_on_exec_from(3 + context.passed.count).map_err(kernel("close_range")),
        Step::ResetSignals => process::reset_signals().map_err(kernel("reset signals")),
        Step::Chdir(path) => chdir(path).map_err(kernel(format!("process.cwd: {}", path.display()))),
        Step::Umask(mask) => {
            umask(Mode::from_bits_truncate(*mask));
            Ok(())
        }
        Step::LimitBounding(keep) => caps::limit_bounding(*keep).map_err(kernel("process.capabilities.bounding")),
        Step::SwitchUser { uid, gid, groups } => {
            set_groups(groups)?;
            set_ids(*uid, *gid).map_err(kernel("process.user"))
        }
        Step::LoadFilter => context.filter.map_or(Ok(()), Filter::load).map_err(kernel("linux.seccomp")),
        Step::Capabilities { effective, permitted, inheritable, ambient } => {
            set_capabilities(*effective, *permitted, *inheritable, *ambient).map_err(kernel("process.capabilities"))
        }
        Step::KeepCapabilities(kept) => keep_capabilities(*kept).map_err(kernel("capset")),
        Step::NoNewPrivileges => prctl::set_no_new_privs().map_err(kernel("process.noNewPrivileges")),
        Step::Exec(program) => Err(program.exec(context.passed)),
    }
}

fn limit(resource: u32) -> impl FnOnce(Errno) -> StepError {
    kernel(format!("process.rlimits: {}", rlimit_name(resource)))
}

fn set_oom_score_adj(value: i32) -> Result<()> {
    let what = || format!("process.oomScoreAdj: write {value} to /proc/self/oom_score_adj");
    let proc = Proc::open().map_err(kernel("open /proc"))?.ok_or_else(|| StepError::NotProc("/proc".into()))?;
    let file = proc.file(Path::new("self/oom_score_adj"), OFlag::O_WRONLY).map_err(kernel(what()))?;
    let written = File::from(file).write_all(value.to_string().as_bytes());
    written.map_err(|error| kernel(what())(error.raw_os_error().map_or(Errno::EIO, Errno::from_raw)))
}

fn join_session_keyring(name: &str) -> Result<()> {
    let name = CString::new(name).map_err(|_| kernel("session keyring")(Errno::EINVAL))?;
    match process::join_session_keyring(&name) {
        // The quota of keys is per user and host; nobody is refused for it.
        Ok(()) | Err(Errno::EDQUOT) => Ok(()),
        Err(errno) => Err(kernel("session keyring")(errno)),
    }
}

/// Gives pipes, sockets and terminals to the user. Some cannot be given away (a read-only file system, a socket of another
/// user namespace): the program can use them all the same, just not open them anew. Files, directories and other devices
/// stay their owner's: they are the host's, and the container was given a descriptor and no more. A terminal that will take their
/// place is given to the user as well.
fn own_stdio(uid: u32, terminal: Option<BorrowedFd<'_>>) -> Result<()> {
    let null = own_root().and_then(|root| stdio::use_null_of(&root));
    null.map_err(kernel("open the container's /dev/null for stdio"))?;
    let stdio = (io::stdin(), io::stdout(), io::stderr());
    for fd in [stdio.0.as_fd(), stdio.1.as_fd(), stdio.2.as_fd()].into_iter().chain(terminal) {
        own(fd, uid).map_err(kernel("give stdio to process.user"))?;
    }
    Ok(())
}

fn own(fd: BorrowedFd<'_>, uid: u32) -> nix::Result<()> {
    let stat = match fstat(fd) {
        Err(Errno::EBADF) => return Ok(()),
        other => other?,
    };
    let kind = file_type(&stat);
    let is_channel =
        matches!(kind, SFlag::S_IFIFO | SFlag::S_IFSOCK) || kind == SFlag::S_IFCHR && isatty(fd).unwrap_or(false);
    if stat.st_uid == uid || !is_channel {
        return Ok(());
    }
    match fchown(fd, Some(Uid::from_raw(uid)), None) {
        Err(Errno::EINVAL | Errno::EPERM | Errno::EROFS) => Ok(()),
        other => other,
    }
}

/// Enters a directory below the root, never through a magic link to one outside (CVE-2024-21626).
fn chdir(path: &Path) -> nix::Result<()> {
    fchdir(own_root()?.open(path, OFlag::O_PATH | OFlag::O_DIRECTORY)?)
}

/// Sets the supplementary groups. A user namespace can forbid that; then nothing is lost where none are wanted and there are none.
///
/// # Errors
/// [`StepError::GroupsStay`]; setgroups(2)'s.
pub fn set_groups(groups: &[u32]) -> Result<()> {
    match ids::set_groups(groups) {
        Err(Errno::EPERM) if groups.is_empty() => match getgroups() {
            Ok(left) if left.is_empty() => Ok(()),
            _ => Err(StepError::GroupsStay),
        },
        other => other.map_err(kernel("process.user.additionalGids")),
    }
}

/// Changes the ids. The permitted capabilities stay, and the effective ones become all of them again, since the steps that
/// follow need some.
fn set_ids(uid: u32, gid: u32) -> nix::Result<()> {
    ids::set_group(gid)?;
    if uid == 0 {
        return ids::set_user(uid);
    }
    prctl::set_keepcaps(true)?;
    ids::set_user(uid)?;
    prctl::set_keepcaps(false)?;
    // The kernel sets this anew with every change of ids, to what fs.suid_dumpable says.
    prctl::set_dumpable(false)?;
    caps::raise_permitted()
}

/// What this process does not have itself cannot be granted; the container runs without it (runtime-spec, config.md, "Linux
/// Process": a runtime should not fail then).
fn set_capabilities(effective: CapSet, permitted: CapSet, inheritable: CapSet, ambient: CapSet) -> nix::Result<()> {
    let own = caps::permitted()?;
    let [effective, permitted, inheritable, ambient] =
        [effective, permitted, inheritable, ambient].map(|set| set.intersection(own));
    caps::set(effective, permitted, inheritable)?;
    caps::set_ambient(ambient)
}

fn keep_capabilities(kept: CapSet) -> nix::Result<()> {
    let kept = kept.intersection(caps::permitted()?);
    caps::set(kept, kept, CapSet::default())
}
