//! The one clock of all measurements: what the actor and the shim stamp their lines and records with.

use nix::time::{ClockId, clock_gettime};

/// `CLOCK_BOOTTIME` in nanoseconds.
pub(crate) fn boot_ns() -> i64 {
    clock_gettime(ClockId::CLOCK_BOOTTIME).map_or(0, |t| t.tv_sec() * 1_000_000_000 + t.tv_nsec())
}

/// Milliseconds from one reading to another.
pub(crate) fn ms(from: i64, to: i64) -> f64 {
    (to - from) as f64 / 1e6
}
