//! Where objects come from: the manifest directory.
//!
//! [`task`] watches it and reads what changed into a [`Listing`]; [`decide`] says what follows, as values; the
//! registry ([`crate::registry`]) carries that out.

pub mod decide;
pub mod held;
mod looks;
mod parse;
mod read;
pub mod task;
mod watch;

use podwright_core::manifest::Resource;
use podwright_core::time::Time;
use std::collections::BTreeMap;

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
