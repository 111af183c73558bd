//! What a job sees of its pods, from their statuses.

use k8s_openapi::api::core::v1::{ContainerStatus, PodStatus};
use podwright_core::job::state::{PodEnd, PodSeen};
use podwright_core::pod::spec::{PodSpec, Role};
use podwright_core::pod::state::Ended;

use crate::state::object::Kept;

/// Tells a job about one of its pods that lives; each thing once.
pub struct Reports {
    tell: Box<dyn Fn(String, PodSeen) + Send>,
    last: Option<PodSeen>,
}

impl Reports {
    /// To whoever is told a pod's name and what is seen of it.
    pub fn to(tell: impl Fn(String, PodSeen) + Send + 'static) -> Reports {
        Reports { tell: Box::new(tell), last: None }
    }

    /// The pod shows this status, and is not over.
    pub(crate) fn live(&mut self, spec: &PodSpec, status: &PodStatus, deleting: bool) {
        let seen = live(spec, status, deleting);
        if self.last.as_ref() != Some(&seen) {
            self.last = Some(seen.clone());
            (self.tell)(spec.name.clone(), seen);
        }
    }
}

fn live(spec: &PodSpec, status: &PodStatus, deleting: bool) -> PodSeen {
    let ready = status.conditions.iter().flatten().any(|c| c.type_ == "Ready" && c.status == "True");
    let is_sidecar = |name: &str| spec.containers.iter().any(|c| c.name == name && c.role == Role::Sidecar);
    // How often a sidecar is restarted says nothing about the work.
    let counted = containers(status).filter(|container| !is_sidecar(&container.name));
    let restarts = counted.map(|container| u32::try_from(container.restart_count).unwrap_or(0)).sum();
    PodSeen::Live { ready, restarts, deleting }
}

fn containers(status: &PodStatus) -> impl Iterator<Item = &ContainerStatus> {
    status.container_statuses.iter().chain(&status.init_container_statuses).flatten()
}

/// What is seen of a pod before its worker says more.
pub fn of_kept(kept: &Kept<PodSpec>) -> PodSeen {
    match &kept.state.ended {
        Some(end) => PodSeen::Ended(ended(end)),
        None => PodSeen::Live { ready: false, restarts: 0, deleting: kept.state.deletion.is_some() },
    }
}

fn ended(end: &Ended) -> PodEnd {
    let status: PodStatus = serde_json::from_value(end.status.clone()).unwrap_or_default();
    let exit = |container: &ContainerStatus| {
        let code = container.state.as_ref()?.terminated.as_ref()?.exit_code;
        Some((container.name.clone(), code))
    };
    PodEnd {
        succeeded: status.phase.as_deref() == Some("Succeeded"),
        at: end.at,
        stopped: end.stopped,
        exits: containers(&status).filter_map(exit).collect(),
        conditions: status.conditions.iter().flatten().map(|c| (c.type_.clone(), c.status.clone())).collect(),
    }
}
