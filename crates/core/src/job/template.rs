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

/// So many random ends there are, 27⁵.
const ENDS: u64 = 14_348_907;

/// A pod's name. Its end looks random and is not: it follows from the run of the job and the serial number, so that
/// whoever decides again after a crash comes to the same name. Within a run it is used only once: the serial numbers are spread
/// over all ends by a step that has no factor in common with their number, from where the run's own hash says.
pub(super) fn pod_name(spec: &JobSpec, run: i64, serial: u64, index: Option<u32>) -> String {
    let mut hash = Sha256::new();
    hash.update(spec.uid.as_bytes());
    hash.update(run.to_be_bytes());
    let digest: [u8; 32] = hash.finalize().into();
    let part = |from: usize| digest[from..from + 4].iter().fold(0_u64, |n, byte| n << 8 | u64::from(*byte));
    // ENDS is a power of three.
    let step = part(4) % (ENDS / 3) * 3 + 1;
    let mut rest = (part(0) + serial % ENDS * step) % ENDS;
    let mut end = String::new();
    for _ in 0..5 {
        end.push(char::from(LETTERS[usize::try_from(rest % 27).unwrap_or_default()]));
        rest /= 27;
    }
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::testing::spec;
    use super::*;

    #[test]
    fn no_two_pods_of_a_run_have_the_same_name() {
        let spec = spec("");
        for run in 0..3 {
            let names: BTreeSet<String> = (0..100_000).map(|serial| pod_name(&spec, run, serial, None)).collect();
            assert_eq!(names.len(), 100_000);
        }
        assert_ne!(pod_name(&spec, 0, 0, None), pod_name(&spec, 1, 0, None));
        assert_eq!(pod_name(&spec, 0, 7, Some(3)), pod_name(&spec, 0, 7, Some(3)));
    }
}
