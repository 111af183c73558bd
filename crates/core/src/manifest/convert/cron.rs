//! A CronJob of the right form -> [`CronSpec`].

use jiff::tz::TimeZone;
use serde_json::Value;

use super::super::names;
use super::super::problem::{At, Problems};
use super::super::quote::shown;
use super::fields::{annotations, labels, named, namespace, seconds};
use super::job::{Head, job_of};
use crate::cron::schedule::Schedule;
use crate::cron::spec::{CatchUp, Concurrency, CronSpec, JobTemplate};

/// Longest name: its jobs' names are 11 characters longer, and become labels.
const LONGEST_NAME: usize = 52;
/// Chooses which missed runs are made up for.
const CATCH_UP: &str = "podwright.dev/catch-up";

/// Makes the accepted cron job, all but its UID; `None`: its schedule is none.
pub(in crate::manifest) fn cron_job(at: &At<'_>, problems: &mut Problems) -> Option<CronSpec> {
    let metadata = at.get("metadata").unwrap_or_else(|| at.clone());
    let spec = at.get("spec")?;
    let name = named(&metadata, "name", names::subdomain, problems);
    if let Some(field) = metadata.get("name").filter(|_| name.len() > LONGEST_NAME) {
        let message = format!("found {} characters, accepted: at most {LONGEST_NAME}", name.len());
        problems.at(&field, format!("{message}, since its jobs' names are longer"));
    }
    let namespace = namespace(&metadata, problems);
    let schedule = schedule(&spec, problems);
    let time_zone = time_zone(&spec, problems);
    let limit = |key: &str, default: usize| spec.int(key).and_then(|n| usize::try_from(n).ok()).unwrap_or(default);
    Some(CronSpec {
        labels: labels(&metadata, problems),
        annotations: annotations(&metadata, &[CATCH_UP], problems),
        catch_up: catch_up(&metadata, problems),
        concurrency: match spec.str("concurrencyPolicy") {
            Some("Forbid") => Concurrency::Forbid,
            Some("Replace") => Concurrency::Replace,
            _ => Concurrency::Allow,
        },
        starting_deadline: seconds(&spec, "startingDeadlineSeconds"),
        suspend: spec.bool("suspend").unwrap_or(false),
        successful_limit: limit("successfulJobsHistoryLimit", 3),
        failed_limit: limit("failedJobsHistoryLimit", 1),
        template: template(&spec, &namespace, &name, problems)?,
        time_zone,
        schedule: schedule?,
        namespace,
        name,
        uid: String::new(),
    })
}

fn schedule(spec: &At<'_>, problems: &mut Problems) -> Option<Schedule> {
    let field = spec.get("schedule")?;
    match Schedule::parse(field.node.as_str()?) {
        Ok(schedule) => Some(schedule),
        Err(error) => {
            problems.at(&field, error.to_string());
            None
        }
    }
}

fn time_zone(spec: &At<'_>, problems: &mut Problems) -> Option<TimeZone> {
    let field = spec.get("timeZone")?;
    let name = field.node.as_str()?;
    // "Local" is Go's name for the controller's own zone, and refused by the API server as well.
    let found = if name.eq_ignore_ascii_case("local") { None } else { TimeZone::get(name).ok() };
    if found.is_none() {
        problems
            .at(&field, format!("found {}, accepted: a name of the IANA database, as in Europe/Berlin", shown(name)));
    }
    found
}

fn catch_up(metadata: &At<'_>, problems: &mut Problems) -> CatchUp {
    let field = metadata.get("annotations").and_then(|all| all.get(CATCH_UP));
    let word = field.as_ref().and_then(|field| field.node.as_str());
    match (field.as_ref(), word) {
        (_, Some("none")) => CatchUp::None,
        (_, Some("all")) => CatchUp::All,
        (Some(field), Some(other)) if other != "latest" => {
            problems.at(field, format!("found {}, accepted: none, latest, all", shown(other)));
            CatchUp::Latest
        }
        _ => CatchUp::Latest,
    }
}

fn template(spec: &At<'_>, namespace: &str, name: &str, problems: &mut Problems) -> Option<JobTemplate> {
    let at = spec.get("jobTemplate").filter(|at| at.node.is_map())?;
    let inner = at.get("spec").filter(|at| at.node.is_map())?;
    let metadata = at.get("metadata");
    let head = Head {
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        labels: metadata.as_ref().map(|at| labels(at, problems)).unwrap_or_default(),
        annotations: metadata.as_ref().map(|at| annotations(at, &[], problems)).unwrap_or_default(),
    };
    let mut manifest = at.node.to_value();
    if let Some(metadata) = manifest.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.retain(|key, _| key == "labels" || key == "annotations");
    }
    Some(JobTemplate { manifest, job: job_of(&inner, head, problems) })
}
