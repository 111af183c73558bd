//! YAML text -> values with lines.
//!
//! Built from the parser's events, not by recursion, with limits on depth, number of values and what aliases expand to, so
//! that hostile input costs little.

use std::collections::{HashMap, HashSet};

use saphyr_parser::{Event, Parser, ScalarStyle, Tag};

use super::node::{Content, Entry, Node};
use super::problem::{Problems, join};
use super::quote::shown;
use super::scalar;

/// Deepest nesting. A pod needs about 12.
pub(super) const DEEPEST: usize = 64;
/// Values in one file, those that aliases stand for included.
pub(super) const MOST_VALUES: usize = 200_000;
/// Characters of a path in a message.
const LONGEST_PATH: usize = 100;
/// Bytes of text that aliases may add.
const MOST_ALIAS_BYTES: usize = 1 << 20;

/// Reads all documents of a text. Empty documents are left out.
pub(super) fn read(text: &str, problems: &mut Problems) -> Vec<Node> {
    let mut builder = Builder::new(problems);
    let mut parser = Parser::new_from_str(text);
    while let Some(next) = parser.next_event() {
        match next {
            Ok((Event::StreamEnd, _)) => break,
            Ok((event, span)) => {
                if builder.event(event, span.start.line()).is_err() {
                    break;
                }
            }
            Err(error) => {
                let message = format!("not valid YAML: {} (column {})", error.info(), error.marker().col() + 1);
                builder.number = builder.number.max(1);
                builder.complain(error.marker().line(), message);
                break;
            }
        }
    }
    builder.documents
}

/// Reading cannot go on; the reason is among the problems.
struct GiveUp;

/// A mapping or sequence whose end has not come yet.
struct Open {
    line: usize,
    anchor: usize,
    /// It stands where a key should: reported, and dropped at its end.
    is_key: bool,
    kind: OpenKind,
}

enum OpenKind {
    Seq(Vec<Node>),
    Map(OpenMap),
}

#[derive(Default)]
struct OpenMap {
    entries: Vec<Entry>,
    /// Line of each key so far.
    seen: HashMap<String, usize>,
    /// A key whose value has not come yet.
    key: Option<(Key, usize)>,
    /// Mappings named by `<<`.
    merged: Vec<Node>,
}

enum Key {
    Field(String),
    Merge,
    /// Already reported; its value is dropped.
    Bad,
}

/// What a copy of a value costs.
#[derive(Clone, Copy, Default)]
struct Cost {
    values: usize,
    bytes: usize,
}

struct Builder<'p> {
    problems: &'p mut Problems,
    documents: Vec<Node>,
    /// Documents begun, empty ones included.
    number: usize,
    open: Vec<Open>,
    anchors: HashMap<usize, (Node, Cost)>,
    values: usize,
    alias_bytes: usize,
}

impl<'p> Builder<'p> {
    fn new(problems: &'p mut Problems) -> Builder<'p> {
        Builder {
            problems,
            documents: Vec::new(),
            number: 0,
            open: Vec::new(),
            anchors: HashMap::new(),
            values: 0,
            alias_bytes: 0,
        }
    }

    fn event(&mut self, event: Event<'_>, line: usize) -> Result<(), GiveUp> {
        match event {
            Event::DocumentStart(_) => {
                self.number += 1;
                self.anchors.clear();
                Ok(())
            }
            Event::MappingStart(anchor, tag) => {
                self.check_tag(tag.as_deref(), "map", line);
                self.begin(line, anchor, OpenKind::Map(OpenMap::default()))
            }
            Event::SequenceStart(anchor, tag) => {
                self.check_tag(tag.as_deref(), "seq", line);
                self.begin(line, anchor, OpenKind::Seq(Vec::new()))
            }
            Event::MappingEnd | Event::SequenceEnd => self.end(),
            Event::Scalar(text, style, anchor, tag) => {
                if self.key_is_next() {
                    let plain_merge = style == ScalarStyle::Plain && tag.is_none() && text == "<<";
                    let content = self.scalar(&text, style, tag.as_deref(), line);
                    self.remember(anchor, &Node { line: Some(line), content: content.clone() });
                    return self.key(content, plain_merge, line);
                }
                let content = self.scalar(&text, style, tag.as_deref(), line);
                self.value(Node { line: Some(line), content }, anchor)
            }
            Event::Alias(anchor) => self.alias(anchor, line),
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => Ok(()),
        }
    }

    fn begin(&mut self, line: usize, anchor: usize, kind: OpenKind) -> Result<(), GiveUp> {
        if self.open.len() >= DEEPEST {
            return self.give_up(line, format!("nested more than {DEEPEST} levels deep"));
        }
        let is_key = self.key_is_next();
        if is_key {
            self.complain(line, "found a mapping or list as a key, accepted: a string");
            self.set_key(Key::Bad, line);
        }
        self.open.push(Open { line, anchor, is_key, kind });
        Ok(())
    }

    fn end(&mut self) -> Result<(), GiveUp> {
        let Some(Open { line, anchor, is_key, kind }) = self.open.pop() else { return Ok(()) };
        if is_key {
            return Ok(());
        }
        let content = match kind {
            OpenKind::Seq(nodes) => Content::Seq(nodes),
            OpenKind::Map(map) => Content::Map(merge(map)),
        };
        self.value(Node { line: Some(line), content }, anchor)
    }

    /// Puts a complete value where it belongs.
    fn value(&mut self, node: Node, anchor: usize) -> Result<(), GiveUp> {
        let line = node.line.unwrap_or(1);
        self.values += 1;
        if self.values > MOST_VALUES {
            return self.give_up(line, format!("more than {MOST_VALUES} values in one file"));
        }
        self.remember(anchor, &node);
        match self.open.last_mut().map(|open| &mut open.kind) {
            None if node.is_null() => {}
            None => self.documents.push(node),
            Some(OpenKind::Seq(nodes)) => nodes.push(node),
            Some(OpenKind::Map(map)) => match map.key.take() {
                Some((Key::Field(key), key_line)) => map.entries.push(Entry { key, line: Some(key_line), node }),
                Some((Key::Merge, _)) => self.merge_value(node),
                Some((Key::Bad, _)) | None => {}
            },
        }
        Ok(())
    }

    fn merge_value(&mut self, node: Node) {
        let line = node.line.unwrap_or(1);
        let sources = match node.content {
            Content::Map(_) => vec![node],
            Content::Seq(nodes) => nodes,
            _ => {
                self.complain(
                    line,
                    format!("found {}, accepted after <<: a mapping or a list of mappings", node.describe()),
                );
                return;
            }
        };
        if let Some(other) = sources.iter().find(|n| !n.is_map()) {
            let found = other.describe();
            self.complain(line, format!("found {found} in the list after <<, accepted: mappings"));
        }
        if let Some(Open { kind: OpenKind::Map(map), .. }) = self.open.last_mut() {
            map.merged.extend(sources);
        }
    }

    fn key_is_next(&self) -> bool {
        matches!(self.open.last(), Some(Open { kind: OpenKind::Map(map), .. }) if map.key.is_none())
    }

    fn set_key(&mut self, key: Key, line: usize) {
        if let Some(Open { kind: OpenKind::Map(map), .. }) = self.open.last_mut() {
            map.key = Some((key, line));
        }
    }

    fn key(&mut self, content: Content, plain_merge: bool, line: usize) -> Result<(), GiveUp> {
        if plain_merge {
            self.set_key(Key::Merge, line);
            return Ok(());
        }
        let node = Node { line: Some(line), content };
        let Some(name) = node.as_str() else {
            let message = format!("found {} as a key, accepted: a string; quote it", node.describe());
            self.complain(line, message);
            self.set_key(Key::Bad, line);
            return Ok(());
        };
        let name = name.to_owned();
        let Some(Open { kind: OpenKind::Map(map), .. }) = self.open.last_mut() else { return Ok(()) };
        if let Some(first) = map.seen.insert(name.clone(), line) {
            map.seen.insert(name.clone(), first);
            map.key = Some((Key::Bad, line));
            let path = join(&self.path(), &name);
            self.problems.push(Some(line), path, format!("given twice, first in line {first}; keep one of them"));
        } else {
            map.key = Some((Key::Field(name), line));
        }
        Ok(())
    }

    fn alias(&mut self, anchor: usize, line: usize) -> Result<(), GiveUp> {
        let Some((node, cost)) = self.anchors.get(&anchor) else {
            self.complain(line, "an alias (*) to an anchor (&) that is not complete, or in another document");
            return if self.key_is_next() {
                self.set_key(Key::Bad, line);
                Ok(())
            } else {
                self.value(Node { line: Some(line), content: Content::Null }, 0)
            };
        };
        let cost = *cost;
        if self.values + cost.values > MOST_VALUES || self.alias_bytes + cost.bytes > MOST_ALIAS_BYTES {
            return self.give_up(line, "aliases (*) expand to more than is accepted".to_owned());
        }
        self.values += cost.values;
        self.alias_bytes += cost.bytes;
        let node = node.clone();
        if self.open.len() + depth(&node) > DEEPEST {
            return self.give_up(line, format!("nested more than {DEEPEST} levels deep"));
        }
        if self.key_is_next() { self.key(node.content, false, line) } else { self.value(node, 0) }
    }

    fn remember(&mut self, anchor: usize, node: &Node) {
        if anchor != 0 {
            self.anchors.insert(anchor, (node.clone(), cost(node)));
        }
    }

    fn scalar(&mut self, text: &str, style: ScalarStyle, tag: Option<&Tag>, line: usize) -> Content {
        let string = || Content::String(text.to_owned());
        let Some(tag) = tag else {
            if style != ScalarStyle::Plain {
                return string();
            }
            let content = scalar::resolve(text);
            if let Content::Number { float, .. } = content
                && !float.is_finite()
            {
                // Kubernetes reads manifests as JSON, which has no such number.
                self.complain(line, format!("found {text}, accepted: a number that is one; quote it if it is text"));
                return string();
            }
            return content;
        };
        if tag.handle.is_empty() && tag.suffix == "!" || tag.handle == "!" && tag.suffix.is_empty() {
            return string();
        }
        if !tag.is_yaml_core_schema() {
            self.complain(line, format!("unknown tag {tag}; remove it"));
            return string();
        }
        let resolved = scalar::resolve(text);
        let fits = match tag.suffix.as_str() {
            "str" => return string(),
            "bool" => matches!(resolved, Content::Bool { .. }),
            "int" => scalar::is_integer(text),
            "float" => matches!(resolved, Content::Number { float, .. } if float.is_finite()),
            "null" => matches!(resolved, Content::Null),
            _ => false,
        };
        if !fits {
            self.complain(line, format!("the tag !!{} does not fit {}; remove it", tag.suffix, shown(text)));
        }
        resolved
    }

    fn check_tag(&mut self, tag: Option<&Tag>, accepted: &str, line: usize) {
        if let Some(tag) = tag.filter(|t| !(t.is_yaml_core_schema() && t.suffix == accepted)) {
            self.complain(line, format!("unknown tag {tag}; remove it"));
        }
    }

    fn complain(&mut self, line: usize, message: impl Into<String>) {
        self.problems.push(Some(line), self.path(), message);
    }

    fn give_up(&mut self, line: usize, message: String) -> Result<(), GiveUp> {
        self.complain(line, message);
        Err(GiveUp)
    }

    /// Where reading stands now.
    fn path(&self) -> String {
        let mut path = String::new();
        for open in &self.open {
            match &open.kind {
                OpenKind::Seq(nodes) => path = format!("{path}[{}]", nodes.len()),
                OpenKind::Map(map) => {
                    if let Some((Key::Field(key), _)) = &map.key {
                        path = join(&path, key);
                    }
                }
            }
        }
        match path.char_indices().nth(LONGEST_PATH) {
            _ if path.is_empty() => format!("document {}", self.number),
            Some((cut, _)) => format!("{}…", path.get(..cut).unwrap_or_default()),
            None => path,
        }
    }
}

/// The mapping's own fields, then those of `<<` that it does not have; earlier sources win.
fn merge(map: OpenMap) -> Vec<Entry> {
    let OpenMap { mut entries, merged, .. } = map;
    let mut seen: HashSet<String> = entries.iter().map(|e| e.key.clone()).collect();
    for source in merged {
        let Content::Map(fields) = source.content else { continue };
        entries.extend(fields.into_iter().filter(|e| seen.insert(e.key.clone())));
    }
    entries
}

fn cost(node: &Node) -> Cost {
    let sum = |parts: &mut dyn Iterator<Item = Cost>| {
        parts.fold(Cost::default(), |a, b| Cost { values: a.values + b.values, bytes: a.bytes + b.bytes })
    };
    let inner = match &node.content {
        Content::Null => Cost::default(),
        Content::Bool { text, .. } | Content::Number { text, .. } | Content::String(text) => {
            Cost { values: 0, bytes: text.len() }
        }
        Content::Seq(nodes) => sum(&mut nodes.iter().map(cost)),
        Content::Map(entries) => sum(&mut entries.iter().map(|e| {
            let value = cost(&e.node);
            Cost { bytes: value.bytes + e.key.len(), ..value }
        })),
    };
    Cost { values: inner.values + 1, ..inner }
}

fn depth(node: &Node) -> usize {
    match &node.content {
        Content::Seq(nodes) => 1 + nodes.iter().map(depth).max().unwrap_or(0),
        Content::Map(entries) => 1 + entries.iter().map(|e| depth(&e.node)).max().unwrap_or(0),
        Content::Null | Content::Bool { .. } | Content::Number { .. } | Content::String(_) => 0,
    }
}
