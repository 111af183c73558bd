//! Words for what is drawn of a pod's life, and its times.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use podwright_core::timeline::{Doing, What};

/// A moment in UTC.
pub(crate) fn time(ms: i64, format: &str) -> String {
    let at = Timestamp::from_millisecond(ms).unwrap_or(Timestamp::UNIX_EPOCH);
    at.to_zoned(TimeZone::UTC).strftime(format).to_string()
}

/// `850 ms`, `12.5 s`, `3 min 20 s`, `5 h 3 min`.
pub(crate) fn length(ms: i64) -> String {
    let seconds = ms / 1000;
    match ms {
        ..1000 => format!("{ms} ms"),
        1000..60_000 => format!("{}.{} s", seconds, ms % 1000 / 100),
        60_000..3_600_000 => format!("{} min {} s", seconds / 60, seconds % 60),
        _ => format!("{} h {} min", seconds / 3600, seconds / 60 % 60),
    }
}

/// The form of the times on an axis: as exact as its length asks for.
pub(crate) fn tick_format(ms: i64) -> &'static str {
    match ms {
        ..10_000 => "%H:%M:%S%.3f",
        10_000..172_800_000 => "%H:%M:%S",
        _ => "%m-%d %H:%M",
    }
}

/// What goes on in a span.
pub(crate) fn doing_name(doing: Doing) -> &'static str {
    match doing {
        Doing::Waiting => "waits",
        Doing::BackOff => "back-off",
        Doing::Running => "runs",
        Doing::Ready => "ready",
        Doing::Failing => "a probe fails",
        Doing::Stopping => "told to stop",
    }
}

/// What a mark stands for.
pub(crate) fn what_name(what: What) -> &'static str {
    match what {
        What::Started => "started",
        What::Ready => "ready",
        What::Unready => "not ready",
        What::ProbeFailed => "a probe failed",
        What::Signal => "stop signal",
        What::Kill => "SIGKILL",
        What::Done => "left with 0",
        What::Failed => "failed",
        What::OutOfMemory => "killed for memory",
        What::Lost => "ended unseen",
    }
}
