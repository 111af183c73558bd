//! `describe pod`, in kubectl's form.

use std::fmt::Write as _;

use jiff::Timestamp;
use serde_json::Value;

use super::pods::{items, non_empty, text};
use super::table::{Style, Tone};
use super::{age, describe_container, events};
use crate::status::ENDED_AT;

/// Width of the labels of the pod's own fields.
const LABEL: usize = 18;

/// Everything about a pod at `now`; `events` are those about it.
pub fn describe(pod: &Value, events: &[Value], now: Timestamp, style: Style) -> String {
    let mut out = String::new();
    head(pod, now, style, &mut out);
    let (spec, status) = (&pod["spec"], &pod["status"]);
    for (title, list, statuses) in [
        ("Init Containers", &spec["initContainers"], &status["initContainerStatuses"]),
        ("Containers", &spec["containers"], &status["containerStatuses"]),
    ] {
        if items(list).next().is_some() {
            out.push_str(title);
            out.push_str(":\n");
        }
        for container in items(list) {
            let status = items(statuses).find(|s| s["name"] == container["name"]).unwrap_or(&Value::Null);
            describe_container::describe(container, Some(status), title == "Init Containers", style, &mut out);
        }
    }
    conditions(&status["conditions"], &mut out);
    volumes(&spec["volumes"], &mut out);
    field(&mut out, "QoS Class", &or(&status["qosClass"], "<none>"));
    event_list(events, now, style, &mut out);
    out
}

/// What happened to it.
pub(super) fn event_list(events: &[Value], now: Timestamp, style: Style, out: &mut String) {
    if events.is_empty() {
        return field(out, "Events", "<none>");
    }
    out.push_str("Events:\n");
    for line in events::short_table(events, now, style).lines() {
        out.push_str("  ");
        out.push_str(line);
        out.push('\n');
    }
}

fn head(pod: &Value, now: Timestamp, style: Style, out: &mut String) {
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
        field(out, "Status", &format!("{} (removed {how_long} ago; kept for reading)", tone.paint(&phase, style)));
    } else if deleted.is_string() && !matches!(phase.as_str(), "Succeeded" | "Failed") {
        let shown = Tone::Notice.paint("Terminating", style);
        field(out, "Status", &format!("{shown} ({})", age::deadline(deleted, now)));
        if let Some(grace) = metadata["deletionGracePeriodSeconds"].as_i64() {
            field(out, "Termination Grace Period", &format!("{grace}s"));
        }
    } else {
        field(out, "Status", &tone.paint(&phase, style));
    }
    for (label, key) in [("Reason", "reason"), ("Message", "message")] {
        if let Some(value) = non_empty(&status[key]) {
            field(out, label, value);
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

pub(super) fn field(out: &mut String, label: &str, value: &str) {
    // Writing to a String cannot fail.
    writeln!(out, "{:<LABEL$}{value}", format!("{label}: ")).ok();
}

pub(super) fn map(out: &mut String, label: &str, map: &Value, separator: &str) {
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
            writeln!(out, "{:LABEL$}{entry}", "").ok();
        }
    }
}

pub(super) fn conditions(conditions: &Value, out: &mut String) {
    let all: Vec<&Value> = items(conditions).collect();
    if all.is_empty() {
        return;
    }
    out.push_str("Conditions:\n");
    let width = all.iter().map(|c| text(&c["type"]).len()).max().unwrap_or(0).max(4) + 2;
    writeln!(out, "  {:<width$}{:<8}Reason", "Type", "Status").ok();
    for condition in all {
        let why = [non_empty(&condition["reason"]), non_empty(&condition["message"])];
        let why: Vec<&str> = why.into_iter().flatten().collect();
        let line = format!("  {:<width$}{:<8}{}", text(&condition["type"]), text(&condition["status"]), why.join(": "));
        out.push_str(line.trim_end());
        out.push('\n');
    }
}

fn volumes(volumes: &Value, out: &mut String) {
    let mut all = items(volumes).peekable();
    if all.peek().is_none() {
        return field(out, "Volumes", "<none>");
    }
    out.push_str("Volumes:\n");
    for volume in all {
        writeln!(out, "  {}:", text(&volume["name"])).ok();
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
            let line = format!("    {:<14}{value}", format!("{label}:"));
            out.push_str(line.trim_end());
            out.push('\n');
        }
    }
}

pub(super) fn or(value: &Value, default: &str) -> String {
    non_empty(value).unwrap_or(default).to_owned()
}

#[cfg(test)]
#[path = "describe_tests.rs"]
mod tests;
