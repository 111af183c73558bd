//! Another process in a container that runs, without a runtime in between: cloned into a cgroup of the container, in its
//! namespaces, with the limits and privileges that its runtime has written down as an [`Entry`].

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsRawFd as _, BorrowedFd};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sched::{CloneFlags, setns};
use nix::sys::prctl;
use nix::unistd::{dup2_stderr, dup2_stdin, dup2_stdout, pipe2};
use podwright_sys::error::chain;
use podwright_sys::process::{self, Cloned};

use crate::apply::{self, Context};
use crate::entry::Entry;
use crate::error::StepError;
use crate::program::{Passed, Program};
use crate::step::Step;

/// Exit status of a process that could not become its program; why is in its report.
const FAILED: i32 = 126;
/// Longest report, bytes.
const MAX_REPORT: u64 = 4096;

/// A container to enter.
#[derive(Debug, Clone, Copy)]
pub struct Target<'a> {
    /// A pidfd of its first process.
    pub process: BorrowedFd<'a>,
    /// The caller's own PID namespace (`/proc/self/ns/pid`).
    pub own_pid_namespace: BorrowedFd<'a>,
    /// The directory of the cgroup that the process is to be in.
    pub cgroup: BorrowedFd<'a>,
}

/// A process that was started.
#[derive(Debug)]
pub struct Entered {
    /// Its pid, in the caller's numbering. It is a child of the caller.
    pub pid: i32,
    report: File,
}

/// Why no process was started.
#[derive(Debug, thiserror::Error)]
pub enum EnterError {
    /// The kernel refused; nothing has changed.
    #[error("cannot {what}")]
    Kernel {
        /// What was tried.
        what: &'static str,
        /// Its answer.
        source: Errno,
    },
    /// The caller's children will be made in the container's PID namespace from now on: it must not make any.
    #[error("cannot come back from the container's PID namespace")]
    Stranded(#[source] Errno),
}

fn kernel(what: &'static str) -> impl FnOnce(Errno) -> EnterError {
    move |source| EnterError::Kernel { what, source }
}

/// Starts `args` in the container, with standard input from `null` and both outputs to `output`.
///
/// The caller must not be dumpable, which the new process inherits: until it executes the program, it holds a copy of the caller's
/// memory, and at first its descriptors, in the sight of the container. That keeps everybody out who has no CAP_SYS_PTRACE; see
/// [`Entry::lets_trace`] for who has.
///
/// # Errors
/// [`EnterError`]. That the program cannot be executed is told later, by [`Entered::failure`].
pub fn spawn(
    entry: &Entry,
    target: Target<'_>,
    args: &[String],
    null: BorrowedFd<'_>,
    output: BorrowedFd<'_>,
) -> Result<Entered, EnterError> {
    let filter = entry.filter();
    let program = Step::Exec(Program { args: args.to_vec(), env: entry.env.clone() });
    let passed = Passed::default();
    let context = Context { target: Some(target.process), filter: filter.as_ref(), passed: &passed, terminal: None };
    // Reading never waits: whoever else came by the other end could hold it open for ever.
    let (report, end) = pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK).map_err(kernel("make a pipe"))?;
    setns(target.process, CloneFlags::CLONE_NEWPID).map_err(kernel("enter the container's PID namespace"))?;
    let cloned = process::clone(CloneFlags::empty(), Some(target.cgroup));
    if let Ok(Cloned::Child) = cloned {
        let keep = [end.as_raw_fd(), target.process.as_raw_fd()];
        let isolated = isolate(null, output);
        process::finish_with_only(&keep, 0, || {
            let mut steps = entry.steps.iter().chain([&program]);
            let done = isolated.and_then(|()| steps.try_for_each(|step| apply::apply(step, &context)));
            if let Err(error) = done {
                // Nobody may be left to read it.
                File::from(end).write_all(chain(&error).as_bytes()).unwrap_or(());
            }
            process::exit_now(FAILED)
        });
    }
    setns(target.own_pid_namespace, CloneFlags::CLONE_NEWPID).map_err(EnterError::Stranded)?;
    match cloned.map_err(kernel("clone a process into the container's cgroup"))? {
        Cloned::Parent { pid, pidfd: _ } => Ok(Entered { pid: pid.as_raw(), report: report.into() }),
        Cloned::Child => Err(EnterError::Kernel { what: "tell parent and child apart", source: Errno::EINVAL }),
    }
}

impl Entered {
    /// Once it has ended: why it could not become its program; `None`: it did.
    pub fn failure(&mut self) -> Option<String> {
        let mut text = Vec::new();
        match (&mut self.report).take(MAX_REPORT).read_to_end(&mut text) {
            // All that it wrote is there, since it has ended.
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => return None,
        }
        (!text.is_empty()).then(|| String::from_utf8_lossy(&text).into_owned())
    }
}

/// The first thing that the new process does: it is in the container's PID namespace already, where it must neither be looked
/// into nor share descriptors with its maker (CVE-2016-9962).
fn isolate(null: BorrowedFd<'_>, output: BorrowedFd<'_>) -> Result<(), StepError> {
    let failed = |what: &str| {
        let what = what.to_owned();
        move |source| StepError::Kernel { what, source }
    };
    prctl::set_dumpable(false).map_err(failed("hide the process"))?;
    let stdio = dup2_stdin(null).and_then(|()| dup2_stdout(output)).and_then(|()| dup2_stderr(output));
    stdio.map_err(failed("set standard descriptors"))
}
