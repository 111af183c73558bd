//! Inotify on the manifest directory, or, while there is none, on its parent.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, WatchDescriptor};
use nix::sys::statfs::{BTRFS_SUPER_MAGIC, EXT4_SUPER_MAGIC, FsType, TMPFS_MAGIC, XFS_SUPER_MAGIC, statfs};

/// What is being watched.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Target {
    Nothing,
    /// The directory itself, by device and inode.
    Directory(WatchDescriptor, (u64, u64)),
    /// Its parent, until it appears.
    Parent(WatchDescriptor),
}

/// Why a wait has ended; neither: it took its longest.
#[derive(Debug, Default)]
pub(super) struct Woken {
    /// The files that may be others now.
    pub(super) names: Vec<OsString>,
    /// The bell can be read.
    pub(super) rung: bool,
}

/// Tells when to look at the directory.
pub(super) struct Watch {
    directory: PathBuf,
    inotify: Inotify,
    target: Target,
}

impl AsFd for Watch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inotify.as_fd()
    }
}

impl Watch {
    pub(super) fn new(directory: &Path) -> io::Result<Watch> {
        let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?;
        Ok(Watch { directory: directory.to_owned(), inotify, target: Target::Nothing })
    }

    /// Makes sure that it is the present directory that is watched. To be called before each look at it, so that what
    /// happens after the look is not missed.
    pub(super) fn aim(&mut self) {
        let identity =
            fs::metadata(&self.directory).ok().filter(fs::Metadata::is_dir).map(|stat| (stat.dev(), stat.ino()));
        match (&self.target, identity) {
            (Target::Directory(_, watched), Some(now)) if *watched == now => {}
            (Target::Parent(_), None) => {}
            (_, identity) => {
                self.let_go();
                self.target = self.add(identity);
            }
        }
    }

    fn add(&self, identity: Option<(u64, u64)>) -> Target {
        let changes = AddWatchFlags::IN_CREATE | AddWatchFlags::IN_MOVED_TO | AddWatchFlags::IN_ONLYDIR;
        let added = match (identity, self.directory.parent()) {
            (Some(identity), _) => {
                let flags = changes
                    | AddWatchFlags::IN_CLOSE_WRITE
                    | AddWatchFlags::IN_MOVED_FROM
                    | AddWatchFlags::IN_DELETE
                    | AddWatchFlags::IN_ATTRIB
                    | AddWatchFlags::IN_DELETE_SELF
                    | AddWatchFlags::IN_MOVE_SELF;
                self.inotify.add_watch(&self.directory, flags).map(|wd| Target::Directory(wd, identity))
            }
            (None, Some(parent)) => self.inotify.add_watch(parent, changes).map(Target::Parent),
            (None, None) => return Target::Nothing,
        };
        added.unwrap_or_else(|errno| {
            // The periodic look goes on without it.
            if errno != Errno::ENOENT {
                tracing::warn!(directory = %self.directory.display(), error = %errno, "the manifest directory cannot be watched; it is looked at from time to time");
            }
            Target::Nothing
        })
    }

    fn let_go(&mut self) {
        if let Target::Directory(wd, _) | Target::Parent(wd) = std::mem::replace(&mut self.target, Target::Nothing) {
            // EINVAL: the kernel removed it already, with the directory.
            let _gone = self.inotify.rm_watch(wd);
        }
    }

    /// Whether inotify tells of every change: the directory itself is watched, on a file system that only this kernel changes.
    pub(super) fn sees_changes(&self) -> bool {
        const LOCAL: [FsType; 4] = [EXT4_SUPER_MAGIC, XFS_SUPER_MAGIC, BTRFS_SUPER_MAGIC, TMPFS_MAGIC];
        let local = || statfs(&self.directory).is_ok_and(|fs| LOCAL.contains(&fs.filesystem_type()));
        matches!(self.target, Target::Directory(..)) && !self.directory.is_symlink() && local()
    }

    /// Waits until something happened in the directory or the `bell` can be read, `longest` at most.
    pub(super) fn wait(&self, longest: Duration, bell: BorrowedFd<'_>) -> io::Result<Woken> {
        let end = Instant::now() + longest;
        loop {
            // Rounded up, so that the rest of a millisecond is not spent in a busy loop.
            let left = end.saturating_duration_since(Instant::now()).as_millis().saturating_add(1);
            let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
            let mut fds = [self.inotify.as_fd(), bell].map(|fd| PollFd::new(fd, PollFlags::POLLIN));
            match poll(&mut fds, timeout) {
                Ok(0) if Instant::now() >= end => return Ok(Woken::default()),
                Ok(_) | Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno.into()),
            }
            let rung = fds[1].any().unwrap_or(false);
            if let Some(names) = self.take()? {
                return Ok(Woken { names, rung });
            }
            if rung {
                return Ok(Woken { names: Vec::new(), rung });
            }
        }
    }

    /// What is there to be read now; `None`: nothing that counts.
    fn take(&self) -> io::Result<Option<Vec<OsString>>> {
        let (mut names, mut relevant) = (Vec::new(), false);
        loop {
            match self.inotify.read_events() {
                Ok(events) => {
                    for event in events {
                        relevant |= self.is_relevant(event.name.as_ref());
                        names.extend(event.name);
                    }
                }
                Err(Errno::EAGAIN) => return Ok(relevant.then_some(names)),
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }

    /// In the parent only the directory's own name counts. An event without a name (overflow, the directory itself)
    /// always does.
    fn is_relevant(&self, name: Option<&OsString>) -> bool {
        match (&self.target, name) {
            (Target::Parent(_), Some(name)) => self.directory.file_name() == Some(name),
            _ => true,
        }
    }
}
