//! Events about pods.

use podwright_core::pod::plan::Notice;
use podwright_core::pod::spec::{PodSpec, Role};
use podwright_core::time::Time;

use super::events::{EventInput, Subject};

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
