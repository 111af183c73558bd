//! Answers the calls of the agent and of its shims from outside.
//!
//! A launcher puts itself under a filter with a listener, hands the listener over, and becomes the agent: whatever the agent starts is under
//! the filter as well. Calls of containers' processes always go on.

use std::fs;
use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Instant;

use podwright_sys::fdpass;
use podwright_sys::seccomp::{Answer, Listener};

use crate::calls::{Scope, profile};
use crate::inject::{Call, ERRORS, Kind, Plan, Program, can_fail};

/// The first word of a call of the bed's own program that is to become the agent.
pub const LAUNCH: &str = "launch";

/// `launch SOCKET PROGRAM ARGUMENT...`: puts itself under the filter, hands the listener over the socket, and becomes the program.
///
/// # Errors
/// When one of that fails; it does not return otherwise.
pub fn launch(words: &[String]) -> Result<std::convert::Infallible, String> {
    let [socket, program, arguments @ ..] = words else { return Err("launch: expected SOCKET PROGRAM".to_owned()) };
    let stream = UnixStream::connect(socket).map_err(|e| format!("{socket}: {e}"))?;
    let filter = profile().compile().map_err(|e| e.to_string())?;
    let handed = filter.load_with_listener(move |fd| fdpass::send(&stream, b"l", &[fd.as_fd()]));
    handed.map_err(|e| format!("the filter: {e}"))?.map_err(|e| format!("the listener: {e}"))?;
    Err(format!("{program}: {}", Command::new(program).args(arguments).exec()))
}

/// What the calls of a run have come to.
#[derive(Debug)]
pub struct Injector {
    scope: Scope,
    plan: Option<Plan>,
    /// Whether podwright-oci's calls may fail as well.
    runtime_too: bool,
    seen: AtomicU64,
    /// Of each of [`ERRORS`], how many calls could have failed with it.
    counts: [AtomicU64; ERRORS.len()],
    lifted: AtomicBool,
    failed: Mutex<Vec<Failed>>,
    panics: Mutex<Vec<String>>,
}

/// A call that failed.
#[derive(Debug, Clone)]
pub struct Failed {
    /// Its number among those that could.
    pub number: u64,
    /// Which.
    pub call: Call,
    /// When.
    pub at: Instant,
}

impl Injector {
    /// For one run.
    pub fn new(scope: Scope, plan: Option<Plan>, runtime_too: bool) -> Injector {
        Injector {
            scope,
            plan,
            runtime_too,
            seen: AtomicU64::new(0),
            counts: Default::default(),
            lifted: AtomicBool::new(false),
            failed: Mutex::default(),
            panics: Mutex::default(),
        }
    }

    /// Answers the calls of every agent that is launched with this socket, and of what it starts, until the last of them has ended.
    ///
    /// # Errors
    /// When there can be no socket.
    pub fn serve(self: &Arc<Self>, socket: &Path) -> io::Result<()> {
        let listener = UnixListener::bind(socket)?;
        let injector = Arc::clone(self);
        thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                let Some(fd) = fdpass::receive(&stream, 1).ok().and_then(|(_, mut fds)| fds.pop()) else { continue };
                let injector = Arc::clone(&injector);
                thread::spawn(move || injector.answer_all(&Listener::from(fd)));
            }
        });
        Ok(())
    }

    fn answer_all(&self, listener: &Listener) {
        loop {
            match listener.next() {
                Ok(Some(notification)) => {
                    let mut answer = Answer::Proceed;
                    if let Some(program) = self.scope.program(notification.tid)
                        && let Some(call) = self.scope.call(program, &notification)
                        && listener.is_waiting(&notification)
                    {
                        if call.kind == Kind::Write && call.name == "write" {
                            self.look_for_panic(program, || self.scope.written(&notification));
                        }
                        if let Some(errno) = self.decide(call) {
                            answer = Answer::Fail(errno);
                        }
                    }
                    if let Err(errno) = listener.answer(&notification, answer) {
                        eprintln!("faults: a call could not be answered: {errno}");
                    }
                }
                Ok(None) => return,
                Err(errno) => {
                    eprintln!("faults: calls cannot be taken: {errno}");
                    return;
                }
            }
        }
    }

    fn decide(&self, call: Call) -> Option<nix::errno::Errno> {
        if call.program == Program::Runtime && !self.runtime_too {
            return None;
        }
        self.seen.fetch_add(1, Ordering::Relaxed);
        let mut answer = None;
        for (errno, count) in ERRORS.iter().zip(&self.counts) {
            if !can_fail(&call, *errno) {
                continue;
            }
            let number = count.fetch_add(1, Ordering::Relaxed) + 1;
            let plan = self.plan.filter(|plan| plan.errno == *errno);
            answer = answer.or(plan.and_then(|plan| plan.answer(number, self.lifted.load(Ordering::Relaxed))));
            if answer == Some(*errno) {
                let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
                failed.push(Failed { number, call: call.clone(), at: Instant::now() });
            }
        }
        answer
    }

    /// A panic is said on standard error, which may be a file that fails.
    fn look_for_panic(&self, program: Program, text: impl Fn() -> Option<String>) {
        if let Some(text) = text().filter(|text| text.contains("panicked at")) {
            self.panics.lock().unwrap_or_else(PoisonError::into_inner).push(format!("{program:?}: {}", text.trim()));
        }
    }

    /// From now on nothing fails.
    pub fn lift(&self) {
        self.lifted.store(true, Ordering::Relaxed);
    }

    /// The calls that failed.
    pub fn failed(&self) -> Vec<Failed> {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// When the first call failed.
    pub fn begun(&self) -> Option<Instant> {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner).first().map(|failed| failed.at)
    }

    /// Panics that were said so far.
    pub fn panics(&self) -> Vec<String> {
        self.panics.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Calls of agent and shims that were looked at, and of each of [`ERRORS`] how many could have failed with it.
    pub fn counts(&self) -> (u64, [u64; ERRORS.len()]) {
        (
            self.seen.load(Ordering::Relaxed),
            std::array::from_fn(|i| self.counts.get(i).map_or(0, |c| c.load(Ordering::Relaxed))),
        )
    }
}

/// The program that is running now, to be called with [`LAUNCH`].
///
/// # Errors
/// When it cannot be found.
pub fn own_program() -> io::Result<PathBuf> {
    fs::read_link("/proc/self/exe")
}
