//! Resources and annotations as properties of a unit (systemd.resource-control(5), org.freedesktop.systemd1(5)).

use std::collections::{BTreeMap, HashMap};

use podwright_sys::cgroup::Limit;

use super::wire::{Property, Value};
use crate::plan::{PlanError, Write};

/// Annotations with this before a property's name set it, as runc and crun have it.
pub(crate) const PREFIX: &str = "org.systemd.property.";

const MICROS_PER_SECOND: u64 = 1_000_000;

/// What systemd has a property for. Files are written by the runtime anyway: systemd has to know, so that it does not write
/// what it believes when it reloads its units.
pub(super) fn of_writes(writes: &[Write]) -> Vec<Property> {
    let mut found: Vec<Property> = Vec::new();
    for write in writes {
        for (name, value) in of_write(&write.file, &write.value) {
            // The last word about a file is the one that holds.
            found.retain(|(known, _)| known != name);
            found.push((name.to_owned(), value));
        }
    }
    found
}

fn of_write(file: &str, value: &str) -> Vec<(&'static str, Value)> {
    let limit = |text: &str| {
        Limit::parse(text).map(|limit| match limit {
            Limit::Max => u64::MAX,
            Limit::Value(value) => value,
        })
    };
    let name = match file {
        "memory.max" => "MemoryMax",
        "memory.high" => "MemoryHigh",
        "memory.low" => "MemoryLow",
        "memory.min" => "MemoryMin",
        "memory.swap.max" => "MemorySwapMax",
        "cpu.weight" => "CPUWeight",
        "pids.max" => "TasksMax",
        "cpu.max" => return bandwidth(value).unwrap_or_default(),
        "cpuset.cpus" | "cpuset.mems" => {
            let name = if file == "cpuset.cpus" { "AllowedCPUs" } else { "AllowedMemoryNodes" };
            return mask(value).map(|mask| (name, Value::Bytes(mask))).into_iter().collect();
        }
        _ => return Vec::new(),
    };
    limit(value.trim()).map(|value| (name, Value::U64(value))).into_iter().collect()
}

/// `cpu.max` with both words. systemd counts the quota per second.
fn bandwidth(value: &str) -> Option<Vec<(&'static str, Value)>> {
    let (quota, period) = value.trim().split_once(' ')?;
    let period: u64 = period.parse().ok().filter(|period| *period > 0)?;
    let per_second = match Limit::parse(quota)? {
        Limit::Max => u64::MAX,
        Limit::Value(quota) => quota.checked_mul(MICROS_PER_SECOND)?.div_ceil(period),
    };
    Some(vec![("CPUQuotaPeriodUSec", Value::U64(period)), ("CPUQuotaPerSecUSec", Value::U64(per_second))])
}

/// A list such as `0-2,7` as bits, lowest first.
fn mask(list: &str) -> Option<Vec<u8>> {
    /// More processors than any kernel is built for.
    const MOST: usize = 1 << 16;
    let mut bits = Vec::new();
    for part in list.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (usize, usize) = (first.parse().ok()?, last.parse().ok()?);
        if first > last || last >= MOST {
            return None;
        }
        bits.resize(bits.len().max(last / 8 + 1), 0_u8);
        (first..=last).for_each(|bit| bits[bit / 8] |= 1 << (bit % 8));
    }
    (!bits.is_empty()).then_some(bits)
}

/// The properties that annotations set.
///
/// # Errors
/// [`PlanError`] for a value that is none of the forms `'text'`, `true`, `false`, `[TYPE] NUMBER`.
pub(crate) fn check_annotations(annotations: &HashMap<String, String>) -> Result<Vec<Property>, PlanError> {
    let mut found = Vec::new();
    // In order, so that of several mistakes the same one is told every time.
    for (key, text) in annotations.iter().collect::<BTreeMap<_, _>>() {
        let Some(name) = key.strip_prefix(PREFIX) else { continue };
        let problem = |text: String| PlanError::new(format!("annotations.{key}"), text);
        if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric()) {
            return Err(problem("names no property of a unit".into()));
        }
        if reaches_beyond(name) {
            return Err(problem("acts on more than the container; it is not accepted from an annotation".into()));
        }
        let value = parse(text.trim()).ok_or_else(|| {
            problem(format!(
                "{text:?} found; 'text', true, false, or a number with its type before (uint64 5) accepted"
            ))
        })?;
        found.push(in_micros(name, value));
    }
    found.sort_by(|(a, _), (b, _)| a.cmp(b));
    Ok(found)
}

/// Whether a property is about the whole host (what is done when the unit ends: `SuccessAction=poweroff-force`) or puts the unit in
/// somebody else's place. Annotations come from whoever writes pods, in many set-ups (CVE-2024-3154).
fn reaches_beyond(name: &str) -> bool {
    name.ends_with("Action") || name.ends_with("RebootArgument") || name == "Slice"
}

/// The part of GVariant's text format that properties of scopes take.
fn parse(text: &str) -> Option<Value> {
    let quoted = |quote: char| text.strip_prefix(quote)?.strip_suffix(quote);
    if let Some(inner) = quoted('\'').or_else(|| quoted('"')) {
        return (!inner.contains(['\\', '\'', '"'])).then(|| Value::Text(inner.to_owned()));
    }
    match (text, text.split_once(' ')) {
        ("true" | "false", _) => Some(Value::Bool(text == "true")),
        (_, Some(("uint32", number))) => number.trim().parse().ok().map(Value::U32),
        (_, Some(("int64", number))) => number.trim().parse().ok().map(Value::I64),
        (_, Some(("uint64", number))) => number.trim().parse().ok().map(Value::U64),
        (_, Some(("int32", number))) => number.trim().parse().ok().map(Value::I32),
        (number, None) => number.parse().ok().map(Value::I32),
        _ => None,
    }
}

/// Times that end in `Sec` are for people; over D-Bus there is only `USec`.
fn in_micros(name: &str, value: Value) -> Property {
    let seconds = match value {
        Value::I32(number) => u64::try_from(number).ok(),
        Value::U32(number) => Some(number.into()),
        Value::I64(number) => u64::try_from(number).ok(),
        Value::U64(number) => Some(number),
        _ => None,
    };
    match (name.strip_suffix("Sec"), seconds.and_then(|seconds| seconds.checked_mul(MICROS_PER_SECOND))) {
        (Some(stem), Some(micros)) if !name.ends_with("USec") => (format!("{stem}USec"), Value::U64(micros)),
        _ => (name.to_owned(), value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Absent;

    #[test]
    fn files_become_properties() {
        let write =
            |&(file, value): &(&str, &str)| Write { file: file.into(), value: value.into(), absent: Absent::Fail };
        let of = |writes: &[(&str, &str)]| of_writes(&writes.iter().map(write).collect::<Vec<_>>());
        let pair = |name: &str, value: Value| (name.to_owned(), value);
        assert_eq!(
            of(&[("memory.max", "5"), ("io.max", "8:0 rbps=1"), ("memory.max", "max")]),
            [pair("MemoryMax", Value::U64(u64::MAX))]
        );
        let expected =
            [pair("CPUQuotaPeriodUSec", Value::U64(50_000)), pair("CPUQuotaPerSecUSec", Value::U64(400_000))];
        assert_eq!(of(&[("cpu.max", "20000 50000")]), expected);
        assert_eq!(of(&[("cpu.max", "max 9")])[1], pair("CPUQuotaPerSecUSec", Value::U64(u64::MAX)));
        assert_eq!(
            of(&[("cpuset.cpus", "0-1,9"), ("cpuset.mems", "0")]),
            [pair("AllowedCPUs", Value::Bytes(vec![3, 2])), pair("AllowedMemoryNodes", Value::Bytes(vec![1]))]
        );
        assert_eq!(of(&[("cpuset.cpus", "3-1"), ("cpu.max", "7"), ("pids.max", "x")]), []);
    }

    #[test]
    fn annotations_set_properties() {
        let of =
            |name: &str, text: &str| check_annotations(&HashMap::from([(format!("{PREFIX}{name}"), text.to_owned())]));
        for (name, text, expected) in [
            ("CollectMode", "'inactive'", ("CollectMode", Value::Text("inactive".into()))),
            ("TimeoutStopUSec", "uint64 10000000", ("TimeoutStopUSec", Value::U64(10_000_000))),
            ("TimeoutStopSec", "uint64 10", ("TimeoutStopUSec", Value::U64(10_000_000))),
            ("SendSIGHUP", "true", ("SendSIGHUP", Value::Bool(true))),
            ("KillSignal", "9", ("KillSignal", Value::I32(9))),
        ] {
            assert_eq!(of(name, text).unwrap(), [(expected.0.to_owned(), expected.1)], "{text}");
        }
        for (name, text) in [("A", "inactive"), ("A", "@as []"), ("", "1"), ("A-B", "1"), ("A", "'a'b'")] {
            assert!(of(name, text).is_err(), "{name} {text}");
        }
        for name in ["SuccessAction", "FailureAction", "JobTimeoutRebootArgument", "Slice"] {
            let error = of(name, "'poweroff-force'").unwrap_err();
            assert_eq!(error.field, format!("annotations.{PREFIX}{name}"));
        }
        assert_eq!(check_annotations(&HashMap::from([("other".into(), "x".into())])).unwrap(), []);
    }
}
