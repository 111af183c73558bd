//! What the API asks of the agent.

use std::sync::Arc;
use std::time::Duration;

use podwright_core::ledger::Asker;
use podwright_core::manifest::Resource;
use podwright_core::objects::{FileOrigin, Identity, Kind, OwnerReference};
use tokio::sync::oneshot;

use super::handle::Handle;
use super::{Place, Registry, endings};
use crate::api::command::{Accepted, Command, Refused, Reply};
use crate::controllers::cron_job;
use crate::controllers::frame::{Input, Removal};
use crate::controllers::pod::PodEvent;
use crate::explain;

impl Registry {
    pub(super) async fn command(&mut self, command: Command) {
        // Whoever asked may have gone.
        match command {
            Command::Delete { kind, namespace, name, grace, reply } => {
                let identity = Identity::new(kind, &namespace, &name);
                match self.discard(&identity).await {
                    Some(answer) => drop(reply.send(answer)),
                    None => self.delete(&identity, grace, reply),
                }
            }
            Command::Restart { namespace, name, reply } => {
                self.restart(Identity::new(Kind::Pod, &namespace, &name), reply);
            }
            Command::Instantiate { namespace, name, job, reply } => {
                drop(reply.send(self.instantiate(&Identity::new(Kind::CronJob, &namespace, &name), &job).await));
            }
            Command::Why { kind, namespace, name, container, reply } => {
                let identity = Identity::new(kind, &namespace, &name);
                if let Some(told) = self.why_held(&identity) {
                    return drop(reply.send(Ok(told)));
                }
                let asked = self.asked(identity);
                tokio::spawn(async move { drop(reply.send(asked.why(container).await)) });
            }
            Command::Timeline { namespace, name, reply } => {
                let identity = Identity::new(Kind::Pod, &namespace, &name);
                if let Some(refused) = self.refuse_held(&identity) {
                    return drop(reply.send(Err(refused)));
                }
                let asked = self.asked(identity);
                tokio::spawn(async move { drop(reply.send(asked.timeline().await)) });
            }
        }
    }

    /// What an explanation may ask. A name of which there is no pod may be another object's.
    fn asked(&self, identity: Identity) -> explain::Asked {
        let is_pod = || self.ctx.store.pod(&identity.namespace, &identity.name, true).is_some();
        let identity = if identity.kind != Kind::Pod || self.places.contains_key(&identity) || is_pod() {
            identity
        } else {
            let mut others = Kind::ALL.into_iter().map(|kind| Identity::new(kind, &identity.namespace, &identity.name));
            others.find(|other| self.places.contains_key(other)).unwrap_or(identity)
        };
        let of_namespace = self.places.iter().filter(|(of, _)| of.namespace == identity.namespace);
        let running = of_namespace.filter_map(|(of, place)| Some((of, &place.running()?.handle)));
        let mut asked = explain::Asked::new(Arc::clone(&self.ctx), identity.clone());
        for (of, handle) in running {
            match handle {
                Handle::Pod(pod) => drop(asked.pods.insert(of.name.clone(), pod.clone())),
                Handle::Job(job) => drop(asked.jobs.insert(of.name.clone(), job.clone())),
                Handle::CronJob(cron) => drop(asked.cron_jobs.insert(of.name.clone(), cron.clone())),
            }
        }
        asked
    }

    /// What comes from a file stays away until that changes; which file.
    pub(super) fn suppress(&mut self, identity: &Identity) -> Option<FileOrigin> {
        let claim = self.claims.get_mut(identity)?;
        claim.from.suppressed = true;
        let from = claim.from.clone();
        let path = self.ctx.fixed.manifest_dir.join(&from.file).display().to_string();
        self.report_deleted(&path, identity);
        Some(from)
    }

    /// Answered when the request is durable, without holding up anybody else.
    fn delete(&mut self, identity: &Identity, grace: Option<Duration>, reply: oneshot::Sender<Reply>) {
        let Some(uid) = self.places.get(identity).and_then(Place::uid).map(str::to_owned) else {
            // Whoever asked may have gone.
            return drop(reply.send(Err(not_found(identity))));
        };
        let suppress = self.suppress(identity);
        let path = suppress.as_ref().map(|from| self.ctx.fixed.manifest_dir.join(&from.file).display().to_string());
        let note = path.map(|path| format!("it comes from {path}, and stays away until that file changes"));
        let place = self.places.entry(identity.clone()).or_default();
        place.stop();
        if let Some(running) = place.running() {
            let (recorded, told) = oneshot::channel();
            running.handle.remove(Removal { grace, cause: Asker::User.into(), suppress, recorded: Some(recorded) });
            tokio::spawn(async move {
                // An error of the channel: it has come to its end meanwhile.
                let unsaved = told.await.ok().and_then(Result::err);
                drop(reply.send(Ok(Accepted { uid, note: with_unsaved(note, unsaved) })));
            });
            return;
        }
        if let (Some(kept), Some(from)) = (place.ended_mut(), suppress) {
            kept.wanted.origin = podwright_core::objects::Origin::Directory(from);
            self.tombstones.insert(identity.clone(), uid.clone());
        }
        let acts = self.places.entry(identity.clone()).or_default().remove();
        self.carry_out(identity, acts, &Asker::User.into());
        drop(reply.send(Ok(Accepted { uid, note })));
    }

    /// Answered when the request is durable; by a controller that is at its end it is asked for again.
    pub(super) fn restart(&mut self, identity: Identity, reply: oneshot::Sender<Reply>) {
        let (uid, told) = match self.ask_to_restart(&identity) {
            Ok(asked) => asked,
            // Whoever asked may have gone.
            Err(refused) => return drop(reply.send(Err(refused))),
        };
        self.restarts.spawn(async move {
            match told.await {
                Err(_) => Some((identity, reply)),
                Ok(told) => {
                    drop(reply.send(Ok(Accepted { uid, note: with_unsaved(None, told.err()) })));
                    None
                }
            }
        });
    }

    /// The controller has come to its end and cleans up: as soon as it is through.
    pub(super) fn restart_after(&mut self, identity: Identity, reply: oneshot::Sender<Reply>) {
        match self.places.get_mut(&identity).and_then(Place::running_mut) {
            Some(running) => running.restart = Some(reply),
            None => self.restart(identity, reply),
        }
    }

    /// The pod's uid, and what tells when its controller has recorded the request. An error of that: the controller is at its end.
    fn ask_to_restart(
        &mut self,
        identity: &Identity,
    ) -> Result<(String, oneshot::Receiver<Result<(), String>>), Refused> {
        if let Some(refused) = self.refuse_held(identity) {
            return Err(refused);
        }
        let Some(place) = self.places.get_mut(identity) else { return Err(not_found(identity)) };
        if let Place::Vacant = place {
            return Err(not_found(identity));
        }
        if let Some(owner) = endings::owner_of(place) {
            let (what, name) = (owner.kind.singular(), &owner.name);
            let message = format!("{identity} belongs to {what} {name}; delete it, and the {what} makes another");
            return Err(Refused::Conflict { message });
        }
        if let Place::Stopping { .. } = place {
            let message = format!("{identity} is being removed; wait until it is gone (podwright get pods -w)");
            return Err(Refused::Conflict { message });
        }
        if let Place::Ended { .. } = place
            && let Place::Ended { ended, .. } = std::mem::take(place)
        {
            self.resume_ended(ended);
        }
        let (recorded, told) = oneshot::channel();
        let place = self.places.get(identity);
        let uid = place.and_then(Place::uid).unwrap_or_default().to_owned();
        if let Some(Handle::Pod(pod)) = place.and_then(Place::running).map(|running| &running.handle) {
            // It may have come to its end; then `recorded` is dropped.
            drop(pod.send(Input::Event(PodEvent::Restart(recorded))));
        }
        Ok((uid, told))
    }

    /// A job by hand from a cron job's template.
    async fn instantiate(&mut self, cron: &Identity, job: &str) -> Reply {
        if let Some(refused) = self.refuse_held(cron) {
            return Err(refused);
        }
        let object = match self.places.get(cron) {
            Some(Place::Live { running, .. }) => running.object.clone(),
            _ => return Err(not_found(cron)),
        };
        let Resource::CronJob(object) = object else { return Err(not_found(cron)) };
        let identity = Identity::new(Kind::Job, &cron.namespace, job);
        let taken = || Refused::Conflict { message: format!("{} \"{job}\" already exists", Kind::Job.resource()) };
        if self.is_taken(&identity) {
            return Err(taken());
        }
        let invalid = |message| Refused::Invalid { message };
        let document = cron_job::job(&object.spec, job, None).map_err(invalid)?;
        let uid = document.spec.uid.clone();
        let owner =
            OwnerReference { kind: Kind::CronJob, name: object.spec.name.clone(), uid: object.spec.uid.clone() };
        self.create_job(owner, document, false).await.map_err(invalid)?;
        Ok(Accepted { uid, note: None })
    }
}

pub(super) fn not_found(identity: &Identity) -> Refused {
    Refused::NotFound { kind: identity.kind, namespace: identity.namespace.clone(), name: identity.name.clone() }
}

/// Says with an answer that what was asked for is in force, but would not outlive the agent yet.
pub(super) fn with_unsaved(note: Option<String>, unsaved: Option<String>) -> Option<String> {
    let unsaved =
        unsaved.map(|error| format!("it is not on disk yet, and would be forgotten if podwrightd ended now: {error}"));
    match (note, unsaved) {
        (Some(note), Some(unsaved)) => Some(format!("{note}; {unsaved}")),
        (note, unsaved) => note.or(unsaved),
    }
}
