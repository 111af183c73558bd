//! JSON text -> values with lines.
//!
//! serde_json has the last word on what is JSON; then the text, known to be valid, is walked once more for lines and for
//! keys given twice.

use serde::de::IgnoredAny;

use super::node::{Content, Entry, Node};
use super::problem::{Problems, join};
use super::yaml::{DEEPEST, MOST_VALUES};

/// Reads the one value of a text; `None` if it cannot be read.
pub(super) fn read(text: &str, problems: &mut Problems) -> Option<Node> {
    // A byte order mark is not JSON, but editors write it.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if text.trim().is_empty() {
        return None;
    }
    if let Err(error) = serde_json::from_str::<IgnoredAny>(text) {
        let full = error.to_string();
        let what = full.split(" at line ").next().unwrap_or(&full);
        let message = format!("not valid JSON: {what} (column {})", error.column());
        problems.push(Some(error.line()), "document 1", message);
        return None;
    }
    let mut walk = Walk { text, at: 0, line: 1, values: 0, depth: 0, problems };
    walk.value("")
}

struct Walk<'a, 'p> {
    text: &'a str,
    at: usize,
    line: usize,
    values: usize,
    /// How many objects and arrays are open. serde_json skips any number of them.
    depth: usize,
    problems: &'p mut Problems,
}

impl<'a> Walk<'a, '_> {
    /// The next byte that is not white space.
    fn peek(&mut self) -> Option<u8> {
        while let Some(&byte) = self.text.as_bytes().get(self.at) {
            match byte {
                b'\n' => self.line += 1,
                b' ' | b'\t' | b'\r' => {}
                _ => return Some(byte),
            }
            self.at += 1;
        }
        None
    }

    fn next(&mut self) -> Option<u8> {
        let byte = self.peek()?;
        self.at += 1;
        Some(byte)
    }

    fn value(&mut self, path: &str) -> Option<Node> {
        let first = self.peek()?;
        let line = Some(self.line);
        self.values += 1;
        if self.values > MOST_VALUES {
            self.problems.push(line, "document 1", format!("more than {MOST_VALUES} values in one file"));
            return None;
        }
        if matches!(first, b'{' | b'[') {
            self.depth += 1;
            if self.depth > DEEPEST {
                self.problems.push(line, "document 1", format!("nested more than {DEEPEST} levels deep"));
                return None;
            }
        }
        let content = match first {
            b'{' => self.object(path)?,
            b'[' => self.array(path)?,
            b'"' => Content::String(self.string()?),
            _ => self.word()?,
        };
        if matches!(first, b'{' | b'[') {
            self.depth -= 1;
        }
        Some(Node { line, content })
    }

    fn object(&mut self, path: &str) -> Option<Content> {
        let mut entries: Vec<Entry> = Vec::new();
        let mut seen = std::collections::HashMap::new();
        self.next()?;
        if self.peek()? == b'}' {
            self.next()?;
            return Some(Content::Map(entries));
        }
        loop {
            self.peek()?;
            let line = self.line;
            let key = self.string()?;
            self.next()?;
            let inner = join(path, &key);
            let node = self.value(&inner)?;
            if let Some(first) = seen.get(&key) {
                let message = format!("given twice, first in line {first}; keep one of them");
                self.problems.push(Some(line), inner, message);
            } else {
                seen.insert(key.clone(), line);
                entries.push(Entry { key, line: Some(line), node });
            }
            if self.next()? == b'}' {
                return Some(Content::Map(entries));
            }
        }
    }

    fn array(&mut self, path: &str) -> Option<Content> {
        let mut nodes = Vec::new();
        self.next()?;
        if self.peek()? == b']' {
            self.next()?;
            return Some(Content::Seq(nodes));
        }
        loop {
            let inner = format!("{path}[{}]", nodes.len());
            nodes.push(self.value(&inner)?);
            if self.next()? == b']' {
                return Some(Content::Seq(nodes));
            }
        }
    }

    /// A string, with serde_json's idea of escapes. It cannot hold a line break.
    fn string(&mut self) -> Option<String> {
        let start = self.at;
        let mut end = start + 1;
        let bytes = self.text.as_bytes();
        while *bytes.get(end)? != b'"' {
            end += if *bytes.get(end)? == b'\\' { 2 } else { 1 };
        }
        self.at = end + 1;
        serde_json::from_str(self.text.get(start..=end)?).ok()
    }

    /// `true`, `false`, `null` or a number.
    fn word(&mut self) -> Option<Content> {
        let rest: &'a str = self.text.get(self.at..)?;
        let length = rest.find(|c: char| !c.is_ascii_alphanumeric() && !"+-.".contains(c)).unwrap_or(rest.len());
        let word = rest.get(..length).filter(|w| !w.is_empty())?;
        self.at += length;
        let value: serde_json::Value = serde_json::from_str(word).ok()?;
        let mut content = Node::from_value(&value).content;
        if let Content::Number { text, .. } = &mut content {
            word.clone_into(text);
        }
        Some(content)
    }
}
