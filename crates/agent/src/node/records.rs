//! Records of instances: the shim's word, and what the state machine makes of it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use nix::dir::Dir;
use nix::errno::Errno;
use nix::unistd::{UnlinkatFlags, unlinkat};
use podwright_core::ledger::{Asker, Cause, LogLoss, Outcome};
use podwright_core::pod::observe::{HookEnd, HookRun, Instance, InstanceState};
use podwright_core::pod::spec::PodSpec;
use podwright_core::time::Time;
use podwright_proto::{self as proto, Exit, Health, InstanceId, Record, Stamp, StartStage, attempt_of, record_file};
use podwright_sys::durable::Durability;
use podwright_sys::file;
use podwright_sys::own::{MAX_STATE, read_regular};

use crate::clock::Clock;
use crate::storage::Storage;

/// Characters of a probe's last output that go into a record.
const MAX_CAUSE: usize = 1000;

/// Records by container name and attempt.
pub type Records = BTreeMap<InstanceId, Record>;

/// Reads every record of a pod. None at all is fine. What could not be written yet stands for what is on disk.
///
/// # Errors
/// When a directory or file cannot be read. A damaged file counts as an instance whose end nobody saw.
pub fn read(directory: &Path, storage: &Arc<Storage>, clock: &Clock) -> io::Result<Records> {
    let mut records = Records::new();
    for container in entries(directory)? {
        // A link leads to what is not the pod's.
        if !fs::symlink_metadata(directory.join(&container))?.is_dir() {
            tracing::error!(path = %directory.join(&container).display(), "no directory of records; it is left as it is");
            continue;
        }
        for file in entries(&directory.join(&container))? {
            let Some(attempt) = attempt_of(&file) else { continue };
            let path = directory.join(&container).join(&file);
            let id = InstanceId { container: container.clone(), attempt };
            let bytes = match read_regular(&path, MAX_STATE) {
                // Not a file of ours, whatever it is: as one with other bytes in it.
                Err(error) if error.kind() == io::ErrorKind::InvalidData => b"?".to_vec(),
                other => other?,
            };
            let record = match serde_json::from_slice::<Record>(&bytes) {
                Ok(record) if record.version > proto::VERSION => {
                    tracing::error!(file = %path.display(), version = record.version, "a record is a newer podwright's; its end counts as unknown");
                    lost_without_a_trace(&id, clock)
                }
                Ok(record) if record.id == id => record,
                Ok(record) => {
                    tracing::error!(file = %path.display(), found = ?record.id, "a record is another instance's; its end counts as unknown");
                    lost_without_a_trace(&id, clock)
                }
                // A start is not synced: a power cut leaves its name without its bytes. Its end is, and comes in its place.
                Err(_) if bytes.is_empty() => {
                    tracing::info!(file = %path.display(), "the power went while this instance ran; nobody saw its end");
                    let record = lost_without_a_trace(&id, clock);
                    keep(directory, &record, storage);
                    record
                }
                Err(error) => {
                    tracing::error!(file = %path.display(), %error, "a record is damaged; the instance's end counts as unknown");
                    lost_without_a_trace(&id, clock)
                }
            };
            records.insert(id, record);
        }
    }
    let waiting = storage.waiting(directory).into_iter();
    let waiting = waiting.filter_map(|(_, bytes)| serde_json::from_slice::<Record>(&bytes).ok());
    records.extend(waiting.map(|record| (record.id.clone(), record)));
    Ok(records)
}

fn keep(directory: &Path, record: &Record, storage: &Arc<Storage>) {
    let path = record_file(directory, &record.id);
    match serde_json::to_vec(record) {
        Ok(text) => storage.keep(&path, text, Durability::Synced, None),
        Err(error) => tracing::error!(file = %path.display(), %error, "a record could not be written"),
    }
}

/// How long to wait before what cannot be read is read again.
pub const READ_RETRY: Duration = Duration::from_secs(1);

/// Reads until it works, beside the agent's threads: a pod that goes on without its records would run again what has ended.
pub async fn insist<T: Send + 'static>(
    directory: &Path,
    read: impl Fn() -> io::Result<T> + Clone + Send + 'static,
) -> T {
    let mut said = false;
    loop {
        let error = match tokio::task::spawn_blocking(read.clone()).await {
            Ok(Ok(found)) => return found,
            Ok(Err(error)) => error,
            Err(error) => io::Error::other(error),
        };
        if !std::mem::replace(&mut said, true) {
            tracing::error!(directory = %directory.display(), %error, "a pod's records cannot be read; it waits until they can be");
        }
        tokio::time::sleep(READ_RETRY).await;
    }
}

fn entries(directory: &Path) -> io::Result<Vec<String>> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let names = entries.map(|entry| Ok(entry?.file_name().into_string().ok()));
    let names: io::Result<Vec<Option<String>>> = names.collect();
    Ok(names?.into_iter().flatten().filter(|name| !name.starts_with('.')).collect())
}

fn lost_without_a_trace(id: &InstanceId, clock: &Clock) -> Record {
    let now = clock.stamp();
    Record {
        version: proto::VERSION,
        id: id.clone(),
        sandbox: 0,
        boot_id: clock.boot_id().to_owned(),
        restart_delay_ms: 0,
        origin: None,
        requested: now,
        pid: None,
        pid_start: None,
        started: Some(now),
        stop_signal: None,
        post_start: None,
        pre_stop: None,
        cause: None,
        signaled: None,
        killed: None,
        health: Health::default(),
        log_lost: None,
        exit: Some(Exit::without_evidence(proto::Outcome::Lost, now)),
        unsaved: None,
        refused: false,
    }
}

/// Completes what a dead shim has left open. What it has `told` stands, whatever the disk says: only the ends that nobody
/// saw are lost. Returns the completed ones; they are written as soon as the disk takes them.
pub fn complete(
    directory: &Path,
    records: &mut Records,
    told: Records,
    storage: &Arc<Storage>,
    clock: &Clock,
) -> Vec<Record> {
    let mut completed = Vec::new();
    for (id, told) in told {
        if records.get(&id).is_none_or(|on_disk| on_disk.exit.is_none()) {
            let told = Record { unsaved: None, ..told };
            completed.extend(Some(told.clone()).filter(|told| told.exit.is_some()));
            records.insert(id, told);
        }
    }
    for record in records.values_mut().filter(|r| r.exit.is_none()) {
        let finished = clock.stamp();
        // One boot id holds for all stamps of a record: those of an earlier boot only keep their wall clock.
        record.exit = Some(Exit::without_evidence(proto::Outcome::Lost, finished));
        // Whatever had been asked before: what ended it was this.
        let by = if record.boot_id == clock.boot_id() { Asker::ShimDied } else { Asker::Reboot };
        record.cause = Some(proto::Cause { kind: by.name().to_owned(), message: String::new() });
        completed.push(record.clone());
    }
    completed.iter().for_each(|record| keep(directory, record, storage));
    completed
}

/// Removes records and logs of instances of one container that are not known any more: a container that crashes for months
/// leaves as much behind as one that crashes for minutes. What cannot be removed is left for the next time.
pub fn forget_old(records: &Path, logs: &Path, known: &BTreeSet<u32>) {
    for directory in [records, logs] {
        if let Err(error) = forget_below(directory, known) {
            tracing::warn!(directory = %directory.display(), %error, "what an old instance left could not be removed");
        }
    }
}

/// Below the directory's own descriptor, and without a list of it: that of the logs may be writable for a pod.
fn forget_below(directory: &Path, known: &BTreeSet<u32>) -> io::Result<()> {
    let root = directory.parent().and_then(Path::parent).ok_or(io::ErrorKind::InvalidInput)?;
    let dir = match file::directory(root, directory.strip_prefix(root).map_err(io::Error::other)?) {
        Err(Errno::ENOENT) => return Ok(()),
        other => other?,
    };
    let mut failure = Ok(());
    for entry in Dir::from_fd(dir.try_clone()?)?.iter() {
        let entry = entry?;
        let name = entry.file_name().to_str().unwrap_or_default();
        let attempt = name.split_once('.').and_then(|(attempt, _)| attempt.parse::<u32>().ok());
        if attempt.is_some_and(|attempt| !known.contains(&attempt)) {
            match unlinkat(&dir, entry.file_name(), UnlinkatFlags::NoRemoveDir) {
                Ok(()) | Err(Errno::ENOENT) => {}
                Err(errno) => failure = Err(errno.into()),
            }
        }
    }
    failure
}

/// Why a start was refused: then there is no such instance.
pub fn refusal(record: &Record) -> Option<String> {
    match record.exit.as_ref().map(|exit| &exit.outcome).filter(|_| record.refused)? {
        proto::Outcome::StartFailed { message, .. } => Some(message.clone()),
        proto::Outcome::Exited { .. } | proto::Outcome::Signaled { .. } | proto::Outcome::Lost => Some(String::new()),
    }
}

/// Takes in what a shim tells of an instance, as far as it is not on disk for certain: what lives, and ends that are unsaved.
pub fn hear(told: &mut Records, record: &Record) {
    if record.refused || (record.exit.is_some() && record.unsaved.is_none()) {
        told.remove(&record.id);
    } else {
        told.insert(record.id.clone(), record.clone());
    }
}

/// A record in the state machine's terms, with the index of its container; `None` for one that the pod does not have.
pub fn instance(record: &Record, spec: &PodSpec, clock: &Clock) -> Option<(usize, Instance)> {
    let container = spec.containers.iter().position(|c| c.name == record.id.container)?;
    let time = |stamp| clock.time_of(stamp, &record.boot_id);
    let started_at = record.started.map(time);
    let state = match (&record.exit, started_at) {
        (Some(exit), _) => {
            InstanceState::Ended { started_at, finished_at: time(exit.finished), outcome: outcome(exit) }
        }
        (None, Some(started_at)) => InstanceState::Running { started_at },
        (None, None) => InstanceState::Starting,
    };
    let instance = Instance {
        attempt: record.id.attempt,
        sandbox: record.sandbox,
        restart_delay: Duration::from_millis(record.restart_delay_ms),
        requested_at: time(record.requested),
        state,
        stop_signal: record.stop_signal,
        post_start: record.post_start.as_ref().map(|run| hook_run(run, time)),
        pre_stop: record.pre_stop.as_ref().map(|run| hook_run(run, time)),
        cause: record.cause.as_ref().map(cause).filter(|cause| cause.by.decides()),
        message: record.exit.as_ref().map(|exit| exit.message.clone()).unwrap_or_default(),
        log_lost: record.log_lost.as_ref().map(|loss| log_loss(loss, time)),
        signaled_at: record.signaled.map(time),
        killed_at: record.killed.map(time),
    };
    Some((container, instance))
}

fn log_loss(loss: &proto::LogLoss, time: impl Fn(Stamp) -> Time) -> LogLoss {
    LogLoss {
        lines: loss.lines,
        bytes: loss.bytes,
        first: time(loss.first),
        last: time(loss.last),
        error: loss.error.clone(),
        ongoing: loss.ongoing,
    }
}

fn hook_run(run: &proto::HookRun, time: impl Fn(Stamp) -> Time) -> HookRun {
    let ended = run.ended.map(|at| HookEnd { at: time(at), failure: run.failure.clone() });
    HookRun { begun: time(run.begun), ended }
}

/// Who asked for an end, as a record names them.
pub fn cause(cause: &proto::Cause) -> Cause {
    Cause { by: Asker::of_name(&cause.kind), text: cause.message.clone() }
}

/// A cause in the shim's terms.
pub fn wire_cause(cause: &Cause) -> proto::Cause {
    let message = cause.text.chars().take(MAX_CAUSE).collect();
    proto::Cause { kind: cause.by.name().to_owned(), message }
}

/// An exit in the state machine's terms.
pub fn outcome(exit: &Exit) -> Outcome {
    match &exit.outcome {
        proto::Outcome::Exited { code } => Outcome::Exited { code: *code, oom: exit.oom },
        proto::Outcome::Signaled { signal } => Outcome::Signaled { signal: *signal, oom: exit.oom },
        proto::Outcome::StartFailed { stage, message } => {
            Outcome::StartFailed { by_runtime: *stage == StartStage::Runtime, message: message.clone() }
        }
        proto::Outcome::Lost => Outcome::Lost,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::Store;

    fn clock(dir: &Path) -> Clock {
        fs::write(dir.join("boot_id"), "b").unwrap();
        Clock::start(&dir.join("boot_id")).unwrap()
    }

    #[test]
    fn what_the_shim_writes_by_itself_is_known_and_decides_nothing() {
        assert_eq!(Asker::of_name(proto::SANDBOX_REMOVED), Asker::SandboxRemoved);
        let dir = tempfile::tempdir().unwrap();
        let clock = clock(dir.path());
        let text = "{apiVersion: v1, kind: Pod, metadata: {name: p}, spec: {containers: [{name: app, image: i}]}}";
        let spec =
            podwright_core::manifest::parse(text, podwright_core::manifest::Format::Yaml).unwrap().remove(0).spec;
        let mut record = lost_without_a_trace(&InstanceId { container: "app".into(), attempt: 0 }, &clock);
        for (kind, decides) in
            [(proto::SANDBOX_REMOVED, None), ("liveness-probe", Some(Asker::LivenessProbe)), ("x", None)]
        {
            record.cause = Some(proto::Cause { kind: kind.to_owned(), message: String::new() });
            let (_, instance) = instance(&record, &spec, &clock).unwrap();
            assert_eq!(instance.cause.map(|cause| cause.by), decides, "{kind}");
        }
    }

    #[test]
    fn what_old_instances_left_goes() {
        let dir = tempfile::tempdir().unwrap();
        let (records, logs) = (dir.path().join("records"), dir.path().join("logs"));
        for (directory, names) in
            [(&records, &["0.json", "3.json", "4.json", "5.json"][..]), (&logs, &["3.log", "3.log.1", "5.log", "x"])]
        {
            fs::create_dir_all(directory).unwrap();
            names.iter().for_each(|name| fs::write(directory.join(name), "").unwrap());
        }
        forget_old(&records, &logs, &BTreeSet::from([0, 4, 5]));
        let left = |directory: &Path| {
            let mut names = entries(directory).unwrap();
            names.sort();
            names
        };
        assert_eq!(left(&records), ["0.json", "4.json", "5.json"]);
        assert_eq!(left(&logs), ["5.log", "x"]);
        forget_old(&dir.path().join("none"), &logs, &BTreeSet::new());
        assert_eq!(left(&logs), ["x"]);
    }

    #[tokio::test]
    async fn unfinished_ones_are_completed_once_and_damaged_ones_keep_their_number() {
        let dir = tempfile::tempdir().unwrap();
        let clock = Arc::new(clock(dir.path()));
        let storage = Storage::new(dir.path(), "node-1", Store::new(clock.now()), Arc::clone(&clock));
        let records_dir = dir.path().join("records");
        assert_eq!(read(&records_dir, &storage, &clock).unwrap(), Records::new());
        fs::create_dir_all(records_dir.join("app")).unwrap();
        let mut open = lost_without_a_trace(&InstanceId { container: "app".into(), attempt: 4 }, &clock);
        (open.exit, open.sandbox) = (None, 2);
        fs::write(records_dir.join("app/4.json"), serde_json::to_vec(&open).unwrap()).unwrap();
        fs::write(records_dir.join("app/5.json"), "{").unwrap();
        fs::write(records_dir.join("app/.6.json.1-2.tmp"), "{").unwrap();
        fs::create_dir_all(records_dir.join("cut")).unwrap();
        fs::write(records_dir.join("cut/0.json"), "").unwrap();
        let mut records = read(&records_dir, &storage, &clock).unwrap();
        assert_eq!(records.keys().map(|id| id.attempt).collect::<Vec<_>>(), [4, 5, 0]);
        let completed = complete(&records_dir, &mut records, Records::new(), &storage, &clock);
        assert_eq!(completed.iter().map(|r| r.id.attempt).collect::<Vec<_>>(), [4]);
        storage.settle().await;
        assert_ne!(fs::read(records_dir.join("cut/0.json")).unwrap(), b"", "what a power cut left is put right");
        let mut again = read(&records_dir, &storage, &clock).unwrap();
        assert_eq!(again.values().next(), completed.first());
        assert_eq!(complete(&records_dir, &mut again, Records::new(), &storage, &clock), []);
    }

    #[tokio::test]
    async fn what_was_told_stands_whatever_the_disk_says() {
        let dir = tempfile::tempdir().unwrap();
        let clock = Arc::new(clock(dir.path()));
        let storage = Storage::new(dir.path(), "node-1", Store::new(clock.now()), Arc::clone(&clock));
        let records_dir = dir.path().join("records");
        fs::create_dir_all(records_dir.join("app")).unwrap();
        let id = |attempt| InstanceId { container: "app".into(), attempt };
        let mut told = Records::new();
        // Of the third the end is on disk, of the second it never came there, and the first one's nobody saw.
        for attempt in 0..3 {
            let mut record = lost_without_a_trace(&id(attempt), &clock);
            let ended = |code| Some(Exit::without_evidence(proto::Outcome::Exited { code }, record.requested));
            let (on_disk, was_told) = [(None, None), (None, ended(6)), (ended(7), None)][attempt as usize].clone();
            record.exit = on_disk;
            fs::write(record_file(&records_dir, &id(attempt)), serde_json::to_vec(&record).unwrap()).unwrap();
            record.exit = was_told;
            record.unsaved = record.exit.is_some().then(|| proto::Unsaved { errno: Some(28), message: String::new() });
            told.insert(id(attempt), record);
        }
        // As on a full disk: the file of the second cannot be replaced.
        fs::remove_file(record_file(&records_dir, &id(1))).unwrap();
        fs::create_dir_all(record_file(&records_dir, &id(1)).join("in the way")).unwrap();
        let mut records = Records::new();
        for attempt in [0, 2] {
            let bytes = fs::read(record_file(&records_dir, &id(attempt))).unwrap();
            records.insert(id(attempt), serde_json::from_slice(&bytes).unwrap());
        }
        complete(&records_dir, &mut records, told, &storage, &clock);
        storage.settle().await;
        fs::remove_dir_all(record_file(&records_dir, &id(1))).unwrap();
        let outcomes = |records: &Records| {
            records.values().map(|r| (r.exit.clone().unwrap().outcome, r.unsaved.clone())).collect::<Vec<_>>()
        };
        let exited = |code| (proto::Outcome::Exited { code }, None);
        let right = [(proto::Outcome::Lost, None), exited(6), exited(7)];
        assert_eq!(outcomes(&records), right);
        assert_eq!(outcomes(&read(&records_dir, &storage, &clock).unwrap()), right, "also before it is written");
        while !storage.waiting(&records_dir).is_empty() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert_eq!(outcomes(&read(&records_dir, &storage, &clock).unwrap()), right);
    }
}
