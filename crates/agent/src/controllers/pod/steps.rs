//! The steps of a pod's plan become orders to others.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use podwright_core::pod::observe::Event;
use podwright_core::pod::plan::{Plan, Step};
use podwright_core::signal;
use podwright_proto::Request;
use tokio::sync::Semaphore;

use super::sandbox_words::stop_signal;
use super::{PodController, PodEvent};
use crate::controllers::frame::Input;
use crate::node::sandbox::{self, Order, Origin, Sandbox};
use crate::node::{ledger, records, setup, start, volumes};

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

impl PodController {
    pub(super) fn step(&mut self, step: &Step) {
        match *step {
            Step::CreateSandbox { number } => {
                let sandbox = Sandbox {
                    ctx: Arc::clone(&self.desk.ctx),
                    document: Arc::clone(self.desk.kept.document()),
                    paths: self.paths.clone(),
                    cgroup: setup::pod_cgroup(&self.desk.ctx, self.machine.spec()),
                    number,
                    first: self.machine.observed().is_fresh(),
                };
                self.sandbox = Some(sandbox::start(sandbox, Origin::Made, self.desk.sender.clone(), |number, word| {
                    Input::Event(PodEvent::Sandbox(number, word))
                }));
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
            Step::Start { container, attempt, restart_delay } => self.start_instance(container, attempt, restart_delay),
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

    fn start_instance(&mut self, container: usize, attempt: u32, restart_delay: Duration) {
        let Some(sandbox) = &self.sandbox else { return };
        self.preparing.insert((container, attempt), Vec::new());
        self.wanted.push(start::Wanted {
            ctx: Arc::clone(&self.desk.ctx),
            document: Arc::clone(self.desk.kept.document()),
            paths: self.paths.clone(),
            pod_cgroup: sandbox.cgroup.clone(),
            container,
            attempt,
            restart_delay,
            known: self.machine.observed().containers[container].instances.iter().map(|i| i.attempt).collect(),
        });
    }

    /// Prepares what a plan starts: one after the other, so that the shim is asked in the plan's order.
    pub(super) fn prepare(&mut self) {
        let Some(number) = self.sandbox.as_ref().map(|s| s.number).filter(|_| !self.wanted.is_empty()) else { return };
        let (wanted, sender) = (std::mem::take(&mut self.wanted), self.desk.sender.clone());
        tokio::spawn(async move {
            for wanted in wanted {
                let (container, attempt) = (wanted.container, wanted.attempt);
                let result = start::request(wanted).await;
                // The worker may have ended with the agent.
                drop(sender.send(Input::Event(PodEvent::Prepared { container, attempt, sandbox: number, result })));
            }
        });
    }

    /// Watches the sizes of disk volumes that have a limit, as long as the sandbox lives.
    pub(super) fn measure(&mut self) {
        if self.measuring.is_some() || !volumes::has_limits(self.machine.spec()) {
            return;
        }
        let (document, paths, sender) =
            (Arc::clone(self.desk.kept.document()), self.paths.clone(), self.desk.sender.clone());
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
                    let over = gauge.over_limit(&document.spec, &paths);
                    (over, gauge)
                });
                let Ok((over, returned)) = measured.await else { return };
                (gauge, took) = (returned, begun.elapsed());
                if let Some(message) = over {
                    drop(sender.send(Input::Event(PodEvent::OverLimit(message))));
                    return;
                }
            }
        });
        self.measuring = Some(task.abort_handle());
    }

    pub(super) fn remember(&mut self, plan: &Plan) {
        if self.sandbox.as_ref().is_none_or(|s| s.pid.is_none()) {
            return;
        }
        let fares = ledger::to_keep(self.machine.spec(), self.machine.observed(), &self.desk.ctx.clock);
        if (&plan.memo, &fares) == (&self.remembered.0, &self.remembered.1) {
            return;
        }
        match serde_json::to_string(&plan.memo) {
            Ok(memo) => self.say(&Request::Remember { memo, health: fares.clone() }),
            Err(error) => tracing::error!(%error, "probe verdicts cannot be kept"),
        }
        self.remembered = (plan.memo.clone(), fares);
    }
}
