//! A bundle in a temporary directory, and the runtime called on it the way a shim calls it.
//!
//! The runtime is podwright-oci as cargo built it, or with `OCI_RUNTIME` in the environment the one that it names. The same tests
//! against crun and runc show which expectations are ours alone: `tests/oci/peers` lists them, with the reasons.

use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use podwright_sys::cgroup::{Cgroup, v2_mount};
use podwright_sys::lease;
use serde_json::{Value, json};

const BUSYBOX: &str = "/bin/busybox";
const APPLETS: [&str; 20] = [
    "cat", "chmod", "echo", "env", "false", "grep", "head", "hostname", "id", "kill", "ls", "mkdir", "mount",
    "readlink", "sh", "sleep", "stat", "tail", "touch", "true",
];

/// The runtime under test.
pub(crate) fn program() -> OsString {
    std::env::var_os("OCI_RUNTIME").unwrap_or_else(|| env!("CARGO_BIN_EXE_podwright-oci").into())
}

/// Whether the runtime under test is podwright-oci.
pub(crate) fn is_ours() -> bool {
    Path::new(&program()).file_name().is_some_and(|name| name == "podwright-oci")
}

/// Whether the host can do what a test needs; where not, the test says that it is skipped, and why. In the VM, which is made for
/// having all of it, that is a failure.
pub(crate) fn host_has(what: &str, there: bool) -> bool {
    if !there {
        let test = std::thread::current().name().unwrap_or("a test").to_owned();
        assert!(std::env::var_os("IN_VM").is_none(), "{test} needs {what}, which the VM has to have");
        // Past what libtest catches of a test that passes.
        io::stderr().write_all(format!("skipped: {test} needs {what}\n").as_bytes()).unwrap();
    }
    there
}

/// [`host_has`] of a controller on the v2 hierarchy.
pub(crate) fn has_controller(name: &str) -> bool {
    let available = Cgroup::at(v2_mount().unwrap()).controllers().unwrap();
    host_has(&format!("the {name} controller of cgroup v2"), available.iter().any(|found| found == name))
}

/// What a runtime says when it fails. Words and status are podwright-oci's own: of a peer only the failure is tested.
#[derive(Debug)]
pub(crate) struct Complaint(String);

impl Complaint {
    pub(crate) fn contains(&self, text: &str) -> bool {
        !is_ours() || self.0.contains(text)
    }
}

impl fmt::Display for Complaint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A bundle, a state directory and a container id of its own. Removes all of them in the end.
pub(crate) struct Container {
    dir: tempfile::TempDir,
    pub(crate) id: String,
    pub(crate) config: Value,
}

impl Container {
    /// A bundle whose container runs `args`.
    pub(crate) fn new(args: &[&str]) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let id = format!("oci-test-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let dir = tempfile::tempdir().expect("a temporary directory");
        let bin = dir.path().join("rootfs/bin");
        fs::create_dir_all(&bin).unwrap();
        fs::copy(BUSYBOX, bin.join("busybox")).expect("these tests need a static busybox at /bin/busybox");
        // What another test's thread has just forked may have it open for writing still: nobody could execute it.
        let copied = fs::File::open(bin.join("busybox")).unwrap();
        eventually("nobody writes to the copy", || !lease::open_for_writing(&copied).is_ok_and(|open| open));
        for applet in APPLETS {
            symlink("busybox", bin.join(applet)).unwrap();
        }
        let config = config(args, &id);
        Self { dir, id, config }
    }

    /// A shell script.
    pub(crate) fn script(text: &str) -> Self {
        Self::new(&["sh", "-c", text])
    }

    /// The same with some of the configuration changed.
    pub(crate) fn with(mut self, pointer: &str, value: Value) -> Self {
        self.set(pointer, value);
        self
    }

    pub(crate) fn set(&mut self, pointer: &str, value: Value) {
        let (parent, key) = pointer.rsplit_once('/').unwrap();
        match (self.config.pointer_mut(parent).expect("the parent is in the configuration"), key.parse::<usize>()) {
            (Value::Array(list), Ok(index)) => list[index] = value,
            (parent, _) => parent[key] = value,
        }
    }

    /// The same with one more mount.
    pub(crate) fn mount(mut self, mount: Value) -> Self {
        self.config["mounts"].as_array_mut().unwrap().push(mount);
        self
    }

    pub(crate) fn bundle(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn rootfs(&self) -> PathBuf {
        self.dir.path().join("rootfs")
    }

    pub(crate) fn state_root(&self) -> PathBuf {
        self.dir.path().join("state")
    }

    pub(crate) fn cgroup(&self) -> Cgroup {
        Cgroup::at(v2_mount().expect("cgroup v2").join(&self.id))
    }

    /// The runtime's command line up to its command, with the configuration written.
    pub(crate) fn runtime(&self) -> Command {
        // Only when it changes: another call may be reading it.
        let (path, text) = (self.bundle().join("config.json"), self.config.to_string());
        if fs::read_to_string(&path).ok().as_ref() != Some(&text) {
            fs::write(path, text).unwrap();
        }
        self.bare_runtime()
    }

    /// The same without the configuration.
    fn bare_runtime(&self) -> Command {
        let mut command = Command::new(program());
        command.arg("--root").arg(self.state_root()).stdin(Stdio::null());
        command
    }

    pub(crate) fn call(&self, args: &[&str]) -> Output {
        output(self.runtime().args(args))
    }

    /// Calls the runtime and wants it to succeed; its stdout.
    pub(crate) fn ok(&self, args: &[&str]) -> String {
        let output = self.call(args);
        assert!(output.status.success(), "{args:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Calls the runtime and wants it to fail with status 1; its stderr.
    pub(crate) fn fails(&self, args: &[&str]) -> Complaint {
        self.fails_with(1, args)
    }

    /// Calls the runtime and wants it to fail with this status; its stderr.
    pub(crate) fn fails_with(&self, status: i32, args: &[&str]) -> Complaint {
        let output = self.call(args);
        let failed = if is_ours() { output.status.code() == Some(status) } else { !output.status.success() };
        assert!(failed, "{args:?}: {output:?}, expected {status}");
        Complaint(String::from_utf8(output.stderr).unwrap())
    }

    fn run_args(&self) -> Vec<String> {
        vec!["run".into(), "--bundle".into(), self.bundle().display().to_string(), self.id.clone()]
    }

    /// `run` in the foreground.
    pub(crate) fn run(&self) -> Output {
        output(self.runtime().args(self.run_args()))
    }

    /// What a container that succeeds writes to stdout.
    pub(crate) fn stdout(&self) -> String {
        let output = self.run();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// The error of a `run` that must fail and leave nothing behind.
    pub(crate) fn refused(&self) -> Complaint {
        let args = self.run_args();
        let error = self.fails(&args.iter().map(String::as_str).collect::<Vec<_>>());
        self.assert_nothing_left();
        error
    }

    /// `run --detach`.
    pub(crate) fn detach(&self) {
        let bundle = self.bundle().display().to_string();
        let mut command = self.runtime();
        command.args(["run", "--detach", "--bundle", &bundle, &self.id]).stdout(Stdio::null()).stderr(Stdio::null());
        assert!(command.status().unwrap().success());
    }

    /// `create`.
    pub(crate) fn create(&self) {
        let bundle = self.bundle().display().to_string();
        let mut command = self.runtime();
        command.args(["create", "--bundle", &bundle, &self.id]).stdout(Stdio::null()).stderr(Stdio::null());
        assert!(command.status().unwrap().success());
    }

    /// `exec` of a shell script; what it writes.
    pub(crate) fn exec(&self, script: &str) -> Output {
        self.call(&["exec", &self.id, "sh", "-c", script])
    }

    pub(crate) fn state(&self) -> Value {
        serde_json::from_str(&self.ok(&["state", &self.id])).unwrap()
    }

    pub(crate) fn status(&self) -> String {
        self.state()["status"].as_str().unwrap().to_owned()
    }

    pub(crate) fn assert_nothing_left(&self) {
        assert_eq!(self.left(), Vec::<&str>::new(), "is left");
    }

    fn left(&self) -> Vec<&'static str> {
        let states = fs::read_dir(self.state_root()).map(Iterator::count).unwrap_or(0);
        // On a slow machine peers give up, by chance, on a cgroup whose processes they have just killed.
        let all = [("the cgroup", is_ours() && self.cgroup().exists()), ("a state", states > 0)];
        all.into_iter().filter_map(|(what, there)| there.then_some(what)).collect()
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        // In place of the configuration there may be a pipe by now.
        let output = self.bare_runtime().args(["delete", "--force", &self.id]).output().unwrap();
        let left = self.left();
        // A test that fails half-way leaves nothing, and none leaves what a peer does.
        self.cgroup().remove().ok();
        if !std::thread::panicking() {
            assert!(output.status.success(), "{output:?}");
            assert_eq!(left, Vec::<&str>::new(), "is left");
        }
    }
}

/// A process of the host. Killed in the end.
pub(crate) struct Stranger(Child);

impl Stranger {
    /// One that sleeps.
    pub(crate) fn new() -> Self {
        Self::start(Command::new("sleep").arg("1000"))
    }

    pub(crate) fn start(command: &mut Command) -> Self {
        Self(command.spawn().unwrap())
    }

    pub(crate) fn pid(&self) -> i32 {
        i32::try_from(self.0.id()).unwrap()
    }

    pub(crate) fn lives(&mut self) -> bool {
        self.0.try_wait().unwrap().is_none()
    }

    /// Waits until it has ended, by itself or by somebody else.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        eventually("its process ends", || !self.lives());
        self.0.wait().unwrap()
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// Gives a container more of busybox's programs.
pub(crate) fn link_applets(container: &Container, names: &[&str]) {
    for name in names {
        symlink("busybox", container.rootfs().join("bin").join(name)).unwrap();
    }
}

fn config(args: &[&str], id: &str) -> Value {
    json!({
        // What all runtimes understand; crun 1.8.1 refuses anything newer.
        "ociVersion": "1.0.2",
        "root": {"path": "rootfs"},
        "process": {
            "user": {"uid": 0, "gid": 0},
            "args": args, "env": ["PATH=/bin"], "cwd": "/",
            "capabilities": {},
            "noNewPrivileges": true
        },
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid", "noexec", "nodev"]},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "strictatime", "mode=755", "size=65536k"]},
            {"destination": "/dev/pts", "type": "devpts", "source": "devpts", "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"]},
            {"destination": "/dev/shm", "type": "tmpfs", "source": "shm", "options": ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]},
            {"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue", "options": ["nosuid", "noexec", "nodev"]},
            {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "noexec", "nodev", "ro"]}
        ],
        "linux": {
            "namespaces": [
                {"type": "pid"}, {"type": "mount"}, {"type": "ipc"}, {"type": "uts"}, {"type": "network"}, {"type": "cgroup"}
            ],
            "cgroupsPath": format!("/{id}")
        }
    })
}

/// As [`Command::output`], but not waiting for whoever else has the pipes: the processes of a container that should not be there.
fn output(command: &mut Command) -> Output {
    const PATIENCE: Duration = Duration::from_secs(5);
    fn parts(mut pipe: impl io::Read + Send + 'static) -> mpsc::Receiver<Vec<u8>> {
        let (sender, receiver) = mpsc::channel();
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(length @ 1..) = pipe.read(&mut buffer) {
                if sender.send(buffer[..length].to_vec()).is_err() {
                    break;
                }
            }
        });
        receiver
    }
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let (stdout, stderr) = (parts(child.stdout.take().unwrap()), parts(child.stderr.take().unwrap()));
    let status = child.wait().unwrap();
    let all =
        |parts: mpsc::Receiver<Vec<u8>>| std::iter::from_fn(|| parts.recv_timeout(PATIENCE).ok()).flatten().collect();
    Output { status, stdout: all(stdout), stderr: all(stderr) }
}

/// Tries until it is true, for as long as a slow machine may need.
pub(crate) fn eventually(what: &str, mut check: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !check() {
        assert!(Instant::now() < deadline, "not in time: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
