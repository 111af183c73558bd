//! Containers that are not what they seem: the real shim and runtime must tell the truth about them, and keep nothing of them.

mod support;

use std::fs;
use std::process::Command;
use std::time::Duration;

use nix::sys::ptrace;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use podwright_proto::{ExecResult, Outcome};
use support::rootfs::{Rootfs, actor, runtime};
use support::{Agent, Sandbox, id};

/// Waits with what comes next until the runtime has left, whose child the container would be else.
const ONCE_ALONE: &str = "while [ ! -e /go ]; do sleep 0.02; done; exec ";

fn go(agent: &mut Agent, attempt: u32) {
    let (result, output) = agent.exec(u64::from(attempt), &id("app", attempt), &["sh", "-c", "echo >/go"], 10_000);
    assert_eq!(result, ExecResult::Exited { code: 0 }, "{output}");
}

#[test]
fn a_stop_that_a_process_makes_its_parent_see_is_no_end() {
    // The control: who asks for ends alone is told of the stop all the same.
    let mut child = Command::new(actor()).args(["traced", "sig=CHLD", "exit=5"]).spawn().unwrap();
    let pid = Pid::from_raw(child.id().cast_signed());
    let seen = waitpid(pid, Some(WaitPidFlag::__WALL)).unwrap();
    assert!(matches!(seen, WaitStatus::Stopped(..)), "{seen:?}");
    ptrace::detach(pid, None).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(5));

    let (sandbox, rootfs) = (Sandbox::new(), Rootfs::new());
    let (mut agent, _) = sandbox.connect();
    for (attempt, (command, outcome)) in [
        ("act traced sig=CHLD exit=5", Outcome::Exited { code: 5 }),
        // The first process of a PID namespace is not stopped by its own signals.
        ("act traced sig=STOP exit=6", Outcome::Exited { code: 6 }),
        ("act traced sig=TRAP exit=7", Outcome::Exited { code: 7 }),
    ]
    .into_iter()
    .enumerate()
    {
        let attempt = u32::try_from(attempt).unwrap();
        let script = format!("{ONCE_ALONE}{command}");
        agent.start(rootfs.request(&sandbox, "app", attempt, &["sh", "-c", &script]));
        go(&mut agent, attempt);
        assert_eq!(agent.end(&id("app", attempt)), outcome, "{command}");
        assert!(sandbox.log("app", attempt).last().unwrap().ends_with(" bye"), "{command}");
    }
    agent.start(rootfs.request(&sandbox, "app", 9, &["sleep", "100"]));
    let app = id("app", 9);
    let mut run = |seq: u64, signal: &str| agent.exec(seq, &app, &["act", "traced", signal, "exit=8"], 1000).0;
    assert_eq!(run(20, "sig=CONT"), ExecResult::Exited { code: 8 });
    assert_eq!(run(21, "sig=TERM"), ExecResult::Exited { code: 128 + 15 }, "another signal does what it does");
    assert_eq!(run(22, "sig=STOP"), ExecResult::Exited { code: 8 });
    assert_eq!(sandbox.cgroup.child("app").procs().unwrap().len(), 1, "no command is left");
    sandbox.shut_down();
}

/// The same in the foreground, where the runtime itself is the parent.
#[test]
fn a_stop_that_a_process_makes_its_runtime_see_is_no_end() {
    let (sandbox, rootfs) = (Sandbox::new(), Rootfs::new());
    for (number, (signal, status)) in [("sig=CHLD", 5), ("sig=STOP", 5), ("sig=WINCH", 5)].into_iter().enumerate() {
        let mut config = rootfs.request(&sandbox, "app", 0, &["act", "traced", signal, "exit=5"]).config;
        config["root"]["path"] = rootfs.path("").to_str().unwrap().into();
        let bundle = sandbox.path(&format!("bundle-{number}"));
        fs::create_dir(&bundle).unwrap();
        fs::write(bundle.join("config.json"), config.to_string()).unwrap();
        let mut command = Command::new(runtime());
        command.arg("--root").arg(sandbox.path("state")).args(["run", "--bundle"]).arg(&bundle).arg("traced");
        let mut run = command.spawn().unwrap();
        let mut ended = None;
        support::until("it ends", || {
            ended = run.try_wait().unwrap();
            ended.is_some()
        });
        assert_eq!(ended.unwrap().code(), Some(status), "{signal}");
    }
}

/// 14 bytes and a character of two: the kernel calls the process by 15 bytes.
const CUT: &str = "/bin/busybox-aaaaaa\u{fc}";

#[test]
fn a_program_whose_name_is_no_text_runs_and_is_killed_as_any_other() {
    let (sandbox, rootfs) = (Sandbox::new(), Rootfs::new());
    fs::copy(rootfs.path("bin/busybox"), rootfs.path(CUT)).unwrap();
    let (mut agent, _) = sandbox.connect();
    let mut request = rootfs.request(&sandbox, "app", 0, &[CUT, "sleep", "100"]);
    // So that its commands go through the runtime.
    for set in ["bounding", "permitted", "effective"] {
        request.config["process"]["capabilities"][set] = serde_json::json!(["CAP_KILL", "CAP_SYS_PTRACE"]);
    }
    let record = agent.start(request);
    let comm = fs::read(format!("/proc/{}/comm", record.pid.unwrap())).unwrap();
    assert!(str::from_utf8(&comm).is_err(), "the control: it is called {:?}", String::from_utf8_lossy(&comm));
    assert!(record.exit.is_none() && record.pid_start.is_some(), "{record:?}");
    let left = || sandbox.cgroup.child("app").procs().unwrap().len();
    assert_eq!(left(), 1);
    let run = [CUT, "sh", "-c", "busybox-aaaaaa\u{fc} sleep 100 & wait"];
    assert_eq!(agent.exec(1, &id("app", 0), &run, 500).0, ExecResult::TimedOut);
    support::until("nothing of it is left", || left() == 1);
    assert_eq!(agent.exec(2, &id("app", 0), &[CUT, "sh", "-c", "exit 3"], 10_000).0, ExecResult::Exited { code: 3 });
    sandbox.shut_down();
}

#[test]
fn commands_that_time_out_leave_no_cgroups() {
    let (sandbox, rootfs) = (Sandbox::new(), Rootfs::new());
    let (mut agent, _) = sandbox.connect();
    agent.start(rootfs.request(&sandbox, "app", 0, &["sleep", "100"]));
    let app = id("app", 0);
    let cgroups = || {
        let entries = fs::read_dir(sandbox.cgroup.child("app").path()).unwrap().flatten();
        entries.filter(|entry| entry.file_type().unwrap().is_dir()).count()
    };
    for seq in 0..6 {
        assert_eq!(agent.exec(seq, &app, &["sleep", "100"], 100).0, ExecResult::TimedOut);
        let procs = || sandbox.cgroup.child("app").child("_exec0").procs().unwrap();
        support::until("it is gone", || procs().is_empty());
        // The control: the next one runs in a cgroup where all was killed, and is not.
        assert_eq!(agent.exec(seq + 100, &app, &["true"], 10_000).0, ExecResult::Exited { code: 0 });
    }
    assert_eq!(cgroups(), 1);
    // The control: one that leaves something running keeps its own, for as long as that runs.
    assert_eq!(agent.exec(7, &app, &["sh", "-c", "sleep 1 &"], 10_000).0, ExecResult::Exited { code: 0 });
    assert_eq!(agent.exec(8, &app, &["true"], 10_000).0, ExecResult::Exited { code: 0 });
    assert_eq!(cgroups(), 2);
    std::thread::sleep(Duration::from_millis(1500));
    assert_eq!(agent.exec(9, &app, &["true"], 10_000).0, ExecResult::Exited { code: 0 });
    assert_eq!(cgroups(), 2);
    sandbox.shut_down();
}
