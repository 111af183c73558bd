//! The node: pods, shims, clock, queue.

use std::collections::BTreeMap;
use std::time::Duration;

use super::actor::{Actor, HookTurn, Start, Term};
use super::check::{Checks, Violation};
use super::node::{Due, Entry, OnDisk, Pod, Shim, What};
use super::random::Random;
use crate::ledger::{Asker, Cause, Outcome};
use crate::pod::observe::{
    Event, HookEnd, HookKind, HookRun, Instance, InstanceState, Memo, Observed, ProbeKind, ProbeOutcome, Sandbox,
};
use crate::pod::plan::Step;
use crate::pod::spec::{Hook, PodSpec, Role};
use crate::pod::{Machine, NodePolicy};
use crate::time::Time;

/// A node under simulation.
pub struct World {
    pub(super) now: Time,
    pub(super) pods: Vec<Pod>,
    policy: NodePolicy,
    queue: BTreeMap<(Time, u64), (usize, Due)>,
    serial: u64,
    pub(super) epoch: u32,
    pub(super) agent_up: bool,
    /// The disk takes no writes.
    pub(super) full: bool,
    steps: u64,
    steps_at_last_entry: u64,
    crash_at_steps: Vec<u64>,
    /// Chooses latencies and failures of the node itself; `None`: everything works at once.
    random: Option<Random>,
    pub(super) checks: Checks,
    /// Everything that happened.
    pub log: Vec<Entry>,
}

impl World {
    /// An empty node at a moment. `random` chooses latencies and failures; without it all works at once.
    pub fn new(now: Time, policy: NodePolicy, random: Option<Random>) -> World {
        World {
            now,
            pods: Vec::new(),
            policy,
            queue: BTreeMap::new(),
            serial: 0,
            epoch: 0,
            agent_up: true,
            full: false,
            steps: 0,
            steps_at_last_entry: 0,
            crash_at_steps: Vec::new(),
            random,
            checks: Checks::default(),
            log: Vec::new(),
        }
    }

    /// Adds a pod; one actor for each of its containers.
    pub fn add(&mut self, spec: PodSpec, actors: Vec<Actor>) -> usize {
        let n = spec.containers.len();
        let stored = Observed::new(self.now, n);
        let machine = Machine::new(spec.clone(), self.policy.clone(), stored.clone(), Memo::default());
        let shim = Shim { records: vec![Vec::new(); n], ..Shim::default() };
        self.pods.push(Pod {
            spec,
            actors,
            shim,
            stored,
            disk: OnDisk::default(),
            machine: Some(machine),
            finished: None,
            phase: String::new(),
            ready: vec![false; n],
            wake: None,
        });
        self.save(self.pods.len() - 1);
        self.after(Duration::ZERO, self.pods.len() - 1, Due::Wake);
        self.pods.len() - 1
    }

    /// The agent dies just before it carries out its `n`-th step.
    pub fn crash_before_step(&mut self, n: u64) {
        self.crash_at_steps.push(n);
    }

    /// The agent dies after a while.
    pub fn crash_after(&mut self, delay: Duration) {
        self.after(delay, 0, Due::CrashAgent);
    }

    /// A pod's shim is killed after a while.
    pub fn lose_shim_after(&mut self, delay: Duration, pod: usize) {
        self.after(delay, pod, Due::LoseShim);
    }

    /// A pod is deleted after a while.
    pub fn delete_after(&mut self, delay: Duration, pod: usize, grace: Option<Duration>) {
        self.after(delay, pod, Due::Delete { grace });
    }

    /// The virtual time.
    pub fn now(&self) -> Time {
        self.now
    }

    /// A pod is restarted by its user after a while.
    pub fn restart_after(&mut self, delay: Duration, pod: usize) {
        self.after(delay, pod, Due::Restart);
    }

    /// How many steps the agent has carried out until all was quiet.
    pub fn steps_until_quiet(&self) -> u64 {
        self.steps_at_last_entry
    }

    /// The phase a pod shows.
    pub fn phase(&self, pod: usize) -> &str {
        &self.pods[pod].phase
    }

    /// Whether a pod has come to its end.
    pub fn is_finished(&self, pod: usize) -> bool {
        self.pods[pod].finished.is_some()
    }

    /// Exit code of the newest instance of every main of a pod.
    pub fn main_exit_codes(&self, pod: usize) -> Vec<Option<i32>> {
        let code = |i: &Instance| match &i.state {
            InstanceState::Ended { outcome, .. } => Some(outcome.exit_code()),
            InstanceState::Starting | InstanceState::Running { .. } => None,
        };
        let pod = &self.pods[pod];
        let mains = pod.spec.containers.iter().zip(&pod.shim.records).filter(|(c, _)| c.role == Role::Main);
        mains.map(|(_, r)| r.last().and_then(code)).collect()
    }

    pub(super) fn after(&mut self, delay: Duration, pod: usize, due: Due) {
        self.serial += 1;
        self.queue.insert((self.now + delay, self.serial), (pod, due));
    }

    fn latency(&mut self, low: u64, high: u64) -> Duration {
        self.random.as_mut().map_or(Duration::ZERO, |r| r.millis(low, high))
    }

    fn chance(&mut self, percent: u64) -> bool {
        self.random.as_mut().is_some_and(|r| r.chance(percent))
    }

    pub(super) fn record(&mut self, pod: usize, what: What) {
        self.steps_at_last_entry = self.steps;
        self.log.push(Entry { at: self.now, pod, what });
    }

    /// Lets time pass until nothing has happened for as long as `quiet`, and at most until `end`.
    ///
    /// A retry that fails again is something; a probe that says the same again is not.
    pub fn run(&mut self, quiet: Duration, end: Time) -> Result<(), Violation> {
        while let Some(next) = self.queue.first_entry() {
            let (at, _) = *next.key();
            let last = self.log.last().map_or(self.now, |e| e.at);
            if at > end || at > last + quiet {
                break;
            }
            let (pod, due) = next.remove();
            self.now = at;
            self.happen(pod, due)?;
        }
        Ok(())
    }

    /// Whether anything but far timers is still to come.
    pub fn check_progress(&self) -> Result<(), Violation> {
        self.checks.not_stuck(&self.pods)
    }

    fn happen(&mut self, pod: usize, due: Due) -> Result<(), Violation> {
        match due {
            Due::SandboxUp { number, works } => self.sandbox_up(pod, number, works),
            Due::SandboxDown { number } => self.sandbox_down(pod, number),
            Due::Started { container, attempt } => self.started(pod, container, attempt),
            Due::Ended { container, attempt, outcome } => self.ended(pod, container, attempt, outcome),
            Due::HookDone { container, attempt, kind, failure, epoch } => {
                self.hook_done(pod, container, attempt, kind, failure, epoch);
            }
            Due::Answer { epoch, event } if epoch == self.epoch => {
                if let Event::StartFailed { container, .. } = event {
                    self.record(pod, What::StartFailed { container });
                }
                self.tell(pod, event);
            }
            Due::Answer { .. } => {}
            Due::Wake => {}
            Due::Save { epoch } if epoch == self.epoch => self.save(pod),
            Due::Save { .. } => {}
            Due::DiskFull => self.disk_full(),
            Due::DiskFree => self.disk_free()?,
            Due::CrashAgent => self.crash(),
            Due::StartAgent => return self.start_agent(),
            Due::LoseShim => self.lose_shim(pod),
            Due::Delete { grace } => self.ask(pod, What::Deleted, Event::Delete { cause: Asker::User.into(), grace }),
            Due::Restart => self.ask(pod, What::Restarted, Event::Restart),
        }
        self.sync(pod);
        self.decide(pod)?;
        self.sync(pod);
        Ok(())
    }

    /// A user's request: refused while the agent is down, or when the pod is over.
    fn ask(&mut self, pod: usize, what: What, event: Event) {
        if self.agent_up && self.pods[pod].finished.is_none() {
            self.record(pod, what);
            self.checks.asked(&event, pod, self.now, &self.pods[pod].spec);
            let known = &mut self.pods[pod];
            if matches!(event, Event::Restart) && known.stored.deletion.is_none() {
                // One that is over, and held up by what cannot be written yet, begins a new run.
                known.phase.clear();
            }
            self.tell(pod, Event::Saving);
            self.tell(pod, event);
            self.save(pod);
        }
    }

    fn tell(&mut self, pod: usize, event: Event) {
        let now = self.now;
        let pod = &mut self.pods[pod];
        if let Some(machine) = &mut pod.machine {
            machine.apply(event, now);
            pod.stored = machine.observed().clone();
        }
    }

    /// The worker: plan, carry out, publish.
    fn decide(&mut self, p: usize) -> Result<(), Violation> {
        let now = self.now;
        let pod = &mut self.pods[p];
        let Some(machine) = pod.machine.as_mut().filter(|_| pod.finished.is_none()) else { return Ok(()) };
        self.checks.exits_stay(&pod.shim.records, machine.observed(), p)?;
        let plan = machine.plan(now);
        let status_ready: Vec<bool> = {
            let statuses = plan.status.init_container_statuses.iter().chain(&plan.status.container_statuses);
            statuses.flatten().map(|s| s.ready).collect()
        };
        for (i, ready) in status_ready.into_iter().enumerate() {
            if ready != std::mem::replace(&mut self.pods[p].ready[i], ready) && ready {
                self.record(p, What::Ready { container: i });
            }
        }
        let phase = plan.status.phase.clone().unwrap_or_default();
        if phase != self.pods[p].phase {
            self.checks.phase(&self.pods[p].phase, &phase)?;
            self.pods[p].phase.clone_from(&phase);
            self.record(p, What::Phase(phase));
        }
        for step in &plan.steps {
            self.steps += 1;
            if self.crash_at_steps.contains(&self.steps) {
                self.crash();
                return Ok(());
            }
            self.carry_out(p, step)?;
        }
        // Like the memo in a real shim: gone with the agent's last words unless they got there.
        if self.pods[p].shim.sandbox.is_some() {
            self.pods[p].shim.memo = plan.memo.clone();
        }
        if let Some(at) = plan.wake_at.filter(|at| self.pods[p].wake != Some(*at)) {
            self.pods[p].wake = Some(at);
            self.after(at.since(now), p, Due::Wake);
        }
        if plan.finished {
            self.checks.finished(&self.pods[p], p)?;
            self.record(p, What::Finished);
            self.pods[p].finished = Some(plan);
        }
        Ok(())
    }

    fn carry_out(&mut self, p: usize, step: &Step) -> Result<(), Violation> {
        self.checks.step(&self.pods[p], p, step, self.now)?;
        self.checks.saved_first(step, p, self.is_saved(p))?;
        match *step {
            Step::CreateSandbox { number } => {
                let pod = &mut self.pods[p];
                pod.shim.sandbox = Some((number, None));
                pod.shim.last_number = number;
                pod.shim.memo = Memo::default();
                let works = !self.chance(3);
                let delay = self.latency(1, 40);
                self.after(delay, p, Due::SandboxUp { number, works });
            }
            Step::RemoveSandbox { number, .. } => {
                let delay = self.latency(1, 30);
                self.after(delay, p, Due::SandboxDown { number });
            }
            Step::Start { container, attempt, restart_delay } => self.start(p, container, attempt, restart_delay),
            Step::Signal { container, attempt, ref cause } => self.signal(p, container, attempt, cause),
            Step::Hook { container, attempt, kind, ref cause } => {
                self.hook(p, container, attempt, kind, cause.as_ref())
            }
            Step::Kill { container, attempt } => {
                let now = self.now;
                if let Some(instance) = self.live(p, container, attempt) {
                    instance.killed_at.get_or_insert(now);
                    self.record(p, What::Killed { container, attempt });
                    let outcome = Outcome::Signaled { signal: 9, oom: false };
                    self.after(Duration::from_millis(2), p, Due::Ended { container, attempt, outcome });
                }
            }
            Step::Probe { container, attempt, kind } => self.probe(p, container, attempt, kind),
        }
        Ok(())
    }

    fn live(&mut self, p: usize, container: usize, attempt: u32) -> Option<&mut Instance> {
        self.pods[p].shim.records[container].iter_mut().find(|i| i.attempt == attempt && i.is_live())
    }

    fn start(&mut self, p: usize, container: usize, attempt: u32, restart_delay: Duration) {
        let turn = self.pods[p].actors[container].turn(attempt);
        let delay = self.latency(2, 60);
        let epoch = self.epoch;
        if turn.start == Start::NoImage && self.chance(70) {
            let (reason, message) = ("ErrImagePull".to_owned(), "no such image".to_owned());
            let event = Event::StartFailed { container, attempt, reason, message };
            return self.after(delay, p, Due::Answer { epoch, event });
        }
        let Some((sandbox, Some(_))) = self.pods[p].shim.sandbox else { return };
        if self.full {
            let (reason, message) = ("CreateContainerError".to_owned(), "disk full".to_owned());
            let event = Event::StartFailed { container, attempt, reason, message };
            return self.after(delay, p, Due::Answer { epoch, event });
        }
        let instance = Instance::starting(attempt, sandbox, restart_delay, self.now);
        self.pods[p].shim.records[container].push(instance);
        let failed = |by_runtime| Outcome::StartFailed { by_runtime, message: "simulated".to_owned() };
        let due = match turn.start {
            Start::Runs | Start::NoImage => Due::Started { container, attempt },
            Start::NotPrepared => Due::Ended { container, attempt, outcome: failed(false) },
            Start::Refused => Due::Ended { container, attempt, outcome: failed(true) },
        };
        self.after(delay, p, due);
    }

    fn started(&mut self, p: usize, container: usize, attempt: u32) {
        let now = self.now;
        let turn = self.pods[p].actors[container].turn(attempt);
        let Some(instance) = self.live(p, container, attempt) else { return };
        instance.state = InstanceState::Running { started_at: now };
        let instance = instance.clone();
        self.record(p, What::Started { container, attempt });
        self.tell(p, Event::Instance { container, instance });
        if let Some(run) = turn.run {
            let outcome = Outcome::Exited { code: turn.code, oom: false };
            self.after(run, p, Due::Ended { container, attempt, outcome });
        }
    }

    fn turn_of_hook(&self, p: usize, container: usize, attempt: u32, kind: HookKind) -> (Option<Hook>, HookTurn) {
        let pod = &self.pods[p];
        let (lifecycle, turn) = (&pod.spec.containers[container].lifecycle, pod.actors[container].turn(attempt));
        match kind {
            HookKind::PostStart => (lifecycle.post_start.clone(), turn.post_start),
            HookKind::PreStop => (lifecycle.pre_stop.clone(), turn.pre_stop),
        }
    }

    /// The shim takes note that a hook begins, and runs it if it is a command. Requests are the agent's.
    fn hook(&mut self, p: usize, container: usize, attempt: u32, kind: HookKind, cause: Option<&Cause>) {
        let (now, epoch) = (self.now, self.epoch);
        let (hook, turn) = self.turn_of_hook(p, container, attempt, kind);
        let Some(instance) = self.live(p, container, attempt) else { return };
        let begun = match kind {
            HookKind::PostStart => &mut instance.post_start,
            HookKind::PreStop => &mut instance.pre_stop,
        };
        *begun = Some(HookRun { begun: now, ended: None });
        if let Some(cause) = cause {
            instance.cause.get_or_insert_with(|| cause.clone());
        }
        self.record(p, What::Hooked { container, attempt, kind });
        let epoch = match hook {
            Some(Hook::Exec { .. }) => None,
            Some(Hook::HttpGet(_)) => Some(epoch),
            Some(Hook::Sleep(_) | Hook::TcpSocket) | None => return,
        };
        let failure = turn.fails.then(|| "simulated".to_owned());
        if let Some(takes) = turn.takes {
            self.after(takes, p, Due::HookDone { container, attempt, kind, failure, epoch });
        }
    }

    fn hook_done(
        &mut self,
        p: usize,
        container: usize,
        attempt: u32,
        kind: HookKind,
        failure: Option<String>,
        epoch: Option<u32>,
    ) {
        let now = self.now;
        if epoch.is_some_and(|epoch| epoch != self.epoch) {
            return;
        }
        let Some(instance) = self.live(p, container, attempt) else { return };
        let run = match kind {
            HookKind::PostStart => &mut instance.post_start,
            HookKind::PreStop => &mut instance.pre_stop,
        };
        if let Some(run) = run {
            run.ended = Some(HookEnd { at: now, failure: failure.clone() });
        }
        let instance = instance.clone();
        self.record(p, What::HookDone { container, attempt, kind });
        match epoch {
            Some(_) => self.tell(p, Event::Hooked { container, attempt, kind, failure }),
            None => self.tell(p, Event::Instance { container, instance }),
        }
    }

    fn signal(&mut self, p: usize, container: usize, attempt: u32, cause: &Cause) {
        let now = self.now;
        let turn = self.pods[p].actors[container].turn(attempt);
        let Some(instance) = self.live(p, container, attempt) else { return };
        if instance.signaled_at.is_some() {
            return;
        }
        instance.signaled_at = Some(now);
        instance.cause.get_or_insert_with(|| cause.clone());
        self.record(p, What::Signaled { container, attempt });
        if let Term::Leaves { after, code } = turn.term {
            self.after(after, p, Due::Ended { container, attempt, outcome: Outcome::Exited { code, oom: false } });
        }
    }

    fn ended(&mut self, p: usize, container: usize, attempt: u32, outcome: Outcome) {
        let now = self.now;
        let Some(instance) = self.live(p, container, attempt) else { return };
        let started_at = match instance.state {
            InstanceState::Running { started_at } => Some(started_at),
            InstanceState::Starting | InstanceState::Ended { .. } => None,
        };
        let code = outcome.exit_code();
        instance.state = InstanceState::Ended { started_at, finished_at: now, outcome };
        let instance = instance.clone();
        self.record(p, What::Ended { container, attempt, code });
        self.checks.ended(&self.pods[p], p, container, &instance, now);
        self.tell(p, Event::Instance { container, instance });
    }

    fn probe(&mut self, p: usize, container: usize, attempt: u32, kind: ProbeKind) {
        let now = self.now;
        let turn = self.pods[p].actors[container].turn(attempt);
        let outcome = match self.live(p, container, attempt).map(|i| i.state.clone()) {
            Some(InstanceState::Running { started_at }) => {
                let age = now.since(started_at);
                let up = match kind {
                    ProbeKind::Startup => age >= turn.startup_after,
                    ProbeKind::Readiness => age >= turn.ready_after,
                    ProbeKind::Liveness => turn.live_until.is_none_or(|until| age < until),
                };
                if up { ProbeOutcome::Success } else { ProbeOutcome::Failure("not yet".to_owned()) }
            }
            _ => ProbeOutcome::Cut,
        };
        let (delay, epoch) = (self.latency(1, 20), self.epoch);
        self.after(delay, p, Due::Answer { epoch, event: Event::Probed { container, attempt, kind, outcome } });
    }

    fn sandbox_up(&mut self, p: usize, number: u32, works: bool) {
        let now = self.now;
        let shim = &mut self.pods[p].shim;
        if shim.sandbox.is_none_or(|(n, _)| n != number) {
            return;
        }
        if works {
            shim.sandbox = Some((number, Some(now)));
            self.record(p, What::SandboxUp { number });
            self.tell(p, Event::SandboxReady { number, created_at: now });
        } else {
            shim.sandbox = None;
            self.tell(p, Event::SandboxFailed { number, message: "simulated".to_owned() });
        }
    }

    fn sandbox_down(&mut self, p: usize, number: u32) {
        if self.pods[p].shim.sandbox.is_none_or(|(n, _)| n != number) {
            return;
        }
        if self.has_to_stay(p) {
            return self.after(Duration::from_secs(1), p, Due::SandboxDown { number });
        }
        self.lose_records(p);
        self.record(p, What::SandboxGone { number });
        self.tell(p, Event::SandboxGone { number });
    }

    /// The shim is gone: the kernel has killed all, nobody saw the ends; the agent, if there is one, writes that down.
    fn lose_records(&mut self, p: usize) {
        let now = self.now;
        let mut lost = Vec::new();
        let shim = &mut self.pods[p].shim;
        let number = shim.sandbox.take().map_or(0, |(number, _)| number);
        for (container, records) in shim.records.iter_mut().enumerate() {
            for instance in records.iter_mut().filter(|i| i.is_live()) {
                let started_at = match instance.state {
                    InstanceState::Running { started_at } => Some(started_at),
                    InstanceState::Starting | InstanceState::Ended { .. } => None,
                };
                instance.state = InstanceState::Ended { started_at, finished_at: now, outcome: Outcome::Lost };
                lost.push((container, instance.clone()));
            }
        }
        self.shim_has_gone(p, number);
        for (container, instance) in lost {
            let (attempt, code) = (instance.attempt, 137);
            self.record(p, What::Ended { container, attempt, code });
            self.tell(p, Event::Instance { container, instance });
        }
    }

    fn lose_shim(&mut self, p: usize) {
        let Some((number, _)) = self.pods[p].shim.sandbox else { return };
        self.record(p, What::ShimLost);
        self.lose_records(p);
        self.tell(p, Event::SandboxGone { number });
    }

    fn crash(&mut self) {
        if !self.agent_up {
            return;
        }
        self.agent_up = false;
        self.epoch += 1;
        self.record(0, What::AgentCrashed);
        self.agent_has_gone();
        let down = self.latency(10, 8000);
        self.after(down, 0, Due::StartAgent);
    }

    /// A new agent finds the shims and goes on.
    fn start_agent(&mut self) -> Result<(), Violation> {
        self.agent_up = true;
        self.checks.agent_since = Some(self.now);
        self.record(0, What::AgentStarted);
        for p in 0..self.pods.len() {
            let policy = self.policy.clone();
            if self.pods[p].finished.is_some() {
                continue;
            }
            let mut observed = self.found(p);
            let deleted = self.checks.is_deleted(p) && observed.deletion.is_none();
            let pod = &mut self.pods[p];
            observed.taken_up_at = self.now;
            observed.sandbox = match pod.shim.sandbox {
                Some((number, Some(created_at))) => Sandbox::Ready { number, created_at },
                Some((number, None)) => Sandbox::Creating { number },
                None if pod.shim.last_number == 0 => Sandbox::None,
                None => Sandbox::Gone { number: pod.shim.last_number },
            };
            let memo = pod.shim.memo.clone();
            pod.wake = None;
            pod.machine = Some(Machine::new(pod.spec.clone(), policy, observed, memo));
            if deleted {
                // Its manifest is gone, whatever the disk says.
                self.tell(p, Event::Delete { cause: Asker::ManifestRemoved.into(), grace: None });
                self.checks.asked(
                    &Event::Delete { cause: Asker::ManifestRemoved.into(), grace: None },
                    p,
                    self.now,
                    &self.pods[p].spec,
                );
            }
            if deleted || !self.is_saved(p) {
                self.tell(p, Event::Saving);
                self.save(p);
            }
        }
        for p in 0..self.pods.len() {
            if self.agent_up {
                self.decide(p)?;
                self.sync(p);
            }
        }
        Ok(())
    }
}
