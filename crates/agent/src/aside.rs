//! Calls that may never return, each aside from all others.
//!
//! A path that a manifest, a bundle or a setting names may lead to a file system that nobody serves any more (FUSE, NFS); whoever
//! makes a call on it waits as long as that lasts, and cannot be stopped. So such calls are made in threads of their own: one at a
//! time for each path, so that trying again costs no more threads, and no more than a number of them for each purpose, so that one
//! purpose cannot use up what another needs. Whoever asks is told after a while that there is no answer; what does not answer is shown
//! (`podwright get events`, `/healthz?verbose`) until it does.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread;
use std::time::Duration;

use podwright_core::time::Time;
use podwright_sys::thread::keep_only;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::{Instant, timeout, timeout_at};

use crate::clock::Clock;
use crate::sources::directory::decide::silent;
use crate::status::{EventInput, Store, Subject};

/// How long an answer is waited for. Disks that have to spin up take as long.
const PATIENCE: Duration = Duration::from_secs(10);

/// How often as long a call waits for those before it that are each answered: then it is too much that is asked of one path.
const TURNS: u32 = 6;

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoAnswer {
    /// The path does not answer.
    #[error("{}", silent(&path.display().to_string(), *since))]
    Silent {
        /// Which.
        path: PathBuf,
        /// Since when.
        since: Time,
    },
    /// Each of the calls on it is answered, and too many of them came first.
    #[error("{}: not looked at: its turn did not come within {waited:?}, since many others look there", path.display())]
    Busy {
        /// What was asked for.
        path: PathBuf,
        /// How long that was waited for.
        waited: Duration,
    },
    /// As many others as may be do not answer.
    #[error("{}: not looked at: {most} other {what} do not answer", path.display())]
    Full {
        /// What was asked for.
        path: PathBuf,
        /// How many there may be.
        most: usize,
        /// Of what.
        what: &'static str,
    },
    /// The kernel grants no thread, or the call panicked.
    #[error("{}: {message}", path.display())]
    Broken {
        /// What was asked for.
        path: PathBuf,
        /// Why.
        message: String,
    },
}

/// The place for the calls of one purpose. Cheap to clone.
#[derive(Clone)]
pub struct Aside {
    shared: Arc<Shared>,
    /// How long an answer is waited for before it is missed.
    patience: Duration,
}

struct Shared {
    /// In the plural, for people.
    what: &'static str,
    most: usize,
    threads: Arc<Semaphore>,
    /// Whoever holds a path's permit makes the call on it.
    turns: Mutex<HashMap<PathBuf, Arc<Semaphore>>>,
    store: Store,
    clock: Arc<Clock>,
}

/// How far a call has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Running,
    /// It is shown as silent.
    Shown,
    Done,
}

/// What a call holds until it returns.
struct Call {
    place: Arc<Shared>,
    path: PathBuf,
    since: Time,
    phase: Mutex<Phase>,
}

impl fmt::Debug for Aside {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Aside").field("what", &self.shared.what).finish_non_exhaustive()
    }
}

impl Aside {
    /// A place for at most `most` calls at a time; `what` they are about, in the plural.
    pub fn new(what: &'static str, most: usize, store: Store, clock: Arc<Clock>) -> Aside {
        let (threads, turns) = (Arc::new(Semaphore::new(most)), Mutex::default());
        Aside { shared: Arc::new(Shared { what, most, threads, turns, store, clock }), patience: PATIENCE }
    }

    /// The same place for calls that may take so long.
    pub fn patient(self, patience: Duration) -> Aside {
        Aside { patience, ..self }
    }

    /// Makes a call that looks at `path`. A call that does not return in time goes on, and nobody gets its answer: it must change
    /// nothing that its caller would not want changed later.
    ///
    /// The call has a table of descriptors of its own ([`keep_only`]): it must use none that is open already.
    ///
    /// # Errors
    /// When there is no answer in time.
    pub async fn look<T: Send + 'static>(
        &self,
        path: &Path,
        call: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, NoAnswer> {
        let (held, mut answer) = self.begin(path, Some(self.patience), call).await?;
        let deadline = Instant::now() + self.patience;
        match timeout_at(deadline, &mut answer).await {
            Ok(answer) => answer.map_err(|_| broken(path, "the call on it panicked")),
            Err(_) => match held.show() {
                true => Err(NoAnswer::Silent { path: path.to_owned(), since: held.since }),
                // It has just come.
                false => answer.await.map_err(|_| broken(path, "the call on it panicked")),
            },
        }
    }

    /// Makes a call that changes `path`, and waits for it as long as it takes.
    ///
    /// # Errors
    /// When there is no thread to be had, or the call panics.
    pub async fn change<T: Send + 'static>(
        &self,
        path: &Path,
        call: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, NoAnswer> {
        let (held, mut answer) = self.begin(path, None, call).await?;
        let answer = match timeout_at(Instant::now() + self.patience, &mut answer).await {
            Ok(answer) => answer,
            Err(_) => {
                held.show();
                answer.await
            }
        };
        answer.map_err(|_| broken(path, "the call on it panicked"))
    }

    /// Waits for the path: for as long as whoever has it does not answer, and longer where many have it one after the other.
    async fn turn(&self, path: &Path, patience: Option<Duration>) -> Result<OwnedSemaphorePermit, NoAnswer> {
        let place = &self.shared;
        let closed = |_| broken(path, "its calls have ended");
        let mut granted = pin!(place.turn(path).acquire_owned());
        let Some(patience) = patience else { return granted.await.map_err(closed) };
        for _ in 0..TURNS {
            if let Ok(turn) = timeout(patience, granted.as_mut()).await {
                return turn.map_err(closed);
            }
            if let Some(since) = place.store.silent_since(path) {
                return Err(NoAnswer::Silent { path: path.to_owned(), since });
            }
        }
        Err(NoAnswer::Busy { path: path.to_owned(), waited: patience * TURNS })
    }

    /// Waits for the path and a thread, then begins.
    async fn begin<T: Send + 'static>(
        &self,
        path: &Path,
        patience: Option<Duration>,
        call: impl FnOnce() -> T + Send + 'static,
    ) -> Result<(Arc<Call>, oneshot::Receiver<T>), NoAnswer> {
        let place = &self.shared;
        let turn = match self.turn(path, patience).await {
            Ok(turn) => turn,
            Err(none) => {
                place.tidy(path);
                return Err(none);
            }
        };
        let deadline = patience.map(|patience| Instant::now() + patience);
        let Some(thread) = granted(Arc::clone(&place.threads), deadline).await else {
            drop(turn);
            place.tidy(path);
            return Err(NoAnswer::Full { path: path.to_owned(), most: place.most, what: place.what });
        };
        let held = Arc::new(Call {
            place: Arc::clone(place),
            path: path.to_owned(),
            since: place.clock.now(),
            phase: Mutex::new(Phase::Running),
        });
        let (sender, answer) = oneshot::channel();
        let end = {
            let held = Arc::clone(&held);
            move |result: Option<T>| {
                // First, so that whoever is told finds it so.
                held.done();
                drop((turn, thread));
                held.place.tidy(&held.path);
                if let Some(result) = result {
                    // Whoever asked may not wait any more.
                    drop(sender.send(result));
                }
            }
        };
        let relay = relay().map_err(|error| broken(path, &error.to_string()))?;
        let spawned = thread::Builder::new().name("aside".to_owned()).spawn(move || {
            if let Err(error) = keep_only(&[]) {
                tracing::debug!(%error, "a call that may not return shares the agent's descriptors");
            }
            let result = catch_unwind(AssertUnwindSafe(call)).ok();
            // The relay lives as long as the process.
            let _never = relay.send(Box::new(move || end(result)));
        });
        spawned.map_err(|error| broken(path, &error.to_string()))?;
        Ok((held, answer))
    }
}

/// What is to be done once a call has returned.
type End = Box<dyn FnOnce() + Send>;

/// Takes the ends of calls: they wake tasks, which takes descriptors that whoever makes a call does not have.
fn relay() -> io::Result<mpsc::Sender<End>> {
    static RELAY: Mutex<Option<mpsc::Sender<End>>> = Mutex::new(None);
    let mut relay = RELAY.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(relay) = &*relay {
        return Ok(relay.clone());
    }
    let (sender, ends) = mpsc::channel::<End>();
    thread::Builder::new().name("aside-ends".to_owned()).spawn(move || ends.iter().for_each(|end| end()))?;
    Ok(relay.insert(sender).clone())
}

fn broken(path: &Path, message: &str) -> NoAnswer {
    NoAnswer::Broken { path: path.to_owned(), message: message.to_owned() }
}

/// A permit; `None`: there is none in time.
async fn granted(of: Arc<Semaphore>, deadline: Option<Instant>) -> Option<OwnedSemaphorePermit> {
    match deadline {
        // Never closed.
        None => of.acquire_owned().await.ok(),
        Some(deadline) => timeout_at(deadline, of.acquire_owned()).await.ok()?.ok(),
    }
}

impl Shared {
    fn turn(&self, path: &Path) -> Arc<Semaphore> {
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(turns.entry(path.to_owned()).or_insert_with(|| Arc::new(Semaphore::new(1))))
    }

    /// Forgets a path that nobody asks after any more.
    fn tidy(&self, path: &Path) {
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        if turns.get(path).is_some_and(|turn| Arc::strong_count(turn) == 1) {
            turns.remove(path);
        }
    }
}

impl Call {
    /// Shows it as silent, unless it is done already: `false`.
    fn show(&self) -> bool {
        let mut phase = self.phase.lock().unwrap_or_else(PoisonError::into_inner);
        if *phase == Phase::Done {
            return false;
        }
        *phase = Phase::Shown;
        let (store, path) = (&self.place.store, self.path.display().to_string());
        let message = silent(&path, self.since);
        tracing::warn!(what = self.place.what, "{message}");
        store.set_silent(&self.path, self.since);
        store.record_event(EventInput {
            subject: Subject::File { path },
            reason: "Unresponsive".to_owned(),
            message,
            warning: true,
            at: self.place.clock.now(),
        });
        true
    }

    fn done(&self) {
        let mut phase = self.phase.lock().unwrap_or_else(PoisonError::into_inner);
        if *phase == Phase::Shown {
            tracing::info!(what = self.place.what, path = %self.path.display(), "answers again");
            self.place.store.unset_silent(&self.path);
        }
        *phase = Phase::Done;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn aside(most: usize) -> (Aside, Store) {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("boot_id"), "b").unwrap();
        let clock = Arc::new(Clock::start(&dir.path().join("boot_id")).unwrap());
        let store = Store::new(clock.now());
        (Aside::new("things", most, store.clone(), clock).patient(Duration::from_millis(50)), store)
    }

    /// Those that have not come back.
    fn threads(of: &Aside) -> usize {
        of.shared.most - of.shared.threads.available_permits()
    }

    #[tokio::test]
    async fn a_path_that_does_not_answer_is_shown_takes_one_thread_and_holds_up_no_other() {
        let (aside, store) = aside(4);
        let (release, held) = mpsc::channel::<()>();
        let hung = Path::new("/dead");
        let first = aside.look(hung, move || held.recv().is_err()).await;
        assert!(matches!(&first, Err(NoAnswer::Silent { path, .. }) if path == hung), "{first:?}");
        for _ in 0..10 {
            let again = aside.look(hung, || unreachable!("one call at a time")).await;
            assert!(matches!(again, Err(NoAnswer::Silent { .. })), "{again:?}");
        }
        assert_eq!(threads(&aside), 1);
        assert_eq!(store.silent().iter().map(|(path, _)| path.as_path()).collect::<Vec<_>>(), [hung]);
        let events = store.events(aside.shared.clock.now());
        assert_eq!(events.items.len(), 1, "the same is told once");
        assert!(events.items[0].1.contains("Unresponsive"), "{:?}", events.items);
        assert_eq!(aside.look(Path::new("/alive"), || 7).await, Ok(7));

        release.send(()).unwrap();
        while threads(&aside) > 0 || !store.silent().is_empty() {
            thread::sleep(Duration::from_millis(1));
        }
        assert_eq!(aside.look(hung, || 8).await, Ok(8));
    }

    #[tokio::test]
    async fn no_more_threads_than_may_be_are_left_to_what_hangs() {
        let (aside, _store) = aside(2);
        let mut releases = Vec::new();
        for path in ["/a", "/b"] {
            let (release, held) = mpsc::channel::<()>();
            releases.push(release);
            aside.look(Path::new(path), move || held.recv().is_err()).await.unwrap_err();
        }
        let third = aside.look(Path::new("/c"), || ()).await.unwrap_err();
        assert_eq!(third.to_string(), "/c: not looked at: 2 other things do not answer");
        drop(releases);
        while threads(&aside) > 0 {
            thread::sleep(Duration::from_millis(1));
        }
        assert_eq!(aside.look(Path::new("/c"), || 1).await, Ok(1));
        assert!(aside.shared.turns.lock().unwrap().is_empty(), "paths are forgotten");
    }

    #[tokio::test]
    async fn a_change_is_waited_for_and_shown_meanwhile() {
        let (aside, store) = aside(1);
        let (release, held) = mpsc::channel::<()>();
        let shown = store.clone();
        let watcher = tokio::spawn(async move {
            while shown.silent().is_empty() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            release.send(()).unwrap();
        });
        assert_eq!(aside.change(Path::new("/slow"), move || held.recv()).await, Ok(Ok(())));
        watcher.await.unwrap();
        assert!(store.silent().is_empty());
    }

    /// Nothing hangs where each of those before is answered.
    #[tokio::test]
    async fn who_waits_for_others_longer_than_for_an_answer_is_not_told_that_the_path_hangs() {
        let (aside, store) = aside(2);
        let aside = aside.patient(Duration::from_millis(200));
        let slow = || thread::sleep(Duration::from_millis(100));
        let calls = (0..5).map(|_| {
            let aside = aside.clone();
            tokio::spawn(async move { aside.look(Path::new("/same"), slow).await })
        });
        let begun = Instant::now();
        for call in calls.collect::<Vec<_>>() {
            assert_eq!(call.await.unwrap(), Ok(()));
        }
        assert!(begun.elapsed() > aside.patience, "the control: the last one has waited that long");
        assert!(store.silent().is_empty());
    }

    #[tokio::test]
    async fn many_calls_on_one_path_all_get_their_turn() {
        let (aside, _store) = aside(2);
        let calls = (0..50).map(|n| {
            let aside = aside.clone();
            tokio::spawn(async move { aside.look(Path::new("/same"), move || n).await })
        });
        for (n, call) in calls.collect::<Vec<_>>().into_iter().enumerate() {
            assert_eq!(call.await.unwrap(), Ok(n));
        }
        assert!(aside.shared.turns.lock().unwrap().is_empty());
    }
}
