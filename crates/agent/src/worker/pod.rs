//! One pod: what happens becomes events, the machine's plans become orders to others. Nothing here waits for a step.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::PodStatus;
use podwright_core::ledger::Cause;
use podwright_core::pod::Machine;
use podwright_core::pod::observe::{Event, HookKind, Instance, Memo, ProbeKind, ProbeOutcome, Sandbox as SandboxState};
use podwright_core::pod::plan::{Notice, Plan, Step};
use podwright_core::signal;
use podwright_core::time::Time;
use podwright_proto::{self as proto, InstanceId, Record, Request, StartRequest};
use podwright_sys::durable::Durability;
use serde_json::Value;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::AbortHandle;

use super::inspect::Snapshot;
use super::kept::Kept;
use super::probing::AbortOnDrop;
use super::recover::{self, Beginning, Recovered};
use super::sandbox::{self, Handle, Order, Origin, Sandbox, Word};
use super::start::{self, Refused};
use super::{Context, hook, ledger, publish, records, setup, volumes};
use crate::job::Recorded;
use crate::job::seen::Reports;
use crate::paths::PodPaths;
use crate::source::decide::Claim;

/// How often disk volumes with a limit are measured.
const MEASURE_EVERY: Duration = Duration::from_secs(10);
/// A pod's volumes are left alone that many times as long as the last measurement took: however many files a container
/// makes, counting them takes a tenth of a CPU.
const MEASURE_SHARE: u32 = 9;
/// Measurements at a time, of all pods.
static MEASURING: Semaphore = Semaphore::const_new(2);

/// Tells a measurement under way that nobody waits for it any more.
struct StopOnDrop(Arc<AtomicBool>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// What a worker is told.
pub(super) enum Input {
    /// The same pod as written anew, or in another file.
    Update(Box<Claim>),
    /// It is to be removed.
    Delete {
        /// Overrides the spec's grace period.
        grace: Option<Duration>,
        /// Who asks, and why.
        cause: Cause,
        /// By hand: it stays away until this file, whose bytes have this digest, changes.
        suppress: Option<(String, String)>,
        /// Told when the request would survive a power cut, or why it does not yet.
        recorded: Option<Recorded>,
    },
    /// `podwright restart`.
    Restart {
        /// As above.
        recorded: Recorded,
    },
    /// The pod as of that save was written, or not.
    Saved(u64, Result<(), String>),
    /// The node's settings have changed.
    Policy,
    /// The agent ends; the pod goes on.
    Leave,
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
    /// Somebody wants to see what it knows.
    Look(oneshot::Sender<Snapshot>),
}

/// How running instances fare: by container, with the attempt.
type Fares = BTreeMap<String, (u32, proto::Health)>;

/// A worker's last word: the pod will never do anything again.
pub(super) struct Finished {
    /// What is kept of it; `ended` is set.
    pub(super) kept: Kept,
    /// It is on disk; else it is tried again until it is.
    pub(super) saved: bool,
}

/// One worker.
pub(super) struct Worker {
    pub(super) ctx: Arc<Context>,
    pub(super) kept: Kept,
    pub(super) paths: PodPaths,
    pub(super) machine: Machine,
    /// How often it was written.
    pub(super) saves: u64,
    pub(super) sandbox: Option<Handle>,
    /// Starts that are being prepared, and what to tell the shim right after each.
    pub(super) preparing: HashMap<(usize, u32), Vec<Request>>,
    /// Starts of the present plan.
    wanted: Vec<start::Wanted>,
    /// Exec probes under way, by their number.
    pub(super) execs: HashMap<u64, (usize, u32, ProbeKind)>,
    pub(super) next_exec: u64,
    /// Hooks that are requests, under way. Dropping one ends it.
    pub(super) hooks: HashMap<(usize, u32, HookKind), AbortOnDrop>,
    measuring: Option<AbortHandle>,
    /// To the job that made the pod.
    reports: Option<Reports>,
    /// What the shim was told to remember last, and how its instances fared then.
    remembered: (Memo, Fares),
    /// What was published last, besides the status.
    pub(super) shown: Option<(PodStatus, Kept)>,
    /// A step was answered at once: decide again.
    pub(super) answered: bool,
    pub(super) sender: mpsc::UnboundedSender<Input>,
    receiver: mpsc::UnboundedReceiver<Input>,
}

/// Runs a pod to its end, or until the agent leaves it (`None`).
///
/// `ready` is told once the pod's state is known and shown; the worker then waits for `go`.
pub(super) async fn run(
    ctx: Arc<Context>,
    mut kept: Kept,
    beginning: Beginning,
    (sender, receiver): (mpsc::UnboundedSender<Input>, mpsc::UnboundedReceiver<Input>),
    gate: Option<Gate>,
    reports: Option<Reports>,
) -> Option<Finished> {
    let paths = ctx.paths.pod(&kept.document().pod);
    let Recovered { observed, memo, sandbox } =
        recover::recover(&ctx, &mut kept, &paths, beginning, &sender, Input::Sandbox).await;
    let spec = kept.document().pod.clone();
    let mut worker = Worker {
        machine: Machine::new(spec, ctx.policy(), observed, memo.clone()),
        saves: 0,
        next_exec: u64::try_from(ctx.clock.stamp().boot_ns).unwrap_or(0),
        remembered: (memo, Fares::new()),
        ctx,
        kept,
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
        sender,
        receiver,
    };
    if worker.sandbox.is_some() {
        worker.measure();
    }
    if worker.machine.observed().unsaved.is_some() {
        worker.save(None);
    } else if beginning == Beginning::Run && worker.kept.owner.is_none() {
        // A job's pod is on disk already; a file's is known, and is made to survive a power cut beside its start.
        let ctx = &worker.ctx;
        worker.kept.keep(&worker.paths.file(), &ctx.storage, &ctx.clock, Durability::Synced, None);
    }
    if let Some(gate) = gate {
        worker.show_as_found();
        gate.pass().await;
    }
    worker.live().await
}

fn stop_signal(instance: &Instance) -> i32 {
    instance.stop_signal.unwrap_or(signal::SIGTERM)
}

/// Holds recovered pods back until the API shows all of them.
pub(super) struct Gate {
    /// Told when the pod is shown.
    pub(super) ready: oneshot::Sender<()>,
    /// Becomes true when all go on.
    pub(super) go: tokio::sync::watch::Receiver<bool>,
}

impl Gate {
    async fn pass(mut self) {
        // Whoever waited has gone: the agent ends.
        let _gone = self.ready.send(());
        let _gone = self.go.wait_for(|go| *go).await;
    }
}

impl Worker {
    async fn live(mut self) -> Option<Finished> {
        loop {
            while let Ok(input) = self.receiver.try_recv() {
                if !self.take(input) {
                    return None;
                }
            }
            let now = self.ctx.clock.now();
            let plan = self.machine.plan(now);
            if self.kept.follow(self.machine.observed()) {
                self.save(None);
            }
            for step in &plan.steps {
                self.carry_out(step);
            }
            self.prepare();
            self.remember(&plan);
            self.publish(&plan, now);
            if plan.finished {
                return Some(self.finish(now).await);
            }
            if std::mem::take(&mut self.answered) {
                continue;
            }
            let pause = plan.wake_at.map(|at| self.ctx.clock.until(at));
            let input = tokio::select! {
                // Cancel-safe: a channel. It cannot close, `self` holds a sender.
                input = self.receiver.recv() => input,
                // Cancel-safe: a timer.
                () = tokio::time::sleep(pause.unwrap_or_default()), if pause.is_some() => None,
            };
            if let Some(input) = input
                && !self.take(input)
            {
                return None;
            }
        }
    }

    /// Takes an input in; `false`: leave.
    fn take(&mut self, input: Input) -> bool {
        match input {
            Input::Leave => return false,
            Input::Policy => {
                self.machine.set_policy(self.ctx.policy());
                // The store knows whether it differs.
                self.shown = None;
            }
            Input::Update(claim) => {
                self.kept.claim = *claim;
                self.machine.update(self.kept.document().pod.clone(), self.ctx.clock.now());
                self.save(None);
            }
            Input::Delete { grace, cause, suppress, recorded } => {
                if let Some((file, digest)) = suppress {
                    self.kept.claim = Claim { file, digest, suppressed: true, ..self.kept.claim.clone() };
                }
                self.apply(Event::Delete { cause, grace });
                self.record(recorded);
                if let (Some(sandbox), SandboxState::Removing { .. }) = (&self.sandbox, self.machine.observed().sandbox)
                {
                    sandbox.order(Order::Remove { deleted: true, volumes: true });
                }
            }
            Input::Restart { recorded } => {
                self.kept.ended = None;
                self.apply(Event::Restart);
                self.record(Some(recorded));
            }
            Input::Saved(number, result) => self.saved(number, result),
            Input::Sandbox(number, word) => self.heard(number, word),
            Input::Prepared { container, attempt, sandbox, result } => {
                self.prepared(container, attempt, sandbox, result);
            }
            Input::Probed { container, attempt, kind, outcome } => {
                self.apply(Event::Probed { container, attempt, kind, outcome });
            }
            Input::Hooked { container, attempt, kind, failure } => {
                self.hooks.remove(&(container, attempt, kind));
                self.apply(Event::Hooked { container, attempt, kind, failure: failure.clone() });
                if let Some(id) = self.id(container, attempt) {
                    self.say(&Request::HookDone { id, kind: hook::wire(kind), failure });
                }
            }
            Input::OverLimit(message) => self.apply(Event::Evict { message }),
            Input::Look(reply) => {
                // Whoever asked may have gone.
                let told = self.sandbox.as_ref().map(Handle::told).unwrap_or_default();
                drop(reply.send(Snapshot { kept: self.kept.clone(), machine: self.machine.clone(), told }));
            }
        }
        true
    }

    pub(super) fn apply(&mut self, event: Event) {
        let now = self.ctx.clock.now();
        self.machine.apply(event, now);
    }

    fn heard(&mut self, number: u32, word: Word) {
        if self.sandbox.as_ref().is_none_or(|s| s.number != number) {
            return;
        }
        match word {
            Word::Up { created_at, pid, instances, memo: _, max_request } => {
                let again = self.sandbox.as_mut().is_some_and(|s| {
                    s.max_request = max_request;
                    s.pid.replace(pid).is_some()
                });
                self.apply(Event::SandboxReady { number, created_at });
                for record in &instances {
                    self.instance(record);
                }
                if again {
                    self.repeat_lost(&instances);
                }
                // Their answers may have been lost with the connection.
                for (_, (container, attempt, kind)) in std::mem::take(&mut self.execs) {
                    self.apply(Event::Probed { container, attempt, kind, outcome: ProbeOutcome::Cut });
                }
                self.measure();
            }
            Word::Said(proto::Event::Instance(record)) => self.instance(&record),
            Word::Said(proto::Event::ExecDone { seq, result, output }) => self.exec_done(seq, &result, &output),
            // The sandbox's task handles these itself.
            Word::Said(proto::Event::State { .. } | proto::Event::Failed { .. }) => {}
            Word::Failed(message) => {
                self.forget_sandbox();
                self.apply(Event::SandboxFailed { number, message });
            }
            Word::Gone(completed) => {
                self.forget_sandbox();
                for record in &completed {
                    self.instance(record);
                }
                self.apply(Event::SandboxGone { number });
            }
        }
    }

    /// After a broken connection: what the shim was told in vain is told again, or counts as not done. Else the machine
    /// would wait for answers that never come.
    fn repeat_lost(&mut self, instances: &[Record]) {
        self.remembered = (Memo::default(), Fares::new());
        let observed = self.machine.observed().clone();
        for (container, known) in observed.containers.iter().enumerate() {
            let number = observed.sandbox.number();
            let Some(newest) = known.instances.last().filter(|n| n.is_live() && n.sandbox == number) else { continue };
            let attempt = newest.attempt;
            if self.preparing.contains_key(&(container, attempt)) {
                continue;
            }
            let Some(id) = self.id(container, attempt) else { continue };
            let Some(record) = instances.iter().find(|r| r.id == id) else {
                let (reason, message) = ("RunContainerError".to_owned(), "the shim never heard of it".to_owned());
                self.apply(Event::StartFailed { container, attempt, reason, message });
                continue;
            };
            self.repeat_hooks(container, newest, record);
            if newest.signaled_at.is_some() && record.signaled.is_none() {
                let cause = newest.cause.as_ref().map(records::wire_cause);
                self.say(&Request::Signal { id: id.clone(), signal: stop_signal(newest), cause });
            }
            if newest.killed_at.is_some() && record.killed.is_none() {
                let cause = newest.cause.as_ref().map(records::wire_cause);
                self.say(&Request::Kill { id, cause });
            }
        }
    }

    fn forget_sandbox(&mut self) {
        self.sandbox = None;
        self.hooks.clear();
        self.preparing.clear();
        self.execs.clear();
        self.remembered = (Memo::default(), Fares::new());
        if let Some(measuring) = self.measuring.take() {
            measuring.abort();
        }
    }

    fn instance(&mut self, record: &Record) {
        if let Some((container, instance)) = records::instance(record, self.machine.spec(), &self.ctx.clock) {
            if let Some(message) = records::refusal(record) {
                let (attempt, reason) = (instance.attempt, "CreateContainerError".to_owned());
                return self.apply(Event::StartFailed { container, attempt, reason, message });
            }
            if !instance.is_live() {
                self.hooks.retain(|(of, attempt, _), _| (*of, *attempt) != (container, instance.attempt));
            }
            self.apply(Event::Instance { container, instance });
        }
    }

    fn carry_out(&mut self, step: &Step) {
        match *step {
            Step::CreateSandbox { number } => {
                let sandbox = Sandbox {
                    ctx: Arc::clone(&self.ctx),
                    document: Arc::clone(self.kept.document()),
                    paths: self.paths.clone(),
                    cgroup: setup::pod_cgroup(&self.ctx, self.machine.spec()),
                    number,
                    first: self.machine.observed().is_fresh(),
                };
                self.sandbox = Some(sandbox::start(sandbox, Origin::Made, self.sender.clone(), Input::Sandbox));
            }
            Step::RemoveSandbox { number, last } => match &self.sandbox {
                Some(sandbox) if sandbox.number == number => {
                    let observed = self.machine.observed();
                    // What hangs in the kernel may be at work on them.
                    let volumes = last && !observed.any_live();
                    sandbox.order(Order::Remove { deleted: observed.deletion.is_some(), volumes });
                }
                _ => {
                    self.apply(Event::SandboxGone { number });
                    self.answered = true;
                }
            },
            Step::Start { container, attempt, restart_delay } => self.start(container, attempt, restart_delay),
            Step::Signal { container, attempt, ref cause } => {
                let instances = self.machine.observed().containers[container].instances.iter();
                let signal = instances.rev().find(|i| i.attempt == attempt).map_or(signal::SIGTERM, stop_signal);
                let cause = Some(records::wire_cause(cause));
                self.tell_instance(container, attempt, |id| Request::Signal { id, signal, cause });
            }
            Step::Hook { container, attempt, kind, ref cause } => self.hook(container, attempt, kind, cause.as_ref()),
            Step::Kill { container, attempt } => {
                let instances = self.machine.observed().containers[container].instances.iter();
                let cause = instances.rev().find(|i| i.attempt == attempt).and_then(|i| i.cause.as_ref());
                let cause = cause.map(records::wire_cause);
                self.tell_instance(container, attempt, |id| Request::Kill { id, cause })
            }
            Step::Probe { container, attempt, kind } => self.probe(container, attempt, kind),
        }
    }

    pub(super) fn id(&self, container: usize, attempt: u32) -> Option<InstanceId> {
        let container = self.machine.spec().containers.get(container)?.name.clone();
        Some(InstanceId { container, attempt })
    }

    fn start(&mut self, container: usize, attempt: u32, restart_delay: Duration) {
        let Some(sandbox) = &self.sandbox else { return };
        self.preparing.insert((container, attempt), Vec::new());
        self.wanted.push(start::Wanted {
            ctx: Arc::clone(&self.ctx),
            document: Arc::clone(self.kept.document()),
            paths: self.paths.clone(),
            pod_cgroup: sandbox.cgroup.clone(),
            container,
            attempt,
            restart_delay,
            known: self.machine.observed().containers[container].instances.iter().map(|i| i.attempt).collect(),
        });
    }

    /// Prepares what a plan starts: one after the other, so that the shim is asked in the plan's order.
    fn prepare(&mut self) {
        let Some(number) = self.sandbox.as_ref().map(|s| s.number).filter(|_| !self.wanted.is_empty()) else { return };
        let (wanted, sender) = (std::mem::take(&mut self.wanted), self.sender.clone());
        tokio::spawn(async move {
            for wanted in wanted {
                let (container, attempt) = (wanted.container, wanted.attempt);
                let result = start::request(wanted).await;
                // The worker may have ended with the agent.
                drop(sender.send(Input::Prepared { container, attempt, sandbox: number, result }));
            }
        });
    }

    /// Watches the sizes of disk volumes that have a limit, as long as the sandbox lives.
    fn measure(&mut self) {
        if self.measuring.is_some() || !volumes::has_limits(self.machine.spec()) {
            return;
        }
        let (document, paths, sender) = (Arc::clone(self.kept.document()), self.paths.clone(), self.sender.clone());
        let task = tokio::spawn(async move {
            let mut gauge = volumes::Gauge::default();
            // With this task ends the measurement as well.
            let _stop = StopOnDrop(gauge.stop());
            let mut took = Duration::ZERO;
            loop {
                tokio::time::sleep(MEASURE_EVERY.max(took * MEASURE_SHARE)).await;
                let Ok(_turn) = MEASURING.acquire().await else { return };
                let (document, paths, begun) = (Arc::clone(&document), paths.clone(), Instant::now());
                let measured = tokio::task::spawn_blocking(move || {
                    let over = gauge.over_limit(&document.pod, &paths);
                    (over, gauge)
                });
                let Ok((over, returned)) = measured.await else { return };
                (gauge, took) = (returned, begun.elapsed());
                if let Some(message) = over {
                    drop(sender.send(Input::OverLimit(message)));
                    return;
                }
            }
        });
        self.measuring = Some(task.abort_handle());
    }

    fn remember(&mut self, plan: &Plan) {
        if self.sandbox.as_ref().is_none_or(|s| s.pid.is_none()) {
            return;
        }
        let fares = ledger::to_keep(self.machine.spec(), self.machine.observed(), &self.ctx.clock);
        if (&plan.memo, &fares) == (&self.remembered.0, &self.remembered.1) {
            return;
        }
        match serde_json::to_string(&plan.memo) {
            Ok(memo) => self.say(&Request::Remember { memo, health: fares.clone() }),
            Err(error) => tracing::error!(%error, "probe verdicts cannot be kept"),
        }
        self.remembered = (plan.memo.clone(), fares);
    }

    /// What was found, before anything is done about it.
    fn show_as_found(&mut self) {
        let now = self.ctx.clock.now();
        let mut look = self.machine.clone();
        let plan = look.plan(now);
        self.show(&plan.status, now);
    }

    fn publish(&mut self, plan: &Plan, now: Time) {
        self.show(&plan.status, now);
        for notice in &plan.notices {
            self.tell(notice, now);
        }
    }

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
        self.ctx.store.record_event(publish::event(spec, notice, now));
    }

    fn show(&mut self, status: &PodStatus, now: Time) {
        if self.shown.as_ref().is_some_and(|(shown, kept)| shown == status && *kept == self.kept) {
            return;
        }
        let text = status_value(status);
        let pod = publish::pod(&self.kept, &self.ctx.fixed.node_name, &text);
        if let Some(reports) = &mut self.reports {
            reports.live(self.machine.spec(), status, self.kept.deletion.is_some());
        }
        if let Err(error) = self.ctx.store.put_pod(pod, now) {
            tracing::error!(%error, "a pod could not be shown");
        }
        self.shown = Some((status.clone(), self.kept.clone()));
    }
}

pub(super) fn status_value(status: &PodStatus) -> Value {
    serde_json::to_value(status).unwrap_or_else(|error| {
        tracing::error!(%error, "a status cannot be written as JSON");
        Value::Null
    })
}
