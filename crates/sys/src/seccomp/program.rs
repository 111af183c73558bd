//! A compiled filter: kept as numbers, loaded on the calling thread.

use std::os::fd::{FromRawFd as _, OwnedFd};
use std::sync::atomic::{AtomicI32, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use nix::errno::Errno;

use super::arch::NATIVE;
use super::futex::{FUTEX_WAIT, set_and_wake, sleep_while};
use super::interpret::{Call, interpret};
use super::profile::FLAG_NEW_LISTENER;

/// A filter ready to be loaded.
#[derive(Debug, Clone)]
pub struct Program {
    instructions: Vec<libc::sock_filter>,
    flags: u32,
}

impl Program {
    pub(super) fn new(instructions: Vec<libc::sock_filter>, flags: u32) -> Self {
        Self { instructions, flags }
    }

    pub(super) fn instructions(&self) -> &[libc::sock_filter] {
        &self.instructions
    }

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
        let may_sleep = self.permits(libc::SYS_futex, [0, FUTEX_WAIT as u64, 0, 0, 0, 0]);
        let set = self.set();
        shared.number.store(*set.as_ref().unwrap_or(&FAILED), Ordering::Release);
        while shared.done.load(Ordering::Acquire) == 0 {
            if may_sleep {
                sleep_while(&shared.done, 0);
            } else {
                std::hint::spin_loop();
            }
        }
        set?;
        // Nobody else locks it any more.
        shared.result.lock().ok().and_then(|mut result| result.take()).ok_or(Errno::EAGAIN)
    }

    /// Whether the filter lets a call through, and nobody has to be asked first.
    pub(super) fn permits(&self, number: libc::c_long, args: [u64; 6]) -> bool {
        let Ok(number) = u32::try_from(number) else { return false };
        let call = Call { arch: NATIVE, number, args };
        let verdict = interpret(&self.instructions, &call);
        verdict.is_some_and(|(verdict, _)| matches!(verdict, libc::SECCOMP_RET_ALLOW | libc::SECCOMP_RET_LOG))
    }

    fn set(&self) -> nix::Result<i32> {
        set_filter(&self.instructions, self.flags)
    }
}

/// seccomp(2); the listener's descriptor, or the number of a thread that does not follow, or 0.
pub(super) fn set_filter(instructions: &[libc::sock_filter], flags: u32) -> nix::Result<i32> {
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
        set_and_wake(&self.done, 1);
    }
}
