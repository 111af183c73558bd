//! `batch/v1` JobStatus from what is known.

use k8s_openapi::api::batch::v1::{JobCondition, JobStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1 as meta;

use super::spec::JobSpec;
use super::state::{JobState, PodSeen, Seen};
use crate::time::Time;

/// Pods or indexes that succeeded and count for the job as it is now.
pub(super) fn succeeded(spec: &JobSpec, state: &JobState) -> u32 {
    match (spec.indexed, spec.completions) {
        (true, Some(completions)) => state.completed.below(completions).len(),
        _ => state.succeeded,
    }
}

/// The status, as far as `seen` goes. Counts that are 0 are left out, as the API does it; `ready` and `terminating` are always there.
pub fn status(spec: &JobSpec, state: &JobState, seen: &Seen) -> JobStatus {
    let (mut active, mut ready, mut terminating) = (0, 0, 0);
    for pod in state.pods.values() {
        match seen.get(&pod.name) {
            Some(PodSeen::Live { deleting: true, .. }) => terminating += 1,
            Some(PodSeen::Live { ready: is_ready, .. }) => {
                active += 1;
                ready += i32::from(*is_ready);
            }
            Some(PodSeen::Ended(_)) => {}
            None => active += 1,
        }
    }
    let count = |n: u32| (n > 0).then(|| i32::try_from(n).unwrap_or(i32::MAX));
    let success = state.verdict.as_ref().is_some_and(|v| v.success);
    JobStatus {
        active: (active > 0).then_some(active),
        ready: Some(ready),
        terminating: Some(terminating),
        succeeded: count(succeeded(spec, state)),
        failed: count(state.failed),
        completed_indexes: (spec.indexed && !state.completed.is_empty()).then(|| state.completed.to_string()),
        failed_indexes: spec.backoff_limit_per_index.map(|_| state.failed_indexes.to_string()),
        start_time: state.started_at.map(api_time),
        completion_time: state.finished_at.filter(|_| success).map(api_time),
        conditions: Some(conditions(state)).filter(|all| !all.is_empty()),
        uncounted_terminated_pods: None,
    }
}

fn conditions(state: &JobState) -> Vec<JobCondition> {
    let mut all = Vec::new();
    if let Some((value, at)) = state.suspended {
        let (reason, message) = if value { ("JobSuspended", "Job suspended") } else { ("JobResumed", "Job resumed") };
        all.push(condition("Suspended", value, reason, message, at));
    }
    let Some(verdict) = &state.verdict else { return all };
    let (target, end) = if verdict.success { ("SuccessCriteriaMet", "Complete") } else { ("FailureTarget", "Failed") };
    all.push(condition(target, true, &verdict.reason, &verdict.message, verdict.at));
    if let Some(at) = state.finished_at {
        all.push(condition(end, true, &verdict.reason, &verdict.message, at));
    }
    all
}

fn condition(kind: &str, value: bool, reason: &str, message: &str, at: Time) -> JobCondition {
    JobCondition {
        type_: kind.to_owned(),
        status: if value { "True" } else { "False" }.to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message.to_owned()),
        last_probe_time: Some(api_time(at)),
        last_transition_time: Some(api_time(at)),
    }
}

fn api_time(time: Time) -> meta::Time {
    meta::Time(time.to_timestamp())
}
