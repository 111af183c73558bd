//! Sandboxes and cgroups of no pod.

use std::ffi::OsString;
use std::fs;
use std::sync::Arc;

use podwright_sys::cgroup::Cgroup;
use podwright_sys::error::chain;

use super::leftovers;
use super::sandbox_file::read_config;
use crate::context::Context;
use crate::paths::SANDBOX_FILE;

/// Removes sandboxes and cgroups of pods that nothing is known of: an agent died between making and saving one, or its
/// state directory is a new one.
pub fn remove(ctx: &Arc<Context>, known: &[OsString]) {
    for entry in fs::read_dir(ctx.paths.run_pods()).into_iter().flatten().flatten() {
        if known.contains(&entry.file_name()) {
            continue;
        }
        if leftovers::is_aside(&entry.file_name()) {
            // Of a sandbox that is gone: the cgroup that it names may be that of the next one by now.
            leftovers::discard(ctx, &entry.path());
            continue;
        }
        let uid = entry.file_name().to_string_lossy().into_owned();
        let config = read_config(&entry.path().join(SANDBOX_FILE), &uid).ok();
        let cgroup = config.map(|config| Cgroup::at(config.cgroup));
        tracing::warn!(directory = %entry.path().display(), "removing a sandbox that belongs to no pod");
        match cgroup.map_or(Ok(()), |cgroup| cgroup.remove()) {
            Ok(()) => leftovers::discard(ctx, &entry.path()),
            Err(error) => {
                tracing::error!(directory = %entry.path().display(), error = chain(&error), "it cannot be removed");
            }
        }
    }
    let root = &ctx.cgroup_root;
    for class in [root.clone(), root.child("burstable"), root.child("besteffort")] {
        for entry in fs::read_dir(class.path()).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let uid = name.to_str().and_then(|name| name.strip_prefix("pod"));
            if uid.is_none_or(|uid| known.iter().any(|k| k == uid)) {
                continue;
            }
            tracing::warn!(cgroup = %entry.path().display(), "removing a cgroup that belongs to no pod");
            if let Err(error) = Cgroup::at(entry.path()).remove() {
                tracing::error!(cgroup = %entry.path().display(), error = chain(&error), "it cannot be removed");
            }
        }
    }
}
