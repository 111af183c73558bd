//! Objects of which the state on disk cannot be used: a newer podwright wrote it, it is damaged, or it is no file at all.
//!
//! Nobody knows what has become of such an object, so its name stays taken: nothing of that name is accepted or run, nothing of it is
//! removed or written over, and it is shown with what is wrong. A user discards it, or the podwright that can read it is put back.
//!
//! Who it is stands in a file of its own beside the state, [`Claimant`], which is written once: what damages one file need not have
//! damaged both. Without it the state itself is asked, as far as it can be read, and for a pod what else bears its name.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use podwright_core::manifest;
use podwright_core::objects::{Identity, Kind, OwnerReference};
use podwright_sys::error::chain;
use podwright_sys::own::{MAX_STATE, read_regular};
use serde_json::Value;

use super::error::StateError;
use super::identity::{Claimant, is_name, owner_of};
use super::legacy;
use super::object::OBJECT;

/// An object of which the state cannot be used.
#[derive(Debug, Clone, PartialEq)]
pub struct Unusable {
    /// Its kind.
    pub kind: Kind,
    /// `metadata.uid`: the directory's name.
    pub uid: String,
    /// Namespace and name, where they are known.
    pub name: Option<(String, String)>,
    /// What made it.
    pub owner: Option<OwnerReference>,
    /// The object, if it can be read and is accepted.
    pub object: Option<Value>,
    /// Its directory.
    pub directory: PathBuf,
    /// What is wrong, for people.
    pub problem: String,
    /// Processes of it run, and nobody looks after them.
    pub runs: bool,
}

impl Unusable {
    /// Finds out as much as can be about the owner of `directory`, whose state is not usable for `error`'s sake.
    pub fn find(kind: Kind, directory: &Path, error: &StateError) -> Unusable {
        let main = match error {
            StateError::Part { name, .. } if *name == legacy::file(kind) => name,
            _ if fs::symlink_metadata(directory.join(OBJECT)).is_err()
                && directory.join(legacy::file(kind)).exists() =>
            {
                legacy::file(kind)
            }
            _ => OBJECT,
        };
        let uid = directory.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let problem = match error {
            StateError::Lost { name } => format!("{} is gone", directory.join(name).display()),
            StateError::Part { name, why } => format!("{} {}", directory.join(name).display(), chain(&**why)),
            StateError::Record { file, why } => format!("{} {}", directory.join(file).display(), chain(&**why)),
            _ if !directory.is_dir() || directory.is_symlink() => format!("{} {}", directory.display(), chain(error)),
            _ => format!("{} {}", directory.join(main).display(), chain(error)),
        };
        let mut found = Unusable {
            kind,
            uid,
            name: None,
            owner: None,
            object: None,
            directory: directory.to_owned(),
            problem,
            runs: false,
        };
        if directory.is_symlink() {
            return found;
        }
        let content = read_regular(&directory.join(main), MAX_STATE).ok();
        found.take(&content.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default());
        if let Some(claimant) = Claimant::read(directory).filter(|claimant| claimant.kind == kind) {
            found.name = Some((claimant.namespace, claimant.name));
            found.owner = claimant.owner.or(found.owner);
        }
        found
    }

    /// Takes what a file of state tells that is JSON at least. Other versions may mean something else by it, so it is used to show and
    /// to find a name, never to go on.
    fn take(&mut self, content: &Value) {
        let manifest = &content["manifest"];
        let metadata = &manifest["metadata"];
        let namespace = metadata["namespace"].as_str().unwrap_or("default");
        if let Some(name) = metadata["name"].as_str().filter(|name| is_name(name) && is_name(namespace)) {
            self.name = Some((namespace.to_owned(), name.to_owned()));
        }
        let owner = [&content["origin"]["owner"], &content["owner"]].into_iter().find(|owner| !owner.is_null());
        self.owner = owner.and_then(|owner| owner_of(self.kind, owner));
        let object = manifest::resource_from_value(manifest).ok().filter(|object| object.kind() == self.kind);
        let object = object.map(|object| manifest::api(&object));
        self.object = object.filter(|object| object["metadata"]["uid"] == self.uid.as_str());
    }

    /// What its name takes. One without a known name goes by its uid.
    pub fn identity(&self) -> Identity {
        match &self.name {
            Some((namespace, name)) => Identity::new(self.kind, namespace, name),
            None => Identity::new(self.kind, "default", &self.uid),
        }
    }
}

/// The directories of a folder of state, one an object; an error for what should be one and is none. Anything else is left alone.
///
/// # Errors
/// When the folder cannot be listed.
pub fn directories(folder: &Path) -> io::Result<Vec<Result<PathBuf, (PathBuf, io::Error)>>> {
    let mut all = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let (path, found) = (entry.path(), entry.file_type()?);
        if found.is_dir() {
            all.push(Ok(path));
        } else if path.file_name().and_then(|name| name.to_str()).is_some_and(is_uid) {
            let what = if found.is_symlink() { "is a symbolic link" } else { "is a file" };
            let error = io::Error::new(io::ErrorKind::InvalidData, format!("{what}, not a directory"));
            all.push(Err((path, error)));
        } else {
            tracing::warn!(path = %path.display(), "it is no object's, and left alone");
        }
    }
    Ok(all)
}

/// As in 8-4-4-4-12 hexadecimal digits.
fn is_uid(name: &str) -> bool {
    let lengths: Vec<usize> = name.split('-').map(str::len).collect();
    lengths == [8, 4, 4, 4, 12] && name.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-')
}

#[cfg(test)]
mod tests {
    use super::super::identity::FILE;
    use super::*;

    fn damaged() -> StateError {
        serde_json::from_slice::<Value>(b"{").unwrap_err().into()
    }

    #[test]
    fn who_it_is_survives_damage_to_either_file() {
        let dir = tempfile::tempdir().unwrap();
        let owner = OwnerReference { kind: Kind::CronJob, name: "c".into(), uid: "u".into() };
        Claimant::new(Kind::Job, "shop", "import", Some(owner.clone())).keep(dir.path());
        fs::write(dir.path().join("job.json"), "noise").unwrap();
        let found = Unusable::find(Kind::Job, dir.path(), &damaged());
        assert_eq!(found.identity(), Identity::new(Kind::Job, "shop", "import"));
        assert_eq!(found.owner, Some(owner));
        assert!(found.problem.contains("job.json is damaged"), "{}", found.problem);
        // The other way round: what another version keeps is looked through for a name.
        fs::write(dir.path().join(FILE), "noise").unwrap();
        let newer = r#"{"version": 2, "manifest": {"metadata": {"namespace": "shop", "name": "other"}}, "new": []}"#;
        fs::write(dir.path().join("job.json"), newer).unwrap();
        let found = Unusable::find(Kind::Job, dir.path(), &StateError::Version { found: 2, known: 1 });
        assert_eq!(found.identity(), Identity::new(Kind::Job, "shop", "other"));
        // Neither: it goes by its uid.
        fs::write(dir.path().join("job.json"), "noise").unwrap();
        let found = Unusable::find(Kind::Job, dir.path(), &damaged());
        assert_eq!((found.name.clone(), found.identity().name), (None, found.uid));
    }

    #[test]
    fn a_name_out_of_a_damaged_file_is_a_name() {
        for text in ["", "../x", "a b", "\u{1b}[31m", "A", &"a".repeat(254)] {
            assert!(!is_name(text), "{text:?}");
        }
        assert!(is_name("web-1.example"));
    }

    #[test]
    fn what_stands_for_a_directory_and_is_none_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let uid = |n: u32| format!("{n:08x}-0000-8000-8000-000000000000");
        fs::create_dir(dir.path().join(uid(1))).unwrap();
        std::os::unix::fs::symlink("/", dir.path().join(uid(2))).unwrap();
        fs::write(dir.path().join(uid(3)), "").unwrap();
        fs::write(dir.path().join("lost+found"), "").unwrap();
        let mut all = directories(dir.path()).unwrap();
        all.sort_by_key(|entry| match entry {
            Ok(path) | Err((path, _)) => path.clone(),
        });
        assert!(matches!(&all[..], [Ok(_), Err(_), Err(_)]), "{all:?}");
    }
}
