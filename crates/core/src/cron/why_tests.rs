//! Situations of cron jobs as data.

use jiff::tz::TimeZone;

use super::decide::Moment;
use super::decide_tests::{Fixture, at};
use super::why::{Case, explain, failed};
use crate::objects::Kind;
use crate::pod::why::tests::text_of;
use crate::pod::why::{Explanation, Situation};

#[track_caller]
fn check(cron: &Fixture, now: &str, told: &[Explanation], situation: Situation, said: &[&str]) -> String {
    let moment = Moment { now: at(now), jumped: false, zone: TimeZone::UTC };
    let explanation = explain(&Case {
        spec: &cron.spec,
        state: &cron.state,
        jobs: &cron.jobs,
        removing: false,
        refused: None,
        told,
        file: "/m/c.yaml",
        file_problems: &[],
        moment: &moment,
    });
    let text = text_of(&explanation);
    assert_eq!(explanation.situation, situation, "{text}");
    for part in said {
        assert!(text.contains(part), "{part:?} is missing in:\n{text}");
    }
    text
}

#[test]
fn the_next_run_and_the_last() {
    let mut cron = Fixture::new("schedule: '0 * * * *', timeZone: Europe/Berlin", "latest");
    check(
        &cron,
        "01 12:30",
        &[],
        Situation::Scheduled,
        &[
            "default/c waits for its next run: Sun 2026-11-01 14:00 +01:00, in 30 min",
            "schedule: \"0 * * * *\" in Europe/Berlin",
            "last run by schedule: none yet",
            "to run it now: podwright create job c-now --from=cronjob/c",
        ],
    );
    cron.tick("01 13:00");
    let job = cron.jobs.keys().next().unwrap().clone();
    check(
        &cron,
        "01 13:01",
        &[],
        Situation::Running,
        &[&format!("default/c runs job {job}"), &format!("job {job} is not over, made 60 s ago")],
    );
    cron.end_all(true, "01 13:02");
    cron.tick("01 13:02");
    check(
        &cron,
        "01 13:30",
        &[],
        Situation::Scheduled,
        &[
            &format!(
                "last run by schedule: Sun 2026-11-01 14:00 +01:00, 30 min ago: job {job} is complete after 2 min, 28 min ago"
            ),
            "last success: ended Sun 2026-11-01 14:02 +01:00, 28 min ago",
        ],
    );
}

#[test]
fn what_keeps_it_from_running_comes_first() {
    let mut cron = Fixture::hourly("latest");
    cron.tick("01 13:00");
    let moment = Moment { now: at("01 13:01"), jumped: false, zone: TimeZone::UTC };
    let case = Case {
        spec: &cron.spec,
        state: &cron.state,
        jobs: &cron.jobs,
        removing: true,
        refused: Some("jobs.batch \"c-1\" already exists"),
        told: &[],
        file: "/m/c.yaml",
        file_problems: &["c.yaml:3: no".to_owned()],
        moment: &moment,
    };
    let told = explain(&case);
    assert_eq!(told.situation, Situation::Stopping, "{}", told.summary);
    let told = explain(&Case { removing: false, ..case });
    assert_eq!(told.situation, Situation::BackOff);
    let text = text_of(&told);
    for part in [
        "cannot make the job of a run, and tries again: jobs.batch \"c-1\" already exists",
        "c.yaml:3: no",
        "podwright validate /m/c.yaml",
    ] {
        assert!(text.contains(part), "{part:?} is missing in:\n{text}");
    }
}

#[test]
fn a_failed_job_is_told_until_one_succeeds() {
    let mut cron = Fixture::hourly("latest");
    cron.tick("01 13:00");
    cron.end_all(false, "01 13:01");
    let job = failed(&cron.jobs).unwrap().to_owned();
    let told = Explanation::new(Kind::Job, ("default", &job), Situation::Failed, format!("default/{job} failed: x"));
    check(
        &cron,
        "01 13:10",
        std::slice::from_ref(&told),
        Situation::Failed,
        &[
            &format!("default/c failed the last time, job {job}: failed: x"),
            &format!("podwright why job/{job}"),
            "next run: Sun 2026-11-01 14:00 +00:00, in 50 min",
        ],
    );
    cron.tick("01 14:00");
    cron.end_all(true, "01 14:01");
    assert_eq!(failed(&cron.jobs), None);
}

#[test]
fn why_a_run_waits_or_was_left_out() {
    let mut forbid =
        Fixture::new("schedule: '0 * * * *', concurrencyPolicy: Forbid, startingDeadlineSeconds: 1800", "latest");
    forbid.tick("01 13:00");
    forbid.tick("01 14:00");
    let job = forbid.jobs.keys().next().unwrap().clone();
    check(
        &forbid,
        "01 14:10",
        &[],
        Situation::Waiting,
        &[
            &format!(
                "waits with the run of Sun 2026-11-01 14:00 +00:00 until job {job} is over (concurrencyPolicy: Forbid)"
            ),
            "given up if it cannot start until Sun 2026-11-01 14:30 +00:00 (startingDeadlineSeconds: 1800)",
            "concurrency policy is Forbid",
            "spec.concurrencyPolicy: Replace",
        ],
    );
    forbid.tick("01 14:31");
    let text = check(
        &forbid,
        "01 14:31",
        &[],
        Situation::Running,
        &[
            "the run of Sun 2026-11-01 14:00 +00:00 was left out: it could not start within startingDeadlineSeconds (1800)",
        ],
    );
    assert!(!text.contains("concurrency policy is Forbid"), "{text}");

    let mut none = Fixture::hourly("none");
    none.tick("01 15:30");
    check(
        &none,
        "01 15:30",
        &[],
        Situation::Scheduled,
        &[
            "15:00 +00:00 was left out, and 2 before it: it was late by more than a minute, and podwright.dev/catch-up is none",
        ],
    );

    let mut all = Fixture::hourly("all");
    all.tick("01 15:30");
    check(&all, "01 15:30", &[], Situation::Waiting, &["what was missed is made up for one after the other"]);

    let mut suspended = Fixture::new("schedule: '0 * * * *', suspend: true", "latest");
    suspended.tick("01 14:30");
    check(
        &suspended,
        "01 14:30",
        &[],
        Situation::Suspended,
        &[
            "default/c is suspended (spec.suspend): it starts no runs",
            "runs were due since it is suspended, the last at Sun 2026-11-01 14:00 +00:00; when it goes on, one is made up for (podwright.dev/catch-up: latest)",
            "next run: none while it is suspended",
            "spec.suspend: false",
        ],
    );

    let mut never = Fixture::new("schedule: '0 0 31 2 *'", "latest");
    never.tick("01 14:30");
    check(&never, "01 14:30", &[], Situation::Waiting, &["never runs: no day has the time \"0 0 31 2 *\""]);
}
