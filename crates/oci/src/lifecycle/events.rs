//! `events`: figures of a container every now and then, and when the kernel kills one of its processes for memory.

use std::fs::File;
use std::io::{Read as _, Seek as _};
use std::os::fd::AsFd as _;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use podwright_sys::cgroup::Cgroup;
use serde::Serialize;

use super::stats::{self, Stats};
use super::wrong_status;
use crate::error::{Result, file, kernel};
use crate::state::{StateDir, Status};

/// A line of output, as runc has it.
#[derive(Serialize)]
struct Event<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<Stats>,
}

/// Hands out the container's figures once.
///
/// # Errors
/// [`Error::NotFound`](crate::Error::NotFound), [`Error::WrongStatus`](crate::Error::WrongStatus); those of reading the cgroup.
pub fn stats(root: &Path, id: &str, mut emit: impl FnMut(&str) -> Result<()>) -> Result<()> {
    let cgroup = running(root, id)?;
    emit(&line("stats", id, Some(stats::read(&cgroup)?)))
}

/// Hands out the figures at every `interval`, and each kill for memory when it happens, until the container has ended.
///
/// # Errors
/// As [`stats()`].
pub fn events(root: &Path, id: &str, interval: Duration, mut emit: impl FnMut(&str) -> Result<()>) -> Result<()> {
    let cgroup = running(root, id)?;
    let mut population = cgroup.events()?;
    // Without the controller nothing is killed for memory here.
    let mut memory = File::open(cgroup.path().join("memory.events")).ok();
    let mut kills = None;
    let mut next = Instant::now() + interval;
    loop {
        // Read through these descriptors: poll(2) tells of what has changed since. What killed the last process is counted by then.
        let ended = count(&mut population, "populated")?.unwrap_or(0) == 0;
        let now = match &mut memory {
            Some(file) => count(file, "oom_kill")?,
            None => None,
        };
        for _ in kills.or(now).unwrap_or(0)..now.unwrap_or(0) {
            emit(&line("oom", id, None))?;
        }
        kills = now.or(kills);
        if ended {
            return Ok(());
        }
        if Instant::now() >= next {
            emit(&line("stats", id, Some(stats::read(&cgroup)?)))?;
            next += interval;
        }
        wait([Some(&population), memory.as_ref()], next)?;
    }
}

fn line(kind: &'static str, id: &str, data: Option<Stats>) -> String {
    serde_json::to_string(&Event { kind, id, data }).unwrap_or_default()
}

fn running(root: &Path, id: &str) -> Result<Cgroup> {
    let dir = StateDir::new(root, id)?;
    let state = dir.load()?;
    let status = dir.status(state.as_ref())?;
    let state = state
        .filter(|_| matches!(status, Status::Created | Status::Running | Status::Paused))
        .ok_or_else(|| wrong_status(id, status, "events"))?;
    Ok(Cgroup::at(state.cgroup))
}

/// The number after `key`; `None` when the cgroup is gone, or has none.
fn count(events: &mut File, key: &str) -> Result<Option<u64>> {
    let mut text = String::new();
    match events.rewind().and_then(|()| events.read_to_string(&mut text)) {
        Err(err) if err.raw_os_error() == Some(nix::libc::ENODEV) => return Ok(None),
        other => other.map_err(file("read", "the cgroup's events"))?,
    };
    Ok(text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' ')?.parse().ok()))
}

/// Waits until one of the files changes, or until `until`.
fn wait(files: [Option<&File>; 2], until: Instant) -> Result<()> {
    let left = until.saturating_duration_since(Instant::now());
    let millis = i32::try_from(left.as_millis() + 1).unwrap_or(i32::MAX);
    let mut fds: Vec<PollFd<'_>> =
        files.into_iter().flatten().map(|file| PollFd::new(file.as_fd(), PollFlags::POLLPRI)).collect();
    match poll(&mut fds, PollTimeout::try_from(millis).unwrap_or(PollTimeout::MAX)) {
        Ok(_) | Err(nix::Error::EINTR) => Ok(()),
        Err(errno) => Err(kernel("wait for events")(errno)),
    }
}
