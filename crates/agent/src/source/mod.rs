//! Where objects come from: the manifest directory.
//!
//! [`directory`] watches it and reads what changed into a [`Listing`]; [`decide`] says what follows, as values; the
//! manager in [`crate::worker`] carries that out.

pub mod decide;
pub mod directory;
pub mod held;
mod looks;
mod parse;
mod read;
mod watch;

use podwright_core::manifest::{Kind, Resource};
use podwright_core::pod::spec::PodSpec;
use podwright_core::time::Time;
use std::collections::BTreeMap;
use std::fmt;

/// Which object.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Identity {
    /// `kind`.
    pub kind: Kind,
    /// `metadata.namespace`.
    pub namespace: String,
    /// `metadata.name`.
    pub name: String,
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}/{}", self.kind.word(), self.namespace, self.name)
    }
}

impl Identity {
    /// Of an object of a file.
    pub fn of(object: &Resource) -> Identity {
        Identity::new(object.kind(), object.namespace(), object.name())
    }

    /// Of a pod.
    pub fn of_pod(pod: &PodSpec) -> Identity {
        Identity::new(Kind::Pod, &pod.namespace, &pod.name)
    }

    /// Of what is called so.
    pub fn new(kind: Kind, namespace: &str, name: &str) -> Identity {
        Identity { kind, namespace: namespace.to_owned(), name: name.to_owned() }
    }

    /// For the list of a file's objects: `default/web`, `job default/report`.
    pub fn listed(&self) -> String {
        match self.kind {
            Kind::Pod => format!("{}/{}", self.namespace, self.name),
            Kind::Job | Kind::CronJob => self.to_string(),
        }
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
        objects: Vec<Resource>,
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
    /// A look at it has not come back: the file system that it leads to hangs. It is read as soon as that answers.
    Silent {
        /// Since when.
        since: Time,
    },
    /// Nobody was left to look at it: as many others as may be do not answer.
    Unasked,
    /// Not a manifest by its name or type.
    Ignored {
        /// Why.
        reason: &'static str,
    },
}

/// Everything in the directory, by file name.
pub type Listing = BTreeMap<String, Seen>;
