//! What podwright 0.1 kept: `pod.json` of a pod, with its state; `job.json` of jobs and cron jobs, beside a `state.json` as it is
//! still. Read where there is no `object.json`, which is written at the start then, and takes its place.

use std::path::Path;

use jiff::Timestamp;
use podwright_core::ledger::{Asker, Cause};
use podwright_core::manifest::Spec;
use podwright_core::objects::{FileOrigin, Kind, Origin};
use podwright_core::pod::observe::Deletion;
use podwright_core::pod::state::{Ended, PodState};
use podwright_proto::Stamp;
use serde::Deserialize;
use serde_json::Value;

use super::error::{StateError, parse};
use super::identity::owner_of;
use super::state_file::{StateFile, VERSION, read_state};
use crate::clock::Clock;
use crate::storage::Storage;

/// The name of the file.
pub(super) fn file(kind: Kind) -> &'static str {
    if kind == Kind::Pod { "pod.json" } else { "job.json" }
}

/// What was kept.
pub(super) struct Old<T> {
    pub(super) origin: Origin,
    pub(super) manifest: Value,
    pub(super) state: StateFile<T>,
}

/// What both files have.
#[derive(Deserialize)]
struct Head {
    file: String,
    digest: String,
    suppressed: bool,
    manifest: Value,
    #[serde(default)]
    owner: Value,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PodFile {
    boot_id: String,
    accepted_at: Stamp,
    first_sandbox: u32,
    restart_below: u32,
    restart_at: Option<Stamp>,
    deletion: Option<DeletionFile>,
    /// Who made the request: [`Asker::name`].
    removed_by: Option<String>,
    /// Why they did, for people.
    #[serde(default)]
    removed_why: String,
    evicted: Option<(Stamp, String)>,
    ended: Option<EndedFile>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct DeletionFile {
    requested_at: Stamp,
    deadline: Stamp,
}

#[derive(Deserialize)]
struct EndedFile {
    at: Stamp,
    status: Value,
    #[serde(default)]
    stopped: bool,
    archived: bool,
}

/// What only a cron job has.
#[derive(Deserialize)]
struct CronFile {
    #[serde(default)]
    removing: bool,
    removed_at: Option<Timestamp>,
}

/// Reads it.
///
/// # Errors
/// When there is none, or it is not usable.
pub(super) fn read<S: Spec>(directory: &Path, storage: &Storage, clock: &Clock) -> Result<Old<S::State>, StateError> {
    let name = file(S::KIND);
    // That there is none is told of the file that should be there.
    let bytes = storage.read(&directory.join(name))?;
    let read = || -> Result<Old<S::State>, StateError> {
        let head: Head = parse(&bytes, VERSION)?;
        let owner = (!head.owner.is_null()).then(|| owner_of(S::KIND, &head.owner)).flatten();
        let file = FileOrigin { file: head.file, digest: head.digest, suppressed: head.suppressed };
        let origin = owner.map_or(Origin::Directory(file), Origin::Owner);
        Ok(Old { origin, manifest: head.manifest, state: state::<S>(&bytes, directory, storage, clock)? })
    };
    read().map_err(|error| match error {
        error @ (StateError::Lost { .. } | StateError::Part { .. }) => error,
        other => StateError::Part { name, why: Box::new(other) },
    })
}

fn state<S: Spec>(
    bytes: &[u8],
    directory: &Path,
    storage: &Storage,
    clock: &Clock,
) -> Result<StateFile<S::State>, StateError> {
    match S::KIND {
        Kind::Pod => {
            let state = serde_json::to_value(StateFile::now(clock, pod(serde_json::from_slice(bytes)?, clock)))?;
            Ok(serde_json::from_value(state)?)
        }
        Kind::CronJob => {
            let file: CronFile = serde_json::from_slice(bytes)?;
            let mut state = serde_json::to_value(read_state::<Value>(directory, storage)?)?;
            // Agents that kept no time only said that.
            let removed_at = file.removed_at.or_else(|| file.removing.then(|| clock.wall()));
            if let (Some(at), Some(fields)) = (removed_at, state["state"].as_object_mut()) {
                fields.entry("removedAt").or_insert(serde_json::to_value(at)?);
            }
            Ok(serde_json::from_value(state)?)
        }
        _ => read_state(directory, storage),
    }
}

fn pod(file: PodFile, clock: &Clock) -> PodState {
    let time = |stamp| clock.time_of(stamp, &file.boot_id);
    PodState {
        accepted_at: time(file.accepted_at),
        first_sandbox: file.first_sandbox,
        restart_below: file.restart_below,
        restart_at: file.restart_at.map(time),
        deletion: file.deletion.map(|deletion| Deletion {
            cause: Cause {
                by: file.removed_by.as_deref().map_or(Asker::Deletion, Asker::of_name),
                text: file.removed_why.clone(),
            },
            requested_at: time(deletion.requested_at),
            deadline: time(deletion.deadline),
        }),
        evicted: file.evicted.clone().map(|(at, message)| (time(at), message)),
        ended: file.ended.map(|ended| Ended {
            at: time(ended.at),
            status: ended.status,
            stopped: ended.stopped,
            archived: ended.archived,
        }),
    }
}
