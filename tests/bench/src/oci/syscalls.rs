//! System calls of one `run`, counted by strace(1), in groups by what they are for.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};

use super::Runtime;
use crate::command::{Line, word};
use crate::samples::Samples;
use crate::setup::Setup;

/// What a group of calls is for: its key, and the calls.
type Group = (&'static str, &'static str);

/// What is in none of them is `other`.
const GROUPS: &[Group] = &[
    (
        "processes",
        "clone clone3 fork vfork execve execveat exit exit_group wait4 waitid kill tgkill pidfd_open pidfd_send_signal setsid \
         getpid gettid getppid setns unshare futex",
    ),
    ("mounts", "mount umount2 open_tree move_mount mount_setattr fsopen fsconfig fsmount pivot_root statfs fstatfs"),
    ("root", "openat2 mkdirat mknodat symlinkat fchownat fchdir chdir readlinkat faccessat faccessat2"),
    (
        "files",
        "open openat read pread64 write writev close close_range fstat stat lstat newfstatat statx lseek fcntl dup dup2 dup3 \
         rename renameat renameat2 unlink unlinkat mkdir rmdir readlink symlink access getdents64 ftruncate fchown fchmod chmod \
         getcwd ioctl sendfile copy_file_range memfd_create flock fsync",
    ),
    (
        "privileges",
        "prctl capget capset setuid setgid setresuid setresgid setgroups seccomp keyctl prlimit64 umask setrlimit getrlimit \
         sethostname setdomainname getuid geteuid getgid getegid",
    ),
    ("signals", "rt_sigaction rt_sigprocmask rt_sigtimedwait rt_sigreturn sigaltstack signalfd4"),
    (
        "sockets",
        "socket socketpair bind listen connect accept accept4 sendto sendmsg recvfrom recvmsg shutdown poll ppoll epoll_create1 \
         epoll_ctl epoll_wait epoll_pwait pipe pipe2 getsockopt setsockopt getsockname eventfd2",
    ),
    ("devices", "bpf"),
    (
        "memory",
        "brk mmap munmap mprotect mremap madvise arch_prctl set_tid_address set_robust_list rseq getrandom sched_getaffinity \
         sched_yield uname sysinfo",
    ),
];

/// Fills `X_syscalls` and `X_syscalls_GROUP`, for X of oci and crun.
///
/// # Errors
/// When the runtime fails under strace.
pub(super) fn measure(setup: &Setup, samples: &mut Samples) -> Result<()> {
    let bundle = setup.true_bundle()?;
    for runtime in [Runtime::ours(setup)?, Runtime::peer(setup, "crun")?] {
        // What a runtime keeps from one run to the next is there.
        runtime.run(&bundle).time()?;
        let trace = setup.scratch.join(format!("{}.strace", runtime.name));
        let strace =
            ["strace", "-f", "-qq", "-e", "signal=none", "-o"].map(Into::into).into_iter().chain([word(&trace)]);
        Line::new(strace).then(&runtime.run(&bundle)).time()?;
        let text = std::fs::read_to_string(&trace).with_context(|| trace.display().to_string())?;
        let counts = count(&text);
        ensure!(counts["processes"] > 0, "{} has no system call", trace.display());
        for (group, &calls) in &counts {
            samples.add(format!("{}_syscalls_{group}", runtime.name), f64::from(calls));
        }
        samples.add(format!("{}_syscalls", runtime.name), f64::from(counts.values().sum::<u32>()));
    }
    Ok(())
}

/// Calls by group, in what `strace -f -o` writes: `PID NAME(...`. A call that another process interrupts has a second
/// line, which does not begin like that.
fn count(trace: &str) -> BTreeMap<&'static str, u32> {
    let mut counts: BTreeMap<_, _> = GROUPS.iter().map(|(group, _)| (*group, 0)).chain([("other", 0)]).collect();
    for line in trace.lines() {
        let Some((_, call)) = line.split_once(' ') else { continue };
        let Some((name, _)) = call.trim_start().split_once('(') else { continue };
        if name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
            *counts.entry(group_of(name)).or_default() += 1;
        }
    }
    counts
}

fn group_of(name: &str) -> &'static str {
    GROUPS.iter().find(|(_, calls)| calls.split(' ').any(|call| call == name)).map_or("other", |(group, _)| *group)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_counts_once_and_in_one_group() {
        let trace = "\
12   execve(\"/x\", [\"x\"], 0x7ff /* 3 vars */) = 0
12   clone3({flags=CLONE_NEWNS, ...}, 88 <unfinished ...>
13   mount(\"proc\", \"/proc/self/fd/4\", \"proc\", 0, NULL) = 0
12   <... clone3 resumed>) = 13
13   frobnicate(1) = -1 ENOSYS (Function not implemented)
13   +++ exited with 0 +++
";
        let counts = count(trace);
        assert_eq!((counts["processes"], counts["mounts"], counts["other"]), (2, 1, 1));
        assert_eq!(counts.values().sum::<u32>(), 4);
    }

    #[test]
    fn no_call_is_in_two_groups() {
        let mut all: Vec<&str> = GROUPS.iter().flat_map(|(_, calls)| calls.split(' ')).collect();
        let count = all.len();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), count);
    }
}
