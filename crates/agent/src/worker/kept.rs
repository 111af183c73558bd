//! What the agent keeps about a pod on disk: `STATE/pods/UID/pod.json`.
//!
//! It is read and written through [`Storage`]: what the disk has not taken yet is what is read back.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use podwright_core::ledger::{Asker, Cause};
use podwright_core::manifest::{self, Document};
use podwright_core::objects::Kind;
use podwright_core::pod::observe::{Deletion, Observed};
use podwright_core::time::Time;
use podwright_proto::Stamp;
use podwright_sys::durable::{self, Durability};
use podwright_sys::own::{MAX_STATE, read_regular};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::clock::Clock;
use crate::job::Owner;
use crate::source::decide::Claim;
use crate::storage::{Listener, Storage};
use crate::unusable::Claimant;

/// Version of the file. A field may be added with `#[serde(default)]`; any other change raises it.
const VERSION: u32 = 1;

/// What must be known of a pod after a restart of the agent, besides its records.
#[derive(Debug, Clone, PartialEq)]
pub struct Kept {
    /// The object and where it came from.
    pub claim: Claim,
    /// When this run of it was accepted.
    pub accepted_at: Time,
    /// Sandboxes of earlier runs have smaller numbers.
    pub first_sandbox: u32,
    /// Sandboxes with smaller numbers are to be replaced (`podwright restart`).
    pub restart_below: u32,
    /// When that was asked for.
    pub restart_at: Option<Time>,
    /// The request to remove it.
    pub deletion: Option<Deletion>,
    /// A volume over its limit: when, and the message.
    pub evicted: Option<(Time, String)>,
    /// The job that made it; `None`: it comes from a file.
    pub owner: Option<Owner>,
    /// Set when it will never do anything again.
    pub ended: Option<Ended>,
}

/// The end of a pod.
#[derive(Debug, Clone, PartialEq)]
pub struct Ended {
    /// When it ended.
    pub at: Time,
    /// Its last `v1.PodStatus`.
    pub status: Value,
    /// A main was told to stop before it ended.
    pub stopped: bool,
    /// It is no longer wanted by any file (or was deleted by hand): not listed, but readable.
    pub archived: bool,
}

impl Kept {
    /// A pod that was just accepted.
    pub fn new(claim: Claim, now: Time) -> Kept {
        Kept {
            claim,
            accepted_at: now,
            first_sandbox: 1,
            restart_below: 0,
            restart_at: None,
            deletion: None,
            evicted: None,
            owner: None,
            ended: None,
        }
    }

    /// The pod as written and resolved.
    pub fn document(&self) -> &Arc<Document> {
        &self.claim.object
    }

    /// Takes over what has to be kept; `true` if something was new.
    pub fn follow(&mut self, observed: &Observed) -> bool {
        let before = self.clone();
        self.accepted_at = observed.accepted_at;
        self.first_sandbox = observed.first_sandbox;
        self.restart_below = observed.restart_below;
        self.restart_at = observed.restart_at;
        self.deletion.clone_from(&observed.deletion);
        self.evicted.clone_from(&observed.evicted);
        *self != before
    }
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct PodFile {
    version: u32,
    /// Of the boot in which the stamps' boot times were taken.
    boot_id: String,
    file: String,
    digest: String,
    suppressed: bool,
    manifest: Value,
    accepted_at: Stamp,
    first_sandbox: u32,
    restart_below: u32,
    restart_at: Option<Stamp>,
    deletion: Option<DeletionFile>,
    /// Who made the request: [`Asker::name`].
    #[serde(default)]
    removed_by: Option<String>,
    /// Why they did, for people.
    #[serde(default)]
    removed_why: String,
    evicted: Option<(Stamp, String)>,
    #[serde(default)]
    owner: Option<Owner>,
    ended: Option<EndedFile>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct DeletionFile {
    requested_at: Stamp,
    deadline: Stamp,
}

#[derive(Debug, Serialize, Deserialize)]
struct EndedFile {
    at: Stamp,
    status: Value,
    #[serde(default)]
    stopped: bool,
    archived: bool,
}

/// A file that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeptError {
    /// It cannot be read.
    #[error("cannot be read")]
    Read(#[source] std::io::Error),
    /// It is no file of ours.
    #[error("{what}")]
    NoFile {
        /// What it is.
        what: String,
    },
    /// It is not what an agent writes.
    #[error("is damaged")]
    Damaged(#[from] serde_json::Error),
    /// Another version wrote it.
    #[error("has version {found}, and this podwright reads version {VERSION}")]
    Version {
        /// What was found.
        found: u32,
    },
    /// It is of another object than its directory.
    #[error("is of another object, with the uid {uid}")]
    Foreign {
        /// Which.
        uid: String,
    },
    /// A file that belongs to it is gone.
    #[error("comes without its {name}")]
    Lost {
        /// Which.
        name: &'static str,
    },
    /// A file that belongs to it cannot be used.
    #[error("comes with a {name} that {why}")]
    Part {
        /// Which.
        name: &'static str,
        /// Why.
        why: Box<KeptError>,
    },
    /// The same of a record of an instance.
    #[error("comes with {file}, which {why}")]
    Record {
        /// Which, below the pod's directory.
        file: PathBuf,
        /// Why.
        why: Box<KeptError>,
    },
    /// This version refuses the pod.
    #[error("describes a pod that this podwright does not accept: {problems}")]
    Refused {
        /// Why.
        problems: String,
    },
}

impl KeptError {
    /// Whether another try may tell more: the file is there, or may be, and was not given.
    pub(crate) fn may_pass(&self) -> bool {
        match self {
            KeptError::Read(error) => error.kind() != std::io::ErrorKind::NotFound,
            KeptError::Part { why, .. } | KeptError::Record { why, .. } => why.may_pass(),
            KeptError::NoFile { .. }
            | KeptError::Damaged(_)
            | KeptError::Version { .. }
            | KeptError::Foreign { .. }
            | KeptError::Lost { .. }
            | KeptError::Refused { .. } => false,
        }
    }
}

/// How long, in all, state is read again at the start that was not given: for want of descriptors or memory, by a disk that failed
/// once. An object of which the state cannot be read is held until the agent is started again.
const PATIENCE: Duration = Duration::from_secs(3);
const READ_PAUSE: Duration = Duration::from_millis(100);

/// Reads what is kept of one object after the other.
#[derive(Debug)]
pub(crate) struct Reading {
    /// What is left of the patience.
    left: Duration,
}

impl Reading {
    pub(crate) fn new() -> Reading {
        Reading { left: PATIENCE }
    }

    /// Reads, and again while that may tell more and there is time left.
    pub(crate) fn insist<T>(&mut self, read: impl Fn() -> Result<T, KeptError>) -> Result<T, KeptError> {
        loop {
            match read() {
                Err(error) if error.may_pass() && !self.left.is_zero() => {
                    std::thread::sleep(READ_PAUSE);
                    self.left = self.left.saturating_sub(READ_PAUSE);
                }
                other => return other,
            }
        }
    }
}

impl From<std::io::Error> for KeptError {
    fn from(error: std::io::Error) -> KeptError {
        match error.kind() {
            std::io::ErrorKind::InvalidData => KeptError::NoFile { what: error.to_string() },
            _ => KeptError::Read(error),
        }
    }
}

/// What every file of state begins with, whatever its version.
#[derive(Deserialize)]
struct Versioned {
    version: u32,
}

/// Reads a file of state. One of another version is known as such, whatever else is in it.
pub(crate) fn read_file<F: DeserializeOwned>(path: &Path, version: u32) -> Result<F, KeptError> {
    parse(&read_regular(path, MAX_STATE)?, version)
}

fn parse<F: DeserializeOwned>(bytes: &[u8], version: u32) -> Result<F, KeptError> {
    let Versioned { version: found } = serde_json::from_slice(bytes)?;
    if found != version {
        return Err(KeptError::Version { found });
    }
    Ok(serde_json::from_slice(bytes)?)
}

/// Whether the directory is that of the object of this uid, as its name says.
pub(crate) fn is_of(directory: &Path, uid: &str) -> Result<(), KeptError> {
    if directory.file_name().is_some_and(|name| name == uid) {
        return Ok(());
    }
    Err(KeptError::Foreign { uid: uid.to_owned() })
}

impl Kept {
    /// Reads a `pod.json`.
    ///
    /// # Errors
    /// When there is none, or it is not usable.
    pub fn read(path: &Path, storage: &Storage, clock: &Clock) -> Result<Kept, KeptError> {
        let stored: PodFile = parse(&storage.read(path)?, VERSION)?;
        let document = manifest::from_value(&stored.manifest).map_err(|problems| KeptError::Refused {
            problems: problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "),
        })?;
        let time = |stamp| clock.time_of(stamp, &stored.boot_id);
        Ok(Kept {
            claim: Claim {
                file: stored.file,
                digest: stored.digest,
                object: Arc::new(document),
                suppressed: stored.suppressed,
            },
            accepted_at: time(stored.accepted_at),
            first_sandbox: stored.first_sandbox,
            restart_below: stored.restart_below,
            restart_at: stored.restart_at.map(time),
            deletion: stored.deletion.map(|d| Deletion {
                cause: Cause {
                    by: stored.removed_by.as_deref().map_or(Asker::Deletion, Asker::of_name),
                    text: stored.removed_why,
                },
                requested_at: time(d.requested_at),
                deadline: time(d.deadline),
            }),
            evicted: stored.evicted.map(|(at, message)| (time(at), message)),
            owner: stored.owner,
            ended: stored.ended.map(|e| Ended {
                at: time(e.at),
                status: e.status,
                stopped: e.stopped,
                archived: e.archived,
            }),
        })
    }

    /// Writes a `pod.json`, as soon as the disk takes it; `listener` is told after every try.
    pub fn keep(
        &self,
        path: &Path,
        storage: &Arc<Storage>,
        clock: &Clock,
        durability: Durability,
        listener: Option<Listener>,
    ) {
        let (claimant, directory) = (self.claimant(), path.parent().map(Path::to_owned));
        let mut listener = listener;
        let claims: Listener = Box::new(move |result| {
            listener.iter_mut().for_each(|listener| listener(result));
            if let (Ok(()), Some(directory)) = (result, directory.clone()) {
                let claimant = claimant.clone();
                tokio::task::spawn_blocking(move || claimant.keep(&directory));
            }
        });
        storage.keep(path, self.text(clock).to_string().into_bytes(), durability, Some(claims));
    }

    /// Writes a `pod.json` now.
    ///
    /// # Errors
    /// Those of the file system.
    pub(crate) fn write(&self, path: &Path, clock: &Clock, durability: Durability) -> Result<(), durable::WriteError> {
        durable::write_atomic(path, self.text(clock).to_string().as_bytes(), durability)?;
        if let Some(directory) = path.parent() {
            self.claimant().keep(directory);
        }
        Ok(())
    }

    fn text(&self, clock: &Clock) -> Value {
        let stamp = |time: Time| clock.stamp_of(time);
        let file = PodFile {
            version: VERSION,
            boot_id: clock.boot_id().to_owned(),
            file: self.claim.file.clone(),
            digest: self.claim.digest.clone(),
            suppressed: self.claim.suppressed,
            manifest: self.claim.object.manifest.clone(),
            accepted_at: stamp(self.accepted_at),
            first_sandbox: self.first_sandbox,
            restart_below: self.restart_below,
            restart_at: self.restart_at.map(stamp),
            deletion: self
                .deletion
                .as_ref()
                .map(|d| DeletionFile { requested_at: stamp(d.requested_at), deadline: stamp(d.deadline) }),
            removed_by: self.deletion.as_ref().map(|deletion| deletion.cause.by.name().to_owned()),
            removed_why: self.deletion.as_ref().map(|deletion| deletion.cause.text.clone()).unwrap_or_default(),
            evicted: self.evicted.clone().map(|(at, message)| (stamp(at), message)),
            owner: self.owner.clone(),
            ended: self.ended.clone().map(|e| EndedFile {
                at: stamp(e.at),
                status: e.status,
                stopped: e.stopped,
                archived: e.archived,
            }),
        };
        // Strings and numbers all through.
        serde_json::to_value(&file).unwrap_or_default()
    }

    /// Who the directory belongs to, for whoever cannot read the rest.
    pub(crate) fn claimant(&self) -> Claimant {
        let pod = &self.document().pod;
        Claimant::new(Kind::Pod, &pod.namespace, &pod.name, self.owner.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::Store;
    use std::time::Duration;

    fn storage(dir: &Path, clock: &Arc<Clock>) -> Arc<Storage> {
        Storage::new(dir, "node-1", Store::new(clock.now()), Arc::clone(clock))
    }

    fn document() -> Arc<Document> {
        let text = "{apiVersion: v1, kind: Pod, metadata: {name: p}, spec: {containers: [{name: a, image: i}]}}";
        Arc::new(manifest::parse(text, manifest::Format::Yaml).unwrap().remove(0))
    }

    fn clock(dir: &Path) -> Arc<Clock> {
        std::fs::write(dir.join("boot_id"), "b").unwrap();
        Arc::new(Clock::start(&dir.join("boot_id")).unwrap())
    }

    fn full(clock: &Clock) -> Kept {
        let now = clock.now();
        let cause = Cause { by: Asker::Owner, text: "it is suspended".into() };
        let claim = Claim { file: "p.yaml".into(), digest: "d".into(), object: document(), suppressed: true };
        Kept {
            restart_at: Some(now),
            deletion: Some(Deletion { cause, requested_at: now, deadline: now + Duration::from_secs(3) }),
            evicted: Some((now, "full".into())),
            owner: Some(Owner { name: "j".into(), uid: "u".into() }),
            ended: Some(Ended {
                at: now,
                status: serde_json::json!({"phase": "Failed"}),
                stopped: true,
                archived: true,
            }),
            ..Kept::new(claim, now)
        }
    }

    #[tokio::test]
    async fn it_comes_back_as_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let clock = clock(dir.path());
        let mut kept = full(&clock);
        let path = dir.path().join("pods/u/pod.json");
        let storage = storage(dir.path(), &clock);
        kept.keep(&path, &storage, &clock, Durability::Synced, None);
        storage.settle().await;
        assert!(path.exists());
        let back = Kept::read(&path, &storage, &clock).unwrap();
        // Lines are of the text, and the text is not kept.
        let mut written = (*kept.claim.object).clone();
        written.line = None;
        kept.claim.object = Arc::new(written);
        assert_eq!(back, kept);
    }

    #[tokio::test]
    async fn what_cannot_be_used_says_why() {
        let dir = tempfile::tempdir().unwrap();
        let clock = clock(dir.path());
        let (path, storage) = (dir.path().join("pod.json"), storage(dir.path(), &clock));
        let read = || Kept::read(&path, &storage, &clock);
        assert!(matches!(read(), Err(KeptError::Read(_))));
        std::fs::write(&path, "{").unwrap();
        assert!(matches!(read(), Err(KeptError::Damaged(_))));
        full(&clock).keep(&path, &storage, &clock, Durability::Rename, None);
        storage.settle().await;
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, text.replace("\"version\":1", "\"version\":9")).unwrap();
        assert!(read().unwrap_err().to_string().contains("version 9"));
        std::fs::write(&path, text.replace("\"image\"", "\"imag\"")).unwrap();
        assert!(read().unwrap_err().to_string().contains("imag"));
    }
}
