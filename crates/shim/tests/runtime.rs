//! The real shim with the real runtime, `podwright-oci` or the one that PODWRIGHT_OCI names, and busybox in containers.

mod support;

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use podwright_proto::{ExecResult, Outcome, Request, StartStage};
use serde_json::json;
use support::rootfs::{Rootfs, runtime};
use support::{Sandbox, id};

#[test]
fn a_container_runs_in_the_sandbox_and_leaves_nothing() {
    let (sandbox, rootfs) = (Sandbox::new(), Rootfs::new());
    let (mut agent, _) = sandbox.connect();
    let script = "hostname; echo $$; readlink /proc/self/ns/net; echo x > /file; sleep 0.2; echo bye >&2; exit 7";
    let record = agent.start(rootfs.request(&sandbox, "app", 0, &["sh", "-c", script]));
    assert!(record.exit.is_none(), "{record:?}");
    let pid = record.pid.unwrap();
    assert_eq!(sandbox.cgroup.child("app").procs().unwrap()[0], pid);
    let netns = fs::read_link(format!("/proc/{}/ns/net", sandbox.pid())).unwrap();
    assert_eq!(agent.end(&id("app", 0)), Outcome::Exited { code: 7 });
    let netns = format!("stdout F {}", netns.display());
    assert_eq!(sandbox.log("app", 0), ["stdout F test-host", "stdout F 1", &netns, "stderr F bye"]);
    support::until("the layer is removed", || !rootfs.base().join("layers/app-0").exists());
    assert!(!rootfs.base().join("rootfs/file").exists());
    let kept = fs::read_dir(sandbox.path("run/runtime")).map_or(0, |entries| {
        entries.flatten().filter(|entry| entry.file_name().to_str().unwrap().starts_with("1234-")).count()
    });
    assert_eq!(kept, 0, "the runtime's state is left");
    sandbox.shut_down();
}

#[test]
fn exits_signals_and_kills() {
    let (sandbox, rootfs) = (Sandbox::new(), Rootfs::new());
    let (mut agent, _) = sandbox.connect();
    let mut run = |attempt: u32, script: &str, request: fn(u32) -> Option<Request>| {
        let record = agent.start(rootfs.request(&sandbox, "app", attempt, &["sh", "-c", script]));
        assert!(record.started.is_some(), "{record:?}");
        if let Some(request) = request(attempt) {
            support::until("its handlers stand", || sandbox.log("app", attempt).len() == 1);
            agent.send(&request);
        }
        agent.end(&id("app", attempt))
    };
    let term = |attempt| Some(Request::Signal { id: id("app", attempt), signal: 15, cause: None });
    let kill = |attempt| Some(Request::Kill { id: id("app", attempt), cause: None });
    assert_eq!(run(0, "true", |_| None), Outcome::Exited { code: 0 });
    let handler = "trap 'exit 5' TERM; echo up; while :; do sleep 0.05; done";
    assert_eq!(run(1, handler, term), Outcome::Exited { code: 5 });
    assert_eq!(run(2, "trap : TERM; echo up; sleep 100 & sleep 100", kill), Outcome::Signaled { signal: 9 });
    sandbox.shut_down();
}

/// Arguments that have escapes in JSON only, as many bytes as execve takes, and then more.
#[test]
fn as_much_as_execve_takes_is_started_and_more_fails_at_once_beside_siblings() {
    let (sandbox, rootfs) = (Sandbox::new(), Rootfs::new());
    let (mut agent, _) = sandbox.connect();
    let sibling = agent.start(rootfs.request(&sandbox, "sibling", 0, &["sleep", "100"]));
    let long = "\u{1}".repeat(131_000);
    let of = |count: usize| [vec!["true"], vec![long.as_str(); count]].concat();
    let request = rootfs.request(&sandbox, "app", 0, &of(15));
    assert!(serde_json::to_vec(&request).unwrap().len() > 11 << 20);
    agent.send(&Request::Start(Box::new(request)));
    assert_eq!(agent.end(&id("app", 0)), Outcome::Exited { code: 0 });
    let (result, output) = agent.exec(1, &id("sibling", 0), &of(15), 20_000);
    assert_eq!((result, output), (ExecResult::Exited { code: 0 }, String::new()));
    agent.send(&Request::Start(Box::new(rootfs.request(&sandbox, "app", 1, &of(17)))));
    let Outcome::StartFailed { stage, message } = agent.end(&id("app", 1)) else { panic!("it was started") };
    assert!(stage == StartStage::Runtime && message.contains("Argument list too long"), "{stage:?} {message}");
    let (_, state) = sandbox.connect();
    let found = state.iter().find(|record| record.id == sibling.id).unwrap();
    assert_eq!((found.pid, &found.exit), (sibling.pid, &None));
    sandbox.shut_down();
}

#[test]
fn a_command_that_is_not_there_is_a_failed_start() {
    let (sandbox, rootfs) = (Sandbox::new(), Rootfs::new());
    let (mut agent, _) = sandbox.connect();
    agent.send(&Request::Start(Box::new(rootfs.request(&sandbox, "app", 0, &["/bin/missing"]))));
    let Outcome::StartFailed { stage, message } = agent.end(&id("app", 0)) else { panic!("it was started") };
    assert_eq!(stage, StartStage::Runtime);
    assert!(message.contains("/bin/missing"), "{message}");
    sandbox.shut_down();
}

#[test]
fn commands_run_in_the_container() {
    let (sandbox, rootfs) = (Sandbox::new(), Rootfs::new());
    let (mut agent, _) = sandbox.connect();
    let app = id("app", 0);
    agent.start(rootfs.request(&sandbox, "app", 0, &["sh", "-c", "echo inside > /file; exec sleep 100"]));
    let exited = |code| ExecResult::Exited { code };
    let mut run = |seq: u64, script: &str, timeout: u64| agent.exec(seq, &app, &["sh", "-c", script], timeout);
    let found = run(1, "until cat /file; do sleep 0.05; done 2>/dev/null; exit 4", 20_000);
    assert_eq!(found, (exited(4), "inside\n".into()));
    let began = Instant::now();
    assert_eq!(run(2, "echo begun; (sleep 77 &); sleep 78", 500), (ExecResult::TimedOut, "begun\n".into()));
    assert!(began.elapsed() < Duration::from_secs(5));
    support::until("only the container's own process is left", || {
        sandbox.cgroup.child("app").procs().unwrap().len() == 1
    });
    assert!(matches!(agent.exec(3, &app, &["/bin/missing"], 10_000).0, ExecResult::Error { .. }));
    sandbox.shut_down();
}

#[test]
fn the_agents_death_changes_nothing_for_real_containers() {
    let (sandbox, rootfs) = (Sandbox::new(), Rootfs::new());
    let (mut agent, _) = sandbox.connect();
    for (container, script) in [("stays", "exec sleep 100"), ("leaves", "sleep 0.3; exit 42"), ("dies", "kill -9 $$")] {
        // As process 1 of its pid namespace a shell cannot kill itself; its child can be killed.
        let script = if container == "dies" { "sh -c 'kill -9 $$'; exit $?" } else { script };
        agent.send(&Request::Start(Box::new(rootfs.request(&sandbox, container, 0, &["sh", "-c", script]))));
    }
    agent.wait(&id("stays", 0), |record| record.started.is_some());
    drop(agent);
    support::until("the exits are recorded", || {
        let record = |name: &str| {
            sandbox.path(&format!("records/{name}/0.json")).exists() && sandbox.record(name, 0).exit.is_some()
        };
        record("leaves") && record("dies")
    });
    let (_, state) = sandbox.connect();
    let outcome = |n: usize| state[n].exit.as_ref().map(|exit| exit.outcome.clone());
    let codes = [None, Some(Outcome::Exited { code: 42 }), Some(Outcome::Exited { code: 137 })];
    assert_eq!([outcome(0), outcome(1), outcome(2)], codes);
    assert!(Path::new(&format!("/proc/{}", state[0].pid.unwrap())).exists());
    sandbox.shut_down();
}

/// All that a process shows of what it was given. What differs between any two processes is left out.
const SHOW: &str = "for f in status limits; do echo $f:; cat /proc/self/$f; done; echo oom: $(cat /proc/self/oom_score_adj); \
    echo cwd: $(readlink /proc/self/cwd); echo stdin: $(readlink /proc/self/fd/0); echo fds: $(ls /proc/self/fd); env; \
    set -- $(cat /proc/$$/stat); echo leads its session: $(($6 == $$)), without a terminal: $7; which tool";

fn shown(text: &str) -> Vec<&str> {
    let differs = [
        "Name:",
        "Pid:",
        "PPid:",
        "Tgid:",
        "Ngid:",
        "NSpid:",
        "NStgid:",
        "NSpgid:",
        "NSsid:",
        "Vm",
        "Rss",
        "Huge",
        "Threads:",
        "voluntary_",
        "nonvoluntary_",
        "State:",
        "SigQ:",
        "FDSize:",
        "TracerPid:",
        "x86_",
        "Core",
        "THP_",
        "Kthread",
    ];
    let mut lines: Vec<&str> =
        text.lines().filter(|line| !differs.iter().any(|prefix| line.starts_with(prefix))).collect();
    lines.sort_unstable();
    lines
}

/// Probes and hooks come in through the shim, everybody else through the runtime.
#[test]
fn a_command_is_given_the_same_whichever_way_it_comes_in() {
    let (sandbox, rootfs) = (Sandbox::new(), Rootfs::new());
    let (mut agent, _) = sandbox.connect();
    let files = rootfs.base().join("rootfs");
    for directory in ["first", "last", "home", "etc"] {
        fs::create_dir(files.join(directory)).unwrap();
    }
    for directory in ["first", "last"] {
        std::os::unix::fs::symlink("/bin/busybox", files.join(directory).join("tool")).unwrap();
    }
    fs::write(files.join("etc/passwd"), "root:x:0:0::/root:/bin/sh\nuser:x:1000:1000::/home:/bin/sh\n").unwrap();
    let filter =
        json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mount"], "action": "SCMP_ACT_ERRNO"}]});
    let plain = rootfs.request(&sandbox, "plain", 0, &["sleep", "100"]);
    let mut changed = rootfs.request(&sandbox, "changed", 0, &["sleep", "100"]);
    changed.config["process"]["user"] = json!({"uid": 1000, "gid": 7, "additionalGids": [8, 9], "umask": 0o27});
    changed.config["process"]["rlimits"] = json!([{"type": "RLIMIT_NOFILE", "soft": 100, "hard": 200}]);
    changed.config["process"]["oomScoreAdj"] = json!(500);
    changed.config["process"]["cwd"] = json!("/tmp");
    changed.config["process"]["ioPriority"] = json!({"class": "IOPRIO_CLASS_BE", "priority": 6});
    changed.config["process"]["env"] = json!(["PATH=/first:/bin", "A=b c", "PATH=/last:/bin"]);
    changed.config["linux"]["seccomp"] = filter.clone();
    let mut privileged = rootfs.request(&sandbox, "privileged", 0, &["sleep", "100"]);
    let sets = json!(["CAP_KILL", "CAP_NET_ADMIN", "CAP_SYS_ADMIN"]);
    privileged.config["process"]["capabilities"] =
        json!({"bounding": sets, "permitted": sets, "effective": sets, "inheritable": sets, "ambient": ["CAP_KILL"]});
    privileged.config["process"]["noNewPrivileges"] = json!(false);
    privileged.config["linux"]["seccomp"] = filter;

    let mut all = Vec::new();
    for (seq, request) in (0..).zip([plain, changed, privileged]) {
        let name = request.id.container.clone();
        agent.start(request);
        let (result, by_shim) = agent.exec(seq, &id(&name, 0), &["sh", "-c", SHOW], 20_000);
        assert_eq!(result, ExecResult::Exited { code: if name == "changed" { 0 } else { 1 } }, "{by_shim}");
        let root = sandbox.path("run/runtime");
        let container = fs::read_dir(&root).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let container = container.into_iter().find(|id| id.contains(&format!("-{name}-"))).unwrap();
        let by_runtime = Command::new(runtime())
            .args(["--root", root.to_str().unwrap(), "exec", &container, "sh", "-c", SHOW])
            .stdin(std::process::Stdio::null())
            .output()
            .unwrap();
        let by_runtime = String::from_utf8(by_runtime.stdout).unwrap();
        assert_eq!(shown(&by_shim), shown(&by_runtime), "{name}");
        all.push(by_shim);
    }
    // What is compared is there.
    for line in ["Umask:\t0027", "oom: 500", "cwd: /tmp", "HOME=/home", "Groups:\t8 9 ", "Seccomp:\t2", "/last/tool"] {
        assert!(all[1].lines().any(|found| found == line), "no {line:?} in {}", all[1]);
    }
    assert_ne!(shown(&all[0]), shown(&all[1]));
    assert_ne!(shown(&all[0]), shown(&all[2]));
    sandbox.shut_down();
}

/// CVE-2016-9962, by a container that looks into every process that it sees; `tests/cases/hostile.yaml` has the others. Commands of one that
/// may trace come in through the runtime, those of any other through the shim. The control comes in as a runtime would that does not
/// look to its descriptors.
#[test]
fn what_enters_a_container_is_no_way_out() {
    let tracing = json!(["CAP_KILL", "CAP_SYS_PTRACE"]);
    for sets in [json!(["CAP_KILL"]), tracing.clone()] {
        let (sandbox, rootfs) = (Sandbox::new(), Rootfs::new());
        let (mut agent, _) = sandbox.connect();
        let app = id("app", 0);
        fs::create_dir(rootfs.base().join("rootfs/slow")).unwrap();
        let script = "act spy slow=/slow && exec act spy for=inf";
        let spy = |attempt, sets: &serde_json::Value| {
            let mut request = rootfs.request(&sandbox, "app", attempt, &["sh", "-c", script]);
            request.config["process"]["capabilities"] = json!({"bounding": sets, "permitted": sets, "effective": sets});
            request
        };
        agent.start(spy(0, &sets));
        support::until("it looks", || sandbox.log("app", 0).iter().any(|line| line.contains("started")));
        // Each look takes as long as a lookup, so that some of those who come in are missed: as many come as it takes.
        let tries = &mut (0..);
        support::until("it saw enough of them", || {
            let found = agent.exec(tries.next().unwrap(), &app, &["/slow/true"], 20_000);
            assert_eq!(found, (ExecResult::Exited { code: 0 }, String::new()));
            sandbox.log("app", 0).iter().filter(|line| line.contains("saw pid=")).count() >= 5
        });
        let end = |agent: &mut support::Agent, attempt: u32| {
            agent.send(&Request::Signal { id: id("app", attempt), signal: 15, cause: None });
            agent.end(&id("app", attempt))
        };
        assert_eq!(end(&mut agent, 0), Outcome::Exited { code: 0 }, "{:?}", sandbox.log("app", 0));

        let pid = agent.start(spy(1, &tracing)).pid.unwrap();
        support::until("it looks", || sandbox.log("app", 1).iter().any(|line| line.contains("started")));
        support::until("the way out is found", || {
            let entered = Command::new("bash")
                .args(["-c", &format!("exec 7</sys; exec nsenter --target {pid} --mount --pid /slow/true")])
                .status()
                .unwrap();
            assert!(entered.success());
            sandbox.log("app", 1).iter().any(|line| line.contains("reached"))
        });
        assert_eq!(end(&mut agent, 1), Outcome::Exited { code: 1 }, "{:?}", sandbox.log("app", 1));
        sandbox.shut_down();
    }
}
