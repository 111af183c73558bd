//! `v1` Events: a bounded list in which the same event said again is counted, as kubelet's event correlator does
//! (client-go `tools/record/events_cache.go`).

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use podwright_core::objects::Kind;
use podwright_core::time::Time;
use serde_json::{Value, json};

use super::index::{EVENT_FIELDS, Index};
use crate::clock::Calendar;

/// Most events kept; the one that was silent longest goes first.
pub const MAX_EVENTS: usize = 2000;
/// Most events kept about one object: one that tells much takes no other's place.
pub const MAX_PER_OBJECT: usize = 100;
/// An event goes this long after it was last seen: one hour, as in Kubernetes.
pub const EVENT_TTL: Duration = Duration::from_secs(3600);

/// What an event is about.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Subject {
    /// A pod, or a container of it.
    Pod {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
        /// Its uid.
        uid: String,
        /// `spec.containers{NAME}` or `spec.initContainers{NAME}`; `None`: the pod itself.
        field_path: Option<String>,
    },
    /// A job or cron job.
    Object {
        /// Which of the two.
        kind: Kind,
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
        /// Its uid.
        uid: String,
    },
    /// The node.
    Node {
        /// Its name.
        name: String,
    },
    /// A file or directory of manifests.
    File {
        /// Its path.
        path: String,
    },
}

impl Subject {
    /// The whole object, of whichever part of it this is.
    fn object(&self) -> Subject {
        match self.clone() {
            Subject::Pod { namespace, name, uid, field_path: _ } => {
                Subject::Pod { namespace, name, uid, field_path: None }
            }
            other => other,
        }
    }
}

/// Something worth telling.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventInput {
    /// What it is about.
    pub subject: Subject,
    /// `Started`, `Killing`, `BackOff`, …
    pub reason: String,
    /// For people.
    pub message: String,
    /// `Warning` instead of `Normal`.
    pub warning: bool,
    /// When.
    pub at: Time,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Identity {
    subject: Subject,
    reason: String,
    message: String,
    warning: bool,
}

/// One event of the list.
#[derive(Debug, Clone)]
pub(super) struct Record {
    identity: Identity,
    name: String,
    version: u64,
    count: u32,
    first: Time,
    last: Time,
    pub(super) index: Arc<Index>,
    pub(super) object: Arc<str>,
}

/// The list. Keys are store versions: the order in which events were last seen.
#[derive(Debug, Default)]
pub(super) struct Events {
    by_version: BTreeMap<u64, Record>,
    known: HashMap<Identity, u64>,
    /// Of each object, the versions of its events.
    of_object: HashMap<Subject, BTreeSet<u64>>,
    /// Objects with more events than one may have.
    crowded: Vec<Subject>,
}

impl Events {
    /// Adds an event, or counts it once more; returns the earlier state, if any, and the new one.
    pub(super) fn record(
        &mut self,
        input: EventInput,
        version: u64,
        calendar: &Calendar,
    ) -> (Option<Arc<Index>>, &Record) {
        let EventInput { subject, reason, message, warning, at } = input;
        let identity = Identity { subject, reason, message, warning };
        let earlier = self.known.insert(identity.clone(), version).and_then(|v| self.by_version.remove(&v));
        let before = earlier.as_ref().map(|e| e.index.clone());
        let object = identity.subject.object();
        let versions = self.of_object.entry(object.clone()).or_default();
        if let Some(earlier) = &earlier {
            versions.remove(&earlier.version);
        }
        versions.insert(version);
        if versions.len() > MAX_PER_OBJECT {
            self.crowded.push(object);
        }
        let (name, count, first) = match earlier {
            Some(e) => (e.name, e.count.saturating_add(1), e.first),
            None => (format!("{}.{version:x}", subject_name(&identity.subject)), 1, at),
        };
        let times = (calendar.show(first), calendar.show(at));
        let object = to_json(&identity, &name, count, times, version);
        let index = Arc::new(Index::of(&object, EVENT_FIELDS));
        let object = object.to_string().into();
        let record = Record { identity, name, version, count, first, last: at, index, object };
        (before, self.by_version.entry(version).or_insert(record))
    }

    /// Writes the moments of all of them anew.
    pub(super) fn reshow(&mut self, calendar: &Calendar) {
        for (version, record) in &mut self.by_version {
            let times = (calendar.show(record.first), calendar.show(record.last));
            let object = to_json(&record.identity, &record.name, record.count, times, *version);
            record.object = object.to_string().into();
        }
    }

    /// Takes out what is too old at `now` or too much.
    pub(super) fn expire(&mut self, now: Time) -> Vec<Record> {
        let mut gone = Vec::new();
        for object in std::mem::take(&mut self.crowded) {
            while let Some(oldest) = self.oldest_of_too_many(&object) {
                gone.extend(self.remove(oldest));
            }
        }
        while let Some((version, first)) = self.by_version.first_key_value() {
            let too_old = now.since(first.last) >= EVENT_TTL;
            if !too_old && self.known.len() <= MAX_EVENTS {
                break;
            }
            gone.extend(self.remove(*version));
        }
        gone
    }

    fn oldest_of_too_many(&self, object: &Subject) -> Option<u64> {
        let versions = self.of_object.get(object)?;
        (versions.len() > MAX_PER_OBJECT).then(|| versions.first().copied())?
    }

    fn remove(&mut self, version: u64) -> Option<Record> {
        let record = self.by_version.remove(&version)?;
        self.known.remove(&record.identity);
        let object = record.identity.subject.object();
        if let Some(versions) = self.of_object.get_mut(&object) {
            versions.remove(&version);
            if versions.is_empty() {
                self.of_object.remove(&object);
            }
        }
        Some(record)
    }

    /// All of them, the one seen last at the end.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Record> {
        self.by_version.values()
    }
}

fn subject_name(subject: &Subject) -> &str {
    match subject {
        Subject::Pod { name, .. } | Subject::Object { name, .. } | Subject::Node { name } => name,
        Subject::File { path } => path.rsplit('/').next().unwrap_or(path),
    }
}

fn to_json(identity: &Identity, name: &str, count: u32, (first, last): (Time, Time), version: u64) -> Value {
    let (namespace, involved) = match &identity.subject {
        Subject::Pod { namespace, name, uid, field_path } => {
            let mut involved =
                json!({"apiVersion": "v1", "kind": "Pod", "namespace": namespace, "name": name, "uid": uid});
            if let Some(path) = field_path {
                involved["fieldPath"] = json!(path);
            }
            (namespace.as_str(), involved)
        }
        Subject::Object { kind, namespace, name, uid } => {
            let kind = kind.to_string();
            let involved =
                json!({"apiVersion": "batch/v1", "kind": kind, "namespace": namespace, "name": name, "uid": uid});
            (namespace.as_str(), involved)
        }
        // As the kubelet has it: of no namespace, with the name as uid.
        Subject::Node { name } => ("default", json!({"apiVersion": "v1", "kind": "Node", "name": name, "uid": name})),
        Subject::File { path } => ("default", json!({"apiVersion": "podwright.dev/v1", "kind": "File", "name": path})),
    };
    json!({
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {
            "name": name,
            "namespace": namespace,
            "creationTimestamp": first.to_timestamp().to_string(),
            "resourceVersion": version.to_string(),
        },
        "involvedObject": involved,
        "reason": identity.reason,
        "message": identity.message,
        "type": if identity.warning { "Warning" } else { "Normal" },
        "count": count,
        "firstTimestamp": first.to_timestamp().to_string(),
        "lastTimestamp": last.to_timestamp().to_string(),
        "source": {"component": "podwright"},
        "reportingComponent": "podwright",
        "reportingInstance": "",
        "eventTime": null,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn input(reason: &str, at: i64) -> EventInput {
        let subject = Subject::Pod {
            namespace: "default".into(),
            name: "web".into(),
            uid: "u".into(),
            field_path: Some("spec.containers{app}".into()),
        };
        EventInput { subject, reason: reason.into(), message: "m".into(), warning: true, at: Time(at * 1_000_000_000) }
    }

    fn parsed(record: &Record) -> Value {
        serde_json::from_str(&record.object).unwrap()
    }

    #[test]
    fn the_same_event_again_is_counted_and_moves_to_the_end() {
        let mut events = Events::default();
        assert!(events.record(input("BackOff", 10), 1, &Calendar::default()).0.is_none());
        events.record(input("Killing", 11), 2, &Calendar::default());
        assert!(events.record(input("BackOff", 20), 3, &Calendar::default()).0.is_some());
        let all: Vec<Value> = events.iter().map(parsed).collect();
        assert_eq!(all.iter().map(|e| e["reason"].as_str().unwrap()).collect::<Vec<_>>(), ["Killing", "BackOff"]);
        assert_eq!(all[1]["count"], 2);
        assert_eq!(all[1]["firstTimestamp"], "1970-01-01T00:00:10Z");
        assert_eq!(all[1]["lastTimestamp"], "1970-01-01T00:00:20Z");
        assert_eq!(all[1]["involvedObject"]["fieldPath"], "spec.containers{app}");
        assert_eq!(all[1]["metadata"]["name"], "web.1");
    }

    #[test]
    fn old_ones_go_and_a_later_repetition_starts_anew() {
        let mut events = Events::default();
        events.record(input("A", 0), 1, &Calendar::default());
        events.record(input("B", 3000), 2, &Calendar::default());
        let gone = events.expire(Time(3600 * 1_000_000_000));
        assert_eq!(gone.iter().map(|r| r.identity.reason.as_str()).collect::<Vec<_>>(), ["A"]);
        assert_eq!(parsed(events.record(input("A", 3601), 3, &Calendar::default()).1)["count"], 1);
    }

    #[test]
    fn one_object_that_tells_much_takes_no_others_place() {
        let mut events = Events::default();
        let file = |path: &str, n: u64| EventInput {
            subject: Subject::File { path: path.to_owned() },
            message: format!("message {n}"),
            ..input("A", 0)
        };
        events.record(file("quiet", 0), 1, &Calendar::default());
        for n in 0..5000 {
            events.record(file("loud", n), 2 + n, &Calendar::default());
            events.expire(Time(0));
        }
        let of = |path: &str| {
            let subject = Subject::File { path: path.to_owned() };
            events.iter().filter(|r| r.identity.subject == subject).count()
        };
        assert_eq!((of("quiet"), of("loud")), (1, MAX_PER_OBJECT));
        assert!(events.iter().any(|r| r.identity.message == "message 4999"), "the newest are kept");
        assert_eq!((events.known.len(), events.of_object.len()), (1 + MAX_PER_OBJECT, 2));
    }

    #[test]
    fn a_set_clock_moves_those_of_this_boot() {
        let mut events = Events::default();
        events.record(input("A", 10), 1, &Calendar::default());
        events.reshow(&Calendar::shifted(Time(0), Time(60_000_000_000), 3_600_000_000_000));
        let all: Vec<Value> = events.iter().map(parsed).collect();
        assert_eq!(all[0]["lastTimestamp"], "1970-01-01T01:00:10Z");
        assert_eq!(all[0]["metadata"]["creationTimestamp"], "1970-01-01T01:00:10Z");
    }

    #[test]
    fn the_list_is_bounded() {
        let mut events = Events::default();
        for i in 0..MAX_EVENTS as u64 + 5 {
            let subject = Subject::File { path: format!("f{}", i / 50) };
            events.record(EventInput { subject, ..input(&format!("R{i}"), 1) }, i, &Calendar::default());
            events.expire(Time(1_000_000_000));
        }
        assert_eq!(events.iter().count(), MAX_EVENTS);
        assert_eq!(events.iter().next().unwrap().identity.reason, "R5");
    }
}
