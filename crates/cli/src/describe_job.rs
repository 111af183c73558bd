//! `describe job` and `describe cronjob`, in kubectl's form.

use jiff::Timestamp;
use serde_json::Value;

use super::describe::{conditions, event_list, field, map, or};
use super::page::{Page, Style};
use super::pods::{items, non_empty, text};
use super::{age, describe_container, jobs};

/// Everything about a job at `now`; `events` are those about it.
pub(super) fn job(job: &Value, events: &[Value], now: Timestamp, style: Style) -> Page {
    let mut out = Page::new(style);
    let (spec, status) = (&job["spec"], &job["status"]);
    head(job, &mut out);
    job_spec(spec, &mut out);
    time(&mut out, "Start Time", &status["startTime"]);
    time(&mut out, "Completed At", &status["completionTime"]);
    if let Some(duration) = jobs::duration(job, now) {
        field(&mut out, "Duration", &duration);
    }
    let count = |key: &str| status[key].as_i64().unwrap_or(0);
    let pods = format!(
        "{} Active ({} Ready) / {} Succeeded / {} Failed",
        count("active"),
        count("ready"),
        count("succeeded"),
        count("failed")
    );
    field(&mut out, "Pods Statuses", &pods);
    for (label, key) in [("Completed Indexes", "completedIndexes"), ("Failed Indexes", "failedIndexes")] {
        if status[key].is_string() {
            field(&mut out, label, &or(&status[key], "<none>"));
        }
    }
    template(&spec["template"], &mut out);
    conditions(&status["conditions"], &mut out);
    event_list(events, now, &mut out);
    out
}

/// Everything about a cron job at `now`.
pub(super) fn cron_job(cron: &Value, events: &[Value], now: Timestamp, style: Style) -> Page {
    let mut out = Page::new(style);
    let (spec, status) = (&cron["spec"], &cron["status"]);
    head(cron, &mut out);
    field(&mut out, "Schedule", &text(&spec["schedule"]));
    field(&mut out, "Time Zone", &or(&spec["timeZone"], "<the node's>"));
    field(&mut out, "Concurrency", &text(&spec["concurrencyPolicy"]));
    number(&mut out, "Start Deadline", &spec["startingDeadlineSeconds"], "s");
    field(&mut out, "Suspend", if spec["suspend"] == true { "True" } else { "False" });
    number(&mut out, "Success History", &spec["successfulJobsHistoryLimit"], "");
    number(&mut out, "Failure History", &spec["failedJobsHistoryLimit"], "");
    job_spec(&spec["jobTemplate"]["spec"], &mut out);
    template(&spec["jobTemplate"]["spec"]["template"], &mut out);
    time(&mut out, "Last Schedule", &status["lastScheduleTime"]);
    time(&mut out, "Last Success", &status["lastSuccessfulTime"]);
    let active: Vec<String> = items(&status["active"]).map(|job| text(&job["name"])).collect();
    field(&mut out, "Active Jobs", &if active.is_empty() { "<none>".to_owned() } else { active.join(", ") });
    conditions(&status["conditions"], &mut out);
    event_list(events, now, &mut out);
    out
}

fn head(object: &Value, out: &mut Page) {
    let metadata = &object["metadata"];
    field(out, "Name", &text(&metadata["name"]));
    field(out, "Namespace", &text(&metadata["namespace"]));
    field(out, "UID", &text(&metadata["uid"]));
    map(out, "Labels", &metadata["labels"], "=");
    map(out, "Annotations", &metadata["annotations"], ": ");
    for owner in items(&metadata["ownerReferences"]) {
        field(out, "Controlled By", &format!("{}/{}", text(&owner["kind"]), text(&owner["name"])));
    }
}

fn job_spec(spec: &Value, out: &mut Page) {
    number(out, "Parallelism", &spec["parallelism"], "");
    let completions = spec["completions"].as_i64().map_or_else(|| "<unset>".to_owned(), |n| n.to_string());
    field(out, "Completions", &completions);
    field(out, "Completion Mode", &or(&spec["completionMode"], "NonIndexed"));
    if spec["suspend"] == true {
        field(out, "Suspend", "True");
    }
    number(out, "Backoff Limit", &spec["backoffLimit"], "");
    number(out, "Limit Per Index", &spec["backoffLimitPerIndex"], "");
    number(out, "Max Failed", &spec["maxFailedIndexes"], " indexes");
    number(out, "Active Deadline", &spec["activeDeadlineSeconds"], "s");
    number(out, "TTL", &spec["ttlSecondsAfterFinished"], "s after it has finished");
}

fn template(template: &Value, out: &mut Page) {
    out.line("Pod Template:");
    let spec = &template["spec"];
    for (title, list) in [("Init Containers", "initContainers"), ("Containers", "containers")] {
        if items(&spec[list]).next().is_some() {
            out.line(format_args!("{title}:"));
        }
        for container in items(&spec[list]) {
            describe_container::describe(container, None, list == "initContainers", out);
        }
    }
}

fn number(out: &mut Page, label: &str, value: &Value, unit: &str) {
    if let Some(number) = value.as_i64() {
        field(out, label, &format!("{number}{unit}"));
    }
}

fn time(out: &mut Page, label: &str, value: &Value) {
    if non_empty(value).is_some() {
        field(out, label, &age::long(value));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_a_job_says_of_itself() {
        let shown = job(
            &json!({
                "metadata": {"name": "nightly", "namespace": "default", "uid": "u", "ownerReferences": [{"kind": "CronJob", "name": "c"}]},
                "spec": {"completions": 3, "parallelism": 2, "completionMode": "Indexed", "backoffLimit": 6,
                         "template": {"spec": {"containers": [{"name": "main", "image": "busybox"}]}}},
                "status": {"startTime": "2026-11-23T12:00:02Z", "active": 2, "ready": 1, "succeeded": 1, "completedIndexes": "0",
                           "terminating": 0},
            }),
            &[],
            "2026-11-23T12:01:00Z".parse().unwrap(),
            Style::Plain,
        );
        for line in [
            "Controlled By:    CronJob/c",
            "Completion Mode:  Indexed",
            "Duration:         58s",
            "Pods Statuses:    2 Active (1 Ready) / 1 Succeeded / 0 Failed",
            "Completed Indexes: 0",
            "  main:",
            "Events:           <none>",
        ] {
            assert!(shown.as_str().lines().any(|l| l == line), "{line:?} is not in\n{shown}");
        }
        // A template is no container.
        assert!(!shown.as_str().contains("State:"), "{shown}");
    }
}
