//! Whatever strangers wrote into names, messages and output: no command of the program sends a terminal anything of theirs
//! that it would obey, or lines of theirs that look like the program's.

use std::process::Stdio;

use podwright_agent::status::{EventInput, FileReport, FileState, Subject};
use podwright_api_tests::{Server, Told, after, job, pod};
use podwright_core::objects::Kind;
use podwright_core::pod::why::{Advice, ContainerLine, Explanation, LastEnd, Member, Situation};
use podwright_core::timeline::{Doing, Mark, Row, Span, Timeline, What};
use podwright_sys::printable;
use serde_json::{Map, Value, json};
use tokio::process::Command;

/// What a terminal obeys or hides, and two forged lines.
const HOSTILE: &str = "\x1b]0;title\x07\x1b[31m\x1b[2J\x1b[8m\u{9b}1m\u{90}q\u{9c}\u{7f}\u{8}\0\u{b}\u{c}\u{202e}\u{2066}\u{200b}\u{feff}\u{ad}\u{e0041}\u{2028}\
    \rFORGED\nFORGED";

/// Every string of an object with the hostile one behind it, but what the API itself makes and a test looks for.
fn poison(value: &mut Value) {
    match value {
        Value::String(text) => text.push_str(HOSTILE),
        Value::Array(items) => items.iter_mut().for_each(poison),
        Value::Object(map) => {
            let mut poisoned = Map::new();
            for (key, mut value) in std::mem::take(map) {
                if !["apiVersion", "kind", "namespace", "uid", "name", "phase"].contains(&key.as_str())
                    || value.is_object()
                {
                    poison(&mut value);
                }
                poisoned.insert(key, value);
            }
            *map = poisoned;
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// A pod with everything that is printed, all of it hostile but what it is found by.
fn hostile_pod() -> Value {
    let container = |name: &str| {
        json!({"name": name, "image": "i", "command": ["c"], "args": ["a"], "env": [{"name": "e", "value": "v"}],
               "ports": [{"containerPort": 1, "protocol": "TCP"}], "resources": {"limits": {"cpu": "1"}, "requests": {"cpu": "1"}},
               "startupProbe": {"exec": {"command": ["x"]}}, "readinessProbe": {"httpGet": {"host": "h", "port": "p", "path": "/", "scheme": "s"}},
               "livenessProbe": {"tcpSocket": {"host": "h", "port": "p"}},
               "volumeMounts": [{"name": "v", "mountPath": "/m", "subPath": "s"}]})
    };
    let ended = json!({"exitCode": 1, "signal": 9, "reason": "r", "message": "m", "startedAt": "t", "finishedAt": "t", "containerID": "c"});
    let status = |name: &str, state: Value| json!({"name": name, "containerID": "c", "image": "i", "state": state, "lastState": {"terminated": ended}, "restartCount": 3});
    let mut init = container("init");
    init["restartPolicy"] = json!("Always");
    let mut pod = pod("web", "Running", &json!({}));
    pod["metadata"]["annotations"] = json!({"a": "b"});
    pod["metadata"]["labels"] = json!({"a": "b"});
    pod["metadata"]["ownerReferences"] = json!([{"kind": "Job", "name": "j"}]);
    pod["spec"] = json!({
        "nodeName": "n", "restartPolicy": "p", "initContainers": [init], "containers": [container("app"), container("b"), container("c")],
        "volumes": [{"name": "v", "emptyDir": {"medium": "m", "sizeLimit": "s"}}, {"name": "h", "hostPath": {"path": "/p", "type": "t"}}, {"name": "o", "other": {}}]});
    pod["status"] = json!({
        "phase": "Running", "reason": "r", "message": "m", "podIP": "i", "qosClass": "q", "startTime": "s",
        "conditions": [{"type": "t", "status": "s", "reason": "r", "message": "m"}],
        "initContainerStatuses": [status("init", json!({"waiting": {"reason": "r", "message": "m"}}))],
        "containerStatuses": [status("app", json!({"terminated": ended})), status("b", json!({"waiting": {"reason": "r", "message": "m"}})),
                              status("c", json!({"running": {"startedAt": "s"}}))]});
    poison(&mut pod);
    // Keys too: of labels, annotations, amounts and volumes.
    for place in ["/metadata/labels", "/metadata/annotations", "/spec/containers/0/resources/limits", "/spec/volumes/2"]
    {
        let map = pod.pointer_mut(place).unwrap().as_object_mut().unwrap();
        map.insert(format!("key{HOSTILE}"), json!("x"));
    }
    pod
}

fn explanation() -> Explanation {
    let text = || HOSTILE.to_owned();
    Explanation {
        container: Some(text()),
        phase: text(),
        details: vec![text()],
        last_end: Some(LastEnd {
            pod: Some(text()),
            attempt: 1,
            text: text(),
            asked: Some(text()),
            output: vec![text()],
        }),
        figures: vec![text()],
        changes: vec![text()],
        advice: vec![Advice { text: text(), with: Some(text()) }],
        containers: vec![ContainerLine { name: text(), role: text(), text: text() }],
        members: vec![Member { name: text(), text: text() }],
        ..Explanation::new(Kind::Pod, ("default", "web"), Situation::Failed, text())
    }
}

fn timeline() -> Timeline {
    let text = || HOSTILE.to_owned();
    let row = Row {
        container: text(),
        role: text(),
        spans: vec![Span { from: 0, to: 900, doing: Doing::Ready, text: text() }],
        marks: vec![Mark { at: 900, what: What::Failed, text: text() }],
    };
    Timeline { namespace: text(), name: text(), phase: text(), from: 0, to: 1000, goes_on: false, rows: vec![row] }
}

fn server() -> Server {
    let told = Told { why: Some(explanation()), timeline: Some(timeline()), note: Some(HOSTILE.to_owned()) };
    let server = Server::telling(told);
    server.put(hostile_pod());
    let mut job = job("parts", Some("Complete"));
    job["metadata"]["annotations"] = json!({"a": "b"});
    job["spec"]["selector"] = json!({"matchLabels": {"a": "b"}});
    job["status"]["completedIndexes"] = json!("0");
    poison(&mut job);
    job["status"]["conditions"][0]["type"] = json!("Failed");
    job["status"]["conditions"][0]["status"] = json!("True");
    let template = job["spec"].clone();
    server.put_job(job);
    let cron = json!({
        "apiVersion": "batch/v1", "kind": "CronJob",
        "metadata": {"namespace": "default", "name": "nightly", "uid": "uid-nightly", "labels": {"a": HOSTILE}},
        "spec": {"schedule": HOSTILE, "timeZone": HOSTILE, "concurrencyPolicy": HOSTILE, "jobTemplate": {"spec": template}},
        "status": {"active": [{"name": HOSTILE}], "lastScheduleTime": HOSTILE, "lastSuccessfulTime": HOSTILE},
    });
    server.store.put_object(Kind::CronJob, cron).unwrap();
    for (kind, name) in [(Kind::Job, "parts"), (Kind::CronJob, "nightly"), (Kind::Pod, "web")] {
        let (namespace, uid) = ("default".to_owned(), format!("uid-{name}"));
        let subject = match kind {
            Kind::Pod => Subject::Pod {
                namespace,
                name: name.into(),
                uid,
                field_path: Some(format!("spec.containers{{{HOSTILE}}}")),
            },
            kind => Subject::Object { kind, namespace, name: name.into(), uid },
        };
        let (reason, message) = (HOSTILE.to_owned(), HOSTILE.to_owned());
        server.store.record_event(EventInput { subject, reason, message, warning: true, at: after(2) });
    }
    let subject = Subject::File { path: format!("/m/{HOSTILE}") };
    let (reason, message) = (HOSTILE.to_owned(), HOSTILE.to_owned());
    server.store.record_event(EventInput { subject, reason, message, warning: true, at: after(2) });
    server.store.set_files(vec![FileReport {
        file: format!("/m/{HOSTILE}"),
        state: FileState::Rejected,
        pods: vec![HOSTILE.into()],
        problems: vec![HOSTILE.into()],
    }]);
    server
}

/// Both streams of the program.
async fn said(server: &Server, args: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_podwright"));
    command.env("PODWRIGHT_SOCKET", server.socket()).args(args).stdin(Stdio::null()).kill_on_drop(true);
    let output = command.output().await.unwrap();
    assert_ne!(output.status.code(), None, "{args:?}");
    String::from_utf8([output.stdout, output.stderr].concat()).unwrap()
}

/// The program's own colours taken out.
fn without_colours(text: &str) -> String {
    ["0", "1", "2", "31", "32", "33"]
        .iter()
        .fold(text.to_owned(), |text, code| text.replace(&format!("\x1b[{code}m"), ""))
}

/// Where several lines have their place they are below what they belong to.
fn has_forged_line(text: &str) -> bool {
    text.lines().any(|line| line.starts_with("FORGED"))
}

#[tokio::test]
async fn nothing_of_strangers_reaches_a_terminal_as_it_is() {
    let server = server();
    let manifest = server.dir.path().join("hostile.yaml");
    // In JSON, which is YAML, every character can be written.
    let text = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": HOSTILE, HOSTILE: 1, "labels": {HOSTILE: HOSTILE}},
        "spec": {"restartPolicy": HOSTILE, "containers": [{"name": HOSTILE, "image": HOSTILE, "imag": HOSTILE}]}});
    std::fs::write(&manifest, text.to_string()).unwrap();
    let planned = server.dir.path().join("planned.yaml");
    let text = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web"}, "spec": {"containers": [{"name": "c", "image": HOSTILE}]}});
    std::fs::write(&planned, text.to_string()).unwrap();
    let picture = server.dir.path().join("picture.svg");
    let (manifest, planned, picture) =
        (manifest.to_str().unwrap(), planned.to_str().unwrap(), picture.to_str().unwrap());
    let tables: &[&[&str]] = &[
        &["get", "pods", "-o", "wide", "--all"],
        &["get", "jobs", "-o", "wide"],
        &["get", "cronjobs", "-o", "wide"],
        &["get", "files"],
        &["get", "events", "-A"],
        &["events"],
        &["describe", "pod", "web"],
        &["describe", "job", "parts"],
        &["describe", "cronjob", "nightly"],
        &["why", "web"],
        &["timeline", "web"],
        &["timeline", "web", "--ascii"],
        &["timeline", "web", "--svg", picture],
        &["wait", "job/parts", "--for=condition=complete"],
        &["delete", "web"],
        &["restart", "web"],
        &["validate", manifest],
        &["plan", manifest],
        &["plan", planned],
        &["get", "pods", "-l", HOSTILE.trim_matches('\0').split('\0').next().unwrap()],
        &["version"],
    ];
    for args in tables {
        for colour in ["always", "never"] {
            let args = [&["--color", colour], *args].concat();
            let text = without_colours(&said(&server, &args).await);
            let hidden: Vec<char> = text.chars().filter(|c| *c != '\n' && printable::is_hidden(*c)).collect();
            assert!(hidden.is_empty() && !text.is_empty(), "{args:?}: {hidden:?} in\n{text}");
            assert!(!has_forged_line(&text), "{args:?}:\n{text}");
            // Told, not swallowed.
            let told = ["delete", "restart", "version", "-l"].iter().any(|word| args.contains(word))
                || args.contains(&"--svg");
            assert!(told || text.contains("\\u{1b}]0;title") || args.contains(&planned), "{args:?}:\n{text}");
        }
    }
    let drawn = std::fs::read_to_string(picture).unwrap();
    assert!(
        !drawn.chars().any(|c| c != '\n' && printable::is_hidden(c)) && drawn.contains("\\u{1b}]0;title"),
        "{drawn}"
    );
}

#[tokio::test]
async fn what_programs_read_has_every_character_and_none_that_a_terminal_obeys() {
    let server = server();
    for what in [["pods", "web"].as_slice(), &["jobs"], &["cronjobs"], &["files"], &["events"]] {
        let text = said(&server, &[&["get"], what, &["-o", "json"]].concat()).await;
        assert!(!text.chars().any(|c| c != '\n' && printable::is_hidden(c)), "{what:?}: {text}");
        let value: Value = serde_json::from_str(&text).unwrap();
        assert!(
            value.to_string().contains(&json!(HOSTILE).to_string().trim_matches('"').to_owned()),
            "{what:?}: {text}"
        );
        let text = said(&server, &[&["get"], what, &["-o", "yaml"]].concat()).await;
        assert!(
            !text.chars().any(|c| c != '\n' && printable::is_hidden(c)) && text.contains("\\u001B]0;title"),
            "{what:?}: {text}"
        );
        let text = said(&server, &[&["get"], what, &["-o", "name"]].concat()).await;
        assert!(!text.chars().any(|c| c != '\n' && printable::is_hidden(c)), "{what:?}: {text}");
    }
    for what in [["why", "web"], ["timeline", "web"]] {
        let text = said(&server, &[what.as_slice(), &["-o", "json"]].concat()).await;
        assert!(!text.chars().any(|c| c != '\n' && printable::is_hidden(c)), "{what:?}: {text}");
    }
}

/// As kubectl: what a container wrote is shown as it wrote it.
#[tokio::test]
async fn logs_are_the_containers_own_words() {
    let server = server();
    server.write_log("web", "app", "0.log", &["\x1b[31mred"]);
    assert_eq!(said(&server, &["logs", "web", "-c", "app"]).await, "\x1b[31mred\n");
}
