//! Where the program writes to, and the formats that are the same for every kind of object.

use std::io::{self, Write};

use podwright_sys::printable;
use serde_json::Value;

use super::args::Output;
use super::error::Done;
use super::page::Page;
use super::yaml;

/// Standard output and standard error. Everything is flushed at once: whoever watches wants to see it now.
pub(super) struct Out(io::Stdout, io::Stderr);

impl Out {
    /// Those of this process.
    pub(super) fn of_process() -> Self {
        Out(io::stdout(), io::stderr())
    }

    /// For people.
    pub(super) fn print(&mut self, page: &Page) -> Done {
        self.write(page.as_str().as_bytes())
    }

    /// For people who asked for something else, or for a program that did not ask for it.
    pub(super) fn note(&mut self, page: &Page) {
        // Nobody hears that nobody hears.
        self.1.write_all(page.as_str().as_bytes()).ok();
    }

    /// For programs.
    pub(super) fn data(&mut self, data: &Data) -> Done {
        self.write(data.0.as_bytes())
    }

    /// The bytes as they are: what a container wrote, as kubectl shows it, and the program's own scripts.
    pub(super) fn raw(&mut self, bytes: &[u8]) -> Done {
        self.write(bytes)
    }

    fn write(&mut self, bytes: &[u8]) -> Done {
        let mut lock = self.0.lock();
        lock.write_all(bytes)?;
        Ok(lock.flush()?)
    }
}

/// An object in a format for programs, in which whatever a terminal would obey is written as that format's escape.
pub(super) struct Data(String);

impl Data {
    /// After a line that parts it from the document before.
    pub(super) fn parted(self) -> Data {
        Data(format!("---\n{}", self.0))
    }
}

/// An object in one of the formats that need no table; `None` for a table.
pub(super) fn object(format: Option<Output>, object: &Value) -> Option<Data> {
    match format {
        Some(Output::Json) => Some(Data(printable::json(&format!("{object:#}\n")).into_owned())),
        Some(Output::Yaml) => Some(Data(yaml::to_yaml(object))),
        Some(Output::Name) => Some(Data(names(object))),
        Some(Output::Wide) | None => None,
    }
}

/// `kind/name`, one a line, of an object or of the items of a list.
fn names(object: &Value) -> String {
    let one = |item: &Value| {
        let kind = item["kind"].as_str().unwrap_or("pod").to_lowercase();
        let name = item["metadata"]["name"].as_str().or(item["file"].as_str()).unwrap_or_default();
        let name = if item["file"].is_string() { name.to_owned() } else { format!("{kind}/{name}") };
        format!("{}\n", printable::line(&name))
    };
    match object["items"].as_array() {
        Some(items) => items.iter().map(one).collect(),
        None => one(object),
    }
}
