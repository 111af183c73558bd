//! Configurations that are not what the specification says: `tests/oci/malformed.json`. Each is refused by field, with exit status
//! 1, and nothing is left behind.
//!
//! An entry is a text instead of config.json, or a change of a good configuration (`put` a value `at` a JSON pointer; without a
//! value, the part is removed), and a part of the error.

use std::fs;
use std::path::Path;
use std::process::Stdio;

use serde::Deserialize;
use serde_json::{Value, json};

use crate::harness::Container;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    text: Option<String>,
    at: Option<String>,
    put: Option<Value>,
    error: String,
}

/// The error of a `run` with this text as its configuration.
fn refused(container: &Container, text: &[u8]) -> String {
    // The harness writes its own configuration first.
    let mut command = container.runtime();
    fs::write(container.bundle().join("config.json"), text).unwrap();
    let output = command.args(["run", "--bundle"]).arg(container.bundle()).arg(&container.id).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{errors}");
    assert_eq!(errors.lines().count(), 1, "{errors}");
    container.assert_nothing_left();
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains(container.bundle().to_str().unwrap()), "a mount is left: {mounts}");
    errors
}

fn remove(config: &mut Value, at: &str) {
    let (parent, key) = at.rsplit_once('/').unwrap();
    config.pointer_mut(parent).and_then(Value::as_object_mut).unwrap().remove(key).expect("it was there");
}

#[test]
fn malformed_configurations_are_refused_by_field() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/oci/malformed.json");
    let entries: Vec<Entry> = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
    let mut wrong = Vec::new();
    for Entry { text, at, put, error } in entries {
        let mut container = Container::new(&["true"]);
        match (&at, put) {
            (None, _) => {}
            (Some(at), Some(value)) => container.set(at, value),
            (Some(at), None) => remove(&mut container.config, at),
        }
        let text = text.unwrap_or_else(|| container.config.to_string());
        let found = refused(&container, text.as_bytes());
        if !found.contains(&error) {
            wrong.push(format!("{at:?}: {found}expected {error:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

#[test]
fn what_no_text_file_can_hold_is_refused() {
    let container = Container::new(&["true"]);
    let deep = format!("{{\"ociVersion\": \"1.2.0\", \"x\": {}", "[".repeat(100_000));
    let many = format!("{{\"ociVersion\": \"1.2.0\", \"mounts\": [{}1]}}", "{\"destination\": \"/a\"},".repeat(50_000));
    for (text, error) in [
        (b"{\"ociVersion\": \"\xff\xfe\"}".as_slice(), "is not JSON: invalid unicode code point"),
        (&b"\xff\xfe{\0}\0"[..], "is not JSON: expected value"),
        (deep.as_bytes(), "is not JSON: EOF while parsing a list"),
        (many.as_bytes(), "mounts[50000]: invalid type: integer `1`"),
        (&vec![b' '; (16 << 20) + 1], "is longer than 16 MiB"),
    ] {
        let found = refused(&container, text);
        assert!(found.contains(error), "{found}, expected {error:?}");
    }
}

#[test]
fn only_a_regular_file_is_a_configuration() {
    let container = Container::new(&["true"]);
    let config = container.bundle().join("config.json");
    let mut command = container.runtime();
    command.args(["run", "--bundle"]).arg(container.bundle()).arg(&container.id).stdin(Stdio::null());
    let cases: [(&str, &dyn Fn()); 3] = [
        ("a pipe", &|| nix::unistd::mkfifo(&config, nix::sys::stat::Mode::S_IRWXU).unwrap()),
        ("a device", &|| std::os::unix::fs::symlink("/dev/zero", &config).unwrap()),
        ("cannot be read: No such file or directory", &|| std::os::unix::fs::symlink("nowhere", &config).unwrap()),
    ];
    for (what, make) in cases {
        fs::remove_file(&config).unwrap();
        make();
        let output = command.output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(1) && errors.contains(what), "{what}: {errors}");
        container.assert_nothing_left();
    }
    fs::remove_file(&config).unwrap();
}

#[test]
fn a_malformed_process_is_refused_by_field() {
    let container = Container::new(&["sleep", "1000"]);
    container.detach();
    let file = container.bundle().join("process.json");
    for (process, error) in [
        (json!({"args": ["true"], "user": {}}), "process.json: cwd: is missing"),
        (json!({"args": "true", "cwd": "/", "user": {}}), "args: invalid type: string \"true\""),
        (json!({"args": [], "cwd": "/", "user": {}}), "process.args: is empty"),
        (json!({"args": ["true"], "cwd": "/", "user": {"uid": -1, "gid": 0}}), "user.uid: invalid value: integer `-1`"),
        (json!({"args": ["true\u{0}"], "cwd": "/", "user": {}}), "args[0]: holds a NUL byte"),
    ] {
        fs::write(&file, process.to_string()).unwrap();
        let output = container.call(&["exec", "--process", file.to_str().unwrap(), &container.id]);
        let found = String::from_utf8_lossy(&output.stderr);
        // As runc's: 1 could be the program's own.
        assert!(output.status.code() == Some(255) && found.contains(error), "{output:?}, expected {error:?}");
    }
    assert_eq!(container.status(), "running");
}
