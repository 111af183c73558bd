//! Which pods there are: listings of the directory, commands, and the orders of jobs become workers that begin and end.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use podwright_core::ledger::{Asker, Cause};
use podwright_core::manifest::Resource;
use podwright_core::objects::{Identity, Kind};
use podwright_sys::durable::Durability;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;

use super::disk::Disk;
use super::holds::Holds;
use super::kept::{Ended, Kept};
use super::pod::{self, Finished, Gate, Input};
use super::recover::Beginning;
use super::slot::{Act, Slot, Stage};
use super::stored::Pods;
use super::{Context, inspect, inspect_job, leftovers, publish};
use crate::config::Live;
use crate::job::places::{self, Jobs};
use crate::job::wall::{self, WallTimer};
use crate::job::{Order, Owner, Stored};
use crate::paths::{POD_FILE, PodPaths};
use crate::server::Closing;
use crate::server::command::{Accepted, Command, Refused, Reply};
use crate::source::Listing;
use crate::source::decide::{Change, Claim, Claims, decide, silent, stays_away};
use crate::source::directory::Word;
use crate::source::held::hold_back;
use crate::status::{EventInput, FileReport, FileState, PodKey, Retention, Subject};
use crate::storage::Listener;
use crate::unusable::Claimant;

/// How long the agent waits for its workers when it ends. What they have not written by then, records and shims still know.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(5);

/// How long the agent waits at its start until every pod of the last one is known. A shim answers within milliseconds.
const TAKE_UP_TIMEOUT: Duration = Duration::from_secs(10);

/// Pods of one job that are over and still listed; older ones are shown with `--all`, until retention forgets them.
pub(super) const LISTED_PER_JOB: usize = 100;

/// One name's pod.
#[derive(Default)]
pub(super) struct Place {
    pub(super) slot: Slot,
    /// To the worker, while there is one.
    pub(super) worker: Option<mpsc::UnboundedSender<Input>>,
    /// What is kept of it once it has ended.
    ended: Option<Kept>,
    /// The job that made it.
    pub(super) owner: Option<Owner>,
    /// Why that does not want it any more, once it does not.
    pub(super) unwanted: &'static str,
    /// Who asked for a restart while the worker was on its way out.
    restart: Option<oneshot::Sender<Reply>>,
}

/// All pods.
pub struct Manager {
    pub(super) ctx: Arc<Context>,
    pub(super) places: HashMap<Identity, Place>,
    pub(super) claims: Claims,
    /// Names of which nobody knows what has become.
    pub(super) holds: Holds,
    /// What the directory wants of those.
    pub(super) held_back: Claims,
    /// Uids of ended pods whose file on disk says that the name stays away.
    pub(super) suppressed: HashMap<Identity, String>,
    workers: JoinSet<(Identity, Option<Finished>)>,
    pub(super) reports: BTreeMap<String, FileReport>,
    disk: Disk,
    pub(super) jobs: Jobs,
    orders: mpsc::UnboundedReceiver<Order>,
    /// Jobs' pods that are over, of which that is not on disk yet: their job does not count on it before, by uid.
    pub(super) unreported: HashMap<String, Kept>,
    /// To the manager itself.
    pub(super) sender: mpsc::UnboundedSender<Order>,
    /// Uids of jobs' pods that are over, and that their job has not counted yet: they have to be kept.
    pub(super) uncounted: HashSet<String>,
    /// Of each job's uid, the pods that are over and listed, oldest first.
    pub(super) over: HashMap<String, VecDeque<Identity>>,
    /// When an ended pod will be too old.
    prune_at: Option<podwright_core::time::Time>,
}

/// What the manager listens to.
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

impl Manager {
    /// Takes up the pods of an earlier agent, and waits until all of them are known and shown. They go on when `go`
    /// becomes true.
    pub async fn start(ctx: Arc<Context>, stored: Pods, mut jobs: Stored, go: watch::Receiver<bool>) -> Manager {
        let (sender, orders) = mpsc::unbounded_channel();
        let Pods { kept: stored, mut unusable } = stored;
        unusable.append(&mut jobs.unusable);
        let mut manager = Manager {
            jobs: Jobs::new(Arc::clone(&ctx), sender.clone()),
            unreported: HashMap::new(),
            sender,
            orders,
            uncounted: HashSet::new(),
            over: HashMap::new(),
            ctx,
            places: HashMap::new(),
            claims: Claims::new(),
            holds: Holds::new(&unusable),
            held_back: Claims::new(),
            suppressed: HashMap::new(),
            workers: JoinSet::new(),
            reports: BTreeMap::new(),
            disk: Disk::start(),
            prune_at: None,
        };
        let claims = manager.jobs.restore(jobs, &go);
        manager.claims.extend(claims);
        let mut waiting = Vec::new();
        for kept in stored {
            waiting.extend(manager.restore(kept, &go));
        }
        manager.hold(unusable);
        manager.remove_orphans();
        let all = async {
            for ready in waiting {
                // An error: the worker has ended; nothing to wait for.
                let _ended = ready.await;
            }
        };
        if tokio::time::timeout(TAKE_UP_TIMEOUT, all).await.is_err() {
            tracing::warn!("a shim does not answer; its pod is shown when it does");
        }
        manager.prune();
        manager
    }

    /// Takes up one pod; the receiver is told when it is shown.
    fn restore(&mut self, kept: Kept, go: &watch::Receiver<bool>) -> Option<oneshot::Receiver<()>> {
        let pod = &kept.document().pod;
        let identity = Identity::of_pod(pod);
        self.restore_owned(&kept);
        let wanted = kept.claim.suppressed || kept.ended.as_ref().map_or(kept.deletion.is_none(), |e| !e.archived);
        if wanted && kept.owner.is_none() {
            let object = Resource::Pod(Arc::clone(kept.document()));
            self.claims.insert(identity.clone(), kept.claim.clone().with(object));
        }
        if kept.claim.suppressed {
            self.suppressed.insert(identity.clone(), pod.uid.clone());
        }
        let place = self.places.entry(identity.clone()).or_default();
        match &kept.ended {
            // Deleted by hand and ended: the last agent may have died before it had written down that nobody wants it.
            Some(ended) if ended.archived || kept.claim.suppressed || place.slot.current.is_some() => {
                let shown = publish::pod(&kept, &self.ctx.fixed.node_name, &ended.status);
                if let Err(error) = self.ctx.store.restore_archived(shown, ended.at) {
                    tracing::error!(%error, "an ended pod could not be shown");
                }
                None
            }
            Some(ended) => {
                place.slot.current = Some((pod.uid.clone(), Stage::Ended));
                place.owner.clone_from(&kept.owner);
                show_ended(&self.ctx, &kept, ended);
                place.ended = Some(kept);
                None
            }
            None => {
                if let Some(older) = &place.worker {
                    // Its end could not be saved.
                    let cause = Asker::ManifestChanged.into();
                    send(Some(older), Input::Delete { grace: None, cause, suppress: None, recorded: None });
                }
                let stage = if kept.deletion.is_some() { Stage::Stopping } else { Stage::Live };
                place.slot.current = Some((pod.uid.clone(), stage));
                let (ready, told) = oneshot::channel();
                self.begin(identity, kept, Beginning::Resume, Some(Gate { ready, go: go.clone() }));
                Some(told)
            }
        }
    }

    pub(super) fn begin(&mut self, identity: Identity, kept: Kept, beginning: Beginning, gate: Option<Gate>) {
        let (sender, receiver) = mpsc::unbounded_channel();
        let place = self.places.entry(identity.clone()).or_default();
        place.worker = Some(sender.clone());
        place.ended = None;
        place.owner.clone_from(&kept.owner);
        let (ctx, settled) = (Arc::clone(&self.ctx), self.disk.settled());
        let reports = self.jobs.reports(kept.owner.as_ref());
        self.workers.spawn(async move {
            if let Some(settled) = settled {
                // An error: the agent ends.
                let _ended = settled.await;
            }
            let finished = pod::run(ctx, kept, beginning, (sender, receiver), gate, reports).await;
            (identity, finished)
        });
    }

    /// Runs until the agent ends, then lets go of the pods.
    pub async fn run(mut self, mut inputs: Inputs) {
        let mut timer = WallTimer::or_none("what is shown");
        loop {
            let prune_in = self.prune_at.map(|at| self.ctx.clock.until(at));
            tokio::select! {
                // Cancel-safe: a channel. Closing: the directory's task has failed, and the agent ends with it.
                word = inputs.words.recv() => match word {
                    Some(Word::Listing(listing)) => self.listing(&listing),
                    Some(Word::Unreadable(reason)) => self.unreadable(&reason, FileState::Rejected),
                    Some(Word::Silent { since }) => {
                        let reason = silent(&self.ctx.fixed.manifest_dir.display().to_string(), since);
                        self.unreadable(&reason, FileState::Unresponsive);
                    }
                    None => break,
                },
                // Cancel-safe: a channel. Closing: the server has ended, and the agent ends with it.
                command = inputs.commands.recv() => match command {
                    Some(command) => self.command(command).await,
                    None => break,
                },
                // Cancel-safe, says tokio. Never empty: the condition.
                Some(ended) = self.workers.join_next(), if !self.workers.is_empty() => match ended {
                    Ok((identity, Some(finished))) => {
                        self.finished(&identity, finished);
                        if let Some(reply) = self.places.get_mut(&identity).and_then(|p| p.restart.take()) {
                            self.restart(identity, reply).await;
                        }
                    }
                    Ok((_, None)) => {}
                    Err(error) => tracing::error!(%error, "a pod's worker failed; its pod goes on, and is taken up by the next podwrightd"),
                },
                // Cancel-safe: a channel. It cannot close: `self.jobs` holds a sender.
                Some(order) = self.orders.recv() => self.order(order).await,
                // Cancel-safe, says tokio. Never empty: the condition.
                Some(ended) = self.jobs.workers.join_next(), if !self.jobs.workers.is_empty() => match ended {
                    Ok(places::Finished::Removed { identity, uid }) => self.job_removed(&identity, &uid),
                    Ok(places::Finished::Left) => {}
                    Err(error) => tracing::error!(%error, "a job's worker failed; the job is taken up by the next podwrightd"),
                },
                // Cancel-safe: a value. Closing: the agent ends.
                changed = inputs.live.changed() => match changed {
                    Ok(()) => self.settings_changed(),
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
        if tokio::time::timeout(LEAVE_TIMEOUT, self.jobs.leave()).await.is_err() {
            tracing::warn!("some jobs' state is still being written; leaving all the same");
        }
        for place in self.places.values() {
            send(place.worker.as_ref(), Input::Leave);
        }
        let all = async { while self.workers.join_next().await.is_some() {} };
        if tokio::time::timeout(LEAVE_TIMEOUT, all).await.is_err() {
            tracing::warn!("some pods' state is still being written; leaving all the same");
        }
        if tokio::time::timeout(LEAVE_TIMEOUT, self.ctx.storage.settle()).await.is_err() {
            tracing::warn!("some state is still being written; leaving all the same");
        }
        if tokio::time::timeout(LEAVE_TIMEOUT, self.disk.finish()).await.is_err() {
            tracing::warn!("some ended pods are still being removed; leaving all the same");
        }
    }

    /// What is shown already follows the wall clock.
    fn clock_set(&mut self) {
        tracing::info!(now = %self.ctx.clock.wall(), "the clock was set");
        self.ctx.store.reshow_events();
        for place in self.places.values() {
            send(place.worker.as_ref(), Input::Policy);
        }
    }

    fn settings_changed(&mut self) {
        for place in self.places.values() {
            send(place.worker.as_ref(), Input::Policy);
        }
        self.prune();
    }

    fn listing(&mut self, listing: &Listing) {
        self.adopt(listing);
        let mut decision = decide(&self.claims, listing);
        self.held_back = hold_back(&mut decision, &self.holds.sentences());
        self.claims = decision.claims;
        for change in decision.changes {
            match change {
                Change::Add(claim) => match pod_of(&claim) {
                    Some(claim) => {
                        let identity = Identity::of_pod(&claim.object.pod);
                        self.lift_suppression(&identity, Some(&claim));
                        let acts = self.places.entry(identity.clone()).or_default().slot.want(claim);
                        self.carry_out(&identity, acts);
                    }
                    None => self.jobs.want(claim),
                },
                Change::Update(claim) => match pod_of(&claim) {
                    Some(claim) => {
                        let identity = Identity::of_pod(&claim.object.pod);
                        let acts = self.places.entry(identity.clone()).or_default().slot.update(claim);
                        self.carry_out(&identity, acts);
                    }
                    None => self.jobs.update(claim),
                },
                Change::Remove(identity) if identity.kind != Kind::Pod => self.jobs.remove(&identity),
                Change::Remove(identity) => {
                    self.lift_suppression(&identity, None);
                    let acts = self.places.entry(identity.clone()).or_default().slot.remove();
                    self.carry_out(&identity, acts);
                }
            }
        }
        self.report(decision.reports);
    }

    pub(super) fn carry_out(&mut self, identity: &Identity, acts: Vec<Act>) {
        for act in acts {
            let now = self.ctx.clock.now();
            let place = self.places.entry(identity.clone()).or_default();
            match act {
                Act::Begin(claim) => {
                    let kept = Kept::new(claim, now);
                    self.begin(identity.clone(), kept, Beginning::Run, None);
                }
                Act::Update(claim) => send(place.worker.as_ref(), Input::Update(Box::new(claim))),
                Act::Stop => {
                    let cause = match &place.owner {
                        Some(_) => Cause { by: Asker::Owner, text: place.unwanted.to_owned() },
                        None if place.slot.next.is_some() => Asker::ManifestChanged.into(),
                        None => Asker::ManifestRemoved.into(),
                    };
                    send(place.worker.as_ref(), Input::Delete { grace: None, cause, suppress: None, recorded: None });
                }
                Act::Refresh(claim) => {
                    if let Some(kept) = &mut place.ended {
                        kept.claim = claim;
                        if let Some(ended) = &kept.ended {
                            show_ended(&self.ctx, kept, ended);
                        }
                        save(&self.ctx, kept, None);
                    }
                }
                Act::Archive => {
                    if let Some(kept) = place.ended.take() {
                        self.archive(kept);
                    }
                }
            }
        }
        if self.places.get(identity).is_some_and(|p| p.slot.current.is_none() && p.worker.is_none()) {
            self.places.remove(identity);
        }
    }

    fn archive(&mut self, mut kept: Kept) {
        let pod = &kept.document().pod;
        let key = PodKey { namespace: pod.namespace.clone(), name: pod.name.clone(), uid: pod.uid.clone() };
        if let Some(ended) = &mut kept.ended {
            ended.archived = true;
            self.ctx.store.archive_pod(&key, ended.at);
        }
        save(&self.ctx, &kept, None);
        self.prune();
    }

    fn finished(&mut self, identity: &Identity, finished: Finished) {
        let Finished { mut kept, saved } = finished;
        if let Some(claim) = self.claims.get(identity).filter(|c| c.object.uid() == kept.document().pod.uid)
            && let Some(claim) = pod_of(claim)
        {
            kept.claim = claim;
        }
        self.ended(&kept, saved);
        if kept.claim.suppressed {
            self.suppressed.insert(identity.clone(), kept.document().pod.uid.clone());
        }
        let place = self.places.entry(identity.clone()).or_default();
        if place.slot.current.as_ref().is_none_or(|(uid, _)| *uid != kept.document().pod.uid) {
            self.archive(kept);
            return;
        }
        place.worker = None;
        place.ended = Some(kept);
        let acts = place.slot.finished();
        self.carry_out(identity, acts);
    }

    /// A name that stayed away is wanted again, or its file is gone: the file on disk that says so is put right.
    fn lift_suppression(&mut self, identity: &Identity, again: Option<&Claim>) {
        let Some(uid) = self.suppressed.remove(identity) else { return };
        if again.is_some_and(|claim| claim.object.pod.uid == uid) {
            // The new run of the same pod writes its own.
            return;
        }
        if let Some(kept) = self.places.get_mut(identity).and_then(|p| p.ended.as_mut()) {
            kept.claim.suppressed = false;
        }
        let path = self.ctx.paths.state_pods().join(&uid).join(POD_FILE);
        match Kept::read(&path, &self.ctx.storage, &self.ctx.clock) {
            Ok(mut kept) => {
                kept.claim.suppressed = false;
                save(&self.ctx, &kept, None);
            }
            Err(error) => {
                let error = podwright_sys::error::chain(&error);
                tracing::warn!(file = %path.display(), error, "a pod's file could not be put right");
            }
        }
    }

    async fn command(&mut self, command: Command) {
        // Whoever asked may have gone.
        match command {
            Command::Delete { namespace, name, grace, reply } => {
                let identity = Identity::new(Kind::Pod, &namespace, &name);
                let answer = match self.discard(&identity).await {
                    Some(answer) => answer,
                    None => self.delete(identity, grace).await,
                };
                drop(reply.send(answer));
            }
            Command::Restart { namespace, name, reply } => {
                self.restart(Identity::new(Kind::Pod, &namespace, &name), reply).await;
            }
            Command::DeleteObject { kind, namespace, name, reply } => {
                self.delete_object(&Identity::new(kind, &namespace, &name), reply).await;
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
                tokio::spawn(async move { drop(reply.send(inspect_job::why(asked, container).await)) });
            }
            Command::Timeline { namespace, name, reply } => {
                let (identity, ctx) = (Identity::new(Kind::Pod, &namespace, &name), Arc::clone(&self.ctx));
                if let Some(refused) = self.refuse_held(&identity) {
                    return drop(reply.send(Err(refused)));
                }
                let worker = self.places.get(&identity).and_then(|place| place.worker.clone());
                tokio::spawn(async move { drop(reply.send(inspect::timeline(ctx, identity, worker).await)) });
            }
        }
    }

    async fn delete(&mut self, identity: Identity, grace: Option<Duration>) -> Reply {
        let not_found = not_found(&identity);
        let Some(place) = self.places.get_mut(&identity) else { return Err(not_found) };
        let Some((uid, stage)) = place.slot.current.clone() else { return Err(not_found) };
        let suppress = self.claims.get_mut(&identity).map(|claim| {
            claim.suppressed = true;
            (claim.file.clone(), claim.digest.clone())
        });
        let path = suppress.as_ref().map(|(file, _)| self.ctx.fixed.manifest_dir.join(file).display().to_string());
        place.slot.next = None;
        let mut unsaved = None;
        match stage {
            Stage::Live | Stage::Stopping => {
                place.slot.current = Some((uid.clone(), Stage::Stopping));
                let (recorded, told) = oneshot::channel();
                let cause = Asker::User.into();
                send(place.worker.as_ref(), Input::Delete { grace, cause, suppress, recorded: Some(recorded) });
                // An error of the channel: it has come to its end meanwhile.
                unsaved = told.await.ok().and_then(Result::err);
            }
            Stage::Ended => {
                if let (Some(kept), Some((file, digest))) = (&mut place.ended, suppress) {
                    kept.claim = Claim { file, digest, suppressed: true, ..kept.claim.clone() };
                    self.suppressed.insert(identity.clone(), uid.clone());
                }
                let acts = place.slot.remove();
                self.carry_out(&identity, acts);
            }
        }
        if let Some(path) = &path {
            self.report_deleted(path, &identity);
        }
        let note = path.map(|path| format!("it comes from {path}, and stays away until that file changes"));
        Ok(Accepted { uid, note: with_unsaved(note, unsaved) })
    }

    /// Says of the file what the next look at the directory would say.
    pub(super) fn report_deleted(&mut self, path: &str, identity: &Identity) {
        let Some(report) = self.reports.get_mut(path) else { return };
        let (name, said) = (identity.listed(), stays_away(identity));
        report.pods.retain(|pod| *pod != name);
        if !report.problems.contains(&said) {
            report.problems.push(said);
        }
        self.ctx.store.set_files(self.reports.values().cloned().collect());
    }

    async fn restart(&mut self, identity: Identity, reply: oneshot::Sender<Reply>) {
        let answer = match self.ask_to_restart(&identity) {
            Err(refused) => Err(refused),
            Ok((uid, told)) => match (told.await, self.places.get_mut(&identity)) {
                (Err(_), Some(place)) => {
                    // The worker has come to its end and cleans up: as soon as it is through.
                    place.restart = Some(reply);
                    return;
                }
                (told, _) => Ok(Accepted { uid, note: with_unsaved(None, told.ok().and_then(Result::err)) }),
            },
        };
        // Whoever asked may have gone.
        drop(reply.send(answer));
    }

    /// The pod's uid, and what tells when its worker has recorded the request. An error of that: the worker is at its end.
    fn ask_to_restart(
        &mut self,
        identity: &Identity,
    ) -> Result<(String, oneshot::Receiver<Result<(), String>>), Refused> {
        if let Some(refused) = self.refuse_held(identity) {
            return Err(refused);
        }
        let not_found = not_found(identity);
        let Some(place) = self.places.get_mut(identity) else { return Err(not_found) };
        let Some((uid, stage)) = place.slot.current.clone() else { return Err(not_found) };
        if let Some(owner) = &place.owner {
            let message = format!("{identity} belongs to job {}; delete it, and the job makes another", owner.name);
            return Err(Refused::Conflict { message });
        }
        match stage {
            Stage::Stopping => {
                let message = format!("{identity} is being removed; wait until it is gone (podwright get pods -w)");
                return Err(Refused::Conflict { message });
            }
            Stage::Live => {}
            Stage::Ended => {
                let Some(kept) = place.ended.take() else { return Err(not_found) };
                place.slot.current = Some((uid.clone(), Stage::Live));
                self.begin(identity.clone(), kept, Beginning::Resume, None);
            }
        }
        let (recorded, told) = oneshot::channel();
        send(self.places.get(identity).and_then(|p| p.worker.as_ref()), Input::Restart { recorded });
        Ok((uid, told))
    }

    /// Tells what is new about the files: in the log, as events, in the list.
    fn report(&mut self, reports: Vec<FileReport>) {
        let mut next = BTreeMap::new();
        for mut report in reports {
            let path = self.ctx.fixed.manifest_dir.join(&report.file).display().to_string();
            report.file.clone_from(&path);
            if self.reports.get(&path).is_none_or(|old| (old.state, &old.problems) != (report.state, &report.problems))
            {
                if self.reports.get(&path).is_some_and(|old| old.state == FileState::Unresponsive) {
                    tracing::info!(file = path, "the file answers again");
                }
                self.tell(&report);
            }
            next.insert(path, report);
        }
        self.reports = next;
        self.ctx.store.set_files(self.reports.values().cloned().collect());
    }

    fn tell(&self, report: &FileReport) {
        for problem in &report.problems {
            match report.state {
                FileState::Rejected => {
                    tracing::warn!(file = report.file, "manifest rejected: {problem}");
                    self.file_event(&report.file, report.state, problem.clone());
                }
                FileState::Unresponsive => {
                    tracing::warn!(file = report.file, "manifest not read: {problem}");
                    self.file_event(&report.file, report.state, problem.clone());
                }
                FileState::Ok => tracing::info!(file = report.file, "{problem}"),
                FileState::Ignored => tracing::debug!(file = report.file, "{problem}"),
            }
        }
    }

    fn unreadable(&mut self, reason: &str, state: FileState) {
        tracing::warn!("{reason}; its pods go on");
        let file = self.ctx.fixed.manifest_dir.display().to_string();
        self.file_event(&file, state, reason.to_owned());
        let problems = vec![reason.to_owned()];
        self.reports.insert(file.clone(), FileReport { file, state, pods: vec![], problems });
        self.ctx.store.set_files(self.reports.values().cloned().collect());
    }

    fn file_event(&self, path: &str, state: FileState, message: String) {
        let reason = if state == FileState::Unresponsive { "Unresponsive" } else { "FailedValidation" };
        self.ctx.store.record_event(EventInput {
            subject: Subject::File { path: path.to_owned() },
            reason: reason.to_owned(),
            message,
            warning: true,
            at: self.ctx.clock.now(),
        });
    }

    /// Forgets ended pods that are too old or too many, with all they left.
    fn prune(&mut self) {
        let (age, pods) = {
            let live = self.ctx.live.borrow();
            (live.retention_age, live.retention_pods)
        };
        let pruned = self.ctx.store.prune(Retention { age, pods }, self.ctx.clock.now());
        self.prune_at = pruned.next;
        for key in pruned.removed {
            let identity = Identity::new(Kind::Pod, &key.namespace, &key.name);
            let begun =
                self.places.get(&identity).and_then(|p| p.slot.current.as_ref()).is_some_and(|c| c.0 == key.uid);
            let is_held = self.holds.knows(Kind::Pod, &key.uid);
            if begun || is_held || self.uncounted.contains(&key.uid) || self.suppressed.get(&identity) == Some(&key.uid)
            {
                continue;
            }
            let paths = self.ctx.paths.ended(&key.namespace, &key.name, &key.uid);
            let ctx = Arc::clone(&self.ctx);
            self.disk.add(async move { forget(&ctx, paths).await });
        }
    }
}

pub(super) fn not_found(identity: &Identity) -> Refused {
    Refused::NotFound { kind: identity.kind, namespace: identity.namespace.clone(), name: identity.name.clone() }
}

/// The claim to a pod; `None`: it is to something else.
fn pod_of(claim: &Claim<Resource>) -> Option<Claim> {
    match &claim.object {
        Resource::Pod(pod) => Some(claim.clone().with(Arc::clone(pod))),
        Resource::Job(_) | Resource::CronJob(_) => None,
    }
}

fn send(worker: Option<&mpsc::UnboundedSender<Input>>, input: Input) {
    if let Some(worker) = worker {
        // It may have come to its end; then its last word is on its way here.
        let _ended = worker.send(input);
    }
}

fn show_ended(ctx: &Context, kept: &Kept, ended: &Ended) {
    let shown = publish::pod(kept, &ctx.fixed.node_name, &ended.status);
    if let Err(error) = ctx.store.put_pod(shown, ctx.clock.now()) {
        tracing::error!(%error, "an ended pod could not be shown");
    }
}

async fn forget(ctx: &Arc<Context>, paths: PodPaths) {
    ctx.storage.forget(&paths.state).await;
    let (clock, place) = (Arc::clone(&ctx.clock), paths.state.clone());
    let removed = ctx.asides.removals.change(&place, move || {
        if let Err(error) = Claimant::forget(&paths.state) {
            tracing::debug!(%error, "an ended pod is not given up yet");
        }
        [&paths.state, &paths.log].into_iter().filter_map(|path| leftovers::remove(&clock, path)).collect::<Vec<_>>()
    });
    match removed.await {
        Ok(left) => leftovers::follow_up(ctx, left),
        Err(error) => tracing::warn!(%error, "what an ended pod left could not be removed"),
    }
}

/// Writes what is kept of a pod without a worker, as soon as the disk takes it.
pub(super) fn save(ctx: &Context, kept: &Kept, listener: Option<Listener>) {
    let path = ctx.paths.pod(&kept.document().pod).file();
    kept.keep(&path, &ctx.storage, &ctx.clock, Durability::Synced, listener);
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
