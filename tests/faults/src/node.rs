//! An agent that is started again whenever it ends, as its service manager does it.

use std::fs::{self, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use podwright_cases::agent::Places;
use podwright_cases::{host, http, yaml};
use serde_json::{Value, json};

use crate::supervise::LAUNCH;

/// How long its end may take.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long an answer may take: whoever asks has a fault to lift meanwhile.
const ANSWER: Duration = Duration::from_millis(700);
/// The service manager's pause before it starts the agent again.
const RESTART_PAUSE: Duration = Duration::from_millis(300);

/// Where things are.
#[derive(Debug, Clone)]
pub struct Setting {
    /// The programs.
    pub bin: PathBuf,
    /// The bundles.
    pub bundles: PathBuf,
    /// For the directories of all runs.
    pub work: PathBuf,
    /// For the cgroups of all runs.
    pub cgroup: PathBuf,
    /// Whether the host lacks controllers.
    pub lacks_controllers: bool,
    /// Whether directories of runs that went wrong stay.
    pub keep: bool,
}

/// The agent of a run.
#[derive(Debug)]
pub struct Node {
    /// Its directories.
    pub places: Places,
    bin: PathBuf,
    /// The program that launches it, and the socket that the listener goes to.
    launcher: Option<(PathBuf, PathBuf)>,
    child: Option<Child>,
    /// Whether this life of it has answered.
    served: bool,
    start_at: Option<Instant>,
    /// How often it was started.
    pub starts: usize,
}

/// The directory of truth on the host.
pub fn truth_directory(places: &Places) -> PathBuf {
    places.root.join("truth")
}

impl Node {
    /// Makes the directories of a run and the agent's configuration.
    ///
    /// # Errors
    /// When that cannot be written.
    pub fn new(setting: &Setting, name: &str, launcher: Option<(PathBuf, PathBuf)>) -> io::Result<Node> {
        let places = Places { root: setting.work.join(name), cgroup: setting.cgroup.join(name) };
        let truth = truth_directory(&places);
        for directory in [places.manifests(), places.state(), places.run(), places.logs(), truth.join("bin")] {
            fs::create_dir_all(directory)?;
        }
        fs::copy(setting.bin.join("tell"), truth.join("bin/tell"))?;
        let boot_id = places.root.join("boot_id");
        fs::write(&boot_id, fs::read("/proc/sys/kernel/random/uuid")?)?;
        let config = json!({
            "manifestDir": places.manifests(),
            "stateDir": places.state(),
            "runDir": places.run(),
            "logDir": places.logs(),
            "bundleDir": setting.bundles,
            "cgroupRoot": places.cgroup,
            "bootIdFile": boot_id,
            "logFormat": "json",
            "allowMissingControllers": setting.lacks_controllers,
            "crashLoopBackOff": {"initial": "200ms", "max": "1s"},
        });
        fs::write(places.root.join("config.yaml"), yaml::write(&config))?;
        let bin = setting.bin.clone();
        Ok(Node { places, bin, launcher, child: None, served: false, start_at: Some(Instant::now()), starts: 0 })
    }

    /// Starts the agent when it is down and its pause is over, and looks whether it has ended.
    ///
    /// # Errors
    /// What went wrong: it ended although it had answered before, or although there was no reason to (`may_refuse`: there is one).
    pub fn tend(&mut self, may_refuse: bool) -> Result<(), String> {
        if self.start_at.is_some_and(|at| at <= Instant::now()) {
            self.start().map_err(|error| format!("the bed cannot start podwrightd: {error}"))?;
        }
        let Some(child) = &mut self.child else { return Ok(()) };
        let Some(status) = child.try_wait().map_err(|error| format!("podwrightd: {error}"))? else {
            self.served = self.served || self.get("/healthz").is_ok();
            return Ok(());
        };
        self.child = None;
        self.start_at = Some(Instant::now() + RESTART_PAUSE);
        if self.served {
            Err(format!("podwrightd ended by itself: {status}\n{}", self.tail()))
        } else if !may_refuse {
            Err(format!("podwrightd did not start: {status}\n{}", self.tail()))
        } else {
            Ok(())
        }
    }

    fn start(&mut self) -> io::Result<()> {
        let log = OpenOptions::new().create(true).append(true).open(self.places.agent_log())?;
        let program = self.bin.join("podwrightd");
        let mut command = match &self.launcher {
            Some((launcher, socket)) => {
                let mut command = Command::new(launcher);
                command.arg(LAUNCH).arg(socket).arg(&program);
                command
            }
            None => Command::new(&program),
        };
        command.arg("--config").arg(self.places.root.join("config.yaml")).current_dir(&self.places.root);
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        self.child = Some(command.spawn()?);
        (self.served, self.start_at) = (false, None);
        self.starts += 1;
        Ok(())
    }

    /// Whether it is up and has answered.
    pub fn serves(&self) -> bool {
        self.child.is_some() && self.served
    }

    /// SIGKILL. It is started again.
    ///
    /// # Errors
    /// Those of kill(2) and waitpid(2).
    pub fn kill(&mut self) -> io::Result<()> {
        self.start_at = Some(Instant::now() + RESTART_PAUSE);
        let Some(mut child) = self.child.take() else { return Ok(()) };
        child.kill()?;
        child.wait().map(drop)
    }

    /// SIGTERM, for good.
    ///
    /// # Errors
    /// When it does not leave with 0 in time.
    pub fn stop(&mut self) -> Result<(), String> {
        self.start_at = None;
        let Some(mut child) = self.child.take() else { return Ok(()) };
        host::signal(child.id().cast_signed(), Signal::SIGTERM)?;
        let begin = Instant::now();
        loop {
            match child.try_wait().map_err(|error| format!("podwrightd: {error}"))? {
                Some(status) if status.success() => return Ok(()),
                Some(status) => return Err(format!("podwrightd ended with {status} on SIGTERM\n{}", self.tail())),
                None if begin.elapsed() > PATIENCE => {
                    self.child = Some(child);
                    self.kill().map_err(|error| format!("podwrightd: {error}"))?;
                    self.start_at = None;
                    return Err(format!("podwrightd did not end within {PATIENCE:?} of SIGTERM\n{}", self.tail()));
                }
                None => sleep(Duration::from_millis(10)),
            }
        }
    }

    /// Asks the agent.
    ///
    /// # Errors
    /// When it does not answer, or not with 200.
    pub fn get(&self, path: &str) -> Result<String, String> {
        let answer = http::fetch(&self.places.socket(), "GET", path, ANSWER);
        match answer.map_err(|error| format!("{path}: {error}"))? {
            (200, text) => Ok(text),
            (status, text) => Err(format!("{path}: {status} {text}")),
        }
    }

    /// The objects of a collection; `None` while the agent does not answer.
    pub fn list(&self, path: &str) -> Option<Vec<Value>> {
        let text = self.get(path).ok()?;
        let list: Value = serde_json::from_str(&text).ok()?;
        list["items"].as_array().cloned()
    }

    /// Writes a manifest as an editor does it that keeps the old one until the new one is complete.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn place(&self, file: &str, manifest: &Value) -> io::Result<()> {
        let directory = self.places.manifests();
        let new = directory.join(format!(".{file}.new"));
        fs::write(&new, manifest.to_string())?;
        fs::rename(new, directory.join(file))
    }

    /// Removes a manifest.
    ///
    /// # Errors
    /// When it is not there.
    pub fn remove(&self, file: &str) -> io::Result<()> {
        fs::remove_file(self.places.manifests().join(file))
    }

    /// Every shim that runs: its pid, its pod's uid and name. In the order of their names, so that a seed chooses the same.
    pub fn shims(&self) -> Vec<(i32, String, String)> {
        let run = self.places.run().join("pods");
        let shim = |pid: i32| {
            let exe = fs::read_link(format!("/proc/{pid}/exe")).ok()?;
            exe.to_string_lossy().starts_with("/memfd:podwright-shim").then_some(())?;
            let command = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
            let config = String::from_utf8(command.split(|byte| *byte == 0).nth(1)?.to_vec()).ok()?;
            let config = Path::new(&config);
            let uid = config.strip_prefix(&run).ok()?.iter().next()?.to_str()?.to_owned();
            let config: Value = serde_json::from_slice(&fs::read(config).ok()?).ok()?;
            Some((pid, uid, config["name"].as_str()?.to_owned()))
        };
        let mut shims: Vec<_> = host::processes().into_iter().filter_map(shim).collect();
        shims.sort_by(|a, b| a.2.cmp(&b.2));
        shims
    }

    /// Lines of the agent's log that tell of a panic.
    pub fn panics(&self) -> Vec<String> {
        let text = fs::read(self.places.agent_log()).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        text.lines().filter(|line| line.contains("panicked")).map(str::to_owned).collect()
    }

    /// The last lines of its log.
    pub fn tail(&self) -> String {
        let text = fs::read(self.places.agent_log()).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();
        lines.get(lines.len().saturating_sub(6)..).unwrap_or_default().join("\n")
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // A run that was given up leaves no agent behind; that it is gone already is as good.
        drop(self.kill());
    }
}

/// Whether a program is there.
///
/// # Errors
/// With what to do about it.
pub fn has_programs(bin: &Path, names: &[&str]) -> Result<(), String> {
    names.iter().try_for_each(|name| podwright_cases::agent::has_program(bin, name))
}
