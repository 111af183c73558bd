//! A pod as the API shows it.

use podwright_core::manifest::api_pod;
use podwright_core::pod::plan::Notice;
use podwright_core::pod::spec::{PodSpec, Role};
use podwright_core::time::Time;
use serde_json::{Value, json};

use super::kept::Kept;
use crate::status::{EventInput, Subject};

/// The `v1` Pod with its status.
pub(super) fn pod(kept: &Kept, node: &str, status: &Value) -> Value {
    let mut pod = api_pod(kept.document());
    // One that has ended is no longer about to be removed.
    let deletion = kept.deletion.as_ref().filter(|_| kept.ended.is_none());
    if let Some(metadata) = pod.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.insert("creationTimestamp".to_owned(), json!(kept.accepted_at.to_timestamp().to_string()));
        if let Some(deletion) = deletion {
            // As in Kubernetes: when the grace ends, and how long it is.
            let grace = deletion.deadline.since(deletion.requested_at).as_secs();
            metadata.insert("deletionTimestamp".to_owned(), json!(deletion.deadline.to_timestamp().to_string()));
            metadata.insert("deletionGracePeriodSeconds".to_owned(), json!(grace));
        }
        if let Some(owner) = &kept.owner {
            metadata.insert("ownerReferences".to_owned(), owner.references("Job"));
        }
    }
    if let Some(spec) = pod.get_mut("spec").and_then(Value::as_object_mut) {
        spec.insert("nodeName".to_owned(), json!(node));
    }
    if let Some(pod) = pod.as_object_mut() {
        pod.insert("status".to_owned(), status.clone());
    }
    pod
}

/// What the machine has to tell, as an event about the pod or one of its containers.
pub fn event(spec: &PodSpec, notice: &Notice, at: Time) -> EventInput {
    let field_path = notice.container.and_then(|index| spec.containers.get(index)).map(|container| {
        let list = if container.role == Role::Main { "containers" } else { "initContainers" };
        format!("spec.{list}{{{}}}", container.name)
    });
    EventInput {
        subject: Subject::Pod {
            namespace: spec.namespace.clone(),
            name: spec.name.clone(),
            uid: spec.uid.clone(),
            field_path,
        },
        reason: notice.reason.to_owned(),
        message: notice.message.clone(),
        warning: notice.warning,
        at,
    }
}
