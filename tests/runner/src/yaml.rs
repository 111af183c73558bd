//! YAML as far as cases and manifests need it: the JSON data model, no anchors, aliases or tags.

use saphyr_parser::{Event, Parser, ScalarStyle, Span};
use serde_json::{Map, Number, Value};

/// Reads the documents of `text`. Errors carry the line.
pub fn read(text: &str) -> Result<Vec<Value>, String> {
    let mut reader = Reader { parser: Parser::new_from_str(text) };
    let mut documents = Vec::new();
    loop {
        let (event, span) = reader.next()?;
        match event {
            Event::StreamEnd => return Ok(documents),
            Event::StreamStart | Event::DocumentStart(_) | Event::DocumentEnd | Event::Nothing => {}
            event => documents.push(reader.value(event, span)?),
        }
    }
}

struct Reader<'a> {
    parser: Parser<'a, saphyr_parser::StrInput<'a>>,
}

impl<'a> Reader<'a> {
    fn next(&mut self) -> Result<(Event<'a>, Span), String> {
        match self.parser.next() {
            Some(Ok(next)) => Ok(next),
            Some(Err(e)) => Err(format!("line {}: {}", e.marker().line(), e.info())),
            None => Err("the document has no end".to_owned()),
        }
    }

    fn value(&mut self, event: Event<'a>, span: Span) -> Result<Value, String> {
        let line = span.start.line();
        match event {
            Event::Scalar(text, style, 0, None) => Ok(scalar(&text, style)),
            Event::SequenceStart(0, None) => {
                let mut items = Vec::new();
                loop {
                    match self.next()? {
                        (Event::SequenceEnd, _) => return Ok(Value::Array(items)),
                        (event, span) => items.push(self.value(event, span)?),
                    }
                }
            }
            Event::MappingStart(0, None) => {
                let mut map = Map::new();
                loop {
                    let key = match self.next()? {
                        (Event::MappingEnd, _) => return Ok(Value::Object(map)),
                        (Event::Scalar(key, _, 0, None), _) => key.into_owned(),
                        (_, span) => return Err(format!("line {}: a key is not a plain word", span.start.line())),
                    };
                    let (event, span) = self.next()?;
                    let value = self.value(event, span)?;
                    if map.insert(key.clone(), value).is_some() {
                        return Err(format!("line {line}: the key {key:?} is there twice"));
                    }
                }
            }
            other => Err(format!("line {line}: anchors, aliases and tags are not supported ({other:?})")),
        }
    }
}

fn scalar(text: &str, style: ScalarStyle) -> Value {
    if style != ScalarStyle::Plain {
        return Value::String(text.to_owned());
    }
    match text {
        "" | "~" | "null" => Value::Null,
        "true" => Value::Bool(true),
        "false" => Value::Bool(false),
        _ => number(text).map_or_else(|| Value::String(text.to_owned()), Value::Number),
    }
}

fn number(text: &str) -> Option<Number> {
    if !text.starts_with(|c: char| c.is_ascii_digit() || c == '-') {
        return None;
    }
    if let Ok(n) = text.parse::<i64>() {
        return Some(n.into());
    }
    text.parse().ok().and_then(Number::from_f64)
}

/// Writes `value` in block style, as people write manifests.
pub fn write(value: &Value) -> String {
    let mut out = String::new();
    block(value, 0, &mut out);
    out
}

fn block(value: &Value, indent: usize, out: &mut String) {
    let pad = " ".repeat(indent);
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                out.push_str(&format!("{pad}{}:", word(key)));
                nested(value, indent, out);
            }
        }
        Value::Array(items) => {
            for item in items {
                let mut text = String::new();
                match item {
                    Value::Object(map) if !map.is_empty() => block(item, indent + 2, &mut text),
                    _ => nested(item, indent, &mut text),
                }
                out.push_str(&format!("{pad}- {}", text.trim_start()));
            }
        }
        other => out.push_str(&format!("{pad}{}\n", leaf(other))),
    }
}

fn nested(value: &Value, indent: usize, out: &mut String) {
    match value {
        Value::Object(map) if !map.is_empty() => {
            out.push('\n');
            block(value, indent + 2, out);
        }
        Value::Array(items) if !items.is_empty() && !items.iter().any(Value::is_array) => {
            out.push('\n');
            block(value, indent, out);
        }
        other => out.push_str(&format!(" {}\n", leaf(other))),
    }
}

fn leaf(value: &Value) -> String {
    match value {
        Value::String(text) => word(text),
        other => other.to_string(),
    }
}

/// Plain where that is safe under every YAML version, else as JSON.
fn word(text: &str) -> String {
    const NOT_STRINGS: &[&str] = &["true", "false", "null", "yes", "no", "on", "off", "y", "n"];
    let plain = text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "-_./".contains(c))
        && !NOT_STRINGS.contains(&text.to_ascii_lowercase().as_str());
    if plain { text.to_owned() } else { Value::String(text.to_owned()).to_string() }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn reads_what_cases_hold() {
        let text = "a: {b: [x, \"1\", 1, 1.5, true, ~], c: 'it''s'}\nd: |\n  two\n  lines\n---\n- run=1\n";
        let first = json!({"a": {"b": ["x", "1", 1, 1.5, true, null], "c": "it's"}, "d": "two\nlines\n"});
        assert_eq!(read(text), Ok(vec![first, json!(["run=1"])]));
    }

    #[test]
    fn refuses_what_it_would_misread() {
        for bad in ["a: 1\na: 2", "a: [unclosed", "a: &x 1\nb: *x", "a: !!str 1", "? [a]\n: 1"] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn writes_what_it_reads() {
        let value = json!({"kind": "Pod", "spec": {"containers": [{"args": ["run=1", "yes", "7"], "name": "a", "env": []},
            {"name": "b", "x": {}, "nested": [[1, 2], [3]]}], "on": true, "text": "a\nb: c # d"}, "n": null});
        assert_eq!(read(&write(&value)), Ok(vec![value.clone()]), "{}", write(&value));
    }
}
