//! What an earlier agent left of pods, read at the start.

use std::ffi::OsString;
use std::io;

use super::Context;
use super::holding::{find_unusable, was_cut_short};
use super::kept::{Kept, KeptError, is_of};
use super::recover;
use crate::paths::POD_FILE;
use crate::unusable::{self, Unusable};

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
pub fn load(ctx: &Context) -> io::Result<Pods> {
    std::fs::create_dir_all(ctx.paths.state_pods())?;
    let mut pods = Pods { kept: Vec::new(), unusable: Vec::new() };
    for directory in unusable::directories(&ctx.paths.state_pods())? {
        let (directory, read) = match directory {
            Ok(directory) => {
                let read = Kept::read(&directory.join(POD_FILE), &ctx.clock);
                let read = read.and_then(|kept| is_of(&directory, &kept.document().pod.uid).map(|()| kept));
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
            Err(KeptError::Read(error)) if error.kind() == io::ErrorKind::NotFound => {}
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
