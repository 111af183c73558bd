//! The decision: which run is due, which are made up for, which old jobs go.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::batch::v1::CronJobStatus;

use super::spec::{CatchUp, Concurrency, CronSpec};
use super::state::{CronState, Jobs};
use super::{status, template};
use crate::job::plan::Notice;

/// A run that is no later than this is on time: an agent that is being upgraded misses none.
const ON_TIME: SignedDuration = SignedDuration::from_secs(60);
/// A clock set back by less has been put right, and what was run is not run again. One set back by more had been wrong, or is
/// now: schedules begin anew from where it stands (as Vixie cron does).
const FAR: SignedDuration = SignedDuration::from_hours(3);

/// The moment of a decision.
#[derive(Debug, Clone, PartialEq)]
pub struct Moment {
    /// The wall clock.
    pub now: Timestamp,
    /// Since the last decision of this agent the wall clock was set forward: nobody slept through what it passed over.
    pub jumped: bool,
    /// The node's time zone, for schedules without one.
    pub zone: TimeZone,
}

/// What follows.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// What is true once the steps are carried out.
    pub state: CronState,
    /// In order.
    pub steps: Vec<Step>,
    /// For the API.
    pub status: CronJobStatus,
    /// By the wall clock, when to decide again if nothing happens before.
    pub wake_at: Option<Timestamp>,
    /// What is worth telling.
    pub notices: Vec<Notice>,
}

/// One thing to do. Carried out twice it does no more than once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Make the job of that time.
    Create {
        /// Its name, which follows from the time.
        name: String,
        /// The time for which it was scheduled.
        scheduled: Timestamp,
    },
    /// Remove a job with its pods.
    Delete {
        /// Its name.
        name: String,
    },
}

/// Decides for one cron job at one moment.
pub fn decide(spec: &CronSpec, before: &CronState, jobs: &Jobs, moment: &Moment) -> Plan {
    let zone = spec.time_zone.clone().unwrap_or_else(|| moment.zone.clone());
    let mut turn = Turn {
        spec,
        jobs,
        zone,
        now: moment.now,
        gap: moment.jumped || before.was_suspended,
        state: before.clone(),
        steps: Vec::new(),
        notices: Vec::new(),
        wake_at: None,
    };
    turn.settle_clock();
    turn.settle_jobs();
    turn.state.last_success = turn.state.last_success.max(last_success(jobs));
    if spec.suspend {
        turn.state.was_suspended = true;
    } else {
        while turn.start_next() {}
        turn.state.was_suspended = false;
        let next = spec.schedule.next(turn.now, &turn.zone);
        turn.wake_at = next;
    }
    turn.clean_up();
    let Turn { state, steps, notices, wake_at, .. } = turn;
    let status = status(spec, &state, jobs, &steps);
    Plan { state, steps, status, wake_at, notices }
}

fn last_success(jobs: &Jobs) -> Option<Timestamp> {
    jobs.values().filter_map(|job| job.end).filter(|end| end.success).map(|end| end.at).max()
}

struct Turn<'a> {
    spec: &'a CronSpec,
    jobs: &'a Jobs,
    zone: TimeZone,
    now: Timestamp,
    /// What was missed was passed over, not slept through.
    gap: bool,
    state: CronState,
    steps: Vec<Step>,
    notices: Vec<Notice>,
    wake_at: Option<Timestamp>,
}

impl Turn<'_> {
    /// Finds out from where on scheduled times are open.
    fn settle_clock(&mut self) {
        let now = self.now;
        if now.duration_until(self.state.done_until) <= FAR {
            // A clock that comes back to where it was has left out the time in which the box was off, or wrong.
            self.gap &= self.state.behind.take().is_none();
            return;
        }
        let behind = self.state.behind.get_or_insert(now);
        if now.duration_until(*behind) > FAR {
            *behind = now;
        }
    }

    /// What was made is dealt with, also if whoever made it died before that was written down.
    fn settle_jobs(&mut self) {
        let open = self.base()..=self.now;
        let made = self.jobs.keys().filter_map(|name| template::scheduled(self.spec, name));
        if let Some(last) = made.filter(|at| open.contains(at) && at != open.start()).max() {
            self.started(last);
        }
    }

    fn base(&self) -> Timestamp {
        self.state.behind.unwrap_or(self.state.done_until)
    }

    fn done(&mut self, until: Timestamp) {
        let base = match &mut self.state.behind {
            Some(behind) => behind,
            None => &mut self.state.done_until,
        };
        *base = until.max(*base);
    }

    /// Deals with one open time; `false`: there is none, it has to wait, or its job is to be made first.
    fn start_next(&mut self) -> bool {
        let Some(latest) = self.spec.schedule.previous(self.now, &self.zone).filter(|at| *at > self.base()) else {
            return false;
        };
        let catch_up = self.spec.catch_up;
        if self.gap && catch_up == CatchUp::All {
            // One run makes up for it. It may have to wait, and until then this is not forgotten.
            self.done(latest.saturating_sub(SignedDuration::from_secs(1)).unwrap_or(latest));
        }
        let due = match catch_up {
            CatchUp::None | CatchUp::Latest => latest,
            CatchUp::All => match self.spec.schedule.next(self.open_from(self.base()), &self.zone) {
                Some(first) if first <= latest => first,
                _ => latest,
            },
        };
        let is_on_time = due.duration_until(self.now) <= ON_TIME;
        if catch_up == CatchUp::None && !is_on_time
            || self.spec.starting_deadline.is_some_and(|deadline| self.lateness(due) > deadline)
        {
            self.missed(due);
            return true;
        }
        if catch_up == CatchUp::All && (due < latest || !is_on_time) && self.is_active() {
            // One after the other; the end of that job is the time for the next.
            return false;
        }
        self.start(due)
    }

    /// No need to walk through what is too late in any case.
    fn open_from(&self, base: Timestamp) -> Timestamp {
        let deadline = self.spec.starting_deadline.and_then(|d| SignedDuration::try_from(d).ok());
        let oldest =
            deadline.and_then(|d| self.now.checked_sub(d).ok()?.checked_sub(SignedDuration::from_secs(1)).ok());
        oldest.map_or(base, |oldest| base.max(oldest))
    }

    fn lateness(&self, due: Timestamp) -> Duration {
        Duration::try_from(due.duration_until(self.now)).unwrap_or_default()
    }

    fn missed(&mut self, at: Timestamp) {
        let message = format!("Missed scheduled time to start a job: {}", at.strftime("%a, %d %b %Y %H:%M:%S +0000"));
        self.notices.push(Notice::warning("MissSchedule", message));
        self.done(at);
    }

    /// There are jobs that are not over. Those on their way out still run.
    fn is_active(&self) -> bool {
        self.jobs.values().any(|job| job.end.is_none())
    }

    fn start(&mut self, due: Timestamp) -> bool {
        let name = template::job_name(self.spec, due);
        match self.spec.concurrency {
            Concurrency::Allow => {}
            Concurrency::Forbid if self.is_active() => {
                let message = format!(
                    "Not starting job {name} because prior execution is running and concurrency policy is Forbid"
                );
                self.notices.push(Notice::normal("JobAlreadyActive", message));
                return false;
            }
            Concurrency::Forbid => {}
            Concurrency::Replace => {
                let active = self.jobs.iter().filter(|(_, job)| job.end.is_none() && !job.removing);
                let names: Vec<String> = active.map(|(name, _)| name.clone()).collect();
                names.into_iter().for_each(|name| self.delete(name));
            }
        }
        self.notices.push(Notice::normal("SuccessfulCreate", format!("Created job {name}")));
        self.steps.push(Step::Create { name, scheduled: due });
        self.started(due);
        // What else is due is decided about when this job is there.
        false
    }

    fn started(&mut self, due: Timestamp) {
        self.state.last_schedule = Some(due);
        self.done(due);
    }

    fn delete(&mut self, name: String) {
        self.notices.push(Notice::normal("SuccessfulDelete", format!("Deleted job {name}")));
        self.steps.push(Step::Delete { name });
    }

    /// Removes the oldest of the jobs that are over, beyond the limits.
    fn clean_up(&mut self) {
        for (success, limit) in [(true, self.spec.successful_limit), (false, self.spec.failed_limit)] {
            let of_kind = self.jobs.iter().filter(|(_, job)| !job.removing);
            let mut over: BTreeMap<(Timestamp, &String), ()> = BTreeMap::new();
            for (name, job) in of_kind.filter(|(_, job)| job.end.is_some_and(|end| end.success == success)) {
                over.insert((job.created_at, name), ());
            }
            let excess = over.len().saturating_sub(limit);
            let names: Vec<String> = over.keys().take(excess).map(|(_, name)| (*name).clone()).collect();
            names.into_iter().for_each(|name| self.delete(name));
        }
    }
}
