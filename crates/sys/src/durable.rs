//! Files that are either the old or the new text, never half of it: also after a crash, and if asked after a power cut.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// What a finished [`write_atomic`] promises.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// Readers see the old or the new bytes, also when the writer dies in between. A power cut may lose the new ones.
    Rename,
    /// As `Rename`, and the new bytes survive a power cut: file and directory are synced.
    Synced,
}

/// A write that did not happen; the old file is untouched.
#[derive(Debug, thiserror::Error)]
#[error("cannot write {}: {step} failed", path.display())]
pub struct WriteError {
    /// The file that was to be written.
    pub path: PathBuf,
    /// The call that failed: `create`, `write`, `fsync`, `rename`, `fsync of the directory`.
    pub step: &'static str,
    /// Why.
    pub source: io::Error,
}

/// Replaces the file at `path` with `bytes` (mode 0600): a new file in the same directory, then rename(2).
///
/// Any number of processes and threads may write the same path; the last rename wins. What a crash leaves behind is
/// named `.NAME.PID-N.tmp`; readers of a directory skip dot files.
///
/// # Errors
/// When a step fails, the temporary file is removed again. After a failed `fsync of the directory` the new file is in
/// place, but may not survive a power cut.
pub fn write_atomic(path: &Path, bytes: &[u8], durability: Durability) -> Result<(), WriteError> {
    let fail = |step, source| WriteError { path: path.to_owned(), step, source };
    let (Some(directory), Some(_)) = (path.parent(), path.file_name()) else {
        return Err(fail("create", io::Error::from(io::ErrorKind::InvalidInput)));
    };
    let directory = if directory.as_os_str().is_empty() { Path::new(".") } else { directory };
    let temporary = temporary_beside(path);
    let written = write_new(&temporary, bytes, durability)
        .and_then(|()| fs::rename(&temporary, path).map_err(|source| ("rename", source)));
    if let Err((step, source)) = written {
        // It may not exist; a leftover is harmless and the first error is the one to tell.
        drop(fs::remove_file(&temporary));
        return Err(fail(step, source));
    }
    if durability == Durability::Synced {
        sync_directory(directory).map_err(|source| fail("fsync of the directory", source))?;
    }
    Ok(())
}

/// Makes created, renamed and removed entries of `directory` survive a power cut.
///
/// # Errors
/// As open(2) and fsync(2).
pub fn sync_directory(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

/// A name in the directory of `path` that no other writer has.
fn temporary_beside(path: &Path) -> PathBuf {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let mut name = std::ffi::OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(format!(".{}-{}.tmp", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed)));
    path.with_file_name(name)
}

fn write_new(path: &Path, bytes: &[u8], durability: Durability) -> Result<(), (&'static str, io::Error)> {
    let open = || OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    let opened = match open() {
        // A process with our pid died here before; its file is nobody's.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => fs::remove_file(path).and_then(|()| open()),
        other => other,
    };
    let mut file = opened.map_err(|source| ("create", source))?;
    file.write_all(bytes).map_err(|source| ("write", source))?;
    match durability {
        Durability::Rename => Ok(()),
        Durability::Synced => file.sync_all().map_err(|source| ("fsync", source)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(directory: &Path) -> Vec<String> {
        fs::read_dir(directory).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect()
    }

    #[test]
    fn replaces_and_leaves_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("r.json");
        for (text, durability) in [("one", Durability::Rename), ("two", Durability::Synced)] {
            write_atomic(&path, text.as_bytes(), durability).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
        }
        assert_eq!(entries(dir.path()), ["r.json"]);
    }

    #[test]
    fn a_failed_rename_keeps_the_old_and_cleans_up() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("taken");
        fs::create_dir(&path).unwrap();
        let error = write_atomic(&path, b"x", Durability::Synced).unwrap_err();
        assert_eq!(error.step, "rename");
        assert_eq!(entries(dir.path()), ["taken"]);
    }

    #[test]
    fn names_the_file_of_a_missing_directory() {
        let error = write_atomic(Path::new("/proc/nonexistent-dir/x"), b"x", Durability::Rename).unwrap_err();
        assert_eq!(error.to_string(), "cannot write /proc/nonexistent-dir/x: create failed");
    }

    #[test]
    fn concurrent_writers_never_mix() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("r");
        std::thread::scope(|scope| {
            for n in 0..4u8 {
                let path = &path;
                scope.spawn(move || {
                    for _ in 0..50 {
                        write_atomic(path, &vec![n; 10_000], Durability::Rename).unwrap();
                    }
                });
            }
        });
        let bytes = fs::read(&path).unwrap();
        assert_eq!(bytes.len(), 10_000);
        assert!(bytes.iter().all(|b| *b == bytes[0]));
        assert_eq!(entries(dir.path()), ["r"]);
    }
}
