//! Which expectations hold for a recording. Pure: the same recording gets the same answer.

use regex::Regex;
use serde_json::Value;

use crate::grammar::{
    Compared, ContainerRef, Event, Expect, Figure, Instance, Moment, Op, Operand, Status, Subject, Until,
};
use crate::recording::{Recording, Sample};

/// A recording, and how much slower than an idle machine it was made.
#[derive(Debug, Clone, Copy)]
pub struct Judge<'a> {
    /// What happened.
    pub recording: &'a Recording,
    /// Multiplies upper bounds; 1 on an idle machine. Never lower bounds, nor the offsets of moments.
    pub slow: f64,
}

/// What a failure says of the agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only an upper bound of time was missed: what was to happen did happen, after its lower bound, and late. A machine that others
    /// use does this to a right agent.
    Bound,
    /// Everything else: order, counts, states, codes, leftovers, what never happened, what came too early.
    Wrong,
}

/// Why an expectation does not hold.
#[derive(Debug, Clone, PartialEq)]
pub struct Failure {
    /// What it says of the agent.
    pub kind: Kind,
    /// For people.
    pub why: String,
}

impl Failure {
    /// A failure that time does not excuse.
    pub fn wrong(why: impl Into<String>) -> Failure {
        Failure { kind: Kind::Wrong, why: why.into() }
    }

    fn bound(why: impl Into<String>) -> Failure {
        Failure { kind: Kind::Bound, why: why.into() }
    }

    fn at(self, place: &str) -> Failure {
        Failure { why: format!("{place}: {}", self.why), ..self }
    }
}

impl From<String> for Failure {
    fn from(why: String) -> Failure {
        Failure::wrong(why)
    }
}

impl From<&str> for Failure {
    fn from(why: &str) -> Failure {
        Failure::wrong(why)
    }
}

/// Whether an expectation holds.
pub type Verdict = Result<(), Failure>;

/// How many times its upper bound a case waits for what is late, to tell it from what never happens.
const PATIENCE: f64 = 3.0;

impl Judge<'_> {
    /// Judges one expectation.
    pub fn judge(&self, expect: &Expect) -> Verdict {
        let r = self.recording;
        match expect {
            Expect::Order { first, second } => {
                let (a, b) = (self.happened(first)?, self.happened(second)?);
                holds(a < b, || format!("they were at {a:.3} and {b:.3}"))
            }
            Expect::Gap { from, to, low, high } => self.gap(self.happened(to)? - self.happened(from)?, *low, *high),
            Expect::Never { event, from, to } => {
                let times = self.within(event, from.as_ref(), to.as_ref())?;
                holds(times.is_empty(), || format!("it happened at {times:.3?}"))
            }
            Expect::Count { event, op, n, from, to } => {
                let times = self.within(event, from.as_ref(), to.as_ref())?;
                holds(order(times.len().cmp(n), *op), || format!("it happened {} times, at {times:.3?}", times.len()))
            }
            Expect::Overlap { one, other, want } => self.overlap(one, other, *want),
            Expect::Now(status) => self.status(status, r.end),
            Expect::At(moment, status) => self.status(status, self.passed(moment)?),
            Expect::By(moment, status) => self.by(moment, status, r.end),
            Expect::Always(from, to, status) => self.always(from, to, |at| self.status(status, at)),
            Expect::Unchanged(from, to, pod, path) => {
                let begin = self.passed(from)?;
                let at_begin = self.field(pod, path, begin);
                if at_begin.is_null() {
                    return Err(format!("{path} is not there at {begin:.3}").into());
                }
                self.always(from, to, |at| {
                    let now = self.field(pod, path, at);
                    holds(now == at_begin, || format!("{at_begin} became {now}"))
                })
            }
            Expect::PhaseNever(pod, phase) => {
                let phases = r.phases(pod);
                holds(!phases.is_empty() && !phases.contains(&phase.as_str()), || format!("phases were {phases:?}"))
            }
            Expect::PhaseSeq(pod, wanted) => {
                let phases = r.phases(pod);
                holds(phases == *wanted, || format!("phases were {phases:?}"))
            }
            Expect::SamePid(container) => self.same_pid(container),
            Expect::Seen(instance, text) => self.seen(instance, text),
            Expect::Header(container, name, compared) => {
                let lines = r.runs(container).flat_map(|run| &run.lines);
                let requests = lines.filter(|line| line.event && line.name() == "http");
                let last = requests.max_by(|a, b| a.at.total_cmp(&b.at)).ok_or("no HTTP request was served")?;
                let value = last.value(&format!("h.{name}")).map_or(Value::Null, Value::String);
                self.compare(&value, compared, r.end)
            }
            Expect::EventSeen(reason) => {
                let seen: Vec<&str> = r.events.iter().filter_map(|event| event["reason"].as_str()).collect();
                holds(seen.contains(&reason.as_str()), || format!("the reasons were {seen:?}"))
            }
            Expect::Rejected(source, text) => self.rejected(source, text.as_deref()),
        }
    }

    /// Whether an `until` step is through.
    pub fn reached(&self, until: &Until) -> bool {
        match until {
            Until::Event(event) => self.recording.time(event).is_some(),
            Until::Status(status) => self.status(status, f64::MAX).is_ok(),
        }
    }

    /// Whether every time that the expectation names has passed by `now`.
    pub fn is_past(&self, expect: &Expect, now: f64) -> bool {
        let past = |moment: &Moment| self.recording.moment(moment).is_none_or(|at| at <= now);
        match expect {
            Expect::At(at, _) => past(at),
            Expect::By(by, status) => {
                let over = Moment { event: by.event.clone(), plus: by.plus * self.slow * PATIENCE };
                past(&over) || !matches!(self.by(by, status, now), Err(Failure { kind: Kind::Wrong, .. }))
            }
            Expect::Always(from, to, _) | Expect::Unchanged(from, to, _, _) => past(from) && past(to),
            Expect::Never { from, to, .. } | Expect::Count { from, to, .. } => from.iter().chain(to).all(past),
            _ => true,
        }
    }

    /// Whether it came true in time, of what was recorded until `end`.
    fn by(&self, moment: &Moment, status: &Status, end: f64) -> Verdict {
        let from = self.happened(&moment.event)?;
        let to = from + moment.plus * self.slow;
        let first = |from, to: f64| {
            let changes = self.recording.changes(from, to.min(end));
            changes.into_iter().find(|at| self.status(status, *at).is_ok())
        };
        if first(from, to).is_some() {
            return Ok(());
        }
        let missed = format!("at no moment from {from:.3} to {to:.3}");
        match first(to, end).filter(|_| to < end) {
            Some(at) => Err(Failure::bound(format!("{missed}, but at {at:.3}"))),
            None => Err(Failure::wrong(format!("{missed}; {}", self.found(status, to)))),
        }
    }

    /// A gap above zero is late, one below zero is early. A lower bound below zero is an upper bound only where the order is settled:
    /// where both bounds are on one side of zero, for the gap the other way round.
    fn gap(&self, gap: f64, low: f64, high: f64) -> Verdict {
        let (least, most) =
            (if low < 0.0 { low * self.slow } else { low }, if high > 0.0 { high * self.slow } else { high });
        let why = || format!("it was {gap:.3}, allowed is [{least}, {most}]");
        let late = (high > 0.0 && gap > most) || (high <= 0.0 && gap < least);
        match (least..=most).contains(&gap) {
            true => Ok(()),
            false if late => Err(Failure::bound(why())),
            false => Err(Failure::wrong(why())),
        }
    }

    fn happened(&self, event: &Event) -> Result<f64, Failure> {
        self.recording.time(event).ok_or_else(|| format!("{} never happened", describe(event)).into())
    }

    /// The time of a moment that has come.
    fn passed(&self, moment: &Moment) -> Result<f64, Failure> {
        let at = self.happened(&moment.event)? + moment.plus;
        holds(at <= self.recording.end, || format!("the case ended at {:.3}, before {at:.3}", self.recording.end))?;
        Ok(at)
    }

    fn within(&self, event: &Event, from: Option<&Moment>, to: Option<&Moment>) -> Result<Vec<f64>, Failure> {
        let bound = |moment: Option<&Moment>, none| {
            moment.map_or(Ok(none), |moment| Ok::<f64, Failure>(self.happened(&moment.event)? + moment.plus))
        };
        let (from, to) = (bound(from, f64::MIN)?, bound(to, f64::MAX)?);
        Ok(self.recording.times(event).into_iter().filter(|at| *at > from && *at < to).collect())
    }

    fn overlap(&self, one: &Instance, other: &Instance, want: bool) -> Verdict {
        let span = |of: &Instance| {
            self.recording.span(of).ok_or_else(|| format!("{} has no such instance", of.container.name))
        };
        let ((a, b), (c, d)) = (span(one)?, span(other)?);
        let overlap = a < d && c < b;
        holds(overlap == want, || format!("they ran from {a:.3} to {b:.3} and from {c:.3} to {d:.3}"))
    }

    fn always(&self, from: &Moment, to: &Moment, check: impl Fn(f64) -> Verdict) -> Verdict {
        let (from, to) = (self.passed(from)?, self.passed(to)?);
        if to < from {
            return Err(format!("the interval from {from:.3} to {to:.3} is empty").into());
        }
        for at in self.recording.changes(from, to) {
            check(at).map_err(|failure| failure.at(&format!("at {at:.3}")))?;
        }
        Ok(())
    }

    fn same_pid(&self, container: &ContainerRef) -> Verdict {
        let runs: Vec<_> = self.recording.runs(container).collect();
        let [run] = &runs[..] else { return Err(format!("it ran {} times", runs.len()).into()) };
        match run.exit {
            Some(at) => Err(format!("it ended at {at:.3}").into()),
            None => holds(run.alive && run.started().is_some(), || format!("process {:?} is not there", run.pid)),
        }
    }

    fn seen(&self, instance: &Instance, text: &str) -> Verdict {
        let run = self.recording.instance(instance).ok_or("there is no such instance")?;
        holds(run.lines.iter().any(|line| line.text.contains(text)), || {
            format!("its log is {:?}", run.lines.iter().map(|line| line.text.as_str()).collect::<Vec<_>>())
        })
    }

    /// `source` is a file, or `pod/NAME` for the file that was written last with that pod.
    fn rejected(&self, source: &str, text: Option<&str>) -> Verdict {
        let r = self.recording;
        let mut writes = r.writes.iter();
        let write = match source.strip_prefix("pod/") {
            Some(pod) => writes.rfind(|w| w.file == r.file_of(pod) || w.pods.iter().any(|p| p == pod)),
            None => writes.rfind(|w| w.file == source),
        };
        let write = write.ok_or_else(|| format!("{source} was never written"))?;
        let placed = |pod: &str| r.marks.iter().any(|m| m.event == "placed" && m.pod.as_deref() == Some(pod));
        let new = r.uids.iter().find(|uid| uid.at > write.at && (write.pods.contains(&uid.pod) || !placed(&uid.pod)));
        if let Some(new) = new {
            return Err(format!("pod {} was accepted at {:.3} as {}", new.pod, new.at, new.uid).into());
        }
        let file = write.file.rsplit('/').next().unwrap_or(&write.file);
        let says = |words: &str| words.contains(file) && text.is_none_or(|text| words.contains(text));
        let what = text.map_or(String::new(), |text| format!(" and {text:?}"));
        holds(r.log.lines().any(says), || format!("no line of the agent's log names {file:?}{what}"))?;
        holds(r.events.iter().any(|event| says(&event.to_string())), || format!("no Event names {file:?}{what}"))?;
        holds(says(&r.files), || format!("`podwright get files` does not name {file:?}{what}: {}", r.files))
    }

    /// Judges a status line at a time.
    pub fn status(&self, status: &Status, at: f64) -> Verdict {
        self.compare(&self.value(status, at), &status.compared, at)
    }

    fn found(&self, status: &Status, at: f64) -> String {
        format!("found {} at the end of it", self.value(status, at))
    }

    fn object(&self, pod: &str, at: f64) -> &Value {
        self.recording.shown(pod, at).unwrap_or(&Value::Null)
    }

    fn field(&self, pod: &str, path: &str, at: f64) -> Value {
        path.split('.').fold(self.object(pod, at).clone(), |value, part| select(&value, part))
    }

    fn value(&self, status: &Status, at: f64) -> Value {
        let sampled = |key: String| self.recording.sample(&key, at).map_or(Value::Null, Value::from);
        match &status.subject {
            Subject::Phase(pod) => self.field(pod, "status.phase", at),
            Subject::PodReason(pod) => self.field(pod, "status.reason", at),
            Subject::Qos(pod) => self.field(pod, "status.qosClass", at),
            Subject::Cond(pod, kind) => {
                let condition = self.field(pod, &format!("status.conditions[type={kind}]"), at);
                let Some(truth) = condition["status"].as_str() else { return Value::Null };
                let asked = matches!(&status.compared.with, Operand::Value(value) if value.contains(':'));
                let reason = condition["reason"].as_str().unwrap_or_default();
                if asked { format!("{truth}:{reason}").into() } else { truth.into() }
            }
            Subject::Field(pod, path) => self.field(pod, path, at),
            Subject::Procs(_) | Subject::Cgroup(..) | Subject::OomScore(_) => {
                status.subject.probe().map_or(Value::Null, |probe| sampled(probe.key()))
            }
            Subject::Of(figure, container) => figure_of(*figure, &self.container(container, at)),
        }
    }

    fn container(&self, of: &ContainerRef, at: f64) -> Value {
        let lists = ["status.initContainerStatuses", "status.containerStatuses"];
        let found = lists.iter().map(|list| self.field(&of.pod, &format!("{list}[name={}]", of.name), at));
        found.into_iter().find(|status| !status.is_null()).unwrap_or(Value::Null)
    }

    fn compare(&self, value: &Value, compared: &Compared, at: f64) -> Verdict {
        let found = || format!("found {value}");
        if value.is_null() {
            return Err("found nothing".into());
        }
        let text = plain(value);
        let ok = match (&compared.with, compared.op) {
            (Operand::Value(pattern), Op::Matches) => {
                Regex::new(pattern).map_err(|e| format!("not a regular expression: {e}"))?.is_match(&text)
            }
            (Operand::Value(wanted), op) => relation(&text, wanted, op),
            (Operand::List(wanted), Op::In) => wanted.iter().any(|wanted| relation(&text, wanted, Op::Eq)),
            (Operand::List(wanted), op @ (Op::Eq | Op::Ne)) => {
                let items: Vec<String> = value.as_array().into_iter().flatten().map(plain).collect();
                (value.is_array() && items == *wanted) == (op == Op::Eq)
            }
            (Operand::List(_), _) => return Err("a list is compared with ==, != or in".into()),
            (Operand::OomScore(container), op) => {
                let key = crate::recording::Probe::OomScore(container.clone()).key();
                let other = self.recording.sample(&key, at).ok_or("found nothing on the right side")?;
                return holds(relation(&text, other, op), || format!("found {text} and {other}"));
            }
        };
        holds(ok, found)
    }
}

impl Subject {
    /// What has to be sampled for it.
    pub fn probe(&self) -> Option<crate::recording::Probe> {
        use crate::recording::Probe;
        match self {
            Subject::Procs(pod) => Some(Probe::Procs(pod.clone())),
            Subject::Cgroup(pod, container, file) => Some(Probe::Cgroup(pod.clone(), container.clone(), file.clone())),
            Subject::OomScore(container) => Some(Probe::OomScore(container.clone())),
            _ => None,
        }
    }
}

impl Recording {
    /// The file that a pod was placed in last.
    fn file_of(&self, pod: &str) -> String {
        let last = self.writes.iter().rfind(|write| write.pods.iter().any(|p| p == pod));
        last.map_or(format!("{pod}.yaml"), |write| write.file.clone())
    }

    /// Adds a sample if it differs from the last one of its key.
    pub fn push_sample(&mut self, sample: Sample) {
        let last = self.samples.iter().rev().find(|s| s.key == sample.key);
        if last.is_none_or(|last| last.value != sample.value) {
            self.samples.push(sample);
        }
    }
}

fn holds(ok: bool, why: impl FnOnce() -> String) -> Verdict {
    if ok { Ok(()) } else { Err(Failure::wrong(why())) }
}

/// An event for people.
fn describe(event: &Event) -> String {
    use crate::grammar::{Nth, What};
    let name = match &event.what {
        What::Started(c) => format!("started({})", c.name),
        What::Exits(c) => format!("exits({})", c.name),
        What::Wrote(word, c) => format!("{word}({})", c.name),
        What::Probe(c, kind) => format!("probe({},{kind})", c.name),
        What::OfPod(word, pod) => format!("{word}({pod})"),
        What::OfStep(word) => (*word).to_owned(),
    };
    match event.nth {
        None => name,
        Some(Nth::Number(n)) => format!("{name}#{n}"),
        Some(Nth::Last) => format!("{name}#last"),
    }
}

fn order(ordering: std::cmp::Ordering, op: Op) -> bool {
    match op {
        Op::Eq => ordering.is_eq(),
        Op::Ne => ordering.is_ne(),
        Op::Lt => ordering.is_lt(),
        Op::Le => ordering.is_le(),
        Op::Gt => ordering.is_gt(),
        Op::Ge => ordering.is_ge(),
        Op::In | Op::Matches => false,
    }
}

/// Numbers are compared as numbers, everything else for being the same.
fn relation(found: &str, wanted: &str, op: Op) -> bool {
    match (found.parse::<f64>(), wanted.parse::<f64>()) {
        (Ok(a), Ok(b)) => order(a.total_cmp(&b), op),
        _ => match op {
            Op::Eq => found == wanted,
            Op::Ne => found != wanted,
            _ => false,
        },
    }
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// One part of a path: `name`, `name[]` (then the rest is taken of each), `name[key=value]`.
fn select(value: &Value, part: &str) -> Value {
    if let Value::Array(items) = value {
        return Value::Array(items.iter().map(|item| select(item, part)).collect());
    }
    let Some((name, rest)) = part.split_once('[') else { return value[part].clone() };
    let list = &value[name];
    let inner = rest.trim_end_matches(']');
    match inner.split_once('=') {
        None => list.clone(),
        Some((key, wanted)) => {
            list.as_array().into_iter().flatten().find(|item| plain(&item[key]) == wanted).cloned().unwrap_or_default()
        }
    }
}

fn figure_of(figure: Figure, status: &Value) -> Value {
    if status.is_null() {
        return Value::Null;
    }
    let state = &status["state"];
    let present = ["terminated", "waiting", "running"].iter().map(|k| &state[*k]).find(|s| !s.is_null());
    let present = present.unwrap_or(&Value::Null);
    let last = &status["lastState"]["terminated"];
    let message = || present["message"].as_str().unwrap_or_default();
    match figure {
        Figure::RestartCount => status["restartCount"].clone(),
        Figure::IsReady => status["ready"].clone(),
        Figure::IsStarted => status["started"].as_bool().unwrap_or(false).into(),
        Figure::Waiting => state["waiting"]["reason"].clone(),
        Figure::ExitCode => state["terminated"]["exitCode"].clone(),
        Figure::Reason => present["reason"].clone(),
        Figure::Message => message().into(),
        Figure::MessageLength => message().len().into(),
        Figure::MessageLines => message().lines().count().into(),
        Figure::LastExitCode => last["exitCode"].clone(),
        Figure::LastReason => last["reason"].clone(),
    }
}
