//! Values as they are written in the configuration: durations and sizes.

use std::time::Duration;

/// A duration: seconds (`20`, `0.5`) or numbers with units (`20s`, `1m30s`, `500ms`, `2h`, `7d`).
///
/// # Errors
/// A sentence saying what was found and what is accepted.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let refuse =
        || format!("{text:?} is not a duration; write seconds (20) or numbers with units (500ms, 20s, 1m30s, 2h, 7d)");
    if let Ok(seconds) = text.parse::<f64>() {
        return Duration::try_from_secs_f64(seconds).map_err(|_| refuse());
    }
    let mut total = Duration::ZERO;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(refuse)?;
        let number: f64 = rest[..digits].parse().map_err(|_| refuse())?;
        let tail = &rest[digits..];
        let unit_end = tail.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(tail.len());
        let unit = match &tail[..unit_end] {
            "ms" => 0.001,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            "d" => 86_400.0,
            _ => return Err(refuse()),
        };
        let part = Duration::try_from_secs_f64(number * unit).map_err(|_| refuse())?;
        total = total.checked_add(part).ok_or_else(refuse)?;
        rest = &tail[unit_end..];
    }
    if text.is_empty() { Err(refuse()) } else { Ok(total) }
}

/// A size in bytes: a number, alone or with `k M G T` (powers of 1000) or `Ki Mi Gi Ti` (powers of 1024).
///
/// # Errors
/// As [`duration`].
pub(super) fn size(text: &str) -> Result<u64, String> {
    let refuse = || {
        format!("{text:?} is not a size; write bytes (1048576) or a number with k, M, G, T, Ki, Mi, Gi or Ti (10Mi)")
    };
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let number: u64 = text[..digits].parse().map_err(|_| refuse())?;
    let unit: u64 = match &text[digits..] {
        "" => 1,
        "k" => 1_000,
        "M" => 1_000_000,
        "G" => 1_000_000_000,
        "T" => 1_000_000_000_000,
        "Ki" => 1 << 10,
        "Mi" => 1 << 20,
        "Gi" => 1 << 30,
        "Ti" => 1 << 40,
        _ => return Err(refuse()),
    };
    number.checked_mul(unit).ok_or_else(refuse)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        let ms = |text| duration(text).map(|d| d.as_millis());
        for (text, expected) in [
            ("20", 20_000),
            ("0.5", 500),
            ("20s", 20_000),
            ("1m30s", 90_000),
            ("500ms", 500),
            ("7d", 604_800_000),
            ("1.5h", 5_400_000),
        ] {
            assert_eq!(ms(text), Ok(expected), "{text}");
        }
        for text in ["", "-1", "s", "10x", "1m30", "nan", "inf", "1e300"] {
            assert!(ms(text).unwrap_err().contains("not a duration"), "{text}");
        }
    }

    #[test]
    fn sizes() {
        for (text, expected) in [("7", 7), ("10Mi", 10 << 20), ("1k", 1000), ("2Gi", 2 << 30)] {
            assert_eq!(size(text), Ok(expected));
        }
        for text in ["", "Mi", "10MiB", "-1", "1.5Gi", "99999999999999999999", "99999999Ti"] {
            assert!(size(text).unwrap_err().contains("not a size"), "{text}");
        }
    }
}
