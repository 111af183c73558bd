//! The store itself: one lock, held for moments, and a counter that wakes the watchers.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use podwright_core::api::ENDED_AT;
use podwright_core::objects::Kind;
use podwright_core::time::Time;
use serde_json::{Value, json};
use tokio::sync::watch;

use super::changes::{Change, ChangeLog, Collection, Expired};
use super::events::{EventInput, Events};
use super::files::FileReport;
use super::index::Index;
use super::node::NodeReport;
use super::retention::{self, Retention};
use super::wall;
use crate::clock::Calendar;

/// A pod's identity here. Several ended pods may share namespace and name; at most one that is not ended does.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PodKey {
    /// `metadata.namespace`.
    pub namespace: String,
    /// `metadata.name`.
    pub name: String,
    /// `metadata.uid`.
    pub uid: String,
}

/// A pod as it is kept.
#[derive(Debug, Clone)]
pub struct StoredPod {
    /// Who it is.
    pub key: PodKey,
    /// The whole `v1` Pod as JSON, `metadata.resourceVersion` included.
    pub object: Arc<str>,
    /// Its selectable side.
    pub index: Arc<Index>,
    /// When it had ended, if it was removed since.
    pub ended_at: Option<Time>,
    version: u64,
}

/// A job or cron job as it is kept.
#[derive(Debug, Clone)]
struct StoredObject {
    object: Arc<str>,
    index: Arc<Index>,
    version: u64,
}

/// A list at one moment.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// A watch from here misses nothing.
    pub version: u64,
    /// The objects and their selectable sides, in the order of the list.
    pub items: Vec<(Arc<Index>, Arc<str>)>,
}

/// What [`Store::prune`] did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pruned {
    /// Pods that are forgotten; their directories may go.
    pub removed: Vec<PodKey>,
    /// When the next one will be due by its age.
    pub next: Option<Time>,
}

/// The object handed in is no pod.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a pod object without {missing} cannot be stored")]
pub struct PutError {
    /// The field that is absent or no string.
    pub missing: &'static str,
}

/// What the agent knows. Cheap to clone; every method takes the lock for a moment and never waits for a reader.
#[derive(Debug, Clone)]
pub struct Store {
    inner: Arc<Mutex<Inner>>,
    version: Arc<watch::Sender<u64>>,
}

#[derive(Debug)]
struct Inner {
    version: u64,
    pods: BTreeMap<PodKey, StoredPod>,
    /// Jobs and cron jobs, by namespace and name.
    objects: BTreeMap<(Kind, String, String), StoredObject>,
    events: Events,
    files: Vec<FileReport>,
    /// Paths, other than manifests, that a call has not come back from, and since when.
    silent: BTreeMap<PathBuf, Time>,
    node: NodeReport,
    changes: ChangeLog,
    calendar: Calendars,
}

/// Where the store learns how moments are shown.
#[derive(Clone)]
struct Calendars(Arc<dyn Fn() -> Calendar + Send + Sync>);

impl Calendars {
    fn now(&self) -> Calendar {
        (self.0)()
    }
}

impl std::fmt::Debug for Calendars {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.now().fmt(f)
    }
}

impl Store {
    /// An empty store. Versions count from `born` in milliseconds, so that they go on rising over restarts of the agent
    /// and a watcher with an old version is told to list again.
    pub fn new(born: Time) -> Self {
        let version = u64::try_from(born.0 / 1_000_000).unwrap_or(0);
        let inner = Inner {
            version,
            pods: BTreeMap::new(),
            objects: BTreeMap::new(),
            events: Events::default(),
            files: Vec::new(),
            silent: BTreeMap::new(),
            node: NodeReport::default(),
            changes: ChangeLog::new(version),
            calendar: Calendars(Arc::new(Calendar::default)),
        };
        Store { inner: Arc::new(Mutex::new(inner)), version: Arc::new(watch::Sender::new(version)) }
    }

    /// From now on moments are shown by this calendar: everything that is shown passes through here.
    pub fn shown_by(&self, calendar: impl Fn() -> Calendar + Send + Sync + 'static) {
        self.lock().calendar = Calendars(Arc::new(calendar));
    }

    /// The newest state of a pod: a whole `v1` Pod with `metadata.{namespace,name,uid}`. Nothing happens if it is the
    /// known one. A pod of that uid that had ended lives again; one of that name with another uid counts as ended at `now`.
    ///
    /// # Errors
    /// If one of the three is absent.
    pub fn put_pod(&self, mut pod: Value, now: Time) -> Result<(), PutError> {
        let key = key_of(&pod)?;
        self.change(|inner| {
            wall::show(&mut pod, &inner.calendar.now());
            let replaced: Vec<PodKey> = inner.named(&key.namespace, &key.name).map(|p| p.key.clone()).collect();
            for old in replaced.iter().filter(|k| **k != key) {
                inner.archive(old, now);
            }
            inner.put(key, pod, None);
        });
        Ok(())
    }

    /// The newest state of a job or cron job, as of [`Store::put_pod`].
    ///
    /// # Errors
    /// If it has no namespace, name or uid.
    pub fn put_object(&self, kind: Kind, mut object: Value) -> Result<(), PutError> {
        let key = key_of(&object)?;
        // A cron job goes by the wall clock throughout.
        let by_wall = kind == Kind::CronJob;
        self.change(|inner| {
            if !by_wall {
                wall::show(&mut object, &inner.calendar.now());
            }
            inner.put_object((kind, key.namespace, key.name), object);
        });
        Ok(())
    }

    /// A job or cron job is gone. Unknown ones are ignored.
    pub fn remove_object(&self, kind: Kind, namespace: &str, name: &str) {
        self.change(|inner| inner.remove_object(&(kind, namespace.to_owned(), name.to_owned())));
    }

    /// The job or cron job of that name, as JSON.
    pub fn object(&self, kind: Kind, namespace: &str, name: &str) -> Option<Arc<str>> {
        let key = (kind, namespace.to_owned(), name.to_owned());
        self.lock().objects.get(&key).map(|stored| Arc::clone(&stored.object))
    }

    /// All jobs, or all cron jobs, by namespace and name.
    pub fn objects(&self, kind: Kind) -> Snapshot {
        let inner = self.lock();
        let of = inner.objects.iter().filter(|((of, _, _), _)| *of == kind);
        let items = of.map(|(_, stored)| (Arc::clone(&stored.index), Arc::clone(&stored.object))).collect();
        Snapshot { version: inner.version, items }
    }

    /// The pod has ended and nothing is left of it but its last state, which stays readable. Unknown pods are ignored.
    pub fn archive_pod(&self, key: &PodKey, ended_at: Time) {
        self.change(|inner| inner.archive(key, ended_at));
    }

    /// Brings back an ended pod from an earlier life of the agent. A pod that is already known wins.
    ///
    /// # Errors
    /// As [`Store::put_pod`].
    pub fn restore_archived(&self, pod: Value, ended_at: Time) -> Result<(), PutError> {
        let key = key_of(&pod)?;
        self.change(|inner| {
            if !inner.pods.contains_key(&key) {
                inner.put(key, pod, Some(ended_at));
            }
        });
        Ok(())
    }

    /// Drops a pod without a trace.
    pub fn forget_pod(&self, key: &PodKey) {
        self.change(|inner| inner.forget(key));
    }

    /// Forgets the ended pods that are over the limits at `now`.
    pub fn prune(&self, limits: Retention, now: Time) -> Pruned {
        self.change(|inner| {
            let ended: Vec<(PodKey, Time)> =
                inner.pods.values().filter_map(|p| p.ended_at.map(|at| (p.key.clone(), at))).collect();
            let (removed, next) = retention::expired(&ended, limits, now);
            for key in &removed {
                inner.forget(key);
            }
            Pruned { removed, next }
        })
    }

    /// Adds an event, or counts it once more if it is the same as one before.
    pub fn record_event(&self, event: EventInput) {
        self.change(|inner| {
            inner.expire_events(event.at);
            let version = inner.next_version();
            let (before, record) = inner.events.record(event, version, &inner.calendar.now());
            let change = Change {
                version,
                collection: Collection::Events,
                before,
                after: Some(record.index.clone()),
                object: record.object.clone(),
            };
            inner.changes.push(change);
        });
    }

    /// The newest word on every file of the manifest directory; replaces the former one.
    pub fn set_files(&self, mut files: Vec<FileReport>) {
        files.sort_by(|a, b| a.file.cmp(&b.file));
        self.lock().files = files;
    }

    /// The reports of [`Store::set_files`], by name.
    pub fn files(&self) -> Vec<FileReport> {
        self.lock().files.clone()
    }

    /// A call on that path does not come back.
    pub fn set_silent(&self, path: &Path, since: Time) {
        self.lock().silent.insert(path.to_owned(), since);
    }

    /// It has come back.
    pub fn unset_silent(&self, path: &Path) {
        self.lock().silent.remove(path);
    }

    /// Since when a path does not answer; `None`: it does, as far as is known.
    pub fn silent_since(&self, path: &Path) -> Option<Time> {
        self.lock().silent.get(path).copied()
    }

    /// Every path, other than manifests, that does not answer, and since when.
    pub fn silent(&self) -> Vec<(PathBuf, Time)> {
        self.lock().silent.iter().map(|(path, since)| (path.clone(), *since)).collect()
    }

    /// The newest word on the node; replaces the former one.
    pub fn set_node(&self, node: NodeReport) {
        self.lock().node = node;
    }

    /// The report of [`Store::set_node`].
    pub fn node(&self) -> NodeReport {
        self.lock().node.clone()
    }

    /// The pod of that name that is not ended; else, if `ended` is set, the one that ended last.
    pub fn pod(&self, namespace: &str, name: &str, ended: bool) -> Option<StoredPod> {
        let inner = self.lock();
        let best = inner.named(namespace, name).max_by_key(|p| (p.ended_at.is_none(), p.ended_at))?;
        (ended || best.ended_at.is_none()).then(|| best.clone())
    }

    /// The ended and the other pods, by namespace and name; in the index is which is which.
    pub fn pods(&self) -> Snapshot {
        let inner = self.lock();
        let items = inner.pods.values().map(|p| (p.index.clone(), p.object.clone())).collect();
        Snapshot { version: inner.version, items }
    }

    /// The present version: a watch from here shows what comes.
    pub fn version(&self) -> u64 {
        self.lock().version
    }

    /// Shows all events by the calendar as it is now: the clock was set.
    pub fn reshow_events(&self) {
        self.change(|inner| inner.events.reshow(&inner.calendar.now()));
    }

    /// The events at `now`, the one seen last at the end.
    pub fn events(&self, now: Time) -> Snapshot {
        self.change(|inner| {
            inner.expire_events(now);
            let items = inner.events.iter().map(|e| (e.index.clone(), e.object.clone())).collect();
            Snapshot { version: inner.version, items }
        })
    }

    /// Follows a collection from `version` on (see [`Snapshot::version`]).
    pub fn watch(&self, collection: Collection, version: u64) -> Watcher {
        Watcher { store: self.clone(), wake: self.version.subscribe(), collection, version }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // No method leaves the maps half changed, so a panic elsewhere does not make them wrong.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change<T>(&self, f: impl FnOnce(&mut Inner) -> T) -> T {
        let mut inner = self.lock();
        let result = f(&mut inner);
        let version = inner.version;
        drop(inner);
        self.version.send_if_modified(|seen| {
            let newer = version > *seen;
            *seen = version.max(*seen);
            newer
        });
        result
    }
}

impl Inner {
    fn next_version(&mut self) -> u64 {
        self.version += 1;
        self.version
    }

    fn named<'a>(&'a self, namespace: &'a str, name: &'a str) -> impl Iterator<Item = &'a StoredPod> {
        let from = PodKey { namespace: namespace.into(), name: name.into(), uid: String::new() };
        self.pods
            .range(from..)
            .map(|(_, pod)| pod)
            .take_while(move |p| p.key.namespace == namespace && p.key.name == name)
    }

    fn put(&mut self, key: PodKey, mut pod: Value, ended_at: Option<Time>) {
        mark_ended(&mut pod, ended_at.map(|at| self.calendar.now().show(at)));
        let mut index = Index::of(&pod, Kind::Pod.selectable());
        index.archived = ended_at.is_some();
        if let Some(known) = self.pods.get(&key) {
            pod["metadata"]["resourceVersion"] = json!(known.version.to_string());
            if known.ended_at == ended_at && *known.object == *pod.to_string() {
                return;
            }
        }
        let version = self.next_version();
        pod["metadata"]["resourceVersion"] = json!(version.to_string());
        let stored =
            StoredPod { key: key.clone(), object: pod.to_string().into(), index: Arc::new(index), ended_at, version };
        let (after, object) = (Some(stored.index.clone()), stored.object.clone());
        let before = self.pods.insert(key, stored).map(|p| p.index);
        self.changes.push(Change { version, collection: Collection::Objects(Kind::Pod), before, after, object });
    }

    fn put_object(&mut self, key: (Kind, String, String), mut object: Value) {
        let index = Arc::new(Index::of(&object, key.0.selectable()));
        if let Some(known) = self.objects.get(&key) {
            object["metadata"]["resourceVersion"] = json!(known.version.to_string());
            if *known.object == *object.to_string() {
                return;
            }
        }
        let (collection, version) = (Collection::Objects(key.0), self.next_version());
        object["metadata"]["resourceVersion"] = json!(version.to_string());
        let stored = StoredObject { object: object.to_string().into(), index, version };
        let (after, object) = (Some(Arc::clone(&stored.index)), Arc::clone(&stored.object));
        let before = self.objects.insert(key, stored).map(|stored| stored.index);
        self.changes.push(Change { version, collection, before, after, object });
    }

    fn remove_object(&mut self, key: &(Kind, String, String)) {
        let Some(StoredObject { object, index, .. }) = self.objects.remove(key) else { return };
        let version = self.next_version();
        self.changes.push(Change {
            version,
            collection: Collection::Objects(key.0),
            before: Some(index),
            after: None,
            object,
        });
    }

    fn archive(&mut self, key: &PodKey, ended_at: Time) {
        let Some(pod) = self.pods.get(key).filter(|p| p.ended_at.is_none()) else { return };
        if let Ok(object) = serde_json::from_str(&pod.object) {
            self.put(key.clone(), object, Some(ended_at));
        }
    }

    fn forget(&mut self, key: &PodKey) {
        let Some(pod) = self.pods.remove(key) else { return };
        let version = self.next_version();
        let (before, object) = (Some(pod.index), pod.object);
        self.changes.push(Change { version, collection: Collection::Objects(Kind::Pod), before, after: None, object });
    }

    fn expire_events(&mut self, now: Time) {
        for gone in self.events.expire(now) {
            let version = self.next_version();
            let (before, object) = (Some(gone.index), gone.object);
            self.changes.push(Change { version, collection: Collection::Events, before, after: None, object });
        }
    }
}

fn mark_ended(pod: &mut Value, ended_at: Option<Time>) {
    match ended_at {
        Some(at) => pod["metadata"]["annotations"][ENDED_AT] = json!(at.to_timestamp().to_string()),
        None => {
            if let Some(annotations) = pod.pointer_mut("/metadata/annotations").and_then(Value::as_object_mut) {
                annotations.remove(ENDED_AT);
            }
        }
    }
}

fn key_of(pod: &Value) -> Result<PodKey, PutError> {
    let field = |pointer: &str, missing| {
        pod.pointer(pointer).and_then(Value::as_str).map(str::to_owned).ok_or(PutError { missing })
    };
    Ok(PodKey {
        namespace: field("/metadata/namespace", "metadata.namespace")?,
        name: field("/metadata/name", "metadata.name")?,
        uid: field("/metadata/uid", "metadata.uid")?,
    })
}

/// Follows the changes of a collection at its own pace: the store never waits for it.
#[derive(Debug)]
pub struct Watcher {
    store: Store,
    wake: watch::Receiver<u64>,
    collection: Collection,
    version: u64,
}

impl Watcher {
    /// Waits for changes and returns them in order; never an empty list. Cancel-safe: nothing is taken before it returns.
    ///
    /// # Errors
    /// When it has fallen too far behind: the caller has to list again.
    pub async fn next(&mut self) -> Result<Vec<Change>, Expired> {
        loop {
            self.wake.borrow_and_update();
            let changes = {
                let inner = self.store.lock();
                let changes = inner.changes.since(self.version, self.collection)?;
                self.version = self.version.max(inner.version);
                changes
            };
            if !changes.is_empty() {
                return Ok(changes);
            }
            // Cannot close: `self.store` holds the sender.
            if self.wake.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(name: &str, uid: &str, phase: &str) -> Value {
        json!({"metadata": {"namespace": "default", "name": name, "uid": uid, "labels": {"app": "x"}},
               "status": {"phase": phase}})
    }

    fn key(name: &str, uid: &str) -> PodKey {
        PodKey { namespace: "default".into(), name: name.into(), uid: uid.into() }
    }

    fn store() -> Store {
        Store::new(Time(5_000_000_000))
    }

    #[test]
    fn an_unchanged_pod_is_no_change() {
        let store = store();
        store.put_pod(pod("a", "1", "Pending"), Time(0)).unwrap();
        let first = store.pods().version;
        store.put_pod(pod("a", "1", "Pending"), Time(1)).unwrap();
        assert_eq!(store.pods().version, first);
        store.put_pod(pod("a", "1", "Running"), Time(2)).unwrap();
        assert_eq!(store.pods().version, first + 1);
        let object: Value = serde_json::from_str(&store.pod("default", "a", false).unwrap().object).unwrap();
        assert_eq!(object["metadata"]["resourceVersion"], (first + 1).to_string());
        assert_eq!(object["metadata"].get("annotations"), None);
        assert_eq!(
            store.put_pod(json!({"metadata": {"name": "x", "namespace": "y"}}), Time(0)),
            Err(PutError { missing: "metadata.uid" })
        );
    }

    #[test]
    fn the_living_pod_of_a_name_wins_and_then_the_one_that_ended_last() {
        let store = store();
        store.restore_archived(pod("a", "1", "Succeeded"), Time(10)).unwrap();
        store.put_pod(pod("a", "2", "Running"), Time(20)).unwrap();
        store.put_pod(pod("ab", "9", "Running"), Time(20)).unwrap();
        assert_eq!(store.pod("default", "a", true).unwrap().key.uid, "2");
        store.put_pod(pod("a", "0", "Running"), Time(30)).unwrap();
        assert_eq!(store.pod("default", "a", true).unwrap().key.uid, "0");
        store.archive_pod(&key("a", "0"), Time(40_000_000_000));
        let object: Value = serde_json::from_str(&store.pod("default", "a", true).unwrap().object).unwrap();
        assert_eq!(object["metadata"]["annotations"][ENDED_AT], "1970-01-01T00:00:40Z");
        assert!(store.pod("default", "a", false).is_none());
        assert_eq!(store.pod("default", "a", true).unwrap().key.uid, "0");
        store.put_pod(pod("a", "1", "Pending"), Time(50)).unwrap();
        assert_eq!(store.pod("default", "a", false).unwrap().key.uid, "1");
        let limits = Retention { age: std::time::Duration::from_secs(60), pods: 1 };
        assert_eq!(store.prune(limits, Time(60)).removed, [key("a", "2")]);
    }

    #[tokio::test]
    async fn a_watcher_sees_every_state_in_order_and_the_end() {
        let store = store();
        store.put_pod(pod("a", "1", "Pending"), Time(0)).unwrap();
        let mut watcher = store.watch(Collection::Objects(Kind::Pod), store.pods().version);
        store.put_pod(pod("a", "1", "Running"), Time(0)).unwrap();
        store.put_pod(pod("a", "1", "Succeeded"), Time(0)).unwrap();
        store.archive_pod(&key("a", "1"), Time(1));
        store.forget_pod(&key("a", "1"));
        let seen = watcher.next().await.unwrap();
        let phases: Vec<_> =
            seen.iter().map(|c| c.after.as_ref().map(|i| (i.fields["status.phase"].as_str(), i.archived))).collect();
        assert_eq!(phases, [Some(("Running", false)), Some(("Succeeded", false)), Some(("Succeeded", true)), None]);
        store.record_event(EventInput {
            subject: super::super::Subject::File { path: "/m/a.yaml".into() },
            reason: "R".into(),
            message: "m".into(),
            warning: true,
            at: Time(1),
        });
        assert!(tokio::time::timeout(std::time::Duration::from_millis(50), watcher.next()).await.is_err());
        for i in 0..3000 {
            store.put_pod(pod("a", "1", &i.to_string()), Time(0)).unwrap();
        }
        assert!(watcher.next().await.is_err());
    }
}
