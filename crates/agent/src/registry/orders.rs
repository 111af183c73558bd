//! What controllers want of each other.

use std::sync::Arc;

use podwright_core::job::spec::JobSpec;
use podwright_core::job::state::JobState;
use podwright_core::ledger::{Asker, Cause};
use podwright_core::manifest::{JobDocument, PodDocument, Resource};
use podwright_core::objects::{Identity, Kind, OwnerReference};
use podwright_core::pod::spec::PodSpec;

use super::endings::{self, LISTED_PER_JOB};
use super::handle::Handle;
use super::{Place, Registry, Start};
use crate::controllers::cron_job::waiting_job;
use crate::controllers::frame::{Input, Recorded, Removal};
use crate::controllers::job::JobEvent;
use crate::controllers::order::Order;
use crate::controllers::pod::reports;
use crate::sources::wanted::Wanted;
use crate::state::object::Kept;
use crate::storage::Listener;

impl Registry {
    pub(super) async fn order(&mut self, order: Order) {
        match order {
            Order::Create { owner, object: Resource::Pod(document), .. } => self.create_pod(owner, document),
            Order::Create { owner, object: Resource::Job(document), reply } => {
                let identity = Identity::new(Kind::Job, &document.spec.namespace, &document.spec.name);
                let answer = if self.holds.knows(Kind::Job, &document.spec.uid) {
                    // Made before; nobody knows what has become of it.
                    Ok(())
                } else if self.is_made(&identity, &owner, &document.spec.uid) {
                    Ok(())
                } else if self.is_taken(&identity) {
                    Err(format!("{} \"{}\" already exists", Kind::Job.resource(), identity.name))
                } else {
                    self.create_job(owner, document, true).await
                };
                if let Some(reply) = reply {
                    // Whoever asked may have gone.
                    drop(reply.send(answer));
                }
            }
            Order::Create { object: Resource::CronJob(cron), .. } => {
                tracing::error!(name = cron.spec.name, "nothing makes cron jobs");
            }
            Order::Delete { identity, why, recorded } => {
                self.say_if_held(&identity);
                self.remove_for_owner(&identity, why, recorded);
            }
            Order::Counted { owner, pods } => self.counted(&owner, pods),
            // One that is over stays away as one that was deleted by hand.
            Order::Expired { identity, uid } => {
                if self.places.get(&identity).and_then(Place::uid) == Some(&uid) {
                    let suppress = self.suppress(&identity);
                    let place = self.places.entry(identity).or_default();
                    place.stop();
                    if let Some(running) = place.running() {
                        let cause = Asker::Completion.into();
                        running.handle.remove(Removal { grace: None, cause, suppress, recorded: None });
                    }
                }
            }
            Order::EndSaved { uid } => {
                if let Some(kept) = self.unreported.remove(&uid) {
                    self.report_end(&kept);
                }
            }
        }
    }

    /// An object is not wanted any more by what has made it.
    pub(super) fn remove_for_owner(&mut self, identity: &Identity, why: &'static str, recorded: Option<Recorded>) {
        let Some(place) = self.places.get_mut(identity) else { return };
        let cause = Cause { by: Asker::Owner, text: why.to_owned() };
        match (place.stop(), place.running(), recorded) {
            (is_news, Some(running), recorded) => {
                if is_news || recorded.is_some() {
                    running.handle.remove(Removal { grace: None, cause, suppress: None, recorded });
                }
            }
            (_, None, _) => {
                let acts = place.remove();
                self.carry_out(identity, acts, &cause);
            }
        }
    }

    /// Tells a job what an earlier agent left of one of its pods.
    pub(super) fn restore_owned(&mut self, kept: &Kept<PodSpec>) {
        let Some(owner) = kept.owner() else { return };
        let (namespace, name) = (&kept.spec().namespace, kept.spec().name.clone());
        if kept.state.ended.is_some() && self.has_owner(namespace, owner) {
            self.uncounted.insert(kept.spec().uid.clone());
        }
        if let Some(job) = self.owner(namespace, owner) {
            job.pod_seen(name, reports::of_kept(kept));
        }
    }

    /// Pods whose job is gone go after it: an agent died while it removed them.
    pub(super) fn remove_orphans(&mut self) {
        let is_orphan = |identity: &Identity, place: &Place| {
            identity.kind == Kind::Pod
                && endings::owner_of(place).is_some_and(|owner| !self.has_owner(&identity.namespace, owner))
        };
        let orphans = self.places.iter().filter(|(identity, place)| is_orphan(identity, place));
        let orphans: Vec<Identity> = orphans.map(|(identity, _)| identity.clone()).collect();
        for identity in orphans {
            self.remove_for_owner(&identity, "it is gone", None);
        }
    }

    /// A pod is over. Its job counts on that once it is durable: else it might be run again after the job went on.
    pub(super) fn pod_over(&mut self, kept: &Kept<PodSpec>, saved: bool) {
        // One that was removed is gone, whether that is on disk or not.
        if saved || kept.owner().is_none() || kept.state.deletion.is_some() {
            return self.report_end(kept);
        }
        let uid = kept.spec().uid.clone();
        self.uncounted.insert(uid.clone());
        self.unreported.insert(uid.clone(), kept.clone());
        let sender = self.sender.clone();
        let listener: Listener = Box::new(move |result| {
            if result.is_ok() {
                // An error: the registry is gone, and the agent with it.
                drop(sender.send(Order::EndSaved { uid: uid.clone() }));
            }
        });
        endings::save(&self.ctx, kept, Some(listener));
    }

    /// A job's pod is over, and that is durable.
    fn report_end(&mut self, kept: &Kept<PodSpec>) {
        let Some(owner) = kept.owner() else { return };
        let (namespace, name) = (&kept.spec().namespace, kept.spec().name.clone());
        if self.has_owner(namespace, owner) {
            self.uncounted.insert(kept.spec().uid.clone());
        }
        if let Some(job) = self.owner(namespace, owner) {
            job.pod_seen(name, reports::of_kept(kept));
        }
    }

    /// Whether a name is not free for an object that another one makes.
    pub(super) fn is_taken(&self, identity: &Identity) -> bool {
        let has = self.places.get(identity).is_some_and(|place| place.uid().is_some());
        has || self.claims.contains_key(identity) || self.holds.of(identity).is_some()
    }

    /// Whether this was made before: by an agent that died, or of which the answer has not come yet.
    fn is_made(&self, identity: &Identity, owner: &OwnerReference, uid: &str) -> bool {
        let Some(place) = self.places.get(identity) else { return false };
        place.uid() == Some(uid) && place.running().is_none_or(|running| running.owner.as_ref() == Some(owner))
    }

    fn create_pod(&mut self, owner: OwnerReference, document: Arc<PodDocument>) {
        let (identity, uid) = (Identity::of_pod(&document.spec), document.spec.uid.as_str());
        // Nobody knows what has become of one that is held, and the job has been told so.
        if self.holds.knows(Kind::Pod, uid) || self.is_made(&identity, &owner, uid) {
            return;
        }
        if self.is_taken(&identity) {
            let (name, message) = (identity.name.clone(), format!("pods \"{}\" already exists", identity.name));
            if let Some(Handle::Job(job)) = self.owner(&identity.namespace, &owner) {
                // It may have come to its end.
                drop(job.send(Input::Event(JobEvent::Refused { name, message })));
            }
            return;
        }
        self.run_anew(Wanted::from_owner(owner, Resource::Pod(document)));
    }

    /// Makes a cron job's job; `again`: what cannot be saved is tried again.
    pub(super) async fn create_job(
        &mut self,
        owner: OwnerReference,
        document: Arc<JobDocument>,
        again: bool,
    ) -> Result<(), String> {
        let waits = waiting_job(&self.ctx, &owner.uid);
        let name = document.spec.name.clone();
        let state = JobState::new(self.ctx.clock.now());
        let kept: Kept<JobSpec> = Kept { wanted: Wanted::from_owner(owner, document), state };
        let (written, ctx) = (kept.clone(), Arc::clone(&self.ctx));
        let write = move || written.write(ctx.paths.state(), &ctx.clock);
        let written = tokio::task::spawn_blocking(write).await.map_err(Into::into).flatten();
        if again {
            self.ctx.storage.report(&waits, written.as_ref().err().map(AsRef::as_ref));
        }
        written.map_err(|error| format!("{} \"{name}\" cannot be saved: {error:#}", Kind::Job.resource()))?;
        self.begin(Start::Job { kept, is_new: false }, None);
        Ok(())
    }

    /// What the job has counted is only kept for whoever wants to read it, and not for ever.
    fn counted(&mut self, owner: &OwnerReference, pods: Vec<Identity>) {
        let over = self.over.entry(owner.uid.clone()).or_default();
        for identity in pods {
            match self.places.get(&identity) {
                Some(Place::Ended { uid, .. }) => {
                    self.uncounted.remove(uid);
                    over.push_back(identity);
                }
                Some(Place::Live { uid, .. } | Place::Stopping { uid, .. }) => drop(self.uncounted.remove(uid)),
                Some(Place::Vacant) | None => {}
            }
        }
        let excess = over.len().saturating_sub(LISTED_PER_JOB);
        let oldest: Vec<Identity> = over.drain(..excess).collect();
        for identity in oldest {
            self.remove_for_owner(&identity, "it keeps no more", None);
        }
    }
}
