//! Five-field schedules, as Kubernetes reads them.
//!
//! The forms are checked here, since croner knows more of them than Kubernetes does; the times are croner's. At the edges of
//! daylight saving time it goes by Vixie's rules: a time of day that does not exist is moved to the first moment that does, one
//! that exists twice happens once, and what runs by interval (`*/10 * * * *`) keeps its interval.

use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};
use jiff::Timestamp;
use jiff::tz::TimeZone;

/// An accepted schedule.
#[derive(Debug, Clone, PartialEq)]
pub struct Schedule {
    text: String,
    cron: Cron,
}

/// A text that is no schedule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScheduleError {
    /// A time zone belongs elsewhere.
    #[error("a schedule names no time zone; use timeZone")]
    Zone,
    /// `@every`, which has no fixed times.
    #[error("@every is valid in Kubernetes, not done by podwright yet; write it as */N")]
    Every,
    /// Another word after an `@`.
    #[error(
        "found \"{0}\", accepted: @yearly, @annually, @monthly, @weekly, @daily, @midnight, @hourly, or five fields"
    )]
    Nickname(String),
    /// Too few or too many fields.
    #[error(
        "found {0} fields, accepted: five (minute, hour, day of month, month, day of week), or @daily and the like"
    )]
    Fields(usize),
    /// A field that says nothing valid.
    #[error("{field}: found \"{found}\", accepted: {accepted}")]
    Field {
        /// Its name.
        field: &'static str,
        /// The part at fault.
        found: String,
        /// What would be right.
        accepted: String,
    },
}

/// One of the five fields.
struct Field {
    name: &'static str,
    low: u32,
    high: u32,
    /// Names for numbers, counted from `low`.
    names: &'static [&'static str],
    /// `?` is as good as `*`.
    any: bool,
}

const MONTHS: &[&str] = &["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"];
const DAYS: &[&str] = &["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"];
const FIELDS: [Field; 5] = [
    Field { name: "minute", low: 0, high: 59, names: &[], any: true },
    Field { name: "hour", low: 0, high: 23, names: &[], any: true },
    Field { name: "day of month", low: 1, high: 31, names: &[], any: true },
    Field { name: "month", low: 1, high: 12, names: MONTHS, any: true },
    Field { name: "day of week", low: 0, high: 6, names: DAYS, any: true },
];

impl Schedule {
    /// Reads a schedule.
    ///
    /// # Errors
    /// What Kubernetes refuses (robfig/cron `parser.go`), and `@every`.
    pub fn parse(text: &str) -> Result<Schedule, ScheduleError> {
        let fields = match text.trim() {
            zoned if zoned.starts_with("TZ=") || zoned.starts_with("CRON_TZ=") => return Err(ScheduleError::Zone),
            named if named.starts_with('@') => nickname(named)?,
            plain => plain,
        };
        let parts: Vec<&str> = fields.split_whitespace().collect();
        if parts.len() != FIELDS.len() {
            return Err(ScheduleError::Fields(parts.len()));
        }
        let plain: Vec<String> =
            FIELDS.iter().zip(&parts).map(|(field, part)| field.check(part)).collect::<Result<_, _>>()?;
        let parser =
            CronParser::builder().seconds(Seconds::Disallowed).year(Year::Disallowed).sloppy_ranges(true).build();
        let cron = parser.parse(&plain.join(" ")).map_err(|error| ScheduleError::Field {
            field: "schedule",
            found: text.to_owned(),
            accepted: format!("five fields ({error})"),
        })?;
        Ok(Schedule { text: text.to_owned(), cron })
    }

    /// As it was written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The first time after `after`; `None` if there is none (the 31st of February).
    pub fn next(&self, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        let found = self.cron.find_next_occurrence(&after.to_zoned(zone.clone()), false).ok()?;
        Some(found.timestamp()).filter(|at| *at > after)
    }

    /// The last time that is not after `until`.
    pub fn previous(&self, until: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        let found = self.cron.find_previous_occurrence(&until.to_zoned(zone.clone()), true).ok()?;
        Some(found.timestamp()).filter(|at| *at <= until)
    }
}

fn nickname(word: &str) -> Result<&'static str, ScheduleError> {
    match word {
        "@yearly" | "@annually" => Ok("0 0 1 1 *"),
        "@monthly" => Ok("0 0 1 * *"),
        "@weekly" => Ok("0 0 * * 0"),
        "@daily" | "@midnight" => Ok("0 0 * * *"),
        "@hourly" => Ok("0 * * * *"),
        every if every.starts_with("@every") => Err(ScheduleError::Every),
        other => Err(ScheduleError::Nickname(other.to_owned())),
    }
}

impl Field {
    /// The field with numbers for names.
    fn check(&self, text: &str) -> Result<String, ScheduleError> {
        let parts: Option<Vec<String>> = text.split(',').map(|part| self.part(part)).collect();
        parts.map(|parts| parts.join(",")).ok_or_else(|| {
            let names = match self.names {
                [first, .., last] => format!(" or {first} to {last}"),
                _ => String::new(),
            };
            let Field { low, high, .. } = self;
            ScheduleError::Field {
                field: self.name,
                found: text.to_owned(),
                accepted: format!("*, {low} to {high}{names}, ranges A-B, lists A,B, steps */N or A-B/N"),
            }
        })
    }

    /// One element of a list: `*`, `A`, `A-B`, each with a step or without.
    fn part(&self, text: &str) -> Option<String> {
        let (range, step) = match text.split_once('/') {
            Some((range, step)) => (range, Some(number(step).filter(|step| *step > 0)?)),
            None => (text, None),
        };
        let range = match range.split_once('-') {
            Some((first, last)) => {
                let (first, last) = (self.value(first)?, self.value(last)?);
                if first > last {
                    return None;
                }
                format!("{first}-{last}")
            }
            None if range == "*" || (range == "?" && self.any) => "*".to_owned(),
            // `A/N` goes on to the end.
            None if step.is_some() => format!("{}-{}", self.value(range)?, self.high),
            None => self.value(range)?.to_string(),
        };
        Some(match step {
            // A longer one than the range has one time, the first; croner takes no such step.
            Some(step) => format!("{range}/{}", step.min(self.high - self.low + 1).max(1)),
            None => range,
        })
    }

    fn value(&self, text: &str) -> Option<u32> {
        let named = self.names.iter().position(|name| name.eq_ignore_ascii_case(text));
        let value = match named.and_then(|n| u32::try_from(n).ok()) {
            Some(n) => self.low + n,
            None => number(text)?,
        };
        (self.low..=self.high).contains(&value).then_some(value)
    }
}

fn number(text: &str) -> Option<u32> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn zone(name: &str) -> TimeZone {
        TimeZone::get(name).unwrap()
    }

    fn times(schedule: &str, zone_name: &str, from: &str, n: usize) -> Vec<String> {
        let (schedule, zone) = (Schedule::parse(schedule).unwrap(), zone(zone_name));
        let mut at: Timestamp = from.parse().unwrap();
        let mut shown = Vec::new();
        for _ in 0..n {
            at = schedule.next(at, &zone).unwrap();
            shown.push(at.to_zoned(zone.clone()).strftime("%m-%d %H:%M%:z").to_string());
        }
        shown
    }

    #[test]
    fn the_forms_that_kubernetes_has() {
        for good in [
            "* * * * *",
            "*/5 * * * *",
            "0 0 1,15 * MON-FRI",
            "5/15 0-6/2 ? jan-Mar,dec sun",
            "@daily",
            "@midnight",
            "@yearly",
            "  1  2  3 4 5 ",
            "0 0 31 2 *",
            "*/100 * * * *",
        ] {
            assert!(Schedule::parse(good).is_ok(), "{good}: {:?}", Schedule::parse(good));
        }
        for bad in [
            "",
            "* * * *",
            "* * * * * *",
            "60 * * * *",
            "* 24 * * *",
            "* * 0 * *",
            "* * * 13 *",
            "* * * * 7",
            "* * L * *",
            "* * * * 5#2",
            "* * 15W * *",
            "/5 * * * *",
            "*/0 * * * *",
            "5-1 * * * *",
            "FRI-MON * * * *",
            "* * * * FRI-MON",
            "1,,2 * * * *",
            "+1 * * * *",
            "@often",
            "@every 5m",
            "TZ=UTC * * * * *",
            "CRON_TZ=UTC * * * * *",
        ] {
            assert!(Schedule::parse(bad).is_err(), "{bad}");
        }
        assert_eq!(
            Schedule::parse("0 24 * * *").unwrap_err().to_string(),
            "hour: found \"24\", accepted: *, 0 to 23, ranges A-B, lists A,B, steps */N or A-B/N"
        );
    }

    #[test]
    fn a_day_is_given_by_either_field_if_both_are() {
        assert_eq!(
            times("0 12 13 * FRI", "UTC", "2026-11-01T00:00:00Z", 3),
            ["11-06 12:00+00:00", "11-13 12:00+00:00", "11-20 12:00+00:00"]
        );
        assert_eq!(times("0 0 31 * *", "UTC", "2026-11-01T00:00:00Z", 2), ["12-31 00:00+00:00", "01-31 00:00+00:00"]);
        assert_eq!(Schedule::parse("0 0 31 2 *").unwrap().next(Timestamp::UNIX_EPOCH, &TimeZone::UTC), None);
    }

    /// Berlin, 29 March 2026: 02:00 to 03:00 does not exist. 25 October 2026: 02:00 to 03:00 is there twice.
    #[test]
    fn a_time_of_day_happens_once_a_day_also_when_the_clocks_change() {
        let spring = times("30 2 * * *", "Europe/Berlin", "2026-03-28T00:00:00Z", 3);
        assert_eq!(spring, ["03-28 02:30+01:00", "03-29 03:00+02:00", "03-30 02:30+02:00"]);
        let autumn = times("30 2 * * *", "Europe/Berlin", "2026-10-24T00:00:00Z", 3);
        assert_eq!(autumn, ["10-24 02:30+02:00", "10-25 02:30+02:00", "10-26 02:30+01:00"]);
    }

    #[test]
    fn an_interval_stays_one_when_the_clocks_change() {
        let spring = times("*/30 * * * *", "Europe/Berlin", "2026-03-29T00:29:00Z", 3);
        assert_eq!(spring, ["03-29 01:30+01:00", "03-29 03:00+02:00", "03-29 03:30+02:00"]);
        let autumn = times("*/30 * * * *", "Europe/Berlin", "2026-10-25T00:29:00Z", 4);
        assert_eq!(autumn, ["10-25 02:30+02:00", "10-25 02:00+01:00", "10-25 02:30+01:00", "10-25 03:00+01:00"]);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// Looked at from either side the times are the same ones, days of changed clocks included.
        #[test]
        fn there_and_back(
            start in 1_773_000_000_i64..1_795_000_000,
            schedule in prop::sample::select(vec![
                "*/7 * * * *", "0 * * * *", "30 2 * * *", "15 1 * * *", "0 3 * * SUN", "59 23 1 * *", "0,30 2,3 * * *",
            ]),
            name in prop::sample::select(vec!["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe"]),
        ) {
            let (schedule, zone) = (Schedule::parse(schedule).unwrap(), zone(name));
            let mut at = Timestamp::from_second(start).unwrap();
            for _ in 0..40 {
                let next = schedule.next(at, &zone).unwrap();
                prop_assert!(next > at);
                prop_assert_eq!(schedule.previous(next, &zone), Some(next));
                let just_before = next - jiff::SignedDuration::from_secs(1);
                prop_assert_eq!(schedule.next(just_before, &zone), Some(next));
                at = next;
            }
        }
    }
}
