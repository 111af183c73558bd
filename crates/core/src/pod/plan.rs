//! What to do next: the output of [`decide()`](super::decide()).

use std::time::Duration;

use super::observe::{HookKind, Memo, ProbeKind};
use crate::ledger::Cause;
use crate::time::Time;

/// The decision for one pod at one moment.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// To be carried out in this order. Each is marked in the `Observed` the moment it is handed out, so that the next
    /// decision does not repeat it.
    pub steps: Vec<Step>,
    /// `v1.PodStatus` at this moment.
    pub status: k8s_openapi::api::core::v1::PodStatus,
    /// Decide again at this time at the latest, if nothing happens before.
    pub wake_at: Option<Time>,
    /// What the shim should keep now.
    pub memo: Memo,
    /// Set when the pod will never do anything again: `status` is final, the sandbox gone.
    pub finished: bool,
    /// Things worth telling the user (`v1.Event`), new since the last decision.
    pub notices: Vec<Notice>,
}

/// One thing to do. Containers are indexed as in `PodSpec::containers`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Make sandbox `number`: cgroups, volumes, shim. Answered by `SandboxReady` or `SandboxFailed`.
    CreateSandbox {
        /// Its number.
        number: u32,
    },
    /// Kill what is left in it, remove it. Answered by `SandboxGone`.
    RemoveSandbox {
        /// Its number.
        number: u32,
        /// No other follows in this run of the pod: what only the run needs may go as well.
        last: bool,
    },
    /// Start an instance. Answered by `Instance` or `StartFailed`.
    Start {
        /// Index of the container.
        container: usize,
        /// Number of the new instance.
        attempt: u32,
        /// To be kept with it: the back-off after its end.
        restart_delay: Duration,
    },
    /// Send the stop signal to the first process of an instance.
    Signal {
        /// Index of the container.
        container: usize,
        /// Number of the instance.
        attempt: u32,
        /// Why, to be kept with it.
        cause: Cause,
    },
    /// Run a hook of an instance, once. Answered by `Hooked` or by a word on the instance.
    Hook {
        /// Index of the container.
        container: usize,
        /// Number of the instance.
        attempt: u32,
        /// Which.
        kind: HookKind,
        /// Of a preStop hook: why the instance is stopped, to be kept with it.
        cause: Option<Cause>,
    },
    /// SIGKILL to every process of an instance.
    Kill {
        /// Index of the container.
        container: usize,
        /// Number of the instance.
        attempt: u32,
    },
    /// Try a probe once. Answered by `Probed`.
    Probe {
        /// Index of the container.
        container: usize,
        /// Number of the instance.
        attempt: u32,
        /// Which.
        kind: ProbeKind,
    },
}

/// Something worth telling, as a `v1.Event` about the pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// `Normal` or `Warning`.
    pub warning: bool,
    /// `Started`, `Killing`, `BackOff`, `Unhealthy`, …
    pub reason: &'static str,
    /// For people.
    pub message: String,
    /// Index of the container it is about.
    pub container: Option<usize>,
}
