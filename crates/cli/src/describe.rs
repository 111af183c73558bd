//! `describe pod`, in kubectl's form.

use jiff::Timestamp;
use serde_json::Value;

use super::page::{Page, Style, Tone};
use super::pods::{items, non_empty, text};
use super::{age, describe_container, events};
use podwright_core::api::ENDED_AT;

/// Width of the labels of the pod's own fields.
const LABEL: usize = 18;

/// Everything about a pod at `now`; `events` are those about it.
pub fn describe(pod: &Value, events: &[Value], now: Timestamp, style: Style) -> Page {
    let mut out = Page::new(style);
    head(pod, now, &mut out);
    let (spec, status) = (&pod["spec"], &pod["status"]);
    for (title, list, statuses) in [
        ("Init Containers", &spec["initContainers"], &status["initContainerStatuses"]),
        ("Containers", &spec["containers"], &status["containerStatuses"]),
    ] {
        if items(list).next().is_some() {
            out.line(format_args!("{title}:"));
        }
        for container in items(list) {
            let status = items(statuses).find(|s| s["name"] == container["name"]).unwrap_or(&Value::Null);
            describe_container::describe(container, Some(status), title == "Init Containers", &mut out);
        }
    }
    conditions(&status["conditions"], &mut out);
    volumes(&spec["volumes"], &mut out);
    field(&mut out, "QoS Class", &or(&status["qosClass"], "<none>"));
    event_list(events, now, &mut out);
    out
}

/// What happened to it.
pub(super) fn event_list(events: &[Value], now: Timestamp, out: &mut Page) {
    if events.is_empty() {
        return field(out, "Events", "<none>");
    }
    out.line("Events:");
    let table = events::short_table(events, now, out.style());
    out.append("  ", &table);
}

fn head(pod: &Value, now: Timestamp, out: &mut Page) {
    let (metadata, spec, status) = (&pod["metadata"], &pod["spec"], &pod["status"]);
    field(out, "Name", &text(&metadata["name"]));
    field(out, "Namespace", &text(&metadata["namespace"]));
    field(out, "UID", &text(&metadata["uid"]));
    field(out, "Node", &or(&spec["nodeName"], "<none>"));
    for owner in items(&metadata["ownerReferences"]) {
        field(out, "Controlled By", &format!("{}/{}", text(&owner["kind"]), text(&owner["name"])));
    }
    let start = &status["startTime"];
    field(out, "Start Time", &if start.is_null() { "<none>".to_owned() } else { age::long(start) });
    map(out, "Labels", &metadata["labels"], "=");
    map(out, "Annotations", &metadata["annotations"], ": ");
    let phase = or(&status["phase"], "Unknown");
    let tone = match phase.as_str() {
        "Running" => Tone::Good,
        "Failed" => Tone::Bad,
        "Pending" => Tone::Notice,
        _ => Tone::Normal,
    };
    let ended = &metadata["annotations"][ENDED_AT];
    let deleted = &metadata["deletionTimestamp"];
    if ended.is_string() {
        let how_long = age::since(ended, now);
        status_field(out, tone, &phase, &format!(" (removed {how_long} ago; kept for reading)"));
    } else if deleted.is_string() && !matches!(phase.as_str(), "Succeeded" | "Failed") {
        status_field(out, Tone::Notice, "Terminating", &format!(" ({})", age::deadline(deleted, now)));
        if let Some(grace) = metadata["deletionGracePeriodSeconds"].as_i64() {
            field(out, "Termination Grace Period", &format!("{grace}s"));
        }
    } else {
        status_field(out, tone, &phase, "");
    }
    for (label, key) in [("Reason", "reason"), ("Message", "message")] {
        if let Some(value) = non_empty(&status[key]) {
            let first = format!("{:<LABEL$}", format!("{label}: "));
            out.lines((&first, &" ".repeat(LABEL)), Tone::Normal, value.trim_end());
        }
    }
    field(out, "IP", &or(&status["podIP"], "<none>"));
    field(out, "Restart Policy", &or(&spec["restartPolicy"], "Always"));
    if let Some(deadline) = spec["activeDeadlineSeconds"].as_i64() {
        field(out, "Active Deadline", &format!("{deadline}s"));
    }
    if let Some(grace) = spec["terminationGracePeriodSeconds"].as_i64() {
        field(out, "Grace Period", &format!("{grace}s"));
    }
}

pub(super) fn field(out: &mut Page, label: &str, value: &str) {
    out.line(format_args!("{:<LABEL$}{value}", format!("{label}: ")));
}

fn status_field(out: &mut Page, tone: Tone, status: &str, more: &str) {
    out.part(Tone::Normal, format_args!("{:<LABEL$}", "Status: "));
    out.part(tone, status);
    out.line(more);
}

pub(super) fn map(out: &mut Page, label: &str, map: &Value, separator: &str) {
    let entries: Vec<String> = map
        .as_object()
        .into_iter()
        .flatten()
        .map(|(k, v)| format!("{k}{separator}{}", v.as_str().unwrap_or_default()))
        .collect();
    if entries.is_empty() {
        field(out, label, "<none>");
    }
    for (i, entry) in entries.iter().enumerate() {
        if i == 0 {
            field(out, label, entry);
        } else {
            out.line(format_args!("{:LABEL$}{entry}", ""));
        }
    }
}

pub(super) fn conditions(conditions: &Value, out: &mut Page) {
    let all: Vec<&Value> = items(conditions).collect();
    if all.is_empty() {
        return;
    }
    out.line("Conditions:");
    let width = all.iter().map(|c| text(&c["type"]).len()).max().unwrap_or(0).max(4) + 2;
    out.line(format_args!("  {:<width$}{:<8}Reason", "Type", "Status"));
    for condition in all {
        let why = [non_empty(&condition["reason"]), non_empty(&condition["message"])];
        let why: Vec<&str> = why.into_iter().flatten().collect();
        let (kind, status) = (text(&condition["type"]), text(&condition["status"]));
        out.line(format_args!("  {kind:<width$}{status:<8}{}", why.join(": ")));
    }
}

fn volumes(volumes: &Value, out: &mut Page) {
    let mut all = items(volumes).peekable();
    if all.peek().is_none() {
        return field(out, "Volumes", "<none>");
    }
    out.line("Volumes:");
    for volume in all {
        out.line(format_args!("  {}:", text(&volume["name"])));
        let lines: Vec<(&str, String)> = if let Some(dir) = volume["emptyDir"].as_object() {
            let get = |key: &str, default: &str| or(dir.get(key).unwrap_or(&Value::Null), default);
            vec![
                ("Type", "EmptyDir (a directory with the pod's lifetime)".to_owned()),
                ("Medium", get("medium", "")),
                ("SizeLimit", get("sizeLimit", "<unset>")),
            ]
        } else if let Some(path) = volume["hostPath"].as_object() {
            let get = |key: &str| text(path.get(key).unwrap_or(&Value::Null));
            vec![("Type", "HostPath (of the host)".to_owned()), ("Path", get("path")), ("HostPathType", get("type"))]
        } else {
            let kind = volume.as_object().into_iter().flatten().map(|(k, _)| k.as_str()).find(|k| *k != "name");
            vec![("Type", kind.unwrap_or("<unknown>").to_owned())]
        };
        for (label, value) in lines {
            out.line(format_args!("    {:<14}{value}", format!("{label}:")));
        }
    }
}

pub(super) fn or(value: &Value, default: &str) -> String {
    non_empty(value).unwrap_or(default).to_owned()
}

#[cfg(test)]
#[path = "describe_tests.rs"]
mod tests;
