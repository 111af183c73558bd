//! One run of the scenario with one fault.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock};
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::signal::Signal;
use podwright_cases::{host, leftovers};
use serde_json::Value;

use crate::calls::Scope;
use crate::check::check;
use crate::fill::{Resource, Small};
use crate::inject::{Call, Kind, Mode, Plan, Program};
use crate::node::{Node, Setting, truth_directory};
use crate::observe::Observer;
use crate::recorded;
use crate::scenario::{Act, FILES, scenario, unsettled};
use crate::supervise::{Injector, own_program};
use crate::truth::{self, Truth};

/// Set by SIGINT and SIGTERM.
pub static INTERRUPTED: LazyLock<Arc<AtomicBool>> = LazyLock::new(Arc::default);

/// How long a fault of [`Mode::Until`] and a full disk last.
const LASTS: Duration = Duration::from_millis(1500);
/// How long after the begin of a fault the agent is killed.
const KILL_AFTER: Duration = Duration::from_millis(400);
/// How long everything may take to recover: what could not be written is tried again every ten seconds.
const RECOVERY: Duration = Duration::from_secs(45);
/// How long after that everything may take to be on disk.
const SAVED_WITHIN: Duration = Duration::from_secs(15);
/// How long after a failure of its own the agent may take to say so.
const TOLD_WITHIN: Duration = Duration::from_millis(700);
/// Size of a small file system.
const SMALL_MIB: u32 = 16;
const TICK: Duration = Duration::from_millis(20);
/// Every so many ticks the agent is asked.
const ASK: u32 = 6;

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Nothing: what the scenario is like by itself.
    None,
    /// A shim is killed, which the bed has to take for what it is: an exit that is lost. It shows that the bed can find something.
    Control,
    /// Calls fail.
    Calls(Plan),
    /// The disk is full from this millisecond on.
    Full(Resource, u64),
}

/// One run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Case {
    /// What goes wrong.
    pub fault: Fault,
    /// Whether the agent is killed while it does, or right after.
    pub kill: bool,
    /// Whether calls of podwright-oci count as well.
    pub runtime_too: bool,
}

/// The arguments that repeat it.
impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.fault {
            Fault::None => f.write_str("--calm")?,
            Fault::Control => f.write_str("--control")?,
            Fault::Calls(Plan { n, errno, mode }) => write!(f, "--n {n} --errno {errno:?} --mode {mode}")?,
            Fault::Full(Resource::Bytes, at) => write!(f, "--fill bytes --at {at}")?,
            Fault::Full(Resource::Inodes, at) => write!(f, "--fill inodes --at {at}")?,
        }
        if self.kill {
            f.write_str(" --kill")?;
        }
        if self.runtime_too { f.write_str(" --runtime-too") } else { Ok(()) }
    }
}

/// What came of it.
#[derive(Debug, Default)]
pub struct Report {
    /// What does not hold.
    pub wrong: Vec<String>,
    /// The calls that failed, the first few.
    pub failed: Vec<String>,
    /// Whether the fault came to pass.
    pub happened: bool,
    /// See [`Injector::counts`].
    pub counts: (u64, [u64; crate::inject::ERRORS.len()]),
    /// How long it took.
    pub seconds: f64,
}

struct Run {
    case: Case,
    node: Node,
    injector: Arc<Injector>,
    small: Option<Small>,
    observer: Observer,
    wrong: BTreeSet<String>,
    begin: Instant,
    /// Truth as of the last look, for programs that have started since.
    seen: BTreeMap<String, usize>,
    /// When the fault was over.
    lifted: Option<Instant>,
    killed: bool,
    ticks: u32,
    left: Vec<String>,
    /// What the agent said of itself while the fault was on.
    health: String,
}

/// Runs the scenario. `name` is its directory's below the work directory.
pub fn run(setting: &Setting, name: &str, case: Case) -> Report {
    let begin = Instant::now();
    match Run::new(setting, name, case) {
        Ok(run) => {
            let mut report = run.finish(setting);
            report.seconds = begin.elapsed().as_secs_f64();
            report
        }
        Err(error) => Report { wrong: vec![format!("the bed failed: {error}")], ..Report::default() },
    }
}

impl Run {
    fn new(setting: &Setting, name: &str, case: Case) -> Result<Run, String> {
        let text = |error: std::io::Error| error.to_string();
        let socket = setting.work.join(format!("{name}.listener"));
        let launcher = own_program().map_err(text)?;
        let node = Node::new(setting, name, Some((launcher, socket.clone()))).map_err(text)?;
        let directories = vec![node.places.state(), node.places.logs(), node.places.run()];
        let plan = match case.fault {
            Fault::Calls(plan) => Some(plan),
            _ => None,
        };
        let scope = Scope { bin: setting.bin.clone(), directories: directories.clone() };
        let injector = Arc::new(Injector::new(scope, plan, case.runtime_too));
        injector.serve(&socket).map_err(text)?;
        let small = match case.fault {
            Fault::Full(..) => Some(Small::mount(directories, SMALL_MIB).map_err(|errno| errno.to_string())?),
            _ => None,
        };
        let (observer, wrong, seen) = (Observer::default(), BTreeSet::new(), BTreeMap::new());
        let (begin, left) = (Instant::now(), vec![]);
        Ok(Run {
            case,
            node,
            injector,
            small,
            observer,
            wrong,
            begin,
            seen,
            lifted: None,
            killed: false,
            ticks: 0,
            left,
            health: String::new(),
        })
    }

    fn finish(mut self, setting: &Setting) -> Report {
        if let Err(error) = self.live() {
            self.wrong.insert(error);
        }
        self.wrong.extend(self.observer.wrong().cloned());
        self.wrong.extend(self.injector.panics());
        self.wrong.extend(self.node.panics());
        let (failed, counts) = (self.injector.failed(), self.injector.counts());
        let report = Report {
            wrong: self.wrong.iter().cloned().collect(),
            failed: failed.iter().take(5).map(|failed| format!("call {}: {}", failed.number, failed.call)).collect(),
            happened: !failed.is_empty() || (self.small.is_some() && self.lifted.is_some()),
            counts,
            seconds: 0.0,
        };
        if let Err(error) = self.node.kill() {
            eprintln!("faults: {error}");
        }
        leftovers::sweep(&self.node.places);
        drop(self.small.take());
        if report.wrong.is_empty() || !setting.keep {
            for path in [self.node.places.root.clone(), self.node.places.root.with_extension("listener")] {
                let removed = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
                if let Err(error) = removed {
                    eprintln!("faults: {}: {error}", path.display());
                }
            }
        }
        report
    }

    /// The scenario, its removal, and the end of the agent.
    fn live(&mut self) -> Result<(), String> {
        let truth_path = truth_directory(&self.node.places).display().to_string();
        let mut scenario = scenario(&truth_path);
        let expected = std::mem::take(&mut scenario.expected);
        let mut acts = scenario.acts.into_iter().peekable();
        let mut last = Duration::ZERO;
        let bed = |error: std::io::Error| format!("the bed failed: {error}");
        // A runtime that is refused by the disk refuses its container, and that is the end of a pod that may not be started again.
        let may_refuse = self.small.is_some() || self.case.runtime_too;
        loop {
            while let Some((at, act)) = acts.next_if(|(at, _)| *at <= self.begin.elapsed()) {
                last = at;
                match act {
                    Act::Place(file, manifest) => self.node.place(file, &manifest),
                    Act::Remove(file) => self.node.remove(file),
                }
                .map_err(bed)?;
            }
            self.tick(true)?;
            if self.case.fault == Fault::Control && self.observer.wrong().next().is_some() {
                return Ok(());
            }
            if acts.peek().is_none()
                && self.ticks.is_multiple_of(ASK)
                && self.is_calm(last)
                && self.look(|pods, jobs| unsettled(pods, jobs, may_refuse))
            {
                break;
            }
            self.give_up_late("the scenario did not come to its end")?;
        }
        self.judge(&expected)?;
        self.wrong.extend(self.not_told());
        self.begin = Instant::now();
        for file in FILES {
            self.node.remove(file).map_err(bed)?;
        }
        loop {
            self.tick(false)?;
            let gone = |pods: &[Value], jobs: &[Value]| {
                let left = pods.iter().map(|pod| ("pod", pod)).chain(jobs.iter().map(|job| ("job", job)));
                left.map(|(kind, object)| format!("{kind} {} is not removed", object["metadata"]["name"])).collect()
            };
            if self.ticks.is_multiple_of(ASK) && self.is_calm(Duration::ZERO) && self.look(gone) {
                self.left = self.directories_left();
                if self.left.is_empty() {
                    break;
                }
            }
            self.give_up_late("removal did not come to its end")?;
        }
        self.judge(&expected)?;
        self.wait_for_health()?;
        self.node.stop()?;
        let left = self.left_behind();
        self.wrong.extend(left);
        Ok(())
    }

    /// Whether no fault is on.
    fn is_calm(&self, acts_until: Duration) -> bool {
        let begun = self.injector.begun().is_some();
        let is_on = match self.case.fault {
            Fault::None | Fault::Control => false,
            Fault::Calls(plan) => {
                (plan.mode == Mode::Until && begun && self.lifted.is_none()) || (begun && self.owes_kill())
            }
            Fault::Full(..) => self.lifted.is_none() || self.owes_kill(),
        };
        !is_on && self.begin.elapsed() >= acts_until
    }

    fn owes_kill(&self) -> bool {
        self.case.kill && !self.killed
    }

    /// Whether nothing is left to wait for, by what the agent shows.
    fn look(&mut self, unsettled: impl Fn(&[Value], &[Value]) -> Vec<String>) -> bool {
        self.left = match self.observe() {
            Some((pods, jobs)) => unsettled(&pods, &jobs),
            None => vec!["podwrightd does not answer".to_owned()],
        };
        self.left.is_empty()
    }

    /// Pods and jobs as the agent shows them, if it does.
    fn observe(&mut self) -> Option<(Vec<Value>, Vec<Value>)> {
        let pods = self.node.list("/api/v1/pods")?;
        let jobs = self.node.list("/apis/batch/v1/jobs")?;
        self.observer.pods(&pods, &self.truth(), &BTreeSet::new());
        self.observer.jobs(&jobs);
        Some((pods, jobs))
    }

    fn give_up_late(&self, what: &str) -> Result<(), String> {
        if INTERRUPTED.load(Ordering::Relaxed) {
            return Err("interrupted".to_owned());
        }
        let calm_since = self.lifted.map_or(self.begin, |lifted| lifted.max(self.begin));
        if calm_since.elapsed() < RECOVERY {
            return Ok(());
        }
        Err(format!("{what} within {RECOVERY:?}: {}\n{}", self.left.join("; "), self.node.tail()))
    }

    fn truth(&self) -> Truth {
        truth::read(&truth_directory(&self.node.places)).unwrap_or_default()
    }

    /// What is done every few milliseconds. `is_first`: of the scenario, not of its removal.
    fn tick(&mut self, is_first: bool) -> Result<(), String> {
        sleep(TICK);
        self.ticks += 1;
        let begun = match self.case.fault {
            Fault::None => None,
            Fault::Control => {
                let is_six = |(_, _, name): &&(i32, String, String)| name == "six";
                if !self.killed
                    && self.truth().contains_key("six")
                    && let Some((pid, ..)) = self.node.shims().iter().find(is_six)
                {
                    host::signal(*pid, Signal::SIGKILL)?;
                    self.killed = true;
                }
                None
            }
            Fault::Calls(_) => self.injector.begun(),
            Fault::Full(resource, at) => {
                let begun = self.begin + Duration::from_millis(at);
                let is_on = is_first && self.lifted.is_none() && begun <= Instant::now();
                if let (Some(small), true) = (&self.small, is_on) {
                    small.fill(resource).map_err(|error| format!("the bed cannot fill the disk: {error}"))?;
                }
                (is_first && begun <= Instant::now()).then_some(begun)
            }
        };
        let lasts = match self.case.fault {
            Fault::Calls(Plan { mode: Mode::Once, .. }) => Duration::ZERO,
            _ => LASTS,
        };
        if let Some(begun) = begun {
            let kill_after = KILL_AFTER.min(lasts);
            if self.owes_kill() && begun.elapsed() >= kill_after {
                self.node.kill().map_err(|error| format!("the bed cannot kill podwrightd: {error}"))?;
                self.killed = true;
            }
            if self.lifted.is_none() && begun.elapsed() >= lasts {
                self.injector.lift();
                if let Some(small) = &self.small {
                    small.free().map_err(|error| format!("the bed cannot free the disk: {error}"))?;
                }
                self.lifted = Some(Instant::now());
            }
        }
        // An agent that begins where it can write nothing may refuse, and be started again.
        let may_refuse = begun.is_some() && self.lifted.is_none_or(|lifted| lifted.elapsed() < Duration::from_secs(1));
        if let Err(error) = self.node.tend(may_refuse) {
            self.wrong.insert(error);
        }
        if is_first {
            self.look_for_unsaved();
            if self.ticks % ASK == 3 {
                self.observe();
                if begun.is_some() && self.lifted.is_none() {
                    self.health.extend(self.node.get("/healthz?verbose"));
                }
            }
        }
        Ok(())
    }

    /// Nothing is started that is not saved.
    fn look_for_unsaved(&mut self) {
        let truth = self.truth();
        let is_new = |(key, runs): (&String, &Vec<truth::Run>)| runs.len() > self.seen.get(key).copied().unwrap_or(0);
        let new: Vec<String> = truth.iter().filter(|entry| is_new(*entry)).map(|(key, _)| key.clone()).collect();
        if new.is_empty() {
            return;
        }
        let recorded = recorded::read(&self.node.places.state());
        for key in new {
            let runs = truth.get(&key).map(Vec::as_slice).unwrap_or_default();
            if !recorded.pods.values().flatten().any(|saved| *saved == key) {
                self.wrong.insert(format!("{key} was started, and its pod is not saved"));
            }
            let last = runs.last().map_or(0, |run| run.started);
            if !recorded.records.iter().any(|record| record.key == key && record.requested <= last) {
                self.wrong.insert(format!("{key} was started, and no record tells of it"));
            }
            self.seen.insert(key, runs.len());
        }
    }

    /// What is on disk may be behind what is told for as long as a shim or the agent waits before it tries to write again.
    fn judge(&mut self, expected: &crate::check::Expected) -> Result<(), String> {
        let begin = Instant::now();
        loop {
            let wrong = check(&self.truth(), &recorded::read(&self.node.places.state()), expected);
            if wrong.is_empty() {
                return Ok(());
            }
            if begin.elapsed() > SAVED_WITHIN {
                self.wrong.extend(wrong);
                return Ok(());
            }
            self.tick(false)?;
        }
    }

    /// The user is told what is wrong while it is. Where the agent was killed, or had nothing of its own to write, there may have been
    /// nobody to tell.
    fn not_told(&self) -> Option<String> {
        let (Fault::Calls(Plan { errno, mode: Mode::Until, .. }), Some(lifted), false) =
            (self.case.fault, self.lifted, self.case.kill)
        else {
            return None;
        };
        let condition = match errno {
            Errno::ENOSPC => "DiskPressure",
            Errno::EROFS => "ReadonlyFilesystem",
            Errno::EIO => "IOError",
            _ => return None,
        };
        let state = self.node.places.state();
        let is_state = |call: &Call| {
            let path = call.path.as_ref().and_then(|path| path.strip_prefix(&state).ok());
            let is_kept = path.is_some_and(|path| {
                let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
                name.contains("object.json") || name.contains("state.json")
            });
            call.program == Program::Agent && is_kept && call.kind != Kind::Remove
        };
        let failed = self.injector.failed();
        let mut early = failed.iter().filter(|failed| failed.at + TOLD_WITHIN < lifted);
        let first = early.find(|failed| is_state(&failed.call))?;
        let is_told = self.health.contains(&format!("[-]{condition} failed"));
        (!is_told).then(|| format!("{} failed, and /healthz?verbose never said {condition}", first.call))
    }

    /// And that it is over.
    fn wait_for_health(&mut self) -> Result<(), String> {
        let begin = Instant::now();
        loop {
            let health = self.node.get("/healthz?verbose");
            match health {
                Ok(health) if !health.contains("[-]") => return Ok(()),
                Ok(health) if begin.elapsed() > SAVED_WITHIN => {
                    self.wrong
                        .insert(format!("the fault is over, and /healthz?verbose says {}", health.replace('\n', "; ")));
                    return Ok(());
                }
                Err(error) if begin.elapsed() > SAVED_WITHIN => return Err(error),
                _ => self.tick(false)?,
            }
        }
    }

    /// Directories of pods that are not there any more, but for what is kept to be read.
    fn directories_left(&self) -> Vec<String> {
        let entries = |directory: PathBuf| fs::read_dir(directory).into_iter().flatten().flatten();
        let mut left = Vec::new();
        for pod in entries(self.node.places.state().join("pods")) {
            // A half-written file that could not be removed is passed over by all readers, and goes with its directory.
            let is_kept = |name: &str| {
                matches!(name, "identity.json" | "object.json" | "state.json" | "records") || name.ends_with(".tmp")
            };
            let parts = entries(pod.path()).filter(|part| !is_kept(&part.file_name().to_string_lossy()));
            left.extend(parts.map(|part| part.path()));
        }
        left.extend(entries(self.node.places.run().join("pods")).map(|sandbox| sandbox.path()));
        left.iter().map(|path| format!("{} is left behind", path.display())).collect()
    }

    /// What is there after everything was removed and the agent has left.
    fn left_behind(&mut self) -> Vec<String> {
        let mut left = Vec::new();
        if let Some(small) = &mut self.small {
            small.unmount();
        }
        left.extend(leftovers::wait(&self.node.places, &BTreeSet::new(), Duration::from_secs(5)));
        left
    }
}

/// From here on SIGINT and SIGTERM set [`INTERRUPTED`].
///
/// # Errors
/// When they cannot be taken.
pub fn watch_signals() -> std::io::Result<()> {
    for signal in [2, 15] {
        signal_hook::flag::register(signal, Arc::clone(&INTERRUPTED))?;
    }
    Ok(())
}

/// The cgroup of all runs.
///
/// # Errors
/// When it cannot be made.
pub fn parent_cgroup(program: &str) -> Result<(PathBuf, bool), String> {
    let host = host::Host::probe()?;
    let name = format!("podwright-{program}-{}", std::process::id());
    let cgroup = host.make_parent(&name).map_err(|error| format!("cgroup {name}: {error}"))?;
    Ok((cgroup, !host.has_controllers()))
}
