//! The little state around the decision of one pod.

use super::decide::{decide, goal};
use super::epoch::view_at;
use super::goal::{Goal, Stop, Why};
use super::observe::{
    ContainerObserved, Deletion, Event, HookEnd, HookKind, HookRun, Instance, InstanceState, Memo, Observed, ProbeKind,
    ProbeOutcome, ProbeState, Probes, Sandbox, StartFailure, Unsaved,
};
use super::plan::{Notice, Plan, Step};
use super::spec::{Container, Hook, PodSpec, Role};
use super::view::NodePolicy;
use super::{notice, probe, status};
use crate::ledger::{Health, Outcome};
use crate::time::Time;
use std::time::Duration;

/// A sandbox that is lost sooner than this after it stood counts as a failure to make one.
const SANDBOX_TRUSTED_AFTER: Duration = Duration::from_secs(10);

/// Instances of a container that are known, besides the first of the run: more than a shim tells of, so that a crash loop
/// of months costs no more than one of minutes.
const KNOWN_INSTANCES: usize = 10;

/// One pod: its spec, what is known of it, and what was handed out already.
#[derive(Debug, Clone)]
pub struct Machine {
    spec: PodSpec,
    policy: NodePolicy,
    observed: Observed,
    memo: Memo,
    notices: Vec<Notice>,
    /// The last instance of each container of which it was told that its successor is held back.
    held_back: Vec<Option<u32>>,
}

impl Machine {
    /// A pod as it was found. `memo` is what the shim kept for us; verdicts of instances that are not the newest are dropped.
    /// A request of a hook that was under way ended with the agent that made it. It is not repeated, and nobody knows how it
    /// would have ended: it counts as done.
    pub fn new(spec: PodSpec, policy: NodePolicy, mut observed: Observed, memo: Memo) -> Machine {
        observed.containers.resize(spec.containers.len(), ContainerObserved::default());
        for (container, known) in spec.containers.iter().zip(&mut observed.containers) {
            let Some(newest) = known.instances.last_mut() else { continue };
            give_up_requests(container, newest, observed.taken_up_at);
            if let Some(verdicts) = memo.verdicts.get(&container.name).filter(|v| v.attempt == newest.attempt) {
                known.probes.startup.verdict = verdicts.startup;
                known.probes.readiness.verdict = verdicts.readiness;
                known.probes.liveness.verdict = verdicts.liveness;
                known.probes.was_ready = verdicts.was_ready;
            }
        }
        let held_back = vec![None; spec.containers.len()];
        let notices = observed.unsaved.iter().filter_map(|u| u.error.as_deref()).map(notice::not_saved).collect();
        Machine { spec, policy, observed, memo, notices, held_back }
    }

    /// The pod's spec.
    pub fn spec(&self) -> &PodSpec {
        &self.spec
    }

    /// What is known.
    pub fn observed(&self) -> &Observed {
        &self.observed
    }

    /// Takes up a change that needs no new pod: labels, annotations, grace period, deadline.
    pub fn update(&mut self, spec: PodSpec, now: Time) {
        debug_assert_eq!(spec.uid, self.spec.uid, "another uid is another pod");
        if spec.active_deadline != self.spec.active_deadline {
            self.observed.deadline_set_at = now;
        }
        self.spec = spec;
    }

    /// Takes up changed settings of the node.
    pub fn set_policy(&mut self, policy: NodePolicy) {
        self.policy = policy;
    }

    /// Decides, and marks what it hands out: every step is handed out once.
    pub fn plan(&mut self, now: Time) -> Plan {
        let mut plan = decide(&self.spec, &self.policy, &self.observed, &self.memo, now);
        for step in &plan.steps {
            self.mark(step, now);
        }
        self.note_readiness(&plan, now);
        self.tell_back_offs(&plan);
        self.memo = plan.memo.clone();
        plan.notices = std::mem::take(&mut self.notices);
        plan
    }

    fn note_readiness(&mut self, plan: &Plan, now: Time) {
        let status = &plan.status;
        let shown = status.init_container_statuses.iter().chain(&status.container_statuses).flatten();
        for ((container, known), shown) in self.spec.containers.iter().zip(&mut self.observed.containers).zip(shown) {
            let runs = known.instances.last().is_some_and(|n| matches!(n.state, InstanceState::Running { .. }));
            if runs && container.role != Role::Init {
                known.health.set_ready(shown.ready, now);
            }
        }
    }

    fn tell_back_offs(&mut self, plan: &Plan) {
        let status = &plan.status;
        let all = status.init_container_statuses.iter().chain(&status.container_statuses).flatten();
        for (i, shown) in all.enumerate() {
            let waiting = shown.state.as_ref().and_then(|state| state.waiting.as_ref()?.reason.as_deref());
            let newest = self.observed.containers[i].instances.last().map(|n| n.attempt);
            if waiting == Some(status::CRASH_LOOP) && self.held_back[i] != newest {
                self.held_back[i] = newest;
                self.notices.push(notice::back_off(&self.spec, i));
            }
        }
    }

    fn mark(&mut self, step: &Step, now: Time) {
        self.notices.extend(notice::of_step(&self.spec, &self.observed, step));
        self.notices.extend(notice::of_tcp_hook(&self.spec, step));
        match *step {
            Step::CreateSandbox { number } => self.observed.sandbox = Sandbox::Creating { number },
            Step::RemoveSandbox { number, .. } => self.observed.sandbox = Sandbox::Removing { number },
            Step::Start { container, attempt, restart_delay } => {
                let sandbox = self.observed.sandbox.number();
                let known = &mut self.observed.containers[container];
                known.probes = Probes::default();
                known.health = Health::default();
                known.instances.push(Instance::starting(attempt, sandbox, restart_delay, now));
                self.forget_old(container);
            }
            Step::Signal { container, attempt, ref cause } => {
                if let Some(instance) = self.instance(container, attempt) {
                    instance.signaled_at.get_or_insert(now);
                    instance.cause.get_or_insert_with(|| cause.clone());
                }
            }
            Step::Hook { container, attempt, kind, ref cause } => {
                if let Some(instance) = self.instance(container, attempt) {
                    hook_run(instance, kind).get_or_insert(HookRun { begun: now, ended: None });
                    if let Some(cause) = cause {
                        instance.cause.get_or_insert_with(|| cause.clone());
                    }
                }
            }
            Step::Kill { container, attempt } => {
                if let Some(instance) = self.instance(container, attempt) {
                    instance.killed_at.get_or_insert(now);
                }
            }
            Step::Probe { container, kind, .. } => {
                let state = self.probe_state(container, kind);
                state.in_flight = true;
                state.last_attempt = Some(now);
            }
        }
    }

    fn instance(&mut self, container: usize, attempt: u32) -> Option<&mut Instance> {
        self.observed.containers.get_mut(container)?.instances.iter_mut().rfind(|i| i.attempt == attempt)
    }

    fn probe_state(&mut self, container: usize, kind: ProbeKind) -> &mut ProbeState {
        let probes = &mut self.observed.containers[container].probes;
        match kind {
            ProbeKind::Startup => &mut probes.startup,
            ProbeKind::Readiness => &mut probes.readiness,
            ProbeKind::Liveness => &mut probes.liveness,
        }
    }

    /// Takes an event in. Late and repeated ones change nothing.
    pub fn apply(&mut self, event: Event, now: Time) {
        match event {
            Event::SandboxReady { number, created_at } => {
                if self.observed.sandbox == (Sandbox::Creating { number }) {
                    self.observed.sandbox = Sandbox::Ready { number, created_at };
                }
            }
            Event::SandboxFailed { number, message } => self.sandbox_failed(number, message, now),
            Event::SandboxGone { number } => self.sandbox_gone(number, now),
            Event::Saving => {
                self.observed.unsaved.get_or_insert(Unsaved { since: now, error: None });
            }
            Event::NotSaved { message } => self.not_saved(message, now),
            Event::Saved => self.observed.unsaved = None,
            Event::Instance { container, instance } => self.instance_changed(container, instance),
            Event::StartFailed { container, attempt, reason, message } => {
                self.start_failed(container, attempt, reason, message, now);
            }
            Event::Probed { container, attempt, kind, outcome } => self.probed(container, attempt, kind, &outcome, now),
            Event::Hooked { container, attempt, kind, failure } => self.hooked(container, attempt, kind, failure, now),
            Event::Delete { cause, grace } => {
                let deadline = now + grace.unwrap_or(self.spec.grace).max(Duration::from_secs(1));
                let deletion = self.observed.deletion.get_or_insert(Deletion { cause, requested_at: now, deadline });
                deletion.deadline = deletion.deadline.min(deadline);
            }
            Event::Restart => self.restart(now),
            Event::Evict { message } => {
                self.observed.evicted.get_or_insert((now, message));
            }
        }
    }

    fn not_saved(&mut self, message: String, now: Time) {
        let waits = matches!(self.observed.sandbox, Sandbox::None | Sandbox::Gone { .. });
        let unsaved = self.observed.unsaved.get_or_insert(Unsaved { since: now, error: None });
        if waits && unsaved.error.is_none() {
            self.notices.push(notice::not_saved(&message));
        }
        unsaved.error = Some(message);
    }

    fn sandbox_failed(&mut self, number: u32, message: String, now: Time) {
        if self.observed.sandbox.number() != number {
            return;
        }
        self.notices.push(notice::sandbox_failed(&message));
        let count = self.observed.sandbox_failure.as_ref().map_or(1, |f| f.count.saturating_add(1));
        let reason = "CreatePodSandboxError".to_owned();
        self.observed.sandbox_failure = Some(StartFailure { at: now, reason, message, count });
        self.end_all(number, now);
        self.observed.sandbox = Sandbox::Gone { number };
    }

    fn sandbox_gone(&mut self, number: u32, now: Time) {
        if self.observed.sandbox.number() != number {
            return;
        }
        match self.observed.sandbox {
            Sandbox::Ready { created_at, .. } if now.since(created_at) >= SANDBOX_TRUSTED_AFTER => {
                self.notices.push(notice::sandbox_lost());
                self.observed.sandbox_failure = None;
            }
            Sandbox::Ready { .. } | Sandbox::Creating { .. } => {
                self.notices.push(notice::sandbox_lost());
                let count = self.observed.sandbox_failure.as_ref().map_or(1, |f| f.count.saturating_add(1));
                let reason = "SandboxChanged".to_owned();
                let message = "the pod's sandbox was lost soon after it was made".to_owned();
                self.observed.sandbox_failure = Some(StartFailure { at: now, reason, message, count });
            }
            Sandbox::None | Sandbox::Removing { .. } | Sandbox::Gone { .. } => {}
        }
        self.end_all(number, now);
        self.observed.sandbox = Sandbox::Gone { number };
    }

    /// Whatever ran in a sandbox that is gone, and of which nobody saw the end.
    fn end_all(&mut self, sandbox: u32, now: Time) {
        for known in &mut self.observed.containers {
            // A start that never came to an instance leaves nothing behind.
            known.instances.retain(|i| !(i.sandbox == sandbox && i.state == InstanceState::Starting));
            for instance in known.instances.iter_mut().filter(|i| i.sandbox == sandbox) {
                if let InstanceState::Running { started_at } = instance.state {
                    instance.state =
                        InstanceState::Ended { started_at: Some(started_at), finished_at: now, outcome: Outcome::Lost };
                }
            }
        }
    }

    fn instance_changed(&mut self, container: usize, mut instance: Instance) {
        let Some(known) = self.observed.containers.get_mut(container) else { return };
        let at = known.instances.partition_point(|i| i.attempt < instance.attempt);
        let before = known.instances.get(at).filter(|i| i.attempt == instance.attempt).cloned();
        if let Some(before) = &before {
            if !before.is_live() {
                return;
            }
            // The shim may not have got to a signal yet that was handed out here.
            instance.signaled_at = instance.signaled_at.or(before.signaled_at);
            instance.killed_at = instance.killed_at.or(before.killed_at);
            instance.cause = instance.cause.or_else(|| before.cause.clone());
            instance.post_start = later(instance.post_start, &before.post_start);
            instance.pre_stop = later(instance.pre_stop, &before.pre_stop);
            known.instances[at] = instance.clone();
        } else {
            known.instances.insert(at, instance.clone());
        }
        if instance.state != InstanceState::Starting {
            known.failure = None;
        }
        self.notices.extend(notice::of_change(&self.spec, container, before.as_ref(), &instance));
        self.forget_old(container);
    }

    fn forget_old(&mut self, container: usize) {
        let first_sandbox = self.observed.first_sandbox;
        let instances = &mut self.observed.containers[container].instances;
        let recent = instances.len().saturating_sub(KNOWN_INSTANCES);
        let first = instances.iter().position(|i| i.sandbox >= first_sandbox);
        let mut n = 0;
        instances.retain(|instance| {
            n += 1;
            n > recent || Some(n - 1) == first || instance.is_live()
        });
    }

    fn start_failed(&mut self, container: usize, attempt: u32, reason: String, message: String, now: Time) {
        let Some(known) = self.observed.containers.get_mut(container) else { return };
        known.instances.retain(|i| !(i.attempt == attempt && i.state == InstanceState::Starting));
        let count = known.failure.as_ref().map_or(1, |f| f.count.saturating_add(1));
        self.notices.push(notice::start_failed(&self.spec, container, &message));
        known.failure = Some(StartFailure { at: now, reason, message, count });
    }

    fn hooked(&mut self, container: usize, attempt: u32, kind: HookKind, failure: Option<String>, now: Time) {
        let Some(instance) = self.instance(container, attempt) else { return };
        if !instance.is_live() {
            return;
        }
        let before = instance.clone();
        let Some(run) = hook_run(instance, kind) else { return };
        run.ended.get_or_insert(HookEnd { at: now, failure });
        let after = instance.clone();
        self.notices.extend(notice::of_hooks(&self.spec, container, Some(&before), &after));
    }

    fn probed(&mut self, container: usize, attempt: u32, kind: ProbeKind, outcome: &ProbeOutcome, now: Time) {
        let Some(known) = self.observed.containers.get_mut(container) else { return };
        if known.instances.last().is_none_or(|n| n.attempt != attempt) {
            return;
        }
        let spec = &self.spec.containers[container];
        let (probe, state) = match kind {
            ProbeKind::Startup => (&spec.startup_probe, &mut known.probes.startup),
            ProbeKind::Readiness => (&spec.readiness_probe, &mut known.probes.readiness),
            ProbeKind::Liveness => (&spec.liveness_probe, &mut known.probes.liveness),
        };
        let Some(probe) = probe else { return };
        state.in_flight = false;
        // A startup verdict holds for the instance's life, and so does a failed liveness probe.
        let settled = match kind {
            ProbeKind::Startup => state.verdict.is_some(),
            ProbeKind::Liveness => state.verdict == Some(false),
            ProbeKind::Readiness => false,
        };
        if settled {
            return;
        }
        probe::count(probe, state, outcome);
        if let (ProbeOutcome::Failure(output), Some((false, in_a_row))) = (outcome, state.run) {
            known.health.failed(kind.name(), in_a_row, output, now);
        }
        known.probes.was_ready |= known.probes.readiness.verdict == Some(true);
        self.notices.extend(notice::of_probe(&self.spec, container, kind, outcome));
    }

    /// Ends this sandbox in order and makes another one; a pod that has ended begins a new run, with a new deadline. One that
    /// is about to end for good by its deadline or an eviction gets a new deadline as well: else it would end all the same.
    ///
    /// A pod that is being removed has nothing to be restarted for, and what it has come to stays.
    fn restart(&mut self, now: Time) {
        if self.observed.deletion.is_some() {
            return;
        }
        let number = self.observed.sandbox.number();
        let view = view_at(&self.spec, &self.policy, &self.observed, now);
        let (cut_short, stopped) = match goal(view) {
            Goal::Stop(Stop { why: Why::DeadlineExceeded | Why::Evicted, .. }) => (true, !view.any_live()),
            Goal::Stop(Stop { why: Why::Completed | Why::SandboxLost, .. }) => (false, !view.any_live()),
            Goal::Stop(Stop { why: Why::Deleted | Why::Restart | Why::RestartAll, .. }) | Goal::Run => (false, false),
        };
        let ended = stopped || matches!(self.observed.sandbox, Sandbox::None | Sandbox::Gone { .. });
        if ended {
            self.observed.first_sandbox = number + 1;
        }
        if ended || cut_short {
            self.observed.accepted_at = now;
            self.observed.evicted = None;
        }
        self.observed.restart_below = number + 1;
        self.observed.restart_at = Some(now);
        self.observed.sandbox_failure = None;
        for known in &mut self.observed.containers {
            known.failure = None;
        }
    }
}

fn hook_run(instance: &mut Instance, kind: HookKind) -> &mut Option<HookRun> {
    match kind {
        HookKind::PostStart => &mut instance.post_start,
        HookKind::PreStop => &mut instance.pre_stop,
    }
}

/// What is known of a hook: the new word, unless it is older than what is known here.
fn later(new: Option<HookRun>, known: &Option<HookRun>) -> Option<HookRun> {
    match (new, known) {
        (None, known) => known.clone(),
        (Some(HookRun { ended: None, .. }), Some(known)) if known.ended.is_some() => Some(known.clone()),
        (new, _) => new,
    }
}

fn give_up_requests(container: &Container, instance: &mut Instance, now: Time) {
    let hooks = [
        (&container.lifecycle.post_start, &mut instance.post_start),
        (&container.lifecycle.pre_stop, &mut instance.pre_stop),
    ];
    for (hook, run) in hooks {
        if let (Some(Hook::HttpGet(_)), Some(run)) = (hook, run) {
            run.ended.get_or_insert(HookEnd { at: now, failure: None });
        }
    }
}

#[cfg(test)]
#[path = "machine_tests.rs"]
mod tests;
