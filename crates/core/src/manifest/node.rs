//! A manifest's values with their lines.

use super::quote::shown;
use serde_json::{Map, Value};

/// A value as it was written.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Node {
    /// Counted from 1; `None` when it was not read from a text.
    pub(super) line: Option<usize>,
    pub(super) content: Content,
}

/// What a value is.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Content {
    Null,
    Bool {
        value: bool,
        /// As written: `yes`.
        text: String,
    },
    Number {
        /// `None`: not a whole number, or not one of 64 bits.
        int: Option<i64>,
        float: f64,
        /// As written: `0644`.
        text: String,
    },
    String(String),
    Seq(Vec<Node>),
    Map(Vec<Entry>),
}

/// One field of a mapping.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) line: Option<usize>,
    pub(super) node: Node,
}

impl Node {
    pub(super) fn is_null(&self) -> bool {
        matches!(self.content, Content::Null)
    }

    pub(super) fn is_map(&self) -> bool {
        matches!(self.content, Content::Map(_))
    }

    pub(super) fn is_seq(&self) -> bool {
        matches!(self.content, Content::Seq(_))
    }

    /// The fields; none when it is no mapping.
    pub(super) fn entries(&self) -> &[Entry] {
        if let Content::Map(entries) = &self.content { entries } else { &[] }
    }

    /// The elements; none when it is no sequence.
    pub(super) fn elements(&self) -> &[Node] {
        if let Content::Seq(nodes) = &self.content { nodes } else { &[] }
    }

    pub(super) fn as_str(&self) -> Option<&str> {
        if let Content::String(text) = &self.content { Some(text) } else { None }
    }

    pub(super) fn as_bool(&self) -> Option<bool> {
        if let Content::Bool { value, .. } = &self.content { Some(*value) } else { None }
    }

    pub(super) fn as_int(&self) -> Option<i64> {
        if let Content::Number { int, .. } = &self.content { *int } else { None }
    }

    /// The text of a quantity: a string, or a number as JSON writes it, so that a stored pod reads the same.
    pub(super) fn as_quantity(&self) -> Option<String> {
        match &self.content {
            Content::String(text) => Some(text.clone()),
            Content::Number { int: Some(int), .. } => Some(int.to_string()),
            Content::Number { float, .. } => serde_json::Number::from_f64(*float).map(|n| n.to_string()),
            Content::Null | Content::Bool { .. } | Content::Seq(_) | Content::Map(_) => None,
        }
    }

    /// What it is, for a message: `string "ten"`, `boolean yes`.
    pub(super) fn describe(&self) -> String {
        match &self.content {
            Content::Null => "null".to_owned(),
            Content::Bool { text, .. } => format!("boolean {text}"),
            Content::Number { text, .. } => format!("number {text}"),
            Content::String(text) => format!("string {}", shown(text)),
            Content::Seq(nodes) if nodes.is_empty() => "empty list".to_owned(),
            Content::Seq(_) => "list".to_owned(),
            Content::Map(_) => "mapping".to_owned(),
        }
    }

    /// As JSON; fields that are `null` are left out, since they say nothing.
    pub(super) fn to_value(&self) -> Value {
        match &self.content {
            Content::Null => Value::Null,
            Content::Bool { value, .. } => Value::Bool(*value),
            Content::Number { int: Some(int), .. } => Value::from(*int),
            Content::Number { float, .. } => serde_json::Number::from_f64(*float).map_or(Value::Null, Value::Number),
            Content::String(text) => Value::String(text.clone()),
            Content::Seq(nodes) => Value::Array(nodes.iter().map(Node::to_value).collect()),
            Content::Map(entries) => {
                let present = entries.iter().filter(|e| !e.node.is_null());
                Value::Object(present.map(|e| (e.key.clone(), e.node.to_value())).collect::<Map<_, _>>())
            }
        }
    }

    /// From JSON, without lines.
    pub(super) fn from_value(value: &Value) -> Node {
        let content = match value {
            Value::Null => Content::Null,
            Value::Bool(value) => Content::Bool { value: *value, text: value.to_string() },
            Value::Number(number) => Content::Number {
                int: number.as_i64(),
                float: number.as_f64().unwrap_or(f64::NAN),
                text: number.to_string(),
            },
            Value::String(text) => Content::String(text.clone()),
            Value::Array(values) => Content::Seq(values.iter().map(Node::from_value).collect()),
            Value::Object(fields) => Content::Map(
                fields
                    .iter()
                    .map(|(key, value)| Entry { key: key.clone(), line: None, node: Node::from_value(value) })
                    .collect(),
            ),
        };
        Node { line: None, content }
    }
}
