//! A container's log file in CRI format (`<time> stdout|stderr F|P <line>`), rotated by size.
//!
//! The directory may be writable for a pod: files are found below the directory of all logs, through no link, and are
//! regular files of one name, or are not opened.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{RenameFlags, renameat2};
use nix::sys::stat::Mode;
use nix::unistd::{UnlinkatFlags, unlinkat};
use podwright_proto::{LogLoss, Stamp};
use podwright_sys::file;

use crate::clock;

/// Longest text of one log line; longer lines are split into parts marked `P`, the last one `F`, as containerd does.
pub(crate) const MAX_LINE_TEXT: usize = 16 << 10;
/// As kubelet's: readable for log collectors, whatever the umask is.
const FILE_MODE: Mode = Mode::from_bits_truncate(0o640);
const DIRECTORY_MODE: Mode = Mode::from_bits_truncate(0o755);
/// While lines are being lost, how often at most there is news of it.
const NEWS_NS: i64 = 10_000_000_000;
/// Rotations within one second whose files are told apart by three digits each.
const DIGITS: u32 = 999;

/// The log of one instance. A failing write never stops the container: lines are dropped and counted, and what was lost is
/// written when the file works again.
#[derive(Debug)]
pub(crate) struct Log {
    path: PathBuf,
    file: Option<File>,
    size: u64,
    max_bytes: u64,
    max_files: u32,
    /// What was lost since the last line that was written.
    gap: Option<LogLoss>,
    /// What was lost in all, and when there was news of it last.
    lost: Option<LogLoss>,
    told: Option<Stamp>,
    news: bool,
    /// The time and number of the last rotation: names never go back, though clocks do.
    stamp: (String, u32),
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
        let file = open_to_append(path)?;
        let (size, path) = (file.metadata()?.len(), path.to_owned());
        let (gap, lost, told, news) = (None, None, None, false);
        let (file, stamp, rotated_last) = (Some(file), (String::new(), 0), None);
        Ok(Self { path, file, size, max_bytes, max_files, gap, lost, told, news, stamp, rotated_last })
    }

    /// Writes a batch, to new files where it would make one too long: none is longer than it may be, but for a line that is
    /// longer by itself.
    pub(crate) fn write(&mut self, batch: &Batch, now: Stamp) {
        let mut rest = batch.bytes.as_slice();
        // Together with the first line that is written again: a full disk may have room for a few notices more.
        let mut notice = self.notice(now);
        while !rest.is_empty() {
            let said = notice.len() as u64;
            let mut length = whole_lines(rest, self.room().saturating_sub(said));
            if length == 0 {
                if self.size > 0 {
                    self.rotate(now.wall_ns);
                }
                length = whole_lines(rest, self.max_bytes.saturating_sub(said)).max(first_line(rest));
            }
            let (part, after) = rest.split_at(length);
            let written = if notice.is_empty() { self.append(part) } else { self.append(&[&notice, part].concat()) };
            if let Err(error) = written {
                return self.lose(rest, &error, now);
            }
            self.gap_is_told();
            notice.clear();
            rest = after;
        }
    }

    /// The last chance to tell in the log what it lacks.
    pub(crate) fn close(&mut self, now: Stamp) {
        let notice = self.notice(now);
        // If it fails, the record tells.
        if !notice.is_empty() && self.append(&notice).is_ok() {
            self.gap_is_told();
        }
        if let Some(lost) = self.lost.as_mut().filter(|lost| lost.ongoing) {
            (lost.ongoing, self.news) = (false, true);
        }
        self.told = None;
    }

    /// What was lost in all, if that is news: at the first line and at the end of each gap, and now and then in between.
    pub(crate) fn lost_since_told(&mut self) -> Option<LogLoss> {
        let lost = self.lost.as_ref().filter(|_| self.news)?;
        if lost.ongoing && self.told.is_some_and(|told| lost.last.boot_ns - told.boot_ns < NEWS_NS) {
            return None;
        }
        (self.news, self.told) = (false, Some(lost.last));
        Some(lost.clone())
    }

    /// Bytes that fit into the present file.
    fn room(&self) -> u64 {
        if self.max_bytes == 0 { u64::MAX } else { self.max_bytes.saturating_sub(self.size) }
    }

    /// A line that tells what was lost since the last one; nothing if nothing was.
    fn notice(&self, now: Stamp) -> Vec<u8> {
        let Some(gap) = &self.gap else { return Vec::new() };
        let [first, last] = [gap.first, gap.last].map(|stamp| clock::rfc3339(stamp.wall_ns));
        let text = format!(
            "podwright: {} lines ({} bytes) of this log were lost from {first} to {last}: {}",
            gap.lines, gap.bytes, gap.error
        );
        let mut notice = Batch::default();
        notice.push(&clock::rfc3339(now.wall_ns), "stderr", true, &[text.as_bytes()]);
        notice.bytes
    }

    fn gap_is_told(&mut self) {
        if self.gap.take().is_some()
            && let Some(lost) = &mut self.lost
        {
            (lost.ongoing, self.news) = (false, true);
        }
    }

    fn lose(&mut self, lines: &[u8], error: &io::Error, now: Stamp) {
        let (bytes, lines) = (lines.len() as u64, lines.iter().filter(|byte| **byte == b'\n').count() as u64);
        for counted in [&mut self.gap, &mut self.lost] {
            let none = LogLoss { lines: 0, bytes: 0, first: now, last: now, error: String::new(), ongoing: true };
            let counted = counted.get_or_insert(none);
            (counted.lines, counted.bytes) = (counted.lines + lines, counted.bytes + bytes);
            (counted.last, counted.error, counted.ongoing) = (now, error.to_string(), true);
        }
        self.news = true;
    }

    /// All or nothing: half a batch (a disk that fills up) is cut off again, so that no line is torn.
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let file = match &mut self.file {
            Some(file) => file,
            none => {
                let file = open_to_append(&self.path)?;
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
        let Ok((directory, name)) = place(&self.path, false) else { return };
        let stamp = clock::compact(wall_ns);
        // Readers, and what removes the oldest, go by the names.
        let (stamp, first) = if stamp > self.stamp.0 { (stamp, 0) } else { (self.stamp.0.clone(), self.stamp.1 + 1) };
        for number in first..first.saturating_add(DIGITS) {
            let mut target = name.to_owned();
            target.push(format!(".{stamp}{}", digits(number)));
            let renamed =
                match renameat2(&directory, name, &directory, target.as_os_str(), RenameFlags::RENAME_NOREPLACE) {
                    // Not every file system can; there, nobody else makes such names.
                    Err(Errno::EINVAL) => nix::fcntl::renameat(&directory, name, &directory, target.as_os_str()),
                    other => other,
                };
            match renamed {
                Err(Errno::EEXIST) => {}
                Err(_) => break,
                Ok(()) => {
                    (self.file, self.size, self.stamp) = (None, 0, (stamp, number));
                    self.rotated_last = Some(self.path.with_file_name(target));
                    break;
                }
            }
        }
        self.prune(directory, name);
    }

    /// Removes the oldest rotated files, until with the current one `max_files` are left. Their names sort by age.
    fn prune(&self, directory: OwnedFd, name: &OsStr) {
        let keep = self.max_files.saturating_sub(1) as usize;
        let prefix = [name.as_bytes(), b"."].concat();
        let mut newest: BTreeSet<OsString> = BTreeSet::new();
        let removing = directory.try_clone();
        let (Ok(mut entries), Ok(removing)) = (Dir::from_fd(directory), removing) else { return };
        for entry in entries.iter().map_while(Result::ok) {
            let found = entry.file_name().to_bytes();
            if !found.starts_with(&prefix) {
                continue;
            }
            newest.insert(OsStr::from_bytes(found).to_owned());
            // No more than are kept, however many there are.
            if newest.len() > keep
                && let Some(oldest) = newest.pop_first()
            {
                // One that cannot be removed is tried again at the next rotation.
                let _next_time = unlinkat(removing.as_fd(), oldest.as_os_str(), UnlinkatFlags::NoRemoveDir);
            }
        }
    }
}

/// What tells the rotations within one second apart: nothing, `.001`, …, `.999`, `.999.001`, …, so that they sort.
fn digits(number: u32) -> String {
    match number % DIGITS {
        0 if number == 0 => String::new(),
        0 => format!(".{DIGITS}").repeat((number / DIGITS) as usize),
        rest => format!("{}.{rest:03}", format!(".{DIGITS}").repeat((number / DIGITS) as usize)),
    }
}

/// Bytes of the whole lines that fit in so many bytes.
fn whole_lines(lines: &[u8], room: u64) -> usize {
    let room = usize::try_from(room).unwrap_or(usize::MAX).min(lines.len());
    let fits = lines.get(..room).unwrap_or_default();
    fits.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1)
}

fn first_line(lines: &[u8]) -> usize {
    lines.iter().position(|byte| *byte == b'\n').map_or(lines.len(), |end| end + 1)
}

/// The directory that a log file is in, and its name there.
fn place(path: &Path, make: bool) -> io::Result<(OwnedFd, &OsStr)> {
    let (root, below, name) = file::parts_of_log(path).ok_or(io::ErrorKind::InvalidInput)?;
    let directory = if make { file::make_directory(root, below, DIRECTORY_MODE) } else { file::directory(root, below) };
    Ok((directory?, name))
}

fn open_to_append(path: &Path) -> io::Result<File> {
    let (directory, name) = place(path, true)?;
    file::open_to_append(directory, name, FILE_MODE)
}

/// A log file to read, if it is one.
pub(crate) fn open_to_read(path: &Path) -> io::Result<File> {
    let (directory, name) = place(path, false)?;
    file::open_to_read(directory, name)
}

#[cfg(test)]
#[path = "log/tests.rs"]
mod tests;
