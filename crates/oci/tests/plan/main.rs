//! Configurations that were mutated at random: whatever they are, they are planned or refused by field, always in the same way,
//! and every plan has the order that makes a container safe.

mod check;
mod mutate;

use std::fs;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use serde_json::{Value, json};

use mutate::Mutation;

/// Mutations of one configuration at most.
const MOST: usize = 5;

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The JSON files of a directory of the repository, in order.
fn json_files(directory: &str) -> Vec<PathBuf> {
    let files = fs::read_dir(repository().join(directory)).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> = files.filter(|path| path.extension().is_some_and(|ext| ext == "json")).collect();
    files.sort();
    files
}

fn read(path: &Path) -> Value {
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

/// The configurations of this repository; those of `tests/oci/configs` together have a bit of everything.
fn configurations() -> Vec<(PathBuf, Value)> {
    let mut files =
        ["bundles/busybox/config.json", "tests/bench/config.json"].map(|file| repository().join(file)).to_vec();
    files.extend(json_files("tests/oci/configs"));
    files.into_iter().map(|file| (file.clone(), read(&file))).collect()
}

/// What is mutated: the configurations, and the hostile ones.
fn seeds() -> Vec<Value> {
    let mut seeds: Vec<Value> = configurations().into_iter().map(|(_, config)| config).collect();
    for path in json_files("tests/oci/hostile") {
        let attack = read(&path);
        let mut config = json!({"ociVersion": "1.2.0", "root": {"path": "rootfs"}, "process": {
            "args": ["sh"], "cwd": "/", "user": {"uid": 0, "gid": 0}
        }, "mounts": attack["mounts"], "linux": {"namespaces": [{"type": "mount"}, {"type": "uts"}]}});
        mutate::merge(&mut config, &attack["config"]);
        seeds.push(config);
    }
    seeds
}

fn survive(cases: u32) {
    let seeds = seeds();
    let mutations = prop::collection::vec(any::<Mutation>(), 0..MOST);
    let config = ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() };
    let result = TestRunner::new(config).run(&(any::<prop::sample::Index>(), mutations), |(seed, mutations)| {
        let mut config = seeds[seed.index(seeds.len())].clone();
        mutations.iter().for_each(|mutation| mutation.apply(&mut config, &seeds));
        let text = config.to_string();
        check::check(text.as_bytes()).map_err(|problem| TestCaseError::fail(format!("{problem} in {text}")))
    });
    result.unwrap_or_else(|failure| panic!("{failure}"));
}

#[test]
fn ten_thousand_mutated_configurations_are_survived() {
    survive(10_000);
}

#[test]
#[ignore = "takes minutes: cargo test --release -p podwright-oci --test plan -- --ignored"]
fn a_million_mutated_configurations_are_survived() {
    survive(1_000_000);
}

/// The seeds themselves are planned, so that not everything is refused at the first field.
#[test]
fn configurations_are_planned() {
    let planned = seeds().iter().filter(|seed| check::plans(seed.to_string().as_bytes())).count();
    assert!(planned > 20, "{planned}");
    for (file, config) in configurations() {
        assert!(check::plans(config.to_string().as_bytes()), "{} is refused", file.display());
    }
}

#[test]
fn the_checks_notice() {
    let input = json!({"linux": {"sysctl": {"net/../x": "1"}, "namespaces": [{"type": "user"}]}, "mounts": []});
    for real in [
        "linux",
        "linux.sysctl.net/../x",
        "linux.namespaces[0] (type user)",
        "linux.namespaces[0].path",
        "linux.resources",
        "mounts: whatever",
        "hostname",
    ] {
        assert!(check::is_named(&input, real), "{real}");
    }
    for unreal in ["linux.resources.memory.swap", "mounts[0]", "linux.namespaces[1]", "linux.namespaces[0].a.b", ""] {
        assert!(!check::is_named(&input, unreal), "{unreal}");
    }
    check::notices_wrong_orders();
}
