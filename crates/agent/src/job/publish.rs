//! A job as the API shows it.

use k8s_openapi::api::batch::v1::JobStatus;
use podwright_core::job::plan::Notice;
use podwright_core::manifest::api_job;
use podwright_core::objects::Kind;
use podwright_core::time::Time;
use serde_json::{Value, json};

use super::disk::JobKept;
use crate::status::{EventInput, Subject};

/// The `batch/v1` Job with its status.
pub(super) fn job(kept: &JobKept, status: &JobStatus) -> Value {
    let mut job = api_job(&kept.claim.object);
    if let Some(metadata) = job.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.insert("creationTimestamp".to_owned(), json!(kept.state.accepted_at.to_timestamp().to_string()));
        if let Some(at) = kept.state.removal_at {
            metadata.insert("deletionTimestamp".to_owned(), json!(at.to_timestamp().to_string()));
        }
        if let Some(owner) = &kept.owner {
            metadata.insert("ownerReferences".to_owned(), owner.references("CronJob"));
        }
    }
    let status = serde_json::to_value(status).unwrap_or_else(|error| {
        tracing::error!(%error, "a status cannot be written as JSON");
        Value::Null
    });
    if let Some(fields) = job.as_object_mut() {
        fields.insert("status".to_owned(), status);
    }
    job
}

/// What a decision has to tell, as an event about the job.
pub(super) fn event(kept: &JobKept, notice: &Notice, at: Time) -> EventInput {
    let job = &kept.claim.object.job;
    EventInput {
        subject: Subject::Object {
            kind: Kind::Job,
            namespace: job.namespace.clone(),
            name: job.name.clone(),
            uid: job.uid.clone(),
        },
        reason: notice.reason.clone(),
        message: notice.message.clone(),
        warning: notice.warning,
        at,
    }
}
