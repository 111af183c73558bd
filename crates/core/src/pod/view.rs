//! Questions about a pod that more than one decision asks.

use std::time::Duration;

use super::backoff::Curve;
use super::observe::{ContainerObserved, Instance, InstanceState, Observed, Sandbox, succeeded};
use super::rules;
use super::spec::{Container, PodSpec, Probe, RestartPolicy, Role, StartGate};
use super::stage::{Stage, stage};
use crate::ledger::{Asker, Cause, Outcome};
use crate::time::Time;

/// What the node sets for all its pods.
#[derive(Debug, Clone, PartialEq)]
pub struct NodePolicy {
    /// `sidecarStartGate`: for pods without the annotation.
    pub start_gate: StartGate,
    /// `crashLoopBackOff`.
    pub crash_backoff: Curve,
    /// The node's addresses, the preferred one first: what pods in its network have as well.
    pub host_ips: Vec<String>,
}

/// A pod at one moment.
#[derive(Clone, Copy)]
pub(super) struct View<'a> {
    pub(super) spec: &'a PodSpec,
    pub(super) policy: &'a NodePolicy,
    pub(super) observed: &'a Observed,
    pub(super) now: Time,
    /// Instances of the present sandbox that were asked for before count for nothing (`RestartAllContainers`).
    pub(super) epoch: Option<Time>,
}

/// Why an instance is stopped on its own account, and how long it has.
pub(super) struct Doom {
    pub(super) cause: Cause,
    pub(super) grace: Duration,
}

impl<'a> View<'a> {
    /// The postStart hook of an instance. With the instance it ends too: what was not over then will never be.
    pub(super) fn post_start(self, i: usize, instance: &Instance) -> Stage {
        let hook = self.spec.containers[i].lifecycle.post_start.as_ref();
        let now = instance.finished_at().map_or(self.now, |end| end.min(self.now));
        stage(hook, instance.post_start.as_ref(), now)
    }

    /// The preStop hook of an instance.
    pub(super) fn pre_stop(self, i: usize, instance: &Instance) -> Stage {
        stage(self.spec.containers[i].lifecycle.pre_stop.as_ref(), instance.pre_stop.as_ref(), self.now)
    }

    /// Index, spec and knowledge of every container, in spec order.
    pub(super) fn containers(self) -> impl DoubleEndedIterator<Item = (usize, &'a Container, &'a ContainerObserved)> {
        self.spec.containers.iter().zip(&self.observed.containers).enumerate().map(|(i, (c, o))| (i, c, o))
    }

    pub(super) fn mains(self) -> impl Iterator<Item = (usize, &'a Container, &'a ContainerObserved)> {
        self.containers().filter(|(_, c, _)| c.role == Role::Main)
    }

    /// How many entries `initContainers` has; they come first.
    pub(super) fn init_count(self) -> usize {
        self.spec.containers.iter().take_while(|c| c.role != Role::Main).count()
    }

    /// Instances older than this belong to an earlier run of the pod, or to before a restart that was asked for.
    fn oldest_sandbox(self) -> u32 {
        self.observed.first_sandbox.max(self.observed.restart_below)
    }

    /// The sandbox whose records say how far the pod has come. One that is lost and will be replaced counts for nothing.
    pub(super) fn sandbox(self) -> u32 {
        match self.observed.sandbox {
            Sandbox::Gone { number } if self.replaces_sandbox() => number + 1,
            sandbox => sandbox.number(),
        }
    }

    /// The newest instance of a container in the present sandbox: its record, in kubelet's terms.
    pub(super) fn record(self, container: usize) -> Option<&'a Instance> {
        let sandbox = self.sandbox();
        let newest = self.observed.containers[container].instances.last();
        newest.filter(|i| i.sandbox == sandbox && !self.is_superseded(i))
    }

    /// Whether an instance is from before the last restart of all containers.
    pub(super) fn is_superseded(self, instance: &Instance) -> bool {
        let of_this = instance.sandbox == self.observed.sandbox.number();
        of_this && self.epoch.is_some_and(|epoch| instance.requested_at <= epoch)
    }

    /// The newest instance of a container in this run of the pod, in whichever sandbox.
    pub(super) fn newest(self, container: usize) -> Option<&'a Instance> {
        let oldest = self.oldest_sandbox();
        let newest = self.observed.containers[container].instances.last();
        newest.filter(|i| i.sandbox >= oldest && !self.is_superseded(i))
    }

    /// Whether any container has a process, or may have one soon.
    pub(super) fn any_live(self) -> bool {
        self.observed.any_live()
    }

    /// Whether something is left of the time before the last restart of all containers.
    pub(super) fn any_superseded_live(self) -> bool {
        self.observed.containers.iter().any(|c| c.instances.iter().any(|n| n.is_live() && self.is_superseded(n)))
    }

    /// Whether a main has a record in this sandbox: then the pod has been initialised, whatever became of its inits.
    pub(super) fn main_has_record(self) -> bool {
        self.mains().any(|(i, _, _)| self.record(i).is_some())
    }

    /// Whether every entry of `initContainers` lets the mains start.
    pub(super) fn initialized(self) -> bool {
        self.main_has_record() || (0..self.init_count()).all(|i| self.passed(i))
    }

    /// Whether what follows entry `i` of `initContainers` may start, as far as `i` is concerned. It gates once: with a
    /// record behind it, `i` has been passed.
    pub(super) fn passed(self, i: usize) -> bool {
        if self.main_has_record() || (i + 1..self.init_count()).any(|later| self.record(later).is_some()) {
            return true;
        }
        let Some(record) = self.record(i) else { return false };
        match self.spec.containers[i].role {
            Role::Init => succeeded(record),
            Role::Sidecar => self.gate_open(i, record),
            Role::Main => true,
        }
    }

    /// A sidecar's start gate: started and, unless the pod or the node asks for less, ready once.
    ///
    /// kubelet opens it at `started`. Here the promise is that a sidecar is ready before what depends on it starts.
    fn gate_open(self, i: usize, record: &Instance) -> bool {
        let container = &self.spec.containers[i];
        let probes = &self.observed.containers[i].probes;
        let has_run = match record.state {
            InstanceState::Starting => false,
            InstanceState::Running { .. } => true,
            InstanceState::Ended { started_at, .. } => started_at.is_some(),
        };
        let hooked = self.post_start(i, record) == Stage::Over;
        let started = match container.startup_probe {
            None => has_run && hooked,
            Some(_) => has_run && hooked && record.is_live() && probes.startup.verdict == Some(true),
        };
        let ready = container.readiness_probe.is_none() || self.gate() == StartGate::Started || probes.was_ready;
        started && ready
    }

    /// When sidecars of this pod let the next container start.
    pub(super) fn gate(self) -> StartGate {
        self.spec.start_gate.unwrap_or(self.policy.start_gate)
    }

    /// `started` of a container status: running, and past its startup probe.
    pub(super) fn is_started(self, i: usize) -> bool {
        let running = self.record(i).is_some_and(|r| matches!(r.state, InstanceState::Running { .. }));
        let container = &self.spec.containers[i];
        running
            && (container.startup_probe.is_none() || self.observed.containers[i].probes.startup.verdict == Some(true))
    }

    /// `ready` of a container status.
    pub(super) fn is_ready(self, i: usize) -> bool {
        let container = &self.spec.containers[i];
        if container.role == Role::Init {
            return self.record(i).is_some_and(succeeded);
        }
        let passes =
            container.readiness_probe.is_none() || self.observed.containers[i].probes.readiness.verdict == Some(true);
        self.is_started(i) && passes
    }

    /// Whether a main has ended for good.
    pub(super) fn done(self, i: usize) -> bool {
        self.newest(i).is_some_and(|n| !n.is_live() && !rules::restarts(self.spec, i, n))
    }

    /// A plain init that failed and is not repeated, and when. With its sandbox lost, one whose end nobody saw may run again.
    pub(super) fn failed_init(self) -> Option<Time> {
        let number = self.observed.sandbox.number();
        let counts =
            |n: &&Instance| n.sandbox == number && n.sandbox >= self.oldest_sandbox() && !self.is_superseded(n);
        let gone = matches!(self.observed.sandbox, Sandbox::Gone { .. });
        self.containers().filter(|(_, c, _)| c.role == Role::Init).find_map(|(i, _, known)| {
            let newest = known.instances.last().filter(counts)?;
            let InstanceState::Ended { finished_at, ref outcome, .. } = newest.state else { return None };
            let unseen = gone && *outcome == Outcome::Lost;
            (!succeeded(newest) && !unseen && !rules::restarts(self.spec, i, newest)).then_some(finished_at)
        })
    }

    /// When the pod's time is up. A run that has not begun and is not on disk has no end yet: told, it would be forgotten with the
    /// agent.
    pub(super) fn deadline(self) -> Option<Time> {
        let observed = self.observed;
        if observed.unsaved.is_some() && observed.sandbox.number() < observed.first_sandbox {
            return None;
        }
        self.spec.active_deadline.map(|d| (observed.accepted_at + d).max(observed.deadline_set_at))
    }

    /// Whether a sandbox that is gone is to be replaced.
    ///
    /// Not when something asks for the pod's end.
    /// Not under `Never` once anything ran in it, and not under `OnFailure` when no main is left to run.
    pub(super) fn replaces_sandbox(self) -> bool {
        let Sandbox::Gone { number } = self.observed.sandbox else { return false };
        let overdue = self.deadline().is_some_and(|d| d <= self.now);
        if overdue || self.observed.deletion.is_some() || self.observed.evicted.is_some() {
            return false;
        }
        if number < self.oldest_sandbox() {
            return true;
        }
        if self.failed_init().is_some() {
            return false;
        }
        let any_record = (0..self.spec.containers.len()).any(|i| self.newest(i).is_some());
        match self.spec.restart_policy {
            RestartPolicy::Always => true,
            // A main with a policy of its own may want to run all the same.
            RestartPolicy::Never if any_record => {
                self.mains().any(|(i, _, _)| self.newest(i).is_some_and(|n| rules::restarts(self.spec, i, n)))
            }
            RestartPolicy::Never => true,
            RestartPolicy::OnFailure => self.mains().any(|(i, _, _)| !self.done(i)),
        }
    }

    /// Why a running instance is to be stopped on its own account, if it is. What was decided once, stays.
    pub(super) fn doom(self, i: usize) -> Option<Doom> {
        let record = self.record(i).filter(|r| matches!(r.state, InstanceState::Running { .. }))?;
        let cause = match &record.cause {
            Some(cause) if cause.by.is_of_instance() => cause.clone(),
            Some(_) => return None,
            None => self.failed_probe(i).or_else(|| self.failed_hook(i, record))?,
        };
        let container = &self.spec.containers[i];
        let probe = match cause.by {
            Asker::LivenessProbe => container.liveness_probe.as_ref(),
            Asker::StartupProbe => container.startup_probe.as_ref(),
            _ => None,
        };
        let grace = probe.and_then(|p: &Probe| p.grace).unwrap_or(self.spec.grace);
        Some(Doom { cause, grace })
    }

    fn failed_probe(self, i: usize) -> Option<Cause> {
        let probes = &self.observed.containers[i].probes;
        let (by, state) = match (probes.liveness.verdict, probes.startup.verdict) {
            (Some(false), _) => (Asker::LivenessProbe, &probes.liveness),
            (_, Some(false)) => (Asker::StartupProbe, &probes.startup),
            _ => return None,
        };
        Some(Cause { by, text: state.failure.clone().unwrap_or_default() })
    }

    fn failed_hook(self, i: usize, record: &Instance) -> Option<Cause> {
        match self.post_start(i, record) {
            Stage::Failed(text) => Some(Cause { by: Asker::PostStart, text }),
            Stage::Due | Stage::Running(_) | Stage::Over => None,
        }
    }
}
