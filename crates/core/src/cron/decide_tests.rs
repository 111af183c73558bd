use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::decide::{Moment, Plan, Step};
use super::spec::CronSpec;
use super::state::{CronState, JobEnd, JobSeen, Jobs};
use super::{decide, job_manifest};
use crate::job::spec::JobSpec;
use crate::manifest::{Format, Resource, from_value, read};

pub(super) struct Fixture {
    pub(super) spec: CronSpec,
    pub(super) state: CronState,
    pub(super) jobs: Jobs,
    told: Vec<String>,
    plan: Option<Plan>,
}

pub(super) fn at(text: &str) -> Timestamp {
    format!("2026-11-{text}:00Z").replace(' ', "T").parse().unwrap()
}

impl Fixture {
    /// Accepted at 12:00 on the 1st.
    pub(super) fn new(fields: &str, catch_up: &str) -> Fixture {
        let text = format!(
            "{{apiVersion: batch/v1, kind: CronJob, metadata: {{name: c, annotations: {{podwright.dev/catch-up: {catch_up}}}}}, spec: {{{fields}, \
             jobTemplate: {{metadata: {{labels: {{a: b}}}}, spec: {{template: {{spec: {{restartPolicy: Never, containers: [{{name: m, image: i}}]}}}}}}}}}}}}"
        );
        let spec = match read(&text, Format::Yaml).unwrap().remove(0) {
            Resource::CronJob(cron) => cron.spec.clone(),
            other => panic!("{other:?}"),
        };
        Fixture { spec, state: CronState::new(at("01 12:00")), jobs: Jobs::new(), told: vec![], plan: None }
    }

    pub(super) fn hourly(catch_up: &str) -> Fixture {
        Fixture::new("schedule: '0 * * * *'", catch_up)
    }

    fn look(&mut self, now: &str, jumped: bool) -> Vec<String> {
        let now = at(now);
        let plan = decide(&self.spec, &self.state, &self.jobs, &Moment { now, jumped, zone: TimeZone::UTC });
        self.state = plan.state.clone();
        self.told.extend(plan.notices.iter().map(|n| n.reason.clone()));
        let mut shown = Vec::new();
        for step in &plan.steps {
            match step {
                Step::Create { name, scheduled } => {
                    from_value::<JobSpec>(&job_manifest(&self.spec, name, Some(*scheduled))).expect("it is accepted");
                    let job = JobSeen { uid: name.clone(), created_at: now, end: None, removing: false };
                    assert!(self.jobs.insert(name.clone(), job).is_none(), "{name} is made twice");
                    shown.push(format!("+{}", scheduled.strftime("%d %H:%M")));
                }
                Step::Delete { name } => {
                    self.jobs.remove(name);
                    shown.push("-".to_owned());
                }
            }
        }
        self.plan = Some(plan);
        shown
    }

    /// A look of an agent that was there all the time.
    pub(super) fn tick(&mut self, now: &str) -> String {
        self.look(now, false).join(" ")
    }

    pub(super) fn end_all(&mut self, success: bool, now: &str) {
        for job in self.jobs.values_mut() {
            job.end.get_or_insert(JobEnd { success, at: at(now) });
        }
    }
}

#[test]
fn a_run_is_made_when_it_is_due_and_only_once() {
    let mut cron = Fixture::hourly("latest");
    assert_eq!(cron.tick("01 12:00"), "");
    assert_eq!(cron.plan.as_ref().unwrap().wake_at, Some(at("01 13:00")));
    assert_eq!(cron.tick("01 12:59"), "");
    assert_eq!(cron.tick("01 13:00"), "+01 13:00");
    assert_eq!(cron.tick("01 13:00"), "");
    assert_eq!(cron.jobs.keys().next().unwrap(), &format!("c-{}", at("01 13:00").as_second() / 60));
    assert_eq!(cron.plan.as_ref().unwrap().status.active.as_ref().unwrap().len(), 1);
    assert_eq!(cron.state.last_schedule, Some(at("01 13:00")));
    assert_eq!(cron.tick("01 14:00"), "+01 14:00");
}

#[test]
fn what_was_missed_is_made_up_for_as_the_annotation_says() {
    assert_eq!(Fixture::hourly("none").tick("03 12:30"), "");
    assert_eq!(Fixture::hourly("latest").tick("03 12:30"), "+03 12:00");
    let mut all = Fixture::hourly("all");
    assert_eq!(all.tick("01 15:30"), "+01 13:00");
    assert_eq!(all.tick("01 15:31"), "", "one after the other");
    for hour in ["14", "15"] {
        all.end_all(true, "01 15:32");
        assert!(all.tick("01 15:40").contains(&format!("+01 {hour}:00")));
    }
    all.end_all(true, "01 15:50");
    assert_eq!(all.tick("01 15:55").replace('-', ""), "");
}

#[test]
fn there_is_no_limit_of_a_hundred_missed_runs() {
    let mut cron = Fixture::new("schedule: '* * * * *'", "latest");
    assert_eq!(cron.tick("21 12:00"), "+21 12:00");
    let mut cron = Fixture::new("schedule: '* * * * *', successfulJobsHistoryLimit: 0", "all");
    for _ in 0..300 {
        assert!(cron.tick("02 12:00").contains('+'));
        cron.end_all(true, "02 12:00");
    }
    assert_eq!(cron.state.last_schedule, Some(at("01 17:00")));
}

#[test]
fn an_agent_that_was_away_for_a_moment_misses_nothing() {
    let mut cron = Fixture::hourly("none");
    cron.spec.starting_deadline = None;
    let now = at("01 13:00") + jiff::SignedDuration::from_secs(40);
    let plan = decide(&cron.spec, &cron.state, &cron.jobs, &Moment { now, jumped: false, zone: TimeZone::UTC });
    assert_eq!(plan.steps.len(), 1);
    cron.tick("01 13:30");
    assert_eq!(cron.told, ["MissSchedule"]);
}

#[test]
fn a_run_that_is_too_late_is_given_up() {
    let mut cron = Fixture::new("schedule: '0 * * * *', startingDeadlineSeconds: 600", "latest");
    assert_eq!(cron.tick("01 13:11"), "");
    assert_eq!(cron.told, ["MissSchedule"]);
    assert_eq!(cron.tick("01 14:10"), "+01 14:00");
    let mut all = Fixture::new("schedule: '*/5 * * * *', startingDeadlineSeconds: 600", "all");
    assert_eq!(all.tick("03 13:02"), "+03 12:55", "the first that is not too late");
}

#[test]
fn runs_beside_each_other_or_not() {
    let mut forbid = Fixture::new("schedule: '0 * * * *', concurrencyPolicy: Forbid", "latest");
    forbid.tick("01 13:00");
    assert_eq!(forbid.tick("01 14:00"), "");
    assert_eq!(forbid.told.last().unwrap(), "JobAlreadyActive");
    forbid.end_all(true, "01 14:20");
    assert_eq!(forbid.tick("01 14:20"), "+01 14:00", "as soon as it may");
    let mut replace = Fixture::new("schedule: '0 * * * *', concurrencyPolicy: Replace", "latest");
    replace.tick("01 13:00");
    assert_eq!(replace.tick("01 14:00"), "- +01 14:00");
    let mut allow = Fixture::hourly("latest");
    allow.tick("01 13:00");
    assert_eq!(allow.tick("01 14:00"), "+01 14:00");
}

#[test]
fn old_jobs_go_beyond_the_limits() {
    let mut cron = Fixture::new("schedule: '0 * * * *', successfulJobsHistoryLimit: 2", "latest");
    for hour in 13..19 {
        cron.tick(&format!("01 {hour}:00"));
        cron.end_all(hour % 3 != 0, &format!("01 {hour}:10"));
        cron.tick(&format!("01 {hour}:10"));
    }
    let ends: Vec<bool> = cron.jobs.values().map(|job| job.end.unwrap().success).collect();
    assert_eq!(ends, [true, true, false], "the two last that succeeded, the last that failed");
    assert_eq!(cron.state.last_success, Some(at("01 17:10")));
}

#[test]
fn while_suspended_nothing_runs_and_afterwards_at_most_one() {
    let mut cron = Fixture::hourly("all");
    cron.spec.suspend = true;
    assert_eq!(cron.tick("01 15:30"), "");
    assert_eq!(cron.plan.as_ref().unwrap().wake_at, None);
    cron.spec.suspend = false;
    assert_eq!(cron.tick("01 17:30"), "+01 17:00");
    assert_eq!(cron.tick("01 17:31"), "");
}

#[test]
fn a_clock_that_is_set_forward_brings_at_most_one_run() {
    for (catch_up, expected) in [("none", ""), ("latest", "+20 12:00"), ("all", "+20 12:00")] {
        let mut cron = Fixture::hourly(catch_up);
        assert_eq!(cron.look("20 12:30", true).join(" "), expected, "{catch_up}");
        assert_eq!(cron.tick("20 12:31"), "");
    }
}

#[test]
fn a_clock_that_is_set_back_repeats_nothing() {
    let mut cron = Fixture::hourly("latest");
    cron.tick("01 13:00");
    cron.tick("01 14:00");
    assert_eq!(cron.look("01 12:30", false).join(" "), "");
    assert_eq!(cron.tick("01 13:00"), "");
    assert_eq!(cron.tick("01 14:00"), "");
    assert_eq!(cron.tick("01 15:00"), "+01 15:00");
}

/// A board without a clock of its own boots in the past, and learns the time later.
#[test]
fn a_clock_that_is_far_behind_runs_on_and_then_catches_up() {
    let mut cron = Fixture::hourly("all");
    cron.state.done_until = at("20 13:00");
    assert_eq!(cron.tick("02 12:30"), "");
    assert_eq!(cron.tick("02 13:00"), "+02 13:00");
    assert_eq!(cron.tick("02 13:00"), "");
    cron.end_all(true, "02 13:01");
    assert_eq!(cron.look("20 15:30", true).join(" "), "+20 14:00", "the box was off: all that was missed");
    cron.end_all(true, "20 15:31");
    assert_eq!(cron.tick("20 15:31"), "+20 15:00");
}

#[test]
fn who_died_after_making_a_job_does_not_make_it_again() {
    let mut cron = Fixture::hourly("latest");
    let before = cron.state.clone();
    cron.tick("01 13:00");
    cron.state = before;
    assert_eq!(cron.tick("01 13:00"), "");
    assert_eq!(cron.state.done_until, at("01 13:00"));
}

#[test]
fn a_job_made_by_hand_says_so() {
    let cron = Fixture::hourly("latest");
    let manifest = job_manifest(&cron.spec, "x", None);
    assert_eq!(manifest["metadata"]["annotations"]["cronjob.kubernetes.io/instantiate"], "manual");
    assert_eq!(manifest["metadata"]["labels"]["a"], "b");
}
