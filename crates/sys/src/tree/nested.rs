//! Trees of nothing but directories that the kernel fills itself: cgroups.

use std::os::fd::AsFd;
use std::path::Path;
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::{Mode, fstat};
use nix::unistd::{UnlinkatFlags, unlinkat};

use super::directory::{Directory, Entry, Kind};

/// Removes all directories below the one at `path`, the inner ones first, however deep a container has nested them. Its
/// files go with each. Of one that is busy, the removal is tried `tries` times more, after `pause` each.
///
/// Directories cannot be moved to another parent there: so the way back up is the way down, and none of it is kept.
///
/// # Errors
/// Those of rmdir(2) and open(2).
pub fn remove_nested(path: &Path, tries: u32, pause: Duration) -> nix::Result<()> {
    let top = open(path, OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC, Mode::empty())?;
    let mut here = Directory::new(top);
    let mut depth: u64 = 0;
    loop {
        if let Some(inner) = first_with_content(&mut here)? {
            (here, depth) = (inner, depth + 1);
        } else if depth == 0 {
            return Ok(());
        } else {
            let ino = fstat(here.as_fd())?.st_ino;
            let mut above = here.parent()?;
            remove_number(&mut above, ino, tries, pause)?;
            above.rewind()?;
            (here, depth) = (above, depth - 1);
        }
    }
}

/// Removes the directories in this one up to the first that has others in it.
fn first_with_content(dir: &mut Directory) -> nix::Result<Option<Directory>> {
    while let Some(Entry { name, kind, .. }) = dir.next()? {
        if kind != Kind::Directory {
            continue;
        }
        match unlinkat(dir.as_fd(), name.as_c_str(), UnlinkatFlags::RemoveDir) {
            Ok(()) | Err(Errno::ENOENT) => {}
            Err(Errno::EBUSY | Errno::ENOTEMPTY) => match Directory::enter(dir.as_fd(), &name) {
                Err(Errno::ENOENT) => {}
                other => return other.map(Some),
            },
            Err(errno) => return Err(errno),
        }
    }
    Ok(None)
}

/// Removes the directory with this inode number: its name is not known any more.
fn remove_number(dir: &mut Directory, ino: u64, tries: u32, pause: Duration) -> nix::Result<()> {
    while let Some(entry) = dir.next()? {
        if entry.ino != ino {
            continue;
        }
        for tried in 0.. {
            match unlinkat(dir.as_fd(), entry.name.as_c_str(), UnlinkatFlags::RemoveDir) {
                Ok(()) | Err(Errno::ENOENT) => return Ok(()),
                Err(Errno::EBUSY) if tried < tries => std::thread::sleep(pause),
                Err(errno) => return Err(errno),
            }
        }
    }
    Ok(())
}
