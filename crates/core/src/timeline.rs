//! The life of a pod as rows of a chart, from its records: one row a container, with spans (what it was doing) and marks
//! (what happened to it). How it is drawn is the business of whoever shows it.

use k8s_openapi::api::core::v1::{ContainerStatus, PodStatus};
use serde::{Deserialize, Serialize};

use crate::ledger::{Asker, Cause, End, Entry, Outcome};
use crate::pod::due_again;
use crate::pod::observe::Observed;
use crate::pod::spec::{PodSpec, Role};
use crate::pod::why::words::count;
use crate::pod::why::{role_name, signal_name};
use crate::time::Time;

/// All that a timeline is made from.
#[derive(Debug, Clone, Copy)]
pub struct Life<'a> {
    /// The pod.
    pub spec: &'a PodSpec,
    /// What is known of it.
    pub observed: &'a Observed,
    /// Its status now, or its last one.
    pub status: &'a PodStatus,
    /// Its records, of each container the oldest first.
    pub entries: &'a [Entry],
    /// When it was over; absent while it lives.
    pub ended_at: Option<Time>,
    /// Now.
    pub now: Time,
}

/// The chart. Times are milliseconds since the Unix epoch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Timeline {
    /// `metadata.namespace`.
    pub namespace: String,
    /// `metadata.name`.
    pub name: String,
    /// `status.phase`.
    pub phase: String,
    /// Its left edge.
    pub from: i64,
    /// Its right edge: now, or the pod's end.
    pub to: i64,
    /// Whether the pod goes on to the right.
    pub goes_on: bool,
    /// The containers in spec order.
    pub rows: Vec<Row>,
}

/// One container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Row {
    /// Its name.
    pub container: String,
    /// `init`, `sidecar` or `main`.
    pub role: String,
    /// What it was doing, in order and without overlap.
    pub spans: Vec<Span>,
    /// What happened, in order.
    pub marks: Vec<Mark>,
}

/// A stretch of time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Span {
    /// Its begin.
    pub from: i64,
    /// Its end.
    pub to: i64,
    /// What it was doing.
    pub doing: Doing,
    /// More, for people; may be empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub text: String,
}

/// What a container was doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Doing {
    /// Held back: by a gate, by an earlier init container, or because it could not be started.
    Waiting,
    /// Ended, and not started again yet.
    BackOff,
    /// Running, and not ready. An init container is never ready while it runs.
    Running,
    /// Running and ready.
    Ready,
    /// Running while a probe of it failed.
    Failing,
    /// Running after its end was asked for: by its preStop hook, then its stop signal.
    Stopping,
}

/// A moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Mark {
    /// When.
    pub at: i64,
    /// What.
    pub what: What,
    /// For people.
    pub text: String,
}

/// What can happen to a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum What {
    /// Its process runs.
    Started,
    /// It became ready.
    Ready,
    /// It ceased to be ready.
    Unready,
    /// A probe failed, for the first time in a row.
    ProbeFailed,
    /// It got its stop signal.
    Signal,
    /// It got SIGKILL.
    Kill,
    /// It left with 0.
    Done,
    /// It ended in another way.
    Failed,
    /// It was killed for memory.
    OutOfMemory,
    /// Nobody saw its end.
    Lost,
}

/// Makes the chart.
pub fn draw(life: &Life<'_>) -> Timeline {
    let to = life.ended_at.unwrap_or(life.now);
    let first = life.entries.iter().map(|entry| entry.requested_at).min();
    let from = first.map_or(life.observed.accepted_at, |first| first.min(life.observed.accepted_at)).min(to);
    let shown = life.status.init_container_statuses.iter().chain(&life.status.container_statuses).flatten();
    let statuses: Vec<&ContainerStatus> = shown.collect();
    let rows = life.spec.containers.iter().enumerate().map(|(i, container)| {
        let runs: Vec<&Entry> = life.entries.iter().filter(|entry| entry.container == container.name).collect();
        let mut row = RowMaker { from, to, spans: Vec::new(), marks: Vec::new() };
        row.fill(&runs, container.role, &holder(life.spec, i), life.ended_at.is_none());
        if let Some(waiting) =
            statuses.get(i).filter(|_| life.ended_at.is_none()).and_then(|s| s.state.as_ref()?.waiting.as_ref())
        {
            row.waits(&runs, waiting.message.as_deref().or(waiting.reason.as_deref()).unwrap_or_default());
        } else if let (Some(due), Some(_)) = (due_again(life.spec, life.observed, i), life.ended_at) {
            row.waited(&runs, due);
        }
        Row {
            container: container.name.clone(),
            role: role_name(container.role).to_owned(),
            spans: row.spans,
            marks: row.marks,
        }
    });
    Timeline {
        namespace: life.spec.namespace.clone(),
        name: life.spec.name.clone(),
        phase: life.status.phase.clone().unwrap_or_default(),
        from: ms(from),
        to: ms(to),
        goes_on: life.ended_at.is_none(),
        rows: rows.collect(),
    }
}

/// The container that holds this one back at the start, in words.
fn holder(spec: &PodSpec, i: usize) -> String {
    let before = spec.containers.iter().take(i).rfind(|container| container.role != Role::Main);
    before.map_or("waits for the pod's sandbox".to_owned(), |container| format!("waits for {}", container.name))
}

fn ms(time: Time) -> i64 {
    time.0.div_euclid(1_000_000)
}

struct RowMaker {
    from: Time,
    to: Time,
    spans: Vec<Span>,
    marks: Vec<Mark>,
}

impl RowMaker {
    fn fill(&mut self, runs: &[&Entry], role: Role, holder: &str, lives: bool) {
        let mut before: Option<&Entry> = None;
        for run in runs {
            let begin = run.started_at.unwrap_or(run.requested_at);
            match before.and_then(|before| Some((before, before.end.as_ref()?.at))) {
                None => self.span(self.from, begin, Doing::Waiting, holder),
                Some((before, end)) => match run.attempt.saturating_sub(before.attempt) {
                    2.. => self.span(end, begin, Doing::BackOff, &forgotten(run.attempt - before.attempt - 1)),
                    _ if before.sandbox == run.sandbox => self.span(end, begin, Doing::BackOff, "back-off"),
                    _ => self.span(end, begin, Doing::Waiting, "a new sandbox, from the first init again"),
                },
            }
            let end = run.end.as_ref().map_or(self.to, |end| end.at);
            match run.started_at {
                None => self.span(begin, end, Doing::Waiting, "is being started"),
                Some(started) => self.run(run, role, started, end),
            }
            self.marks_of(run);
            before = Some(run);
        }
        if runs.is_empty() && lives {
            self.span(self.from, self.to, Doing::Waiting, holder);
        }
        self.marks.sort_by_key(|mark| (mark.at, mark.what));
    }

    /// A container that waits now: after its last run, or since ever.
    fn waits(&mut self, runs: &[&Entry], why: &str) {
        let last = runs.last().and_then(|run| run.end.as_ref()).map(|end| end.at);
        match (last, self.spans.last_mut()) {
            (Some(end), _) => self.span(end, self.to, Doing::BackOff, why),
            (None, Some(span)) if runs.is_empty() => why.clone_into(&mut span.text),
            (None, _) => {}
        }
    }

    /// A container of a pod that is over, which was to be started again.
    fn waited(&mut self, runs: &[&Entry], due: Time) {
        if let Some(end) = runs.last().and_then(|run| run.end.as_ref()) {
            self.span(end.at, due.min(self.to), Doing::BackOff, "back-off");
        }
    }

    fn span(&mut self, from: Time, to: Time, doing: Doing, text: &str) {
        let (from, to) = (ms(from), ms(to));
        if from < to {
            self.spans.push(Span { from, to, doing, text: text.to_owned() });
        }
    }

    /// The life of one process: cut where its readiness changes, where a probe fails and recovers, and at its stop signal.
    fn run(&mut self, run: &Entry, role: Role, started: Time, end: Time) {
        let signal = run.signaled_at.or(run.killed_at).unwrap_or(end).min(end).max(started);
        let stop = run.pre_stop_at.unwrap_or(signal).min(signal).max(started);
        let mut cuts = vec![started, stop];
        cuts.extend(run.health.ready.iter().map(|(at, _)| *at));
        cuts.extend(run.health.failures.iter().flat_map(|failures| [failures.first, failures.last]));
        cuts.retain(|at| (started..=stop).contains(at));
        cuts.sort_unstable();
        cuts.dedup();
        for pair in cuts.windows(2) {
            let [from, to] = *pair else { continue };
            let failing = run.health.failures.iter().find(|failures| failures.first <= from && to <= failures.last);
            let ready = run.health.ready.iter().rfind(|(at, _)| *at <= from).is_some_and(|(_, ready)| *ready);
            match failing {
                Some(failures) => {
                    self.span(from, to, Doing::Failing, &format!("{}Probe: {}", failures.probe, failures.output))
                }
                None if ready && role != Role::Init => self.span(from, to, Doing::Ready, ""),
                None => self.span(from, to, Doing::Running, ""),
            }
        }
        let why = run.cause.as_ref().map_or_else(String::new, asked);
        let before = if why.is_empty() { "preStop hook".to_owned() } else { format!("preStop hook, {why}") };
        self.span(stop, signal, Doing::Stopping, &before);
        self.span(signal, end, Doing::Stopping, &why);
    }

    fn marks_of(&mut self, run: &Entry) {
        let mut mark = |at: Option<Time>, what, text: String| {
            self.marks.extend(at.map(|at| Mark { at: ms(at), what, text }));
        };
        mark(run.started_at, What::Started, format!("run {} started", run.attempt));
        for (at, ready) in &run.health.ready {
            let (what, text) = if *ready { (What::Ready, "ready") } else { (What::Unready, "not ready any more") };
            mark(Some(*at), what, text.to_owned());
        }
        for failures in &run.health.failures {
            let times = if failures.count == 1 { String::new() } else { format!(" {} times", failures.count) };
            let output = failures.output.split_whitespace().collect::<Vec<_>>().join(" ");
            mark(Some(failures.first), What::ProbeFailed, format!("{}Probe failed{times}: {output}", failures.probe));
        }
        let why = run.cause.as_ref().map_or_else(String::new, |cause| format!(": {}", asked(cause)));
        mark(run.signaled_at, What::Signal, format!("stop signal{why}"));
        mark(run.killed_at, What::Kill, format!("SIGKILL{}", if run.signaled_at.is_some() { "" } else { &why }));
        if let Some(end) = &run.end {
            let (what, text) = ending(end);
            mark(Some(end.at), what, text);
        }
    }
}

/// Of runs that are neither the first nor among the newest no record is kept.
fn forgotten(runs: u32) -> String {
    format!("{} of which no record is kept, and their back-offs", count(u64::from(runs), "run"))
}

fn asked(cause: &Cause) -> String {
    let who = match cause.by {
        Asker::User => "podwright delete",
        Asker::ManifestRemoved => "manifest removed",
        Asker::ManifestChanged => "manifest changed",
        Asker::Owner => "its job",
        Asker::Restart => "podwright restart",
        Asker::Completion => "the pod is done",
        Asker::Deletion => "pod removed",
        Asker::Deadline => "activeDeadlineSeconds",
        Asker::Eviction => "evicted",
        Asker::StartupProbe => "startupProbe failed",
        Asker::LivenessProbe => "livenessProbe failed",
        Asker::PostStart => "postStart failed",
        Asker::RestartRule => "a restart rule",
        Asker::SandboxRemoved => "sandbox removed",
        Asker::ShimDied => "shim died",
        Asker::Reboot => "machine restarted",
        Asker::Other => "somebody",
    };
    who.to_owned()
}

fn ending(end: &End) -> (What, String) {
    match &end.outcome {
        Outcome::Exited { oom: true, code } if *code != 0 => (What::OutOfMemory, memory(end)),
        Outcome::Signaled { oom: true, .. } => (What::OutOfMemory, memory(end)),
        Outcome::Exited { code: 0, .. } => (What::Done, "left with 0".to_owned()),
        Outcome::Exited { code, .. } => (What::Failed, format!("left with {code}")),
        Outcome::Signaled { signal, .. } => (What::Failed, format!("ended by {}", signal_name(*signal))),
        Outcome::StartFailed { message, .. } => (What::Failed, format!("could not be started: {message}")),
        Outcome::Lost => (What::Lost, "ended unseen".to_owned()),
    }
}

fn memory(end: &End) -> String {
    end.victim.as_ref().map_or("killed for memory".to_owned(), |victim| format!("killed for memory: {}", victim.name))
}

#[cfg(test)]
#[path = "timeline_tests.rs"]
mod tests;
