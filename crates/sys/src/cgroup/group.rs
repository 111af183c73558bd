//! One cgroup.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::error::{CgroupError, REMOVE_TIMEOUT, Result, io_error};
use super::limit::Limit;
use super::mount::is_cgroup2;
use super::text::{key_value, words};
use crate::tree;

/// How long killed processes are waited for before those that have come since are killed as well.
const KILL_AGAIN: Duration = Duration::from_secs(1);

/// Pause between two tries of rmdir(2) on a cgroup that has just become empty, and their number.
const RMDIR_PAUSE: Duration = Duration::from_millis(2);
const RMDIR_TRIES: u32 = 100;

/// A cgroup, by its directory below the v2 mount. It need not exist.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cgroup {
    path: PathBuf,
}

impl Cgroup {
    /// The cgroup with this directory, a path in the cgroup v2 file system.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// Its directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The cgroup above, as long as that still is in the cgroup v2 file system.
    #[must_use]
    pub fn parent(&self) -> Option<Self> {
        let parent = self.path.parent()?;
        is_cgroup2(parent).then(|| Self::at(parent))
    }

    /// The cgroup of that name below this one.
    #[must_use]
    pub fn child(&self, name: &str) -> Self {
        Self::at(self.path.join(name))
    }

    /// Whether its directory exists.
    #[must_use]
    pub fn exists(&self) -> bool {
        self.path.is_dir()
    }

    /// Makes its directory and those above it. One that exists already is fine. Returns whether this call made it.
    ///
    /// # Errors
    /// mkdir(2)'s.
    pub fn create(&self) -> Result<bool> {
        match fs::create_dir(&self.path) {
            Ok(()) => Ok(true),
            Err(err) if err.kind() == io::ErrorKind::AlreadyExists => Ok(false),
            Err(err) if err.kind() == io::ErrorKind::NotFound => {
                fs::create_dir_all(&self.path).map_err(io_error("create cgroup", &self.path))?;
                Ok(true)
            }
            Err(err) => Err(io_error("create cgroup", &self.path)(err)),
        }
    }

    /// Opens its directory, for `CLONE_INTO_CGROUP`.
    ///
    /// # Errors
    /// open(2)'s.
    pub fn open(&self) -> Result<OwnedFd> {
        File::open(&self.path).map(Into::into).map_err(io_error("open cgroup", &self.path))
    }

    /// The content of one of its files.
    ///
    /// # Errors
    /// open(2)'s and read(2)'s; ENOENT when the controller of that file is not enabled here.
    pub fn read(&self, file: &str) -> Result<String> {
        let path = self.path.join(file);
        fs::read_to_string(&path).map_err(io_error("read", &path))
    }

    /// Writes one of its files.
    ///
    /// # Errors
    /// open(2)'s and write(2)'s; ENOENT when the controller of that file is not enabled here.
    pub fn write(&self, file: &str, value: &str) -> Result<()> {
        let path = self.path.join(file);
        let written = OpenOptions::new().write(true).open(&path).and_then(|mut f| f.write_all(value.as_bytes()));
        written.map_err(io_error("write", &path))
    }

    /// A limit file such as `pids.max`.
    ///
    /// # Errors
    /// As [`Cgroup::read`], and [`CgroupError::Malformed`].
    pub fn limit(&self, file: &str) -> Result<Limit> {
        let text = self.read(file)?;
        Limit::parse(&text).ok_or_else(|| CgroupError::Malformed {
            path: self.path.join(file),
            text,
            expected: "`max` or a number",
        })
    }

    /// Controllers that can be used in this cgroup (`cgroup.controllers`).
    ///
    /// # Errors
    /// As [`Cgroup::read`].
    pub fn controllers(&self) -> Result<Vec<String>> {
        Ok(words(&self.read("cgroup.controllers")?))
    }

    /// Makes controllers available to the cgroups below this one (`cgroup.subtree_control`). What is enabled already stays.
    ///
    /// # Errors
    /// [`CgroupError::MissingController`] for one that this cgroup does not have itself; EBUSY when processes live
    /// directly in this cgroup (the "no internal processes" rule of cgroups(7)).
    pub fn enable_controllers(&self, wanted: &[&str]) -> Result<()> {
        if wanted.is_empty() {
            return Ok(());
        }
        let enabled = words(&self.read("cgroup.subtree_control")?);
        let missing: Vec<&str> =
            wanted.iter().copied().filter(|name| !enabled.iter().any(|have| have == name)).collect();
        if missing.is_empty() {
            return Ok(());
        }
        let available = self.controllers()?;
        if let Some(name) = missing.iter().find(|name| !available.iter().any(|have| have == *name)) {
            return Err(CgroupError::MissingController {
                controller: (*name).to_owned(),
                path: self.path.clone(),
                available,
            });
        }
        let line: Vec<String> = missing.iter().map(|name| format!("+{name}")).collect();
        self.write("cgroup.subtree_control", &line.join(" "))
    }

    /// Makes controllers usable in this (existing) cgroup, by enabling them in every cgroup above it, from the top, as far as needed.
    ///
    /// # Errors
    /// As [`Cgroup::enable_controllers`], for any cgroup above.
    pub fn require_controllers(&self, wanted: &[&str]) -> Result<()> {
        if wanted.is_empty() {
            return Ok(());
        }
        let available = self.controllers()?;
        let missing: Vec<&str> =
            wanted.iter().copied().filter(|name| !available.iter().any(|have| have == name)).collect();
        let Some(first) = missing.first() else { return Ok(()) };
        let Some(parent) = self.parent() else {
            return Err(CgroupError::MissingController {
                controller: (*first).to_owned(),
                path: self.path.clone(),
                available,
            });
        };
        parent.require_controllers(&missing)?;
        parent.enable_controllers(&missing)
    }

    /// Makes all controllers usable in this (existing) cgroup, as far as the cgroups above allow it. One that the kernel does not enable
    /// there (processes of its own, a threaded cgroup) is left out: nobody has asked for it by name.
    ///
    /// # Errors
    /// As [`Cgroup::read`].
    pub fn open_to_controllers(&self) -> Result<()> {
        let Some(parent) = self.parent() else { return Ok(()) };
        parent.open_to_controllers()?;
        let enabled = words(&parent.read("cgroup.subtree_control")?);
        for name in parent.controllers()?.iter().filter(|name| !enabled.contains(name)) {
            // One after the other: of several words, all fail with one.
            parent.write("cgroup.subtree_control", &format!("+{name}")).ok();
        }
        Ok(())
    }

    /// Moves a process into this cgroup; 0 is the calling one.
    ///
    /// # Errors
    /// As [`Cgroup::write`].
    pub fn add(&self, pid: i32) -> Result<()> {
        self.write("cgroup.procs", &pid.to_string())
    }

    /// Processes directly in this cgroup, in the numbering of the reader's pid namespace. Zombies are not among them.
    ///
    /// # Errors
    /// As [`Cgroup::read`].
    pub fn procs(&self) -> Result<Vec<i32>> {
        Ok(self.read("cgroup.procs")?.lines().filter_map(|line| line.parse().ok()).collect())
    }

    /// Processes in this cgroup and in those below it, in no order. What moves meanwhile may be missed or be there twice.
    ///
    /// # Errors
    /// As [`Cgroup::read`] and [`Cgroup::children`]; a cgroup below that goes meanwhile is fine.
    pub fn all_procs(&self) -> Result<Vec<i32>> {
        let mut found = self.procs()?;
        for child in self.children()? {
            match child.all_procs() {
                Ok(procs) => found.extend(procs),
                Err(err) => absent_is_fine(Err(err))?,
            }
        }
        Ok(found)
    }

    /// The names of its files.
    ///
    /// # Errors
    /// readdir(3)'s.
    pub fn files(&self) -> Result<Vec<String>> {
        let mut files = Vec::new();
        for entry in fs::read_dir(&self.path).map_err(io_error("list cgroup", &self.path))? {
            let entry = entry.map_err(io_error("list cgroup", &self.path))?;
            if entry.file_type().is_ok_and(|kind| kind.is_file()) {
                files.push(entry.file_name().to_string_lossy().into_owned());
            }
        }
        Ok(files)
    }

    /// The cgroups directly below this one.
    ///
    /// # Errors
    /// readdir(3)'s.
    pub fn children(&self) -> Result<Vec<Self>> {
        let mut children = Vec::new();
        for entry in fs::read_dir(&self.path).map_err(io_error("list cgroup", &self.path))? {
            let entry = entry.map_err(io_error("list cgroup", &self.path))?;
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                children.push(Self::at(entry.path()));
            }
        }
        Ok(children)
    }

    /// Whether any process lives in this cgroup or below (`populated` in `cgroup.events`).
    ///
    /// # Errors
    /// As [`Cgroup::read`], and [`CgroupError::Malformed`].
    pub fn populated(&self) -> Result<bool> {
        let text = self.read("cgroup.events")?;
        key_value(&text, "populated").map(|value| value != 0).ok_or_else(|| self.malformed_events(text))
    }

    /// Opens `cgroup.events`: poll(2) reports `POLLPRI` on it when `populated` or `frozen` changed since the last read.
    ///
    /// # Errors
    /// open(2)'s.
    pub fn events(&self) -> Result<File> {
        let path = self.path.join("cgroup.events");
        File::open(&path).map_err(io_error("open", &path))
    }

    /// Sends SIGKILL to every process in this cgroup and below, forks in progress included. One that does not exist is fine.
    ///
    /// # Errors
    /// As [`Cgroup::write`].
    pub fn kill(&self) -> Result<()> {
        absent_is_fine(self.write("cgroup.kill", "1"))
    }

    /// Stops (`true`) or continues every process in this cgroup and below.
    ///
    /// # Errors
    /// As [`Cgroup::write`].
    pub fn freeze(&self, frozen: bool) -> Result<()> {
        self.write("cgroup.freeze", if frozen { "1" } else { "0" })
    }

    /// How many processes of this cgroup and below the kernel has killed for memory so far (`oom_kill` in
    /// `memory.events`); `None` without the memory controller.
    ///
    /// # Errors
    /// As [`Cgroup::read`].
    pub fn oom_kills(&self) -> Result<Option<u64>> {
        match self.read("memory.events") {
            Ok(text) => Ok(key_value(&text, "oom_kill")),
            Err(CgroupError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(err) => Err(err),
        }
    }

    /// Whether [`Cgroup::freeze`] was the last word about this cgroup; one that does not exist is not frozen.
    ///
    /// # Errors
    /// As [`Cgroup::read`].
    pub fn is_frozen(&self) -> Result<bool> {
        match self.read("cgroup.freeze") {
            Ok(text) => Ok(text.trim_end() == "1"),
            Err(err) => absent_is_fine(Err(err)).map(|()| false),
        }
    }

    /// Waits until every process in this cgroup and below has stopped or goes on, as [`Cgroup::freeze`] told them. Returns
    /// whether that came true in time.
    ///
    /// # Errors
    /// As [`Cgroup::read`], ENOENT for a cgroup that does not exist, and poll(2)'s.
    pub fn wait_frozen(&self, frozen: bool, timeout: Duration) -> Result<bool> {
        let gone = || io_error("open", &self.path.join("cgroup.events"))(io::ErrorKind::NotFound.into());
        self.wait_event("frozen", u64::from(frozen), timeout)?.ok_or_else(gone)
    }

    /// Waits until no process is left in this cgroup and below, by events. Returns whether that came true in time; a
    /// cgroup that does not exist is empty.
    ///
    /// # Errors
    /// As [`Cgroup::read`], and poll(2)'s.
    pub fn wait_empty(&self, timeout: Duration) -> Result<bool> {
        Ok(self.wait_event("populated", 0, timeout)?.unwrap_or(true))
    }

    /// Waits until `key` in `cgroup.events` is `wanted`. Returns whether that came true in time; `None` for a cgroup that does
    /// not exist (any more).
    fn wait_event(&self, key: &str, wanted: u64, timeout: Duration) -> Result<Option<bool>> {
        let deadline = Instant::now() + timeout;
        let path = self.path.join("cgroup.events");
        let mut file = match self.events() {
            Ok(file) => file,
            Err(CgroupError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(err) => return Err(err),
        };
        loop {
            let mut text = String::new();
            let read = file.rewind().and_then(|()| file.read_to_string(&mut text));
            match read {
                Ok(_) => {}
                Err(err) if err.raw_os_error() == Some(libc::ENODEV) => return Ok(None),
                Err(err) => return Err(io_error("read", &path)(err)),
            }
            match key_value(&text, key) {
                Some(value) if value == wanted => return Ok(Some(true)),
                Some(_) => {}
                None => return Err(self.malformed_events(text)),
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(Some(false));
            }
            // Rounded up, so that the last turn does not spin through the final millisecond.
            let millis = i32::try_from(left.as_millis() + 1).unwrap_or(i32::MAX);
            let mut fds = [PollFd::new(file.as_fd(), PollFlags::POLLPRI)];
            match poll(&mut fds, PollTimeout::try_from(millis).unwrap_or(PollTimeout::MAX)) {
                Ok(_) | Err(nix::Error::EINTR) => {}
                Err(errno) => return Err(io_error("poll", &path)(errno.into())),
            }
        }
    }

    /// Kills every process in this cgroup and below, waits until they are gone, and removes the directories. One that does
    /// not exist is fine.
    ///
    /// # Errors
    /// [`CgroupError::StillPopulated`] after [`REMOVE_TIMEOUT`]; rmdir(2)'s.
    pub fn remove(&self) -> Result<()> {
        match fs::remove_dir(&self.path) {
            Ok(()) => return Ok(()),
            Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(_) => {}
        }
        // Again and again: somebody who had the directory open may have put a process there after the last one.
        let deadline = Instant::now() + REMOVE_TIMEOUT;
        loop {
            self.kill()?;
            if self.wait_empty(KILL_AGAIN)? {
                match remove_tree(&self.path) {
                    Err(CgroupError::Io { source, .. })
                        if source.kind() == io::ErrorKind::ResourceBusy && Instant::now() < deadline => {}
                    other => return other,
                }
            } else if Instant::now() >= deadline {
                return Err(CgroupError::StillPopulated { path: self.path.clone() });
            }
        }
    }

    /// Removes its directory, if nothing is in it. Returns whether it is gone; waits for nobody.
    ///
    /// # Errors
    /// rmdir(2)'s other errors.
    pub fn remove_if_empty(&self) -> Result<bool> {
        match fs::remove_dir(&self.path) {
            Ok(()) => Ok(true),
            Err(err) if err.kind() == io::ErrorKind::NotFound => Ok(true),
            Err(err) if matches!(err.kind(), io::ErrorKind::ResourceBusy | io::ErrorKind::DirectoryNotEmpty) => {
                Ok(false)
            }
            Err(err) => Err(io_error("remove cgroup", &self.path)(err)),
        }
    }

    fn malformed_events(&self, text: String) -> CgroupError {
        CgroupError::Malformed {
            path: self.path.join("cgroup.events"),
            text,
            expected: "lines `populated 0|1` and `frozen 0|1`",
        }
    }
}

/// Removes a cgroup's directory, the ones below first.
fn remove_tree(path: &Path) -> Result<()> {
    match tree::remove_nested(path, RMDIR_TRIES, RMDIR_PAUSE) {
        Ok(()) => {}
        Err(nix::Error::ENOENT) => return Ok(()),
        Err(errno) => return Err(io_error("remove what is below cgroup", path)(errno.into())),
    }
    // A process that has left `cgroup.procs` may still hold the directory for a moment.
    let mut tries = 0;
    loop {
        match fs::remove_dir(path) {
            Ok(()) => return Ok(()),
            Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(err) if err.kind() == io::ErrorKind::ResourceBusy && tries < RMDIR_TRIES => {
                tries += 1;
                std::thread::sleep(RMDIR_PAUSE);
            }
            Err(err) => return Err(io_error("remove cgroup", path)(err)),
        }
    }
}

fn absent_is_fine(result: Result<()>) -> Result<()> {
    match result {
        Err(CgroupError::Io { source, .. })
            if source.kind() == io::ErrorKind::NotFound || source.raw_os_error() == Some(libc::ENODEV) =>
        {
            Ok(())
        }
        other => other,
    }
}
