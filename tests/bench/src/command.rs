//! Running commands to their end.

use std::ffi::OsString;
use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use nix::unistd::Pid;
use podwright_sys::process::{pidfd_open, wait_end};

use crate::clock::{boot_ns, ms};

/// Commands timed so far: each has a file of its own for its stderr.
static COUNT: AtomicU64 = AtomicU64::new(0);

/// A program and its arguments.
#[derive(Debug, Clone)]
pub(crate) struct Line(Vec<OsString>);

impl Line {
    /// From the words of the command line.
    pub(crate) fn new<I: IntoIterator>(words: I) -> Line
    where
        I::Item: Into<OsString>,
    {
        Line(words.into_iter().map(Into::into).collect())
    }

    /// This command line with another one as its last arguments.
    pub(crate) fn then(mut self, other: &Line) -> Line {
        self.0.extend_from_slice(&other.0);
        self
    }

    /// Whether it ends with status 0 within this time; it is killed when it does not end. What it says goes nowhere.
    ///
    /// # Errors
    /// When it cannot be started or waited for.
    pub(crate) fn succeeds(&self, limit: Duration) -> Result<bool> {
        let mut child =
            self.command().stdout(Stdio::null()).stderr(Stdio::null()).spawn().with_context(|| self.text())?;
        let pidfd = pidfd_open(Pid::from_raw(child.id().cast_signed()))?;
        if !wait_end(&pidfd, limit)? {
            child.kill().with_context(|| self.text())?;
        }
        Ok(child.wait().with_context(|| self.text())?.success())
    }

    /// Milliseconds from fork to the end that wait(2) reports.
    ///
    /// # Errors
    /// When it cannot be started, or ends with another status than 0, with what it wrote to stderr.
    pub(crate) fn time(&self) -> Result<f64> {
        // A file and not a pipe: what the command leaves running may keep it open.
        let said = std::env::temp_dir().join(format!(
            "podwright-bench-{}-{}.stderr",
            std::process::id(),
            COUNT.fetch_add(1, Ordering::Relaxed)
        ));
        let stderr = File::create(&said).with_context(|| said.display().to_string())?;
        let mut command = self.command();
        command.stdout(Stdio::null()).stderr(stderr);
        let from = boot_ns();
        let status = command.status();
        let to = boot_ns();
        let text = fs::read_to_string(&said).unwrap_or_default();
        fs::remove_file(&said).with_context(|| said.display().to_string())?;
        let status = status.with_context(|| self.text())?;
        if !status.success() {
            bail!("{} ended with {status}: {}", self.text(), text.trim());
        }
        Ok(ms(from, to))
    }

    /// What it writes to stdout.
    ///
    /// # Errors
    /// Those of [`Line::time`].
    pub(crate) fn output(&self) -> Result<String> {
        let output = self.command().output().with_context(|| self.text())?;
        if !output.status.success() {
            bail!("{} ended with {}: {}", self.text(), output.status, String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    fn command(&self) -> Command {
        let mut command = Command::new(self.0.first().map_or(OsString::new(), Clone::clone));
        command.args(self.0.iter().skip(1)).stdin(Stdio::null());
        command
    }

    fn text(&self) -> String {
        self.0.iter().map(|w| w.to_string_lossy()).collect::<Vec<_>>().join(" ")
    }
}

/// `path` as an owned word of a command line.
pub(crate) fn word(path: &Path) -> OsString {
    path.as_os_str().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_timed_to_its_end() {
        let took = Line::new(["sleep", "0.05"]).time().unwrap();
        assert!((50.0..5000.0).contains(&took), "{took}");
    }

    #[test]
    fn a_failing_command_tells_what_it_said() {
        let error = Line::new(["sh", "-c", "echo the reason >&2; exit 3"]).time().unwrap_err().to_string();
        assert!(error.contains("exit status: 3") && error.contains("the reason"), "{error}");
        assert!(Line::new(["/proc/nonexistent"]).time().is_err());
    }

    #[test]
    fn a_command_that_hangs_does_not_succeed() {
        assert!(Line::new(["sh", "-c"]).then(&Line::new(["exit 0"])).succeeds(Duration::from_secs(5)).unwrap());
        assert!(!Line::new(["false"]).succeeds(Duration::from_secs(5)).unwrap());
        assert!(!Line::new(["sleep", "100"]).succeeds(Duration::from_millis(50)).unwrap());
    }
}
