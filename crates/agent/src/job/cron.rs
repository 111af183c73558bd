//! One cron job: what is due becomes orders for jobs.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use podwright_core::cron::state::{JobSeen, Jobs};
use podwright_core::cron::{Moment, Plan, Step, decide, job_manifest};
use podwright_core::job::plan::Notice;
use podwright_core::manifest::{CronJobDocument, JobDocument, job_from_value};
use podwright_core::objects::{Identity, Kind};
use tokio::sync::{mpsc, oneshot, watch};

use super::disk::{self, CronKept};
use super::wall::WallTimer;
use super::{CronInput, CronLook, Order, Owner, Recorded, cron_publish};
use crate::status::Collection;
use crate::worker::Context;

/// Pause after a failure to make a job.
const RETRY: Duration = Duration::from_secs(10);
/// A wall clock that gains more than this on the boot-time clock between two looks was set; what it gains by being slewed is less.
const SET_NS: i64 = 10_000_000_000;

/// One worker.
pub(super) struct Worker {
    pub(super) ctx: Arc<Context>,
    pub(super) kept: CronKept,
    pub(super) receiver: mpsc::UnboundedReceiver<CronInput>,
    /// To the manager.
    pub(super) orders: mpsc::UnboundedSender<Order>,
    /// It was just accepted.
    pub(super) is_new: bool,
}

/// The job of a cron job.
///
/// # Errors
/// What is wrong with it: its name, since the template was accepted.
pub(super) fn job(
    cron: &CronJobDocument,
    name: &str,
    scheduled: Option<Timestamp>,
) -> Result<Arc<JobDocument>, String> {
    job_from_value(&job_manifest(&cron.cron, name, scheduled))
        .map_err(|problems| problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))
}

/// What stands for a job that cannot be saved, as long as its cron job tries to make it.
pub(super) fn waiting_job(ctx: &Context, uid: &str) -> PathBuf {
    ctx.paths.state().join("cronjobs").join(uid).join("next-job")
}

/// Runs a cron job until it is removed, or until the agent leaves it (`None`). It waits for `go`, so that all that is known of
/// its jobs has been said.
pub(super) async fn run(worker: Worker, go: Option<watch::Receiver<bool>>) -> Option<()> {
    if let Some(mut go) = go {
        // An error: the agent ends.
        let _gone = go.wait_for(|go| *go).await;
    }
    let timer = WallTimer::or_none("a cron job");
    let cron = &worker.kept.claim.object.cron;
    let life = Life {
        identity: Identity::new(Kind::CronJob, &cron.namespace, &cron.name),
        offset_ns: worker.ctx.clock.wall_offset_ns(),
        object_changed: worker.is_new,
        worker,
        jobs: Jobs::new(),
        timer,
        recorded: Vec::new(),
        failed: 0,
        refused: None,
        said: None,
    };
    life.live().await
}

struct Life {
    worker: Worker,
    identity: Identity,
    jobs: Jobs,
    timer: Option<WallTimer>,
    /// Of the wall clock, as of the last decision that was carried out.
    offset_ns: i64,
    /// The object on disk is an older one.
    object_changed: bool,
    recorded: Vec<Recorded>,
    /// Tries in a row to save it that failed.
    failed: u32,
    /// A job could not be made, and why.
    refused: Option<String>,
    /// The last word, which is not said again and again.
    said: Option<Notice>,
}

impl Life {
    async fn live(mut self) -> Option<()> {
        let mut unsaved = self.worker.is_new;
        loop {
            // What was accepted is on disk before anything follows from it.
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
                // But for its removal, which may be what makes room there.
                if self.worker.kept.removed_at.is_some() && self.remove_jobs() {
                    self.finish().await;
                    return Some(());
                }
                if !self.wait_to_save().await {
                    return None;
                }
                continue;
            }
            while let Ok(input) = self.worker.receiver.try_recv() {
                if !self.take(input) {
                    return None;
                }
            }
            if self.object_changed {
                unsaved = false;
                continue;
            }
            if self.worker.kept.removed_at.is_some() {
                // Shown as it is; what would follow for a cron job that stays is left.
                let (plan, _) = self.decide();
                self.show(&plan);
                if self.remove_jobs() {
                    self.finish().await;
                    return Some(());
                }
                if !self.wait(None, None).await {
                    return None;
                }
                continue;
            }
            let (plan, offset_ns) = self.decide();
            let made = self.carry_out(&plan).await;
            if !made {
                // That the clock was set still counts when it is tried again.
                if !self.wait(plan.wake_at, Some(RETRY)).await {
                    return None;
                }
                continue;
            }
            self.offset_ns = offset_ns;
            unsaved = plan.state != self.worker.kept.state;
            self.worker.kept.state = plan.state.clone();
            self.publish(&plan);
            if unsaved {
                continue;
            }
            if !self.wait(plan.wake_at, None).await {
                return None;
            }
        }
    }

    /// A plan, and the offset of the wall clock that it goes by.
    fn decide(&self) -> (Plan, i64) {
        let clock = &self.worker.ctx.clock;
        let offset_ns = clock.wall_offset_ns();
        let jumped = offset_ns.saturating_sub(self.offset_ns) > SET_NS;
        let moment = Moment { now: clock.wall(), jumped, zone: self.worker.ctx.time_zone.clone() };
        (decide(&self.worker.kept.claim.object.cron, &self.worker.kept.state, &self.jobs, &moment), offset_ns)
    }

    /// Waits for something to happen or for the moment; `false`: leave.
    async fn wait(&mut self, wake_at: Option<Timestamp>, retry: Option<Duration>) -> bool {
        let now = self.worker.ctx.clock.wall();
        let until = wake_at.map(|at| Duration::try_from(now.duration_until(at)).unwrap_or_default());
        let timer = async {
            match &mut self.timer {
                Some(timer) => timer.wait(wake_at, now).await,
                None => match until {
                    Some(pause) => {
                        tokio::time::sleep(pause).await;
                        Ok(())
                    }
                    None => std::future::pending().await,
                },
            }
        };
        tokio::select! {
            // Cancel-safe: a channel. Closing: the manager is gone, and the agent with it.
            input = self.worker.receiver.recv() => match input {
                Some(input) => return self.take(input),
                None => return false,
            },
            // Cancel-safe: a descriptor.
            woken = timer => if let Err(error) = woken {
                tracing::error!(%error, "a timer by the wall clock failed");
                self.timer = None;
            },
            // Cancel-safe: a timer.
            () = tokio::time::sleep(retry.unwrap_or_default()), if retry.is_some() => {}
        }
        true
    }

    /// Takes an input in; `false`: leave.
    fn take(&mut self, input: CronInput) -> bool {
        match input {
            CronInput::Leave => return false,
            CronInput::Look(reply) => {
                let (kept, jobs) = (self.worker.kept.clone(), self.jobs.clone());
                // Whoever asked may have gone.
                drop(reply.send(CronLook { kept, jobs, refused: self.refused.clone() }));
            }
            CronInput::Update(claim) => {
                self.object_changed |= claim != self.worker.kept.claim;
                self.worker.kept.claim = claim;
            }
            CronInput::Remove { suppress, recorded } => {
                if let Some((file, digest)) = suppress {
                    let claim = &mut self.worker.kept.claim;
                    (claim.file, claim.digest, claim.suppressed) = (file, digest, true);
                }
                self.worker.kept.removed_at.get_or_insert(self.worker.ctx.clock.wall());
                self.object_changed = true;
                self.recorded.extend(recorded);
            }
            CronInput::Job { name, seen: Some(seen) } => {
                if let (Some(end), Some(before)) = (seen.end, self.jobs.get(&name))
                    && before.end.is_none()
                {
                    let condition = if end.success { "Complete" } else { "Failed" };
                    let message = format!("Saw completed job: {name}, condition: {condition}");
                    self.tell(&Notice { reason: "SawCompletedJob".to_owned(), message, warning: false });
                }
                self.jobs.insert(name, seen);
            }
            CronInput::Job { name, seen: None } => {
                self.jobs.remove(&name);
            }
        }
        true
    }

    /// Tries to write what was decided. Until it is on disk, nothing follows from it.
    async fn save(&mut self, state: bool) -> Result<(), String> {
        let object = std::mem::take(&mut self.object_changed);
        let (kept, ctx) = (self.worker.kept.clone(), Arc::clone(&self.worker.ctx));
        let directory = kept.directory(ctx.paths.state());
        let shown = directory.clone();
        let written = tokio::task::spawn_blocking(move || {
            if state {
                kept.write_state(&directory, &ctx.clock)?;
            }
            if object { kept.write_object(&directory) } else { Ok(()) }
        });
        let written = written.await.map_err(Into::into).flatten();
        self.worker.ctx.storage.report(&shown, written.as_ref().err().map(AsRef::as_ref));
        self.object_changed = object && written.is_err();
        self.failed = if written.is_err() { self.failed.saturating_add(1) } else { 0 };
        written.map_err(|error| format!("{error:#}"))
    }

    /// Says once that it waits, and shows it as it is.
    fn show_unsaved(&mut self, error: String) {
        if self.failed == 1 {
            let message = format!("The cron job waits until it can be saved: {error}");
            self.tell(&Notice { reason: "FailedSave".to_owned(), message, warning: true });
            let (plan, _) = self.decide();
            self.show(&plan);
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

    /// Makes and removes jobs; `false`: one could not be made, and the time is not over for it.
    async fn carry_out(&mut self, plan: &Plan) -> bool {
        self.refused = None;
        if !plan.steps.iter().any(|step| matches!(step, Step::Create { .. })) {
            let ctx = &self.worker.ctx;
            ctx.storage.report(&waiting_job(ctx, &self.worker.kept.claim.object.cron.uid), None);
        }
        for step in &plan.steps {
            match step {
                Step::Create { name, scheduled } => {
                    if let Err(message) = self.create(name, *scheduled).await {
                        self.refused = Some(message.clone());
                        let message = format!("Error creating job: {message}");
                        self.tell(&Notice { reason: "FailedCreate".to_owned(), message, warning: true });
                        return false;
                    }
                }
                Step::Delete { name } => {
                    if let Some(job) = self.jobs.get_mut(name) {
                        job.removing = true;
                    }
                    let identity = Identity::new(Kind::Job, &self.identity.namespace, name);
                    let (recorded, told) = oneshot::channel();
                    self.order(Order::DeleteJob { identity, recorded: Some(recorded) });
                    // What follows may not outlive a power cut without it. An error: it has come to its end meanwhile.
                    let _gone = told.await;
                }
            }
        }
        true
    }

    async fn create(&mut self, name: &str, scheduled: Timestamp) -> Result<(), String> {
        let object = Arc::clone(&self.worker.kept.claim.object);
        let document = job(&object, name, Some(scheduled))?;
        let owner = Owner { name: object.cron.name.clone(), uid: object.cron.uid.clone() };
        let (uid, (reply, answer)) = (document.job.uid.clone(), oneshot::channel());
        self.order(Order::CreateJob { owner, document, reply });
        answer.await.map_err(|_| "the agent ends".to_owned()).flatten()?;
        let created_at = self.worker.ctx.clock.wall();
        self.jobs.entry(name.to_owned()).or_insert(JobSeen { uid, created_at, end: None, removing: false });
        Ok(())
    }

    fn order(&self, order: Order) {
        // An error: the manager is gone, and the agent with it.
        let _gone = self.worker.orders.send(order);
    }

    fn show(&self, plan: &Plan) {
        let cron = cron_publish::cron_job(&self.worker.kept, &plan.status);
        if let Err(error) = self.worker.ctx.store.put_object(Collection::CronJobs, cron) {
            tracing::error!(%error, "a cron job could not be shown");
        }
    }

    fn publish(&mut self, plan: &Plan) {
        self.show(plan);
        for notice in &plan.notices {
            if self.said.as_ref() != Some(notice) {
                self.tell(notice);
                self.said = Some(notice.clone());
            }
        }
    }

    /// An event, and a line in the log.
    fn tell(&self, notice: &Notice) {
        let identity = &self.identity;
        if notice.warning {
            tracing::warn!(cronjob = %identity, reason = notice.reason, "{}", notice.message);
        } else {
            tracing::info!(cronjob = %identity, reason = notice.reason, "{}", notice.message);
        }
        let now = self.worker.ctx.clock.now();
        self.worker.ctx.store.record_event(cron_publish::event(&self.worker.kept, notice, now));
    }

    /// Its jobs go before it does; `true`: none is left.
    fn remove_jobs(&mut self) -> bool {
        let namespace = self.identity.namespace.clone();
        let mut orders = Vec::new();
        for (name, job) in self.jobs.iter_mut().filter(|(_, job)| !job.removing) {
            job.removing = true;
            let identity = Identity::new(Kind::Job, &namespace, name);
            orders.push(Order::DeleteJob { identity, recorded: None });
        }
        orders.into_iter().for_each(|order| self.order(order));
        self.jobs.is_empty()
    }

    async fn finish(&self) {
        let directory = self.worker.kept.directory(self.worker.ctx.paths.state());
        if !self.worker.kept.claim.suppressed
            && let Err(error) = tokio::task::spawn_blocking(move || disk::forget(&directory)).await
        {
            tracing::error!(%error, "what is kept of a removed cron job cannot be removed");
        }
        self.worker.ctx.storage.clear(&self.worker.kept.directory(self.worker.ctx.paths.state()));
        self.worker.ctx.store.remove_object(Collection::CronJobs, &self.identity.namespace, &self.identity.name);
    }
}
