//! The exit ledger between the shim's words and the core's.

use std::collections::BTreeMap;

use podwright_core::ledger::{CpuTime, End, Entry, Figures, Health, OomLimit, Origin, ProbeFailures, Victim};
use podwright_core::pod::observe::Observed;
use podwright_core::pod::spec::PodSpec;
use podwright_proto::{self as proto, Exit, Record};

use super::records;
use crate::clock::Clock;

/// A record as the core sees it.
pub fn entry(record: &Record, clock: &Clock) -> Entry {
    let time = |stamp| clock.time_of(stamp, &record.boot_id);
    Entry {
        container: record.id.container.clone(),
        attempt: record.id.attempt,
        sandbox: record.sandbox,
        boot_id: record.boot_id.clone(),
        requested_at: time(record.requested),
        started_at: record.started.map(time),
        pre_stop_at: record.pre_stop.as_ref().map(|run| time(run.begun)),
        signaled_at: record.signaled.map(time),
        killed_at: record.killed.map(time),
        cause: record.cause.as_ref().map(records::cause),
        health: health(record, clock),
        origin: record.origin.as_ref().map(|o| Origin { agent: o.agent.clone(), image: o.image.clone() }),
        end: record.exit.as_ref().map(|exit| end(exit, record, clock)),
    }
}

fn end(exit: &Exit, record: &Record, clock: &Clock) -> End {
    let (at, outcome) = (clock.time_of(exit.finished, &record.boot_id), records::outcome(exit));
    let Some(evidence) = &exit.evidence else {
        return End { at, outcome, victim: None, figures: Figures::default(), tail: Vec::new() };
    };
    End {
        at,
        outcome,
        victim: evidence.victim.as_ref().map(|victim| Victim {
            pid: victim.pid,
            name: victim.name.clone(),
            first_process: victim.first_process,
            limit: match victim.limit {
                proto::OomLimit::Container => OomLimit::Container,
                proto::OomLimit::Above => OomLimit::Above,
                proto::OomLimit::Node => OomLimit::Node,
            },
        }),
        figures: figures(&evidence.figures),
        tail: evidence.tail.clone(),
    }
}

fn figures(found: &proto::Figures) -> Figures {
    let pressure = |p: Option<proto::Pressure>| p.map(|p| (p.some_us, p.full_us));
    Figures {
        memory_peak: found.memory_peak,
        oom_kills: found.memory_events.map(|events| events.oom_kill),
        memory_max_hits: found.memory_events.map(|events| events.max),
        cpu: found.cpu.map(|cpu| CpuTime {
            usage_us: cpu.usage_us,
            periods: cpu.periods,
            throttled: cpu.throttled,
            throttled_us: cpu.throttled_us,
        }),
        cpu_pressure: pressure(found.cpu_pressure),
        memory_pressure: pressure(found.memory_pressure),
        io_pressure: pressure(found.io_pressure),
        pids_peak: found.pids_peak,
        pids_refused: found.pids_refused,
    }
}

/// How the instance of a record fared.
pub fn health(record: &Record, clock: &Clock) -> Health {
    let time = |stamp| clock.time_of(stamp, &record.boot_id);
    Health {
        ready: record.health.ready.iter().map(|change| (time(change.at), change.ready)).collect(),
        failures: record
            .health
            .failures
            .iter()
            .map(|run| ProbeFailures {
                probe: run.probe.clone(),
                first: time(run.first),
                last: time(run.last),
                count: run.count,
                output: run.output.clone(),
            })
            .collect(),
    }
}

/// How every running instance fares, for the shim to put into its record: by container, with its attempt.
pub fn to_keep(spec: &PodSpec, observed: &Observed, clock: &Clock) -> BTreeMap<String, (u32, proto::Health)> {
    let mut all = BTreeMap::new();
    for (container, known) in spec.containers.iter().zip(&observed.containers) {
        let Some(newest) = known.instances.last().filter(|n| n.is_live()) else { continue };
        let health = proto::Health {
            ready: known
                .health
                .ready
                .iter()
                .map(|(at, ready)| proto::ReadyChange { at: clock.stamp_of(*at), ready: *ready })
                .collect(),
            failures: known
                .health
                .failures
                .iter()
                .map(|run| proto::ProbeFailures {
                    probe: run.probe.clone(),
                    first: clock.stamp_of(run.first),
                    last: clock.stamp_of(run.last),
                    count: run.count,
                    output: run.output.clone(),
                })
                .collect(),
        };
        if !health.is_empty() {
            all.insert(container.name.clone(), (newest.attempt, health.bounded()));
        }
    }
    all
}
