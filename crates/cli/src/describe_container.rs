//! A container's part of `describe pod`.

use serde_json::Value;

use super::age;
use super::page::{Page, Tone};
use super::pods::{items, non_empty, text};

/// Width of a container's labels.
const LABEL: usize = 18;

/// Appends a container; `status` is null while there is none. Of a template there never is one.
pub(super) fn describe(container: &Value, status: Option<&Value>, init: bool, out: &mut Page) {
    let role = if init && container["restartPolicy"] == "Always" { " (sidecar)" } else { "" };
    out.line(format_args!("  {}{role}:", text(&container["name"])));
    if let Some(id) = status.and_then(|status| non_empty(&status["containerID"])) {
        field(out, "Container ID", id);
    }
    field(out, "Image", &text(&container["image"]));
    let ports: Vec<String> = items(&container["ports"])
        .map(|p| format!("{}/{}", p["containerPort"], non_empty(&p["protocol"]).unwrap_or("TCP")))
        .collect();
    if !ports.is_empty() {
        field(out, if ports.len() == 1 { "Port" } else { "Ports" }, &ports.join(", "));
    }
    for (label, key) in [("Command", "command"), ("Args", "args")] {
        list(out, label, items(&container[key]).map(text));
    }
    if let Some(status) = status {
        progress(container, status, init, out);
    }
    for (label, key) in [("Limits", "limits"), ("Requests", "requests")] {
        let amounts = container["resources"][key].as_object();
        list(out, label, amounts.into_iter().flatten().map(|(k, v)| format!("{k}: {}", plain(v))));
    }
    for (label, key) in [("Startup", "startupProbe"), ("Readiness", "readinessProbe"), ("Liveness", "livenessProbe")] {
        if container[key].is_object() {
            field(out, label, &probe(&container[key]));
        }
    }
    list(out, "Environment", items(&container["env"]).map(|e| format!("{}: {}", text(&e["name"]), text(&e["value"]))));
    list(out, "Mounts", items(&container["volumeMounts"]).map(mount));
}

/// How it fares.
fn progress(container: &Value, status: &Value, init: bool, out: &mut Page) {
    state(out, "State", &status["state"]);
    if status["lastState"].as_object().is_some_and(|s| !s.is_empty()) {
        state(out, "Last State", &status["lastState"]);
    }
    let flag = |value: &Value| if *value == true { "True" } else { "False" };
    field(out, "Ready", flag(&status["ready"]));
    if init && container["restartPolicy"] == "Always" {
        field(out, "Started", flag(&status["started"]));
    }
    field(out, "Restart Count", &status["restartCount"].as_u64().unwrap_or(0).to_string());
}

fn field(out: &mut Page, label: &str, value: &str) {
    out.line(format_args!("    {:<LABEL$}{value}", format!("{label}:")));
}

fn toned(out: &mut Page, label: &str, tone: Tone, value: &str) {
    out.part(Tone::Normal, format_args!("    {:<LABEL$}", format!("{label}:")));
    out.painted(tone, value);
}

fn list(out: &mut Page, label: &str, entries: impl Iterator<Item = String>) {
    for (i, entry) in entries.enumerate() {
        if i == 0 {
            out.line(format_args!("    {label}:"));
        }
        // The lines of a script stay below each other.
        out.lines(("      ", "      "), Tone::Normal, &entry);
    }
}

fn state(out: &mut Page, label: &str, state: &Value) {
    let nested = |out: &mut Page, label: &str, value: &str| {
        // A termination message may have several lines.
        let first = format!("      {:<16}", format!("{label}:"));
        out.lines((&first, &" ".repeat(22)), Tone::Normal, value);
    };
    if state["running"].is_object() {
        toned(out, label, Tone::Good, "Running");
        nested(out, "Started", &age::long(&state["running"]["startedAt"]));
    } else if state["terminated"].is_object() {
        let ended = &state["terminated"];
        let tone = if ended["exitCode"] == 0 { Tone::Normal } else { Tone::Bad };
        toned(out, label, tone, "Terminated");
        reason_and_message(out, ended, nested);
        nested(out, "Exit Code", &plain(&ended["exitCode"]));
        if let Some(signal) = ended["signal"].as_i64().filter(|s| *s != 0) {
            nested(out, "Signal", &signal.to_string());
        }
        nested(out, "Started", &age::long(&ended["startedAt"]));
        nested(out, "Finished", &age::long(&ended["finishedAt"]));
    } else {
        toned(out, label, Tone::Notice, "Waiting");
        reason_and_message(out, &state["waiting"], nested);
    }
}

fn reason_and_message(out: &mut Page, from: &Value, print: impl Fn(&mut Page, &str, &str)) {
    for (label, key) in [("Reason", "reason"), ("Message", "message")] {
        if let Some(value) = non_empty(&from[key]) {
            print(out, label, value.trim_end());
        }
    }
}

/// As kubectl's `DescribeProbe`: `http-get http://:80/ delay=0s timeout=1s period=10s #success=1 #failure=3`.
fn probe(probe: &Value) -> String {
    let action = if probe["exec"].is_object() {
        let words: Vec<String> = items(&probe["exec"]["command"]).map(text).collect();
        format!("exec [{}]", words.join(" "))
    } else if probe["httpGet"].is_object() {
        let get = &probe["httpGet"];
        let scheme = non_empty(&get["scheme"]).unwrap_or("HTTP").to_lowercase();
        format!(
            "http-get {scheme}://{}:{}{}",
            text(&get["host"]),
            plain(&get["port"]),
            non_empty(&get["path"]).unwrap_or("/")
        )
    } else if probe["tcpSocket"].is_object() {
        let socket = &probe["tcpSocket"];
        format!("tcp-socket {}:{}", text(&socket["host"]), plain(&socket["port"]))
    } else {
        "unknown".to_owned()
    };
    let number = |key: &str, default: i64| probe[key].as_i64().unwrap_or(default);
    format!(
        "{action} delay={}s timeout={}s period={}s #success={} #failure={}",
        number("initialDelaySeconds", 0),
        number("timeoutSeconds", 1),
        number("periodSeconds", 10),
        number("successThreshold", 1),
        number("failureThreshold", 3)
    )
}

fn mount(mount: &Value) -> String {
    let mut notes = vec![if mount["readOnly"] == true { "ro".to_owned() } else { "rw".to_owned() }];
    notes.extend(non_empty(&mount["subPath"]).map(|p| format!("path=\"{p}\"")));
    format!("{} from {} ({})", text(&mount["mountPath"]), text(&mount["name"]), notes.join(","))
}

/// A number or string as people write it.
fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
