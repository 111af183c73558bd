//! Which jobs and cron jobs there are: at most one of a name, each with a worker until it is removed.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use podwright_core::cron::status as cron_status;
use podwright_core::job::status as job_status;
use podwright_core::manifest::{CronJobDocument, JobDocument, Resource};
use podwright_core::objects::{Identity, Kind};
use serde_json::Value;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use super::cron;
use super::disk::{self, CronKept, JobKept};
use super::seen::Reports;
use super::worker::{self, Worker};
use super::{CronInput, JobInput, Order, Owner, Recorded, Suppress, cron_publish, publish};
use crate::source::decide::Claim;
use crate::status::Collection;
use crate::unusable::Unusable;
use crate::worker::Context;
use crate::worker::slot::{Act, HasUid, Slot, Stage};

/// One name's job or cron job.
struct Place<T, I> {
    slot: Slot<T>,
    worker: Option<mpsc::UnboundedSender<I>>,
    /// What the worker was told last.
    object: Option<T>,
    owner: Option<Owner>,
}

impl<T, I> Default for Place<T, I> {
    fn default() -> Place<T, I> {
        Place { slot: Slot::default(), worker: None, object: None, owner: None }
    }
}

type JobPlace = Place<Arc<JobDocument>, JobInput>;
type CronPlace = Place<Arc<CronJobDocument>, CronInput>;

/// A worker's end.
pub(crate) enum Finished {
    /// A job is removed: its pods that are over are of no use any more.
    Removed {
        /// Which.
        identity: Identity,
        /// Its uid.
        uid: String,
    },
    /// The agent ends.
    Left,
}

/// All jobs and cron jobs.
pub(crate) struct Jobs {
    ctx: Arc<Context>,
    orders: mpsc::UnboundedSender<Order>,
    jobs: HashMap<Identity, JobPlace>,
    crons: HashMap<Identity, CronPlace>,
    /// Removed by hand or by time: only that they stay away is left of them.
    tombstones: HashMap<Identity, String>,
    /// Their workers.
    pub(crate) workers: JoinSet<Finished>,
}

/// What an earlier agent left.
pub struct Stored {
    /// Jobs.
    pub jobs: Vec<JobKept>,
    /// Cron jobs.
    pub crons: Vec<CronKept>,
    /// What of either cannot be used.
    pub unusable: Vec<Unusable>,
}

impl Stored {
    /// Reads it.
    ///
    /// # Errors
    /// When the state directory cannot be listed.
    pub fn load(ctx: &Context) -> std::io::Result<Stored> {
        let state = ctx.paths.state();
        let [jobs, crons] = [Kind::Job, Kind::CronJob].map(|kind| state.join(disk::folder(kind)));
        let jobs = disk::load(&jobs, Kind::Job, |path| JobKept::read(path, &ctx.clock), JobKept::claimant)?;
        let crons = disk::load(&crons, Kind::CronJob, |path| CronKept::read(path, &ctx.clock), CronKept::claimant)?;
        let unusable = jobs.unusable.into_iter().chain(crons.unusable).collect();
        Ok(Stored { jobs: jobs.kept, crons: crons.kept, unusable })
    }
}

impl Jobs {
    pub(crate) fn new(ctx: Arc<Context>, orders: mpsc::UnboundedSender<Order>) -> Jobs {
        Jobs {
            ctx,
            orders,
            jobs: HashMap::new(),
            crons: HashMap::new(),
            tombstones: HashMap::new(),
            workers: JoinSet::new(),
        }
    }

    /// Takes up what an earlier agent left; they go on when `go` becomes true. What of it is claimed by a file comes back.
    pub(crate) fn restore(&mut self, stored: Stored, go: &watch::Receiver<bool>) -> Vec<(Identity, Claim<Resource>)> {
        let mut claims = Vec::new();
        for kept in stored.crons {
            claims.extend(self.restore_cron(kept, go));
        }
        for kept in stored.jobs {
            claims.extend(self.restore_job(kept, go));
        }
        claims
    }

    fn restore_cron(&mut self, kept: CronKept, go: &watch::Receiver<bool>) -> Option<(Identity, Claim<Resource>)> {
        let object = Arc::clone(&kept.claim.object);
        let identity = Identity::new(Kind::CronJob, &object.cron.namespace, &object.cron.name);
        let claim = kept.claim.clone().with(Resource::CronJob(Arc::clone(&object)));
        let claimed = (claim.suppressed || kept.removed_at.is_none()).then_some((identity.clone(), claim));
        let stage = if kept.removed_at.is_some() || kept.claim.suppressed { Stage::Stopping } else { Stage::Live };
        if stage == Stage::Live {
            let status = cron_status(&object.cron, &kept.state, &BTreeMap::new(), &[]);
            self.show(Collection::CronJobs, cron_publish::cron_job(&kept, &status));
        }
        self.crons.entry(identity.clone()).or_default().slot.current = Some((object.cron.uid.clone(), stage));
        self.begin_cron(identity, kept, false, Some(go.clone()));
        claimed
    }

    fn restore_job(&mut self, mut kept: JobKept, go: &watch::Receiver<bool>) -> Option<(Identity, Claim<Resource>)> {
        let object = Arc::clone(&kept.claim.object);
        let identity = Identity::new(Kind::Job, &object.job.namespace, &object.job.name);
        let orphan = kept.owner.as_ref().is_some_and(|owner| {
            // One that cannot be read is left as it is, and so is what it made.
            !self.has_cron(&owner.uid) && !self.ctx.paths.state().join("cronjobs").join(&owner.uid).exists()
        });
        if kept.claim.suppressed || orphan {
            // An agent died before it could write the rest.
            kept.state.removal_at.get_or_insert(self.ctx.clock.now());
        }
        let removing = kept.state.removal_at.is_some();
        let from_file = kept.owner.is_none() && (kept.claim.suppressed || !removing);
        let claim = kept.claim.clone().with(Resource::Job(Arc::clone(&object)));
        let claimed = from_file.then_some((identity.clone(), claim));
        if kept.claim.suppressed && kept.state.pods.is_empty() {
            self.tombstones.insert(identity, object.job.uid.clone());
            return claimed;
        }
        let status = job_status(&object.job, &kept.state, &BTreeMap::new());
        self.show(Collection::Jobs, publish::job(&kept, &status));
        let place = self.jobs.entry(identity.clone()).or_default();
        let stage = if removing { Stage::Stopping } else { Stage::Live };
        place.slot.current = Some((object.job.uid.clone(), stage));
        self.begin_job(identity, kept, false, Some(go.clone()));
        claimed
    }

    /// As it was left, until its worker has decided: whoever asks the new agent at once is not told that there is none.
    fn show(&self, collection: Collection, object: Value) {
        if let Err(error) = self.ctx.store.put_object(collection, object) {
            tracing::error!(%error, "what an earlier agent left could not be shown");
        }
    }

    fn has_cron(&self, uid: &str) -> bool {
        self.crons.values().any(|place| place.slot.current.as_ref().is_some_and(|(current, _)| current == uid))
    }

    /// Whether there is one of that name, be it about to go.
    pub(crate) fn has(&self, identity: &Identity) -> bool {
        match identity.kind {
            Kind::Job => self.jobs.get(identity).is_some_and(|place| place.slot.current.is_some()),
            Kind::CronJob => self.crons.get(identity).is_some_and(|place| place.slot.current.is_some()),
            Kind::Pod => false,
        }
    }

    /// Whether there is a job of that uid, be it about to go.
    pub(crate) fn has_job(&self, uid: &str) -> bool {
        self.job(uid).is_some()
    }

    /// Where the jobs of a namespace are asked what they know, by name.
    pub(crate) fn job_workers(&self, namespace: &str) -> HashMap<String, mpsc::UnboundedSender<JobInput>> {
        let of = self.jobs.iter().filter(|(identity, _)| identity.namespace == namespace);
        of.filter_map(|(identity, place)| Some((identity.name.clone(), place.worker.clone()?))).collect()
    }

    /// Where a cron job is asked what it knows.
    pub(crate) fn cron_worker(&self, identity: &Identity) -> Option<mpsc::UnboundedSender<CronInput>> {
        self.crons.get(identity)?.worker.clone()
    }

    fn job(&self, uid: &str) -> Option<&JobPlace> {
        self.jobs.values().find(|place| place.slot.current.as_ref().is_some_and(|(current, _)| current == uid))
    }

    /// Where a pod's worker tells of it.
    pub(crate) fn reports(&self, owner: Option<&Owner>) -> Option<Reports> {
        self.job(&owner?.uid)?.worker.clone().map(Reports::to)
    }

    /// Tells a job something.
    pub(crate) fn tell(&self, uid: &str, input: JobInput) {
        if let Some(place) = self.job(uid) {
            send(place.worker.as_ref(), input);
        }
    }

    /// Whether a name is not free for a cron job's job.
    fn is_taken(&self, identity: &Identity) -> bool {
        self.jobs.get(identity).is_some_and(|place| place.slot.current.is_some())
            || self.tombstones.contains_key(identity)
    }

    /// An object of a file is to run: something new, or again.
    pub(crate) fn want(&mut self, claim: Claim<Resource>) {
        let identity = Identity::of(&claim.object);
        match claim.object.clone() {
            Resource::Job(object) => {
                self.lift(&identity, &object.job.uid);
                let acts = self.jobs.entry(identity.clone()).or_default().slot.want(claim.with(object));
                self.act_on_job(&identity, acts);
            }
            Resource::CronJob(object) => {
                self.lift(&identity, &object.cron.uid);
                let acts = self.crons.entry(identity.clone()).or_default().slot.want(claim.with(object));
                self.act_on_cron(&identity, acts);
            }
            Resource::Pod(_) => {}
        }
    }

    /// The same object is written differently.
    pub(crate) fn update(&mut self, claim: Claim<Resource>) {
        let identity = Identity::of(&claim.object);
        match claim.object.clone() {
            Resource::Job(object) => {
                let acts = self.jobs.entry(identity.clone()).or_default().slot.update(claim.with(object));
                self.act_on_job(&identity, acts);
            }
            Resource::CronJob(object) => {
                let acts = self.crons.entry(identity.clone()).or_default().slot.update(claim.with(object));
                self.act_on_cron(&identity, acts);
            }
            Resource::Pod(_) => {}
        }
    }

    /// Nothing of that name is to run, and nothing has to stay away.
    pub(crate) fn remove(&mut self, identity: &Identity) {
        self.lift(identity, "");
        match identity.kind {
            Kind::Job => {
                let acts = self.jobs.entry(identity.clone()).or_default().slot.remove();
                self.act_on_job(identity, acts);
            }
            Kind::CronJob => {
                let acts = self.crons.entry(identity.clone()).or_default().slot.remove();
                self.act_on_cron(identity, acts);
            }
            Kind::Pod => {}
        }
    }

    /// Removes one by hand, or because its time is over: its uid. `recorded` is told when that would survive a power cut, or is
    /// dropped: it has come to its end meanwhile. `None`: there is none.
    pub(crate) fn delete(
        &mut self,
        identity: &Identity,
        suppress: Suppress,
        recorded: Option<Recorded>,
    ) -> Option<String> {
        match identity.kind {
            Kind::Job => {
                let place = self.jobs.get_mut(identity)?;
                let uid = stop(&mut place.slot)?;
                send(place.worker.as_ref(), JobInput::Remove { suppress, recorded });
                Some(uid)
            }
            Kind::CronJob => {
                let place = self.crons.get_mut(identity)?;
                let uid = stop(&mut place.slot)?;
                send(place.worker.as_ref(), CronInput::Remove { suppress, recorded });
                Some(uid)
            }
            Kind::Pod => None,
        }
    }

    /// Makes a cron job's job, unless it is there; `again`: what cannot be saved is tried again.
    pub(crate) async fn create(&mut self, owner: Owner, document: Arc<JobDocument>, again: bool) -> Result<(), String> {
        let job = &document.job;
        let identity = Identity::new(Kind::Job, &job.namespace, &job.name);
        if let Some(place) = self.jobs.get(&identity)
            && place.owner.as_ref() == Some(&owner)
            && place.slot.current.as_ref().is_some_and(|(uid, _)| *uid == job.uid)
        {
            return Ok(());
        }
        if self.is_taken(&identity) {
            return Err(format!("jobs.batch \"{}\" already exists", job.name));
        }
        let claim = Claim { file: String::new(), digest: String::new(), object: document, suppressed: false };
        let waits = cron::waiting_job(&self.ctx, &owner.uid);
        let kept = JobKept::new(claim, Some(owner), self.ctx.clock.now());
        let (directory, written, ctx) = (kept.directory(self.ctx.paths.state()), kept.clone(), Arc::clone(&self.ctx));
        let write = move || {
            written.write_state(&directory, &ctx.clock)?;
            written.write_object(&directory)
        };
        let written = tokio::task::spawn_blocking(write).await.map_err(Into::into).flatten();
        if again {
            self.ctx.storage.report(&waits, written.as_ref().err().map(AsRef::as_ref));
        }
        written.map_err(|error| format!("jobs.batch \"{}\" cannot be saved: {error:#}", identity.name))?;
        let uid = kept.claim.object.job.uid.clone();
        self.jobs.entry(identity.clone()).or_default().slot.current = Some((uid, Stage::Live));
        self.begin_job(identity, kept, false, None);
        Ok(())
    }

    /// A job by hand from a cron job's template: its uid.
    pub(crate) async fn instantiate(&mut self, cron: &Identity, name: &str) -> Result<String, Instantiate> {
        let place = self.crons.get(cron).filter(|p| matches!(p.slot.current, Some((_, Stage::Live))));
        let object = place.and_then(|place| place.object.clone()).ok_or(Instantiate::NoCronJob)?;
        let document = cron::job(&object, name, None).map_err(Instantiate::Refused)?;
        let uid = document.job.uid.clone();
        let owner = Owner { name: object.cron.name.clone(), uid: object.cron.uid.clone() };
        let identity = Identity::new(Kind::Job, &document.job.namespace, name);
        if self.is_taken(&identity) {
            return Err(Instantiate::Taken);
        }
        self.create(owner, document, false).await.map_err(Instantiate::Refused)?;
        Ok(uid)
    }

    fn begin_job(&mut self, identity: Identity, kept: JobKept, is_new: bool, go: Option<watch::Receiver<bool>>) {
        let (sender, receiver) = mpsc::unbounded_channel();
        let cron = kept.owner.as_ref().and_then(|owner| {
            self.crons.values().find(|p| p.slot.current.as_ref().is_some_and(|(uid, _)| *uid == owner.uid))
        });
        let reports = cron.and_then(|place| place.worker.clone());
        let place = self.jobs.entry(identity).or_default();
        place.worker = Some(sender);
        place.object = Some(Arc::clone(&kept.claim.object));
        place.owner.clone_from(&kept.owner);
        let (ctx, orders) = (Arc::clone(&self.ctx), self.orders.clone());
        self.workers.spawn(async move {
            let worker = Worker { ctx, kept, receiver, orders, is_new, reports };
            match worker::run(worker, go).await {
                Some(worker::Finished { identity, uid }) => Finished::Removed { identity, uid },
                None => Finished::Left,
            }
        });
    }

    fn begin_cron(&mut self, identity: Identity, kept: CronKept, is_new: bool, go: Option<watch::Receiver<bool>>) {
        let (sender, receiver) = mpsc::unbounded_channel();
        let uid = kept.claim.object.cron.uid.clone();
        let place = self.crons.entry(identity.clone()).or_default();
        place.worker = Some(sender);
        place.object = Some(Arc::clone(&kept.claim.object));
        let worker = cron::Worker { ctx: Arc::clone(&self.ctx), kept, receiver, orders: self.orders.clone(), is_new };
        self.workers.spawn(async move {
            match cron::run(worker, go).await {
                Some(()) => Finished::Removed { identity, uid },
                None => Finished::Left,
            }
        });
    }

    fn act_on_job(&mut self, identity: &Identity, acts: Vec<Act<Arc<JobDocument>>>) {
        for act in acts {
            let worker = self.jobs.get(identity).and_then(|place| place.worker.as_ref());
            match act {
                Act::Begin(claim) => {
                    let kept = JobKept::new(claim, None, self.ctx.clock.now());
                    self.begin_job(identity.clone(), kept, true, None);
                }
                Act::Update(claim) => send(worker, JobInput::Update(claim)),
                Act::Stop => send(worker, JobInput::Remove { suppress: None, recorded: None }),
                // A job has a worker until it is removed; its pods are archived with its end.
                Act::Refresh(_) | Act::Archive => {}
            }
        }
        self.jobs.retain(|_, place| place.slot.current.is_some() || place.worker.is_some());
    }

    fn act_on_cron(&mut self, identity: &Identity, acts: Vec<Act<Arc<CronJobDocument>>>) {
        for act in acts {
            let place = self.crons.entry(identity.clone()).or_default();
            match act {
                Act::Begin(claim) => {
                    let kept = CronKept::new(claim, &self.ctx.clock);
                    self.begin_cron(identity.clone(), kept, true, None);
                }
                Act::Update(claim) => {
                    place.object = Some(Arc::clone(&claim.object));
                    send(place.worker.as_ref(), CronInput::Update(claim));
                }
                Act::Stop => send(place.worker.as_ref(), CronInput::Remove { suppress: None, recorded: None }),
                Act::Refresh(_) | Act::Archive => {}
            }
        }
        self.crons.retain(|_, place| place.slot.current.is_some() || place.worker.is_some());
    }

    /// One is removed; what waited for its name comes next. `suppressed`: it stays away.
    pub(crate) fn finished(&mut self, identity: &Identity, uid: &str, suppressed: bool) {
        if identity.kind == Kind::Job {
            let Some(place) = self.jobs.get_mut(identity) else { return };
            place.worker = None;
            place.owner = None;
            let acts = place.slot.finished();
            let next = place.slot.current.as_ref().map(|(uid, _)| uid.clone());
            self.bury(identity, uid, next.as_deref(), suppressed);
            self.act_on_job(identity, acts);
        } else {
            let Some(place) = self.crons.get_mut(identity) else { return };
            place.worker = None;
            let acts = place.slot.finished();
            let next = place.slot.current.as_ref().map(|(uid, _)| uid.clone());
            self.bury(identity, uid, next.as_deref(), suppressed);
            self.act_on_cron(identity, acts);
        }
    }

    /// What is left of it stays as long as it says that the name stays away.
    fn bury(&mut self, identity: &Identity, uid: &str, next: Option<&str>, suppressed: bool) {
        match next {
            None if suppressed => {
                self.tombstones.insert(identity.clone(), uid.to_owned());
            }
            // The next run writes over it.
            Some(next) if next == uid => {}
            None | Some(_) => self.forget(identity.kind, uid),
        }
    }

    fn forget(&self, kind: Kind, uid: &str) {
        let directory = self.ctx.paths.state().join(disk::folder(kind)).join(uid);
        tokio::task::spawn_blocking(move || disk::forget(&directory));
    }

    /// What was kept of one was discarded by hand; that it stays away is what is kept now.
    pub(crate) fn entomb(&mut self, identity: &Identity, uid: &str) {
        self.tombstones.insert(identity.clone(), uid.to_owned());
    }

    /// Tells a cron job something.
    pub(crate) fn tell_cron(&self, uid: &str, input: CronInput) {
        let is_it = |place: &&CronPlace| place.slot.current.as_ref().is_some_and(|(current, _)| current == uid);
        if let Some(place) = self.crons.values().find(is_it) {
            send(place.worker.as_ref(), input);
        }
    }

    /// The jobs that a cron job has made.
    pub(crate) fn owned_by(&self, uid: &str) -> Vec<Identity> {
        let is_its = |place: &JobPlace| place.owner.as_ref().is_some_and(|owner| owner.uid == uid);
        self.jobs.iter().filter(|(_, place)| is_its(place)).map(|(identity, _)| identity.clone()).collect()
    }

    /// A name is wanted again.
    fn lift(&mut self, identity: &Identity, by: &str) {
        if let Some(uid) = self.tombstones.remove(identity).filter(|uid| uid != by) {
            self.forget(identity.kind, &uid);
        }
    }

    /// The agent ends.
    pub(crate) async fn leave(&mut self) {
        for place in self.jobs.values() {
            send(place.worker.as_ref(), JobInput::Leave);
        }
        for place in self.crons.values() {
            send(place.worker.as_ref(), CronInput::Leave);
        }
        while self.workers.join_next().await.is_some() {}
    }
}

/// Why there is no job by hand.
pub(crate) enum Instantiate {
    /// No such cron job.
    NoCronJob,
    /// There is a job of that name.
    Taken,
    /// For people.
    Refused(String),
}

/// Nothing of the name is to run any more; the uid of what is on its way out.
fn stop<T: HasUid>(slot: &mut Slot<T>) -> Option<String> {
    slot.next = None;
    let (uid, stage) = slot.current.as_mut()?;
    *stage = Stage::Stopping;
    Some(uid.clone())
}

fn send<I>(worker: Option<&mpsc::UnboundedSender<I>>, input: I) {
    if let Some(worker) = worker {
        // It may have come to its end; then its last word is on its way to the manager.
        let _ended = worker.send(input);
    }
}
