//! The agent's clock: boot time from an origin fixed at its start, so a step of the wall clock moves no deadline.

use std::io;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jiff::Timestamp;
use jiff::tz::TimeZone;
use nix::time::{ClockId, clock_gettime};
use podwright_core::time::Time;
use podwright_shim::proto::Stamp;

/// Reads the kernel's clocks and knows which boot this is.
#[derive(Debug)]
pub struct Clock {
    /// Wall clock minus boot-time clock when the agent started, nanoseconds.
    offset_ns: i64,
    boot_id: String,
}

impl Clock {
    /// Fixes the origin now. `boot_id_file` is `/proc/sys/kernel/random/boot_id`, or what a test puts in its place.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn start(boot_id_file: &Path) -> io::Result<Clock> {
        let boot_id = std::fs::read_to_string(boot_id_file)?.trim().to_owned();
        Ok(Clock { offset_ns: wall_ns().saturating_sub(boot_ns()), boot_id })
    }

    /// Now.
    pub fn now(&self) -> Time {
        Time(boot_ns().saturating_add(self.offset_ns))
    }

    /// What the wall clock shows now, for schedules: it may have been set since the origin was fixed.
    pub fn wall(&self) -> Timestamp {
        Timestamp::from_nanosecond(i128::from(wall_ns())).unwrap_or(Timestamp::UNIX_EPOCH)
    }

    /// How far the wall clock is ahead of the boot-time clock now, nanoseconds: what changes of it was set.
    pub fn wall_offset_ns(&self) -> i64 {
        wall_ns().saturating_sub(boot_ns())
    }

    /// Now, for a record.
    pub fn stamp(&self) -> Stamp {
        Stamp { boot_ns: boot_ns(), wall_ns: wall_ns() }
    }

    /// The boot id of the host.
    pub fn boot_id(&self) -> &str {
        &self.boot_id
    }

    /// When a stamp was taken, by this clock: its boot time if it is of this boot, else its wall-clock time.
    pub fn time_of(&self, stamp: Stamp, boot_id: &str) -> Time {
        if boot_id == self.boot_id { Time(stamp.boot_ns.saturating_add(self.offset_ns)) } else { Time(stamp.wall_ns) }
    }

    /// The stamp of a moment of this clock.
    pub fn stamp_of(&self, time: Time) -> Stamp {
        Stamp { boot_ns: time.0.saturating_sub(self.offset_ns), wall_ns: time.0 }
    }

    /// How long from now until `time`.
    pub fn until(&self, time: Time) -> Duration {
        time.since(self.now())
    }
}

/// The node's time zone: `/etc/localtime`, as everything on the node has it; without one UTC.
pub fn local_zone() -> TimeZone {
    let zone = std::fs::read("/etc/localtime").ok().and_then(|bytes| TimeZone::tzif("localtime", &bytes).ok());
    zone.unwrap_or(TimeZone::UTC)
}

fn boot_ns() -> i64 {
    // CLOCK_BOOTTIME exists since Linux 2.6.39 and takes no argument that could be wrong.
    clock_gettime(ClockId::CLOCK_BOOTTIME)
        .map_or(0, |t| t.tv_sec().saturating_mul(1_000_000_000).saturating_add(t.tv_nsec()))
}

fn wall_ns() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stamps_of_this_boot_go_by_boot_time_and_others_by_the_wall() {
        let clock = Clock { offset_ns: 1_000, boot_id: "here".into() };
        let stamp = Stamp { boot_ns: 5, wall_ns: 77 };
        assert_eq!(clock.time_of(stamp, "here"), Time(1_005));
        assert_eq!(clock.time_of(stamp, "elsewhere"), Time(77));
        assert_eq!(clock.time_of(clock.stamp_of(Time(4_242)), "here"), Time(4_242));
    }

    #[test]
    fn it_starts_at_the_wall_clock() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("boot_id");
        std::fs::write(&file, "abc\n").unwrap();
        let clock = Clock::start(&file).unwrap();
        assert_eq!(clock.boot_id(), "abc");
        assert!((clock.now().0 - wall_ns()).abs() < 1_000_000_000);
        assert!(Clock::start(&dir.path().join("none")).is_err());
    }
}
