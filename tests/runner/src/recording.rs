//! What happened in a run of a case. All times are seconds since the case began, by `CLOCK_BOOTTIME`.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::grammar::{ContainerRef, Event, Instance, Moment, Nth, What};

/// Everything that the expectations of a case may look at.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Recording {
    /// When the case ended.
    pub end: f64,
    /// Events of steps and pods.
    pub marks: Vec<Mark>,
    /// Every run of every container, in the order in which they were requested.
    pub instances: Vec<Run>,
    /// The states of the pods that the API showed.
    pub statuses: Vec<Shown>,
    /// Values read from the kernel, each at its change.
    pub samples: Vec<Sample>,
    /// When each pod uid was first seen.
    pub uids: Vec<FirstSeen>,
    /// Every write of a file in the manifest directory.
    pub writes: Vec<FileWrite>,
    /// `v1` Events.
    pub events: Vec<Value>,
    /// The agent's log, a JSON object a line.
    pub log: String,
    /// What `podwright get files` printed at the end.
    pub files: String,
    /// What went wrong whatever the case expects: a step that failed, a leak, an exit recorded twice.
    pub problems: Vec<String>,
}

/// An event of a step or a pod.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Mark {
    /// `placed`, `deleted`, `agent_up`, …
    pub event: String,
    /// The pod, for those of pods.
    pub pod: Option<String>,
    /// When.
    pub at: f64,
}

/// One run of one container.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Run {
    /// Which container.
    pub container: ContainerRef,
    /// Of which pod uid.
    pub uid: String,
    /// Its number under that uid, from 0.
    pub attempt: u32,
    /// When the shim was asked for it.
    pub requested: f64,
    /// Its process 1, in the host's numbering.
    pub pid: Option<i32>,
    /// Start time of `pid` in clock ticks.
    pub pid_start: Option<u64>,
    /// When it ended.
    pub exit: Option<f64>,
    /// Whether its process 1 is there at the end of the case.
    pub alive: bool,
    /// Its log.
    pub lines: Vec<LogLine>,
}

/// A line of a log.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct LogLine {
    /// Its `@` time, else the log's own.
    pub at: f64,
    /// Without `@` time.
    pub text: String,
    /// Whether it had an `@` time.
    pub event: bool,
}

/// A pod as the API showed it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Shown {
    /// When.
    pub at: f64,
    /// Name of the pod.
    pub pod: String,
    /// The whole object.
    pub object: Value,
}

/// A value of the kernel.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// When it was read first.
    pub at: f64,
    /// Of what; see [`Probe::key`].
    pub key: String,
    /// `None`: nothing is there to read.
    pub value: Option<String>,
}

/// A pod uid.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct FirstSeen {
    /// When.
    pub at: f64,
    /// Name of the pod.
    pub pod: String,
    /// The uid.
    pub uid: String,
}

/// A write of a manifest file.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct FileWrite {
    /// When it began.
    pub at: f64,
    /// Name below the directory.
    pub file: String,
    /// The pods that it describes, as far as it can be read.
    pub pods: Vec<String>,
}

/// What the runner samples from the kernel.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names are the words of the grammar")]
pub enum Probe {
    Procs(String),
    Cgroup(String, Option<String>, String),
    OomScore(ContainerRef),
}

impl Probe {
    /// Its name in a recording.
    pub fn key(&self) -> String {
        match self {
            Probe::Procs(pod) => format!("procs {pod}"),
            Probe::Cgroup(pod, None, file) => format!("cgroup {pod} {file}"),
            Probe::Cgroup(pod, Some(container), file) => format!("cgroup {pod}/{container} {file}"),
            Probe::OomScore(c) => format!("oom_score_adj {}/{}", c.pod, c.name),
        }
    }
}

/// Events that hooks and probes write into the log of their container.
const OF_CALLS: [&str; 5] = ["pre_begin", "pre_end", "post_begin", "post_end", "probe"];

impl Run {
    /// When it wrote its first line of its own; lines of hooks and probes are theirs.
    pub fn started(&self) -> Option<f64> {
        self.lines.iter().find(|line| !line.event || !OF_CALLS.contains(&line.name())).map(|line| line.at)
    }

    fn wrote(&self, event: &str) -> Vec<f64> {
        self.lines.iter().filter(|line| line.event && line.name() == event).map(|line| line.at).collect()
    }

    /// From its start to its end; to `end` when it still runs.
    fn span(&self, end: f64) -> (f64, f64) {
        (self.started().unwrap_or(self.requested), self.exit.unwrap_or(end))
    }
}

impl LogLine {
    /// The event's name.
    pub fn name(&self) -> &str {
        self.text.split(' ').next().unwrap_or_default()
    }

    /// The value of a key, decoded.
    pub fn value(&self, key: &str) -> Option<String> {
        let of_key = |word: &str| {
            let (k, v) = word.split_once('=')?;
            decode(k).eq_ignore_ascii_case(key).then(|| decode(v))
        };
        self.text.split(' ').skip(1).find_map(of_key)
    }
}

/// Undoes percent-encoding.
fn decode(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        let hex = tail.get(..2).and_then(|h| std::str::from_utf8(h).ok()).and_then(|h| u8::from_str_radix(h, 16).ok());
        match (first, hex) {
            (b'%', Some(byte)) => {
                bytes.push(byte);
                rest = &tail[2..];
            }
            _ => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

impl Recording {
    /// The runs of a container, in order.
    pub fn runs<'a>(&'a self, container: &'a ContainerRef) -> impl Iterator<Item = &'a Run> {
        self.instances.iter().filter(move |run| run.container == *container)
    }

    /// Every time at which an event happened: per instance for those of instances, else one after the other.
    fn grouped(&self, what: &What) -> Vec<Vec<f64>> {
        match what {
            What::Started(c) => self.runs(c).map(|run| run.started().into_iter().collect()).collect(),
            What::Exits(c) => self.runs(c).map(|run| run.exit.into_iter().collect()).collect(),
            What::Wrote(event, c) => self.runs(c).map(|run| run.wrote(event)).collect(),
            What::Probe(c, kind) => {
                let lines = self.runs(c).flat_map(|run| &run.lines).filter(|line| line.event && line.name() == "probe");
                let mut times: Vec<f64> =
                    lines.filter(|line| line.value("kind").as_deref() == Some(kind)).map(|line| line.at).collect();
                times.sort_by(f64::total_cmp);
                times.into_iter().map(|at| vec![at]).collect()
            }
            What::OfPod(event, pod) => self.marked(event, Some(pod)),
            What::OfStep(event) => self.marked(event, None),
        }
    }

    fn marked(&self, event: &str, pod: Option<&String>) -> Vec<Vec<f64>> {
        let marks = self.marks.iter().filter(|mark| mark.event == event && mark.pod.as_ref() == pod);
        marks.map(|mark| vec![mark.at]).collect()
    }

    /// When an event happened, the first one unless it says which.
    pub fn time(&self, event: &Event) -> Option<f64> {
        let groups = self.grouped(&event.what);
        match event.nth {
            None => groups.first()?.first().copied(),
            Some(Nth::Number(n)) => groups.get(n - 1)?.first().copied(),
            Some(Nth::Last) => groups.iter().rev().find_map(|group| group.first().copied()),
        }
    }

    /// Every time at which an event happened; of one occurrence if it says which.
    pub fn times(&self, event: &Event) -> Vec<f64> {
        let groups = self.grouped(&event.what);
        match event.nth {
            None => groups.into_iter().flatten().collect(),
            Some(Nth::Number(n)) => groups.into_iter().nth(n - 1).unwrap_or_default(),
            Some(Nth::Last) => groups.into_iter().rev().find(|group| !group.is_empty()).unwrap_or_default(),
        }
    }

    /// When a moment is, if its event happened.
    pub fn moment(&self, moment: &Moment) -> Option<f64> {
        self.time(&moment.event).map(|at| at + moment.plus)
    }

    /// One run of a container.
    pub fn instance<'a>(&'a self, of: &'a Instance) -> Option<&'a Run> {
        match of.nth {
            None => self.runs(&of.container).next(),
            Some(Nth::Number(n)) => self.runs(&of.container).nth(n - 1),
            Some(Nth::Last) => self.runs(&of.container).last(),
        }
    }

    /// From the start of a run to its end.
    pub fn span(&self, of: &Instance) -> Option<(f64, f64)> {
        self.instance(of).map(|run| run.span(self.end))
    }

    /// The pod as the API had shown it last at a time.
    pub fn shown(&self, pod: &str, at: f64) -> Option<&Value> {
        self.statuses.iter().rev().find(|shown| shown.pod == pod && shown.at <= at).map(|shown| &shown.object)
    }

    /// The value that was there at a time.
    pub fn sample(&self, key: &str, at: f64) -> Option<&str> {
        self.samples.iter().rev().find(|s| s.key == key && s.at <= at).and_then(|s| s.value.as_deref())
    }

    /// The phases of a pod in order, each once per stay.
    pub fn phases(&self, pod: &str) -> Vec<&str> {
        let mut phases: Vec<&str> = self
            .statuses
            .iter()
            .filter(|shown| shown.pod == pod)
            .filter_map(|shown| shown.object["status"]["phase"].as_str())
            .collect();
        phases.dedup();
        phases
    }

    /// Every moment in (from, to] at which something was shown or sampled anew, `from` itself first.
    pub fn changes(&self, from: f64, to: f64) -> Vec<f64> {
        let seen = self.statuses.iter().map(|s| s.at).chain(self.samples.iter().map(|s| s.at));
        let mut times: Vec<f64> = std::iter::once(from).chain(seen.filter(|at| *at > from && *at <= to)).collect();
        times.sort_by(f64::total_cmp);
        times.dedup();
        times
    }
}
