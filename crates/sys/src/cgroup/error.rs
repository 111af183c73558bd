//! What can go wrong with a cgroup.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long [`super::Cgroup::remove`] waits for killed processes to be gone. A process in an uninterruptible wait can outlast it.
pub const REMOVE_TIMEOUT: Duration = Duration::from_secs(10);

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

/// The outcome of an operation on a cgroup.
pub(super) type Result<T> = std::result::Result<T, CgroupError>;

/// What failed where.
pub(super) fn io_error<'a>(op: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> CgroupError + 'a {
    move |source| CgroupError::Io { op, path: path.to_owned(), source }
}
