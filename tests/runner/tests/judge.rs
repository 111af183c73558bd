//! Every kind of expectation against one recording: the right one holds, a wrong one does not, and neither do its
//! contradictions; and changes of the recording are seen.

use serde_json::{Value, json};

use podwright_cases::case::{Case, read_file};
use podwright_cases::contradict::contradictions;
use podwright_cases::grammar::{ContainerRef, Expect, expectation};
use podwright_cases::judge::{Judge, Kind};
use podwright_cases::recording::{FileWrite, FirstSeen, LogLine, Mark, Recording, Run, Sample, Shown};
use podwright_cases::report::{Verdict, verdict, verdict_beside};

const CASE: &str = r#"
cases:
- id: Z1
  title: everything that can be asked
  from: the format
  stage: spine
  needs: [cgroup, api]
  max: 60
  manifests:
  - apiVersion: v1
    kind: Pod
    metadata: {name: z1}
    spec:
      initContainers:
      - {name: side, image: actor, restartPolicy: Always}
      containers:
      - name: app
        image: actor
        args: ["serve=http:1"]
        readinessProbe: {exec: {command: [act, probe, readiness]}}
        lifecycle: {preStop: {exec: {command: [act, hook, pre]}}}
  - apiVersion: v1
    kind: Pod
    metadata: {name: z1-b}
    spec:
      containers:
      - {name: other, image: actor}
  steps: [start, {edit: {raw: "kind: ["}}, {write: {file: aa.yaml, raw: "{"}}, agent_kill, agent_start, {api_delete: {grace: 1}}]
  expect: ['phase == Succeeded']
"#;

fn case() -> Case {
    let mut cases = read_file(CASE).expect("readable");
    cases.remove(0).1.expect("right")
}

fn run(pod: &str, name: &str, attempt: u32, requested: f64, exit: Option<f64>, events: &[(f64, &str)]) -> Run {
    let line = |(at, text): &(f64, &str)| LogLine { at: *at, text: (*text).to_owned(), event: !text.starts_with('|') };
    Run {
        container: ContainerRef { pod: pod.to_owned(), name: name.to_owned() },
        uid: format!("uid-{pod}"),
        attempt,
        requested,
        pid: Some(100),
        pid_start: Some(5),
        exit,
        alive: exit.is_none(),
        lines: events.iter().map(line).collect(),
    }
}

fn pod(phase: &str, restarts: i64, app: Value, ready: &str) -> Value {
    let is_ready = ready == "True";
    let side = json!({"name": "side", "restartCount": 0, "ready": true, "started": true, "state": {"running": {}}});
    let app = json!({"name": "app", "restartCount": restarts, "ready": is_ready, "started": is_ready, "state": app,
        "lastState": {"terminated": {"exitCode": 4, "reason": "Error"}}});
    json!({"metadata": {"labels": {"tier": "web"}},
        "status": {"phase": phase, "qosClass": "Burstable", "reason": "DeadlineExceeded",
            "conditions": [{"type": "Ready", "status": ready, "reason": "ContainersNotReady"}],
            "initContainerStatuses": [side], "containerStatuses": [app]}})
}

fn instances() -> Vec<Run> {
    let second: &[(f64, &str)] = &[
        (5.1, "started"),
        (5.2, "| VERSION=2"),
        (6.0, "probe kind=readiness ok=true"),
        (7.0, "http path=/200 h.Host=shop.example:1 h.X-Probe=a%20b"),
        (12.1, "pre_begin"),
        (12.5, "pre_end"),
        (12.6, "term"),
    ];
    let first: &[(f64, &str)] = &[(1.1, "started"), (2.0, "probe kind=readiness ok=false"), (3.9, "bye")];
    vec![
        run("z1", "side", 0, 0.5, Some(15.0), &[(0.6, "started"), (14.0, "term"), (14.9, "bye")]),
        run("z1-b", "other", 0, 0.5, None, &[(0.7, "started")]),
        run("z1", "app", 0, 1.0, Some(4.0), first),
        run("z1", "app", 1, 5.0, Some(13.0), second),
    ]
}

fn statuses() -> Vec<Shown> {
    let shown = |at, pod: &str, object| Shown { at, pod: pod.to_owned(), object };
    let crash = json!({"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 10s\nof app"}});
    let ended = json!({"terminated": {"exitCode": 3, "reason": "Error", "message": "bye"}});
    vec![
        shown(0.2, "z1", pod("Pending", 0, json!({"waiting": {"reason": "PodInitializing"}}), "False")),
        shown(1.2, "z1", pod("Running", 0, json!({"running": {}}), "False")),
        shown(4.1, "z1", pod("Running", 0, crash, "False")),
        shown(6.1, "z1", pod("Running", 1, json!({"running": {}}), "True")),
        shown(13.1, "z1", pod("Succeeded", 1, ended, "False")),
        shown(0.3, "z1-b", pod("Running", 0, json!({"running": {}}), "False")),
    ]
}

fn recording() -> Recording {
    let mark = |at, event: &str, pod: Option<&str>| Mark { event: event.to_owned(), pod: pod.map(str::to_owned), at };
    let sample = |at, key: &str, value: &str| Sample { at, key: key.to_owned(), value: Some(value.to_owned()) };
    let write = |at, file: &str, pods: &[&str]| FileWrite {
        at,
        file: file.to_owned(),
        pods: pods.iter().map(|pod| (*pod).to_owned()).collect(),
    };
    Recording {
        end: 20.0,
        marks: vec![
            mark(0.0, "placed", Some("z1")),
            mark(0.1, "placed", Some("z1-b")),
            mark(5.5, "edited", None),
            mark(8.0, "agent_down", None),
            mark(9.0, "agent_up", None),
            mark(12.0, "deleted", None),
            mark(16.0, "gone", Some("z1")),
        ],
        instances: instances(),
        statuses: statuses(),
        samples: vec![
            sample(0.5, "procs z1", "3"),
            sample(15.5, "procs z1", "0"),
            sample(0.5, "procs z1-b", "0"),
            sample(1.0, "cgroup z1/app cpu.max", "25000 100000"),
            sample(1.0, "oom_score_adj z1/side", "900"),
            sample(1.0, "oom_score_adj z1/app", "1000"),
            sample(1.0, "cgroup z1 exists", "true"),
            sample(16.0, "cgroup z1 exists", "false"),
        ],
        uids: vec![
            FirstSeen { at: 0.2, pod: "z1".into(), uid: "uid-z1".into() },
            FirstSeen { at: 0.3, pod: "z1-b".into(), uid: "uid-z1-b".into() },
        ],
        writes: vec![
            write(0.0, "z1.yaml", &["z1"]),
            write(0.1, "z1-b.yaml", &["z1-b"]),
            write(5.5, "z1.yaml", &[]),
            write(5.6, "aa.yaml", &[]),
        ],
        events: vec![
            json!({"reason": "FailedManifest", "message": "m/z1.yaml:1: kind: unclosed"}),
            json!({"reason": "FailedManifest", "message": "m/aa.yaml:1: unclosed"}),
        ],
        log: "{\"msg\":\"m/z1.yaml:1: kind: unclosed\"}\n{\"msg\":\"m/aa.yaml: unclosed\"}\n".into(),
        files: "m/z1.yaml Rejected kind: unclosed\nm/aa.yaml Rejected unclosed\n".into(),
        problems: vec![],
    }
}

/// What holds for the recording; next to each, what does not.
const LINES: &[(&str, &str)] = &[
    ("started(side) before started(app)", "started(app) before started(side)"),
    ("started(app)#2 after exits(app)", "started(app)#3 after exits(app)"),
    ("exits(app)#last before exits(side)", "exits(app)#last after exits(side)"),
    ("bye(app) before started(app)#2", "bye(app)#2 after started(app)"),
    ("term(side) after deleted", "term(side) before deleted"),
    ("gap(exits(app), started(app)#2) in [1, 1.2]", "gap(exits(app), started(app)#2) in [1.2, 9]"),
    ("gap(deleted, gone) in [4, 4]", "gap(deleted, gone(z1-b)) in [0, 9]"),
    ("gap(term(side), term(app)#2) in [-2, 0]", "gap(term(side), term(app)#2) in [-1, 0]"),
    ("never(term(app)) before deleted", "never(term(app)) before gone"),
    ("never(started(z1-b/other)) after placed+1", "never(started(z1-b/other)) after placed+0.5"),
    ("never(bye(z1-b/other))", "never(bye(app))"),
    ("count(started(app)) == 2", "count(started(app)) > 2"),
    (
        "count(probe(app,readiness)) >= 1 between placed and agent_down",
        "count(probe(app,readiness)) >= 1 between agent_up and gone",
    ),
    ("count(pre_begin(app)) == 1", "count(pre_begin(app)) == 0"),
    ("overlap(side, app#2)", "overlap(app#1, app#2)"),
    ("no_overlap(app#1, app#2)", "no_overlap(side, app)"),
    ("phase == Succeeded", "phase == Failed"),
    ("phase(z1-b) == Running", "phase(z1-b) == Pending"),
    ("cond(Ready) == False:ContainersNotReady", "cond(Ready) == False:PodFailed"),
    ("cond(z1/Ready) == False", "cond(z1/Ready) == True"),
    ("pod.reason == DeadlineExceeded", "pod.reason == Evicted"),
    ("qos == Burstable", "qos == Guaranteed"),
    ("restartCount(app) >= 1", "restartCount(app) < 1"),
    ("exitCode(app) in [2, 3]", "exitCode(app) in [1, 33]"),
    ("exitCode(app) != 0", "exitCode(side) != 0"),
    ("reason(app) == Error", "reason(app) == Completed"),
    ("message(app) == bye", "message(app) matches ^by$"),
    ("message.length(side) == 0", "message.length(app) > 3"),
    ("last.exitCode(app) == 4", "last.exitCode(app) == 3"),
    ("last.reason(app) == Error", "last.reason(app) == OOMKilled"),
    ("isReady(side) == true", "isReady(app) == true"),
    ("isStarted(side) == true", "isStarted(app) == true"),
    (
        "field(status.initContainerStatuses[].name) == [side]",
        "field(status.initContainerStatuses[].name) == [side, app]",
    ),
    (
        "field(status.conditions[type=Ready].reason) == ContainersNotReady",
        "field(status.conditions[type=Other].reason) == x",
    ),
    ("field(metadata.labels.tier) matches ^w", "field(metadata.labels.none) != web"),
    ("procs(pod) == 0", "procs(pod) > 0"),
    ("procs(z1-b) == 0", "procs(z1-b) == 1"),
    ("cgroup(pod, exists) == false", "cgroup(pod, exists) == true"),
    ("at(started(app)): cgroup(app, cpu.max) == \"25000 100000\"", "at(started(app)): cgroup(app, cpu.max) == 25000"),
    (
        "at(started(app)): oom_score_adj(side) <= oom_score_adj(app)",
        "at(started(app)): oom_score_adj(side) > oom_score_adj(app)",
    ),
    ("at(exits(app)+0.5): waiting(app) == CrashLoopBackOff", "at(exits(app)+0.05): waiting(app) == CrashLoopBackOff"),
    ("at(exits(app)+0.5): message.lines(app) == 2", "at(exits(app)+0.5): message.lines(app) == 1"),
    ("by(started(app)#2+2): cond(Ready) == True", "by(started(app)#2+0.5): cond(Ready) == True"),
    ("always(started(app)+0.2 .. exits(app)): phase == Running", "always(placed+0.5 .. exits(app)): phase == Running"),
    (
        "always(agent_up+0.5 .. agent_up+2): isReady(app) == true",
        "always(agent_up+0.5 .. agent_up+5): isReady(app) == true",
    ),
    ("phase_never Failed", "phase_never Pending"),
    ("phase_seq == [Pending, Running, Succeeded]", "phase_seq == [Pending, Succeeded]"),
    ("unchanged(started(app) .. gone): field(metadata.labels)", "unchanged(started(app) .. gone): field(status.phase)"),
    ("same_pid(z1-b/other)", "same_pid(side)"),
    ("seen(app#2, VERSION=2)", "seen(app#1, VERSION=2)"),
    ("header(app, X-Probe) == \"a b\"", "header(app, X-Probe) == a"),
    ("header(app, host) matches :1$", "header(app, Via) matches ."),
    ("event(FailedManifest) seen", "event(Pulled) seen"),
    ("rejected(pod, unclosed)", "rejected(pod, spec)"),
    ("rejected(aa.yaml)", "rejected(z1-b)"),
];

#[test]
fn each_kind_holds_or_not() {
    let (case, recording) = (case(), recording());
    let judge = Judge { recording: &recording, slow: 1.0 };
    let parse = |line: &str| expectation(line, &case.scope).unwrap_or_else(|e| panic!("{line}: {e}"));
    for (right, wrong) in LINES {
        assert_eq!(judge.judge(&parse(right)), Ok(()), "{right}");
        assert!(judge.judge(&parse(wrong)).is_err(), "{wrong}");
        let others = contradictions(&parse(right), &recording, 1.0);
        assert!(!others.is_empty(), "{right}");
        for other in others {
            assert!(judge.judge(&other).is_err(), "{right}: {other:?}");
        }
    }
}

#[test]
fn slowness_moves_upper_bounds_only() {
    let (case, recording) = (case(), recording());
    let holds = |line: &str, slow| {
        let expect = expectation(line, &case.scope).unwrap_or_else(|e| panic!("{line}: {e}"));
        Judge { recording: &recording, slow }.judge(&expect).is_ok()
    };
    for (line, at_one, at_two) in [
        ("gap(deleted, gone) in [0, 3]", false, true),
        ("gap(deleted, gone) in [5, 6]", false, false),
        ("gap(term(side), term(app)#2) in [-1, 1]", false, true),
        ("by(started(app)#2+0.6): cond(Ready) == True", false, true),
        ("at(exits(app)+0.08): waiting(app) == CrashLoopBackOff", false, false),
        ("count(started(app)) <= 1", false, false),
    ] {
        assert_eq!((holds(line, 1.0), holds(line, 2.0)), (at_one, at_two), "{line}");
    }
}

/// A line that holds, and a change of the recording after which it does not.
type Change = (&'static str, fn(&mut Recording));

const CHANGES: &[Change] = &[
    ("started(app)#2 after exits(app)", |r| r.instances[2].exit = Some(5.2)),
    ("started(app)#2 after exits(app)", |r| r.instances[2].exit = None),
    ("gap(exits(app), started(app)#2) in [1, 1.2]", |r| r.instances[3].lines[0].at = 5.9),
    ("never(term(app)) before deleted", |r| r.instances[3].lines[6].at = 11.0),
    ("count(pre_begin(app)) == 1", |r| {
        let again = r.instances[3].lines[4].clone();
        r.instances[3].lines.push(again);
    }),
    ("no_overlap(app#1, app#2)", |r| r.instances[2].exit = Some(6.0)),
    ("phase == Succeeded", |r| r.statuses[4].object["status"]["phase"] = json!("Failed")),
    ("phase_seq == [Pending, Running, Succeeded]", |r| r.statuses.swap(0, 3)),
    ("always(started(app)+0.2 .. exits(app)): phase == Running", |r| {
        r.statuses.insert(2, Shown { at: 3.0, pod: "z1".into(), object: json!({"status": {"phase": "Pending"}}) });
    }),
    ("same_pid(z1-b/other)", |r| r.instances[1].alive = false),
    ("same_pid(z1-b/other)", |r| r.instances.push(run("z1-b", "other", 1, 9.0, None, &[(9.1, "started")]))),
    ("same_pid(z1-b/other)", |r| r.instances[1].exit = Some(19.0)),
    ("rejected(pod, unclosed)", |r| r.uids.push(FirstSeen { at: 6.0, pod: "ghost".into(), uid: "x".into() })),
    ("rejected(pod, unclosed)", |r| r.log = String::new()),
    ("rejected(pod, unclosed)", |r| r.events.clear()),
    ("rejected(pod, unclosed)", |r| r.files = "m/z1.yaml Ok".into()),
    ("procs(pod) == 0", |r| r.samples[1].value = Some("1".into())),
    ("cgroup(pod, exists) == false", |r| r.samples.truncate(7)),
    ("gap(deleted, gone) in [4, 4]", |r| r.marks.retain(|mark| mark.event != "gone")),
];

#[test]
fn a_changed_recording_is_seen() {
    let case = case();
    for (line, change) in CHANGES {
        let expect = expectation(line, &case.scope).unwrap_or_else(|e| panic!("{line}: {e}"));
        let mut changed = recording();
        assert_eq!(Judge { recording: &changed, slow: 1.0 }.judge(&expect), Ok(()), "{line}");
        change(&mut changed);
        assert!(Judge { recording: &changed, slow: 1.0 }.judge(&expect).is_err(), "{line}");
    }
}

#[test]
fn nothing_holds_for_an_empty_recording() {
    let (case, empty) = (case(), Recording::default());
    let vacuous = ["never(bye(z1-b/other))"];
    for (right, _) in LINES.iter().filter(|(right, _)| !vacuous.contains(right)) {
        let expect = expectation(right, &case.scope).unwrap_or_else(|e| panic!("{right}: {e}"));
        assert!(Judge { recording: &empty, slow: 1.0 }.judge(&expect).is_err(), "{right}");
    }
}

/// Lines that do not hold for the recording, and the type of each failure.
const TYPES: &[(&str, Kind)] = &[
    // What had to happen did, after its lower bound, and late.
    ("gap(deleted, gone) in [0, 3]", Kind::Bound),
    ("gap(exits(app), started(app)#2) in [-0.1, 0.5]", Kind::Bound),
    ("gap(term(side), term(app)#2) in [-1, 0]", Kind::Bound),
    ("by(started(app)#2+0.5): cond(Ready) == True", Kind::Bound),
    // Too early, in the wrong order, never.
    ("gap(deleted, gone) in [5, 6]", Kind::Wrong),
    ("gap(term(side), term(app)#2) in [-2, -1.5]", Kind::Wrong),
    ("gap(term(side), term(app)#2) in [-0.1, 1]", Kind::Wrong),
    ("gap(started(app)#2, started(app)) in [0, 5]", Kind::Wrong),
    ("gap(deleted, gone(z1-b)) in [0, 9]", Kind::Wrong),
    ("by(started(app)#2+0.5): cond(Ready) == True:NoSuchReason", Kind::Wrong),
    ("by(started(app)+0.5): phase == Failed", Kind::Wrong),
    ("at(exits(app)+0.05): waiting(app) == CrashLoopBackOff", Kind::Wrong),
    ("always(placed+0.5 .. exits(app)): phase == Running", Kind::Wrong),
    ("started(app) before started(side)", Kind::Wrong),
    ("count(started(app)) > 2", Kind::Wrong),
    ("never(bye(app))", Kind::Wrong),
    ("no_overlap(side, app)", Kind::Wrong),
    ("phase == Failed", Kind::Wrong),
    ("exitCode(app) in [1, 33]", Kind::Wrong),
    ("same_pid(side)", Kind::Wrong),
    ("rejected(z1-b)", Kind::Wrong),
];

#[test]
fn only_what_came_late_is_bound() {
    let (case, recording) = (case(), recording());
    let judge = Judge { recording: &recording, slow: 1.0 };
    for (line, kind) in TYPES {
        let expect = expectation(line, &case.scope).unwrap_or_else(|e| panic!("{line}: {e}"));
        assert_eq!(judge.judge(&expect).map_err(|failure| failure.kind), Err(*kind), "{line}");
    }
    // No line but those above is Bound, whatever is wrong with it.
    for (_, wrong) in LINES {
        let kind = judge.judge(&expectation(wrong, &case.scope).expect("parsed")).map_err(|failure| failure.kind);
        let upper = wrong.starts_with("by(") || *wrong == "gap(term(side), term(app)#2) in [-1, 0]";
        assert_eq!(kind, Err(if upper { Kind::Bound } else { Kind::Wrong }), "{wrong}");
    }
}

fn judged(expect: &[&str], problems: &[&str]) -> Verdict {
    let (mut case, mut recording) = (case(), recording());
    case.expect =
        expect.iter().map(|line| ((*line).to_owned(), expectation(line, &case.scope).expect("parsed"))).collect();
    recording.problems = problems.iter().map(|problem| (*problem).to_owned()).collect();
    verdict(&case, &recording, 1.0, false)
}

#[test]
fn a_case_may_run_again_only_when_all_its_failures_are_bound() {
    let (right, late, wrong) = ("phase == Succeeded", "gap(deleted, gone) in [0, 3]", "phase == Failed");
    assert!(judged(&[right, late], &[]).is_late());
    assert!(judged(&[late, "by(started(app)#2+0.5): cond(Ready) == True"], &[]).is_late());
    for (lines, problems) in [
        (&[right][..], &[][..]),
        (&[late, wrong], &[]),
        (&[late], &["left behind: mount /x"]),
        (&[late], &["over its max of 3 s"]),
        (&[right], &["attempt 0 ran twice"]),
    ] {
        assert!(!judged(lines, problems).is_late(), "{lines:?} {problems:?}");
    }
}

#[test]
fn the_self_test_can_fail() {
    let (mut case, recording) = (case(), recording());
    let line = "phase == Succeeded";
    case.expect = vec![(line.to_owned(), expectation(line, &case.scope).expect("parsed"))];
    assert_eq!(verdict(&case, &recording, 1.0, true), Verdict::Passed);
    // A contradiction that holds as well is one that nobody looked at; and one without any was not tested.
    for (contradict, says) in [
        ((|expect, _, _| vec![expect.clone()]) as podwright_cases::report::Contradict, "its contradiction holds too"),
        (|_, _, _| Vec::new(), "nothing contradicts it"),
    ] {
        let Verdict::Failed(failures) = verdict_beside(&case, &recording, 1.0, Some(contradict)) else {
            panic!("passed, wanted {says}");
        };
        assert!(failures.len() == 1 && failures[0].why.contains(says), "{failures:?}");
        assert_eq!(failures[0].kind, Kind::Wrong, "{says}");
    }
}

#[test]
fn what_a_case_stretches_grows_with_slowness() {
    let text = CASE
        .replace("max: 60", "max: 60\n  stretch: [periodSeconds, failureThreshold]")
        .replace("readiness]}}", "readiness]}, periodSeconds: 2, timeoutSeconds: 3, failureThreshold: 1}");
    let case = read_file(&text).expect("readable").remove(0).1.expect("right");
    let probe = |slow| case.stretched(slow)[0]["spec"]["containers"][0]["readinessProbe"].clone();
    assert_eq!(probe(1.0), case.manifests[0]["spec"]["containers"][0]["readinessProbe"]);
    let grown = probe(2.5);
    assert_eq!([&grown["periodSeconds"], &grown["timeoutSeconds"], &grown["failureThreshold"]], [5, 3, 3]);
}

#[test]
fn the_kernels_cases_and_a_tenth_of_the_others_are_drawn() {
    let all = podwright_cases::case::read(&[concat!(env!("CARGO_MANIFEST_DIR"), "/../cases").into()]).expect("right");
    let others: Vec<&Case> = all.iter().filter(|case| !case.is_kernels()).collect();
    for case in &all {
        let hosts_may_lack = case.needs.iter().any(|need| need != "api");
        assert!(!hosts_may_lack || case.is_kernels(), "{}", case.id);
    }
    let drawn =
        |seed| others.iter().filter(|case| case.is_drawn(seed)).map(|case| case.id.as_str()).collect::<Vec<_>>();
    for seed in 1..50 {
        let n = drawn(seed).len();
        assert!(n * 20 >= others.len() && n * 5 <= others.len(), "seed {seed} draws {n} of {}", others.len());
    }
    assert_eq!(drawn(1), drawn(1));
    assert_ne!(drawn(1), drawn(2));
    // Every case has its day.
    assert!(others.iter().all(|case| (1..400).any(|seed| case.is_drawn(seed))));
}

/// What has come true is not waited for any longer, however long its bound is; what has not is.
#[test]
fn a_case_ends_when_all_has_come_true() {
    let case = case();
    let line = LINES.iter().map(|(right, _)| *right).find(|line| line.starts_with("by(")).expect("there is one");
    let expect = expectation(line, &case.scope).expect("parsed");
    // The end is only known when it has come.
    let mut runs = Recording { end: 0.0, ..recording() };
    let is_past = |recording: &Recording, now| Judge { recording, slow: 1.0 }.is_past(&expect, now);
    let true_at =
        (0..200).map(|tenth| f64::from(tenth) / 10.0).find(|now| is_past(&runs, *now)).expect("it comes true");
    let Expect::By(bound, _) = &expect else { panic!("{line}") };
    let bound = runs.moment(bound).expect("it begins");
    assert!(true_at > 0.0 && true_at < bound, "{line} at {true_at}, not before {bound}");
    runs.statuses.retain(|status| status.at < true_at - 0.1);
    assert!(!is_past(&runs, true_at), "{line}");
}
