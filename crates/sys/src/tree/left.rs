//! What could not be removed, and why.

use std::fmt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;

/// Of each kind, how many are told by name.
const NAMED: usize = 8;
/// Longest path in a message, characters.
const LONGEST: usize = 300;

/// Something of a tree is left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoveError {
    left: Left,
}

impl RemoveError {
    pub(super) fn of(path: &Path, errno: Errno) -> Self {
        let mut left = Left::default();
        left.failure(path.to_owned(), errno);
        RemoveError { left }
    }

    /// Mount points in it, the first few: what is behind them was not touched. Once they are unmounted, it can be removed.
    #[must_use]
    pub fn mounts(&self) -> &[PathBuf] {
        &self.left.mounts
    }

    /// What could not be removed for another reason, the first few.
    #[must_use]
    pub fn failures(&self) -> &[(PathBuf, Errno)] {
        &self.left.failures
    }
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Left {
    mounts: Vec<PathBuf>,
    failures: Vec<(PathBuf, Errno)>,
    /// Those that are not named.
    more: u64,
}

impl Left {
    pub(super) fn mount(&mut self, path: PathBuf) {
        if self.mounts.len() < NAMED { self.mounts.push(path) } else { self.more += 1 }
    }

    pub(super) fn failure(&mut self, path: PathBuf, errno: Errno) {
        if self.failures.len() < NAMED { self.failures.push((path, errno)) } else { self.more += 1 }
    }

    /// Nothing named, and yet not gone: it is being filled.
    pub(super) fn into_error(mut self, path: &Path) -> RemoveError {
        if self.mounts.is_empty() && self.failures.is_empty() {
            self.failure(path.to_owned(), Errno::ENOTEMPTY);
        }
        RemoveError { left: self }
    }
}

impl fmt::Display for RemoveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for path in &self.left.mounts {
            let path = shown(path);
            write!(f, "{separator}{path} is a mount point; unmount it, then it is removed")?;
            separator = "; ";
        }
        for (path, errno) in &self.left.failures {
            write!(f, "{separator}{} cannot be removed: {}", shown(path), errno.desc())?;
            separator = "; ";
        }
        match self.left.more {
            0 => Ok(()),
            more => write!(f, "; and {more} more"),
        }
    }
}

impl std::error::Error for RemoveError {}

/// A path that somebody else has named, as a word in a message: printable and not too long.
fn shown(path: &Path) -> String {
    let text = path.to_string_lossy();
    let escaped: String = text.escape_debug().collect();
    let length = escaped.chars().count();
    if length <= LONGEST {
        return escaped;
    }
    let head: String = escaped.chars().take(LONGEST / 2).collect();
    let tail: String = escaped.chars().skip(length - LONGEST / 2).collect();
    format!("{head}[…]{tail}")
}
