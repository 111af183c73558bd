//! The clocks, and how a log line writes a time.

use nix::time::{ClockId, clock_gettime};
use podwright_proto::Stamp;

/// The present moment on both clocks.
pub(crate) fn now() -> Stamp {
    Stamp { boot_ns: read(ClockId::CLOCK_BOOTTIME), wall_ns: read(ClockId::CLOCK_REALTIME) }
}

/// Both clocks exist on every supported kernel; 0 is what a broken one shows.
fn read(clock: ClockId) -> i64 {
    clock_gettime(clock).map_or(0, |time| time.tv_sec() * 1_000_000_000 + time.tv_nsec())
}

/// A UTC date and time.
struct Civil {
    date: (i64, u32, u32),
    time: (i64, i64, i64),
    nanos: i64,
}

/// Days to dates as in Howard Hinnant's `civil_from_days`: eras of 400 years that begin on 1 March.
fn civil(wall_ns: i64) -> Civil {
    let (seconds, nanos) = (wall_ns.div_euclid(1_000_000_000), wall_ns.rem_euclid(1_000_000_000));
    let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    Civil { date: (year, month as u32, day as u32), time: (second / 3600, second / 60 % 60, second % 60), nanos }
}

/// RFC 3339 with nanoseconds, in UTC: the time of a CRI log line.
pub(crate) fn rfc3339(wall_ns: i64) -> String {
    let Civil { date: (year, month, day), time: (hour, minute, second), nanos } = civil(wall_ns);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{nanos:09}Z")
}

/// `YYYYMMDD-HHMMSS` in UTC: the suffix of a rotated log file.
pub(crate) fn compact(wall_ns: i64) -> String {
    let Civil { date: (year, month, day), time: (hour, minute, second), .. } = civil(wall_ns);
    format!("{year:04}{month:02}{day:02}-{hour:02}{minute:02}{second:02}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_across_leap_years() {
        for (seconds, expected) in [
            (0, "1970-01-01T00:00:00.000000000Z"),
            (951_782_399, "2000-02-28T23:59:59.000000000Z"),
            (951_782_400, "2000-02-29T00:00:00.000000000Z"),
            (1_709_251_199, "2024-02-29T23:59:59.000000000Z"),
            (4_107_542_400, "2100-03-01T00:00:00.000000000Z"),
            (-1, "1969-12-31T23:59:59.000000000Z"),
        ] {
            assert_eq!(rfc3339(seconds * 1_000_000_000), expected);
        }
        assert_eq!(rfc3339(1_700_000_000_000_000_007), "2023-11-14T22:13:20.000000007Z");
        assert_eq!(compact(1_700_000_000_000_000_007), "20231114-221320");
    }
}
