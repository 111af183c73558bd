//! What the documents show works: manifests are valid, settings are accepted, flags exist.

use std::fs;
use std::path::{Path, PathBuf};

use clap::{Args as _, Command};
use podwright_agent::config::{self, Settings};
use podwright_core::manifest::{Format, read as parse};

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn read(path: impl AsRef<Path>) -> String {
    let path = repository().join(path);
    fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// Every document: its name and text.
fn documents() -> Vec<(String, String)> {
    let mut names: Vec<String> = fs::read_dir(repository().join("docs"))
        .unwrap()
        .map(|entry| format!("docs/{}", entry.unwrap().file_name().to_str().unwrap()))
        .filter(|name| name.ends_with(".md"))
        .collect();
    names.push("README.md".to_owned());
    names.into_iter().map(|name| (name.clone(), read(&name))).collect()
}

/// The fenced blocks of a language, each with the number of its first line.
fn blocks(text: &str, language: &str) -> Vec<(usize, String)> {
    let (mut found, mut open) = (Vec::new(), None::<(usize, String)>);
    for (number, line) in text.lines().enumerate() {
        match &mut open {
            Some(block) if line.starts_with("```") => {
                found.push(std::mem::take(block));
                open = None;
            }
            Some((_, body)) => {
                body.push_str(line);
                body.push('\n');
            }
            None if line.trim_end() == format!("```{language}") => open = Some((number + 2, String::new())),
            None => {}
        }
    }
    found
}

fn assert_valid(place: &str, text: &str) {
    if let Err(problems) = parse(text, Format::Yaml) {
        let said: Vec<String> = problems.iter().map(|p| p.in_file("it")).collect();
        panic!("{place}: {}", said.join("\n"));
    }
}

#[test]
fn manifests_in_documents_are_valid() {
    let mut seen = 0;
    for (name, text) in documents() {
        for (line, block) in blocks(&text, "yaml") {
            if block.lines().any(|l| l.starts_with("kind:")) {
                assert_valid(&format!("{name}:{line}"), &block);
                seen += 1;
            }
        }
    }
    assert!(seen >= 3, "only {seen} manifests were found in the documents");
}

#[test]
fn examples_are_valid() {
    let mut seen = 0;
    for entry in fs::read_dir(repository().join("examples")).unwrap() {
        let path = entry.unwrap().path();
        assert_valid(&path.display().to_string(), &read(&path));
        seen += 1;
    }
    assert!(seen >= 3, "only {seen} examples were found");
}

#[test]
fn configuration_in_documents_is_accepted() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("config.yaml");
    let mut seen = 0;
    for (name, text) in documents() {
        for (line, block) in blocks(&text, "yaml") {
            if block.lines().any(|l| l.starts_with("kind:")) {
                continue;
            }
            fs::write(&path, &block).unwrap();
            config::load(&Settings::default(), Some(&path)).unwrap_or_else(|e| panic!("{name}:{line}: {e:?}"));
            seen += 1;
        }
    }
    assert!(seen >= 1, "no configuration was found in the documents");
}

#[test]
fn the_packaged_configuration_holds_the_defaults() {
    let dir = tempfile::tempdir().unwrap();
    let empty = dir.path().join("config.yaml");
    fs::write(&empty, "").unwrap();
    let packaged = repository().join("packaging/config.yaml");
    let load = |path: &Path| config::load(&Settings::default(), Some(path)).unwrap();
    assert_eq!(load(&packaged), load(&empty));
}

#[test]
fn every_setting_is_documented() {
    let text = read("docs/operating.md");
    let flags = Settings::augment_args(Command::new("podwrightd"));
    let mut seen = 0;
    for flag in flags.get_arguments().filter_map(|a| a.get_long()) {
        assert!(text.contains(&format!("`--{flag}`")), "docs/operating.md does not name --{flag}");
        seen += 1;
    }
    assert!(seen > 20, "only {seen} flags were found");
}
