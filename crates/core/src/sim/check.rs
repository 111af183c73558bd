//! The named invariants. `docs/simulation.md` explains each; a violation names it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use super::world::{Pod, World};
use crate::pod::observe::{Event, Instance, InstanceState, Outcome};
use crate::pod::plan::Step;
use crate::pod::spec::{PodSpec, RestartPolicy, Role};
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
    /// Since when the present agent is there, unless it is the first.
    pub(super) agent_since: Option<Time>,
}

impl Checks {
    pub(super) fn asked(&mut self, event: &Event, pod: usize, now: Time, spec: &PodSpec) {
        let floor = Duration::from_secs(1);
        let mut grace = |d: Duration| self.graces.entry(pod).or_default().push(now + d.max(floor));
        match event {
            Event::Delete { grace: given } => {
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

    /// Before a step is carried out.
    pub(super) fn step(&mut self, pod: &Pod, p: usize, step: &Step, now: Time) -> Result<(), Violation> {
        match *step {
            Step::Start { container, attempt, .. } => self.start(pod, p, container, attempt, now),
            Step::Signal { container, .. } => self.signal(pod, p, container, now),
            Step::Kill { container, attempt } => self.kill(pod, p, container, attempt, now),
            Step::CreateSandbox { .. } if pod.shim.sandbox.is_some() => {
                violated("one-sandbox", format!("pod {p} asks for another sandbox"))
            }
            Step::CreateSandbox { .. } | Step::RemoveSandbox { .. } | Step::Probe { .. } => Ok(()),
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
        if let Some(last) = records.last().filter(|i| i.sandbox == sandbox)
            && let InstanceState::Ended { finished_at, .. } = last.state
            && finished_at + last.restart_delay > now
        {
            return violated("back-off", format!("pod {p} starts {name} before its back-off is over"));
        }
        self.started.insert((p, c, attempt));
        policy(pod, p, c, sandbox, self.restarted.contains(&p))?;
        order(pod, p, c, sandbox)
    }

    fn signal(&self, pod: &Pod, p: usize, c: usize, now: Time) -> Result<(), Violation> {
        let container = &pod.spec.containers[c];
        if container.role != Role::Sidecar || self.grace_over(pod, p, now) || startup_failed(pod, c) {
            return Ok(());
        }
        let before = pod.spec.containers.iter().zip(&pod.shim.records).skip(c + 1);
        for (other, records) in before.filter(|(o, _)| o.role != Role::Init) {
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
        match instance.signaled_at {
            Some(at) if now.since(at) < Duration::from_secs(2) => {
                violated("two-second-floor", format!("pod {p} kills {name} {:?} after its signal", now.since(at)))
            }
            Some(at) if !self.grace_over(pod, p, now) && !startup_failed(pod, c) && now.since(at) < pod.spec.grace => {
                violated("grace", format!("pod {p} kills {name} before its grace is over"))
            }
            _ => Ok(()),
        }
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
        let signals = instances.filter_map(|i| i.signaled_at).filter(|at| *at >= since);
        signals.min().unwrap_or_else(|| self.agent_since.map_or(since, |at| since.max(at)))
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
        if pod.phase == "Failed" && undisturbed && all_zero {
            return violated("sidecars-never-fail-a-job", format!("pod {p} Failed although every main left with 0"));
        }
        Ok(())
    }

    /// With nothing in the queue but time, a pod is over or something of it runs.
    pub(super) fn not_stuck(&self, world: &World) -> Result<(), Violation> {
        for (p, pod) in world.pods.iter().enumerate() {
            let alive = pod.shim.records.iter().flatten().any(Instance::is_live);
            let waits = pod.stored.containers.iter().any(|c| c.failure.is_some());
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

fn startup_failed(pod: &Pod, c: usize) -> bool {
    pod.stored.containers[c].probes.startup.verdict == Some(false)
}

/// When the last main ended, or a plain init failed under `Never`.
fn ended_since(pod: &Pod) -> Option<Time> {
    let finished = |i: &Instance| match i.state {
        InstanceState::Ended { finished_at, .. } => Some(finished_at),
        InstanceState::Starting | InstanceState::Running { .. } => None,
    };
    let of = |role| pod.spec.containers.iter().zip(&pod.shim.records).filter(move |(c, _)| c.role == role);
    let never = pod.spec.restart_policy == RestartPolicy::Never;
    let init =
        of(Role::Init).filter_map(|(_, r)| r.last()).filter(|i| !exited_zero(i) && never).filter_map(finished).next();
    let mains: Option<Vec<Time>> = of(Role::Main).map(|(_, r)| r.last().and_then(finished)).collect();
    init.or_else(|| mains?.into_iter().max())
}

/// What a restart policy forbids.
fn policy(pod: &Pod, p: usize, c: usize, sandbox: u32, restarted: bool) -> Result<(), Violation> {
    let container = &pod.spec.containers[c];
    let records = &pod.shim.records[c];
    let here = records.iter().filter(|i| i.sandbox == sandbox);
    if container.role == Role::Init && here.clone().any(exited_zero) {
        return violated("init-runs-once", format!("pod {p} repeats init {} that succeeded", container.name));
    }
    let ran_before = records.iter().any(ran);
    if container.role == Role::Main && pod.spec.restart_policy == RestartPolicy::Never && ran_before && !restarted {
        return violated("never-means-never", format!("pod {p} restarts main {}", container.name));
    }
    let done = container.role == Role::Main && pod.spec.restart_policy == RestartPolicy::OnFailure;
    if done && !restarted && records.last().is_some_and(|i| exited_zero(i) && i.signaled_at.is_none()) {
        return violated("success-is-not-repeated", format!("pod {p} restarts main {} that succeeded", container.name));
    }
    Ok(())
}

/// What has to be before a container's first start in a sandbox.
fn order(pod: &Pod, p: usize, c: usize, sandbox: u32) -> Result<(), Violation> {
    let container = &pod.spec.containers[c];
    let earlier = pod.spec.containers.iter().zip(&pod.shim.records).take(c).filter(|(e, _)| e.role != Role::Main);
    for (before, records) in earlier {
        let mut here = records.iter().filter(|i| i.sandbox == sandbox);
        let passed = match before.role {
            Role::Init => here.any(exited_zero),
            Role::Sidecar | Role::Main => here.any(ran),
        };
        if !passed {
            let detail = format!("pod {p} starts {} before {} has come so far", container.name, before.name);
            return violated("start-order", detail);
        }
    }
    Ok(())
}
