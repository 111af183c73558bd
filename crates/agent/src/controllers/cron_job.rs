//! The controller of a cron job: what is due becomes orders for jobs.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use podwright_core::cron::spec::CronSpec;
use podwright_core::cron::state::{JobSeen, Jobs};
use podwright_core::cron::{Moment, Plan, Step, decide, job_manifest, status};
use podwright_core::job::plan::Notice;
use podwright_core::job::spec::JobSpec;
use podwright_core::ledger::Cause;
use podwright_core::manifest::{JobDocument, Resource, Spec as _, api, from_value};
use podwright_core::objects::{Identity, Kind, OwnerReference};
use serde_json::Value;
use tokio::sync::oneshot;

use super::frame::{Controller, Desk, Next};
use super::order::{Order, Orders};
use crate::context::Context;
use crate::state::object::Kept;
use crate::status::of_batch;
use crate::wall::WallTimer;

/// Pause after a failure to make a job.
const RETRY: Duration = Duration::from_secs(10);
/// A wall clock that gains more than this on the boot-time clock between two looks was set; what it gains by being slewed is less.
const SET_NS: i64 = 10_000_000_000;

/// What only cron jobs are told: what is seen of one of its jobs; `None`: it is gone.
#[derive(Debug)]
pub struct CronEvent {
    /// Its name.
    pub name: String,
    /// What is seen.
    pub seen: Option<JobSeen>,
}

/// What a cron job's controller knows.
#[derive(Debug)]
pub struct CronLook {
    /// The cron job and its state.
    pub kept: Kept<CronSpec>,
    /// What is seen of its jobs.
    pub jobs: Jobs,
    /// A job could not be made: why.
    pub refused: Option<String>,
    /// Why its state cannot be written.
    pub unwritten: Vec<String>,
}

/// A plan, and the offset of the wall clock that it goes by.
pub struct Decided {
    plan: Plan,
    offset_ns: i64,
}

/// The controller of a cron job.
pub struct CronController {
    desk: Desk<CronController>,
    identity: Identity,
    orders: Orders,
    jobs: Jobs,
    timer: Option<WallTimer>,
    /// Of the wall clock, as of the last decision that was carried out.
    offset_ns: i64,
    /// A job could not be made, and why.
    refused: Option<String>,
    /// The last word, which is not said again and again.
    said: Option<Notice>,
    /// It was said that it waits for the disk.
    said_unsaved: bool,
}

/// The job of a cron job.
///
/// # Errors
/// What is wrong with it: its name, since the template was accepted.
pub fn job(cron: &CronSpec, name: &str, scheduled: Option<Timestamp>) -> Result<Arc<JobDocument>, String> {
    from_value::<JobSpec>(&job_manifest(cron, name, scheduled))
        .map_err(|problems| problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))
}

/// What stands for a job that cannot be saved, as long as its cron job tries to make it.
pub fn waiting_job(ctx: &Context, uid: &str) -> PathBuf {
    ctx.paths.state().join(Kind::CronJob.plural()).join(uid).join("next-job")
}

impl CronController {
    /// Begins to look after a cron job.
    pub fn new(desk: Desk<CronController>, orders: Orders) -> CronController {
        let cron = desk.kept.spec();
        CronController {
            identity: Identity::new(Kind::CronJob, &cron.namespace, &cron.name),
            offset_ns: desk.ctx.clock.wall_offset_ns(),
            timer: WallTimer::or_none("a cron job"),
            desk,
            orders,
            jobs: Jobs::new(),
            refused: None,
            said: None,
            said_unsaved: false,
        }
    }

    fn decided(&self) -> Decided {
        let clock = &self.desk.ctx.clock;
        let offset_ns = clock.wall_offset_ns();
        let jumped = offset_ns.saturating_sub(self.offset_ns) > SET_NS;
        let moment = Moment { now: clock.wall(), jumped, zone: self.desk.ctx.time_zone.clone() };
        Decided { plan: decide(self.desk.kept.spec(), &self.desk.kept.state, &self.jobs, &moment), offset_ns }
    }

    fn is_removed(&self) -> bool {
        self.desk.kept.state.removed_at.is_some()
    }

    /// Makes and removes jobs; an error: one could not be made, and the time is not over for it.
    async fn act(&mut self, plan: &Plan) -> Result<(), ()> {
        self.refused = None;
        if !plan.steps.iter().any(|step| matches!(step, Step::Create { .. })) {
            let ctx = &self.desk.ctx;
            ctx.storage.report(&waiting_job(ctx, &self.desk.kept.spec().uid), None);
        }
        for step in &plan.steps {
            match step {
                Step::Create { name, scheduled } => {
                    if let Err(message) = self.create(name, *scheduled).await {
                        self.refused = Some(message.clone());
                        let message = format!("Error creating job: {message}");
                        self.tell(&Notice { reason: "FailedCreate".to_owned(), message, warning: true });
                        return Err(());
                    }
                }
                Step::Delete { name } => {
                    if let Some(job) = self.jobs.get_mut(name) {
                        job.removing = true;
                    }
                    let identity = Identity::new(Kind::Job, &self.identity.namespace, name);
                    let (recorded, told) = oneshot::channel();
                    self.order(Order::Delete { identity, why: "it keeps no more", recorded: Some(recorded) });
                    // What follows may not outlive a power cut without it. An error: it has come to its end meanwhile.
                    let _gone = told.await;
                }
            }
        }
        Ok(())
    }

    async fn create(&mut self, name: &str, scheduled: Timestamp) -> Result<(), String> {
        let cron = self.desk.kept.spec();
        let document = job(cron, name, Some(scheduled))?;
        let owner = OwnerReference { kind: Kind::CronJob, name: cron.name.clone(), uid: cron.uid.clone() };
        let (uid, (reply, answer)) = (document.spec.uid.clone(), oneshot::channel());
        self.order(Order::Create { owner, object: Resource::Job(document), reply: Some(reply) });
        answer.await.map_err(|_| "the agent ends".to_owned()).flatten()?;
        let created_at = self.desk.ctx.clock.wall();
        self.jobs.entry(name.to_owned()).or_insert(JobSeen { uid, created_at, end: None, removing: false });
        Ok(())
    }

    fn order(&self, order: Order) {
        // An error: the registry is gone, and the agent with it.
        let _gone = self.orders.send(order);
    }

    /// Its jobs go before it does.
    fn remove_jobs(&mut self) {
        let namespace = self.identity.namespace.clone();
        let mut orders = Vec::new();
        for (name, job) in self.jobs.iter_mut().filter(|(_, job)| !job.removing) {
            job.removing = true;
            let identity = Identity::new(Kind::Job, &namespace, name);
            orders.push(Order::Delete { identity, why: "it is removed", recorded: None });
        }
        orders.into_iter().for_each(|order| self.order(order));
    }

    fn show(&self, object: Value) {
        if let Err(error) = self.desk.ctx.store.put_object(Kind::CronJob, object) {
            tracing::error!(%error, "a cron job could not be shown");
        }
    }

    /// An event, and a line in the log.
    fn tell(&self, notice: &Notice) {
        of_batch::tell(
            &self.desk.ctx.store,
            &self.identity,
            &self.desk.kept.spec().uid,
            notice,
            self.desk.ctx.clock.now(),
        );
    }
}

impl Controller for CronController {
    type Spec = CronSpec;
    type Event = CronEvent;
    type Plan = Decided;
    type Look = CronLook;
    type Finished = ();

    const STATE_FIRST: bool = true;

    fn desk(&mut self) -> &mut Desk<CronController> {
        &mut self.desk
    }

    fn show_as_found(&mut self) {
        // One whose removal was asked for goes without being shown again.
        if !self.is_removed() && !self.desk.kept.wanted.origin.is_suppressed() {
            let kept = &self.desk.kept;
            self.show(shown(kept, &status(kept.spec(), &kept.state, &Jobs::new(), &[])));
        }
    }

    fn updated(&mut self) {}

    fn remove(&mut self, _cause: Cause, _grace: Option<Duration>) {
        let now = self.desk.ctx.clock.wall();
        self.desk.kept.state.removed_at.get_or_insert(now);
    }

    fn event(&mut self, CronEvent { name, seen }: CronEvent) {
        let Some(seen) = seen else {
            self.jobs.remove(&name);
            return;
        };
        if let (Some(end), Some(before)) = (seen.end, self.jobs.get(&name))
            && before.end.is_none()
        {
            let condition = if end.success { "Complete" } else { "Failed" };
            let message = format!("Saw completed job: {name}, condition: {condition}");
            self.tell(&Notice { reason: "SawCompletedJob".to_owned(), message, warning: false });
        }
        self.jobs.insert(name, seen);
    }

    /// Says once that it waits, and shows it as it is.
    fn saved(&mut self, result: Result<(), String>) {
        let Err(error) = result else {
            self.said_unsaved = false;
            return;
        };
        if !std::mem::replace(&mut self.said_unsaved, true) {
            let message = format!("The cron job waits until it can be saved: {error}");
            self.tell(&Notice { reason: "FailedSave".to_owned(), message, warning: true });
            self.show(shown(&self.desk.kept, &self.decided().plan.status));
        }
    }

    fn look(&mut self) -> CronLook {
        let unwritten = self.desk.ctx.storage.below(&self.desk.kept.directory(self.desk.ctx.paths.state()));
        CronLook { kept: self.desk.kept.clone(), jobs: self.jobs.clone(), refused: self.refused.clone(), unwritten }
    }

    /// The state is taken over once the steps are carried out: a job is on disk before it is written down that its time was dealt with.
    /// Whoever decides again meanwhile makes a job of the same name, which is there.
    fn decide(&mut self) -> Decided {
        self.decided()
    }

    fn goes_on_unsaved(&self, _plan: &Decided) -> bool {
        self.is_removed()
    }

    async fn carry_out(&mut self, decided: &Decided) -> Next {
        if self.is_removed() {
            self.remove_jobs();
            return Next::Rest;
        }
        let Ok(()) = self.act(&decided.plan).await else { return Next::Rest };
        self.offset_ns = decided.offset_ns;
        let changed = self.desk.kept.state != decided.plan.state;
        self.desk.kept.state = decided.plan.state.clone();
        if changed { Next::Decide } else { Next::Rest }
    }

    fn publish(&mut self, Decided { plan, .. }: &Decided) {
        self.show(shown(&self.desk.kept, &plan.status));
        // What could not be carried out is decided on again.
        if self.is_removed() || self.refused.is_some() {
            return;
        }
        for notice in &plan.notices {
            if self.said.as_ref() != Some(notice) {
                self.tell(notice);
                self.said = Some(notice.clone());
            }
        }
    }

    fn is_over(&self, _plan: &Decided) -> bool {
        self.is_removed() && self.jobs.is_empty()
    }

    async fn rest(&mut self, Decided { plan, .. }: &Decided) {
        let wake_at = plan.wake_at.filter(|_| !self.is_removed());
        let now = self.desk.ctx.clock.wall();
        let until = wake_at.map(|at| Duration::try_from(now.duration_until(at)).unwrap_or_default());
        let retry = self.refused.as_ref().map(|_| RETRY);
        let timer = async {
            match (&mut self.timer, until) {
                (Some(timer), _) => timer.wait(wake_at, now).await,
                (None, Some(pause)) => {
                    tokio::time::sleep(pause).await;
                    Ok(())
                }
                (None, None) => std::future::pending().await,
            }
        };
        tokio::select! {
            // Cancel-safe: a descriptor.
            woken = timer => if let Err(error) = woken {
                tracing::error!(%error, "a timer by the wall clock failed");
                self.timer = None;
            },
            // Cancel-safe: a timer.
            () = tokio::time::sleep(retry.unwrap_or_default()), if retry.is_some() => {}
        }
    }

    async fn finish(self) {
        self.desk.ctx.store.remove_object(Kind::CronJob, &self.identity.namespace, &self.identity.name);
    }
}

/// The `batch/v1` CronJob with its status.
fn shown(kept: &Kept<CronSpec>, status: &k8s_openapi::api::batch::v1::CronJobStatus) -> Value {
    let object = api(&CronSpec::wrap(Arc::clone(kept.document())));
    // In whole seconds, as `metav1.Time` is.
    let second = |at: Timestamp| Timestamp::from_second(at.as_second()).unwrap_or(at).to_string();
    let removal = kept.state.removed_at.map(second);
    of_batch::object(object, second(kept.state.accepted_at), removal, kept.owner(), status)
}
