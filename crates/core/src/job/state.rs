//! What has to be known of a job after a restart of the agent, and what is seen of its pods.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::indexes::Indexes;
use crate::objects::DurableState;
use crate::time::Time;

/// What outlives the agent. Written before anything follows from it, and only when it has changed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct JobState {
    /// When this run of the job was accepted; `metadata.creationTimestamp`.
    pub accepted_at: Time,
    /// Tells this run from others of the same job: part of its pods' names.
    pub run: i64,
    /// Pods made so far. The next one's serial number.
    pub serial: u64,
    /// `status.startTime`: set anew when a suspended job is resumed.
    pub started_at: Option<Time>,
    /// Pods that succeeded, of a job without indexes.
    pub succeeded: u32,
    /// Pods that failed, but for those that a policy ignores.
    pub failed: u32,
    /// `status.completedIndexes`.
    pub completed: Indexes,
    /// `status.failedIndexes`, with `backoffLimitPerIndex`.
    pub failed_indexes: Indexes,
    /// Failures of each index that is neither completed nor failed, with `backoffLimitPerIndex`.
    pub index_failures: BTreeMap<u32, IndexFailures>,
    /// Of the job as a whole.
    pub back_off: BackOff,
    /// Pods that exist, or are about to, by serial number. One that has ended and is counted is no longer here.
    pub pods: BTreeMap<u64, JobPod>,
    /// The condition `Suspended`, once there was one: its value and since when.
    pub suspended: Option<(bool, Time)>,
    /// Set when it is settled how the job ends: `SuccessCriteriaMet` or `FailureTarget`.
    pub verdict: Option<Verdict>,
    /// When its last pod was gone after that: `Complete` or `Failed`.
    pub finished_at: Option<Time>,
    /// Somebody asked for its removal.
    pub removal_at: Option<Time>,
}

/// A pod of a job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct JobPod {
    /// `metadata.name`; of one run of a job never used twice.
    pub name: String,
    /// Its completion index.
    pub index: Option<u32>,
    /// Failures of its index before it: the annotation `batch.kubernetes.io/job-index-failure-count`.
    pub index_failures: IndexFailures,
    /// When it was decided to make it.
    pub created_at: Time,
    /// The job itself removes it: how it ends then does not count.
    pub removing: bool,
    /// It has been counted already.
    pub counted: bool,
}

/// What became of the earlier pods of an index.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct IndexFailures {
    /// Failures that count.
    pub counted: u32,
    /// Failures that the policy ignores; the back-off grows all the same.
    pub ignored: u32,
    /// When the last one ended.
    pub last: Option<Time>,
}

/// Failures in a row of a job's pods.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackOff {
    /// Failures since the last success.
    pub failures: u32,
    /// When the last one ended.
    pub last: Option<Time>,
}

/// How a job ends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// It succeeds.
    pub success: bool,
    /// The conditions' reason: `CompletionsReached`, `BackoffLimitExceeded`, …
    pub reason: String,
    /// The conditions' message.
    pub message: String,
    /// Since when.
    pub at: Time,
}

impl JobState {
    /// A job that was just accepted.
    pub fn new(accepted_at: Time) -> JobState {
        JobState {
            accepted_at,
            run: accepted_at.0,
            serial: 0,
            started_at: None,
            succeeded: 0,
            failed: 0,
            completed: Indexes::default(),
            failed_indexes: Indexes::default(),
            index_failures: BTreeMap::new(),
            back_off: BackOff::default(),
            pods: BTreeMap::new(),
            suspended: None,
            verdict: None,
            finished_at: None,
            removal_at: None,
        }
    }

    /// Applies `change` to every moment.
    fn each_time(&mut self, mut change: impl FnMut(&mut Time)) {
        change(&mut self.accepted_at);
        let single = [&mut self.started_at, &mut self.back_off.last, &mut self.finished_at, &mut self.removal_at];
        single.into_iter().flatten().for_each(&mut change);
        for pod in self.pods.values_mut() {
            change(&mut pod.created_at);
            pod.index_failures.last.iter_mut().for_each(&mut change);
        }
        self.index_failures.values_mut().filter_map(|f| f.last.as_mut()).for_each(&mut change);
        self.suspended.iter_mut().for_each(|(_, at)| change(at));
        self.verdict.iter_mut().for_each(|v| change(&mut v.at));
    }
}

impl DurableState for JobState {
    fn shift(&mut self, shift_ns: i64, now: Time) {
        // What is past stays past, also where the clock of a new boot is behind the old one.
        self.each_time(|time| *time = Time(time.0.saturating_add(shift_ns)).min(now));
    }
}

impl IndexFailures {
    /// All of them, by which the back-off grows.
    pub fn total(self) -> u32 {
        self.counted.saturating_add(self.ignored)
    }
}

/// What is seen of one pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PodSeen {
    /// It is not over.
    Live {
        /// Its condition `Ready`.
        ready: bool,
        /// Restarts of its plain inits and mains.
        restarts: u32,
        /// Its removal was asked for.
        deleting: bool,
    },
    /// It has a terminal phase, and that is durable.
    Ended(PodEnd),
}

/// How a pod ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodEnd {
    /// `Succeeded`, else `Failed`.
    pub succeeded: bool,
    /// When.
    pub at: Time,
    /// A main was told to stop before it ended: its exit code says nothing about its work.
    pub stopped: bool,
    /// Exit codes of its containers, by name.
    pub exits: Vec<(String, i32)>,
    /// Types and statuses of its conditions.
    pub conditions: Vec<(String, String)>,
}

/// What is seen of a job's pods, by name.
pub type Seen = BTreeMap<String, PodSeen>;

/// First delay after a failure.
const FIRST_DELAY: Duration = Duration::from_secs(10);
/// Longest delay after a failure.
const LONGEST_DELAY: Duration = Duration::from_secs(360);

/// How long after the end of the last of so many failures in a row the next pod is made: 10 s, 20 s, 40 s, … 6 min.
pub fn delay(failures: u32) -> Duration {
    match failures {
        0 => Duration::ZERO,
        n => FIRST_DELAY.saturating_mul(2_u32.saturating_pow(n - 1)).min(LONGEST_DELAY),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_back_off_doubles_up_to_six_minutes() {
        let curve: Vec<u64> = (0..9).map(|n| delay(n).as_secs()).collect();
        assert_eq!(curve, [0, 10, 20, 40, 80, 160, 320, 360, 360]);
        assert_eq!(delay(u32::MAX), LONGEST_DELAY);
    }

    #[test]
    fn every_moment_is_moved() {
        let mut state = JobState::new(Time(1));
        let failures = IndexFailures { last: Some(Time(1)), ..IndexFailures::default() };
        state.started_at = Some(Time(1));
        state.back_off.last = Some(Time(1));
        state.finished_at = Some(Time(1));
        state.removal_at = Some(Time(1));
        state.suspended = Some((true, Time(1)));
        state.verdict = Some(Verdict { success: true, reason: "r".into(), message: "m".into(), at: Time(1) });
        state.index_failures.insert(0, failures);
        let pod = JobPod {
            name: "p".into(),
            index: None,
            index_failures: failures,
            created_at: Time(1),
            removing: false,
            counted: false,
        };
        state.pods.insert(0, pod);
        state.each_time(|time| time.0 += 41);
        let text = serde_json::to_string(&state).unwrap();
        assert_eq!(text.matches(":42").count() + text.matches(",42]").count(), 10, "{text}");
        assert!(!text.contains("At\":1,"), "{text}");
        assert_eq!(serde_json::from_str::<JobState>(&text).unwrap(), state);
    }
}
