//! Many pods, jobs and cron jobs on one agent that is killed again and again, and whose shims are; meanwhile manifests change, and the disk is
//! full now and then. Then everything settles, and what was recorded has to be what happened.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::sync::atomic::Ordering;
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use podwright_cases::{host, leftovers};
use serde_json::{Value, json};

use crate::check::{Expected, Rule, check};
use crate::fill::{Resource, Small};
use crate::node::{Node, Setting, truth_directory};
use crate::observe::{Observer, indexes};
use crate::random::Random;
use crate::recorded;
use crate::run::INTERRUPTED;
use crate::scenario::{container, job, pod, pod_spec, sidecar, was_refused};
use crate::truth::{self, Truth};

const TICK: Duration = Duration::from_millis(50);
/// Every so many ticks the agent is asked.
const ASK: u32 = 6;
/// How long everything may take to come to its end: pods of a job that failed are replaced after up to a minute or so.
const SETTLED_WITHIN: Duration = Duration::from_secs(240);
/// How long removal may take.
const REMOVED_WITHIN: Duration = Duration::from_secs(90);
/// Size of the file systems for state and logs.
const DISK_MIB: u32 = 96;
/// Indexes of a job.
const COMPLETIONS: u64 = 4;

/// What an object is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// A pod that runs once and leaves with this.
    Never(u8),
    /// A pod that fails twice.
    OnFailure,
    /// A pod that stays.
    Always,
    /// A pod with an init container and a sidecar.
    Sidecar,
    /// A job, each index of which fails at its first try if this is so.
    Job(bool),
    /// A cron job, every minute.
    Cron,
}

/// An object as it was placed last.
#[derive(Debug)]
struct Object {
    name: String,
    kind: Kind,
    /// Counts the times it was placed with another content: each is another object for the agent.
    revision: u32,
    label: u32,
    seconds: f64,
    is_there: bool,
}

impl Object {
    fn file(&self) -> String {
        format!("{}.yaml", self.name)
    }

    fn key(&self, part: &str) -> String {
        format!("{}.r{}.{part}", self.name, self.revision)
    }

    fn manifest(&self, truth: &str) -> Value {
        let run = format!("run={:.2}", self.seconds);
        let main = |words: &[&str]| vec![container("main", &self.key("main"), words)];
        let plain = |policy: &str, mains| pod_spec(truth, policy, vec![], mains);
        let labels = json!({"edit": self.label.to_string()});
        let pod = |spec: &Value| pod(&self.name, &labels, spec);
        match self.kind {
            Kind::Never(code) => pod(&plain("Never", main(&[&run, &format!("codes={code}")]))),
            Kind::OnFailure => pod(&plain("OnFailure", main(&[&run, "codes=3,5,0"]))),
            Kind::Always => pod(&plain("Always", main(&[]))),
            Kind::Sidecar => {
                let inits =
                    vec![container("init", &self.key("init"), &["run=0.2"]), sidecar("proxy", &self.key("proxy"))];
                pod(&pod_spec(truth, "Never", inits, main(&[&run])))
            }
            Kind::Job(fails) => {
                let (policy, codes) = if fails { ("OnFailure", "codes=7,0") } else { ("Never", "codes=0") };
                let spec = json!({"completions": COMPLETIONS, "parallelism": 2, "completionMode": "Indexed",
                                  "backoffLimit": 50});
                job(&self.name, spec, &plain(policy, main(&[&run, codes])))
            }
            Kind::Cron => {
                let template = plain("Never", main(&["run=0.5"]));
                json!({"apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": self.name}, "spec": {
                    "schedule": "* * * * *",
                    "jobTemplate": {"spec": {"template": {"spec": template}}},
                }})
            }
        }
    }

    /// What its programs may do, by key.
    fn rules(&self) -> Vec<(String, Rule)> {
        match self.kind {
            Kind::Never(_) => vec![(self.key("main"), Rule::Once)],
            Kind::OnFailure => vec![(self.key("main"), Rule::UntilSuccess)],
            Kind::Always | Kind::Cron => vec![],
            Kind::Sidecar => vec![(self.key("main"), Rule::Once), (self.key("init"), Rule::Init)],
            Kind::Job(_) => {
                let of = |index: u64| truth::key(&self.key("main"), Some(&index.to_string()));
                (0..COMPLETIONS).map(|index| (of(index), Rule::UntilSuccess)).collect()
            }
        }
    }

    /// What is not yet as it has to be in the end.
    fn unsettled(&self, pods: &[Value], jobs: &[Value], lost: &BTreeSet<String>) -> Option<String> {
        let named = |objects: &[Value]| objects.iter().find(|o| o["metadata"]["name"] == *self.name).cloned();
        let found = match self.kind {
            Kind::Job(_) => named(jobs),
            // What a cron job does depends on the time of day.
            Kind::Cron => return None,
            _ => named(pods),
        };
        if !self.is_there {
            return found.map(|_| format!("{} is not removed", self.name));
        }
        let Some(found) = found else { return Some(format!("{} is not there", self.name)) };
        let phase = found["status"]["phase"].as_str().unwrap_or_default();
        let is_lost = found["metadata"]["uid"].as_str().is_some_and(|uid| lost.contains(uid));
        let may_fail = phase == "Failed" && (is_lost || was_refused(&found));
        let is_settled = match self.kind {
            Kind::Never(0) | Kind::Sidecar => phase == "Succeeded" || may_fail,
            Kind::Never(_) => phase == "Failed",
            Kind::OnFailure => phase == "Succeeded",
            Kind::Always => phase == "Running",
            Kind::Job(_) => {
                let completed = indexes(found["status"]["completedIndexes"].as_str().unwrap_or_default());
                let conditions = found["status"]["conditions"].as_array().into_iter().flatten();
                let is_complete = conditions.filter(|c| c["status"] == "True").any(|c| c["type"] == "Complete");
                let counted = found["status"]["succeeded"].as_u64();
                is_complete && completed == (0..COMPLETIONS).collect() && counted == Some(COMPLETIONS)
            }
            Kind::Cron => true,
        };
        (!is_settled)
            .then(|| format!("{} ({:?}, revision {}) is {}", self.name, self.kind, self.revision, found["status"]))
    }
}

/// What came of it.
#[derive(Debug, Default)]
pub struct Report {
    /// What does not hold.
    pub wrong: Vec<String>,
    /// What was done, in words.
    pub done: Vec<String>,
    /// A summary of one line.
    pub summary: String,
}

struct Chaos {
    node: Node,
    random: Random,
    disk: Small,
    objects: Vec<Object>,
    expected: Expected,
    observer: Observer,
    /// Uids of the jobs of each cron job that were seen.
    cron_jobs: BTreeMap<String, BTreeSet<String>>,
    begin: Instant,
    ticks: u32,
    full_until: Option<(Resource, Instant)>,
    report: Report,
    counts: BTreeMap<&'static str, u32>,
}

/// Runs it. `say` is told what is done as it is done.
///
/// # Errors
/// When the bed itself fails.
pub fn chaos(setting: &Setting, seed: u64, kills: u32, say: impl Fn(&str)) -> Result<Report, String> {
    let text = |error: std::io::Error| error.to_string();
    let node = Node::new(setting, "chaos", None).map_err(text)?;
    let disks = vec![node.places.state(), node.places.logs()];
    let disk = Small::mount(disks, DISK_MIB).map_err(|errno| errno.to_string())?;
    let mut random = Random::new(seed);
    let count = random.between(60, 90);
    let objects = (0..count).map(|number| object(&mut random, number)).collect();
    let mut chaos = Chaos {
        node,
        random,
        disk,
        objects,
        expected: Expected::default(),
        observer: Observer::default(),
        cron_jobs: BTreeMap::new(),
        begin: Instant::now(),
        ticks: 0,
        full_until: None,
        report: Report::default(),
        counts: BTreeMap::new(),
    };
    let lived = chaos.live(kills, &say);
    chaos.report.wrong.extend(lived.err());
    chaos.finish(setting);
    Ok(chaos.report)
}

fn object(random: &mut Random, number: u64) -> Object {
    let kind = match random.between(1, 20) {
        1..=6 => Kind::Never(random.between(0, 9) as u8),
        7..=10 => Kind::OnFailure,
        11..=13 => Kind::Always,
        14..=16 => Kind::Sidecar,
        17..=19 => Kind::Job(random.one_in(2)),
        _ => Kind::Cron,
    };
    let seconds = random.between(2, 60) as f64 / 10.0;
    Object { name: format!("x{number}"), kind, revision: 0, label: 0, seconds, is_there: false }
}

impl Chaos {
    fn live(&mut self, kills: u32, say: &impl Fn(&str)) -> Result<(), String> {
        for index in 0..self.objects.len() {
            self.place(index)?;
        }
        self.done(say, &format!("{} objects placed", self.objects.len()));
        for _ in 0..kills {
            let until = Instant::now() + Duration::from_millis(self.random.between(500, 5500));
            while Instant::now() < until {
                self.tick()?;
                if self.random.one_in(20) {
                    self.disturb(say)?;
                }
            }
            self.kill(say)?;
        }
        self.free()?;
        self.done(say, "left in peace");
        self.settle(say)
    }

    fn done(&mut self, say: &impl Fn(&str), what: &str) {
        let line = format!("{:7.2} s  {what}", self.begin.elapsed().as_secs_f64());
        say(&line);
        self.report.done.push(line);
    }

    fn count(&mut self, what: &'static str) {
        *self.counts.entry(what).or_default() += 1;
    }

    /// Places an object as another one than it was.
    fn place(&mut self, index: usize) -> Result<(), String> {
        let truth = truth_directory(&self.node.places).display().to_string();
        let Some(object) = self.objects.get_mut(index) else { return Ok(()) };
        object.revision += 1;
        object.is_there = true;
        self.expected.rules.extend(object.rules());
        self.node.place(&object.file(), &object.manifest(&truth)).map_err(|error| format!("the bed failed: {error}"))
    }

    /// Changes a manifest, or fills the disk.
    fn disturb(&mut self, say: &impl Fn(&str)) -> Result<(), String> {
        let bed = |error: std::io::Error| format!("the bed failed: {error}");
        if self.random.one_in(6) && self.full_until.is_none() {
            let resource = if self.random.one_in(4) { Resource::Inodes } else { Resource::Bytes };
            let lasts = Duration::from_millis(self.random.between(500, 3000));
            self.full_until = Some((resource, Instant::now() + lasts));
            self.count("full disks");
            self.done(say, &format!("the disk is full ({resource:?}) for {lasts:?}"));
            return Ok(());
        }
        let index = self.random.between(0, self.objects.len() as u64 - 1) as usize;
        let truth = truth_directory(&self.node.places).display().to_string();
        let choice = self.random.between(1, 3);
        let Some(object) = self.objects.get_mut(index) else { return Ok(()) };
        let name = object.name.clone();
        match (object.is_there, choice) {
            (true, 1) => {
                object.label += 1;
                self.node.place(&object.file(), &object.manifest(&truth)).map_err(bed)?;
                self.count("labels");
                self.done(say, &format!("{name} gets another label"));
            }
            (true, 2) => {
                object.is_there = false;
                self.node.remove(&object.file()).map_err(bed)?;
                self.count("removals");
                self.done(say, &format!("{name} is removed"));
            }
            _ => {
                self.place(index)?;
                self.count("replacements");
                self.done(say, &format!("{name} is placed anew"));
            }
        }
        Ok(())
    }

    fn kill(&mut self, say: &impl Fn(&str)) -> Result<(), String> {
        let shims = self.node.shims();
        let is_shim = self.random.one_in(3);
        match self.random.pick(&shims).cloned() {
            Some((pid, uid, name)) if is_shim => {
                // Said to be lost before it is: an answer of the agent may come in between.
                self.expected.lost.insert(uid.clone());
                // It may have left by itself.
                drop(host::signal(pid, Signal::SIGKILL));
                self.count("shims killed");
                self.done(say, &format!("the shim of {name} ({uid}) is killed"));
            }
            _ => {
                self.node.kill().map_err(|error| format!("the bed cannot kill podwrightd: {error}"))?;
                self.count("agents killed");
                self.done(say, "the agent is killed");
            }
        }
        Ok(())
    }

    fn truth(&self) -> Truth {
        truth::read(&truth_directory(&self.node.places)).unwrap_or_default()
    }

    fn free(&mut self) -> Result<(), String> {
        self.full_until = None;
        self.disk.free().map_err(|error| format!("the bed cannot free the disk: {error}"))
    }

    fn tick(&mut self) -> Result<(), String> {
        sleep(TICK);
        self.ticks += 1;
        if INTERRUPTED.load(Ordering::Relaxed) {
            return Err("interrupted".to_owned());
        }
        match self.full_until {
            Some((_, until)) if until <= Instant::now() => self.free()?,
            Some((resource, _)) => {
                self.disk.fill(resource).map_err(|error| format!("the bed cannot fill the disk: {error}"))?;
            }
            None => {}
        }
        let may_refuse = self.full_until.is_some();
        if let Err(error) = self.node.tend(may_refuse) {
            self.report.wrong.push(error);
        }
        if self.ticks.is_multiple_of(ASK) {
            self.observe();
            self.look_for_panics();
        }
        Ok(())
    }

    fn observe(&mut self) -> Option<(Vec<Value>, Vec<Value>)> {
        let pods = self.node.list("/api/v1/pods")?;
        let jobs = self.node.list("/apis/batch/v1/jobs")?;
        self.observer.pods(&pods, &self.truth(), &self.expected.lost);
        self.observer.jobs(&jobs);
        for job in &jobs {
            let owner = &job["metadata"]["ownerReferences"][0];
            let key = job["spec"]["template"]["spec"]["containers"][0]["command"][1].as_str();
            if let (Some("CronJob"), Some(key), Some(uid)) =
                (owner["kind"].as_str(), key, job["metadata"]["uid"].as_str())
            {
                self.cron_jobs.entry(key.to_owned()).or_default().insert(uid.to_owned());
            }
        }
        Some((pods, jobs))
    }

    fn look_for_panics(&mut self) {
        for pod in fs::read_dir(self.node.places.run().join("pods")).into_iter().flatten().flatten() {
            let log = fs::read(pod.path().join("shim.log")).unwrap_or_default();
            let log = String::from_utf8_lossy(&log);
            if let Some(line) = log.lines().find(|line| line.contains("panicked")) {
                let line = format!("shim of {}: {line}", pod.file_name().display());
                if !self.report.wrong.contains(&line) {
                    self.report.wrong.push(line);
                }
            }
        }
    }

    /// Everything comes to its end, and goes.
    fn settle(&mut self, say: &impl Fn(&str)) -> Result<(), String> {
        let begin = Instant::now();
        loop {
            self.tick()?;
            if !self.ticks.is_multiple_of(ASK) {
                continue;
            }
            let mut left = match self.observe() {
                Some((pods, jobs)) => {
                    self.objects.iter().filter_map(|o| o.unsettled(&pods, &jobs, &self.expected.lost)).collect()
                }
                None => vec!["podwrightd does not answer".to_owned()],
            };
            if left.is_empty() {
                left = self.judge();
            }
            if left.is_empty() {
                break;
            }
            if begin.elapsed() > SETTLED_WITHIN {
                self.report.wrong.extend(left);
                break;
            }
        }
        self.done(say, "all has settled");
        for object in self.objects.iter_mut().filter(|object| object.is_there) {
            object.is_there = false;
            self.node.remove(&object.file()).map_err(|error| format!("the bed failed: {error}"))?;
        }
        let begin = Instant::now();
        loop {
            self.tick()?;
            let left: Vec<String> = match self.observe() {
                Some((pods, jobs)) => pods
                    .iter()
                    .chain(&jobs)
                    .map(|object| format!("{} is not removed", object["metadata"]["name"]))
                    .collect(),
                None => vec!["podwrightd does not answer".to_owned()],
            };
            if left.is_empty() {
                break;
            }
            if begin.elapsed() > REMOVED_WITHIN {
                return Err(format!("removal did not come to its end: {}", left.join("; ")));
            }
        }
        self.done(say, "all is removed");
        let wrong = self.judge();
        self.report.wrong.extend(wrong);
        self.node.stop()
    }

    /// What was recorded against what happened.
    fn judge(&self) -> Vec<String> {
        let truth = self.truth();
        let recorded = recorded::read(&self.node.places.state());
        let mut wrong = check(&truth, &recorded, &self.expected);
        for (key, jobs) in &self.cron_jobs {
            let runs = truth.get(key).map(Vec::as_slice).unwrap_or_default();
            let succeeded = runs.iter().filter(|run| run.exit.is_some_and(|(_, code)| code == 0)).count();
            let lost = recorded.records.iter().filter(|r| r.key == *key && self.expected.lost.contains(&r.uid)).count();
            if succeeded > jobs.len() + lost {
                wrong.push(format!("{key} succeeded {succeeded} times in {} jobs of its cron job", jobs.len()));
            }
        }
        wrong
    }

    /// What is left, and the summary.
    fn finish(&mut self, setting: &Setting) {
        let truth = self.truth();
        let recorded = recorded::read(&self.node.places.state());
        self.report.wrong.extend(self.observer.wrong().cloned());
        self.report.wrong.extend(self.node.panics());
        self.disk.unmount();
        self.report.wrong.extend(leftovers::wait(&self.node.places, &BTreeSet::new(), Duration::from_secs(5)));
        let timelines: Vec<String> = self.report.wrong.iter().filter_map(|wrong| self.timeline(wrong)).collect();
        self.report.wrong.extend(timelines);
        let runs: usize = truth.values().map(Vec::len).sum();
        let counts: Vec<String> = self.counts.iter().map(|(what, count)| format!("{count} {what}")).collect();
        self.report.summary = format!(
            "{} objects, {}; {runs} programs ran, {} records, {} starts of the agent",
            self.objects.len(),
            counts.join(", "),
            recorded.records.len(),
            self.node.starts
        );
        if let Err(error) = self.node.kill() {
            eprintln!("chaos: {error}");
        }
        leftovers::sweep(&self.node.places);
        if (self.report.wrong.is_empty() || !setting.keep)
            && let Err(error) = fs::remove_dir_all(&self.node.places.root)
        {
            eprintln!("chaos: {}: {error}", self.node.places.root.display());
        }
    }

    /// What happened to the object that a fault names first.
    fn timeline(&self, wrong: &str) -> Option<String> {
        let name = self.objects.iter().map(|object| &object.name).find(|name| {
            wrong.strip_prefix(name.as_str()).is_some_and(|rest| rest.starts_with(['.', '/', '-', ' ']))
        })?;
        let is_about = |text: &str| {
            text.match_indices(name.as_str()).any(|(at, _)| {
                let next = text.get(at + name.len()..).and_then(|rest| rest.chars().next());
                !next.is_some_and(|c| c.is_ascii_digit())
            })
        };
        let mut lines: Vec<String> = vec![format!("timeline of {name}:")];
        lines.extend(self.report.done.iter().filter(|line| is_about(line) || line.contains("agent")).cloned());
        for (key, runs) in self.truth().iter().filter(|(key, _)| is_about(key)) {
            lines.extend(runs.iter().map(|run| format!("  {key}: {run:?}")));
        }
        let log = fs::read(self.node.places.agent_log()).unwrap_or_default();
        let log = String::from_utf8_lossy(&log).into_owned();
        lines.extend(log.lines().filter(|line| is_about(line)).take(80).map(|line| format!("  {line}")));
        Some(lines.join("\n"))
    }
}
