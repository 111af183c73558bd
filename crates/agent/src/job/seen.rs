//! What a job sees of its pods, from their statuses.

use k8s_openapi::api::core::v1::{ContainerStatus, PodStatus};
use podwright_core::job::state::{PodEnd, PodSeen};
use podwright_core::pod::spec::{PodSpec, Role};
use tokio::sync::mpsc;

use super::JobInput;
use crate::worker::kept::{Ended, Kept};

/// Tells a job about one of its pods that lives; each thing once.
#[derive(Debug)]
pub(crate) struct Reports {
    job: mpsc::UnboundedSender<JobInput>,
    last: Option<PodSeen>,
}

impl Reports {
    pub(crate) fn to(job: mpsc::UnboundedSender<JobInput>) -> Reports {
        Reports { job, last: None }
    }

    /// The pod shows this status, and is not over.
    pub(crate) fn live(&mut self, spec: &PodSpec, status: &PodStatus, deleting: bool) {
        let seen = live(spec, status, deleting);
        if self.last.as_ref() != Some(&seen) {
            self.last = Some(seen.clone());
            // The job may be gone; its pods follow.
            let _gone = self.job.send(JobInput::Pod { name: spec.name.clone(), seen });
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
pub(crate) fn kept(kept: &Kept) -> PodSeen {
    match &kept.ended {
        Some(end) => PodSeen::Ended(ended(end)),
        None => PodSeen::Live { ready: false, restarts: 0, deleting: kept.deletion.is_some() },
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
