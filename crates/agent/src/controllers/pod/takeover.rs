//! The sandbox that an earlier agent made: found by its `sandbox.json`, and where that is damaged or gone by its shim, which answers at
//! its socket and is in the pod's cgroup. A healthy pod is not begun anew for the sake of a file.

use std::fs;
use std::io;
use std::sync::Arc;

use podwright_core::manifest::PodDocument;
use podwright_core::pod::plan::Notice;
use podwright_proto::Event;
use podwright_sys::cgroup::Cgroup;
use podwright_sys::error::chain;
use podwright_sys::tree;
use tokio::time::timeout;

use crate::context::Context;
use crate::node::records::READ_RETRY;
use crate::node::sandbox::ANSWER_TIMEOUT;
use crate::node::sandbox_file::{ConfigError, read_config};
use crate::node::setup::{self, cgroups};
use crate::node::shim::Connection;
use crate::paths::PodPaths;
use crate::status::of_pod;

/// The number and the cgroup of the sandbox that may be up.
pub(crate) async fn find(ctx: &Arc<Context>, document: &Arc<PodDocument>, paths: &PodPaths) -> Option<(u32, Cgroup)> {
    loop {
        match look(ctx, document, paths).await {
            Ok(found) => return found,
            // Nothing is known of it yet, and what is taken for gone is killed.
            Err(error) => {
                tracing::warn!(uid = document.spec.uid, error, "whether a pod has a sandbox is not known yet")
            }
        }
        tokio::time::sleep(READ_RETRY).await;
    }
}

/// One try.
///
/// # Errors
/// Why it cannot be known now.
async fn look(
    ctx: &Arc<Context>,
    document: &Arc<PodDocument>,
    paths: &PodPaths,
) -> Result<Option<(u32, Cgroup)>, String> {
    let (file, uid) = (paths.sandbox(), document.spec.uid.clone());
    let read = tokio::task::spawn_blocking(move || read_config(&file, &uid)).await;
    let problem = match read {
        Ok(Ok(config)) => return Ok(Some((config.number, Cgroup::at(config.cgroup)))),
        Ok(Err(problem)) => problem,
        Err(error) => ConfigError::Read(io::Error::other(error)),
    };
    // A reboot leaves neither; a pod that was never started has neither.
    let is_gone = matches!(&problem, ConfigError::Read(error) if error.kind() == io::ErrorKind::NotFound);
    if is_gone && !paths.run.exists() && cgroups(ctx, &document.spec.uid).is_empty() {
        return Ok(None);
    }
    let said = format!("{} {}", paths.sandbox().display(), chain(&problem));
    match ask(ctx, document, paths).await {
        Ok((number, pid, cgroup)) => {
            let message = format!("{said}; sandbox {number} was taken over by its socket (shim {pid})");
            tell(ctx, document, "SandboxTakenOver", message);
            // A newer one is left to whoever reads it.
            if !matches!(problem, ConfigError::Version { .. }) {
                let (ctx, of, paths, cgroup) = (Arc::clone(ctx), Arc::clone(document), paths.clone(), cgroup.clone());
                let mended = tokio::task::spawn_blocking(move || mend(&ctx, &of, &paths, &cgroup, number));
                if let Err(error) = mended.await.map_err(|error| error.to_string()).flatten() {
                    tracing::error!(uid = document.spec.uid, error, "the sandbox's file could not be written anew");
                }
            }
            Ok(Some((number, cgroup)))
        }
        Err(why) if problem.may_pass() => Err(format!("{said}; {why}")),
        Err(why) => {
            let message = format!("{said}; the sandbox could not be taken over ({why}): what is left of it is removed");
            tell(ctx, document, "SandboxNotTakenOver", message);
            Ok(None)
        }
    }
}

/// What the shim says of itself, and the pod's cgroup that it is in.
async fn ask(ctx: &Arc<Context>, document: &PodDocument, paths: &PodPaths) -> Result<(u32, i32, Cgroup), String> {
    let mut connection = Connection::open_patiently(&paths.socket()).await.map_err(|error| chain(&error))?;
    let answer = timeout(ANSWER_TIMEOUT, connection.next()).await;
    let event = answer.map_err(|_| "its shim does not answer".to_owned())?;
    let Some(Event::State { sandbox, pid, .. }) = event.map_err(|error| chain(&error))? else {
        return Err("its shim says nothing of itself".to_owned());
    };
    let has_it = |cgroup: &Cgroup| cgroup.all_procs().is_ok_and(|pids| pids.contains(&pid));
    match cgroups(ctx, &document.spec.uid).into_iter().find(has_it) {
        Some(cgroup) => Ok((sandbox, pid, cgroup)),
        None => Err(format!("process {pid}, which answers at its socket, is not in the pod's cgroup")),
    }
}

fn mend(ctx: &Context, document: &PodDocument, paths: &PodPaths, cgroup: &Cgroup, number: u32) -> Result<(), String> {
    if fs::symlink_metadata(paths.sandbox()).is_ok_and(|found| !found.is_file()) {
        tree::remove(&paths.sandbox()).map_err(|error| chain(&error))?;
    }
    setup::write_config(ctx, &document.spec, paths, cgroup, number).map_err(|error| chain(&error))
}

/// An earlier agent's sandbox is not up any more, and has been removed.
pub(crate) fn tell_lost(ctx: &Context, document: &PodDocument, number: u32) {
    let message =
        format!("sandbox {number} could not be taken over: its shim does not answer; what was left of it is removed");
    tell(ctx, document, "SandboxNotTakenOver", message);
}

/// An event, and a line in the log.
fn tell(ctx: &Context, document: &PodDocument, reason: &'static str, message: String) {
    let spec = &document.spec;
    tracing::warn!(pod = %format_args!("{}/{}", spec.namespace, spec.name), reason, "{message}");
    let notice = Notice { reason, message, warning: true, container: None };
    ctx.store.record_event(of_pod::event(spec, &notice, ctx.clock.now()));
}
