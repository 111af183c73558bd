//! What is to run, whoever says so.

use std::sync::Arc;

use podwright_core::manifest::{Document, Resource, Spec};
use podwright_core::objects::{FileOrigin, Identity, Origin, OwnerReference};

/// An object that is to run, and where it comes from.
#[derive(Debug, Clone, PartialEq)]
pub struct Wanted<T> {
    /// Where it comes from.
    pub origin: Origin,
    /// The object.
    pub object: T,
}

/// An object of one kind that is to run.
pub type WantedOf<S> = Wanted<Arc<Document<S>>>;

impl<T> Wanted<T> {
    /// What a file of the directory describes.
    pub fn from_file(file: FileOrigin, object: T) -> Wanted<T> {
        Wanted { origin: Origin::Directory(file), object }
    }

    /// What another object has made.
    pub fn from_owner(owner: OwnerReference, object: T) -> Wanted<T> {
        Wanted { origin: Origin::Owner(owner), object }
    }
}

impl<S: Spec> WantedOf<S> {
    /// As one of all kinds.
    pub fn wrap(self) -> Wanted<Resource> {
        Wanted { origin: self.origin, object: S::wrap(self.object) }
    }
}

impl Wanted<Resource> {
    /// Which object.
    pub fn identity(&self) -> Identity {
        Identity::of(&self.object)
    }

    /// As one of this kind, if it is.
    pub fn unwrap<S: Spec>(self) -> Option<WantedOf<S>> {
        Some(Wanted { origin: self.origin, object: S::unwrap(self.object)? })
    }
}
