//! The steps.

use std::path::PathBuf;

use nix::sched::CloneFlags;
use podwright_sys::caps::CapSet;
use podwright_sys::sched::Attributes;
use serde::{Deserialize, Serialize};

use crate::program::Program;

/// One thing that a process does on its way to the program.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// Write `/proc/self/oom_score_adj`, while `/proc` is the host's.
    OomScoreAdj(i32),
    /// Leave the caller's session keyring for a new one of this name.
    SessionKeyring(String),
    /// Leave all supplementary groups, while that is still allowed.
    DropGroups,
    /// Raise a hard limit, while that is still allowed.
    RaiseLimit {
        /// Number in getrlimit(2).
        resource: u32,
        /// At least.
        hard: u64,
    },
    /// Enter these namespaces of a container that runs. What follows sees its files.
    Enter(#[serde(with = "kinds")] CloneFlags),
    /// Restrict the process to processors.
    Affinity(Vec<u32>),
    /// setsid(2): a session and a process group of its own, without a terminal, as other runtimes start a process.
    NewSession,
    /// Give pipes and terminals on descriptors 0 to 2 to this user, so that `/dev/stdout` can be opened, and put the container's
    /// `/dev/null` in place of the host's.
    OwnStdio(u32),
    /// Set the scheduling policy.
    Scheduler(Attributes),
    /// Set class and level of disk accesses (ioprio_set(2)).
    IoPriority {
        /// 1 real-time, 2 best effort, 3 idle.
        class: u16,
        /// 0 to 7.
        level: u16,
    },
    /// Set the policy by which memory is taken from nodes (set_mempolicy(2)).
    MemoryPolicy {
        /// Mode and flags.
        mode: u32,
        /// Nodes.
        nodes: Vec<u32>,
    },
    /// Set the execution domain (personality(2)).
    Personality(u32),
    /// Set a resource limit.
    Rlimit {
        /// Number in getrlimit(2).
        resource: u32,
        /// Soft limit.
        soft: u64,
        /// Hard limit.
        hard: u64,
    },
    /// Mark all descriptors but the first ones (0 to 2 and those passed on) close-on-exec.
    CloseDescriptors,
    /// Unblock signals and restore their default handling.
    ResetSignals,
    /// Enter the working directory.
    Chdir(PathBuf),
    /// Set the file mode creation mask.
    Umask(u32),
    /// Drop what is not in this set from the bounding set.
    LimitBounding(CapSet),
    /// Become the user, keeping the permitted capabilities for the steps that follow.
    SwitchUser {
        /// User.
        uid: u32,
        /// Group.
        gid: u32,
        /// Supplementary groups.
        groups: Vec<u32>,
    },
    /// Load the seccomp filter.
    LoadFilter,
    /// Set the capability sets.
    Capabilities {
        /// Effective.
        effective: CapSet,
        /// Permitted.
        permitted: CapSet,
        /// Inheritable.
        inheritable: CapSet,
        /// Ambient.
        ambient: CapSet,
    },
    /// Keep no other capabilities than these, of those there are.
    KeepCapabilities(CapSet),
    /// Never gain privileges by execve(2) again.
    NoNewPrivileges,
    /// Become the program.
    Exec(Program),
}

/// A limit's name by its number, for errors.
#[must_use]
pub fn rlimit_name(number: u32) -> &'static str {
    const NAMES: [&str; 16] = [
        "RLIMIT_CPU",
        "RLIMIT_FSIZE",
        "RLIMIT_DATA",
        "RLIMIT_STACK",
        "RLIMIT_CORE",
        "RLIMIT_RSS",
        "RLIMIT_NPROC",
        "RLIMIT_NOFILE",
        "RLIMIT_MEMLOCK",
        "RLIMIT_AS",
        "RLIMIT_LOCKS",
        "RLIMIT_SIGPENDING",
        "RLIMIT_MSGQUEUE",
        "RLIMIT_NICE",
        "RLIMIT_RTPRIO",
        "RLIMIT_RTTIME",
    ];
    NAMES.get(number as usize).copied().unwrap_or("unknown")
}

/// `CLONE_NEW*` as a number.
mod kinds {
    use nix::sched::CloneFlags;
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    pub(super) fn serialize<S: Serializer>(kinds: &CloneFlags, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_i32(kinds.bits())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<CloneFlags, D::Error> {
        let bits = i32::deserialize(deserializer)?;
        CloneFlags::from_bits(bits).ok_or_else(|| D::Error::custom(format!("{bits:#x} are no kinds of namespaces")))
    }
}
