//! What the agent and the shims have written down, read as data: the bed does not use their own types.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::truth;

/// How a record says that an instance ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// With this code.
    Exited(i64),
    /// By a signal.
    Signaled(i64),
    /// It never ran.
    StartFailed(String),
    /// Nobody saw it.
    Lost,
}

/// One record. Times are `CLOCK_BOOTTIME` in nanoseconds.
#[derive(Debug, Clone)]
pub struct Record {
    /// The pod.
    pub uid: String,
    /// The pod's name.
    pub pod: String,
    /// The container.
    pub container: String,
    /// The key of its program's truth.
    pub key: String,
    /// Counts the instances of the container.
    pub attempt: u64,
    /// When its start was asked for.
    pub requested: i64,
    /// How and when it ended.
    pub end: Option<(Outcome, i64)>,
}

/// What a state directory holds.
#[derive(Debug, Clone, Default)]
pub struct Recorded {
    /// Keys of the containers of every pod that was saved, by the pod's uid.
    pub pods: BTreeMap<String, Vec<String>>,
    /// Every record.
    pub records: Vec<Record>,
    /// Files that cannot be understood.
    pub damaged: Vec<String>,
}

/// The key of the truth of a container that runs `tell`.
pub fn key(container: &Value, annotations: &Value) -> Option<String> {
    let key = container["command"][1].as_str()?;
    Some(truth::key(key, annotations["batch.kubernetes.io/job-completion-index"].as_str()))
}

/// The containers of a pod's manifest.
pub fn containers(manifest: &Value) -> impl Iterator<Item = &Value> {
    let lists = ["initContainers", "containers"].into_iter();
    lists.filter_map(|list| manifest["spec"][list].as_array()).flatten()
}

/// Reads `STATE/pods`. Files that are written or removed meanwhile are as if they were not there.
pub fn read(state: &Path) -> Recorded {
    let mut found = Recorded::default();
    for pod in fs::read_dir(state.join("pods")).into_iter().flatten().flatten() {
        let uid = pod.file_name().to_string_lossy().into_owned();
        let Some(manifest) = json(&pod.path().join("object.json"), &mut found.damaged) else { continue };
        let manifest = &manifest["manifest"];
        let keys: BTreeMap<String, String> = containers(manifest)
            .filter_map(|container| {
                let key = key(container, &manifest["metadata"]["annotations"])?;
                Some((container["name"].as_str()?.to_owned(), key))
            })
            .collect();
        found.pods.insert(uid.clone(), keys.values().cloned().collect());
        let name = manifest["metadata"]["name"].as_str().unwrap_or_default();
        for (container, key) in keys {
            let directory = pod.path().join("records").join(&container);
            for file in fs::read_dir(directory).into_iter().flatten().flatten() {
                if file.file_name().to_string_lossy().starts_with('.') {
                    continue;
                }
                let Some(record) = json(&file.path(), &mut found.damaged) else { continue };
                found.records.push(Record {
                    uid: uid.clone(),
                    pod: name.to_owned(),
                    container: container.clone(),
                    key: key.clone(),
                    attempt: record["id"]["attempt"].as_u64().unwrap_or_default(),
                    requested: record["requested"]["boot_ns"].as_i64().unwrap_or_default(),
                    end: end(&record["exit"]),
                });
            }
        }
    }
    found.records.sort_by(|a, b| (&a.key, a.requested).cmp(&(&b.key, b.requested)));
    found
}

fn end(exit: &Value) -> Option<(Outcome, i64)> {
    let outcome = &exit["outcome"];
    let outcome = match outcome["how"].as_str()? {
        "exited" => Outcome::Exited(outcome["code"].as_i64()?),
        "signaled" => Outcome::Signaled(outcome["signal"].as_i64()?),
        "start_failed" => Outcome::StartFailed(outcome["message"].as_str().unwrap_or_default().to_owned()),
        _ => Outcome::Lost,
    };
    Some((outcome, exit["finished"]["boot_ns"].as_i64()?))
}

fn json(path: &Path, damaged: &mut Vec<String>) -> Option<Value> {
    let text = fs::read(path).ok()?;
    match serde_json::from_slice(&text) {
        Ok(value) => Some(value),
        Err(error) => {
            damaged.push(format!("{}: {error}", path.display()));
            None
        }
    }
}
