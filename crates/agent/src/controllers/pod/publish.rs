//! A pod as the API shows it.

use std::sync::Arc;

use podwright_core::manifest::{Spec as _, api};
use podwright_core::pod::spec::PodSpec;
use serde_json::{Value, json};

use crate::context::Context;
use crate::state::object::Kept;

/// The `v1` Pod with its status.
pub(crate) fn pod(kept: &Kept<PodSpec>, node: &str, status: &Value) -> Value {
    let mut pod = api(&PodSpec::wrap(Arc::clone(kept.document())));
    // One that has ended is no longer about to be removed.
    let deletion = kept.state.deletion.as_ref().filter(|_| kept.state.ended.is_none());
    if let Some(metadata) = pod.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.insert("creationTimestamp".to_owned(), json!(kept.state.accepted_at.to_timestamp().to_string()));
        if let Some(deletion) = deletion {
            // As in Kubernetes: when the grace ends, and how long it is.
            let grace = deletion.deadline.since(deletion.requested_at).as_secs();
            metadata.insert("deletionTimestamp".to_owned(), json!(deletion.deadline.to_timestamp().to_string()));
            metadata.insert("deletionGracePeriodSeconds".to_owned(), json!(grace));
        }
        if let Some(owner) = kept.owner() {
            metadata.insert("ownerReferences".to_owned(), owner.to_references());
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

/// Shows a pod that has ended, with its last status.
pub fn show_ended(ctx: &Context, kept: &Kept<PodSpec>) {
    let Some(ended) = &kept.state.ended else { return };
    let shown = pod(kept, &ctx.fixed.node_name, &ended.status);
    if let Err(error) = ctx.store.put_pod(shown, ctx.clock.now()) {
        tracing::error!(%error, "an ended pod could not be shown");
    }
}
