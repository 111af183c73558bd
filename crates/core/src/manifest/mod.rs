//! Manifests: text -> accepted pods, or everything that is wrong with it.
//!
//! Text is read into values with lines (`yaml`, `json`), held against the fields that there are (`schema`, with its data in
//! `table`), and made into [`PodSpec`]s with the checks of an API server (`convert`). A file is accepted as a whole or not
//! at all, and nothing in it is silently ignored.

mod api;
mod convert;
mod json;
mod names;
mod node;
mod problem;
mod quantity;
mod scalar;
mod schema;
mod suggest;
mod table;
mod uid;
mod yaml;

use std::collections::HashMap;

use serde_json::Value;

pub use api::api_pod;
#[cfg(test)]
pub(crate) use convert::container::CAPABILITIES;
pub use problem::Problem;
pub use suggest::nearest;
pub use uid::uid;

use crate::pod::spec::PodSpec;
use node::Node;
use problem::{At, Problems, shown};
use schema::{Findings, LATER};

/// Longest text that is read, in bytes.
pub const LONGEST: usize = 10 << 20;

/// How a text is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// YAML, several documents.
    Yaml,
    /// JSON, one value.
    Json,
}

impl Format {
    /// By a file's name; `None`: not the name of a manifest (`*.yaml`, `*.yml`, `*.json`, no dot files).
    pub fn of(file_name: &str) -> Option<Format> {
        let (stem, extension) = file_name.rsplit_once('.')?;
        if stem.is_empty() || stem.starts_with('.') {
            return None;
        }
        match extension {
            "yaml" | "yml" => Some(Format::Yaml),
            "json" => Some(Format::Json),
            _ => None,
        }
    }
}

/// An accepted object.
#[derive(Debug, Clone, PartialEq)]
pub struct Document {
    /// What the rest of podwright works with; its `uid` is set.
    pub pod: PodSpec,
    /// What the author wrote, for storing and for the API. [`from_value`] reads it back to the same document.
    pub manifest: Value,
    /// Where the object begins in its file.
    pub line: Option<usize>,
    /// What is accepted without having an effect, and why.
    pub notes: Vec<Problem>,
}

/// Reads all objects of a text: documents, and the items of a `List` or `PodList`.
///
/// # Errors
/// Everything that is wrong, in the order of the text, at most some hundred. One is enough to refuse the whole text.
pub fn parse(text: &str, format: Format) -> Result<Vec<Document>, Vec<Problem>> {
    let mut problems = Problems::default();
    let mut documents = Vec::new();
    if text.len() > LONGEST {
        problems.push(None, "file", format!("{} bytes, accepted: at most {LONGEST}", text.len()));
        return Err(problems.into_vec());
    }
    let nodes = match format {
        Format::Yaml => yaml::read(text, &mut problems),
        Format::Json => json::read(text, &mut problems).into_iter().collect(),
    };
    for node in &nodes {
        object(&At::new(node, ""), &mut documents, &mut problems);
    }
    if documents.is_empty() && problems.is_empty() {
        let advice = "accepted: a v1 Pod, or a v1 List of them";
        problems.push(None, "file", format!("no object found; {advice}. Remove the file to remove its pods"));
    }
    check_twins(&documents, &mut problems);
    if problems.is_empty() { Ok(documents) } else { Err(problems.into_vec()) }
}

/// Reads one object again that was accepted before.
///
/// # Errors
/// What is wrong with it, as of [`parse`], without lines.
pub fn from_value(value: &Value) -> Result<Document, Vec<Problem>> {
    let mut problems = Problems::default();
    let mut documents = Vec::new();
    let node = Node::from_value(value);
    object(&At::new(&node, ""), &mut documents, &mut problems);
    match documents.pop() {
        Some(document) if problems.is_empty() && documents.is_empty() => Ok(document),
        _ => {
            if problems.is_empty() {
                problems.push(None, "kind", "accepted here: one Pod");
            }
            Err(problems.into_vec())
        }
    }
}

/// Whether an edit is taken up by the running pod, instead of replacing it.
pub fn changes_in_place(old: &Document, new: &Document) -> bool {
    old.pod.uid == new.pod.uid
}

/// One document or item.
fn object(at: &At<'_>, documents: &mut Vec<Document>, problems: &mut Problems) {
    if !at.node.is_map() {
        let whole = At { path: whole(at), ..at.clone() };
        problems.at(&whole, format!("found {}, accepted: a v1 Pod", at.node.describe()));
        return;
    }
    match (at.str("apiVersion"), at.str("kind")) {
        (Some("v1"), Some("Pod")) => pod(at, documents, problems),
        (Some("v1"), Some("List" | "PodList")) => list(at, documents, problems),
        (version, kind) => wrong_kind(at, version, kind, problems),
    }
}

fn whole(at: &At<'_>) -> String {
    if at.path.is_empty() { "document".to_owned() } else { at.path.clone() }
}

fn list(at: &At<'_>, documents: &mut Vec<Document>, problems: &mut Problems) {
    for (key, value) in at.fields() {
        match key {
            "apiVersion" | "kind" | "items" => {}
            // `kubectl get -o yaml` adds it; it is about the list, not about what is in it.
            "metadata" if value.node.is_map() => {}
            _ => problems.at(&value, "unknown field; accepted in a List: apiVersion, kind, items"),
        }
    }
    match at.get("items") {
        None => problems.push(at.node.line, at.path_of("items"), "required; accepted: list of Pods"),
        Some(items) if !items.node.is_seq() => {
            problems.at(&items, format!("found {}, accepted: list of Pods", items.node.describe()));
        }
        // Not deeper: a List in a List is no Kubernetes object.
        Some(items) => items.elements().iter().for_each(|item| {
            if matches!(item.str("kind"), Some("List" | "PodList")) {
                problems.at(item, "found a List in a List, accepted: Pods");
            } else {
                object(item, documents, problems);
            }
        }),
    }
}

/// Kinds that manifests are often of.
const KINDS: &[&str] = &[
    "ConfigMap",
    "CronJob",
    "DaemonSet",
    "Deployment",
    "Ingress",
    "Job",
    "Namespace",
    "NetworkPolicy",
    "PersistentVolume",
    "PersistentVolumeClaim",
    "ReplicaSet",
    "ReplicationController",
    "RuntimeClass",
    "Secret",
    "Service",
    "ServiceAccount",
    "StatefulSet",
];

fn wrong_kind(at: &At<'_>, version: Option<&str>, kind: Option<&str>, problems: &mut Problems) {
    for (key, accepted) in [("apiVersion", "v1"), ("kind", "Pod, List")] {
        match at.get(key) {
            None => problems.push(at.node.line, at.path_of(key), format!("required; accepted: {accepted}")),
            Some(field) if field.node.as_str().is_none() => {
                problems.at(&field, format!("found {}, accepted: {accepted}", field.node.describe()));
            }
            Some(_) => {}
        }
    }
    let (Some(version), Some(kind)) = (version, kind) else { return };
    if let Some(field) = at.get("kind").filter(|_| !["Pod", "List", "PodList"].contains(&kind)) {
        let message = if KINDS.contains(&kind) {
            format!("{kind} is {LATER}; accepted: Pod, List")
        } else {
            let hint = nearest(kind, ["Pod", "List"]).map(|k| format!("; did you mean \"{k}\"?"));
            format!("found {}, accepted: Pod, List{}", shown(kind), hint.unwrap_or_default())
        };
        problems.at(&field, message);
    } else if let Some(field) = at.get("apiVersion") {
        problems.at(&field, format!("found {}, accepted for a {kind}: v1", shown(version)));
    }
}

fn pod(at: &At<'_>, documents: &mut Vec<Document>, problems: &mut Problems) {
    let before = problems.len();
    let mut notes = Problems::default();
    schema::check(at, &table::POD, &mut Findings { problems, notes: &mut notes });
    let mut pod = convert::pod(at, problems);
    if problems.len() > before {
        return;
    }
    let mut manifest = at.node.to_value();
    if let Some(fields) = manifest.as_object_mut() {
        fields.remove("status");
    }
    pod.uid = uid(&pod.namespace, &pod.name, &manifest);
    documents.push(Document { pod, manifest, line: at.node.line, notes: notes.into_vec() });
}

fn check_twins(documents: &[Document], problems: &mut Problems) {
    let mut first: HashMap<(&str, &str), Option<usize>> = HashMap::new();
    for Document { pod, line, .. } in documents {
        match first.get(&(pod.namespace.as_str(), pod.name.as_str())) {
            Some(other) => {
                let other = other.map(|line| format!(", first in line {line}")).unwrap_or_default();
                let message =
                    format!("pod {}/{} is given twice in this file{other}; keep one", pod.namespace, pod.name);
                problems.push(*line, "metadata.name", message);
            }
            None => {
                first.insert((&pod.namespace, &pod.name), *line);
            }
        }
    }
}
