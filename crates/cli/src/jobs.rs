//! The tables of jobs and cron jobs, column by column as kubectl's printer computes them.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;

use super::age;
use super::page::Tone;
use super::pods::{items, non_empty, text};
use super::table::Cell;
use podwright_core::api::STATE_UNUSABLE;

/// Which columns there are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Columns {
    /// NAMESPACE first.
    pub namespace: bool,
    /// CONTAINERS, IMAGES and SELECTOR at the end.
    pub wide: bool,
}

impl Columns {
    fn headings(self, own: &[&'static str]) -> Vec<&'static str> {
        let mut headings = Vec::new();
        headings.extend(self.namespace.then_some("NAMESPACE"));
        headings.extend(own);
        if self.wide {
            headings.extend(["CONTAINERS", "IMAGES", "SELECTOR"]);
        }
        headings
    }

    /// Headings of jobs.
    pub fn of_jobs(self) -> Vec<&'static str> {
        self.headings(&["NAME", "STATUS", "COMPLETIONS", "DURATION", "AGE"])
    }

    /// Headings of cron jobs.
    pub fn of_cron_jobs(self) -> Vec<&'static str> {
        self.headings(&["NAME", "SCHEDULE", "TIMEZONE", "SUSPEND", "ACTIVE", "LAST SCHEDULE", "AGE"])
    }

    /// A job's row at `now`.
    pub fn job(self, job: &Value, now: Timestamp) -> Vec<Cell> {
        let status = status(job);
        let tone = match status {
            "Complete" => Tone::Faint,
            "Failed" | "FailureTarget" | STATE_UNUSABLE => Tone::Bad,
            "Running" => Tone::Good,
            _ => Tone::Notice,
        };
        let own = vec![
            text(&job["metadata"]["name"]).into(),
            Cell { text: status.to_owned(), tone },
            completions(job).into(),
            duration(job, now).unwrap_or_default().into(),
            age::since(&job["metadata"]["creationTimestamp"], now).into(),
        ];
        self.row(job, own, &job["spec"])
    }

    /// A cron job's row at `now`.
    pub fn cron_job(self, cron: &Value, now: Timestamp) -> Vec<Cell> {
        let (spec, status) = (&cron["spec"], &cron["status"]);
        let last = &status["lastScheduleTime"];
        let own = vec![
            text(&cron["metadata"]["name"]).into(),
            text(&spec["schedule"]).into(),
            non_empty(&spec["timeZone"]).unwrap_or("<none>").into(),
            suspended(cron).into(),
            items(&status["active"]).count().to_string().into(),
            if last.is_null() { "<none>".to_owned() } else { age::since(last, now) }.into(),
            age::since(&cron["metadata"]["creationTimestamp"], now).into(),
        ];
        self.row(cron, own, &spec["jobTemplate"]["spec"])
    }

    fn row(self, object: &Value, own: Vec<Cell>, job: &Value) -> Vec<Cell> {
        let mut row: Vec<Cell> = Vec::new();
        if self.namespace {
            row.push(text(&object["metadata"]["namespace"]).into());
        }
        row.extend(own);
        if self.wide {
            let pod = &job["template"]["spec"];
            let all = |field: &str| items(&pod["containers"]).map(|c| text(&c[field])).collect::<Vec<_>>().join(",");
            row.push(all("name").into());
            row.push(all("image").into());
            let labels = job["selector"]["matchLabels"].as_object().into_iter().flatten();
            let labels: Vec<String> = labels.map(|(key, value)| format!("{key}={}", text(value))).collect();
            row.push(if labels.is_empty() { "<none>".to_owned() } else { labels.join(",") }.into());
        }
        row
    }
}

fn condition<'a>(job: &'a Value, kind: &str) -> Option<&'a Value> {
    items(&job["status"]["conditions"]).find(|c| c["type"] == kind && c["status"] == "True")
}

/// The STATUS column.
fn status(job: &Value) -> &'static str {
    if condition(job, STATE_UNUSABLE).is_some() {
        return STATE_UNUSABLE;
    }
    for kind in ["Complete", "Failed"] {
        if condition(job, kind).is_some() {
            return kind;
        }
    }
    if job["metadata"]["deletionTimestamp"].is_string() {
        return "Terminating";
    }
    ["Suspended", "FailureTarget", "SuccessCriteriaMet"]
        .into_iter()
        .find(|kind| condition(job, kind).is_some())
        .unwrap_or("Running")
}

/// The SUSPEND column: whether it starts no runs.
fn suspended(cron: &Value) -> &'static str {
    match cron["spec"]["suspend"] == true {
        _ if condition(cron, STATE_UNUSABLE).is_some() => STATE_UNUSABLE,
        true => "True",
        false => "False",
    }
}

fn completions(job: &Value) -> String {
    let succeeded = job["status"]["succeeded"].as_i64().unwrap_or(0);
    match (job["spec"]["completions"].as_i64(), job["spec"]["parallelism"].as_i64().unwrap_or(1)) {
        (Some(completions), _) => format!("{succeeded}/{completions}"),
        (None, parallelism) if parallelism > 1 => format!("{succeeded}/1 of {parallelism}"),
        (None, _) => format!("{succeeded}/1"),
    }
}

/// From its start to its end, or until now; `None`: it has not started.
pub(super) fn duration(job: &Value, now: Timestamp) -> Option<String> {
    let start: Timestamp = job["status"]["startTime"].as_str()?.parse().ok()?;
    let end = non_empty(&job["status"]["completionTime"])
        .or_else(|| condition(job, "Failed").and_then(|c| c["lastTransitionTime"].as_str()))
        .and_then(|end| end.parse().ok())
        .unwrap_or(now);
    Some(age::human(Duration::try_from(start.duration_until(end)).unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::page::Style;
    use super::super::table::Table;
    use super::*;

    #[test]
    fn the_tables() {
        let now = "2026-11-23T12:01:00Z".parse().unwrap();
        let job = |name: &str, spec: Value, status: Value| {
            json!({"metadata": {"namespace": "default", "name": name, "creationTimestamp": "2026-11-23T12:00:00Z"},
                   "spec": spec, "status": status})
        };
        let is = |kind: &str| json!([{"type": kind, "status": "True", "lastTransitionTime": "2026-11-23T12:00:42Z"}]);
        let start = "2026-11-23T12:00:02Z";
        let columns = Columns::default();
        let rows = [
            job("a", json!({"completions": 3}), json!({"startTime": start, "succeeded": 1})),
            job("b", json!({"completions": 1}), json!({"startTime": start, "conditions": is("Failed")})),
            job("c", json!({"parallelism": 4}), json!({"conditions": is("Suspended")})),
            job(
                "d",
                json!({}),
                json!({"startTime": start, "completionTime": "2026-11-23T12:00:12Z", "succeeded": 1, "conditions": is("Complete")}),
            ),
        ];
        let rows: Vec<_> = rows.iter().map(|job| columns.job(job, now)).collect();
        insta::assert_snapshot!(Table::new(columns.of_jobs(), Style::Plain).print(&rows), @r"
        NAME   STATUS      COMPLETIONS   DURATION   AGE
        a      Running     1/3           58s        60s
        b      Failed      0/1           40s        60s
        c      Suspended   0/1 of 4                 60s
        d      Complete    1/1           10s        60s
        ");
        let cron = job(
            "n",
            json!({"schedule": "@daily", "suspend": false}),
            json!({"active": [{}], "lastScheduleTime": start}),
        );
        let rows = vec![columns.cron_job(&cron, now)];
        insta::assert_snapshot!(Table::new(columns.of_cron_jobs(), Style::Plain).print(&rows), @r"
        NAME   SCHEDULE   TIMEZONE   SUSPEND   ACTIVE   LAST SCHEDULE   AGE
        n      @daily     <none>     False     1        58s             60s
        ");
    }
}
