//! What the agent shows from moment to moment: nothing that was told may be taken back, and nothing may be told that did not happen. Pure.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::recorded::key;
use crate::truth::Truth;

/// What was shown so far.
#[derive(Debug, Default)]
pub struct Observer {
    restarts: BTreeMap<(String, String), i64>,
    phases: BTreeMap<String, String>,
    completed: BTreeMap<String, BTreeSet<u64>>,
    wrong: BTreeSet<String>,
}

impl Observer {
    /// Takes a listing of pods; `truth` was read after it. `lost` are pods whose shim was killed.
    pub fn pods(&mut self, pods: &[Value], truth: &Truth, lost: &BTreeSet<String>) {
        for pod in pods {
            let uid = pod["metadata"]["uid"].as_str().unwrap_or_default();
            let name = pod["metadata"]["name"].as_str().unwrap_or_default();
            let phase = pod["status"]["phase"].as_str().unwrap_or_default();
            // A manifest that is put back begins a new run of the same uid.
            let run = format!("{uid} {}", pod["metadata"]["creationTimestamp"]);
            // One that is on its way out is told about as long as it is there; nothing of it has to outlive the agent.
            let is_leaving = pod["metadata"]["deletionTimestamp"].is_string();
            let before =
                if is_leaving { self.phases.remove(&run) } else { self.phases.insert(run.clone(), phase.to_owned()) };
            if let Some(before) = before
                && matches!(before.as_str(), "Succeeded" | "Failed")
                && before != phase
            {
                self.wrong.insert(format!("pod {name} was {before}, and is {phase}"));
            }
            for (list, statuses) in [("initContainers", "initContainerStatuses"), ("containers", "containerStatuses")] {
                for status in pod["status"][statuses].as_array().into_iter().flatten() {
                    let container = status["name"].as_str().unwrap_or_default();
                    let count = status["restartCount"].as_i64().unwrap_or_default();
                    let before = self.restarts.insert((run.clone(), container.to_owned()), count).unwrap_or(0);
                    if count < before {
                        self.wrong
                            .insert(format!("{name}/{container} was restarted {before} times, then {count} times"));
                    }
                    let spec = pod["spec"][list].as_array().into_iter().flatten().find(|c| c["name"] == status["name"]);
                    let key = spec.and_then(|spec| key(spec, &pod["metadata"]["annotations"]));
                    for state in ["state", "lastState"] {
                        let told = told(&status[state]["terminated"], key.as_deref(), truth, lost.contains(uid));
                        self.wrong.extend(told.map(|told| format!("{name}/{container} {told}")));
                    }
                }
            }
        }
    }

    /// Takes a listing of jobs.
    pub fn jobs(&mut self, jobs: &[Value]) {
        for job in jobs {
            let uid = job["metadata"]["uid"].as_str().unwrap_or_default();
            let run = format!("{uid} {}", job["metadata"]["creationTimestamp"]);
            let now = indexes(job["status"]["completedIndexes"].as_str().unwrap_or_default());
            let before = self.completed.insert(run, now.clone()).unwrap_or_default();
            if let Some(index) = before.difference(&now).next() {
                let (name, status) = (&job["metadata"]["name"], &job["status"]);
                self.wrong.insert(format!("job {name}: index {index} is no longer completed\n{status}"));
            }
        }
    }

    /// Everything that was wrong.
    pub fn wrong(&self) -> impl Iterator<Item = &String> {
        self.wrong.iter()
    }
}

/// What is wrong with an end that is shown.
fn told(terminated: &Value, key: Option<&str>, truth: &Truth, is_lost: bool) -> Option<String> {
    let code = terminated["exitCode"].as_i64()?;
    let reason = terminated["reason"].as_str().unwrap_or_default();
    let runs = key.and_then(|key| truth.get(key)).map(Vec::as_slice).unwrap_or_default();
    let left = runs.iter().any(|run| run.exit.is_some_and(|(_, left)| left == code));
    let was_killed = code > 128 && runs.iter().any(|run| run.exit.is_none());
    match reason {
        "ContainerStatusUnknown" if is_lost => None,
        "ContainerStatusUnknown" => Some("is shown as lost, and nobody killed its shim".to_owned()),
        "StartError" | "ContainerCannotRun" => None,
        // Killed before it could say a word.
        _ if left || was_killed || (code > 128 && runs.is_empty()) => None,
        _ => Some(format!("is shown to have left with {code} ({reason}), and never did")),
    }
}

/// `1,3-5` as a set.
pub fn indexes(text: &str) -> BTreeSet<u64> {
    let part = |part: &str| {
        let (low, high) = part.split_once('-').unwrap_or((part, part));
        let range = low.parse::<u64>().ok()..=high.parse::<u64>().ok();
        range.start().zip(*range.end()).map(|(low, high)| low..=high)
    };
    text.split(',').filter_map(part).flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::truth::Run;
    use serde_json::json;

    fn pod(phase: &str, restarts: i64, state: &Value) -> Vec<Value> {
        vec![json!({
            "metadata": {"name": "p", "uid": "u", "creationTimestamp": "t"},
            "spec": {"containers": [{"name": "c", "command": ["tell", "k"]}]},
            "status": {"phase": phase, "containerStatuses": [{"name": "c", "restartCount": restarts, "state": state}]},
        })]
    }

    #[test]
    fn nothing_is_taken_back_or_made_up() {
        let truth = Truth::from([("k".to_owned(), vec![Run { started: 1, exit: Some((2, 6)) }])]);
        let ended = |code: i64, reason: &str| json!({"terminated": {"exitCode": code, "reason": reason}});
        let lost = BTreeSet::new();
        let mut good = Observer::default();
        good.pods(&pod("Running", 0, &json!({"running": {}})), &truth, &lost);
        good.pods(&pod("Failed", 0, &ended(6, "Error")), &truth, &lost);
        good.jobs(&[json!({"metadata": {"uid": "j"}, "status": {"completedIndexes": "0-1"}})]);
        good.jobs(&[json!({"metadata": {"uid": "j"}, "status": {"completedIndexes": "0-2"}})]);
        assert_eq!(good.wrong().count(), 0, "{good:?}");
        let mut bad = Observer::default();
        bad.pods(&pod("Failed", 1, &ended(7, "Error")), &truth, &lost);
        bad.pods(&pod("Running", 0, &ended(137, "ContainerStatusUnknown")), &truth, &lost);
        bad.jobs(&[json!({"metadata": {"uid": "j"}, "status": {"completedIndexes": "0,2"}})]);
        bad.jobs(&[json!({"metadata": {"uid": "j"}, "status": {"completedIndexes": "0"}})]);
        assert_eq!(bad.wrong().count(), 5, "{bad:?}");
    }
}
