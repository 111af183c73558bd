//! What is kept of a container between two commands: a directory `ROOT/ID`, mode 0700.
//!
//! | name | what |
//! |---|---|
//! | `cgroup` | symlink to the cgroup's directory, made before anything else: with it a container that was never finished can be deleted |
//! | `mount` | symlink to the root file system that a container without a mount namespace has mounted in the runtime's |
//! | `state.json` | [`State`], replaced atomically; `run` holds a flock(2) on it until the program runs |
//! | `config.json` | the configuration that the container was made from: what becomes of the bundle's has no effect on it |
//! | `entry.json` | how to make further processes (`lifecycle/entry.rs`) |
//! | `creating.sock` | there while `create` works; it becomes the next one |
//! | `start.sock` | there while the container is created and not started |
//!
//! A process is (pid, start time); a pid that was given to another process is not the container's.
//!
//! Commands that change a container hold a [`Lock`] on the directory. `kill`, `state`, `ps`, `exec` and `events` do not: they
//! must not wait behind a slow `create`.

use std::collections::HashMap;
use std::fs::{self, DirBuilder, File, TryLockError};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::unistd::Pid;
use oci_spec::runtime::Hook;
use podwright_sys::cgroup::Cgroup;
use podwright_sys::process;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result, file};
pub use crate::status::{STATE_VERSION, Status};

/// How long a command waits for another one that changes the same container.
pub const LOCK_TIMEOUT: Duration = Duration::from_secs(10);

/// Longest id, in bytes: the name of a directory.
const MAX_ID: usize = 255;

/// Pause between two looks at a lock that somebody holds: there is no wait with a limit for flock(2).
const LOCK_PAUSE: Duration = Duration::from_millis(5);

/// `state.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct State {
    /// [`STATE_VERSION`] of the writer.
    pub version: u32,
    /// The container.
    pub id: String,
    /// The first process, in the numbering of the runtime's PID namespace.
    pub pid: i32,
    /// Its start time in clock ticks since boot.
    pub pid_start: u64,
    /// The bundle directory.
    pub bundle: PathBuf,
    /// The root file system.
    pub rootfs: PathBuf,
    /// When it was created, RFC 3339.
    pub created: String,
    /// From the configuration.
    pub annotations: HashMap<String, String>,
    /// The cgroup's directory.
    pub cgroup: PathBuf,
    /// The unit of systemd that the cgroup belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
    /// Groups of the resctrl file system to remove with the container, in this order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub resctrl: Vec<PathBuf>,
    /// The configuration's poststart hooks, for `start`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub poststart: Vec<Hook>,
    /// The configuration's poststop hooks, for `delete`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub poststop: Vec<Hook>,
}

/// What every version of `state.json` has.
#[derive(Deserialize)]
struct Version {
    version: u32,
}

/// The right to change a container: flock(2) on its directory. It ends with the value, or with the process. A copy of the
/// process holds it too, and has to drop its copy.
#[derive(Debug)]
pub struct Lock(File);

/// A container's directory.
#[derive(Debug, Clone)]
pub struct StateDir {
    id: String,
    path: PathBuf,
}

impl StateDir {
    /// The directory of container `id` below `root`; nothing is touched.
    ///
    /// # Errors
    /// [`Error::InvalidId`].
    pub fn new(root: &Path, id: &str) -> Result<Self> {
        let valid = |c: char| c.is_ascii_alphanumeric() || "_+-.".contains(c);
        if id.is_empty() || id == "." || id == ".." || id.len() > MAX_ID || !id.chars().all(valid) {
            return Err(Error::InvalidId(id.to_owned()));
        }
        Ok(Self { id: id.to_owned(), path: root.join(id) })
    }

    /// Its path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes it, held by the caller, and keeps where the cgroup will be.
    ///
    /// # Errors
    /// [`Error::Exists`]; mkdir(2)'s and symlink(2)'s.
    pub fn create(&self, cgroup: &Path) -> Result<Lock> {
        let mut builder = DirBuilder::new();
        builder.mode(0o700);
        let made = match builder.create(&self.path) {
            Err(err) if err.kind() == io::ErrorKind::NotFound => {
                let root = self.path.parent().unwrap_or(Path::new("/"));
                builder.recursive(true).create(root).map_err(file("make", root))?;
                builder.recursive(false).create(&self.path)
            }
            other => other,
        };
        match made {
            Err(err) if err.kind() == io::ErrorKind::AlreadyExists => return Err(Error::Exists(self.id.clone())),
            other => other.map_err(file("make", &self.path))?,
        }
        // Somebody may be deleting it already: the symlink cannot be made then.
        let lock = self.lock(LOCK_TIMEOUT).inspect_err(|_| {
            // Not one in which somebody has made something.
            fs::remove_dir(&self.path).ok();
        })?;
        let link = self.path.join("cgroup");
        if let Err(err) = symlink(cgroup, &link) {
            // It was deleted meanwhile, and made by somebody else.
            if err.kind() == io::ErrorKind::AlreadyExists {
                return Err(Error::Exists(self.id.clone()));
            }
            fs::remove_dir(&self.path).ok();
            return Err(file("make", link)(err));
        }
        Ok(lock)
    }

    /// Holds the container, waiting at most `timeout` for a command that does.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Busy`].
    pub fn lock(&self, timeout: Duration) -> Result<Lock> {
        let deadline = Instant::now() + timeout;
        loop {
            let dir = self.open()?;
            match dir.try_lock() {
                // What was waited for may have been to delete it.
                Ok(()) if self.is(&dir)? => return Ok(Lock(dir)),
                Ok(()) => {}
                Err(TryLockError::WouldBlock) if Instant::now() >= deadline => {
                    return Err(Error::Busy { id: self.id.clone(), seconds: timeout.as_secs() });
                }
                Err(TryLockError::WouldBlock) => std::thread::sleep(LOCK_PAUSE),
                Err(TryLockError::Error(err)) => return Err(file("lock", &self.path)(err)),
            }
        }
    }

    /// As [`StateDir::lock`], and then takes it from a command that would not let go, for `delete --force`.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub fn seize(&self, timeout: Duration) -> Result<Lock> {
        match self.lock(timeout) {
            Err(Error::Busy { .. }) => self.open().map(Lock),
            other => other,
        }
    }

    fn open(&self) -> Result<File> {
        match File::open(&self.path) {
            Err(err) if err.kind() == io::ErrorKind::NotFound => Err(Error::NotFound(self.id.clone())),
            other => other.map_err(file("open", &self.path)),
        }
    }

    /// Whether its name still stands for the directory that was opened.
    fn is(&self, opened: &File) -> Result<bool> {
        let named = match fs::metadata(&self.path) {
            Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(false),
            other => other.map_err(file("look at", &self.path))?,
        };
        let opened = opened.metadata().map_err(file("look at", &self.path))?;
        Ok((named.dev(), named.ino()) == (opened.dev(), opened.ino()))
    }

    /// Writes `state.json`. With `run` there is no socket to tell how far it has come: the container is being made as long as what this
    /// gives is kept, a flock(2) on the file, which a process that dies lets go of.
    ///
    /// # Errors
    /// open(2)'s, flock(2)'s, write(2)'s and rename(2)'s.
    pub fn save(&self, state: &State) -> Result<File> {
        let text = serde_json::to_vec(state).map_err(io::Error::from).map_err(file("write", self.state_file()))?;
        replace_with(&self.state_file(), &text, |file| file.try_lock().map_err(io::Error::from))
    }

    /// Waits for a `run` that is making the container, at most `timeout`.
    ///
    /// # Errors
    /// open(2)'s and flock(2)'s on `state.json`.
    pub fn wait_until_made(&self, timeout: Duration) -> Result<()> {
        let deadline = Instant::now() + timeout;
        while self.is_unfinished()? && Instant::now() < deadline {
            std::thread::sleep(LOCK_PAUSE);
        }
        Ok(())
    }

    /// Whether somebody keeps what [`StateDir::save`] has given.
    fn is_unfinished(&self) -> Result<bool> {
        let tried = match File::open(self.state_file()) {
            Ok(file) => file.try_lock_shared(),
            // It is being deleted.
            Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(err) => return Err(file("open", self.state_file())(err)),
        };
        match tried {
            Ok(()) => Ok(false),
            Err(TryLockError::WouldBlock) => Ok(true),
            Err(TryLockError::Error(err)) => Err(file("lock", self.state_file())(err)),
        }
    }

    /// Reads `state.json`; `None` while there is none.
    ///
    /// # Errors
    /// [`Error::NotFound`] without the directory; [`Error::StateVersion`]; read(2)'s; `InvalidData`.
    pub fn load(&self) -> Result<Option<State>> {
        let text = match fs::read(self.state_file()) {
            Ok(text) => text,
            Err(err) if err.kind() == io::ErrorKind::NotFound => {
                return if self.path.is_dir() { Ok(None) } else { Err(Error::NotFound(self.id.clone())) };
            }
            Err(err) => return Err(file("read", self.state_file())(err)),
        };
        let newer = |found: u32| Error::StateVersion { path: self.state_file(), found };
        match serde_json::from_slice::<State>(&text) {
            Ok(state) if state.version <= STATE_VERSION => Ok(Some(state)),
            Ok(state) => Err(newer(state.version)),
            // One that a newer version wrote need not look like ours.
            Err(err) => match serde_json::from_slice(&text) {
                Ok(Version { version }) if version > STATE_VERSION => Err(newer(version)),
                _ => Err(file("read", self.state_file())(err.into())),
            },
        }
    }

    /// The configuration that the container was made from.
    #[must_use]
    pub fn config(&self) -> PathBuf {
        self.path.join("config.json")
    }

    /// Keeps the configuration. It need not appear in one step: nobody looks at it before there is a state.
    ///
    /// # Errors
    /// open(2)'s and write(2)'s.
    pub fn keep_config(&self, text: &[u8]) -> Result<()> {
        fs::write(self.config(), text).map_err(file("write", self.config()))
    }

    /// Corrects where the cgroup is.
    ///
    /// # Errors
    /// symlink(2)'s and rename(2)'s.
    pub fn set_cgroup(&self, cgroup: &Path) -> Result<()> {
        let (link, new) = (self.path.join("cgroup"), self.path.join("cgroup.new"));
        symlink(cgroup, &new).and_then(|()| fs::rename(&new, &link)).map_err(file("make", &link))
    }

    /// Where the cgroup is, also of a container without `state.json`.
    #[must_use]
    pub fn cgroup(&self) -> Option<PathBuf> {
        fs::read_link(self.path.join("cgroup")).ok()
    }

    /// Keeps what will be mounted in the runtime's own mount namespace: the root file system, to be unmounted with the container.
    ///
    /// # Errors
    /// symlink(2)'s.
    pub fn set_host_mount(&self, root: &Path) -> Result<()> {
        let link = self.path.join("mount");
        symlink(root, &link).map_err(file("make", &link))
    }

    /// What [`StateDir::set_host_mount`] has kept.
    #[must_use]
    pub fn host_mount(&self) -> Option<PathBuf> {
        fs::read_link(self.path.join("mount")).ok()
    }

    /// The socket on which a created container waits.
    #[must_use]
    pub fn start_socket(&self) -> PathBuf {
        self.path.join("start.sock")
    }

    /// The same socket while `create` works.
    #[must_use]
    pub fn creating_socket(&self) -> PathBuf {
        self.path.join("creating.sock")
    }

    /// From here on the container is created.
    ///
    /// # Errors
    /// rename(2)'s.
    pub fn set_created(&self) -> Result<()> {
        fs::rename(self.creating_socket(), self.start_socket()).map_err(file("rename", self.creating_socket()))
    }

    /// The status now.
    ///
    /// # Errors
    /// Those of reading `/proc/PID/stat`.
    pub fn status(&self, state: Option<&State>) -> Result<Status> {
        let Some(state) = state else { return Ok(Status::Creating) };
        let found =
            process::stat(Pid::from_raw(state.pid)).map_err(file("read", format!("/proc/{}/stat", state.pid)))?;
        match found {
            Some(stat) if stat.start == state.pid_start && !stat.zombie => {}
            _ => return Ok(Status::Stopped),
        }
        let created = self.start_socket().exists();
        if !created && (self.creating_socket().exists() || self.is_unfinished()?) {
            return Ok(Status::Creating);
        }
        if Cgroup::at(&state.cgroup).is_frozen()? {
            return Ok(Status::Paused);
        }
        Ok(if created { Status::Created } else { Status::Running })
    }

    /// Whether what is held is still the container of this id: `delete --force` may have taken it from its holder, and another one may
    /// have been made since.
    ///
    /// # Errors
    /// stat(2)'s.
    pub fn is_held_by(&self, lock: &Lock) -> Result<bool> {
        self.is(&lock.0)
    }

    /// Removes it. One that is gone is fine, and one that somebody else has made in its place stays.
    ///
    /// # Errors
    /// unlink(2)'s and rmdir(2)'s.
    pub fn remove(&self, lock: &Lock) -> Result<()> {
        if !self.is_held_by(lock)? {
            return Ok(());
        }
        podwright_sys::tree::remove(&self.path).map_err(|error| file("remove", &self.path)(error.into()))
    }

    fn state_file(&self) -> PathBuf {
        self.path.join("state.json")
    }
}

/// Writes a file so that nobody sees it half-written. It need not outlive the host's power: neither do containers.
pub(crate) fn replace(path: &Path, content: &[u8]) -> Result<()> {
    replace_with(path, content, |_| Ok(())).map(drop)
}

/// As [`replace`], with something done to the file before it is there; gives the file.
fn replace_with(path: &Path, content: &[u8], before: impl FnOnce(&File) -> io::Result<()>) -> Result<File> {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{}.tmp", std::process::id()));
    let temporary = PathBuf::from(name);
    let written = File::create(&temporary).and_then(|mut file| {
        before(&file)?;
        file.write_all(content)?;
        fs::rename(&temporary, path)?;
        Ok(file)
    });
    written.map_err(|err| {
        fs::remove_file(&temporary).ok();
        file("write", path)(err)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(pid: i32, pid_start: u64) -> State {
        State {
            version: STATE_VERSION,
            id: "c".into(),
            pid,
            pid_start,
            bundle: "/b".into(),
            rootfs: "/b/rootfs".into(),
            created: "2024-01-01T00:00:00Z".into(),
            annotations: HashMap::from([("k".into(), "v".into())]),
            cgroup: "/sys/fs/cgroup/c".into(),
            unit: None,
            resctrl: vec![],
            poststart: vec![],
            poststop: vec![],
        }
    }

    #[test]
    fn ids_are_plain_names() {
        for bad in ["", ".", "..", "a/b", "../x", "a b", "ä"] {
            assert!(matches!(StateDir::new(Path::new("/r"), bad), Err(Error::InvalidId(_))), "{bad:?}");
        }
        assert!(StateDir::new(Path::new("/r"), &"x".repeat(256)).is_err());
        StateDir::new(Path::new("/r"), "8c1d-app-0_+.x").unwrap();
    }

    #[test]
    fn a_directory_tells_the_status() {
        let root = tempfile::tempdir().unwrap();
        let dir = StateDir::new(&root.path().join("deep/root"), "c").unwrap();
        assert!(matches!(dir.load(), Err(Error::NotFound(_))));
        let lock = dir.create(Path::new("/sys/fs/cgroup/c")).unwrap();
        assert!(matches!(dir.create(Path::new("/x")), Err(Error::Exists(_))));
        assert_eq!(dir.load().unwrap(), None);
        assert_eq!(dir.status(None).unwrap(), Status::Creating);
        assert_eq!(dir.cgroup(), Some("/sys/fs/cgroup/c".into()));

        let pid = std::process::id().cast_signed();
        let start = process::stat(Pid::from_raw(pid)).unwrap().unwrap().start;
        let unfinished = dir.save(&state(pid, start)).unwrap();
        let loaded = dir.load().unwrap().unwrap();
        assert_eq!(loaded, state(pid, start));
        assert_eq!(dir.status(Some(&loaded)).unwrap(), Status::Creating);
        drop(unfinished);
        assert_eq!(dir.status(Some(&loaded)).unwrap(), Status::Running);
        fs::write(dir.start_socket(), "").unwrap();
        assert_eq!(dir.status(Some(&loaded)).unwrap(), Status::Created);
        assert_eq!(dir.status(Some(&state(pid, start + 1))).unwrap(), Status::Stopped, "the pid is somebody else's");
        dir.remove(&lock).unwrap();
        dir.remove(&lock).unwrap();
    }

    #[test]
    fn one_at_a_time_holds_a_container() {
        let root = tempfile::tempdir().unwrap();
        let dir = StateDir::new(root.path(), "c").unwrap();
        assert!(matches!(dir.lock(Duration::ZERO), Err(Error::NotFound(_))));
        let lock = dir.create(Path::new("/c")).unwrap();
        let busy = dir.lock(Duration::from_millis(20)).unwrap_err();
        assert!(matches!(busy, Error::Busy { .. }), "{busy}");
        drop(lock);
        let first = dir.lock(Duration::ZERO).unwrap();
        let waiting = std::thread::spawn({
            let dir = dir.clone();
            move || dir.lock(Duration::from_secs(20))
        });
        std::thread::sleep(Duration::from_millis(20));
        drop(first);
        waiting.join().unwrap().unwrap();
    }

    #[test]
    fn a_successor_by_the_same_name_is_left_alone() {
        let root = tempfile::tempdir().unwrap();
        let dir = StateDir::new(root.path(), "c").unwrap();
        let old = dir.create(Path::new("/c")).unwrap();
        let seized = dir.seize(Duration::from_millis(10)).unwrap();
        dir.remove(&seized).unwrap();
        let new = dir.create(Path::new("/c")).unwrap();
        dir.remove(&old).unwrap();
        assert!(dir.path().exists(), "the old holder removed the new container");
        dir.remove(&new).unwrap();
        assert!(!dir.path().exists());
    }

    #[test]
    fn a_newer_state_is_told_from_a_broken_one() {
        let root = tempfile::tempdir().unwrap();
        let dir = StateDir::new(root.path(), "c").unwrap();
        fs::create_dir(dir.path()).unwrap();
        for newer in [r#"{"version": 2, "process": {"pid": 7}}"#.to_owned(), {
            let state = State { version: 9, ..state(1, 1) };
            serde_json::to_string(&state).unwrap()
        }] {
            fs::write(dir.state_file(), newer).unwrap();
            assert!(matches!(dir.load(), Err(Error::StateVersion { .. })));
        }
        fs::write(dir.state_file(), "{torn").unwrap();
        assert!(matches!(dir.load(), Err(Error::File { .. })));
    }

    #[test]
    fn a_failed_write_leaves_the_old_state() {
        let root = tempfile::tempdir().unwrap();
        let target = root.path().join("dir");
        fs::create_dir(&target).unwrap();
        assert!(replace(&target, b"x").is_err());
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 1, "the temporary file is gone");
    }
}
