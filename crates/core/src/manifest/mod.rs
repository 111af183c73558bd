//! Manifests: text -> accepted objects, or everything that is wrong with it.
//!
//! Text is read into values with lines (`yaml`, `json`), held against the fields that there are (`schema`, with its data in
//! `table` and `batch`), and made into specs of pods, jobs and cron jobs with the checks of an API server (`convert`). A file is accepted as a whole or not
//! at all, and nothing in it is silently ignored.

mod api;
mod batch;
mod convert;
mod json;
mod names;
mod node;
mod problem;
mod quantity;
mod quote;
mod resource;
mod scalar;
mod schema;
mod suggest;
mod table;
mod uid;
mod yaml;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use serde_json::Value;

pub use api::shown as api;
#[cfg(test)]
pub(crate) use convert::container::CAPABILITIES;
pub use problem::Problem;
pub use resource::{CronJobDocument, Document, JobDocument, Names, PodDocument, Resource, Spec};
pub use suggest::nearest;
pub use uid::{cron_job_uid, job_uid, uid};

use crate::objects::Kind;
use node::Node;
use problem::{At, Problems};
use quote::shown;
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

/// Reads all objects of a text: documents, and the items of a `List`, `PodList`, `JobList` or `CronJobList`.
///
/// # Errors
/// Everything that is wrong, in the order of the text, at most some hundred. One is enough to refuse the whole text.
pub fn read(text: &str, format: Format) -> Result<Vec<Resource>, Vec<Problem>> {
    let mut problems = Problems::default();
    let mut objects = Vec::new();
    if text.len() > LONGEST {
        problems.push(None, "file", format!("{} bytes, accepted: at most {LONGEST}", text.len()));
        return Err(problems.into_vec());
    }
    let nodes = match format {
        Format::Yaml => yaml::read(text, &mut problems),
        Format::Json => json::read(text, &mut problems).into_iter().collect(),
    };
    for node in &nodes {
        object(&At::new(node, ""), &mut objects, &mut problems);
    }
    if objects.is_empty() && problems.is_empty() {
        let advice = format!("accepted: {ACCEPTED}");
        problems.push(None, "file", format!("no object found; {advice}. Remove the file to remove its pods"));
    }
    check_twins(&objects, &mut problems);
    if problems.is_empty() { Ok(objects) } else { Err(problems.into_vec()) }
}

/// Reads a text of which only pods are expected.
///
/// # Errors
/// As of [`read`], or an object of another kind.
pub fn parse(text: &str, format: Format) -> Result<Vec<PodDocument>, Vec<Problem>> {
    let pods = read(text, format)?.into_iter().map(|object| match object {
        Resource::Pod(pod) => Ok(Arc::unwrap_or_clone(pod)),
        other => {
            let message = format!("found {}, accepted here: Pod", other.kind());
            Err(vec![Problem { line: other.line(), path: "kind".to_owned(), message }])
        }
    });
    pods.collect()
}

/// Reads one object again that was accepted before, or that another one makes.
///
/// # Errors
/// What is wrong with it, as of [`read`], without lines; or it is of another kind.
pub fn from_value<S: Spec>(value: &Value) -> Result<Arc<Document<S>>, Vec<Problem>> {
    let object = resource_from_value(value)?;
    let found = object.kind();
    S::unwrap(object).ok_or_else(|| {
        let message = format!("found {found}, accepted here: {}", S::KIND);
        vec![Problem { line: None, path: "kind".to_owned(), message }]
    })
}

/// The same of an object of any kind.
///
/// # Errors
/// As of [`from_value`].
pub fn resource_from_value(value: &Value) -> Result<Resource, Vec<Problem>> {
    let mut problems = Problems::default();
    let mut objects = Vec::new();
    let node = Node::from_value(value);
    object(&At::new(&node, ""), &mut objects, &mut problems);
    match objects.pop() {
        Some(object) if problems.is_empty() && objects.is_empty() => Ok(object),
        _ => {
            if problems.is_empty() {
                problems.push(None, "kind", "accepted here: one object");
            }
            Err(problems.into_vec())
        }
    }
}

/// Whether an edit is taken up by the running pod, instead of replacing it.
pub fn changes_in_place(old: &PodDocument, new: &PodDocument) -> bool {
    old.spec.uid == new.spec.uid
}

/// The kinds that there are, in words.
const ACCEPTED: &str = "a v1 Pod, a batch/v1 Job or CronJob, or a v1 List of them";

/// One document or item.
fn object(at: &At<'_>, objects: &mut Vec<Resource>, problems: &mut Problems) {
    if !at.node.is_map() {
        let whole = At { path: whole(at), ..at.clone() };
        problems.at(&whole, format!("found {}, accepted: {ACCEPTED}", at.node.describe()));
        return;
    }
    let (version, name) = (at.str("apiVersion"), at.str("kind"));
    let found = version.zip(name);
    match found.and_then(|(version, name)| Kind::of(version, name)) {
        Some(Kind::Pod) => pod(at, objects, problems),
        Some(Kind::Job) => job(at, objects, problems),
        Some(Kind::CronJob) => cron_job(at, objects, problems),
        None if found.is_some_and(|(version, name)| version_of_list(name) == Some(version)) => {
            list(at, objects, problems);
        }
        None => wrong_kind(at, version, name, problems),
    }
}

fn whole(at: &At<'_>) -> String {
    if at.path.is_empty() { "document".to_owned() } else { at.path.clone() }
}

fn list(at: &At<'_>, objects: &mut Vec<Resource>, problems: &mut Problems) {
    for (key, value) in at.fields() {
        match key {
            "apiVersion" | "kind" | "items" => {}
            // `kubectl get -o yaml` adds it; it is about the list, not about what is in it.
            "metadata" if value.node.is_map() => {}
            _ => problems.at(&value, "unknown field; accepted in a List: apiVersion, kind, items"),
        }
    }
    match at.get("items") {
        None => problems.push(at.node.line, at.path_of("items"), "required; accepted: list of Pods, Jobs and CronJobs"),
        Some(items) if !items.node.is_seq() => {
            problems.at(&items, format!("found {}, accepted: list of Pods, Jobs and CronJobs", items.node.describe()));
        }
        // Not deeper: a List in a List is no Kubernetes object.
        Some(items) => items.elements().iter().for_each(|item| {
            if item.str("kind").is_some_and(|kind| version_of_list(kind).is_some()) {
                problems.at(item, "found a List in a List, accepted: Pods, Jobs and CronJobs");
            } else {
                object(item, objects, problems);
            }
        }),
    }
}

/// Kinds that manifests are often of.
const KINDS: &[&str] = &[
    "ConfigMap",
    "DaemonSet",
    "Deployment",
    "Ingress",
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

/// The version of a list of any kinds, or of one.
fn version_of_list(name: &str) -> Option<&'static str> {
    let of = name.strip_suffix("List")?;
    if of.is_empty() { Some("v1") } else { Kind::named(of).map(Kind::api_version) }
}

/// The names of the kinds that there are: `Pod, Job, CronJob, List`.
fn accepted_kinds() -> String {
    Kind::ALL.into_iter().map(Kind::name).chain(["List"]).collect::<Vec<_>>().join(", ")
}

fn wrong_kind(at: &At<'_>, version: Option<&str>, kind: Option<&str>, problems: &mut Problems) {
    let kinds = accepted_kinds();
    let versions: BTreeSet<&str> = Kind::ALL.into_iter().map(Kind::api_version).collect();
    let versions = versions.into_iter().rev().collect::<Vec<_>>().join(", ");
    for (key, accepted) in [("apiVersion", &versions), ("kind", &kinds)] {
        match at.get(key) {
            None => problems.push(at.node.line, at.path_of(key), format!("required; accepted: {accepted}")),
            Some(field) if field.node.as_str().is_none() => {
                problems.at(&field, format!("found {}, accepted: {accepted}", field.node.describe()));
            }
            Some(_) => {}
        }
    }
    let (Some(version), Some(kind)) = (version, kind) else { return };
    let Some(accepted) = Kind::named(kind).map(Kind::api_version).or_else(|| version_of_list(kind)) else {
        let message = if KINDS.contains(&kind) {
            format!("{kind} is {LATER}; accepted: {kinds}")
        } else {
            let near = nearest(kind, Kind::ALL.into_iter().map(Kind::name).chain(["List"]));
            let hint = near.map(|k| format!("; did you mean \"{k}\"?")).unwrap_or_default();
            format!("found {}, accepted: {kinds}{hint}", shown(kind))
        };
        return at.get("kind").iter().for_each(|field| problems.at(field, message.clone()));
    };
    if let Some(field) = at.get("apiVersion") {
        problems.at(&field, format!("found {}, accepted for a {kind}: {accepted}", shown(version)));
    }
}

fn pod(at: &At<'_>, objects: &mut Vec<Resource>, problems: &mut Problems) {
    let Some((mut pod, manifest, notes)) = accept(at, &table::POD, convert::pod, problems) else { return };
    pod.uid = uid(&pod.namespace, &pod.name, &manifest);
    objects.push(Resource::Pod(Arc::new(Document { spec: pod, manifest, line: at.node.line, notes })));
}

fn job(at: &At<'_>, objects: &mut Vec<Resource>, problems: &mut Problems) {
    let Some((mut job, manifest, notes)) = accept(at, &batch::JOB, convert::job, problems) else { return };
    job.uid = job_uid(&job.namespace, &job.name, &manifest);
    objects.push(Resource::Job(Arc::new(Document { spec: job, manifest, line: at.node.line, notes })));
}

fn cron_job(at: &At<'_>, objects: &mut Vec<Resource>, problems: &mut Problems) {
    let Some((Some(mut cron), manifest, notes)) = accept(at, &batch::CRON_JOB, convert::cron_job, problems) else {
        return;
    };
    cron.uid = cron_job_uid(&cron.namespace, &cron.name);
    objects.push(Resource::CronJob(Arc::new(Document { spec: cron, manifest, line: at.node.line, notes })));
}

/// An object of this form, what its author wrote, and the notes on that; `None`: it has a problem.
fn accept<T>(
    at: &At<'_>,
    form: &schema::Object,
    convert: impl FnOnce(&At<'_>, &mut Problems) -> T,
    problems: &mut Problems,
) -> Option<(T, Value, Vec<Problem>)> {
    let before = problems.len();
    let mut notes = Problems::default();
    schema::check(at, form, &mut Findings { problems, notes: &mut notes });
    let made = convert(at, problems);
    if problems.len() > before {
        return None;
    }
    let mut manifest = at.node.to_value();
    if let Some(fields) = manifest.as_object_mut() {
        fields.remove("status");
    }
    Some((made, manifest, notes.into_vec()))
}

fn check_twins(objects: &[Resource], problems: &mut Problems) {
    let mut first: HashMap<(Kind, &str, &str), Option<usize>> = HashMap::new();
    for object in objects {
        let (kind, namespace, name) = (object.kind(), object.namespace(), object.name());
        match first.get(&(kind, namespace, name)) {
            Some(other) => {
                let other = other.map(|line| format!(", first in line {line}")).unwrap_or_default();
                let what = kind.singular();
                let message = format!("{what} {namespace}/{name} is given twice in this file{other}; keep one");
                problems.push(object.line(), "metadata.name", message);
            }
            None => {
                first.insert((kind, namespace, name), object.line());
            }
        }
    }
}
