//! `podwrightd` with directories and a cgroup of its own, real shims, runtime and processes. Needs root, cgroup v2, busybox-static,
//! and the workspace's programs beside each other (`cargo build`).
#![allow(dead_code, reason = "each test binary uses its own part")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use podwright_sys::cgroup::{Cgroup, v2_mount};
use serde_json::Value;

/// Far more than anything here takes; the machine may be busy.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// One agent's directories, and the agent while it runs.
pub(crate) struct Node {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) cgroup: Cgroup,
    pub(crate) agent: Option<Child>,
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(mut agent) = self.agent.take() {
            agent.kill().unwrap();
            agent.wait().unwrap();
        }
        self.cgroup.remove().unwrap();
    }
}

impl Node {
    pub(crate) fn new() -> Node {
        let dir = tempfile::tempdir().unwrap();
        let name = dir.path().file_name().unwrap().to_str().unwrap().trim_start_matches('.');
        let cgroup = Cgroup::at(v2_mount().unwrap().join(format!("podwright-daemon-test-{name}")));
        fs::create_dir(dir.path().join("manifests")).unwrap();
        let node = Node { dir, cgroup, agent: None };
        node.make_bundle();
        node
    }

    pub(crate) fn make_bundle(&self) {
        let bundle = self.dir.path().join("bundles/box");
        for directory in ["bin", "dev", "etc", "proc", "sys", "tmp", "data"] {
            fs::create_dir_all(bundle.join("rootfs").join(directory)).unwrap();
        }
        fs::copy("/bin/busybox", bundle.join("rootfs/bin/busybox")).expect("busybox-static is installed");
        let config = r#"{"ociVersion": "1.0.2", "root": {"path": "rootfs"},
            "process": {"user": {"uid": 0, "gid": 0}, "cwd": "/", "args": ["/bin/busybox", "sh", "-c"]},
            "linux": {}}"#;
        fs::write(bundle.join("config.json"), config).unwrap();
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn command(&self, extra: &[&str]) -> Command {
        let ours = Path::new(env!("CARGO_BIN_EXE_podwrightd"));
        for program in ["podwright", "podwright-shim", "podwright-oci"] {
            assert!(ours.with_file_name(program).exists(), "{program} is missing: run `cargo build`");
        }
        let mut command = Command::new(ours);
        command
            .arg("--manifest-dir")
            .arg(self.path("manifests"))
            .arg("--state-dir")
            .arg(self.path("state"))
            .arg("--run-dir")
            .arg(self.path("run"))
            .arg("--log-dir")
            .arg(self.path("logs"))
            .arg("--bundle-dir")
            .arg(self.path("bundles"))
            .arg("--cgroup-root")
            .arg(self.cgroup.path())
            .arg("--allow-missing-controllers")
            .args(extra);
        command
    }

    pub(crate) fn start(&mut self, extra: &[&str]) {
        let command = self.command(extra);
        self.start_by(command);
    }

    /// Starts the agent by another command line than its own.
    pub(crate) fn start_by(&mut self, mut command: Command) {
        let log = fs::OpenOptions::new().create(true).append(true).open(self.path("agent.log")).unwrap();
        self.agent = Some(command.stderr(log).spawn().unwrap());
        self.until("the API answers", || self.podwright(&["get", "pods"]).status.success());
    }

    pub(crate) fn kill(&mut self) {
        let mut agent = self.agent.take().unwrap();
        agent.kill().unwrap();
        agent.wait().unwrap();
    }

    pub(crate) fn signal(&self, name: &str) {
        let pid = self.agent.as_ref().unwrap().id().to_string();
        assert!(Command::new("kill").args([name, &pid]).status().unwrap().success());
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.path("agent.log")).unwrap_or_default()
    }

    pub(crate) fn podwright(&self, args: &[&str]) -> Output {
        let mut command = Command::new(Path::new(env!("CARGO_BIN_EXE_podwrightd")).with_file_name("podwright"));
        command.env("PODWRIGHT_SOCKET", self.path("run/podwright.sock")).args(args).stdin(Stdio::null());
        command.output().unwrap()
    }

    pub(crate) fn ok(&self, args: &[&str]) -> String {
        let output = self.podwright(args);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{args:?}: {text}{}", String::from_utf8_lossy(&output.stderr));
        text
    }

    /// The pod as the API shows it; `Null` if it is not listed.
    pub(crate) fn pod(&self, name: &str) -> Value {
        serde_json::from_slice(&self.podwright(&["get", "pods", name, "-o", "json"]).stdout).unwrap_or(Value::Null)
    }

    pub(crate) fn phase(&self, name: &str) -> String {
        self.pod(name)["status"]["phase"].as_str().unwrap_or("absent").to_owned()
    }

    pub(crate) fn until_phase(&self, name: &str, phase: &str) {
        self.until(&format!("{name} is {phase}"), || self.phase(name) == phase);
    }

    #[track_caller]
    pub(crate) fn until(&self, what: &str, condition: impl Fn() -> bool) {
        let begun = Instant::now();
        while !condition() {
            assert!(begun.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}; the agent's log:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Asks until one answer has all parts. Before the agent knows of a pod, asking about it fails.
    pub(crate) fn until_told(&self, args: &[&str], parts: &[&str]) -> String {
        let begun = Instant::now();
        loop {
            let output = self.podwright(args);
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            let missing: Vec<_> = parts.iter().filter(|part| !text.contains(**part)).collect();
            if output.status.success() && missing.is_empty() {
                return text;
            }
            let log = || self.log();
            assert!(begun.elapsed() < PATIENCE, "not within {PATIENCE:?}: {missing:?} of {args:?}:\n{text}\n{}", log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    pub(crate) fn write(&self, file: &str, text: &str) {
        fs::write(self.path("manifests").join(file), text).unwrap();
    }

    pub(crate) fn remove(&self, file: &str) {
        fs::remove_file(self.path("manifests").join(file)).unwrap();
    }

    /// Lines of all logs of a pod's container, over all its attempts.
    pub(crate) fn lines(&self, pod: &str, container: &str) -> Vec<String> {
        let mut lines = Vec::new();
        for entry in fs::read_dir(self.path("logs")).unwrap().flatten() {
            if !entry.file_name().to_str().unwrap().starts_with(&format!("default_{pod}_")) {
                continue;
            }
            let logs = fs::read_dir(entry.path().join(container)).into_iter().flatten().flatten();
            let mut logs: Vec<PathBuf> = logs.map(|log| log.path()).collect();
            logs.sort();
            for log in logs {
                let text = fs::read_to_string(log).unwrap();
                lines.extend(text.lines().map(|line| line.splitn(4, ' ').last().unwrap().to_owned()));
            }
        }
        lines
    }
}
