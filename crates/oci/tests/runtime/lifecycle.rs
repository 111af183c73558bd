//! Commands, states, exit codes, failures.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::os::unix::fs::symlink;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::harness::{Container, Stranger, eventually, is_ours};

#[test]
fn run_gives_the_exit_status() {
    let container = Container::script("echo out; echo err >&2; exit 7");
    let output = container.run();
    assert_eq!(output.status.code(), Some(7), "{output:?}");
    assert_eq!((output.stdout.as_slice(), output.stderr.as_slice()), (&b"out\n"[..], &b"err\n"[..]));
    container.assert_nothing_left();
}

#[test]
fn run_gives_128_and_the_signal_and_passes_signals_on() {
    let container = Container::script("trap 'echo term; exit 9' TERM; echo up; while :; do sleep 0.05; done");
    let bundle = container.bundle().display().to_string();
    let mut command = container.runtime();
    let mut child = command.args(["run", "--bundle", &bundle, &container.id]).stdout(Stdio::piped()).spawn().unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    // Written once the trap is set; the state says only that the shell was started.
    let mut text = String::new();
    output.read_line(&mut text).unwrap();
    let pid = child.id().to_string();
    assert!(Command::new("/bin/busybox").args(["kill", "-TERM", &pid]).status().unwrap().success());
    output.read_to_string(&mut text).unwrap();
    assert_eq!((child.wait().unwrap().code(), text.as_str()), (Some(9), "up\nterm\n"));

    // Without a PID namespace its signals are the usual ones.
    let killed = Container::script("kill -KILL $$")
        .with("/linux/namespaces", json!([{"type": "mount"}, {"type": "uts"}, {"type": "ipc"}, {"type": "network"}]));
    assert_eq!(killed.run().status.code(), Some(137));
}

#[test]
fn a_created_container_waits_for_start() {
    let container = Container::script("touch /started; sleep 1000");
    container.create();
    assert_eq!(container.status(), "created");
    let state = container.state();
    assert_eq!(state["id"], json!(container.id));
    assert_eq!(state["bundle"], json!(container.bundle()));
    assert!(state["pid"].as_i64().unwrap() > 0);
    assert!(!container.rootfs().join("started").exists());
    container.ok(&["start", &container.id]);
    assert_eq!(container.status(), "running");
    eventually("started", || container.rootfs().join("started").exists());
    assert!(container.fails(&["start", &container.id]).contains("is running"));
    assert!(container.fails(&["delete", &container.id]).contains("is running"));
    container.ok(&["kill", &container.id, "KILL"]);
    eventually("stopped", || container.status() == "stopped");
    assert_eq!(container.state()["pid"], 0);
    assert!(container.fails(&["kill", &container.id]).contains("is stopped"));
    container.ok(&["delete", &container.id]);
    container.assert_nothing_left();
    assert!(container.fails(&["state", &container.id]).contains("does not exist"));
}

#[test]
fn an_id_is_used_once() {
    let container = Container::new(&["sleep", "1000"]);
    container.detach();
    let bundle = container.bundle().display().to_string();
    let error = container.fails(&["run", "--bundle", &bundle, &container.id]);
    assert!(error.contains("exists already"), "{error}");
    assert_eq!(container.status(), "running", "the first one is not harmed");
}

#[test]
fn a_missing_program_is_reported_and_leaves_nothing() {
    let container = Container::new(&["/no/such/binary"]);
    let bundle = container.bundle().display().to_string();
    let log = container.bundle().join("log");
    let log_arg = log.display().to_string();
    for command in ["create", "run"] {
        fs::remove_file(&log).ok();
        let detach: &[&str] = if command == "run" { &["--detach"] } else { &[] };
        let args =
            [&["--log", &log_arg, "--log-format", "json", command], detach, &["--bundle", &bundle, &container.id]];
        container.fails(&args.concat());
        let text = fs::read_to_string(&log).unwrap();
        let line: Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
        assert_eq!(line["level"], "error");
        assert_eq!(line["msg"], "exec: \"/no/such/binary\": No such file or directory");
        assert!(line["time"].as_str().unwrap().ends_with('Z'));
        container.assert_nothing_left();
    }
}

#[test]
fn programs_are_looked_up_inside() {
    let error = Container::new(&["nothing"]).refused();
    assert!(error.contains("exec: \"nothing\": executable file not found in $PATH"), "{error}");
    let container = Container::new(&["/bin/plain"]);
    fs::write(container.rootfs().join("bin/plain"), "#!/bin/sh\n").unwrap();
    assert!(container.refused().contains("exec: \"/bin/plain\": Permission denied"));
    let container = Container::new(&["/bin"]);
    assert!(container.refused().contains("exec: \"/bin\": Permission denied"));
    if is_ours() {
        let bundle = container.bundle().display().to_string();
        container.fails(&["create", "--bundle", &bundle, &container.id]);
        container.assert_nothing_left();
    }
    let container = Container::new(&["tool"]).with("/process/env", json!(["PATH=/nowhere:/opt"]));
    fs::create_dir(container.rootfs().join("opt")).unwrap();
    symlink("/bin/busybox", container.rootfs().join("opt/tool")).unwrap();
    let output = container.run();
    assert!(String::from_utf8_lossy(&output.stderr).contains("tool: applet not found"), "{output:?}");
}

#[test]
fn a_start_reports_what_fails_only_then() {
    let container = Container::new(&["/bin/script"]);
    let script = container.rootfs().join("bin/script");
    fs::write(&script, "#!/no/such/interpreter\n").unwrap();
    assert!(Command::new("chmod").arg("755").arg(&script).status().unwrap().success());
    container.create();
    let error = container.fails(&["start", &container.id]);
    assert!(error.contains("exec: \"/bin/script\": No such file or directory"), "{error}");
    eventually("stopped", || container.status() == "stopped");
}

#[test]
fn exec_runs_beside() {
    let container = Container::new(&["sleep", "1000"]).with("/process/env", json!(["PATH=/bin", "A=1", "B=2"]));
    container.detach();
    let output =
        container.call(&["exec", "--env", "A=3", "--cwd", "/bin", &container.id, "sh", "-c", "echo $A$B $PWD; exit 5"]);
    assert_eq!(output.status.code(), Some(5), "{output:?}");
    assert_eq!(output.stdout, b"32 /bin\n");
    let inner = container.exec("cat /proc/self/cgroup /proc/1/cmdline");
    let text = String::from_utf8_lossy(&inner.stdout).into_owned();
    assert!(text.contains("0::/\n") && text.contains("sleep"), "{text}");
    let error = container.fails_with(255, &["exec", &container.id, "/no/such"]);
    assert!(error.contains("exec: \"/no/such\": No such file or directory"), "{error}");
}

#[test]
fn a_detached_exec_takes_a_process_file() {
    let container = Container::new(&["sleep", "1000"]);
    container.detach();
    let process = container.bundle().join("process.json");
    let args = json!({"args": ["sh", "-c", "id -u > /made; sleep 1000"], "env": ["PATH=/bin"], "cwd": "/", "user": {"uid": 0, "gid": 0}});
    fs::write(&process, args.to_string()).unwrap();
    let (process, pid_file) = (process.display().to_string(), container.bundle().join("pid").display().to_string());
    let mut command = container.runtime();
    command.args(["exec", "--detach", "--pid-file", &pid_file, "--process", &process, &container.id]);
    assert!(command.stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap().success());
    let pid: i32 = fs::read_to_string(&pid_file).unwrap().parse().unwrap();
    assert!(container.cgroup().procs().unwrap().contains(&pid), "it is in the container's cgroup");
    eventually("made", || fs::read_to_string(container.rootfs().join("made")).is_ok_and(|text| text == "0\n"));
}

#[test]
fn nothing_runs_in_a_container_that_has_ended() {
    let container = Container::new(&["true"]);
    container.detach();
    eventually("stopped", || container.status() == "stopped");
    assert!(container.fails_with(255, &["exec", &container.id, "true"]).contains("is stopped"));
}

#[test]
fn a_reused_pid_is_not_the_container() {
    let container = Container::new(&["sleep", "1000"]);
    container.detach();
    let file = container.state_root().join(&container.id).join("state.json");
    let mut state: Value = serde_json::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
    // Start times are counted in ticks of 10 ms.
    std::thread::sleep(std::time::Duration::from_millis(50));
    let mut stranger = Stranger::new();
    state["pid"] = json!(stranger.pid());
    fs::write(&file, state.to_string()).unwrap();
    assert_eq!(container.status(), "stopped");
    assert!(container.fails(&["kill", &container.id, "KILL"]).contains("is stopped"));
    container.ok(&["delete", "--force", &container.id]);
    assert!(stranger.lives(), "the stranger was killed");
    container.assert_nothing_left();
}

#[test]
fn what_was_half_made_can_be_deleted() {
    let container = Container::new(&["true"]);
    let dir = container.state_root().join(&container.id);
    fs::create_dir_all(&dir).unwrap();
    let cgroup = container.cgroup();
    cgroup.create().unwrap();
    symlink(cgroup.path(), dir.join("cgroup")).unwrap();
    let mut orphan = Stranger::new();
    cgroup.add(orphan.pid()).unwrap();
    assert_eq!(container.status(), "creating");
    assert!(container.fails(&["delete", &container.id]).contains("is creating"));
    assert_eq!(container.ok(&["ps", "--format", "json", &container.id]), format!("[{}]\n", orphan.pid()));
    container.ok(&["delete", "--force", &container.id]);
    orphan.wait();
    container.assert_nothing_left();

    fs::create_dir_all(&dir).unwrap();
    symlink(cgroup.path(), dir.join("cgroup")).unwrap();
    fs::write(dir.join("state.json"), "{torn").unwrap();
    container.ok(&["delete", "--force", &container.id]);
    container.assert_nothing_left();
}

#[test]
fn lists_name_all_containers() {
    let container = Container::new(&["sleep", "1000"]);
    container.detach();
    assert_eq!(container.ok(&["list", "--quiet"]), format!("{}\n", container.id));
    let listed: Value = serde_json::from_str(&container.ok(&["list", "--format", "json"])).unwrap();
    assert_eq!(listed[0]["status"], "running");
    assert_eq!(listed[0]["pid"], container.state()["pid"]);
    assert_eq!(listed[0]["owner"], "root");
    assert!(container.ok(&["list"]).contains("running"));
}

#[test]
fn hooks_run_in_order_with_the_state() {
    let mut container = Container::script("true");
    let trace = container.bundle().join("trace").display().to_string();
    let hook = |name: &str| {
        let script = format!("echo {name} $(/bin/busybox grep -o '\"status\":\"[a-z]*\"') $KEY >> {trace}");
        json!([{"path": "/bin/busybox", "args": ["sh", "-c", script], "env": ["KEY=v"], "timeout": 10}])
    };
    // The startContainer hook runs inside: it finds the trace through a mount of the bundle at its own path.
    let bundle = container.bundle().display().to_string();
    container = container.mount(json!({"destination": bundle, "source": bundle, "options": ["bind"]}));
    let names = ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"];
    container.set("/hooks", names.iter().map(|name| ((*name).to_owned(), hook(name))).collect());
    container.stdout();
    let text = fs::read_to_string(container.bundle().join("trace")).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let expected = [
        "prestart \"status\":\"creating\" v",
        "createRuntime \"status\":\"creating\" v",
        "createContainer \"status\":\"creating\" v",
        "startContainer \"status\":\"created\" v",
        "poststart \"status\":\"running\" v",
        "poststop \"status\":\"stopped\" v",
    ];
    assert_eq!(lines, expected);
}

#[test]
fn a_hook_that_fails_or_hangs_ends_the_container() {
    let hook =
        |args: &[&str], seconds: u32| json!({"prestart": [{"path": "/bin/busybox", "args": args, "timeout": seconds}]});
    let failing = Container::new(&["true"]).with("/hooks", hook(&["false"], 30));
    assert!(failing.refused().contains("prestart hook /bin/busybox: exit status: 1"));
    let hanging = Container::new(&["true"]).with("/hooks", hook(&["sleep", "1000"], 1));
    assert!(hanging.refused().contains("did not end within its timeout of 1 s"));
}

#[test]
fn what_is_missing_is_named() {
    let error = Container::new(&["true"]).with("/root/path", json!("nowhere")).refused();
    assert!(error.contains("root.path: ") && error.contains("nowhere: No such file or directory"), "{error}");
    let container = Container::new(&["true"]);
    let error = container.fails(&["run", "--bundle", "/proc/nonexistent", &container.id]);
    assert!(error.contains("/proc/nonexistent/config.json: cannot be read: No such file or directory"), "{error}");
}

#[test]
fn what_becomes_of_the_bundle_has_no_effect() {
    let mut container = Container::new(&["sleep", "1000"]);
    container.create();
    container.set(
        "/process/capabilities",
        json!({"bounding": ["CAP_KILL"], "effective": ["CAP_KILL"], "permitted": ["CAP_KILL"]}),
    );
    container.set("/process/env", json!(["PATH=/bin", "NEW=1"]));
    container.ok(&["start", &container.id]);
    let exec = |container: &Container| {
        let text = container.exec("echo NEW=$NEW; grep CapEff /proc/self/status").stdout;
        assert_eq!(String::from_utf8(text).unwrap(), "NEW=\nCapEff:\t0000000000000000\n");
    };
    exec(&container);
    container.config = Value::Null;
    exec(&container);
}
