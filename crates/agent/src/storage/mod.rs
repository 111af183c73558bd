//! Which of the agent's writes fail now, since when and why; and what is to be written until it is written.
//!
//! One owner for all writers: pods, records, jobs, cron jobs. A writer that can wait hands over its bytes ([`Storage::keep`]):
//! they are tried again until the disk takes them, and until then they, not the file, are what is read back
//! ([`Storage::read`]). One that waits itself reports how it fared ([`Storage::report`]) and pauses here
//! ([`Storage::pause`]), so that all go on as soon as one of them gets through.
//!
//! What fails is shown as conditions of the node ([`condition`]), told by an event when it begins and when it ends, and named
//! in the explanation of every object that waits for it ([`Storage::below`]).

pub mod condition;

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use podwright_core::time::Time;
use podwright_sys::durable::{self, Durability};
use podwright_sys::own::{MAX_STATE, read_regular};
use serde_json::json;
use tokio::runtime::Handle;
use tokio::sync::Notify;

use crate::clock::Clock;
use crate::status::{EventInput, NodeReport, Store, Subject};
use condition::{Condition, errno_text};

/// The longest pause between two tries; the first ones are shorter.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
const FIRST_PAUSE: Duration = Duration::from_millis(500);

/// Told after every try to write what was handed over, or something newer, until that is on disk: `Err` is why it is not.
pub type Listener = Box<dyn FnMut(Result<(), &str>) + Send>;

/// A write that fails.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// What of the node that is.
    pub condition: Condition,
    /// Since when.
    pub since: Time,
    /// The kernel's word.
    pub error: String,
}

/// A file that is to be written: where, and what.
pub type File = (PathBuf, Arc<[u8]>);

/// What is to be written.
struct Waiting {
    /// In this order.
    files: Vec<File>,
    durability: Durability,
    version: u64,
    /// A try of this version has been made.
    tried: bool,
    listeners: Vec<Listener>,
    changed: Arc<Notify>,
    in_flight: bool,
}

/// What a try writes, its version, and what tells of a newer one.
type Next = (Vec<File>, Durability, u64, Arc<Notify>);

#[derive(Default)]
struct Inner {
    failures: BTreeMap<PathBuf, Failure>,
    /// By the file, or by the directory of files that are written together.
    waiting: BTreeMap<PathBuf, Waiting>,
    /// When the conditions took their present value.
    since: BTreeMap<Condition, Time>,
    /// What could not be removed so far, and why.
    leftovers: BTreeMap<PathBuf, String>,
}

/// The agent's writes.
pub struct Storage {
    inner: Mutex<Inner>,
    /// Something could be written that could not be before.
    lifted: Notify,
    /// A try is through.
    tried: Notify,
    /// What is being removed just now, and may be wanted again.
    removing: Mutex<BTreeSet<PathBuf>>,
    removed: Condvar,
    state: PathBuf,
    node: String,
    store: Store,
    clock: Arc<Clock>,
    runtime: Handle,
}

impl std::fmt::Debug for Storage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Storage").field("state", &self.state).finish_non_exhaustive()
    }
}

impl Storage {
    /// For the agent of this node, whose state is below `state`. Called in its runtime.
    pub fn new(state: &Path, node: &str, store: Store, clock: Arc<Clock>) -> Arc<Storage> {
        let since = Condition::ALL.into_iter().map(|condition| (condition, clock.now())).collect();
        let storage = Storage {
            inner: Mutex::new(Inner { since, ..Inner::default() }),
            lifted: Notify::new(),
            tried: Notify::new(),
            removing: Mutex::default(),
            removed: Condvar::new(),
            state: state.to_owned(),
            node: node.to_owned(),
            store,
            clock,
            runtime: Handle::current(),
        };
        storage.show(&storage.lock());
        Arc::new(storage)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Nothing panics while it holds the lock.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes this in place of `path` as soon as the disk takes it; of several versions only the newest.
    pub fn keep(self: &Arc<Self>, path: &Path, bytes: Vec<u8>, durability: Durability, listener: Option<Listener>) {
        self.keep_all(path, vec![(path.to_owned(), bytes.into())], durability, listener);
    }

    /// The same of files of `path`, a directory, that belong together: they are written in this order, and `listener` is told of all of
    /// them. What a newer call does not name is written as an older one has it.
    pub fn keep_all(
        self: &Arc<Self>,
        path: &Path,
        files: Vec<File>,
        durability: Durability,
        listener: Option<Listener>,
    ) {
        let mut inner = self.lock();
        let known = inner.waiting.remove(path);
        let begins = known.is_none();
        let mut entry = known.unwrap_or_else(|| Waiting {
            files: Vec::new(),
            durability,
            version: 0,
            tried: false,
            listeners: Vec::new(),
            changed: Arc::new(Notify::new()),
            in_flight: false,
        });
        entry.version += 1;
        entry.files = merged(std::mem::take(&mut entry.files), files);
        (entry.durability, entry.tried) = (durability, false);
        entry.listeners.extend(listener);
        entry.changed.notify_one();
        inner.waiting.insert(path.to_owned(), entry);
        drop(inner);
        if begins {
            self.spawn(Arc::clone(self).write(path.to_owned()));
        }
    }

    /// Has something done beside, whatever thread asks.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.runtime.spawn(task);
    }

    async fn write(self: Arc<Self>, path: PathBuf) {
        let mut tries = 0;
        while let Some((files, durability, version, changed)) = self.next(&path) {
            let write = move || files.iter().try_for_each(|(path, bytes)| write_file(path, bytes, durability));
            let written = tokio::task::spawn_blocking(write).await;
            let written = written.map_err(anyhow::Error::from).flatten();
            let failure = written.as_ref().err().map(|error| format!("{error:#}"));
            self.report(&path, written.as_ref().err().map(AsRef::as_ref));
            let done = self.tell(&path, version, failure.as_deref());
            self.tried.notify_waiters();
            match (done, failure.is_some()) {
                (true, _) => return,
                (false, false) => tries = 0,
                (false, true) => {
                    tokio::select! {
                        // Cancel-safe: a timer or a notice.
                        () = self.pause(tries) => {}
                        // Cancel-safe: a notice.
                        () = changed.notified() => {}
                    }
                    tries += 1;
                }
            }
        }
        self.tried.notify_waiters();
    }

    /// What is to be written of `path` now; `None`: nothing any more.
    fn next(&self, path: &Path) -> Option<Next> {
        let mut inner = self.lock();
        let entry = inner.waiting.get_mut(path)?;
        entry.in_flight = true;
        Some((entry.files.clone(), entry.durability, entry.version, Arc::clone(&entry.changed)))
    }

    /// Tells the listeners how a try of `version` went; `true`: nothing is left to do.
    fn tell(&self, path: &Path, version: u64, failure: Option<&str>) -> bool {
        let mut inner = self.lock();
        let Some(entry) = inner.waiting.get_mut(path) else { return true };
        entry.in_flight = false;
        if entry.version != version {
            // Those who wait are told how the newer version fares.
            return false;
        }
        entry.tried = true;
        let mut listeners = std::mem::take(&mut entry.listeners);
        if failure.is_none() {
            inner.waiting.remove(path);
        }
        drop(inner);
        listeners.iter_mut().for_each(|listener| listener(failure.map_or(Ok(()), Err)));
        if failure.is_some()
            && let Some(entry) = self.lock().waiting.get_mut(path)
        {
            listeners.append(&mut entry.listeners);
            entry.listeners = listeners;
        }
        failure.is_none()
    }

    /// What there is of `path`: what is to be written, if that is not on disk yet.
    ///
    /// # Errors
    /// Those of reading the file.
    pub fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let kept = {
            let inner = self.lock();
            let entries = [Some(path), path.parent()].into_iter().flatten().filter_map(|of| inner.waiting.get(of));
            entries.flat_map(|entry| &entry.files).find(|(of, _)| of == path).map(|(_, bytes)| Arc::clone(bytes))
        };
        kept.map_or_else(|| read_regular(path, MAX_STATE), |bytes| Ok(bytes.to_vec()))
    }

    /// What is to be written below a directory.
    pub fn waiting(&self, directory: &Path) -> Vec<File> {
        let inner = self.lock();
        let all = inner.waiting.values().flat_map(|entry| &entry.files);
        all.filter(|(path, _)| path.starts_with(directory)).cloned().collect()
    }

    /// Nothing below this directory is to be written any more: it is removed.
    pub async fn forget(&self, directory: &Path) {
        loop {
            let tried = self.tried.notified();
            let busy = {
                let mut inner = self.lock();
                let below = |path: &Path| path.starts_with(directory);
                inner.waiting.retain(|path, entry| entry.in_flight || !below(path));
                inner.waiting.keys().any(|path| below(path))
            };
            if !busy {
                // Whatever was under way has said how it went.
                return self.clear(directory);
            }
            tried.await;
        }
    }

    /// Waits until of everything the newest version has been tried at least once.
    pub async fn settle(&self) {
        loop {
            let tried = self.tried.notified();
            if self.lock().waiting.values().all(|entry| entry.tried) {
                return;
            }
            tried.await;
        }
    }

    /// How a try to write `path` went.
    pub fn report(&self, path: &Path, failure: Option<&(dyn Error + 'static)>) {
        let now = self.clock.now();
        let mut inner = self.lock();
        let before = inner.failures.clone();
        match failure {
            Some(error) => {
                let (condition, error) = condition::of(error);
                let since = inner.failures.get(path).map_or(now, |known| known.since);
                inner.failures.insert(path.to_owned(), Failure { condition, since, error });
            }
            None => drop(inner.failures.remove(path)),
        }
        self.changed(inner, &before, now);
    }

    /// Nobody tries to write anything below this directory any more.
    pub fn clear(&self, directory: &Path) {
        let mut inner = self.lock();
        let before = inner.failures.clone();
        inner.failures.retain(|path, _| !path.starts_with(directory));
        self.changed(inner, &before, self.clock.now());
    }

    fn changed(&self, mut inner: MutexGuard<'_, Inner>, before: &BTreeMap<PathBuf, Failure>, now: Time) {
        if inner.failures == *before {
            return;
        }
        let fewer = before.keys().any(|path| !inner.failures.contains_key(path));
        let holds = |failures: &BTreeMap<PathBuf, Failure>, condition| {
            failures.values().find(|failure| failure.condition == condition).map(|failure| failure.error.clone())
        };
        for condition in Condition::ALL {
            let error = match (holds(before, condition), holds(&inner.failures, condition)) {
                (None, Some(error)) => Some(error),
                (Some(_), None) => None,
                _ => continue,
            };
            inner.since.insert(condition, now);
            self.event(condition, error, now);
        }
        self.show(&inner);
        drop(inner);
        if fewer {
            self.lifted.notify_waiters();
        }
    }

    fn event(&self, condition: Condition, error: Option<String>, now: Time) {
        let (warning, state) = (error.is_some(), self.state.display());
        let message = match &error {
            Some(error) => format!("what the agent keeps below {state} cannot be written: {error}"),
            None => format!("what the agent keeps below {state} can be written again"),
        };
        if warning {
            tracing::error!(condition = condition.name(), "{message}; it is tried again every few seconds");
        } else {
            tracing::info!(condition = condition.name(), "{message}");
        }
        self.store.record_event(EventInput {
            subject: Subject::Node { name: self.node.clone() },
            reason: condition.event(warning).to_owned(),
            message,
            warning,
            at: now,
        });
    }

    fn show(&self, inner: &Inner) {
        let ready = json!({
            "type": "Ready", "status": "True", "reason": "AgentReady", "message": "podwrightd runs",
            "lastTransitionTime": inner.since.values().min().map(|at| at.to_timestamp().to_string()),
        });
        let all = Condition::ALL.into_iter().map(|condition| {
            let failing: Vec<(&PathBuf, &Failure)> =
                inner.failures.iter().filter(|(_, failure)| failure.condition == condition).collect();
            let message = match failing.as_slice() {
                [] => condition.fine().to_owned(),
                [(path, failure), rest @ ..] => {
                    let more = if rest.is_empty() { String::new() } else { format!(" and {} more", rest.len()) };
                    format!("{}{more} cannot be written: {}", path.display(), failure.error)
                }
            };
            let since = inner.since.get(&condition).map(|at| at.to_timestamp().to_string());
            json!({
                "type": condition.name(),
                "status": if failing.is_empty() { "False" } else { "True" },
                "reason": condition.reason(!failing.is_empty()),
                "message": message,
                "lastTransitionTime": since,
            })
        });
        let conditions = [ready].into_iter().chain(all).collect();
        let leftovers = inner.leftovers.iter();
        let leftovers = leftovers.map(|(path, error)| json!({"path": path, "error": error})).collect();
        self.store.set_node(NodeReport { name: self.node.clone(), conditions, leftovers });
    }

    /// Something could not be removed, and is tried again; `None`: it is gone, or in use again.
    pub fn leftover(&self, path: &Path, error: Option<String>) {
        let mut inner = self.lock();
        let known = inner.leftovers.remove(path);
        let said = match (&known, &error) {
            (None, Some(error)) => Some((true, "FailedCleanUp", format!("cannot remove {}: {error}", path.display()))),
            (Some(_), None) => Some((false, "CleanedUp", format!("{} is removed", path.display()))),
            (None, None) => return,
            (Some(_), Some(_)) => None,
        };
        inner.leftovers.extend(error.map(|error| (path.to_owned(), error)));
        self.show(&inner);
        drop(inner);
        let Some((warning, reason, message)) = said else { return };
        if warning {
            tracing::error!("{message}; it is tried again");
        } else {
            tracing::info!("{message}");
        }
        let (subject, reason) = (Subject::Node { name: self.node.clone() }, reason.to_owned());
        self.store.record_event(EventInput { subject, reason, message, warning, at: self.clock.now() });
    }

    /// Whether it is still to be removed.
    pub fn is_leftover(&self, path: &Path) -> bool {
        self.lock().leftovers.contains_key(path)
    }

    /// The turn of whoever removes what is at `path`, or takes its place. Waits for that of the same path alone: a container may have
    /// made a tree that takes minutes.
    pub fn removal(&self, path: &Path) -> Turn<'_> {
        let removing = self.removing.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = |removing: &mut BTreeSet<PathBuf>| removing.contains(path);
        let mut removing = self.removed.wait_while(removing, taken).unwrap_or_else(PoisonError::into_inner);
        removing.insert(path.to_owned());
        Turn { storage: self, path: path.to_owned() }
    }

    /// What cannot be written below a directory, and what cannot be removed there, a sentence each.
    pub fn below(&self, directory: &Path) -> Vec<String> {
        let (inner, now) = (self.lock(), self.clock.now());
        let failures = inner.failures.iter().filter(|(path, _)| path.starts_with(directory)).map(|(path, failure)| {
            let seconds = now.since(failure.since).as_secs();
            format!("{} cannot be written for {seconds} s: {}; it is tried again", path.display(), failure.error)
        });
        let leftovers = inner.leftovers.iter().filter(|(path, _)| path.starts_with(directory));
        let leftovers =
            leftovers.map(|(path, error)| format!("{} cannot be removed: {error}; it is tried again", path.display()));
        failures.chain(leftovers).collect()
    }

    /// Waits before the next try, after `tries` that failed: not long, and no longer once anybody gets through. Cancel-safe.
    pub async fn pause(&self, tries: u32) {
        let pause = FIRST_PAUSE.saturating_mul(1 << tries.min(8)).min(LONGEST_PAUSE);
        // In time either way; that it has elapsed is no error.
        let _elapsed = tokio::time::timeout(pause, self.lifted.notified()).await;
    }
}

/// Nobody else removes what is at a path, or takes its place, as long as this lives.
#[derive(Debug)]
pub struct Turn<'a> {
    storage: &'a Storage,
    path: PathBuf,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.storage.removing.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.path);
        self.storage.removed.notify_all();
    }
}

/// What is to be written once `new` was handed over: the order is that of the call that names every file.
fn merged(old: Vec<File>, new: Vec<File>) -> Vec<File> {
    let is_in = |files: &[File], path: &Path| files.iter().any(|(of, _)| of == path);
    if old.iter().all(|(path, _)| is_in(&new, path)) {
        return new;
    }
    let newest = |(path, bytes): File| {
        let bytes = new.iter().find(|(of, _)| *of == path).map_or(bytes, |(_, bytes)| Arc::clone(bytes));
        (path, bytes)
    };
    let rest: Vec<File> = new.iter().filter(|(path, _)| !is_in(&old, path)).cloned().collect();
    old.into_iter().map(newest).chain(rest).collect()
}

/// Writes a file, with its directories.
fn write_file(path: &Path, bytes: &[u8], durability: Durability) -> anyhow::Result<()> {
    if let Some(directory) = path.parent().filter(|directory| !directory.is_dir()) {
        // As `preflight` makes them: what pods keep is for nobody else.
        let mut private = std::fs::DirBuilder::new();
        private.recursive(true).mode(0o700).create(directory).map_err(|source| durable::WriteError {
            path: directory.to_owned(),
            step: "create",
            source,
        })?;
        if durability == Durability::Synced {
            for above in directory.ancestors().skip(1).take(2) {
                durable::sync_directory(above)?;
            }
        }
    }
    Ok(durable::write_atomic(path, bytes, durability)?)
}

/// A listener that says once how the first try went: `Err` is why it is not on disk yet.
pub fn told(answer: tokio::sync::oneshot::Sender<Result<(), String>>) -> Listener {
    let mut answer = Some(answer);
    Box::new(move |result| {
        if let Some(answer) = answer.take() {
            // Whoever asked may have gone.
            drop(answer.send(result.map_err(str::to_owned)));
        }
    })
}

/// The error that a shim told.
pub fn shim_error(errno: Option<i32>, message: &str) -> io::Error {
    errno.map_or_else(|| io::Error::other(errno_text(message)), io::Error::from_raw_os_error)
}

#[cfg(test)]
mod tests;
