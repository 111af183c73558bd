//! What is written to a file of a cgroup.

/// A file of the cgroup and its new content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Write {
    /// Its name.
    pub file: String,
    /// What is written.
    pub value: String,
    /// Where the kernel does not have the file although its controller is there.
    pub absent: Absent,
}

/// What to do without a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Absent {
    /// Fail: the limit would not hold.
    Fail,
    /// Go on: without the file, what was asked for is so.
    Skip,
    /// Write another file.
    Instead {
        /// Its name.
        file: String,
        /// What is written.
        value: String,
    },
}
