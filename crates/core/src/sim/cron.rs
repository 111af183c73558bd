//! Cron jobs under simulation: the real decision over fake jobs and a wall clock that people set, a state that is durable only once it
//! is saved, an agent that dies before any save or step, and a box without power for hours. `cron_books.rs` has the invariants, which
//! `docs/simulation.md` names.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::check::Violation;
use super::cron_books::{Books, Every, Job, Jobs};
use super::random::Random;
use crate::cron::schedule::Schedule;
use crate::cron::spec::{CatchUp, Concurrency, CronSpec};
use crate::cron::state::{CronState, JobEnd, JobSeen};
use crate::cron::{Moment, Plan, Step, decide};
use crate::manifest::{Format, Resource, read};

/// When all schedules begin, milliseconds of the wall clock.
const START_MS: i64 = 1_700_000_000_000;
/// A wall clock that gains more on the boot-time clock between two looks was set.
const SET_MS: i64 = 10_000;
/// Pause after a job that could not be made.
const RETRY_MS: i64 = 10_000;
const HOUR_MS: u64 = 3_600_000;

/// What a seed stands for.
#[derive(Debug, Clone)]
pub struct CronSchedule {
    seed: u64,
    spec: CronSpec,
    every: Every,
    kind: Kind,
}

/// What disturbs a schedule besides crashes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Nothing,
    /// Times without power.
    Outages,
    /// Whatever there is.
    Anything,
}

/// How it went.
#[derive(Debug, Clone, PartialEq)]
pub struct CronReport {
    /// Saves and steps of the agent.
    pub steps: u64,
    /// The scheduled times of which there was a job, minutes since the epoch.
    pub outcome: BTreeSet<i64>,
    /// The timeline, a line each.
    pub timeline: Vec<String>,
    /// An invariant that did not hold.
    pub violation: Option<Violation>,
}

impl CronSchedule {
    /// The schedule of a seed.
    pub fn new(seed: u64) -> CronSchedule {
        let mut random = Random::new(seed ^ 0x6372_6f6e);
        let every = Every::choose(&mut random);
        let schedule = Schedule::parse(&every.text()).unwrap_or_else(|error| unreachable!("{every:?}: {error}"));
        let deadlines = [None, None, None, Some(5), Some(30), Some(600), Some(7200)];
        let spec = CronSpec {
            schedule,
            concurrency: random.pick(&[Concurrency::Allow, Concurrency::Forbid, Concurrency::Replace]),
            catch_up: random.pick(&[CatchUp::None, CatchUp::Latest, CatchUp::All]),
            starting_deadline: random.pick(&deadlines).map(Duration::from_secs),
            successful_limit: limit(&mut random),
            failed_limit: limit(&mut random),
            ..plain()
        };
        let kind = random.pick(&[Kind::Nothing, Kind::Outages, Kind::Anything, Kind::Anything]);
        CronSchedule { seed, spec, every, kind }
    }

    /// Whether an agent that is back within seconds makes the same jobs: nothing else disturbs it, and no run hangs on when the
    /// one before ends, or on a second more or less.
    pub fn is_undisturbed(&self) -> bool {
        let waits = self.spec.concurrency == Concurrency::Forbid;
        let hasty = self.spec.starting_deadline.is_some_and(|limit| limit < Duration::from_secs(30));
        self.kind == Kind::Nothing && !waits && !hasty
    }

    /// Runs it; the agent dies before each of these saves and steps.
    pub fn run(&self, crashes: &[u64]) -> CronReport {
        let mut world = World::new(self, crashes);
        let violation = world.run().err();
        // What is due at the very end may find no agent.
        let end = world.offset + world.length() - 20_000;
        let outcome = world.books.made.into_iter().filter(|time| time * 60_000 <= end).collect();
        CronReport { steps: world.steps, outcome, timeline: world.log, violation }
    }
}

/// How many jobs of a kind are kept.
fn limit(random: &mut Random) -> usize {
    usize::try_from(random.below(4)).unwrap_or(0)
}

/// What every cron job of the simulation has in common.
fn plain() -> CronSpec {
    let text = "{apiVersion: batch/v1, kind: CronJob, metadata: {name: cron}, spec: {schedule: '@daily', timeZone: UTC, jobTemplate: \
                {spec: {template: {spec: {restartPolicy: Never, containers: [{name: main, image: simulated}]}}}}}}";
    match read(text, Format::Yaml).as_deref() {
        Ok([Resource::CronJob(document)]) => document.spec.clone(),
        other => unreachable!("a plain cron job is accepted: {other:?}"),
    }
}

#[derive(Debug, Clone)]
enum Due {
    Look,
    Ends(String),
    Gone(String),
    StartAgent,
    Crash,
    /// No power, for so long. Whether the clock has forgotten the time by then.
    Outage(i64, bool),
    /// The wall clock is put forward or, if negative, back.
    SetClock(i64),
    Suspend(bool),
    Limits(usize, usize),
    DeleteByHand,
    CreateByHand,
    /// The next jobs cannot be made.
    Refuse(u32),
}

struct Agent {
    state: CronState,
    known: BTreeMap<String, JobSeen>,
    /// Of the wall clock against the boot-time clock, as of the last decision that was carried out.
    offset: i64,
}

struct World<'a> {
    schedule: &'a CronSchedule,
    spec: CronSpec,
    /// What the manifest says, once an agent has read it.
    suspend: bool,
    /// Milliseconds since the begin, by a clock that nobody sets.
    now: i64,
    /// What the wall clock shows more than `now`.
    offset: i64,
    queue: BTreeMap<(i64, u64), Due>,
    serial: u64,
    random: Random,
    crashes: BTreeSet<u64>,
    steps: u64,
    saved: CronState,
    agent: Option<Agent>,
    has_power: bool,
    jobs: Jobs,
    /// What happens to jobs once there is an agent.
    deferred: Vec<Due>,
    refusals: u32,
    wake: Option<i64>,
    books: Books,
    log: Vec<String>,
}

fn stamp(wall: i64) -> Timestamp {
    Timestamp::from_millisecond(wall).unwrap_or_default()
}

fn signed(random: &mut Random, low: u64, high: u64) -> i64 {
    i64::try_from(random.millis(low, high).as_millis()).unwrap_or(0)
}

impl<'a> World<'a> {
    fn new(schedule: &'a CronSchedule, crashes: &[u64]) -> World<'a> {
        let mut random = Random::new(schedule.seed.wrapping_mul(37));
        let offset = START_MS + signed(&mut random, 0, 24 * HOUR_MS);
        let state = CronState::new(stamp(offset));
        let mut world = World {
            schedule,
            spec: schedule.spec.clone(),
            suspend: false,
            now: 0,
            offset,
            queue: BTreeMap::new(),
            serial: 0,
            random,
            crashes: crashes.iter().copied().collect(),
            steps: 0,
            saved: state.clone(),
            agent: Some(Agent { state, known: BTreeMap::new(), offset }),
            has_power: true,
            jobs: Jobs::new(),
            deferred: Vec::new(),
            refusals: 0,
            wake: None,
            books: Books::new(schedule.every, offset),
            log: Vec::new(),
        };
        world.after(0, Due::Look);
        world.plan_mishaps();
        world
    }

    /// Sixteen periods are enough for everything to meet everything.
    fn length(&self) -> i64 {
        16 * self.schedule.every.period * 60_000
    }

    fn plan_mishaps(&mut self) {
        let until = u64::try_from(self.length() * 3 / 4).unwrap_or(0);
        let count = match self.schedule.kind {
            Kind::Nothing => 0,
            Kind::Outages => 1 + self.random.below(3),
            Kind::Anything => 1 + self.random.below(6),
        };
        for _ in 0..count {
            let at = signed(&mut self.random, 0, until);
            let due = match (self.schedule.kind, self.random.below(13)) {
                (Kind::Nothing | Kind::Outages, _) => Due::Outage(signed(&mut self.random, 1000, until / 3), false),
                (_, 0) => Due::Crash,
                (_, 1 | 2) => Due::Outage(signed(&mut self.random, 1000, until / 3), self.random.chance(30)),
                (_, 3 | 4) => Due::SetClock(signed(&mut self.random, 100, 12 * HOUR_MS)),
                (_, 5) => Due::SetClock(-signed(&mut self.random, 100, 3 * HOUR_MS)),
                (_, 6) => Due::SetClock(-signed(&mut self.random, 3 * HOUR_MS, 48 * HOUR_MS)),
                (_, 7 | 8) => {
                    let resumed = at + signed(&mut self.random, 0, until / 3);
                    self.after(resumed, Due::Suspend(false));
                    Due::Suspend(true)
                }
                (_, 9) => Due::DeleteByHand,
                (_, 10) => Due::CreateByHand,
                (_, 11) => Due::Limits(limit(&mut self.random), limit(&mut self.random)),
                (_, _) => Due::Refuse(1 + u32::try_from(self.random.below(12)).unwrap_or(0)),
            };
            self.after(at, due);
        }
    }

    fn after(&mut self, delay: i64, due: Due) {
        self.serial += 1;
        self.queue.insert((self.now + delay, self.serial), due);
    }

    fn wall(&self) -> i64 {
        self.now + self.offset
    }

    fn note(&mut self, text: String) {
        self.log.push(format!("{:>10.3}s {}  {text}", self.now as f64 / 1e3, stamp(self.wall())));
    }

    fn run(&mut self) -> Result<(), Violation> {
        let end = self.length();
        while let Some(((at, _), due)) = self.queue.pop_first().filter(|((at, _), _)| *at <= end) {
            self.now = at;
            self.happen(due);
            self.look()?;
        }
        let complete = self.spec.catch_up == CatchUp::All && self.spec.starting_deadline.is_none();
        if complete && self.schedule.kind != Kind::Anything { self.books.check_all_made() } else { Ok(()) }
    }

    fn happen(&mut self, due: Due) {
        match due {
            Due::Look => {}
            Due::Ends(_) | Due::Gone(_) if self.agent.is_none() => self.deferred.push(due),
            Due::Ends(name) => self.end(&name),
            Due::Gone(name) => {
                self.jobs.remove(&name);
                self.tell(&name);
            }
            Due::Crash => self.crash(),
            Due::Outage(length, forgets) => self.cut_power(length, forgets),
            Due::StartAgent => self.start_agent(),
            Due::SetClock(by) => self.set_clock(self.offset + by),
            Due::Suspend(value) => self.suspend = value,
            Due::Limits(successful, failed) => {
                (self.spec.successful_limit, self.spec.failed_limit) = (successful, failed);
            }
            Due::DeleteByHand => {
                let live: Vec<String> =
                    self.jobs.iter().filter(|(_, job)| !job.removing).map(|(n, _)| n.clone()).collect();
                if !live.is_empty() && self.agent.is_some() {
                    let name = live[usize::try_from(self.random.below(live.len() as u64)).unwrap_or(0)].clone();
                    self.note(format!("somebody deletes {name}"));
                    self.remove(&name);
                }
            }
            Due::CreateByHand if self.agent.is_some() => self.make(format!("by-hand-{}", self.serial), self.serial),
            Due::CreateByHand => {}
            Due::Refuse(count) => self.refusals = count,
        }
    }

    fn end(&mut self, name: &str) {
        let at = stamp(self.wall());
        let success = self.random.chance(70);
        let Some(job) = self.jobs.get_mut(name).filter(|job| job.end.is_none()) else { return };
        job.end = Some(JobEnd { success, at });
        self.note(format!("{name} ends, success: {success}"));
        self.tell(name);
    }

    fn tell(&mut self, name: &str) {
        let Some(agent) = &mut self.agent else { return };
        match self.jobs.get(name) {
            Some(job) => drop(agent.known.insert(name.to_owned(), seen(name, job))),
            None => drop(agent.known.remove(name)),
        }
    }

    fn set_clock(&mut self, offset: i64) {
        let from = self.wall();
        self.offset = offset;
        let to = self.wall();
        self.books.clock_set(from, to, self.agent.is_some());
        self.note(format!("the clock was set, from {}", stamp(from)));
        // The timer tells; looking once more does no harm.
    }

    fn cut_power(&mut self, length: i64, forgets: bool) {
        if !self.has_power {
            return;
        }
        self.note(format!("no power for {} s", length / 1000));
        self.has_power = false;
        self.agent = None;
        self.books.agent_died();
        if forgets {
            // The clock goes on from where it stood, or from when it was made.
            let lost = length + self.random.pick(&[0, 60_000, 5 * 3_600_000, 400 * 3_600_000]);
            let right = self.offset;
            self.set_clock(right - lost);
            let learns = length + 10_000 + signed(&mut self.random, 0, 8 * HOUR_MS);
            self.after(learns, Due::SetClock(lost));
        }
        self.after(length, Due::StartAgent);
    }

    fn crash(&mut self) {
        if self.agent.take().is_some() {
            self.note("the agent dies".to_owned());
            self.books.agent_died();
            let down = signed(&mut self.random, 10, 8000);
            self.after(down, Due::StartAgent);
        }
    }

    fn start_agent(&mut self) {
        self.has_power = true;
        if self.agent.is_some() {
            return;
        }
        let known = self.jobs.iter().map(|(name, job)| (name.clone(), seen(name, job))).collect();
        self.agent = Some(Agent { state: self.saved.clone(), known, offset: self.offset });
        self.wake = None;
        self.note("the agent starts".to_owned());
        for due in std::mem::take(&mut self.deferred) {
            let delay = signed(&mut self.random, 1, 3000);
            self.after(delay, due);
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

    /// The worker: decide, carry out, save, until nothing follows.
    fn look(&mut self) -> Result<(), Violation> {
        for _ in 0..100 {
            let wall = self.wall();
            let Some(agent) = &self.agent else { return Ok(()) };
            self.spec.suspend = self.suspend;
            let jumped = self.offset - agent.offset > SET_MS;
            let moment = Moment { now: stamp(wall), jumped, zone: TimeZone::UTC };
            let plan = decide(&self.spec, &agent.state, &agent.known, &moment);
            self.books.look(&self.spec, wall);
            for step in &plan.steps {
                if self.dies() {
                    return Ok(());
                }
                if !self.step(step)? {
                    self.after(RETRY_MS, Due::Look);
                    return Ok(());
                }
            }
            let Some(agent) = &mut self.agent else { return Ok(()) };
            agent.offset = self.offset;
            if agent.state == plan.state {
                self.wait(&plan);
                return self.books.rest(&self.spec, &plan, &self.jobs);
            }
            agent.state = plan.state.clone();
            if self.dies() {
                return Ok(());
            }
            self.saved = plan.state.clone();
            for notice in &plan.notices {
                self.note(format!("{}: {}", notice.reason, notice.message));
            }
        }
        Err(Violation {
            invariant: "comes-to-rest",
            detail: "a decision is followed by another one for ever".to_owned(),
        })
    }

    fn wait(&mut self, plan: &Plan) {
        let at = plan.wake_at.map(|at| at.as_millisecond() - self.offset);
        if let Some(at) = at.filter(|at| self.wake != Some(*at)) {
            self.wake = Some(at);
            self.after(at - self.now, Due::Look);
        }
    }

    /// `false`: it cannot be done now.
    fn step(&mut self, step: &Step) -> Result<bool, Violation> {
        match step {
            Step::Delete { name } => {
                self.books.delete(&self.spec, name, &self.jobs)?;
                self.remove(&name.clone());
            }
            Step::Create { name, .. } if self.refusals > 0 => {
                self.refusals -= 1;
                self.note(format!("{name} cannot be made"));
                return Ok(false);
            }
            Step::Create { name, scheduled } => {
                self.books.create(&self.spec, *scheduled, &self.jobs)?;
                let key = scheduled.as_second().unsigned_abs();
                self.make(name.clone(), key);
            }
        }
        Ok(true)
    }

    /// How long a job takes follows from `key`, whatever happened beside it.
    fn make(&mut self, name: String, key: u64) {
        let mut random = Random::new(self.schedule.seed ^ key.wrapping_mul(0x9e37_79b9));
        let period = u64::try_from(self.schedule.every.period).unwrap_or(1) * 60_000;
        let longest = random.pick(&[2000, period / 2, period * 2, period * 4]);
        let takes = signed(&mut random, 10, longest);
        self.note(format!("{name} is made"));
        self.jobs.insert(name.clone(), Job { created_at: stamp(self.wall()), end: None, removing: false });
        self.tell(&name);
        self.after(takes, Due::Ends(name));
    }

    fn remove(&mut self, name: &str) {
        let Some(job) = self.jobs.get_mut(name).filter(|job| !job.removing) else { return };
        job.removing = true;
        self.tell(name);
        let grace = signed(&mut self.random, 1, 30_000);
        self.after(grace, Due::Gone(name.to_owned()));
    }
}

fn seen(name: &str, job: &Job) -> JobSeen {
    JobSeen { uid: name.to_owned(), created_at: job.created_at, end: job.end, removing: job.removing }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_invariant_is_violated_with_and_without_a_crash() {
        for seed in 0..300 {
            let schedule = CronSchedule::new(seed);
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
    fn seeds_make_all_kinds_of_events() {
        let logs: Vec<String> = (0..300).map(|seed| CronSchedule::new(seed).run(&[]).timeline.join("\n")).collect();
        for what in [
            "SuccessfulCreate",
            "SuccessfulDelete",
            "MissSchedule",
            "JobAlreadyActive",
            "cannot be made",
            "the clock was set",
            "no power",
            "the agent dies",
            "somebody deletes",
            "by-hand",
        ] {
            assert!(logs.iter().any(|log| log.contains(what)), "no schedule of them has {what:?}");
        }
    }
}
