//! The manifest directory: watched, looked at, its listings handed on.
//!
//! A look is a stat of every file and a read of those that changed. There is one when inotify tells of something, and one
//! each `fileCheckFrequency` for what inotify does not see: targets of links, network file systems, a directory that is not
//! there yet. Where it sees everything, that look is rare, so that an idle node sleeps.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::fs::DirEntryExt as _;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use podwright_core::time::Time;
use podwright_sys::thread::keep_only;
use tokio::sync::{mpsc, oneshot, watch};

use super::looks::{Entry, Looks, PATIENCE};
use super::read::{Cached, Mark};
use super::watch::{Watch, Woken};
use super::{Listing, Seen};
use crate::config::Live;

/// Editors replace a file by removing or renaming it first: a file has to be gone this long.
const REMOVAL_SETTLES: Duration = Duration::from_millis(100);
/// Where inotify sees every change, the periodic look is a net below it, and so many times less frequent.
const SELDOM: u32 = 15;
/// First pause before another look at a file that somebody was writing, or that is too young to be sure of; each further one is
/// twice as long. The kernel tells of a file's closing before its lease is free, so no other event may come.
const UNSETTLED: Duration = Duration::from_millis(20);
/// Pause after an error of inotify itself.
const RETRY: Duration = Duration::from_secs(1);

/// What the source tells.
#[derive(Debug)]
pub enum Word {
    /// What is in the directory now.
    Listing(Listing),
    /// It cannot be listed: everything stays as it is.
    Unreadable(String),
    /// It does not answer, since then; everything stays as it is.
    Silent {
        /// When it was asked.
        since: Time,
    },
}

/// Watches the directory until the receiver is gone, in threads of its own: file systems can be slow, or hang, and a look
/// that finds nothing new wakes nobody else. `now` tells since when something does not answer.
///
/// # Errors
/// When the kernel grants no inotify instance or no thread; later, through the future, when the thread has ended.
pub fn start(
    directory: PathBuf,
    now: impl Fn() -> Time + Clone + Send + 'static,
    live: watch::Receiver<Live>,
    words: mpsc::Sender<Word>,
) -> io::Result<impl Future<Output = io::Result<()>> + Send + 'static> {
    let watch = Arc::new(Mutex::new(Watch::new(&directory)?));
    let looks = Looks::new(now.clone())?;
    let sweeper = Sweeper { directory, cache: BTreeMap::new(), looks, watch, blind: true, seldom: false };
    let (ended, end) = oneshot::channel();
    thread::Builder::new().name("source".to_owned()).spawn(move || {
        run(sweeper, &now, &live, &words);
        // Nobody may be interested in its end any more.
        let _unheard = ended.send(());
    })?;
    Ok(async move { end.await.map_err(|_| io::Error::other("the thread that watches the manifest directory died")) })
}

fn run(mut sweeper: Sweeper, now: &impl Fn() -> Time, live: &watch::Receiver<Live>, words: &mpsc::Sender<Word>) {
    let mut told: Option<Result<(), String>> = None;
    let mut listed = Listing::new();
    let mut unsettled = UNSETTLED;
    while !words.is_closed() {
        let mut silent = false;
        let mut on_silence = |since: Time| {
            silent = true;
            // Nobody may listen any more; the loop ends then.
            let _gone = words.blocking_send(Word::Silent { since });
        };
        let mut found = sweeper.sweep(now, &mut on_silence);
        if found.is_ok() && sweeper.lacks_a_file_of(&listed) {
            thread::sleep(REMOVAL_SETTLES);
            found = sweeper.sweep(now, &mut on_silence).map(|again| again | found.is_ok_and(|changed| changed));
        }
        if silent {
            told = None;
        }
        let word = match found {
            Ok(false) if told == Some(Ok(())) => None,
            Ok(_) => {
                let listing = sweeper.listing();
                let known = told == Some(Ok(())) && listing == listed;
                listed.clone_from(&listing);
                told = Some(Ok(()));
                (!known).then_some(Word::Listing(listing))
            }
            Err(reason) if told.as_ref() == Some(&Err(reason.clone())) => None,
            Err(reason) => {
                told = Some(Err(reason.clone()));
                Some(Word::Unreadable(reason))
            }
        };
        if word.is_some_and(|word| words.blocking_send(word).is_err()) {
            return;
        }
        let frequency = live.borrow().file_check_frequency;
        let pause = match () {
            () if sweeper.unsettled() => unsettled.min(frequency),
            () if sweeper.seldom && !sweeper.blind => frequency.saturating_mul(SELDOM),
            () => frequency,
        };
        match sweeper.rest(pause) {
            Ok(undisturbed) => {
                unsettled = if undisturbed && sweeper.unsettled() { unsettled.saturating_mul(2) } else { UNSETTLED };
            }
            Err(error) => {
                tracing::warn!(%error, "inotify failed; trying again");
                thread::sleep(RETRY);
            }
        }
    }
}

/// What a directory says of itself.
struct Contents {
    entries: io::Result<Vec<Entry>>,
    /// Whether inotify tells of every change.
    sees_changes: bool,
}

/// Looks, and remembers.
struct Sweeper {
    directory: PathBuf,
    cache: BTreeMap<String, Cached>,
    looks: Looks,
    /// Held by the thread that lists the directory, which may not come back, and else by nobody but this.
    watch: Arc<Mutex<Watch>>,
    /// Whether there is something whose changes inotify does not tell: a link's target, a file that was not read to its end.
    blind: bool,
    /// Whether inotify tells of all others.
    seldom: bool,
}

impl Sweeper {
    /// Files that have to be read again even if nothing about them seems to have changed.
    fn forget(&mut self, names: &[OsString]) {
        for name in names.iter().filter_map(|n| n.to_str()) {
            // It stays known, or nobody would notice that it is gone.
            if let Some(known) = self.cache.get_mut(name) {
                known.mark = None;
            }
            self.looks.forget(name);
        }
    }

    fn lacks_a_file_of(&self, before: &Listing) -> bool {
        before.iter().any(|(name, seen)| !matches!(seen, Seen::Ignored { .. }) && !self.cache.contains_key(name))
    }

    /// Whether a file was not read to its end, or may have changed right after.
    fn unsettled(&self) -> bool {
        self.cache.values().any(|known| {
            known.mark.is_none() && matches!(known.seen, Seen::Good { .. } | Seen::Bad { .. } | Seen::Busy)
        })
    }

    fn listing(&self) -> Listing {
        self.cache.iter().map(|(name, cached)| (name.clone(), cached.seen.clone())).collect()
    }

    /// Looks at every file; whether anything may have changed since the last time. Waits for the directory itself, however long
    /// that takes; `on_silence` is told once when that is long.
    fn sweep(&mut self, now: &impl Fn() -> Time, on_silence: &mut impl FnMut(Time)) -> Result<bool, String> {
        self.blind = true;
        let directory = self.directory.display();
        let contents = self.list(now, on_silence).map_err(|error| format!("{directory} cannot be listed: {error}"))?;
        self.seldom = contents.sees_changes;
        let entries = contents.entries.map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => format!("{directory} does not exist; it is picked up when it appears"),
            _ => format!("{directory} cannot be listed: {error}"),
        })?;
        let before = std::mem::take(&mut self.cache);
        let marks: BTreeMap<String, (Option<Mark>, bool)> =
            before.iter().map(|(name, known)| (name.clone(), (known.mark, known.is_away()))).collect();
        let was = |name: &String| marks.get(name).copied();
        let found = match self.looks.round(&self.directory, &entries, &before) {
            Ok(found) => found,
            Err(error) => {
                let reason = format!("{directory} cannot be read: {error}");
                self.cache = before;
                return Err(reason);
            }
        };
        let mut changed = false;
        for (name, file) in found.files {
            // Without a mark the file was read, or is none that could be.
            changed |= file.mark.is_none() || was(&name) != Some((file.mark, false));
            self.cache.insert(name, file);
        }
        let silent = found.silent.into_iter().map(|(name, since)| (name, Seen::Silent { since }));
        for (name, seen) in silent.chain(found.unasked.into_iter().map(|name| (name, Seen::Unasked))) {
            changed |= was(&name).is_none_or(|(_, away)| !away);
            self.cache.insert(name, Cached { mark: None, seen });
        }
        self.blind =
            entries.iter().any(|entry| entry.is_link) || self.unsettled() || self.cache.values().any(Cached::is_away);
        Ok(changed || marks.keys().any(|name| !self.cache.contains_key(name)))
    }

    /// Lists the directory, and makes sure that it is watched: both are calls that its file system may never answer.
    fn list(&self, now: &impl Fn() -> Time, on_silence: &mut impl FnMut(Time)) -> io::Result<Contents> {
        let (directory, watch, since) = (self.directory.clone(), Arc::clone(&self.watch), now());
        let (sender, listed) = channel();
        thread::Builder::new().name("source-list".to_owned()).spawn(move || {
            let mut watch = lock(&watch);
            if let Err(error) = keep_only(&[watch.as_fd()]) {
                tracing::debug!(%error, "the thread that lists the manifests shares the agent's descriptors");
            }
            watch.aim();
            let contents = Contents { entries: entries(&directory), sees_changes: watch.sees_changes() };
            drop(watch);
            // The source may have ended.
            let _ended = sender.send(contents);
        })?;
        let contents = match listed.recv_timeout(PATIENCE) {
            Err(RecvTimeoutError::Timeout) => {
                on_silence(since);
                listed.recv().ok()
            }
            other => other.ok(),
        };
        contents.ok_or_else(|| io::Error::other("the thread that lists it died"))
    }

    /// Waits until there may be something new, `longest` at most; whether nothing was heard.
    fn rest(&mut self, longest: Duration) -> io::Result<bool> {
        let Woken { names, rung } = lock(&self.watch).wait(longest, self.looks.bell())?;
        if rung {
            self.looks.quiet()?;
        }
        self.forget(&names);
        Ok(names.is_empty() && !rung)
    }
}

fn lock(watch: &Mutex<Watch>) -> MutexGuard<'_, Watch> {
    watch.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What is in a directory.
fn entries(directory: &Path) -> io::Result<Vec<Entry>> {
    let mut entries = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        let (inode, is_link) = (entry.ino(), entry.file_type()?.is_symlink());
        // A name that is not UTF-8 is no manifest's.
        entries.extend(entry.file_name().into_string().map(|name| Entry { name, inode, is_link }));
    }
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    struct Fixture {
        _root: tempfile::TempDir,
        directory: PathBuf,
        words: mpsc::Receiver<Word>,
        _live: watch::Sender<Live>,
    }

    /// The periodic look is far away: what is seen is seen by events.
    fn start(exists: bool) -> Fixture {
        let root = tempfile::tempdir().unwrap();
        let directory = root.path().join("manifests");
        if exists {
            fs::create_dir(&directory).unwrap();
        }
        let live = crate::config::load(&crate::config::Settings::default(), None).unwrap().live;
        let (live, receiver) = watch::channel(Live { file_check_frequency: Duration::from_secs(3600), ..live });
        let (sender, words) = mpsc::channel(1);
        // Its end is of no interest here: it goes on for as long as the receiver does.
        drop(super::start(directory.clone(), || Time(1), receiver, sender).unwrap());
        Fixture { _root: root, directory, words, _live: live }
    }

    impl Fixture {
        async fn next(&mut self) -> Result<String, String> {
            let word = tokio::time::timeout(Duration::from_secs(5), self.words.recv()).await.expect("a word in time");
            match word.expect("the source lives") {
                Word::Unreadable(reason) => Err(reason),
                Word::Silent { since } => Err(format!("silent since {}", since.0)),
                Word::Listing(listing) => Ok(listing
                    .iter()
                    .map(|(name, seen)| {
                        let kind = match seen {
                            Seen::Good { .. } => "good",
                            Seen::Bad { .. } => "bad",
                            Seen::Busy => "busy",
                            Seen::Silent { .. } => "silent",
                            Seen::Unasked => "unasked",
                            Seen::Ignored { .. } => "ignored",
                        };
                        format!("{name} {kind}")
                    })
                    .collect::<Vec<_>>()
                    .join(", ")),
            }
        }

        async fn until(&mut self, wanted: &str) {
            while self.next().await.as_deref() != Ok(wanted) {}
        }
    }

    const POD: &str = "{apiVersion: v1, kind: Pod, metadata: {name: p}, spec: {containers: [{name: a, image: i}]}}";

    #[tokio::test]
    async fn files_are_taken_when_they_are_closed_moved_linked_and_removed() {
        let mut f = start(true);
        assert_eq!(f.next().await.as_deref(), Ok(""));
        fs::write(f.directory.join("a.yaml"), POD).unwrap();
        f.until("a.yaml good").await;
        fs::rename(f.directory.join("a.yaml"), f.directory.join("b.yaml")).unwrap();
        assert_eq!(f.next().await.as_deref(), Ok("b.yaml good"));
        fs::write(f.directory.join("b.yaml"), "kind: [").unwrap();
        f.until("b.yaml bad").await;
        fs::write(f.directory.join("x~"), "").unwrap();
        f.until("b.yaml bad, x~ ignored").await;
        fs::remove_file(f.directory.join("b.yaml")).unwrap();
        f.until("x~ ignored").await;
    }

    #[tokio::test]
    async fn the_last_file_is_missed() {
        let mut f = start(true);
        assert_eq!(f.next().await.as_deref(), Ok(""));
        fs::write(f.directory.join("a.yaml"), POD).unwrap();
        f.until("a.yaml good").await;
        fs::remove_file(f.directory.join("a.yaml")).unwrap();
        assert_eq!(f.next().await.as_deref(), Ok(""));
    }

    #[tokio::test]
    async fn a_file_that_is_replaced_by_way_of_nothing_is_never_gone() {
        let mut f = start(true);
        assert_eq!(f.next().await.as_deref(), Ok(""));
        fs::write(f.directory.join("a.yaml"), POD).unwrap();
        f.until("a.yaml good").await;
        fs::rename(f.directory.join("a.yaml"), f.directory.join("a.yaml~")).unwrap();
        tokio::time::sleep(REMOVAL_SETTLES / 4).await;
        fs::write(f.directory.join("a.yaml"), POD.replace("image: i", "image: j")).unwrap();
        let next = f.next().await;
        assert!(next.as_ref().is_ok_and(|n| n.contains("a.yaml good") || n.contains("a.yaml busy")), "{next:?}");
    }

    #[tokio::test]
    async fn a_directory_that_appears_goes_and_comes_back_is_followed() {
        let mut f = start(false);
        assert!(f.next().await.is_err());
        fs::create_dir(&f.directory).unwrap();
        assert_eq!(f.next().await.as_deref(), Ok(""));
        fs::write(f.directory.join("a.yaml"), POD).unwrap();
        f.until("a.yaml good").await;
        let away = f.directory.with_extension("away");
        fs::rename(&f.directory, &away).unwrap();
        assert!(f.next().await.unwrap_err().contains("does not exist"));
        fs::rename(&away, &f.directory).unwrap();
        assert_eq!(f.next().await.as_deref(), Ok("a.yaml good"));
    }
}
