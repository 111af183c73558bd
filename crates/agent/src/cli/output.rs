//! Standard output, and the formats that are the same for every kind of object.

use std::io::{self, Write};

use serde_json::Value;

use super::args::Output;
use super::{Done, yaml};

/// Standard output. Everything is flushed at once: whoever watches wants to see it now.
pub(super) struct Out(io::Stdout);

impl Out {
    pub(super) fn stdout() -> Self {
        Out(io::stdout())
    }

    pub(super) fn print(&mut self, text: &str) -> Done {
        self.write(text.as_bytes())
    }

    pub(super) fn write(&mut self, bytes: &[u8]) -> Done {
        let mut lock = self.0.lock();
        lock.write_all(bytes)?;
        Ok(lock.flush()?)
    }
}

/// An object in one of the formats that need no table; `None` for a table.
pub(super) fn object(format: Option<Output>, object: &Value) -> Option<String> {
    match format {
        Some(Output::Json) => Some(format!("{object:#}\n")),
        Some(Output::Yaml) => Some(yaml::to_yaml(object)),
        Some(Output::Name) => Some(names(object)),
        Some(Output::Wide) | None => None,
    }
}

/// `kind/name`, one a line, of an object or of the items of a list.
fn names(object: &Value) -> String {
    let one = |item: &Value| {
        let kind = item["kind"].as_str().unwrap_or("pod").to_lowercase();
        let name = item["metadata"]["name"].as_str().or(item["file"].as_str()).unwrap_or_default().to_owned();
        if item["file"].is_string() { format!("{name}\n") } else { format!("{kind}/{name}\n") }
    };
    match object["items"].as_array() {
        Some(items) => items.iter().map(one).collect(),
        None => one(object),
    }
}
