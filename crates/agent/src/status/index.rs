//! What selectors look at, kept apart from the object's text so that a list or watch needs no parsing.

use std::collections::BTreeMap;

use serde_json::Value;

/// Fields of an event that a field selector may name.
pub const EVENT_FIELDS: &[&str] = &[
    "metadata.name",
    "metadata.namespace",
    "involvedObject.kind",
    "involvedObject.namespace",
    "involvedObject.name",
    "involvedObject.uid",
    "involvedObject.fieldPath",
    "reason",
    "type",
];

/// The selectable side of an object.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Index {
    /// Its namespace.
    pub namespace: String,
    /// `metadata.labels`.
    pub labels: BTreeMap<String, String>,
    /// Values of [`Kind::selectable`](podwright_core::objects::Kind::selectable) or [`EVENT_FIELDS`]; an absent field is the empty string.
    pub fields: BTreeMap<&'static str, String>,
    /// The pod has ended and was removed: shown on request only.
    pub archived: bool,
}

impl Index {
    /// The index of `object` over `fields` (dotted paths).
    pub fn of(object: &Value, fields: &[&'static str]) -> Self {
        let text = |path: &str| match object.pointer(&format!("/{}", path.replace('.', "/"))) {
            Some(Value::String(s)) => s.clone(),
            Some(Value::Null) | None => String::new(),
            Some(other) => other.to_string(),
        };
        let labels = object.pointer("/metadata/labels").and_then(Value::as_object);
        Index {
            namespace: text("metadata.namespace"),
            labels: labels
                .into_iter()
                .flatten()
                .map(|(k, v)| (k.clone(), v.as_str().unwrap_or_default().to_owned()))
                .collect(),
            fields: fields.iter().map(|&f| (f, text(f))).collect(),
            archived: false,
        }
    }
}
