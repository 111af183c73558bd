//! Whose, and when.

use serde::{Deserialize, Serialize};

/// A moment: `CLOCK_BOOTTIME` and `CLOCK_REALTIME`, in nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stamp {
    /// Nanoseconds since boot, sleep included.
    pub boot_ns: i64,
    /// Nanoseconds since the Unix epoch.
    pub wall_ns: i64,
}

/// One run of one container of the pod: the identity behind every request and record.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct InstanceId {
    /// The container's name in the pod.
    pub container: String,
    /// 0 for the first run under this pod uid, never used twice.
    pub attempt: u32,
}
