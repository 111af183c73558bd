//! The log files of one container: `ATTEMPT.log`, and `ATTEMPT.log.SUFFIX` for what was rotated away.
//!
//! A suffix is a time, the greatest being the youngest (kubelet's `20060102-150405`, here also `20060102-150405.001`), or,
//! as other tools have it, a counter with 1 for the youngest.
//! A reader knows a file by its inode: a rotation renames it and changes nothing else.
//!
//! A pod may have the directory as a writable `hostPath`: it is looked up below the directory of all logs without links, only
//! regular files of one name are read, and what is remembered of a listing or a file does not grow with it.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use nix::dir::Dir;
use nix::errno::Errno;
use podwright_sys::file;

use super::cri::{Joiner, parse};

/// Bytes read at once.
const BLOCK: usize = 64 << 10;
/// A longer line of a file is cut there.
const MAX_LINE: usize = 1 << 20;
/// Listings tried until two in a row agree.
const LISTINGS: u32 = 10;
/// Attempts, and files of one, that are looked at: the newest.
const MAX_LISTED: usize = 4096;
/// How far back from the end of a file its last lines are looked for.
const MAX_TAIL: u64 = 128 << 20;
/// Bytes at the beginning of a line that tell whether it is a part: time, stream and tag.
const HEAD: u64 = 64;

/// Where to begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Start {
    /// At the oldest line that is kept.
    Oldest,
    /// That many lines before the end.
    Tail(u64),
}

/// What [`LogReader::step`] found.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Text for the user.
    Text(Vec<u8>),
    /// Nothing more for now.
    End,
}

/// A file's identity: device and inode.
type FileId = (u64, u64);

/// Every attempt that has a log, in order.
pub(super) fn attempts(dir: &Path) -> io::Result<Vec<u32>> {
    let mut all = BTreeSet::new();
    if let Some(dir) = open_directory(dir)? {
        for_each_name(dir, |name| {
            all.extend(split_name(name).map(|(attempt, _)| attempt));
            if all.len() > MAX_LISTED {
                all.pop_first();
            }
        })?;
    }
    Ok(all.into_iter().collect())
}

/// The directory of a container's logs, LOGS/POD/CONTAINER; `None` if there is none.
fn open_directory(dir: &Path) -> io::Result<Option<OwnedFd>> {
    let root = dir.parent().and_then(Path::parent).ok_or(io::ErrorKind::InvalidInput)?;
    let below = dir.strip_prefix(root).map_err(io::Error::other)?;
    match file::directory(root, below) {
        Err(Errno::ENOENT) => Ok(None),
        other => Ok(Some(other?)),
    }
}

fn for_each_name(dir: OwnedFd, mut each: impl FnMut(&str)) -> io::Result<()> {
    for entry in Dir::from_fd(dir)?.iter() {
        if let Ok(name) = entry?.file_name().to_str() {
            each(name);
        }
    }
    Ok(())
}

/// `N.log` or `N.log.SUFFIX`; compressed and unfinished files are none of ours.
fn split_name(name: &str) -> Option<(u32, Option<&str>)> {
    let (attempt, rest) = name.split_once(".log")?;
    let attempt = attempt.parse().ok()?;
    match rest.strip_prefix('.') {
        None => rest.is_empty().then_some((attempt, None)),
        Some(suffix) => {
            suffix.bytes().all(|b| b.is_ascii_digit() || b"-.".contains(&b)).then_some((attempt, Some(suffix)))
        }
    }
}

/// Orders the files of an attempt from the oldest to the current one.
fn age(suffix: Option<&str>) -> (u8, i64, String) {
    match suffix {
        None => (1, 0, String::new()),
        Some(s) => match s.parse::<i64>() {
            Ok(counter) if s.len() < 8 => (0, -counter, String::new()),
            _ => (0, 0, s.to_owned()),
        },
    }
}

/// The files of an attempt, oldest first. Listed until two listings agree: a rotation may be under way.
fn files(dir: &Path, attempt: u32) -> io::Result<Vec<(FileId, String)>> {
    let list = || -> io::Result<Vec<(FileId, String)>> {
        let Some(dir) = open_directory(dir)? else { return Ok(Vec::new()) };
        let mut names = BTreeSet::new();
        for_each_name(dir.try_clone()?, |name| {
            if let Some((_, suffix)) = split_name(name).filter(|(a, _)| *a == attempt) {
                names.insert((age(suffix), name.to_owned()));
                if names.len() > MAX_LISTED {
                    names.pop_first();
                }
            }
        })?;
        let mut found = Vec::new();
        for (_, name) in names {
            match file::look(&dir, OsStr::new(&name)) {
                Ok(stat) => match file::check(&stat) {
                    Ok(()) => found.push(((stat.st_dev, stat.st_ino), name)),
                    Err(refused) => return Err(io::Error::other(format!("{name} is not read: {refused}"))),
                },
                Err(Errno::ENOENT) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(found)
    };
    let mut last = list()?;
    for _ in 0..LISTINGS {
        let again = list()?;
        if again == last {
            break;
        }
        last = again;
    }
    Ok(last)
}

/// Reads one attempt's log through its rotations and, if it is to follow, the logs of the attempts after it.
#[derive(Debug)]
pub(super) struct LogReader {
    dir: PathBuf,
    /// `None`: there is no log yet.
    attempt: Option<u32>,
    follow: bool,
    joiner: Joiner,
    file: Option<(FileId, File)>,
    /// The file has a successor, so nothing is written to it any more.
    sealed: bool,
    /// The beginning of a line whose end is not there yet.
    carry: Vec<u8>,
    text: Vec<u8>,
}

impl LogReader {
    /// Begins with `attempt` (`None`: the first that appears); goes on with later attempts if `follow` is set.
    pub(super) fn new(
        dir: PathBuf,
        attempt: Option<u32>,
        start: Start,
        timestamps: bool,
        follow: bool,
    ) -> io::Result<Self> {
        let joiner = Joiner::new(timestamps);
        let mut reader =
            LogReader { dir, attempt, follow, joiner, file: None, sealed: false, carry: Vec::new(), text: Vec::new() };
        if let (Some(attempt), Start::Tail(lines)) = (attempt, start) {
            reader.file = tail_position(&reader.dir, attempt, lines)?;
        }
        Ok(reader)
    }

    /// Reads on; call again until [`Step::End`]. May block on the disk.
    pub(super) fn step(&mut self) -> io::Result<Step> {
        let mut block = vec![0; BLOCK];
        loop {
            let read = match &mut self.file {
                Some((_, file)) => file.read(&mut block)?,
                None => 0,
            };
            self.take(&block[..read]);
            if !self.text.is_empty() {
                return Ok(Step::Text(std::mem::take(&mut self.text)));
            }
            if read == 0 && !self.advance()? {
                return Ok(Step::End);
            }
        }
    }

    /// Nothing more will come: what was never finished.
    pub(super) fn finish(&mut self) -> Vec<u8> {
        self.end_file();
        self.joiner.flush(false, &mut self.text);
        std::mem::take(&mut self.text)
    }

    fn take(&mut self, block: &[u8]) {
        let mut rest = block;
        while let Some(end) = rest.iter().position(|b| *b == b'\n') {
            self.carry.extend_from_slice(&rest[..end]);
            self.joiner.push(&self.carry, &mut self.text);
            self.carry.clear();
            rest = &rest[end + 1..];
        }
        self.carry.extend_from_slice(rest);
        if self.carry.len() > MAX_LINE {
            self.joiner.push(&self.carry, &mut self.text);
            self.carry.clear();
        }
    }

    /// A shim that died while it wrote leaves a line without an end.
    fn end_file(&mut self) {
        if !self.carry.is_empty() {
            self.joiner.push(&self.carry, &mut self.text);
            self.carry.clear();
        }
    }

    /// At the end of a file: finds the one after it. Returns whether there is more to read.
    fn advance(&mut self) -> io::Result<bool> {
        let Some((attempt, id, name)) = self.successor()? else { return Ok(false) };
        if self.file.is_some() && !self.sealed {
            // The successor may have appeared after the read that found the end, and with it a last line here.
            self.sealed = true;
            return Ok(true);
        }
        // Renamed in between: the next listing has its new name.
        let Some(file) = open_listed(&self.dir, &name, id)? else { return Ok(true) };
        self.end_file();
        if self.attempt != Some(attempt) {
            self.joiner.flush(true, &mut self.text);
        }
        self.attempt = Some(attempt);
        self.file = Some((id, file));
        self.sealed = false;
        Ok(true)
    }

    fn successor(&self) -> io::Result<Option<(u32, FileId, String)>> {
        if let Some(attempt) = self.attempt {
            let files = files(&self.dir, attempt)?;
            // Ours is not listed when nothing is open yet or when it was removed as the oldest: then the oldest is next.
            let ours = self.file.as_ref().and_then(|(id, _)| files.iter().position(|(other, _)| other == id));
            if let Some((id, name)) = files.into_iter().nth(ours.map_or(0, |i| i + 1)) {
                return Ok(Some((attempt, id, name)));
            }
        }
        if !self.follow {
            return Ok(None);
        }
        let later = attempts(&self.dir)?.into_iter().find(|a| self.attempt.is_none_or(|mine| *a > mine));
        let Some(later) = later else { return Ok(None) };
        Ok(files(&self.dir, later)?.into_iter().next().map(|(id, name)| (later, id, name)))
    }
}

/// Opens a file of a listing; `None` if its name no longer stands for it.
fn open_listed(dir: &Path, name: &str, id: FileId) -> io::Result<Option<File>> {
    let Some(dir) = open_directory(dir)? else { return Ok(None) };
    let file = match file::open_to_read(dir.as_fd(), OsStr::new(name)) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound || file::is_refused(&e) => return Ok(None),
        Err(e) => return Err(e),
    };
    let meta = file.metadata()?;
    Ok(((meta.dev(), meta.ino()) == id).then_some(file))
}

/// The file and position from which `lines` lines are left to the end of the attempt's log.
fn tail_position(dir: &Path, attempt: u32, lines: u64) -> io::Result<Option<(FileId, File)>> {
    'listing: for _ in 0..LISTINGS {
        let mut wanted = lines;
        let mut position = None;
        for (id, name) in files(dir, attempt)?.into_iter().rev() {
            let Some(mut file) = open_listed(dir, &name, id)? else { continue 'listing };
            let (start, counted) = tail_of_file(&file, wanted)?;
            wanted -= counted;
            file.seek(SeekFrom::Start(start))?;
            position = Some((id, file));
            if wanted == 0 {
                break;
            }
        }
        return Ok(position);
    }
    Err(io::Error::other("it is rotated faster than it can be read"))
}

/// Where the last `wanted` lines of a file begin, and how many there are. What is unfinished at the end counts as a line.
/// Read from the end: of a file that never ends, only so much is looked at.
fn tail_of_file(file: &File, wanted: u64) -> io::Result<(u64, u64)> {
    let length = file.metadata()?.len();
    if wanted == 0 || length == 0 {
        return Ok((length, 0));
    }
    let earliest = length.saturating_sub(MAX_TAIL);
    let (mut counted, mut block, mut buffer) = (0, length, Vec::new());
    // The end of the line whose beginning comes next.
    let mut end = None;
    while block > earliest {
        let from = block.saturating_sub(BLOCK as u64).max(earliest);
        let ahead = (block + HEAD).min(length);
        buffer.resize(usize::try_from(ahead - from).unwrap_or(0), 0);
        file.read_exact_at(&mut buffer, from)?;
        let own = usize::try_from(block - from).unwrap_or(0);
        for (index, _) in buffer.iter().enumerate().take(own).rev().filter(|(_, byte)| **byte == b'\n') {
            let after = from + index as u64 + 1;
            if let Some(end) = end.replace(after)
                && !is_part(buffer.get(index + 1..).unwrap_or_default(), end - after)
                && end < length
            {
                counted += 1;
                if counted == wanted {
                    return Ok((end, counted));
                }
            }
        }
        block = from;
    }
    let head = HEAD.min(length - earliest);
    let mut first = vec![0; usize::try_from(head).unwrap_or(0)];
    file.read_exact_at(&mut first, earliest)?;
    if let Some(end) = end.filter(|end| *end < length && !is_part(&first, end - earliest)) {
        counted += 1;
        if counted == wanted {
            return Ok((end, counted));
        }
    }
    Ok((earliest, counted + 1))
}

/// Whether the line that begins here, and has that many bytes, goes on in the next one.
fn is_part(bytes: &[u8], length: u64) -> bool {
    let length = usize::try_from(length.min(HEAD)).unwrap_or(0).min(bytes.len());
    let line = bytes.get(..length).unwrap_or_default();
    parse(line.strip_suffix(b"\n").unwrap_or(line)).is_some_and(|line| line.partial)
}

#[cfg(test)]
mod tests {
    use std::fs::{self, OpenOptions};
    use std::io::Write;

    use super::*;

    struct Logs(tempfile::TempDir);

    impl Logs {
        fn new() -> Self {
            Logs(tempfile::tempdir().unwrap())
        }

        fn path(&self, name: &str) -> PathBuf {
            self.0.path().join(name)
        }

        fn write(&self, name: &str, lines: &[&str]) {
            let mut file = OpenOptions::new().create(true).append(true).open(self.path(name)).unwrap();
            lines.iter().for_each(|l| writeln!(file, "2026-01-01T00:00:00.5Z stdout F {l}").unwrap());
        }

        fn rename(&self, from: &str, to: &str) {
            fs::rename(self.path(from), self.path(to)).unwrap();
        }

        fn reader(&self, attempt: Option<u32>, start: Start, follow: bool) -> LogReader {
            LogReader::new(self.0.path().to_owned(), attempt, start, false, follow).unwrap()
        }
    }

    fn read(reader: &mut LogReader) -> String {
        let mut all = Vec::new();
        while let Step::Text(text) = reader.step().unwrap() {
            all.extend(text);
        }
        String::from_utf8(all).unwrap().replace('\n', " ")
    }

    #[test]
    fn rotated_files_are_read_from_the_oldest() {
        let logs = Logs::new();
        logs.write("3.log.10", &["a"]);
        logs.write("3.log.2", &["b"]);
        logs.write("3.log.1", &["c"]);
        logs.write("3.log", &["d"]);
        logs.write("4.log.20260101-000001", &["e"]);
        logs.write("4.log.20260101-000002", &["f"]);
        logs.write("4.log.20260101-000002.001", &["f2"]);
        logs.write("4.log.20260101-000002.gz", &["no"]);
        logs.write("4.log.tmp", &["no"]);
        logs.write("4.log", &["g"]);
        assert_eq!(attempts(logs.0.path()).unwrap(), [3, 4]);
        assert_eq!(read(&mut logs.reader(Some(3), Start::Oldest, false)), "a b c d ");
        assert_eq!(read(&mut logs.reader(Some(4), Start::Oldest, false)), "e f f2 g ");
        assert_eq!(read(&mut logs.reader(Some(3), Start::Oldest, true)), "a b c d e f f2 g ");
        assert_eq!(read(&mut logs.reader(Some(5), Start::Oldest, false)), "");
    }

    #[test]
    fn tail_counts_lines_over_rotations_and_parts_as_one() {
        let logs = Logs::new();
        logs.write("0.log.1", &["a", "b"]);
        fs::write(logs.path("0.log"), "1 stdout P c\n1 stdout F c\n1 stdout F d\n").unwrap();
        let tail = |n| read(&mut logs.reader(Some(0), Start::Tail(n), false));
        assert_eq!((tail(0), tail(1), tail(2)), (String::new(), "d ".into(), "cc d ".into()));
        assert_eq!((tail(3), tail(4), tail(u64::MAX)), ("b cc d ".into(), "a b cc d ".into(), "a b cc d ".into()));
    }

    #[test]
    fn the_tail_is_found_from_the_end_wherever_blocks_begin() {
        let logs = Logs::new();
        // By a reader that goes from the beginning, as it is said: each line that is no part ends one.
        let plain = |text: &str, wanted: usize| {
            let (mut starts, mut start, mut offset) = (Vec::new(), 0, 0);
            for line in text.split_inclusive('\n') {
                offset += line.len();
                if line.ends_with('\n') && !line.contains(" P ") {
                    starts.push(start);
                    start = offset;
                }
            }
            if start < offset {
                starts.push(start);
            }
            let from = starts.len().saturating_sub(wanted);
            starts.get(from).copied().unwrap_or(offset) as u64
        };
        for (pad, end) in [(0, ""), (1, "1 stdout F cut"), (63, "1 stdout P part\n"), (64, ""), (65, "1 stderr P x")] {
            let mut text = String::new();
            for n in 0..4_000 {
                let (tag, fill) = (if n % 3 == 0 { 'P' } else { 'F' }, "x".repeat((n * 7 + pad) % 90));
                text.push_str(&format!("1 stdout {tag} {n}{fill}\n"));
            }
            text.push_str(end);
            fs::write(logs.path("0.log"), &text).unwrap();
            let file = File::open(logs.path("0.log")).unwrap();
            for wanted in [0, 1, 2, 3, 10, 700, 2_000, 2_666, 2_667, 2_668, 9_999] {
                let (start, _) = tail_of_file(&file, wanted as u64).unwrap();
                assert_eq!(start, plain(&text, wanted), "{pad} {wanted}");
            }
        }
        // An endless file takes neither memory nor time.
        File::create(logs.path("1.log")).unwrap().set_len(1 << 40).unwrap();
        let (start, lines) = tail_of_file(&File::open(logs.path("1.log")).unwrap(), 5).unwrap();
        assert_eq!((start, lines), ((1 << 40) - MAX_TAIL, 1));
    }

    /// A pod that has the directory puts other things there.
    #[test]
    fn nothing_is_read_elsewhere() {
        use std::os::unix::fs::symlink;
        let logs = Logs::new();
        let outside = tempfile::tempdir().unwrap();
        let secret = outside.path().join("0.log");
        fs::write(&secret, "secret\n").unwrap();
        let opened = || {
            let reader = LogReader::new(logs.0.path().to_owned(), Some(0), Start::Tail(9), false, false);
            reader.and_then(|mut reader| reader.step())
        };
        // The control: what is there itself is read.
        fs::copy(&secret, logs.path("0.log")).unwrap();
        assert_eq!(opened().unwrap(), Step::Text(b"secret\n".to_vec()));
        for plant in [
            |from: &Path, to: &Path| symlink(from, to).unwrap(),
            |from: &Path, to: &Path| fs::hard_link(from, to).unwrap(),
            |_: &Path, to: &Path| nix::unistd::mkfifo(to, nix::sys::stat::Mode::S_IRWXU).unwrap(),
            |_: &Path, to: &Path| symlink("/dev/zero", to).unwrap(),
        ] {
            fs::remove_file(logs.path("0.log")).unwrap();
            plant(&secret, &logs.path("0.log"));
            let error = opened().unwrap_err().to_string();
            assert!(error.starts_with("0.log is not read: it is a "), "{error}");
        }
        let pods = tempfile::tempdir().unwrap();
        fs::create_dir(pods.path().join("pod")).unwrap();
        symlink(outside.path(), pods.path().join("pod/app")).unwrap();
        assert!(attempts(&pods.path().join("pod/app")).is_err());
        assert_eq!(attempts(&pods.path().join("pod/none")).unwrap(), [0; 0]);
    }

    #[test]
    fn following_survives_rotations_and_restarts() {
        let logs = Logs::new();
        let mut reader = logs.reader(None, Start::Oldest, true);
        assert_eq!(read(&mut reader), "");
        logs.write("0.log", &["a"]);
        assert_eq!(read(&mut reader), "a ");
        logs.write("0.log", &["b"]);
        logs.rename("0.log", "0.log.1");
        assert_eq!(read(&mut reader), "b ");
        logs.write("0.log", &["c"]);
        logs.rename("0.log.1", "0.log.2");
        logs.rename("0.log", "0.log.1");
        logs.write("0.log", &["d"]);
        assert_eq!(read(&mut reader), "c d ");
        fs::remove_file(logs.path("0.log.2")).unwrap();
        logs.write("0.log", &["e"]);
        logs.write("1.log", &["f"]);
        logs.write("2.log", &["g"]);
        assert_eq!(read(&mut reader), "e f g ");
    }

    #[test]
    fn nothing_is_lost_or_repeated_while_a_writer_rotates() {
        const LINES: usize = 20_000;
        let logs = Logs::new();
        let mut reader = logs.reader(None, Start::Oldest, true);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for first in (0..LINES).step_by(100) {
                    let (attempt, part) = (first / 5_000, first / 100 % 50);
                    let name = format!("{attempt}.log");
                    for i in first..first + 100 {
                        logs.write(&name, &[&i.to_string()]);
                    }
                    if part < 49 {
                        logs.rename(&name, &format!("{name}.20260101-0000{part:02}"));
                    }
                }
            });
            let mut seen = String::new();
            while seen.split(' ').count() <= LINES {
                seen.push_str(&read(&mut reader));
            }
            let expected: Vec<String> = (0..LINES).map(|i| i.to_string()).collect();
            assert!(seen.split_whitespace().eq(expected.iter()));
        });
    }

    #[test]
    fn a_name_that_changed_hands_after_the_listing_is_not_opened() {
        let logs = Logs::new();
        logs.write("0.log", &["a"]);
        let (id, path) = files(logs.0.path(), 0).unwrap().remove(0);
        assert!(open_listed(logs.0.path(), &path, id).unwrap().is_some());
        logs.rename("0.log", "0.log.1");
        assert!(open_listed(logs.0.path(), &path, id).unwrap().is_none());
        logs.write("0.log", &["b"]);
        assert!(open_listed(logs.0.path(), &path, id).unwrap().is_none());
    }

    #[test]
    fn a_file_removed_while_it_was_read_is_finished_and_the_oldest_follows() {
        let logs = Logs::new();
        logs.write("0.log", &["a"]);
        let mut reader = logs.reader(Some(0), Start::Oldest, true);
        assert_eq!(read(&mut reader), "a ");
        logs.write("0.log", &["b"]);
        fs::remove_file(logs.path("0.log")).unwrap();
        logs.write("0.log.1", &["c"]);
        logs.write("0.log", &["d"]);
        assert_eq!(read(&mut reader), "b c d ");
    }

    #[test]
    fn lines_cut_by_a_dying_writer_are_kept_apart() {
        let logs = Logs::new();
        fs::write(logs.path("0.log"), "1 stdout F whole\n1 stdout P half").unwrap();
        let mut reader = logs.reader(Some(0), Start::Oldest, true);
        assert_eq!(read(&mut reader), "whole ");
        logs.write("1.log", &["next"]);
        assert_eq!(read(&mut reader), "half next ");
        fs::write(logs.path("1.log"), "").unwrap();
        fs::write(logs.path("2.log"), "1 stdout P end").unwrap();
        assert_eq!(read(&mut reader), "");
        assert_eq!(reader.finish(), b"end");
    }
}
