//! A cron job's jobs: their names, and what the cron job adds to its template.

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::spec::CronSpec;

/// The annotation that tells for when a job was scheduled.
const SCHEDULED: &str = "batch.kubernetes.io/cronjob-scheduled-timestamp";
/// The annotation of a job that somebody made by hand from a cron job.
const BY_HAND: (&str, &str) = ("cronjob.kubernetes.io/instantiate", "manual");

/// The name of the job of a scheduled time: no time has two of them.
pub fn job_name(spec: &CronSpec, scheduled: Timestamp) -> String {
    format!("{}-{}", spec.name, scheduled.as_second().div_euclid(60))
}

/// The time of which a job of this name is.
pub(super) fn scheduled(spec: &CronSpec, name: &str) -> Option<Timestamp> {
    let minutes: i64 = name.strip_prefix(spec.name.as_str())?.strip_prefix('-')?.parse().ok()?;
    Timestamp::from_second(minutes.checked_mul(60)?).ok().filter(|at| job_name(spec, *at) == name)
}

/// The manifest of a job. Without a scheduled time it is made by hand.
pub fn job_manifest(spec: &CronSpec, name: &str, scheduled: Option<Timestamp>) -> Value {
    let template = &spec.template.manifest;
    let map = |pointer: &str| template.pointer(pointer).and_then(Value::as_object).cloned().unwrap_or_default();
    let mut annotations = map("/metadata/annotations");
    match scheduled {
        Some(at) => {
            let zone = spec.time_zone.clone().unwrap_or(jiff::tz::TimeZone::UTC);
            let text = at.to_zoned(zone).strftime("%Y-%m-%dT%H:%M:%S%:z").to_string();
            annotations.insert(SCHEDULED.to_owned(), json!(text.replace("+00:00", "Z")));
        }
        None => {
            annotations.insert(BY_HAND.0.to_owned(), json!(BY_HAND.1));
        }
    }
    let mut metadata = Map::new();
    metadata.insert("name".to_owned(), json!(name));
    metadata.insert("namespace".to_owned(), json!(spec.namespace));
    let labels = map("/metadata/labels");
    if !labels.is_empty() {
        metadata.insert("labels".to_owned(), Value::Object(labels));
    }
    metadata.insert("annotations".to_owned(), Value::Object(annotations));
    json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": template.get("spec")})
}
