//! An object's identity, derived from what its author wrote.

use serde_json::Value;
use sha2::{Digest, Sha256};

/// Fields whose change is taken up by a running pod.
const IN_PLACE: &[&[&str]] = &[
    &["metadata", "labels"],
    &["metadata", "annotations"],
    &["spec", "terminationGracePeriodSeconds"],
    &["spec", "activeDeadlineSeconds"],
];

/// Fields of a job whose change is taken up by the running job: those that the API server lets change, too.
const JOB_IN_PLACE: &[&[&str]] = &[
    &["metadata", "labels"],
    &["metadata", "annotations"],
    &["spec", "parallelism"],
    &["spec", "suspend"],
    &["spec", "backoffLimit"],
    &["spec", "activeDeadlineSeconds"],
    &["spec", "ttlSecondsAfterFinished"],
];

/// The pod's UID: a hash of kind, namespace, name and content, without what changes in place.
///
/// The same object read from YAML or JSON, from another file, with other comments, order or white space, has the same UID;
/// an edit that has to replace the pod gives another one. UUID version 8 (RFC 9562), from SHA-256.
pub fn uid(namespace: &str, name: &str, manifest: &Value) -> String {
    hash(["v1", "Pod", namespace, name, &replacing(manifest, IN_PLACE)])
}

/// The job's UID, as of [`uid`]: another one is another job, which replaces this one and its pods.
pub fn job_uid(namespace: &str, name: &str, manifest: &Value) -> String {
    hash(["batch/v1", "Job", namespace, name, &replacing(manifest, JOB_IN_PLACE)])
}

/// The cron job's UID: all of it changes in place.
pub fn cron_job_uid(namespace: &str, name: &str) -> String {
    hash(["batch/v1", "CronJob", namespace, name, ""])
}

/// What of an object, when it changes, makes another object.
fn replacing(manifest: &Value, in_place: &[&[&str]]) -> String {
    let mut content = manifest.clone();
    for path in in_place {
        remove(&mut content, path);
    }
    // "default" may be written or not.
    remove(&mut content, &["metadata", "namespace"]);
    content.to_string()
}

fn hash(parts: [&str; 5]) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part.as_bytes());
    }
    format_uuid(&hash.finalize())
}

fn remove(value: &mut Value, path: &[&str]) {
    let Some((last, parents)) = path.split_last() else { return };
    let parent = parents.iter().try_fold(value, |value, key| value.get_mut(key));
    if let Some(fields) = parent.and_then(Value::as_object_mut) {
        fields.remove(*last);
    }
}

fn format_uuid(hash: &[u8]) -> String {
    let mut bytes = [0_u8; 16];
    bytes.iter_mut().zip(hash).for_each(|(to, from)| *to = *from);
    bytes[6] = bytes[6] & 0x0f | 0x80;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
    [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod(labels: Value, grace: u32, image: &str) -> Value {
        json!({"metadata": {"name": "a", "labels": labels},
               "spec": {"terminationGracePeriodSeconds": grace, "containers": [{"name": "c", "image": image}]}})
    }

    #[test]
    fn what_changes_in_place_does_not_count_and_the_rest_does() {
        let base = uid("default", "a", &pod(json!({}), 30, "x"));
        assert_eq!(base, uid("default", "a", &pod(json!({"b": "c"}), 5, "x")));
        assert_ne!(base, uid("default", "a", &pod(json!({}), 30, "y")));
        assert_ne!(base, uid("other", "a", &pod(json!({}), 30, "x")));
    }

    #[test]
    fn the_format_is_a_version_8_uuid_and_stays() {
        assert_eq!(uid("default", "a", &pod(json!({}), 30, "x")), "8fe63a13-b82c-851e-bbc5-bb328844ddac");
    }
}
