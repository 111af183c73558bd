//! A Job of the right form -> [`JobSpec`], checked as the API server does (kubernetes `pkg/apis/batch/validation`).

use serde_json::{Value, json};

use super::super::names;
use super::super::problem::{At, Problems};
use super::super::quote::shown;
use super::super::suggest::nearest;
use super::fields::{annotations, labels, named, namespace, seconds};
use super::pod::spec_of;
use crate::job::indexes::Indexes;
use crate::job::spec::{Action, FailureRule, JobSpec, On, Replacement, SuccessRule, Template};
use crate::pod::spec::{PodSpec, RestartPolicy};

/// Longest name: it is the value of a label of the job's pods.
const LONGEST_NAME: usize = 63;
/// Most pods of an indexed job at a time, and most of its indexes that may fail; the API server's limits.
const MOST_PARALLEL: i64 = 100_000;
/// From so many completions on, `backoffLimitPerIndex` has limits of its own.
const MANY: i64 = 100_000;
/// Most pods at a time then.
const MOST_PARALLEL_OF_MANY: i64 = 10_000;
/// Most rules of a policy, and most patterns of a rule.
const MOST_RULES: usize = 20;
/// Most exit codes of a rule.
const MOST_CODES: usize = 255;
/// Longest `succeededIndexes`, bytes.
const LONGEST_INDEXES: usize = 64 * 1024;

/// Makes the accepted job, all but its UID.
pub(in crate::manifest) fn job(at: &At<'_>, problems: &mut Problems) -> JobSpec {
    let metadata = at.get("metadata").unwrap_or_else(|| at.clone());
    let spec = at.get("spec").unwrap_or_else(|| at.clone());
    let name = named(&metadata, "name", names::subdomain, problems);
    if name.len() > LONGEST_NAME
        && let Some(field) = metadata.get("name")
    {
        let message = format!(
            "found {} characters, accepted: at most {LONGEST_NAME}, since its pods bear it as a label",
            name.len()
        );
        problems.at(&field, message);
    }
    let head = Head {
        namespace: namespace(&metadata, problems),
        labels: labels(&metadata, problems),
        annotations: annotations(&metadata, &[], problems),
        name,
    };
    job_of(&spec, head, problems)
}

/// What a job is called.
pub(super) struct Head {
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) labels: std::collections::BTreeMap<String, String>,
    pub(super) annotations: std::collections::BTreeMap<String, String>,
}

/// A `JobSpec`, of a job or of the template of a cron job.
pub(super) fn job_of(spec: &At<'_>, head: Head, problems: &mut Problems) -> JobSpec {
    let count = |key: &str| spec.int(key).and_then(|n| u32::try_from(n).ok());
    let (completions, parallelism) = (count("completions"), count("parallelism"));
    let per_index = count("backoffLimitPerIndex");
    let template = template(spec, &head, problems);
    let failure_policy = failure_policy(spec, &template.pod, problems);
    let completions = match (completions, parallelism) {
        (None, None) if spec.get("completions").is_none() && spec.get("parallelism").is_none() => Some(1),
        (completions, _) => completions,
    };
    let job = JobSpec {
        completions,
        parallelism: parallelism.unwrap_or(1),
        indexed: spec.str("completionMode") == Some("Indexed"),
        backoff_limit: count("backoffLimit").unwrap_or(if per_index.is_some() { i32::MAX as u32 } else { 6 }),
        backoff_limit_per_index: per_index,
        max_failed_indexes: count("maxFailedIndexes"),
        active_deadline: seconds(spec, "activeDeadlineSeconds"),
        ttl: seconds(spec, "ttlSecondsAfterFinished"),
        suspend: spec.bool("suspend").unwrap_or(false),
        success_policy: success_policy(spec, problems),
        replacement: match spec.str("podReplacementPolicy") {
            Some("Failed") => Replacement::Failed,
            None if failure_policy.is_some() => Replacement::Failed,
            _ => Replacement::TerminatingOrFailed,
        },
        failure_policy,
        namespace: head.namespace,
        name: head.name,
        uid: String::new(),
        labels: head.labels,
        annotations: head.annotations,
        template,
    };
    check(spec, &job, problems);
    job
}

fn template(spec: &At<'_>, head: &Head, problems: &mut Problems) -> Template {
    let Some(at) = spec.get("template").filter(|at| at.node.is_map()) else {
        // The form's check has said so.
        return Template { manifest: json!({}), pod: spec_of(spec, spec, names_of(head), &mut Problems::default()) };
    };
    let metadata = at.get("metadata").unwrap_or_else(|| At::new(at.node, at.path_of("metadata")));
    let inner = at.get("spec").unwrap_or_else(|| at.clone());
    let pod = spec_of(&metadata, &inner, names_of(head), problems);
    if at.get("spec").is_some() {
        let accepted = "accepted in a job: OnFailure, Never";
        match inner.get("restartPolicy") {
            None => problems.push(inner.node.line, inner.path_of("restartPolicy"), format!("required; {accepted}")),
            Some(field) if field.node.as_str() == Some("Always") => {
                problems.at(&field, format!("found \"Always\", {accepted}"));
            }
            Some(_) => {}
        }
    }
    let mut manifest = at.node.to_value();
    if let Some(metadata) = manifest.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.retain(|key, _| key == "labels" || key == "annotations");
    }
    Template { manifest, pod }
}

fn names_of(head: &Head) -> (String, String) {
    (head.namespace.clone(), head.name.clone())
}

/// What fields say about each other.
fn check(spec: &At<'_>, job: &JobSpec, problems: &mut Problems) {
    let mut refuse = |key: &str, message: &str| {
        if let Some(field) = spec.get(key) {
            problems.at(&field, message);
        }
    };
    if !job.indexed {
        for key in ["backoffLimitPerIndex", "successPolicy"] {
            refuse(key, "only accepted with completionMode: Indexed");
        }
    }
    if job.backoff_limit_per_index.is_none() {
        refuse("maxFailedIndexes", "only accepted with backoffLimitPerIndex");
    }
    if job.failure_policy.is_some() && job.template.pod.restart_policy == RestartPolicy::OnFailure {
        refuse("podFailurePolicy", "only accepted with restartPolicy: Never in the template");
    }
    if job.backoff_limit_per_index.is_some() && job.template.pod.restart_policy == RestartPolicy::OnFailure {
        refuse("backoffLimitPerIndex", "only accepted with restartPolicy: Never in the template");
    }
    if job.failure_policy.is_some() && spec.str("podReplacementPolicy") == Some("TerminatingOrFailed") {
        refuse("podReplacementPolicy", "found \"TerminatingOrFailed\", accepted with podFailurePolicy: Failed");
    }
    if job.indexed {
        check_indexed(spec, job, problems);
    }
}

fn check_indexed(spec: &At<'_>, job: &JobSpec, problems: &mut Problems) {
    let Some(completions) = job.completions else {
        let message = "required with completionMode: Indexed; accepted: integer, 0 or more";
        return problems.push(spec.node.line, spec.path_of("completions"), message);
    };
    let bounded = |key: &str, most: i64, why: &str, problems: &mut Problems| {
        if let (Some(field), Some(found)) = (spec.get(key), spec.int(key))
            && found > most
        {
            problems.at(&field, format!("found {found}, accepted{why}: at most {most}"));
        }
    };
    bounded("parallelism", MOST_PARALLEL, " with completionMode: Indexed", problems);
    bounded("maxFailedIndexes", i64::from(completions), "", problems);
    bounded("maxFailedIndexes", MOST_PARALLEL, "", problems);
    if job.backoff_limit_per_index.is_some() && i64::from(completions) > MANY {
        let why = format!(" with backoffLimitPerIndex and more than {MANY} completions");
        bounded("parallelism", MOST_PARALLEL_OF_MANY, &why, problems);
        if job.max_failed_indexes.is_none() {
            problems.push(spec.node.line, spec.path_of("maxFailedIndexes"), format!("required{why}"));
        }
        bounded("maxFailedIndexes", MOST_PARALLEL_OF_MANY, &why, problems);
    }
    let host_name = format!("{}-{}", job.name, completions.saturating_sub(1));
    if let (Err(accepted), false) = (names::label(&host_name), job.name.is_empty()) {
        let message = format!("its last pod would have the host name {}, {accepted}", shown(&host_name));
        problems.push(spec.node.line, "metadata.name", message);
    }
    for rule in spec.get("successPolicy").map(|policy| policy.items("rules")).unwrap_or_default() {
        let wanted = rule.str("succeededIndexes").and_then(|text| text.parse::<Indexes>().ok());
        if let (Some(field), Some(last)) = (rule.get("succeededIndexes"), wanted.as_ref().and_then(Indexes::last))
            && last >= completions
        {
            problems.at(&field, format!("found index {last}, accepted: below completions ({completions})"));
        }
        let most = wanted.map_or(completions, |wanted| wanted.len());
        if let (Some(field), Some(found)) = (rule.get("succeededCount"), rule.int("succeededCount"))
            && found > i64::from(most)
        {
            problems.at(&field, format!("found {found}, accepted: at most {most}, since there are no more indexes"));
        }
    }
}

fn failure_policy(spec: &At<'_>, pod: &PodSpec, problems: &mut Problems) -> Option<Vec<FailureRule>> {
    let policy = spec.get("podFailurePolicy").filter(|at| at.node.is_map())?;
    let rules = rules(&policy, problems);
    Some(rules.iter().filter_map(|rule| failure_rule(spec, rule, pod, problems)).collect())
}

/// The rules of a policy, whose number is bounded.
fn rules<'a>(policy: &At<'a>, problems: &mut Problems) -> Vec<At<'a>> {
    let rules = policy.items("rules");
    if let Some(list) = policy.get("rules").filter(|_| rules.len() > MOST_RULES) {
        problems.at(&list, format!("found {} rules, accepted: at most {MOST_RULES}", rules.len()));
    }
    rules
}

fn failure_rule(spec: &At<'_>, rule: &At<'_>, pod: &PodSpec, problems: &mut Problems) -> Option<FailureRule> {
    let action = match rule.str("action")? {
        "FailJob" => Action::FailJob,
        "FailIndex" => {
            if let Some(field) = rule.get("action").filter(|_| spec.get("backoffLimitPerIndex").is_none()) {
                problems.at(&field, "found \"FailIndex\", only accepted with backoffLimitPerIndex");
            }
            Action::FailIndex
        }
        "Ignore" => Action::Ignore,
        "Count" => Action::Count,
        _ => return None,
    };
    let on = match (rule.get("onExitCodes"), rule.get("onPodConditions")) {
        (Some(codes), None) => exit_codes(&codes, pod, problems)?,
        (None, Some(conditions)) => pod_conditions(&conditions, problems),
        _ => {
            problems.at(rule, "accepted: exactly one of onExitCodes, onPodConditions");
            return None;
        }
    };
    Some(FailureRule { action, on })
}

fn exit_codes(at: &At<'_>, pod: &PodSpec, problems: &mut Problems) -> Option<On> {
    let container = at.str("containerName").map(str::to_owned);
    if let (Some(field), Some(name)) = (at.get("containerName"), &container)
        && !pod.containers.iter().any(|c| c.name == *name)
    {
        let hint = nearest(name, pod.containers.iter().map(|c| c.name.as_str()));
        let hint = hint.map(|near| format!("; did you mean \"{near}\"?")).unwrap_or_default();
        problems.at(&field, format!("found {}, accepted: the name of a container of the template{hint}", shown(name)));
    }
    let one_of = at.str("operator")? == "In";
    let list = at.get("values")?;
    let codes: Vec<i32> =
        at.items("values").iter().filter_map(|code| code.node.as_int().and_then(|n| i32::try_from(n).ok())).collect();
    if codes.is_empty() || codes.len() > MOST_CODES {
        problems.at(&list, format!("found {} exit codes, accepted: from 1 to {MOST_CODES}", codes.len()));
    }
    if one_of && codes.contains(&0) {
        problems.at(&list, "found 0, which is no failure; accepted with operator In: from 1 to 255");
    }
    if codes.windows(2).any(|pair| pair[0] >= pair[1]) {
        problems.at(&list, "accepted: ascending, each exit code once");
    }
    Some(On::ExitCodes { container, one_of, codes })
}

fn pod_conditions(at: &At<'_>, problems: &mut Problems) -> On {
    let patterns = at.elements();
    if patterns.is_empty() && at.node.is_seq() || patterns.len() > MOST_RULES {
        problems.at(at, format!("found {} patterns, accepted: from 1 to {MOST_RULES}", patterns.len()));
    }
    let pattern = |at: &At<'_>| {
        let status = at.str("status").unwrap_or("True").to_owned();
        (at.str("type").unwrap_or_default().to_owned(), status)
    };
    for at in &patterns {
        if let Some(field) = at.get("type")
            && let (Some(kind), true) =
                (field.node.as_str(), names::label_key(at.str("type").unwrap_or_default()).is_err())
        {
            problems.at(
                &field,
                format!("found {}, accepted: the type of a condition, as in DisruptionTarget", shown(kind)),
            );
        }
    }
    On::PodConditions(patterns.iter().map(pattern).collect())
}

fn success_policy(spec: &At<'_>, problems: &mut Problems) -> Option<Vec<SuccessRule>> {
    let policy = spec.get("successPolicy").filter(|at| at.node.is_map())?;
    let rules = rules(&policy, problems);
    if let Some(list) = policy.get("rules").filter(|list| list.node.is_seq() && rules.is_empty()) {
        problems.at(&list, "found empty list, accepted: one rule or more");
    }
    Some(rules.iter().map(|rule| success_rule(rule, problems)).collect())
}

fn success_rule(rule: &At<'_>, problems: &mut Problems) -> SuccessRule {
    let indexes = rule.get("succeededIndexes").and_then(|field| {
        let text = field.node.as_str()?;
        if text.len() > LONGEST_INDEXES {
            problems.at(&field, format!("{} bytes, accepted: at most {LONGEST_INDEXES}", text.len()));
            return None;
        }
        match text.parse::<Indexes>() {
            Ok(indexes) if !indexes.is_empty() => Some(indexes),
            Ok(_) => {
                problems.at(&field, "found \"\", accepted: ascending indexes and ranges, as in 1,3-5,7");
                None
            }
            Err(error) => {
                problems.at(&field, error.to_string());
                None
            }
        }
    });
    if rule.get("succeededIndexes").is_none() && rule.get("succeededCount").is_none() {
        problems.at(rule, "accepted: succeededIndexes, succeededCount, or both");
    }
    SuccessRule { indexes, count: rule.int("succeededCount").and_then(|n| u32::try_from(n).ok()) }
}
