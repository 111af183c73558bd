//! What is printed of a case.

use serde_json::Value;

use crate::case::Case;
use crate::contradict::contradictions;
use crate::grammar::Expect;
use crate::judge::{Failure, Judge, Kind};
use crate::recording::Recording;

/// The longest timeline that is printed, in lines.
const MOST_LINES: usize = 250;

/// The most warnings and errors of the agent that are printed.
const MOST_COMPLAINTS: usize = 12;

/// How a case went.
#[derive(Debug, Clone, PartialEq)]
pub enum Verdict {
    /// Everything holds.
    Passed,
    /// What does not hold, each with its line.
    Failed(Vec<Failure>),
    /// What the host lacks.
    Skipped(Vec<String>),
}

impl Verdict {
    /// Whether nothing but upper bounds of time failed: then, and only then, the case may run again.
    pub fn is_late(&self) -> bool {
        matches!(self, Verdict::Failed(failures) if failures.iter().all(|failure| failure.kind == Kind::Bound))
    }
}

/// What has to fail where an expectation holds.
pub type Contradict = fn(&Expect, &Recording, f64) -> Vec<Expect>;

/// Judges every expectation of a case. With `self_test`, each contradiction of an expectation that holds has to fail.
pub fn verdict(case: &Case, recording: &Recording, slow: f64, self_test: bool) -> Verdict {
    verdict_beside(case, recording, slow, self_test.then_some(contradictions as Contradict))
}

/// The same with contradictions by another function, and an expectation without any is not tested: that is a failure too.
pub fn verdict_beside(case: &Case, recording: &Recording, slow: f64, contradict: Option<Contradict>) -> Verdict {
    let judge = Judge { recording, slow };
    // What the runner itself finds (leftovers, double records, panics, a step that came to nothing) no slowness excuses.
    let mut failures: Vec<Failure> =
        recording.problems.iter().map(|problem| Failure::wrong(problem.as_str())).collect();
    for (text, expect) in &case.expect {
        match (judge.judge(expect), contradict) {
            (Err(failure), _) => failures.push(Failure { why: format!("{text}: {}", failure.why), ..failure }),
            (Ok(()), Some(contradict)) => {
                let others = contradict(expect, recording, slow);
                if others.is_empty() {
                    failures.push(Failure::wrong(format!("{text}: nothing contradicts it")));
                }
                let passing = others.into_iter().filter(|other| judge.judge(other).is_ok());
                failures.extend(
                    passing.map(|other| Failure::wrong(format!("{text}: its contradiction holds too: {other:?}"))),
                );
            }
            (Ok(()), None) => {}
        }
    }
    if failures.is_empty() { Verdict::Passed } else { Verdict::Failed(failures) }
}

/// What happened, in order, for people.
pub fn timeline(recording: &Recording) -> String {
    let mut lines: Vec<(f64, String)> = Vec::new();
    for mark in &recording.marks {
        lines.push((mark.at, format!("{} {}", mark.event, mark.pod.as_deref().unwrap_or_default())));
    }
    for run in &recording.instances {
        let n = recording.runs(&run.container).position(|other| std::ptr::eq(other, run)).map_or(0, |n| n + 1);
        let name = format!("{}/{}#{n}", run.container.pod, run.container.name);
        for line in &run.lines {
            lines.push((line.at, format!("{name} {}{}", if line.event { "" } else { "| " }, line.text)));
        }
        lines.extend(run.exit.map(|at| (at, format!("{name} exits (attempt {})", run.attempt))));
    }
    let mut before = std::collections::HashMap::new();
    for shown in &recording.statuses {
        let text = summary(&shown.object);
        if before.insert(&shown.pod, text.clone()) != Some(text.clone()) {
            lines.push((shown.at, format!("{}: {text}", shown.pod)));
        }
    }
    for sample in &recording.samples {
        lines.push((sample.at, format!("{} = {}", sample.key, sample.value.as_deref().unwrap_or("-"))));
    }
    lines.push((recording.end, "the case ended".to_owned()));
    lines.sort_by(|a, b| a.0.total_cmp(&b.0));
    let cut = lines.len().saturating_sub(MOST_LINES);
    let mut text: String = lines.iter().take(MOST_LINES).map(|(at, what)| format!("    {at:9.3} {what}\n")).collect();
    if cut > 0 {
        text.push_str(&format!("    and {cut} lines more\n"));
    }
    let complaints: Vec<&str> =
        recording.log.lines().filter(|line| line.contains("\"WARN\"") || line.contains("\"ERROR\"")).collect();
    for line in complaints.iter().take(MOST_COMPLAINTS) {
        text.push_str(&format!("    agent: {line}\n"));
    }
    text
}

/// A pod's status on one line.
fn summary(pod: &Value) -> String {
    let status = &pod["status"];
    let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut text = format!("{} {}", word(&status["phase"]), word(&status["reason"]));
    for condition in status["conditions"].as_array().into_iter().flatten() {
        let reason = condition["reason"].as_str().map_or(String::new(), |reason| format!(":{reason}"));
        text.push_str(&format!(" {}={}{reason}", word(&condition["type"]), word(&condition["status"])));
    }
    for list in ["initContainerStatuses", "containerStatuses"] {
        for container in status[list].as_array().into_iter().flatten() {
            text.push_str(&format!(" [{}]", container_summary(container)));
        }
    }
    text
}

fn container_summary(container: &Value) -> String {
    let state = container["state"].as_object().and_then(|state| state.iter().next());
    let mut text = container["name"].as_str().unwrap_or_default().to_owned();
    if let Some((kind, inner)) = state {
        text.push_str(&format!(" {kind}"));
        for key in ["reason", "exitCode", "message"] {
            if !inner[key].is_null() {
                text.push_str(&format!(" {}", inner[key]));
            }
        }
    }
    let flag = |key: &str, word: &'static str| if container[key] == true { word } else { "" };
    let restarts = container["restartCount"].as_i64().unwrap_or(0);
    format!("{text}{}{} restarts={restarts}", flag("started", " started"), flag("ready", " ready"))
}
