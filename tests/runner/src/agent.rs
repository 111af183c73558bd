//! The `podwrightd` of a case, and the `podwright` that talks to it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::{sleep, spawn};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::{Map, Value, json};

use crate::http;
use crate::{host, yaml};

const POLL: Duration = Duration::from_millis(10);
/// How long the agent may take to answer, to end, and a call of `podwright` to return, on an idle machine.
const PATIENCE: Duration = Duration::from_secs(15);

/// The directories of a case.
#[derive(Debug, Clone)]
pub struct Places {
    /// All of it.
    pub root: PathBuf,
    /// The cgroup for the case's pods.
    pub cgroup: PathBuf,
}

impl Places {
    /// The manifest directory.
    pub fn manifests(&self) -> PathBuf {
        self.root.join("manifests")
    }

    /// The agent's state directory.
    pub fn state(&self) -> PathBuf {
        self.root.join("state")
    }

    /// The agent's run directory.
    pub fn run(&self) -> PathBuf {
        self.root.join("run")
    }

    /// The directory of the pods' logs.
    pub fn logs(&self) -> PathBuf {
        self.root.join("logs")
    }

    /// The agent's socket.
    pub fn socket(&self) -> PathBuf {
        self.run().join("podwright.sock")
    }

    /// The agent's own log.
    pub fn agent_log(&self) -> PathBuf {
        self.root.join("agent.log")
    }

    fn boot_id(&self) -> PathBuf {
        self.root.join("boot_id")
    }

    fn config(&self) -> PathBuf {
        self.root.join("config.yaml")
    }
}

/// What `podwright` answered.
#[derive(Debug)]
pub struct Answer {
    /// Its exit status; 128 + n for signal n.
    pub code: i64,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
}

/// An agent that runs, or is down for a while.
#[derive(Debug)]
pub struct Agent {
    places: Places,
    bin: PathBuf,
    patience: Duration,
    child: Option<Child>,
}

impl Agent {
    /// Writes the agent's configuration. `own` is the case's part of it, `common` what holds for all cases.
    pub fn new(
        places: Places,
        bin: &Path,
        slow: f64,
        bundles: &Path,
        own: &Map<String, Value>,
        common: &Map<String, Value>,
    ) -> io::Result<Agent> {
        for dir in [places.manifests(), places.state(), places.run(), places.logs()] {
            fs::create_dir_all(dir)?;
        }
        let mut config = json!({
            "manifestDir": places.manifests(),
            "stateDir": places.state(),
            "runDir": places.run(),
            "logDir": places.logs(),
            "bundleDir": bundles,
            "cgroupRoot": places.cgroup,
            "bootIdFile": places.boot_id(),
            "logFormat": "json",
        });
        for (key, value) in common.iter().chain(own) {
            config[key.as_str()] = value.clone();
        }
        fs::write(places.config(), yaml::write(&config))?;
        let agent = Agent { places, bin: bin.to_owned(), patience: PATIENCE.mul_f64(slow), child: None };
        agent.new_boot_id()?;
        Ok(agent)
    }

    /// Makes the agent believe in another boot from its next start on.
    pub fn new_boot_id(&self) -> io::Result<()> {
        fs::write(self.places.boot_id(), fs::read("/proc/sys/kernel/random/uuid")?)
    }

    /// Starts it and waits until it answers.
    pub fn start(&mut self) -> Result<(), String> {
        let log = OpenOptions::new().create(true).append(true).open(self.places.agent_log());
        let log = log.map_err(|e| format!("{}: {e}", self.places.agent_log().display()))?;
        let again = log.try_clone().map_err(|e| format!("agent.log: {e}"))?;
        let program = self.bin.join("podwrightd");
        let mut command = Command::new(&program);
        command.arg("--config").arg(self.places.config()).current_dir(&self.places.root);
        command.stdin(Stdio::null()).stdout(again).stderr(log);
        let child = command.spawn().map_err(|e| format!("{}: {e}", program.display()))?;
        self.child = Some(child);
        let begin = Instant::now();
        loop {
            if http::fetch(&self.places.socket(), "GET", "/healthz", self.patience).is_ok_and(|(code, _)| code == 200) {
                return Ok(());
            }
            if let Some(how) = self.ended() {
                return Err(format!("podwrightd did not start: {how}\n{}", self.tail()));
            }
            if begin.elapsed() > self.patience {
                return Err(format!("podwrightd does not answer within {:?}\n{}", self.patience, self.tail()));
            }
            sleep(POLL);
        }
    }

    /// How it ended, if it did so by itself.
    pub fn ended(&mut self) -> Option<String> {
        let child = self.child.as_mut()?;
        let status = child.try_wait().ok().flatten()?;
        self.child = None;
        Some(status.to_string())
    }

    /// Whether it is up.
    pub fn is_up(&self) -> bool {
        self.child.is_some()
    }

    /// SIGKILL.
    pub fn kill(&mut self) -> Result<(), String> {
        let mut child = self.child.take().ok_or("the agent is down already")?;
        child.kill().and_then(|()| child.wait()).map(|_| ()).map_err(|e| format!("podwrightd: {e}"))
    }

    /// SIGTERM, and its end with status 0.
    pub fn stop(&mut self) -> Result<(), String> {
        let mut child = self.child.take().ok_or("the agent is down already")?;
        let pid = i32::try_from(child.id()).map_err(|e| format!("podwrightd: {e}"))?;
        host::signal(pid, Signal::SIGTERM)?;
        let begin = Instant::now();
        loop {
            match child.try_wait().map_err(|e| format!("podwrightd: {e}"))? {
                Some(status) if status.success() => return Ok(()),
                Some(status) => return Err(format!("podwrightd ended with {status} on SIGTERM\n{}", self.tail())),
                None if begin.elapsed() > self.patience => {
                    self.child = Some(child);
                    self.kill()?;
                    return Err(format!("podwrightd did not end within {:?} of SIGTERM", self.patience));
                }
                None => sleep(POLL),
            }
        }
    }

    /// Runs `podwright`.
    pub fn podwright(&self, args: &[&str]) -> Result<Answer, String> {
        let program = self.bin.join("podwright");
        let mut command = Command::new(&program);
        command.args(args).env("PODWRIGHT_SOCKET", self.places.socket()).env("NO_COLOR", "1");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(|e| format!("{}: {e}", program.display()))?;
        let (out, err) = (reader(child.stdout.take()), reader(child.stderr.take()));
        let begin = Instant::now();
        let status = loop {
            match child.try_wait().map_err(|e| format!("podwright: {e}"))? {
                Some(status) => break status,
                None if begin.elapsed() > self.patience => {
                    child.kill().and_then(|()| child.wait()).map_err(|e| format!("podwright: {e}"))?;
                    return Err(format!("podwright {args:?} did not return within {:?}", self.patience));
                }
                None => sleep(POLL),
            }
        };
        let signal = std::os::unix::process::ExitStatusExt::signal(&status);
        let code = status.code().unwrap_or_else(|| 128 + signal.unwrap_or(0));
        let text = |reader: std::thread::JoinHandle<String>| reader.join().unwrap_or_default();
        Ok(Answer { code: code.into(), stdout: text(out), stderr: text(err) })
    }

    /// The last lines of its log.
    fn tail(&self) -> String {
        let text = fs::read_to_string(self.places.agent_log()).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(10)..].join("\n")
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        if self.child.is_some() {
            // A case that was given up leaves no agent behind; that it is gone already is as good.
            drop(self.kill());
        }
    }
}

fn reader<R: Read + Send + 'static>(from: Option<R>) -> std::thread::JoinHandle<String> {
    spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut from) = from {
            // What was read until an error is what there is.
            drop(from.read_to_end(&mut bytes));
        }
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

/// Empties a directory that may not be there.
pub fn empty(dir: &Path) -> io::Result<()> {
    fs::remove_dir_all(dir).or_else(|e| if e.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(e) })?;
    fs::create_dir_all(dir)
}

/// Whether a program is there to be run.
pub fn has_program(bin: &Path, name: &str) -> Result<(), String> {
    let path = bin.join(name);
    File::open(&path).map(|_| ()).map_err(|e| format!("{}: {e}; build it first (scripts/build)", path.display()))
}
