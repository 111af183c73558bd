//! The lines of a case, parsed: expectations, and what `until` waits for.
//!
//! A line that cannot be read, or that speaks of a pod, container, file or event that the case does not have, is an error.

use serde::{Deserialize, Serialize};

use crate::scope::Scope;

/// A container of one of the case's pods.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ContainerRef {
    /// Name of the pod.
    pub pod: String,
    /// Name of the container.
    pub name: String,
}

/// Which of several occurrences.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Nth {
    /// Counted from 1.
    Number(usize),
    /// `#last`.
    Last,
}

/// What happens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// First line of an instance.
    Started(ContainerRef),
    /// End of an instance, as recorded.
    Exits(ContainerRef),
    /// An event that an instance, or a hook in it, wrote: `term`, `bye`, `pre_begin`, …
    Wrote(&'static str, ContainerRef),
    /// One execution of an exec probe of this kind.
    Probe(ContainerRef, &'static str),
    /// A pod's `placed` or `gone`.
    OfPod(&'static str, String),
    /// A step's event.
    OfStep(&'static str),
}

/// An event of an expectation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// What happens.
    pub what: What,
    /// `None`: the first, and every one in `never` and `count`.
    pub nth: Option<Nth>,
}

/// An event and seconds after it.
#[derive(Debug, Clone, PartialEq)]
pub struct Moment {
    /// The event.
    pub event: Event,
    /// Seconds; may be negative.
    pub plus: f64,
}

/// One instance of a container, the first unless it says otherwise.
#[derive(Debug, Clone, PartialEq)]
pub struct Instance {
    /// The container.
    pub container: ContainerRef,
    /// Which one.
    pub nth: Option<Nth>,
}

/// A comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Op {
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
    In,
    Matches,
}

/// The right side of a comparison.
#[derive(Debug, Clone, PartialEq)]
pub enum Operand {
    /// One value, quotes taken off.
    Value(String),
    /// `[a, b]`.
    List(Vec<String>),
    /// `oom_score_adj(c)`.
    OomScore(ContainerRef),
}

/// Operator and right side.
#[derive(Debug, Clone, PartialEq)]
pub struct Compared {
    /// The operator.
    pub op: Op,
    /// The right side; for `matches` the expression.
    pub with: Operand,
}

/// A figure of a container's status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are the words of the grammar")]
pub enum Figure {
    RestartCount,
    IsReady,
    IsStarted,
    Waiting,
    ExitCode,
    Reason,
    Message,
    MessageLength,
    MessageLines,
    LastExitCode,
    LastReason,
}

/// What a status line looks at.
#[derive(Debug, Clone, PartialEq)]
#[expect(missing_docs, reason = "the names are the words of the grammar")]
pub enum Subject {
    Phase(String),
    /// Pod and type; the value is `True`, or `True:Reason` where the line asks for a reason.
    Cond(String, String),
    PodReason(String),
    Qos(String),
    Procs(String),
    /// Pod and path.
    Field(String, String),
    /// The pod's own cgroup (no container) or a container's, and the file.
    Cgroup(String, Option<String>, String),
    OomScore(ContainerRef),
    Of(Figure, ContainerRef),
}

/// A status line.
#[derive(Debug, Clone, PartialEq)]
pub struct Status {
    /// What it looks at.
    pub subject: Subject,
    /// What that has to be.
    pub compared: Compared,
}

/// An expectation.
#[derive(Debug, Clone, PartialEq)]
#[expect(missing_docs, reason = "the names are the words of the grammar")]
pub enum Expect {
    /// `first` happened strictly before `second`.
    Order {
        first: Event,
        second: Event,
    },
    Gap {
        from: Event,
        to: Event,
        low: f64,
        high: f64,
    },
    /// No `event` after `from` and before `to`.
    Never {
        event: Event,
        from: Option<Moment>,
        to: Option<Moment>,
    },
    Count {
        event: Event,
        op: Op,
        n: usize,
        from: Option<Moment>,
        to: Option<Moment>,
    },
    Overlap {
        one: Instance,
        other: Instance,
        want: bool,
    },
    /// The last status seen.
    Now(Status),
    At(Moment, Status),
    By(Moment, Status),
    Always(Moment, Moment, Status),
    Unchanged(Moment, Moment, String, String),
    PhaseNever(String, String),
    PhaseSeq(String, Vec<String>),
    SamePid(ContainerRef),
    Seen(Instance, String),
    Header(ContainerRef, String, Compared),
    EventSeen(String),
    Rejected(String, Option<String>),
}

/// What an `until` step waits for.
#[derive(Debug, Clone, PartialEq)]
pub enum Until {
    /// It happened.
    Event(Event),
    /// It is true of the last status seen.
    Status(Status),
}

/// The probes that a container may have.
pub const PROBES: [&str; 3] = ["startup", "readiness", "liveness"];
/// What instances, and hooks in them, write.
const WRITTEN: [&str; 6] = ["term", "bye", "pre_begin", "pre_end", "post_begin", "post_end"];
const OF_POD: [&str; 2] = ["placed", "gone"];
/// Events of steps, and the steps that make them.
const OF_STEP: [(&str, &[&str]); 5] = [
    ("deleted", &["delete", "api_delete", "clear_dir"]),
    ("edited", &["edit"]),
    ("agent_down", &["agent_kill", "agent_stop", "reboot"]),
    ("agent_up", &["agent_start", "reboot"]),
    ("sandbox_lost", &["lose_sandbox"]),
];
const PHASES: [&str; 4] = ["Pending", "Running", "Succeeded", "Failed"];
const QOS: [&str; 3] = ["Guaranteed", "Burstable", "BestEffort"];
const CONDITIONS: [&str; 6] =
    ["PodScheduled", "PodReadyToStartContainers", "Initialized", "ContainersReady", "Ready", "AllContainersRestarting"];
const FIGURES: [(&str, Figure); 11] = [
    ("restartCount", Figure::RestartCount),
    ("isReady", Figure::IsReady),
    ("isStarted", Figure::IsStarted),
    ("waiting", Figure::Waiting),
    ("exitCode", Figure::ExitCode),
    ("reason", Figure::Reason),
    ("message", Figure::Message),
    ("message.length", Figure::MessageLength),
    ("message.lines", Figure::MessageLines),
    ("last.exitCode", Figure::LastExitCode),
    ("last.reason", Figure::LastReason),
];

/// Parses an expectation of a case.
pub fn expectation(text: &str, scope: &Scope) -> Result<Expect, String> {
    let mut line = Line { text, at: 0, scope };
    let expect = line.expectation()?;
    line.end()?;
    Ok(expect)
}

/// Parses what an `until` step waits for.
pub fn until(text: &str, scope: &Scope) -> Result<Until, String> {
    let mut line = Line { text, at: 0, scope };
    let until = match line.maybe_status()? {
        Some(status) => Until::Status(status),
        None => Until::Event(line.event()?),
    };
    line.end()?;
    Ok(until)
}

/// Parses a reference to a container, `c` or `POD/c`.
pub fn container(text: &str, scope: &Scope) -> Result<ContainerRef, String> {
    let mut line = Line { text, at: 0, scope };
    let container = line.container()?;
    line.end()?;
    Ok(container)
}

/// Recursive descent over one line.
struct Line<'a> {
    text: &'a str,
    at: usize,
    scope: &'a Scope,
}

impl<'a> Line<'a> {
    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn end(&self) -> Result<(), String> {
        if self.rest().is_empty() { Ok(()) } else { Err(format!("unexpected {:?}", self.rest())) }
    }

    fn take(&mut self, literal: &str) -> bool {
        let found = self.rest().starts_with(literal);
        if found {
            self.at += literal.len();
        }
        found
    }

    fn expect(&mut self, literal: &str) -> Result<(), String> {
        if self.take(literal) { Ok(()) } else { Err(format!("expected {literal:?} at {:?}", self.rest())) }
    }

    /// The longest run of characters that `accept` takes; not empty.
    fn run(&mut self, what: &str, accept: impl Fn(char) -> bool) -> Result<&'a str, String> {
        let rest = self.rest();
        let length = rest.find(|c| !accept(c)).unwrap_or(rest.len());
        if length == 0 {
            return Err(format!("expected {what} at {rest:?}"));
        }
        self.at += length;
        Ok(&rest[..length])
    }

    fn one_of(&mut self, what: &str, known: &[&'static str]) -> Result<&'static str, String> {
        let begin = self.at;
        let word = self.run(what, |c| c.is_ascii_alphanumeric() || c == '_')?;
        known.iter().find(|k| **k == word).copied().ok_or_else(|| {
            self.at = begin;
            format!("{word:?} is none of {known:?}")
        })
    }

    /// `word` or `word.part`, without moving past it when it is not `known`.
    fn word(&mut self) -> Result<&'a str, String> {
        let begin = self.at;
        self.run("a word", |c| c.is_ascii_alphabetic() || c == '_')?;
        let plain = self.at;
        if self.take(".") && self.run("a word", |c| c.is_ascii_alphabetic()).is_err() {
            self.at = plain;
        }
        Ok(&self.text[begin..self.at])
    }

    fn number(&mut self) -> Result<f64, String> {
        let text = self.run("a number", |c| c.is_ascii_digit() || c == '.' || c == '-')?;
        let digits = text.strip_prefix('-').unwrap_or(text);
        let whole = digits.split('.').all(|part| part.starts_with(|c: char| c.is_ascii_digit()));
        text.parse().ok().filter(|_| whole).ok_or_else(|| format!("{text:?} is no number"))
    }

    fn expectation(&mut self) -> Result<Expect, String> {
        let begin = self.at;
        let word = self.word()?;
        match word {
            "gap" | "never" | "count" | "overlap" | "no_overlap" => self.of_events(word),
            "at" | "by" | "always" | "unchanged" => self.of_moments(word),
            "phase_never" | "phase_seq" => self.of_phases(word),
            "same_pid" | "seen" | "header" | "event" | "rejected" => self.of_rest(word),
            _ => {
                self.at = begin;
                if let Some(status) = self.maybe_status()? {
                    return Ok(Expect::Now(status));
                }
                let one = self.event()?;
                let before = self.take(" before ");
                if !before {
                    self.expect(" after ")?;
                }
                let other = self.event()?;
                Ok(if before {
                    Expect::Order { first: one, second: other }
                } else {
                    Expect::Order { first: other, second: one }
                })
            }
        }
    }

    fn of_events(&mut self, word: &str) -> Result<Expect, String> {
        self.expect("(")?;
        match word {
            "gap" => {
                let from = self.event()?;
                self.expect(", ")?;
                let to = self.event()?;
                self.expect(") in [")?;
                let low = self.number()?;
                self.expect(", ")?;
                let high = self.number()?;
                self.expect("]")?;
                if high < low {
                    return Err(format!("the interval [{low}, {high}] is empty"));
                }
                Ok(Expect::Gap { from, to, low, high })
            }
            "never" => {
                let event = self.event()?;
                self.expect(")")?;
                let (mut from, mut to) = (None, None);
                if self.take(" after ") {
                    from = Some(self.moment()?);
                } else if self.take(" before ") {
                    to = Some(self.moment()?);
                }
                Ok(Expect::Never { event, from, to })
            }
            "count" => {
                let event = self.event()?;
                self.expect(") ")?;
                let op = self.operator()?;
                if matches!(op, Op::In | Op::Matches) {
                    return Err("a count is compared with a number".to_owned());
                }
                let n = self.run("a number", |c| c.is_ascii_digit())?;
                let n = n.parse().map_err(|_| format!("{n:?} is no number"))?;
                let (mut from, mut to) = (None, None);
                if self.take(" between ") {
                    from = Some(self.moment()?);
                    self.expect(" and ")?;
                    to = Some(self.moment()?);
                }
                Ok(Expect::Count { event, op, n, from, to })
            }
            _ => {
                let one = self.instance()?;
                self.expect(", ")?;
                let other = self.instance()?;
                self.expect(")")?;
                Ok(Expect::Overlap { one, other, want: word == "overlap" })
            }
        }
    }

    fn of_moments(&mut self, word: &str) -> Result<Expect, String> {
        self.expect("(")?;
        let from = self.moment()?;
        if word == "at" || word == "by" {
            self.expect("): ")?;
            let status = self.status()?;
            return Ok(if word == "at" { Expect::At(from, status) } else { Expect::By(from, status) });
        }
        self.expect(" .. ")?;
        let to = self.moment()?;
        self.expect("): ")?;
        if word == "always" {
            return Ok(Expect::Always(from, to, self.status()?));
        }
        self.expect("field(")?;
        let (pod, path) = self.field()?;
        self.expect(")")?;
        Ok(Expect::Unchanged(from, to, pod, path))
    }

    fn of_phases(&mut self, word: &str) -> Result<Expect, String> {
        let pod = self.maybe_pod()?;
        if word == "phase_never" {
            self.expect(" ")?;
            return Ok(Expect::PhaseNever(pod, self.one_of("a phase", &PHASES)?.to_owned()));
        }
        self.expect(" == [")?;
        let mut phases = vec![self.one_of("a phase", &PHASES)?.to_owned()];
        while self.take(", ") {
            phases.push(self.one_of("a phase", &PHASES)?.to_owned());
        }
        self.expect("]")?;
        Ok(Expect::PhaseSeq(pod, phases))
    }

    fn of_rest(&mut self, word: &str) -> Result<Expect, String> {
        self.expect("(")?;
        match word {
            "same_pid" => {
                let container = self.container()?;
                self.expect(")")?;
                Ok(Expect::SamePid(container))
            }
            "seen" => {
                let instance = self.instance()?;
                self.expect(", ")?;
                Ok(Expect::Seen(instance, self.text_to_end()?))
            }
            "header" => {
                let container = self.container()?;
                if !self.scope.serves_http(&container) {
                    return Err(format!("{} serves no HTTP", container.name));
                }
                self.expect(", ")?;
                let name = self.run("a header", |c| c.is_ascii_alphanumeric() || c == '_' || c == '-')?.to_owned();
                self.expect(")")?;
                Ok(Expect::Header(container, name, self.compared()?))
            }
            "event" => {
                let reason = self.run("a reason", |c| c.is_ascii_alphanumeric() || c == '_')?.to_owned();
                self.expect(") seen")?;
                Ok(Expect::EventSeen(reason))
            }
            _ => {
                let source = self.run("a pod or file", |c| !matches!(c, ',' | '(' | ')') && !c.is_whitespace())?;
                let file = self.scope.file_of(source).ok_or_else(|| format!("no step writes {source:?}"))?;
                if self.take(")") {
                    return Ok(Expect::Rejected(file, None));
                }
                self.expect(", ")?;
                Ok(Expect::Rejected(file, Some(self.text_to_end()?)))
            }
        }
    }

    /// Text up to the bracket that ends the line.
    fn text_to_end(&mut self) -> Result<String, String> {
        let text = self.run("a text", |c| c != '(' && c != ')')?.to_owned();
        self.expect(")")?;
        self.end()?;
        Ok(text)
    }

    fn maybe_status(&mut self) -> Result<Option<Status>, String> {
        let begin = self.at;
        let word = self.word()?.to_owned();
        let status = self.status_of(&word)?;
        if status.is_none() {
            self.at = begin;
        }
        Ok(status)
    }

    fn status(&mut self) -> Result<Status, String> {
        let word = self.word()?.to_owned();
        self.status_of(&word)?.ok_or_else(|| format!("{word:?} is no status"))
    }

    fn status_of(&mut self, word: &str) -> Result<Option<Status>, String> {
        let exactly = |subject, value: &str| Status {
            subject,
            compared: Compared { op: Op::Eq, with: Operand::Value(value.to_owned()) },
        };
        let subject = match word {
            "phase" | "qos" => {
                let pod = self.maybe_pod()?;
                self.expect(" == ")?;
                return Ok(Some(if word == "phase" {
                    exactly(Subject::Phase(pod), self.one_of("a phase", &PHASES)?)
                } else {
                    exactly(Subject::Qos(pod), self.one_of("a QoS class", &QOS)?)
                }));
            }
            "cond" => {
                self.expect("(")?;
                let pod = self.pod_and_slash()?;
                let kind = self.one_of("a condition", &CONDITIONS)?.to_owned();
                self.expect(") == ")?;
                let truth = self.truth()?;
                return Ok(Some(exactly(Subject::Cond(pod, kind), &truth)));
            }
            "pod.reason" => Subject::PodReason(self.maybe_pod()?),
            "procs" => {
                self.expect("(")?;
                let pod = self.pod()?;
                self.expect(")")?;
                Subject::Procs(pod)
            }
            "field" => {
                self.expect("(")?;
                let (pod, path) = self.field()?;
                self.expect(")")?;
                Subject::Field(pod, path)
            }
            "cgroup" => self.cgroup()?,
            _ => {
                let figure = FIGURES.iter().find(|(name, _)| *name == word).map(|(_, figure)| *figure);
                if figure.is_none() && word != "oom_score_adj" {
                    return Ok(None);
                }
                self.expect("(")?;
                let container = self.container()?;
                self.expect(")")?;
                figure.map_or(Subject::OomScore(container.clone()), |figure| Subject::Of(figure, container))
            }
        };
        Ok(Some(Status { subject, compared: self.compared()? }))
    }

    fn cgroup(&mut self) -> Result<Subject, String> {
        self.expect("(")?;
        let (pod, container) = if self.take("pod,") {
            self.at -= 1;
            (self.scope.pods[0].clone(), None)
        } else {
            let found = self.container()?;
            (found.pod, Some(found.name))
        };
        self.expect(", ")?;
        let file = self.run("a file", |c| c.is_ascii_lowercase() || c == '.' || c == '_')?.to_owned();
        self.expect(")")?;
        Ok(Subject::Cgroup(pod, container, file))
    }

    fn truth(&mut self) -> Result<String, String> {
        let mut truth = self.one_of("True or False", &["True", "False"])?.to_owned();
        if self.take(":") {
            let reason = self.run("a reason", |c| c.is_ascii_alphanumeric() || c == '_')?;
            truth.push_str(&format!(":{reason}"));
        }
        Ok(truth)
    }

    fn name(&mut self, what: &str) -> Result<&'a str, String> {
        self.run(what, |c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
    }

    fn pod(&mut self) -> Result<String, String> {
        let name = self.name("a pod")?;
        self.scope.pod(name).ok_or_else(|| format!("no pod {name:?}"))
    }

    fn maybe_pod(&mut self) -> Result<String, String> {
        if !self.take("(") {
            return Ok(self.scope.pods[0].clone());
        }
        let pod = self.pod()?;
        self.expect(")")?;
        Ok(pod)
    }

    /// `POD/` where it is there, else the pod.
    fn pod_and_slash(&mut self) -> Result<String, String> {
        let begin = self.at;
        if let Ok(name) = self.name("a pod")
            && self.take("/")
        {
            return self.scope.pod(name).ok_or_else(|| format!("no pod {name:?}"));
        }
        self.at = begin;
        Ok(self.scope.pods[0].clone())
    }

    fn field(&mut self) -> Result<(String, String), String> {
        let pod = self.pod_and_slash()?;
        let path = self.run("a path", |c| c != '(' && c != ')' && !c.is_whitespace())?.to_owned();
        if path.split('.').any(|part| part.is_empty() || part.starts_with('[')) {
            return Err(format!("{path:?} is no path"));
        }
        Ok((pod, path))
    }

    fn container(&mut self) -> Result<ContainerRef, String> {
        let pod = self.pod_and_slash()?;
        let name = self.name("a container")?.to_owned();
        let found = ContainerRef { pod, name };
        if self.scope.container(&found).is_none() {
            return Err(format!("no container {:?} in pod {:?}", found.name, found.pod));
        }
        Ok(found)
    }

    fn nth(&mut self) -> Result<Option<Nth>, String> {
        if !self.take("#") {
            return Ok(None);
        }
        let text = self.run("a number or last", |c| c.is_ascii_alphanumeric())?;
        match text.parse() {
            Ok(n) if n > 0 => Ok(Some(Nth::Number(n))),
            _ if text == "last" => Ok(Some(Nth::Last)),
            _ => Err(format!("{text:?} is neither a number from 1 nor last")),
        }
    }

    fn instance(&mut self) -> Result<Instance, String> {
        Ok(Instance { container: self.container()?, nth: self.nth()? })
    }

    fn event(&mut self) -> Result<Event, String> {
        let word = self.run("an event", |c| c.is_ascii_lowercase() || c == '_')?;
        let what = if matches!(word, "started" | "exits" | "probe") || WRITTEN.contains(&word) {
            self.expect("(")?;
            let what = self.of_container(word)?;
            self.expect(")")?;
            what
        } else if let Some(event) = OF_POD.iter().find(|event| **event == word) {
            What::OfPod(event, self.maybe_pod()?)
        } else if let Some((event, steps)) = OF_STEP.iter().find(|(event, _)| *event == word) {
            if !self.scope.uses_one_of(steps) {
                return Err(format!("no step makes {word:?}"));
            }
            What::OfStep(event)
        } else {
            return Err(format!("{word:?} is no word of the grammar"));
        };
        Ok(Event { what, nth: self.nth()? })
    }

    fn of_container(&mut self, word: &str) -> Result<What, String> {
        let container = self.container()?;
        let never = |container: &ContainerRef| format!("{} never writes {word:?}", container.name);
        match word {
            "started" => Ok(What::Started(container)),
            "exits" => Ok(What::Exits(container)),
            "probe" => {
                self.expect(",")?;
                let kind = self.one_of("a kind of probe", &PROBES)?;
                if self.scope.writes(&container, "probe", kind) {
                    Ok(What::Probe(container, kind))
                } else {
                    Err(never(&container))
                }
            }
            _ => {
                let event = WRITTEN.iter().find(|event| **event == word).ok_or_else(|| never(&container))?;
                let written = match word.split_once('_') {
                    Some((kind, _)) => self.scope.writes(&container, "hook", kind),
                    None => self.scope.writes(&container, "run", ""),
                };
                if written { Ok(What::Wrote(event, container)) } else { Err(never(&container)) }
            }
        }
    }

    fn moment(&mut self) -> Result<Moment, String> {
        let event = self.event()?;
        let plus = if self.take("+") { self.number()? } else { 0.0 };
        Ok(Moment { event, plus })
    }

    /// An operator with the blank behind it.
    fn operator(&mut self) -> Result<Op, String> {
        const OPS: [(&str, Op); 8] = [
            ("== ", Op::Eq),
            ("!= ", Op::Ne),
            ("<= ", Op::Le),
            (">= ", Op::Ge),
            ("< ", Op::Lt),
            ("> ", Op::Gt),
            ("in ", Op::In),
            ("matches ", Op::Matches),
        ];
        OPS.iter()
            .find(|(text, _)| self.take(text))
            .map(|(_, op)| *op)
            .ok_or_else(|| format!("expected an operator at {:?}", self.rest()))
    }

    fn compared(&mut self) -> Result<Compared, String> {
        self.expect(" ")?;
        let op = self.operator()?;
        let with = if op == Op::Matches {
            let pattern = self.run("an expression", |_| true)?;
            regex::Regex::new(pattern).map_err(|e| format!("not a regular expression: {e}"))?;
            Operand::Value(pattern.to_owned())
        } else if self.take("oom_score_adj(") {
            let container = self.container()?;
            self.expect(")")?;
            Operand::OomScore(container)
        } else if self.take("[") {
            let inner = self.run("a list", |c| c != '[' && c != ']')?;
            self.expect("]")?;
            let items: Vec<String> = inner.split(", ").map(str::to_owned).collect();
            if items.iter().any(|item| item.is_empty() || item.contains(',')) {
                return Err(format!("[{inner}] is no list"));
            }
            Operand::List(items)
        } else if op == Op::In {
            return Err(format!("expected a list at {:?}", self.rest()));
        } else if self.take("\"") {
            let value = if self.rest().starts_with('"') { "" } else { self.run("a value", |c| c != '"')? };
            self.expect("\"")?;
            Operand::Value(value.to_owned())
        } else {
            let value = self.run("a value", |c| !c.is_whitespace() && !matches!(c, '"' | '[' | ']'))?;
            Operand::Value(value.to_owned())
        };
        Ok(Compared { op, with })
    }
}
