//! A container's log file in CRI format (`<time> stdout|stderr F|P <line>`), rotated by size.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::clock;

/// Longest text of one log line; longer lines are split into parts marked `P`, the last one `F`, as containerd does.
pub(crate) const MAX_LINE_TEXT: usize = 16 << 10;

/// The log of one instance. A failing write never stops the container: lines are dropped and counted, and their number
/// is written when the file works again.
#[derive(Debug)]
pub(crate) struct Log {
    path: PathBuf,
    file: Option<File>,
    size: u64,
    max_bytes: u64,
    max_files: u32,
    lost: u64,
    error: String,
    /// The file that this one followed, if this instance's log was ever rotated.
    pub(crate) rotated_last: Option<PathBuf>,
}

/// Lines in log format, to be written together.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    pub(crate) bytes: Vec<u8>,
    pub(crate) lines: u64,
}

impl Batch {
    /// Adds one line. `full` is false for a part of a line that goes on in the next one.
    pub(crate) fn push(&mut self, time: &str, stream: &str, full: bool, text: &[&[u8]]) {
        for part in [time, " ", stream, if full { " F " } else { " P " }] {
            self.bytes.extend_from_slice(part.as_bytes());
        }
        text.iter().for_each(|part| self.bytes.extend_from_slice(part));
        self.bytes.push(b'\n');
        self.lines += 1;
    }
}

impl Log {
    /// Opens or goes on with the file at `path`; `max_bytes` 0 means no rotation.
    pub(crate) fn open(path: &Path, max_bytes: u64, max_files: u32) -> io::Result<Self> {
        if let Some(directory) = path.parent() {
            fs::create_dir_all(directory)?;
        }
        let file = open_file(path)?;
        let size = file.metadata()?.len();
        let (path, lost, error) = (path.to_owned(), 0, String::new());
        Ok(Self { path, file: Some(file), size, max_bytes, max_files, lost, error, rotated_last: None })
    }

    /// Writes a batch with one call, to a new file if it would make this one too long.
    pub(crate) fn write(&mut self, batch: &Batch, wall_ns: i64) {
        if batch.lines == 0 {
            return;
        }
        if self.max_bytes > 0 && self.size > 0 && self.size + batch.bytes.len() as u64 > self.max_bytes {
            self.rotate(wall_ns);
        }
        if self.lost > 0 {
            let mut notice = Batch::default();
            let text = format!("podwright: {} lines of this log were lost: {}", self.lost, self.error);
            notice.push(&clock::rfc3339(wall_ns), "stderr", true, &[text.as_bytes()]);
            notice.bytes.extend_from_slice(&batch.bytes);
            match self.append(&notice.bytes) {
                Ok(()) => self.lost = 0,
                Err(error) => self.lose(batch, &error),
            }
        } else if let Err(error) = self.append(&batch.bytes) {
            self.lose(batch, &error);
        }
    }

    fn lose(&mut self, batch: &Batch, error: &io::Error) {
        self.lost += batch.lines;
        self.error = error.to_string();
    }

    /// All or nothing: half a batch (a disk that fills up) is cut off again, so that no line is torn.
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let file = match &mut self.file {
            Some(file) => file,
            none => {
                let file = open_file(&self.path)?;
                self.size = file.metadata()?.len();
                none.insert(file)
            }
        };
        match file.write_all(bytes) {
            Ok(()) => {
                self.size += bytes.len() as u64;
                Ok(())
            }
            Err(error) => {
                if file.set_len(self.size).is_err() {
                    self.file = None;
                }
                Err(error)
            }
        }
    }

    /// Renames the file to `NAME.YYYYMMDD-HHMMSS[.nnn]` and removes the oldest ones. When that fails the log goes on in
    /// the old file: too long is better than lost.
    fn rotate(&mut self, wall_ns: i64) {
        let stamp = clock::compact(wall_ns);
        let taken = |suffix: &str| self.rotated(suffix).exists();
        let suffix = if taken(&stamp) {
            (1..1000).map(|n| format!("{stamp}.{n:03}")).find(|suffix| !taken(suffix))
        } else {
            Some(stamp.clone())
        };
        let target = suffix.map(|suffix| self.rotated(&suffix));
        if let Some(target) = target.filter(|target| fs::rename(&self.path, target).is_ok()) {
            self.file = None;
            self.size = 0;
            self.rotated_last = Some(target);
        }
        self.prune();
    }

    fn rotated(&self, suffix: &str) -> PathBuf {
        let mut name = OsString::from(&self.path);
        name.push(".");
        name.push(suffix);
        name.into()
    }

    /// Removes the oldest rotated files, until with the current one `max_files` are left. Their names sort by age.
    fn prune(&self) {
        let (Some(directory), Some(name)) = (self.path.parent(), self.path.file_name().and_then(|name| name.to_str()))
        else {
            return;
        };
        let prefix = format!("{name}.");
        let entries = fs::read_dir(directory).into_iter().flatten().flatten();
        let mut old: Vec<OsString> = entries
            .map(|entry| entry.file_name())
            .filter(|found| found.to_str().is_some_and(|found| found.starts_with(&prefix)))
            .collect();
        old.sort();
        let keep = self.max_files.saturating_sub(1) as usize;
        old.truncate(old.len().saturating_sub(keep));
        for name in old {
            // One that cannot be removed is tried again at the next rotation.
            drop(fs::remove_file(directory.join(name)));
        }
    }
}

fn open_file(path: &Path) -> io::Result<File> {
    // As kubelet's: readable for log collectors, whatever the umask of the agent is.
    OpenOptions::new().append(true).create(true).mode(0o640).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_700_000_000_000_000_000;

    fn batch(text: &str) -> Batch {
        let mut batch = Batch::default();
        batch.push("T", "stdout", true, &[text.as_bytes()]);
        batch
    }

    fn names(directory: &Path) -> Vec<String> {
        let mut names: Vec<String> =
            fs::read_dir(directory).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn rotates_by_size_and_keeps_the_newest() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("c/0.log");
        let mut log = Log::open(&path, 32, 3).unwrap();
        for n in 0..9 {
            // 20 bytes a line: one line a file.
            log.write(&batch(&format!("line {n}")), NOW + i64::from(n / 2) * 1_000_000_000);
        }
        assert_eq!(names(&dir.path().join("c")), ["0.log", "0.log.20231114-221323.001", "0.log.20231114-221324"]);
        assert_eq!(fs::read_to_string(&path).unwrap(), "T stdout F line 8\n");
        assert_eq!(fs::read_to_string(dir.path().join("c/0.log.20231114-221323.001")).unwrap(), "T stdout F line 6\n");
    }

    #[test]
    fn goes_on_with_an_existing_file_and_may_keep_only_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("0.log");
        fs::write(&path, "0123456789012345678901234567\n").unwrap();
        Log::open(&path, 32, 1).unwrap().write(&batch("new"), NOW);
        assert_eq!(names(dir.path()), ["0.log"]);
        assert_eq!(fs::read_to_string(&path).unwrap(), "T stdout F new\n");
    }

    #[test]
    fn a_full_disk_loses_lines_and_says_so_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("0.log");
        std::os::unix::fs::symlink("/dev/full", &path).unwrap();
        let mut log = Log::open(&path, 0, 5).unwrap();
        log.write(&batch("a"), NOW);
        log.write(&batch("b"), NOW);
        fs::remove_file(&path).unwrap();
        log.write(&batch("c"), NOW);
        log.write(&batch("d"), NOW);
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains("2 lines of this log were lost: No space left on device"), "{text}");
        assert!(text.ends_with("\nT stdout F c\nT stdout F d\n"), "{text}");
        assert_eq!(text.matches("lost").count(), 1);
    }
}
