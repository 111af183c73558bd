//! Where errors go: stderr, and the file of `--log` in the form that callers of OCI runtimes read.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::PathBuf;
use std::sync::OnceLock;

use podwright_sys::printable;
use podwright_sys::stdio::say;
use serde::Serialize;

use crate::clock;
use crate::error::Error;
use podwright_sys::error::chain;

/// Form of a line in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Format {
    /// `time="..." level=error msg="..."`.
    #[default]
    Text,
    /// `{"level":"error","msg":"...","time":"..."}`.
    Json,
}

/// How important a line is; the more, the greater.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) enum Level {
    /// What is being done.
    Debug,
    /// As above; this runtime has nothing to say between the two.
    Info,
    /// Something failed, and the command goes on.
    #[default]
    Warning,
    /// Why the command failed.
    Error,
}

impl Level {
    /// By the names that runc and crun accept.
    pub(crate) fn parse(name: &str) -> Option<Self> {
        match name.to_ascii_lowercase().as_str() {
            "debug" | "trace" => Some(Self::Debug),
            "info" => Some(Self::Info),
            "warning" | "warn" => Some(Self::Warning),
            "error" | "fatal" | "panic" => Some(Self::Error),
            _ => None,
        }
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

/// The options `--log`, `--log-format` and `--log-level`.
#[derive(Debug, Clone, Default)]
pub(crate) struct Log {
    /// Appended to; `None`: stderr only.
    pub(crate) file: Option<PathBuf>,
    /// Of its lines.
    pub(crate) format: Format,
    /// What is less important is left out.
    pub(crate) level: Level,
}

#[derive(Serialize)]
struct Line<'a> {
    level: &'a str,
    msg: &'a str,
    time: &'a str,
}

static LOG: OnceLock<Log> = OnceLock::new();

/// Sets where the lines of this process go. The first word counts.
pub(crate) fn init(log: Log) {
    LOG.get_or_init(|| log);
}

/// Tells why the command fails.
pub(crate) fn error(message: &str) {
    LOG.get_or_init(Log::default).write(Level::Error, message);
}

/// Tells of an error that changes nothing.
pub(crate) fn warn(error: &Error) {
    LOG.get_or_init(Log::default).write(Level::Warning, &chain(error));
}

/// Tells what is being done. Not for a container's own process: the log's path may lead elsewhere there.
pub(crate) fn debug(message: impl FnOnce() -> String) {
    let log = LOG.get_or_init(Log::default);
    if log.level <= Level::Debug {
        log.write(Level::Debug, &message());
    }
}

impl Log {
    fn write(&self, level: Level, message: &str) {
        if level < self.level {
            return;
        }
        let line = self.line(level, message, &clock::now());
        let Some(path) = &self.file else {
            match self.format {
                Format::Json => say(format_args!("{line}")),
                Format::Text => say(format_args!("{}", for_people(level, message))),
            }
            return;
        };
        // A container's stderr may be this program's: only what ends the program goes there as well.
        if level == Level::Error {
            say(format_args!("{}", for_people(level, message)));
        }
        let written = OpenOptions::new()
            .append(true)
            .create(true)
            .open(path)
            .and_then(|mut file| file.write_all(format!("{line}\n").as_bytes()));
        if let Err(err) = written {
            say(format_args!("{}", for_people(Level::Warning, &format!("--log {}: {err}", path.display()))));
        }
    }

    fn line(&self, level: Level, message: &str, time: &str) -> String {
        let level = level.as_str();
        match self.format {
            Format::Json => {
                let line = serde_json::to_string(&Line { level, msg: message, time }).unwrap_or_default();
                printable::json(&line).into_owned()
            }

            Format::Text => format!("time={time:?} level={level} msg={message:?}"),
        }
    }
}

/// A line of stderr: one, and none of it commands to a terminal, whatever a name or the output of a hook has in it.
fn for_people(level: Level, message: &str) -> String {
    format!("podwright-oci: {}: {}", level.as_str(), printable::line(message))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_have_the_form_that_callers_parse() {
        let text = Log::default();
        let time = "2026-01-01T00:00:00Z";
        let line = r#"time="2026-01-01T00:00:00Z" level=warning msg="a \"b\"""#;
        assert_eq!(text.line(Level::Warning, "a \"b\"", time), line);
        let json = Log { format: Format::Json, ..Log::default() };
        let line = r#"{"level":"error","msg":"a \"b\"","time":"2026-01-01T00:00:00Z"}"#;
        assert_eq!(json.line(Level::Error, "a \"b\"", time), line);
        assert_eq!(for_people(Level::Error, "a \"b\""), "podwright-oci: error: a \"b\"");
        assert_eq!(for_people(Level::Error, "ä\n\u{1b}[2J\u{9b}"), "podwright-oci: error: ä\\n\\u{1b}[2J\\u{9b}");
    }

    #[test]
    fn a_file_gets_what_is_important_enough() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("log");
        let log = Log { file: Some(file.clone()), format: Format::Json, level: Level::Warning };
        for (level, text) in [(Level::Debug, "1"), (Level::Info, "2"), (Level::Warning, "3")] {
            log.write(level, text);
        }
        let text = std::fs::read_to_string(file).unwrap();
        assert_eq!((text.lines().count(), text.contains(r#""msg":"3""#)), (1, true), "{text}");
    }
}
