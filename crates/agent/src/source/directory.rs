//! The manifest directory: watched, looked at, its listings handed on.
//!
//! A look is a stat of every file and a read of those that changed. There is one when inotify tells of something, and one
//! each `fileCheckFrequency` for what inotify does not see: targets of links, network file systems, a directory that is not
//! there yet. Where it sees everything, that look is rare, so that an idle node sleeps.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};

use super::read::{Cached, look};
use super::watch::Watch;
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
}

/// Watches the directory until the receiver is gone, in a thread of its own: file systems can be slow, or hang, and a look
/// that finds nothing new wakes nobody else.
///
/// # Errors
/// When the kernel grants no inotify instance or no thread; later, through the future, when the thread has ended.
pub fn start(
    directory: PathBuf,
    live: watch::Receiver<Live>,
    words: mpsc::Sender<Word>,
) -> io::Result<impl Future<Output = io::Result<()>> + Send + 'static> {
    let watch = Watch::new(&directory)?;
    let (ended, end) = oneshot::channel();
    thread::Builder::new().name("source".to_owned()).spawn(move || {
        run(watch, Sweeper { directory, cache: BTreeMap::new(), blind: true }, &live, &words);
        // Nobody may be interested in its end any more.
        let _unheard = ended.send(());
    })?;
    Ok(async move { end.await.map_err(|_| io::Error::other("the thread that watches the manifest directory died")) })
}

fn run(mut watch: Watch, mut sweeper: Sweeper, live: &watch::Receiver<Live>, words: &mpsc::Sender<Word>) {
    let mut told: Option<Result<(), String>> = None;
    let mut listed = Listing::new();
    let mut unsettled = UNSETTLED;
    while !words.is_closed() {
        watch.aim();
        let mut found = sweeper.sweep();
        if found.is_ok() && sweeper.lacks_a_file_of(&listed) {
            thread::sleep(REMOVAL_SETTLES);
            found = sweeper.sweep().map(|again| again | found.is_ok_and(|changed| changed));
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
            () if watch.sees_changes() && !sweeper.blind => frequency.saturating_mul(SELDOM),
            () => frequency,
        };
        match watch.wait(pause) {
            Ok(names) => {
                unsettled =
                    if names.is_empty() && sweeper.unsettled() { unsettled.saturating_mul(2) } else { UNSETTLED };
                sweeper.forget(&names);
            }
            Err(error) => {
                tracing::warn!(%error, "inotify failed; trying again");
                thread::sleep(RETRY);
            }
        }
    }
}

/// Looks, and remembers.
struct Sweeper {
    directory: PathBuf,
    cache: BTreeMap<String, Cached>,
    /// Whether there is something whose changes inotify does not tell: a link's target, a file that was not read to its end.
    blind: bool,
}

impl Sweeper {
    /// Files that have to be read again even if nothing about them seems to have changed.
    fn forget(&mut self, names: &[OsString]) {
        for name in names.iter().filter_map(|n| n.to_str()) {
            // It stays known, or nobody would notice that it is gone.
            if let Some(known) = self.cache.get_mut(name) {
                known.mark = None;
            }
        }
    }

    fn lacks_a_file_of(&self, before: &Listing) -> bool {
        before.iter().any(|(name, seen)| !matches!(seen, Seen::Ignored { .. }) && !self.cache.contains_key(name))
    }

    /// Whether a file was not read to its end, or may have changed right after.
    fn unsettled(&self) -> bool {
        self.cache.values().any(|known| known.mark.is_none() && !matches!(known.seen, Seen::Ignored { .. }))
    }

    fn listing(&self) -> Listing {
        self.cache.iter().map(|(name, cached)| (name.clone(), cached.seen.clone())).collect()
    }

    /// Looks at every file; whether anything may have changed since the last time.
    fn sweep(&mut self) -> Result<bool, String> {
        self.blind = true;
        let (names, links) = names(&self.directory).map_err(|error| {
            let directory = self.directory.display();
            match error.kind() {
                io::ErrorKind::NotFound => format!("{directory} does not exist; it is picked up when it appears"),
                _ => format!("{directory} cannot be listed: {error}"),
            }
        })?;
        let mut before = std::mem::take(&mut self.cache);
        let mut changed = false;
        for name in names {
            let known = before.remove(&name);
            let mark = known.as_ref().and_then(|known| known.mark);
            if let Some(now) = look(&self.directory, &name, known) {
                // Without a mark the file was read, or is none that could be.
                changed |= now.mark.is_none() || now.mark != mark;
                self.cache.insert(name, now);
            }
        }
        self.blind = links || self.unsettled();
        Ok(changed || !before.is_empty())
    }
}

/// The names in a directory, and whether any of them is a symlink.
fn names(directory: &Path) -> io::Result<(Vec<String>, bool)> {
    let (mut names, mut links) = (Vec::new(), false);
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        links |= entry.file_type()?.is_symlink();
        // A name that is not UTF-8 is no manifest's.
        names.extend(entry.file_name().into_string());
    }
    Ok((names, links))
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
        drop(super::start(directory.clone(), receiver, sender).unwrap());
        Fixture { _root: root, directory, words, _live: live }
    }

    impl Fixture {
        async fn next(&mut self) -> Result<String, String> {
            let word = tokio::time::timeout(Duration::from_secs(5), self.words.recv()).await.expect("a word in time");
            match word.expect("the source lives") {
                Word::Unreadable(reason) => Err(reason),
                Word::Listing(listing) => Ok(listing
                    .iter()
                    .map(|(name, seen)| {
                        let kind = match seen {
                            Seen::Good { .. } => "good",
                            Seen::Bad { .. } => "bad",
                            Seen::Busy => "busy",
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
