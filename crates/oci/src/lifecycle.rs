//! The commands of a runtime (runtime-spec, runtime.md, "Operations").

mod control;
mod descriptors;
mod entry;
mod events;
mod exec;
mod foreground;
mod freeze;
mod launch;
mod listener;
mod processes;
mod rdt;
mod resources;
mod stats;
mod terminal;
mod user;

use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::Path;

use nix::sys::signal::{SigSet, SigmaskHow, Signal, sigprocmask};
use podwright_sys::child::Ended;
use podwright_sys::process;

use crate::config::{self, Document};
use crate::error::{Error, Result, kernel};
use crate::log::warn;
use crate::state::{LOCK_TIMEOUT, Lock, State, StateDir, Status};

pub use control::{Listed, delete, kill, list, start, state};
pub use events::{events, stats};
pub use exec::{Changes, Command, ExecOptions, exec};
pub use freeze::{pause, resume};
pub use launch::{CreateOptions, create, run};
pub use processes::{host_table, pids, table};
pub use resources::{parse as parse_resources, update};

/// Holds a container that is to be changed, and tells what it is then.
fn change(root: &Path, id: &str) -> Result<(Lock, Option<State>, Status)> {
    let dir = StateDir::new(root, id)?;
    let lock = dir.lock(LOCK_TIMEOUT)?;
    let state = dir.load()?;
    let status = dir.status(state.as_ref())?;
    Ok((lock, state, status))
}

fn wrong_status(id: &str, found: Status, command: &'static str) -> Error {
    Error::WrongStatus { id: id.into(), found, command }
}

/// Reads a configuration, or a part of one.
///
/// # Errors
/// [`Error::Config`].
pub(crate) fn read_json<T: Document>(path: &Path) -> Result<T> {
    read_with_text(path).map(|(parsed, _)| parsed)
}

/// The same, and the text that says so.
///
/// # Errors
/// [`Error::Config`].
pub(crate) fn read_with_text<T: Document>(path: &Path) -> Result<(T, Vec<u8>)> {
    let invalid = |source| Error::Config { path: path.to_owned(), source };
    let text = config::text(path).map_err(invalid)?;
    let (parsed, unknown) = config::understand(&text).map_err(invalid)?;
    if !unknown.is_empty() {
        warn(&Error::NotGranted(unknown.join(" ")));
    }
    Ok((parsed, text))
}

/// Keeps signals for [`wait_and_forward`]. To be called before the process that they are for is made.
fn hold_signals() -> Result<()> {
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::all()), None).map_err(kernel("block signals"))
}

/// The exit status of a child that has ended, 128 + n for signal n.
fn exit_status(pidfd: &impl AsFd) -> Result<Option<i32>> {
    Ok(process::ended(pidfd).map_err(kernel("wait for the process"))?.map(|ended| match ended {
        Ended::Exited(code) => code,
        Ended::Signaled(signal) => 128 + signal,
    }))
}

/// Waits for the end of a child with its terminal, if this process has that, or by its signals alone.
fn attend_to_end(pidfd: &impl AsFd, console: Option<&UnixStream>) -> Result<i32> {
    match console {
        Some(console) => foreground::proxy(pidfd, console),
        None => wait_and_forward(pidfd),
    }
}

/// Waits for the end of a process, passing on the signals that this one gets; gives its exit status, 128 + n for signal n.
fn wait_and_forward(pidfd: &impl AsFd) -> Result<i32> {
    let all = SigSet::all();
    loop {
        let number = process::wait_signal(&all).map_err(kernel("wait for signals"))?;
        match Signal::try_from(number) {
            Ok(Signal::SIGCHLD) => {
                if let Some(status) = exit_status(pidfd)? {
                    return Ok(status);
                }
            }
            // Its own pipes break for it, too.
            Ok(Signal::SIGPIPE) => {}
            _ => match process::pidfd_send_signal(pidfd, number) {
                Ok(()) | Err(nix::Error::ESRCH) => {}
                Err(errno) => return Err(kernel(format!("send signal {number}"))(errno)),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use oci_spec::runtime::Process;
    use std::fs;

    #[test]
    fn the_specifications_spelling_of_flags_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("process.json");
        for flag in
            ["RESET_ON_FORK", "RECLAIM", "DL_OVERRUN", "KEEP_POLICY", "KEEP_PARAMS", "UTIL_CLAMP_MIN", "UTIL_CLAMP_MAX"]
        {
            let text = format!(
                r#"{{"user": {{}}, "cwd": "/", "scheduler": {{"policy": "SCHED_OTHER", "flags": ["SCHED_FLAG_{flag}"]}}}}"#
            );
            fs::write(&path, text).unwrap();
            let process: Process = read_json(&path).unwrap();
            assert_eq!(process.scheduler().as_ref().unwrap().flags().as_ref().unwrap().len(), 1, "{flag}");
        }
        fs::write(&path, r#"{"user": {}, "cwd": "/", "scheduler": {"policy": "SCHED_OTHER", "flags": ["ODD"]}}"#)
            .unwrap();
        assert!(read_json::<Process>(&path).is_err());
    }
}
