//! One job: what is decided is made durable, then carried out.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use podwright_core::cron::state::{JobEnd, JobSeen};
use podwright_core::job::plan::{Notice, Plan, Step};
use podwright_core::job::state::{JobState, PodSeen, Seen};
use podwright_core::job::{decide, pod_manifest, status};
use podwright_core::manifest::from_value;
use podwright_core::objects::{Identity, Kind};
use podwright_core::time::Time;
use tokio::sync::{mpsc, watch};

use super::disk::{self, JobKept};
use super::{CronInput, JobInput, JobLook, Order, Owner, Recorded, Suppress, publish};
use crate::status::Collection;
use crate::worker::Context;

/// Pause after a failure to make a pod.
const RETRY: Duration = Duration::from_secs(10);

/// A worker's last word: its job is removed.
pub(super) struct Finished {
    /// Which.
    pub(super) identity: Identity,
    /// Of the job.
    pub(super) uid: String,
}

/// One worker.
pub(super) struct Worker {
    pub(super) ctx: Arc<Context>,
    pub(super) kept: JobKept,
    pub(super) receiver: mpsc::UnboundedReceiver<JobInput>,
    /// To the manager.
    pub(super) orders: mpsc::UnboundedSender<Order>,
    /// It was just accepted.
    pub(super) is_new: bool,
    /// To the cron job that made it.
    pub(super) reports: Option<mpsc::UnboundedSender<CronInput>>,
}

struct Life {
    worker: Worker,
    identity: Identity,
    seen: Seen,
    /// The object on disk is an older one.
    object_changed: bool,
    /// Told once.
    expired: bool,
    reported: Option<JobSeen>,
    /// Told when what is decided next is durable, or why it is not yet.
    recorded: Vec<Recorded>,
    /// Tries in a row to save it that failed.
    failed: u32,
    /// A pod could not be made, and why.
    refused: Option<(String, Time)>,
}

/// Runs a job until it is removed, or until the agent leaves it (`None`). It waits for `go`, so that all that is known of its
/// pods has been said.
pub(super) async fn run(worker: Worker, go: Option<watch::Receiver<bool>>) -> Option<Finished> {
    if let Some(mut go) = go {
        // An error: the agent ends.
        let _gone = go.wait_for(|go| *go).await;
    }
    let job = &worker.kept.claim.object.job;
    let identity = Identity::new(Kind::Job, &job.namespace, &job.name);
    let life = Life {
        identity,
        object_changed: worker.is_new,
        worker,
        seen: Seen::new(),
        expired: false,
        reported: None,
        recorded: Vec::new(),
        failed: 0,
        refused: None,
    };
    life.live().await
}

impl Life {
    async fn live(mut self) -> Option<Finished> {
        // The first state is written before anything follows from it.
        let mut unsaved = true;
        loop {
            while let Ok(input) = self.worker.receiver.try_recv() {
                if !self.take(input) {
                    return None;
                }
            }
            let now = self.worker.ctx.clock.now();
            let plan = decide(&self.worker.kept.claim.object.job, &self.worker.kept.state, &self.seen, now);
            unsaved |= plan.state != self.worker.kept.state;
            self.worker.kept.state = plan.state.clone();
            let mut failure = None;
            if unsaved || self.object_changed {
                failure = self.save(unsaved).await.err();
                unsaved = failure.is_some();
            }
            for told in self.recorded.drain(..) {
                // Whoever asked may have gone.
                let _gone = told.send(failure.clone().map_or(Ok(()), Err));
            }
            if let Some(error) = failure {
                self.show_unsaved(error);
                // Nothing follows from what is not on disk, but a removal: it may be what makes room there.
                if self.worker.kept.state.removal_at.is_some() {
                    self.carry_out(&plan);
                    if plan.gone {
                        return Some(self.finish().await);
                    }
                }
                if !self.wait_to_save().await {
                    return None;
                }
                continue;
            }
            // From here on it has a past, which a later save that fails takes nothing of.
            self.worker.is_new = false;
            self.settle();
            self.publish(&plan);
            let acted = self.carry_out(&plan);
            if plan.gone {
                return Some(self.finish().await);
            }
            if plan.expired && !std::mem::replace(&mut self.expired, true) {
                let uid = self.worker.kept.claim.object.job.uid.clone();
                self.order(Order::Expired { identity: self.identity.clone(), uid });
            }
            if acted {
                continue;
            }
            if !self.wait(plan.wake_at).await {
                return None;
            }
        }
    }

    /// Waits for something to happen or for the moment; `false`: leave.
    async fn wait(&mut self, wake_at: Option<Time>) -> bool {
        let earliest = wake_at.into_iter().chain(self.retry_at()).min();
        let pause = earliest.map(|at| self.worker.ctx.clock.until(at));
        let input = tokio::select! {
            // Cancel-safe: a channel. Closing: the manager is gone, and the agent with it.
            input = self.worker.receiver.recv() => Some(input),
            // Cancel-safe: a timer.
            () = tokio::time::sleep(pause.unwrap_or_default()), if pause.is_some() => None,
        };
        match input {
            Some(Some(input)) => self.take(input),
            Some(None) => false,
            None => {
                self.refused.take_if(|(_, at)| *at <= self.worker.ctx.clock.now());
                true
            }
        }
    }

    fn retry_at(&self) -> Option<Time> {
        self.refused.as_ref().map(|(_, at)| *at)
    }

    /// Takes an input in; `false`: leave.
    fn take(&mut self, input: JobInput) -> bool {
        match input {
            JobInput::Leave => return false,
            JobInput::Update(claim) => {
                self.object_changed |= claim != self.worker.kept.claim;
                self.worker.kept.claim = claim;
            }
            JobInput::Remove { suppress, recorded } => {
                self.remove(suppress);
                self.recorded.extend(recorded);
            }
            JobInput::Pod { name, seen } => {
                // An end is the last word.
                if !matches!(self.seen.get(&name), Some(PodSeen::Ended(_))) {
                    self.seen.insert(name, seen);
                }
            }
            JobInput::Look(reply) => {
                let (kept, seen) = (self.worker.kept.clone(), self.seen.clone());
                // Whoever asked may have gone.
                drop(reply.send(JobLook { kept, seen, refused: self.refused.clone() }));
            }
            JobInput::Refused { name, message } => {
                self.seen.remove(&name);
                self.refused = Some((message.clone(), self.worker.ctx.clock.now() + RETRY));
                let message = format!("Error creating: {message}");
                self.tell(&Notice { reason: "FailedCreate".to_owned(), message, warning: true });
            }
        }
        true
    }

    fn remove(&mut self, suppress: Suppress) {
        if let Some((file, digest)) = suppress {
            let claim = &mut self.worker.kept.claim;
            (claim.file, claim.digest, claim.suppressed) = (file, digest, true);
            self.object_changed = true;
        }
        let now = self.worker.ctx.clock.now();
        self.worker.kept.state.removal_at.get_or_insert(now);
        // It is to be on disk also if the decision finds nothing else to change.
        self.object_changed = true;
    }

    /// Tries to write what was decided. Until it is on disk, nothing follows from it.
    async fn save(&mut self, state: bool) -> Result<(), String> {
        let object = std::mem::take(&mut self.object_changed);
        let (kept, ctx) = (self.worker.kept.clone(), Arc::clone(&self.worker.ctx));
        let directory = kept.directory(ctx.paths.state());
        let shown = directory.clone();
        let written = tokio::task::spawn_blocking(move || {
            // That it stays away is in force before its removal; else a job comes into force with its state.
            let first = kept.claim.suppressed;
            if object && first {
                kept.write_object(&directory)?;
            }
            if state || object {
                kept.write_state(&directory, &ctx.clock)?;
            }
            if object && !first { kept.write_object(&directory) } else { Ok(()) }
        });
        let written = written.await.map_err(Into::into).flatten();
        self.worker.ctx.storage.report(&shown, written.as_ref().err().map(AsRef::as_ref));
        self.object_changed = object && written.is_err();
        self.failed = if written.is_err() { self.failed.saturating_add(1) } else { 0 };
        written.map_err(|error| format!("{error:#}"))
    }

    /// Says once that it waits. A job that was just accepted is shown as it is: nothing has come of it.
    fn show_unsaved(&mut self, error: String) {
        if self.failed > 1 {
            return;
        }
        let message = format!("The job waits until it can be saved: {error}");
        self.tell(&Notice { reason: "FailedSave".to_owned(), message, warning: true });
        if std::mem::take(&mut self.worker.is_new) {
            let (kept, ctx) = (&self.worker.kept, &self.worker.ctx);
            let none = JobState::new(kept.state.accepted_at);
            let job = publish::job(kept, &status(&kept.claim.object.job, &none, &Seen::new()));
            if let Err(error) = ctx.store.put_object(Collection::Jobs, job) {
                tracing::error!(%error, "a job could not be shown");
            }
        }
    }

    /// Waits for something to happen, or for the next try to save it; `false`: leave.
    async fn wait_to_save(&mut self) -> bool {
        let storage = Arc::clone(&self.worker.ctx.storage);
        tokio::select! {
            // Cancel-safe: a channel. Closing: the manager is gone, and the agent with it.
            input = self.worker.receiver.recv() => input.is_some_and(|input| self.take(input)),
            // Cancel-safe, says it.
            () = storage.pause(self.failed) => true,
        }
    }

    /// Ends that are counted are of no use any more, here and elsewhere.
    fn settle(&mut self) {
        let open: BTreeSet<&String> = self.worker.kept.state.pods.values().map(|pod| &pod.name).collect();
        let counted = |name: &String, seen: &PodSeen| matches!(seen, PodSeen::Ended(_)) && !open.contains(name);
        let names: Vec<String> = self.seen.iter().filter(|(n, s)| counted(n, s)).map(|(n, _)| n.clone()).collect();
        if names.is_empty() {
            return;
        }
        let namespace = &self.identity.namespace;
        let pods = names.iter().map(|name| Identity::new(Kind::Pod, namespace, name)).collect();
        self.order(Order::Counted { owner: self.owner(), pods });
        for name in names {
            self.seen.remove(&name);
        }
    }

    fn owner(&self) -> Owner {
        let job = &self.worker.kept.claim.object.job;
        Owner { name: job.name.clone(), uid: job.uid.clone() }
    }

    fn order(&self, order: Order) {
        // An error: the manager is gone, and the agent with it.
        let _gone = self.worker.orders.send(order);
    }

    /// Asks for what the plan wants; `true` if that was something.
    fn carry_out(&mut self, plan: &Plan) -> bool {
        let mut acted = false;
        for step in &plan.steps {
            match step {
                Step::Create { serial } => acted |= self.create(*serial),
                Step::Delete { name, why } => {
                    if let Some(PodSeen::Live { deleting, .. }) = self.seen.get_mut(name) {
                        *deleting = true;
                    }
                    let identity = Identity::new(Kind::Pod, &self.identity.namespace, name);
                    self.order(Order::DeletePod { identity, why });
                    acted = true;
                }
            }
        }
        acted
    }

    fn create(&mut self, serial: u64) -> bool {
        if self.refused.is_some() {
            return false;
        }
        let Some(pod) = self.worker.kept.state.pods.get(&serial) else { return false };
        match from_value(&pod_manifest(&self.worker.kept.claim.object.job, pod)) {
            Ok(document) => {
                let live = PodSeen::Live { ready: false, restarts: 0, deleting: false };
                self.seen.insert(pod.name.clone(), live);
                self.order(Order::CreatePod { owner: self.owner(), document: Arc::new(document) });
                true
            }
            Err(problems) => {
                // The template was accepted with the job, so this is podwright's own mistake.
                let said: Vec<String> = problems.iter().map(ToString::to_string).collect();
                let name = pod.name.clone();
                self.take(JobInput::Refused { name, message: said.join("; ") })
            }
        }
    }

    fn publish(&mut self, plan: &Plan) {
        let job = publish::job(&self.worker.kept, &plan.status);
        if let Err(error) = self.worker.ctx.store.put_object(Collection::Jobs, job) {
            tracing::error!(%error, "a job could not be shown");
        }
        for notice in &plan.notices {
            self.tell(notice);
        }
        let state = &self.worker.kept.state;
        let calendar = self.worker.ctx.clock.calendar();
        let seen = JobSeen {
            uid: self.worker.kept.claim.object.job.uid.clone(),
            created_at: calendar.show(state.accepted_at).to_timestamp(),
            end: state.finished_at.map(|at| JobEnd {
                success: state.verdict.as_ref().is_some_and(|verdict| verdict.success),
                at: calendar.show(at).to_timestamp(),
            }),
            removing: state.removal_at.is_some() || plan.expired,
        };
        if let Some(reports) = self.worker.reports.as_ref().filter(|_| self.reported.as_ref() != Some(&seen)) {
            // The cron job may be gone; its jobs follow.
            let _gone = reports.send(CronInput::Job { name: self.identity.name.clone(), seen: Some(seen.clone()) });
            self.reported = Some(seen);
        }
    }

    /// An event, and a line in the log.
    fn tell(&self, notice: &Notice) {
        let identity = &self.identity;
        if notice.warning {
            tracing::warn!(job = %identity, reason = notice.reason, "{}", notice.message);
        } else {
            tracing::info!(job = %identity, reason = notice.reason, "{}", notice.message);
        }
        let now = self.worker.ctx.clock.now();
        self.worker.ctx.store.record_event(publish::event(&self.worker.kept, notice, now));
    }

    /// What stays away is remembered, the rest forgotten.
    async fn finish(self) -> Finished {
        let directory = self.worker.kept.directory(self.worker.ctx.paths.state());
        if !self.worker.kept.claim.suppressed
            && let Err(error) = tokio::task::spawn_blocking(move || disk::forget(&directory)).await
        {
            tracing::error!(%error, "what is kept of a removed job cannot be removed");
        }
        self.worker.ctx.storage.clear(&self.worker.kept.directory(self.worker.ctx.paths.state()));
        self.worker.ctx.store.remove_object(Collection::Jobs, &self.identity.namespace, &self.identity.name);
        if let Some(reports) = &self.worker.reports {
            let _gone = reports.send(CronInput::Job { name: self.identity.name.clone(), seen: None });
        }
        Finished { identity: self.identity, uid: self.worker.kept.claim.object.job.uid.clone() }
    }
}
