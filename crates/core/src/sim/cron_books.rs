//! The invariants of cron jobs. The books find out by arithmetic of their own what is due when, and never ask the code they check.
//!
//! Walls are readings of the wall clock in milliseconds, times are scheduled times in minutes, both since the epoch.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use super::check::Violation;
use super::random::Random;
use crate::cron::Plan;
use crate::cron::spec::{CatchUp, Concurrency, CronSpec};
use crate::cron::state::JobEnd;

/// A run that is no later is on time.
const ON_TIME_MS: i64 = 60_000;
/// A clock set back by more makes schedules begin anew.
const FAR_MS: i64 = 3 * 3_600_000;
const MINUTE_MS: i64 = 60_000;

/// A job as it is, all of it durable.
#[derive(Debug, Clone)]
pub(super) struct Job {
    pub(super) created_at: Timestamp,
    pub(super) end: Option<JobEnd>,
    pub(super) removing: bool,
}

pub(super) type Jobs = BTreeMap<String, Job>;

/// The times that leave `offset` when divided by `period`, both in minutes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Every {
    pub(super) period: i64,
    offset: i64,
}

impl Every {
    pub(super) fn choose(random: &mut Random) -> Every {
        let period = random.pick(&[1, 2, 5, 10, 15, 30, 60, 60, 120, 360, 720, 1440]);
        let offset = i64::try_from(random.below(u64::try_from(period).unwrap_or(1))).unwrap_or(0);
        Every { period, offset }
    }

    /// As a schedule in UTC.
    pub(super) fn text(self) -> String {
        let (hour, minute) = (self.offset / 60, self.offset % 60);
        match self.period {
            1440 => format!("{minute} {hour} * * *"),
            hours if hours > 60 => format!("{minute} {hour}-23/{} * * *", hours / 60),
            60 => format!("{minute} * * * *"),
            minutes => format!("{minute}-59/{minutes} * * * *"),
        }
    }

    fn is_one(self, time: i64) -> bool {
        time.rem_euclid(self.period) == self.offset
    }

    /// The last that is not after the wall clock.
    fn last(self, wall: i64) -> i64 {
        let minute = wall.div_euclid(MINUTE_MS);
        minute - (minute - self.offset).rem_euclid(self.period)
    }
}

/// What the checks remember by themselves.
pub(super) struct Books {
    every: Every,
    /// The times of which there was a job.
    pub(super) made: BTreeSet<i64>,
    last_made: Option<i64>,
    /// Schedules have begun anew at least once.
    anew: bool,
    /// What the clock showed when it was looked at last, and the latest that it ever showed then.
    wall: i64,
    highest: i64,
    /// A time that no look had seen before.
    fresh: Option<i64>,
    /// What passed while it was suspended, or while the clock was set forward: walls, the first excluded.
    passed: Vec<(i64, i64)>,
    /// The same, as long as only an agent that may die knows of it.
    noticed: Vec<(i64, i64)>,
    suspended_since: Option<i64>,
}

fn violated(invariant: &'static str, detail: String) -> Result<(), Violation> {
    Err(Violation { invariant, detail })
}

fn runs(job: &Job) -> bool {
    job.end.is_none()
}

impl Books {
    pub(super) fn new(every: Every, accepted: i64) -> Books {
        Books {
            every,
            made: BTreeSet::new(),
            last_made: None,
            anew: false,
            wall: accepted,
            highest: accepted,
            fresh: None,
            passed: Vec::new(),
            noticed: Vec::new(),
            suspended_since: None,
        }
    }

    /// The clock is set; whether an agent is there to see it.
    pub(super) fn clock_set(&mut self, from: i64, to: i64, seen: bool) {
        if to < from {
            self.passed.clear();
            self.noticed.clear();
            self.suspended_since = self.suspended_since.map(|since| since.min(to));
        } else if seen && to - from > 10_000 && self.wall + FAR_MS >= self.highest {
            // From further behind it comes back to where it was, and what was missed in between is made up for.
            self.noticed.push((from, to));
        }
    }

    pub(super) fn agent_died(&mut self) {
        self.noticed.clear();
    }

    /// The agent looks.
    pub(super) fn look(&mut self, spec: &CronSpec, wall: i64) {
        if wall < self.wall && wall + FAR_MS < self.highest {
            self.anew = true;
            self.made.retain(|time| time * MINUTE_MS <= wall);
            self.last_made = self.made.last().copied();
        }
        let last = self.every.last(wall);
        if last * MINUTE_MS > self.highest {
            self.fresh = Some(last);
        } else if wall < self.wall {
            self.fresh = None;
        }
        self.wall = wall;
        self.highest = self.highest.max(wall);
        if !spec.suspend
            && let Some(since) = self.suspended_since.take()
        {
            self.passed.push((since, wall));
        }
    }

    /// A job is about to be made.
    pub(super) fn create(&mut self, spec: &CronSpec, at: Timestamp, jobs: &Jobs) -> Result<(), Violation> {
        let (time, wall) = (at.as_second().div_euclid(60), self.wall);
        let (late, last) = (wall - time * MINUTE_MS, self.every.last(wall));
        let detail = format!("{time}, {late} ms late; {} is the last", last);
        if at.as_second().rem_euclid(60) != 0 || !self.every.is_one(time) || late < 0 {
            return violated("scheduled-times-only", detail);
        }
        if !self.made.insert(time) {
            return violated("one-job-per-time", detail);
        }
        if self.last_made.replace(time).is_some_and(|before| before > time) {
            return violated("in-order", detail);
        }
        if spec.suspend {
            return violated("nothing-starts-while-suspended", detail);
        }
        if spec.starting_deadline.is_some_and(|limit| late > ms(limit)) {
            return violated("starting-deadline", detail);
        }
        let is_late = late > ON_TIME_MS;
        if spec.catch_up == CatchUp::None && is_late {
            return violated("catch-up-none", detail);
        }
        if spec.catch_up != CatchUp::All && time != last {
            return violated("catch-up-latest", detail);
        }
        let mut passed = self.passed.iter().chain(&self.noticed);
        if passed.any(|&(from, to)| (from + 1..=to).contains(&(time * MINUTE_MS)) && time != self.every.last(to)) {
            return violated("passed-over", detail);
        }
        let mut running = jobs.iter().filter(|(_, job)| runs(job));
        let one_by_one = spec.catch_up == CatchUp::All && (is_late || time != last);
        let beside = match spec.concurrency {
            Concurrency::Replace => running.find(|(_, job)| !job.removing),
            Concurrency::Forbid => running.next(),
            Concurrency::Allow if one_by_one => running.next(),
            Concurrency::Allow => None,
        };
        match beside {
            Some((name, _)) if spec.concurrency == Concurrency::Allow => {
                violated("one-after-the-other", format!("{detail}, beside {name}"))
            }
            Some((name, _)) => violated("concurrency", format!("{detail}, beside {name}")),
            None => Ok(()),
        }
    }

    /// A job is about to be removed.
    pub(super) fn delete(&self, spec: &CronSpec, name: &str, jobs: &Jobs) -> Result<(), Violation> {
        let Some(job) = jobs.get(name).filter(|job| !job.removing) else { return Ok(()) };
        let Some(end) = &job.end else {
            return match spec.concurrency {
                Concurrency::Replace => Ok(()),
                _ => violated("running-jobs-stay", format!("{name} is removed while it runs")),
            };
        };
        let alike = || jobs.values().filter(|job| !job.removing && job.end.is_some_and(|e| e.success == end.success));
        if alike().count() <= limit(spec, end.success) {
            return violated("history-limits", format!("{name} is removed, and there are not too many"));
        }
        if let Some(older) = alike().find(|other| other.created_at < job.created_at) {
            return violated("history-limits", format!("{name} is removed, and {older:?} is older"));
        }
        Ok(())
    }

    /// There is nothing more to do now.
    pub(super) fn rest(&mut self, spec: &CronSpec, plan: &Plan, jobs: &Jobs) -> Result<(), Violation> {
        let (wall, last) = (self.wall, self.every.last(self.wall));
        self.passed.append(&mut self.noticed);
        if spec.suspend {
            self.suspended_since.get_or_insert(wall);
            return match plan.wake_at {
                None => Ok(()),
                Some(at) => violated("wakes-in-time", format!("at {at}, suspended")),
            };
        }
        let next = (last + self.every.period) * MINUTE_MS;
        if plan.wake_at.map(Timestamp::as_millisecond) != Some(next) {
            return violated("wakes-in-time", format!("at {:?}, {next} is next", plan.wake_at));
        }
        let late = wall - last * MINUTE_MS;
        let in_time = late <= ON_TIME_MS && spec.starting_deadline.is_none_or(|limit| late <= ms(limit));
        let may_wait = spec.concurrency == Concurrency::Forbid || spec.catch_up == CatchUp::All;
        let waits = may_wait && jobs.values().any(runs);
        if self.fresh == Some(last) && in_time && !waits && !self.made.contains(&last) {
            return violated("on-time", format!("nothing runs for {last}, {late} ms ago"));
        }
        for success in [true, false] {
            let kept = jobs.values().filter(|job| !job.removing && job.end.is_some_and(|e| e.success == success));
            let kept = kept.count();
            if kept > limit(spec, success) {
                return violated("history-limits", format!("{kept} are kept (success: {success})"));
            }
        }
        let shown: BTreeSet<&str> =
            plan.status.active.iter().flatten().filter_map(|reference| reference.name.as_deref()).collect();
        let active: BTreeSet<&str> =
            jobs.iter().filter(|(_, job)| runs(job) && !job.removing).map(|(name, _)| name.as_str()).collect();
        let scheduled = plan.status.last_schedule_time.as_ref().map(|at| at.0.as_second().div_euclid(60));
        if shown != active || (!self.anew && scheduled != self.last_made) {
            return violated(
                "status-is-true",
                format!("{:?}; {active:?} run, the last was for {:?}", plan.status, self.last_made),
            );
        }
        Ok(())
    }

    /// At the end, of a cron job that makes up for all, and that nothing but crashes and time without power disturbed.
    pub(super) fn check_all_made(&self) -> Result<(), Violation> {
        let (Some(first), Some(last)) = (self.made.first(), self.made.last()) else { return Ok(()) };
        let mut open = (*first..=*last).filter(|time| self.every.is_one(*time) && !self.made.contains(time));
        match open.next() {
            Some(time) => violated("catch-up-all", format!("nothing ever ran for {time}")),
            None => Ok(()),
        }
    }
}

fn limit(spec: &CronSpec, success: bool) -> usize {
    if success { spec.successful_limit } else { spec.failed_limit }
}

fn ms(duration: std::time::Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
