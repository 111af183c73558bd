//! Attacks that broke out of containers elsewhere, as data: `tests/oci/hostile/*.json`, whose README has the format. Each one has
//! a control, so that a test that cannot fail would be noticed.

mod naive;
mod stage;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde::Deserialize;
use serde_json::Value;

use crate::harness::Container;
use naive::Naive;
use stage::{Outcome, Stage};

/// A file of `tests/oci/hostile`.
#[derive(Debug, Clone, Deserialize)]
struct Attack {
    cve: Vec<String>,
    attack: String,
    would: String,
    #[serde(flatten)]
    scene: Value,
}

/// What is set up and done.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
struct Scene {
    tree: Vec<Entry>,
    config: Value,
    mounts: Vec<Value>,
    script: Option<Vec<String>>,
    options: Vec<String>,
    leak: Option<PathBuf>,
    created: bool,
    terminal: bool,
    exec: Option<Exec>,
    swap: Option<[PathBuf; 2]>,
    times: Option<u32>,
    expect: Expect,
    naive: Option<Naive>,
}

/// Something in the bundle's directory.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Entry {
    path: PathBuf,
    dir: bool,
    fifo: bool,
    file: Option<String>,
    link: Option<PathBuf>,
    copy: Option<PathBuf>,
}

/// An `exec` in the container while it runs, or waits for its start.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
struct Exec {
    options: Vec<String>,
    args: Vec<String>,
}

/// What comes of it. Exactly one of the first three, except where only the outside counts.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Expect {
    stdout: Option<String>,
    refused: Option<String>,
    any: bool,
    touched: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Control {
    #[serde(default)]
    with: Value,
    naive: Option<Value>,
    expect: Value,
}

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/oci/hostile")
}

/// The attack fails, and its control does not.
fn check(name: &str) {
    let path = directory().join(name).with_extension("json");
    let text = fs::read_to_string(&path).unwrap_or_else(|err| panic!("{}: {err}", path.display()));
    let attack: Attack = serde_json::from_str(&text).unwrap_or_else(|err| panic!("{}: {err}", path.display()));
    assert!(
        !attack.attack.is_empty() && !attack.would.is_empty() && attack.cve.iter().all(|id| id.starts_with("CVE-"))
    );
    let mut scene = attack.scene;
    let control = scene.as_object_mut().and_then(|scene| scene.remove("control")).expect("a control");
    let control: Control = serde_json::from_value(control).unwrap();
    play(&format!("{name}, the attack"), scene.clone());

    merge(&mut scene, &control.with);
    scene["expect"] = control.expect;
    if let Some(naive) = control.naive {
        scene["naive"] = naive;
    }
    play(&format!("{name}, its control"), scene);
}

/// JSON merge patch (RFC 7396).
fn merge(target: &mut Value, patch: &Value) {
    match patch {
        Value::Null => {}
        Value::Object(changes) => {
            if !target.is_object() {
                *target = Value::Object(serde_json::Map::new());
            }
            for (key, change) in changes {
                if change.is_null() {
                    target.as_object_mut().unwrap().remove(key);
                } else {
                    merge(&mut target[key], change);
                }
            }
        }
        other => *target = other.clone(),
    }
}

fn play(what: &str, scene: Value) {
    let stage = Stage::set(scene);
    let before = stage.outside();
    let host = Host::look(&stage);
    let (outcome, touched) = match &stage.scene.naive {
        Some(naive) => (None, naive.touches(&stage)),
        None => {
            let outcomes: Vec<Outcome> = (0..stage.scene.times.unwrap_or(1)).map(|_| stage.perform()).collect();
            (outcomes.into_iter().next(), stage.outside() != before)
        }
    };
    let expect = &stage.scene.expect;
    assert_eq!(touched, expect.touched, "{what}: whether the outside was changed: {:?}", stage.outside());
    assert_eq!(Host::look(&stage), host, "{what}: the host was changed");
    let Some(outcome) = outcome else { return };
    if let Some(text) = &expect.refused {
        assert!(outcome.failed && outcome.errors.contains(&stage.filled(text)), "{what}: {outcome:?}");
    } else if let Some(text) = &expect.stdout {
        assert!(!outcome.failed && outcome.text == stage.filled(text), "{what}: {outcome:?}, expected {text:?}");
    } else {
        assert!(expect.any, "{what}: nothing is expected");
    }
}

/// What no container may change.
#[derive(Debug, PartialEq)]
struct Host {
    core_pattern: String,
    hostname: String,
    runtime: (u64, std::time::SystemTime),
}

impl Host {
    fn look(stage: &Stage) -> Self {
        let read = |path: &str| fs::read_to_string(path).unwrap();
        let runtime = fs::metadata(stage.container.runtime().get_program()).unwrap();
        Self {
            core_pattern: read("/proc/sys/kernel/core_pattern"),
            hostname: read("/proc/sys/kernel/hostname"),
            runtime: (runtime.len(), runtime.modified().unwrap()),
        }
    }
}

macro_rules! attacks {
    ($($test:ident: $file:literal,)*) => {
        $(#[test] fn $test() { check($file); })*

        #[test]
        fn every_file_is_a_test() {
            let tested = BTreeSet::from([$($file.to_owned()),*]);
            let files = fs::read_dir(directory()).unwrap().map(|entry| entry.unwrap().path());
            let files = files.filter(|path| path.extension().is_some_and(|extension| extension == "json"));
            let files: BTreeSet<String> = files.map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned()).collect();
            assert_eq!(files, tested);
            let table = fs::read_to_string(directory().join("../../../docs/security.md")).unwrap();
            for file in tested {
                assert!(table.contains(&format!("`{file}`")), "docs/security.md does not name {file}");
            }
        }
    };
}

attacks! {
    cve_2016_8867: "CVE-2016-8867",
    cve_2016_9962: "CVE-2016-9962",
    cve_2016_9962_descriptors: "CVE-2016-9962-descriptors",
    cve_2019_5736: "CVE-2019-5736",
    cve_2019_16884: "CVE-2019-16884",
    cve_2019_16884_link: "CVE-2019-16884-link",
    cve_2019_18837: "CVE-2019-18837",
    cve_2019_19921: "CVE-2019-19921",
    cve_2021_30465: "CVE-2021-30465",
    cve_2022_0811: "CVE-2022-0811",
    cve_2022_29162: "CVE-2022-29162",
    cve_2023_25809: "CVE-2023-25809",
    cve_2023_27561: "CVE-2023-27561",
    cve_2023_28642: "CVE-2023-28642",
    cve_2024_21626: "CVE-2024-21626",
    cve_2024_21626_exec: "CVE-2024-21626-exec",
    cve_2024_21626_link: "CVE-2024-21626-link",
    cve_2024_21626_program: "CVE-2024-21626-program",
    cve_2024_45310: "CVE-2024-45310",
    cve_2024_5154: "CVE-2024-5154",
    cve_2025_24965: "CVE-2025-24965",
    cve_2025_31133: "CVE-2025-31133",
    cve_2025_31133_missing: "CVE-2025-31133-missing",
    cve_2025_52565: "CVE-2025-52565",
    cve_2025_52565_pts: "CVE-2025-52565-pts",
    cve_2025_52881: "CVE-2025-52881",
    cve_2025_52881_mount: "CVE-2025-52881-mount",
    cve_2025_54867: "CVE-2025-54867",
    cve_2026_41579: "CVE-2026-41579",
    device_link: "device-link",
    passwd_link: "passwd-link",
    passwd_pipe: "passwd-pipe",
}

/// A state directory that somebody has prepared is neither used nor followed.
#[test]
fn a_planted_state_is_refused() {
    let container = Container::new(&["true"]);
    let planted = container.bundle().join("planted");
    fs::create_dir(&planted).unwrap();
    fs::write(planted.join("canary"), "canary").unwrap();
    fs::create_dir(container.state_root()).unwrap();
    std::os::unix::fs::symlink(&planted, container.state_root().join(&container.id)).unwrap();
    let output = container.run();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && errors.contains("exists already"), "{errors}");
    container.ok(&["delete", "--force", &container.id]);
    assert_eq!(fs::read_to_string(planted.join("canary")).unwrap(), "canary");
}

/// A file that is the container's output stays its owner's: who owns it could open it anew, for reading.
#[test]
fn a_file_as_output_is_not_given_away() {
    use std::os::unix::fs::MetadataExt as _;
    let container = Container::script("echo text").with("/process/user", serde_json::json!({"uid": 1000, "gid": 1000}));
    let path = container.bundle().join("output");
    let file = fs::File::create(&path).unwrap();
    let mut command: Command = container.runtime();
    command.args(["run", "--bundle"]).arg(container.bundle()).arg(&container.id).stdout(file);
    assert!(command.status().unwrap().success());
    assert_eq!(fs::read_to_string(&path).unwrap(), "text\n");
    assert_eq!(fs::metadata(&path).unwrap().uid(), 0);
}
