//! What changed since a container last worked: the manifest, the image, the machine's boot, podwright itself.

use std::time::Duration;

use super::case::Case;
use super::words::ago;
use crate::ledger::{Entry, Outcome};
use serde_json::Value;

/// A run that was ready, or just ran, for this long worked well, whatever came then.
const LONG: Duration = Duration::from_secs(60);

/// Most changed fields that are told.
const MOST_FIELDS: usize = 8;

/// Longest value that is shown, characters.
const LONGEST_VALUE: usize = 40;

/// `runs` are those of the container, oldest first.
pub(super) fn since_it_worked(case: &Case<'_>, container: usize, runs: &[&Entry]) -> Vec<String> {
    let Some(spec) = case.spec.containers.get(container) else { return Vec::new() };
    let Some(present) = runs.last() else {
        // It was never started under this uid: the manifest is all that can be compared.
        let revision = case.earlier.as_ref().filter(|earlier| earlier.entries.iter().any(|e| e.container == spec.name));
        return revision.map_or_else(Vec::new, |earlier| fields(earlier.manifest, case.manifest, case.job.is_some()));
    };
    if let Some(good) = runs.iter().rev().skip(1).find(|run| worked(run)) {
        return facts(case, good, present, &format!("run {}", good.attempt), Vec::new());
    }
    let Some(earlier) = &case.earlier else { return Vec::new() };
    let good = earlier.entries.iter().rev().find(|entry| entry.container == spec.name && worked(entry));
    good.map_or_else(Vec::new, |good| {
        let which = if earlier.name == case.spec.name {
            format!("run {}", good.attempt)
        } else {
            format!("pod {}", earlier.name)
        };
        facts(case, good, present, &which, fields(earlier.manifest, case.manifest, case.job.is_some()))
    })
}

/// Whether a run came to what it was meant for.
pub fn worked(entry: &Entry) -> bool {
    let Some(end) = &entry.end else { return false };
    let left_well = matches!(end.outcome, Outcome::Exited { code: 0, .. });
    let since = entry.health.ready.iter().find(|(_, ready)| *ready).map(|(at, _)| *at).or(entry.started_at);
    left_well || since.is_some_and(|at| end.at.since(at) >= LONG)
}

fn facts(case: &Case<'_>, good: &Entry, present: &Entry, which: &str, fields: Vec<String>) -> Vec<String> {
    let when =
        good.end.as_ref().map_or_else(String::new, |end| format!(" ({which}, which ended {})", ago(end.at, case.now)));
    let mut changes = fields;
    if let (Some(before), Some(now)) = (&good.origin, &present.origin) {
        if !before.image.is_empty() && !now.image.is_empty() && before.image != now.image {
            changes.push("the image: its bundle was replaced or edited".to_owned());
        }
        if before.agent != now.agent {
            changes.push(format!("podwright: {} -> {}", before.agent, now.agent));
        }
    }
    if good.boot_id != present.boot_id {
        changes.push("the machine was restarted".to_owned());
    }
    if present.boot_id != case.boot_id {
        changes.push("the machine was restarted since that run".to_owned());
    }
    if changes.is_empty() {
        changes.push(format!("nothing that podwright knows of since it last worked{when}: look at what it talks to"));
    } else if let Some(first) = changes.first_mut() {
        *first = format!("{first}{when}");
    }
    changes
}

/// The fields of `spec` that differ, as paths with both values; of pods of a job without what it gives each of them.
fn fields(before: &Value, after: &Value, of_job: bool) -> Vec<String> {
    let mut found = Vec::new();
    differences(
        "spec",
        before.get("spec").unwrap_or(&Value::Null),
        after.get("spec").unwrap_or(&Value::Null),
        &mut found,
    );
    found.retain(|line| !of_job || !line.starts_with("spec.hostname:") && !line.contains("[JOB_COMPLETION_INDEX]"));
    let more = found.len().saturating_sub(MOST_FIELDS);
    found.truncate(MOST_FIELDS);
    if more > 0 {
        found.push(format!("… and {more} more fields"));
    }
    found
}

fn differences(path: &str, before: &Value, after: &Value, found: &mut Vec<String>) {
    match (before, after) {
        (Value::Object(a), Value::Object(b)) => {
            let keys: std::collections::BTreeSet<&String> = a.keys().chain(b.keys()).collect();
            for key in keys {
                let value = |map: &'_ serde_json::Map<String, Value>| map.get(key).cloned().unwrap_or(Value::Null);
                differences(&format!("{path}.{key}"), &value(a), &value(b), found);
            }
        }
        (Value::Array(a), Value::Array(b)) if named(a) && named(b) => {
            let names: std::collections::BTreeSet<&str> = a.iter().chain(b).filter_map(name).collect();
            for one in names {
                let value = |list: &[Value]| list.iter().find(|v| name(v) == Some(one)).cloned().unwrap_or(Value::Null);
                differences(&format!("{path}[{one}]"), &value(a), &value(b), found);
            }
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            for (n, (a, b)) in a.iter().zip(b).enumerate() {
                differences(&format!("{path}[{n}]"), a, b, found);
            }
        }
        (a, b) if a == b => {}
        (a, b) => found.push(format!("{path}: {} -> {}", shown(a), shown(b))),
    }
}

/// Whether the entries of a list are told apart by their names (containers, volumes, variables).
fn named(list: &[Value]) -> bool {
    !list.is_empty() && list.iter().all(|value| name(value).is_some())
}

fn name(value: &Value) -> Option<&str> {
    value.get("name").and_then(Value::as_str)
}

fn shown(value: &Value) -> String {
    let text = if value.is_null() { "not set".to_owned() } else { value.to_string() };
    if text.chars().count() <= LONGEST_VALUE {
        return text;
    }
    let cut: String = text.chars().take(LONGEST_VALUE).collect();
    format!("{cut}…")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn differences_are_told_by_name_where_entries_have_one() {
        let before = json!({"spec": {"containers": [
            {"name": "b", "image": "x", "command": ["run", "--port", "1"]}, {"name": "a", "image": "y"}]}});
        let after = json!({"spec": {"restartPolicy": "Never", "containers": [
            {"name": "a", "image": "z"}, {"name": "b", "image": "x", "command": ["run", "--port", "2"]}, {"name": "c"}]}});
        assert_eq!(
            fields(&before, &after, false),
            [
                "spec.containers[a].image: \"y\" -> \"z\"",
                "spec.containers[b].command[2]: \"1\" -> \"2\"",
                "spec.containers[c]: not set -> {\"name\":\"c\"}",
                "spec.restartPolicy: not set -> \"Never\""
            ]
        );
        assert_eq!(fields(&before, &before, false), [""; 0]);
    }

    #[test]
    fn many_and_long_ones_are_cut() {
        let object = |word: &str| json!({"spec": (0..20).map(|n| (format!("k{n:02}"), json!(word.repeat(100)))).collect::<serde_json::Map<_, _>>()});
        let found = fields(&object("a"), &object("b"), false);
        assert_eq!((found.len(), found[MOST_FIELDS].as_str()), (MOST_FIELDS + 1, "… and 12 more fields"));
        assert!(found[0].chars().count() < 100, "{}", found[0]);
    }
}
