//! What is shown of jobs and cron jobs, and told about them.

use podwright_core::job::plan::Notice;
use podwright_core::objects::{Identity, OwnerReference};
use podwright_core::time::Time;
use serde::Serialize;
use serde_json::{Value, json};

use super::events::{EventInput, Subject};
use super::store::Store;

/// The object with what is known of it; moments as the API shows them.
pub fn object(
    mut object: Value,
    accepted_at: String,
    removal_at: Option<String>,
    owner: Option<&OwnerReference>,
    status: &impl Serialize,
) -> Value {
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.insert("creationTimestamp".to_owned(), json!(accepted_at));
        if let Some(at) = removal_at {
            metadata.insert("deletionTimestamp".to_owned(), json!(at));
        }
        if let Some(owner) = owner {
            metadata.insert("ownerReferences".to_owned(), owner.to_references());
        }
    }
    let status = serde_json::to_value(status).unwrap_or_else(|error| {
        tracing::error!(%error, "a status cannot be written as JSON");
        Value::Null
    });
    if let Some(fields) = object.as_object_mut() {
        fields.insert("status".to_owned(), status);
    }
    object
}

/// What a decision has to tell: an event about the object, and a line in the log.
pub fn tell(store: &Store, identity: &Identity, uid: &str, notice: &Notice, at: Time) {
    if notice.warning {
        tracing::warn!(object = %identity, reason = notice.reason, "{}", notice.message);
    } else {
        tracing::info!(object = %identity, reason = notice.reason, "{}", notice.message);
    }
    store.record_event(EventInput {
        subject: Subject::Object {
            kind: identity.kind,
            namespace: identity.namespace.clone(),
            name: identity.name.clone(),
            uid: uid.to_owned(),
        },
        reason: notice.reason.clone(),
        message: notice.message.clone(),
        warning: notice.warning,
        at,
    });
}
