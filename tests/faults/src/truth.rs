//! What the containers' programs say of themselves, in files that no fault reaches.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io;
use std::path::Path;

/// Where the directory is mounted in every container.
pub const DIRECTORY_INSIDE: &str = "/truth";

/// The name of a file of truth.
pub fn key(name: &str, index: Option<&str>) -> String {
    index.map_or_else(|| name.to_owned(), |index| format!("{name}.{index}"))
}

/// A line of such a file. Times are `CLOCK_BOOTTIME` in nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Line {
    /// A program has started.
    Start {
        /// When.
        at: i64,
    },
    /// A program leaves.
    Exit {
        /// When it had started.
        started: i64,
        /// When.
        at: i64,
        /// With what.
        code: i64,
    },
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Line::Start { at } => write!(f, "start {at}"),
            Line::Exit { started, at, code } => write!(f, "exit {started} {at} {code}"),
        }
    }
}

impl Line {
    fn parse(line: &str) -> Option<Line> {
        let mut words = line.split(' ');
        let kind = words.next()?;
        let numbers: Option<Vec<i64>> = words.map(|word| word.parse().ok()).collect();
        match (kind, numbers?.as_slice()) {
            ("start", [at]) => Some(Line::Start { at: *at }),
            ("exit", [started, at, code]) => Some(Line::Exit { started: *started, at: *at, code: *code }),
            _ => None,
        }
    }
}

/// How many programs a file tells the start of.
pub fn starts(text: &str) -> usize {
    text.lines().filter(|line| line.starts_with("start ")).count()
}

/// One run of a program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    /// When it started.
    pub started: i64,
    /// When it left and with what; `None`: it runs, or was killed.
    pub exit: Option<(i64, i64)>,
}

/// All runs by key, oldest first.
pub type Truth = BTreeMap<String, Vec<Run>>;

/// The runs that a file tells of.
pub fn runs(text: &str) -> Vec<Run> {
    let lines: Vec<Line> = text.lines().filter_map(Line::parse).collect();
    let exit = |of: i64| {
        lines.iter().find_map(|line| match line {
            Line::Exit { started, at, code } if *started == of => Some((*at, *code)),
            _ => None,
        })
    };
    let starts = lines.iter().filter_map(|line| match line {
        Line::Start { at } => Some(Run { started: *at, exit: exit(*at) }),
        Line::Exit { .. } => None,
    });
    let mut runs: Vec<Run> = starts.collect();
    runs.sort_by_key(|run| run.started);
    runs
}

/// Reads a directory of such files.
///
/// # Errors
/// When it cannot be read.
pub fn read(directory: &Path) -> io::Result<Truth> {
    let mut truth = Truth::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if let (Ok(name), true) = (entry.file_name().into_string(), entry.file_type()?.is_file()) {
            truth.insert(name, runs(&fs::read_to_string(entry.path())?));
        }
    }
    Ok(truth)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_that_overlap_are_told_apart() {
        let lines = [
            Line::Start { at: 5 },
            Line::Start { at: 7 },
            Line::Exit { started: 7, at: 9, code: 3 },
            Line::Start { at: 11 },
        ];
        let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
        let found = runs(&text);
        assert_eq!(
            found.iter().map(|run| (run.started, run.exit)).collect::<Vec<_>>(),
            [(5, None), (7, Some((9, 3))), (11, None)]
        );
        assert_eq!(starts(&text), 3);
        assert_eq!(key("job", Some("2")), "job.2");
    }
}
