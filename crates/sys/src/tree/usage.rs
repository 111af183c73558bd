//! How much space a tree takes.

use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;

use super::directory::{Directory, Kind};

/// Directories on the way down that are held open: above them, the way back is `..`.
const OPEN: usize = 48;
/// Levels that are counted. No path reaches below 2,048 of them; what is remembered of each is 32 bytes.
const DEEPEST: usize = 1 << 16;
/// Fractions of a byte in which files with several names are counted.
const FRACTION: u32 = 20;

/// What a tree takes, as far as it could be counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Usage {
    /// All of it, bytes.
    Whole(u64),
    /// At least that: there are more than 65,536 levels of directories, and those below are not counted.
    TooDeep(u64),
    /// At least that: far down, directories were moved while they were counted.
    Disturbed(u64),
    /// Told to stop.
    Stopped,
}

/// Bytes that a tree takes on disk, like du(1): what is behind a mount counts for nothing, and a file with several names
/// counts once, if all of them are in the tree. What disappears meanwhile counts for nothing, and so does what is not there.
///
/// It may take as long as the tree is big: `stop` ends it.
///
/// # Errors
/// Those of open(2), getdents64(2) and statx(2).
pub fn usage(path: &Path, stop: &AtomicBool) -> nix::Result<Usage> {
    walk(path, stop, OPEN, DEEPEST)
}

/// A directory on the way down.
struct Level {
    id: (u64, u64),
    offset: i64,
    dir: Option<Directory>,
}

pub(super) fn walk(path: &Path, stop: &AtomicBool, most_open: usize, deepest: usize) -> nix::Result<Usage> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let top = match open(path, flags, Mode::empty()) {
        Ok(top) => Directory::new(top),
        Err(Errno::ENOENT) => return Ok(Usage::Whole(0)),
        Err(errno) => return Err(errno),
    };
    let stat = statx(top.as_fd(), c"")?;
    let mut total = Total { mount: stat.mount, sum: 0 };
    total.add(&stat);
    let mut levels = vec![Level { id: stat.id, offset: 0, dir: Some(top) }];
    let mut too_deep = false;
    while let Some(level) = levels.last_mut() {
        if stop.load(Ordering::Relaxed) {
            return Ok(Usage::Stopped);
        }
        let Some(dir) = &mut level.dir else { return Ok(Usage::Disturbed(total.bytes())) };
        let entry = match dir.next() {
            Ok(Some(entry)) => entry,
            // It was removed.
            Ok(None) | Err(Errno::ENOENT) => {
                if !leave(&mut levels)? {
                    return Ok(Usage::Disturbed(total.bytes()));
                }
                continue;
            }
            Err(errno) => return Err(errno),
        };
        let mut kind = entry.kind;
        if kind != Kind::Directory {
            let Some(stat) = unless_gone(statx(dir.as_fd(), &entry.name))? else { continue };
            if stat.is_dir {
                kind = Kind::Directory;
            } else {
                total.add(&stat);
            }
        }
        if kind == Kind::Directory
            && let Some(inner) = unless_gone(Directory::enter(dir.as_fd(), &entry.name))?
        {
            let stat = statx(inner.as_fd(), c"")?;
            total.add(&stat);
            if levels.len() >= deepest {
                too_deep = true;
                continue;
            }
            levels.push(Level { id: stat.id, offset: 0, dir: Some(inner) });
            if let Some(outer) = levels.len().checked_sub(most_open + 1).and_then(|index| levels.get_mut(index)) {
                outer.offset = outer.dir.take().map_or(outer.offset, |dir| dir.offset());
            }
        }
    }
    let bytes = total.bytes();
    Ok(if too_deep { Usage::TooDeep(bytes) } else { Usage::Whole(bytes) })
}

/// Goes one level up. `false`: the way up is not the way down any more.
fn leave(levels: &mut Vec<Level>) -> nix::Result<bool> {
    let inner = levels.pop().and_then(|level| level.dir);
    let (Some(above), Some(inner)) = (levels.last_mut(), inner) else { return Ok(true) };
    if above.dir.is_some() {
        return Ok(true);
    }
    let Some(mut parent) = unless_gone(inner.parent())? else { return Ok(false) };
    if statx(parent.as_fd(), c"")?.id != above.id {
        return Ok(false);
    }
    parent.seek(above.offset)?;
    above.dir = Some(parent);
    Ok(true)
}

/// `None` for what is gone or another thing by now, what is behind a mount, and what may not be read.
fn unless_gone<T>(result: nix::Result<T>) -> nix::Result<Option<T>> {
    match result {
        Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP | Errno::EXDEV | Errno::EACCES) => Ok(None),
        other => other.map(Some),
    }
}

struct Total {
    mount: Option<u64>,
    sum: u128,
}

impl Total {
    /// Each name of a file counts for its share: so nothing has to be remembered of those that were seen.
    fn add(&mut self, stat: &Stat) {
        if stat.mount == self.mount {
            let links = if stat.is_dir { 1 } else { u128::from(stat.links.max(1)) };
            self.sum += ((u128::from(stat.blocks) * 512) << FRACTION) / links;
        }
    }

    fn bytes(&self) -> u64 {
        let rounded = (self.sum + (1 << (FRACTION - 1))) >> FRACTION;
        u64::try_from(rounded).unwrap_or(u64::MAX)
    }
}

struct Stat {
    id: (u64, u64),
    is_dir: bool,
    links: u32,
    blocks: u64,
    /// `None` before Linux 5.8.
    mount: Option<u64>,
}

/// What the kernel knows of a file without asking a server for it; an empty name stands for the descriptor's own.
fn statx(at: BorrowedFd<'_>, name: &CStr) -> nix::Result<Stat> {
    let flags = libc::AT_EMPTY_PATH | libc::AT_SYMLINK_NOFOLLOW | libc::AT_NO_AUTOMOUNT | libc::AT_STATX_DONT_SYNC;
    let mask = libc::STATX_BASIC_STATS | libc::STATX_MNT_ID;
    let mut stat = std::mem::MaybeUninit::<libc::statx>::zeroed();
    // SAFETY: `name` ends with a NUL, and `stat` has room for what the kernel writes; both outlive the call.
    let result = unsafe { libc::statx(at.as_raw_fd(), name.as_ptr(), flags, mask, stat.as_mut_ptr()) };
    Errno::result(result)?;
    // SAFETY: all zeroes is a value of this structure of integers, and the kernel has filled it in.
    let stat = unsafe { stat.assume_init() };
    Ok(Stat {
        id: ((u64::from(stat.stx_dev_major) << 32) | u64::from(stat.stx_dev_minor), stat.stx_ino),
        is_dir: libc::mode_t::from(stat.stx_mode) & libc::S_IFMT == libc::S_IFDIR,
        links: stat.stx_nlink,
        blocks: stat.stx_blocks,
        mount: (stat.stx_mask & libc::STATX_MNT_ID != 0).then_some(stat.stx_mnt_id),
    })
}
