//! Control groups, version 2 only: cgroups(7) and the kernel's `admin-guide/cgroup-v2.rst`.
//!
//! A [`Cgroup`] is a directory name; it need not exist. Files are written with one write(2) each, as the kernel wants
//! it. Killing goes through `cgroup.kill` (Linux 5.14), waiting through poll(2) on `cgroup.events`.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::statfs::{CGROUP2_SUPER_MAGIC, statfs};

use crate::tree;

mod stat;

pub use stat::{Keyed, Pressure};

/// How long [`Cgroup::remove`] waits for killed processes to be gone. A process in an uninterruptible wait can outlast it.
pub const REMOVE_TIMEOUT: Duration = Duration::from_secs(10);

/// How long killed processes are waited for before those that have come since are killed as well.
const KILL_AGAIN: Duration = Duration::from_secs(1);

/// Pause between two tries of rmdir(2) on a cgroup that has just become empty, and their number.
const RMDIR_PAUSE: Duration = Duration::from_millis(2);
const RMDIR_TRIES: u32 = 100;

/// What can go wrong with a cgroup.
#[derive(Debug, thiserror::Error)]
pub enum CgroupError {
    /// The host has no cgroup v2 mount.
    #[error("no cgroup2 file system is mounted on this host; mount one: mount -t cgroup2 cgroup2 /sys/fs/cgroup")]
    NoV2Mount,
    /// A file operation failed.
    #[error("{op} {}", path.display())]
    Io {
        /// What was tried, as a verb.
        op: &'static str,
        /// On which file or directory.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A controller is needed in a cgroup and cannot be had there.
    #[error(
        "the {controller} controller is not available in cgroup {} (available: {}); \
         it is bound to cgroup v1, disabled by the kernel command line, or not delegated",
        path.display(), if available.is_empty() { "none".to_owned() } else { available.join(" ") }
    )]
    MissingController {
        /// Name of the controller, as in `cgroup.controllers`.
        controller: String,
        /// The topmost cgroup that lacks it.
        path: PathBuf,
        /// What that cgroup offers.
        available: Vec<String>,
    },
    /// A file of the kernel does not have the form that cgroup-v2.rst gives it.
    #[error("{}: found {text:?}, expected {expected}", path.display())]
    Malformed {
        /// Which file.
        path: PathBuf,
        /// What it held.
        text: String,
        /// What it should hold.
        expected: &'static str,
    },
    /// Processes survived SIGKILL for longer than [`REMOVE_TIMEOUT`].
    #[error("cgroup {} still has processes {} s after SIGKILL", path.display(), REMOVE_TIMEOUT.as_secs())]
    StillPopulated {
        /// The cgroup.
        path: PathBuf,
    },
}

type Result<T> = std::result::Result<T, CgroupError>;

/// The value of a limit file such as `memory.max`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// No limit.
    Max,
    /// A limit in the file's own unit (bytes, processes).
    Value(u64),
}

impl std::fmt::Display for Limit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Max => f.write_str("max"),
            Self::Value(value) => value.fmt(f),
        }
    }
}

impl Limit {
    /// Reads what a limit file holds: `max` or a decimal number.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        match text.trim() {
            "max" => Some(Self::Max),
            number => number.parse().ok().map(Self::Value),
        }
    }
}

/// Where the cgroup v2 hierarchy is mounted, for this process.
///
/// # Errors
/// [`CgroupError::NoV2Mount`] where there is none.
pub fn v2_mount() -> Result<PathBuf> {
    // The two usual places cost a system call each; mountinfo grows with every container's mounts.
    for usual in ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"] {
        if is_cgroup2(Path::new(usual)) {
            return Ok(usual.into());
        }
    }
    find_v2_mount(&mountinfo()?).ok_or(CgroupError::NoV2Mount)
}

/// All mounts. Anybody's mount points are among them, and need not be text.
fn mountinfo() -> Result<String> {
    let path = Path::new("/proc/self/mountinfo");
    let text = fs::read(path).map_err(io_error("read", path))?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

/// Whether the kernel keeps a cgroup namespace away from the limits of its own root (the mount option `nsdelegate`, which holds for the whole
/// hierarchy). Else root of a container that may make user namespaces can mount its hierarchy and change them.
///
/// # Errors
/// As reading a file.
pub fn limits_hold_in_namespaces() -> Result<bool> {
    Ok(has_nsdelegate(&mountinfo()?))
}

fn has_nsdelegate(mountinfo: &str) -> bool {
    let options = mountinfo.lines().filter_map(|line| line.split_once(" - ")?.1.strip_prefix("cgroup2 "));
    options.filter_map(|rest| rest.rsplit(' ').next()).any(|options| options.split(',').any(|one| one == "nsdelegate"))
}

/// Whether `path` lies in a cgroup v2 file system.
#[must_use]
pub fn is_cgroup2(path: &Path) -> bool {
    statfs(path).is_ok_and(|found| found.filesystem_type() == CGROUP2_SUPER_MAGIC)
}

/// The mount point of the first cgroup2 line of a mountinfo text (proc_pid_mountinfo(5)) that shows the hierarchy's root.
fn find_v2_mount(mountinfo: &str) -> Option<PathBuf> {
    let mut partial = None;
    for line in mountinfo.lines() {
        let Some((left, right)) = line.split_once(" - ") else { continue };
        if right.split(' ').next() != Some("cgroup2") {
            continue;
        }
        let mut fields = left.split(' ').skip(3);
        let (Some(root), Some(point)) = (fields.next(), fields.next()) else { continue };
        let point = PathBuf::from(unescape(point));
        if root == "/" {
            return Some(point);
        }
        partial.get_or_insert(point);
    }
    partial
}

/// Undoes mountinfo's octal escapes of blank, tab, newline and backslash.
fn unescape(field: &str) -> String {
    field.replace("\\040", " ").replace("\\011", "\t").replace("\\012", "\n").replace("\\134", "\\")
}

/// The cgroup v2 weight for cgroup v1 CPU shares, by the formula of runc 1.3 and crun 1.23 (opencontainers/cgroups
/// `ConvertCPUSharesToCgroupV2Value`): 2 becomes 1, 1024 becomes 100, 262144 becomes 10000. 0 means "leave it alone".
#[must_use]
pub fn cpu_weight(shares: u64) -> Option<u64> {
    match shares {
        0 => None,
        1 | 2 => Some(1),
        262_144.. => Some(10_000),
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "the input is below 2^18 and the result between 1 and 10000"
        )]
        _ => {
            let log = (shares as f64).log2();
            let exponent = (log * log + 125.0 * log) / 612.0 - 7.0 / 34.0;
            Some(10_f64.powf(exponent).ceil() as u64)
        }
    }
}

/// The cgroup v2 `io.weight` (1 to 10000) for a cgroup v1 block IO weight (10 to 1000), linearly, as runc and crun convert it.
#[must_use]
pub fn io_weight(weight: u16) -> u64 {
    1 + u64::from(weight.saturating_sub(10)) * 9999 / 990
}

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

fn io_error<'a>(op: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> CgroupError + 'a {
    move |source| CgroupError::Io { op, path: path.to_owned(), source }
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

fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

/// The number after `key` in a "flat keyed" file.
fn key_value(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' ')?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::ExitStatusExt as _;
    use std::process::Command;

    fn scratch(name: &str) -> Cgroup {
        let root = v2_mount().expect("these tests need cgroup v2");
        Cgroup::at(root.join(format!("podwright-sys-test-{name}-{}", std::process::id())))
    }

    #[test]
    fn weights_follow_the_current_formula() {
        let known = [(2, 1), (10, 4), (51, 11), (102, 17), (204, 29), (256, 35), (512, 59), (1024, 100), (2048, 174)];
        for (shares, weight) in known.into_iter().chain([(4096, 303), (262_144, 10_000), (1, 1), (1 << 40, 10_000)]) {
            assert_eq!(cpu_weight(shares), Some(weight), "{shares} shares");
        }
        assert_eq!(cpu_weight(0), None);
    }

    #[test]
    fn mountinfo_is_read() {
        let hybrid = "31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw\n\
                      36 31 0:33 / /sys/fs/cgroup/devices rw - cgroup cgroup rw,devices\n\
                      40 31 0:38 /sub /mnt/part rw - cgroup2 cgroup2 rw\n\
                      41 31 0:38 / /sys/fs/cgroup/uni\\040fied rw,relatime shared:9 - cgroup2 cgroup2 rw\n";
        assert_eq!(find_v2_mount(hybrid), Some("/sys/fs/cgroup/uni fied".into()));
        assert_eq!(find_v2_mount(&hybrid[..hybrid.find("41 31").unwrap()]), Some("/mnt/part".into()));
        assert_eq!(find_v2_mount("1 1 0:1 / / rw - ext4 /dev/vda rw\n"), None);
    }

    #[test]
    fn the_mount_option_is_found_in_the_options_alone() {
        let line = |source: &str, options: &str| format!("42 31 0:39 / /nsdelegate rw - cgroup2 {source} {options}\n");
        assert!(has_nsdelegate(&line("cgroup2", "rw,nsdelegate,memory_recursiveprot")));
        assert!(!has_nsdelegate(&line("nsdelegate", "rw,nsdelegates")));
        assert!(!has_nsdelegate("42 31 0:39 / /x rw - ext4 cgroup2 rw,nsdelegate\n"));
        limits_hold_in_namespaces().unwrap();
    }

    #[test]
    fn io_weights_are_stretched() {
        assert_eq!([10, 100, 500, 1000].map(io_weight), [1, 910, 4950, 10000]);
    }

    #[test]
    fn frozen_cgroups_are_known() {
        let group = scratch("freeze");
        let inner = group.child("a");
        inner.create().unwrap();
        let mut child = Command::new("sleep").arg("1000").spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        inner.add(pid).unwrap();
        assert_eq!(group.all_procs().unwrap(), [pid]);
        assert!(!group.is_frozen().unwrap());
        assert!(!group.wait_frozen(true, Duration::from_millis(10)).unwrap());
        group.freeze(true).unwrap();
        assert!(group.wait_frozen(true, Duration::from_secs(10)).unwrap());
        assert!(
            group.is_frozen().unwrap() && !inner.is_frozen().unwrap(),
            "what was written, not what follows from above"
        );
        group.freeze(false).unwrap();
        assert!(group.wait_frozen(false, Duration::from_secs(10)).unwrap());
        group.remove().unwrap();
        child.wait().unwrap();
        assert!(!group.is_frozen().unwrap());
        assert!(group.wait_frozen(true, Duration::ZERO).is_err());
    }

    #[test]
    fn limits_are_max_or_a_number() {
        assert_eq!(Limit::parse("max\n"), Some(Limit::Max));
        assert_eq!(Limit::parse("4096\n"), Some(Limit::Value(4096)));
        assert_eq!(Limit::parse("-1"), None);
        assert_eq!(Limit::Max.to_string(), "max");
    }

    #[test]
    fn remove_kills_nested_processes_and_waits() {
        let group = scratch("kill");
        let inner = group.child("a").child("b");
        assert!(inner.create().unwrap());
        assert!(!inner.create().unwrap());
        let mut child = Command::new("sleep").arg("1000").spawn().unwrap();
        inner.add(i32::try_from(child.id()).unwrap()).unwrap();
        assert_eq!(inner.procs().unwrap(), [i32::try_from(child.id()).unwrap()]);
        assert!(group.populated().unwrap());
        assert!(!group.wait_empty(Duration::from_millis(20)).unwrap());
        group.remove().unwrap();
        assert!(!group.exists());
        assert_eq!(child.wait().unwrap().signal(), Some(libc::SIGKILL));
        group.remove().expect("removing what is gone is fine");
        group.kill().expect("killing what is gone is fine");
        assert!(group.wait_empty(Duration::ZERO).unwrap());
    }

    #[test]
    fn a_missing_controller_is_named() {
        let group = scratch("controller");
        group.create().unwrap();
        let err = group.require_controllers(&["no-such"]).unwrap_err();
        group.remove().unwrap();
        assert!(
            matches!(&err, CgroupError::MissingController { controller, .. } if controller == "no-such"),
            "{err:?}"
        );
        assert!(err.to_string().starts_with("the no-such controller is not available in cgroup /"), "{err}");
    }

    #[test]
    fn a_cgroup_gets_all_controllers_that_there_are() {
        let top = scratch("open");
        let leaf = Cgroup::at(top.path().join("a/b"));
        leaf.create().unwrap();
        leaf.open_to_controllers().unwrap();
        let available = Cgroup::at(v2_mount().unwrap()).controllers().unwrap();
        assert_eq!(leaf.controllers().unwrap(), available);
    }

    #[test]
    fn controllers_are_enabled_from_the_top() {
        let top = scratch("enable");
        let available = Cgroup::at(v2_mount().unwrap()).controllers().unwrap();
        let Some(name) = available.first() else { panic!("no controller on the v2 hierarchy: {available:?}") };
        let leaf = top.child("a").child("b");
        leaf.create().unwrap();
        leaf.require_controllers(&[name]).unwrap();
        let has = leaf.controllers().unwrap();
        top.remove().unwrap();
        assert_eq!(has, std::slice::from_ref(name));
    }
}
