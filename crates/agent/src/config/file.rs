//! The configuration file: YAML mappings of scalars, at most two levels deep, read with line numbers.

use std::fmt;
use std::path::{Path, PathBuf};

use saphyr_parser::{Event, Parser};

use super::settings::{KEYS, Settings};

/// One thing that is wrong with the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    file: PathBuf,
    line: Option<usize>,
    message: String,
}

impl Problem {
    /// About the file as a whole.
    pub(super) fn of_file(file: &Path, message: String) -> Problem {
        Problem { file: file.to_owned(), line: None, message }
    }

    /// About a setting, whether it came from the file or from a flag.
    pub(super) fn of_setting(file: &Path, message: String) -> Problem {
        Problem { file: file.to_owned(), line: None, message: format!("{message} (in the file or as a flag)") }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "{}:{line}: {}", self.file.display(), self.message),
            None => write!(f, "{}: {}", self.file.display(), self.message),
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

/// Reads the text of a configuration file. An empty one says nothing.
pub(super) fn parse(file: &Path, text: &str) -> (Settings, Vec<Problem>) {
    let mut settings = Settings::default();
    let mut reader = Reader::default();
    reader.read(text);
    for scalar in &reader.scalars {
        if let Err(message) = apply(&mut settings, scalar) {
            reader.problems.push((scalar.line, format!("{}: {message}", scalar.path)));
        }
    }
    reader.problems.sort();
    let problem = |(line, message)| Problem { file: file.to_owned(), line: Some(line), message };
    (settings, reader.problems.into_iter().map(problem).collect())
}

fn apply(settings: &mut Settings, scalar: &Scalar) -> Result<(), String> {
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
                self.problems.push((line, format!("{path}: a list found, a scalar accepted")));
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
