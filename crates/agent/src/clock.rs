//! The agent's clock: boot time from an origin fixed at its start, so a step of the wall clock moves no deadline. What is shown follows
//! the wall clock all the same: [`Calendar`].

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jiff::Timestamp;
use nix::time::{ClockId, clock_gettime};
use podwright_core::time::Time;
use podwright_proto::Stamp;
use podwright_sys::own::{Links, read_text};

/// Most bytes of a boot id; the kernel's has 37.
const MAX_BOOT_ID: u64 = 4096;

/// Reads the kernel's clocks and knows which boot this is.
#[derive(Debug)]
pub struct Clock {
    /// Wall clock minus boot-time clock when the agent started, nanoseconds.
    offset_ns: i64,
    /// [`Calendar::shift_ns`], as last found.
    shift_ns: AtomicI64,
    boot_id: String,
}

/// How the agent's moments are shown: since it fixed its origin the wall clock may have been set, as on a board without a battery that
/// learns the time after it has started. All moments of this boot are shown by the clock as it is now, so that their order and their
/// distances stay. Those of earlier boots were taken from the wall clock of then and are shown as they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Calendar {
    /// The begin of this boot.
    begin: Time,
    /// What lies after this is no moment of this boot, nor a deadline of it: the clock of an earlier boot was ahead.
    end: Time,
    /// How far the wall clock has been set since the origin was fixed, nanoseconds.
    shift_ns: i64,
}

/// How far ahead a deadline may be that is shown, at least: a year.
const HORIZON: Duration = Duration::from_secs(366 * 24 * 3600);
/// What counts as a set clock, nanoseconds; NTP slews both clocks alike. Less may come from reading them one after the other.
const STEP_NS: i64 = 500_000_000;
/// How often the clocks are read at most, until the two readings lie close together.
const READINGS: usize = 4;

impl Calendar {
    /// Moments from `begin` to `end` are shown `shift_ns` later.
    #[must_use]
    pub fn shifted(begin: Time, end: Time, shift_ns: i64) -> Calendar {
        Calendar { begin, end, shift_ns }
    }

    /// Whether every moment is shown as it is.
    #[must_use]
    pub fn changes_nothing(&self) -> bool {
        self.shift_ns == 0
    }

    /// The moment as the wall clock has it.
    #[must_use]
    pub fn show(&self, time: Time) -> Time {
        if (self.begin..=self.end).contains(&time) { Time(time.0.saturating_add(self.shift_ns)) } else { time }
    }
}

impl Default for Calendar {
    /// Nothing has been set.
    fn default() -> Self {
        Calendar { begin: Time(i64::MIN), end: Time(i64::MAX), shift_ns: 0 }
    }
}

/// The shift that holds now, of the one that held before and one that was just measured to within `error_ns`. It only changes when the
/// clock was set: what is shown must not flicker.
fn shift(held_ns: i64, measured_ns: i64, error_ns: i64) -> i64 {
    let difference = measured_ns.saturating_sub(held_ns).saturating_abs();
    if difference < STEP_NS.saturating_add(error_ns) { held_ns } else { measured_ns }
}

impl Clock {
    /// Fixes the origin now. `boot_id_file` is `/proc/sys/kernel/random/boot_id`, or what a test puts in its place.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn start(boot_id_file: &Path) -> io::Result<Clock> {
        let boot_id = read_text(boot_id_file, MAX_BOOT_ID, Links::Follow)?.trim().to_owned();
        Ok(Clock { offset_ns: offset_ns().0, shift_ns: AtomicI64::new(0), boot_id })
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
        Stamp { boot_ns: time.0.saturating_sub(self.offset_ns), wall_ns: self.calendar().show(time).0 }
    }

    /// The stamp of this clock's origin, by which another agent moves this one's moments.
    pub fn epoch(&self) -> Stamp {
        Stamp { boot_ns: 0_i64.saturating_sub(self.offset_ns), wall_ns: self.calendar().shift_ns }
    }

    /// How moments are shown now.
    pub fn calendar(&self) -> Calendar {
        let (offset_ns, error_ns) = offset_ns();
        let held = self.shift_ns.load(Ordering::Relaxed);
        let shift_ns = shift(held, offset_ns.saturating_sub(self.offset_ns), error_ns);
        self.shift_ns.store(shift_ns, Ordering::Relaxed);
        Calendar { begin: Time(self.offset_ns), end: self.now() + HORIZON, shift_ns }
    }

    /// How long from now until `time`.
    pub fn until(&self, time: Time) -> Duration {
        time.since(self.now())
    }
}

fn boot_ns() -> i64 {
    // CLOCK_BOOTTIME exists since Linux 2.6.39 and takes no argument that could be wrong.
    clock_gettime(ClockId::CLOCK_BOOTTIME)
        .map_or(0, |t| t.tv_sec().saturating_mul(1_000_000_000).saturating_add(t.tv_nsec()))
}

/// Wall clock minus boot-time clock, and how wrong that may be since they are not read at once.
fn offset_ns() -> (i64, i64) {
    let read = |_| {
        let (before, wall, after) = (boot_ns(), wall_ns(), boot_ns());
        (wall.saturating_sub(before), after.saturating_sub(before))
    };
    (0..READINGS).map(read).min_by_key(|(_, error)| *error).unwrap_or_default()
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
        let clock = Clock { offset_ns: 1_000, shift_ns: AtomicI64::new(0), boot_id: "here".into() };
        let stamp = Stamp { boot_ns: 5, wall_ns: 77 };
        assert_eq!(clock.time_of(stamp, "here"), Time(1_005));
        assert_eq!(clock.time_of(stamp, "elsewhere"), Time(77));
        assert_eq!(clock.time_of(clock.stamp_of(Time(4_242)), "here"), Time(4_242));
    }

    #[test]
    fn only_a_set_clock_shifts_what_is_shown() {
        const SECOND: i64 = 1_000_000_000;
        let years = 56 * 365 * 24 * 3600 * SECOND;
        for (held, measured, error, expected) in [
            (0, 0, 0, 0),
            (0, 1_000_000, 200, 0),
            (0, -499_000_000, 200, 0),
            (0, SECOND, 0, SECOND),
            (0, SECOND, SECOND, 0),
            (0, years, SECOND, years),
            (years, years + 3_000, 100, years),
            (years, 0, 100, 0),
            (0, -3600 * SECOND, 100, -3600 * SECOND),
            (i64::MIN, i64::MAX, i64::MAX, i64::MAX),
        ] {
            assert_eq!(shift(held, measured, error), expected, "{held} {measured} {error}");
        }
    }

    #[test]
    fn moments_of_this_boot_are_shown_by_the_clock_as_it_is() {
        // A board that began in 1970 and then learnt that it is 2026; a record of the boot before, whose clock was right.
        let (begin, now, before) = (Time(10), Time(60_000_000_000), Time(1_790_000_000_000_000_000));
        let shift_ns = 1_796_000_000_000_000_000;
        let calendar = Calendar { begin, end: now + HORIZON, shift_ns };
        for (time, shown) in [
            (begin, shift_ns + 10),
            (now, shift_ns + now.0),
            (now + Duration::from_secs(30), shift_ns + now.0 + 30_000_000_000),
            (before, before.0),
            (Time(9), 9),
        ] {
            assert_eq!(calendar.show(time), Time(shown));
        }
        assert_eq!(Calendar::default().show(before), before);
    }

    #[test]
    fn a_clock_that_was_set_stamps_and_shows_the_new_time() {
        let clock = Clock { offset_ns: 0, shift_ns: AtomicI64::new(0), boot_id: "here".into() };
        // Its origin is the boot: the wall clock has been set by all that it is ahead of that.
        let shown = clock.calendar().show(clock.now());
        assert!((shown.0 - wall_ns()).abs() < STEP_NS, "{shown:?}");
        let stamp = clock.stamp_of(clock.now());
        assert!((stamp.wall_ns - wall_ns()).abs() < STEP_NS && (stamp.boot_ns - boot_ns()).abs() < STEP_NS);
        assert_eq!(clock.time_of(clock.epoch(), "here"), Time(0));
        assert!((clock.time_of(clock.epoch(), "elsewhere").0 - (wall_ns() - boot_ns())).abs() < STEP_NS);
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
