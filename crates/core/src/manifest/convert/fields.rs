//! Fields that objects of several kinds have.

use std::collections::BTreeMap;
use std::time::Duration;

use super::super::names;
use super::super::problem::{At, Problems};
use super::super::quote::shown;
use super::super::suggest::nearest;
use crate::pod::spec::Seccomp;

/// Annotations with this prefix are podwright's own.
const OWN_PREFIX: &str = "podwright.dev/";

/// Of all annotations of an object, in bytes; the API server's limit.
const MOST_ANNOTATIONS: usize = 256 * 1024;

pub(super) fn namespace(metadata: &At<'_>, problems: &mut Problems) -> String {
    match metadata.get("namespace") {
        Some(_) => named(metadata, "namespace", names::label, problems),
        None => "default".to_owned(),
    }
}

/// A required name; the form's check has reported an absent one.
pub(super) fn named(
    at: &At<'_>,
    key: &str,
    check: impl Fn(&str) -> Result<(), &'static str>,
    problems: &mut Problems,
) -> String {
    let Some(field) = at.get(key) else { return String::new() };
    let name = field.node.as_str().unwrap_or_default();
    if let (Some(_), Err(accepted)) = (field.node.as_str(), check(name)) {
        problems.at(&field, format!("found {}, {accepted}", shown(name)));
    }
    name.to_owned()
}

/// A duration in seconds.
pub(super) fn seconds(at: &At<'_>, key: &str) -> Option<Duration> {
    at.int(key).and_then(|s| u64::try_from(s).ok()).map(Duration::from_secs)
}

pub(super) fn labels(metadata: &At<'_>, problems: &mut Problems) -> BTreeMap<String, String> {
    let Some(labels) = metadata.get("labels") else { return BTreeMap::new() };
    for (key, value) in labels.fields() {
        if let Err(accepted) = names::label_key(key) {
            problems.at(&value, format!("found the key {}, {accepted}", shown(key)));
        }
        let text = value.node.as_str().unwrap_or_default();
        if let Err(accepted) = names::label_value(text) {
            problems.at(&value, format!("found {}, {accepted}", shown(text)));
        }
    }
    strings(&labels)
}

/// `known` are those of podwright's own that the kind of object has.
pub(super) fn annotations(metadata: &At<'_>, known: &[&str], problems: &mut Problems) -> BTreeMap<String, String> {
    let Some(annotations) = metadata.get("annotations") else { return BTreeMap::new() };
    for (key, value) in annotations.fields() {
        if let Err(accepted) = names::annotation_key(key) {
            problems.at(&value, format!("found the key {}, {accepted}", shown(key)));
        }
        if key.starts_with(OWN_PREFIX) && !known.contains(&key) {
            let hint = nearest(key, known.iter().copied()).map(|k| format!("; did you mean \"{k}\"?"));
            let accepted = if known.is_empty() { "none here".to_owned() } else { known.join(", ") };
            let message = format!("unknown annotation of podwright; accepted: {accepted}{}", hint.unwrap_or_default());
            problems.at(&value, message);
        }
    }
    let all = strings(&annotations);
    let size: usize = all.iter().map(|(k, v)| k.len() + v.len()).sum();
    if size > MOST_ANNOTATIONS {
        problems.at(&annotations, format!("{size} bytes, accepted: at most {MOST_ANNOTATIONS} in all"));
    }
    all
}

fn strings(at: &At<'_>) -> BTreeMap<String, String> {
    at.fields().map(|(k, v)| (k.to_owned(), v.node.as_str().unwrap_or_default().to_owned())).collect()
}

/// A user's or group's number.
pub(super) fn id(at: &At<'_>, key: &str) -> Option<u32> {
    at.int(key).and_then(|id| u32::try_from(id).ok())
}

pub(super) fn seccomp(at: &At<'_>) -> Option<Seccomp> {
    match at.get("seccompProfile")?.str("type")? {
        "RuntimeDefault" => Some(Seccomp::RuntimeDefault),
        "Unconfined" => Some(Seccomp::Unconfined),
        _ => None,
    }
}
