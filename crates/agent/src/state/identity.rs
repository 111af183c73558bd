//! Who a directory of state belongs to, in a file of its own, `identity.json`, which is written once: what damages it need not have
//! damaged the state as well.

use std::fs;
use std::io;
use std::path::Path;

use podwright_core::manifest::Spec;
use podwright_core::objects::{Kind, OwnerReference};
use podwright_sys::durable::{Durability, write_atomic};
use podwright_sys::own::{MAX_STATE, read_regular};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::sources::wanted::WantedOf;

/// Version of [`Claimant`]'s file.
const VERSION: u32 = 1;
pub(super) const FILE: &str = "identity.json";
/// Longest name and namespace of an object (RFC 1123), with room.
const MAX_NAME: usize = 253;

/// Who a directory of state belongs to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claimant {
    version: u32,
    /// Its kind.
    pub kind: Kind,
    /// `metadata.namespace`.
    pub namespace: String,
    /// `metadata.name`.
    pub name: String,
    /// What has made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<OwnerReference>,
}

impl Claimant {
    /// An object's.
    pub fn of<S: Spec>(wanted: &WantedOf<S>) -> Claimant {
        let names = wanted.object.spec.names();
        Claimant::new(S::KIND, names.namespace, names.name, wanted.origin.owner().cloned())
    }

    /// By its names.
    pub fn new(kind: Kind, namespace: &str, name: &str, owner: Option<OwnerReference>) -> Claimant {
        Claimant { version: VERSION, kind, namespace: namespace.to_owned(), name: name.to_owned(), owner }
    }

    /// Sees to it that it stands in `directory`. What could not be written is written with the next state, or by the next agent.
    pub fn keep(&self, directory: &Path) {
        if Claimant::read(directory).as_ref() == Some(self) {
            return;
        }
        let written = serde_json::to_vec(self)
            .map_err(io::Error::from)
            .and_then(|text| write_atomic(&directory.join(FILE), &text, Durability::Rename).map_err(io::Error::other));
        if let Err(error) = written {
            tracing::debug!(directory = %directory.display(), %error, "who it belongs to is not written down yet");
        }
    }

    /// Whether a directory has one, usable or not: it is written after the state itself, and removed before it.
    pub fn is_in(directory: &Path) -> bool {
        fs::symlink_metadata(directory.join(FILE)).is_ok()
    }

    /// Gives the directory up, which is about to be removed: without its state it is nobody's then, however far the removal comes.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn forget(directory: &Path) -> io::Result<()> {
        match fs::remove_file(directory.join(FILE)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Reads it; `None`: there is none, or it is not usable.
    pub fn read(directory: &Path) -> Option<Claimant> {
        let bytes = read_regular(&directory.join(FILE), MAX_STATE).ok()?;
        let mut content: Value = serde_json::from_slice(&bytes).ok()?;
        let kind: Kind = serde_json::from_value(content["kind"].clone()).ok()?;
        if !content["owner"].is_null() {
            content["owner"] = serde_json::to_value(owner_of(kind, &content["owner"])).ok()?;
        }
        let claimant: Claimant = serde_json::from_value(content).ok()?;
        (is_name(&claimant.namespace) && is_name(&claimant.name)).then_some(claimant)
    }
}

/// What an object of this kind says of its owner: agents that knew one kind of owner did not name it.
pub fn owner_of(kind: Kind, written: &Value) -> Option<OwnerReference> {
    let mut owner = written.clone();
    if let Some(fields) = owner.as_object_mut() {
        fields.entry("kind").or_insert(json!(kind.owner()?));
    }
    serde_json::from_value(owner).ok()
}

/// What may be a name of an object: it comes from a file that may hold anything.
pub fn is_name(text: &str) -> bool {
    let is_of_names = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-' || byte == b'.';
    !text.is_empty() && text.len() <= MAX_NAME && text.bytes().all(is_of_names)
}
