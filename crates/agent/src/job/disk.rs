//! What the agent keeps about jobs and cron jobs on disk: `STATE/jobs/UID/` and `STATE/cronjobs/UID/`.
//!
//! `job.json` is the object and where it comes from, written when that changes; `state.json` is what has become of it, which is
//! small and written with every change. Both are atomic and synced: what is read back was true.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use podwright_core::cron::state::CronState;
use podwright_core::job::state::JobState;
use podwright_core::manifest::{self, CronJobDocument, JobDocument, Problem};
use podwright_core::objects::Kind;
use podwright_core::time::Time;
use podwright_proto::Stamp;
use podwright_sys::durable::{self, Durability};
use podwright_sys::tree;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Owner;
use crate::clock::Clock;
use crate::source::decide::Claim;
use crate::unusable::{self, Claimant, Unusable};
use crate::worker::kept::{KeptError, Reading, is_of, read_file};

/// Version of the files. A field may be added with `#[serde(default)]`; any other change raises it.
const VERSION: u32 = 1;
const OBJECT: &str = "job.json";
const STATE: &str = "state.json";

/// The folder of all jobs, or of all cron jobs.
pub(super) fn folder(kind: Kind) -> &'static str {
    if kind == Kind::CronJob { "cronjobs" } else { "jobs" }
}

/// A job as it is kept.
#[derive(Debug, Clone, PartialEq)]
pub struct JobKept {
    /// The object and where it came from.
    pub claim: Claim<Arc<JobDocument>>,
    /// The cron job that made it.
    pub owner: Option<Owner>,
    /// What has become of it.
    pub state: JobState,
}

/// A cron job as it is kept.
#[derive(Debug, Clone, PartialEq)]
pub struct CronKept {
    /// The object and where it came from.
    pub claim: Claim<Arc<CronJobDocument>>,
    /// What has become of it.
    pub state: CronState,
    /// When its removal was asked for.
    pub removed_at: Option<Timestamp>,
}

#[derive(Serialize, Deserialize)]
struct ObjectFile {
    version: u32,
    file: String,
    digest: String,
    suppressed: bool,
    owner: Option<Owner>,
    #[serde(default)]
    removing: bool,
    #[serde(default)]
    removed_at: Option<Timestamp>,
    manifest: Value,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct StateFile<S> {
    version: u32,
    /// Of the boot in which the state was written.
    boot_id: String,
    /// The zero of the state's moments: they are moved by as much as it is.
    epoch: Stamp,
    state: S,
}

impl JobKept {
    /// A job that was just accepted.
    pub fn new(claim: Claim<Arc<JobDocument>>, owner: Option<Owner>, now: Time) -> JobKept {
        JobKept { claim, owner, state: JobState::new(now) }
    }

    /// Its directory below the state directory.
    pub fn directory(&self, state_dir: &Path) -> PathBuf {
        state_dir.join(folder(Kind::Job)).join(&self.claim.object.job.uid)
    }

    /// Reads what is in `directory`.
    ///
    /// # Errors
    /// When there is none, or it is not usable.
    pub fn read(directory: &Path, clock: &Clock) -> Result<JobKept, KeptError> {
        let object: ObjectFile = read_file(&directory.join(OBJECT), VERSION)?;
        let document = manifest::job_from_value(&object.manifest).map_err(|problems| refused(&problems))?;
        let state = moved(read_state(directory)?, clock);
        is_of(directory, &document.job.uid)?;
        let ObjectFile { file, digest, suppressed, owner, .. } = object;
        Ok(JobKept { claim: Claim { file, digest, object: document, suppressed }, owner, state })
    }

    /// Writes where the object comes from, and the object.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn write_object(&self, directory: &Path) -> anyhow::Result<()> {
        write_object(directory, &self.claimant(), &self.claim, &self.claim.object.manifest, self.owner.clone(), None)
    }

    /// Writes what has become of it.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn write_state(&self, directory: &Path, clock: &Clock) -> anyhow::Result<()> {
        write(directory, STATE, &stamped(clock, &self.state))
    }
}

impl JobKept {
    /// Who its directory belongs to.
    pub(super) fn claimant(&self) -> Claimant {
        let job = &self.claim.object.job;
        Claimant::new(Kind::Job, &job.namespace, &job.name, self.owner.clone())
    }
}

impl CronKept {
    /// Who its directory belongs to.
    pub(super) fn claimant(&self) -> Claimant {
        let cron = &self.claim.object.cron;
        Claimant::new(Kind::CronJob, &cron.namespace, &cron.name, None)
    }

    /// A cron job that was just accepted.
    pub fn new(claim: Claim<Arc<CronJobDocument>>, clock: &Clock) -> CronKept {
        CronKept { claim, state: CronState::new(clock.wall()), removed_at: None }
    }

    /// Its directory below the state directory.
    pub fn directory(&self, state_dir: &Path) -> PathBuf {
        state_dir.join(folder(Kind::CronJob)).join(&self.claim.object.cron.uid)
    }

    /// Reads what is in `directory`.
    ///
    /// # Errors
    /// When there is none, or it is not usable.
    pub fn read(directory: &Path, clock: &Clock) -> Result<CronKept, KeptError> {
        let object: ObjectFile = read_file(&directory.join(OBJECT), VERSION)?;
        let document = manifest::cron_job_from_value(&object.manifest).map_err(|problems| refused(&problems))?;
        let state = read_state::<CronState>(directory)?.state;
        is_of(directory, &document.cron.uid)?;
        let ObjectFile { file, digest, suppressed, removing, removed_at, .. } = object;
        // Agents that kept no time only said that.
        let removed_at = removed_at.or_else(|| removing.then(|| clock.wall()));
        Ok(CronKept { claim: Claim { file, digest, object: document, suppressed }, state, removed_at })
    }

    /// Writes where the object comes from, and the object.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn write_object(&self, directory: &Path) -> anyhow::Result<()> {
        write_object(directory, &self.claimant(), &self.claim, &self.claim.object.manifest, None, self.removed_at)
    }

    /// Writes what has become of it.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn write_state(&self, directory: &Path, clock: &Clock) -> anyhow::Result<()> {
        write(directory, STATE, &stamped(clock, &self.state))
    }
}

fn refused(problems: &[Problem]) -> KeptError {
    KeptError::Refused { problems: problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ") }
}

fn stamped<'a, S>(clock: &Clock, state: &'a S) -> StateFile<&'a S> {
    StateFile { version: VERSION, boot_id: clock.boot_id().to_owned(), epoch: clock.epoch(), state }
}

/// The state by this agent's clock. What is past stays past, also where the clock of a new boot stands behind the old one.
fn moved(file: StateFile<JobState>, clock: &Clock) -> JobState {
    let (now, shift) = (clock.now(), clock.time_of(file.epoch, &file.boot_id).0);
    let mut state = file.state;
    state.each_time(|time| *time = Time(time.0.saturating_add(shift)).min(now));
    state
}

fn write_object<T>(
    directory: &Path,
    claimant: &Claimant,
    claim: &Claim<T>,
    manifest: &Value,
    owner: Option<Owner>,
    removed_at: Option<Timestamp>,
) -> anyhow::Result<()> {
    let file = ObjectFile {
        version: VERSION,
        file: claim.file.clone(),
        digest: claim.digest.clone(),
        suppressed: claim.suppressed,
        owner,
        removing: removed_at.is_some(),
        removed_at,
        manifest: manifest.clone(),
    };
    write(directory, OBJECT, &file)?;
    claimant.keep(directory);
    Ok(())
}

fn write(directory: &Path, name: &str, file: &impl Serialize) -> anyhow::Result<()> {
    if !directory.is_dir() {
        std::fs::create_dir_all(directory)?;
        for above in directory.ancestors().skip(1).take(2) {
            durable::sync_directory(above)?;
        }
    }
    let text = serde_json::to_vec(file)?;
    Ok(durable::write_atomic(&directory.join(name), &text, Durability::Synced)?)
}

/// What has become of it. The object comes into force with its state, so one without is no fresh one: it has lost it.
fn read_state<S: DeserializeOwned>(directory: &Path) -> Result<StateFile<S>, KeptError> {
    read_file(&directory.join(STATE), VERSION).map_err(|error| match error {
        KeptError::Read(error) if error.kind() == io::ErrorKind::NotFound => KeptError::Lost { name: STATE },
        other => KeptError::Part { name: STATE, why: Box::new(other) },
    })
}

/// What is kept below a folder.
#[derive(Debug)]
pub(super) struct Loaded<T> {
    /// What can be used.
    pub(super) kept: Vec<T>,
    /// What cannot: it is left as it is, and its names stay taken.
    pub(super) unusable: Vec<Unusable>,
}

/// Everything that is kept below `folder` (`jobs`, `cronjobs`).
///
/// # Errors
/// When the folder cannot be listed.
pub(super) fn load<T>(
    folder: &Path,
    kind: Kind,
    read: impl Fn(&Path) -> Result<T, KeptError>,
    claimant: impl Fn(&T) -> Claimant,
) -> io::Result<Loaded<T>> {
    let (mut all, mut reading) = (Loaded { kept: Vec::new(), unusable: Vec::new() }, Reading::new());
    // It is made with the first of them.
    if !folder.try_exists()? {
        return Ok(all);
    }
    for path in unusable::directories(folder)? {
        let path = match path {
            Ok(path) => path,
            Err((path, error)) => {
                all.unusable.push(Unusable::find(kind, &path, OBJECT, &error.into()));
                continue;
            }
        };
        match reading.insist(|| read(&path)) {
            Ok(kept) => {
                claimant(&kept).keep(&path);
                all.kept.push(kept);
            }
            // An agent died while it accepted or removed it; else it was there, and nobody knows what has become of it.
            Err(KeptError::Read(error)) if error.kind() == io::ErrorKind::NotFound && !Claimant::is_in(&path) => {
                forget(&path);
            }
            Err(KeptError::Read(error)) if error.kind() == io::ErrorKind::NotFound => {
                all.unusable.push(Unusable::find(kind, &path, OBJECT, &KeptError::Lost { name: OBJECT }));
            }
            Err(error) => all.unusable.push(Unusable::find(kind, &path, OBJECT, &error)),
        }
    }
    Ok(all)
}

/// Removes what is kept: whose it is and the object first, so that a half removed one counts as none.
pub(crate) fn forget(directory: &Path) {
    let gone = |result: io::Result<()>| match result {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    };
    let removed = Claimant::forget(directory)
        .and_then(|()| gone(std::fs::remove_file(directory.join(OBJECT))))
        .and_then(|()| if directory.is_dir() { durable::sync_directory(directory) } else { Ok(()) })
        .and_then(|()| Ok(tree::remove(directory)?))
        .and_then(|()| directory.parent().map_or(Ok(()), durable::sync_directory));
    if let Err(error) = removed {
        tracing::error!(directory = %directory.display(), %error, "what is kept of a removed job cannot be removed");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use podwright_core::manifest::{Format, Resource, read as read_manifest};

    fn clock(dir: &Path, boot: &str) -> Clock {
        std::fs::write(dir.join("boot_id"), boot).unwrap();
        Clock::start(&dir.join("boot_id")).unwrap()
    }

    fn job(clock: &Clock) -> JobKept {
        let text = "{apiVersion: batch/v1, kind: Job, metadata: {name: j}, spec: {template: {spec: {restartPolicy: Never, \
                    containers: [{name: a, image: i}]}}}}";
        let object = match read_manifest(text, Format::Yaml).unwrap().remove(0) {
            Resource::Job(mut job) => {
                // Lines are of the text, and the text is not kept.
                Arc::make_mut(&mut job).line = None;
                job
            }
            other => panic!("{other:?}"),
        };
        let claim = Claim { file: "f".into(), digest: "d".into(), object, suppressed: false };
        JobKept::new(claim, Some(Owner { name: "c".into(), uid: "u".into() }), clock.now())
    }

    fn load_jobs(dir: &Path, clock: &Clock) -> Loaded<JobKept> {
        let folder = dir.join(folder(Kind::Job));
        load(&folder, Kind::Job, |path| JobKept::read(path, clock), JobKept::claimant).unwrap()
    }

    #[test]
    fn a_job_comes_back_as_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let clock = clock(dir.path(), "a");
        let mut kept = job(&clock);
        let path = kept.directory(dir.path());
        kept.state.started_at = Some(clock.now());
        kept.state.serial = 7;
        kept.write_state(&path, &clock).unwrap();
        kept.write_object(&path).unwrap();
        assert_eq!(JobKept::read(&path, &clock).unwrap(), kept);
        let loaded = load_jobs(dir.path(), &clock);
        assert_eq!((loaded.kept, loaded.unusable), (vec![kept], vec![]));
        forget(&path);
        assert!(!path.exists());
    }

    #[test]
    fn after_a_reboot_with_a_clock_behind_nothing_is_in_the_future() {
        let dir = tempfile::tempdir().unwrap();
        let before = clock(dir.path(), "a");
        let mut kept = job(&before);
        kept.state.started_at = Some(before.now() + std::time::Duration::from_secs(1_000_000));
        let path = kept.directory(dir.path());
        kept.write_object(&path).unwrap();
        kept.write_state(&path, &before).unwrap();
        let after = clock(dir.path(), "b");
        let state = JobKept::read(&path, &after).unwrap().state;
        assert!(state.started_at.unwrap() <= after.now());
    }

    /// Whatever is in place of either file: the job is known, its name is, and nothing is touched.
    #[test]
    fn what_cannot_be_used_keeps_its_name_and_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let clock = clock(dir.path(), "a");
        let kept = job(&clock);
        let path = kept.directory(dir.path());
        kept.write_state(&path, &clock).unwrap();
        kept.write_object(&path).unwrap();
        for name in [OBJECT, STATE] {
            let file = path.join(name);
            let good = std::fs::read_to_string(&file).unwrap();
            let newer = good.replacen("\"version\":1", "\"version\":2", 1);
            let odd = good.replacen("\"version\":1", "\"version\":\"1\"", 1);
            let alien = "{\"version\": 2, \"all\": \"new\"}".to_owned();
            for text in ["", "{", "noise", "[]", "null", &good[..good.len() / 2], &newer, &odd, &alien] {
                std::fs::write(&file, text).unwrap();
                let loaded = load_jobs(dir.path(), &clock);
                assert_eq!(loaded.kept, [], "{name}: {text}");
                let [one] = &loaded.unusable[..] else { panic!("{name}: {text}") };
                assert_eq!(one.name, Some(("default".into(), "j".into())), "{name}: {text}");
                assert_eq!(one.owner, kept.owner);
                assert!(
                    one.problem.starts_with(file.to_str().unwrap()) || one.problem.contains(name),
                    "{}",
                    one.problem
                );
                assert_eq!(std::fs::read_to_string(&file).unwrap(), text, "it is left as it is");
            }
            std::fs::remove_file(&file).unwrap();
            nix::unistd::mkfifo(&file, nix::sys::stat::Mode::S_IRWXU).unwrap();
            assert!(load_jobs(dir.path(), &clock).unusable[0].problem.contains("is a fifo"));
            std::fs::remove_file(&file).unwrap();
            std::os::unix::fs::symlink("/dev/zero", &file).unwrap();
            assert!(load_jobs(dir.path(), &clock).unusable[0].problem.contains("is a symbolic link"));
            std::fs::remove_file(&file).unwrap();
            std::fs::write(&file, good).unwrap();
        }
        std::fs::remove_file(path.join(STATE)).unwrap();
        assert!(load_jobs(dir.path(), &clock).unusable[0].problem.contains("state.json is gone"));
        // Without its object as well it has lost that too.
        std::fs::remove_file(path.join(OBJECT)).unwrap();
        let [one] = &load_jobs(dir.path(), &clock).unusable[..] else { panic!("it is forgotten") };
        assert!(one.problem.contains("job.json is gone") && one.name.is_some(), "{}", one.problem);
        // Unless it was being accepted, or removed.
        Claimant::forget(&path).unwrap();
        assert_eq!(load_jobs(dir.path(), &clock).unusable, []);
        assert!(!path.exists());
    }

    #[test]
    fn a_directory_of_another_object_is_not_taken_for_its_own() {
        let dir = tempfile::tempdir().unwrap();
        let clock = clock(dir.path(), "a");
        let kept = job(&clock);
        let path = kept.directory(dir.path());
        kept.write_state(&path, &clock).unwrap();
        kept.write_object(&path).unwrap();
        std::fs::rename(&path, path.with_file_name("00000000-0000-8000-8000-000000000000")).unwrap();
        let loaded = load_jobs(dir.path(), &clock);
        assert_eq!(loaded.kept, []);
        assert!(loaded.unusable[0].problem.contains("is of another object"), "{}", loaded.unusable[0].problem);
    }
}
