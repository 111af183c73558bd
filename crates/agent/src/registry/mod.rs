//! What is wanted, and what there is of it: one place a name, whatever the kind.
//!
//! Listings of the directory ([`listing`]), commands ([`commands`]) and the orders of controllers ([`orders`]) become objects that begin
//! and end; each has a task of its own, its controller. What has ended is kept for a while ([`endings`]). What cannot be read keeps its
//! name ([`holding`]).

mod commands;
mod endings;
mod handle;
mod holding;
mod holds;
mod listing;
mod orders;
mod place;
mod removals;

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::io;
use std::sync::Arc;
use std::time::Duration;

use podwright_core::cron::spec::CronSpec;
use podwright_core::cron::state::CronState;
use podwright_core::job::spec::JobSpec;
use podwright_core::job::state::JobState;
use podwright_core::ledger::{Asker, Cause};
use podwright_core::manifest::{Resource, Spec};
use podwright_core::objects::{Identity, Kind, OwnerReference};
use podwright_core::pod::spec::PodSpec;
use podwright_core::pod::state::PodState;
use podwright_core::time::Time;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;

use crate::api::Closing;
use crate::api::command::{Command, Reply};
use crate::config::Live;
use crate::context::Context;
use crate::controllers::cron_job::CronController;
use crate::controllers::frame::{self, Desk, Gate, Removal};
use crate::controllers::job::JobController;
use crate::controllers::order::Order;
use crate::controllers::pod::recover::Beginning;
use crate::controllers::pod::reports::Reports;
use crate::controllers::pod::{self, PodController, publish};
use crate::sources::directory::decide::Claims;
use crate::sources::directory::task::Word;
use crate::sources::wanted::Wanted;
use crate::state::load::{Loaded, Plain, load};
use crate::state::object::Kept;
use crate::state::pods::load_pods;
use crate::status::{FileReport, FileState};
use crate::wall::{self, WallTimer};
use handle::{Handle, Running};
use holds::Holds;
use place::Act;
use removals::Removals;

/// How long the agent waits for its controllers when it ends. What they have not written by then, records and shims still know.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(5);

/// How long the agent waits at its start until every object of the last one is known. A shim answers within milliseconds.
const TAKE_UP_TIMEOUT: Duration = Duration::from_secs(10);

/// What a name has.
type Place = place::Place<Running, Kept<PodSpec>>;

/// What an earlier agent has left.
pub struct Stored {
    pods: Loaded<PodSpec>,
    jobs: Loaded<JobSpec>,
    cron_jobs: Loaded<CronSpec>,
}

impl Stored {
    /// Reads it.
    ///
    /// # Errors
    /// When the state directory cannot be listed.
    pub fn load(ctx: &Arc<Context>) -> io::Result<Stored> {
        let from = (ctx.paths.state(), &ctx.storage, &*ctx.clock);
        Ok(Stored { pods: load_pods(ctx)?, jobs: load(from, &Plain)?, cron_jobs: load(from, &Plain)? })
    }
}

/// An object that begins, or goes on.
enum Start {
    Pod(Kept<PodSpec>, Beginning),
    Job { kept: Kept<JobSpec>, is_new: bool },
    CronJob { kept: Kept<CronSpec>, is_new: bool },
}

/// The end of a controller.
enum Ending {
    /// The pod will never do anything again.
    Pod(Box<pod::Finished>),
    /// The object is removed.
    Removed,
    /// The agent ends.
    Left,
}

/// All objects.
pub struct Registry {
    ctx: Arc<Context>,
    places: HashMap<Identity, Place>,
    claims: Claims,
    /// Names of which nobody knows what has become.
    holds: Holds,
    /// What the directory wants of those.
    held_back: Claims,
    /// Uids of what was removed by hand or by time, and stays away: what is kept of it says so.
    tombstones: HashMap<Identity, String>,
    controllers: JoinSet<(Identity, String, Ending)>,
    reports: BTreeMap<String, FileReport>,
    removals: Removals,
    orders: mpsc::UnboundedReceiver<Order>,
    /// To the registry itself.
    sender: mpsc::UnboundedSender<Order>,
    /// Restarts that found a controller at its end.
    restarts: JoinSet<Option<(Identity, oneshot::Sender<Reply>)>>,
    /// Jobs' pods that are over, of which that is not on disk yet: their job does not count on it before, by uid.
    unreported: HashMap<String, Kept<PodSpec>>,
    /// Uids of jobs' pods that are over, and that their job has not counted yet: they have to be kept.
    uncounted: HashSet<String>,
    /// Of each job's uid, the pods that are over and listed, oldest first.
    over: HashMap<String, VecDeque<Identity>>,
    /// When an ended pod will be too old.
    prune_at: Option<Time>,
}

/// What the registry listens to.
pub struct Inputs {
    /// From the directory.
    pub words: mpsc::Receiver<Word>,
    /// From the API.
    pub commands: mpsc::Receiver<Command>,
    /// The node's settings.
    pub live: watch::Receiver<Live>,
    /// The agent's end.
    pub closing: Closing,
}

impl Registry {
    /// Takes up the objects of an earlier agent, and waits until all of them are known and shown. They go on when `go` becomes true.
    pub async fn start(ctx: Arc<Context>, stored: Stored, go: watch::Receiver<bool>) -> Registry {
        let Stored { pods, jobs, cron_jobs } = stored;
        let unusable = [pods.unusable, jobs.unusable, cron_jobs.unusable].concat();
        let (sender, orders) = mpsc::unbounded_channel();
        let mut registry = Registry {
            ctx,
            places: HashMap::new(),
            claims: Claims::new(),
            holds: Holds::new(&unusable),
            held_back: Claims::new(),
            tombstones: HashMap::new(),
            controllers: JoinSet::new(),
            reports: BTreeMap::new(),
            removals: Removals::start(),
            orders,
            sender,
            restarts: JoinSet::new(),
            unreported: HashMap::new(),
            uncounted: HashSet::new(),
            over: HashMap::new(),
            prune_at: None,
        };
        // Owners first: what they own is told to them.
        let mut waiting: Vec<oneshot::Receiver<()>> = Vec::new();
        for kept in cron_jobs.kept {
            waiting.push(registry.restore_cron_job(kept, &go));
        }
        for kept in jobs.kept {
            waiting.extend(registry.restore_job(kept, &go));
        }
        for kept in pods.kept {
            waiting.extend(registry.restore_pod(kept, &go));
        }
        registry.hold(unusable);
        registry.remove_orphans();
        let all = async {
            for ready in waiting {
                // An error: the controller has ended; nothing to wait for.
                let _ended = ready.await;
            }
        };
        if tokio::time::timeout(TAKE_UP_TIMEOUT, all).await.is_err() {
            tracing::warn!("a shim does not answer; its pod is shown when it does");
        }
        registry.prune();
        registry
    }

    /// What a file has claimed is its still.
    fn claim<S: Spec>(&mut self, kept: &Kept<S>) {
        if let Some(file) = kept.wanted.origin.file() {
            let object = S::wrap(Arc::clone(kept.document()));
            let identity = Identity::of(&object);
            self.claims.insert(identity, crate::sources::directory::decide::Claim { from: file.clone(), object });
        }
    }

    fn restore_cron_job(&mut self, kept: Kept<CronSpec>, go: &watch::Receiver<bool>) -> oneshot::Receiver<()> {
        let suppressed = kept.wanted.origin.is_suppressed();
        let removing = kept.state.removed_at.is_some() || suppressed;
        if suppressed || !removing {
            self.claim(&kept);
        }
        self.resume(Start::CronJob { kept, is_new: false }, removing, go)
    }

    fn restore_job(&mut self, mut kept: Kept<JobSpec>, go: &watch::Receiver<bool>) -> Option<oneshot::Receiver<()>> {
        let suppressed = kept.wanted.origin.is_suppressed();
        let namespace = &kept.spec().namespace;
        let orphan = kept.owner().is_some_and(|owner| {
            // One that cannot be read is left as it is, and so is what it made.
            let directory = self.ctx.paths.state().join(owner.kind.plural()).join(&owner.uid);
            self.owner(namespace, owner).is_none() && !directory.exists()
        });
        if suppressed || orphan {
            // An agent died before it could write the rest.
            kept.state.removal_at.get_or_insert(self.ctx.clock.now());
        }
        let removing = kept.state.removal_at.is_some();
        if suppressed || !removing {
            self.claim(&kept);
        }
        if suppressed && kept.state.pods.is_empty() {
            let identity = Identity::new(Kind::Job, &kept.spec().namespace, &kept.spec().name);
            self.tombstones.insert(identity, kept.spec().uid.clone());
            return None;
        }
        Some(self.resume(Start::Job { kept, is_new: false }, removing, go))
    }

    /// The receiver is told when the pod is shown.
    fn restore_pod(&mut self, kept: Kept<PodSpec>, go: &watch::Receiver<bool>) -> Option<oneshot::Receiver<()>> {
        let identity = Identity::of_pod(kept.spec());
        self.restore_owned(&kept);
        let suppressed = kept.wanted.origin.is_suppressed();
        let wanted = kept.state.ended.as_ref().map_or(kept.state.deletion.is_none(), |ended| !ended.archived);
        if suppressed || wanted {
            self.claim(&kept);
        }
        if suppressed {
            self.tombstones.insert(identity.clone(), kept.spec().uid.clone());
        }
        let place = self.places.entry(identity.clone()).or_default();
        match &kept.state.ended {
            // Deleted by hand and ended: the last agent may have died before it had written down that nobody wants it.
            Some(ended) if ended.archived || suppressed || place.uid().is_some() => {
                let shown = publish::pod(&kept, &self.ctx.fixed.node_name, &ended.status);
                if let Err(error) = self.ctx.store.restore_archived(shown, ended.at) {
                    tracing::error!(%error, "an ended pod could not be shown");
                }
                self.vacate(&identity);
                None
            }
            Some(_) => {
                publish::show_ended(&self.ctx, &kept);
                *place = Place::Ended { uid: kept.spec().uid.clone(), ended: kept };
                None
            }
            None => {
                if let Some(older) = place.running() {
                    // Its end could not be saved.
                    older.handle.remove(removal(Asker::ManifestChanged.into()));
                }
                let removing = kept.state.deletion.is_some();
                Some(self.resume(Start::Pod(kept, Beginning::Resume), removing, go))
            }
        }
    }

    fn resume(&mut self, start: Start, removing: bool, go: &watch::Receiver<bool>) -> oneshot::Receiver<()> {
        let (ready, told) = oneshot::channel();
        let identity = self.begin(start, Some(Gate { ready, go: go.clone() }));
        if removing && let Some(place) = self.places.get_mut(&identity) {
            place.stop();
        }
        told
    }

    /// A pod that has ended goes on.
    fn resume_ended(&mut self, kept: Kept<PodSpec>) {
        self.begin(Start::Pod(kept, Beginning::Resume), None);
    }

    /// What is to run begins.
    fn run_anew(&mut self, wanted: Wanted<Resource>) {
        let now = self.ctx.clock.now();
        let Wanted { origin, object } = wanted;
        let start = match object {
            Resource::Pod(object) => {
                Start::Pod(Kept { wanted: Wanted { origin, object }, state: PodState::new(now) }, Beginning::Run)
            }
            Resource::Job(object) => {
                Start::Job { kept: Kept { wanted: Wanted { origin, object }, state: JobState::new(now) }, is_new: true }
            }
            Resource::CronJob(object) => {
                let state = CronState::new(self.ctx.clock.wall());
                Start::CronJob { kept: Kept { wanted: Wanted { origin, object }, state }, is_new: true }
            }
        };
        self.begin(start, None);
    }

    /// Starts a controller, in whose place nothing else is.
    fn begin(&mut self, start: Start, gate: Option<Gate>) -> Identity {
        let (ctx, orders, settled) = (Arc::clone(&self.ctx), self.sender.clone(), self.removals.settled());
        let (owner, object) = match &start {
            Start::Pod(kept, _) => (kept.owner().cloned(), PodSpec::wrap(Arc::clone(kept.document()))),
            Start::Job { kept, .. } => (kept.owner().cloned(), JobSpec::wrap(Arc::clone(kept.document()))),
            Start::CronJob { kept, .. } => (kept.owner().cloned(), CronSpec::wrap(Arc::clone(kept.document()))),
        };
        let (identity, uid) = (Identity::of(&object), object.uid().to_owned());
        let to_owner = owner.as_ref().and_then(|owner| self.owner(&identity.namespace, owner)).cloned();
        let settle = async move {
            if let Some(settled) = settled {
                // An error: the agent ends.
                let _ended = settled.await;
            }
        };
        let of = (identity.clone(), uid.clone());
        let handle = match start {
            Start::Pod(kept, beginning) => {
                let (sender, receiver) = mpsc::unbounded_channel();
                let handle = Handle::Pod(sender.clone());
                self.controllers.spawn(async move {
                    settle.await;
                    let reports = to_owner.map(|job| Reports::to(move |name, seen| job.pod_seen(name, seen)));
                    let controller = PodController::start(ctx, kept, beginning, sender, reports).await;
                    let ending = frame::run(controller, receiver, gate).await;
                    (of.0, of.1, ending.map_or(Ending::Left, |finished| Ending::Pod(Box::new(finished))))
                });
                handle
            }
            Start::Job { kept, is_new } => {
                let (sender, receiver) = mpsc::unbounded_channel();
                let handle = Handle::Job(sender.clone());
                self.controllers.spawn(async move {
                    settle.await;
                    let reports = to_owner.map(|cron| -> crate::controllers::order::Tell<_> {
                        Box::new(move |name, seen| cron.job_seen(name, seen))
                    });
                    let controller = JobController::new(Desk::new(ctx, kept, sender, is_new), orders, reports);
                    let ending = frame::run(controller, receiver, gate).await;
                    (of.0, of.1, ending.map_or(Ending::Left, |()| Ending::Removed))
                });
                handle
            }
            Start::CronJob { kept, is_new } => {
                let (sender, receiver) = mpsc::unbounded_channel();
                let handle = Handle::CronJob(sender.clone());
                self.controllers.spawn(async move {
                    settle.await;
                    let controller = CronController::new(Desk::new(ctx, kept, sender, is_new), orders);
                    let ending = frame::run(controller, receiver, gate).await;
                    (of.0, of.1, ending.map_or(Ending::Left, |()| Ending::Removed))
                });
                handle
            }
        };
        let running = Running { handle, object, owner, restart: None };
        self.places.insert(identity.clone(), Place::Live { uid, running });
        identity
    }

    /// Where the owner of an object in this namespace is told something, if it is there.
    fn owner(&self, namespace: &str, owner: &OwnerReference) -> Option<&Handle> {
        let place = self.places.get(&Identity::new(owner.kind, namespace, &owner.name))?;
        place.running().filter(|_| place.uid() == Some(&owner.uid)).map(|running| &running.handle)
    }

    /// Whether there is an owner, or nobody knows what has become of it.
    fn has_owner(&self, namespace: &str, owner: &OwnerReference) -> bool {
        self.owner(namespace, owner).is_some() || self.holds.knows(owner.kind, &owner.uid)
    }

    /// Runs until the agent ends, then lets go of the objects.
    pub async fn run(mut self, mut inputs: Inputs) {
        let mut timer = WallTimer::or_none("what is shown");
        loop {
            let prune_in = self.prune_at.map(|at| self.ctx.clock.until(at));
            tokio::select! {
                // Cancel-safe: a channel. Closing: the directory's task has failed, and the agent ends with it.
                word = inputs.words.recv() => match word {
                    Some(Word::Listing(listing)) => self.listing(&listing),
                    Some(Word::Unreadable(reason)) => self.unreadable(&reason, FileState::Rejected),
                    Some(Word::Silent { since }) => self.silent(since),
                    None => break,
                },
                // Cancel-safe: a channel. Closing: the server has ended, and the agent ends with it.
                command = inputs.commands.recv() => match command {
                    Some(command) => self.command(command).await,
                    None => break,
                },
                // Cancel-safe, says tokio. Never empty: the condition.
                Some(ended) = self.controllers.join_next(), if !self.controllers.is_empty() => match ended {
                    Ok((identity, uid, ending)) => self.ended(&identity, &uid, ending),
                    Err(error) => tracing::error!(%error, "a controller failed; its object is taken up by the next podwrightd"),
                },
                // Cancel-safe, says tokio. Never empty: the condition.
                Some(again) = self.restarts.join_next(), if !self.restarts.is_empty() => match again {
                    Ok(Some((identity, reply))) => self.restart_after(identity, reply),
                    Ok(None) => {}
                    Err(error) => tracing::error!(%error, "a restart was not answered"),
                },
                // Cancel-safe: a channel. It cannot close: `self` holds a sender.
                Some(order) = self.orders.recv() => self.order(order).await,
                // Cancel-safe: a value. Closing: the agent ends.
                changed = inputs.live.changed() => match changed {
                    Ok(()) => {
                        self.tell_settings();
                        self.prune();
                    }
                    Err(_) => break,
                },
                // Cancel-safe, see there. It is set anew each time.
                set = wall::clock_set(timer.as_mut(), self.ctx.clock.wall()), if timer.is_some() => match set {
                    Ok(()) => self.clock_set(),
                    Err(error) => {
                        tracing::error!(%error, "the timer for the wall clock failed");
                        timer = None;
                    }
                },
                // Cancel-safe: a timer.
                () = tokio::time::sleep(prune_in.unwrap_or_default()), if prune_in.is_some() => self.prune(),
                // Cancel-safe: a value. Closing: the agent ends.
                () = inputs.closing.wait() => break,
            }
        }
        self.leave().await;
    }

    async fn leave(mut self) {
        for running in self.places.values().filter_map(Place::running) {
            running.handle.leave();
        }
        let all = async { while self.controllers.join_next().await.is_some() {} };
        if tokio::time::timeout(LEAVE_TIMEOUT, all).await.is_err() {
            tracing::warn!("some objects' state is still being written; leaving all the same");
        }
        if tokio::time::timeout(LEAVE_TIMEOUT, self.ctx.storage.settle()).await.is_err() {
            tracing::warn!("some state is still being written; leaving all the same");
        }
        if tokio::time::timeout(LEAVE_TIMEOUT, self.removals.finish()).await.is_err() {
            tracing::warn!("some of what has ended is still being removed; leaving all the same");
        }
    }

    /// What is shown already follows the wall clock.
    fn clock_set(&mut self) {
        tracing::info!(now = %self.ctx.clock.wall(), "the clock was set");
        self.ctx.store.reshow_events();
        self.tell_settings();
    }

    fn tell_settings(&self) {
        self.places.values().filter_map(Place::running).for_each(|running| running.handle.settings());
    }

    /// Does what follows for the object of a name; `cause` is why one has to go, if it has.
    fn carry_out(&mut self, identity: &Identity, acts: Vec<Act<Kept<PodSpec>>>, cause: &Cause) {
        for act in acts {
            let place = self.places.entry(identity.clone()).or_default();
            match act {
                Act::Begin(wanted) => self.run_anew(wanted),
                Act::Update(wanted) => {
                    if let Some(running) = place.running_mut() {
                        running.object = wanted.object.clone();
                        running.handle.update(wanted);
                    }
                }
                Act::Stop => {
                    if let Some(running) = place.running() {
                        running.handle.remove(removal(cause.clone()));
                    }
                }
                Act::Refresh(wanted) => self.refresh(identity, wanted),
                Act::Archive(kept) => self.archive(kept),
            }
        }
        self.vacate(identity);
    }

    /// A name that has nothing needs no place.
    fn vacate(&mut self, identity: &Identity) {
        if matches!(self.places.get(identity), Some(Place::Vacant)) {
            self.places.remove(identity);
        }
    }
}

/// A request to remove an object that nobody waits for.
fn removal(cause: Cause) -> Removal {
    Removal { grace: None, cause, suppress: None, recorded: None }
}
