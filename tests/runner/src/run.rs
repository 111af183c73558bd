//! Carries out the steps of a case and records what happens.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock};
use std::thread::sleep;
use std::time::Duration;

use nix::sys::signal::Signal;
use regex::Regex;
use serde_json::{Map, Value};

use crate::agent::{Agent, Places, empty};
use crate::case::{Case, Form, Step, Way};
use crate::directory::{Directory, Edit};
use crate::grammar::{Expect, Operand, Status, Until};
use crate::host::{cgroups_below, processes_in, signal};
use crate::http;
use crate::judge::Judge;
use crate::leftovers;
use crate::live::Live;
use crate::recording::{FileWrite, Probe, Recording};

/// Set when the whole run is interrupted: cases end at their next step and clean up.
pub static INTERRUPTED: LazyLock<Arc<AtomicBool>> = LazyLock::new(Arc::default);

/// What all cases share.
#[derive(Debug, Clone)]
pub struct Setting {
    /// Directory of `podwrightd`, `podwright` and what they start.
    pub bin: PathBuf,
    /// Directory of the bundles.
    pub bundles: PathBuf,
    /// Each case gets a directory in it.
    pub work: PathBuf,
    /// Each case gets a cgroup in it.
    pub cgroup: PathBuf,
    /// Multiplies upper bounds.
    pub slow: f64,
    /// Configuration for every agent.
    pub config: Map<String, Value>,
    /// Leave the directories of cases there.
    pub keep: bool,
}

/// How often a case looks at what happens, on an idle machine.
const POLL: Duration = Duration::from_millis(40);
/// At most this many times less often on a slow one.
const SLOWEST_POLL: f64 = 4.0;
/// How long everything may take to be gone once it is removed, on an idle machine.
const CLEAN_UP: Duration = Duration::from_secs(12);
/// How long traces may be found after that.
const TRACES: Duration = Duration::from_secs(3);
/// Everything is removed when nothing is there at this many looks in a row.
const QUIET_LOOKS: u32 = 4;
const REQUEST: Duration = Duration::from_secs(15);

struct Session<'a> {
    case: &'a Case,
    setting: &'a Setting,
    places: Places,
    agent: Agent,
    directory: Directory,
    live: Live,
    placed: BTreeSet<String>,
    hidden: bool,
    /// The agent is meant to be up.
    wanted_up: bool,
}

/// Runs a case and everything that is checked in every case.
pub fn run(case: &Case, setting: &Setting) -> Recording {
    let root = setting.work.join(&case.id);
    let places = Places { root, cgroup: setting.cgroup.join(&case.id) };
    let mut session = match Session::new(case, setting, &places) {
        Ok(session) => session,
        Err(problem) => {
            leftovers::sweep(&places);
            return Recording { problems: vec![problem], ..Recording::default() };
        }
    };
    let ran = session.run_steps().and_then(|()| session.wait_for_end());
    if let Err(problem) = ran {
        session.live.recording.problems.push(problem);
    }
    session.live.finish();
    session.collect();
    // Expectations see what happened until here, not what the removal makes happen.
    let mut recording = session.live.recording.clone();
    session.clean_up();
    recording.problems = std::mem::take(&mut session.live.recording.problems);
    drop(session);
    leftovers::sweep(&places);
    if !setting.keep {
        // Failing here harms no one: the whole work directory is removed at the end.
        drop(fs::remove_dir_all(&places.root));
    }
    recording
}

impl<'a> Session<'a> {
    fn new(case: &'a Case, setting: &'a Setting, places: &Places) -> Result<Session<'a>, String> {
        let text = |e: io::Error| format!("{}: {e}", places.root.display());
        empty(&places.root).map_err(text)?;
        let mut agent =
            Agent::new(places.clone(), &setting.bin, setting.slow, &setting.bundles, &case.agent, &setting.config)
                .map_err(text)?;
        let outside = places.root.join("outside");
        let directory = Directory::new(places.manifests(), outside, &case.stretched(setting.slow)).map_err(text)?;
        agent.start()?;
        let mut live = Live::new(places.clone(), &case.scope.pods, probes_of(case), setting.slow);
        // The kernel's figures before the first step.
        live.tick();
        Ok(Session {
            case,
            setting,
            places: places.clone(),
            agent,
            directory,
            live,
            placed: BTreeSet::new(),
            hidden: false,
            wanted_up: true,
        })
    }

    fn limit(&self) -> f64 {
        self.case.max * self.setting.slow
    }

    fn pod(&self) -> &'a str {
        &self.case.scope.pods[0]
    }

    fn run_steps(&mut self) -> Result<(), String> {
        for (i, step) in self.case.steps.iter().enumerate() {
            self.step(step).map_err(|e| format!("step {} ({}): {e}", i + 1, describe(step)))?;
            self.look()?;
        }
        Ok(())
    }

    /// Reads what is new; whether it makes sense to go on.
    fn look(&mut self) -> Result<(), String> {
        self.live.tick();
        if INTERRUPTED.load(Ordering::Relaxed) {
            return Err("interrupted".to_owned());
        }
        if self.wanted_up
            && let Some(how) = self.agent.ended()
        {
            return Err(format!("the agent ended by itself: {how}"));
        }
        let now = self.live.now();
        if now > self.limit() { Err(format!("over its max of {} s", self.limit())) } else { Ok(()) }
    }

    fn pause(&self) {
        sleep(self.poll());
    }

    /// Looking costs time too, so it is done less often where that is short; times come from what is read.
    fn poll(&self) -> Duration {
        POLL.mul_f64(self.setting.slow.min(SLOWEST_POLL))
    }

    fn step(&mut self, step: &Step) -> Result<(), String> {
        match step {
            Step::Start { .. }
            | Step::Delete(_)
            | Step::Edit { .. }
            | Step::Restore
            | Step::Touch
            | Step::Rewrite
            | Step::Rename(_)
            | Step::Copy(_)
            | Step::WriteFile { .. }
            | Step::Mkfifo(_)
            | Step::Symlink { .. }
            | Step::Remove(_)
            | Step::ClearDir
            | Step::HideDir
            | Step::ShowDir
            | Step::MakeDir => self.directory_step(step).map_err(|e| e.to_string()),
            Step::Wait(seconds) => self.wait(*seconds),
            Step::Until(_, until) => self.wait_until(until),
            Step::AgentKill | Step::AgentStop | Step::AgentStart | Step::Reboot | Step::LoseSandbox => {
                self.process_step(step)
            }
            Step::Signal { container, signal: name } => {
                let number = Signal::from_str(&format!("SIG{name}")).map_err(|_| format!("no signal {name}"))?;
                self.live.tick();
                let pid = self.live.running(container).and_then(|run| run.pid).ok_or("it does not run")?;
                signal(pid, number)
            }
            Step::ApiDelete { grace } => {
                self.podwright(&["delete", "pod", self.pod(), "--grace-period", &grace.to_string()], 0).map(|_| ())?;
                self.live.mark("deleted", None);
                self.live.await_gone(self.pod());
                Ok(())
            }
            Step::Restart => self.podwright(&["restart", self.pod()], 0).map(|_| ()),
            Step::Cli { args, rc, matches } => {
                let args: Vec<&str> = args.iter().map(String::as_str).collect();
                let stdout = self.podwright(&args, *rc)?;
                let Some(pattern) = matches else { return Ok(()) };
                let fits = Regex::new(pattern).map_err(|e| e.to_string())?.is_match(&stdout);
                if fits { Ok(()) } else { Err(format!("{pattern:?} does not match {stdout:?}")) }
            }
        }
    }

    fn podwright(&self, args: &[&str], rc: i64) -> Result<String, String> {
        let answer = self.agent.podwright(args)?;
        if answer.code == rc {
            return Ok(answer.stdout);
        }
        Err(format!(
            "podwright {args:?} ended with {}, not {rc}; stdout {:?}, stderr {:?}",
            answer.code, answer.stdout, answer.stderr
        ))
    }

    fn wait(&mut self, seconds: f64) -> Result<(), String> {
        let end = self.live.now() + seconds;
        loop {
            self.look()?;
            let left = end - self.live.now();
            if left <= 0.0 {
                return Ok(());
            }
            sleep(Duration::from_secs_f64(left).min(self.poll()));
        }
    }

    fn wait_until(&mut self, until: &Until) -> Result<(), String> {
        loop {
            self.look()?;
            if self.judge().reached(until) {
                return Ok(());
            }
            self.pause();
        }
    }

    fn judge(&self) -> Judge<'_> {
        Judge { recording: &self.live.recording, slow: self.setting.slow }
    }

    fn wrote(&mut self, at: f64, file: &str) {
        let pods = self.directory.pods_in(file);
        self.live.recording.writes.push(FileWrite { at, file: file.to_owned(), pods });
    }

    fn removed(&mut self, pods: &[String]) {
        self.live.mark("deleted", None);
        for pod in pods {
            self.live.await_gone(pod);
        }
    }

    fn directory_step(&mut self, step: &Step) -> io::Result<()> {
        let begin = self.live.now();
        let pod = self.pod();
        match step {
            Step::Start { pod, file, form, by } => self.start(pod.as_ref(), file.as_ref(), *form, *by)?,
            Step::Delete(pod) => {
                self.directory.delete(pod)?;
                self.removed(std::slice::from_ref(pod));
            }
            Step::Edit { pod, container, merge, comment, json, raw, by } => {
                let edit = Edit {
                    container: container.as_deref(),
                    merge: merge.as_ref(),
                    comment: comment.as_deref(),
                    json: *json,
                    raw: raw.as_deref(),
                    by: *by,
                };
                self.directory.edit(pod, &edit)?;
                self.live.mark("edited", None);
                self.wrote(begin, &self.directory.home(pod));
            }
            Step::Restore => {
                self.directory.restore(pod)?;
                self.wrote(begin, &self.directory.home(pod));
            }
            Step::Touch => self.directory.touch(pod)?,
            Step::Rewrite => self.directory.rewrite(pod)?,
            Step::Rename(to) => self.directory.rename(pod, to)?,
            Step::Copy(to) => {
                self.directory.copy(pod, to)?;
                self.wrote(begin, to);
            }
            Step::WriteFile { file, raw } => {
                self.directory.write(file, raw)?;
                self.wrote(begin, file);
            }
            Step::Mkfifo(file) => self.directory.mkfifo(file)?,
            Step::Symlink { file, to } => self.directory.symlink(file, to)?,
            Step::Remove(file) => self.directory.remove(file)?,
            Step::ClearDir => {
                self.directory.clear()?;
                let placed: Vec<String> = self.placed.iter().cloned().collect();
                self.removed(&placed);
            }
            Step::HideDir => self.directory.hide().map(|()| self.hidden = true)?,
            Step::ShowDir => self.directory.show().map(|()| self.hidden = false)?,
            _ => self.directory.make()?,
        }
        Ok(())
    }

    fn start(&mut self, pod: Option<&String>, file: Option<&String>, form: Form, by: Way) -> io::Result<()> {
        let pods = pod.map_or_else(|| self.case.scope.pods.clone(), |pod| vec![pod.clone()]);
        let groups = match file {
            Some(file) => vec![(file.clone(), pods)],
            None => pods.into_iter().map(|pod| (format!("{pod}.yaml"), vec![pod])).collect(),
        };
        for (file, pods) in groups {
            let begin = self.live.now();
            self.directory.start(&pods, &file, form, by)?;
            self.wrote(begin, &file);
            for pod in pods {
                self.live.mark("placed", Some(&pod));
                self.live.forget_gone(&pod);
                self.placed.insert(pod);
            }
        }
        Ok(())
    }

    fn process_step(&mut self, step: &Step) -> Result<(), String> {
        match step {
            Step::AgentKill | Step::AgentStop => {
                self.collect_events();
                self.wanted_up = false;
                if *step == Step::AgentKill { self.agent.kill() } else { self.agent.stop() }?;
                self.live.mark("agent_down", None);
            }
            Step::AgentStart => self.agent_start()?,
            Step::LoseSandbox => {
                let shim = self.live.shim(self.pod()).ok_or("the pod has no shim")?;
                signal(shim, Signal::SIGKILL)?;
                self.live.mark("sandbox_lost", None);
            }
            _ => {
                self.collect_events();
                self.wanted_up = false;
                self.agent.kill()?;
                self.kill_all()?;
                self.live.mark("agent_down", None);
                empty(&self.places.run()).map_err(|e| e.to_string())?;
                self.agent.new_boot_id().map_err(|e| e.to_string())?;
                self.agent_start()?;
            }
        }
        Ok(())
    }

    /// It is up from the moment in which it is started: it acts as soon as it answers, and nothing of that may be before.
    fn agent_start(&mut self) -> Result<(), String> {
        let at = self.live.now();
        self.agent.start()?;
        self.wanted_up = true;
        self.live.mark_at(at, "agent_up", None);
        Ok(())
    }

    /// All processes of the case at once, and with them its cgroups, as a reboot would.
    fn kill_all(&mut self) -> Result<(), String> {
        fs::write(self.places.cgroup.join("cgroup.kill"), "1").map_err(|e| format!("cgroup.kill: {e}"))?;
        for _ in 0..500 {
            if cgroups_below(&self.places.cgroup).iter().all(|cgroup| processes_in(cgroup).is_empty()) {
                break;
            }
            sleep(Duration::from_millis(10));
        }
        for cgroup in cgroups_below(&self.places.cgroup) {
            remove_cgroup(&cgroup).map_err(|e| format!("{}: {e}", cgroup.display()))?;
        }
        Ok(())
    }

    /// Steps are through: waits for every time that an expectation names, and until every pod is terminal or gone unless
    /// the last step is a wait.
    fn wait_for_end(&mut self) -> Result<(), String> {
        let waited = matches!(self.case.steps.last(), Some(Step::Wait(_)));
        loop {
            self.look()?;
            let now = self.live.now();
            let past = self.case.expect.iter().all(|(_, expect)| self.judge().is_past(expect, now));
            if past && (waited || self.placed.iter().all(|pod| self.is_over(pod))) {
                return Ok(());
            }
            self.pause();
        }
    }

    /// A pod that was removed is over when it is gone, another when it is terminal.
    fn is_over(&self, pod: &str) -> bool {
        if self.live.awaits(pod) {
            return false;
        }
        let gone = self.live.recording.marks.iter().any(|m| m.event == "gone" && m.pod.as_deref() == Some(pod));
        let phases = self.live.recording.phases(pod);
        let terminal = phases.last().is_some_and(|phase| matches!(*phase, "Succeeded" | "Failed"));
        terminal || (gone && !self.live.active().iter().any(|active| active == pod))
    }

    /// What expectations look at beside the pods themselves.
    fn collect(&mut self) {
        let asks = |wanted: fn(&Expect) -> bool| self.case.expect.iter().any(|(_, expect)| wanted(expect));
        if asks(|e| matches!(e, Expect::Rejected(..))) && self.agent.is_up() {
            match self.agent.podwright(&["get", "files"]) {
                Ok(answer) if answer.code == 0 => self.live.recording.files = answer.stdout,
                Ok(answer) => self.live.recording.problems.push(format!("podwright get files: {}", answer.stderr)),
                Err(problem) => self.live.recording.problems.push(problem),
            }
        }
        if asks(|e| matches!(e, Expect::Rejected(..) | Expect::EventSeen(_))) {
            self.collect_events();
        }
        self.live.recording.log = fs::read_to_string(self.places.agent_log()).unwrap_or_default();
    }

    /// Events live in the agent's memory, so they are read before it goes too.
    fn collect_events(&mut self) {
        if !self.agent.is_up() {
            return;
        }
        let list = http::fetch(&self.places.socket(), "GET", "/api/v1/events", REQUEST);
        match list.map(|(_, text)| serde_json::from_str::<Value>(&text)) {
            Ok(Ok(mut list)) => {
                if let Value::Array(items) = list["items"].take() {
                    self.live.recording.events.extend(items);
                }
            }
            other => self.live.recording.problems.push(format!("/api/v1/events: {other:?}")),
        }
    }

    /// Removes everything, then looks for what is left.
    fn clean_up(&mut self) {
        if let Err(problem) = self.remove_all() {
            self.live.recording.problems.push(format!("removing everything: {problem}"));
        }
        self.live.tick();
        let mut problems: Vec<String> = self.live.unfinished_records();
        problems.iter_mut().for_each(|record| *record = format!("no exit is recorded in {record}"));
        problems.extend(self.restarted_actors());
        problems.extend(panics(&self.places.root));
        let patience = TRACES.mul_f64(self.setting.slow);
        let left = leftovers::wait(&self.places, &self.live.namespaces, patience);
        problems.extend(left.iter().map(|left| format!("left behind: {left}")));
        self.live.recording.problems.extend(problems);
    }

    fn remove_all(&mut self) -> Result<(), String> {
        if !self.agent.is_up() {
            self.agent.start()?;
        }
        if self.hidden {
            self.directory.show().map_err(|e| e.to_string())?;
        }
        self.directory.clear().map_err(|e| e.to_string())?;
        let patience = CLEAN_UP.mul_f64(self.setting.slow).as_secs_f64();
        let begin = self.live.now();
        let mut asked = BTreeSet::new();
        let mut quiet = 0;
        loop {
            self.live.tick();
            let active = self.live.active();
            let processes = cgroups_below(&self.places.cgroup).iter().any(|cgroup| !processes_in(cgroup).is_empty());
            // A manifest that came and went may still be on its way to be noticed.
            quiet = if active.is_empty() && !processes { quiet + 1 } else { 0 };
            if quiet == QUIET_LOOKS {
                break;
            }
            if self.live.now() - begin > patience {
                return Err(format!("still there after {patience} s: {active:?}"));
            }
            for pod in active {
                if asked.insert(pod.clone()) {
                    let path = format!("/api/v1/namespaces/{}/pods/{pod}?gracePeriodSeconds=0", self.namespace(&pod));
                    // A pod that ended in between is as good as one that is deleted.
                    drop(http::fetch(&self.places.socket(), "DELETE", &path, REQUEST));
                }
            }
            self.pause();
        }
        self.agent.stop()
    }

    fn namespace(&self, pod: &str) -> &str {
        let manifest = self.case.manifests.iter().find(|m| m["metadata"]["name"] == pod);
        manifest.and_then(|m| m["metadata"]["namespace"].as_str()).unwrap_or("default")
    }

    /// `act` as process 1 writes `started` once: two of them in one log are two runs under one attempt number.
    fn restarted_actors(&self) -> Vec<String> {
        let runs = self.live.recording.instances.iter().filter(|run| self.case.scope.is_act(&run.container));
        runs.filter(|run| run.lines.iter().filter(|line| line.event && line.name() == "started").count() > 1)
            .map(|run| format!("{}/{} attempt {} ran twice", run.container.pod, run.container.name, run.attempt))
            .collect()
    }
}

/// A step for people.
fn describe(step: &Step) -> String {
    match step {
        Step::Until(text, _) => format!("until: {text}"),
        other => format!("{other:?}"),
    }
}

/// Lines of the agent's log that tell of a panic.
fn panics(root: &Path) -> Vec<String> {
    let log = fs::read_to_string(root.join("agent.log")).unwrap_or_default();
    log.lines().filter(|line| line.contains("panicked at")).map(|line| format!("panic: {line}")).collect()
}

/// What the case's status lines look at in the kernel.
fn probes_of(case: &Case) -> Vec<Probe> {
    let (mut probes, mut seen) = (Vec::new(), BTreeSet::new());
    let statuses = case.expect.iter().filter_map(|(_, expect)| match expect {
        Expect::Now(s) | Expect::At(_, s) | Expect::By(_, s) | Expect::Always(_, _, s) => Some(s),
        _ => None,
    });
    let waited = case.steps.iter().filter_map(|step| match step {
        Step::Until(_, Until::Status(status)) => Some(status),
        _ => None,
    });
    let mut add = |probe: Probe| {
        if seen.insert(probe.key()) {
            probes.push(probe);
        }
    };
    for Status { subject, compared } in statuses.chain(waited) {
        if let Some(probe) = subject.probe() {
            add(probe);
        }
        if let Operand::OomScore(container) = &compared.with {
            add(Probe::OomScore(container.clone()));
        }
    }
    probes
}

/// A process that is not listed any more may still be on its way out, and keeps its cgroup busy.
fn remove_cgroup(cgroup: &Path) -> io::Result<()> {
    let mut tries = 500;
    loop {
        match fs::remove_dir(cgroup) {
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy && tries > 0 => tries -= 1,
            other => return other,
        }
        sleep(Duration::from_millis(10));
    }
}
