//! Where pods come from: the manifest directory.
//!
//! [`directory`] watches it and reads what changed into a [`Listing`]; [`decide`] says what follows, as values; the
//! manager in [`crate::worker`] carries that out.

pub mod decide;
pub mod directory;
mod parse;
mod read;
mod watch;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use podwright_core::manifest::Document;
use podwright_core::pod::spec::PodSpec;

/// Which object: kind is always Pod.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Identity {
    /// `metadata.namespace`.
    pub namespace: String,
    /// `metadata.name`.
    pub name: String,
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

impl Identity {
    /// Of a pod.
    pub fn of(pod: &PodSpec) -> Identity {
        Identity { namespace: pod.namespace.clone(), name: pod.name.clone() }
    }
}

/// What a file of the directory turned out to be.
#[derive(Debug, Clone, PartialEq)]
pub enum Seen {
    /// All of it is valid.
    Good {
        /// Of its bytes, in hex.
        digest: String,
        /// In the order of the file.
        objects: Vec<Arc<Document>>,
        /// Accepted fields without an effect, and the like: `FILE:LINE: …`.
        notes: Vec<String>,
    },
    /// It cannot be used; why, a line each.
    Bad {
        /// `FILE:LINE: field: found, accepted`.
        problems: Vec<String>,
    },
    /// Somebody has it open for writing: there will be another look.
    Busy,
    /// Not a manifest by its name or type.
    Ignored {
        /// Why.
        reason: &'static str,
    },
}

/// Everything in the directory, by file name.
pub type Listing = BTreeMap<String, Seen>;
