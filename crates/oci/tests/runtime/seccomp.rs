//! Filters: errnos, alternatives, and the listener.

use std::fs;
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::thread::JoinHandle;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use podwright_sys::fdpass;
use serde_json::{Value, json};

use crate::harness::{Container, eventually};

/// Receives one listener, keeps it for a while and closes it: what waits for an answer then fails with ENOSYS.
struct Agent {
    dir: tempfile::TempDir,
    path: PathBuf,
    thread: JoinHandle<(Value, String)>,
}

impl Agent {
    fn new() -> Self {
        Self::within(tempfile::tempdir().unwrap())
    }

    fn within(dir: tempfile::TempDir) -> Self {
        let path = dir.path().join("agent.sock");
        let socket = UnixListener::bind(&path).unwrap();
        let thread = std::thread::spawn(move || {
            // A runtime that never comes must not be waited for.
            let mut ready = [PollFd::new(socket.as_fd(), PollFlags::POLLIN)];
            assert_eq!(poll(&mut ready, PollTimeout::from(60_000_u16)), Ok(1), "nobody brings a listener");
            let (stream, _) = socket.accept().unwrap();
            stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
            let (text, fds) = fdpass::receive(&stream, 64 << 10).unwrap();
            assert_eq!(fds.len(), 1);
            let name = fs::read_link(podwright_sys::mount::proc_path(&fds[0])).unwrap();
            let (rest, _) = fdpass::receive(&stream, 1).unwrap();
            assert_eq!(rest, b"", "one message, then the connection is closed");
            std::thread::sleep(Duration::from_millis(100));
            drop(fds);
            (serde_json::from_slice(&text).unwrap(), name.display().to_string())
        });
        Self { dir, path, thread }
    }

    fn received(self) -> Value {
        let (message, name) = self.thread.join().unwrap();
        assert_eq!(name, "anon_inode:seccomp notify");
        message
    }

    /// Once it has received one, another one in its place.
    fn followed(self) -> Self {
        self.thread.join().unwrap();
        fs::remove_file(&self.path).unwrap();
        Self::within(self.dir)
    }
}

fn profile(path: &PathBuf) -> Value {
    json!({
        "defaultAction": "SCMP_ACT_ALLOW", "listenerPath": path, "listenerMetadata": "told",
        "flags": ["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"],
        // Those that a process could send its listener with are among them.
        "syscalls": [{"names": ["mkdir", "mkdirat", "sendmsg", "futex", "munmap"], "action": "SCMP_ACT_NOTIFY"}]
    })
}

#[test]
fn the_agent_gets_the_listener_of_every_process() {
    for no_new_privileges in [true, false] {
        let agent = Agent::new();
        let container = Container::script("mkdir /d; sleep 1000")
            .with("/process/noNewPrivileges", json!(no_new_privileges))
            .with("/linux/seccomp", profile(&agent.path))
            .with("/annotations", json!({"k": "v"}));
        container.detach();
        let pid = container.state()["pid"].clone();
        let message = agent.received();
        assert_eq!((&message["fds"], &message["metadata"]), (&json!(["seccompFd"]), &json!("told")));
        assert_eq!((&message["pid"], &message["state"]["pid"]), (&pid, &pid));
        let state = &message["state"];
        assert_eq!((&state["id"], &state["annotations"]["k"]), (&json!(container.id), &json!("v")));
        assert_eq!(state["status"], "creating");
    }
}

/// Nothing between `create` and the program's first call is for the agent to answer, and this one does not.
#[test]
fn create_hands_the_listener_over_and_the_container_can_wait() {
    for no_new_privileges in [true, false] {
        let agent = Agent::new();
        let mut seccomp = profile(&agent.path);
        seccomp["syscalls"][0]["names"] = json!([
            "mkdir",
            "mkdirat",
            "read",
            "write",
            "accept",
            "accept4",
            "recvfrom",
            "sendto",
            "recvmsg",
            "sendmsg",
            "poll",
            "ppoll",
            "munmap",
            "setresuid",
            "setresgid",
            "setgroups",
            "prlimit64",
            "close_range",
            "setsid",
            "chdir",
            "fchdir"
        ]);
        let container = Container::script("if mkdir /d; then touch /made; else touch /refused; fi; sleep 1000")
            .with("/process/noNewPrivileges", json!(no_new_privileges))
            .with("/process/rlimits", json!([{"type": "RLIMIT_CORE", "soft": 0, "hard": 0}]))
            .with("/linux/seccomp", seccomp);
        container.create();
        let message = agent.received();
        let pid = container.state()["pid"].clone();
        assert_eq!((&message["pid"], &message["state"]["pid"]), (&pid, &pid));
        assert_eq!((&message["fds"], &message["metadata"]), (&json!(["seccompFd"]), &json!("told")));
        assert_eq!(message["state"]["status"], "creating");
        assert_eq!(container.status(), "created");
        container.ok(&["start", &container.id]);
        eventually("the program is under the filter", || container.rootfs().join("refused").exists());
        assert_eq!(container.state()["pid"], pid);

        let agent = Agent::new();
        let container = Container::new(&["sleep", "1000"])
            .with("/process/noNewPrivileges", json!(no_new_privileges))
            .with("/linux/seccomp", profile(&agent.path));
        container.detach();
        let agent = agent.followed();
        let output = container.exec("mkdir /d");
        assert!(String::from_utf8_lossy(&output.stderr).contains("Function not implemented"), "{output:?}");
        let message = agent.received();
        assert_eq!(message["state"]["status"], "running");
        assert_ne!(message["pid"], message["state"]["pid"]);
    }
}

#[test]
fn a_container_that_is_never_started_goes_with_its_filter() {
    let agent = Agent::new();
    let mut seccomp = profile(&agent.path);
    seccomp["syscalls"][0]["names"] = json!(["mkdir", "exit", "exit_group"]);
    let container = Container::new(&["sleep", "1000"]).with("/linux/seccomp", seccomp);
    container.create();
    agent.received();
    container.ok(&["delete", "--force", &container.id]);
    container.assert_nothing_left();
}

#[test]
fn a_filter_that_forbids_to_wait_is_loaded_by_start() {
    let agent = Agent::new();
    // It notifies about futex.
    let container = Container::new(&["sleep", "1000"]).with("/linux/seccomp", profile(&agent.path));
    container.create();
    container.ok(&["start", &container.id]);
    assert_eq!(agent.received()["state"]["status"], "created");
}

#[test]
fn a_hook_before_the_program_is_not_under_its_filter() {
    let agent = Agent::new();
    let mut seccomp = profile(&agent.path);
    seccomp["syscalls"][0]["names"] = json!(["mkdir", "mkdirat"]);
    let hook = json!({"path": "/bin/sh", "args": ["sh", "-c", "mkdir /hook && chmod 700 /hook && id -u > /hook/uid"]});
    let container = Container::new(&["sleep", "1000"])
        .with("/process/user", json!({"uid": 4711, "gid": 4711}))
        .with("/hooks", json!({"startContainer": [hook]}))
        .with("/linux/seccomp", seccomp);
    container.create();
    agent.received();
    container.ok(&["start", &container.id]);
    assert_eq!(fs::read_to_string(container.rootfs().join("hook/uid")).unwrap(), "0\n");
}

#[test]
fn no_listener_is_left_to_the_program() {
    let agent = Agent::new();
    let container = Container::new(&["ls", "-l", "/proc/self/fd"]).with("/linux/seccomp", profile(&agent.path));
    let text = container.stdout();
    assert!(!text.contains("seccomp"), "{text}");
    agent.received();
}

#[test]
fn an_agent_that_is_not_there_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("agent.sock");
    let error = Container::new(&["true"]).with("/linux/seccomp", profile(&path)).refused();
    assert!(
        error.contains("linux.seccomp.listenerPath: ") && error.contains("agent.sock: No such file or directory"),
        "{error}"
    );
    fs::write(&path, "").unwrap();
    let error = Container::new(&["true"]).with("/linux/seccomp", profile(&path)).refused();
    assert!(error.contains("agent.sock: is no socket"), "{error}");
    fs::remove_file(&path).unwrap();
    drop(UnixListener::bind(&path).unwrap());
    let error = Container::new(&["true"]).with("/linux/seccomp", profile(&path)).refused();
    assert!(error.contains("Connection refused"), "{error}");
    let mut metadata = profile(&path);
    metadata.as_object_mut().unwrap().remove("listenerPath");
    let error = Container::new(&["true"]).with("/linux/seccomp", metadata).refused();
    assert!(error.contains("linux.seccomp.listenerMetadata: goes with listenerPath"), "{error}");
}

#[test]
fn every_action_is_taken() {
    let run = |action: &str, more: Value| {
        let mut rule = json!({"names": ["mkdir"], "action": action});
        rule.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let seccomp = json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]});
        let output = Container::script("mkdir /d; echo $?").with("/linux/seccomp", seccomp).run();
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    // 159: SIGSYS.
    for (action, status) in [
        ("SCMP_ACT_KILL", "159"),
        ("SCMP_ACT_KILL_THREAD", "159"),
        ("SCMP_ACT_KILL_PROCESS", "159"),
        ("SCMP_ACT_TRAP", "159"),
        ("SCMP_ACT_LOG", "0"),
        ("SCMP_ACT_ALLOW", "0"),
        ("SCMP_ACT_TRACE", "1"),
        ("SCMP_ACT_ERRNO", "1"),
    ] {
        assert_eq!(run(action, json!({})), status, "{action}");
    }
    assert_eq!(run("SCMP_ACT_ERRNO", json!({"errnoRet": 0})), "0", "no error: the call is left out");
}

#[test]
fn conditions_on_one_argument_are_alternatives() {
    // The signal is the second argument.
    let arg = |value: u32| json!({"index": 1, "value": value, "op": "SCMP_CMP_EQ"});
    let rule = json!({"names": ["kill"], "action": "SCMP_ACT_ERRNO", "args": [arg(10), arg(12)]});
    let container = Container::script(
        "trap '' USR1 USR2; kill -USR1 $$ || echo one; kill -USR2 $$ || echo two; kill -0 $$ && echo free",
    )
    .with("/linux/seccomp", json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]}));
    assert_eq!(container.stdout(), "one\ntwo\nfree\n");
}
