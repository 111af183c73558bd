//! Moments of this boot in an object for the API, shown by the wall clock as it is now.

use jiff::Timestamp;
use podwright_core::time::Time;
use serde_json::Value;

use crate::clock::Calendar;

/// The fields of a pod's or job's metadata and status that hold a moment (`metav1.Time`), at whatever depth.
const FIELDS: [&str; 8] = [
    "creationTimestamp",
    "deletionTimestamp",
    "startTime",
    "completionTime",
    "startedAt",
    "finishedAt",
    "lastTransitionTime",
    "lastProbeTime",
];

/// Changes the moments in an object's `metadata` and `status`. What is the user's own, labels and annotations, stays.
pub(super) fn show(object: &mut Value, calendar: &Calendar) {
    if calendar.changes_nothing() {
        return;
    }
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata
            .iter_mut()
            .filter(|(key, _)| FIELDS.contains(&key.as_str()))
            .for_each(|(_, value)| text(value, calendar));
    }
    if let Some(status) = object.get_mut("status") {
        below(status, calendar);
    }
}

/// A status is podwright's own, of a few levels.
fn below(value: &mut Value, calendar: &Calendar) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(|item| below(item, calendar)),
        Value::Object(fields) => fields.iter_mut().for_each(|(key, value)| match value {
            Value::String(_) if FIELDS.contains(&key.as_str()) => text(value, calendar),
            value => below(value, calendar),
        }),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn text(value: &mut Value, calendar: &Calendar) {
    let Some(Ok(at)) = value.as_str().map(str::parse::<Timestamp>) else { return };
    let Ok(nanos) = i64::try_from(at.as_nanosecond()) else { return };
    *value = Value::String(calendar.show(Time(nanos)).to_timestamp().to_string());
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn moments_are_shifted_and_nothing_else() {
        let pod = json!({
            "metadata": {"creationTimestamp": "1970-01-01T00:01:00Z", "annotations": {"startTime": "1970-01-01T00:01:00Z"}},
            "spec": {"startTime": "1970-01-01T00:01:00Z"},
            "status": {
                "startTime": "1970-01-01T00:01:01Z",
                "message": "1970-01-01T00:01:00Z",
                "conditions": [{"lastTransitionTime": "1970-01-01T00:01:02Z", "lastProbeTime": null}],
                "containerStatuses": [{"state": {"terminated": {
                    "startedAt": "1970-01-01T00:01:03Z", "finishedAt": "2026-01-01T00:00:00Z"}}}],
            },
        });
        let mut shown = pod.clone();
        show(&mut shown, &Calendar::default());
        assert_eq!(shown, pod);
        show(&mut shown, &Calendar::shifted(Time(0), Time(600_000_000_000), 3_600_000_000_000));
        assert_eq!(
            shown,
            json!({
                "metadata": {"creationTimestamp": "1970-01-01T01:01:00Z", "annotations": {"startTime": "1970-01-01T00:01:00Z"}},
                "spec": {"startTime": "1970-01-01T00:01:00Z"},
                "status": {
                    "startTime": "1970-01-01T01:01:01Z",
                    "message": "1970-01-01T00:01:00Z",
                    "conditions": [{"lastTransitionTime": "1970-01-01T01:01:02Z", "lastProbeTime": null}],
                    "containerStatuses": [{"state": {"terminated": {
                        "startedAt": "1970-01-01T01:01:03Z", "finishedAt": "2026-01-01T00:00:00Z"}}}],
                },
            })
        );
    }
}
