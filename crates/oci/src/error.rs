//! What can go wrong, and how it is told.

use std::io;
use std::path::PathBuf;

use nix::errno::Errno;
use podwright_sys::cgroup::CgroupError;
use podwright_sys::netlink::MoveError;
use podwright_sys::seccomp::CompileError;

use crate::config::ConfigError;
use crate::plan::PlanError;
use crate::status::{STATE_VERSION, Status};
use crate::systemd::BusError;

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The command line is wrong.
    #[error("{0}; see `podwright-oci --help`")]
    Usage(String),
    /// The configuration cannot be read.
    #[error("{}", path.display())]
    Config {
        /// The file.
        path: PathBuf,
        /// Why.
        source: ConfigError,
    },
    /// The configuration asks for what this runtime cannot do.
    #[error("{}", path.display())]
    Plan {
        /// The file.
        path: PathBuf,
        /// Which field, and why.
        source: PlanError,
    },
    /// The cgroup cannot be made as asked for.
    #[error("linux.resources")]
    Resources(#[source] CgroupError),
    /// The cgroup is no place for a container.
    #[error("linux.cgroupsPath")]
    Place(#[source] CgroupError),
    /// Another operation on the container's cgroup failed.
    #[error(transparent)]
    Cgroup(#[from] CgroupError),
    /// A network device cannot be moved into the container.
    #[error("linux.netDevices.{name}")]
    NetDevice {
        /// The device.
        name: String,
        /// Why.
        source: MoveError,
    },
    /// There are no groups for caches and memory bandwidth.
    #[error("linux.intelRdt: is asked for, and no resctrl file system is mounted")]
    NoResctrl,
    /// A group for caches and memory bandwidth cannot be used.
    #[error("linux.intelRdt: group {} {problem}", group.display())]
    Rdt {
        /// Its directory.
        group: PathBuf,
        /// Why.
        problem: String,
    },
    /// systemd did not make the cgroup, or not change it.
    #[error("--systemd-cgroup")]
    Systemd(#[source] BusError),
    /// The seccomp profile cannot be compiled.
    #[error("linux.seccomp")]
    Seccomp(#[from] CompileError),
    /// The container's first process could not become the program.
    #[error("{0}")]
    Container(String),
    /// A system call failed.
    #[error("{what}")]
    Kernel {
        /// What was tried.
        what: String,
        /// The kernel's answer.
        source: Errno,
    },
    /// A file operation failed.
    #[error("{what} {}", path.display())]
    File {
        /// What was tried, as a verb.
        what: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// The id cannot be a directory name.
    #[error("container id {0:?}: at most 255 letters, digits and _ + - . are accepted, but neither . nor ..")]
    InvalidId(String),
    /// There is a container with this id.
    #[error("container with given ID already exists: {0} exists already; delete it first")]
    Exists(String),
    /// There is none.
    #[error("container does not exist: {0}")]
    NotFound(String),
    /// The container's state does not allow the command.
    #[error("{}: container {id} is {}", refusal(command, *found), found.as_str())]
    WrongStatus {
        /// Which container.
        id: String,
        /// Its status.
        found: Status,
        /// What was asked for.
        command: &'static str,
    },
    /// Another command works on the container.
    #[error("container {id} is busy: another command has been working on it for {seconds} s")]
    Busy {
        /// Which container.
        id: String,
        /// How long was waited.
        seconds: u64,
    },
    /// A newer version of this program has written the state.
    #[error(
        "{}: version {found} found, up to {} known: it was written by a newer podwright-oci; use that one",
        path.display(), STATE_VERSION
    )]
    StateVersion {
        /// The file.
        path: PathBuf,
        /// The version it names.
        found: u32,
    },
    /// The container's processes did not stop or go on.
    #[error("container {id} was not {wanted} within {seconds} s")]
    Freezer {
        /// Which container.
        id: String,
        /// `paused` or `resumed`.
        wanted: &'static str,
        /// How long was waited.
        seconds: u64,
    },
    /// A new limit is below what is used, and the resources ask for a check.
    #[error("linux.resources.memory.limit: {limit} is below the {used} bytes in use (checkBeforeUpdate)")]
    MemoryInUse {
        /// The new limit in bytes.
        limit: u64,
        /// What the container uses.
        used: u64,
    },
    /// There is a configuration already.
    #[error("{}: exists; remove it first", .0.display())]
    SpecExists(PathBuf),
    /// The host's ps(1) is of no use.
    #[error("ps: {0}")]
    Ps(String),
    /// The cgroup has processes of somebody else.
    #[error("linux.cgroupsPath: cgroup {} has processes already", .0.display())]
    CgroupInUse(PathBuf),
    /// A hook failed.
    #[error("{kind} hook {}: {problem}", path.display())]
    Hook {
        /// Such as `prestart`.
        kind: &'static str,
        /// The program.
        path: PathBuf,
        /// How it failed.
        problem: String,
    },
    /// Capabilities that the container does without: a warning, in runc's words.
    #[error("process.capabilities: ignoring unknown or unavailable capabilities: [{0}]")]
    NotGranted(String),
    /// A signal name is not known.
    #[error("unknown signal {0:?}; a number from 1 to 64 or a name such as TERM is accepted")]
    Signal(String),
}

/// Why a status refuses a command, in runc's words: callers look for them.
fn refusal(command: &str, found: Status) -> String {
    match (command, found) {
        ("start", Status::Running) => "cannot start an already running container".into(),
        ("start", Status::Stopped) => "cannot start a container that has stopped".into(),
        ("delete", _) => "cannot delete a container that is not stopped (use --force)".into(),
        ("exec", Status::Paused) => "cannot exec in a paused container (use --ignore-paused to override)".into(),
        ("exec", Status::Stopped) => "cannot exec in a stopped container".into(),
        ("resume", Status::Created | Status::Running) => "container not paused".into(),
        ("kill" | "pause" | "resume" | "update" | "events", Status::Stopped) => "container not running".into(),
        _ => format!("cannot {command} a container in this state"),
    }
}

pub(crate) type Result<T> = std::result::Result<T, Error>;

pub(crate) fn kernel(what: impl Into<String>) -> impl FnOnce(Errno) -> Error {
    let what = what.into();
    move |source| Error::Kernel { what, source }
}

pub(crate) fn file(what: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Error {
    let path = path.into();
    move |source| Error::File { what, path, source }
}
