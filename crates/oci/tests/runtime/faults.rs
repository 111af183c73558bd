//! Callers that leave odd things set, commands that are killed or stopped half-way, and what is short: each failure is told, and
//! nothing of it is left.

use std::fs;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::{Container, Stranger, eventually};

const BUSYBOX: &str = "/bin/busybox";

fn hook(script: &str) -> Value {
    json!([{"path": BUSYBOX, "args": ["sh", "-c", script]}])
}

fn signal(name: &str, pid: &str) {
    assert!(Command::new(BUSYBOX).args(["kill", name, pid]).status().unwrap().success());
}

/// A command on a container that is waited for with a limit; its output goes to files.
fn start(container: &Container, args: &[&str]) -> Stranger {
    let file = |name: &str| fs::File::create(container.bundle().join(name)).unwrap();
    Stranger::start(container.runtime().args(args).stdout(file("stdout")).stderr(file("stderr")))
}

fn said(container: &Container) -> String {
    fs::read_to_string(container.bundle().join("stderr")).unwrap()
}

#[test]
fn a_caller_that_ignores_its_children_hears_of_their_end() {
    let mut container = Container::script("exit 7");
    container.set("/hooks", json!({"prestart": hook("exit 0"), "poststop": hook("exit 0")}));
    let bundle = container.bundle().display().to_string();
    let runtime = container.runtime();
    let mut command = Command::new("/usr/bin/env");
    command.arg("--ignore-signal=CHLD").arg(runtime.get_program()).args(runtime.get_args());
    command.args(["run", "--bundle", &bundle, &container.id]);
    assert_eq!(Stranger::start(command.stdin(Stdio::null())).wait().code(), Some(7));
    container.assert_nothing_left();
}

#[test]
fn real_time_signals_are_passed_on_like_others() {
    let container = Container::script("trap 'exit 9' 40; touch /up; while :; do sleep 0.05; done");
    let bundle = container.bundle().display().to_string();
    let mut run = start(&container, &["run", "--bundle", &bundle, &container.id]);
    eventually("the trap is set", || container.rootfs().join("up").exists());
    signal("-40", &run.pid().to_string());
    assert_eq!(run.wait().code(), Some(9), "{}", said(&container));
}

#[test]
fn who_ends_a_container_ends_the_hooks_that_make_it() {
    for (kind, command) in [("prestart", "kill"), ("createRuntime", "delete")] {
        let mut container = Container::new(&["sleep", "1000"]);
        let time = format!("3{}", std::process::id());
        let mark = container.bundle().join("mark").display().to_string();
        let script = format!("/bin/busybox setsid sleep {time} & echo $! > {mark}.new; mv {mark}.new {mark}; wait");
        container.set("/hooks", json!({kind: hook(&script)}));
        let bundle = container.bundle().display().to_string();
        let mut create = start(&container, &["create", "--bundle", &bundle, &container.id]);
        eventually("the hook runs", || fs::exists(&mark).unwrap());
        let begin = Instant::now();
        match command {
            "kill" => container.ok(&["kill", &container.id, "KILL"]),
            _ => container.ok(&["delete", "--force", &container.id]),
        };
        assert_eq!(create.wait().code(), Some(1));
        let error = said(&container);
        let words = "was ended, since the container's first process has ended";
        assert!(error.contains(&format!("{kind} hook /bin/busybox: {words}")), "{error}");
        assert!(begin.elapsed() < Duration::from_secs(8), "nobody has waited for a lock");
        let daemon = fs::read_to_string(&mark).unwrap();
        assert!(!fs::exists(format!("/proc/{}", daemon.trim())).unwrap(), "what the hook has started is gone");
        container.assert_nothing_left();
    }
}

#[test]
fn a_first_process_that_was_killed_on_the_way_has_not_started() {
    let mut container = Container::new(&["sleep", "1000"]);
    let script = "pid=$(grep -o '\"pid\":[0-9]*'); kill -KILL ${pid#*:}";
    container.set("/hooks", json!({"createRuntime": hook(script)}));
    let bundle = container.bundle().display().to_string();
    let mut run = start(&container, &["run", "--detach", "--bundle", &bundle, &container.id]);
    assert_eq!(run.wait().code(), Some(1));
    assert!(said(&container).contains("ended"), "{}", said(&container));
    container.assert_nothing_left();
}

#[test]
fn nothing_joins_a_container_that_run_is_still_making() {
    let mut container = Container::new(&["sleep", "1000"]);
    let go = container.bundle().join("go").display().to_string();
    // What has to wait is the runtime, while the first process is in the host's files still.
    container.set("/hooks", json!({"createRuntime": hook(&format!("until [ -e {go} ]; do sleep 0.05; done"))}));
    let bundle = container.bundle().display().to_string();
    let mut run = start(&container, &["run", "--detach", "--bundle", &bundle, &container.id]);
    let found = || String::from_utf8(container.call(&["state", &container.id]).stdout).unwrap();
    eventually("it is known", || found().contains("\"pid\": ") && !found().contains("\"pid\": 0"));
    assert_eq!(container.status(), "creating");
    let mut exec = Stranger::start(container.runtime().args(["exec", &container.id, "touch", "/made"]));
    std::thread::sleep(Duration::from_millis(300));
    assert!(exec.lives(), "it waits");
    container.ok(&["kill", &container.id, "0"]);
    fs::write(go, "").unwrap();
    assert!(run.wait().success(), "{}", said(&container));
    assert_eq!(container.status(), "running");
    assert!(exec.wait().success());
    assert!(container.rootfs().join("made").exists());
}

#[test]
fn a_create_that_lost_its_container_leaves_the_next_one_alone() {
    let mut container = Container::new(&["sleep", "1000"]);
    let bundle = container.bundle().display().to_string();
    // The runtime stops, as on a machine that has no time for it, and finds out late that all is over.
    container.set("/hooks", json!({"createRuntime": hook("kill -STOP $PPID")}));
    let mut late = start(&container, &["create", "--bundle", &bundle, &container.id]);
    let stopped = |pid: i32| fs::read_to_string(format!("/proc/{pid}/stat")).unwrap().contains(") T ");
    eventually("it has stopped", || stopped(late.pid()));
    container.ok(&["delete", "--force", &container.id]);
    container.set("/hooks", json!({}));
    container.create();
    signal("-CONT", &late.pid().to_string());
    assert_eq!(late.wait().code(), Some(1));
    assert_eq!(container.status(), "created");
}

#[test]
fn what_was_mounted_on_the_host_goes_with_a_container_that_was_never_known() {
    let mut container = Container::new(&["sleep", "1000"]);
    container.set("/linux/namespaces", json!([{"type": "pid"}]));
    container.set("/mounts", json!([]));
    container.create();
    let mounted = || fs::read_to_string("/proc/self/mountinfo").unwrap().contains(container.bundle().to_str().unwrap());
    assert!(mounted());
    // As if the runtime had been killed before it wrote it.
    fs::remove_file(container.state_root().join(&container.id).join("state.json")).unwrap();
    container.ok(&["delete", "--force", &container.id]);
    assert!(!mounted());
    container.assert_nothing_left();
}

#[test]
fn an_exec_waits_for_a_run_that_is_still_making_the_container() {
    let mut container = Container::new(&["sleep", "1000"]);
    fs::write(container.rootfs().join("inside"), "container").unwrap();
    let script = "touch waits; until [ -e go ]; do sleep 0.05; done";
    container.set("/hooks", json!({"createRuntime": hook(script)}));
    let bundle = container.bundle().display().to_string();
    let mut run = start(&container, &["run", "--detach", "--bundle", &bundle, &container.id]);
    eventually("the hook runs", || container.bundle().join("waits").exists());
    assert_eq!(container.status(), "creating");
    let output = fs::File::create(container.bundle().join("output")).unwrap();
    let mut exec = Stranger::start(container.runtime().args(["exec", &container.id, "cat", "/inside"]).stdout(output));
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(fs::read_to_string(container.bundle().join("output")).unwrap(), "", "it has joined nothing yet");
    assert!(exec.lives());
    fs::write(container.bundle().join("go"), "").unwrap();
    assert!(run.wait().success(), "{}", said(&container));
    assert!(exec.wait().success());
    assert_eq!(fs::read_to_string(container.bundle().join("output")).unwrap(), "container");
}

/// The runtime with at most so many descriptors.
fn with_descriptors(container: &Container, number: u32, args: &[&str]) -> Output {
    let runtime = container.runtime();
    let mut command = Command::new(BUSYBOX);
    command.args(["sh", "-c", &format!("ulimit -n {number} && exec \"$@\""), "sh"]);
    command.arg(runtime.get_program()).args(runtime.get_args()).args(args).stdin(Stdio::null());
    let (out, err) = (container.bundle().join("stdout"), container.bundle().join("stderr"));
    command.stdout(fs::File::create(&out).unwrap()).stderr(fs::File::create(&err).unwrap());
    let status = command.status().unwrap();
    Output { status, stdout: fs::read(out).unwrap(), stderr: fs::read(err).unwrap() }
}

#[test]
fn a_create_without_descriptors_leaves_nothing() {
    let container = Container::new(&["sleep", "1000"]);
    let bundle = container.bundle().display().to_string();
    fs::create_dir(container.state_root()).unwrap();
    let mut failed = 0;
    for number in 4..20 {
        let output = with_descriptors(&container, number, &["create", "--bundle", &bundle, &container.id]);
        if output.status.success() {
            container.ok(&["delete", &container.id]);
        } else {
            failed += 1;
            assert_eq!(output.status.code(), Some(1), "{number}: {output:?}");
            let error = String::from_utf8_lossy(&output.stderr);
            assert!(error.contains("Too many open files"), "{number}: {error}");
            let states = fs::read_dir(container.state_root()).unwrap().count();
            if states > 0 {
                // What could not be removed for want of descriptors is told of.
                assert!(error.contains("warning"), "{number}: {error}");
                container.ok(&["delete", "--force", &container.id]);
            }
        }
        container.assert_nothing_left();
    }
    assert!((1..16).contains(&failed), "some numbers suffice and some do not: {failed}");
}
