//! Watches a case while it runs and writes its recording: the API's pods, the shims' records, the containers' logs, the
//! kernel's figures. Times come from what is read, so reading late does not falsify them.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde_json::Value;

use crate::agent::Places;
use crate::grammar::ContainerRef;
use crate::host::{boot_ns, cgroups_below, processes_in, start_ticks, wall_minus_boot_ns};
use crate::recording::{FirstSeen, LogLine, Mark, Probe, Recording, Run, Sample, Shown};
use crate::watch::{News, Seen, Watch};

/// A pod that was removed before it was ever seen counts as gone when nothing has come of it after this many seconds, on
/// an idle machine.
const NEVER_SEEN: f64 = 0.5;

/// The cgroup that holds a pod's shim.
pub const SUPERVISOR: &str = "_supervisor";

/// One case under observation.
#[derive(Debug)]
pub struct Live {
    /// What was seen so far.
    pub recording: Recording,
    /// Network namespaces of the case's sandboxes, as readlink(2) shows them.
    pub namespaces: BTreeSet<PathBuf>,
    places: Places,
    slow: f64,
    watch: Watch,
    probes: Vec<Probe>,
    origin_ns: i64,
    wall_minus_boot_ns: i64,
    names: HashMap<String, String>,
    active: HashMap<String, String>,
    present: BTreeMap<String, bool>,
    awaited: HashMap<String, f64>,
    records: HashMap<PathBuf, ReadRecord>,
    tails: HashMap<PathBuf, Tail>,
    host_network: Option<PathBuf>,
}

/// A record file as it was read last.
#[derive(Debug)]
struct ReadRecord {
    /// Inode and mtime: every write is a new file, but two may fall into one tick of the clock.
    version: Option<(u64, SystemTime)>,
    requested: Value,
    exit: Value,
}

/// How far a log was read.
#[derive(Debug, Default)]
struct Tail {
    offset: u64,
    /// Bytes behind the last line end.
    rest: Vec<u8>,
    /// Time and text of a line whose end has not come yet (tag `P`).
    partial: Option<(f64, String)>,
}

/// Whose record or log it is.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Key {
    uid: String,
    container: String,
    attempt: u32,
}

impl Live {
    /// Begins to observe; this moment is 0.
    pub fn new(places: Places, pods: &[String], probes: Vec<Probe>, slow: f64) -> Live {
        Live {
            recording: Recording::default(),
            namespaces: BTreeSet::new(),
            watch: Watch::new(places.socket()),
            places,
            slow,
            probes,
            origin_ns: boot_ns(),
            wall_minus_boot_ns: wall_minus_boot_ns(),
            names: HashMap::new(),
            active: HashMap::new(),
            present: pods.iter().map(|pod| (pod.clone(), false)).collect(),
            awaited: HashMap::new(),
            records: HashMap::new(),
            tails: HashMap::new(),
            host_network: fs::read_link("/proc/self/ns/net").ok(),
        }
    }

    /// Seconds since the begin.
    pub fn now(&self) -> f64 {
        self.seconds(boot_ns())
    }

    /// Notes an event of a step, or of a pod.
    pub fn mark(&mut self, event: &str, pod: Option<&str>) {
        self.mark_at(self.now(), event, pod);
    }

    /// Notes an event that was at a given time.
    pub fn mark_at(&mut self, at: f64, event: &str, pod: Option<&str>) {
        self.recording.marks.push(Mark { event: event.to_owned(), pod: pod.map(str::to_owned), at });
    }

    /// The pod was removed: its `gone` is awaited from now on.
    pub fn await_gone(&mut self, pod: &str) {
        self.awaited.insert(pod.to_owned(), self.now());
    }

    /// The pod is wanted again.
    pub fn forget_gone(&mut self, pod: &str) {
        self.awaited.remove(pod);
    }

    /// Whether `gone` of the pod is still to come.
    pub fn awaits(&self, pod: &str) -> bool {
        self.awaited.contains_key(pod)
    }

    /// The pods that the API lists as active.
    pub fn active(&self) -> Vec<String> {
        self.active.keys().cloned().collect()
    }

    /// The uid under which a pod runs, or ran last.
    pub fn uid(&self, pod: &str) -> Option<String> {
        let last = || self.recording.uids.iter().rfind(|seen| seen.pod == pod).map(|seen| seen.uid.clone());
        self.active.get(pod).cloned().or_else(last)
    }

    /// The latest run of a container that has not ended.
    pub fn running(&self, container: &ContainerRef) -> Option<&Run> {
        self.recording.instances.iter().rfind(|run| run.container == *container && run.exit.is_none())
    }

    /// Reads what is new.
    pub fn tick(&mut self) {
        while let Ok(seen) = self.watch.news.try_recv() {
            self.take_news(seen);
        }
        self.read_records();
        self.read_logs();
        self.read_cgroups();
    }

    /// The end of the case: notes which processes are still there.
    pub fn finish(&mut self) {
        self.tick();
        self.recording.end = self.now();
        for run in &mut self.recording.instances {
            let start = run.pid.and_then(start_ticks);
            run.alive = start.is_some() && (run.pid_start.is_none() || run.pid_start == start);
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "nanoseconds of one case fit an f64 to the microsecond")]
    fn seconds(&self, boot_ns: i64) -> f64 {
        (boot_ns - self.origin_ns) as f64 / 1e9
    }

    fn take_news(&mut self, seen: Seen) {
        let at = self.seconds(seen.at_ns);
        let identity = |object: &Value| {
            let of = |key: &str| object["metadata"][key].as_str().unwrap_or_default().to_owned();
            (of("name"), of("uid"))
        };
        match seen.what {
            News::List { active, all } => {
                let listed: HashMap<String, String> = active.iter().map(identity).collect();
                let gone = |(name, uid): &(String, String)| {
                    self.active.get(name) == Some(uid) && listed.get(name) != Some(uid)
                };
                for object in all.into_iter().filter(|object| gone(&identity(object))) {
                    let pod = identity(&object).0;
                    self.recording.statuses.push(Shown { at, pod, object });
                }
                self.active.retain(|name, uid| listed.get(name) == Some(uid));
            }
            News::Changed(object) => {
                let (name, uid) = identity(&object);
                self.meet(at, &name, &uid);
                self.active.insert(name.clone(), uid);
                self.recording.statuses.push(Shown { at, pod: name, object });
            }
            News::Removed(object) => {
                let (name, uid) = identity(&object);
                if self.active.get(&name) == Some(&uid) {
                    self.active.remove(&name);
                    self.recording.statuses.push(Shown { at, pod: name, object });
                }
            }
        }
    }

    fn meet(&mut self, at: f64, pod: &str, uid: &str) {
        if self.names.insert(uid.to_owned(), pod.to_owned()).is_none() {
            self.recording.uids.push(FirstSeen { at, pod: pod.to_owned(), uid: uid.to_owned() });
        }
    }

    /// `STATE/pods/<uid>/records/<container>/<attempt>.json`.
    fn read_records(&mut self) {
        for pod in directories(&self.places.state().join("pods")) {
            for container in directories(&pod.join("records")) {
                for file in files(&container, "json") {
                    self.read_record(&pod, &container, file);
                }
            }
        }
    }

    fn read_record(&mut self, pod: &Path, container: &Path, file: PathBuf) {
        let version = fs::metadata(&file).and_then(|m| Ok((m.ino(), m.modified()?))).ok();
        if self.records.get(&file).is_some_and(|known| known.version == version) {
            return;
        }
        let Some(attempt) = file.file_stem().and_then(|s| s.to_str()).and_then(|s| s.parse().ok()) else { return };
        let key = Key { uid: name(pod), container: name(container), attempt };
        let Some(of) = self.container_ref(&key) else { return };
        // It is renamed into place whole; what cannot be read was removed meanwhile.
        let Some(record) = fs::read_to_string(&file).ok().and_then(|t| serde_json::from_str::<Value>(&t).ok()) else {
            return;
        };
        let seconds = |stamp: &Value| stamp["boot_ns"].as_i64().map(|ns| self.seconds(ns));
        let (requested, exit) = (seconds(&record["requested"]), seconds(&record["exit"]["finished"]));
        let run = self.run(&key, of);
        run.requested = requested.unwrap_or(run.requested);
        run.exit = exit;
        run.pid = record["pid"].as_i64().and_then(|pid| pid.try_into().ok());
        run.pid_start = record["pid_start"].as_u64();
        self.recording.instances.sort_by(|a, b| a.requested.total_cmp(&b.requested));
        let what = format!("{}/{} attempt {attempt}", key.uid, key.container);
        if let Some(known) = self.records.get(&file) {
            if known.requested != record["requested"] {
                self.recording.problems.push(format!("{what} was used twice"));
            }
            if !known.exit.is_null() && known.exit != record["exit"] {
                let problem = format!("the exit of {what} was recorded twice: {} and {}", known.exit, record["exit"]);
                self.recording.problems.push(problem);
            }
        }
        let read = ReadRecord { version, requested: record["requested"].clone(), exit: record["exit"].clone() };
        self.records.insert(file, read);
    }

    /// The container of a record or log; `None` while the pod's name is not known yet.
    fn container_ref(&self, key: &Key) -> Option<ContainerRef> {
        let pod = self.names.get(&key.uid)?.clone();
        Some(ContainerRef { pod, name: key.container.clone() })
    }

    fn run(&mut self, key: &Key, container: ContainerRef) -> &mut Run {
        let runs = &mut self.recording.instances;
        let known =
            runs.iter().position(|run| run.uid == key.uid && run.container == container && run.attempt == key.attempt);
        let at = known.unwrap_or_else(|| {
            runs.push(Run {
                container,
                uid: key.uid.clone(),
                attempt: key.attempt,
                requested: f64::MAX,
                pid: None,
                pid_start: None,
                exit: None,
                alive: false,
                lines: Vec::new(),
            });
            runs.len() - 1
        });
        &mut runs[at]
    }

    /// `LOGS/<namespace>_<name>_<uid>/<container>/<attempt>.log`.
    fn read_logs(&mut self) {
        for pod in directories(&self.places.logs()) {
            let directory = name(&pod);
            let [_, pod_name, uid] = directory.split('_').collect::<Vec<_>>()[..] else { continue };
            let (pod_name, uid) = (pod_name.to_owned(), uid.to_owned());
            let now = self.now();
            self.meet(now, &pod_name, &uid);
            for container in directories(&pod) {
                for file in files(&container, "log") {
                    let Some(attempt) = file.file_stem().and_then(|s| s.to_str()).and_then(|s| s.parse().ok()) else {
                        continue;
                    };
                    let key = Key { uid: uid.clone(), container: name(&container), attempt };
                    self.read_log(&key, file);
                }
            }
        }
    }

    fn read_log(&mut self, key: &Key, file: PathBuf) {
        let length = fs::metadata(&file).map_or(0, |m| m.len());
        let tail = self.tails.entry(file.clone()).or_default();
        if length <= tail.offset {
            return;
        }
        let mut bytes = std::mem::take(&mut tail.rest);
        let read = File::open(&file).and_then(|mut f| {
            f.seek(SeekFrom::Start(tail.offset))?;
            f.read_to_end(&mut bytes)
        });
        tail.offset += read.unwrap_or(0) as u64;
        let complete = bytes.iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1);
        tail.rest = bytes.split_off(complete);
        let mut partial = tail.partial.take();
        let mut lines = Vec::new();
        for line in String::from_utf8_lossy(&bytes).lines() {
            let Some((at, whole, text)) = self.cri_line(line) else {
                self.recording.problems.push(format!("{}: no CRI log line: {line:?}", file.display()));
                continue;
            };
            let (at, text) = match partial.take() {
                Some((begin, first)) => (begin, first + text),
                None => (at, text.to_owned()),
            };
            if whole { lines.push(self.log_line(at, &text)) } else { partial = Some((at, text)) }
        }
        if let Some(tail) = self.tails.get_mut(&file) {
            tail.partial = partial;
        }
        let Some(of) = self.container_ref(key) else { return };
        let run = self.run(key, of);
        if let Some(first) = lines.first() {
            run.requested = run.requested.min(first.at);
        }
        run.lines.extend(lines);
        self.recording.instances.sort_by(|a, b| a.requested.total_cmp(&b.requested));
    }

    /// `<RFC3339Nano> stdout|stderr F|P <text>`: time, whether it is whole, text.
    fn cri_line<'a>(&self, line: &'a str) -> Option<(f64, bool, &'a str)> {
        let mut parts = line.splitn(4, ' ');
        let at: jiff::Timestamp = parts.next()?.parse().ok()?;
        let at = i64::try_from(at.as_nanosecond()).ok()? - self.wall_minus_boot_ns;
        let known = matches!(parts.next()?, "stdout" | "stderr");
        let whole = match parts.next()? {
            "F" => true,
            "P" => false,
            _ => return None,
        };
        known.then_some((self.seconds(at), whole, parts.next().unwrap_or_default()))
    }

    fn log_line(&self, at: f64, text: &str) -> LogLine {
        let own = text.strip_prefix('@').and_then(|rest| rest.split_once(' '));
        match own.and_then(|(ns, event)| Some((ns.parse().ok()?, event))) {
            Some((ns, event)) => LogLine { at: self.seconds(ns), text: event.to_owned(), event: true },
            None => LogLine { at, text: text.to_owned(), event: false },
        }
    }

    /// The cgroups of every uid that the pod has had.
    fn pod_cgroups(&self, pod: &str) -> Vec<PathBuf> {
        let uids = self.names.iter().filter(|(_, name)| *name == pod).map(|(uid, _)| uid);
        let below = |uid: &String| ["", "burstable", "besteffort"].map(|class| self.cgroup_of(class, uid));
        uids.flat_map(below).filter(|dir| dir.is_dir()).collect()
    }

    fn cgroup_of(&self, class: &str, uid: &str) -> PathBuf {
        self.places.cgroup.join(class).join(format!("pod{uid}"))
    }

    /// The process of a pod's shim.
    pub fn shim(&self, pod: &str) -> Option<i32> {
        self.pod_cgroups(pod).iter().flat_map(|dir| processes_in(&dir.join(SUPERVISOR))).next()
    }

    fn read_cgroups(&mut self) {
        let now = self.now();
        for probe in self.probes.clone() {
            let sample = Sample { at: now, key: probe.key(), value: self.sample(&probe) };
            self.recording.push_sample(sample);
        }
        for pod in self.present.keys().cloned().collect::<Vec<_>>() {
            let cgroups = self.pod_cgroups(&pod);
            for cgroup in &cgroups {
                self.note_namespace(cgroup);
            }
            let present = self.active.contains_key(&pod) || !cgroups.is_empty();
            let before = self.present.insert(pod.clone(), present).unwrap_or(false);
            let never_came = self.awaited.get(&pod).is_some_and(|since| now - since > NEVER_SEEN * self.slow);
            if !present && (before || never_came) {
                self.recording.marks.push(Mark { event: "gone".to_owned(), pod: Some(pod.clone()), at: now });
                self.awaited.remove(&pod);
            }
        }
    }

    fn note_namespace(&mut self, pod_cgroup: &Path) {
        for pid in processes_in(&pod_cgroup.join(SUPERVISOR)) {
            let namespace = fs::read_link(format!("/proc/{pid}/ns/net")).ok();
            if namespace != self.host_network {
                self.namespaces.extend(namespace);
            }
        }
    }

    fn sample(&self, probe: &Probe) -> Option<String> {
        let read = |path: PathBuf| fs::read_to_string(path).ok().map(|text| text.trim().to_owned());
        match probe {
            Probe::Procs(pod) => {
                let cgroups = self.pod_cgroups(pod).into_iter().flat_map(|dir| cgroups_below(&dir));
                let containers = cgroups.filter(|dir| !dir.ends_with(SUPERVISOR));
                Some(containers.map(|dir| processes_in(&dir).len()).sum::<usize>().to_string())
            }
            Probe::Cgroup(pod, container, file) => {
                let dirs = self.pod_cgroups(pod).into_iter();
                let mut dirs = dirs.map(|dir| container.as_ref().map_or(dir.clone(), |c| dir.join(c)));
                let dir = dirs.find(|dir| dir.is_dir());
                if file == "exists" { Some(dir.is_some().to_string()) } else { read(dir?.join(file)) }
            }
            Probe::OomScore(container) => {
                read(PathBuf::from(format!("/proc/{}/oom_score_adj", self.running(container)?.pid?)))
            }
        }
    }

    /// The records as they were read last: whether each instance ended.
    pub fn unfinished_records(&self) -> Vec<String> {
        let open = self.records.iter().filter(|(_, read)| read.exit.is_null());
        open.map(|(path, _)| path.display().to_string()).collect()
    }
}

fn directories(path: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(path).into_iter().flatten().filter_map(Result::ok);
    entries.filter(|entry| entry.file_type().is_ok_and(|t| t.is_dir())).map(|entry| entry.path()).collect()
}

fn files(path: &Path, extension: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(path).into_iter().flatten().filter_map(Result::ok).map(|entry| entry.path());
    entries.filter(|path| path.extension().is_some_and(|e| e == extension)).collect()
}

fn name(path: &Path) -> String {
    path.file_name().map_or(String::new(), |name| name.to_string_lossy().into_owned())
}
