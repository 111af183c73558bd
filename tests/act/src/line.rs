//! One line per event, each written by one write(2), so that lines of a container and its hooks never mix.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsFd;

use nix::time::{ClockId, clock_gettime};

/// Where events go.
#[derive(Debug)]
pub(crate) struct Events(File);

impl Events {
    /// To the own stdout.
    pub(crate) fn own() -> io::Result<Events> {
        Ok(Events(File::from(io::stdout().as_fd().try_clone_to_owned()?)))
    }

    /// To the stdout of process 1, from a hook or a probe, whose own stdout is not the container's log.
    pub(crate) fn of_process_1() -> io::Result<Events> {
        Ok(Events(OpenOptions::new().append(true).open("/proc/1/fd/1")?))
    }

    /// Writes the line of one event. A log that cannot be written (its reader is gone) is not the actor's business.
    pub(crate) fn write(&self, event: &str, values: &[(&str, &str)]) {
        self.write_at(boot_ns(), event, values);
    }

    /// Writes the line of an event that happened at a given time.
    pub(crate) fn write_at(&self, at_ns: i64, event: &str, values: &[(&str, &str)]) {
        let line = line(at_ns, event, values);
        if (&self.0).write_all(line.as_bytes()).is_err() {
            eprintln!("act: lost: {line}");
        }
    }
}

/// `CLOCK_BOOTTIME` in nanoseconds; the clock of the whole case.
pub(crate) fn boot_ns() -> i64 {
    clock_gettime(ClockId::CLOCK_BOOTTIME).map_or(0, |t| t.tv_sec() * 1_000_000_000 + t.tv_nsec())
}

fn line(at: i64, event: &str, values: &[(&str, &str)]) -> String {
    let mut line = format!("@{at} {event}");
    for (key, value) in values {
        line.push_str(&format!(" {}={}", encode(key), encode(value)));
    }
    line.push('\n');
    line
}

/// Percent-encoding of all but letters, digits and a few marks that neither end a word nor a line.
fn encode(text: &str) -> String {
    text.bytes()
        .map(|b| match b {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' | b'/' | b':' | b',' | b'*' => {
                char::from(b).to_string()
            }
            _ => format!("%{b:02X}"),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_one_word_per_value() {
        assert_eq!(line(12, "bye", &[]), "@12 bye\n");
        let values = [("path", "/200"), ("h.User-Agent", "kube-probe/1.35 (x)\n=%")];
        assert_eq!(line(7, "http", &values), "@7 http path=/200 h.User-Agent=kube-probe/1.35%20%28x%29%0A%3D%25\n");
    }
}
