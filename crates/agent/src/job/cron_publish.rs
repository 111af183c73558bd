//! A cron job as the API shows it.

use k8s_openapi::api::batch::v1::CronJobStatus;
use podwright_core::job::plan::Notice;
use podwright_core::manifest::api_cron_job;
use podwright_core::objects::Kind;
use podwright_core::time::Time;
use serde_json::{Value, json};

use super::disk::CronKept;
use crate::status::{EventInput, Subject};

/// The `batch/v1` CronJob with its status.
pub(super) fn cron_job(kept: &CronKept, status: &CronJobStatus) -> Value {
    let mut cron = api_cron_job(&kept.claim.object);
    if let Some(metadata) = cron.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.insert("creationTimestamp".to_owned(), json!(second(kept.state.accepted_at)));
    }
    if let (Some(at), Some(metadata)) = (kept.removed_at, cron.get_mut("metadata").and_then(Value::as_object_mut)) {
        metadata.insert("deletionTimestamp".to_owned(), json!(second(at)));
    }
    let status = serde_json::to_value(status).unwrap_or_else(|error| {
        tracing::error!(%error, "a status cannot be written as JSON");
        Value::Null
    });
    if let Some(fields) = cron.as_object_mut() {
        fields.insert("status".to_owned(), status);
    }
    cron
}

/// In whole seconds, as `metav1.Time` is.
fn second(at: jiff::Timestamp) -> String {
    jiff::Timestamp::from_second(at.as_second()).unwrap_or(at).to_string()
}

/// What a decision has to tell, as an event about the cron job.
pub(super) fn event(kept: &CronKept, notice: &Notice, at: Time) -> EventInput {
    let cron = &kept.claim.object.cron;
    EventInput {
        subject: Subject::Object {
            kind: Kind::CronJob,
            namespace: cron.namespace.clone(),
            name: cron.name.clone(),
            uid: cron.uid.clone(),
        },
        reason: notice.reason.clone(),
        message: notice.message.clone(),
        warning: notice.warning,
        at,
    }
}
