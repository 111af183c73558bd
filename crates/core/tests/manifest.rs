//! Manifests as files, their problems next to them: `NAME.yaml` (or `.json`) and `NAME.problems`, the exact text that a user
//! sees. A file without a `.problems` has to be accepted. `UPDATE=1` writes what is found, for review.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use podwright_core::manifest::{Document, Format, Problem, api_pod, changes_in_place, from_value, parse};

fn folder() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/manifest")
}

fn shown(name: &str, result: &Result<Vec<Document>, Vec<Problem>>) -> String {
    let mut text = String::new();
    match result {
        Ok(documents) => {
            for note in documents.iter().flat_map(|d| &d.notes) {
                writeln!(text, "note: {}", note.in_file(name)).unwrap();
            }
        }
        Err(problems) => {
            for problem in problems {
                assert!(!problem.path.is_empty(), "{name}: a problem without a path: {problem}");
                writeln!(text, "{}", problem.in_file(name)).unwrap();
            }
        }
    }
    text
}

#[test]
fn files_and_their_problems() {
    let mut wrong = Vec::new();
    let mut seen = 0;
    let mut names: Vec<_> =
        fs::read_dir(folder()).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    for name in names {
        let Some(format) = Format::of(&name) else { continue };
        seen += 1;
        let text = fs::read_to_string(folder().join(&name)).unwrap();
        let found = shown(&name, &parse(&text, format));
        let beside = folder().join(format!("{}.problems", name.rsplit_once('.').unwrap().0));
        let expected = fs::read_to_string(&beside).unwrap_or_default();
        if std::env::var_os("UPDATE").is_some() && !found.is_empty() {
            fs::write(&beside, &found).unwrap();
        } else if found != expected {
            wrong.push(format!("--- {name}: expected\n{expected}--- found\n{found}"));
        }
    }
    assert!(seen >= 10, "only {seen} manifests found");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_stored_pod_reads_back_the_same() {
    let text = fs::read_to_string(folder().join("everything.yaml")).unwrap();
    for document in parse(&text, Format::Yaml).unwrap() {
        let again = from_value(&document.manifest).unwrap();
        assert_eq!(again.pod, document.pod);
        assert_eq!(again.manifest, document.manifest);
        assert!(changes_in_place(&document, &again));
        let stored = serde_json::to_string(&document.pod).unwrap();
        assert_eq!(serde_json::from_str::<podwright_core::pod::spec::PodSpec>(&stored).unwrap(), document.pod);
    }
}

#[test]
fn yaml_and_json_are_the_same_pod() {
    let text = fs::read_to_string(folder().join("everything.yaml")).unwrap();
    let from_yaml = parse(&text, Format::Yaml).unwrap();
    for document in &from_yaml {
        let json = serde_json::to_string_pretty(&document.manifest).unwrap().replace("  ", "\t");
        for format in [Format::Json, Format::Yaml] {
            let text = if format == Format::Yaml { json.replace('\t', " ") } else { json.clone() };
            let again = parse(&text, format).unwrap();
            assert_eq!(again.len(), 1);
            assert_eq!(again[0].pod, document.pod);
        }
    }
}

#[test]
fn the_api_shows_the_defaults() {
    let text = fs::read_to_string(folder().join("everything.yaml")).unwrap();
    let documents = parse(&text, Format::Yaml).unwrap();
    insta::assert_snapshot!(serde_json::to_string_pretty(&documents.iter().map(api_pod).collect::<Vec<_>>()).unwrap());
}

#[test]
fn the_accepted_pod_has_everything_resolved() {
    let text = fs::read_to_string(folder().join("everything.yaml")).unwrap();
    let documents = parse(&text, Format::Yaml).unwrap();
    insta::assert_snapshot!(
        serde_json::to_string_pretty(&documents.iter().map(|d| &d.pod).collect::<Vec<_>>()).unwrap()
    );
}
