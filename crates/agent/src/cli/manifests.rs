//! `validate` and `plan`: what can be told about a manifest without an agent.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use podwright_core::manifest::{self, Document, Format, LONGEST};
use podwright_core::pod::spec::StartGate;
use podwright_core::pod::{NodePolicy, backoff};
use podwright_core::rehearse::{Assumptions, Line, rehearse};

use super::args::{Gate, Plan, StopTakes, Validate};
use super::table::Tone;
use super::{CliError, Context, Done};

pub(super) fn validate(args: &Validate, context: &mut Context) -> Done {
    let (mut files, mut sound) = (Vec::new(), true);
    for given in &args.files {
        match expand(given) {
            Ok(found) => files.extend(found),
            Err(message) => {
                sound = false;
                context.out.print(&format!("{message}\n"))?;
            }
        }
    }
    let mut places: BTreeMap<String, String> = BTreeMap::new();
    for file in &files {
        let shown = shown(file);
        let documents = match read(file) {
            Ok(documents) => documents,
            Err(problems) => {
                sound = false;
                context.out.print(&format!("{}\n", Tone::Bad.paint(&problems.join("\n"), context.style)))?;
                continue;
            }
        };
        let mut names = Vec::new();
        for document in &documents {
            let name = full_name(document);
            if let Some(other) = places.insert(name.clone(), shown.clone()) {
                sound = false;
                let message = format!("{shown}: pod {name} is in {other} too; accepted: each pod in one file only\n");
                context.out.print(&message)?;
            }
            for note in &document.notes {
                context.out.print(&format!("{} (accepted, without effect)\n", note.in_file(&shown)))?;
            }
            names.push(format!("pod {name}"));
        }
        context.out.print(&format!("{shown}: ok ({})\n", names.join(", ")))?;
    }
    if sound { Ok(()) } else { Err(CliError::Reported) }
}

pub(super) fn plan(args: &Plan, context: &mut Context) -> Done {
    let documents = read(&args.file).map_err(|problems| CliError::Failed(problems.join("\n")))?;
    let policy = NodePolicy {
        start_gate: match args.sidecar_start_gate {
            Gate::Ready => StartGate::Ready,
            Gate::Started => StartGate::Started,
        },
        crash_backoff: backoff::DEFAULT,
        host_ip: None,
    };
    let stop_takes = match args.stop_takes {
        StopTakes::After(time) => Some(time),
        StopTakes::Never => None,
    };
    let assumed = Assumptions { init_takes: args.init_takes, main_takes: args.main_takes, stop_takes };
    for (i, document) in documents.iter().enumerate() {
        let timeline = rehearse(&document.pod, &policy, &assumed).map_err(|e| {
            CliError::Failed(format!("a rule of podwright itself does not hold, please report it: {e}"))
        })?;
        let gap = if i > 0 { "\n" } else { "" };
        let title = format!("{gap}pod {} ({})\n", full_name(document), assumptions(&assumed));
        context.out.print(&format!("{title}{}", print_timeline(&timeline)))?;
    }
    Ok(())
}

fn print_timeline(timeline: &[Line]) -> String {
    timeline.iter().map(|line| format!("{:>9.3}s  {}\n", line.at.as_secs_f64(), line.text)).collect()
}

fn assumptions(assumed: &Assumptions) -> String {
    let time = |d: Duration| format!("{} s", d.as_secs_f64());
    let stop = assumed.stop_takes.map_or("ignores its stop signal".to_owned(), |d| format!("stops within {}", time(d)));
    format!(
        "assumed: a plain init runs {}, a main that may end runs {}, each container {stop}, probes succeed",
        time(assumed.init_takes),
        time(assumed.main_takes)
    )
}

fn full_name(document: &Document) -> String {
    format!("{}/{}", document.pod.namespace, document.pod.name)
}

fn shown(file: &Path) -> String {
    if file == Path::new("-") { "stdin".to_owned() } else { file.display().to_string() }
}

/// A directory stands for the manifests directly in it, in the order of their names.
fn expand(given: &Path) -> Result<Vec<PathBuf>, String> {
    if !given.is_dir() {
        return Ok(vec![given.to_owned()]);
    }
    let unreadable = |e: io::Error| format!("{}: cannot be read: {e}", given.display());
    let mut found = Vec::new();
    for entry in std::fs::read_dir(given).map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        if Format::of(&entry.file_name().to_string_lossy()).is_some() && entry.path().is_file() {
            found.push(entry.path());
        }
    }
    found.sort();
    if found.is_empty() {
        return Err(format!("{}: no manifest in it; accepted: *.yaml, *.yml, *.json", given.display()));
    }
    Ok(found)
}

/// The objects of a file, or everything that is wrong with it, one line each.
fn read(file: &Path) -> Result<Vec<Document>, Vec<String>> {
    let shown = shown(file);
    let (format, text) = if file == Path::new("-") {
        // JSON is YAML.
        (Format::Yaml, read_text(io::stdin().lock()))
    } else {
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        let Some(format) = Format::of(&name) else {
            return Err(vec![format!(
                "{shown}: the agent leaves a file of this name alone; accepted: *.yaml, *.yml, *.json"
            )]);
        };
        (format, File::open(file).and_then(read_text))
    };
    let text = text.map_err(|e| vec![format!("{shown}: cannot be read: {e}")])?;
    manifest::parse(&text, format).map_err(|problems| problems.iter().map(|p| p.in_file(&shown)).collect())
}

fn read_text(from: impl Read) -> io::Result<String> {
    let mut bytes = Vec::new();
    // One more than is accepted, so that the parser says what is wrong with a longer one.
    from.take(LONGEST as u64 + 1).read_to_end(&mut bytes)?;
    String::from_utf8(bytes)
        .map_err(|e| io::Error::new(io::ErrorKind::InvalidData, format!("not UTF-8: {}", e.utf8_error())))
}
