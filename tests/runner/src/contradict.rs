//! For every expectation others that cannot hold beside it. A runner that lets one of them pass on a recording on which
//! the expectation holds does not look: the proof that no expectation is judged by accident.

use crate::grammar::{Compared, Event, Expect, Moment, Nth, Op, Operand, Status};
use crate::recording::Recording;

/// Expectations that have to fail on a recording on which `expect` holds. Never empty.
pub fn contradictions(expect: &Expect, recording: &Recording, slow: f64) -> Vec<Expect> {
    match expect {
        Expect::Order { first, second } => vec![Expect::Order { first: second.clone(), second: first.clone() }],
        Expect::Gap { from, to, low, high } => {
            let gap = |low, high| Expect::Gap { from: from.clone(), to: to.clone(), low, high };
            let above = high.abs() * slow + 1.0;
            let below = low.abs() * slow + 1.0;
            vec![gap(above, above + 1e6), gap(-below - 1e6, -below)]
        }
        Expect::Never { event, from, to } => {
            vec![Expect::Count { event: event.clone(), op: Op::Ge, n: 1, from: from.clone(), to: to.clone() }]
        }
        Expect::Count { event, op, n, from, to } => {
            vec![Expect::Count { event: event.clone(), op: negated(*op), n: *n, from: from.clone(), to: to.clone() }]
        }
        Expect::Overlap { one, other, want } => {
            vec![Expect::Overlap { one: one.clone(), other: other.clone(), want: !want }]
        }
        Expect::Now(status) => vec![Expect::Now(other(status))],
        Expect::At(at, status) => vec![Expect::At(at.clone(), other(status)), Expect::At(missing(at), status.clone())],
        Expect::By(by, status) => {
            let (from, to) = (Moment { plus: 0.0, ..by.clone() }, Moment { plus: by.plus * slow, ..by.clone() });
            vec![Expect::Always(from, to, other(status)), Expect::By(missing(by), status.clone())]
        }
        Expect::Always(from, to, status) => vec![
            Expect::At(from.clone(), other(status)),
            Expect::Always(from.clone(), to.clone(), other(status)),
            Expect::Always(from.clone(), missing(to), status.clone()),
        ],
        Expect::Unchanged(from, to, pod, _) => {
            vec![Expect::Unchanged(from.clone(), to.clone(), pod.clone(), "status.noSuchField".to_owned())]
        }
        Expect::PhaseNever(pod, _) => {
            recording.phases(pod).iter().map(|phase| Expect::PhaseNever(pod.clone(), (*phase).to_owned())).collect()
        }
        Expect::PhaseSeq(pod, phases) => {
            let longer = [&phases[..], &["Pending".to_owned()]].concat();
            vec![Expect::PhaseSeq(pod.clone(), longer), Expect::PhaseSeq(pod.clone(), phases[1..].to_vec())]
        }
        Expect::SamePid(container) => vec![
            Expect::Count { event: started(container), op: Op::Ne, n: 1, from: None, to: None },
            Expect::Count {
                event: Event { what: crate::grammar::What::Exits(container.clone()), nth: None },
                op: Op::Ge,
                n: 1,
                from: None,
                to: None,
            },
        ],
        Expect::Seen(instance, text) => vec![Expect::Seen(instance.clone(), format!("{text} {NO_SUCH}"))],
        Expect::Header(container, name, compared) => vec![
            Expect::Header(container.clone(), name.clone(), opposite(compared)),
            Expect::Header(container.clone(), NO_SUCH.to_owned(), compared.clone()),
        ],
        Expect::EventSeen(_) => vec![Expect::EventSeen(NO_SUCH.to_owned())],
        Expect::Rejected(source, _) => vec![
            Expect::Rejected(source.clone(), Some(NO_SUCH.to_owned())),
            Expect::Rejected(format!("{NO_SUCH}.yaml"), None),
        ],
    }
}

/// A text that nothing contains.
const NO_SUCH: &str = "no-such-thing-5f1c";

fn started(container: &crate::grammar::ContainerRef) -> Event {
    Event { what: crate::grammar::What::Started(container.clone()), nth: None }
}

/// A moment that never comes.
fn missing(moment: &Moment) -> Moment {
    Moment { event: Event { nth: Some(Nth::Number(100_000)), ..moment.event.clone() }, ..moment.clone() }
}

fn other(status: &Status) -> Status {
    Status { subject: status.subject.clone(), compared: opposite(&status.compared) }
}

fn opposite(compared: &Compared) -> Compared {
    let with = match (compared.op, &compared.with) {
        (Op::In, _) => Operand::List(vec![NO_SUCH.to_owned()]),
        (Op::Matches, _) => Operand::Value(format!("^{NO_SUCH}$")),
        (_, with) => with.clone(),
    };
    Compared { op: negated(compared.op), with }
}

fn negated(op: Op) -> Op {
    match op {
        Op::Eq => Op::Ne,
        Op::Ne => Op::Eq,
        Op::Lt => Op::Ge,
        Op::Ge => Op::Lt,
        Op::Le => Op::Gt,
        Op::Gt => Op::Le,
        same => same,
    }
}
