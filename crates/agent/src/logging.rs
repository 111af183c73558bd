//! Log lines on stderr: for people and journald, or JSON.

use std::env;
use std::os::fd::AsFd as _;

use nix::sys::stat::fstat;
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
            registry.with(fmt::layer().json().flatten_event(true).with_writer(std::io::stderr)).try_init()?;
        }
        LogFormat::Text => {
            let layer = fmt::layer().with_writer(std::io::stderr).with_target(false).with_ansi(false);
            registry.with(layer.with_timer(Timestamps { shown: !stderr_is_journal() })).try_init()?;
        }
    }
    Ok(handle)
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
    let stderr = std::io::stderr();
    fstat(stderr.as_fd()).is_ok_and(|stat| stream == format!("{}:{}", stat.st_dev, stat.st_ino))
}
