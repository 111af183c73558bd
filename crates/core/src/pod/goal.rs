//! What is wanted of a pod as a whole.

use crate::time::Time;

/// What is wanted of the pod as a whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Goal {
    /// It runs.
    Run,
    /// All of it is stopped in order, and that is its end; or, for a restart, the end of this sandbox.
    Stop(Stop),
}

/// A stop of the whole pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stop {
    pub(super) why: Why,
    /// Since when there is a reason for it.
    pub(super) since: Time,
    /// End of the shared grace period.
    pub(super) deadline: Time,
}

/// Why a pod is stopped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Why {
    /// Its mains are done, or an init failed for good.
    Completed,
    /// Its sandbox was lost and its restart policy wants no other.
    SandboxLost,
    /// `activeDeadlineSeconds`.
    DeadlineExceeded,
    /// A volume over its limit.
    Evicted,
    /// Its manifest or a user asked.
    Deleted,
    /// `podwright restart`.
    Restart,
    /// A rule of a container asked for a restart of all: what ran before goes, the pod and its sandbox stay.
    RestartAll,
}

impl Why {
    /// Whether the pod goes on afterwards.
    pub(super) fn goes_on(&self) -> bool {
        matches!(self, Why::Restart | Why::RestartAll)
    }
}
