//! Commands that print.

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::path::Path;
use std::time::Duration;

use lexopt::prelude::{Long, Short, Value};
use lexopt::{Parser, ValueExt as _};
use podwright_sys::printable;

use super::args::{flag, is_json, require_id, rest, text as value, usage};
use crate::error::{Error, Result, file};
use crate::lifecycle::{self, Listed};

/// How often `events` shows figures where nothing else is said.
const INTERVAL: Duration = Duration::from_secs(5);

/// Prints, so that a reader who has gone is an error and no panic.
pub(super) fn text(text: &str) -> Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(file("write to", "stdout"))
}

pub(super) fn line(line: &str) -> Result<()> {
    text(&format!("{line}\n"))
}

pub(super) fn state(state: &Listed) -> Result<()> {
    line(&serde_json::to_string_pretty(state).unwrap_or_default())
}

pub(super) fn list(root: &Path, mut args: Parser) -> Result<()> {
    let (mut json, mut quiet) = (false, false);
    while let Some(arg) = args.next().map_err(usage)? {
        match arg {
            Long("format") | Short('f') => json = is_json(&mut args)?,
            Long("quiet") | Short('q') => quiet = flag(&mut args, "quiet")?,
            other => return Err(usage(other.unexpected())),
        }
    }
    let found = lifecycle::list(root)?;
    if quiet {
        text(&found.iter().map(|container| container.id.clone() + "\n").collect::<String>())
    } else if json {
        line(&serde_json::to_string(&found).unwrap_or_default())
    } else {
        text(&table(&found))
    }
}

/// runc's columns and widths.
fn table(found: &[Listed]) -> String {
    let header = ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"].map(str::to_owned);
    let row = |c: &Listed| {
        let cells = [&c.id, &c.pid.to_string(), c.status, &c.bundle, &c.created, &c.owner];
        cells.map(|cell| printable::line(cell).into_owned())
    };
    let rows: Vec<_> = std::iter::once(header).chain(found.iter().map(row)).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].len() + 3).max().unwrap_or(0).max(12);
    let widths: Vec<usize> = (0..6).map(width).collect();
    let mut text = String::new();
    for row in &rows {
        let padded: String = row.iter().zip(&widths).map(|(cell, &width)| format!("{cell:width$}")).collect();
        writeln!(text, "{}", padded.trim_end()).unwrap_or(());
    }
    text
}

pub(super) fn ps(root: &Path, mut args: Parser) -> Result<()> {
    let (mut json, mut id, mut options) = (false, String::new(), Vec::new());
    while let Some(arg) = args.next().map_err(usage)? {
        match arg {
            Long("format") | Short('f') => json = is_json(&mut args)?,
            Value(word) => {
                id = word.string().map_err(usage)?;
                options = rest(&mut args)?;
            }
            other => return Err(usage(other.unexpected())),
        }
    }
    require_id(&id)?;
    // go-runc names the format before the id, people may name it after.
    match options.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["-f" | "--format", "json"] | ["--format=json"] => (json, options) = (true, Vec::new()),
        ["-f" | "--format", "table"] | ["--format=table"] => options = Vec::new(),
        _ => {}
    }
    let pids = lifecycle::pids(root, &id)?;
    if json {
        line(&serde_json::to_string(&pids).unwrap_or_default())
    } else if options.is_empty() {
        text(&lifecycle::table(&pids))
    } else {
        text(&lifecycle::host_table(&pids, &options)?)
    }
}

pub(super) fn events(root: &Path, mut args: Parser) -> Result<()> {
    let (mut once, mut interval, mut id) = (false, INTERVAL, String::new());
    while let Some(arg) = args.next().map_err(usage)? {
        match arg {
            Long("stats") => once = flag(&mut args, "stats")?,
            Long("interval") => interval = duration(&value(&mut args)?)?,
            Value(word) if id.is_empty() => id = word.string().map_err(usage)?,
            other => return Err(usage(other.unexpected())),
        }
    }
    require_id(&id)?;
    if once { lifecycle::stats(root, &id, line) } else { lifecycle::events(root, &id, interval, line) }
}

/// A positive duration as Go writes it: `1h`, `1m30s`, `1.5s`, `100ms`.
fn duration(text: &str) -> Result<Duration> {
    let bad = || Error::Usage(format!("--interval {text:?}: a time such as 500ms, 5s, 1m30s is accepted"));
    let (mut rest, mut seconds) = (text, 0.0);
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(bad)?;
        let (number, tail) = rest.split_at(digits);
        let end = tail.find(|c: char| c.is_ascii_digit()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(end);
        let factor = match unit {
            "h" => 3600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 1e-3,
            "us" => 1e-6,
            _ => return Err(bad()),
        };
        seconds += number.parse::<f64>().map_err(|_| bad())? * factor;
        rest = tail;
    }
    Duration::try_from_secs_f64(seconds).ok().filter(|found| *found >= Duration::from_millis(1)).ok_or_else(bad)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_gos() {
        for (text, millis) in [("5s", 5000), ("1m30s", 90_000), ("1.5s", 1500), ("100ms", 100), ("1h", 3_600_000)] {
            assert_eq!(duration(text).unwrap(), Duration::from_millis(millis), "{text}");
        }
        for text in ["", "5", "s", "0s", "-1s", "5 s", "1d", "1.2.3s", "99999999999999999999h"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn tables_have_runcs_columns() {
        let listed = Listed {
            oci_version: "1.2.0",
            id: "a-long-container-id".into(),
            pid: 7,
            status: "running",
            bundle: "/b".into(),
            rootfs: "/b/rootfs".into(),
            created: "2026-01-01T00:00:00Z".into(),
            annotations: std::collections::HashMap::new(),
            owner: "root".into(),
        };
        let expected = "ID                    PID         STATUS      BUNDLE      CREATED                OWNER\n\
                        a-long-container-id   7           running     /b          2026-01-01T00:00:00Z   root\n";
        assert_eq!(table(&[listed]), expected);
    }
}
