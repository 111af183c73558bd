//! The named invariants. `docs/simulation.md` explains each; a violation names it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use super::node::Pod;
use crate::ledger::{Asker, Cause, Outcome};
use crate::pod::observe::{Event, HookKind, HookRun, Instance, InstanceState, Observed, ProbeKind};
use crate::pod::plan::Step;
use crate::pod::spec::{Container, Hook, PodSpec, RestartAction, RestartPolicy, Role};
use crate::time::Time;

/// An invariant that did not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Its name.
    pub invariant: &'static str,
    /// What was seen.
    pub detail: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "invariant {} violated: {}", self.invariant, self.detail)
    }
}

impl std::error::Error for Violation {}

fn violated<T>(invariant: &'static str, detail: impl Into<String>) -> Result<T, Violation> {
    Err(Violation { invariant, detail: detail.into() })
}

/// What the checks remember by themselves, apart from the code they check.
#[derive(Default)]
pub(super) struct Checks {
    started: BTreeSet<(usize, usize, u32)>,
    /// End of grace of every deletion or restart that was asked for, by pod.
    graces: BTreeMap<usize, Vec<Time>>,
    deleted: BTreeSet<usize>,
    restarted: BTreeSet<usize>,
    /// When a rule asked for a restart of all containers of a pod last.
    all_restarted: BTreeMap<usize, Time>,
    /// Since when the present agent is there, unless it is the first.
    pub(super) agent_since: Option<Time>,
}

impl Checks {
    pub(super) fn asked(&mut self, event: &Event, pod: usize, now: Time, spec: &PodSpec) {
        let floor = Duration::from_secs(1);
        let mut grace = |d: Duration| self.graces.entry(pod).or_default().push(now + d.max(floor));
        match event {
            Event::Delete { grace: given, .. } => {
                grace(given.unwrap_or(spec.grace));
                self.deleted.insert(pod);
            }
            Event::Restart => {
                grace(spec.grace);
                self.restarted.insert(pod);
            }
            _ => {}
        }
    }

    /// After an instance has ended.
    pub(super) fn ended(&mut self, pod: &Pod, p: usize, c: usize, instance: &Instance, now: Time) {
        let InstanceState::Ended { outcome, .. } = &instance.state else { return };
        let code = outcome.exit_code();
        let rule = pod.spec.containers[c].restart_rules.iter().find(|rule| rule.matches(code));
        let all = rule.is_some_and(|rule| rule.action == RestartAction::RestartAllContainers);
        if all && instance.cause.is_none() && !never_ran(instance) {
            self.all_restarted.insert(p, now);
        }
    }

    pub(super) fn is_deleted(&self, p: usize) -> bool {
        self.deleted.contains(&p)
    }

    /// What an agent knows of an end is what it was.
    pub(super) fn exits_stay(&self, real: &[Vec<Instance>], known: &Observed, p: usize) -> Result<(), Violation> {
        for (c, (real, known)) in real.iter().zip(&known.containers).enumerate() {
            for known in &known.instances {
                let real = real.iter().find(|i| i.attempt == known.attempt);
                let outcome = |i: &Instance| match &i.state {
                    InstanceState::Ended { outcome, .. } => Some(outcome.clone()),
                    InstanceState::Starting | InstanceState::Running { .. } => None,
                };
                if let Some(told) = outcome(known)
                    && real.and_then(outcome) != Some(told.clone())
                {
                    let attempt = known.attempt;
                    return violated(
                        "exit-stays",
                        format!("pod {p}: the agent holds {told:?} for {c}/{attempt}: {real:?}"),
                    );
                }
            }
        }
        Ok(())
    }

    pub(super) fn saved_first(&self, step: &Step, p: usize, saved: bool) -> Result<(), Violation> {
        match step {
            Step::CreateSandbox { .. } if !saved => {
                violated("saved-first", format!("pod {p} gets a sandbox before it is on disk"))
            }
            _ => Ok(()),
        }
    }

    /// Until the disk has room again, what was to be removed long before is gone.
    pub(super) fn removal_went_on(&self, pod: &Pod, p: usize, now: Time, limit: Duration) -> Result<(), Violation> {
        let (Some(machine), None) = (&pod.machine, &pod.finished) else { return Ok(()) };
        let deletion = machine.observed().deletion.as_ref();
        let since = self.agent_since.unwrap_or(Time(0));
        if deletion.is_some_and(|deletion| deletion.deadline.max(since) + limit < now) {
            return violated("removal-does-not-wait", format!("pod {p} was to be gone, and waits for the disk"));
        }
        Ok(())
    }

    /// Before a step is carried out.
    pub(super) fn step(&mut self, pod: &Pod, p: usize, step: &Step, now: Time) -> Result<(), Violation> {
        match *step {
            Step::Start { container, attempt, .. } => self.start(pod, p, container, attempt, now),
            Step::Signal { container, attempt, ref cause } => self.signal(pod, p, container, attempt, cause, now),
            Step::Hook { container, attempt, kind, .. } => self.hook(pod, p, container, attempt, kind),
            Step::Probe { container, attempt, kind } => self.probe(pod, p, container, attempt, kind),
            Step::Kill { container, attempt } => self.kill(pod, p, container, attempt, now),
            Step::CreateSandbox { .. } if pod.shim.sandbox.is_some() => {
                violated("one-sandbox", format!("pod {p} asks for another sandbox"))
            }
            Step::CreateSandbox { .. } | Step::RemoveSandbox { .. } => Ok(()),
        }
    }

    fn start(&mut self, pod: &Pod, p: usize, c: usize, attempt: u32, now: Time) -> Result<(), Violation> {
        let name = &pod.spec.containers[c].name;
        let records = &pod.shim.records[c];
        if records.iter().any(|i| i.attempt >= attempt) {
            return violated("attempt-once", format!("pod {p} starts {name} as attempt {attempt} again"));
        }
        if records.iter().any(Instance::is_live) {
            return violated("one-instance", format!("pod {p} starts {name} beside itself"));
        }
        if self.deleted.contains(&p) {
            return violated("nothing-starts-in-a-stop", format!("pod {p} starts {name} after its deletion"));
        }
        let sandbox = pod.shim.sandbox.map_or(0, |(n, _)| n);
        let since = self.all_restarted.get(&p).copied();
        let here = |i: &&Instance| i.sandbox == sandbox && since.is_none_or(|at| i.requested_at > at);
        if let Some(last) = records.last().filter(here)
            && let InstanceState::Ended { finished_at, .. } = last.state
            && finished_at + last.restart_delay > now
            && !last.is_probe_killed()
        {
            return violated("back-off", format!("pod {p} starts {name} before its back-off is over"));
        }
        let of_before = |i: &Instance| i.is_live() && i.sandbox == sandbox && !here(&i);
        if pod.shim.records.iter().flatten().any(of_before) {
            let detail = format!("pod {p} starts {name} while something of before the restart of all still runs");
            return violated("restart-all-is-clean", detail);
        }
        self.started.insert((p, c, attempt));
        policy(pod, p, c, &here, self.restarted.contains(&p))?;
        order(pod, p, c, &here)
    }

    fn hook(&self, pod: &Pod, p: usize, c: usize, attempt: u32, kind: HookKind) -> Result<(), Violation> {
        let name = &pod.spec.containers[c].name;
        let Some(instance) = pod.shim.records[c].iter().find(|i| i.attempt == attempt) else {
            return violated("hook-once", format!("pod {p} runs a hook of {name} in an instance that does not exist"));
        };
        let run = match kind {
            HookKind::PostStart => &instance.post_start,
            HookKind::PreStop => &instance.pre_stop,
        };
        if run.is_some() {
            return violated("hook-once", format!("pod {p} runs the {kind:?} hook of {name}/{attempt} again"));
        }
        if kind == HookKind::PostStart && instance.stop_begun().is_some() {
            return violated(
                "no-post-start-in-a-stop",
                format!("pod {p} runs the postStart hook of {name} in its stop"),
            );
        }
        if kind == HookKind::PreStop && self.all_restarted.get(&p).is_some_and(|at| instance.requested_at <= *at) {
            return violated("restart-all-has-no-hooks", format!("pod {p} runs the preStop hook of {name}"));
        }
        Ok(())
    }

    fn probe(&self, pod: &Pod, p: usize, c: usize, attempt: u32, kind: ProbeKind) -> Result<(), Violation> {
        if kind == ProbeKind::Readiness {
            return Ok(());
        }
        let name = &pod.spec.containers[c].name;
        if self.deleted.contains(&p) {
            return violated("no-liveness-in-a-stop", format!("pod {p} probes {name} after its deletion"));
        }
        let instance = pod.shim.records[c].iter().find(|i| i.attempt == attempt);
        if instance.is_some_and(|i| i.stop_begun().is_some()) {
            return violated("no-liveness-in-a-stop", format!("pod {p} probes {name} while it is stopped"));
        }
        let unstarted = pod.spec.containers[c].startup_probe.is_some()
            && pod.stored.containers[c].probes.startup.verdict != Some(true);
        if kind == ProbeKind::Liveness && unstarted {
            return violated(
                "startup-comes-first",
                format!("pod {p} probes the liveness of {name} before it has started"),
            );
        }
        Ok(())
    }

    fn signal(&self, pod: &Pod, p: usize, c: usize, attempt: u32, cause: &Cause, now: Time) -> Result<(), Violation> {
        let container = &pod.spec.containers[c];
        let Some(instance) = pod.shim.records[c].iter().find(|i| i.attempt == attempt) else { return Ok(()) };
        let over = match cause.by {
            Asker::RestartRule => true,
            kind if kind.is_of_instance() => {
                self.grace_over(pod, p, now)
                    || own_grace(pod, c, kind).is_zero()
                    || instance.pre_stop.as_ref().is_some_and(|run| run.begun + own_grace(pod, c, kind) <= now)
            }
            _ => self.grace_over(pod, p, now),
        };
        if !over && hook_is_owed(container.lifecycle.pre_stop.as_ref(), instance.pre_stop.as_ref(), now) {
            let detail = format!("pod {p} signals {} before its preStop hook is through", container.name);
            return violated("pre-stop-comes-first", detail);
        }
        let alone = cause.by.is_of_instance() || self.grace_over(pod, p, now);
        if container.role != Role::Sidecar || alone {
            return Ok(());
        }
        let before = pod.spec.containers.iter().zip(&pod.shim.records).skip(c + 1);
        let all = cause.by == Asker::RestartRule;
        let matters = |role| role == Role::Main || (role == Role::Sidecar && !all);
        for (other, records) in before.filter(|(o, _)| matters(o.role)) {
            if records.last().is_some_and(Instance::is_live) {
                let detail = format!("pod {p} stops {} while {} still runs", container.name, other.name);
                return violated("sidecars-stop-last", detail);
            }
        }
        Ok(())
    }

    fn kill(&self, pod: &Pod, p: usize, c: usize, attempt: u32, now: Time) -> Result<(), Violation> {
        let name = &pod.spec.containers[c].name;
        let Some(instance) = pod.shim.records[c].iter().find(|i| i.attempt == attempt) else { return Ok(()) };
        let (Some(signaled), Some(begun)) = (instance.signaled_at, instance.stop_begun()) else { return Ok(()) };
        if now.since(signaled) < Duration::from_secs(2) {
            let detail = format!("pod {p} kills {name} {:?} after its signal", now.since(signaled));
            return violated("two-second-floor", detail);
        }
        let swept = self.all_restarted.get(&p).is_some_and(|at| instance.requested_at <= *at);
        let grace = match instance.cause.as_ref().map(|cause| cause.by) {
            Some(Asker::RestartRule) => return Ok(()),
            // A restart of all leaves no grace, also to what was on its way out for a reason of its own.
            Some(kind) if kind.is_of_instance() && swept => return Ok(()),
            Some(kind) if kind.is_of_instance() => own_grace(pod, c, kind).min(pod.spec.grace),
            _ => pod.spec.grace,
        };
        if !self.grace_over(pod, p, now) && now.since(begun) < grace {
            return violated("grace", format!("pod {p} kills {name} before its grace is over"));
        }
        Ok(())
    }

    /// Whether the grace of any stop that is under way has been used up, by the checks' own reckoning.
    fn grace_over(&self, pod: &Pod, p: usize, now: Time) -> bool {
        let grace = pod.spec.grace.max(Duration::from_secs(1));
        let asked = self.graces.get(&p).is_some_and(|g| g.iter().any(|end| *end <= now));
        let deadline = pod.spec.active_deadline.map(|d| pod.stored.accepted_at + d).filter(|at| *at <= now);
        asked || [deadline, ended_since(pod)].into_iter().flatten().any(|at| self.begun(pod, at) + grace <= now)
    }

    /// When a stop that had a reason since `since` began: with its first signal, or when there was an agent to send it.
    fn begun(&self, pod: &Pod, since: Time) -> Time {
        let sandbox = pod.shim.sandbox.map_or(0, |(n, _)| n);
        let instances = pod.shim.records.iter().flatten().filter(|i| i.sandbox == sandbox);
        let asked = instances.flat_map(|i| [i.signaled_at, i.pre_stop.as_ref().map(|run| run.begun)]);
        let asked = asked.flatten().filter(|at| *at >= since);
        let there = self.agent_since.map_or(since, |at| since.max(at));
        asked.min().map_or(there, |at| at.min(there))
    }

    pub(super) fn phase(&self, before: &str, after: &str) -> Result<(), Violation> {
        if matches!(before, "Succeeded" | "Failed") {
            return violated("terminal-phase-stays", format!("{before} became {after}"));
        }
        Ok(())
    }

    pub(super) fn finished(&self, pod: &Pod, p: usize) -> Result<(), Violation> {
        if pod.shim.sandbox.is_some() || pod.shim.records.iter().flatten().any(Instance::is_live) {
            return violated("nothing-left", format!("pod {p} is finished and still has processes or a sandbox"));
        }
        if !matches!(pod.phase.as_str(), "Succeeded" | "Failed") {
            return violated("terminal-at-the-end", format!("pod {p} is finished in phase {:?}", pod.phase));
        }
        let mains = || pod.spec.containers.iter().zip(&pod.shim.records).filter(|(c, _)| c.role == Role::Main);
        let all_zero = mains().all(|(_, r)| r.last().is_some_and(exited_zero));
        if pod.phase == "Succeeded" && !all_zero {
            return violated("no-false-success", format!("pod {p} Succeeded although a main did not leave with 0"));
        }
        let asked = self.deleted.contains(&p) || self.restarted.contains(&p);
        let undisturbed = !asked && pod.spec.active_deadline.is_none();
        let hooks_fail = mains().any(|(c, _)| c.lifecycle.post_start.is_some());
        if pod.phase == "Failed" && undisturbed && all_zero && !hooks_fail {
            return violated("sidecars-never-fail-a-job", format!("pod {p} Failed although every main left with 0"));
        }
        Ok(())
    }

    /// With nothing in the queue but time, a pod is over or something of it runs.
    pub(super) fn not_stuck(&self, pods: &[Pod]) -> Result<(), Violation> {
        for (p, pod) in pods.iter().enumerate() {
            let alive = pod.shim.records.iter().flatten().any(Instance::is_live);
            let waits = pod.stored.containers.iter().any(|c| c.failure.is_some());
            if let Some(what) = pod.disk.unwritten(&pod.shim) {
                return violated("all-is-written", format!("pod {p}: {what} is not on disk, and the disk has room"));
            }
            if pod.finished.is_none() && !alive && !waits {
                return violated("progress", format!("pod {p} is not over, and nothing of it runs: {:?}", pod.phase));
            }
            if pod.finished.is_none() && self.deleted.contains(&p) {
                return violated("deletion-ends", format!("pod {p} was deleted long ago and is still there"));
            }
        }
        Ok(())
    }
}

fn exited_zero(instance: &Instance) -> bool {
    matches!(instance.state, InstanceState::Ended { outcome: Outcome::Exited { code: 0, .. }, .. })
}

fn ran(instance: &Instance) -> bool {
    match instance.state {
        InstanceState::Running { .. } => true,
        InstanceState::Ended { started_at, .. } => started_at.is_some(),
        InstanceState::Starting => false,
    }
}

fn never_ran(instance: &Instance) -> bool {
    matches!(instance.state, InstanceState::Ended { outcome: Outcome::StartFailed { by_runtime: false, .. }, .. })
}

/// The grace of a stop that a probe or the postStart hook has caused.
fn own_grace(pod: &Pod, c: usize, kind: Asker) -> Duration {
    let container = &pod.spec.containers[c];
    let probe = match kind {
        Asker::LivenessProbe => container.liveness_probe.as_ref(),
        Asker::StartupProbe => container.startup_probe.as_ref(),
        _ => None,
    };
    probe.and_then(|probe| probe.grace).unwrap_or(pod.spec.grace)
}

/// Whether a hook has to be run, or waited for.
fn hook_is_owed(hook: Option<&Hook>, run: Option<&HookRun>, now: Time) -> bool {
    match (hook, run) {
        (None | Some(Hook::TcpSocket), _) => false,
        (Some(Hook::Sleep(time)), run) => !time.is_zero() && run.is_none_or(|run| run.begun + *time > now),
        // A request that went down with its agent is not waited for.
        (Some(Hook::HttpGet(_)), run) => run.is_none(),
        (Some(Hook::Exec { .. }), run) => run.is_none_or(|run| run.ended.is_none()),
    }
}

/// When the last main ended, or a plain init failed under `Never`.
fn ended_since(pod: &Pod) -> Option<Time> {
    let finished = |i: &Instance| match i.state {
        InstanceState::Ended { finished_at, .. } => Some(finished_at),
        InstanceState::Starting | InstanceState::Running { .. } => None,
    };
    let of = |role| pod.spec.containers.iter().zip(&pod.shim.records).filter(move |(c, _)| c.role == role);
    let never = |c: &Container| c.restart_policy.unwrap_or(pod.spec.restart_policy) == RestartPolicy::Never;
    let failed =
        |(c, r): (&Container, &Vec<Instance>)| r.last().filter(|i| never(c) && !exited_zero(i)).and_then(finished);
    let init = of(Role::Init).find_map(failed);
    // A main that is stopped on its own account may be the last one, and then the pod is stopped with it.
    let left = |i: &Instance| match &i.cause {
        Some(cause) if cause.by.is_of_instance() => i.stop_begun(),
        _ => finished(i),
    };
    let mains: Option<Vec<Time>> = of(Role::Main).map(|(_, r)| r.last().and_then(left)).collect();
    init.or_else(|| mains?.into_iter().max())
}

/// What a restart policy forbids. `here` tells which instances count: those of this sandbox since all were restarted last.
fn policy(pod: &Pod, p: usize, c: usize, here: &impl Fn(&&Instance) -> bool, restarted: bool) -> Result<(), Violation> {
    let container = &pod.spec.containers[c];
    let records = &pod.shim.records[c];
    if container.role == Role::Init && records.iter().filter(here).any(exited_zero) {
        return violated("init-runs-once", format!("pod {p} repeats init {} that succeeded", container.name));
    }
    let policy = container.restart_policy.unwrap_or(pod.spec.restart_policy);
    let Some(last) = records.last().filter(|i| container.role == Role::Main && !restarted && !is_ruled(container, i))
    else {
        return Ok(());
    };
    // What ran before a restart of all does not count, in whichever sandbox that was.
    let any_all = pod.spec.containers.iter().flat_map(|c| &c.restart_rules);
    if any_all.into_iter().any(|rule| rule.action == RestartAction::RestartAllContainers) && !here(&last) {
        return Ok(());
    }
    if policy == RestartPolicy::Never && ran(last) {
        return violated("never-means-never", format!("pod {p} restarts main {}", container.name));
    }
    if policy == RestartPolicy::OnFailure && exited_zero(last) && !last.is_probe_killed() && last.cause.is_none() {
        return violated("success-is-not-repeated", format!("pod {p} restarts main {} that succeeded", container.name));
    }
    Ok(())
}

/// Whether a rule of the container asks for a restart after this end.
fn is_ruled(container: &Container, instance: &Instance) -> bool {
    let InstanceState::Ended { outcome, .. } = &instance.state else { return false };
    container.restart_rules.iter().any(|rule| rule.matches(outcome.exit_code()))
}

/// What has to be before a container's first start in a sandbox.
fn order(pod: &Pod, p: usize, c: usize, here: &impl Fn(&&Instance) -> bool) -> Result<(), Violation> {
    let container = &pod.spec.containers[c];
    let earlier = pod.spec.containers.iter().zip(&pod.shim.records).take(c).filter(|(e, _)| e.role != Role::Main);
    let first = !pod.shim.records[c].iter().any(|i| here(&i));
    for (before, records) in earlier {
        let mut of_before = records.iter().filter(here);
        let passed = match before.role {
            Role::Init => of_before.any(exited_zero),
            Role::Sidecar | Role::Main => of_before.any(ran),
        };
        if !passed {
            let detail = format!("pod {p} starts {} before {} has come so far", container.name, before.name);
            return violated("start-order", detail);
        }
        let exec = matches!(before.lifecycle.post_start, Some(Hook::Exec { .. }));
        let hooked = |i: &Instance| i.post_start.as_ref().is_some_and(|run| run.ended.is_some());
        if first && exec && !records.iter().filter(here).any(hooked) {
            let detail =
                format!("pod {p} starts {} before the postStart hook of {} returned", container.name, before.name);
            return violated("post-start-gates", detail);
        }
    }
    Ok(())
}
