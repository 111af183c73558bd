//! What a simulated node consists of.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::actor::Actor;
use crate::ledger::Outcome;
use crate::pod::Machine;
use crate::pod::observe::{Event, HookKind, Instance, Memo, Observed};
use crate::pod::plan::Plan;
use crate::pod::spec::PodSpec;
use crate::time::Time;

/// Something that happened, for the timeline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// When.
    pub at: Time,
    /// Index of the pod.
    pub pod: usize,
    /// What.
    pub what: What,
}

/// What can happen, seen from outside.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it; containers are indexed as in the spec")]
pub enum What {
    SandboxUp { number: u32 },
    SandboxGone { number: u32 },
    Started { container: usize, attempt: u32 },
    Ready { container: usize },
    Hooked { container: usize, attempt: u32, kind: HookKind },
    HookDone { container: usize, attempt: u32, kind: HookKind },
    Signaled { container: usize, attempt: u32 },
    Killed { container: usize, attempt: u32 },
    Ended { container: usize, attempt: u32, code: i32 },
    StartFailed { container: usize },
    Phase(String),
    Finished,
    AgentCrashed,
    AgentStarted,
    DiskFull,
    DiskFree,
    ShimLost,
    Deleted,
    Restarted,
}

/// The fake shim of one pod, with the records that outlive it.
#[derive(Debug, Default)]
pub(super) struct Shim {
    /// Its sandbox, and since when it stands.
    pub(super) sandbox: Option<(u32, Option<Time>)>,
    pub(super) last_number: u32,
    /// Every instance that ever was, by container: the records on disk.
    pub(super) records: Vec<Vec<Instance>>,
    pub(super) memo: Memo,
}

pub(super) struct Pod {
    pub(super) spec: PodSpec,
    pub(super) actors: Vec<Actor>,
    pub(super) shim: Shim,
    /// What the last agent knew.
    pub(super) stored: Observed,
    pub(super) disk: OnDisk,
    pub(super) machine: Option<Machine>,
    pub(super) finished: Option<Plan>,
    pub(super) phase: String,
    pub(super) ready: Vec<bool>,
    pub(super) wake: Option<Time>,
}

#[expect(clippy::large_enum_variant, reason = "few are waiting at any time")]
#[derive(Debug, Clone)]
pub(super) enum Due {
    SandboxUp {
        number: u32,
        works: bool,
    },
    SandboxDown {
        number: u32,
    },
    Started {
        container: usize,
        attempt: u32,
    },
    Ended {
        container: usize,
        attempt: u32,
        outcome: Outcome,
    },
    /// The shim sees the end of a hook, or hears of it from the agent of this epoch.
    HookDone {
        container: usize,
        attempt: u32,
        kind: HookKind,
        failure: Option<String>,
        epoch: Option<u32>,
    },
    /// An answer for the agent of this epoch only.
    Answer {
        epoch: u32,
        event: Event,
    },
    Wake,
    /// The agent of this epoch tries to write what it keeps of a pod.
    Save {
        epoch: u32,
    },
    DiskFull,
    DiskFree,
    CrashAgent,
    StartAgent,
    LoseShim,
    Delete {
        grace: Option<Duration>,
    },
    Restart,
}

/// What is on disk of a pod.
#[derive(Debug, Default)]
pub(super) struct OnDisk {
    /// Its `pod.json`; only the first fields count.
    pub(super) kept: Option<Observed>,
    pub(super) records: BTreeMap<(usize, u32), Instance>,
    /// Records that only the agent has, and is to write.
    pub(super) held: BTreeSet<(usize, u32)>,
    /// Since when the shim waits to leave.
    pub(super) leaving_since: Option<Time>,
    /// The end of the pod is there.
    pub(super) end_saved: bool,
}

impl OnDisk {
    pub(super) fn has(&self, key: (usize, u32), instance: &Instance) -> bool {
        self.records.get(&key) == Some(instance)
    }

    /// An end that is not on disk as it was.
    pub(super) fn unwritten(&self, shim: &Shim) -> Option<String> {
        let ended = |i: &Instance| !i.is_live();
        let mut missing = keys(shim).filter(|(key, i)| ended(i) && !self.has(*key, i));
        missing.next().map(|((c, attempt), _)| format!("the end of {c}/{attempt}"))
    }
}

pub(super) fn keys(shim: &Shim) -> impl Iterator<Item = ((usize, u32), &Instance)> {
    shim.records.iter().enumerate().flat_map(|(c, records)| records.iter().map(move |i| ((c, i.attempt), i)))
}
