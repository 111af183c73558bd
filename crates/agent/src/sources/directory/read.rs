//! One file of the directory: whether it changed, and what is in it.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::time::{Duration, SystemTime};

use nix::fcntl::OFlag;
use podwright_sys::lease;

use super::{Seen, parse};

/// Largest manifest, bytes.
const MAX_BYTES: u64 = 10 << 20;
/// A file whose time stamp is younger than this when it is read may change again without its time stamp changing: the
/// kernel's file times move in steps of a tick, at most 10 ms.
const TICK: Duration = Duration::from_millis(20);

/// What tells one content of a file from another without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mark {
    device: u64,
    inode: u64,
    size: u64,
    modified_ns: i128,
    changed_ns: i128,
}

impl Mark {
    fn of(stat: &std::fs::Metadata) -> Mark {
        let ns = |s: i64, ns: i64| i128::from(s) * 1_000_000_000 + i128::from(ns);
        Mark {
            device: stat.dev(),
            inode: stat.ino(),
            size: stat.size(),
            modified_ns: ns(stat.mtime(), stat.mtime_nsec()),
            changed_ns: ns(stat.ctime(), stat.ctime_nsec()),
        }
    }

    /// Whether a change right now could leave this mark as it is.
    fn is_fresh(&self) -> bool {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let age = i128::try_from(now.as_nanos()).unwrap_or(i128::MAX) - self.changed_ns;
        age < i128::try_from(TICK.as_nanos()).unwrap_or(0)
    }
}

/// A file as it was read last.
#[derive(Debug, Clone)]
pub(super) struct Cached {
    pub(super) mark: Option<Mark>,
    /// What it was.
    pub(super) seen: Seen,
}

impl Cached {
    /// Whether nothing is known about it, since nobody could look.
    pub(super) fn is_away(&self) -> bool {
        matches!(self.seen, Seen::Silent { .. } | Seen::Unasked)
    }
}

/// Whether the name is one of a manifest.
pub(super) fn is_manifest(name: &str) -> bool {
    !name.starts_with('.') && [".yaml", ".yml", ".json"].iter().any(|end| name.len() > end.len() && name.ends_with(end))
}

/// Looks at a file again; `known` is what it was the last time. `None`: it is gone.
pub(super) fn look(directory: &Path, name: &str, known: Option<Cached>) -> Option<Cached> {
    if !is_manifest(name) {
        let reason = "ignored: only files named *.yaml, *.yml or *.json are manifests";
        return Some(Cached { mark: None, seen: Seen::Ignored { reason } });
    }
    let path = directory.join(name);
    let stat = match std::fs::metadata(&path) {
        Ok(stat) => stat,
        // Gone, unless it is a link that leads nowhere, or that cannot be told.
        Err(error) if error.kind() == io::ErrorKind::NotFound && is_absent(&path) => return None,
        Err(error) => return Some(unreadable(name, &error)),
    };
    let kind = stat.file_type();
    if !kind.is_file() {
        let reason = match () {
            () if kind.is_dir() => "ignored: a directory",
            () if kind.is_fifo() => "ignored: a fifo",
            () if kind.is_socket() => "ignored: a socket",
            () => "ignored: a device",
        };
        return Some(Cached { mark: None, seen: Seen::Ignored { reason } });
    }
    let mark = Mark::of(&stat);
    match known {
        Some(known) if known.mark == Some(mark) => Some(known),
        _ => Some(read(&path, name).unwrap_or_else(|error| unreadable(name, &error))),
    }
}

fn is_absent(path: &Path) -> bool {
    path.symlink_metadata().is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
}

fn unreadable(name: &str, error: &io::Error) -> Cached {
    Cached { mark: None, seen: Seen::Bad { problems: vec![format!("{name}: cannot be read: {error}")] } }
}

fn read(path: &Path, name: &str) -> io::Result<Cached> {
    // Non-blocking, in case it has become a fifo since the look at it.
    let mut file = OpenOptions::new().read(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(path)?;
    let stat = file.metadata()?;
    if !stat.is_file() {
        return Ok(Cached { mark: None, seen: Seen::Busy });
    }
    if stat.len() > MAX_BYTES {
        let problem = format!("{name}: {} bytes long, {MAX_BYTES} accepted; split it", stat.len());
        return Ok(Cached { mark: Some(Mark::of(&stat)), seen: Seen::Bad { problems: vec![problem] } });
    }
    if is_being_written(&file) {
        return Ok(Cached { mark: None, seen: Seen::Busy });
    }
    let mark = Mark::of(&stat);
    let mut bytes = Vec::with_capacity(usize::try_from(stat.len()).unwrap_or(0));
    (&mut file).take(MAX_BYTES + 1).read_to_end(&mut bytes)?;
    // Changed while it was read: what was read is nothing.
    if is_being_written(&file) || Mark::of(&file.metadata()?) != mark {
        return Ok(Cached { mark: None, seen: Seen::Busy });
    }
    let seen = parse::parse(name, &bytes);
    Ok(Cached { mark: (!mark.is_fresh()).then_some(mark), seen })
}

/// Where the file system cannot tell, a file counts as complete.
fn is_being_written(file: &File) -> bool {
    lease::open_for_writing(file).unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    #[test]
    fn names() {
        for name in ["a.yaml", "a.yml", "a.json", "a.b.yaml"] {
            assert!(is_manifest(name), "{name}");
        }
        for name in [".a.yaml", ".yaml", "a.yaml~", "a.yaml.bak", ".a.yaml.swp", "a.conf", "a", "yaml"] {
            assert!(!is_manifest(name), "{name}");
        }
    }

    fn look_at(dir: &Path, name: &str) -> Option<Seen> {
        look(dir, name, None).map(|c| c.seen)
    }

    #[test]
    fn what_is_not_a_plain_file_does_not_block_and_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        nix::unistd::mkfifo(&dir.path().join("p.yaml"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        std::os::unix::fs::symlink("/", dir.path().join("d.yaml")).unwrap();
        std::os::unix::fs::symlink("/dev/zero", dir.path().join("z.yaml")).unwrap();
        std::os::unix::fs::symlink("/proc/no/such/file", dir.path().join("gone.yaml")).unwrap();
        for name in ["p.yaml", "d.yaml", "z.yaml"] {
            assert!(matches!(look_at(dir.path(), name), Some(Seen::Ignored { .. })), "{name}");
        }
        assert!(matches!(look_at(dir.path(), "gone.yaml"), Some(Seen::Bad { .. })));
        assert_eq!(look_at(dir.path(), "absent.yaml"), None);
    }

    #[test]
    fn a_file_open_for_writing_is_not_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.yaml");
        let mut file = File::create(&path).unwrap();
        file.write_all(b"kind: Pod\n").unwrap();
        assert_eq!(look_at(dir.path(), "a.yaml"), Some(Seen::Busy));
        drop(file);
        assert!(matches!(look_at(dir.path(), "a.yaml"), Some(Seen::Bad { .. })));
    }

    #[test]
    fn empty_and_huge_files_are_bad() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("e.yaml"), "").unwrap();
        std::fs::write(dir.path().join("c.yaml"), "# nothing\n---\n").unwrap();
        File::create(dir.path().join("h.yaml")).unwrap().set_len(MAX_BYTES + 1).unwrap();
        for name in ["e.yaml", "c.yaml", "h.yaml"] {
            assert!(matches!(look_at(dir.path(), name), Some(Seen::Bad { .. })), "{name}");
        }
    }

    #[test]
    fn an_unchanged_file_is_not_read_again() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("a.yaml"), "x").unwrap();
        std::thread::sleep(TICK * 2);
        let first = look(dir.path(), "a.yaml", None).unwrap();
        assert!(first.mark.is_some());
        let marked = Cached { seen: Seen::Busy, ..first };
        assert_eq!(
            look(dir.path(), "a.yaml", Some(marked)).unwrap().seen,
            Seen::Busy,
            "the cached word, not a new one"
        );
        let marked = look(dir.path(), "a.yaml", None).unwrap();
        std::fs::write(dir.path().join("a.yaml"), "y").unwrap();
        let again = look(dir.path(), "a.yaml", Some(Cached { seen: Seen::Busy, ..marked })).unwrap();
        assert_ne!(again.seen, Seen::Busy);
    }
}
