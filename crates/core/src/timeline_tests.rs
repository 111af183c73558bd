//! Lives as data, drawn as text: `from-to doing` in seconds, then the marks.

use std::time::Duration;

use super::*;
use crate::ledger::{Figures, Health, ProbeFailures};
use crate::manifest::{Format, parse};
use crate::pod::observe::{Instance, InstanceState};

const SECOND: i64 = 1_000_000_000;

fn at(seconds: i64) -> Time {
    Time(seconds * SECOND)
}

fn run(container: &str, attempt: u32, from: i64, to: Option<(i64, Outcome)>) -> Entry {
    Entry {
        container: container.to_owned(),
        attempt,
        sandbox: 1,
        boot_id: "b".to_owned(),
        requested_at: at(from),
        started_at: Some(at(from)),
        pre_stop_at: None,
        signaled_at: None,
        killed_at: None,
        cause: None,
        health: Health::default(),
        origin: None,
        end: to.map(|(to, outcome)| End {
            at: at(to),
            outcome,
            victim: None,
            figures: Figures::default(),
            tail: Vec::new(),
        }),
    }
}

fn exited(code: i32) -> Outcome {
    Outcome::Exited { code, oom: false }
}

const POD: &str = "{apiVersion: v1, kind: Pod, metadata: {name: web}, spec: {
    initContainers: [{name: setup, image: i}, {name: proxy, image: i, restartPolicy: Always}],
    containers: [{name: server, image: i}]}}";

fn check(entries: &[Entry], ended_at: Option<i64>, now: i64, expected: &[&str]) {
    let document = parse(POD, Format::Yaml).unwrap().remove(0);
    let observed = Observed::new(at(0), 3);
    let status = PodStatus::default();
    let life = Life {
        spec: &document.spec,
        observed: &observed,
        status: &status,
        entries,
        ended_at: ended_at.map(at),
        now: at(now),
    };
    let timeline = draw(&life);
    let shown: Vec<String> = timeline
        .rows
        .iter()
        .map(|row| {
            let spans = row.spans.iter().map(|s| format!("{}-{} {:?}", s.from / 1000, s.to / 1000, s.doing));
            let marks = row.marks.iter().map(|m| format!("@{} {:?}", m.at / 1000, m.what));
            let all: Vec<String> = spans.chain(marks).collect();
            format!("{} {}: {}", row.role, row.container, all.join(", "))
        })
        .collect();
    assert_eq!(shown, expected);
}

#[test]
fn inits_wait_for_each_other_and_a_crash_is_followed_by_back_off() {
    let mut proxy = run("proxy", 0, 3, None);
    proxy.health.ready = vec![(at(5), true)];
    let entries = [
        run("setup", 0, 1, Some((3, exited(0)))),
        proxy,
        run("server", 0, 5, Some((6, exited(1)))),
        run("server", 1, 16, None),
    ];
    check(
        &entries,
        None,
        20,
        &[
            "init setup: 0-1 Waiting, 1-3 Running, @1 Started, @3 Done",
            "sidecar proxy: 0-3 Waiting, 3-5 Running, 5-20 Ready, @3 Started, @5 Ready",
            "main server: 0-5 Waiting, 5-6 Running, 6-16 BackOff, 16-20 Running, @5 Started, @6 Failed, @16 Started",
        ],
    );
}

#[test]
fn failing_probes_and_the_way_to_the_end_are_told_apart() {
    let mut server = run("server", 0, 2, Some((14, Outcome::Signaled { signal: 9, oom: false })));
    server.health.ready = vec![(at(3), true), (at(8), false)];
    server.health.failures = vec![ProbeFailures {
        probe: "liveness".to_owned(),
        first: at(6),
        last: at(8),
        count: 3,
        output: "HTTP 500".to_owned(),
    }];
    server.signaled_at = Some(at(10));
    server.killed_at = Some(at(14));
    server.cause = Some(Cause { by: Asker::LivenessProbe, text: String::new() });
    check(
        &[server],
        Some(15),
        99,
        &[
            "init setup: ",
            "sidecar proxy: ",
            "main server: 0-2 Waiting, 2-3 Running, 3-6 Ready, 6-8 Failing, 8-10 Running, 10-14 Stopping, \
             @2 Started, @3 Ready, @6 ProbeFailed, @8 Unready, @10 Signal, @14 Kill, @14 Failed",
        ],
    );
}

#[test]
fn a_pre_stop_hook_is_part_of_the_stop() {
    let mut server = run("server", 0, 2, Some((9, exited(0))));
    (server.pre_stop_at, server.signaled_at) = (Some(at(4)), Some(at(7)));
    server.cause = Some(Cause { by: Asker::Owner, text: "it is suspended".to_owned() });
    let document = parse(POD, Format::Yaml).unwrap().remove(0);
    let (observed, status) = (Observed::new(at(0), 3), PodStatus::default());
    let entries = [server];
    let life = Life {
        spec: &document.spec,
        observed: &observed,
        status: &status,
        entries: &entries,
        ended_at: Some(at(9)),
        now: at(9),
    };
    let spans: Vec<String> = draw(&life).rows[2]
        .spans
        .iter()
        .map(|s| format!("{}-{} {:?} {}", s.from / 1000, s.to / 1000, s.doing, s.text))
        .collect();
    let expected =
        ["0-2 Waiting waits for proxy", "2-4 Running ", "4-7 Stopping preStop hook, its job", "7-9 Stopping its job"];
    assert_eq!(spans, expected);
}

#[test]
fn runs_without_a_record_are_told() {
    let document = parse(POD, Format::Yaml).unwrap().remove(0);
    let (observed, status) = (Observed::new(at(0), 3), PodStatus::default());
    let entries = [run("server", 0, 1, Some((2, exited(1)))), run("server", 7, 90, None)];
    let life = Life {
        spec: &document.spec,
        observed: &observed,
        status: &status,
        entries: &entries,
        ended_at: None,
        now: at(99),
    };
    let span = draw(&life).rows[2].spans[2].clone();
    assert_eq!((span.from, span.to, span.doing), (2000, 90_000, Doing::BackOff));
    assert_eq!(span.text, "6 runs of which no record is kept, and their back-offs");
}

#[test]
fn a_pod_that_ended_in_back_off_shows_it_to_its_end() {
    let text = POD.replace("containers: [{name: server", "restartPolicy: OnFailure, containers: [{name: server");
    let document = parse(&text, Format::Yaml).unwrap().remove(0);
    let entries = [run("server", 0, 1, Some((2, exited(1)))), run("server", 1, 2, Some((4, exited(1))))];
    let spans = |code: i32, by: Option<Asker>, ended_at: i64| {
        let mut observed = Observed::new(at(0), 3);
        let mut last = Instance::starting(1, 1, Duration::from_secs(10), at(2));
        last.state = InstanceState::Ended { started_at: Some(at(2)), finished_at: at(4), outcome: exited(code) };
        last.cause = by.map(|by| Cause { by, text: String::new() });
        observed.containers[2].instances = vec![last];
        let status = PodStatus::default();
        let life = Life {
            spec: &document.spec,
            observed: &observed,
            status: &status,
            entries: &entries,
            ended_at: Some(at(ended_at)),
            now: at(99),
        };
        let last = draw(&life).rows[2].spans.last().map(|s| (s.from / 1000, s.to / 1000, s.doing));
        last.unwrap()
    };
    assert_eq!(spans(1, None, 9), (4, 9, Doing::BackOff));
    assert_eq!(spans(1, Some(Asker::LivenessProbe), 20), (4, 14, Doing::BackOff));
    assert_eq!(spans(0, None, 9), (2, 4, Doing::Running));
    assert_eq!(spans(1, Some(Asker::Deadline), 9), (2, 4, Doing::Running));
}

#[test]
fn what_never_ran_waits() {
    let asked = Entry { started_at: None, ..run("setup", 0, 2, None) };
    check(
        &[asked],
        None,
        4,
        &["init setup: 0-2 Waiting, 2-4 Waiting", "sidecar proxy: 0-4 Waiting", "main server: 0-4 Waiting"],
    );
    check(&[], None, 4, &["init setup: 0-4 Waiting", "sidecar proxy: 0-4 Waiting", "main server: 0-4 Waiting"]);
    check(&[], Some(4), 9, &["init setup: ", "sidecar proxy: ", "main server: "]);
}
