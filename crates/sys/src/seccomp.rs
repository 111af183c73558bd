//! Seccomp filters: compiled into the kernel's classic BPF, loaded with seccomp(2) at another moment, maybe in another process.

mod aside;
mod compile;
mod interpret;
mod listener;

use std::os::fd::{FromRawFd as _, OwnedFd};
use std::sync::atomic::{AtomicI32, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

pub use aside::Aside;
pub use listener::{Answer, Listener, Notification};
use nix::errno::Errno;

/// Flag of seccomp(2): log all actions but "allow".
pub const FLAG_LOG: u32 = libc::SECCOMP_FILTER_FLAG_LOG as u32;
/// Flag of seccomp(2): do not force the speculative store bypass mitigation.
pub const FLAG_SPEC_ALLOW: u32 = libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW as u32;
/// Flag of seccomp(2): all threads of the process.
pub const FLAG_TSYNC: u32 = libc::SECCOMP_FILTER_FLAG_TSYNC as u32;

/// Flag of seccomp(2), for a filter with a listener: once that has received a notification, only a fatal signal interrupts
/// the call (Linux 5.19).
pub const FLAG_WAIT_KILLABLE_RECV: u32 = 1 << 5;
/// Makes a listener (Linux 5.0).
const FLAG_NEW_LISTENER: u32 = libc::SECCOMP_FILTER_FLAG_NEW_LISTENER as u32;

/// `BPF_MAXINSNS` (linux/bpf_common.h).
const MAX_INSTRUCTIONS: usize = 4096;

/// Why a profile cannot be compiled.
#[derive(Debug, thiserror::Error)]
pub enum CompileError {
    /// An architecture that the specification does not know.
    #[error("unknown architecture {0}")]
    Architecture(String),
    /// More instructions than the kernel takes.
    #[error("the profile is too long: it takes {0} instructions, and the kernel takes {MAX_INSTRUCTIONS}")]
    TooLong(usize),
}

/// What happens to a system call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// SIGSYS ends the process.
    KillProcess,
    /// SIGSYS ends the thread.
    KillThread,
    /// The thread gets a SIGSYS that it can handle.
    Trap,
    /// The call fails with this errno.
    Errno(u16),
    /// A tracer is asked, and given this number.
    Trace(u16),
    /// A listener is asked.
    Notify,
    /// It is done and logged.
    Log,
    /// It is done.
    Allow,
}

/// How an argument is compared, as an unsigned number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operator {
    /// Equal.
    Equal,
    /// Not equal.
    NotEqual,
    /// Less.
    Less,
    /// Less or equal.
    LessOrEqual,
    /// Greater.
    Greater,
    /// Greater or equal.
    GreaterOrEqual,
    /// Equal in the bits of this mask.
    MaskedEqual(u64),
}

/// A condition on an argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Compare {
    /// Which argument, 0 to 5.
    pub argument: u32,
    /// How.
    pub operator: Operator,
    /// With what.
    pub value: u64,
}

/// A rule: what happens to these system calls when all comparisons hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// Names; those unknown to libseccomp are left out, since profiles name calls of newer kernels.
    pub names: Vec<String>,
    /// What happens.
    pub action: Action,
    /// Conditions on arguments, all of which must hold.
    pub compare: Vec<Compare>,
}

/// A profile in the terms of runtime-spec's `linux.seccomp`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Profile {
    /// For calls without a rule.
    pub default: Action,
    /// Names such as `SCMP_ARCH_X86`, besides the native one.
    pub architectures: Vec<String>,
    /// Flags for seccomp(2).
    pub flags: u32,
    /// The rules. Those with the default action say nothing and are left out.
    pub rules: Vec<Rule>,
}

/// A filter ready to be loaded.
#[derive(Debug, Clone)]
pub struct Program {
    instructions: Vec<libc::sock_filter>,
    flags: u32,
}

impl Profile {
    /// Compiles the profile.
    ///
    /// # Errors
    /// [`CompileError`].
    pub fn compile(&self) -> Result<Program, CompileError> {
        let instructions = compile::compile(self)?;
        if instructions.len() > MAX_INSTRUCTIONS {
            return Err(CompileError::TooLong(instructions.len()));
        }
        let flags = if self.notifies() {
            // The one other thread there may be is the one that takes the listener, which must not be under the filter.
            self.flags & !FLAG_TSYNC | FLAG_NEW_LISTENER
        } else {
            // Without a listener there is nothing that could be received.
            self.flags & !FLAG_WAIT_KILLABLE_RECV
        };
        Ok(Program { instructions, flags })
    }

    /// Whether a listener can be asked.
    #[must_use]
    pub fn notifies(&self) -> bool {
        self.default == Action::Notify || self.rules.iter().any(|rule| rule.action == Action::Notify)
    }
}

impl Program {
    /// The instructions as numbers, to be kept in a file.
    #[must_use]
    pub fn words(&self) -> Vec<u64> {
        let word = |i: &libc::sock_filter| {
            u64::from(i.code) << 48 | u64::from(i.jt) << 40 | u64::from(i.jf) << 32 | u64::from(i.k)
        };
        self.instructions.iter().map(word).collect()
    }

    /// The flags for seccomp(2).
    #[must_use]
    pub fn flags(&self) -> u32 {
        self.flags
    }

    /// From [`Program::words`]; `None` when there are none.
    #[must_use]
    pub fn from_words(words: &[u64], flags: u32) -> Option<Self> {
        // Each field takes its own bits.
        let instruction = |word: &u64| libc::sock_filter {
            code: (word >> 48) as u16,
            jt: (word >> 40) as u8,
            jf: (word >> 32) as u8,
            k: *word as u32,
        };
        (!words.is_empty()).then(|| Self { instructions: words.iter().map(instruction).collect(), flags })
    }

    /// Puts the calling thread under the filter, for good.
    ///
    /// A filter with a listener is loaded by [`Program::load_with_listener`]; here its listener is closed.
    ///
    /// # Errors
    /// EACCES with neither no_new_privs nor CAP_SYS_ADMIN; EINVAL for a flag that the kernel does not know.
    pub fn load(&self) -> nix::Result<()> {
        let listener = self.set()?;
        if self.flags & FLAG_NEW_LISTENER != 0 {
            // SAFETY: with this flag the result is a descriptor that the kernel has just made for this call.
            drop(unsafe { OwnedFd::from_raw_fd(listener) });
        }
        Ok(())
    }

    /// Whether it has a listener.
    #[must_use]
    pub fn has_listener(&self) -> bool {
        self.flags & FLAG_NEW_LISTENER != 0
    }

    /// Puts the calling thread under the filter, for good, and hands its listener to `take`, which runs in a thread that is not
    /// under it: any system call of the caller's may be what the listener is to decide about, even one to send it away.
    /// For the same reason the caller waits for `take` without a system call, unless the filter lets the one that sleeps through. Gives what
    /// `take` gives.
    ///
    /// # Errors
    /// As [`Program::load`]; EBUSY where an earlier filter has a listener; EAGAIN when there can be no thread.
    pub fn load_with_listener<T, F>(&self, take: F) -> nix::Result<T>
    where
        T: Send + 'static,
        F: FnOnce(OwnedFd) -> T + Send + 'static,
    {
        let shared =
            Arc::new(Handover { number: AtomicI32::new(WAITING), done: AtomicU32::new(0), result: Mutex::new(None) });
        let theirs = Arc::clone(&shared);
        let thread = std::thread::Builder::new().spawn(move || theirs.serve(take)).map_err(|_| Errno::EAGAIN)?;
        // It is not waited for, and its memory is not given back: either would take system calls.
        std::mem::forget(thread);
        let may_sleep = self.permits(libc::SYS_futex, [0, aside::FUTEX_WAIT as u64, 0, 0, 0, 0]);
        let set = self.set();
        shared.number.store(*set.as_ref().unwrap_or(&FAILED), Ordering::Release);
        while shared.done.load(Ordering::Acquire) == 0 {
            if may_sleep {
                aside::sleep_while(&shared.done, 0);
            } else {
                std::hint::spin_loop();
            }
        }
        set?;
        // Nobody else locks it any more.
        shared.result.lock().ok().and_then(|mut result| result.take()).ok_or(Errno::EAGAIN)
    }

    /// Whether the filter lets a call through, and nobody has to be asked first.
    fn permits(&self, number: libc::c_long, args: [u64; 6]) -> bool {
        let Ok(number) = u32::try_from(number) else { return false };
        let call = interpret::Call { arch: compile::NATIVE, number, args };
        let verdict = interpret::interpret(&self.instructions, &call);
        verdict.is_some_and(|(verdict, _)| matches!(verdict, libc::SECCOMP_RET_ALLOW | libc::SECCOMP_RET_LOG))
    }

    fn set(&self) -> nix::Result<i32> {
        set_filter(&self.instructions, self.flags)
    }
}

/// seccomp(2); the listener's descriptor, or the number of a thread that does not follow, or 0.
fn set_filter(instructions: &[libc::sock_filter], flags: u32) -> nix::Result<i32> {
    let len = u16::try_from(instructions.len()).map_err(|_| Errno::E2BIG)?;
    let program = libc::sock_fprog { len, filter: instructions.as_ptr().cast_mut() };
    // SAFETY: `program` points to `len` instructions that outlive the call; the kernel copies and checks them and writes nothing.
    let result = unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &raw const program) };
    Errno::result(result).map(|number| number as i32)
}

/// What two threads share while a listener changes hands.
struct Handover<T> {
    /// The listener's descriptor, [`WAITING`] or [`FAILED`].
    number: AtomicI32,
    /// A futex: 0, then 1.
    done: AtomicU32,
    result: Mutex<Option<T>>,
}

const WAITING: i32 = -1;
const FAILED: i32 = -2;

impl<T> Handover<T> {
    /// Waits for the listener, and has it taken.
    fn serve(&self, take: impl FnOnce(OwnedFd) -> T) {
        /// How often to look: the other thread cannot tell. Loading a filter takes about as long.
        const PAUSE: Duration = Duration::from_micros(50);
        let number = loop {
            match self.number.load(Ordering::Acquire) {
                WAITING => std::thread::sleep(PAUSE),
                number => break number,
            }
        };
        if number != FAILED {
            // SAFETY: the kernel has just made this descriptor for the call in the other thread, which leaves it to us.
            let taken = take(unsafe { OwnedFd::from_raw_fd(number) });
            if let Ok(mut result) = self.result.lock() {
                *result = Some(taken);
            }
        }
        aside::set_and_wake(&self.done, 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_answers_for_the_kernel() {
        let rule = |name: &str, compare| Rule { names: vec![name.into()], action: Action::Errno(42), compare };
        let profile = Profile {
            default: Action::Allow,
            architectures: vec![],
            flags: 0,
            rules: vec![
                rule("getppid", vec![]),
                rule("dup3", vec![Compare { argument: 0, operator: Operator::Equal, value: 77 }]),
                rule("a_call_of_the_future", vec![]),
            ],
        };
        let program = profile.compile().unwrap();
        let program = Program::from_words(&program.words(), program.flags()).unwrap();
        // A filter stays on its thread for ever, so the thread is thrown away.
        let thread = std::thread::spawn(move || {
            nix::sys::prctl::set_no_new_privs().unwrap();
            program.load().unwrap();
            // SAFETY: these calls take integers only; the descriptors do not exist.
            let call = |number, arg: i32| Errno::result(unsafe { libc::syscall(number, arg, arg, 0) });
            (call(libc::SYS_getppid, 0), call(libc::SYS_dup3, 77), call(libc::SYS_dup3, 78))
        });
        let (getppid, filtered, other) = thread.join().unwrap();
        assert_eq!(getppid, Err(Errno::ENOMSG));
        assert_eq!(filtered, Err(Errno::ENOMSG));
        assert_eq!(other, Err(Errno::EINVAL));
    }

    #[test]
    fn a_listener_is_handed_over_unfiltered() {
        // Everything the caller could do to send it itself is what the listener would have to answer for.
        let rule = Rule {
            names: ["getppid", "sendmsg", "write", "read", "futex", "close"].map(str::to_owned).to_vec(),
            action: Action::Notify,
            compare: vec![],
        };
        let profile = Profile {
            default: Action::Allow,
            architectures: vec![],
            flags: FLAG_TSYNC | FLAG_WAIT_KILLABLE_RECV,
            rules: vec![rule],
        };
        let program = profile.compile().unwrap();
        assert!(program.has_listener());
        let outcome = Arc::new(Mutex::new(None));
        let theirs = Arc::clone(&outcome);
        let thread = std::thread::spawn(move || {
            nix::sys::prctl::set_no_new_privs().unwrap();
            let name = program.load_with_listener(|fd| std::fs::read_link(crate::mount::proc_path(&fd))).unwrap();
            // SAFETY: the call takes no arguments. The listener is closed by now.
            let getppid = Errno::result(unsafe { libc::syscall(libc::SYS_getppid) });
            *theirs.lock().unwrap() = Some((name, getppid));
        });
        thread.join().unwrap();
        let (name, getppid) = outcome.lock().unwrap().take().unwrap();
        assert_eq!(name.unwrap().as_os_str(), "anon_inode:seccomp notify");
        assert_eq!(getppid, Err(Errno::ENOSYS));
    }

    #[test]
    fn who_hands_a_listener_over_sleeps_meanwhile() {
        // With this call refused, the filter can only be loaded by the thread that it is for.
        let rule = |name: &str, action| Rule { names: vec![name.into()], action, compare: vec![] };
        let rules = vec![rule("getppid", Action::Notify), rule("seccomp", Action::Errno(1))];
        let profile = Profile { default: Action::Allow, architectures: vec![], flags: 0, rules };
        let program = profile.compile().unwrap();
        let thread = std::thread::spawn(move || {
            nix::sys::prctl::set_no_new_privs().unwrap();
            let used = || {
                let usage = nix::sys::resource::getrusage(nix::sys::resource::UsageWho::RUSAGE_THREAD).unwrap();
                let parts = [usage.user_time(), usage.system_time()];
                parts.map(|part| part.tv_sec() * 1000 + part.tv_usec() / 1000).iter().sum::<i64>()
            };
            let before = used();
            program.load_with_listener(|_| std::thread::sleep(Duration::from_millis(400))).unwrap();
            used() - before
        });
        let milliseconds = thread.join().unwrap();
        assert!(milliseconds < 100, "{milliseconds} ms of processor time for a wait of 400 ms");
    }

    #[test]
    fn an_unknown_architecture_is_an_error() {
        let profile =
            Profile { default: Action::Allow, architectures: vec!["SCMP_ARCH_PDP11".into()], flags: 0, rules: vec![] };
        let error = profile.compile().unwrap_err();
        assert_eq!(error.to_string(), "unknown architecture SCMP_ARCH_PDP11");
    }

    #[test]
    fn a_filter_that_the_kernel_would_not_take_is_an_error() {
        let rule = |value| Rule {
            names: vec!["read".into()],
            action: Action::Log,
            compare: vec![Compare { argument: 0, operator: Operator::Equal, value }],
        };
        let profile = |count: u64| Profile {
            default: Action::Allow,
            architectures: vec![],
            flags: 0,
            rules: (0..count).map(rule).collect(),
        };
        assert!(profile(700).compile().is_ok());
        assert!(matches!(profile(1000).compile(), Err(CompileError::TooLong(5000..))));
    }
}
