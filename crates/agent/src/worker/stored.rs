//! What an earlier agent left of pods, read at the start.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use podwright_proto as proto;
use serde::de::IgnoredAny;

use super::holding::{find_unusable, was_cut_short};
use super::kept::{Kept, KeptError, Reading, is_of, read_file};
use super::{Context, leftovers, recover};
use crate::paths::POD_FILE;
use crate::unusable::{self, Claimant, Unusable};

/// What an earlier agent left of pods.
#[derive(Debug)]
pub struct Pods {
    /// What can be used; the newest of a name last, so that it decides what is in force.
    pub(super) kept: Vec<Kept>,
    /// What cannot.
    pub(super) unusable: Vec<Unusable>,
}

/// Reads what is kept of every pod, and removes sandboxes that belong to none.
///
/// # Errors
/// When the state directory cannot be listed.
pub fn load(ctx: &Arc<Context>) -> io::Result<Pods> {
    let mut pods = Pods { kept: Vec::new(), unusable: Vec::new() };
    let folder = ctx.paths.state_pods();
    let mut reading = Reading::new();
    leftovers::resume(ctx, &folder);
    // It is made with the first pod.
    let directories = if folder.try_exists()? { unusable::directories(&folder)? } else { Vec::new() };
    for directory in directories {
        let (Ok(path) | Err((path, _))) = &directory;
        if path.file_name().is_some_and(leftovers::is_aside) {
            continue;
        }
        leftovers::resume(ctx, path);
        let (directory, read) = match directory {
            Ok(directory) => {
                let read = reading.insist(|| {
                    let kept = Kept::read(&directory.join(POD_FILE), &ctx.storage, &ctx.clock)?;
                    is_of(&directory, &kept.document().pod.uid)?;
                    // What has ended never looks at its records again but to tell of them.
                    if kept.ended.is_none() {
                        check_records(&directory)?;
                    }
                    Ok(kept)
                });
                (directory, read)
            }
            Err((path, error)) => (path, Err(error.into())),
        };
        match read {
            Ok(kept) => {
                kept.claimant().keep(&directory);
                pods.kept.push(kept);
            }
            // Its records stay: attempts go on counting if the pod comes again.
            Err(KeptError::Read(error)) if error.kind() == io::ErrorKind::NotFound && !Claimant::is_in(&directory) => {}
            // It was there, and nobody knows what has become of it.
            Err(KeptError::Read(error)) if error.kind() == io::ErrorKind::NotFound => {
                let lost = KeptError::Lost { name: POD_FILE };
                pods.unusable.push(find_unusable(ctx, &directory, &lost));
            }
            Err(error) if was_cut_short(&directory, &error) => tracing::info!(
                directory = %directory.display(),
                "the power went while this pod was accepted; nothing of it has run"
            ),
            Err(error) => pods.unusable.push(find_unusable(ctx, &directory, &error)),
        }
    }
    let known: Vec<&str> = pods.kept.iter().map(|kept| kept.document().pod.uid.as_str()).collect();
    let known: Vec<OsString> =
        known.into_iter().chain(pods.unusable.iter().map(|one| one.uid.as_str())).map(OsString::from).collect();
    recover::remove_strays(ctx, &known);
    pods.kept
        .sort_by_key(|kept| (kept.ended.is_none(), kept.ended.as_ref().map(|e| (!e.archived, e.at)), kept.accepted_at));
    Ok(pods)
}

/// Whether what a pod has run can be told by its records. A damaged one tells that an instance was there, and counts as one whose end
/// nobody saw; one of a newer podwright, or what is no file, tells less than that.
fn check_records(directory: &Path) -> Result<(), KeptError> {
    let of = |path: &Path, why: KeptError| {
        let file = path.strip_prefix(directory).unwrap_or(path).to_owned();
        KeptError::Record { file, why: Box::new(why) }
    };
    let list = |path: &Path| -> Result<Vec<PathBuf>, KeptError> {
        let found = match fs::symlink_metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other.map_err(|error| of(path, error.into()))?,
        };
        if !found.is_dir() {
            return Err(of(path, KeptError::NoFile { what: "is no directory".to_owned() }));
        }
        let entries = fs::read_dir(path).and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect());
        entries.map_err(|error| of(path, error.into()))
    };
    for container in list(&directory.join("records"))? {
        for record in list(&container)?.iter().filter(|path| path.extension().is_some_and(|end| end == "json")) {
            match read_file::<IgnoredAny>(record, proto::VERSION) {
                Ok(_) | Err(KeptError::Damaged(_)) => {}
                Err(why) => return Err(of(record, why)),
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_that_tell_nothing_are_told_from_damaged_ones() {
        let dir = tempfile::tempdir().unwrap();
        check_records(dir.path()).unwrap();
        let (container, record) = (dir.path().join("records/app"), dir.path().join("records/app/0.json"));
        fs::create_dir_all(&container).unwrap();
        for text in ["", "{", "{\"version\": 1}"] {
            fs::write(&record, text).unwrap();
            check_records(dir.path()).unwrap();
        }
        let said = || check_records(dir.path()).unwrap_err().to_string();
        fs::write(&record, "{\"version\": 2}").unwrap();
        assert!(said().contains("records/app/0.json, which has version 2"), "{}", said());
        fs::remove_file(&record).unwrap();
        nix::unistd::mkfifo(&record, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert!(said().contains("is a fifo"), "{}", said());
        fs::remove_dir_all(&container).unwrap();
        std::os::unix::fs::symlink("/", &container).unwrap();
        assert!(said().contains("records/app, which is no directory"), "{}", said());
    }
}
