//! A job's pods: their names, and what the job adds to its template, as the job controller does it.

use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

use super::spec::JobSpec;
use super::state::JobPod;

/// Longest name before its random end (apiserver `pkg/storage/names`).
const LONGEST_STEM: usize = 58;
/// Letters of the random end: no vowels, nothing that looks like another one (apimachinery `pkg/util/rand`).
const LETTERS: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";
/// The variable that tells a container its index.
const INDEX_VARIABLE: &str = "JOB_COMPLETION_INDEX";

/// A pod's name. Its end looks random and is not: it follows from the run of the job and the serial number, so that
/// whoever decides again after a crash comes to the same name, and no run of a job uses one of another.
pub(super) fn pod_name(spec: &JobSpec, run: i64, serial: u64, index: Option<u32>) -> String {
    let mut hash = Sha256::new();
    hash.update(spec.uid.as_bytes());
    hash.update(run.to_be_bytes());
    hash.update(serial.to_be_bytes());
    let digest = hash.finalize();
    let end: String =
        digest.iter().take(5).map(|byte| char::from(LETTERS[usize::from(*byte) % LETTERS.len()])).collect();
    let middle = index.map_or_else(|| "-".to_owned(), |index| format!("-{index}-"));
    let stem: String = spec.name.chars().take(LONGEST_STEM.saturating_sub(middle.len())).collect();
    format!("{stem}{middle}{end}")
}

/// The manifest of one of the job's pods.
pub fn pod_manifest(spec: &JobSpec, pod: &JobPod) -> Value {
    let template = &spec.template.manifest;
    let mut labels = map(template.pointer("/metadata/labels"));
    for key in ["controller-uid", "batch.kubernetes.io/controller-uid"] {
        labels.insert(key.to_owned(), json!(spec.uid));
    }
    for key in ["job-name", "batch.kubernetes.io/job-name"] {
        labels.insert(key.to_owned(), json!(spec.name));
    }
    let mut annotations = map(template.pointer("/metadata/annotations"));
    let mut fields = map(template.get("spec"));
    if let Some(index) = pod.index {
        let text = json!(index.to_string());
        labels.insert("batch.kubernetes.io/job-completion-index".to_owned(), text.clone());
        annotations.insert("batch.kubernetes.io/job-completion-index".to_owned(), text);
        fields.insert("hostname".to_owned(), json!(format!("{}-{index}", spec.name)));
        for list in ["initContainers", "containers"] {
            let containers = fields.get_mut(list).and_then(Value::as_array_mut);
            containers.into_iter().flatten().for_each(|container| tell_index(container, index));
        }
    }
    if spec.backoff_limit_per_index.is_some() {
        let failures = pod.index_failures;
        let key = "batch.kubernetes.io/job-index-failure-count";
        annotations.insert(key.to_owned(), json!(failures.counted.to_string()));
        if failures.ignored > 0 {
            let key = "batch.kubernetes.io/job-index-ignored-failure-count";
            annotations.insert(key.to_owned(), json!(failures.ignored.to_string()));
        }
    }
    let mut metadata = Map::new();
    metadata.insert("name".to_owned(), json!(pod.name));
    metadata.insert("namespace".to_owned(), json!(spec.namespace));
    metadata.insert("labels".to_owned(), Value::Object(labels));
    if !annotations.is_empty() {
        metadata.insert("annotations".to_owned(), Value::Object(annotations));
    }
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": fields})
}

fn map(value: Option<&Value>) -> Map<String, Value> {
    value.and_then(Value::as_object).cloned().unwrap_or_default()
}

/// Sets the variable, unless the template sets one of that name itself.
fn tell_index(container: &mut Value, index: u32) {
    let Some(fields) = container.as_object_mut() else { return };
    let env = fields.entry("env").or_insert_with(|| json!([]));
    let Some(env) = env.as_array_mut() else { return };
    if !env.iter().any(|variable| variable["name"] == INDEX_VARIABLE) {
        env.push(json!({"name": INDEX_VARIABLE, "value": index.to_string()}));
    }
}
