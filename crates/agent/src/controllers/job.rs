//! The controller of a job: what is decided is made durable, then carried out.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use podwright_core::cron::state::{JobEnd, JobSeen};
use podwright_core::job::plan::{Notice, Plan, Step};
use podwright_core::job::spec::JobSpec;
use podwright_core::job::state::{JobState, PodSeen, Seen};
use podwright_core::job::{decide, pod_manifest, status};
use podwright_core::ledger::Cause;
use podwright_core::manifest::{Resource, Spec as _, api, from_value};
use podwright_core::objects::{Identity, Kind, OwnerReference};
use podwright_core::pod::spec::PodSpec;
use podwright_core::time::Time;
use serde_json::Value;

use super::frame::{Controller, Desk, Next};
use super::order::{Order, Orders, Tell};
use crate::state::object::Kept;
use crate::status::of_batch;

/// Pause after a failure to make a pod.
const RETRY: Duration = Duration::from_secs(10);

/// What only jobs are told.
#[derive(Debug)]
pub enum JobEvent {
    /// What is seen of one of its pods.
    Pod {
        /// Its name.
        name: String,
        /// What is seen.
        seen: PodSeen,
    },
    /// A pod could not be made.
    Refused {
        /// Its name.
        name: String,
        /// Why.
        message: String,
    },
}

/// What a job's controller knows.
#[derive(Debug)]
pub struct JobLook {
    /// The job and its state.
    pub kept: Kept<JobSpec>,
    /// What is seen of its pods.
    pub seen: Seen,
    /// A pod could not be made: why, and when that is tried again.
    pub refused: Option<(String, Time)>,
    /// Why its state cannot be written.
    pub unwritten: Vec<String>,
}

/// The controller of a job.
pub struct JobController {
    desk: Desk<JobController>,
    identity: Identity,
    orders: Orders,
    /// To the cron job that made it.
    reports: Option<Tell<Option<JobSeen>>>,
    reported: Option<JobSeen>,
    seen: Seen,
    /// Told once.
    expired: bool,
    /// A pod could not be made: why, and when that is tried again.
    refused: Option<(String, Time)>,
    /// It was said that it waits for the disk.
    said_unsaved: bool,
    is_shown: bool,
}

impl JobController {
    /// Begins to look after a job.
    pub fn new(desk: Desk<JobController>, orders: Orders, reports: Option<Tell<Option<JobSeen>>>) -> JobController {
        let job = desk.kept.spec();
        JobController {
            identity: Identity::new(Kind::Job, &job.namespace, &job.name),
            desk,
            orders,
            reports,
            reported: None,
            seen: Seen::new(),
            expired: false,
            refused: None,
            said_unsaved: false,
            is_shown: false,
        }
    }

    fn show(&mut self, object: Value) {
        if let Err(error) = self.desk.ctx.store.put_object(Kind::Job, object) {
            tracing::error!(%error, "a job could not be shown");
        }
        self.is_shown = true;
    }

    /// Ends that are counted are of no use any more, here and elsewhere.
    fn settle(&mut self) {
        let open: BTreeSet<&String> = self.desk.kept.state.pods.values().map(|pod| &pod.name).collect();
        let counted = |name: &String, seen: &PodSeen| matches!(seen, PodSeen::Ended(_)) && !open.contains(name);
        let names: Vec<String> = self.seen.iter().filter(|(n, s)| counted(n, s)).map(|(n, _)| n.clone()).collect();
        if names.is_empty() {
            return;
        }
        let namespace = &self.identity.namespace;
        let pods = names.iter().map(|name| Identity::new(Kind::Pod, namespace, name)).collect();
        self.order(Order::Counted { owner: self.as_owner(), pods });
        for name in names {
            self.seen.remove(&name);
        }
    }

    fn as_owner(&self) -> OwnerReference {
        let job = self.desk.kept.spec();
        OwnerReference { kind: Kind::Job, name: job.name.clone(), uid: job.uid.clone() }
    }

    fn order(&self, order: Order) {
        // An error: the registry is gone, and the agent with it.
        let _gone = self.orders.send(order);
    }

    /// Whether that was something.
    fn create(&mut self, serial: u64) -> bool {
        if self.refused.is_some() {
            return false;
        }
        let Some(pod) = self.desk.kept.state.pods.get(&serial) else { return false };
        match from_value::<PodSpec>(&pod_manifest(self.desk.kept.spec(), pod)) {
            Ok(document) => {
                let live = PodSeen::Live { ready: false, restarts: 0, deleting: false };
                self.seen.insert(pod.name.clone(), live);
                self.order(Order::Create { owner: self.as_owner(), object: Resource::Pod(document), reply: None });
                true
            }
            Err(problems) => {
                // The template was accepted with the job, so this is podwright's own mistake.
                let said: Vec<String> = problems.iter().map(ToString::to_string).collect();
                let name = pod.name.clone();
                self.event(JobEvent::Refused { name, message: said.join("; ") });
                true
            }
        }
    }

    fn report(&mut self, plan: &Plan) {
        let Some(tell) = &self.reports else { return };
        let state = &self.desk.kept.state;
        let calendar = self.desk.ctx.clock.calendar();
        let seen = JobSeen {
            uid: self.desk.kept.spec().uid.clone(),
            created_at: calendar.show(state.accepted_at).to_timestamp(),
            end: state.finished_at.map(|at| JobEnd {
                success: state.verdict.as_ref().is_some_and(|verdict| verdict.success),
                at: calendar.show(at).to_timestamp(),
            }),
            removing: state.removal_at.is_some() || plan.expired,
        };
        if self.reported.as_ref() != Some(&seen) {
            tell(self.identity.name.clone(), Some(seen.clone()));
            self.reported = Some(seen);
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

impl Controller for JobController {
    type Spec = JobSpec;
    type Event = JobEvent;
    type Plan = Plan;
    type Look = JobLook;
    type Finished = ();

    const STATE_FIRST: bool = true;

    fn desk(&mut self) -> &mut Desk<JobController> {
        &mut self.desk
    }

    fn show_as_found(&mut self) {
        let object = shown(&self.desk.kept, &status(self.desk.kept.spec(), &self.desk.kept.state, &self.seen));
        self.show(object);
    }

    fn updated(&mut self) {}

    fn remove(&mut self, _cause: Cause, _grace: Option<Duration>) {
        let now = self.desk.ctx.clock.now();
        self.desk.kept.state.removal_at.get_or_insert(now);
    }

    fn event(&mut self, event: JobEvent) {
        match event {
            JobEvent::Pod { name, seen } => {
                // An end is the last word.
                if !matches!(self.seen.get(&name), Some(PodSeen::Ended(_))) {
                    self.seen.insert(name, seen);
                }
            }
            JobEvent::Refused { name, message } => {
                self.seen.remove(&name);
                self.refused = Some((message.clone(), self.desk.ctx.clock.now() + RETRY));
                let message = format!("Error creating: {message}");
                self.tell(&Notice { reason: "FailedCreate".to_owned(), message, warning: true });
            }
        }
    }

    /// Says once that it waits. A job that was just accepted is shown as it is: nothing has come of it.
    fn saved(&mut self, result: Result<(), String>) {
        let Err(error) = result else {
            self.said_unsaved = false;
            return;
        };
        if std::mem::replace(&mut self.said_unsaved, true) {
            return;
        }
        let message = format!("The job waits until it can be saved: {error}");
        self.tell(&Notice { reason: "FailedSave".to_owned(), message, warning: true });
        if !self.is_shown {
            let none = JobState::new(self.desk.kept.state.accepted_at);
            let object = shown(&self.desk.kept, &status(self.desk.kept.spec(), &none, &Seen::new()));
            self.show(object);
        }
    }

    fn look(&mut self) -> JobLook {
        let unwritten = self.desk.ctx.storage.below(&self.desk.kept.directory(self.desk.ctx.paths.state()));
        JobLook { kept: self.desk.kept.clone(), seen: self.seen.clone(), refused: self.refused.clone(), unwritten }
    }

    fn decide(&mut self) -> Plan {
        let now = self.desk.ctx.clock.now();
        self.refused.take_if(|(_, at)| *at <= now);
        let plan = decide(self.desk.kept.spec(), &self.desk.kept.state, &self.seen, now);
        self.desk.kept.state = plan.state.clone();
        plan
    }

    fn goes_on_unsaved(&self, plan: &Plan) -> bool {
        plan.state.removal_at.is_some()
    }

    async fn carry_out(&mut self, plan: &Plan) -> Next {
        if self.desk.failure().is_none() {
            self.settle();
        }
        let mut acted = false;
        for step in &plan.steps {
            match step {
                Step::Create { serial } => acted |= self.create(*serial),
                Step::Delete { name, why } => {
                    if let Some(PodSeen::Live { deleting, .. }) = self.seen.get_mut(name) {
                        *deleting = true;
                    }
                    let identity = Identity::new(Kind::Pod, &self.identity.namespace, name);
                    self.order(Order::Delete { identity, why, recorded: None });
                    acted = true;
                }
            }
        }
        if plan.expired && !std::mem::replace(&mut self.expired, true) {
            let uid = self.desk.kept.spec().uid.clone();
            self.order(Order::Expired { identity: self.identity.clone(), uid });
        }
        if acted { Next::Decide } else { Next::Rest }
    }

    fn publish(&mut self, plan: &Plan) {
        if self.desk.failure().is_some() {
            return;
        }
        let object = shown(&self.desk.kept, &plan.status);
        self.show(object);
        for notice in &plan.notices {
            self.tell(notice);
        }
        self.report(plan);
    }

    fn is_over(&self, plan: &Plan) -> bool {
        plan.gone
    }

    async fn rest(&mut self, plan: &Plan) {
        match plan.wake_at.into_iter().chain(self.refused.as_ref().map(|(_, at)| *at)).min() {
            Some(at) => tokio::time::sleep(self.desk.ctx.clock.until(at)).await,
            None => std::future::pending().await,
        }
    }

    async fn finish(self) {
        self.desk.ctx.store.remove_object(Kind::Job, &self.identity.namespace, &self.identity.name);
        if let Some(tell) = &self.reports {
            tell(self.identity.name.clone(), None);
        }
    }
}

/// The `batch/v1` Job with its status.
fn shown(kept: &Kept<JobSpec>, status: &k8s_openapi::api::batch::v1::JobStatus) -> Value {
    let object = api(&JobSpec::wrap(Arc::clone(kept.document())));
    let second = |at: Time| at.to_timestamp().to_string();
    let removal = kept.state.removal_at.map(second);
    of_batch::object(object, second(kept.state.accepted_at), removal, kept.owner(), status)
}
