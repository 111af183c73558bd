//! Where objects come from.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::kind::Kind;

/// Where an object comes from: what changes it, and what it goes with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Origin {
    /// A file of the manifest directory describes it.
    Directory(FileOrigin),
    /// Another object has made it.
    Owner(OwnerReference),
}

/// An object's file in the manifest directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FileOrigin {
    /// Its name in the directory.
    pub file: String,
    /// Of its bytes when the object was taken from it last, in hex.
    pub digest: String,
    /// The object was deleted by hand, and stays away until the file's bytes change.
    pub suppressed: bool,
}

/// `metadata.ownerReferences`: a job's pod belongs to its job, a cron job's job to its cron job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwnerReference {
    /// `kind`.
    pub kind: Kind,
    /// `name`; the namespace is that of what is owned.
    pub name: String,
    /// `uid`.
    pub uid: String,
}

impl Origin {
    /// What has made the object.
    pub fn owner(&self) -> Option<&OwnerReference> {
        match self {
            Origin::Owner(owner) => Some(owner),
            Origin::Directory(_) => None,
        }
    }

    /// The file that describes the object.
    pub fn file(&self) -> Option<&FileOrigin> {
        match self {
            Origin::Directory(file) => Some(file),
            Origin::Owner(_) => None,
        }
    }

    /// Whether the object was deleted by hand, and stays away.
    pub fn is_suppressed(&self) -> bool {
        self.file().is_some_and(|file| file.suppressed)
    }
}

impl OwnerReference {
    /// The list of owners of what is owned, as the API shows it.
    pub fn to_references(&self) -> Value {
        json!([{"apiVersion": self.kind.api_version(), "kind": self.kind.name(), "name": self.name, "uid": self.uid,
                "controller": true, "blockOwnerDeletion": true}])
    }
}
