//! Commands straight into a container: a clone into a cgroup of their own below the container's, and its namespaces. Only where
//! its runtime has written down how ([`Entry`]); else its `exec` is called.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use podwright_inside::{self as inside, EnterError, Entered, Entry, FILE, Target, VERSION};
use podwright_sys::cgroup::{Cgroup, CgroupError};
use podwright_sys::child;
use podwright_sys::own::{MAX_STATE, read_regular};

/// A container that commands can be run in without its runtime.
#[derive(Debug)]
pub(crate) struct DirectExec {
    entry: Entry,
    /// A pidfd of the container's first process.
    process: OwnedFd,
    container: Cgroup,
    /// Cgroups of commands, by number.
    slots: Vec<Slot>,
}

/// The cgroup of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Slot {
    /// The first process of a command runs in it.
    Used,
    /// That has ended; what it has left running may be in it.
    Left,
    /// All in it was killed. It is made anew: from Linux 6.14 on, the kernel may kill what is cloned into one that was killed once.
    Killed,
}

/// What stays the same for all containers.
#[derive(Debug)]
pub(crate) struct SpawnFiles {
    own_pid_namespace: File,
    null: File,
}

/// A command that runs.
#[derive(Debug)]
pub(crate) struct DirectCommand {
    pub(crate) entered: Entered,
    /// The number of its cgroup.
    slot: usize,
    /// All of its processes, however they have detached themselves.
    pub(crate) cgroup: Cgroup,
}

/// Why a command could not be started.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DirectExecError {
    #[error(transparent)]
    Cgroup(#[from] CgroupError),
    #[error(transparent)]
    Enter(#[from] EnterError),
}

impl SpawnFiles {
    pub(crate) fn new() -> std::io::Result<SpawnFiles> {
        Ok(SpawnFiles { own_pid_namespace: File::open("/proc/self/ns/pid")?, null: File::open("/dev/null")? })
    }
}

impl DirectExec {
    /// The way into a container with first process `pid`, of which the runtime's state is in `state`. `None`: the runtime has
    /// not written one that this version understands, or the container may trace what comes in, which is then the runtime's to make.
    pub(crate) fn find(state: &Path, pid: i32, container: &Cgroup) -> Option<DirectExec> {
        let text = read_regular(&state.join(FILE), MAX_STATE).ok()?;
        let entry: Entry = serde_json::from_slice(&text).ok().filter(|entry: &Entry| entry.version == VERSION)?;
        if entry.lets_trace() {
            return None;
        }
        // Our child, and not reaped: the pid is its own.
        let process = child::pidfd_open(pid).ok()?;
        Some(DirectExec { entry, process, container: container.clone(), slots: Vec::new() })
    }

    /// Starts a command.
    pub(crate) fn start(
        &mut self,
        files: &SpawnFiles,
        args: &[String],
        output: &OwnedFd,
    ) -> Result<DirectCommand, DirectExecError> {
        let (slot, cgroup) = self.slot()?;
        let directory = cgroup.open()?;
        let target = Target {
            process: self.process.as_fd(),
            own_pid_namespace: files.own_pid_namespace.as_fd(),
            cgroup: directory.as_fd(),
        };
        let entered = inside::spawn(&self.entry, target, args, files.null.as_fd(), output.as_fd())?;
        if let Some(slot) = self.slots.get_mut(slot) {
            *slot = Slot::Used;
        }
        Ok(DirectCommand { entered, slot, cgroup })
    }

    /// The first process of a command has ended, or all of it was `killed`.
    pub(crate) fn finish(&mut self, command: &DirectCommand, killed: bool) {
        if let Some(slot) = self.slots.get_mut(command.slot) {
            *slot = if killed { Slot::Killed } else { Slot::Left };
        }
    }

    /// A cgroup without processes, made where there is none. What a command has left running keeps its own.
    fn slot(&mut self) -> Result<(usize, Cgroup), CgroupError> {
        for (number, slot) in self.slots.iter().enumerate() {
            let cgroup = self.cgroup(number);
            let free = match slot {
                Slot::Used => false,
                // One that the container has removed is made again.
                Slot::Left => cgroup.create()? || !cgroup.populated()?,
                Slot::Killed => cgroup.remove_if_empty()? && cgroup.create()?,
            };
            if free {
                return Ok((number, cgroup));
            }
        }
        let number = self.slots.len();
        let cgroup = self.cgroup(number);
        cgroup.create()?;
        self.slots.push(Slot::Left);
        Ok((number, cgroup))
    }

    fn cgroup(&self, number: usize) -> Cgroup {
        self.container.child(&format!("_exec{number}"))
    }
}
