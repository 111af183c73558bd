//! The real shim with a double of the runtime, so that every fault of a runtime can be had.

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use podwright_proto::{
    Cause, Event, Health, Origin, Outcome, PodMount, ReadyChange, Request, StartStage, UNSAID_LIMIT,
};
use podwright_shim::machine::MAX_LAUNCHES;
use podwright_sys::child::signal_child;
use support::{Sandbox, id, until};

const EXITED_0: Outcome = Outcome::Exited { code: 0 };
const KILLED: Outcome = Outcome::Signaled { signal: 9 };

#[test]
fn runs_logs_records_and_cleans() {
    let sandbox = Sandbox::new();
    let (mut agent, state) = sandbox.connect();
    assert_eq!(state, []);
    let running = agent.start(sandbox.fake("app", 0, "sleep 0.2; echo out; echo err >&2; printf end; exit 3"));
    assert!(running.pid.is_some() && running.pid_start.is_some() && running.exit.is_none());
    assert_eq!(agent.end(&id("app", 0)), Outcome::Exited { code: 3 });
    let record = sandbox.record("app", 0);
    assert_eq!(record.exit.as_ref().unwrap().outcome, Outcome::Exited { code: 3 });
    assert_eq!((record.pid, record.restart_delay_ms, record.sandbox), (running.pid, 10_000, 1));
    let mut log = sandbox.log("app", 0);
    log.sort();
    assert_eq!(log, ["stderr F err", "stdout F end", "stdout F out"]);
    until("the bundle is removed", || !sandbox.path("run/bundles/app").exists());
    assert_eq!(sandbox.calls(), ["run 1234-app-0", "delete 1234-app-0"]);
    assert!(!sandbox.cgroup.child("app").exists());
    sandbox.shut_down();
}

#[test]
fn an_instance_is_never_started_twice() {
    let sandbox = Sandbox::new();
    let (mut agent, _) = sandbox.connect();
    let running = agent.start(sandbox.fake("app", 0, "sleep 100"));
    assert_eq!(agent.start(sandbox.fake("app", 0, "sleep 100")), running);
    agent.send(&Request::Signal { id: id("app", 0), signal: 15, cause: None });
    assert_eq!(agent.end(&id("app", 0)), Outcome::Signaled { signal: 15 });
    assert_eq!(agent.start(sandbox.fake("app", 0, "true")).pid, running.pid);
    // A record of an earlier sandbox counts as well.
    fs::write(sandbox.path("records/app/7.json"), serde_json::to_vec(&running).unwrap()).unwrap();
    agent.send(&Request::Start(Box::new(sandbox.fake("app", 7, "true"))));
    assert_eq!(agent.wait(&id("app", 0), |_| true), running);
    assert_eq!(sandbox.calls().iter().filter(|call| call.starts_with("run")).count(), 1);
    sandbox.shut_down();
}

#[test]
fn a_new_attempt_waits_for_the_end_of_the_old_one() {
    let sandbox = Sandbox::new();
    let (mut agent, _) = sandbox.connect();
    let descriptors = || fs::read_dir(format!("/proc/{}/fd", sandbox.pid())).unwrap().count();
    let before = descriptors();
    for attempt in 0..12 {
        agent.send(&Request::Start(Box::new(sandbox.fake("app", attempt, &format!("exit {attempt}")))));
    }
    for attempt in 0..12 {
        let code = i32::try_from(attempt).unwrap();
        assert_eq!(agent.end(&id("app", attempt)), Outcome::Exited { code });
    }
    until("the last one is removed", || sandbox.calls().len() == 24);
    let calls: Vec<String> =
        (0..12).flat_map(|n| [format!("run 1234-app-{n}"), format!("delete 1234-app-{n}")]).collect();
    assert_eq!(sandbox.calls(), calls);
    until("all descriptors are closed", || descriptors() == before);
    // Memory is bounded: the oldest are on disk only.
    until("the oldest are forgotten", || sandbox.connect().1.len() == 8);
    assert_eq!(sandbox.connect().1[0].id, id("app", 4));
    sandbox.shut_down();
}

#[test]
fn an_exit_before_the_runtime_returns_keeps_its_code() {
    let sandbox = Sandbox::new();
    let (mut agent, _) = sandbox.connect();
    agent.send(&Request::Start(Box::new(sandbox.fake("app", 0, "EARLY exit 5"))));
    let record = agent.wait(&id("app", 0), |record| record.exit.is_some());
    assert_eq!(record.exit.unwrap().outcome, Outcome::Exited { code: 5 });
    assert!(record.started.is_some());
    sandbox.shut_down();
}

#[test]
fn a_failing_runtime_tells_its_reason() {
    let sandbox = Sandbox::new();
    let (mut agent, _) = sandbox.connect();
    let failed = |message: &str| Outcome::StartFailed { stage: StartStage::Runtime, message: message.to_owned() };
    agent.send(&Request::Start(Box::new(sandbox.fake("app", 0, "FAIL no such file: x"))));
    assert_eq!(agent.end(&id("app", 0)), failed("no such file: x"));
    let mut missing = sandbox.fake("app", 1, "true");
    missing.runtime = "/proc/nonexistent/runtime".into();
    agent.send(&Request::Start(Box::new(missing)));
    let message = "cannot start the runtime /proc/nonexistent/runtime: No such file or directory";
    assert_eq!(agent.end(&id("app", 1)), failed(message));
    assert_eq!(sandbox.calls(), ["run 1234-app-0", "delete 1234-app-0"]);
}

#[test]
fn a_mount_that_fails_is_a_failed_start() {
    let sandbox = Sandbox::new();
    let (mut agent, _) = sandbox.connect();
    let mut request = sandbox.fake("app", 0, "true");
    let lower = sandbox.path("missing");
    let (layer, target) = (sandbox.path("layer"), sandbox.path("target"));
    request.mounts = vec![PodMount::Overlay { lower: lower.clone(), layer, target }];
    agent.send(&Request::Start(Box::new(request)));
    let message = format!("cannot read the root file system {}: No such file or directory", lower.display());
    assert_eq!(agent.end(&id("app", 0)), Outcome::StartFailed { stage: StartStage::Prepare, message });
    assert_eq!(sandbox.calls(), [""; 0]);
    sandbox.shut_down();
}

#[test]
fn kill_reaches_an_instance_whose_runtime_has_not_returned() {
    let sandbox = Sandbox::new();
    let (mut agent, _) = sandbox.connect();
    agent.send(&Request::Start(Box::new(sandbox.fake("late", 0, "LATE sleep 100"))));
    // As many as are started together, so that the next one has to wait.
    for n in 1..MAX_LAUNCHES {
        agent.send(&Request::Start(Box::new(sandbox.fake(&format!("also-{n}"), 0, "LATE sleep 100"))));
    }
    agent.send(&Request::Start(Box::new(sandbox.fake("queued", 0, "sleep 100"))));
    until("the process runs", || sandbox.cgroup.child("late").populated().unwrap_or(false));
    agent.send(&Request::Kill { id: id("late", 0), cause: None });
    agent.send(&Request::Kill { id: id("queued", 0), cause: None });
    let message = "killed before it was started".to_owned();
    assert_eq!(agent.end(&id("queued", 0)), Outcome::StartFailed { stage: StartStage::Prepare, message });
    assert_eq!(agent.end(&id("late", 0)), KILLED);

    agent.send(&Request::Start(Box::new(sandbox.fake("hang", 0, "HANG sleep 100"))));
    until("the process runs", || sandbox.cgroup.child("hang").populated().unwrap_or(false));
    agent.send(&Request::Kill { id: id("hang", 0), cause: None });
    let Outcome::StartFailed { stage, message } = agent.end(&id("hang", 0)) else { panic!("it was started") };
    assert_eq!(stage, StartStage::Runtime);
    assert!(message.ends_with("was ended by signal 9"), "{message}");
    sandbox.shut_down();
}

#[test]
fn a_signal_that_comes_too_early_is_not_lost() {
    let sandbox = Sandbox::new();
    let (mut agent, _) = sandbox.connect();
    agent.send(&Request::Start(Box::new(sandbox.fake("app", 0, "LATE sleep 100"))));
    agent.send(&Request::Signal { id: id("app", 0), signal: 15, cause: None });
    let record = agent.wait(&id("app", 0), |record| record.exit.is_some());
    assert_eq!(record.exit.unwrap().outcome, Outcome::Signaled { signal: 15 });
    assert!(record.signaled.is_some() && record.started.is_some());
    sandbox.shut_down();
}

#[test]
fn the_agents_death_changes_nothing() {
    let sandbox = Sandbox::new();
    let (mut agent, _) = sandbox.connect();
    agent.send(&Request::Remember { memo: "verdicts".into(), health: BTreeMap::new() });
    let stays = agent.start(sandbox.fake("stays", 0, "sleep 100"));
    agent.start(sandbox.fake("leaves", 0, "sleep 0.3; exit 42"));
    agent.start(sandbox.fake("fails", 0, "sleep 0.3; kill -SEGV $$"));
    drop(agent);
    until("the exits are recorded", || ["leaves", "fails"].iter().all(|name| sandbox.record(name, 0).exit.is_some()));
    let mut agent = sandbox.dial();
    agent.send(&Request::Hello { version: 1, max_event: UNSAID_LIMIT });
    let Event::State { instances, memo, pid, sandbox: number, .. } = agent.receive() else { panic!() };
    assert_eq!((memo.as_deref(), pid, number), (Some("verdicts"), sandbox.pid(), 1));
    assert_eq!(instances[0], stays);
    let outcome = |n: usize| instances[n].exit.as_ref().unwrap().outcome.clone();
    assert_eq!((outcome(1), outcome(2)), (Outcome::Exited { code: 42 }, Outcome::Signaled { signal: 11 }));
    for (container, record) in [("stays", 0), ("leaves", 1), ("fails", 2)] {
        assert_eq!(sandbox.record(container, 0), instances[record]);
    }
    sandbox.shut_down();
}

#[test]
fn the_newest_connection_is_the_agent() {
    let sandbox = Sandbox::new();
    let (mut old, _) = sandbox.connect();
    let (mut new, _) = sandbox.connect();
    assert_eq!(old.try_receive(), None);
    new.start(sandbox.fake("app", 0, "true"));
    assert_eq!(new.end(&id("app", 0)), EXITED_0);
    sandbox.shut_down();
}

#[test]
fn an_agent_that_does_not_read_or_talks_nonsense_holds_up_nothing() {
    let sandbox = Sandbox::new();
    let (mut agent, _) = sandbox.connect();
    agent.start(sandbox.fake("app", 0, "sleep 1; exit 9"));
    let flood = "{\"type\":\"hello\",\"version\":1}\n".repeat(20_000);
    while agent.send_raw(flood.as_bytes()).is_ok() {}
    until("the exit is recorded", || sandbox.record("app", 0).exit.is_some());
    let (mut agent, state) = sandbox.connect();
    assert_eq!(state[0].exit.as_ref().unwrap().outcome, Outcome::Exited { code: 9 });
    agent.send_raw(b"nonsense\n").unwrap();
    agent.start(sandbox.fake("app", 1, "true"));
    let complaints = sandbox.complaints();
    assert!(complaints.contains("the agent does not read"), "{complaints}");
    assert!(complaints.contains("a request is not understood"), "{complaints}");
}

#[test]
fn only_shutdown_and_sigkill_end_a_shim() {
    let mut sandbox = Sandbox::new();
    let (mut agent, _) = sandbox.connect();
    agent.start(sandbox.fake("app", 0, "sleep 100"));
    for signal in [1, 2, 3, 15] {
        signal_child(sandbox.pid(), signal).unwrap();
    }
    let (mut agent, state) = sandbox.connect();
    assert!(state[0].exit.is_none());
    agent.send(&Request::Shutdown);
    assert_eq!(agent.end(&id("app", 0)), KILLED);
    assert!(sandbox.wait_shim().success());
    assert_eq!(sandbox.record("app", 0).exit.unwrap().outcome, KILLED);
    assert!(std::os::unix::net::UnixStream::connect(sandbox.path("run/shim.sock")).is_err());
}

#[test]
fn shutdown_ends_all_that_was_asked_for() {
    let sandbox = Sandbox::new();
    let (mut agent, _) = sandbox.connect();
    agent.start(sandbox.fake("stubborn", 0, "trap : TERM; sleep 100 & sleep 100"));
    agent.send(&Request::Start(Box::new(sandbox.fake("late", 0, "LATE sleep 100"))));
    agent.send(&Request::Start(Box::new(sandbox.fake("queued", 0, "sleep 100"))));
    drop(agent);
    until("the second one starts", || sandbox.calls().len() >= 2);
    sandbox.shut_down();
}

#[test]
fn what_a_container_leaves_running_ends_with_it() {
    let sandbox = Sandbox::new();
    let (mut agent, _) = sandbox.connect();
    let supervisor = sandbox.cgroup.child("_supervisor").path().display().to_string();
    // One leaves a daemon, the other one a process that moved out of the cgroup, both with the pipe in their hands.
    agent.start(sandbox.fake("daemon", 0, "setsid sleep 100 & echo bye"));
    assert_eq!(agent.end(&id("daemon", 0)), EXITED_0);
    let escape = format!("sh -c 'echo $$ > {supervisor}/cgroup.procs; exec sleep 100' & sleep 0.3; echo bye");
    agent.start(sandbox.fake("escape", 0, &escape));
    let began = Instant::now();
    assert_eq!(agent.end(&id("escape", 0)), EXITED_0);
    assert!(began.elapsed() < Duration::from_secs(3));
    assert_eq!(sandbox.log("daemon", 0), ["stdout F bye"]);
    assert_eq!(sandbox.log("escape", 0), ["stdout F bye"]);
}

#[test]
fn a_flood_starves_nobody_and_its_log_is_rotated() {
    let sandbox = Sandbox::new();
    let (mut agent, _) = sandbox.connect();
    let mut flood = sandbox.fake("flood", 0, "yes 0123456789012345678901234567890123456789");
    (flood.log_max_bytes, flood.log_max_files) = (1 << 20, 3);
    agent.start(flood);
    for attempt in 0..5 {
        let began = Instant::now();
        agent.start(sandbox.fake("app", attempt, "echo hello"));
        assert_eq!(agent.end(&id("app", attempt)), EXITED_0);
        assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
        assert_eq!(sandbox.log("app", attempt), ["stdout F hello"]);
    }
    agent.send(&Request::Kill { id: id("flood", 0), cause: None });
    assert_eq!(agent.end(&id("flood", 0)), KILLED);
    let files: Vec<_> = fs::read_dir(sandbox.path("logs/flood")).unwrap().map(|e| e.unwrap()).collect();
    assert_eq!(files.len(), 3);
    assert!(files.iter().all(|file| file.metadata().unwrap().len() <= 1 << 20));
    sandbox.shut_down();
}

#[test]
fn an_idle_shim_sleeps() {
    let sandbox = Sandbox::new();
    let (mut agent, _) = sandbox.connect();
    agent.start(sandbox.fake("app", 0, "sleep 100"));
    let switches = || {
        let status = fs::read_to_string(format!("/proc/{}/status", sandbox.pid())).unwrap();
        status.lines().find_map(|l| l.strip_prefix("voluntary_ctxt_switches:").map(|n| n.trim().to_owned())).unwrap()
    };
    // After a second of quiet it wakes once, to give memory back.
    std::thread::sleep(Duration::from_millis(1500));
    let before = switches();
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(switches(), before);
    sandbox.shut_down();
}

#[test]
fn a_sandbox_that_cannot_be_made_says_why() {
    let mut sandbox = Sandbox::with(|config| config.cgroup = config.cgroup.join("missing"));
    let Event::Failed { message } = sandbox.dial().receive() else { panic!() };
    assert!(message.starts_with("cannot enter the cgroup of the pod's supervisor: "), "{message}");
    assert_eq!(sandbox.wait_shim().code(), Some(1));
    assert!(sandbox.complaints().contains(&message));
}

#[test]
fn the_shim_is_the_sandbox() {
    let sandbox = Sandbox::new();
    let (mut agent, _) = sandbox.connect();
    let command = "hostname; readlink /proc/self/ns/net; cat /sys/class/net/lo/flags; wc -l < /proc/net/dev";
    agent.start(sandbox.fake("app", 0, command));
    assert_eq!(agent.end(&id("app", 0)), EXITED_0);
    let log = sandbox.log("app", 0);
    assert_eq!(log[0], "stdout F test-host");
    let own = fs::read_link("/proc/self/ns/net").unwrap();
    assert_ne!(log[1], format!("stdout F {}", own.display()));
    assert_eq!(log[3], "stdout F 3", "two header lines and the loopback device");
    sandbox.shut_down();
}

#[test]
fn mounts_live_in_the_sandbox_and_end_with_their_instance() {
    let sandbox = Sandbox::new();
    let (mut agent, _) = sandbox.connect();
    let path = |name: &str| sandbox.path(name);
    // The temporary directory may be on an overlay itself, which cannot carry another one.
    let base = "/dev/shm".to_owned() + sandbox.dir.path().to_str().unwrap();
    fs::create_dir_all(format!("{base}/lower/etc")).unwrap();
    fs::create_dir(path("volume")).unwrap();
    let mounts = vec![
        PodMount::Overlay {
            lower: format!("{base}/lower").into(),
            layer: format!("{base}/layer").into(),
            target: path("run/root"),
        },
        PodMount::Tmpfs { target: path("run/memory"), size: Some(1 << 20) },
        PodMount::Subpath { volume: path("volume"), path: "a/b".into(), target: path("run/sub") },
    ];
    for attempt in 0..2 {
        let command = format!(
            "cd {}; ls root/etc; echo x > root/etc/file; echo {attempt} >> memory/file; echo {attempt} >> sub/file; cat memory/file",
            path("run").display()
        );
        let mut request = sandbox.fake("app", attempt, &command);
        request.mounts.clone_from(&mounts);
        agent.start(request);
        assert_eq!(agent.end(&id("app", attempt)), EXITED_0);
    }
    // A fresh root each time; volumes stay.
    assert_eq!(sandbox.log("app", 0), ["stdout F 0"]);
    assert_eq!(sandbox.log("app", 1), ["stdout F 0", "stdout F 1"]);
    assert_eq!(fs::read_to_string(path("volume/a/b/file")).unwrap(), "0\n1\n");
    until("the instance is cleaned up", || sandbox.calls().len() == 4 && !path("run/bundles/app").exists());
    until("the layer is removed", || !fs::exists(format!("{base}/layer")).unwrap());
    assert_eq!(fs::read_dir(format!("{base}/lower/etc")).unwrap().count(), 0);
    assert!(!path("run/root").exists() && !path("run/sub").exists());
    let mounts = fs::read_to_string(format!("/proc/{}/mountinfo", sandbox.pid())).unwrap();
    let ours: Vec<&str> = mounts.lines().filter(|l| l.contains(sandbox.dir.path().to_str().unwrap())).collect();
    assert!(ours.len() == 1 && ours[0].contains("run/memory"), "{ours:?}");
    fs::remove_dir_all(&base).unwrap();
    sandbox.shut_down();
}

#[test]
fn a_dead_shim_takes_namespaces_and_mounts_with_it() {
    let mut sandbox = Sandbox::new();
    let (mut agent, _) = sandbox.connect();
    let mut request = sandbox.fake("app", 0, "exec sleep 100");
    request.mounts = vec![PodMount::Tmpfs { target: sandbox.path("run/memory"), size: None }];
    let pid = agent.start(request).pid.unwrap();
    signal_child(sandbox.pid(), 9).unwrap();
    sandbox.wait_shim();
    assert_eq!(agent.try_receive(), None);
    assert!(std::os::unix::net::UnixStream::connect(sandbox.path("run/shim.sock")).is_err());
    // The container still runs; the pod's cgroup is all that is needed to end it.
    assert!(sandbox.cgroup.populated().unwrap());
    sandbox.cgroup.kill().unwrap();
    assert!(sandbox.cgroup.wait_empty(support::PATIENCE).unwrap());
    until("the process is gone", || !fs::exists(format!("/proc/{pid}/root/")).unwrap_or(false));
    let held = |entry: fs::DirEntry| {
        let mounts = fs::read_to_string(entry.path().join("mountinfo")).unwrap_or_default();
        mounts.contains(sandbox.dir.path().to_str().unwrap())
    };
    until("no process sees the mount", || !fs::read_dir("/proc").unwrap().flatten().any(held));
    // Its record says that it ran; the agent completes it.
    assert!(sandbox.record("app", 0).exit.is_none());
}

/// Nothing but the record on disk is looked at: it is all that an agent has that was not there.
#[test]
fn the_ledger_tells_who_asked_how_it_fared_and_what_it_said() {
    let sandbox = Sandbox::new();
    let (mut agent, _) = sandbox.connect();
    let script = "i=0; while [ $i -lt 30 ]; do echo line $i; i=$((i+1)); done; trap 'echo leaving; exit 3' TERM; \
                  touch ready; while :; do sleep 0.05; done";
    let mut request =
        sandbox.fake("app", 0, &script.replace("touch ready", &format!("touch {}", sandbox.path("up").display())));
    let origin = Some(Origin { agent: "0.1.0".into(), image: "5f1c".into() });
    request.origin = origin.clone();
    let running = agent.start(request);
    until("it is up", || sandbox.path("up").exists());
    let health = Health { ready: vec![ReadyChange { at: running.requested, ready: true }], failures: Vec::new() };
    let fares = BTreeMap::from([("app".to_owned(), (0, health.clone())), ("other".to_owned(), (0, health.clone()))]);
    let before = fs::read(sandbox.path("records/app/0.json")).unwrap();
    agent.send(&Request::Remember { memo: "m".into(), health: fares });
    let cause = Cause { kind: "liveness-probe".into(), message: "HTTP status 500".into() };
    let (_, state) = sandbox.connect();
    assert_eq!(state[0].health, health);
    assert_eq!(fs::read(sandbox.path("records/app/0.json")).unwrap(), before, "health alone is no reason to write");
    let (mut agent, _) = sandbox.connect();
    agent.send(&Request::Signal { id: id("app", 0), signal: 15, cause: Some(cause.clone()) });
    agent.send(&Request::Kill { id: id("none", 0), cause: Some(cause.clone()) });
    assert_eq!(agent.end(&id("app", 0)), Outcome::Exited { code: 3 });
    let record = sandbox.record("app", 0);
    assert_eq!((record.cause, record.health, record.origin), (Some(cause), health, origin));
    let evidence = record.exit.unwrap().evidence.unwrap();
    let last: Vec<String> = (21..30).map(|n| format!("line {n}")).chain(["leaving".to_owned()]).collect();
    assert_eq!((evidence.tail, evidence.victim), (last, None));
    sandbox.shut_down();
}

#[test]
fn a_full_disk_under_its_own_log_does_not_end_it() {
    let full = fs::File::options().write(true).open("/dev/full").unwrap();
    let shim = Command::new(env!("CARGO_BIN_EXE_podwright-shim")).arg("/none").stderr(full).status();
    assert_eq!(shim.unwrap().code(), Some(1), "it says what is wrong, and leaves as it means to");
}

/// CPU time of a process so far, clock ticks.
fn ticks(pid: i32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap().split(' ').collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

/// A connection that cannot be taken stays in the queue of the socket.
#[test]
fn without_descriptors_a_shim_rests_and_answers_when_there_are_some() {
    let sandbox = Sandbox::new();
    let (mut agent, _) = sandbox.connect();
    let pid = agent.start(sandbox.fake("app", 0, "exec sleep 100")).pid.unwrap();
    let shim = sandbox.pid();
    let limit = |count: u32| {
        let count = format!("--nofile={count}:");
        assert!(Command::new("prlimit").args(["--pid", &shim.to_string(), &count]).status().unwrap().success());
    };
    let descriptors = || {
        let names = fs::read_dir(format!("/proc/{shim}/fd")).unwrap().map(|entry| entry.unwrap().file_name());
        names.map(|name| name.to_str().unwrap().parse().unwrap()).collect::<Vec<u32>>()
    };
    let connected = descriptors().len();
    drop(agent);
    until("the connection is closed", || descriptors().len() < connected);
    // No number below is free.
    limit((0..).find(|number| !descriptors().contains(number)).unwrap());
    let waiting = sandbox.dial();
    let (began, before) = (Instant::now(), ticks(shim));
    until("it tried more than once", || sandbox.complaints().lines().count() > 2);
    let (used, time) = (ticks(shim) - before, began.elapsed());
    assert!(used < 20 && time > Duration::from_millis(900), "{used} ticks in {time:?}");
    limit(1024);
    drop(waiting);
    let (_agent, state) = sandbox.connect();
    assert_eq!((state[0].pid, &state[0].exit), (Some(pid), &None));
    let complaint = "podwright-shim: cannot accept a connection: Too many open files";
    assert!(sandbox.complaints().lines().all(|line| line == complaint), "{}", sandbox.complaints());
    fs::write(sandbox.path("run/shim.log"), "").unwrap();
    sandbox.shut_down();
}
