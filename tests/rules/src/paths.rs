//! Paths that documents name exist.

use std::fs;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context as _, ensure};

/// Directories that hold no documents of ours.
const LEFT_OUT: [&str; 2] = ["target", ".git"];

/// Fewer would mean that something else was looked at.
const LEAST_PATHS: usize = 50;

/// Every path in a code span or link of a Markdown file that leads nowhere.
pub(crate) fn check(repository: &Path) -> anyhow::Result<Vec<String>> {
    let (mut problems, mut seen) = (Vec::new(), 0);
    for document in documents(repository)? {
        let text = fs::read_to_string(&document).with_context(|| format!("reading {}", document.display()))?;
        let shown = document.strip_prefix(repository).unwrap_or(&document).display().to_string();
        for (number, named) in named(&text) {
            let found = match &named {
                Named::Code(path) => in_code(repository, path),
                Named::Link(path) => Some(document.with_file_name(path).exists()),
            };
            let (Named::Code(path) | Named::Link(path)) = named;
            seen += usize::from(found.is_some());
            if found == Some(false) {
                problems.push(format!("{shown}:{number}: there is no {path}"));
            }
        }
    }
    ensure!(seen >= LEAST_PATHS, "only {seen} paths were found in the documents of {}", repository.display());
    Ok(problems)
}

fn documents(directory: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let entries = fs::read_dir(directory).with_context(|| format!("reading {}", directory.display()))?;
    for entry in entries {
        let entry = entry?;
        let (path, name) = (entry.path(), entry.file_name());
        if entry.file_type()?.is_dir() {
            if !LEFT_OUT.iter().any(|left_out| name == *left_out) {
                found.extend(documents(&path)?);
            }
        } else if path.extension().is_some_and(|extension| extension == "md") {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

#[derive(Debug, PartialEq, Eq)]
enum Named {
    /// `` `scripts/test --no-vm` ``: of its words the first.
    Code(String),
    /// `[text](path#part)`, from the document's directory.
    Link(String),
}

/// What each line names, but for fenced blocks.
fn named(text: &str) -> Vec<(usize, Named)> {
    let (mut found, mut fenced) = (Vec::new(), false);
    for (number, line) in (1..).zip(text.lines()) {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        }
        if fenced {
            continue;
        }
        let spans = line.split('`').skip(1).step_by(2);
        let words = spans.filter_map(|span| span.split_whitespace().next());
        found.extend(words.map(|word| (number, Named::Code(word.to_owned()))));
        for link in line.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let path = link.split('#').next().unwrap_or_default();
            if !path.is_empty() && !path.contains(':') {
                found.push((number, Named::Link(path.to_owned())));
            }
        }
    }
    found
}

/// Whether what a code span says exists; `None`: it is no path of the repository. It is one if it begins with a directory at its root or
/// of a crate, and names something in there.
fn in_code(repository: &Path, text: &str) -> Option<bool> {
    let path = text.split(':').next().unwrap_or_default().trim_end_matches('/');
    let (first, rest) = path.split_once('/')?;
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./*".contains(c);
    let below = |directory: PathBuf| directory.is_dir().then(|| exists(&directory, rest));
    if first.is_empty() || first.starts_with('.') || !path.chars().all(plain) || has_parent(path) {
        return None;
    }
    below(repository.join(first)).or_else(|| below(repository.join("crates").join(first)))
}

fn has_parent(path: &str) -> bool {
    Path::new(path).components().any(|part| part == Component::ParentDir)
}

/// Whether there is such a file or directory; `*` in the last name stands for anything.
fn exists(directory: &Path, rest: &str) -> bool {
    let whole = directory.join(rest);
    let Some((before, after)) = whole.file_name().and_then(|name| name.to_str()).and_then(|name| name.split_once('*'))
    else {
        return whole.exists();
    };
    let entries = whole.parent().and_then(|parent| fs::read_dir(parent).ok()).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name()).any(|name| {
        name.to_str().is_some_and(|name| {
            name.len() >= before.len() + after.len() && name.starts_with(before) && name.ends_with(after)
        })
    })
}
