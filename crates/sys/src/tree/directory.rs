//! Directories, read piece by piece (getdents64(2)) through a buffer of a fixed size.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};
use nix::unistd::{Whence, lseek64};

/// Bytes of entries read at once.
const BUFFER: usize = 8 << 10;

/// What an entry stands for, as far as its directory says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Directory,
    Other,
    Unknown,
}

/// One entry.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) name: CString,
    pub(super) kind: Kind,
    pub(super) ino: u64,
}

/// An open directory and a place in it.
#[derive(Debug)]
pub(super) struct Directory {
    fd: OwnedFd,
    buffer: Vec<u8>,
    /// What is left in the buffer.
    at: usize,
    end: usize,
    /// Where the entry after the last one that was given out is.
    offset: i64,
}

impl Directory {
    pub(super) fn new(fd: OwnedFd) -> Self {
        Directory { fd, buffer: Vec::new(), at: 0, end: 0, offset: 0 }
    }

    /// The directory of that name; EXDEV if something is mounted on it, ELOOP for a link.
    pub(super) fn enter(parent: BorrowedFd<'_>, name: &CStr) -> nix::Result<Self> {
        let resolve = ResolveFlag::RESOLVE_BENEATH;
        open(parent, name, OFlag::O_RDONLY | OFlag::O_DIRECTORY, resolve).map(Directory::new)
    }

    /// The directory that this one is in at the moment; EXDEV if that is on another mount.
    pub(super) fn parent(&self) -> nix::Result<Self> {
        open(self.as_fd(), c"..", OFlag::O_RDONLY | OFlag::O_DIRECTORY, ResolveFlag::empty()).map(Directory::new)
    }

    /// The next entry, without `.` and `..`.
    pub(super) fn next(&mut self) -> nix::Result<Option<Entry>> {
        loop {
            if self.at >= self.end {
                self.buffer.resize(BUFFER, 0);
                (self.at, self.end) = (0, getdents(self.fd.as_fd(), &mut self.buffer)?);
                if self.end == 0 {
                    // Not kept for directories that are through.
                    self.buffer = Vec::new();
                    return Ok(None);
                }
            }
            let (length, offset, entry) = parse(self.buffer.get(self.at..self.end).unwrap_or_default())?;
            (self.at, self.offset) = (self.at + length, offset);
            if let Some(entry) = entry {
                return Ok(Some(entry));
            }
        }
    }

    /// Where it goes on; good for another descriptor of the same directory.
    pub(super) fn offset(&self) -> i64 {
        self.offset
    }

    pub(super) fn seek(&mut self, offset: i64) -> nix::Result<()> {
        lseek64(&self.fd, offset, Whence::SeekSet)?;
        (self.at, self.end, self.offset) = (0, 0, offset);
        Ok(())
    }

    pub(super) fn rewind(&mut self) -> nix::Result<()> {
        self.seek(0)
    }
}

impl AsFd for Directory {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Whether something is mounted on what has this name.
pub(super) fn is_mount(parent: BorrowedFd<'_>, name: &CStr) -> bool {
    matches!(open(parent, name, OFlag::O_PATH, ResolveFlag::RESOLVE_BENEATH), Err(Errno::EXDEV))
}

fn open(at: BorrowedFd<'_>, name: &CStr, flags: OFlag, resolve: ResolveFlag) -> nix::Result<OwnedFd> {
    let how = OpenHow::new()
        .flags(flags | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC)
        .resolve(resolve | ResolveFlag::RESOLVE_NO_XDEV | ResolveFlag::RESOLVE_NO_SYMLINKS);
    openat2(at, name, how)
}

fn getdents(fd: BorrowedFd<'_>, buffer: &mut [u8]) -> nix::Result<usize> {
    // SAFETY: the kernel writes at most `buffer.len()` bytes to `buffer`, which nobody else uses meanwhile.
    let read = unsafe { libc::syscall(libc::SYS_getdents64, fd.as_raw_fd(), buffer.as_mut_ptr(), buffer.len()) };
    Errno::result(read).map(|read| usize::try_from(read).unwrap_or(0))
}

/// The first `struct linux_dirent64` in the bytes: its length, the offset of the one after it, and the entry.
fn parse(bytes: &[u8]) -> nix::Result<(usize, i64, Option<Entry>)> {
    /// Of `d_name`.
    const NAME: usize = 19;
    let field = |at: usize| bytes.get(at..at + 8).and_then(|field| field.try_into().ok()).ok_or(Errno::EIO);
    let (ino, offset) = (u64::from_ne_bytes(field(0)?), i64::from_ne_bytes(field(8)?));
    let [low, high, kind, ..] = bytes.get(16..).ok_or(Errno::EIO)? else { return Err(Errno::EIO) };
    let length = usize::from(u16::from_ne_bytes([*low, *high]));
    let name = bytes.get(NAME..length).ok_or(Errno::EIO)?;
    let name = CStr::from_bytes_until_nul(name).map_err(|_| Errno::EIO)?;
    let kind = match *kind {
        libc::DT_DIR => Kind::Directory,
        libc::DT_UNKNOWN => Kind::Unknown,
        _ => Kind::Other,
    };
    let own = matches!(name.to_bytes(), b"." | b"..");
    Ok((length, offset, (!own).then(|| Entry { name: name.to_owned(), kind, ino })))
}
