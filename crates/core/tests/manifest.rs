//! Manifests as files, their problems next to them: `NAME.yaml` (or `.json`) and `NAME.problems`, the exact text that a user
//! sees. A file without a `.problems` has to be accepted. `UPDATE=1` writes what is found, for review.
#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "its data is in files, and one test is about speed"
)]

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use proptest::prelude::*;

use podwright_core::cron::spec::CronSpec;
use podwright_core::job::spec::JobSpec;
use podwright_core::manifest::{
    Format, PodDocument, Problem, Resource, api, changes_in_place, from_value, parse, read,
};
use podwright_core::pod::spec::PodSpec;

fn folder() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/manifest")
}

fn shown(name: &str, result: &Result<Vec<Resource>, Vec<Problem>>) -> String {
    let mut text = String::new();
    match result {
        Ok(objects) => {
            for note in objects.iter().flat_map(|object| object.notes()) {
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
        let found = shown(&name, &read(&text, format));
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
fn stored_jobs_read_back_the_same_and_are_shown_with_their_defaults() {
    let text = fs::read_to_string(folder().join("jobs.yaml")).unwrap();
    let mut kinds = Vec::new();
    for object in read(&text, Format::Yaml).unwrap() {
        kinds.push(object.kind().to_string());
        match &object {
            Resource::Job(job) => {
                assert_eq!(from_value::<JobSpec>(&job.manifest).unwrap().spec, job.spec);
                let shown = api(&object);
                assert_eq!(shown["spec"]["parallelism"], job.spec.parallelism);
                assert!(shown["spec"]["template"]["spec"]["containers"][0]["imagePullPolicy"].is_string());
                assert_eq!(shown["metadata"]["namespace"], job.spec.namespace);
            }
            Resource::CronJob(cron) => {
                assert_eq!(from_value::<CronSpec>(&cron.manifest).unwrap().spec, cron.spec);
                assert_eq!(api(&object)["spec"]["successfulJobsHistoryLimit"], cron.spec.successful_limit);
            }
            Resource::Pod(_) => {}
        }
    }
    assert_eq!(kinds, ["Job", "Job", "CronJob"]);
    assert!(parse(&text, Format::Yaml).unwrap_err()[0].to_string().contains("found Job, accepted here: Pod"));
}

#[test]
fn what_of_a_job_changes_in_place_makes_no_other_job() {
    let uid = |spec: &str| {
        let text = format!(
            "{{apiVersion: batch/v1, kind: Job, metadata: {{name: j}}, spec: {{{spec}, template: {{spec: {{restartPolicy: Never, containers: [{{name: c, image: i}}]}}}}}}}}"
        );
        read(&text, Format::Yaml).unwrap()[0].uid().to_owned()
    };
    let base = uid("completions: 3");
    assert_eq!(
        base,
        uid(
            "completions: 3, parallelism: 2, suspend: true, backoffLimit: 1, activeDeadlineSeconds: 9, ttlSecondsAfterFinished: 1"
        )
    );
    assert_ne!(base, uid("completions: 4"));
}

#[test]
fn a_stored_pod_reads_back_the_same() {
    let text = fs::read_to_string(folder().join("everything.yaml")).unwrap();
    for document in parse(&text, Format::Yaml).unwrap() {
        let again = from_value::<PodSpec>(&document.manifest).unwrap();
        assert_eq!(again.spec, document.spec);
        assert_eq!(again.manifest, document.manifest);
        assert!(changes_in_place(&document, &again));
        let stored = serde_json::to_string(&document.spec).unwrap();
        assert_eq!(serde_json::from_str::<PodSpec>(&stored).unwrap(), document.spec);
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
            assert_eq!(again[0].spec, document.spec);
        }
    }
}

#[test]
fn the_api_shows_the_defaults() {
    let text = fs::read_to_string(folder().join("everything.yaml")).unwrap();
    let documents = parse(&text, Format::Yaml).unwrap();
    let shown = |document: &PodDocument| api(&Resource::Pod(Arc::new(document.clone())));
    for document in &documents {
        let typed: k8s_openapi::api::core::v1::Pod = serde_json::from_value(shown(document)).unwrap();
        assert_eq!(typed.metadata.name.as_deref(), Some(document.spec.name.as_str()));
    }
    insta::assert_snapshot!(serde_json::to_string_pretty(&documents.iter().map(shown).collect::<Vec<_>>()).unwrap());
}

#[test]
fn the_accepted_pod_has_everything_resolved() {
    let text = fs::read_to_string(folder().join("everything.yaml")).unwrap();
    let documents = parse(&text, Format::Yaml).unwrap();
    insta::assert_snapshot!(
        serde_json::to_string_pretty(&documents.iter().map(|d| &d.spec).collect::<Vec<_>>()).unwrap()
    );
}

#[test]
fn anchors_and_merge_keys() {
    let text = fs::read_to_string(folder().join("anchors.yaml")).unwrap();
    let pod = parse(&text, Format::Yaml).unwrap().remove(0).spec;
    let [first, second, third] = &pod.containers[..] else { panic!("three containers") };
    let of = |c: &podwright_core::pod::spec::Container| {
        c.readiness_probe.as_ref().map(|p| (p.period.as_secs(), p.timeout.as_secs()))
    };
    assert_eq!((of(first), of(second), of(third)), (Some((15, 1)), Some((1, 5)), None));
    assert_eq!((second.name.as_str(), second.image.as_str()), ("second", "actor"));
    assert!([first, second, third].iter().all(|c| c.env == first.env && c.env[0].value == "yes"));
    assert_eq!(second.readiness_probe.as_ref().unwrap().action, first.readiness_probe.as_ref().unwrap().action);
}

#[test]
fn names_of_manifests() {
    for (name, expected) in [
        ("a.yaml", Some(Format::Yaml)),
        ("a.b.yml", Some(Format::Yaml)),
        ("a.json", Some(Format::Json)),
        (".a.yaml", None),
        (".yaml", None),
        ("a.yaml~", None),
        ("a.yaml.bak", None),
        ("a.YAML", None),
        ("yaml", None),
    ] {
        assert_eq!(Format::of(name), expected, "{name}");
    }
}

#[test]
fn edits_in_place_and_others() {
    let pod = |metadata: &str, spec: &str| {
        let text = format!(
            "{{apiVersion: v1, kind: Pod, metadata: {{name: a, {metadata}}}, spec: {{{spec} containers: [{{name: a, image: b}}]}}}}"
        );
        parse(&text, Format::Yaml).unwrap().remove(0)
    };
    let base = pod("", "");
    for (metadata, spec, in_place) in [
        ("labels: {a: b}", "", true),
        ("annotations: {a: b}", "terminationGracePeriodSeconds: 1,", true),
        ("namespace: default", "activeDeadlineSeconds: 9, hostname: ,", true),
        ("namespace: other", "", false),
        ("", "restartPolicy: Never,", false),
    ] {
        assert_eq!(changes_in_place(&base, &pod(metadata, spec)), in_place, "{metadata} {spec}");
    }
}

/// Whatever comes in: no panic, and every problem has a place.
fn survives(text: &str) {
    for format in [Format::Yaml, Format::Json] {
        if let Err(problems) = parse(text, format) {
            assert!(!problems.is_empty());
            for problem in problems {
                assert!(!problem.path.is_empty() && !problem.message.is_empty(), "{problem:?}");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_text_is_survived(text in any::<String>()) {
        survives(&text);
    }

    #[test]
    fn yaml_like_text_is_survived(text in "([\\[\\]{},:&*!|>'\"%@#?-]|<<|---|\\.\\.\\.|[ \n\t]|[a-c0~]){0,60}") {
        survives(&text);
    }

    #[test]
    fn a_damaged_manifest_is_survived(at in 0_usize..2600, cut in 0_usize..20, put in "[ -~\n\t\u{85}\u{feff}]{0,6}") {
        let text = fs::read_to_string(folder().join("everything.yaml")).unwrap();
        let from = at.min(text.len());
        let to = (from + cut).min(text.len());
        survives(&format!("{}{put}{}", &text[..from], &text[to..]));
    }
}

/// A number above a bound that is else not worth naming is told the bound, not that it is accepted.
#[test]
fn a_number_that_is_too_large_is_told_how_large_it_may_be() {
    let said = |seconds: &str| {
        let text = format!(
            "{{apiVersion: v1, kind: Pod, metadata: {{name: a}}, spec: {{activeDeadlineSeconds: {seconds}, \
             containers: [{{name: a, image: b}}]}}}}"
        );
        let problems = read(&text, Format::Yaml).unwrap_err();
        problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
    };
    assert!(said("9223372036854775807").contains("accepted: integer from 1 to "), "{}", said("9223372036854775807"));
    assert!(said("0").ends_with("accepted: integer, 1 or more"), "{}", said("0"));
}

#[test]
fn hostile_texts_are_cheap() {
    let mounts: String = (0..30_000).map(|i| format!("{{name: m{i}, mountPath: /m{i}}},")).collect();
    let volumes: String = (0..30_000).map(|i| format!("{{name: v{i}, emptyDir: {{}}}},")).collect();
    let many = format!(
        "{{apiVersion: v1, kind: Pod, metadata: {{name: a}}, spec: {{volumes: [{volumes}], containers: [{{name: a, image: b, volumeMounts: [{mounts}]}}]}}}}"
    );
    let long = "x".repeat(1 << 20);
    for (name, text) in [
        ("values", "- 1\n".repeat(1 << 18)),
        ("flow", format!("[{}", "a,".repeat(1 << 20))),
        ("nested sequences", "- ".repeat(1 << 18)),
        ("nested flow", "[".repeat(1 << 18)),
        ("nested maps", "{a: ".repeat(1 << 18)),
        ("long key", format!("{{\"{}\": [{}1]}}", "k".repeat(4 << 20), "1,".repeat(150_000))),
        ("keys", (0..75_000).map(|i| format!("k{i}: 1\n")).collect()),
        (
            "unknown keys",
            format!(
                "apiVersion: v1\nkind: Pod\nspec:\n{}",
                (0..40_000).map(|i| format!("  k{i}: 1\n")).collect::<String>()
            ),
        ),
        ("one scalar", long.clone()),
        ("one key", format!("{long}: 1")),
        ("quoted", format!("a: \"{long}")),
        ("aliases", format!("a: &a \"{long}\"\nb: [{}]", "*a,".repeat(1000))),
        ("anchors", (0..30_000).map(|i| format!("- &a{i} x\n")).collect()),
        ("documents", "---\na: 1\n".repeat(30_000)),
        ("comments", "# \n".repeat(1 << 18)),
        ("names", many),
    ] {
        let began = std::time::Instant::now();
        survives(&text);
        let took = began.elapsed();
        eprintln!("{name}: {took:?}");
        assert!(took.as_secs() < 20, "{name} took {took:?}");
    }
}

/// What is skipped by a parser takes it no memory; what is read must not take the reader's stack.
#[test]
fn no_depth_of_nesting_takes_the_stack() {
    let deep =
        |open: &str, inner: &str, close: &str, levels: usize| open.repeat(levels) + inner + &close.repeat(levels);
    let first = |text: &str, format| {
        let found = read(text, format).err().unwrap_or_default();
        found.first().map(|problem| problem.in_file("x").to_string()).unwrap_or_default()
    };
    for (open, inner, close) in [("[", "1", "]"), ("{\"a\":", "1", "}"), ("[{\"a\":", "{}", "}]")] {
        for format in [Format::Json, Format::Yaml] {
            for levels in [65, 1_000_000] {
                let found = first(&deep(open, inner, close, levels), format);
                let too_deep = ["nested more than 64 levels deep", "not valid YAML: recursion limit exceeded"];
                assert!(too_deep.iter().any(|text| found.contains(text)), "{open} {levels} {format:?}: {found}");
            }
            let found = first(&deep(open, inner, close, 30), format);
            assert!(!found.is_empty() && !found.contains("nested"), "the control: {found}");
        }
        // A parser that never closes what it opens.
        assert_ne!(first(&open.repeat(1_000_000), Format::Json), "");
    }
}
