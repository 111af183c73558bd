//! Files of state: how they are read, and why one cannot be used.

use std::path::{Path, PathBuf};
use std::time::Duration;

use podwright_core::manifest::Problem;
use podwright_sys::own::{MAX_STATE, read_regular};
use serde::Deserialize;
use serde::de::DeserializeOwned;

/// A file that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// It cannot be read.
    #[error("cannot be read")]
    Read(#[source] std::io::Error),
    /// It is no file of ours.
    #[error("{what}")]
    NoFile {
        /// What it is.
        what: String,
    },
    /// It is not what an agent writes.
    #[error("is damaged")]
    Damaged(#[from] serde_json::Error),
    /// Another version wrote it.
    #[error("has version {found}, and this podwright reads version {known}")]
    Version {
        /// What was found.
        found: u32,
        /// What is read.
        known: u32,
    },
    /// It is of another object than its directory.
    #[error("is of another object, with the uid {uid}")]
    Foreign {
        /// Which.
        uid: String,
    },
    /// A file that belongs to it is gone.
    #[error("comes without its {name}")]
    Lost {
        /// Which.
        name: &'static str,
    },
    /// A file that belongs to it cannot be used.
    #[error("comes with a {name} that {why}")]
    Part {
        /// Which.
        name: &'static str,
        /// Why.
        why: Box<StateError>,
    },
    /// The same of a record of an instance.
    #[error("comes with {file}, which {why}")]
    Record {
        /// Which, below the pod's directory.
        file: PathBuf,
        /// Why.
        why: Box<StateError>,
    },
    /// This version refuses the pod.
    #[error("describes a pod that this podwright does not accept: {problems}")]
    Refused {
        /// Why.
        problems: String,
    },
}

impl StateError {
    /// Whether another try may tell more: the file is there, or may be, and was not given.
    pub fn may_pass(&self) -> bool {
        match self {
            StateError::Read(error) => error.kind() != std::io::ErrorKind::NotFound,
            StateError::Part { why, .. } | StateError::Record { why, .. } => why.may_pass(),
            StateError::NoFile { .. }
            | StateError::Damaged(_)
            | StateError::Version { .. }
            | StateError::Foreign { .. }
            | StateError::Lost { .. }
            | StateError::Refused { .. } => false,
        }
    }
}

/// How long, in all, state is read again at the start that was not given: for want of descriptors or memory, by a disk that failed
/// once. An object of which the state cannot be read is held until the agent is started again.
const PATIENCE: Duration = Duration::from_secs(3);
const READ_PAUSE: Duration = Duration::from_millis(100);

/// Reads what is kept of one object after the other.
#[derive(Debug)]
pub struct Reading {
    /// What is left of the patience.
    left: Duration,
}

impl Reading {
    pub(super) fn new() -> Reading {
        Reading { left: PATIENCE }
    }

    /// Reads, and again while that may tell more and there is time left.
    pub fn insist<T>(&mut self, read: impl Fn() -> Result<T, StateError>) -> Result<T, StateError> {
        loop {
            match read() {
                Err(error) if error.may_pass() && !self.left.is_zero() => {
                    std::thread::sleep(READ_PAUSE);
                    self.left = self.left.saturating_sub(READ_PAUSE);
                }
                other => return other,
            }
        }
    }
}

impl From<std::io::Error> for StateError {
    fn from(error: std::io::Error) -> StateError {
        match error.kind() {
            std::io::ErrorKind::InvalidData => StateError::NoFile { what: error.to_string() },
            _ => StateError::Read(error),
        }
    }
}

/// What every file of state begins with, whatever its version.
#[derive(Deserialize)]
struct Versioned {
    version: u32,
}

/// Parses a file of state. One of another version is known as such, whatever else is in it.
pub fn read_file<F: DeserializeOwned>(path: &Path, version: u32) -> Result<F, StateError> {
    parse(&read_regular(path, MAX_STATE)?, version)
}

/// The same of its bytes.
///
/// # Errors
/// When it is not usable.
pub fn parse<F: DeserializeOwned>(bytes: &[u8], version: u32) -> Result<F, StateError> {
    let Versioned { version: found } = serde_json::from_slice(bytes)?;
    if found != version {
        return Err(StateError::Version { found, known: version });
    }
    Ok(serde_json::from_slice(bytes)?)
}

/// Whether the directory is that of the object of this uid, as its name says.
pub fn is_of(directory: &Path, uid: &str) -> Result<(), StateError> {
    if directory.file_name().is_some_and(|name| name == uid) {
        return Ok(());
    }
    Err(StateError::Foreign { uid: uid.to_owned() })
}

/// What this version has against an object that was accepted before.
pub fn refused(problems: &[Problem]) -> StateError {
    StateError::Refused { problems: problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ") }
}
