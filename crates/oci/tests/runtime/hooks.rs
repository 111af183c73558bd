//! What becomes of a container whose hooks fail or hang.

use std::fs;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::harness::{Container, Stranger, eventually};

/// A hook that runs a shell script of the host.
fn hook(script: &str, timeout: Option<u32>) -> Value {
    let mut hook = json!({"path": "/bin/busybox", "args": ["sh", "-c", script]});
    if let Some(seconds) = timeout {
        hook["timeout"] = json!(seconds);
    }
    hook
}

/// A container that sees the host's busybox, so that its hooks can run anywhere, and its bundle, so that they can leave traces.
fn container() -> Container {
    let container = Container::new(&["sleep", "1000"]);
    let bundle = container.bundle().display().to_string();
    container.mount(json!({"destination": bundle, "source": bundle, "options": ["bind"]}))
}

fn trace(container: &Container, text: &str) -> String {
    format!("echo {text} >> {}/trace", container.bundle().display())
}

fn traces(container: &Container) -> Vec<String> {
    let text = fs::read_to_string(container.bundle().join("trace")).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

#[test]
fn a_failure_before_the_program_destroys_the_container() {
    for kind in ["prestart", "createRuntime", "createContainer", "startContainer"] {
        let mut container = container();
        let script = format!("{}; echo because >&2; exit 3", trace(&container, kind));
        let hooks = json!({
            kind: [hook(&script, None), hook(&trace(&container, "never"), None)],
            "poststop": [hook("exit 1", None), hook(&trace(&container, "poststop"), None)]
        });
        container.set("/hooks", hooks);
        let bundle = container.bundle().display().to_string();
        let error = if kind == "startContainer" {
            container.create();
            container.fails(&["start", &container.id])
        } else {
            container.fails(&["create", "--bundle", &bundle, &container.id])
        };
        assert!(error.contains(&format!("{kind} hook /bin/busybox: exit status: 3: because")), "{error}");
        container.assert_nothing_left();
        assert_eq!(traces(&container), [kind, "poststop"], "the failed hook, then those for the end");
    }
}

#[test]
fn a_failure_after_the_start_ends_the_container() {
    for command in ["start", "run", "run --detach"] {
        let mut container = container();
        let failing = format!("{}; echo because >&2; exit 3", trace(&container, "poststart"));
        let hooks = json!({
            "poststart": [hook(&failing, None), hook(&trace(&container, "never"), None)],
            "poststop": [hook(&trace(&container, "poststop"), None)]
        });
        container.set("/hooks", hooks);
        let bundle = container.bundle().display().to_string();
        let mut args: Vec<&str> = command.split(' ').collect();
        if command == "start" {
            container.create();
        } else {
            args.extend(["--bundle", &bundle]);
        }
        args.push(&container.id);
        let error = container.fails(&args);
        assert!(error.contains("poststart hook /bin/busybox: exit status: 3: because"), "{command}: {error}");
        assert_eq!(traces(&container), ["poststart", "poststop"], "{command}");
        container.assert_nothing_left();
    }
}

#[test]
fn a_failure_after_the_end_is_a_warning() {
    let mut container = container();
    container.set("/hooks", json!({"poststop": [hook("exit 1", None), hook(&trace(&container, "poststop"), None)]}));
    container.create();
    let log = container.bundle().join("log").display().to_string();
    container.ok(&["--log", &log, "--log-format", "json", "delete", &container.id]);
    let line: Value = serde_json::from_str(fs::read_to_string(&log).unwrap().trim()).unwrap();
    assert_eq!(
        (&line["level"], &line["msg"]),
        (&json!("warning"), &json!("poststop hook /bin/busybox: exit status: 1"))
    );
    assert_eq!(traces(&container), ["poststop"]);
}

/// What a hook has started and a peer leaves running: killed in the end.
struct Rest(String);

impl Drop for Rest {
    fn drop(&mut self) {
        Command::new("/bin/busybox").args(["kill", "-KILL"]).args(running(&self.0)).stderr(Stdio::null()).status().ok();
    }
}

/// Processes of the host whose command line has this.
fn running(mark: &str) -> Vec<String> {
    let wanted = |entry: &fs::DirEntry| {
        let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).contains(mark)
    };
    let entries = fs::read_dir("/proc").unwrap().filter_map(Result::ok).filter(wanted);
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

#[test]
fn a_hook_that_hangs_is_killed_with_all_it_has_started() {
    for (index, kind) in ["prestart", "createContainer", "startContainer", "poststart"].into_iter().enumerate() {
        let mut container = container();
        // One in the group, one that has left its session, and one whose parent is gone as well.
        let time = format!("1{}{index}", std::process::id());
        let script = format!(
            "{}; sleep {time}1 & /bin/busybox setsid sleep {time}2 & (/bin/busybox setsid sh -c 'sleep {time}3 & sleep {time}4 &' &); sleep {time}5",
            trace(&container, kind)
        );
        container.set("/hooks", json!({kind: [hook(&script, Some(2))]}));
        let _rest = Rest(format!("sleep\0{time}"));
        let bundle = container.bundle().display().to_string();
        let log = container.bundle().join("log").display().to_string();
        let mut command = container.runtime();
        command.args(["--log", &log, "run", "--detach", "--bundle", &bundle, &container.id]);
        // The hook would take longer than this waits.
        let status = Stranger::start(command.stdout(Stdio::null()).stderr(Stdio::null())).wait();
        let error = fs::read_to_string(&log).unwrap();
        assert!(error.contains(&format!("{kind} hook /bin/busybox: did not end within its timeout of 2 s")), "{error}");
        assert!(!status.success(), "{kind}: {error}");
        assert_eq!(traces(&container), [kind]);
        eventually("all of the hook's processes are gone", || running(&format!("sleep\0{time}")).is_empty());
    }
}

#[test]
fn a_hook_may_leave_a_daemon_and_need_not_read() {
    let mut container = container();
    let time = format!("2{}", std::process::id());
    // The state is longer than a pipe takes.
    container.set("/annotations", json!({"long": "x".repeat(200_000)}));
    let script = format!("exec 0<&-; /bin/busybox setsid sleep {time} & true");
    container.set("/hooks", json!({"createRuntime": [hook(&script, Some(30))]}));
    let mark = Rest(format!("sleep\0{time}"));
    container.detach();
    assert_eq!(container.status(), "running");
    eventually("the daemon runs", || running(&mark.0).len() == 1);
}

#[test]
fn a_hook_before_the_program_has_the_programs_environment_unless_it_names_one() {
    let mut container = container();
    let script = |name: &str| format!("env > {}/{name}", container.bundle().display());
    let mut own = hook(&script("own"), None);
    own["env"] = json!(["TWO=2"]);
    let hooks = json!({"startContainer": [hook(&script("programs"), None), own]});
    container.set("/hooks", hooks);
    container.set("/process/env", json!(["PATH=/bin", "ONE=1"]));
    container.detach();
    let env = |name: &str| fs::read_to_string(container.bundle().join(name)).unwrap();
    assert!(env("programs").contains("ONE=1\n"), "{}", env("programs"));
    assert!(env("own").contains("TWO=2\n") && !env("own").contains("ONE=1"), "{}", env("own"));
}

#[test]
fn a_hook_has_the_state_and_its_own_environment() {
    let mut container = container();
    let script = format!("cat > {0}/told; env > {0}/env", container.bundle().display());
    let mut hook = hook(&script, None);
    hook["env"] = json!(["ONE=1", "PATH=/bin:/usr/bin"]);
    container.set("/hooks", json!({"createRuntime": [hook]}));
    container.set("/annotations", json!({"a": "b"}));
    container.create();
    let state: Value = serde_json::from_slice(&fs::read(container.bundle().join("told")).unwrap()).unwrap();
    let pid = container.state()["pid"].clone();
    let expected = json!({
        "ociVersion": container.state()["ociVersion"], "id": container.id, "status": "creating", "pid": pid, "bundle": container.bundle(),
        "annotations": {"a": "b"}
    });
    assert_eq!(state, expected);
    let env = fs::read_to_string(container.bundle().join("env")).unwrap();
    assert!(env.contains("ONE=1\n") && !env.contains("HOME=") && !env.contains("CARGO"), "{env}");
}

#[test]
fn hooks_of_the_host_begin_in_the_bundle() {
    let container = Container::new(&["true"]);
    let note = |kind: &str| json!([hook(&format!("echo {kind} >> noted"), None)]);
    let hooks = ["prestart", "createRuntime", "poststart"].map(|kind| (kind.to_owned(), note(kind)));
    let container = container.with("/hooks", Value::Object(hooks.into_iter().collect()));
    assert!(container.run().status.success());
    assert_eq!(fs::read_to_string(container.bundle().join("noted")).unwrap(), "prestart\ncreateRuntime\npoststart\n");
}
