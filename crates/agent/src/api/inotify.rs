//! Waits for changes in a directory that may not be there yet, asleep until the kernel has some.

use std::io;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, WatchDescriptor};
use tokio::io::unix::AsyncFd;

/// Writes, new files and rotations.
const IN_DIRECTORY: AddWatchFlags =
    AddWatchFlags::IN_MODIFY.union(AddWatchFlags::IN_CREATE).union(AddWatchFlags::IN_MOVED_TO);
/// In a parent: the directory appears.
const IN_PARENT: AddWatchFlags = AddWatchFlags::IN_CREATE.union(AddWatchFlags::IN_MOVED_TO);

struct Source(Inotify);

impl AsRawFd for Source {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

/// Watches one directory, or the nearest parent that exists until it does.
pub(super) struct DirWatch {
    source: AsyncFd<Source>,
    /// The directory, then its parents up to one that always exists.
    path: Vec<PathBuf>,
    /// What is watched: an index into `path`.
    watched: Option<(usize, WatchDescriptor)>,
}

impl DirWatch {
    /// Watches `dir`; `root` is a parent of it at which the search for an existing directory ends.
    pub(super) fn new(dir: &Path, root: &Path) -> io::Result<Self> {
        let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?;
        let path = dir.ancestors().take_while(|p| p.starts_with(root)).map(Path::to_owned).collect();
        #[expect(
            deprecated,
            reason = "its successor is unsafe; the descriptor is owned by Source and thus stays valid"
        )]
        let source = AsyncFd::new(Source(inotify))?;
        Ok(DirWatch { source, path, watched: None })
    }

    /// Whether it is the directory itself that is watched.
    pub(super) fn is_armed(&self) -> bool {
        matches!(self.watched, Some((0, _)))
    }

    /// Sets the watch, nearer to the directory if that is possible by now. Returns whether it moved: then something may
    /// have happened before it stood, and the caller has to look once more.
    pub(super) fn arm(&mut self) -> io::Result<bool> {
        let mut moved = false;
        while self.watched.is_none_or(|(i, _)| i > 0) {
            let before = self.watched;
            let limit = before.map_or(self.path.len(), |(i, _)| i);
            let Some(found) = self.add_nearest(limit)? else { break };
            if let Some((_, old)) = before {
                self.remove(old)?;
            }
            self.watched = Some(found);
            moved = true;
        }
        match self.watched {
            Some(_) => Ok(moved),
            None => Err(io::Error::new(io::ErrorKind::NotFound, "the directory of the pods' logs is gone")),
        }
    }

    fn add_nearest(&self, limit: usize) -> io::Result<Option<(usize, WatchDescriptor)>> {
        for (i, dir) in self.path[..limit].iter().enumerate() {
            let events = if i == 0 { IN_DIRECTORY } else { IN_PARENT };
            match self
                .source
                .get_ref()
                .0
                .add_watch(dir, events | AddWatchFlags::IN_ONLYDIR | AddWatchFlags::IN_DONT_FOLLOW)
            {
                Ok(watch) => return Ok(Some((i, watch))),
                Err(Errno::ENOENT) => {}
                Err(e) => return Err(e.into()),
            }
        }
        Ok(None)
    }

    fn remove(&self, watch: WatchDescriptor) -> io::Result<()> {
        match self.source.get_ref().0.rm_watch(watch) {
            // The directory itself was removed, and the watch with it.
            Ok(()) | Err(Errno::EINVAL) => Ok(()),
            Err(e) => Err(e.into()),
        }
    }

    /// Waits until something happened. Cancel-safe: events stay queued until they are read here, in one go.
    pub(super) async fn changed(&mut self) -> io::Result<()> {
        loop {
            let mut ready = self.source.readable().await?;
            // Which events there were does not matter: the reader looks at the files themselves.
            match ready.try_io(|source| Ok(source.get_ref().0.read_events()?)) {
                Ok(events) => return events.map(drop),
                Err(_would_block) => {}
            }
        }
    }
}
