//! Tables of events, in kubectl's form.

use jiff::Timestamp;
use serde_json::Value;

use super::age;
use super::page::{Page, Style, Tone};
use super::pods::text;
use super::table::{Cell, Table};

/// Columns of `events`.
pub fn headings(namespace: bool) -> Vec<&'static str> {
    let mut headings = Vec::new();
    headings.extend(namespace.then_some("NAMESPACE"));
    headings.extend(["LAST SEEN", "TYPE", "REASON", "OBJECT", "MESSAGE"]);
    headings
}

/// An event's row at `now`.
pub fn row(event: &Value, namespace: bool, now: Timestamp) -> Vec<Cell> {
    let involved = &event["involvedObject"];
    let (kind_of, name) = (text(&involved["kind"]).to_lowercase(), text(&involved["name"]));
    // A file's name is its path, which its message repeats where it matters.
    let object = format!("{kind_of}/{}", name.rsplit('/').next().unwrap_or_default());
    let mut row: Vec<Cell> = Vec::new();
    if namespace {
        row.push(text(&event["metadata"]["namespace"]).into());
    }
    row.push(seen(event, now).into());
    row.push(kind(event));
    row.push(text(&event["reason"]).into());
    row.push(object.into());
    row.push(message(event).into());
    row
}

/// The table under a pod's description.
pub(super) fn short_table(events: &[Value], now: Timestamp, style: Style) -> Page {
    let rows: Vec<Vec<Cell>> = events
        .iter()
        .map(|e| {
            let path = text(&e["involvedObject"]["fieldPath"]);
            let container = path.split_once('{').map(|(_, name)| name.trim_end_matches('}')).unwrap_or("-");
            vec![kind(e), text(&e["reason"]).into(), seen(e, now).into(), container.into(), message(e).into()]
        })
        .collect();
    Table::new(vec!["Type", "Reason", "Age", "Container", "Message"], style).print(&rows)
}

/// `5s`, or `5s (x3 over 2m)` for one that came again.
fn seen(event: &Value, now: Timestamp) -> String {
    let last = age::since(&event["lastTimestamp"], now);
    match event["count"].as_u64() {
        Some(count) if count > 1 => format!("{last} (x{count} over {})", age::since(&event["firstTimestamp"], now)),
        Some(_) | None => last,
    }
}

fn kind(event: &Value) -> Cell {
    let kind = text(&event["type"]);
    Cell { tone: if kind == "Warning" { Tone::Notice } else { Tone::Normal }, text: kind }
}

/// In one line: a table has nothing else.
fn message(event: &Value) -> String {
    text(&event["message"]).trim().replace('\n', " ")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_table() {
        let now = "2026-11-23T12:01:00Z".parse().unwrap();
        let event = |kind: &str, count: u64, subject: &str| {
            json!({"metadata": {"namespace": "default"}, "type": kind, "reason": "BackOff", "count": count, "message": "a\nb \n",
                   "firstTimestamp": "2026-11-23T12:00:00Z", "lastTimestamp": "2026-11-23T12:00:50Z",
                   "involvedObject": {"kind": subject, "name": "web"}})
        };
        let rows = [row(&event("Normal", 1, "Pod"), true, now), row(&event("Warning", 3, "File"), true, now)];
        let text = Table::new(headings(true), Style::Plain).print(&rows);
        insta::assert_snapshot!(text, @r"
        NAMESPACE   LAST SEEN           TYPE      REASON    OBJECT     MESSAGE
        default     10s                 Normal    BackOff   pod/web    a b
        default     10s (x3 over 60s)   Warning   BackOff   file/web   a b
        ");
    }
}
