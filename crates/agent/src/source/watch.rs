//! Inotify on the manifest directory, or, while there is none, on its parent.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::fd::{AsFd as _, AsRawFd, RawFd};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, WatchDescriptor};
use tokio::io::unix::AsyncFd;

/// What has happened.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Happened {
    /// Files that may be others now.
    pub(super) names: Vec<OsString>,
}

/// What is being watched.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Target {
    Nothing,
    /// The directory itself, by device and inode.
    Directory(WatchDescriptor, (u64, u64)),
    /// Its parent, until it appears.
    Parent(WatchDescriptor),
}

/// Tells when to look at the directory.
pub(super) struct Watch {
    directory: PathBuf,
    inotify: AsyncFd<Descriptor>,
    target: Target,
}

struct Descriptor(Inotify);

impl AsRawFd for Descriptor {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

impl Watch {
    pub(super) fn new(directory: &Path) -> io::Result<Watch> {
        let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?;
        #[expect(
            deprecated,
            reason = "its successor is unsafe; the descriptor is owned by Descriptor and thus stays valid"
        )]
        let inotify = AsyncFd::new(Descriptor(inotify))?;
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
        let inotify = &self.inotify.get_ref().0;
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
                inotify.add_watch(&self.directory, flags).map(|wd| Target::Directory(wd, identity))
            }
            (None, Some(parent)) => inotify.add_watch(parent, changes).map(Target::Parent),
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
            let _gone = self.inotify.get_ref().0.rm_watch(wd);
        }
    }

    /// Waits until something happened in the directory. Cancel-safe: events are taken in one step, and a lost one only
    /// makes the next look read a file again.
    pub(super) async fn happened(&mut self) -> io::Result<Happened> {
        loop {
            let mut ready = self.inotify.readable().await?;
            let mut happened = Happened::default();
            let mut relevant = false;
            loop {
                match ready.get_inner().0.read_events() {
                    Ok(events) => {
                        for event in events {
                            relevant |= self.is_relevant(event.name.as_ref());
                            happened.names.extend(event.name);
                        }
                    }
                    Err(Errno::EAGAIN) => break,
                    Err(Errno::EINTR) => {}
                    Err(errno) => return Err(errno.into()),
                }
            }
            ready.clear_ready();
            if relevant {
                return Ok(happened);
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
