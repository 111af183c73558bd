//! Ends of pods -> what the job has achieved.

use super::policy::{self, Meaning};
use super::spec::{JobSpec, Replacement};
use super::state::{IndexFailures, JobPod, JobState, PodEnd, PodSeen, Seen};
use crate::time::Time;

/// Takes into `state` what is new about its pods; the message of a policy that fails the job.
pub(super) fn count(spec: &JobSpec, state: &mut JobState, seen: &Seen, now: Time) -> Option<String> {
    let mut tally = Tally::default();
    let serials: Vec<u64> = state.pods.keys().copied().collect();
    for serial in serials {
        let Some(pod) = state.pods.get(&serial).cloned() else { continue };
        match seen.get(&pod.name) {
            Some(PodSeen::Ended(end)) => {
                if !pod.counted {
                    ended(spec, state, &pod, end, &mut tally);
                }
                state.pods.remove(&serial);
            }
            // It is replaced at once, so it is counted at once.
            Some(PodSeen::Live { deleting: true, .. })
                if !pod.counted
                    && !pod.removing
                    && state.verdict.is_none()
                    && spec.replacement == Replacement::TerminatingOrFailed =>
            {
                failed(spec, state, &pod, Meaning::Counts, now, &mut tally);
                if let Some(pod) = state.pods.get_mut(&serial) {
                    pod.counted = true;
                }
            }
            Some(PodSeen::Live { .. }) | None => {}
        }
    }
    tally.settle(state);
    tally.job_failed
}

/// What came of a round, for the back-off of the job as a whole.
#[derive(Default)]
struct Tally {
    last_success: Option<Time>,
    failures: Vec<Time>,
    job_failed: Option<String>,
}

impl Tally {
    /// A success ends a row of failures; those after it begin another one.
    fn settle(&mut self, state: &mut JobState) {
        if let Some(success) = self.last_success {
            state.back_off = super::state::BackOff::default();
            self.failures.retain(|at| *at > success);
        }
        if let Some(last) = self.failures.iter().max() {
            state.back_off.last = state.back_off.last.max(Some(*last));
            let more = u32::try_from(self.failures.len()).unwrap_or(u32::MAX);
            state.back_off.failures = state.back_off.failures.saturating_add(more);
        }
    }
}

fn ended(spec: &JobSpec, state: &mut JobState, pod: &JobPod, end: &PodEnd, tally: &mut Tally) {
    if pod.removing && (!end.succeeded || end.stopped) {
        return;
    }
    // Told to stop because its job has failed, it was not through.
    let cut_short = end.stopped && state.verdict.as_ref().is_some_and(|verdict| !verdict.success);
    if end.succeeded && !cut_short {
        tally.last_success = tally.last_success.max(Some(end.at));
        match pod.index {
            None => state.succeeded = state.succeeded.saturating_add(1),
            Some(index) => {
                state.completed.insert(index);
                state.index_failures.remove(&index);
            }
        }
    } else {
        failed(spec, state, pod, policy::meaning(spec, &pod.name, end), end.at, tally);
    }
}

fn failed(spec: &JobSpec, state: &mut JobState, pod: &JobPod, meaning: Meaning, at: Time, tally: &mut Tally) {
    tally.failures.push(at);
    if meaning != Meaning::Ignored {
        state.failed = state.failed.saturating_add(1);
    }
    if let (Some(index), Some(limit)) = (pod.index, spec.backoff_limit_per_index)
        && !state.completed.contains(index)
        && !state.failed_indexes.contains(index)
    {
        let counts = meaning != Meaning::Ignored;
        if meaning == Meaning::FailsIndex || (counts && pod.index_failures.counted >= limit) {
            state.index_failures.remove(&index);
            state.failed_indexes.insert(index);
        } else {
            let before = state.index_failures.get(&index).copied().unwrap_or_default();
            let failures = IndexFailures {
                counted: before.counted.max(pod.index_failures.counted + u32::from(counts)),
                ignored: before.ignored.max(pod.index_failures.ignored + u32::from(!counts)),
                last: before.last.max(Some(at)),
            };
            state.index_failures.insert(index, failures);
        }
    }
    if let Meaning::FailsJob(message) = meaning {
        tally.job_failed.get_or_insert(message);
    }
}
