//! JSON values as YAML 1.2, block style. Every string that could be taken for something else is quoted.

use podwright_sys::printable::is_hidden;
use serde_json::Value;

/// A document, with a newline at its end.
pub fn to_yaml(value: &Value) -> String {
    let mut out = String::new();
    match value {
        Value::Object(map) if !map.is_empty() => block(value, 0, &mut out),
        Value::Array(items) if !items.is_empty() => block(value, 0, &mut out),
        scalar => {
            out.push_str(&inline(scalar));
            out.push('\n');
        }
    }
    out
}

/// A non-empty map or list whose first line is already indented.
fn block(value: &Value, indent: usize, out: &mut String) {
    match value {
        Value::Object(map) => {
            for (i, (key, item)) in map.iter().enumerate() {
                if i > 0 {
                    pad(indent, out);
                }
                out.push_str(&string(key));
                out.push(':');
                match item {
                    Value::Object(m) if !m.is_empty() => nested(item, indent + 2, out),
                    // As kubectl does: a list under a key is not indented further.
                    Value::Array(a) if !a.is_empty() => nested(item, indent, out),
                    Value::String(s) if is_text_block(s) => text_block(s, indent + 2, out),
                    scalar => {
                        out.push(' ');
                        out.push_str(&inline(scalar));
                        out.push('\n');
                    }
                }
            }
        }
        Value::Array(items) => {
            for (i, item) in items.iter().enumerate() {
                if i > 0 {
                    pad(indent, out);
                }
                out.push_str("- ");
                match item {
                    Value::Object(m) if !m.is_empty() => block(item, indent + 2, out),
                    Value::Array(a) if !a.is_empty() => block(item, indent + 2, out),
                    scalar => {
                        out.push_str(&inline(scalar));
                        out.push('\n');
                    }
                }
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn nested(value: &Value, indent: usize, out: &mut String) {
    out.push('\n');
    pad(indent, out);
    block(value, indent, out);
}

fn pad(indent: usize, out: &mut String) {
    out.extend(std::iter::repeat_n(' ', indent));
}

fn inline(value: &Value) -> String {
    match value {
        Value::String(s) => string(s),
        Value::Object(_) => "{}".to_owned(),
        Value::Array(_) => "[]".to_owned(),
        Value::Null | Value::Bool(_) | Value::Number(_) => value.to_string(),
    }
}

/// Several lines that a literal block shows as they are.
fn is_text_block(text: &str) -> bool {
    text.trim_end_matches('\n').contains('\n')
        && !text.starts_with([' ', '\n', '\t'])
        && text.chars().all(|c| c == '\n' || c == '\t' || is_printable(c))
        && text.lines().all(|line| !line.ends_with([' ', '\t']))
}

fn text_block(text: &str, indent: usize, out: &mut String) {
    let body = text.trim_end_matches('\n');
    let chomping = match text.len() - body.len() {
        0 => "-",
        1 => "",
        _ => "+",
    };
    out.push_str(" |");
    out.push_str(chomping);
    out.push('\n');
    for line in body.split('\n') {
        if !line.is_empty() {
            pad(indent, out);
            out.push_str(line);
        }
        out.push('\n');
    }
    out.extend(std::iter::repeat_n('\n', (text.len() - body.len()).saturating_sub(1)));
}

fn string(text: &str) -> String {
    if is_plain(text) {
        return text.to_owned();
    }
    let mut out = String::from('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            c if is_printable(c) => out.push(c),
            c if u32::from(c) <= 0xffff => out.push_str(&format!("\\u{:04X}", u32::from(c))),
            c => out.push_str(&format!("\\U{:08X}", u32::from(c))),
        }
    }
    out.push('"');
    out
}

/// What every reader shows and keeps.
fn is_printable(c: char) -> bool {
    !is_hidden(c)
}

/// Whether readers of YAML 1.1 and 1.2 alike take the text for a string without quotes. On the safe side: whatever
/// begins like a number or a time is not.
fn is_plain(text: &str) -> bool {
    let first_ok = text.chars().next().is_some_and(|c| c.is_ascii_alphabetic() || c == '/' || c == '_');
    let words = ["null", "true", "false", "yes", "no", "on", "off", "y", "n"];
    first_ok
        && text.chars().all(|c| c.is_ascii_alphanumeric() || " _-./:@$+=,()<>;?!~^'\"#%&*|{}[]".contains(c))
        && !text.ends_with([' ', ':'])
        && !text.contains(": ")
        && !text.contains(" #")
        && !words.contains(&text.to_ascii_lowercase().as_str())
}

#[cfg(test)]
mod tests {
    use saphyr_parser::{Event, Parser, ScalarStyle};
    use serde_json::{Map, json};

    use super::*;

    /// Reads what this module writes, by the core schema of YAML 1.2.
    fn read(text: &str) -> Value {
        let events: Vec<Event<'_>> = Parser::new_from_str(text).map(|e| e.unwrap().0).collect();
        let mut rest = events.iter().skip_while(|e| matches!(e, Event::StreamStart | Event::DocumentStart(_)));
        node(&mut rest)
    }

    fn node<'a, 'b: 'a>(events: &mut impl Iterator<Item = &'a Event<'b>>) -> Value {
        let first = events.next().unwrap();
        node_from(first, events)
    }

    fn node_from<'a, 'b: 'a>(first: &Event<'b>, events: &mut impl Iterator<Item = &'a Event<'b>>) -> Value {
        match first {
            Event::Scalar(text, ScalarStyle::Plain, ..) => {
                serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.to_string()))
            }
            Event::Scalar(text, ..) => Value::String(text.to_string()),
            Event::SequenceStart(..) => {
                let mut items = Vec::new();
                loop {
                    match events.next().unwrap() {
                        Event::SequenceEnd => return Value::Array(items),
                        other => items.push(node_from(other, events)),
                    }
                }
            }
            Event::MappingStart(..) => {
                let mut map = Map::new();
                loop {
                    match events.next().unwrap() {
                        Event::MappingEnd => return Value::Object(map),
                        key => {
                            let key = match key {
                                Event::Scalar(text, ..) => text.to_string(),
                                other => panic!("key {other:?}"),
                            };
                            map.insert(key, node(events));
                        }
                    }
                }
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn looks_like_kubectl() {
        let value = json!({"metadata": {"name": "web", "labels": {}, "creationTimestamp": "2026-11-23T12:00:00Z"},
                           "spec": {"containers": [{"args": ["a", "b: c"], "name": "app"}, {}], "count": 5, "x": null},
                           "text": "one\ntwo\n"});
        let expected = "\
metadata:
  creationTimestamp: \"2026-11-23T12:00:00Z\"
  labels: {}
  name: web
spec:
  containers:
  - args:
    - a
    - \"b: c\"
    name: app
  - {}
  count: 5
  x: null
text: |
  one
  two
";
        assert_eq!(to_yaml(&value), expected);
    }

    const STRINGS: &str = "|a|null|Null|~|yes|NO|1|0x1f|1e3|-|- a|.5|+1|2026-11-23|12:30:45|=|a: b|a:|a #b|#a|&a|*a|!a|>|%a|@a|`a|'a'|{a|\
        [a|a, b|?|? a|a |...|---|key=value|a'b|{}|[]|a,b|\u{7f}|\u{85}|\u{2028}|\u{feff}|é|\u{1F600}|\u{0}|\n|x\n|\na\nb| a\nb|a \nb|\
        a\nb|a\nb\n|a\nb\n\n|a\n\n  b\n|a\n#b|a\n---\nb|a\tb|a\r\nb|日本\nx|\"a\"|a\\b";

    #[test]
    fn every_string_comes_back_as_it_was() {
        let mut strings: Vec<String> = STRINGS.split('|').map(str::to_owned).collect();
        // Every pair of characters that mean something to YAML.
        let special = " \n\t:#-?|>&*!%@`'\"{}[],~=\\a1.";
        strings.extend(special.chars().flat_map(|a| special.chars().map(move |b| format!("x{a}{b}y"))));
        strings.extend(special.chars().flat_map(|a| special.chars().map(move |b| format!("{a}{b}"))));
        for s in &strings {
            for value in [json!(s), json!([s]), json!({ "k": s }), json!({ s.as_str(): [{"k": s}, [s, []]] })] {
                let text = to_yaml(&value);
                assert_eq!(read(&text), value, "{s:?} written as\n{text}");
            }
        }
    }
}
