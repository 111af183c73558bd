//! `update`: resources from a file or from runc's options.

use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use lexopt::prelude::{Long, Short, Value};
use lexopt::{Parser, ValueExt as _};
use serde_json::{Value as Json, json};

use super::args::{require_id, text, usage};
use crate::error::{Error, Result, file};
use crate::lifecycle;

/// Most that is read of a resources file.
const MAX_FILE: u64 = 1 << 20;

/// runc's options, the field of `linux.resources` that each stands for, and how its value is read.
const OPTIONS: [(&str, &str, &str, Kind); 14] = [
    ("blkio-weight", "blockIO", "weight", Kind::Number),
    ("cpu-period", "cpu", "period", Kind::Number),
    ("cpu-quota", "cpu", "quota", Kind::Number),
    ("cpu-burst", "cpu", "burst", Kind::Number),
    ("cpu-share", "cpu", "shares", Kind::Number),
    ("cpu-idle", "cpu", "idle", Kind::Number),
    ("cpu-rt-period", "cpu", "realtimePeriod", Kind::Number),
    ("cpu-rt-runtime", "cpu", "realtimeRuntime", Kind::Number),
    ("cpuset-cpus", "cpu", "cpus", Kind::Text),
    ("cpuset-mems", "cpu", "mems", Kind::Text),
    ("memory", "memory", "limit", Kind::Bytes),
    ("memory-reservation", "memory", "reservation", Kind::Bytes),
    ("memory-swap", "memory", "swap", Kind::Bytes),
    ("pids-limit", "pids", "limit", Kind::Number),
];

#[derive(Clone, Copy)]
enum Kind {
    Number,
    Bytes,
    Text,
}

pub(super) fn update(root: &Path, mut args: Parser) -> Result<()> {
    let (mut source, mut id, mut given) = (None, String::new(), json!({}));
    while let Some(arg) = args.next().map_err(usage)? {
        match arg {
            Long("resources") | Short('r') => source = Some(text(&mut args)?).filter(|source| !source.is_empty()),
            Long("kernel-memory" | "kernel-memory-tcp") => {
                text(&mut args)?;
                crate::log::warn(&Error::Usage("limits for kernel memory do not exist on cgroup v2: ignored".into()));
            }
            Long("l3-cache-schema" | "mem-bw-schema") => {
                return Err(Error::Usage("Intel RDT cannot be updated".into()));
            }
            Long(name) => {
                let Some((name, object, field, kind)) = OPTIONS.iter().find(|option| option.0 == name) else {
                    return Err(usage(Long(name).unexpected()));
                };
                let value = text(&mut args)?;
                if !value.is_empty() {
                    given[object][field] = read(name, &value, *kind)?;
                }
            }
            Value(word) if id.is_empty() => id = word.string().map_err(usage)?,
            other => return Err(usage(other.unexpected())),
        }
    }
    require_id(&id)?;
    let (text, source) = match source.as_deref() {
        // As with runc, what is read leaves the other options without effect.
        Some("-") => (read_all(io::stdin().lock(), "stdin")?, PathBuf::from("stdin")),
        Some(path) => (read_all(fs::File::open(path).map_err(file("open", path))?, path)?, path.into()),
        None => (given.to_string().into_bytes(), PathBuf::from("update")),
    };
    let resources = lifecycle::parse_resources(&text, &source)?;
    lifecycle::update(root, &id, &resources, &source)
}

fn read_all(from: impl io::Read, name: &str) -> Result<Vec<u8>> {
    let mut text = Vec::new();
    from.take(MAX_FILE).read_to_end(&mut text).map_err(file("read", name))?;
    Ok(text)
}

fn read(name: &str, value: &str, kind: Kind) -> Result<Json> {
    let bad = |accepted: &str| Error::Usage(format!("--{name} {value:?}: {accepted} is accepted"));
    match kind {
        Kind::Text => Ok(json!(value)),
        Kind::Number => value.parse::<i64>().map(|number| json!(number)).map_err(|_| bad("a number")),
        Kind::Bytes => bytes(value).map(|bytes| json!(bytes)).ok_or_else(|| bad("a size such as 67108864, 64M, -1")),
    }
}

/// A size as docker's go-units reads it: a number, maybe with a fraction, and a unit of powers of 1024; or -1.
fn bytes(text: &str) -> Option<i64> {
    if text == "-1" {
        return Some(-1);
    }
    let split = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let unit = unit.trim_start().to_ascii_lowercase();
    let power = match unit.trim_end_matches('b').trim_end_matches('i') {
        "" => 0,
        "k" => 1,
        "m" => 2,
        "g" => 3,
        "t" => 4,
        "p" => 5,
        _ => return None,
    };
    let factor = 1_i64 << (10 * power);
    if let Ok(whole) = number.parse::<i64>() {
        return whole.checked_mul(factor);
    }
    #[expect(clippy::cast_precision_loss, reason = "a fraction is not exact anyway")]
    let size = number.parse::<f64>().ok()? * factor as f64;
    #[expect(
        clippy::cast_possible_truncation,
        reason = "checked to be in range; go-units cuts the fraction off as well"
    )]
    (0.0..9e18).contains(&size).then_some(size as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units() {
        for (text, expected) in [
            ("-1", -1),
            ("0", 0),
            ("1024", 1024),
            ("64m", 64 << 20),
            ("1G", 1 << 30),
            ("1.5k", 1536),
            ("2KiB", 2048),
            ("3 MB", 3 << 20),
        ] {
            assert_eq!(bytes(text), Some(expected), "{text}");
        }
        for text in ["", "-2", "m", "1x", "1.2.3", "9999999999999999999", "9999999p", "1ib2"] {
            assert_eq!(bytes(text), None, "{text}");
        }
    }
}
