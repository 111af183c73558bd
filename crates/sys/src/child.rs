//! Processes that we start and processes that become ours: spawning, reaping, identity, signals, sealed programs.

use std::ffi::{CString, OsStr};
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, SealFlag, fcntl};
use nix::spawn::{PosixSpawnAttr, PosixSpawnFileActions, PosixSpawnFlags, posix_spawn};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::stat::Mode;
use nix::unistd::Pid;

/// How a process ended, as wait(2) tells it. Signals are bare numbers: real-time ones have no name in nix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// It left with this status, 0..=255.
    Exited(i32),
    /// This signal ended it.
    Signaled(i32),
}

/// What the kernel says of a process in proc_pid_stat(5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProcStat {
    /// Its state, `Z` for a zombie.
    pub state: char,
    /// Its parent.
    pub ppid: i32,
    /// Its process group.
    pub pgrp: i32,
    /// Its session.
    pub session: i32,
    /// Start time in clock ticks since boot. With it a pid is an identity.
    pub start: u64,
}

/// A program to start with [`spawn`].
#[derive(Debug)]
pub struct Program<'a> {
    /// The binary; not looked up in PATH.
    pub path: &'a Path,
    /// Its arguments, without the name of the program.
    pub args: &'a [&'a OsStr],
    /// Its whole environment, `NAME=value`.
    pub env: &'a [&'a str],
    /// Standard output; `None`: /dev/null.
    pub stdout: Option<BorrowedFd<'a>>,
    /// Standard error; `None`: /dev/null.
    pub stderr: Option<BorrowedFd<'a>>,
}

/// Starts a program as leader of a process group of its own, with standard input from /dev/null, no signal blocked and
/// every signal at its default, whatever the caller has set. Other descriptors must be close-on-exec.
///
/// # Errors
/// posix_spawn(3)'s, those of execve(2) included; EINVAL for a nul byte in an argument.
pub fn spawn(program: &Program<'_>) -> nix::Result<i32> {
    let text = |bytes: &[u8]| CString::new(bytes).map_err(|_| Errno::EINVAL);
    let mut args = vec![text(program.path.as_os_str().as_bytes())?];
    for arg in program.args {
        args.push(text(arg.as_bytes())?);
    }
    let env = program.env.iter().map(|e| text(e.as_bytes())).collect::<nix::Result<Vec<_>>>()?;

    let mut files = PosixSpawnFileActions::init()?;
    files.add_open(0, c"/dev/null", OFlag::O_RDONLY, Mode::empty())?;
    for (number, fd) in [(1, program.stdout), (2, program.stderr)] {
        match fd {
            Some(fd) => files.add_dup2(fd.as_raw_fd(), number)?,
            None => files.add_open(number, c"/dev/null", OFlag::O_WRONLY, Mode::empty())?,
        }
    }
    let mut attributes = PosixSpawnAttr::init()?;
    attributes.set_flags(
        PosixSpawnFlags::POSIX_SPAWN_SETPGROUP
            | PosixSpawnFlags::POSIX_SPAWN_SETSIGDEF
            | PosixSpawnFlags::POSIX_SPAWN_SETSIGMASK,
    )?;
    attributes.set_pgroup(Pid::from_raw(0))?;
    attributes.set_sigdefault(&every_signal())?;
    attributes.set_sigmask(&SigSet::empty())?;
    posix_spawn(program.path, &files, &attributes, &args, &env).map(Pid::as_raw)
}

/// All signals, with those that glibc keeps to itself (32 and 33): sigfillset(3) leaves them out, and posix_spawn(3) then has the
/// program ignore them.
fn every_signal() -> SigSet {
    // SAFETY: a sigset_t is an array of integers, for which every pattern of bits is a value.
    let all = unsafe {
        std::mem::transmute::<[u8; size_of::<libc::sigset_t>()], libc::sigset_t>([u8::MAX; size_of::<libc::sigset_t>()])
    };
    // SAFETY: `all` is initialised.
    unsafe { SigSet::from_sigset_t_unchecked(all) }
}

/// What became of a child.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// It has ended, and is collected.
    Ended(Ended),
    /// It was stopped, since it has made this process trace it, and goes on now, untraced.
    Untraced,
}

/// Collects one child that has ended, of whatever kind, without waiting. `None`: there is none now.
///
/// Any child may make its parent its tracer (`PTRACE_TRACEME`), and each of its signals stops it then, until the tracer has it go on:
/// waitpid(2) tells of that, asked or not. It goes on with the signal, but for SIGTRAP and SIGSTOP, as if nobody had traced it.
///
/// # Errors
/// waitpid(2)'s, but not ECHILD, which is `None`.
pub fn reap() -> nix::Result<Option<(i32, Change)>> {
    let mut status = 0;
    // SAFETY: waitpid writes one int through the pointer; `status` is a live int for the whole call.
    let pid = unsafe { libc::waitpid(-1, &raw mut status, libc::WNOHANG | libc::__WALL) };
    let change = |pid| {
        if libc::WIFEXITED(status) {
            Change::Ended(Ended::Exited(libc::WEXITSTATUS(status)))
        } else if libc::WIFSIGNALED(status) {
            Change::Ended(Ended::Signaled(libc::WTERMSIG(status)))
        } else {
            untrace(pid, libc::WSTOPSIG(status));
            Change::Untraced
        }
    };
    match Errno::result(pid) {
        Ok(0) | Err(Errno::ECHILD) => Ok(None),
        Ok(pid) => Ok(Some((pid, change(pid)))),
        Err(errno) => Err(errno),
    }
}

/// Has a child that is stopped for this process as its tracer go on without one.
pub(crate) fn untrace(pid: i32, signal: i32) {
    // execve(2) makes a SIGTRAP for the tracer alone. SIGSTOP from a tracer stops what its own does not: the first process of a PID
    // namespace.
    let signal = if matches!(signal, libc::SIGTRAP | libc::SIGSTOP) { 0 } else { signal };
    let no_address = std::ptr::null_mut::<libc::c_void>();
    // SAFETY: PTRACE_DETACH reads no memory of the caller's: its address is not used, its data is a signal's number.
    let result = unsafe { libc::ptrace(libc::PTRACE_DETACH, pid, no_address, libc::c_long::from(signal)) };
    // It fails for one that was killed meanwhile: its end is told next.
    let _gone = Errno::result(result);
}

/// Blocks these signals in the calling thread and makes them readable instead. Call it before any other thread exists.
///
/// # Errors
/// pthread_sigmask(3)'s and signalfd(2)'s.
pub fn watch_signals(signals: &[Signal]) -> nix::Result<SignalFd> {
    let mask: SigSet = signals.iter().copied().collect();
    mask.thread_block()?;
    SignalFd::with_flags(&mask, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
}

/// Makes orphaned descendants children of this process (`PR_SET_CHILD_SUBREAPER`).
///
/// # Errors
/// prctl(2)'s.
pub fn become_subreaper() -> nix::Result<()> {
    nix::sys::prctl::set_child_subreaper(true)
}

/// Names the calling process, as ps(1) and the kernel's log call it (`PR_SET_NAME`): one that was executed from a descriptor is named
/// after its number. At most 15 bytes count.
///
/// # Errors
/// prctl(2)'s.
pub fn set_name(name: &std::ffi::CStr) -> nix::Result<()> {
    nix::sys::prctl::set_name(name)
}

/// Marks every descriptor from `first` on close-on-exec: what a careless parent let through.
///
/// # Errors
/// close_range(2)'s; ENOSYS before Linux 5.9, EINVAL before 5.11.
pub fn close_on_exec_from(first: u32) -> nix::Result<()> {
    // SAFETY: the call takes three integers and changes no memory; with CLOSE_RANGE_CLOEXEC it closes nothing now, so
    // no descriptor owned elsewhere becomes invalid.
    let result = unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) };
    Errno::result(result).map(drop)
}

/// Reads proc_pid_stat(5). `None`: there is no such process (any more).
pub fn proc_stat(pid: i32) -> Option<ProcStat> {
    read_stat(pid).ok().flatten()
}

/// As [`proc_stat`], for who must not take a process for gone that only cannot be looked at.
///
/// # Errors
/// What keeps the file from being read: EMFILE, say.
pub fn read_stat(pid: i32) -> io::Result<Option<ProcStat>> {
    match std::fs::read(format!("/proc/{pid}/stat")) {
        Ok(text) => Ok(parse_stat(&text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        // It ended between open(2) and read(2).
        Err(error) if error.raw_os_error() == Some(Errno::ESRCH as i32) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The fields after the name, which itself may hold blanks, parentheses and what is no text: any process names itself, and the
/// kernel cuts names of programs after 15 bytes, within a character too.
fn parse_stat(text: &[u8]) -> Option<ProcStat> {
    let after_name = text.iter().rposition(|byte| *byte == b')')?;
    let fields: Vec<&str> = str::from_utf8(text.get(after_name + 1..)?).ok()?.split_ascii_whitespace().collect();
    // Field numbers of the manual page start at 1 with the pid; `fields` starts at field 3.
    let number = |field: usize| fields.get(field - 3)?.parse::<i32>().ok();
    Some(ProcStat {
        state: fields.first()?.chars().next()?,
        ppid: number(4)?,
        pgrp: number(5)?,
        session: number(6)?,
        start: fields.get(22 - 3)?.parse().ok()?,
    })
}

/// A descriptor for a process (pidfd_open(2), close-on-exec): readable when it has ended, and safe from pid reuse.
///
/// # Errors
/// ESRCH when there is no such process.
pub fn pidfd_open(pid: i32) -> nix::Result<OwnedFd> {
    // SAFETY: the call takes two integers and changes no memory.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    let fd = match Errno::result(fd) {
        // What many kernels, 6.1 among them, say of a process that is being waited for at this very moment.
        Err(Errno::EINVAL) => return Err(Errno::ESRCH),
        other => other?,
    };
    let fd = i32::try_from(fd).map_err(|_| Errno::EBADF)?;
    // SAFETY: pidfd_open has just returned this descriptor, so it is open and nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Sends a signal to the process behind a pidfd.
///
/// # Errors
/// ESRCH when it has been reaped; EPERM; EINVAL for a number that is no signal.
pub fn pidfd_send_signal(pidfd: BorrowedFd<'_>, signal: i32) -> nix::Result<()> {
    let no_info = std::ptr::null::<libc::siginfo_t>();
    // SAFETY: a null siginfo is what the call documents for "as kill(2)"; the descriptor is borrowed, so it is open.
    let result = unsafe { libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_raw_fd(), signal, no_info, 0) };
    Errno::result(result).map(drop)
}

/// Sends a signal to a child of ours that has not been reaped: until then its pid cannot be anyone else's. As with
/// kill(2), a negative number is the process group that this child leads.
///
/// # Errors
/// kill(2)'s.
pub fn signal_child(pid: i32, signal: i32) -> nix::Result<()> {
    // SAFETY: the call takes two integers and changes no memory.
    let result = unsafe { libc::kill(pid, signal) };
    Errno::result(result).map(drop)
}

/// SIGKILLs a process, its descendants, its process group and its session, as far as they are among `candidates`, until
/// no new one is found. A process that detached itself (double fork and setsid) is not recognised.
///
/// `candidates` is asked anew for each round, since processes may fork while being killed.
pub fn kill_tree(root: i32, mut candidates: impl FnMut() -> Vec<i32>) {
    const ROUNDS: usize = 8;
    let mut doomed = vec![root];
    // A runtime may have left `root` in the process group that the runtime itself was started in.
    let own = nix::unistd::getpgrp().as_raw();
    doomed.extend(proc_stat(root).map(|stat| stat.pgrp).filter(|group| *group != own && *group != root));
    for _ in 0..ROUNDS {
        let before = doomed.len();
        let stats: Vec<(i32, ProcStat)> =
            candidates().into_iter().filter_map(|pid| Some((pid, proc_stat(pid)?))).collect();
        // Children may be listed before their parents: go over the list until nothing is added.
        loop {
            let found = stats.iter().find(|(pid, stat)| {
                let kin = [stat.ppid, stat.pgrp, stat.session];
                !doomed.contains(pid) && kin.iter().any(|relative| doomed.contains(relative))
            });
            let Some((pid, _)) = found else { break };
            doomed.push(*pid);
        }
        kill_if_same(root, proc_stat(root).map(|stat| stat.start));
        for (pid, stat) in stats.iter().filter(|(pid, _)| doomed.contains(pid) && *pid != root) {
            kill_if_same(*pid, Some(stat.start));
        }
        if doomed.len() == before {
            return;
        }
    }
}

/// Kills `pid` unless it has become another process than the one that started at `start`.
fn kill_if_same(pid: i32, start: Option<u64>) {
    let Ok(pidfd) = pidfd_open(pid) else { return };
    let now = proc_stat(pid).map(|stat| stat.start);
    if now == start {
        // The only failure is that it ended by itself.
        pidfd_send_signal(pidfd.as_fd(), libc::SIGKILL).unwrap_or(());
    }
}

/// A program in memory that nobody can change (memfd_create(2), all seals): start it as `/proc/self/fd/N`.
/// One copy serves any number of processes, and outlives the file it came from.
///
/// # Errors
/// As memfd_create(2), write(2) and fcntl(2).
pub fn sealed_memfd(name: &str, bytes: &[u8]) -> io::Result<OwnedFd> {
    // MFD_EXEC is asked for where `vm.memfd_noexec` might be set; before Linux 6.3 it does not exist.
    const MFD_EXEC: u32 = 0x10;
    let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
    let fd = match memfd_create(name, flags | MFdFlags::from_bits_retain(MFD_EXEC)) {
        Err(Errno::EINVAL) => memfd_create(name, flags)?,
        other => other?,
    };
    let mut file = std::fs::File::from(fd);
    file.write_all(bytes)?;
    let seals = SealFlag::F_SEAL_WRITE | SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SEAL;
    fcntl(&file, FcntlArg::F_ADD_SEALS(seals))?;
    Ok(file.into())
}

/// Gives memory that is not needed while sleeping back to the kernel: freed blocks of the heap, and the mapping of the
/// program's code, of which the next wake-up maps the little that it runs again. For processes idle for most of their life.
pub fn become_idle() {
    // SAFETY: malloc_trim only touches memory that the allocator holds as free; it may be called at any time.
    unsafe { libc::malloc_trim(0) };
    for line in std::fs::read_to_string("/proc/self/maps").unwrap_or_default().lines() {
        let Some((start, length)) = code_mapping(line) else { continue };
        let start = std::ptr::without_provenance_mut::<libc::c_void>(start);
        // SAFETY: `code_mapping` only finds private mappings of a program that are not writable and hold nothing that the
        // loader relocates, so no page of them differs from the file: dropped ones are read again. A failure changes nothing.
        unsafe { libc::madvise(start, length, libc::MADV_DONTNEED) };
    }
}

/// Start and length of a mapping, if it is code from a file, or the segment of constants that begins with the file's header
/// (a line of proc_pid_maps(5)). Other constants may have been relocated, and then differ from the file.
fn code_mapping(line: &str) -> Option<(usize, usize)> {
    let mut fields = line.split_ascii_whitespace();
    let (range, mode, offset) = (fields.next()?, fields.next()?, fields.next()?);
    let path = fields.nth(2)?;
    let is_code = mode == "r-xp" || (mode == "r--p" && offset == "00000000");
    if !is_code || !path.starts_with('/') {
        return None;
    }
    let (start, end) = range.split_once('-')?;
    let (start, end) = (usize::from_str_radix(start, 16).ok()?, usize::from_str_radix(end, 16).ok()?);
    Some((start, end.checked_sub(start)?))
}

/// Keeps the allocator small: one arena, little slack above what is used, big blocks given back when freed.
pub fn keep_heap_small() {
    for (option, value) in [
        (libc::M_ARENA_MAX, 1),
        (libc::M_TRIM_THRESHOLD, 16 << 10),
        (libc::M_TOP_PAD, 4 << 10),
        (libc::M_MMAP_THRESHOLD, 32 << 10),
    ] {
        // SAFETY: mallopt takes two integers and sets a parameter of the allocator; it may be called at any time.
        unsafe { libc::mallopt(option, value) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn stat_of_a_nasty_name() {
        let numbers = b") R 7 8 9 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 123456 9 9\n";
        let expected = ProcStat { state: 'R', ppid: 7, pgrp: 8, session: 9, start: 123_456 };
        for name in [&b"a) b"[..], b"a\n) Z 1", b"aaaaaaaaaaaaaa\xc3", b"\xff) \xfe", b""] {
            assert_eq!(parse_stat(&[b"42 (", name, numbers].concat()), Some(expected), "{name:?}");
        }
        for cut in [&b"42 (a"[..], b"42 (a)", b"42 (a) R 7", b""] {
            assert_eq!(parse_stat(cut), None, "{cut:?}");
        }
    }

    #[test]
    fn only_code_from_files_is_dropped() {
        let code = "7f0000001000-7f0000003000 r-xp 00022000 00:01 1034 /memfd:shim (deleted)";
        assert_eq!(code_mapping(code), Some((0x7f00_0000_1000, 0x2000)));
        let header = "7f0000000000-7f0000001000 r--p 00000000 00:01 1034 /memfd:shim (deleted)";
        assert_eq!(code_mapping(header), Some((0x7f00_0000_0000, 0x1000)));
        for other in [
            "7f0000003000-7f0000004000 r--p 00022000 00:01 1034 /memfd:shim (deleted)",
            "7f0000003000-7f0000004000 rwxp 00022000 00:01 1034 /memfd:shim (deleted)",
            "7f0000003000-7f0000004000 r-xp 00000000 00:00 0",
            "7f0000003000-7f0000004000 r-xp 00000000 00:00 0 [vdso]",
        ] {
            assert_eq!(code_mapping(other), None, "{other}");
        }
        become_idle();
        stat_of_a_nasty_name();
    }

    #[test]
    fn stat_of_ourselves() {
        let own = i32::try_from(std::process::id()).unwrap();
        assert_eq!(proc_stat(own).unwrap().ppid, nix::unistd::getppid().as_raw());
        assert_eq!(proc_stat(i32::MAX), None);
    }

    #[test]
    fn sealed_programs_run_and_cannot_be_changed() {
        let fd = sealed_memfd("test", &std::fs::read("/bin/true").unwrap()).unwrap();
        let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
        assert!(Command::new(&path).status().unwrap().success());
        assert!(std::fs::File::from(fd).write_all(b"x").is_err());
    }

    #[test]
    fn a_tree_is_killed_with_its_session() {
        // The inner sleep has lost its parent, but not its session; the outer one is a plain child.
        let script = "(sleep 100 & echo $! >&2); sleep 100 & wait";
        let mut command = Command::new("setsid");
        let mut child = command.args(["sh", "-c", script]).stderr(std::process::Stdio::null()).spawn().unwrap();
        let root = i32::try_from(child.id()).unwrap();
        let in_session = || -> Vec<i32> {
            let all = std::fs::read_dir("/proc").unwrap();
            let pids = all.filter_map(|e| e.unwrap().file_name().to_str()?.parse::<i32>().ok());
            pids.filter(|p| {
                proc_stat(*p).is_some_and(|s| s.state != 'Z' && (*p == root || s.ppid == root || s.session == root))
            })
            .collect()
        };
        while in_session().len() < 3 {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        kill_tree(root, in_session);
        assert!(!child.wait().unwrap().success());
        std::thread::sleep(std::time::Duration::from_millis(50));
        assert_eq!(in_session(), Vec::<i32>::new());
    }

    #[test]
    fn spawned_programs_start_with_a_clean_slate() {
        let (read, write) = nix::unistd::pipe2(OFlag::O_CLOEXEC).unwrap();
        let args = ["-c", "grep -E '^Sig(Blk|Ign)' /proc/self/status; echo $A"].map(OsStr::new);
        let program = Program {
            path: Path::new("/bin/sh"),
            args: &args,
            env: &["A=b", "PATH=/bin:/usr/bin"],
            stdout: Some(write.as_fd()),
            stderr: None,
        };
        let pid = spawn(&program).unwrap();
        drop(write);
        let text = io::read_to_string(std::fs::File::from(read)).unwrap();
        nix::sys::wait::waitpid(Pid::from_raw(pid), None).unwrap();
        assert_eq!(text, "SigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\nb\n");
    }

    #[test]
    fn a_program_that_is_not_there_is_an_error_of_spawn() {
        let program = Program { path: Path::new("/proc/nonexistent"), args: &[], env: &[], stdout: None, stderr: None };
        assert_eq!(spawn(&program), Err(Errno::ENOENT));
    }
}
