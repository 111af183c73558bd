//! What the agent keeps about an object of any kind on disk: `STATE/PLURAL/UID/`.
//!
//! `object.json` is the object and where it comes from, written when that changes; `state.json` is what has become of it, which is
//! small and written with every change. Both are atomic, and written through [`Storage`]: what the disk has not taken yet is what is
//! read back. An object comes into force with its state, which is written first; but that it stays away is in force before its removal.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use podwright_core::manifest::{Document, Spec, from_value};
use podwright_core::objects::{Origin, OwnerReference};
use podwright_sys::durable::{self, Durability};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::error::{StateError, is_of, parse, refused};
use super::identity::Claimant;
use super::legacy;
use super::state_file::{STATE, StateFile, VERSION, read_state};
use crate::clock::Clock;
use crate::sources::wanted::{Wanted, WantedOf};
use crate::storage::{Listener, Storage};

/// The object.
pub const OBJECT: &str = "object.json";

/// An object as it is kept.
#[derive(Debug, Clone)]
pub struct Kept<S: Spec> {
    /// The object, and where it comes from.
    pub wanted: WantedOf<S>,
    /// What has become of it.
    pub state: S::State,
}

impl<S: Spec> PartialEq for Kept<S> {
    fn eq(&self, other: &Self) -> bool {
        self.state == other.state && self.is_of(&other.wanted)
    }
}

#[derive(Serialize, Deserialize)]
struct ObjectFile<'a> {
    version: u32,
    origin: Origin,
    manifest: std::borrow::Cow<'a, Value>,
}

/// Which files are to be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Both.
    All,
    /// What has become of the object.
    State,
}

impl<S: Spec> Kept<S> {
    /// The object as written and resolved.
    pub fn document(&self) -> &Arc<Document<S>> {
        &self.wanted.object
    }

    /// The object as resolved.
    pub fn spec(&self) -> &S {
        &self.wanted.object.spec
    }

    /// What has made it.
    pub fn owner(&self) -> Option<&OwnerReference> {
        self.wanted.origin.owner()
    }

    /// Whether it is wanted as it is kept.
    pub fn is_of(&self, wanted: &WantedOf<S>) -> bool {
        let same = Arc::ptr_eq(&self.wanted.object, &wanted.object) || self.wanted.object == wanted.object;
        same && self.wanted.origin == wanted.origin
    }

    /// Its directory below the state directory.
    pub fn directory(&self, state_dir: &Path) -> PathBuf {
        state_dir.join(S::KIND.plural()).join(self.spec().names().uid)
    }

    /// Reads what is in `directory`.
    ///
    /// # Errors
    /// When there is none, or it is not usable.
    pub fn read(directory: &Path, storage: &Storage, clock: &Clock) -> Result<Kept<S>, StateError> {
        let (origin, manifest, state) = match storage.read(&directory.join(OBJECT)) {
            Ok(bytes) => {
                let file: ObjectFile<'_> = parse(&bytes, VERSION)?;
                let state: StateFile<S::State> = read_state(directory, storage)?;
                (file.origin, file.manifest.into_owned(), state.taken_up(clock))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let old = legacy::read::<S>(directory, storage, clock)?;
                (old.origin, old.manifest, old.state.taken_up(clock))
            }
            Err(error) => return Err(error.into()),
        };
        let object = from_value::<S>(&manifest).map_err(|problems| refused(&problems))?;
        is_of(directory, object.uid())?;
        Ok(Kept { wanted: Wanted { origin, object }, state })
    }

    /// Writes it as soon as the disk takes it; `listener` is told after every try.
    pub fn keep(
        &self,
        (state_dir, part): (&Path, Part),
        storage: &Arc<Storage>,
        clock: &Clock,
        durability: Durability,
        listener: Option<Listener>,
    ) {
        let directory = self.directory(state_dir);
        let (claimant, place, mut listener) = (Claimant::of(&self.wanted), directory.clone(), listener);
        let claims: Listener = Box::new(move |result| {
            listener.iter_mut().for_each(|listener| listener(result));
            if result.is_ok() && part == Part::All {
                let (claimant, place) = (claimant.clone(), place.clone());
                tokio::task::spawn_blocking(move || claimant.keep(&place));
            }
        });
        let files = self.files(part, clock).map(|(name, text)| (directory.join(name), text.into())).collect();
        storage.keep_all(&directory, files, durability, Some(claims));
    }

    /// Writes it now.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn write(&self, state_dir: &Path, clock: &Clock) -> anyhow::Result<()> {
        let directory = self.directory(state_dir);
        if !directory.is_dir() {
            std::fs::create_dir_all(&directory)?;
            for above in directory.ancestors().skip(1).take(2) {
                durable::sync_directory(above)?;
            }
        }
        for (name, text) in self.files(Part::All, clock) {
            durable::write_atomic(&directory.join(name), &text, Durability::Synced)?;
        }
        Claimant::of(&self.wanted).keep(&directory);
        Ok(())
    }

    /// In the order in which they are written.
    fn files(&self, part: Part, clock: &Clock) -> impl Iterator<Item = (&'static str, Vec<u8>)> + use<S> {
        let state = (STATE, text(&StateFile::now(clock, &self.state)));
        let object = (part == Part::All).then(|| {
            let manifest = std::borrow::Cow::Borrowed(&self.wanted.object.manifest);
            (OBJECT, text(&ObjectFile { version: VERSION, origin: self.wanted.origin.clone(), manifest }))
        });
        let (first, last) =
            if self.wanted.origin.is_suppressed() { (object, Some(state)) } else { (Some(state), object) };
        first.into_iter().chain(last)
    }
}

fn text(file: &impl Serialize) -> Vec<u8> {
    // Strings and numbers all through: it has a form in JSON.
    serde_json::to_vec(file).unwrap_or_default()
}
