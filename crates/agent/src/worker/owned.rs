//! The manager's side of jobs: their orders for pods, and commands about them.

use std::sync::Arc;

use podwright_core::manifest::Document;
use podwright_core::objects::{Identity, Kind};
use tokio::sync::oneshot;

use super::inspect_job::Asked;
use super::kept::Kept;
use super::manager::{self, LISTED_PER_JOB, Manager, Place, not_found};
use super::recover::Beginning;
use super::slot::Stage;
use crate::job::places::Instantiate;
use crate::job::{JobInput, Order, Owner, Suppress, seen};
use crate::server::command::{Accepted, Refused, Reply};
use crate::source::decide::Claim;
use crate::storage::Listener;

impl Manager {
    /// Tells a job what an earlier agent left of one of its pods.
    pub(super) fn restore_owned(&mut self, kept: &Kept) {
        let Some(owner) = &kept.owner else { return };
        let (name, seen) = (kept.document().pod.name.clone(), seen::kept(kept));
        if kept.ended.is_some() && self.has_job(&owner.uid) {
            self.uncounted.insert(kept.document().pod.uid.clone());
        }
        self.jobs.tell(&owner.uid, JobInput::Pod { name, seen });
    }

    /// Pods whose job is gone go after it: an agent died while it removed them.
    pub(super) fn remove_orphans(&mut self) {
        let orphan = |owner: &Option<Owner>| owner.as_ref().is_some_and(|owner| !self.has_job(&owner.uid));
        let identities: Vec<Identity> = self
            .places
            .iter()
            .filter(|(_, place)| orphan(&place.owner))
            .map(|(identity, _)| identity.clone())
            .collect();
        for identity in identities {
            self.remove_pod(&identity, "it is gone");
        }
    }

    /// A job's pod is not wanted any more.
    pub(super) fn remove_pod(&mut self, identity: &Identity, why: &'static str) {
        let Some(place) = self.places.get_mut(identity) else { return };
        place.unwanted = why;
        let acts = place.slot.remove();
        self.carry_out(identity, acts);
    }

    /// A pod is over. Its job counts on that once it is durable: else it might be run again after the job went on.
    pub(super) fn ended(&mut self, kept: &Kept, saved: bool) {
        // One that was removed is gone, whether that is on disk or not.
        if saved || kept.owner.is_none() || kept.deletion.is_some() {
            return self.report_end(kept);
        }
        let uid = kept.document().pod.uid.clone();
        self.uncounted.insert(uid.clone());
        self.unreported.insert(uid.clone(), kept.clone());
        let sender = self.sender.clone();
        let listener: Listener = Box::new(move |result| {
            if result.is_ok() {
                // An error: the manager is gone, and the agent with it.
                drop(sender.send(Order::EndSaved { uid: uid.clone() }));
            }
        });
        manager::save(&self.ctx, kept, Some(listener));
    }

    /// A job's pod is over, and that is durable.
    pub(super) fn report_end(&mut self, kept: &Kept) {
        let Some(owner) = &kept.owner else { return };
        if self.has_job(&owner.uid) {
            self.uncounted.insert(kept.document().pod.uid.clone());
            let name = kept.document().pod.name.clone();
            self.jobs.tell(&owner.uid, JobInput::Pod { name, seen: seen::kept(kept) });
        }
    }

    pub(super) async fn order(&mut self, order: Order) {
        match order {
            Order::CreatePod { owner, document } => self.create_pod(owner, document),
            Order::EndSaved { uid } => {
                if let Some(kept) = self.unreported.remove(&uid) {
                    self.report_end(&kept);
                }
            }
            Order::DeletePod { identity, why } => {
                self.say_if_held(&identity);
                self.remove_pod(&identity, why);
            }
            Order::Counted { owner, pods } => self.counted(&owner, pods),
            Order::Expired { identity, uid } => self.expired(&identity, &uid),
            Order::CreateJob { owner, document, reply } => {
                let identity = Identity::new(Kind::Job, &document.job.namespace, &document.job.name);
                let answer = if self.holds.knows(Kind::Job, &document.job.uid) {
                    // Made before; nobody knows what has become of it.
                    Ok(())
                } else if self.claims.contains_key(&identity) || self.holds.of(&identity).is_some() {
                    Err(format!("jobs.batch \"{}\" already exists", identity.name))
                } else {
                    self.jobs.create(owner, document, true).await
                };
                // Whoever asked may have gone.
                drop(reply.send(answer));
            }
            Order::DeleteJob { identity, recorded } => {
                self.say_if_held(&identity);
                // If there is none, whoever waits sees `recorded` dropped.
                let _uid = self.jobs.delete(&identity, None, recorded);
            }
        }
    }

    /// What an explanation may ask. A name of which there is no pod may be a job's or a cron job's.
    pub(super) fn asked(&self, identity: Identity) -> Asked {
        let as_ = |kind| Identity::new(kind, &identity.namespace, &identity.name);
        let is_pod = || self.ctx.store.pod(&identity.namespace, &identity.name, true).is_some();
        let identity = if identity.kind != Kind::Pod || self.places.contains_key(&identity) || is_pod() {
            identity
        } else {
            let others = [as_(Kind::Job), as_(Kind::CronJob)];
            others.into_iter().find(|other| self.jobs.has(other)).unwrap_or(identity)
        };
        let namespace = |(of, _): &(&Identity, &Place)| of.namespace == identity.namespace;
        let pods = self.places.iter().filter(namespace);
        Asked {
            ctx: Arc::clone(&self.ctx),
            pods: pods.filter_map(|(of, place)| Some((of.clone(), place.worker.clone()?))).collect(),
            jobs: self.jobs.job_workers(&identity.namespace),
            cron: self.jobs.cron_worker(&identity),
            identity,
        }
    }

    fn create_pod(&mut self, owner: Owner, document: Arc<Document>) {
        let (identity, uid) = (Identity::of_pod(&document.pod), document.pod.uid.clone());
        if self.holds.knows(Kind::Pod, &uid) {
            // Made before; nobody knows what has become of it, and the job has been told so.
            return;
        }
        let is_held = self.holds.of(&identity).is_some();
        let place = self.places.entry(identity.clone()).or_default();
        match &place.slot.current {
            // Ordered before: by an agent that died, or of which the answer has not come yet.
            Some((current, _)) if *current == uid => return,
            None if !self.claims.contains_key(&identity) && !is_held => {}
            Some(_) | None => {
                let (name, message) = (identity.name.clone(), format!("pods \"{}\" already exists", identity.name));
                return self.jobs.tell(&owner.uid, JobInput::Refused { name, message });
            }
        }
        place.slot.current = Some((uid, Stage::Live));
        let claim = Claim { file: String::new(), digest: String::new(), object: document, suppressed: false };
        let kept = Kept { owner: Some(owner), ..Kept::new(claim, self.ctx.clock.now()) };
        self.begin(identity, kept, Beginning::Run, None);
    }

    /// What the job has counted is only kept for whoever wants to read it, and not for ever.
    fn counted(&mut self, owner: &Owner, pods: Vec<Identity>) {
        let over = self.over.entry(owner.uid.clone()).or_default();
        for identity in pods {
            let Some(place) = self.places.get(&identity) else { continue };
            if let Some((uid, stage)) = &place.slot.current {
                self.uncounted.remove(uid);
                if *stage == Stage::Ended {
                    over.push_back(identity);
                }
            }
        }
        let excess = over.len().saturating_sub(LISTED_PER_JOB);
        let oldest: Vec<Identity> = over.drain(..excess).collect();
        for identity in oldest {
            self.remove_pod(&identity, "it keeps no more");
        }
    }

    /// A job that is over stays away as one that was deleted by hand.
    fn expired(&mut self, identity: &Identity, uid: &str) {
        if self.jobs.has_job(uid) {
            let suppress = self.suppress(identity);
            let _uid = self.jobs.delete(identity, suppress, None);
        }
    }

    /// What comes from a file stays away until that changes; which file.
    fn suppress(&mut self, identity: &Identity) -> Suppress {
        let claim = self.claims.get_mut(identity)?;
        claim.suppressed = true;
        let (file, digest) = (claim.file.clone(), claim.digest.clone());
        let path = self.ctx.fixed.manifest_dir.join(&file).display().to_string();
        self.report_deleted(&path, identity);
        Some((file, digest))
    }

    /// Answered when the request is durable, without holding up anybody else.
    pub(super) async fn delete_object(&mut self, identity: &Identity, reply: oneshot::Sender<Reply>) {
        if let Some(answer) = self.discard(identity).await {
            // Whoever asked may have gone.
            return drop(reply.send(answer));
        }
        if !self.jobs.has(identity) {
            // Whoever asked may have gone.
            return drop(reply.send(Err(not_found(identity))));
        }
        let suppress = self.suppress(identity);
        let path = suppress.as_ref().map(|(file, _)| self.ctx.fixed.manifest_dir.join(file).display().to_string());
        let note = path.map(|path| format!("it comes from {path}, and stays away until that file changes"));
        let (recorded, told) = oneshot::channel();
        let Some(uid) = self.jobs.delete(identity, suppress, Some(recorded)) else {
            return drop(reply.send(Err(not_found(identity))));
        };
        tokio::spawn(async move {
            // An error of the channel: it has come to its end meanwhile.
            let unsaved = told.await.ok().and_then(Result::err);
            drop(reply.send(Ok(Accepted { uid, note: manager::with_unsaved(note, unsaved) })));
        });
    }

    pub(super) async fn instantiate(&mut self, cron: &Identity, job: &str) -> Reply {
        let identity = Identity::new(Kind::Job, &cron.namespace, job);
        if let Some(refused) = self.refuse_held(cron) {
            return Err(refused);
        }
        if self.claims.contains_key(&identity) || self.holds.of(&identity).is_some() {
            return Err(Refused::Conflict { message: format!("jobs.batch \"{job}\" already exists") });
        }
        match self.jobs.instantiate(cron, job).await {
            Ok(uid) => Ok(Accepted { uid, note: None }),
            Err(Instantiate::NoCronJob) => Err(not_found(cron)),
            Err(Instantiate::Taken) => {
                Err(Refused::Conflict { message: format!("jobs.batch \"{job}\" already exists") })
            }
            Err(Instantiate::Refused(message)) => Err(Refused::Invalid { message }),
        }
    }

    /// A job or cron job is removed: its pods that are over are no longer listed.
    pub(super) fn job_removed(&mut self, identity: &Identity, uid: &str) {
        let suppressed = self.claims.get(identity).is_some_and(|claim| claim.suppressed && claim.object.uid() == uid);
        self.jobs.finished(identity, uid, suppressed);
        self.over.remove(uid);
        let owned = |owner: &Option<Owner>| owner.as_ref().is_some_and(|owner| owner.uid == uid);
        let pods: Vec<Identity> =
            self.places.iter().filter(|(_, place)| owned(&place.owner)).map(|(identity, _)| identity.clone()).collect();
        for pod in pods {
            self.remove_pod(&pod, "it is removed");
        }
    }
}
