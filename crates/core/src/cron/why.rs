//! `podwright why cronjob/NAME`: when it runs next and ran last, why a run did not start, how its jobs fare, and what to do; in
//! the form of [`crate::pod::why`].

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::decide::{Moment, decide};
use super::spec::{CatchUp, Concurrency, CronSpec};
use super::state::{CronState, JobSeen, Jobs};
use super::template::job_name;
use crate::objects::Kind;
use crate::pod::why::words::{duration, line};
use crate::pod::why::{Advice, Explanation, Member, Situation};

/// Most jobs that get a line of their own.
const MOST_JOBS: usize = 8;
/// Most runs that were left out and are counted.
const MOST_COUNTED: usize = 1000;

/// All that an explanation is made from.
#[derive(Debug, Clone)]
pub struct Case<'a> {
    /// The cron job.
    pub spec: &'a CronSpec,
    /// What has become of it.
    pub state: &'a CronState,
    /// What is seen of its jobs.
    pub jobs: &'a Jobs,
    /// Its removal was asked for.
    pub removing: bool,
    /// A job could not be made: why.
    pub refused: Option<&'a str>,
    /// What is told of the jobs that are not over, and of the one that failed last, by name.
    pub told: &'a [Explanation],
    /// The file that it comes from.
    pub file: &'a str,
    /// What is wrong with that file.
    pub file_problems: &'a [String],
    /// Now, and the node's time zone.
    pub moment: &'a Moment,
}

struct Told {
    situation: Situation,
    summary: String,
}

/// The cron job of which most is told: the one that failed last, unless a later one has succeeded.
pub fn failed(jobs: &Jobs) -> Option<&str> {
    let ends = jobs.iter().filter_map(|(name, job)| job.end.map(|end| (end, name)));
    let (end, name) = ends.max_by_key(|(end, _)| end.at)?;
    (!end.success).then_some(name)
}

/// Explains a cron job.
pub fn explain(case: &Case<'_>) -> Explanation {
    let clock = Clock::of(case);
    let name = (case.spec.namespace.as_str(), case.spec.name.as_str());
    let Told { situation, summary } = told(case, &clock);
    let job = lead(case);
    let mut details = job.map_or_else(Vec::new, |job| job.details.clone());
    details.extend(skipped(case, &clock));
    details.extend(times(case, &clock, situation));
    if !case.file_problems.is_empty() {
        details.push(format!("{} has a problem, so an older content of it is in force:", case.file));
        details.extend(case.file_problems.iter().map(|problem| format!("  {problem}")));
    }
    Explanation {
        container: job.and_then(|job| job.container.clone()),
        phase: if case.spec.suspend { "Suspended" } else { "Active" }.to_owned(),
        details,
        last_end: job.and_then(|job| job.last_end.clone()),
        figures: job.map_or_else(Vec::new, |job| job.figures.clone()),
        changes: job.map_or_else(Vec::new, |job| job.changes.clone()),
        advice: advise(case, situation, job),
        members: members(case, &clock),
        ..Explanation::new(Kind::CronJob, name, situation, summary)
    }
}

/// The times of its schedule, as people read them.
struct Clock {
    zone: TimeZone,
    name: String,
    now: Timestamp,
}

impl Clock {
    fn of(case: &Case<'_>) -> Clock {
        let zone = case.spec.time_zone.clone().unwrap_or_else(|| case.moment.zone.clone());
        let name = zone.iana_name().unwrap_or("its own rules").to_owned();
        let name = if case.spec.time_zone.is_some() { name } else { format!("the node's zone, {name}") };
        Clock { zone, name, now: case.moment.now }
    }

    /// `Mon 2026-11-30 02:30 +01:00`.
    fn show(&self, at: Timestamp) -> String {
        at.to_zoned(self.zone.clone()).strftime("%a %Y-%m-%d %H:%M %:z").to_string()
    }

    /// `…, in 11 h`, `…, 5 min ago`.
    fn relative(&self, at: Timestamp) -> String {
        let (between, ago) = (between(at, self.now), at <= self.now);
        let between = if ago { format!("{between} ago") } else { format!("in {between}") };
        format!("{}, {between}", self.show(at))
    }
}

fn between(a: Timestamp, b: Timestamp) -> String {
    duration(a.duration_until(b).unsigned_abs())
}

/// The newest time that is due and open.
fn open(case: &Case<'_>, clock: &Clock) -> Option<Timestamp> {
    let base = case.state.behind.unwrap_or(case.state.done_until);
    case.spec.schedule.previous(clock.now, &clock.zone).filter(|at| *at > base)
}

fn active<'a>(case: &'a Case<'_>) -> impl Iterator<Item = (&'a String, &'a JobSeen)> {
    case.jobs.iter().filter(|(_, job)| job.end.is_none() && !job.removing)
}

/// The job that is told of at length: one that is in trouble, or else the one that failed last.
fn lead<'a>(case: &Case<'a>) -> Option<&'a Explanation> {
    if case.removing {
        return None;
    }
    case.told.iter().find(|job| job.situation.is_trouble())
}

fn told(case: &Case<'_>, clock: &Clock) -> Told {
    let cron = format!("{}/{}", case.spec.namespace, case.spec.name);
    let told = |situation, rest: String| Told { situation, summary: format!("{cron} {rest}") };
    if case.removing {
        return told(Situation::Stopping, "is being removed, with its jobs".to_owned());
    }
    if let Some(message) = case.refused {
        return told(Situation::BackOff, format!("cannot make the job of a run, and tries again: {}", line(message)));
    }
    if let Some(job) = lead(case) {
        let which = if active(case).any(|(name, _)| *name == job.name) {
            "has trouble with its job"
        } else {
            "failed the last time, job"
        };
        return told(job.situation, format!("{which} {}: {}", job.name, job.said()));
    }
    if case.spec.suspend {
        return told(Situation::Suspended, "is suspended (spec.suspend): it starts no runs".to_owned());
    }
    let names: Vec<&str> = active(case).map(|(name, _)| name.as_str()).collect();
    if let Some(due) = open(case, clock).filter(|_| !names.is_empty()) {
        let why = match case.spec.concurrency {
            Concurrency::Forbid => "concurrencyPolicy: Forbid",
            Concurrency::Allow | Concurrency::Replace => "what was missed is made up for one after the other",
        };
        let rest = format!("waits with the run of {} until job {} is over ({why})", clock.show(due), names.join(", "));
        return told(Situation::Waiting, rest);
    }
    if !names.is_empty() {
        return told(Situation::Running, format!("runs job {}", names.join(", ")));
    }
    match case.spec.schedule.next(clock.now, &clock.zone) {
        Some(next) => told(Situation::Scheduled, format!("waits for its next run: {}", clock.relative(next))),
        None => told(Situation::Waiting, format!("never runs: no day has the time {:?}", case.spec.schedule.text())),
    }
}

/// Why a run was not started, or waits.
fn skipped(case: &Case<'_>, clock: &Clock) -> Vec<String> {
    let (spec, state) = (case.spec, case.state);
    let mut lines = Vec::new();
    let catch_up = match spec.catch_up {
        CatchUp::None => "none",
        CatchUp::Latest => "latest",
        CatchUp::All => "all",
    };
    if let Some(due) = open(case, clock) {
        if spec.suspend {
            let then = if spec.catch_up == CatchUp::None { "none is made up for" } else { "one is made up for" };
            lines.push(format!(
                "runs were due since it is suspended, the last at {}; when it goes on, {then} (podwright.dev/catch-up: {catch_up})",
                clock.show(due)
            ));
        } else if let Some(deadline) = spec.starting_deadline
            && let Ok(latest) = due.checked_add(deadline)
        {
            let seconds = deadline.as_secs();
            lines.push(format!(
                "it is given up if it cannot start until {} (startingDeadlineSeconds: {seconds})",
                clock.show(latest)
            ));
        }
        // What stands in the way besides, in the decision's own words.
        let plan = decide(spec, state, case.jobs, case.moment);
        let told = plan.notices.iter().filter(|notice| notice.reason == "JobAlreadyActive");
        lines.extend(told.map(|notice| notice.message.clone()));
    }
    // The newest time that is dealt with is a run's, or it was given up.
    let started = state.last_schedule.unwrap_or(state.accepted_at);
    if state.behind.is_none() && state.done_until > started {
        let why = match (spec.catch_up, spec.starting_deadline) {
            (CatchUp::None, None) => "it was late by more than a minute, and podwright.dev/catch-up is none".to_owned(),
            (CatchUp::None, Some(deadline)) => format!(
                "it was late by more than a minute, and podwright.dev/catch-up is none; or by more than startingDeadlineSeconds ({})",
                deadline.as_secs()
            ),
            (_, deadline) => format!(
                "it could not start within startingDeadlineSeconds ({})",
                deadline.unwrap_or_default().as_secs()
            ),
        };
        let more = match left_out(case, clock, started) {
            0 | 1 => String::new(),
            n if n > MOST_COUNTED => format!(", and more than {} before it", MOST_COUNTED - 1),
            n => format!(", and {} before it", n - 1),
        };
        lines.push(format!("the run of {} was left out{more}: {why}", clock.show(state.done_until)));
    }
    if state.behind.is_some() {
        lines.push("the clock was set back by hours: times count anew from where it stands".to_owned());
    }
    lines
}

/// How many runs there would have been after `started`, up to the newest that is dealt with; counted as far as one more than
/// [`MOST_COUNTED`].
fn left_out(case: &Case<'_>, clock: &Clock, started: Timestamp) -> usize {
    let next = |at: &Timestamp| case.spec.schedule.next(*at, &clock.zone).filter(|at| *at <= case.state.done_until);
    std::iter::successors(next(&started), next).take(MOST_COUNTED + 1).count()
}

/// When it ran last and runs next.
fn times(case: &Case<'_>, clock: &Clock, situation: Situation) -> Vec<String> {
    let (spec, state) = (case.spec, case.state);
    let mut lines = vec![format!("schedule: {:?} in {}", spec.schedule.text(), clock.name)];
    match spec.schedule.next(clock.now, &clock.zone) {
        // Else that is said first.
        Some(next) if !spec.suspend && situation != Situation::Scheduled => {
            lines.push(format!("next run: {}", clock.relative(next)))
        }
        Some(next) if spec.suspend => {
            lines.push(format!("next run: none while it is suspended; the next time is {}", clock.show(next)))
        }
        Some(_) | None => {}
    }
    match state.last_schedule {
        Some(last) => {
            let name = job_name(spec, last);
            let job = case.jobs.get(&name).map_or("is gone".to_owned(), |job| how(job, clock));
            lines.push(format!("last run by schedule: {}: job {name} {job}", clock.relative(last)));
        }
        None => lines.push("last run by schedule: none yet".to_owned()),
    }
    if let Some(at) = state.last_success {
        lines.push(format!("last success: ended {}", clock.relative(at)));
    }
    lines
}

fn how(job: &JobSeen, clock: &Clock) -> String {
    match job.end {
        _ if job.removing => "is being removed".to_owned(),
        None => format!("is not over, made {} ago", between(job.created_at, clock.now)),
        Some(end) => {
            let how = if end.success { "is complete" } else { "failed" };
            format!("{how} after {}, {} ago", between(job.created_at, end.at), between(end.at, clock.now))
        }
    }
}

fn members(case: &Case<'_>, clock: &Clock) -> Vec<Member> {
    let mut jobs: Vec<(&String, &JobSeen)> = case.jobs.iter().collect();
    jobs.sort_by_key(|(name, job)| (job.end.is_some(), std::cmp::Reverse((job.created_at, *name))));
    let mut all: Vec<Member> = jobs
        .iter()
        .take(MOST_JOBS)
        .map(|(name, job)| {
            let told = case.told.iter().find(|told| told.name == **name && job.end.is_none());
            let text = told.map_or_else(|| how(job, clock), |told| told.said().to_owned());
            Member { name: (*name).clone(), text }
        })
        .collect();
    if jobs.len() > MOST_JOBS {
        let more = jobs.len() - MOST_JOBS;
        all.push(Member { name: "…".to_owned(), text: format!("and {more} more: podwright get jobs") });
    }
    all
}

fn advise(case: &Case<'_>, situation: Situation, job: Option<&Explanation>) -> Vec<Advice> {
    let (name, namespace) = (&case.spec.name, &case.spec.namespace);
    let flag = if namespace == "default" { String::new() } else { format!(" -n {namespace}") };
    let with = |text: &str, with: String| Advice { text: text.to_owned(), with: Some(with) };
    let by_hand = || with("to run it now", format!("podwright create job {name}-now{flag} --from=cronjob/{name}"));
    let mut advice = Vec::new();
    if let Some(job) = job {
        // How to run that very job again says more about a job without a cron job.
        let again = format!("podwright create job {}", job.name);
        advice.extend(job.advice.iter().filter(|a| a.with.as_ref().is_none_or(|w| !w.starts_with(&again))).cloned());
        advice.push(with("more of that job", format!("podwright why job/{}{flag}", job.name)));
        advice.extend((!case.spec.suspend).then(by_hand));
    }
    match situation {
        Situation::Suspended => {
            advice.push(with("to let it go on", "spec.suspend: false".to_owned()));
            advice.push(by_hand());
        }
        Situation::Waiting => {
            let slow = active(case).next();
            advice.extend(
                slow.map(|(job, _)| with("what that job still does", format!("podwright why job/{job}{flag}"))),
            );
            if case.spec.concurrency == Concurrency::Forbid && slow.is_some() {
                advice.push(with("to end the older job instead", "spec.concurrencyPolicy: Replace".to_owned()));
            }
        }
        Situation::Scheduled => advice.push(by_hand()),
        _ => {}
    }
    if !case.file_problems.is_empty() {
        advice.push(with("put the manifest right", format!("podwright validate {}", case.file)));
    }
    advice
}
