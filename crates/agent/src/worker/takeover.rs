//! The sandbox that an earlier agent made: found by its `sandbox.json`, and where that is damaged or gone by its shim, which answers at
//! its socket and is in the pod's cgroup. A healthy pod is not begun anew for the sake of a file.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;

use podwright_core::manifest::Document;
use podwright_core::pod::plan::Notice;
use podwright_proto::{Event, SandboxConfig, VERSION};
use podwright_sys::cgroup::Cgroup;
use podwright_sys::error::chain;
use podwright_sys::own::{MAX_STATE, read_regular};
use podwright_sys::tree;
use tokio::time::timeout;

use super::holding::cgroups;
use super::records::READ_RETRY;
use super::sandbox::ANSWER_TIMEOUT;
use super::{Context, publish, setup};
use crate::paths::PodPaths;
use crate::shim::Connection;

/// Why a `sandbox.json` tells nothing.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConfigError {
    #[error("cannot be read")]
    Read(#[from] io::Error),
    #[error("is damaged")]
    Damaged(#[from] serde_json::Error),
    #[error("has version {found}, and this podwright reads version {VERSION}")]
    Version { found: u32 },
    /// Whoever acts on it kills what is in the cgroup.
    #[error("names the uid {uid} and the cgroup {cgroup:?}, which are not this pod's")]
    Foreign { uid: String, cgroup: String },
}

impl ConfigError {
    /// Whether another try may tell more: the file is there, or may be, and was not given.
    fn may_pass(&self) -> bool {
        match self {
            ConfigError::Read(error) => !matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::InvalidData),
            ConfigError::Damaged(_) | ConfigError::Version { .. } | ConfigError::Foreign { .. } => false,
        }
    }
}

/// Reads a `sandbox.json` of the pod of this uid.
///
/// # Errors
/// When there is none, or it is not usable.
pub(super) fn read_config(path: &Path, uid: &str) -> Result<SandboxConfig, ConfigError> {
    let config: SandboxConfig = serde_json::from_slice(&read_regular(path, MAX_STATE)?)?;
    if config.version != VERSION {
        return Err(ConfigError::Version { found: config.version });
    }
    let is_its = config.cgroup.file_name().is_some_and(|name| *name == *format!("pod{uid}"));
    if config.uid != uid || !is_its {
        let cgroup = config.cgroup.display().to_string();
        return Err(ConfigError::Foreign { uid: config.uid, cgroup });
    }
    Ok(config)
}

/// The number and the cgroup of the sandbox that may be up.
pub(super) async fn find(ctx: &Arc<Context>, document: &Arc<Document>, paths: &PodPaths) -> Option<(u32, Cgroup)> {
    loop {
        match look(ctx, document, paths).await {
            Ok(found) => return found,
            // Nothing is known of it yet, and what is taken for gone is killed.
            Err(error) => tracing::warn!(uid = document.pod.uid, error, "whether a pod has a sandbox is not known yet"),
        }
        tokio::time::sleep(READ_RETRY).await;
    }
}

/// One try.
///
/// # Errors
/// Why it cannot be known now.
async fn look(ctx: &Arc<Context>, document: &Arc<Document>, paths: &PodPaths) -> Result<Option<(u32, Cgroup)>, String> {
    let (file, uid) = (paths.sandbox(), document.pod.uid.clone());
    let read = tokio::task::spawn_blocking(move || read_config(&file, &uid)).await;
    let problem = match read {
        Ok(Ok(config)) => return Ok(Some((config.number, Cgroup::at(config.cgroup)))),
        Ok(Err(problem)) => problem,
        Err(error) => ConfigError::Read(io::Error::other(error)),
    };
    // A reboot leaves neither; a pod that was never started has neither.
    let is_gone = matches!(&problem, ConfigError::Read(error) if error.kind() == io::ErrorKind::NotFound);
    if is_gone && !paths.run.exists() && cgroups(ctx, &document.pod.uid).is_empty() {
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
                    tracing::error!(uid = document.pod.uid, error, "the sandbox's file could not be written anew");
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
async fn ask(ctx: &Arc<Context>, document: &Document, paths: &PodPaths) -> Result<(u32, i32, Cgroup), String> {
    let mut connection = Connection::open_patiently(&paths.socket()).await.map_err(|error| chain(&error))?;
    let answer = timeout(ANSWER_TIMEOUT, connection.next()).await;
    let event = answer.map_err(|_| "its shim does not answer".to_owned())?;
    let Some(Event::State { sandbox, pid, .. }) = event.map_err(|error| chain(&error))? else {
        return Err("its shim says nothing of itself".to_owned());
    };
    let has_it = |cgroup: &Cgroup| cgroup.all_procs().is_ok_and(|pids| pids.contains(&pid));
    match cgroups(ctx, &document.pod.uid).into_iter().find(has_it) {
        Some(cgroup) => Ok((sandbox, pid, cgroup)),
        None => Err(format!("process {pid}, which answers at its socket, is not in the pod's cgroup")),
    }
}

fn mend(ctx: &Context, document: &Document, paths: &PodPaths, cgroup: &Cgroup, number: u32) -> Result<(), String> {
    if fs::symlink_metadata(paths.sandbox()).is_ok_and(|found| !found.is_file()) {
        tree::remove(&paths.sandbox()).map_err(|error| chain(&error))?;
    }
    setup::write_config(ctx, &document.pod, paths, cgroup, number).map_err(|error| chain(&error))
}

/// An earlier agent's sandbox is not up any more, and has been removed.
pub(super) fn tell_lost(ctx: &Context, document: &Document, number: u32) {
    let message =
        format!("sandbox {number} could not be taken over: its shim does not answer; what was left of it is removed");
    tell(ctx, document, "SandboxNotTakenOver", message);
}

/// An event, and a line in the log.
fn tell(ctx: &Context, document: &Document, reason: &'static str, message: String) {
    let spec = &document.pod;
    tracing::warn!(pod = %format_args!("{}/{}", spec.namespace, spec.name), reason, "{message}");
    let notice = Notice { reason, message, warning: true, container: None };
    ctx.store.record_event(publish::event(spec, &notice, ctx.clock.now()));
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    #[test]
    fn a_file_that_would_kill_others_is_not_believed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sandbox.json");
        let config = |version, uid: &str, cgroup: &str| SandboxConfig {
            version,
            uid: uid.into(),
            namespace: "default".into(),
            name: "p".into(),
            number: 3,
            boot_id: "b".into(),
            hostname: None,
            unshare_net: false,
            unshare_ipc: false,
            cgroup: PathBuf::from(cgroup),
            records: "/r".into(),
            run: "/r".into(),
            files: None,
        };
        let write = |config: &SandboxConfig| fs::write(&path, serde_json::to_vec(config).unwrap()).unwrap();
        write(&config(VERSION, "u", "/sys/fs/cgroup/podwright.slice/podu"));
        assert_eq!(read_config(&path, "u").unwrap().number, 3);
        for cgroup in ["/sys/fs/cgroup", "/sys/fs/cgroup/podwright.slice/podother", "/", ""] {
            write(&config(VERSION, "u", cgroup));
            assert!(matches!(read_config(&path, "u"), Err(ConfigError::Foreign { .. })), "{cgroup}");
        }
        write(&config(VERSION, "other", "/sys/fs/cgroup/podwright.slice/podu"));
        assert!(matches!(read_config(&path, "u"), Err(ConfigError::Foreign { .. })));
        write(&config(VERSION + 1, "u", "/sys/fs/cgroup/podwright.slice/podu"));
        assert!(matches!(read_config(&path, "u"), Err(ConfigError::Version { .. })));
        fs::write(&path, "{").unwrap();
        assert!(matches!(read_config(&path, "u"), Err(ConfigError::Damaged(_))));
        fs::remove_file(&path).unwrap();
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert!(matches!(read_config(&path, "u"), Err(ConfigError::Read(_))));
    }
}
