//! A bundle with hostile content, a directory outside that must not change, and the runtime called on it.

use std::fs;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
use nix::sys::stat::Mode;
use serde_json::{Value, json};

use super::{Entry, Exec, Scene, merge};
use crate::harness::{Container, eventually};

/// The descriptor that is left open where a scene has a `leak`.
const LEAKED: u32 = 7;

pub(super) struct Stage {
    /// Keeps what is sent to it: the terminal lasts as long as the scene.
    _console: UnixListener,
    pub(super) scene: Scene,
    pub(super) container: Container,
}

/// What came of it.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) failed: bool,
    pub(super) text: String,
    pub(super) errors: String,
}

impl Stage {
    pub(super) fn set(scene: Value) -> Self {
        let mut container = Container::new(&["sleep", "1000"]);
        let text = filled(&container, &scene.to_string());
        let scene: Scene = serde_json::from_str(&text).unwrap_or_else(|err| panic!("{err} in {text}"));
        for directory in ["volume", "other", "outside"] {
            fs::create_dir(container.bundle().join(directory)).unwrap();
        }
        fs::write(container.bundle().join("outside/canary"), "canary").unwrap();
        scene.tree.iter().for_each(|entry| place(container.bundle(), entry));
        if let Some(script) = &scene.script {
            container.set("/process/args", json!(["sh", "-c", script.join("\n")]));
        }
        merge(&mut container.config, &scene.config);
        container.config["mounts"].as_array_mut().unwrap().extend(scene.mounts.clone());
        let _console = UnixListener::bind(container.bundle().join("console.sock")).unwrap();
        Self { _console, scene, container }
    }

    /// A text with its placeholders filled in.
    pub(super) fn filled(&self, text: &str) -> String {
        filled(&self.container, text)
    }

    pub(super) fn path(&self, path: &Path) -> PathBuf {
        self.container.bundle().join(path)
    }

    /// All that is outside: paths, what they are, and content.
    pub(super) fn outside(&self) -> Vec<(PathBuf, u32, u64, String)> {
        let mut found = Vec::new();
        list(&self.container.bundle().join("outside"), &mut found);
        found.sort();
        found
    }

    /// Calls the runtime, while what is to be swapped is swapped.
    pub(super) fn perform(&self) -> Outcome {
        self.swapping(|| match &self.scene.exec {
            Some(exec) => self.exec(exec),
            // A pipe: for a /dev/null the container would need one itself, which scenes take away from it.
            None => outcome(self.call(&["run"], &self.scene.options, &[]).stdin(Stdio::piped()).output().unwrap()),
        })
    }

    pub(super) fn swapping<T>(&self, act: impl FnOnce() -> T) -> T {
        let Some([one, other]) = &self.scene.swap else { return act() };
        let (one, other) = (self.path(one), self.path(other));
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    // EBUSY: something is mounted there, in this thread's own mount namespace.
                    let swapped = renameat2(AT_FDCWD, &one, AT_FDCWD, &other, RenameFlags::RENAME_EXCHANGE);
                    assert!(matches!(swapped, Ok(()) | Err(Errno::EBUSY)), "{swapped:?}");
                }
            });
            let result = act();
            done.store(true, Ordering::Relaxed);
            result
        })
    }

    fn exec(&self, exec: &Exec) -> Outcome {
        let running: Option<Child> = if self.scene.created {
            // Its output would keep a pipe open.
            let mut create = self.call(&["create"], &self.scene.options, &[]);
            assert!(create.stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap().success());
            None
        } else {
            let mut run = self.call(&["run"], &self.scene.options, &[]);
            let mut child = run.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
            let runs = || {
                let state = self.container.call(&["state", &self.container.id]);
                String::from_utf8_lossy(&state.stdout).contains("running")
            };
            eventually("it runs", || child.try_wait().unwrap().is_some() || runs());
            if child.try_wait().unwrap().is_some() {
                return outcome(child.wait_with_output().unwrap());
            }
            Some(child)
        };
        let mut result = outcome(self.call(&["exec"], &exec.options, &exec.args).output().unwrap());
        if let Some(child) = running {
            self.container.ok(&["kill", &self.container.id, "KILL"]);
            result.text = outcome(child.wait_with_output().unwrap()).text + &result.text;
        }
        self.container.ok(&["delete", "--force", &self.container.id]);
        result
    }

    /// The runtime's command line, with a descriptor left open where the scene says so.
    fn call(&self, command: &[&str], options: &[String], args: &[String]) -> Command {
        let runtime = self.container.runtime();
        let mut call = Command::new("bash");
        call.arg("-c").stdin(Stdio::null());
        match &self.scene.leak {
            Some(path) => call.arg(format!("exec {LEAKED}<{}; exec \"$0\" \"$@\"", path.display())),
            None => call.arg("exec \"$0\" \"$@\""),
        };
        call.arg(runtime.get_program()).args(runtime.get_args()).args(command).args(options);
        if self.scene.terminal {
            call.arg("--console-socket").arg(self.container.bundle().join("console.sock"));
        }
        if command != ["exec"] {
            call.arg("--bundle").arg(self.container.bundle());
        }
        call.arg(&self.container.id).args(args);
        call
    }
}

fn outcome(output: Output) -> Outcome {
    Outcome {
        failed: !output.status.success(),
        text: String::from_utf8_lossy(&output.stdout).into_owned(),
        errors: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

fn filled(container: &Container, text: &str) -> String {
    let path = |name: &str| container.bundle().join(name).display().to_string();
    ["outside", "volume", "other"]
        .iter()
        .fold(text.to_owned(), |text, name| text.replace(&format!("${{{name}}}"), &path(name)))
}

fn place(bundle: &Path, entry: &Entry) {
    let path = bundle.join(&entry.path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    match entry {
        Entry { dir: true, .. } => fs::create_dir_all(&path).unwrap(),
        Entry { fifo: true, .. } => nix::unistd::mkfifo(&path, Mode::from_bits_retain(0o600)).unwrap(),
        Entry { file: Some(text), .. } => fs::write(&path, text).unwrap(),
        Entry { link: Some(target), .. } => symlink(target, &path).unwrap(),
        Entry { copy: Some(source), .. } => {
            fs::copy(source, &path).unwrap();
        }
        _ => panic!("{}: nothing is to be made", path.display()),
    }
}

fn list(directory: &Path, found: &mut Vec<(PathBuf, u32, u64, String)>) {
    let meta = fs::metadata(directory).unwrap();
    found.push((directory.to_owned(), meta.mode(), meta.dev(), String::new()));
    // What was mounted here is different enough, and reading a procfs would not end.
    if meta.dev() != fs::metadata(directory.parent().unwrap()).unwrap().dev() {
        return;
    }
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let meta = fs::symlink_metadata(&path).unwrap();
        let kind = meta.file_type();
        if kind.is_dir() {
            found.push((path, meta.mode(), meta.dev(), String::new()));
        } else {
            let text = if kind.is_file() { fs::read(&path).unwrap_or_default() } else { Vec::new() };
            let kind = if kind.is_fifo() { "fifo" } else { "" };
            found.push((path, meta.mode(), meta.dev(), format!("{kind} {} bytes, {}", text.len(), hash(&text))));
        }
    }
}

/// Differs when a file does.
fn hash(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    hasher.finish()
}
