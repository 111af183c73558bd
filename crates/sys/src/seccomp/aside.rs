//! A filter with a listener that is there long before the filter is on the thread it is for.
//!
//! The kernel makes a listener when a filter is loaded, and what waits under the filter would depend on it, or on who holds the
//! listener, for every call that waiting takes. So the filter is loaded on a thread that does nothing else, and the other threads
//! are put under it when their time comes: by a second filter, which allows everything and is loaded for all threads of the
//! process (`SECCOMP_FILTER_FLAG_TSYNC`: they get the loading thread's filters).

use std::os::fd::{FromRawFd as _, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, AtomicU32, Ordering};
use std::time::Duration;

use nix::errno::Errno;

use super::bpf::{RETURN, op};
use super::futex::{FUTEX_WAIT, FUTEX_WAKE, set_and_wake, sleep_while};
use super::profile::{FLAG_SPEC_ALLOW, FLAG_TSYNC};
use super::program::{Program, set_filter};

/// A filter that is loaded on a waiting thread. Without [`Aside::adopt`] it stays there until the process ends.
#[derive(Debug)]
pub struct Aside(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    /// The listener's descriptor, or a negative errno, or [`PENDING`].
    listener: AtomicI32,
    /// A futex: [`WAIT`], [`ADOPT`], then [`DONE`].
    word: AtomicU32,
    /// 0, or a negative errno.
    result: AtomicI32,
}

const PENDING: i32 = i32::MIN;
const WAIT: u32 = 0;
const ADOPT: u32 = 1;
const DONE: u32 = 2;

impl Program {
    /// Loads the filter on a thread of its own, which is not waited for, and gives its listener. `None` for a filter that stands
    /// in the way of the two calls that this thread has to make under it, futex(2) and seccomp(2): that one can only be loaded
    /// by [`Program::load_with_listener`].
    ///
    /// # Errors
    /// As [`Program::load`], which takes CAP_SYS_ADMIN here; EBUSY where an earlier filter has a listener; EAGAIN when there can
    /// be no thread.
    pub fn load_aside(&self) -> nix::Result<Option<(Aside, OwnedFd)>> {
        /// How often to look for the listener. Loading a filter takes about as long.
        const PAUSE: Duration = Duration::from_micros(50);
        let shared = Arc::new(Shared {
            listener: AtomicI32::new(PENDING),
            word: AtomicU32::new(WAIT),
            result: AtomicI32::new(0),
        });
        let (theirs, program) = (Arc::clone(&shared), self.clone());
        std::thread::Builder::new().spawn(move || theirs.hold(&program)).map_err(|_| Errno::EAGAIN)?;
        let listener = loop {
            match shared.listener.load(Ordering::Acquire) {
                PENDING => std::thread::sleep(PAUSE),
                number => break number,
            }
        };
        match errno_of(listener) {
            Some(Errno::ENOTSUP) => Ok(None),
            Some(errno) => Err(errno),
            // SAFETY: the kernel has just made this descriptor for the call in the other thread, which leaves it to us.
            None => Ok(Some((Aside(shared), unsafe { OwnedFd::from_raw_fd(listener) }))),
        }
    }
}

impl Aside {
    /// Puts all threads of the process under the filter, for good, the caller among them.
    ///
    /// # Errors
    /// seccomp(2)'s; ESRCH where another thread has filters of its own.
    pub fn adopt(self) -> nix::Result<()> {
        self.0.step(ADOPT);
        // Whether the filter holds for this call already or not: it lets it through.
        self.0.wait_while(ADOPT);
        let result = self.0.result.load(Ordering::Acquire);
        // Its memory is not given back: that may take a call.
        std::mem::forget(self);
        errno_of(result).map_or(Ok(()), Err)
    }
}

impl Shared {
    /// What the thread does. It comes back only where the filter was not loaded.
    fn hold(&self, program: &Program) {
        let all = [op(RETURN, libc::SECCOMP_RET_ALLOW)];
        let flags = FLAG_TSYNC | program.flags() & FLAG_SPEC_ALLOW;
        if !may_go_on(program, flags) {
            return self.listener.store(negative(Errno::ENOTSUP), Ordering::Release);
        }
        match set_filter(program.instructions(), program.flags()) {
            Ok(listener) => self.listener.store(listener, Ordering::Release),
            Err(errno) => return self.listener.store(negative(errno), Ordering::Release),
        }
        self.wait_while(WAIT);
        let result = match set_filter(&all, flags) {
            Ok(0) => 0,
            // The number of a thread that could not be put under it.
            Ok(_) => negative(Errno::ESRCH),
            Err(errno) => negative(errno),
        };
        self.result.store(result, Ordering::Release);
        self.step(DONE);
        // To end takes a call that the filter may not allow. execve(2) or the end of the process ends it.
        loop {
            self.wait_while(DONE);
        }
    }

    /// Gives the word to whoever waits for it; one at most does.
    fn step(&self, word: u32) {
        set_and_wake(&self.word, word);
    }

    fn wait_while(&self, word: u32) {
        while self.word.load(Ordering::Acquire) == word {
            sleep_while(&self.word, word);
        }
    }
}

/// Whether the filter lets the calls of [`Shared::hold`] through, unasked. Their addresses are taken to be nobody's condition.
fn may_go_on(program: &Program, flags: u32) -> bool {
    let futex =
        |operation: i32, value: u32| program.permits(libc::SYS_futex, [0, operation as u64, value.into(), 0, 0, 0]);
    let load = [libc::SECCOMP_SET_MODE_FILTER.into(), flags.into(), 0, 0, 0, 0];
    let waits = [WAIT, ADOPT, DONE].into_iter().all(|word| futex(FUTEX_WAIT, word));
    waits && futex(FUTEX_WAKE, 1) && program.permits(libc::SYS_seccomp, load)
}

fn negative(errno: Errno) -> i32 {
    -(errno as i32)
}

fn errno_of(result: i32) -> Option<Errno> {
    (result < 0).then(|| Errno::from_raw(-result))
}

#[cfg(test)]
mod tests {
    use super::super::profile::{Action, Compare, Operator, Profile, Rule};
    use super::*;

    fn profile(names: &[&str], action: Action, compare: Vec<Compare>) -> Program {
        let notified = Rule { names: vec!["getppid".into()], action: Action::Notify, compare: vec![] };
        let rule = Rule { names: names.iter().map(|&name| name.into()).collect(), action, compare };
        let profile = Profile { default: Action::Allow, architectures: vec![], flags: 0, rules: vec![notified, rule] };
        profile.compile().unwrap()
    }

    /// On a thread that is thrown away: it has no filter, and no other thread gets one without being adopted.
    fn listener_of(program: Program) -> nix::Result<Option<String>> {
        let loaded = std::thread::spawn(move || program.load_aside()).join().unwrap()?;
        Ok(loaded.map(|(_, fd)| {
            // SAFETY: the call takes no arguments.
            assert!(unsafe { libc::syscall(libc::SYS_getppid) } > 0, "the caller is not under the filter");
            std::fs::read_link(crate::mount::proc_path(&fd)).unwrap().display().to_string()
        }))
    }

    #[test]
    fn a_listener_is_there_before_the_filter() {
        if !nix::unistd::Uid::effective().is_root() {
            return assert_eq!(listener_of(profile(&[], Action::Allow, vec![])), Err(Errno::EACCES));
        }
        for program in [
            profile(&["write", "read", "execve", "exit", "munmap"], Action::Notify, vec![]),
            profile(&["futex"], Action::Log, vec![]),
            // Another operation than the one that is used.
            profile(&["futex"], Action::Notify, vec![Compare { argument: 1, operator: Operator::Equal, value: 77 }]),
        ] {
            assert_eq!(listener_of(program).unwrap().as_deref(), Some("anon_inode:seccomp notify"));
        }
    }

    #[test]
    fn a_filter_that_would_stop_the_thread_is_not_loaded() {
        let [waiting, waking] = [128, 129].map(|value| Compare { argument: 1, operator: Operator::Equal, value });
        for program in [
            profile(&["futex"], Action::Notify, vec![]),
            profile(&["futex"], Action::Errno(1), vec![waiting]),
            profile(&["futex"], Action::Trap, vec![waking]),
            profile(&["seccomp"], Action::KillProcess, vec![]),
        ] {
            assert_eq!(listener_of(program), Ok(None));
        }
    }
}
