//! What can go wrong, and how it is told.

use std::error::Error as StdError;
use std::io;
use std::path::PathBuf;

use nix::errno::Errno;
use podwright_sys::cgroup::CgroupError;
use podwright_sys::netlink::MoveError;
use podwright_sys::seccomp::CompileError;

use crate::plan::PlanError;

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
    #[error("container id {0:?}: only letters, digits and _ + - . are accepted")]
    InvalidId(String),
    /// There is a container with this id.
    #[error("container {0} exists already; delete it first")]
    Exists(String),
    /// There is none.
    #[error("container {0} does not exist")]
    NotFound(String),
    /// The container's state does not allow the command.
    #[error("container {id} is {found}; {command} needs it to be {needed}")]
    WrongStatus {
        /// Which container.
        id: String,
        /// Its status.
        found: &'static str,
        /// What was asked for.
        command: &'static str,
        /// The status that this needs.
        needed: &'static str,
    },
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
    /// A signal name is not known.
    #[error("unknown signal {0:?}; a number from 1 to 64 or a name such as TERM is accepted")]
    Signal(String),
}

/// Why a configuration cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file.
    #[error("cannot be read")]
    Read(#[from] io::Error),
    /// Its content.
    #[error("is not a valid runtime configuration")]
    Parse(#[from] serde_json::Error),
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

/// An error and its causes in one line; the kernel's answers in its own words (`No such file or directory`).
#[must_use]
pub fn chain(error: &(dyn StdError + 'static)) -> String {
    let mut text = in_words(error);
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&in_words(cause));
        next = cause.source();
    }
    text
}

fn in_words(error: &(dyn StdError + 'static)) -> String {
    let errno = error.downcast_ref::<Errno>().copied().or_else(|| {
        let number = error.downcast_ref::<io::Error>()?.raw_os_error()?;
        Some(Errno::from_raw(number))
    });
    errno.map_or_else(|| error.to_string(), |errno| errno.desc().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chains_name_every_cause_once() {
        let missing = Error::File { what: "read", path: "/a".into(), source: io::Error::from_raw_os_error(2) };
        assert_eq!(chain(&missing), "read /a: No such file or directory");
        let config =
            Error::Config { path: "/b/config.json".into(), source: ConfigError::Read(io::ErrorKind::NotFound.into()) };
        assert_eq!(chain(&config), "/b/config.json: cannot be read: entity not found");
    }
}
