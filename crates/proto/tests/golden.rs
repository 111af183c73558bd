//! Every message and file of the protocol's versions, as that version wrote it (here indented): today's code has to read
//! them all, and to write the newest ones exactly so. A difference means a new version, or a field with a default.
//!
//! New files are written with `PODWRIGHT_GOLDEN=write cargo test -p podwright-proto --test golden`; review them.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::fs;
use std::path::Path;

use podwright_proto::{
    Cause, CpuTime, Event, Evidence, ExecResult, Exit, Figures, Health, HookKind, HookRun, InstanceId, LogLoss,
    MAX_CHANGES, MAX_EVENT, MAX_REQUEST, MAX_TEXT, MemoryEvents, MessageRequest, OomLimit, Origin, Outcome, PodMount,
    Pressure, ProbeFailures, ReadyChange, Record, Request, SandboxConfig, Stamp, StartRequest, StartStage,
    UNSAID_LIMIT, Unsaved, VERSION, Victim,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;

fn check<T: Serialize + DeserializeOwned + PartialEq + Debug>(name: &str, value: &T) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/golden/v{VERSION}/{name}.json"));
    let text = serde_json::to_string_pretty(value).unwrap() + "\n";
    if std::env::var_os("PODWRIGHT_GOLDEN").is_some_and(|mode| mode == "write") {
        fs::write(&path, &text).unwrap();
    }
    let golden = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    assert_eq!(text, golden, "{name} is written differently");
    assert_eq!(&serde_json::from_str::<T>(&golden).unwrap(), value, "{name} is read differently");
}

fn stamp(n: i64) -> Stamp {
    Stamp { boot_ns: n * 1_000_000_000, wall_ns: 1_700_000_000_000_000_000 + n * 1_000_000_000 }
}

fn id() -> InstanceId {
    InstanceId { container: "app".into(), attempt: 2 }
}

fn cause() -> Cause {
    Cause { kind: "liveness-probe".into(), message: "connection refused".into() }
}

fn record(outcome: Option<Outcome>) -> Record {
    Record {
        version: VERSION,
        id: id(),
        sandbox: 1,
        boot_id: "b0".into(),
        restart_delay_ms: 20_000,
        origin: None,
        requested: stamp(10),
        pid: Some(4711),
        pid_start: Some(123_456),
        started: Some(stamp(11)),
        stop_signal: None,
        post_start: None,
        pre_stop: None,
        cause: None,
        signaled: Some(stamp(12)),
        killed: Some(stamp(13)),
        health: Health::default(),
        log_lost: None,
        exit: outcome.map(|outcome| Exit {
            outcome,
            oom: true,
            finished: stamp(14),
            evidence: None,
            message: String::new(),
        }),
        unsaved: None,
        refused: false,
    }
}

fn health() -> Health {
    Health {
        ready: vec![ReadyChange { at: stamp(12), ready: true }],
        failures: vec![ProbeFailures {
            probe: "liveness".into(),
            first: stamp(12),
            last: stamp(13),
            count: 3,
            output: "HTTP status 500".into(),
        }],
    }
}

/// A record with all that the ledger can say.
fn full() -> Record {
    let pressure = Some(Pressure { some_us: 20, full_us: 10 });
    let figures = Figures {
        memory_peak: Some(64 << 20),
        memory_events: Some(MemoryEvents { high: 1, max: 2, oom: 3, oom_kill: 4 }),
        cpu: Some(CpuTime { usage_us: 5, user_us: 3, system_us: 2, periods: 10, throttled: 4, throttled_us: 9 }),
        cpu_pressure: pressure,
        memory_pressure: pressure,
        io_pressure: pressure,
        pids_peak: Some(7),
        pids_refused: Some(1),
    };
    let victim = Victim { pid: 4711, name: "server".into(), first_process: true, limit: OomLimit::Container };
    let tail = vec!["loading".to_owned(), "out of \"luck\"".to_owned()];
    let mut record = record(Some(Outcome::Signaled { signal: 9 }));
    record.origin = Some(Origin { agent: "0.1.0".into(), image: "5f1c".into() });
    record.cause = Some(Cause { kind: "liveness-probe".into(), message: "HTTP status 500".into() });
    record.health = health();
    record.exit.as_mut().unwrap().evidence = Some(Box::new(Evidence { victim: Some(victim), figures, tail }));
    record
}

#[test]
fn sandbox_config() {
    let config = SandboxConfig {
        version: VERSION,
        uid: "5c2b0c9e".into(),
        namespace: "default".into(),
        name: "web".into(),
        number: 1,
        boot_id: "b0".into(),
        hostname: Some("web".into()),
        unshare_net: true,
        unshare_ipc: false,
        cgroup: "/sys/fs/cgroup/podwright.slice/pod5c2b0c9e".into(),
        records: "/var/lib/podwright/pods/5c2b0c9e/records".into(),
        run: "/run/podwright/pods/5c2b0c9e".into(),
        files: None,
    };
    check("sandbox", &config);
    let files = Some("/run/podwright/pods/5c2b0c9e/files".into());
    check("sandbox-files", &SandboxConfig { files, ..config.clone() });
    check("sandbox-host-network", &SandboxConfig { hostname: None, unshare_net: false, ..config });
}

#[test]
fn records() {
    check("record-full", &full());
    let mut lossy = record(None);
    lossy.log_lost = Some(LogLoss {
        lines: 12,
        bytes: 3456,
        first: stamp(12),
        last: stamp(13),
        error: "No space left on device (os error 28)".into(),
        ongoing: true,
    });
    check("record-log-lost", &lossy);
    let unstarted = Record { pid: None, pid_start: None, started: None, signaled: None, killed: None, ..record(None) };
    check("record-requested", &unstarted);
    check("record-running", &record(None));
    check("record-exited", &record(Some(Outcome::Exited { code: 3 })));
    check("record-signaled", &record(Some(Outcome::Signaled { signal: 9 })));
    let hooked = Record {
        stop_signal: Some(10),
        post_start: Some(HookRun { begun: stamp(11), ended: Some(stamp(12)), failure: None }),
        pre_stop: Some(HookRun { begun: stamp(12), ended: Some(stamp(13)), failure: Some("exited with 1".into()) }),
        cause: Some(cause()),
        ..record(Some(Outcome::Exited { code: 0 }))
    };
    let exit = hooked.exit.clone().map(|exit| Exit { message: "bye".into(), ..exit });
    check("record-hooked", &Record { exit, ..hooked });
    check("record-lost", &record(Some(Outcome::Lost)));
    for (name, stage) in [("prepare", StartStage::Prepare), ("runtime", StartStage::Runtime)] {
        let message = "no such file".to_owned();
        check(&format!("record-failed-{name}"), &record(Some(Outcome::StartFailed { stage, message })));
    }
}

#[test]
fn requests() {
    check("request-hello", &Request::Hello { version: VERSION, max_event: UNSAID_LIMIT });
    check("request-hello-limit", &Request::Hello { version: VERSION, max_event: MAX_EVENT });
    check("request-signal", &Request::Signal { id: id(), signal: 15, cause: None });
    let eviction = Cause { kind: "eviction".into(), message: "volume cache is over its limit".into() };
    check("request-signal-cause", &Request::Signal { id: id(), signal: 15, cause: Some(eviction.clone()) });
    check("request-kill-cause", &Request::Kill { id: id(), cause: Some(eviction) });
    check("request-kill", &Request::Kill { id: id(), cause: None });
    let command = Some(vec!["drain".to_owned()]);
    check("request-hook", &Request::Hook { id: id(), kind: HookKind::PreStop, command, cause: Some(cause()) });
    let post_start = HookKind::PostStart;
    check("request-hook-of-agent", &Request::Hook { id: id(), kind: post_start, command: None, cause: None });
    check("request-hook-done", &Request::HookDone { id: id(), kind: post_start, failure: Some("refused".into()) });
    let command = vec!["cat".to_owned(), "/ready".to_owned()];
    check("request-exec", &Request::Exec { seq: 7, id: id(), command, timeout_ms: 1000 });
    check("request-remember", &Request::Remember { memo: "opaque".into(), health: BTreeMap::new() });
    let health = BTreeMap::from([("app".to_owned(), (2, health()))]);
    check("request-remember-health", &Request::Remember { memo: "opaque".into(), health });
    check("request-shutdown", &Request::Shutdown);
    let mounts = vec![
        PodMount::Overlay { lower: "/b/rootfs".into(), layer: "/l".into(), target: "/run/root".into() },
        PodMount::Tmpfs { target: "/v/t".into(), size: Some(1 << 20) },
        PodMount::Tmpfs { target: "/v/u".into(), size: None },
        PodMount::Subpath { volume: "/v".into(), path: "a/b".into(), target: "/run/sub".into() },
    ];
    let start = StartRequest {
        id: id(),
        restart_delay_ms: 20_000,
        runtime: "/usr/bin/crun".into(),
        mounts,
        config: json!({"ociVersion": "1.0.2"}),
        cgroup: "/sys/fs/cgroup/podwright.slice/pod5c2b0c9e/app".into(),
        log: "/var/log/pods/default_web_5c2b0c9e/app/2.log".into(),
        log_max_bytes: 10 << 20,
        log_max_files: 5,
        origin: None,
        stop_signal: None,
        message: None,
    };
    check("request-start", &Request::Start(Box::new(start.clone())));
    let origin = Some(Origin { agent: "0.1.0".into(), image: String::new() });
    check("request-start-origin", &Request::Start(Box::new(StartRequest { origin, ..start.clone() })));
    let message = MessageRequest { file: "/run/messages/app".into(), fallback_to_log: true, bound: None };
    let with = |message| StartRequest { stop_signal: Some(10), message: Some(message), ..start.clone() };
    check("request-start-message", &Request::Start(Box::new(with(message))));
    let message = MessageRequest { file: "/run/messages/app/log".into(), fallback_to_log: false, bound: Some(1 << 16) };
    check("request-start-message-bound", &Request::Start(Box::new(with(message))));
}

#[test]
fn events() {
    let state = Event::State {
        version: VERSION,
        sandbox: 1,
        pid: 4700,
        created: stamp(9),
        instances: vec![record(None)],
        memo: Some("opaque".into()),
        max_request: UNSAID_LIMIT,
    };
    check("event-state", &state);
    let said = Event::State {
        version: VERSION,
        sandbox: 1,
        pid: 4700,
        created: stamp(9),
        instances: Vec::new(),
        memo: None,
        max_request: MAX_REQUEST,
    };
    check("event-state-limit", &said);
    check("event-instance", &Event::Instance(Box::new(record(None))));
    let unsaved = Some(Unsaved { errno: Some(28), message: "cannot write 2.json: No space left on device".into() });
    let ended = record(Some(Outcome::Exited { code: 6 }));
    check("event-instance-unsaved", &Event::Instance(Box::new(Record { unsaved, ..ended })));
    let (stage, message) = (StartStage::Prepare, "cannot write 2.json".into());
    let refused = Record { refused: true, ..record(Some(Outcome::StartFailed { stage, message })) };
    check("event-instance-refused", &Event::Instance(Box::new(refused)));
    check("event-failed", &Event::Failed { message: "cannot make the pod's namespaces".into() });
    for (name, result) in [
        ("exited", ExecResult::Exited { code: 1 }),
        ("timed-out", ExecResult::TimedOut),
        ("instance-ended", ExecResult::InstanceEnded),
        ("error", ExecResult::Error { message: "no such file".into() }),
    ] {
        check(&format!("event-exec-{name}"), &Event::ExecDone { seq: 7, result, output: "out\n".into() });
    }
}

/// A peer of the same version that has learnt a field: it is left out, not refused.
#[test]
fn fields_of_the_future_are_ignored() {
    let mut value = serde_json::to_value(record(None)).unwrap();
    value["colour"] = json!("green");
    assert_eq!(serde_json::from_value::<Record>(value).unwrap(), record(None));
    let hello = r#"{"type":"hello","version":1,"colour":"green"}"#;
    assert_eq!(serde_json::from_str::<Request>(hello).unwrap(), Request::Hello { version: 1, max_event: UNSAID_LIMIT });
}

/// `signaled` and `killed` came to version 1 later, with a default.
#[test]
fn records_from_before_stop_times_are_read() {
    let mut value = serde_json::to_value(record(None)).unwrap();
    let fields = value.as_object_mut().unwrap();
    fields.remove("signaled");
    fields.remove("killed");
    let read: Record = serde_json::from_value(value).unwrap();
    assert_eq!((read.signaled, read.killed), (None, None));
}

#[test]
fn a_record_stays_small_whatever_it_is_told() {
    let changes = (0..100).map(|n| ReadyChange { at: stamp(n), ready: n % 2 == 0 }).collect();
    let failure = ProbeFailures { output: "é".repeat(4000), ..health().failures.remove(0) };
    let bounded = Health { ready: changes, failures: vec![failure; 100] }.bounded();
    assert_eq!((bounded.ready.len(), bounded.failures.len()), (MAX_CHANGES, MAX_CHANGES));
    assert_eq!(bounded.ready.last(), Some(&ReadyChange { at: stamp(99), ready: false }));
    assert_eq!(bounded.failures[0].output.len(), MAX_TEXT);
    let mut record = full();
    record.health = bounded;
    record.exit.as_mut().unwrap().evidence.as_mut().unwrap().tail = vec!["\"".repeat(204); 10];
    assert!(serde_json::to_vec(&record).unwrap().len() < 14 << 10);
}
