//! The pod table, column by column as kubectl's printer computes it (kubernetes `pkg/printers/internalversion`).

use jiff::Timestamp;
use serde_json::Value;

use super::age;
use super::page::Tone;
use super::table::Cell;
use podwright_core::api::ENDED_AT;

/// Which columns there are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Columns {
    /// NAMESPACE first.
    pub namespace: bool,
    /// IP, NODE, CONTAINERS, IMAGES and UID at the end.
    pub wide: bool,
    /// When the pod ended, for lists that show removed pods.
    pub ended: bool,
}

impl Columns {
    /// Their headings.
    pub fn headings(self) -> Vec<&'static str> {
        let mut headings = Vec::new();
        headings.extend(self.namespace.then_some("NAMESPACE"));
        headings.extend(["NAME", "READY", "STATUS", "RESTARTS", "AGE"]);
        headings.extend(self.ended.then_some("REMOVED"));
        if self.wide {
            headings.extend(["IP", "NODE", "CONTAINERS", "IMAGES", "UID"]);
        }
        headings
    }

    /// A pod's row at `now`.
    pub fn row(self, pod: &Value, now: Timestamp) -> Vec<Cell> {
        let summary = summary(pod, now);
        let metadata = &pod["metadata"];
        let mut row: Vec<Cell> = Vec::new();
        if self.namespace {
            row.push(text(&metadata["namespace"]).into());
        }
        row.push(text(&metadata["name"]).into());
        row.push(format!("{}/{}", summary.ready, summary.total).into());
        row.push(Cell { tone: tone(&summary.status), text: summary.status });
        row.push(summary.restarts.into());
        row.push(age::since(&metadata["creationTimestamp"], now).into());
        if self.ended {
            let ended = &metadata["annotations"][ENDED_AT];
            row.push(if ended.is_null() { "<none>".into() } else { format!("{} ago", age::since(ended, now)).into() });
        }
        if self.wide {
            let spec = &pod["spec"];
            let all = |field: &str| {
                let list = items(&spec["initContainers"]).chain(items(&spec["containers"])).map(|c| text(&c[field]));
                list.collect::<Vec<_>>().join(",")
            };
            row.push(or_none(&pod["status"]["podIP"]).into());
            row.push(or_none(&spec["nodeName"]).into());
            row.push(all("name").into());
            row.push(all("image").into());
            row.push(text(&metadata["uid"]).into());
        }
        row
    }
}

/// What a row says.
#[derive(Debug, PartialEq, Eq)]
pub struct Summary {
    /// Containers that are ready, sidecars included.
    pub ready: usize,
    /// Mains and sidecars.
    pub total: usize,
    /// The STATUS column.
    pub status: String,
    /// The RESTARTS column.
    pub restarts: String,
}

/// Restarts of some containers, and the last end before one.
#[derive(Debug, Default, Clone)]
struct Restarts {
    count: u64,
    last: Option<String>,
}

impl Restarts {
    fn add(&mut self, status: &Value) {
        self.count += status["restartCount"].as_u64().unwrap_or(0);
        let finished = status.pointer("/lastState/terminated/finishedAt").and_then(Value::as_str).map(str::to_owned);
        // RFC 3339 in UTC: the order of the texts is that of the times.
        self.last = self.last.take().max(finished);
    }
}

/// Computes a pod's row.
pub fn summary(pod: &Value, now: Timestamp) -> Summary {
    let status = &pod["status"];
    let given = [&status["reason"], &status["phase"]].into_iter().find_map(|v| v.as_str().filter(|s| !s.is_empty()));
    let mut reason = given.unwrap_or("Unknown").to_owned();
    let (mut restarts, mut ready) = (Restarts::default(), 0);
    let mut sidecar_restarts = Restarts::default();
    let inits: Vec<&Value> = items(&pod["spec"]["initContainers"]).collect();
    let is_sidecar = |name: &Value| inits.iter().any(|c| c["name"] == *name && c["restartPolicy"] == "Always");
    let total = items(&pod["spec"]["containers"]).count() + inits.iter().filter(|c| is_sidecar(&c["name"])).count();

    let terminal = matches!(status["phase"].as_str(), Some("Succeeded" | "Failed"));
    // kubectl shows why a container waits even where the pod is over and it waits for nothing.
    let over = |container: &Value| terminal && container.pointer("/state/waiting").is_some();
    let mut initializing = false;
    for (i, container) in items(&status["initContainerStatuses"]).enumerate() {
        restarts.add(container);
        let sidecar = is_sidecar(&container["name"]);
        if sidecar {
            sidecar_restarts.add(container);
        }
        if container.pointer("/state/terminated/exitCode").and_then(Value::as_i64) == Some(0) {
            continue;
        }
        if sidecar && container["started"] == true {
            ready += usize::from(container["ready"] == true);
            continue;
        }
        if over(container) {
            break;
        }
        reason = format!("Init:{}", init_reason(container).unwrap_or_else(|| format!("{i}/{}", inits.len())));
        initializing = true;
        break;
    }

    if !initializing || has_condition(status, "Initialized") {
        restarts = sidecar_restarts;
        let mut running = false;
        let mains: Vec<&Value> = items(&status["containerStatuses"]).collect();
        for container in mains.iter().rev() {
            restarts.add(container);
            if over(container) {
                continue;
            }
            if let Some(found) = main_reason(container) {
                reason = found;
            } else if container["ready"] == true && container.pointer("/state/running").is_some() {
                running = true;
                ready += 1;
            }
        }
        if reason == "Completed" && running {
            reason = if has_condition(status, "Ready") { "Running" } else { "NotReady" }.to_owned();
        }
    }
    if pod["metadata"]["deletionTimestamp"].is_string() && !terminal {
        "Terminating".clone_into(&mut reason);
    }
    let restarts = match restarts.last {
        Some(last) if restarts.count > 0 => {
            format!("{} ({} ago)", restarts.count, age::since(&Value::String(last), now))
        }
        Some(_) | None => restarts.count.to_string(),
    };
    Summary { ready, total, status: reason, restarts }
}

/// Why an init container holds the pod up; `None`: it just runs or waits for its turn.
fn init_reason(container: &Value) -> Option<String> {
    let state = &container["state"];
    if state["terminated"].is_object() {
        return Some(terminated_reason(&state["terminated"]));
    }
    non_empty(&state["waiting"]["reason"]).filter(|r| *r != "PodInitializing").map(str::to_owned)
}

fn main_reason(container: &Value) -> Option<String> {
    let state = &container["state"];
    match non_empty(&state["waiting"]["reason"]) {
        Some(reason) => Some(reason.to_owned()),
        None => state["terminated"].is_object().then(|| terminated_reason(&state["terminated"])),
    }
}

fn terminated_reason(terminated: &Value) -> String {
    match (non_empty(&terminated["reason"]), terminated["signal"].as_i64().filter(|s| *s != 0)) {
        (Some(reason), _) => reason.to_owned(),
        (None, Some(signal)) => format!("Signal:{signal}"),
        (None, None) => format!("ExitCode:{}", terminated["exitCode"].as_i64().unwrap_or(0)),
    }
}

fn has_condition(status: &Value, kind: &str) -> bool {
    items(&status["conditions"]).any(|c| c["type"] == kind && c["status"] == "True")
}

fn tone(status: &str) -> Tone {
    match status {
        "Running" => Tone::Good,
        "Completed" | "Succeeded" => Tone::Faint,
        "Pending" | "ContainerCreating" | "PodInitializing" | "Terminating" | "NotReady" => Tone::Notice,
        other => {
            let progress = other.strip_prefix("Init:").is_some_and(|s| s.starts_with(|c: char| c.is_ascii_digit()));
            if progress { Tone::Notice } else { Tone::Bad }
        }
    }
}

/// The elements of a JSON list; none if it is absent.
pub(super) fn items(list: &Value) -> impl Iterator<Item = &Value> {
    list.as_array().into_iter().flatten()
}

/// A string that is there and not empty.
pub(super) fn non_empty(value: &Value) -> Option<&str> {
    value.as_str().filter(|s| !s.is_empty())
}

/// A string, or nothing.
pub(super) fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn or_none(value: &Value) -> String {
    non_empty(value).unwrap_or("<none>").to_owned()
}

#[cfg(test)]
#[path = "pods_tests.rs"]
mod tests;
