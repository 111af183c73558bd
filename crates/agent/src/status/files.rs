//! What became of each file of the manifest directory (`podwright get files`).

use serde::{Deserialize, Serialize};

/// The agent's word on one file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FileReport {
    /// The file's path.
    pub file: String,
    /// What became of its present content.
    pub state: FileState,
    /// `namespace/name` of every pod that runs because of it, its last good content included.
    pub pods: Vec<String>,
    /// Why it was rejected or ignored; one line each, complete for people (line, field path, found, accepted).
    pub problems: Vec<String>,
}

/// What became of a file's present content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FileState {
    /// All of it is in force.
    Ok,
    /// It has a problem; what it last described correctly goes on.
    Rejected,
    /// It cannot be read, since the file system that it is on does not answer; what it last described correctly goes on.
    Unresponsive,
    /// Not a manifest by its name or type; never read.
    Ignored,
}
