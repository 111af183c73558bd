//! Where errors go: stderr, and the file of `--log` in the form that callers of OCI runtimes read.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::PathBuf;

use serde::Serialize;

use crate::clock;

/// Form of a line in the log file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Format {
    /// `time="..." level=error msg="..."`.
    #[default]
    Text,
    /// `{"level":"error","msg":"...","time":"..."}`.
    Json,
}

/// The options `--log` and `--log-format`.
#[derive(Debug, Clone, Default)]
pub(crate) struct Log {
    /// Appended to; `None`: stderr only.
    pub(crate) file: Option<PathBuf>,
    /// Of its lines.
    pub(crate) format: Format,
}

#[derive(Serialize)]
struct Line<'a> {
    level: &'a str,
    msg: &'a str,
    time: &'a str,
}

impl Log {
    /// Tells of an error.
    pub(crate) fn error(&self, message: &str) {
        eprintln!("podwright-oci: {message}");
        let Some(path) = &self.file else { return };
        let time = clock::now();
        let line = match self.format {
            Format::Json => {
                serde_json::to_string(&Line { level: "error", msg: message, time: &time }).unwrap_or_default()
            }
            Format::Text => format!("time={time:?} level=error msg={message:?}"),
        };
        let written = OpenOptions::new()
            .append(true)
            .create(true)
            .open(path)
            .and_then(|mut file| file.write_all(format!("{line}\n").as_bytes()));
        if let Err(err) = written {
            eprintln!("podwright-oci: --log {}: {err}", path.display());
        }
    }
}
