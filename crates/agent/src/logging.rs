//! Log lines on stderr: for people and journald, or JSON. What containers said stays on the line that tells of it.

use std::borrow::Cow;
use std::env;
use std::io::{self, Write};
use std::os::fd::AsFd as _;

use nix::sys::stat::fstat;
use podwright_sys::printable;
use tracing_subscriber::filter::EnvFilter;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::reload;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Registry, fmt};

use crate::config::LogFormat;

/// Changes the level while the agent runs.
pub type LevelHandle = reload::Handle<EnvFilter, Registry>;

/// Sets the log up for the process. Call once.
///
/// # Errors
/// When `level` is no filter, or a log is set up already.
pub fn start(format: LogFormat, level: &str) -> anyhow::Result<LevelHandle> {
    let (filter, handle) = reload::Layer::new(level.parse::<EnvFilter>()?);
    let registry = tracing_subscriber::registry().with(filter);
    match format {
        LogFormat::Json => {
            let writer = || Lines { to: io::stderr(), shown: printable::json };
            registry.with(fmt::layer().json().flatten_event(true).with_writer(writer)).try_init()?;
        }
        LogFormat::Text => {
            let writer = || Lines { to: io::stderr(), shown: printable::line };
            let layer = fmt::layer().with_writer(writer).with_target(false).with_ansi(false);
            registry.with(layer.with_timer(Timestamps { shown: !stderr_is_journal() })).try_init()?;
        }
    }
    Ok(handle)
}

/// Writes each event, which comes as one piece with a line end, as exactly one line with nothing in it that a terminal would
/// obey: no probe's output forges a line of the log.
struct Lines<W> {
    to: W,
    shown: fn(&str) -> Cow<'_, str>,
}

impl<W: Write> Write for Lines<W> {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(event);
        let line = (self.shown)(text.strip_suffix('\n').unwrap_or(&text));
        // One piece, so that those of several threads do not mix.
        self.to.write_all(format!("{line}\n").as_bytes())?;
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

/// RFC 3339 times, unless whoever reads stderr adds its own.
struct Timestamps {
    shown: bool,
}

impl FormatTime for Timestamps {
    fn format_time(&self, w: &mut fmt::format::Writer<'_>) -> std::fmt::Result {
        if self.shown { SystemTime.format_time(w) } else { Ok(()) }
    }
}

/// Whether stderr goes to the journal: `JOURNAL_STREAM` names its device and inode (systemd.exec(5)).
fn stderr_is_journal() -> bool {
    let Ok(stream) = env::var("JOURNAL_STREAM") else { return false };
    let stderr = io::stderr();
    fstat(stderr.as_fd()).is_ok_and(|stat| stream == format!("{}:{}", stat.st_dev, stat.st_ino))
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Shared(Arc<Mutex<Vec<u8>>>);

    impl Write for Shared {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    const HOSTILE: &str =
        "probe failed\n2026-01-01T00:00:00Z  INFO podwrightd ends\u{1b}[2J\u{7}\u{9b}\u{202e}\r\u{2028}\u{8}";

    /// Everything that an event can carry text in.
    fn log(layer: impl tracing_subscriber::Layer<Registry> + Send + Sync) {
        let _guard = tracing::subscriber::set_default(tracing_subscriber::registry().with(layer));
        let error = anyhow::anyhow!(HOSTILE).context(HOSTILE);
        tracing::warn!("{HOSTILE}");
        tracing::warn!(output = HOSTILE, shown = %HOSTILE, debugged = ?HOSTILE, "a");
        tracing::error!(error = %format!("{error:#}"), cause = error.root_cause(), "b");
        tracing::info_span!("s", name = %HOSTILE).in_scope(|| tracing::warn!("c"));
    }

    fn check(text: &[u8]) -> Vec<String> {
        let text = std::str::from_utf8(text).unwrap();
        let hidden: Vec<char> = text.chars().filter(|c| *c != '\n' && printable::is_hidden(*c)).collect();
        assert_eq!((text.matches('\n').count(), hidden), (4, Vec::new()), "{text}");
        text.lines().map(str::to_owned).collect()
    }

    #[test]
    fn an_event_is_one_line_whatever_is_told_of() {
        let to = Shared::default();
        let made = to.clone();
        log(fmt::layer().with_ansi(false).with_writer(move || Lines { to: made.clone(), shown: printable::line }));
        let lines = check(&to.0.lock().unwrap());
        assert!(lines[0].contains("probe failed\\n2026"), "{lines:?}");
        let to = Shared::default();
        let made = to.clone();
        let layer = fmt::layer().json().flatten_event(true);
        log(layer.with_writer(move || Lines { to: made.clone(), shown: printable::json }));
        for line in check(&to.0.lock().unwrap()) {
            assert!(serde_json::from_str::<serde_json::Value>(&line).is_ok(), "{line}");
        }
        // The control: without it lines are forged.
        let to = Shared::default();
        let made = to.clone();
        log(fmt::layer().with_ansi(false).with_writer(move || made.clone()));
        let text = String::from_utf8(to.0.lock().unwrap().clone()).unwrap();
        assert!(text.contains("\n2026-01-01T00:00:00Z  INFO podwrightd ends"), "{text}");
    }
}
