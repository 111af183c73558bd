//! The other end of a controller, whatever its kind.

use podwright_core::cron::state::JobSeen;
use podwright_core::job::state::PodSeen;
use podwright_core::manifest::{Resource, Spec};
use podwright_core::objects::OwnerReference;
use tokio::sync::oneshot;

use crate::api::command::Reply;
use crate::controllers::cron_job::{CronController, CronEvent};
use crate::controllers::frame::{Controller, Input, Removal, Sender};
use crate::controllers::job::{JobController, JobEvent};
use crate::controllers::pod::PodController;
use crate::sources::wanted::Wanted;

/// Where the controller of an object is told something. It may have come to its end: then its last word is on its way to the registry.
#[derive(Clone)]
pub(super) enum Handle {
    Pod(Sender<PodController>),
    Job(Sender<JobController>),
    CronJob(Sender<CronController>),
}

/// An object that has a controller.
pub(super) struct Running {
    /// Where that is told something.
    pub(super) handle: Handle,
    /// The object as it was told last.
    pub(super) object: Resource,
    /// What has made it.
    pub(super) owner: Option<OwnerReference>,
    /// Who asked for a restart while the controller was on its way out.
    pub(super) restart: Option<oneshot::Sender<Reply>>,
}

impl Handle {
    /// The object is written differently.
    pub(super) fn update(&self, wanted: Wanted<Resource>) {
        match self {
            Handle::Pod(sender) => update(sender, wanted),
            Handle::Job(sender) => update(sender, wanted),
            Handle::CronJob(sender) => update(sender, wanted),
        }
    }

    /// The object is to be removed.
    pub(super) fn remove(&self, removal: Removal) {
        match self {
            Handle::Pod(sender) => send(sender, Input::Remove(removal)),
            Handle::Job(sender) => send(sender, Input::Remove(removal)),
            Handle::CronJob(sender) => send(sender, Input::Remove(removal)),
        }
    }

    /// The node's settings have changed, or its clock was set.
    pub(super) fn settings(&self) {
        match self {
            Handle::Pod(sender) => send(sender, Input::Settings),
            Handle::Job(sender) => send(sender, Input::Settings),
            Handle::CronJob(sender) => send(sender, Input::Settings),
        }
    }

    /// The agent ends.
    pub(super) fn leave(&self) {
        match self {
            Handle::Pod(sender) => send(sender, Input::Leave),
            Handle::Job(sender) => send(sender, Input::Leave),
            Handle::CronJob(sender) => send(sender, Input::Leave),
        }
    }

    /// Tells a job what is seen of one of its pods.
    pub(super) fn pod_seen(&self, name: String, seen: PodSeen) {
        if let Handle::Job(sender) = self {
            send(sender, Input::Event(JobEvent::Pod { name, seen }));
        }
    }

    /// Tells a cron job what is seen of one of its jobs; `None`: it is gone.
    pub(super) fn job_seen(&self, name: String, seen: Option<JobSeen>) {
        if let Handle::CronJob(sender) = self {
            send(sender, Input::Event(CronEvent { name, seen }));
        }
    }
}

fn send<C: Controller>(sender: &Sender<C>, input: Input<C>) {
    let _ended = sender.send(input);
}

fn update<C: Controller>(sender: &Sender<C>, wanted: Wanted<Resource>) {
    if let Some(wanted) = wanted.unwrap::<C::Spec>() {
        send(sender, Input::Update(wanted));
    } else {
        tracing::error!(kind = %C::Spec::KIND, "an object of another kind has its name; it is left as it is");
    }
}
