//! What is wrong with a manifest, in words for its author.

use super::quote::shown;
use std::fmt;

use super::node::Node;

/// One thing that is wrong with a manifest, or, among a document's notes, one that is accepted without having an effect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Line in the text, counted from 1; `None` for what was not read from a text.
    pub line: Option<usize>,
    /// The field, as in `spec.containers[0].image`; `document 2` where the text itself cannot be read.
    pub path: String,
    /// What was found, what is accepted, what to do.
    pub message: String,
}

impl Problem {
    /// `FILE:LINE: path: message`, the form that editors understand.
    pub fn in_file(&self, file: impl fmt::Display) -> String {
        match self.line {
            Some(line) => format!("{file}:{line}: {}: {}", self.path, self.message),
            None => format!("{file}: {}: {}", self.path, self.message),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(line) = self.line {
            write!(f, "line {line}: ")?;
        }
        write!(f, "{}: {}", self.path, self.message)
    }
}

/// More than this many are counted, not listed: nobody reads them, and hostile input must stay cheap.
const MOST: usize = 100;

/// Elements of one list in a pod: names are compared with each other, which must stay cheap.
pub(super) const MOST_ELEMENTS: usize = 1000;

/// Collects all problems of a file.
#[derive(Debug, Default)]
pub(super) struct Problems {
    listed: Vec<Problem>,
    more: usize,
}

impl Problems {
    /// Adds one, unless the same thing was already said about the same field.
    pub(super) fn push(&mut self, line: Option<usize>, path: impl Into<String>, message: impl Into<String>) {
        let problem = Problem { line, path: path.into(), message: message.into() };
        if self.listed.len() >= MOST {
            self.more += 1;
        } else if !self.listed.contains(&problem) {
            self.listed.push(problem);
        }
    }

    /// Adds one about a value.
    pub(super) fn at(&mut self, at: &At<'_>, message: impl Into<String>) {
        self.push(at.node.line, at.path.clone(), message);
    }

    pub(super) fn len(&self) -> usize {
        self.listed.len() + self.more
    }

    /// Whether what is added now would only be counted.
    pub(super) fn is_full(&self) -> bool {
        self.listed.len() >= MOST
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// In the order of the text.
    pub(super) fn into_vec(mut self) -> Vec<Problem> {
        self.listed.sort_by_key(|p| p.line);
        if self.more > 0 {
            let message = format!("and {} more problems", self.more);
            self.listed.push(Problem { line: None, path: "file".to_owned(), message });
        }
        self.listed
    }
}

/// A value and where it stands.
#[derive(Debug, Clone)]
pub(super) struct At<'a> {
    pub(super) node: &'a Node,
    pub(super) path: String,
}

impl<'a> At<'a> {
    pub(super) fn new(node: &'a Node, path: impl Into<String>) -> At<'a> {
        At { node, path: path.into() }
    }

    /// The path of a field of this mapping, present or not.
    pub(super) fn path_of(&self, key: &str) -> String {
        join(&self.path, key)
    }

    /// A field; `null` counts as absent, as in Kubernetes.
    pub(super) fn get(&self, key: &str) -> Option<At<'a>> {
        let entry = self.node.entries().iter().find(|e| e.key == key && !e.node.is_null())?;
        Some(At::new(&entry.node, self.path_of(key)))
    }

    /// The elements of a field that is a sequence, at most [`MOST_ELEMENTS`]; the form's check reports more.
    pub(super) fn items(&self, key: &str) -> Vec<At<'a>> {
        let mut items = self.get(key).map(|list| list.elements()).unwrap_or_default();
        items.truncate(MOST_ELEMENTS);
        items
    }

    /// The elements of a sequence.
    pub(super) fn elements(&self) -> Vec<At<'a>> {
        let nodes = self.node.elements().iter().enumerate();
        nodes.map(|(i, node)| At::new(node, format!("{}[{i}]", self.path))).collect()
    }

    /// The fields of a mapping.
    pub(super) fn fields(&self) -> impl Iterator<Item = (&'a str, At<'a>)> + '_ {
        self.node.entries().iter().map(|e| (e.key.as_str(), At::new(&e.node, self.path_of(&e.key))))
    }

    /// The line and the path of what is below this by a path of fields and indexes, as in `env[3].value`; the line is that of
    /// the last of them that is there.
    pub(super) fn reach(&self, below: &str) -> (Option<usize>, String) {
        let mut at = self.clone();
        for step in below.split('.') {
            let (key, index) = match step.strip_suffix(']').and_then(|step| step.split_once('[')) {
                Some((key, index)) => (key, index.parse::<usize>().ok()),
                None => (step, None),
            };
            let Some(field) = at.get(key) else { break };
            at = match index {
                Some(index) => field.elements().into_iter().nth(index).unwrap_or(field),
                None => field,
            };
        }
        (at.node.line, join_path(&self.path, below))
    }

    /// A string field.
    pub(super) fn str(&self, key: &str) -> Option<&'a str> {
        self.get(key).and_then(|at| at.node.as_str())
    }

    /// A boolean field.
    pub(super) fn bool(&self, key: &str) -> Option<bool> {
        self.get(key).and_then(|at| at.node.as_bool())
    }

    /// An integer field.
    pub(super) fn int(&self, key: &str) -> Option<i64> {
        self.get(key).and_then(|at| at.node.as_int())
    }

    /// A field that is a list of strings.
    pub(super) fn strings(&self, key: &str) -> Vec<String> {
        self.items(key).iter().filter_map(|at| at.node.as_str().map(str::to_owned)).collect()
    }
}

/// Characters of a key in a path that is not cut.
const LONGEST: usize = 60;

/// A key in a path; one that is not a plain word is bracketed, as in `metadata.labels["a.b/c"]`. A long one is cut: every value
/// below it has it in its path.
pub(super) fn join(path: &str, key: &str) -> String {
    let plain =
        (1..=LONGEST).contains(&key.len()) && key.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-');
    match (path.is_empty(), plain) {
        (true, true) => key.to_owned(),
        (false, true) => format!("{path}.{key}"),
        (_, false) => format!("{path}[{}]", shown(key)),
    }
}

fn join_path(path: &str, below: &str) -> String {
    if path.is_empty() { below.to_owned() } else { format!("{path}.{below}") }
}
