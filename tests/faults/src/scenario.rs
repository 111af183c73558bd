//! The short scenario that every fault is tried on: what is placed, changed and removed when, and how it has to end.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::{Value, json};

use crate::check::{Expected, Rule};

/// What is done to the manifest directory.
#[derive(Debug, Clone)]
pub enum Act {
    /// A manifest is written, or written anew.
    Place(&'static str, Value),
    /// It is removed.
    Remove(&'static str),
}

/// A scenario.
#[derive(Debug, Clone)]
pub struct Scenario {
    /// What is done, in order; those of time 0 before the agent starts.
    pub acts: Vec<(Duration, Act)>,
    /// What may run how often.
    pub expected: Expected,
}

/// A container that runs `tell` with this key and these words, its directory of truth being `truth` on the host.
pub fn container(name: &str, key: &str, words: &[&str]) -> Value {
    let command: Vec<&str> = ["/truth/bin/tell", key].iter().chain(words).copied().collect();
    json!({"name": name, "image": "busybox", "command": command,
           "volumeMounts": [{"name": "truth", "mountPath": crate::truth::DIRECTORY_INSIDE}]})
}

/// A container that stays until it is told to go.
pub fn sidecar(name: &str, key: &str) -> Value {
    let mut container = container(name, key, &[]);
    container["restartPolicy"] = "Always".into();
    container
}

/// The specification of a pod.
pub fn pod_spec(truth: &str, policy: &str, inits: Vec<Value>, mains: Vec<Value>) -> Value {
    json!({"restartPolicy": policy, "terminationGracePeriodSeconds": 5, "initContainers": inits, "containers": mains,
           "volumes": [{"name": "truth", "hostPath": {"path": truth, "type": "Directory"}}, {"name": "scratch", "emptyDir": {}}]})
}

/// A pod.
pub fn pod(name: &str, labels: &Value, spec: &Value) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": labels}, "spec": spec})
}

/// A job.
pub fn job(name: &str, mut spec: Value, template: &Value) -> Value {
    spec["template"] = json!({"spec": template});
    json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name}, "spec": spec})
}

/// The scenario, with its directory of truth on the host.
pub fn scenario(truth: &str) -> Scenario {
    let main = |key: &str, words: &[&str]| vec![container("main", key, words)];
    let plain = |policy: &str, mains| pod_spec(truth, policy, vec![], mains);
    let none = json!({});
    let six = pod("six", &none, &plain("Never", main("six", &["run=0.5", "codes=6"])));
    let again = pod("again", &none, &plain("OnFailure", main("again", &["run=0.2", "codes=3,3,0"])));
    let inits = vec![container("init", "side.init", &["run=0.2"]), sidecar("proxy", "side.proxy")];
    let side = pod("side", &none, &pod_spec(truth, "Never", inits, main("side", &["run=0.6"])));
    let stay = |labels: Value| pod("stay", &labels, &plain("Always", main("stay", &[])));
    let gone = pod("gone", &none, &plain("Always", main("gone", &[])));
    let late = pod("late", &none, &plain("Never", main("late", &["run=0.3", "codes=9"])));
    let index =
        [container("main", "parts", &["run=0.3", "codes=0"]), container("main", "bad", &["run=0.1", "codes=4"])];
    let [parts, bad] = index.map(|container| pod_spec(truth, "Never", vec![], vec![container]));
    let parts = job("parts", json!({"completions": 3, "parallelism": 2, "completionMode": "Indexed"}), &parts);
    let bad = job("bad", json!({"backoffLimit": 0}), &bad);
    let at = Duration::from_millis;
    let acts = vec![
        (at(0), Act::Place("six.yaml", six)),
        (at(0), Act::Place("again.yaml", again)),
        (at(0), Act::Place("side.yaml", side)),
        (at(0), Act::Place("stay.yaml", stay(none.clone()))),
        (at(0), Act::Place("gone.yaml", gone)),
        (at(0), Act::Place("parts.yaml", parts)),
        (at(0), Act::Place("bad.yaml", bad)),
        (at(800), Act::Place("stay.yaml", stay(json!({"edited": "yes"})))),
        (at(1100), Act::Remove("gone.yaml")),
        (at(1400), Act::Place("late.yaml", late)),
    ];
    let once = ["six", "late", "side", "bad"].map(|key| (key.to_owned(), Rule::Once));
    let success =
        ["again", "side.init", "parts.0", "parts.1", "parts.2"].map(|key| (key.to_owned(), Rule::UntilSuccess));
    let rules: BTreeMap<String, Rule> = once.into_iter().chain(success).collect();
    Scenario { acts, expected: Expected { rules, lost: BTreeSet::new() } }
}

/// Files that are there in the end.
pub const FILES: [&str; 7] =
    ["six.yaml", "again.yaml", "side.yaml", "stay.yaml", "late.yaml", "parts.yaml", "bad.yaml"];

/// Whether a pod has failed since a container of it could not be started.
pub fn was_refused(pod: &Value) -> bool {
    let statuses =
        ["initContainerStatuses", "containerStatuses"].into_iter().filter_map(|list| pod["status"][list].as_array());
    pod["status"]["phase"] == "Failed" && statuses.flatten().any(|s| s["state"]["terminated"]["reason"] == "StartError")
}

/// What is not yet as it has to be in the end, by what the agent shows. `may_refuse`: a runtime may have refused to start a container.
pub fn unsettled(pods: &[Value], jobs: &[Value], may_refuse: bool) -> Vec<String> {
    let mut left = Vec::new();
    let wanted = [
        ("six", "Failed", Some(("main", 6))),
        ("again", "Succeeded", Some(("main", 0))),
        ("side", "Succeeded", Some(("main", 0))),
        ("stay", "Running", None),
        ("late", "Failed", Some(("main", 9))),
    ];
    let named = |name: &str| pods.iter().find(|pod| pod["metadata"]["name"] == name);
    for (name, phase, end) in wanted {
        let Some(pod) = named(name) else {
            left.push(format!("pod {name} is not there"));
            continue;
        };
        if may_refuse && was_refused(pod) {
            continue;
        }
        let shown = pod["status"]["phase"].as_str().unwrap_or_default();
        if shown != phase {
            left.push(format!("pod {name} is {shown}, and should be {phase}"));
        }
        for status in pod["status"]["containerStatuses"].as_array().into_iter().flatten() {
            let code = status["state"]["terminated"]["exitCode"].as_i64();
            let wanted = end.filter(|(container, _)| status["name"] == *container).map(|(_, code)| code);
            if code != wanted {
                left.push(format!("{name}/{} has exit code {code:?}, and should have {wanted:?}", status["name"]));
            }
        }
    }
    if named("stay").is_some_and(|pod| pod["metadata"]["labels"]["edited"] != "yes") {
        left.push("pod stay does not have its label".to_owned());
    }
    if named("gone").is_some() {
        left.push("pod gone is still there".to_owned());
    }
    for (name, condition, completed) in [("parts", "Complete", "0-2"), ("bad", "Failed", "")] {
        let Some(job) = jobs.iter().find(|job| job["metadata"]["name"] == name) else {
            left.push(format!("job {name} is not there"));
            continue;
        };
        let conditions = job["status"]["conditions"].as_array().into_iter().flatten();
        let kinds: Vec<&str> =
            conditions.filter(|c| c["status"] == "True").filter_map(|c| c["type"].as_str()).collect();
        if !kinds.contains(&condition) || job["status"]["completedIndexes"].as_str().unwrap_or_default() != completed {
            let shown = &job["status"]["completedIndexes"];
            left.push(format!("job {name} is {kinds:?} with the indexes {shown}, and should be {condition}"));
        }
    }
    left
}
