//! The controller of a pod: what happens becomes events of core's state machine, the steps of its plans become orders to others.
//! Nothing here waits for a step.

mod hook;
pub mod look;
mod probing;
pub mod publish;
pub mod recover;
pub mod reports;
mod sandbox_words;
mod steps;
mod takeover;
mod tasks;
mod telling;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::PodStatus;
use podwright_core::ledger::Cause;
use podwright_core::pod::Machine;
use podwright_core::pod::observe::{Event, HookKind, Memo, ProbeKind, ProbeOutcome, Sandbox as SandboxState};
use podwright_core::pod::plan::{Notice, Plan};
use podwright_core::pod::spec::{PodSpec, Role};
use podwright_core::pod::state::Ended;
use podwright_core::time::Time;
use podwright_proto::{self as proto, InstanceId, Request, StartRequest};
use podwright_sys::durable::Durability;
use serde_json::Value;
use tokio::sync::oneshot;
use tokio::task::AbortHandle;

use super::frame::{Controller, Desk, Input, Next, Recorded, Sender};
use crate::context::Context;
use crate::node::sandbox::{Handle, Order, Word};
use crate::node::start::{self, Refused};
use crate::node::{leftovers, setup};
use crate::paths::PodPaths;
use crate::state::object::{Kept, Part};
use crate::status::of_pod;
use crate::storage;
use look::Snapshot;
use recover::{Beginning, Recovered};
use reports::Reports;
use tasks::AbortOnDrop;

/// What only pods are told.
pub enum PodEvent {
    /// `podwright restart`.
    Restart(Recorded),
    /// From the sandbox of that number.
    Sandbox(u32, Word),
    /// A start is prepared, or not.
    Prepared {
        /// Index of the container.
        container: usize,
        /// The attempt.
        attempt: u32,
        /// The sandbox it was prepared for.
        sandbox: u32,
        /// What to tell the shim.
        result: Result<Box<StartRequest>, Refused>,
    },
    /// A probe from the agent is through.
    Probed {
        /// Index of the container.
        container: usize,
        /// The attempt.
        attempt: u32,
        /// Which.
        kind: ProbeKind,
        /// How it went.
        outcome: ProbeOutcome,
    },
    /// A hook that the agent runs has ended.
    Hooked {
        /// Index of the container.
        container: usize,
        /// The attempt.
        attempt: u32,
        /// Which.
        kind: HookKind,
        /// Why it failed.
        failure: Option<String>,
    },
    /// A disk volume is over its limit.
    OverLimit(String),
}

/// How running instances fare: by container, with the attempt.
type Fares = BTreeMap<String, (u32, proto::Health)>;

/// The last word: the pod will never do anything again.
pub struct Finished {
    /// What is kept of it; `ended` is set.
    pub kept: Kept<PodSpec>,
    /// It is on disk; else it is tried again until it is.
    pub saved: bool,
}

/// The controller of a pod.
pub struct PodController {
    desk: Desk<PodController>,
    paths: PodPaths,
    machine: Machine,
    sandbox: Option<Handle>,
    /// Starts that are being prepared, and what to tell the shim right after each.
    preparing: HashMap<(usize, u32), Vec<Request>>,
    /// Starts of the present plan.
    wanted: Vec<start::Wanted>,
    /// Exec probes under way, by their number.
    execs: HashMap<u64, (usize, u32, ProbeKind)>,
    next_exec: u64,
    /// Hooks that are requests, under way. Dropping one ends it.
    hooks: HashMap<(usize, u32, HookKind), AbortOnDrop>,
    measuring: Option<AbortHandle>,
    /// To the job that made the pod.
    reports: Option<Reports>,
    /// What the shim was told to remember last, and how its instances fared then.
    remembered: (Memo, Fares),
    /// What was published last, besides the status.
    shown: Option<(PodStatus, Kept<PodSpec>)>,
    /// A step was answered at once: decide again.
    answered: bool,
}

impl PodController {
    /// Takes up a pod, or begins a new run of one.
    pub async fn start(
        ctx: Arc<Context>,
        mut kept: Kept<PodSpec>,
        beginning: Beginning,
        sender: Sender<PodController>,
        reports: Option<Reports>,
    ) -> PodController {
        let paths = ctx.paths.pod(kept.spec());
        let wrap = |number, word| Input::Event(PodEvent::Sandbox(number, word));
        let Recovered { observed, memo, sandbox } =
            recover::recover(&ctx, &mut kept, &paths, beginning, &sender, wrap).await;
        let unsaved = observed.unsaved.is_some();
        if !unsaved && beginning == Beginning::Run && kept.owner().is_none() {
            // A job's pod is on disk already; a file's is known, and is made to survive a power cut beside its start.
            kept.keep((ctx.paths.state(), Part::All), &ctx.storage, &ctx.clock, Durability::Synced, None);
        }
        let mut controller = PodController {
            machine: Machine::new(kept.spec().clone(), ctx.policy(), observed, memo.clone()),
            next_exec: u64::try_from(ctx.clock.stamp().boot_ns).unwrap_or(0),
            remembered: (memo, Fares::new()),
            desk: Desk::new(ctx, kept, sender, unsaved),
            paths,
            sandbox,
            preparing: HashMap::new(),
            wanted: Vec::new(),
            execs: HashMap::new(),
            hooks: HashMap::new(),
            measuring: None,
            reports,
            shown: None,
            answered: false,
        };
        if controller.sandbox.is_some() {
            controller.measure();
        }
        controller
    }

    fn apply(&mut self, event: Event) {
        let now = self.desk.ctx.clock.now();
        self.machine.apply(event, now);
    }

    /// Has written what of the observations has to be kept. Until it is on disk no sandbox is made.
    fn keep(&mut self) {
        self.desk.kept.state.follow(self.machine.observed());
        if self.desk.save() {
            self.apply(Event::Saving);
        }
    }

    pub(crate) fn id(&self, container: usize, attempt: u32) -> Option<InstanceId> {
        let container = self.machine.spec().containers.get(container)?.name.clone();
        Some(InstanceId { container, attempt })
    }
}

impl Controller for PodController {
    type Spec = PodSpec;
    type Event = PodEvent;
    type Plan = Plan;
    type Look = Snapshot;
    type Finished = Finished;

    const STATE_FIRST: bool = false;

    fn desk(&mut self) -> &mut Desk<PodController> {
        &mut self.desk
    }

    fn show_as_found(&mut self) {
        let now = self.desk.ctx.clock.now();
        let plan = self.machine.clone().plan(now);
        self.show(&plan.status, now);
    }

    fn updated(&mut self) {
        self.machine.update(self.desk.kept.spec().clone(), self.desk.ctx.clock.now());
    }

    fn remove(&mut self, cause: Cause, grace: Option<Duration>) {
        self.apply(Event::Delete { cause, grace });
        if let (Some(sandbox), SandboxState::Removing { .. }) = (&self.sandbox, self.machine.observed().sandbox) {
            sandbox.order(Order::Remove { deleted: true, volumes: true });
        }
    }

    fn event(&mut self, event: PodEvent) {
        match event {
            PodEvent::Restart(recorded) => {
                self.desk.kept.state.ended = None;
                self.desk.answer(recorded);
                self.apply(Event::Restart);
            }
            PodEvent::Sandbox(number, word) => self.heard(number, word),
            PodEvent::Prepared { container, attempt, sandbox, result } => {
                self.prepared(container, attempt, sandbox, result);
            }
            PodEvent::Probed { container, attempt, kind, outcome } => {
                self.apply(Event::Probed { container, attempt, kind, outcome });
            }
            PodEvent::Hooked { container, attempt, kind, failure } => {
                self.hooks.remove(&(container, attempt, kind));
                self.apply(Event::Hooked { container, attempt, kind, failure: failure.clone() });
                if let Some(id) = self.id(container, attempt) {
                    self.say(&Request::HookDone { id, kind: hook::wire(kind), failure });
                }
            }
            PodEvent::OverLimit(message) => self.apply(Event::Evict { message }),
        }
    }

    fn settings(&mut self) {
        self.machine.set_policy(self.desk.ctx.policy());
        // The store knows whether it differs.
        self.shown = None;
    }

    fn saving(&mut self) {
        self.apply(Event::Saving);
    }

    fn saved(&mut self, result: Result<(), String>) {
        self.apply(match result {
            Ok(()) => Event::Saved,
            Err(message) => Event::NotSaved { message },
        });
    }

    fn look(&mut self) -> Snapshot {
        let told = self.sandbox.as_ref().map(Handle::told).unwrap_or_default();
        Snapshot { kept: self.desk.kept.clone(), machine: self.machine.clone(), told }
    }

    fn decide(&mut self) -> Plan {
        self.keep();
        let plan = self.machine.plan(self.desk.ctx.clock.now());
        self.desk.kept.state.follow(self.machine.observed());
        plan
    }

    async fn carry_out(&mut self, plan: &Plan) -> Next {
        for step in &plan.steps {
            self.step(step);
        }
        self.prepare();
        self.remember(plan);
        if std::mem::take(&mut self.answered) { Next::Decide } else { Next::Rest }
    }

    fn publish(&mut self, plan: &Plan) {
        let now = self.desk.ctx.clock.now();
        self.show(&plan.status, now);
        for notice in &plan.notices {
            self.tell(notice, now);
        }
    }

    fn is_over(&self, plan: &Plan) -> bool {
        plan.finished
    }

    async fn rest(&mut self, plan: &Plan) {
        match plan.wake_at {
            Some(at) => tokio::time::sleep(self.desk.ctx.clock.until(at)).await,
            None => std::future::pending().await,
        }
    }

    /// What only the pod needed goes, whether or not anything can be written.
    async fn finish(mut self) -> Finished {
        let now = self.desk.ctx.clock.now();
        let status = self.shown.take().map(|(status, _)| status_value(&status)).unwrap_or_default();
        let mains = self.machine.spec().containers.iter().zip(&self.machine.observed().containers);
        let newest = mains.filter(|(c, _)| c.role == Role::Main).filter_map(|(_, known)| known.instances.last());
        let stopped = newest.into_iter().any(|instance| instance.signaled_at.is_some());
        self.desk.kept.state.ended = Some(Ended { at: now, status, stopped, archived: false });
        let ctx = Arc::clone(&self.desk.ctx);
        let (paths, cgroup) = (self.paths.clone(), setup::pod_cgroup(&ctx, self.machine.spec()));
        let clock = Arc::clone(&ctx.clock);
        let cleaned = ctx.asides.removals.change(&self.paths.run, move || {
            let volumes = leftovers::remove(&clock, &paths.volumes());
            let dismantled = setup::dismantle(&clock, &cgroup, &paths);
            (volumes, dismantled.map_err(|error| podwright_sys::error::chain(&error)))
        });
        let (volumes, dismantled) = cleaned.await.unwrap_or_else(|error| (None, Err(error.to_string())));
        leftovers::follow_up(&ctx, volumes);
        match dismantled {
            Ok(left) => leftovers::follow_up(&ctx, left),
            Err(error) => {
                tracing::error!(uid = self.machine.spec().uid, error, "what is left of an ended pod cannot be removed");
            }
        }
        ctx.storage.clear(&self.paths.run);
        let kept = self.desk.kept;
        let (answer, told) = oneshot::channel();
        let part = (ctx.paths.state(), Part::State);
        kept.keep(part, &ctx.storage, &ctx.clock, Durability::Synced, Some(storage::told(answer)));
        let saved = matches!(told.await, Ok(Ok(())));
        Finished { kept, saved }
    }
}

impl PodController {
    /// An event, and a line in the log.
    fn tell(&self, notice: &Notice, now: Time) {
        let spec = self.machine.spec();
        let pod = format_args!("{}/{}", spec.namespace, spec.name);
        let container = notice.container.and_then(|c| spec.containers.get(c)).map(|c| c.name.as_str());
        if notice.warning {
            tracing::warn!(%pod, container, reason = notice.reason, "{}", notice.message);
        } else {
            tracing::info!(%pod, container, reason = notice.reason, "{}", notice.message);
        }
        self.desk.ctx.store.record_event(of_pod::event(spec, notice, now));
    }

    fn show(&mut self, status: &PodStatus, now: Time) {
        if self.shown.as_ref().is_some_and(|(shown, kept)| shown == status && *kept == self.desk.kept) {
            return;
        }
        let text = status_value(status);
        let pod = publish::pod(&self.desk.kept, &self.desk.ctx.fixed.node_name, &text);
        if let Some(reports) = &mut self.reports {
            reports.live(self.machine.spec(), status, self.desk.kept.state.deletion.is_some());
        }
        if let Err(error) = self.desk.ctx.store.put_pod(pod, now) {
            tracing::error!(%error, "a pod could not be shown");
        }
        self.shown = Some((status.clone(), self.desk.kept.clone()));
    }
}

pub(crate) fn status_value(status: &PodStatus) -> Value {
    serde_json::to_value(status).unwrap_or_else(|error| {
        tracing::error!(%error, "a status cannot be written as JSON");
        Value::Null
    })
}
