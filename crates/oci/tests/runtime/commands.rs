//! `pause`, `resume`, `ps`, `events`, `spec`, the options of `exec`, and commands that meet on one container.

use std::fs;
use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{Container, Stranger, eventually, is_ours};

#[test]
fn a_container_whose_state_is_damaged_can_be_deleted() {
    for (name, content) in [("state.json", &b""[..]), ("state.json", b"{\"version\": 1, \"pid\": -5}"), ("cgroup", b"")]
    {
        let container = Container::new(&["sleep", "1000"]);
        container.create();
        let path = container.state_root().join(&container.id).join(name);
        fs::remove_file(&path).unwrap();
        fs::write(&path, content).unwrap();
        container.ok(&["delete", "--force", &container.id]);
        container.assert_nothing_left();
    }
}

#[test]
fn what_an_exec_may_run_on_first_is_told_when_asked() {
    let container = Container::new(&["sleep", "1000"]).with("/process/execCPUAffinity", json!({"initial": "0"}));
    container.detach();
    let output = container.call(&["--debug", "exec", &container.id, "true"]);
    assert!(output.status.success(), "{output:?}");
    assert!(!is_ours() || String::from_utf8_lossy(&output.stderr).contains("initial affinity: 0x1\n"), "{output:?}");
}

#[test]
fn a_paused_container_stands_still() {
    let container = Container::script("i=0; while :; do i=$((i+1)); echo $i > /count; sleep 0.01; done");
    container.detach();
    let count = || fs::read_to_string(container.rootfs().join("count")).unwrap_or_default();
    eventually("it counts", || !count().is_empty());
    assert!(container.fails(&["resume", &container.id]).contains("container not paused"));
    container.ok(&["pause", &container.id]);
    assert_eq!(container.status(), "paused");
    let before = count();
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!(count(), before, "it goes on");
    assert!(container.fails(&["pause", &container.id]).contains("is paused"));
    assert!(container.fails(&["delete", &container.id]).contains("is paused"));
    let refused = container.fails_with(255, &["exec", &container.id, "true"]);
    assert!(refused.contains("cannot exec in a paused container"), "{refused}");
    container.ok(&["resume", &container.id]);
    assert_eq!(container.status(), "running");
    eventually("it goes on", || count() != before);
}

#[test]
fn a_paused_container_can_be_ended() {
    let container = Container::new(&["sleep", "1000"]);
    container.detach();
    container.ok(&["pause", &container.id]);
    container.ok(&["kill", "--all", &container.id, "TERM"]);
    assert_eq!(container.status(), "paused", "a signal to all does not let it go on");
    container.ok(&["kill", &container.id, "KILL"]);
    eventually("stopped", || container.status() == "stopped");
    let container = Container::new(&["sleep", "1000"]);
    container.create();
    container.ok(&["pause", &container.id]);
    assert!(container.fails(&["start", &container.id]).contains("is paused"));
    container.ok(&["delete", "--force", &container.id]);
    container.assert_nothing_left();
}

#[test]
fn an_exec_in_a_paused_container_waits_with_it() {
    let container = Container::new(&["sleep", "1000"]);
    container.detach();
    container.ok(&["pause", &container.id]);
    let mut exec = container.runtime();
    exec.args(["exec", "--ignore-paused", &container.id, "touch", "/made"]).stderr(Stdio::null());
    let mut exec = exec.spawn().unwrap();
    std::thread::sleep(Duration::from_millis(200));
    assert!(!container.rootfs().join("made").exists());
    container.ok(&["resume", &container.id]);
    assert!(exec.wait().unwrap().success());
    assert!(container.rootfs().join("made").exists());
}

#[test]
fn ps_shows_all_processes() {
    let container = Container::script("sleep 1001 & sleep 1002");
    container.detach();
    let pids =
        || -> Vec<i64> { serde_json::from_str(&container.ok(&["ps", "--format", "json", &container.id])).unwrap() };
    eventually("both run", || pids().len() == 2 && container.ok(&["ps", &container.id]).contains("sleep 1001"));
    assert!(pids().contains(&container.state()["pid"].as_i64().unwrap()));
    let table = container.ok(&["ps", &container.id]);
    assert_eq!(table.lines().count(), 3, "{table}");
    assert!(table.lines().next().unwrap().split_whitespace().any(|title| title == "PID"), "{table}");
    let chosen = container.ok(&["ps", &container.id, "-e", "-o", "pid,args"]);
    assert_eq!(chosen.lines().count(), 3, "{chosen}");
    assert!(container.fails(&["ps", &container.id, "-e", "-o", "args"]).contains("no column PID"));
    container.ok(&["kill", &container.id, "KILL"]);
    eventually("stopped", || container.status() == "stopped" && pids().is_empty());
}

#[test]
fn ps_shows_quotes_as_they_are_and_no_controls() {
    let container = Container::script("sleep 1000; echo \"it's\" '\t'");
    container.detach();
    let table = container.ok(&["ps", &container.id]);
    assert!(table.contains("echo \"it's\" '\\t'"), "{table}");
}

#[test]
fn every_command_tells_how_it_is_called() {
    let container = Container::new(&["true"]);
    for command in ["create", "run", "exec", "state", "kill", "update", "spec", "features"] {
        for option in ["--help", "-h"] {
            let text = container.ok(&[command, option]);
            assert!(text.contains(command), "{command} {option}: {text}");
        }
    }
}

#[test]
fn features_tell_what_an_annotation_may_do() {
    let features: Value = serde_json::from_str(&Container::new(&["true"]).ok(&["features"])).unwrap();
    assert_eq!(features["potentiallyUnsafeConfigAnnotations"], json!(["org.systemd.property."]));
    let options = features["mountOptions"].as_array().unwrap();
    assert!(options.contains(&json!("iversion")) && options.contains(&json!("noiversion")), "{options:?}");
}

#[test]
fn stats_have_runcs_shape() {
    let container = Container::script("sleep 1000 & sleep 1000");
    container.detach();
    eventually("both run", || container.cgroup().procs().unwrap().len() == 2);
    let text = container.ok(&["events", "--stats", &container.id]);
    let event: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((&event["type"], &event["id"]), (&json!("stats"), &json!(container.id)));
    assert_eq!(event["data"]["pids"]["current"], 2, "{event:#}");
    for field in ["/data/cpu/usage/total", "/data/memory/usage/limit", "/data/memory/swap/usage"] {
        assert!(event.pointer(field).is_some_and(Value::is_u64), "{field} in {event:#}");
    }
    assert!(event["data"]["cpu"]["usage"]["total"].as_u64().unwrap() > 0, "cpu.stat is there without the controller");
    container.ok(&["kill", &container.id, "KILL"]);
    eventually("stopped", || container.status() == "stopped");
    let error = container.fails(&["events", "--stats", &container.id]);
    assert!(error.contains("container not running"), "{error}");
}

#[test]
fn events_end_with_the_container() {
    let container = Container::new(&["sleep", "1000"]);
    container.detach();
    let file = container.bundle().join("events");
    let mut events = container.runtime();
    events.args(["events", "--interval=50ms", &container.id]).stdout(fs::File::create(&file).unwrap());
    let mut events = Stranger::start(&mut events);
    eventually("it tells twice", || fs::read_to_string(&file).unwrap().lines().count() >= 2);
    container.ok(&["kill", &container.id, "KILL"]);
    assert!(events.wait().success());
    let lines = fs::read_to_string(&file).unwrap();
    assert!(lines.lines().all(|line| line.starts_with(r#"{"type":"stats","#)), "{lines}");
}

#[test]
fn an_example_can_be_run() {
    let container = Container::new(&["true"]);
    let bundle = container.bundle().display().to_string();
    let config = container.bundle().join("config.json");
    let mut spec = container.runtime();
    fs::remove_file(&config).unwrap();
    assert!(spec.args(["spec", "--bundle", &bundle]).status().unwrap().success());
    let mut example: Value = serde_json::from_slice(&fs::read(&config).unwrap()).unwrap();
    example["process"]["terminal"] = json!(false);
    example["process"]["args"] = json!(["echo", "hello"]);
    example["linux"]["cgroupsPath"] = json!(container.id);
    let mut container = container;
    container.config = example;
    assert_eq!(container.stdout(), "hello\n");
    assert!(container.fails(&["spec", "--bundle", &bundle]).contains("exists; remove it first"));
}

#[test]
fn an_exec_has_its_own_rights() {
    let container = Container::new(&["sleep", "1000"]).with("/process/noNewPrivileges", json!(false));
    container.detach();
    let status = |options: &[&str]| {
        let command = ["grep", "-E", "^(CapBnd|CapEff|CapAmb|NoNewPrivs|Groups)", "/proc/self/status"];
        container.ok(&[&["exec"], options, &[container.id.as_str()], &command[..]].concat())
    };
    let plain = status(&[]);
    assert!(plain.contains("NoNewPrivs:\t0") && plain.contains("CapEff:\t0000000000000000"), "{plain}");
    let more = status(&["--cap", "CAP_KILL", "-c", "chown", "--no-new-privs", "-g", "7", "-g", "8"]);
    assert!(more.contains("NoNewPrivs:\t1") && more.contains("CapEff:\t0000000000000021"), "{more}");
    assert!(more.contains("CapBnd:\t0000000000000021") && more.contains("CapAmb:\t0000000000000000"), "{more}");
    assert!(more.contains("Groups:\t7 8"), "{more}");
    let error = container.fails_with(255, &["exec", "--cap", "CAP_NONE", &container.id, "true"]);
    assert!(error.contains("--cap \"CAP_NONE\""), "{error}");
}

#[test]
fn an_exec_that_names_no_capabilities_has_the_containers() {
    let caps = json!(["CAP_KILL"]);
    let container = Container::new(&["sleep", "1000"])
        .with("/process/capabilities", json!({"bounding": caps, "effective": caps, "permitted": caps}));
    container.detach();
    let file = container.bundle().join("process.json");
    let process = |change: Value| {
        let mut process = json!({
            "user": {"uid": 0, "gid": 0}, "cwd": "/", "env": ["PATH=/bin"], "args": ["grep", "CapEff", "/proc/self/status"]
        });
        process.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        fs::write(&file, process.to_string()).unwrap();
        container.ok(&["exec", "--process", file.to_str().unwrap(), &container.id])
    };
    assert_eq!(process(json!({})), "CapEff:\t0000000000000020\n");
    assert_eq!(process(json!({"capabilities": {}})), "CapEff:\t0000000000000000\n");
}

#[test]
fn an_exec_can_run_in_a_cgroup_below() {
    let container = Container::new(&["sleep", "1000"]);
    container.detach();
    container.cgroup().child("inner").create().unwrap();
    let text = container.ok(&["exec", "--cgroup", "inner", &container.id, "cat", "/proc/self/cgroup"]);
    assert!(text.contains("0::/inner\n"), "{text}");
    let error = container.fails_with(255, &["exec", "--cgroup", "../..", &container.id, "true"]);
    assert!(error.contains("--cgroup ../..: a path below the container's cgroup"), "{error}");
    let error = container.fails_with(255, &["exec", "--cgroup=none", &container.id, "true"]);
    assert!(error.contains("open cgroup") && error.contains("No such file or directory"), "{error}");
}

/// A container with a hook that ends when there is a file `go` in the bundle, or no bundle any more.
fn with_slow_hook() -> Container {
    let container = Container::new(&["sleep", "1000"]);
    let dir = container.bundle().display().to_string();
    let script = format!("touch {dir}/hook; while [ -d {dir} ] && ! [ -e {dir}/go ]; do sleep 0.05; done");
    let hook = json!({"path": "/bin/busybox", "args": ["sh", "-c", script], "timeout": 100});
    container.with("/hooks", json!({"prestart": [hook]}))
}

/// A `create` that hangs in that hook.
fn slow_create(container: &Container) -> Stranger {
    let bundle = container.bundle().display().to_string();
    let mut create = container.runtime();
    create.args(["create", "--bundle", &bundle, &container.id]).stdout(Stdio::null()).stderr(Stdio::null());
    let create = Stranger::start(&mut create);
    eventually("the hook runs", || container.bundle().join("hook").exists());
    create
}

#[test]
fn commands_wait_for_one_another_but_a_kill_does_not() {
    let container = with_slow_hook();
    let mut create = slow_create(&container);
    assert_eq!(container.status(), "creating");
    container.ok(&["kill", &container.id, "0"]);
    container.ok(&["ps", &container.id]);
    assert!(create.lives(), "a command waited for the slow create");
    // This one changes the container, so it comes after the create.
    let mut pause = Stranger::start(container.runtime().args(["pause", &container.id]));
    std::thread::sleep(Duration::from_millis(500));
    assert!(pause.lives(), "it did not wait");
    fs::write(container.bundle().join("go"), "").unwrap();
    assert!(create.wait().success() && pause.wait().success());
    container.ok(&["resume", &container.id]);
    assert_eq!(container.status(), "created");
}

#[test]
fn a_kill_ends_a_slow_create() {
    let container = with_slow_hook();
    let mut create = slow_create(&container);
    container.ok(&["kill", &container.id, "KILL"]);
    // runc leaves the hook alone, and waits for its end.
    fs::write(container.bundle().join("go"), "").unwrap();
    assert!(!create.wait().success());
    container.assert_nothing_left();
}

#[test]
fn what_hangs_half_made_can_be_deleted() {
    let container = with_slow_hook();
    let _create = slow_create(&container);
    container.ok(&["delete", "--force", &container.id]);
    container.assert_nothing_left();
}

#[test]
fn a_newer_state_is_told_of_and_can_be_deleted() {
    let container = Container::new(&["sleep", "1000"]);
    container.detach();
    let file = container.state_root().join(&container.id).join("state.json");
    fs::write(&file, r#"{"version": 7}"#).unwrap();
    for command in ["state", "start", "kill", "pause", "delete", "ps"] {
        let error = container.fails(&[command, &container.id]);
        assert!(error.contains("state.json: version 7 found, up to 1 known"), "{command}: {error}");
    }
    assert_eq!(container.ok(&["list", "--quiet"]), "");
    container.ok(&["delete", "--force", &container.id]);
    container.assert_nothing_left();
}

#[test]
fn the_log_has_what_is_asked_for() {
    let container = Container::new(&["true"]);
    let log = container.bundle().join("log").display().to_string();
    container.ok(&["--log", &log, "--log-format=json", "--debug", "list"]);
    let line: Value = serde_json::from_str(fs::read_to_string(&log).unwrap().lines().next().unwrap()).unwrap();
    assert_eq!(line["level"], "debug");
    fs::remove_file(&log).unwrap();
    container.ok(&["--log", &log, "list"]);
    assert!(!fs::exists(&log).unwrap(), "nothing happened that is worth a word");
}
