//! Readers of a cgroup's statistics. `None` everywhere means that this cgroup does not have the file: its controller is
//! not enabled there, or the kernel is older, or was built without it.

use std::io;

use super::error::{CgroupError, Result};
use super::group::Cgroup;
use super::text::key_value;

/// Totals of a pressure file, in microseconds (the kernel's `accounting/psi.rst`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pressure {
    /// Time in which some task waited for the resource.
    pub some: u64,
    /// Time in which no task could run for want of it.
    pub full: u64,
}

/// A flat keyed file such as `cpu.stat`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keyed(String);

impl Keyed {
    /// The number behind a key; 0 for one that this kernel does not have.
    #[must_use]
    pub fn get(&self, key: &str) -> u64 {
        key_value(&self.0, key).unwrap_or(0)
    }
}

impl Cgroup {
    /// A flat keyed file: `memory.events`, `cpu.stat`, `pids.events`.
    ///
    /// # Errors
    /// As [`Cgroup::read`].
    pub fn keyed(&self, file: &str) -> Result<Option<Keyed>> {
        Ok(self.read_if_there(file)?.map(Keyed))
    }

    /// A file with one number: `memory.peak`, `pids.peak`.
    ///
    /// # Errors
    /// As [`Cgroup::read`], and [`CgroupError::Malformed`].
    pub fn number(&self, file: &str) -> Result<Option<u64>> {
        let Some(text) = self.read_if_there(file)? else { return Ok(None) };
        match text.trim().parse() {
            Ok(number) => Ok(Some(number)),
            Err(_) => Err(CgroupError::Malformed { path: self.path().join(file), text, expected: "a number" }),
        }
    }

    /// The totals of `cpu.pressure`, `memory.pressure` or `io.pressure`. Older kernels have no `full` for the cpu: 0.
    ///
    /// # Errors
    /// As [`Cgroup::read`], and [`CgroupError::Malformed`].
    pub fn pressure(&self, file: &str) -> Result<Option<Pressure>> {
        let Some(text) = self.read_if_there(file)? else { return Ok(None) };
        match pressure(&text) {
            Some(totals) => Ok(Some(totals)),
            None => Err(CgroupError::Malformed {
                path: self.path().join(file),
                text,
                expected: "lines `some|full avg10=… total=N`",
            }),
        }
    }

    fn read_if_there(&self, file: &str) -> Result<Option<String>> {
        match self.read(file) {
            Ok(text) => Ok(Some(text)),
            Err(CgroupError::Io { source, .. }) if is_absent(&source) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// No such file; or, for a pressure file, PSI is switched off (`psi=0`).
fn is_absent(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(libc::EOPNOTSUPP)
}

fn pressure(text: &str) -> Option<Pressure> {
    let total = |kind: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(kind)?.strip_prefix(' '))?;
        line.split(' ').find_map(|field| field.strip_prefix("total="))?.parse().ok()
    };
    Some(Pressure { some: total("some")?, full: total("full").unwrap_or(0) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_read_as_the_kernel_writes_them() {
        let dir = tempfile::tempdir().unwrap();
        let cgroup = Cgroup::at(dir.path());
        let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
        write("memory.peak", "4096\n");
        write("cpu.stat", "usage_usec 1500\nuser_usec 1000\nnr_throttled 7\n");
        write("cpu.pressure", "some avg10=0.00 avg60=0.12 avg300=0.00 total=345\n");
        write(
            "io.pressure",
            "some avg10=0.00 avg60=0.00 avg300=0.00 total=12\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=9\n",
        );
        write("pids.peak", "many\n");
        assert_eq!(cgroup.number("memory.peak").unwrap(), Some(4096));
        assert_eq!(cgroup.number("memory.swap.peak").unwrap(), None);
        assert!(cgroup.number("pids.peak").unwrap_err().to_string().ends_with("expected a number"));
        let stat = cgroup.keyed("cpu.stat").unwrap().unwrap();
        assert_eq!([stat.get("usage_usec"), stat.get("nr_throttled"), stat.get("nr_bursts")], [1500, 7, 0]);
        assert_eq!(cgroup.keyed("memory.events").unwrap(), None);
        assert_eq!(cgroup.pressure("cpu.pressure").unwrap(), Some(Pressure { some: 345, full: 0 }));
        assert_eq!(cgroup.pressure("io.pressure").unwrap(), Some(Pressure { some: 12, full: 9 }));
        assert_eq!(cgroup.pressure("memory.pressure").unwrap(), None);
        write("memory.pressure", "none\n");
        assert!(cgroup.pressure("memory.pressure").is_err());
    }
}
