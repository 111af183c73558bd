//! Times and durations as kubectl shows them.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;

/// A duration in at most two units (apimachinery `duration.HumanDuration`).
pub fn human(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let (minutes, hours) = (seconds / 60, seconds / 3600);
    let pair = |big: u64, unit: &str, small: u64, small_unit: &str| {
        if small == 0 { format!("{big}{unit}") } else { format!("{big}{unit}{small}{small_unit}") }
    };
    match () {
        () if seconds < 120 => format!("{seconds}s"),
        () if minutes < 10 => pair(minutes, "m", seconds % 60, "s"),
        () if minutes < 180 => format!("{minutes}m"),
        () if hours < 8 => pair(hours, "h", minutes % 60, "m"),
        () if hours < 48 => format!("{hours}h"),
        () if hours < 24 * 8 => pair(hours / 24, "d", hours % 24, "h"),
        () if hours < 24 * 365 * 2 => format!("{}d", hours / 24),
        () if hours < 24 * 365 * 8 => pair(hours / 24 / 365, "y", hours / 24 % 365, "d"),
        () => format!("{}y", hours / 24 / 365),
    }
}

/// How long ago a time of the API was; `<unknown>` if it is absent, `<invalid>` if it is no time or still to come.
pub fn since(time: &Value, now: Timestamp) -> String {
    let Some(text) = time.as_str() else { return "<unknown>".to_owned() };
    let Ok(at) = text.parse::<Timestamp>() else { return "<invalid>".to_owned() };
    let seconds = now.duration_since(at).as_secs();
    match u64::try_from(seconds) {
        Ok(seconds) => human(Duration::from_secs(seconds)),
        // Clocks of a node and its user's terminal may differ by a moment.
        Err(_) if seconds >= -1 => "0s".to_owned(),
        Err(_) => "<invalid>".to_owned(),
    }
}

/// What to say of a pod's `deletionTimestamp`, the end of its grace period.
pub fn deadline(time: &Value, now: Timestamp) -> String {
    match time.as_str().map(str::parse::<Timestamp>) {
        Some(Ok(at)) if at > now => {
            let left = u64::try_from(at.duration_since(now).as_secs()).unwrap_or(0);
            format!("its grace period ends in {}", human(Duration::from_secs(left)))
        }
        _ => format!("its grace period ended {} ago", since(time, now)),
    }
}

/// A time of the API as `describe` shows it: `Mon, 23 Nov 2026 12:00:00 +0000`.
pub fn long(time: &Value) -> String {
    match time.as_str().map(str::parse::<Timestamp>) {
        Some(Ok(at)) => at.strftime("%a, %d %b %Y %H:%M:%S +0000").to_string(),
        Some(Err(_)) => "<invalid>".to_owned(),
        None => "<unknown>".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn durations_as_kubectl_shows_them() {
        let (m, h, d) = (60, 3600, 86400);
        for (seconds, text) in [
            (0, "0s"),
            (119, "119s"),
            (120, "2m"),
            (9 * m + 59, "9m59s"),
            (10 * m + 5, "10m"),
            (179 * m, "179m"),
            (3 * h, "3h"),
            (7 * h + 59 * m, "7h59m"),
            (8 * h + 30 * m, "8h"),
            (47 * h, "47h"),
            (2 * d, "2d"),
            (7 * d + 23 * h, "7d23h"),
            (8 * d + 5 * h, "8d"),
            (729 * d, "729d"),
            (730 * d, "2y"),
            (731 * d, "2y1d"),
            (3000 * d, "8y"),
        ] {
            assert_eq!(human(Duration::from_secs(seconds)), text);
        }
    }

    #[test]
    fn times() {
        let now: Timestamp = "2026-11-23T12:00:00Z".parse().unwrap();
        assert_eq!(since(&json!("2026-11-23T11:59:00Z"), now), "60s");
        assert_eq!(since(&json!("2026-11-23T12:00:01Z"), now), "0s");
        assert_eq!(since(&json!("2026-11-23T12:00:09Z"), now), "<invalid>");
        assert_eq!(since(&json!("soon"), now), "<invalid>");
        assert_eq!(since(&Value::Null, now), "<unknown>");
        assert_eq!(deadline(&json!("2026-11-23T12:00:25Z"), now), "its grace period ends in 25s");
        assert_eq!(deadline(&json!("2026-11-23T11:59:58Z"), now), "its grace period ended 2s ago");
        assert_eq!(long(&json!("2026-11-23T12:00:00Z")), "Mon, 23 Nov 2026 12:00:00 +0000");
    }
}
