//! `batch/v1` CronJobStatus from what is known.

use jiff::Timestamp;
use k8s_openapi::api::batch::v1::CronJobStatus;
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1 as meta;

use super::decide::Step;
use super::spec::CronSpec;
use super::state::{CronState, Jobs};

/// The status; a job that is about to be removed is no longer active.
pub fn status(spec: &CronSpec, state: &CronState, jobs: &Jobs, steps: &[Step]) -> CronJobStatus {
    let goes = |name: &str| steps.iter().any(|step| matches!(step, Step::Delete { name: gone } if gone == name));
    let active: Vec<ObjectReference> = jobs
        .iter()
        .filter(|(name, job)| job.end.is_none() && !job.removing && !goes(name))
        .map(|(name, job)| ObjectReference {
            api_version: Some("batch/v1".to_owned()),
            kind: Some("Job".to_owned()),
            namespace: Some(spec.namespace.clone()),
            name: Some(name.clone()),
            uid: Some(job.uid.clone()),
            ..ObjectReference::default()
        })
        .collect();
    let api_time = |at: Timestamp| meta::Time(at);
    CronJobStatus {
        active: (!active.is_empty()).then_some(active),
        last_schedule_time: state.last_schedule.map(api_time),
        last_successful_time: state.last_success.map(api_time),
    }
}
