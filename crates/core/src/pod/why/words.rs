//! Times, durations and sizes for people.

use std::time::Duration;

use super::super::spec::{HttpGet, Role};
use crate::time::Time;

/// `0.4 s`, `41 s`, `12 min`, `5 h`, `3 d`.
pub fn duration(d: Duration) -> String {
    let seconds = d.as_secs();
    match seconds {
        0..10 => {
            let tenths = d.as_millis() / 100;
            if tenths.is_multiple_of(10) {
                format!("{} s", tenths / 10)
            } else {
                format!("{}.{} s", tenths / 10, tenths % 10)
            }
        }
        10..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        7200..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} d", seconds / 86_400),
    }
}

/// `41 s ago`.
pub(crate) fn ago(at: Time, now: Time) -> String {
    format!("{} ago", duration(now.since(at)))
}

/// A moment to come: `at 18:59:07 UTC, in 12 s`.
pub(crate) fn until(at: Time, now: Time) -> String {
    format!("at {}, in {}", clock(at), duration(at.since(now)))
}

/// `18:59:07 UTC`.
pub(crate) fn clock(at: Time) -> String {
    let second = at.0.div_euclid(1_000_000_000).rem_euclid(86_400);
    format!("{:02}:{:02}:{:02} UTC", second / 3600, second / 60 % 60, second % 60)
}

/// `64 MiB`, `63.8 MiB`, `512 B`.
pub(crate) fn bytes(n: u64) -> String {
    const UNITS: [(&str, u64); 4] = [("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
    let Some((unit, size)) = UNITS.iter().find(|(_, size)| n >= *size) else { return format!("{n} B") };
    let (whole, tenth) = (n / size, n % size * 10 / size);
    if tenth == 0 { format!("{whole} {unit}") } else { format!("{whole}.{tenth} {unit}") }
}

/// A size as manifests have it, rounded up: `96Mi`.
pub(crate) fn quantity(n: u64) -> String {
    format!("{}Mi", n.div_ceil(1 << 20))
}

/// `1 failure`, `3 failures`.
pub(crate) fn count(n: u64, what: &str) -> String {
    if n == 1 { format!("1 {what}") } else { format!("{n} {what}s") }
}

/// A text of several lines in one, without blanks at its ends, and without a colon behind which nothing follows.
pub(crate) fn line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ").trim_end_matches(':').to_owned()
}

/// `init`, `sidecar` or `main`.
pub fn role_name(role: Role) -> &'static str {
    match role {
        Role::Init => "init",
        Role::Sidecar => "sidecar",
        Role::Main => "main",
    }
}

/// An HTTP request of a probe or hook.
/// A request, as people write it.
pub(super) fn get(HttpGet { scheme, port, path, .. }: &HttpGet) -> String {
    format!("{scheme} GET :{port}{path}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_read_well() {
        let shown: Vec<String> = [0, 450, 1000, 41_000, 119_999, 120_000, 7_200_000, 200_000_000]
            .map(|ms| duration(Duration::from_millis(ms)))
            .into();
        assert_eq!(shown, ["0 s", "0.4 s", "1 s", "41 s", "119 s", "2 min", "2 h", "2 d"]);
        assert_eq!([bytes(0), bytes(1536), bytes(64 << 20), bytes(5 << 40)], ["0 B", "1.5 KiB", "64 MiB", "5 TiB"]);
        assert_eq!([quantity(1), quantity(100 << 20)], ["1Mi", "100Mi"]);
        let at = Time(68_347_000_000_000);
        assert_eq!(until(at, Time(68_335_000_000_000)), "at 18:59:07 UTC, in 12 s");
        assert_eq!([count(1, "failure"), count(0, "failure")], ["1 failure", "0 failures"]);
        assert_eq!([line(" a\n  b\n"), line("command exited with 1: ")], ["a b", "command exited with 1"]);
    }
}
