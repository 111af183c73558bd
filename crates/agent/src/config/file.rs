//! The configuration file: YAML mappings of scalars, at most two levels deep, read with line numbers.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use saphyr_parser::{Event, Parser};

use super::settings::{KEYS, Settings};

/// One thing that is wrong with the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    file: Option<PathBuf>,
    line: Option<usize>,
    message: String,
}

impl Problem {
    /// About the file as a whole.
    pub(super) fn of_file(file: &Path, message: String) -> Problem {
        Problem { file: Some(file.to_owned()), line: None, message }
    }

    /// About a key of the file whose value cannot be used.
    fn of_key(file: &Path, line: Option<usize>, key: &str, message: &str) -> Problem {
        Problem { file: Some(file.to_owned()), line, message: format!("{key}: {message}") }
    }

    /// About a flag whose value cannot be used.
    fn of_flag(key: &str, message: &str) -> Problem {
        Problem { file: None, line: None, message: format!("{}: {message}", flag(key)) }
    }
}

/// The flag of a key: `crashLoopBackOff.max` is `--crash-loop-back-off-max`, `runtimes.crun` is `--runtime`.
fn flag(key: &str) -> String {
    if key.starts_with("runtimes.") {
        return "--runtime".to_owned();
    }
    let mut out = String::from("--");
    for c in key.chars() {
        match c {
            '.' => out.push('-'),
            c if c.is_ascii_uppercase() => out.extend(['-', c.to_ascii_lowercase()]),
            c => out.push(c),
        }
    }
    out
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.file, self.line) {
            (Some(file), Some(line)) => write!(f, "{}:{line}: {}", file.display(), self.message),
            (Some(file), None) => write!(f, "{}: {}", file.display(), self.message),
            (None, _) => f.write_str(&self.message),
        }
    }
}

/// One scalar of the file: `crashLoopBackOff.max`, where it stands, `5m`.
#[derive(Debug)]
struct Scalar {
    path: String,
    line: usize,
    value: String,
}

/// What a configuration file says.
#[derive(Debug)]
pub(super) struct Parsed {
    /// Its values.
    pub settings: Settings,
    /// What is wrong with single lines.
    pub problems: Vec<Problem>,
    /// Line by key, of every key that has a value.
    lines: BTreeMap<String, usize>,
}

impl Parsed {
    /// What of `all`, the settings with the flags laid over this file's, cannot be used: told of the file where the file
    /// alone has the same problem, else of the flag.
    pub(super) fn check(&self, file: &Path, all: &Settings) -> Vec<Problem> {
        let own = self.settings.check();
        let told = |(key, message): (String, String)| {
            let line = self.lines.get(&key).copied();
            match line.is_some() && own.contains(&(key.clone(), message.clone())) {
                true => Problem::of_key(file, line, &key, &message),
                false => Problem::of_flag(&key, &message),
            }
        };
        all.check().into_iter().map(told).collect()
    }
}

/// Reads the text of a configuration file. An empty one says nothing.
pub(super) fn parse(file: &Path, text: &str) -> Parsed {
    let mut settings = Settings::default();
    let mut reader = Reader::default();
    reader.read(text);
    for scalar in &reader.scalars {
        if let Err(message) = apply(&mut settings, scalar) {
            reader.problems.push((scalar.line, format!("{}: {message}", scalar.path)));
        }
    }
    reader.problems.sort();
    let problem = |(line, message)| Problem { file: Some(file.to_owned()), line: Some(line), message };
    let lines = reader.scalars.into_iter().map(|s| (s.path, s.line)).collect();
    Parsed { settings, problems: reader.problems.into_iter().map(problem).collect(), lines }
}

fn apply(settings: &mut Settings, scalar: &Scalar) -> Result<(), String> {
    let known = |path: &str| path.starts_with("runtimes.") || KEYS.iter().any(|(key, _)| *key == path);
    if known(&scalar.path) && matches!(scalar.value.as_str(), "" | "~" | "null") {
        return Err("no value found; give one, or leave the key out".to_owned());
    }
    if let Some(name) = scalar.path.strip_prefix("runtimes.") {
        settings.runtimes.push((name.to_owned(), scalar.value.clone().into()));
        return Ok(());
    }
    match KEYS.iter().find(|(key, _)| *key == scalar.path) {
        Some((_, set)) => set(settings, &scalar.value),
        None => Err(unknown(&scalar.path)),
    }
}

/// An unknown key, a scalar where a mapping belongs, or a mapping without values: what is accepted there.
fn unknown(path: &str) -> String {
    let parent = path.rsplit_once('.').map_or("", |(parent, _)| parent);
    let below = |prefix: &str| -> Vec<&str> {
        let prefix = if prefix.is_empty() { String::new() } else { format!("{prefix}.") };
        let mut names: Vec<&str> = KEYS
            .iter()
            .filter_map(|(key, _)| key.strip_prefix(prefix.as_str()))
            .map(|rest| rest.split('.').next().unwrap_or(rest))
            .collect();
        if prefix.is_empty() {
            names.push("runtimes");
        }
        names.sort_unstable();
        names.dedup();
        names
    };
    if path == "runtimes" {
        return "a scalar or empty value found, a mapping of NAME: PATH accepted".to_owned();
    }
    let own = below(path);
    if !path.is_empty() && !own.is_empty() {
        return format!("a scalar found, a mapping accepted with: {}", own.join(", "));
    }
    let siblings = below(parent);
    if siblings.is_empty() {
        return format!("a mapping found below {parent:?}, a scalar accepted");
    }
    format!("unknown key; accepted here: {}", siblings.join(", "))
}

/// What to say of a list: no key takes one.
fn misplaced_list(path: &str) -> String {
    if path.is_empty() {
        return "a list found, a mapping of settings accepted".to_owned();
    }
    if KEYS.iter().any(|(key, _)| *key == path) {
        return format!("{path}: a list found, a scalar accepted");
    }
    format!(
        "{path}: {}",
        unknown(path).replace("a scalar or empty value", "a list").replace("a scalar found", "a list found")
    )
}

#[derive(Default)]
struct Reader {
    scalars: Vec<Scalar>,
    problems: Vec<(usize, String)>,
    /// The key of each open mapping whose value is being read.
    keys: Vec<Option<String>>,
    /// Depth inside a list or alias that was reported already.
    skipping: usize,
    documents: usize,
}

impl Reader {
    fn read(&mut self, text: &str) {
        let mut parser = Parser::new_from_str(text);
        while let Some(next) = parser.next_event() {
            match next {
                Ok((Event::StreamEnd, _)) => break,
                Ok((event, span)) => self.event(event, span.start.line()),
                Err(error) => {
                    self.problems.push((error.marker().line(), format!("not valid YAML: {}", error.info())));
                    break;
                }
            }
        }
    }

    fn event(&mut self, event: Event<'_>, line: usize) {
        match event {
            Event::DocumentStart(_) => {
                self.documents += 1;
                if self.documents > 1 {
                    self.problems.push((line, "a second document found, one accepted".to_owned()));
                }
            }
            Event::MappingStart(..) | Event::SequenceStart(..) if self.skipping > 0 => self.skipping += 1,
            Event::MappingEnd | Event::SequenceEnd if self.skipping > 0 => {
                self.skipping -= 1;
                if self.skipping == 0 {
                    self.value_done();
                }
            }
            Event::Scalar(..) | Event::Alias(_) if self.skipping > 0 => {}
            Event::MappingStart(..) => self.keys.push(None),
            Event::MappingEnd => {
                self.keys.pop();
                self.value_done();
            }
            Event::SequenceStart(..) => {
                let path = self.path();
                self.problems.push((line, misplaced_list(&path)));
                self.skipping = 1;
            }
            Event::Alias(_) => {
                let path = self.path();
                self.problems.push((line, format!("{path}: aliases are not accepted here")));
                self.value_done();
            }
            Event::Scalar(text, ..) => self.scalar(&text, line),
            Event::SequenceEnd | Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => {}
        }
    }

    fn scalar(&mut self, text: &str, line: usize) {
        match self.keys.last_mut() {
            Some(key @ None) => *key = Some(text.to_owned()),
            Some(Some(_)) => {
                let path = self.path();
                if let Some(first) = self.scalars.iter().find(|s| s.path == path) {
                    self.problems.push((line, format!("{path}: given twice, first in line {}", first.line)));
                } else {
                    self.scalars.push(Scalar { path, line, value: text.to_owned() });
                }
                self.value_done();
            }
            None if text.is_empty() || text == "~" => {}
            None => self.problems.push((line, format!("{text:?} found, a mapping of settings accepted"))),
        }
    }

    fn value_done(&mut self) {
        if let Some(key) = self.keys.last_mut() {
            *key = None;
        }
    }

    fn path(&self) -> String {
        self.keys.iter().flatten().map(String::as_str).collect::<Vec<_>>().join(".")
    }
}
