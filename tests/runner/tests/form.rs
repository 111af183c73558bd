//! Case files that are wrong are errors, and the project's own are right.

use std::path::PathBuf;

use podwright_cases::case::{read, read_file};

const GOOD: &str = r#"
cases:
- id: Z1
  title: t
  from: f
  stage: spine
  max: 5
  manifests:
  - apiVersion: v1
    kind: Pod
    metadata: {name: z1}
    spec: {containers: [{name: app, image: actor, args: ["run=1"]}]}
  steps: [start, {wait: 1}, {until: started(app)}]
  expect: ['phase == Succeeded']
"#;

/// What is changed in the good file, and the problem that it makes.
const FAULTS: &[(&str, &str, &str)] = &[
    ("title: t", "titel: t", "case.titel: unknown key"),
    ("  from: f\n", "", "lacks from"),
    ("max: 5", "max: 5\n  stretch: [grace]", "is none of"),
    ("max: 5", "max: 5\n  stretch: [periodSeconds]", "stretch: no manifest has periodSeconds"),
    ("max: 5", "max: 1", "max: 1 does not hold the waits"),
    ("id: Z1", "id: z1", "letters, then digits"),
    ("{name: app, ", "{name: app, imagePullPolcy: Never, ", "unknown key"),
    ("run=1", "rum=1", "\"rum=1\" is no argument"),
    ("run=1", "run=1,2", "needs a volume at /ev"),
    ("[start,", "[begin,", "step begin is not known"),
    ("{wait: 1}", "{wait: soon}", "wrong type"),
    ("{wait: 1}", "{delete: other}", "no pod \"other\""),
    ("{wait: 1}", "{wait: 1, until: gone}", "is not known"),
    ("{wait: 1}", "{cli: {args: [version]}}", "needs: lacks api"),
    ("started(app)}", "started(other)}", "no container \"other\""),
    ("phase == Succeeded", "phase == Done", "\"Done\" is none of"),
    ("phase == Succeeded", "phase == Failed ", "unexpected \" \""),
    ("phase == Succeeded", "phases == Failed", "no word of the grammar"),
    ("phase == Succeeded", "started(app) before deleted", "no step makes \"deleted\""),
    ("phase == Succeeded", "never(pre_begin(app))", "app never writes \"pre_begin\""),
    ("phase == Succeeded", "count(probe(app,startup)) == 1", "app never writes"),
    ("phase == Succeeded", "header(app, Host) == x", "app serves no HTTP"),
    ("phase == Succeeded", "rejected(other.yaml)", "no step writes"),
    ("phase == Succeeded", "gap(placed, gone) in [2, 1]", "is empty"),
    ("phase == Succeeded", "gap(placed, gone) in [.5, 1]", "is no number"),
    ("phase == Succeeded", "message(app) matches (", "not a regular expression"),
    ("phase == Succeeded", "cgroup(app, cpu.max) == max", "needs: lacks cgroup"),
    ("phase == Succeeded", "exitCode(app) in 3", "expected a list"),
    ("phase == Succeeded", "started(app)#0 after placed", "neither a number from 1 nor last"),
];

fn problems(text: &str) -> Vec<String> {
    match read_file(text) {
        Err(problems) => problems,
        Ok(cases) => cases.into_iter().flat_map(|(_, case)| case.err().unwrap_or_default()).collect(),
    }
}

#[test]
fn every_fault_is_named() {
    assert_eq!(problems(GOOD), Vec::<String>::new());
    for (from, to, problem) in FAULTS {
        let found = problems(&GOOD.replacen(from, to, 1));
        assert!(found.iter().any(|found| found.contains(problem)), "{from} -> {to}: {found:?}");
    }
}

#[test]
fn an_id_is_used_once_and_a_folder_is_not_empty() {
    let dir = tempfile::tempdir().expect("a directory");
    assert_eq!(read(&[dir.path().to_owned()]).err(), Some(vec!["no case found".to_owned()]));
    for name in ["a.yaml", "b.yaml"] {
        std::fs::write(dir.path().join(name), GOOD).expect("written");
    }
    let found = read(&[dir.path().to_owned()]).err().unwrap_or_default();
    assert!(found.len() == 1 && found[0].contains("b.yaml Z1: id used before"), "{found:?}");
}

#[test]
fn the_projects_cases_are_right() {
    let cases = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../cases");
    let read = read(std::slice::from_ref(&cases)).unwrap_or_else(|problems| panic!("{problems:#?}"));
    assert!(read.iter().filter(|case| case.stage == "lifecycle").count() >= 64);
    assert!(read.iter().filter(|case| case.stage == "spine").count() >= 139);
}
