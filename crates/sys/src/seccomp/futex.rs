//! A futex that one thread at most sleeps on, private to the process.

use std::sync::atomic::{AtomicU32, Ordering};

pub(super) const FUTEX_WAIT: i32 = libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG;
pub(super) const FUTEX_WAKE: i32 = libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG;

/// Sets a futex and wakes who sleeps on it; one at most does.
pub(super) fn set_and_wake(word: &AtomicU32, value: u32) {
    word.store(value, Ordering::Release);
    // SAFETY: the kernel uses the address as a name only; the word outlives the call.
    unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), FUTEX_WAKE, 1) };
}

/// Sleeps until a futex is told to have another value; now and then for no reason.
pub(super) fn sleep_while(word: &AtomicU32, value: u32) {
    let forever = std::ptr::null::<libc::timespec>();
    // SAFETY: the kernel reads the word, which outlives the call; there is no timeout to read.
    unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), FUTEX_WAIT, value, forever, 0, 0) };
}
