//! The directory's rules, a table each. A file is written as `name=pod:uid,pod:uid`; `!` bad, `?` busy, `-` ignored.

use std::sync::Arc;

use super::*;
use podwright_core::manifest::Document;
use podwright_core::pod::spec::{PodSecurity, PodSpec, RestartPolicy};

fn object(pod: &str) -> Resource {
    let mut parts = pod.split(':');
    let (name, uid, label) = (parts.next().unwrap(), parts.next().unwrap(), parts.next());
    let spec = PodSpec {
        namespace: "default".into(),
        name: name.into(),
        uid: uid.into(),
        labels: label.iter().map(|l| ("tier".to_owned(), (*l).to_owned())).collect(),
        annotations: BTreeMap::new(),
        restart_policy: RestartPolicy::Always,
        grace: std::time::Duration::from_secs(30),
        active_deadline: None,
        start_gate: None,
        readiness_gates: vec![],
        hostname: name.into(),
        runtime_class: None,
        host_network: false,
        host_pid: false,
        host_ipc: false,
        security: PodSecurity::default(),
        volumes: vec![],
        containers: vec![],
    };
    Resource::Pod(Arc::new(Document { spec, manifest: serde_json::Value::Null, line: None, notes: vec![] }))
}

fn listing(files: &str) -> Listing {
    files
        .split_whitespace()
        .map(|file| {
            let (name, content) = file.split_once('=').unwrap();
            let seen = match content {
                "!" => Seen::Bad { problems: vec![format!("{name}:1: broken")] },
                "?" => Seen::Busy,
                "-" => Seen::Ignored { reason: "no manifest" },
                _ => {
                    let (pods, comment) = content.split_once('#').unwrap_or((content, ""));
                    let objects = pods.split(',').map(object).collect();
                    Seen::Good { digest: format!("{pods}#{comment}"), objects, notes: vec![] }
                }
            };
            (name.to_owned(), seen)
        })
        .collect()
}

fn shown(changes: &[Change]) -> String {
    let lines = changes.iter().map(|change| match change {
        Change::Add(c) => format!("+{}:{}@{}", c.object.name(), c.object.uid(), c.from.file),
        Change::Update(c) => format!("~{}:{}@{}", c.object.name(), c.object.uid(), c.from.file),
        Change::Remove(i) => format!("-{}", i.name),
    });
    lines.collect::<Vec<_>>().join(" ")
}

/// A sequence of listings, each with the changes it has to bring.
fn check(steps: &[(&str, &str)]) -> Decision {
    let mut last = Decision::default();
    for (n, (files, expected)) in steps.iter().enumerate() {
        last = decide(&last.claims, &listing(files));
        assert_eq!(shown(&last.changes), *expected, "step {n}: {files}");
    }
    last
}

fn rejected(decision: &Decision) -> Vec<(&str, &str)> {
    let bad = decision.reports.iter().filter(|r| r.state == FileState::Rejected);
    bad.map(|r| (r.file.as_str(), r.problems[0].as_str())).collect()
}

#[test]
fn files_come_change_and_go() {
    check(&[
        ("a=p:1", "+p:1@a"),
        ("a=p:1", ""),
        ("a=p:1#comment", "~p:1@a"),
        ("a=p:1:web", "~p:1@a"),
        ("a=p:2", "+p:2@a"),
        ("a=p:2 b=q:1", "+q:1@b"),
        ("", "-p -q"),
    ]);
}

#[test]
fn several_objects_in_a_file_are_each_their_own() {
    check(&[("a=p:1,q:1", "+p:1@a +q:1@a"), ("a=p:1,q:2", "~p:1@a +q:2@a"), ("a=q:2", "-p ~q:2@a")]);
}

#[test]
fn a_bad_file_keeps_its_last_good_objects_for_as_long_as_it_is_bad() {
    let end = check(&[("a=p:1,q:1", "+p:1@a +q:1@a"), ("a=!", ""), ("a=!", "")]);
    assert_eq!(rejected(&end), [("a", "a:1: broken")]);
    assert_eq!(end.reports[0].pods, ["default/p", "default/q"]);
    check(&[("a=p:1", "+p:1@a"), ("a=!", ""), ("a=p:2", "+p:2@a")]);
    check(&[("a=p:1", "+p:1@a"), ("a=!", ""), ("", "-p")]);
    check(&[("a=!", ""), ("a=p:1", "+p:1@a")]);
}

#[test]
fn a_file_being_written_keeps_what_it_was() {
    let end = check(&[("a=?", ""), ("a=p:1", "+p:1@a"), ("a=?", ""), ("a=p:2", "+p:2@a")]);
    assert_eq!(rejected(&end), []);
}

#[test]
fn a_renamed_file_keeps_its_pods() {
    check(&[("a=p:1", "+p:1@a"), ("z=p:1", "~p:1@z"), ("", "-p")]);
    check(&[("a=p:1", "+p:1@a"), ("z=p:2", "+p:2@z")]);
}

#[test]
fn the_same_object_in_two_files_stays_with_the_one_that_ran_first() {
    let end = check(&[("m=p:1", "+p:1@m"), ("a=p:1 m=p:1", "")]);
    assert_eq!(
        rejected(&end),
        [("a", "a: pod default/p is described by m already; remove it from one of the two files")]
    );
    check(&[("m=p:1", "+p:1@m"), ("a=p:2 m=p:1", ""), ("a=p:2", "+p:2@a")]);
    check(&[("m=p:1", "+p:1@m"), ("a=p:2 m=!", "")]);
    check(&[("a=p:1 b=p:2", "+p:1@a"), ("b=p:2", "+p:2@b")]);
}

#[test]
fn a_file_in_conflict_counts_as_a_whole() {
    let end = check(&[("a=p:1 b=q:1", "+p:1@a +q:1@b"), ("a=p:1 b=q:2,p:9", "")]);
    assert_eq!(rejected(&end)[0].0, "b");
    let end = check(&[("a=p:1 b=q:1", "+p:1@a +q:1@b"), ("a=p:1 b=r:1,p:9 c=r:5", "+r:5@c")]);
    assert_eq!(rejected(&end).len(), 1, "c is no worse for wanting what b could not have");
}

#[test]
fn an_object_twice_in_one_file_is_a_problem_of_the_file() {
    let end = check(&[("a=p:1", "+p:1@a"), ("a=p:1,p:2", "")]);
    assert_eq!(rejected(&end), [("a", "a: describes pod default/p twice; keep one of them")]);
}

#[test]
fn what_is_no_manifest_is_reported_and_harmless() {
    let end = check(&[("a~=- a=p:1", "+p:1@a")]);
    assert_eq!(end.reports.iter().find(|r| r.file == "a~").unwrap().state, FileState::Ignored);
    check(&[("a=p:1", "+p:1@a"), ("a=-", "-p")]);
}

#[test]
fn deleted_by_hand_stays_away_until_the_files_bytes_change() {
    let mut claims = decide(&Claims::new(), &listing("a=p:1,q:1")).claims;
    let p = Identity::new(podwright_core::objects::Kind::Pod, "default", "p");
    claims.get_mut(&p).unwrap().from.suppressed = true;
    let after = |claims: &Claims, files| {
        let decision = decide(claims, &listing(files));
        (shown(&decision.changes), decision.claims)
    };
    assert_eq!(after(&claims, "a=p:1,q:1").0, "");
    let report = &decide(&claims, &listing("a=p:1,q:1")).reports[0];
    assert_eq!(report.pods, ["default/q"]);
    assert_eq!(report.problems, ["pod default/p was deleted; it stays away until this file changes"]);
    let (changes, renamed) = after(&claims, "z=p:1,q:1");
    assert_eq!(changes, "~q:1@z");
    assert!(renamed[&p].from.suppressed);
    let (changes, bad) = after(&claims, "a=!");
    assert_eq!(changes, "");
    assert!(bad[&p].from.suppressed);
    assert_eq!(after(&claims, "a=p:1,q:1#again").0, "+p:1@a ~q:1@a");
    let (changes, gone) = after(&claims, "");
    assert_eq!(changes, "-p -q");
    assert_eq!(after(&gone, "a=p:1,q:1").0, "+p:1@a +q:1@a");
}
