//! What an earlier agent has left of objects, read at the start.

use std::io;
use std::path::Path;
use std::sync::Arc;

use podwright_core::manifest::Spec;
use podwright_core::objects::Kind;
use podwright_sys::durable::{self, Durability};
use podwright_sys::tree;

use super::error::{Reading, StateError};
use super::identity::Claimant;
use super::legacy;
use super::object::{Kept, OBJECT, Part};
use super::unusable::{self, Unusable};
use crate::clock::Clock;
use crate::storage::{Listener, Storage};

/// What is kept of the objects of one kind.
#[derive(Debug)]
pub struct Loaded<S: Spec> {
    /// What can be used.
    pub kept: Vec<Kept<S>>,
    /// What cannot: it is left as it is, and its names stay taken.
    pub unusable: Vec<Unusable>,
}

/// What of a kind is different when it is read.
pub trait Care<S: Spec> {
    /// Whether an entry of the folder is none of an object.
    fn passes_over(&self, path: &Path) -> bool;
    /// What else has to be usable of an object that can be read.
    ///
    /// # Errors
    /// Why it is not.
    fn check(&self, directory: &Path, kept: &Kept<S>) -> Result<(), StateError>;
    /// A directory without an object, which nobody claims: it was being accepted, or removed, when the agent ended.
    fn unclaimed(&self, directory: &Path);
    /// All that can be found out about an object of which the state cannot be used; `None`: nothing has come of it yet.
    fn find(&self, directory: &Path, error: &StateError) -> Option<Unusable>;
}

/// As most kinds are read.
#[derive(Debug)]
pub struct Plain;

impl<S: Spec> Care<S> for Plain {
    fn passes_over(&self, _path: &Path) -> bool {
        false
    }

    fn check(&self, _directory: &Path, _kept: &Kept<S>) -> Result<(), StateError> {
        Ok(())
    }

    fn unclaimed(&self, directory: &Path) {
        forget(S::KIND, directory);
    }

    fn find(&self, directory: &Path, error: &StateError) -> Option<Unusable> {
        Some(Unusable::find(S::KIND, directory, error))
    }
}

/// Everything that is kept of objects of a kind.
///
/// # Errors
/// When their folder cannot be listed.
pub fn load<S: Spec>(
    (state_dir, storage, clock): (&Path, &Arc<Storage>, &Clock),
    care: &impl Care<S>,
) -> io::Result<Loaded<S>> {
    let (mut all, mut reading) = (Loaded { kept: Vec::new(), unusable: Vec::new() }, Reading::new());
    let folder = state_dir.join(S::KIND.plural());
    // It is made with the first of them.
    if !folder.try_exists()? {
        return Ok(all);
    }
    for entry in unusable::directories(&folder)? {
        let (Ok(path) | Err((path, _))) = &entry;
        if care.passes_over(path) {
            continue;
        }
        let (directory, read) = match entry {
            Ok(directory) => {
                let read = reading.insist(|| {
                    let kept = Kept::read(&directory, storage, clock)?;
                    care.check(&directory, &kept)?;
                    Ok(kept)
                });
                (directory, read)
            }
            Err((path, error)) => (path, Err(error.into())),
        };
        match read {
            Ok(kept) => {
                carry_over((state_dir, storage, clock), &directory, &kept);
                Claimant::of(&kept.wanted).keep(&directory);
                all.kept.push(kept);
            }
            Err(StateError::Read(error)) if error.kind() == io::ErrorKind::NotFound && !Claimant::is_in(&directory) => {
                care.unclaimed(&directory);
            }
            // It was there, and nobody knows what has become of it.
            Err(StateError::Read(error)) if error.kind() == io::ErrorKind::NotFound => {
                all.unusable.extend(care.find(&directory, &StateError::Lost { name: OBJECT }));
            }
            Err(error) => all.unusable.extend(care.find(&directory, &error)),
        }
    }
    Ok(all)
}

/// What podwright 0.1 has written is written anew, and removed once that is on disk.
fn carry_over<S: Spec>((state_dir, storage, clock): (&Path, &Arc<Storage>, &Clock), directory: &Path, kept: &Kept<S>) {
    let old = directory.join(legacy::file(S::KIND));
    if !old.exists() {
        return;
    }
    let remove: Listener = Box::new(move |result| {
        let removed =
            result.map_err(str::to_owned).and_then(|()| std::fs::remove_file(&old).map_err(|e| e.to_string()));
        if let Err(error) = removed {
            tracing::debug!(file = %old.display(), error, "state of podwright 0.1 is not replaced yet");
        }
    });
    kept.keep((state_dir, Part::All), storage, clock, Durability::Synced, Some(remove));
}

/// Removes what is kept: whose it is and the object first, so that a half removed one counts as none.
pub fn forget(kind: Kind, directory: &Path) {
    let gone = |result: io::Result<()>| match result {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    };
    let removed = Claimant::forget(directory)
        .and_then(|()| gone(std::fs::remove_file(directory.join(OBJECT))))
        .and_then(|()| gone(std::fs::remove_file(directory.join(legacy::file(kind)))))
        .and_then(|()| if directory.is_dir() { durable::sync_directory(directory) } else { Ok(()) })
        .and_then(|()| Ok(tree::remove(directory)?))
        .and_then(|()| directory.parent().map_or(Ok(()), durable::sync_directory));
    if let Err(error) = removed {
        tracing::error!(directory = %directory.display(), %error, "what is kept of a removed object cannot be removed");
    }
}

#[cfg(test)]
#[path = "load_tests.rs"]
mod tests;
