//! Looks at files, none of which can hold up another: a look is a call into a file system, and one that nobody serves (FUSE, NFS)
//! may never answer.
//!
//! Looks are made by helper threads, which share a queue. Where one does not come back within moments, another takes the rest over,
//! and the file counts as silent until its look comes back. There is one look at a file at a time, so that asking again and again
//! costs no more threads; a file that was replaced meanwhile gets a new one.

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, PipeReader, PipeWriter, Read as _, Write as _};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use podwright_core::time::Time;
use podwright_sys::thread::keep_only;

use super::read::{Cached, look};

/// Without an answer for this long, a helper is left to its file, and another goes on with the rest.
const STEP: Duration = Duration::from_millis(20);
/// How long answers are waited for in all once nothing is left to be asked. What has not answered by then is silent.
pub(super) const PATIENCE: Duration = Duration::from_secs(1);
/// Most threads that may be left to silent files. Beyond them, files wait until one comes back.
pub(super) const MOST_SILENT: usize = 64;

/// A name in the directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) name: String,
    /// Of the entry itself, not of what a link leads to.
    pub(super) inode: u64,
    pub(super) is_link: bool,
}

/// A file that is being asked after.
struct Asked {
    number: u64,
    inode: u64,
    since: Time,
}

/// What has to be looked at, and what it was.
struct Job {
    number: u64,
    name: String,
    known: Option<Cached>,
}

/// The part of a round that its helpers share.
struct Round {
    directory: PathBuf,
    jobs: Mutex<VecDeque<Job>>,
    /// Nobody waits for answers any more: whoever brings one has to wake the source.
    over: AtomicBool,
}

enum Answer {
    /// The look of that number; `None`: the file is gone.
    Looked(u64, String, Option<Cached>),
    /// A helper has ended.
    Ended,
}

/// What a round has found.
pub(super) struct Found {
    /// Every file that answered and is there.
    pub(super) files: Vec<(String, Cached)>,
    /// Those that did not answer, and since when.
    pub(super) silent: Vec<(String, Time)>,
    /// Those that nobody was left to ask.
    pub(super) unasked: Vec<String>,
}

/// Every file that is being asked after, and the way to their answers.
pub(super) struct Looks {
    now: Box<dyn Fn() -> Time + Send>,
    asked: BTreeMap<String, Asked>,
    helpers: usize,
    count: u64,
    sender: Sender<Answer>,
    answers: Receiver<Answer>,
    bell: PipeReader,
    ringer: Arc<PipeWriter>,
}

impl Looks {
    /// `now` tells since when a file is silent.
    ///
    /// # Errors
    /// When there is no pipe to be had.
    pub(super) fn new(now: impl Fn() -> Time + Send + 'static) -> io::Result<Looks> {
        let (sender, answers) = channel();
        let (bell, ringer) = io::pipe()?;
        Ok(Looks {
            now: Box::new(now),
            asked: BTreeMap::new(),
            helpers: 0,
            count: 0,
            sender,
            answers,
            bell,
            ringer: Arc::new(ringer),
        })
    }

    /// Readable when an answer has come after its round.
    pub(super) fn bell(&self) -> BorrowedFd<'_> {
        self.bell.as_fd()
    }

    /// To be called when the bell is readable.
    ///
    /// # Errors
    /// Those of a pipe.
    pub(super) fn quiet(&mut self) -> io::Result<()> {
        // Each helper rings once for an answer, so this is at most what a pipe's page holds.
        self.bell.read(&mut [0; 4 * MOST_SILENT]).map(drop)
    }

    /// Somebody replaced the file, or may have: it is asked after anew, whatever became of the last look at it.
    pub(super) fn forget(&mut self, name: &str) {
        self.asked.remove(name);
    }

    /// Looks at every file that is not being asked after already. `known` are the files as they were.
    ///
    /// # Errors
    /// When there is no thread to be had: nothing was looked at.
    pub(super) fn round(
        &mut self,
        directory: &Path,
        entries: &[Entry],
        known: &BTreeMap<String, Cached>,
    ) -> io::Result<Found> {
        self.asked.retain(|name, asked| entries.iter().any(|e| e.name == *name && e.inode == asked.inode));
        let mut found = Found { files: Vec::new(), silent: Vec::new(), unasked: Vec::new() };
        while let Ok(answer) = self.answers.try_recv() {
            found.files.extend(self.take(answer).and_then(|(_, file)| file));
        }
        let (now, mut jobs) = ((self.now)(), VecDeque::new());
        let late = |name: &str| found.files.iter().any(|(late, _)| late == name);
        // Links last: they lead to where files may be silent, and must not use up the helpers of the others.
        for link in [false, true] {
            for entry in entries.iter().filter(|e| e.is_link == link && !late(&e.name)) {
                if !self.asked.contains_key(&entry.name) {
                    self.count += 1;
                    let asked = Asked { number: self.count, inode: entry.inode, since: now };
                    self.asked.insert(entry.name.clone(), asked);
                    let known = known.get(&entry.name).cloned();
                    jobs.push_back(Job { number: self.count, name: entry.name.clone(), known });
                }
            }
        }
        if !jobs.is_empty() {
            self.ask(directory, jobs, &mut found)?;
        }
        found.silent = self.asked.iter().map(|(name, asked)| (name.clone(), asked.since)).collect();
        Ok(found)
    }

    fn ask(&mut self, directory: &Path, jobs: VecDeque<Job>, found: &mut Found) -> io::Result<()> {
        let (mut waiting, first) = (jobs.len(), self.count + 1 - jobs.len() as u64);
        let round =
            Arc::new(Round { directory: directory.to_owned(), jobs: Mutex::new(jobs), over: AtomicBool::new(false) });
        let begun = self.helpers < MOST_SILENT;
        if begun && let Err(error) = self.help(&round) {
            self.asked.retain(|_, asked| asked.number < first);
            return Err(error);
        }
        let mut heard = Instant::now();
        while waiting > 0 {
            match self.answers.recv_timeout(STEP) {
                Ok(answer) => {
                    heard = Instant::now();
                    if let Some((number, file)) = self.take(answer) {
                        found.files.extend(file);
                        waiting -= usize::from(number >= first);
                    }
                }
                Err(RecvTimeoutError::Timeout) => {
                    // No thread to be had: those that there are go on.
                    let helped = round.is_waiting() && self.helpers < MOST_SILENT && self.help(&round).is_ok();
                    if !helped && heard.elapsed() >= PATIENCE {
                        break;
                    }
                }
                // `self` holds a sender.
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        round.over.store(true, Ordering::SeqCst);
        for job in std::mem::take(&mut *round.lock()) {
            self.asked.remove(&job.name);
            found.unasked.push(job.name);
        }
        // What came before its helper could know that the round is over.
        while let Ok(answer) = self.answers.try_recv() {
            found.files.extend(self.take(answer).and_then(|(_, file)| file));
        }
        Ok(())
    }

    /// Takes an answer in; `None`: it is none, or to a question that is not asked any more.
    fn take(&mut self, answer: Answer) -> Option<(u64, Option<(String, Cached)>)> {
        let Answer::Looked(number, name, cached) = answer else {
            self.helpers = self.helpers.saturating_sub(1);
            return None;
        };
        if self.asked.get(&name).is_none_or(|asked| asked.number != number) {
            return None;
        }
        self.asked.remove(&name);
        Some((number, cached.map(|cached| (name, cached))))
    }

    fn help(&mut self, round: &Arc<Round>) -> io::Result<()> {
        let (round, sender, ringer) = (Arc::clone(round), self.sender.clone(), Arc::clone(&self.ringer));
        thread::Builder::new().name("source-look".to_owned()).spawn(move || {
            if let Err(error) = keep_only(&[ringer.as_fd()]) {
                tracing::debug!(%error, "a thread that looks at manifests shares the agent's descriptors");
            }
            while let Some(job) = round.next() {
                let found = look(&round.directory, &job.name, job.known);
                // The source may have ended.
                let _ended = sender.send(Answer::Looked(job.number, job.name, found));
            }
            let _ended = sender.send(Answer::Ended);
            if round.over.load(Ordering::SeqCst) {
                let _ended = (&*ringer).write(&[1]);
            }
        })?;
        self.helpers += 1;
        Ok(())
    }
}

impl Round {
    fn lock(&self) -> MutexGuard<'_, VecDeque<Job>> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn next(&self) -> Option<Job> {
        self.lock().pop_front()
    }

    fn is_waiting(&self) -> bool {
        !self.lock().is_empty()
    }
}
