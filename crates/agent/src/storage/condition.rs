//! What a failing write says about the node, in the words that a cluster has for it: `DiskPressure` is the kubelet's,
//! `ReadonlyFilesystem` and `IOError` are the node-problem-detector's.

use std::error::Error;
use std::io;

use nix::errno::Errno;

/// Something that is wrong with the node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Condition {
    /// No space, no inodes, or a quota is used up.
    DiskPressure,
    /// The file system takes no writes, as one does that found itself damaged.
    ReadonlyFilesystem,
    /// Anything else that keeps a file from being written.
    IoError,
}

impl Condition {
    /// All of them.
    pub const ALL: [Condition; 3] = [Condition::DiskPressure, Condition::ReadonlyFilesystem, Condition::IoError];

    /// `type` of the condition.
    pub fn name(self) -> &'static str {
        match self {
            Condition::DiskPressure => "DiskPressure",
            Condition::ReadonlyFilesystem => "ReadonlyFilesystem",
            Condition::IoError => "IOError",
        }
    }

    /// `reason` of the condition.
    pub(super) fn reason(self, holds: bool) -> &'static str {
        match (self, holds) {
            (Condition::DiskPressure, true) => "AgentHasDiskPressure",
            (Condition::DiskPressure, false) => "AgentHasNoDiskPressure",
            (Condition::ReadonlyFilesystem, true) => "FilesystemIsReadOnly",
            (Condition::ReadonlyFilesystem, false) => "FilesystemIsNotReadOnly",
            (Condition::IoError, true) => "WritesFail",
            (Condition::IoError, false) => "WritesSucceed",
        }
    }

    /// `message` while all is well.
    pub(super) fn fine(self) -> &'static str {
        match self {
            Condition::DiskPressure => "the disk of the agent's state has room",
            Condition::ReadonlyFilesystem => "the file system of the agent's state can be written",
            Condition::IoError => "what the agent writes arrives",
        }
    }

    /// `reason` of the event at its begin or end.
    pub(super) fn event(self, begins: bool) -> &'static str {
        match (self, begins) {
            (Condition::DiskPressure, true) => "NodeHasDiskPressure",
            (Condition::DiskPressure, false) => "NodeHasNoDiskPressure",
            (Condition::ReadonlyFilesystem | Condition::IoError, begins) => self.reason(begins),
        }
    }
}

/// What an error says about the node, and the kernel's word for it.
pub(super) fn of(error: &(dyn Error + 'static)) -> (Condition, String) {
    let mut next = Some(error);
    let mut last = error.to_string();
    while let Some(error) = next {
        if let Some(error) = error.downcast_ref::<io::Error>()
            && let Some(errno) = error.raw_os_error()
        {
            let condition = match Errno::from_raw(errno) {
                Errno::ENOSPC | Errno::EDQUOT => Condition::DiskPressure,
                Errno::EROFS => Condition::ReadonlyFilesystem,
                _ => Condition::IoError,
            };
            return (condition, error.to_string());
        }
        last = error.to_string();
        next = error.source();
    }
    (Condition::IoError, last)
}

/// Whether an error is one of a disk that takes no writes, and not of what was to be done.
pub fn is_of_disk(error: &(dyn Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(errno) = error.downcast_ref::<io::Error>().and_then(io::Error::raw_os_error) {
            return matches!(Errno::from_raw(errno), Errno::ENOSPC | Errno::EDQUOT | Errno::EROFS | Errno::EIO);
        }
        next = error.source();
    }
    false
}

/// A text without the name of the file, which is told beside it.
pub(super) fn errno_text(message: &str) -> String {
    message.rsplit(": ").next().unwrap_or(message).to_owned()
}
