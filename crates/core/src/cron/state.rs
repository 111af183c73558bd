//! What has to be known of a cron job after a restart of the agent, and what is seen of its jobs.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::objects::DurableState;
use crate::time::Time;

/// What outlives the agent. All moments are of the wall clock.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CronState {
    /// When this cron job was accepted; `metadata.creationTimestamp`.
    pub accepted_at: Timestamp,
    /// Every scheduled time up to here is dealt with: its job was made, or it was given up.
    pub done_until: Timestamp,
    /// The same while the clock is far behind `done_until`: it had been wrong, or is.
    pub behind: Option<Timestamp>,
    /// It was suspended when it was looked at last: times since `done_until` passed during that.
    pub was_suspended: bool,
    /// `status.lastScheduleTime`.
    pub last_schedule: Option<Timestamp>,
    /// `status.lastSuccessfulTime`.
    pub last_success: Option<Timestamp>,
    /// When its removal was asked for.
    #[serde(default)]
    pub removed_at: Option<Timestamp>,
}

impl CronState {
    /// A cron job that was just accepted: what is past is no concern of its.
    pub fn new(now: Timestamp) -> CronState {
        CronState {
            accepted_at: now,
            done_until: now,
            behind: None,
            was_suspended: false,
            last_schedule: None,
            last_success: None,
            removed_at: None,
        }
    }
}

impl DurableState for CronState {
    /// They are of the wall clock, and stay as they are.
    fn shift(&mut self, _shift_ns: i64, _now: Time) {}
}

/// What is seen of one of its jobs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobSeen {
    /// `metadata.uid`.
    pub uid: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// How it ended, if it has.
    pub end: Option<JobEnd>,
    /// It is being removed.
    pub removing: bool,
}

/// How a job ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JobEnd {
    /// `Complete`, else `Failed`.
    pub success: bool,
    /// When.
    pub at: Timestamp,
}

/// What is seen of a cron job's jobs, by name.
pub type Jobs = BTreeMap<String, JobSeen>;
