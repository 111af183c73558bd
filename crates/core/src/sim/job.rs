//! Jobs under simulation: the real decision over fake pods, a state that is durable only once it is saved, an agent that dies before
//! any save or step, and power cuts. The invariants are named in `docs/simulation.md`.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::check::Violation;
use super::random::Random;
use crate::job::decide;
use crate::job::plan::{Plan, Step};
use crate::job::spec::{Action, FailureRule, JobSpec, On, Replacement, SuccessRule};
use crate::job::state::{JobState, PodEnd, PodSeen, Seen, Verdict};
use crate::manifest::{Format, Resource, read};
use crate::time::Time;

/// Virtual time a schedule gets at most: longer than any chain of back-offs that it can make.
const LENGTH: Duration = Duration::from_secs(40_000);
/// The exit code that a policy of the simulation ignores.
const IGNORED: i32 = 42;

/// What a seed stands for.
#[derive(Debug, Clone)]
pub struct JobSchedule {
    seed: u64,
    spec: JobSpec,
    mishaps: bool,
}

/// How it went.
#[derive(Debug, Clone, PartialEq)]
pub struct JobReport {
    /// Saves and steps of the agent.
    pub steps: u64,
    /// How the job ended, and its completed and failed indexes.
    pub outcome: (Option<(bool, String)>, String, String),
    /// The timeline, a line each.
    pub timeline: Vec<String>,
    /// An invariant that did not hold.
    pub violation: Option<Violation>,
}

impl JobSchedule {
    /// The schedule of a seed.
    pub fn new(seed: u64) -> JobSchedule {
        let mut random = Random::new(seed ^ 0x6a6f_6273);
        let indexed = random.chance(60);
        let completions = if !indexed && random.chance(25) { None } else { Some(count(&mut random, 0, 6)) };
        let per_index = (indexed && random.chance(50)).then(|| count(&mut random, 0, 2));
        let ignores = random.chance(30);
        let success = indexed && random.chance(20) && completions.is_some_and(|n| n > 1);
        let spec = JobSpec {
            uid: format!("uid-{seed}"),
            completions,
            parallelism: count(&mut random, 1, 4),
            indexed,
            backoff_limit: if per_index.is_some() { u32::MAX } else { count(&mut random, 0, 5) },
            backoff_limit_per_index: per_index,
            max_failed_indexes: (per_index.is_some() && random.chance(30)).then(|| count(&mut random, 0, 3)),
            active_deadline: random.chance(15).then(|| Duration::from_secs(5 + random.below(200))),
            ttl: random.chance(20).then(|| Duration::from_secs(random.below(60))),
            failure_policy: ignores.then(|| {
                let on = On::ExitCodes { container: None, one_of: true, codes: vec![IGNORED] };
                vec![FailureRule { action: Action::Ignore, on }]
            }),
            success_policy: success.then(|| vec![SuccessRule { indexes: None, count: Some(1) }]),
            replacement: if ignores || random.chance(30) {
                Replacement::Failed
            } else {
                Replacement::TerminatingOrFailed
            },
            ..plain()
        };
        JobSchedule { seed, spec, mishaps: random.chance(50) }
    }

    /// Whether the outcome hangs on nothing but the job's pods: then a crash of the agent may not change it.
    pub fn is_undisturbed(&self) -> bool {
        let spec = &self.spec;
        let timeless = spec.active_deadline.is_none() && spec.success_policy.is_none();
        // Without a limit per index, which failure is one too many hangs on what ran beside it.
        !self.mishaps && timeless && spec.backoff_limit_per_index.is_some() && spec.max_failed_indexes.is_none()
    }

    /// Runs it; the agent dies before each of these saves and steps.
    pub fn run(&self, crashes: &[u64]) -> JobReport {
        let mut world = World::new(self, crashes);
        let violation = world.run().err();
        let state = &world.saved;
        let verdict = state.verdict.as_ref().map(|verdict| (verdict.success, verdict.reason.clone()));
        JobReport {
            steps: world.steps,
            outcome: (verdict, state.completed.to_string(), state.failed_indexes.to_string()),
            timeline: world.log,
            violation,
        }
    }
}

/// What every job of the simulation has in common.
fn plain() -> JobSpec {
    let text = "{apiVersion: batch/v1, kind: Job, metadata: {name: job}, spec: {template: {spec: {restartPolicy: Never, \
                containers: [{name: main, image: simulated}]}}}}";
    match read(text, Format::Yaml).as_deref() {
        Ok([Resource::Job(document)]) => document.spec.clone(),
        other => unreachable!("a plain job is accepted: {other:?}"),
    }
}

fn count(random: &mut Random, low: u64, high: u64) -> u32 {
    u32::try_from(low + random.below(high - low + 1)).unwrap_or(0)
}

/// A pod, with what of it is durable.
struct Pod {
    index: Option<u32>,
    deleting: bool,
    end: Option<PodEnd>,
    /// When it ends by itself, and with which code.
    ends: (Time, i32),
}

#[derive(Debug, Clone)]
enum Due {
    Ends(String),
    Stopped(String),
    Wake,
    StartAgent,
    Crash,
    PowerCut,
    Delete,
    Suspend(bool),
    Parallelism(u32),
}

struct World<'a> {
    schedule: &'a JobSchedule,
    spec: JobSpec,
    now: Time,
    queue: BTreeMap<(Time, u64), Due>,
    serial: u64,
    random: Random,
    crashes: BTreeSet<u64>,
    steps: u64,
    /// On disk.
    saved: JobState,
    /// In the agent; `None`: it is down.
    agent: Option<(JobState, Seen)>,
    pods: BTreeMap<String, Pod>,
    /// How often each index was tried: a pod's behaviour follows from it.
    tries: BTreeMap<Option<u32>, u64>,
    completed: BTreeSet<u32>,
    verdict: Option<Verdict>,
    most_parallel: u32,
    wake: Option<Time>,
    log: Vec<String>,
}

fn violated<T>(invariant: &'static str, detail: String) -> Result<T, Violation> {
    Err(Violation { invariant, detail })
}

impl<'a> World<'a> {
    fn new(schedule: &'a JobSchedule, crashes: &[u64]) -> World<'a> {
        let now = Time(1_700_000_000_000_000_000);
        let state = JobState::new(now);
        let mut world = World {
            schedule,
            spec: schedule.spec.clone(),
            now,
            queue: BTreeMap::new(),
            serial: 0,
            random: Random::new(schedule.seed.wrapping_mul(31)),
            crashes: crashes.iter().copied().collect(),
            steps: 0,
            saved: state.clone(),
            agent: Some((state, Seen::new())),
            pods: BTreeMap::new(),
            tries: BTreeMap::new(),
            completed: BTreeSet::new(),
            verdict: None,
            most_parallel: schedule.spec.parallelism,
            wake: None,
            log: Vec::new(),
        };
        world.after(Duration::ZERO, Due::Wake);
        if schedule.mishaps {
            world.plan_mishaps();
        }
        world
    }

    fn plan_mishaps(&mut self) {
        for _ in 0..self.random.below(5) {
            let at = self.random.millis(0, 120_000);
            let due = match self.random.below(6) {
                0 => Due::Crash,
                1 | 2 => Due::PowerCut,
                3 => Due::Delete,
                4 => {
                    let resumed = at + self.random.millis(100, 60_000);
                    self.after(resumed, Due::Suspend(false));
                    Due::Suspend(true)
                }
                _ => Due::Parallelism(count(&mut self.random, 1, 5)),
            };
            self.after(at, due);
        }
    }

    fn after(&mut self, delay: Duration, due: Due) {
        self.serial += 1;
        self.queue.insert((self.now + delay, self.serial), due);
    }

    fn note(&mut self, text: String) {
        let start = self.saved.accepted_at;
        self.log.push(format!("{:>9.3}s  {text}", self.now.since(start).as_secs_f64()));
    }

    fn run(&mut self) -> Result<(), Violation> {
        let end = self.now + LENGTH;
        while let Some(((at, _), due)) = self.queue.pop_first().filter(|((at, _), _)| *at <= end) {
            self.now = at;
            self.happen(due);
            self.look()?;
        }
        self.check_end()
    }

    fn happen(&mut self, due: Due) {
        match due {
            Due::Wake => {}
            Due::Ends(name) => self.end_by_itself(&name),
            Due::Stopped(name) => {
                // Some leave with 0 when they are told to stop: that says nothing about their work.
                let code = if self.random.chance(50) { 0 } else { 143 };
                self.end(&name, code, true);
            }
            Due::Crash => self.crash(),
            Due::PowerCut => {
                self.note("the power is cut".to_owned());
                self.crash();
                let running: Vec<String> =
                    self.pods.iter().filter(|(_, pod)| pod.end.is_none()).map(|(name, _)| name.clone()).collect();
                running.iter().for_each(|name| self.end(name, 137, false));
            }
            Due::StartAgent => {
                let seen = self.pods.iter().map(|(name, pod)| (name.clone(), seen(pod))).collect();
                self.agent.get_or_insert((self.saved.clone(), seen));
                self.wake = None;
                self.note("the agent starts".to_owned());
            }
            Due::Delete => {
                let live = self.pods.iter().filter(|(_, pod)| pod.end.is_none() && !pod.deleting);
                let live: Vec<String> = live.map(|(name, _)| name.clone()).collect();
                if !live.is_empty() && self.agent.is_some() {
                    let name = live[usize::try_from(self.random.below(live.len() as u64)).unwrap_or(0)].clone();
                    self.note(format!("somebody deletes {name}"));
                    self.delete(&name);
                }
            }
            Due::Suspend(value) => self.spec.suspend = value,
            Due::Parallelism(n) => {
                self.spec.parallelism = n;
                self.most_parallel = self.most_parallel.max(n);
            }
        }
    }

    fn end_by_itself(&mut self, name: &str) {
        let code = self.pods.get(name).filter(|pod| !pod.deleting).map(|pod| pod.ends.1);
        if let Some(code) = code {
            self.end(name, code, false);
        }
    }

    fn end(&mut self, name: &str, code: i32, stopped: bool) {
        let now = self.now;
        let Some(pod) = self.pods.get_mut(name).filter(|pod| pod.end.is_none()) else { return };
        let end = PodEnd {
            succeeded: code == 0,
            at: now,
            stopped,
            exits: vec![("main".to_owned(), code)],
            conditions: vec![],
        };
        pod.end = Some(end);
        self.note(format!("{name} ends with {code}"));
        self.tell(name);
    }

    fn tell(&mut self, name: &str) {
        if let (Some((_, known)), Some(pod)) = (&mut self.agent, self.pods.get(name)) {
            known.insert(name.to_owned(), seen(pod));
        }
    }

    fn delete(&mut self, name: &str) {
        let Some(pod) = self.pods.get_mut(name).filter(|pod| pod.end.is_none() && !pod.deleting) else { return };
        pod.deleting = true;
        self.tell(name);
        let grace = self.random.millis(1, 4000);
        self.after(grace, Due::Stopped(name.to_owned()));
    }

    fn crash(&mut self) {
        if self.agent.take().is_some() {
            self.note("the agent dies".to_owned());
            let down = self.random.millis(10, 8000);
            self.after(down, Due::StartAgent);
        }
    }

    /// Whether the agent dies before its next save or step.
    fn dies(&mut self) -> bool {
        self.steps += 1;
        let dies = self.crashes.contains(&self.steps);
        if dies {
            self.crash();
        }
        dies
    }

    /// The worker: decide, save, carry out, until nothing follows.
    fn look(&mut self) -> Result<(), Violation> {
        for _ in 0..1000 {
            let Some((state, known)) = &self.agent else { return Ok(()) };
            let plan = decide(&self.spec, state, known, self.now);
            if plan.state != *state {
                if self.dies() {
                    return Ok(());
                }
                self.save(&plan)?;
            }
            if plan.steps.is_empty() {
                if let Some(at) = plan.wake_at.filter(|at| self.wake != Some(*at)) {
                    self.wake = Some(at);
                    self.after(at.since(self.now), Due::Wake);
                }
                return Ok(());
            }
            for step in &plan.steps {
                if self.dies() {
                    return Ok(());
                }
                self.step(&plan, step)?;
            }
        }
        violated("comes-to-rest", "a decision is followed by another one for ever".to_owned())
    }

    fn save(&mut self, plan: &Plan) -> Result<(), Violation> {
        let now: BTreeSet<u32> = plan.state.completed.iter().collect();
        if !now.is_superset(&self.completed) {
            return violated("no-completion-lost", format!("{now:?} after {:?}", self.completed));
        }
        self.completed = now;
        if plan.state.succeeded < self.saved.succeeded || plan.state.failed < self.saved.failed {
            return violated("counts-only-grow", format!("{:?} after {:?}", plan.state, self.saved));
        }
        if self.verdict.is_some() && plan.state.verdict != self.verdict {
            return violated("verdict-stays", format!("{:?} after {:?}", plan.state.verdict, self.verdict));
        }
        self.verdict.clone_from(&plan.state.verdict);
        self.saved = plan.state.clone();
        if let Some((state, known)) = &mut self.agent {
            *state = plan.state.clone();
            let open: BTreeSet<&String> = state.pods.values().map(|pod| &pod.name).collect();
            known.retain(|name, seen| open.contains(name) || !matches!(seen, PodSeen::Ended(_)));
        }
        for notice in &plan.notices {
            self.note(format!("{}: {}", notice.reason, notice.message));
        }
        Ok(())
    }

    fn step(&mut self, plan: &Plan, step: &Step) -> Result<(), Violation> {
        match step {
            Step::Delete { name, .. } => self.delete(name),
            Step::Create { serial } => {
                let pod = &plan.state.pods[serial];
                if self.pods.contains_key(&pod.name) {
                    // Made before the crash: making it again is nothing.
                    self.tell(&pod.name.clone());
                    return Ok(());
                }
                self.check_create(pod.index)?;
                let (name, index) = (pod.name.clone(), pod.index);
                let ends = self.behaviour(index);
                self.pods.insert(name.clone(), Pod { index, deleting: false, end: None, ends });
                self.after(ends.0.since(self.now), Due::Ends(name.clone()));
                self.tell(&name);
            }
        }
        Ok(())
    }

    fn check_create(&self, index: Option<u32>) -> Result<(), Violation> {
        if let Some(index) = index.filter(|index| self.completed.contains(index)) {
            return violated("completed-index-stays", format!("index {index} runs again"));
        }
        if self.verdict.is_some() {
            return violated("verdict-stays", "a pod is made although it is settled how the job ends".to_owned());
        }
        let running = self.pods.values().filter(|pod| pod.end.is_none() && !pod.deleting);
        let (count, twin) =
            running.fold((0_u32, false), |(n, twin), pod| (n + 1, twin || (index.is_some() && pod.index == index)));
        if count >= self.most_parallel {
            return violated("parallelism", format!("{} pods at a time, {} wanted", count + 1, self.most_parallel));
        }
        if twin {
            return violated("one-pod-per-index", format!("index {index:?} has a pod that is not on its way out"));
        }
        Ok(())
    }

    /// What a pod does follows from its index and from how often that was tried, whatever happened beside it.
    fn behaviour(&mut self, index: Option<u32>) -> (Time, i32) {
        let tries = self.tries.entry(index).or_default();
        *tries += 1;
        let key = u64::from(index.map_or(u32::MAX, |index| index)).wrapping_mul(1_000_003).wrapping_add(*tries);
        let mut random = Random::new(self.schedule.seed ^ key.wrapping_mul(0x9e37_79b9));
        let takes = random.millis(10, 20_000);
        let code = match random.below(10) {
            0..=5 => 0,
            6 => IGNORED,
            _ => 1,
        };
        (self.now + takes, code)
    }

    fn check_end(&self) -> Result<(), Violation> {
        if self.agent.is_none() {
            return Ok(());
        }
        let state = &self.saved;
        let waits = self.spec.suspend || self.spec.parallelism == 0;
        if state.finished_at.is_none() && !waits && self.wake.is_none_or(|at| at < self.now) {
            return violated("progress", format!("the job is not over, and nothing is waited for: {state:?}"));
        }
        if state.finished_at.is_some() && self.pods.values().any(|pod| pod.end.is_none()) {
            return violated("nothing-left", "the job is over, and a pod of it runs".to_owned());
        }
        if !self.spec.indexed {
            let done = self
                .pods
                .values()
                .filter(|pod| pod.end.as_ref().is_some_and(|end| end.succeeded && !end.stopped) && !pod.deleting);
            let done = u32::try_from(done.count()).unwrap_or(u32::MAX);
            if state.succeeded < done {
                return violated("no-completion-lost", format!("{done} pods succeeded, {} counted", state.succeeded));
            }
        }
        let success = state.verdict.as_ref().is_some_and(|verdict| verdict.success);
        let enough = self.spec.completions.is_none_or(|n| state.succeeded.max(state.completed.len()) >= n);
        if success && !enough && self.spec.success_policy.is_none() {
            return violated("no-false-success", format!("{state:?}"));
        }
        Ok(())
    }
}

fn seen(pod: &Pod) -> PodSeen {
    match &pod.end {
        Some(end) => PodSeen::Ended(end.clone()),
        None => PodSeen::Live { ready: true, restarts: 0, deleting: pod.deleting },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_invariant_is_violated_with_and_without_a_crash() {
        for seed in 0..300 {
            let schedule = JobSchedule::new(seed);
            let calm = schedule.run(&[]);
            assert_eq!(calm.violation, None, "seed {seed}\n{}", calm.timeline.join("\n"));
            for crash in [1 + seed % calm.steps.max(1), 1 + (seed * 7) % calm.steps.max(1)] {
                let crashed = schedule.run(&[crash]);
                assert_eq!(crashed.violation, None, "seed {seed}, crash {crash}\n{}", crashed.timeline.join("\n"));
                if schedule.is_undisturbed() {
                    assert_eq!(crashed.outcome, calm.outcome, "seed {seed}, crash {crash}");
                }
            }
        }
    }

    #[test]
    fn seeds_make_all_kinds_of_ends() {
        let ends: BTreeSet<String> =
            (0..300).filter_map(|seed| JobSchedule::new(seed).run(&[]).outcome.0).map(|(_, reason)| reason).collect();
        for reason in
            ["CompletionsReached", "BackoffLimitExceeded", "FailedIndexes", "DeadlineExceeded", "SuccessPolicy"]
        {
            assert!(ends.contains(reason), "{reason} is not among {ends:?}");
        }
    }
}
