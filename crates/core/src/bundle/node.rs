//! The node, as far as the spec of a container depends on it.

/// How many kinds of resource limits there are.
pub const LIMIT_COUNT: usize = 16;

/// What a container's spec depends on that is the same for all containers of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NodeFacts {
    /// Memory of the node, bytes.
    pub memory: u64,
    /// Whether the cgroup v2 controller `cpu` is there.
    pub cpu_controller: bool,
    /// Whether the cgroup v2 controller `memory` is there.
    pub memory_controller: bool,
    /// Whether `memory.swap.max` is there.
    pub swap_controller: bool,
    /// The lowest `oom_score_adj` that the agent may give; -1000 with CAP_SYS_RESOURCE (proc(5)).
    pub lowest_oom_score_adj: i32,
    /// What it allows of resource limits.
    pub limits: NodeLimits,
}

/// What the node allows of resource limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NodeLimits {
    /// The largest number of open files (`fs.nr_open`).
    pub open_files: u64,
    /// Signals that may be pending for a user, the kernel's default: half of `kernel.threads-max`.
    pub pending_signals: u64,
    /// The hard limits that the agent cannot exceed, in the order of their numbers; `None` with CAP_SYS_RESOURCE.
    pub ceilings: Option<[u64; LIMIT_COUNT]>,
}
