//! Paths below a root that an untrusted party has filled: every lookup is one openat2(2) that cannot leave the root and
//! follows no magic link, and its result is a descriptor. What is made, is made relative to a descriptor.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat, openat2, readlinkat};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat, mkdirat};

/// Symlinks to missing targets that are followed while something is made, like the kernel's own limit.
const MAX_LINKS: u32 = 40;

/// Tries of a lookup that a concurrent rename disturbed (openat2(2), EAGAIN).
const MAX_TRIES: u32 = 128;

/// A directory that plays `/`.
#[derive(Debug)]
pub struct Root {
    dir: OwnedFd,
}

impl Root {
    /// The root behind this descriptor of a directory.
    #[must_use]
    pub fn new(dir: OwnedFd) -> Self {
        Self { dir }
    }

    /// Opens `path` as seen from inside: absolute and relative ones start at the root, `..` and symlinks stay below it.
    ///
    /// # Errors
    /// openat2(2)'s; ELOOP for a magic link such as `/proc/self/exe`.
    pub fn open(&self, path: &Path, flags: OFlag) -> nix::Result<OwnedFd> {
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        let how = OpenHow::new()
            .flags(flags | OFlag::O_CLOEXEC)
            .resolve(ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS);
        let mut tries = 0;
        loop {
            match openat2(&self.dir, path, how) {
                Err(Errno::EAGAIN) if tries < MAX_TRIES => tries += 1,
                other => return other,
            }
        }
    }

    /// A directory at exactly this path, made where it is missing; a symlink anywhere in the path is refused.
    ///
    /// # Errors
    /// As [`Root::make_dir`]; ELOOP for a symlink.
    pub fn make_dir_without_links(&self, path: &Path, mode: Mode) -> nix::Result<OwnedFd> {
        let how = OpenHow::new()
            .flags(OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC)
            .resolve(ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_SYMLINKS);
        match openat2(&self.dir, path, how) {
            Err(Errno::ENOENT) => {
                self.make_dir(path, mode)?;
                openat2(&self.dir, path, how)
            }
            other => other,
        }
    }

    /// A place to mount on or to ask about, without opening what is there.
    ///
    /// # Errors
    /// As [`Root::open`].
    pub fn locate(&self, path: &Path) -> nix::Result<OwnedFd> {
        self.open(path, OFlag::O_PATH)
    }

    /// The directory at `path`; it and those above it are made (with this mode) where they are missing.
    ///
    /// # Errors
    /// As [`Root::open`], and mkdirat(2)'s.
    pub fn make_dir(&self, path: &Path, mode: Mode) -> nix::Result<OwnedFd> {
        self.make_dir_at(path, mode, 0)
    }

    fn make_dir_at(&self, path: &Path, mode: Mode, links: u32) -> nix::Result<OwnedFd> {
        match self.open(path, OFlag::O_PATH | OFlag::O_DIRECTORY) {
            Err(Errno::ENOENT) => {}
            other => return other,
        }
        let (parent, name) = split(path)?;
        let dir = self.make_dir_at(parent, mode, links)?;
        match mkdirat(&dir, name, mode) {
            Ok(()) => open_child(&dir, name, OFlag::O_PATH | OFlag::O_DIRECTORY),
            Err(Errno::EEXIST) => match self.link_target(&dir, parent, name, links)? {
                Some(target) => self.make_dir_at(&target, mode, links + 1),
                None => open_child(&dir, name, OFlag::O_PATH | OFlag::O_DIRECTORY),
            },
            Err(errno) => Err(errno),
        }
    }

    /// What is at `path`, as a place to mount a file on; an empty file is made where nothing is.
    ///
    /// # Errors
    /// As [`Root::open`], mkdirat(2)'s and openat(2)'s.
    pub fn make_file(&self, path: &Path) -> nix::Result<OwnedFd> {
        self.make_file_at(path, 0)
    }

    fn make_file_at(&self, path: &Path, links: u32) -> nix::Result<OwnedFd> {
        match self.locate(path) {
            Err(Errno::ENOENT) => {}
            other => return other,
        }
        let (parent, name) = split(path)?;
        let dir = self.make_dir_at(parent, Mode::from_bits_retain(0o755), links)?;
        let flags = OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_WRONLY | OFlag::O_CLOEXEC;
        match openat(&dir, name, flags, Mode::from_bits_retain(0o644)) {
            Ok(_) => open_child(&dir, name, OFlag::O_PATH),
            Err(Errno::EEXIST) => match self.link_target(&dir, parent, name, links)? {
                Some(target) => self.make_file_at(&target, links + 1),
                None => open_child(&dir, name, OFlag::O_PATH),
            },
            Err(errno) => Err(errno),
        }
    }

    /// Where a symlink whose target is missing points, seen from the root; `None` when `name` is no symlink.
    fn link_target(&self, dir: &OwnedFd, parent: &Path, name: &Path, links: u32) -> nix::Result<Option<PathBuf>> {
        match readlinkat(dir, name) {
            Ok(_) if links >= MAX_LINKS => Err(Errno::ELOOP),
            Ok(target) => Ok(Some(parent.join(target))),
            Err(Errno::EINVAL) => Ok(None),
            Err(errno) => Err(errno),
        }
    }
}

impl AsFd for Root {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.dir.as_fd()
    }
}

/// The directory and the last name of a path that does not exist.
fn split(path: &Path) -> nix::Result<(&Path, &Path)> {
    match (path.parent(), path.file_name()) {
        (Some(parent), Some(name)) => Ok((parent, Path::new(name))),
        _ => Err(Errno::ENOENT),
    }
}

/// What was just made under this name; a symlink put there meanwhile is refused.
fn open_child(dir: &OwnedFd, name: &Path, flags: OFlag) -> nix::Result<OwnedFd> {
    openat(dir, name, flags | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC, Mode::empty())
        .and_then(|fd| if is_symlink(&fstat(&fd)?) { Err(Errno::ELOOP) } else { Ok(fd) })
}

/// Whether this is a directory.
#[must_use]
pub fn is_dir(stat: &FileStat) -> bool {
    file_type(stat) == SFlag::S_IFDIR
}

fn is_symlink(stat: &FileStat) -> bool {
    file_type(stat) == SFlag::S_IFLNK
}

/// The type bits of a file's mode.
#[must_use]
pub fn file_type(stat: &FileStat) -> SFlag {
    SFlag::from_bits_truncate(stat.st_mode & SFlag::S_IFMT.bits())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    fn root(dir: &tempfile::TempDir) -> Root {
        let fd = nix::fcntl::open(dir.path(), OFlag::O_PATH | OFlag::O_DIRECTORY, Mode::empty()).unwrap();
        Root::new(fd)
    }

    #[test]
    fn hostile_links_stay_inside() {
        let (outer, inner) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let root = root(&inner);
        symlink(outer.path(), inner.path().join("absolute")).unwrap();
        symlink(format!("../../../../..{}", outer.path().display()), inner.path().join("climbing")).unwrap();
        for link in ["absolute", "climbing"] {
            root.make_dir(&Path::new("/").join(link).join("made"), Mode::from_bits_retain(0o755)).unwrap();
            root.make_file(&Path::new("/").join(link).join("file")).unwrap();
        }
        assert_eq!(fs::read_dir(outer.path()).unwrap().count(), 0, "the outside was touched");
        let inside = inner.path().join(outer.path().strip_prefix("/").unwrap());
        assert!(inside.join("made").is_dir());
        assert!(inside.join("file").is_file());
    }

    #[test]
    fn some_places_may_have_no_links_at_all() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("real")).unwrap();
        symlink("real", dir.path().join("proc")).unwrap();
        let root = root(&dir);
        assert_eq!(root.make_dir_without_links(Path::new("/proc"), Mode::S_IRWXU).unwrap_err(), Errno::ELOOP);
        root.make_dir_without_links(Path::new("/a/b"), Mode::S_IRWXU).unwrap();
        assert!(dir.path().join("a/b").is_dir());
    }

    #[test]
    fn magic_links_are_refused() {
        let root = Root::new(nix::fcntl::open("/", OFlag::O_PATH, Mode::empty()).unwrap());
        assert_eq!(root.locate(Path::new("/proc/self/exe")).unwrap_err(), Errno::ELOOP);
        root.locate(Path::new("/proc/self/status")).unwrap();
    }

    #[test]
    fn loops_of_dangling_links_end() {
        let dir = tempfile::tempdir().unwrap();
        symlink("b/x", dir.path().join("a")).unwrap();
        symlink("a/x", dir.path().join("b")).unwrap();
        assert_eq!(root(&dir).make_dir(Path::new("/a"), Mode::S_IRWXU).unwrap_err(), Errno::ELOOP);
    }

    #[test]
    fn a_file_in_the_way_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("file"), "").unwrap();
        assert_eq!(root(&dir).make_dir(Path::new("/file/sub"), Mode::S_IRWXU).unwrap_err(), Errno::ENOTDIR);
        root(&dir).make_file(Path::new("/file")).unwrap();
    }
}
