//! What was recorded against what happened. Pure.

use std::collections::{BTreeMap, BTreeSet};

use crate::recorded::{Outcome, Record, Recorded};
use crate::truth::{Run, Truth};

/// Of each container the newest ten records stay, and the first of the run.
const KEPT: u64 = 10;

/// What a key's program may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// It runs once, whatever becomes of it: a main under `Never`.
    Once,
    /// It runs until it has left with 0 and somebody has seen that: a main under `OnFailure`, an index of a job.
    UntilSuccess,
    /// As that, and once more in another sandbox: a plain init.
    Init,
    /// As often as it likes.
    Always,
}

/// What is expected of a run.
#[derive(Debug, Clone, Default)]
pub struct Expected {
    /// By key.
    pub rules: BTreeMap<String, Rule>,
    /// Pods whose shim was killed: nobody saw the ends of what ran there.
    pub lost: BTreeSet<String>,
}

/// Everything that is wrong, once all has settled.
pub fn check(truth: &Truth, recorded: &Recorded, expected: &Expected) -> Vec<String> {
    let mut wrong = recorded.damaged.clone();
    wrong.extend(recorded.records.iter().filter_map(|record| judge(record, truth, expected)));
    for (key, runs) in truth {
        wrong.extend(runs.iter().filter_map(|run| missing(key, run, recorded)));
        wrong.extend(overlaps(key, runs));
        let rule = expected.rules.get(key).copied().unwrap_or(Rule::Always);
        wrong.extend(ran_too_often(key, runs, rule, recorded, expected));
    }
    wrong
}

/// The run that a record is about.
fn run_of<'a>(record: &Record, truth: &'a Truth) -> Option<&'a Run> {
    truth.get(&record.key)?.iter().find(|run| covers(record, run))
}

fn judge(record: &Record, truth: &Truth, expected: &Expected) -> Option<String> {
    let run = run_of(record, truth);
    let left = run.and_then(|run| run.exit).map(|(_, code)| code);
    let is_lost = expected.lost.contains(&record.uid);
    let says = match (&record.end, left) {
        (Some((Outcome::Exited(code), _)), Some(left)) if *code == left => return None,
        (Some((Outcome::Exited(code), _)), Some(left)) => {
            format!("is recorded to have left with {code}, and left with {left}")
        }
        (Some((Outcome::Exited(code), _)), None) => format!("is recorded to have left with {code}, and never did"),
        (Some((Outcome::Signaled(_), _)), None) => return None,
        (Some((Outcome::Signaled(signal), _)), Some(left)) => {
            format!("is recorded to have been ended by signal {signal}, and left with {left}")
        }
        (Some((Outcome::StartFailed(_), _)), _) if run.is_none() => return None,
        (Some((Outcome::StartFailed(why), _)), _) => format!("is recorded not to have run ({why}), and did"),
        (Some((Outcome::Lost, _)), _) if is_lost => return None,
        (Some((Outcome::Lost, _)), left) => {
            let left = left.map_or("it never left by itself".to_owned(), |code| format!("it left with {code}"));
            format!("is recorded as lost, and nobody killed its shim; {left}")
        }
        (None, Some(left)) => format!("left with {left}, and is recorded as running"),
        (None, None) => return None,
    };
    Some(format!("{}/{} attempt {} {says}", record.pod, record.container, record.attempt))
}

fn missing(key: &str, run: &Run, recorded: &Recorded) -> Option<String> {
    let mut of_key = recorded.records.iter().filter(|record| record.key == key);
    let newest = of_key.clone().map(|record| record.attempt).max();
    let is_saved = recorded.pods.values().flatten().any(|saved| saved == key);
    // Of a pod that is forgotten nothing is kept; of one that crashes on and on, not everything.
    if of_key.any(|record| covers(record, run)) || !is_saved || newest.is_some_and(|attempt| attempt >= KEPT) {
        return None;
    }
    let end = run.exit.map_or("was killed or runs".to_owned(), |(_, code)| format!("left with {code}"));
    Some(format!("{key} started at {} and {end}, and no record tells of it", run.started))
}

fn overlaps(key: &str, runs: &[Run]) -> Option<String> {
    let mut pairs = runs.iter().zip(runs.iter().skip(1));
    let (_, second) = pairs.find(|(first, second)| first.exit.is_some_and(|(at, _)| at > second.started))?;
    Some(format!("{key} ran twice at a time: one started at {} while another ran", second.started))
}

fn ran_too_often(key: &str, runs: &[Run], rule: Rule, recorded: &Recorded, expected: &Expected) -> Option<String> {
    match rule {
        Rule::Always => None,
        Rule::Once => (runs.len() > 1).then(|| format!("{key} ran {} times, and may run once", runs.len())),
        Rule::UntilSuccess | Rule::Init => {
            let left_with_0 = |run: &&Run| run.exit.is_some_and(|(_, code)| code == 0);
            let is_excused = |run: &Run| {
                let of_run = |record: &&Record| record.key == key && covers(record, run);
                recorded.records.iter().find(of_run).is_some_and(|record| {
                    let is_lost = expected.lost.contains(&record.uid);
                    is_lost && (rule == Rule::Init || matches!(record.end, Some((Outcome::Lost, _))))
                })
            };
            let earlier = runs.split_last().map_or(&[][..], |(_, earlier)| earlier);
            let again = earlier.iter().filter(left_with_0).any(|run| !is_excused(run));
            again.then(|| format!("{key} ran again after it had left with 0"))
        }
    }
}

/// Whether a program that started then is the one of a record.
fn covers(record: &Record, run: &Run) -> bool {
    let until = record.end.as_ref().map_or(i64::MAX, |(_, at)| *at);
    (record.requested..=until).contains(&run.started)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(started: i64, exit: Option<(i64, i64)>) -> Run {
        Run { started, exit }
    }

    fn record(requested: i64, end: Option<(Outcome, i64)>) -> Record {
        let text = |text: &str| text.to_owned();
        let (uid, pod, container, key) = (text("u"), text("p"), text("c"), text("k"));
        Record { uid, pod, container, key, attempt: 0, requested, end }
    }

    fn verdict(runs: Vec<Run>, records: Vec<Record>, rule: Rule) -> Vec<String> {
        let pods = BTreeMap::from([("u".to_owned(), vec!["k".to_owned()])]);
        let recorded = Recorded { pods, records, damaged: Vec::new() };
        let expected = Expected { rules: BTreeMap::from([("k".to_owned(), rule)]), lost: BTreeSet::new() };
        check(&Truth::from([("k".to_owned(), runs)]), &recorded, &expected)
    }

    #[test]
    fn what_is_true_passes() {
        use Outcome::{Exited, Signaled, StartFailed};
        assert_eq!(verdict(vec![run(5, Some((8, 6)))], vec![record(4, Some((Exited(6), 9)))], Rule::Once), [""; 0]);
        assert_eq!(verdict(vec![run(5, None)], vec![record(4, Some((Signaled(9), 9)))], Rule::Once), [""; 0]);
        assert_eq!(verdict(vec![run(5, None)], vec![record(4, None)], Rule::Once), [""; 0]);
        assert_eq!(verdict(vec![], vec![record(4, Some((StartFailed(String::new()), 9)))], Rule::Once), [""; 0]);
    }

    #[test]
    fn each_lie_is_found() {
        use Outcome::{Exited, Lost, Signaled, StartFailed};
        let left = || vec![run(5, Some((8, 6)))];
        let table = [
            (left(), vec![record(4, Some((Exited(0), 9)))], "left with 0, and left with 6"),
            (vec![run(5, None)], vec![record(4, Some((Exited(0), 9)))], "and never did"),
            (left(), vec![record(4, Some((Signaled(9), 9)))], "ended by signal 9"),
            (left(), vec![record(4, Some((Lost, 9)))], "recorded as lost"),
            (left(), vec![record(4, Some((StartFailed(String::new()), 9)))], "not to have run"),
            (left(), vec![record(4, None)], "recorded as running"),
            (left(), vec![], "no record tells of it"),
            (vec![run(5, Some((8, 6))), run(7, None)], vec![record(4, Some((Exited(6), 9)))], "twice at a time"),
            (
                vec![run(5, Some((8, 6))), run(12, Some((13, 6)))],
                vec![record(4, Some((Exited(6), 9))), record(11, Some((Exited(6), 14)))],
                "may run once",
            ),
        ];
        for (runs, records, wanted) in table {
            let found = verdict(runs, records, Rule::Once);
            assert!(found.iter().any(|found| found.contains(wanted)), "{wanted}: {found:?}");
        }
        let again = vec![run(5, Some((8, 0))), run(12, Some((13, 0)))];
        let records = vec![record(4, Some((Exited(0), 9))), record(11, Some((Exited(0), 14)))];
        assert_eq!(verdict(again, records, Rule::UntilSuccess), ["k ran again after it had left with 0"]);
    }
}
