//! Processes: clone3(2), pidfds, identity by start time, and what a process sets for itself before execve(2).

use std::ffi::CStr;
use std::fs::File;
use std::io::{self, Read as _};
use std::mem::size_of;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd, RawFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::CloneFlags;
use nix::sys::resource::{Resource, getrlimit};
use nix::sys::signal::{SigSet, SigmaskHow, sigprocmask};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::Pid;

use crate::child::{self, Ended};

/// Which side of [`clone`] one is on.
#[derive(Debug)]
pub enum Cloned {
    /// The new process.
    Child,
    /// The calling process.
    Parent {
        /// The child, in the caller's numbering.
        pid: Pid,
        /// The child's pidfd, close-on-exec.
        pidfd: OwnedFd,
    },
}

/// linux/sched.h; libc's constant is too narrow for the bit.
const CLONE_INTO_CGROUP: u64 = 1 << 33;

/// Fails with EINVAL unless the calling process has one thread only.
fn require_single_thread() -> nix::Result<()> {
    // The kernel refuses CLONE_THREAD here exactly when there are other threads, and does nothing otherwise.
    nix::sched::unshare(CloneFlags::CLONE_THREAD)
}

/// Starts a copy of the calling process, as fork(2) does, in new `namespaces` and, if given, directly in a cgroup (clone3(2),
/// Linux 5.7).
///
/// # Errors
/// EINVAL when the caller has several threads; else clone3's: EBUSY and EOPNOTSUPP tell that the cgroup cannot take it.
pub fn clone(namespaces: CloneFlags, cgroup: Option<BorrowedFd<'_>>) -> nix::Result<Cloned> {
    clone_as(namespaces, cgroup, libc::SIGCHLD)
}

/// As [`clone`], but the new process is a child of the caller's parent (`CLONE_PARENT`), and the caller's cgroup is its.
///
/// # Errors
/// As [`clone`]; EINVAL for the first process of a PID namespace.
pub fn clone_sibling(namespaces: CloneFlags) -> nix::Result<Cloned> {
    // The signal at its end is the caller's own; none may be given.
    clone_as(namespaces | CloneFlags::CLONE_PARENT, None, 0)
}

fn clone_as(flags: CloneFlags, cgroup: Option<BorrowedFd<'_>>, exit_signal: libc::c_int) -> nix::Result<Cloned> {
    require_single_thread()?;
    let mut pidfd: libc::c_int = -1;
    let into = if cgroup.is_some() { CLONE_INTO_CGROUP } else { 0 };
    let args = libc::clone_args {
        flags: u64::from(flags.bits().cast_unsigned()) | libc::CLONE_PIDFD as u64 | into,
        pidfd: (&raw mut pidfd) as u64,
        child_tid: 0,
        parent_tid: 0,
        exit_signal: exit_signal as u64,
        stack: 0,
        stack_size: 0,
        tls: 0,
        set_tid: 0,
        set_tid_size: 0,
        cgroup: cgroup.map_or(0, |fd| fd.as_raw_fd() as u64),
    };
    // SAFETY: without CLONE_VM and with no new stack the child goes on with its own copy of this memory, as after fork(2).
    // The caller is the only thread (checked above), so that copy holds no lock of another thread. `args` and `pidfd`
    // outlive the call.
    let result = unsafe { libc::syscall(libc::SYS_clone3, &raw const args, size_of::<libc::clone_args>()) };
    match Errno::result(result)? {
        0 => Ok(Cloned::Child),
        pid => {
            // SAFETY: the kernel has just made this descriptor for us (CLONE_PIDFD) and nothing else knows its number.
            let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
            Ok(Cloned::Parent { pid: Pid::from_raw(pid as libc::pid_t), pidfd })
        }
    }
}

/// A descriptor that stands for the process (pidfd_open(2)). Only [`stat`], read after this, tells whether the pid was still
/// the process meant.
///
/// # Errors
/// ESRCH when there is none.
pub fn pidfd_open(pid: Pid) -> nix::Result<OwnedFd> {
    // SAFETY: takes two integers, touches no memory of ours.
    let fd = match Errno::result(unsafe { libc::syscall(libc::SYS_pidfd_open, pid.as_raw(), 0) }) {
        // What many kernels, 6.1 among them, say of a process that is being waited for at this very moment.
        Err(Errno::EINVAL) => return Err(Errno::ESRCH),
        other => other?,
    };
    // SAFETY: a descriptor the kernel has just made for this call.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as libc::c_int) })
}

/// Sends a signal by number (pidfd_send_signal(2)); 0 only checks.
///
/// # Errors
/// ESRCH when the process has been waited for.
pub fn pidfd_send_signal(pidfd: impl AsFd, signal: i32) -> nix::Result<()> {
    let info = std::ptr::null::<libc::siginfo_t>();
    // SAFETY: a null siginfo is allowed and means the one kill(2) would send.
    let result = unsafe { libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_fd().as_raw_fd(), signal, info, 0) };
    Errno::result(result).map(drop)
}

/// Waits for the end of a child.
///
/// # Errors
/// waitid(2)'s; ECHILD for a process that is not the caller's child.
pub fn wait(pidfd: impl AsFd) -> nix::Result<WaitStatus> {
    loop {
        match waitid(Id::PIDFd(pidfd.as_fd()), WaitPidFlag::WEXITED) {
            Err(Errno::EINTR) => {}
            other => return other,
        }
    }
}

/// How a child has ended, without waiting; `None`: it has not. One that has made this process trace it, and is stopped for that, goes on
/// untraced, as with [`child::reap`].
///
/// # Errors
/// waitid(2)'s; ECHILD for a process that is not the caller's child.
pub fn ended(pidfd: impl AsFd) -> nix::Result<Option<Ended>> {
    let id = libc::id_t::try_from(pidfd.as_fd().as_raw_fd()).map_err(|_| Errno::EBADF)?;
    loop {
        let mut info = std::mem::MaybeUninit::<libc::siginfo_t>::zeroed();
        // SAFETY: waitid writes one siginfo_t through the pointer, which outlives the call.
        let result = unsafe { libc::waitid(libc::P_PIDFD, id, info.as_mut_ptr(), libc::WEXITED | libc::WNOHANG) };
        match Errno::result(result) {
            Err(Errno::EINTR) => continue,
            other => other?,
        };
        // SAFETY: all zeroes is a value of this structure of integers, and the kernel has filled it in or left it so.
        let info = unsafe { info.assume_init() };
        // SAFETY: of a child, it is what the kernel fills in; of none, it is zero.
        let pid = unsafe { info.si_pid() };
        // SAFETY: as the one before.
        let status = unsafe { info.si_status() };
        match info.si_code {
            _ if pid == 0 => return Ok(None),
            libc::CLD_EXITED => return Ok(Some(Ended::Exited(status))),
            libc::CLD_KILLED | libc::CLD_DUMPED => return Ok(Some(Ended::Signaled(status))),
            // Above are the numbers of events, which nobody has asked for.
            _ => child::untrace(pid, status & 0x7f),
        }
    }
}

/// Those that a program started by this process starts in turn, however they detach themselves: orphans among them become
/// this process's children, as long as this value lives (`PR_SET_CHILD_SUBREAPER`).
#[derive(Debug)]
pub struct Descendants {
    /// Children that were there before; `None`: nothing is adopted.
    known: Option<Vec<Pid>>,
}

/// How long killed processes get to be gone.
const KILL_TIMEOUT: Duration = Duration::from_secs(5);

/// Pause between two looks for processes that were orphaned by the last one.
const KILL_PAUSE: Duration = Duration::from_millis(2);

impl Descendants {
    /// Adopts from here on.
    ///
    /// # Errors
    /// prctl(2)'s.
    pub fn adopt() -> nix::Result<Self> {
        nix::sys::prctl::set_child_subreaper(true)?;
        Ok(Self { known: Some(children()) })
    }

    /// Adopts nothing.
    #[must_use]
    pub fn none() -> Self {
        Self { known: None }
    }

    /// Kills all children that have come since, waits for them, and does the same to those that they leave behind.
    ///
    /// # Errors
    /// waitid(2)'s; ETIMEDOUT when some are still there after five seconds.
    pub fn kill_new(&self) -> nix::Result<()> {
        let Some(known) = &self.known else { return Ok(()) };
        let deadline = Instant::now() + KILL_TIMEOUT;
        loop {
            let new: Vec<Pid> = children().into_iter().filter(|pid| !known.contains(pid)).collect();
            if new.is_empty() {
                return Ok(());
            }
            if Instant::now() >= deadline {
                return Err(Errno::ETIMEDOUT);
            }
            for pid in new {
                // Children that nobody has waited for: their pids are their own.
                nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL)?;
                waitid(Id::Pid(pid), WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG)?;
            }
            std::thread::sleep(KILL_PAUSE);
        }
    }
}

impl Drop for Descendants {
    fn drop(&mut self) {
        if self.known.is_some() {
            // It was set the same way before, so this cannot fail.
            nix::sys::prctl::set_child_subreaper(false).unwrap_or(());
        }
    }
}

/// The children of this thread, ended ones too (`/proc/thread-self/children`); none where the kernel does not tell.
fn children() -> Vec<Pid> {
    let text = std::fs::read_to_string("/proc/thread-self/children").unwrap_or_default();
    text.split_ascii_whitespace().filter_map(|pid| pid.parse().ok().map(Pid::from_raw)).collect()
}

/// What tells two processes with the same pid apart, and whether one still runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stat {
    /// Start time in clock ticks since boot (proc_pid_stat(5), field 22).
    pub start: u64,
    /// It has ended and only waits to be waited for.
    pub zombie: bool,
}

/// Reads `/proc/PID/stat`; `None` when there is no such process.
///
/// # Errors
/// Whatever read(2) gives besides "no such process", and `InvalidData`.
pub fn stat(pid: Pid) -> io::Result<Option<Stat>> {
    // One read(2) gives the whole line, of which the wanted fields come early.
    let mut buffer = [0; 1024];
    let read = File::open(format!("/proc/{pid}/stat")).and_then(|mut file| file.read(&mut buffer));
    let text = match read {
        Ok(length) => String::from_utf8_lossy(&buffer[..length]),
        Err(err) if err.kind() == io::ErrorKind::NotFound || err.raw_os_error() == Some(libc::ESRCH) => {
            return Ok(None);
        }
        Err(err) => return Err(err),
    };
    parse_stat(&text)
        .map(Some)
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, format!("/proc/{pid}/stat: {text}")))
}

fn parse_stat(text: &str) -> Option<Stat> {
    // The command name, field 2, may hold blanks and parentheses.
    let (_, rest) = text.rsplit_once(") ")?;
    let mut fields = rest.split_ascii_whitespace();
    let state = fields.next()?;
    Some(Stat { start: fields.nth(18)?.parse().ok()?, zombie: matches!(state, "Z" | "X" | "x") })
}

/// Undoes what a program would inherit: nothing is blocked, no signal is ignored. (The Rust runtime ignores SIGPIPE, and glibc's
/// posix_spawn(3) the two signals that glibc keeps to itself.)
///
/// # Errors
/// sigprocmask(2)'s.
pub fn reset_signals() -> nix::Result<()> {
    /// The kernel's `struct sigaction` where it is largest (handler, flags, restorer, mask), all zero: SIG_DFL, no flags.
    const DEFAULT: [u64; 4] = [0; 4];
    /// Bytes of the kernel's signal mask, and with eight in each the number of its signals.
    const MASK: usize = 8;
    for signal in 1..=MASK * 8 {
        let none = std::ptr::null_mut::<libc::c_void>();
        // SAFETY: the kernel reads at most the struct, which outlives the call, and writes nothing (the third argument is null).
        // SIG_DFL runs no code of ours. It is the kernel's own call since the C library's refuses signals 32 and 33, which are
        // only of use to threads, and what comes next is execve(2). SIGKILL and SIGSTOP are refused, and are never ignored.
        unsafe { libc::syscall(libc::SYS_rt_sigaction, signal, DEFAULT.as_ptr(), none, MASK) };
    }
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None)
}

/// Gives SIGCHLD its default handling. A caller that ignores it hands that down through execve(2), and then the kernel waits for
/// children by itself: nobody hears of their end, and their pids are free at once.
pub fn keep_children() {
    // SAFETY: SIG_DFL runs no code of ours. The signal exists, so this cannot fail.
    unsafe { libc::signal(libc::SIGCHLD, libc::SIG_DFL) };
}

/// Takes one of the blocked signals `set`, waiting for it: its number, which may be a real-time signal's.
///
/// # Errors
/// EINVAL for a set that cannot be waited for.
pub fn wait_signal(set: &SigSet) -> nix::Result<i32> {
    let mut signal = 0;
    // SAFETY: the kernel reads the set and writes one integer; both outlive the call.
    match unsafe { libc::sigwait(set.as_ref(), &raw mut signal) } {
        0 => Ok(signal),
        errno => Err(Errno::from_raw(errno)),
    }
}

/// Closes all descriptors but 0 to 2, those to `keep`, and of the `inherited` ones after 2 those that this program was given; then
/// does one `last` thing and exits with the status that this gives.
///
/// For a process that has just been cloned: what its creator had open, and what that one was given without asking, is then out
/// of reach of whoever gets to look at the process or to name `/proc/self/fd` (CVE-2016-9962, CVE-2024-21626). What a program was
/// given has come through execve(2), so it is not close-on-exec; what it opens itself is.
pub fn finish_with_only(keep: &[RawFd], inherited: u32, last: impl FnOnce() -> i32) -> ! {
    let first = inherited.saturating_add(3);
    let mut keep: Vec<u32> = keep.iter().map(|fd| fd.cast_unsigned()).collect();
    // No descriptor can have a number above the limit, whatever was asked for.
    let limit = getrlimit(Resource::RLIMIT_NOFILE).map_or(u64::MAX, |(soft, _)| soft);
    keep.extend((3..first.min(u32::try_from(limit).unwrap_or(u32::MAX))).filter(|number| {
        // SAFETY: asks for a flag of a number that need not be open, and touches no memory.
        let flags = unsafe { libc::fcntl(number.cast_signed(), libc::F_GETFD) };
        flags & libc::FD_CLOEXEC == 0
    }));
    keep.sort_unstable();
    let mut next = 3;
    for number in keep.into_iter().filter(|number| *number >= 3).chain([u32::MAX]) {
        if next < number {
            // SAFETY: the owners of what is closed here are in frames that never run again, since this function does not
            // return; `last` gets along with what is kept, as the caller promises. No memory is touched.
            unsafe { libc::close_range(next, number - 1, 0) };
        }
        next = next.max(number.saturating_add(1));
    }
    std::process::exit(last())
}

/// Marks every descriptor from `first` on close-on-exec (close_range(2), Linux 5.11).
///
/// # Errors
/// EINVAL on older kernels.
pub fn close_on_exec_from(first: u32) -> nix::Result<()> {
    // SAFETY: sets a flag on descriptors; no descriptor is closed under its owner.
    let result = unsafe { libc::close_range(first, u32::MAX, libc::CLOSE_RANGE_CLOEXEC.cast_signed()) };
    Errno::result(result).map(drop)
}

/// Gives the process a new session keyring (keyctl(2)), so that it does not share its parent's. Kernels without keyrings are fine.
///
/// # Errors
/// EDQUOT, ENOMEM.
pub fn join_session_keyring(name: &CStr) -> nix::Result<()> {
    // SAFETY: the name is a terminated string that outlives the call.
    let result = unsafe { libc::syscall(libc::SYS_keyctl, libc::KEYCTL_JOIN_SESSION_KEYRING, name.as_ptr()) };
    match Errno::result(result) {
        Ok(_) | Err(Errno::ENOSYS) => Ok(()),
        Err(errno) => Err(errno),
    }
}

/// Sets the NIS domain name of the UTS namespace.
///
/// # Errors
/// setdomainname(2)'s.
pub fn set_domainname(name: &str) -> nix::Result<()> {
    // SAFETY: the kernel reads `len` bytes from the pointer, which are the string's.
    Errno::result(unsafe { libc::setdomainname(name.as_ptr().cast(), name.len()) }).map(drop)
}

/// Waits until the process has ended. Returns whether it did in time; it still has to be waited for by its parent.
///
/// # Errors
/// poll(2)'s.
pub fn wait_end(pidfd: impl AsFd, timeout: Duration) -> nix::Result<bool> {
    wait_any_end([Some(pidfd.as_fd())], Some(timeout)).map(|ended| ended.is_some())
}

/// Waits until one of the processes has ended, without end if there is no timeout. Gives the place of the first that has; it
/// still has to be waited for by its parent. `None`: it was not in time.
///
/// # Errors
/// poll(2)'s.
pub fn wait_any_end<const N: usize>(
    pidfds: [Option<BorrowedFd<'_>>; N],
    timeout: Option<Duration>,
) -> nix::Result<Option<usize>> {
    let deadline = timeout.map(|timeout| Instant::now() + timeout);
    loop {
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        let millis = left.map(|left| i32::try_from(left.as_micros().div_ceil(1000)).unwrap_or(i32::MAX));
        let limit =
            millis.map_or(PollTimeout::NONE, |millis| PollTimeout::try_from(millis).unwrap_or(PollTimeout::MAX));
        let mut fds: Vec<PollFd<'_>> =
            pidfds.into_iter().flatten().map(|pidfd| PollFd::new(pidfd, PollFlags::POLLIN)).collect();
        match poll(&mut fds, limit) {
            Ok(0) if left.is_some_and(|left| left.is_zero()) => return Ok(None),
            Ok(0) | Err(Errno::EINTR) => {}
            Ok(_) => {
                let mut ended = fds.iter().map(|fd| fd.any().unwrap_or(true));
                return Ok(pidfds.iter().position(|pidfd| pidfd.is_some() && ended.next().unwrap_or(true)));
            }
            Err(errno) => return Err(errno),
        }
    }
}

/// Ends the calling process at once, without what a library has registered for its end: for a child that shares its
/// parent's memory image and not its duties.
pub fn exit_now(status: i32) -> ! {
    // SAFETY: the call ends the process; it takes an integer and touches no memory.
    unsafe { libc::_exit(status) }
}

/// The caller's hard resource limits, in the order of their numbers in getrlimit(2).
///
/// # Errors
/// prlimit(2)'s.
pub fn hard_limits() -> nix::Result<[u64; 16]> {
    let mut limits = [0; 16];
    for (resource, hard) in (0u32..).zip(&mut limits) {
        let mut found = libc::rlimit64 { rlim_cur: 0, rlim_max: 0 };
        let none = std::ptr::null::<libc::rlimit64>();
        // SAFETY: the kernel writes one rlimit64, which outlives the call, and reads none (that argument is null).
        Errno::result(unsafe { libc::syscall(libc::SYS_prlimit64, 0, resource, none, &raw mut found) })?;
        *hard = found.rlim_max;
    }
    Ok(limits)
}

/// Sets a resource limit by its number in getrlimit(2).
///
/// # Errors
/// setrlimit(2)'s.
pub fn set_rlimit(resource: u32, soft: u64, hard: u64) -> nix::Result<()> {
    let limit = libc::rlimit64 { rlim_cur: soft, rlim_max: hard };
    // SAFETY: the kernel reads one rlimit64, which outlives the call, and writes nothing (the last argument is null).
    let result = unsafe {
        libc::syscall(libc::SYS_prlimit64, 0, resource, &raw const limit, std::ptr::null_mut::<libc::rlimit64>())
    };
    Errno::result(result).map(drop)
}

/// Raises a hard limit of a process (0: the caller) to at least this, and leaves the soft one alone: what the process may later set
/// within it takes no capability.
///
/// # Errors
/// prlimit(2)'s: EPERM without CAP_SYS_RESOURCE.
pub fn raise_hard_limit(pid: i32, resource: u32, hard: u64) -> nix::Result<()> {
    let mut old = libc::rlimit64 { rlim_cur: 0, rlim_max: 0 };
    let none = std::ptr::null::<libc::rlimit64>();
    // SAFETY: the kernel writes one rlimit64, which outlives the call, and reads none (that argument is null).
    Errno::result(unsafe { libc::syscall(libc::SYS_prlimit64, pid, resource, none, &raw mut old) })?;
    if old.rlim_max >= hard {
        return Ok(());
    }
    let new = libc::rlimit64 { rlim_cur: old.rlim_cur, rlim_max: hard };
    let none = std::ptr::null_mut::<libc::rlimit64>();
    // SAFETY: the kernel reads one rlimit64, which outlives the call, and writes none (that argument is null).
    Errno::result(unsafe { libc::syscall(libc::SYS_prlimit64, pid, resource, &raw const new, none) }).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::signal::Signal;

    #[test]
    fn stat_survives_a_hostile_command_name() {
        let line = "42 (a) Z (b) S 1 42 42 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 987654 0 0";
        assert_eq!(parse_stat(line), Some(Stat { start: 987_654, zombie: false }));
        assert_eq!(parse_stat(&line.replace(") S", ") Z")), Some(Stat { start: 987_654, zombie: true }));
        assert_eq!(parse_stat("42 (x"), None);
    }

    #[test]
    fn pidfds_stand_for_processes() {
        let mut child = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
        let pid = Pid::from_raw(child.id().cast_signed());
        let before = stat(pid).unwrap().unwrap();
        let pidfd = pidfd_open(pid).unwrap();
        pidfd_send_signal(&pidfd, 0).unwrap();
        pidfd_send_signal(&pidfd, libc::SIGTERM).unwrap();
        let ended = wait(&pidfd).unwrap();
        assert!(matches!(ended, WaitStatus::Signaled(_, Signal::SIGTERM, _)), "{ended:?}");
        assert!(!before.zombie);
        assert_eq!(pidfd_send_signal(&pidfd, 0), Err(Errno::ESRCH));
        assert_eq!(stat(pid).unwrap(), None);
        assert!(child.wait().is_err(), "it was waited for already");
    }

    #[test]
    fn a_threaded_process_is_not_cloned() {
        let other = std::thread::spawn(std::thread::park);
        let result = clone(CloneFlags::empty(), None);
        other.thread().unpark();
        other.join().unwrap();
        assert!(matches!(result, Err(Errno::EINVAL)), "{result:?}");
    }
}
