//! Probes: when one is due, and when its outcomes make a verdict.

use super::goal::Goal;
use super::observe::{InstanceState, ProbeKind, ProbeOutcome, ProbeState, Verdicts};
use super::plan::Step;
use super::spec::Probe;
use super::todo::Todo;
use super::view::View;
use crate::time::Time;
use std::collections::BTreeMap;
use std::time::Duration;

/// Attempts that may follow at once when the probe could not even be tried, before its period is waited for.
const TRIES: u8 = 3;

/// Adds the probes that are due. The stop of the pod or of the container ends startup and liveness probing; readiness goes on
/// while a container runs.
pub(super) fn due(view: View<'_>, goal: &Goal, todo: &mut Todo) {
    for (i, container, known) in view.containers() {
        let Some(record) = view.record(i) else { continue };
        let InstanceState::Running { started_at } = record.state else { continue };
        let probes = &known.probes;
        let startup_done = container.startup_probe.is_none() || probes.startup.verdict == Some(true);
        let goes_on = *goal == Goal::Run && view.doom(i).is_none() && record.stop_begun().is_none();
        let mut add = |kind, probe: &Option<Probe>, state: &ProbeState| {
            let Some(probe) = probe else { return };
            if state.in_flight {
                return;
            }
            let at = next_attempt(probe, state, started_at);
            if at <= view.now {
                todo.steps.push(Step::Probe { container: i, attempt: record.attempt, kind });
            }
            todo.wake(at, view.now);
        };
        if startup_done {
            add(ProbeKind::Readiness, &container.readiness_probe, &probes.readiness);
            if goes_on {
                add(ProbeKind::Liveness, &container.liveness_probe, &probes.liveness);
            }
        } else if goes_on && probes.startup.verdict.is_none() {
            add(ProbeKind::Startup, &container.startup_probe, &probes.startup);
        }
    }
}

fn next_attempt(probe: &Probe, state: &ProbeState, started_at: Time) -> Time {
    let first = started_at + probe.initial_delay;
    let period = if (1..TRIES).contains(&state.errors) { Duration::ZERO } else { probe.period };
    state.last_attempt.map_or(first, |last| first.max(last + period))
}

/// Counts one outcome; the verdict changes when a threshold is reached. An attempt that could not be made counts for
/// nothing, as the kubelet has it, and is told.
pub(super) fn count(probe: &Probe, state: &mut ProbeState, outcome: &ProbeOutcome) {
    let success = match outcome {
        ProbeOutcome::Success => true,
        ProbeOutcome::Failure(output) => {
            state.failure = Some(output.clone());
            false
        }
        ProbeOutcome::Error(_) | ProbeOutcome::Cut => {
            if let ProbeOutcome::Error(why) = outcome {
                state.untried = Some(why.clone());
            }
            state.errors = if state.errors >= TRIES { 1 } else { state.errors + 1 };
            return;
        }
    };
    state.errors = 0;
    state.untried = None;
    let in_a_row = match state.run {
        Some((before, n)) if before == success => n.saturating_add(1),
        _ => 1,
    };
    state.run = Some((success, in_a_row));
    let threshold = if success { probe.success_threshold } else { probe.failure_threshold };
    if in_a_row >= threshold {
        state.verdict = Some(success);
    }
}

/// The verdicts that must outlive the agent, by container name.
pub(super) fn verdicts(view: View<'_>) -> BTreeMap<String, Verdicts> {
    view.containers()
        .filter_map(|(i, container, known)| {
            let probes = &known.probes;
            let verdicts = Verdicts {
                attempt: view.record(i)?.attempt,
                startup: probes.startup.verdict,
                readiness: probes.readiness.verdict,
                liveness: probes.liveness.verdict,
                was_ready: probes.was_ready,
            };
            let all = [verdicts.startup, verdicts.readiness, verdicts.liveness];
            let empty = all.iter().all(Option::is_none);
            (!empty).then(|| (container.name.clone(), verdicts))
        })
        .collect()
}
