//! A pod's sandbox as the agent makes it: directories, cgroup, the real shim with its socket as standard input.

#![allow(dead_code, reason = "every test binary has its own copy and uses a part of it")]

pub(crate) mod rootfs;

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use podwright_proto::{
    Event, ExecResult, InstanceId, MAX_EVENT, Outcome, Record, Request, SandboxConfig, StartRequest, VERSION,
};
use podwright_sys::cgroup::{Cgroup, v2_mount};
use serde_json::{Value, json};

/// Nothing in these tests takes longer on an idle machine; a wait that does is a failure.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// One sandbox. Dropping it kills what is left and checks that nothing stays.
pub(crate) struct Sandbox {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) cgroup: Cgroup,
    pub(crate) shim: Child,
    pub(crate) config: SandboxConfig,
}

/// The agent's end of a connection.
pub(crate) struct Agent {
    stream: BufReader<UnixStream>,
}

impl Sandbox {
    /// With a UTS, an IPC and a network namespace, and its shim running.
    pub(crate) fn new() -> Self {
        Self::with(|_| {})
    }

    /// As [`Sandbox::new`], with changes to what the shim reads.
    pub(crate) fn with(change: impl FnOnce(&mut SandboxConfig)) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let dir = tempfile::tempdir().unwrap();
        let name = format!("podwright-shim-test-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let cgroup = Cgroup::at(v2_mount().unwrap().join(name));
        cgroup.child("_supervisor").create().unwrap();
        let mut config = SandboxConfig {
            version: VERSION,
            uid: "1234".into(),
            namespace: "default".into(),
            name: "test".into(),
            number: 1,
            boot_id: "boot".into(),
            hostname: Some("test-host".into()),
            unshare_net: true,
            unshare_ipc: true,
            cgroup: cgroup.path().to_owned(),
            records: dir.path().join("records"),
            run: dir.path().join("run"),
            files: None,
        };
        change(&mut config);
        fs::create_dir(dir.path().join("run")).unwrap();
        let json = dir.path().join("run/sandbox.json");
        fs::write(&json, serde_json::to_vec(&config).unwrap()).unwrap();
        let listener = UnixListener::bind(dir.path().join("run/shim.sock")).unwrap();
        let shim = Command::new(env!("CARGO_BIN_EXE_podwright-shim"))
            .arg(json)
            .stdin(Stdio::from(OwnedFd::from(listener)))
            .stdout(Stdio::null())
            .stderr(File::create(dir.path().join("run/shim.log")).unwrap())
            .current_dir("/")
            .spawn()
            .unwrap();
        Self { dir, cgroup, shim, config }
    }

    /// A path in the sandbox's temporary directory.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// What the shim wrote to its standard error.
    pub(crate) fn complaints(&self) -> String {
        fs::read_to_string(self.path("run/shim.log")).unwrap()
    }

    /// A new connection that has said nothing.
    pub(crate) fn dial(&self) -> Agent {
        let stream = UnixStream::connect(self.path("run/shim.sock")).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Agent { stream: BufReader::new(stream) }
    }

    /// A new connection after hello, and the state that answered it.
    pub(crate) fn connect(&self) -> (Agent, Vec<Record>) {
        let mut agent = self.dial();
        agent.send(&Request::Hello { version: VERSION, max_event: MAX_EVENT });
        match agent.receive() {
            Event::State { instances, .. } => (agent, instances),
            other => panic!("{other:?} instead of the state"),
        }
    }

    /// A request to run a shell command with the fake runtime.
    pub(crate) fn fake(&self, container: &str, attempt: u32, command: &str) -> StartRequest {
        let cgroup = self.cgroup.child(container).path().to_owned();
        let config = json!({
            "ociVersion": "1.0.2",
            "process": {"args": ["init"], "cwd": "/", "terminal": true},
            "annotations": {"cgroup": cgroup, "command": command},
        });
        let runtime = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/fake-runtime");
        self.request(container, attempt, runtime, config)
    }

    /// A request with this runtime and config, without mounts.
    pub(crate) fn request(&self, container: &str, attempt: u32, runtime: PathBuf, config: Value) -> StartRequest {
        StartRequest {
            id: id(container, attempt),
            restart_delay_ms: 10_000,
            runtime,
            mounts: Vec::new(),
            config,
            cgroup: self.cgroup.child(container).path().to_owned(),
            log: self.log_path(container, attempt),
            log_max_bytes: 10 << 20,
            log_max_files: 5,
            origin: None,
            stop_signal: None,
            message: None,
        }
    }

    /// Where the log of an instance is.
    pub(crate) fn log_path(&self, container: &str, attempt: u32) -> PathBuf {
        self.path(&format!("logs/{container}/{attempt}.log"))
    }

    /// The lines of a log without their times.
    pub(crate) fn log(&self, container: &str, attempt: u32) -> Vec<String> {
        let text = fs::read_to_string(self.log_path(container, attempt)).unwrap();
        text.lines().map(|line| line.split_once(' ').unwrap().1.to_owned()).collect()
    }

    /// The record on disk.
    pub(crate) fn record(&self, container: &str, attempt: u32) -> Record {
        let path = self.path(&format!("records/{container}/{attempt}.json"));
        serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
    }

    /// Calls of the fake runtime so far, as `run ID`.
    pub(crate) fn calls(&self) -> Vec<String> {
        let text = fs::read_to_string(self.path("run/runtime/calls")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    /// The shim's pid.
    pub(crate) fn pid(&self) -> i32 {
        self.shim.id().cast_signed()
    }

    /// Asks for the end and checks that it comes: status 0, no complaint, nothing left.
    pub(crate) fn shut_down(mut self) {
        let (mut agent, _) = self.connect();
        agent.send(&Request::Shutdown);
        assert!(self.wait_shim().success(), "{}", self.complaints());
        assert_eq!(self.complaints(), "");
        let bundles = fs::read_dir(self.path("run/bundles")).map_or(0, Iterator::count);
        assert_eq!(bundles, 0, "bundles are left");
        // Helpers that were killed at last may be about to disappear.
        let empty = self.cgroup.wait_empty(Duration::from_secs(1)).unwrap();
        assert!(empty, "processes are left: {:?}", self.processes());
        let left: Vec<_> = fs::read_dir(self.cgroup.path()).unwrap().flatten().filter(|e| e.path().is_dir()).collect();
        assert_eq!(left.len(), 1, "only _supervisor may be left: {left:?}");
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(!mounts.contains(self.dir.path().to_str().unwrap()), "a mount reached the host");
    }

    /// Command lines of all processes in the sandbox's cgroups.
    fn processes(&self) -> Vec<String> {
        let children = fs::read_dir(self.cgroup.path()).unwrap().flatten().filter(|entry| entry.path().is_dir());
        let pids = children.flat_map(|entry| Cgroup::at(entry.path()).procs().unwrap());
        pids.map(|pid| fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default()).collect()
    }

    /// Waits for the end of the shim.
    pub(crate) fn wait_shim(&mut self) -> std::process::ExitStatus {
        let mut status = None;
        until("the shim leaves", || {
            status = self.shim.try_wait().unwrap();
            status.is_some()
        });
        status.unwrap()
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        self.cgroup.kill().unwrap();
        drop(self.shim.kill());
        self.shim.wait().unwrap();
        self.cgroup.remove().unwrap();
    }
}

impl Agent {
    /// Sends one request.
    pub(crate) fn send(&mut self, request: &Request) {
        let mut line = serde_json::to_vec(request).unwrap();
        line.push(b'\n');
        self.stream.get_mut().write_all(&line).unwrap();
    }

    /// Sends bytes as they are.
    pub(crate) fn send_raw(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.stream.get_mut().write_all(bytes)
    }

    /// The next event.
    pub(crate) fn receive(&mut self) -> Event {
        self.try_receive().expect("the shim closed the connection")
    }

    /// The next event; `None` when the shim has closed the connection.
    pub(crate) fn try_receive(&mut self) -> Option<Event> {
        let mut line = String::new();
        match self.stream.read_line(&mut line) {
            Ok(0) => None,
            Ok(_) => Some(serde_json::from_str(&line).unwrap()),
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => None,
            Err(error) => panic!("no event came: {error}"),
        }
    }

    /// Events until the record of an instance fits.
    pub(crate) fn wait(&mut self, id: &InstanceId, fits: impl Fn(&Record) -> bool) -> Record {
        loop {
            match self.receive() {
                Event::Instance(record) if record.id == *id && fits(&record) => return *record,
                _ => {}
            }
        }
    }

    /// Starts an instance and waits until it runs, or has failed to.
    pub(crate) fn start(&mut self, request: StartRequest) -> Record {
        let id = request.id.clone();
        self.send(&Request::Start(Box::new(request)));
        self.wait(&id, |record| record.started.is_some() || record.exit.is_some())
    }

    /// Waits for the end of an instance.
    pub(crate) fn end(&mut self, id: &InstanceId) -> Outcome {
        self.wait(id, |record| record.exit.is_some()).exit.unwrap().outcome
    }

    /// Runs a command and returns how it went, with its output.
    pub(crate) fn exec(
        &mut self,
        seq: u64,
        id: &InstanceId,
        command: &[&str],
        timeout_ms: u64,
    ) -> (ExecResult, String) {
        let command = command.iter().map(|s| (*s).to_owned()).collect();
        self.send(&Request::Exec { seq, id: id.clone(), command, timeout_ms });
        loop {
            match self.receive() {
                Event::ExecDone { seq: found, result, output } if found == seq => return (result, output),
                _ => {}
            }
        }
    }
}

/// An instance's name.
pub(crate) fn id(container: &str, attempt: u32) -> InstanceId {
    InstanceId { container: container.to_owned(), attempt }
}

/// Waits for a condition that has no event.
pub(crate) fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
