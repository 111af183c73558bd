//! Values of options, from their text; an error says what is accepted.

use std::time::Duration;

/// How long a container takes to leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopTakes {
    /// So long.
    After(Duration),
    /// It ignores the signal.
    Never,
}

/// A length of time.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let (number, unit) = match text.strip_suffix("ms") {
        Some(number) => (number, 1e-3),
        None => match (text.strip_suffix('m'), text.strip_suffix('h')) {
            (Some(number), _) => (number, 60.0),
            (None, Some(number)) => (number, 3600.0),
            (None, None) => (text.strip_suffix('s').unwrap_or(text), 1.0),
        },
    };
    let seconds = number.parse::<f64>().ok().map(|n| n * unit).filter(|s| *s <= 1e9);
    seconds
        .and_then(|s| Duration::try_from_secs_f64(s).ok())
        .ok_or_else(|| "accepted: a number of seconds, or with a unit, such as 500ms, 1.5s, 2m, 1h".to_owned())
}

/// A whole number of seconds.
pub(crate) fn seconds(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| "accepted: a whole number of seconds, 0 or more".to_owned())
}

/// `never`, or a length of time.
pub(crate) fn stop_takes(text: &str) -> Result<StopTakes, String> {
    if text == "never" { Ok(StopTakes::Never) } else { duration(text).map(StopTakes::After) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("1.5"), Ok(Duration::from_millis(1500)));
        assert_eq!(duration("2m"), Ok(Duration::from_secs(120)));
        assert_eq!(stop_takes("never"), Ok(StopTakes::Never));
        assert_eq!(duration("1h"), Ok(Duration::from_secs(3600)));
        for bad in ["", "x", "-1s", "1d", "inf", "nan", "1e99"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }
}
