//! What an earlier agent has left of pods: their state, and the records of what they have run.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use podwright_core::objects::Kind;
use podwright_core::pod::spec::PodSpec;
use podwright_proto::{self as proto, Record};
use podwright_sys::own::{MAX_STATE, read_regular};
use serde::de::IgnoredAny;
use serde_json::Value;

use super::error::{StateError, read_file};
use super::identity::is_name;
use super::legacy;
use super::load::{Care, Loaded, load};
use super::object::{Kept, OBJECT};
use super::state_file::STATE;
use super::unusable::Unusable;
use crate::context::Context;
use crate::node::{leftovers, setup::cgroups, strays};
use crate::paths::SANDBOX_FILE;

/// Names of log directories below this are not cut ([`crate::paths::log_directory`]).
const LONG_LOG_NAME: usize = 200;

/// Reads what is kept of every pod, the newest of a name last, so that it decides what is in force; and removes sandboxes that belong
/// to none.
///
/// # Errors
/// When the state directory cannot be listed.
pub fn load_pods(ctx: &Arc<Context>) -> io::Result<Loaded<PodSpec>> {
    leftovers::resume(ctx, &ctx.paths.state_pods());
    let mut pods = load((ctx.paths.state(), &ctx.storage, &ctx.clock), &OfPods { ctx })?;
    let known = pods.kept.iter().map(|kept| kept.spec().uid.as_str());
    let known: Vec<OsString> =
        known.chain(pods.unusable.iter().map(|one| one.uid.as_str())).map(OsString::from).collect();
    strays::remove(ctx, &known);
    pods.kept.sort_by_key(|kept| {
        let ended = kept.state.ended.as_ref();
        (ended.is_none(), ended.map(|end| (!end.archived, end.at)), kept.state.accepted_at)
    });
    Ok(pods)
}

struct OfPods<'a> {
    ctx: &'a Arc<Context>,
}

impl Care<PodSpec> for OfPods<'_> {
    fn passes_over(&self, path: &Path) -> bool {
        if path.file_name().is_some_and(leftovers::is_aside) {
            return true;
        }
        leftovers::resume(self.ctx, path);
        false
    }

    fn check(&self, directory: &Path, kept: &Kept<PodSpec>) -> Result<(), StateError> {
        // What has ended never looks at its records again but to tell of them.
        if kept.state.ended.is_none() { check_records(directory) } else { Ok(()) }
    }

    /// Its records stay: attempts go on counting if the pod comes again.
    fn unclaimed(&self, _directory: &Path) {}

    fn find(&self, directory: &Path, error: &StateError) -> Option<Unusable> {
        if was_cut_short(directory, error) {
            let directory = directory.display();
            tracing::info!(%directory, "the power went while this pod was accepted; nothing of it has run");
            return None;
        }
        Some(find_unusable(self.ctx, directory, error))
    }
}

/// All that can be found out about a pod whose state cannot be used.
fn find_unusable(ctx: &Context, directory: &Path, error: &StateError) -> Unusable {
    let mut found = Unusable::find(Kind::Pod, directory, error);
    if found.name.is_none() {
        found.name = name_elsewhere(ctx, &found.uid);
    }
    found.runs = cgroups(ctx, &found.uid).iter().any(|cgroup| cgroup.populated().unwrap_or(false));
    found
}

/// The name of a pod by what bears it besides its state: its sandbox, its logs.
fn name_elsewhere(ctx: &Context, uid: &str) -> Option<(String, String)> {
    let names = |namespace: &str, name: &str| {
        (is_name(namespace) && is_name(name)).then(|| (namespace.to_owned(), name.to_owned()))
    };
    let sandbox = read_regular(&ctx.paths.run_pods().join(uid).join(SANDBOX_FILE), MAX_STATE).ok();
    let sandbox: Value = sandbox.and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default();
    if let (Some(namespace), Some(name)) = (sandbox["namespace"].as_str(), sandbox["name"].as_str())
        && sandbox["uid"] == uid
    {
        return names(namespace, name);
    }
    fs::read_dir(&ctx.fixed.log_dir).into_iter().flatten().flatten().find_map(|entry| {
        // The name in a longer one may have been cut.
        let log = entry.file_name().into_string().ok().filter(|log| log.len() < LONG_LOG_NAME)?;
        let (namespace, name) = log.strip_suffix(uid)?.strip_suffix('_')?.split_once('_')?;
        names(namespace, name)
    })
}

/// Whether an empty file is what a power cut leaves of a pod that was just accepted, since the first write of one that has not run
/// before is not synced. One that has seen an instance end was more than that.
fn was_cut_short(directory: &Path, error: &StateError) -> bool {
    let is_empty = |path: &Path| fs::symlink_metadata(path).is_ok_and(|found| found.is_file() && found.len() == 0);
    let why = if let StateError::Part { why, .. } = error { why } else { error };
    matches!(why, StateError::Damaged(_))
        && [OBJECT, STATE, legacy::file(Kind::Pod)].into_iter().any(|file| is_empty(&directory.join(file)))
        && !has_ended(&directory.join("records"))
}

/// Whether a record tells of an end, or it cannot be known that none does.
fn has_ended(records: &Path) -> bool {
    let list = |directory: &Path| match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
        Ok(entries) => entries.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<PathBuf>>>(),
    };
    let tells = |file: &PathBuf| match read_regular(file, MAX_STATE) {
        Ok(text) if text.is_empty() => false,
        Ok(text) => serde_json::from_slice::<Record>(&text).map_or(true, |record| record.exit.is_some()),
        Err(_) => true,
    };
    let Ok(containers) = list(records) else { return true };
    containers.iter().any(|container| list(container).map_or(true, |files| files.iter().any(tells)))
}

/// Whether what a pod has run can be told by its records. A damaged one tells that an instance was there, and counts as one whose end
/// nobody saw; one of a newer podwright, or what is no file, tells less than that.
fn check_records(directory: &Path) -> Result<(), StateError> {
    let of = |path: &Path, why: StateError| {
        let file = path.strip_prefix(directory).unwrap_or(path).to_owned();
        StateError::Record { file, why: Box::new(why) }
    };
    let list = |path: &Path| -> Result<Vec<PathBuf>, StateError> {
        let found = match fs::symlink_metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other.map_err(|error| of(path, error.into()))?,
        };
        if !found.is_dir() {
            return Err(of(path, StateError::NoFile { what: "is no directory".to_owned() }));
        }
        let entries = fs::read_dir(path).and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect());
        entries.map_err(|error| of(path, error.into()))
    };
    for container in list(&directory.join("records"))? {
        for record in list(&container)?.iter().filter(|path| path.extension().is_some_and(|end| end == "json")) {
            match read_file::<IgnoredAny>(record, proto::VERSION) {
                Ok(_) | Err(StateError::Damaged(_)) => {}
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
