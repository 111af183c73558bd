//! Commands straight into a container: a clone into a cgroup of their own below the container's, and its namespaces. Only where
//! its runtime has written down how (`entry.json`); else its `exec` is called.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use podwright_sys::cgroup::{Cgroup, CgroupError};
use podwright_sys::child;
use podwright_sys::enter::{self, Door, EnterError, Entered, Entry, VERSION};
use podwright_sys::own::{MAX_STATE, read_regular};

/// A container that commands can be run in without its runtime.
#[derive(Debug)]
pub(crate) struct Way {
    entry: Entry,
    target: OwnedFd,
    container: Cgroup,
    /// Cgroups of commands, by number; whether one is in use.
    rooms: Vec<bool>,
}

/// What stays the same for all containers.
#[derive(Debug)]
pub(crate) struct Keys {
    own_pid_namespace: File,
    null: File,
}

/// A command that was let in.
#[derive(Debug)]
pub(crate) struct Inside {
    pub(crate) entered: Entered,
    /// The number of its cgroup.
    room: usize,
    /// All of its processes, however they have detached themselves.
    pub(crate) cgroup: Cgroup,
}

/// Why a command could not be let in.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WayError {
    #[error(transparent)]
    Cgroup(#[from] CgroupError),
    #[error(transparent)]
    Enter(#[from] EnterError),
}

impl Keys {
    pub(crate) fn new() -> std::io::Result<Keys> {
        Ok(Keys { own_pid_namespace: File::open("/proc/self/ns/pid")?, null: File::open("/dev/null")? })
    }
}

impl Way {
    /// The way into a container with first process `pid`, of which the runtime's state is in `state`. `None`: the runtime has
    /// not written one that this version understands, or the container may trace what comes in, which is then the runtime's to make.
    pub(crate) fn find(state: &Path, pid: i32, container: &Cgroup) -> Option<Way> {
        let text = read_regular(&state.join("entry.json"), MAX_STATE).ok()?;
        let mut entry: Entry = serde_json::from_slice(&text).ok().filter(|entry: &Entry| entry.version == VERSION)?;
        if entry.lets_trace() {
            return None;
        }
        if !entry.env.iter().any(|variable| variable.starts_with("HOME=")) {
            entry.env.extend(home_of(pid));
        }
        // Our child, and not reaped: the pid is its own.
        let target = child::pidfd_open(pid).ok()?;
        Some(Way { entry, target, container: container.clone(), rooms: Vec::new() })
    }

    /// Lets a command in.
    pub(crate) fn enter(&mut self, keys: &Keys, args: &[String], output: &OwnedFd) -> Result<Inside, WayError> {
        let (room, cgroup) = self.room()?;
        let directory = cgroup.open()?;
        let door = Door {
            target: self.target.as_fd(),
            own_pid_namespace: keys.own_pid_namespace.as_fd(),
            cgroup: directory.as_fd(),
        };
        let entered = enter::spawn(&self.entry, door, args, keys.null.as_fd(), output.as_fd())?;
        self.rooms[room] = true;
        Ok(Inside { entered, room, cgroup })
    }

    /// The first process of a command has ended.
    pub(crate) fn leave(&mut self, inside: &Inside) {
        if let Some(used) = self.rooms.get_mut(inside.room) {
            *used = false;
        }
    }

    /// A cgroup without processes, made where there is none. What a command has left running keeps its own.
    fn room(&mut self) -> Result<(usize, Cgroup), CgroupError> {
        for (number, used) in self.rooms.iter().enumerate().filter(|(_, used)| !**used) {
            debug_assert!(!used);
            let cgroup = self.cgroup(number);
            // One that the container has removed is made again.
            if cgroup.create()? || !cgroup.populated()? {
                return Ok((number, cgroup));
            }
        }
        let number = self.rooms.len();
        let cgroup = self.cgroup(number);
        cgroup.create()?;
        self.rooms.push(false);
        Ok((number, cgroup))
    }

    fn cgroup(&self, number: usize) -> Cgroup {
        self.container.child(&format!("_exec{number}"))
    }
}

/// As much as execve(2) takes.
const MAX_ENVIRONMENT: u64 = 2 << 20;

/// The runtime has given the first process a home, if the container's image says nothing of one.
fn home_of(pid: i32) -> Option<String> {
    // Whose it is may move its bounds (prctl(2), PR_SET_MM).
    let environment = read_regular(Path::new(&format!("/proc/{pid}/environ")), MAX_ENVIRONMENT).ok()?;
    let home = environment.split(|byte| *byte == 0).find(|variable| variable.starts_with(b"HOME="))?;
    String::from_utf8(home.to_vec()).ok()
}
