//! Trees of files that somebody else has made, and may still be changing: removed, and measured.
//!
//! Nothing here recurses or builds a path: every step is relative to a descriptor, follows no link, and crosses no mount, a
//! bind mount of the same file system included. How many descriptors and how much memory a walk takes does not depend on how
//! deep or wide the tree is.

mod directory;
mod left;
mod nested;
mod usage;

use std::ffi::{CString, OsStr};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open, renameat};
use nix::sys::stat::Mode;
use nix::unistd::{UnlinkatFlags, unlinkat};

use directory::{Directory, Entry, Kind, is_mount};
use left::Left;
pub use left::RemoveError;
pub use nested::remove_nested;
pub use usage::{Usage, usage};

/// Directories on the way down that are held open. What lies deeper is moved up first.
const OPEN: usize = 64;
/// How often a tree is gone through, as long as each time something of it goes: only one that is being filled takes so many.
const PASSES: u32 = 64;
/// Names tried for a directory that is moved up.
const NAMES: u32 = 64;

/// Removes what is at `path`, with all below it. Nothing there is fine.
///
/// What lies behind a mount point stays, and the mount point with it; what cannot be removed for another reason stays as
/// well. All the rest goes.
///
/// # Errors
/// [`RemoveError`] names what is left.
pub fn remove(path: &Path) -> Result<(), RemoveError> {
    let whole = |errno| RemoveError::of(path, errno);
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let name = path.file_name().ok_or_else(|| whole(Errno::EINVAL))?;
    let name = CString::new(name.as_bytes()).map_err(|_nul| whole(Errno::EINVAL))?;
    let parent = match open(parent, OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty()) {
        Err(Errno::ENOENT) => return Ok(()),
        other => other.map_err(whole)?,
    };
    let top = Entry { name, kind: Kind::Unknown, ino: 0 };
    let mut removal = Removal { path, left: Left::default(), progress: false, serial: 0 };
    for _ in 0..PASSES {
        (removal.left, removal.progress) = (Left::default(), false);
        if removal.pass(parent.as_fd(), &top) {
            return Ok(());
        }
        if !removal.progress {
            break;
        }
    }
    Err(removal.left.into_error(path))
}

/// A directory on the way down.
struct Level {
    name: CString,
    dir: Directory,
    /// Something of it was removed since it was last read from the beginning.
    removed: bool,
    /// Something of it stays.
    left: bool,
}

/// What became of an entry.
enum Attempt {
    Gone,
    Stays,
    Enter(Directory),
}

struct Removal<'a> {
    path: &'a Path,
    left: Left,
    /// Something was removed or moved up in this pass.
    progress: bool,
    /// For names of what is moved up.
    serial: u64,
}

impl Removal<'_> {
    /// Goes through the tree once. Returns whether nothing of it is left.
    fn pass(&mut self, parent: BorrowedFd<'_>, top: &Entry) -> bool {
        let dir = match self.attempt(parent, top, &[]) {
            Attempt::Gone => return true,
            Attempt::Stays => return false,
            Attempt::Enter(dir) => dir,
        };
        let mut levels = vec![Level { name: top.name.clone(), dir, removed: false, left: false }];
        while let Some(level) = levels.last_mut() {
            match level.dir.next() {
                Ok(Some(entry)) => self.entry(&mut levels, entry),
                end => {
                    if let Err(errno) = end {
                        level.left = true;
                        let at = self.at(&levels, None);
                        self.left.failure(at, errno);
                    }
                    if self.leave(parent, &mut levels) {
                        return true;
                    }
                }
            }
        }
        false
    }

    /// Removes one entry of the innermost directory, or goes into it.
    fn entry(&mut self, levels: &mut Vec<Level>, entry: Entry) {
        let Some(level) = levels.last() else { return };
        let attempt = self.attempt(level.dir.as_fd(), &entry, levels);
        if matches!(attempt, Attempt::Enter(_))
            && levels.len() >= OPEN
            && let Err(errno) = self.lift(levels)
        {
            let at = self.at(levels, Some(&entry.name));
            self.left.failure(at, errno);
            levels.iter_mut().for_each(|level| level.left = true);
            return;
        }
        match attempt {
            Attempt::Enter(dir) => levels.push(Level { name: entry.name, dir, removed: false, left: false }),
            Attempt::Gone | Attempt::Stays => {
                let gone = matches!(attempt, Attempt::Gone);
                if let Some(level) = levels.last_mut() {
                    (level.removed, level.left) = (level.removed || gone, level.left || !gone);
                }
            }
        }
    }

    /// At the end of the innermost directory: removes it. Returns whether that was the whole tree.
    fn leave(&mut self, parent: BorrowedFd<'_>, levels: &mut Vec<Level>) -> bool {
        let Some(mut level) = levels.pop() else { return false };
        let above = levels.last().map_or(parent, |above| above.dir.as_fd());
        let done = match unlinkat(above, level.name.as_c_str(), UnlinkatFlags::RemoveDir) {
            Ok(()) | Err(Errno::ENOENT) => true,
            // Some file systems leave entries out of a listing while others are removed.
            Err(Errno::ENOTEMPTY | Errno::EEXIST) if level.removed && !level.left && level.dir.rewind().is_ok() => {
                level.removed = false;
                levels.push(level);
                return false;
            }
            Err(Errno::ENOTEMPTY | Errno::EEXIST) if level.left => false,
            Err(errno) => {
                let at = self.at(levels, Some(&level.name));
                self.left.failure(at, errno);
                false
            }
        };
        self.progress |= done;
        match levels.last_mut() {
            Some(above) if done => above.removed = true,
            Some(above) => above.left = true,
            None => return done,
        }
        false
    }

    /// Removes an entry if that takes one call; opens it if it is a directory with something in it.
    fn attempt(&mut self, parent: BorrowedFd<'_>, entry: &Entry, levels: &[Level]) -> Attempt {
        let name = entry.name.as_c_str();
        if matches!(entry.kind, Kind::Directory | Kind::Unknown) {
            match unlinkat(parent, name, UnlinkatFlags::RemoveDir) {
                Ok(()) => return self.gone(),
                Err(Errno::ENOENT) => return Attempt::Gone,
                Err(Errno::ENOTDIR) => {}
                Err(refused) => match Directory::enter(parent, name) {
                    Ok(dir) => return Attempt::Enter(dir),
                    Err(Errno::ENOENT) => return Attempt::Gone,
                    // Another kind of file by now.
                    Err(Errno::ENOTDIR | Errno::ELOOP) => {}
                    Err(Errno::EXDEV) => return self.mount(levels, entry),
                    // The first answer tells more, if it is not just that there is something in it.
                    Err(errno) => {
                        let why = if matches!(refused, Errno::ENOTEMPTY | Errno::EEXIST) { errno } else { refused };
                        return self.stays(levels, entry, why);
                    }
                },
            }
        }
        match unlinkat(parent, name, UnlinkatFlags::NoRemoveDir) {
            Ok(()) => self.gone(),
            Err(Errno::ENOENT) => Attempt::Gone,
            Err(Errno::EBUSY) if is_mount(parent, name) => self.mount(levels, entry),
            Err(errno) => self.stays(levels, entry, errno),
        }
    }

    fn gone(&mut self) -> Attempt {
        self.progress = true;
        Attempt::Gone
    }

    fn mount(&mut self, levels: &[Level], entry: &Entry) -> Attempt {
        let at = self.at(levels, Some(&entry.name));
        self.left.mount(at);
        Attempt::Stays
    }

    fn stays(&mut self, levels: &[Level], entry: &Entry, errno: Errno) -> Attempt {
        let at = self.at(levels, Some(&entry.name));
        self.left.failure(at, errno);
        Attempt::Stays
    }

    /// Moves the innermost directory up, to the outermost one that takes it: below it there is room to go on. The ones in
    /// between are left to a later pass.
    fn lift(&mut self, levels: &mut Vec<Level>) -> nix::Result<()> {
        let [outer @ .., above, innermost] = levels.as_slice() else { return Err(Errno::ENAMETOOLONG) };
        // Renaming on the spot would not get anywhere.
        let mut lifted = Err(Errno::ENAMETOOLONG);
        for (index, to) in outer.iter().enumerate() {
            lifted = self.rename(above.dir.as_fd(), innermost, to.dir.as_fd()).map(|name| (index, name));
            if lifted.is_ok() {
                break;
            }
        }
        let (index, name) = lifted?;
        let Some(mut innermost) = levels.pop() else { return Ok(()) };
        innermost.name = name;
        levels.truncate(index + 1);
        levels.push(innermost);
        self.progress = true;
        Ok(())
    }

    /// Whatever has the new name already is of the tree as well: to replace it does no harm.
    fn rename(&mut self, above: BorrowedFd<'_>, level: &Level, to: BorrowedFd<'_>) -> nix::Result<CString> {
        let mut result = Err(Errno::EEXIST);
        for _ in 0..NAMES {
            self.serial += 1;
            let name = CString::new(format!(".r{}", self.serial)).unwrap_or_default();
            result = renameat(above, level.name.as_c_str(), to, name.as_c_str()).map(|()| name);
            if !matches!(result, Err(Errno::EEXIST | Errno::ENOTEMPTY | Errno::ENOTDIR)) {
                break;
            }
        }
        result
    }

    /// Where that is, for people. `levels` holds the tree's own name first.
    fn at(&self, levels: &[Level], name: Option<&CString>) -> PathBuf {
        let names = levels.iter().map(|level| &level.name).chain(name).skip(1);
        let mut path = self.path.to_owned();
        path.extend(names.map(|name| OsStr::from_bytes(name.as_bytes())));
        path
    }
}

impl From<RemoveError> for io::Error {
    fn from(error: RemoveError) -> Self {
        io::Error::other(error)
    }
}

#[cfg(test)]
#[path = "tree/tests.rs"]
mod tests;
