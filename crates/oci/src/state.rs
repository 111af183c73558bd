//! What is kept of a container between two commands: a directory `ROOT/ID`, mode 0700.
//!
//! | name | what |
//! |---|---|
//! | `cgroup` | symlink to the cgroup's directory, made before anything else: with it a container that was never finished can be deleted |
//! | `state.json` | [`State`], replaced atomically |
//! | `start.sock` | there while the container is created and not started |
//!
//! A process is (pid, start time); a pid that was given to another process is not the container's.

use std::collections::HashMap;
use std::fs::{self, DirBuilder, File};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, symlink};
use std::path::{Path, PathBuf};

use nix::unistd::Pid;
use oci_spec::runtime::Hook;
use podwright_sys::process;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result, file};

/// Version of `state.json`.
pub const STATE_VERSION: u32 = 1;

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
    /// The root file system, mounted in the runtime's own mount namespace: to be unmounted with the container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_mount: Option<PathBuf>,
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

/// runtime-spec, runtime.md, "State".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// Being made, or left behind half-made.
    Creating,
    /// Waits for `start`.
    Created,
    /// Runs.
    Running,
    /// Has ended.
    Stopped,
}

impl Status {
    /// The specification's word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Creating => "creating",
            Self::Created => "created",
            Self::Running => "running",
            Self::Stopped => "stopped",
        }
    }
}

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
        if id.is_empty() || id == "." || id == ".." || !id.chars().all(valid) {
            return Err(Error::InvalidId(id.to_owned()));
        }
        Ok(Self { id: id.to_owned(), path: root.join(id) })
    }

    /// Its path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes it, and keeps where the cgroup will be.
    ///
    /// # Errors
    /// [`Error::Exists`]; mkdir(2)'s and symlink(2)'s.
    pub fn create(&self, cgroup: &Path) -> Result<()> {
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
        symlink(cgroup, self.path.join("cgroup")).map_err(file("make", self.path.join("cgroup")))
    }

    /// Writes `state.json`.
    ///
    /// # Errors
    /// open(2)'s, write(2)'s and rename(2)'s.
    pub fn save(&self, state: &State) -> Result<()> {
        let text = serde_json::to_vec(state).map_err(io::Error::from).map_err(file("write", self.state_file()))?;
        replace(&self.state_file(), &text)
    }

    /// Reads `state.json`; `None` while there is none.
    ///
    /// # Errors
    /// [`Error::NotFound`] without the directory; read(2)'s; `InvalidData`.
    pub fn load(&self) -> Result<Option<State>> {
        let text = match fs::read(self.state_file()) {
            Ok(text) => text,
            Err(err) if err.kind() == io::ErrorKind::NotFound => {
                return if self.path.is_dir() { Ok(None) } else { Err(Error::NotFound(self.id.clone())) };
            }
            Err(err) => return Err(file("read", self.state_file())(err)),
        };
        serde_json::from_slice(&text).map(Some).map_err(io::Error::from).map_err(file("read", self.state_file()))
    }

    /// Where the cgroup is, also of a container without `state.json`.
    #[must_use]
    pub fn cgroup(&self) -> Option<PathBuf> {
        fs::read_link(self.path.join("cgroup")).ok()
    }

    /// The socket on which a created container waits.
    #[must_use]
    pub fn start_socket(&self) -> PathBuf {
        self.path.join("start.sock")
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
            Some(stat) if stat.start == state.pid_start && !stat.zombie => {
                Ok(if self.start_socket().exists() { Status::Created } else { Status::Running })
            }
            _ => Ok(Status::Stopped),
        }
    }

    /// Removes it. One that is gone is fine.
    ///
    /// # Errors
    /// unlink(2)'s and rmdir(2)'s.
    pub fn remove(&self) -> Result<()> {
        match fs::remove_dir_all(&self.path) {
            Err(err) if err.kind() != io::ErrorKind::NotFound => Err(file("remove", &self.path)(err)),
            _ => Ok(()),
        }
    }

    fn state_file(&self) -> PathBuf {
        self.path.join("state.json")
    }
}

/// Writes a file so that nobody sees it half-written. It need not outlive the host's power: neither do containers.
pub(crate) fn replace(path: &Path, content: &[u8]) -> Result<()> {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{}.tmp", std::process::id()));
    let temporary = PathBuf::from(name);
    let written = File::create(&temporary).and_then(|mut file| file.write_all(content));
    written.and_then(|()| fs::rename(&temporary, path)).map_err(|err| {
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
            host_mount: None,
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
        StateDir::new(Path::new("/r"), "8c1d-app-0_+.x").unwrap();
    }

    #[test]
    fn a_directory_tells_the_status() {
        let root = tempfile::tempdir().unwrap();
        let dir = StateDir::new(&root.path().join("deep/root"), "c").unwrap();
        assert!(matches!(dir.load(), Err(Error::NotFound(_))));
        dir.create(Path::new("/sys/fs/cgroup/c")).unwrap();
        assert!(matches!(dir.create(Path::new("/x")), Err(Error::Exists(_))));
        assert_eq!(dir.load().unwrap(), None);
        assert_eq!(dir.status(None).unwrap(), Status::Creating);
        assert_eq!(dir.cgroup(), Some("/sys/fs/cgroup/c".into()));

        let pid = std::process::id().cast_signed();
        let start = process::stat(Pid::from_raw(pid)).unwrap().unwrap().start;
        dir.save(&state(pid, start)).unwrap();
        let loaded = dir.load().unwrap().unwrap();
        assert_eq!(loaded, state(pid, start));
        assert_eq!(dir.status(Some(&loaded)).unwrap(), Status::Running);
        fs::write(dir.start_socket(), "").unwrap();
        assert_eq!(dir.status(Some(&loaded)).unwrap(), Status::Created);
        assert_eq!(dir.status(Some(&state(pid, start + 1))).unwrap(), Status::Stopped, "the pid is somebody else's");
        dir.remove().unwrap();
        dir.remove().unwrap();
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
