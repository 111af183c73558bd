//! The decision: where a pod is, and what to do next.

use super::completion::completed_since;
use super::epoch::view_at;
use super::goal::{Goal, Stop, Why};
use super::observe::{Memo, Observed, Sandbox};
use super::plan::{Plan, Step};
use super::spec::PodSpec;
use super::todo::Todo;
use super::view::{NodePolicy, View};
use super::{backoff, probe, start, status, stop};
use crate::time::Time;
use std::time::Duration;

/// Shortest grace of a pod that is stopped; a container gets [`stop::FLOOR`] between its stop signal and SIGKILL on top.
const MIN_GRACE: Duration = Duration::from_secs(1);

/// Decides for one pod at one moment. Pure: what it hands out is in nobody's hands yet, so the caller marks it in
/// `observed` ([`super::Machine::plan`] does).
pub fn decide(spec: &PodSpec, policy: &NodePolicy, observed: &Observed, memo: &Memo, now: Time) -> Plan {
    let view = view_at(spec, policy, observed, now);
    let goal = goal(view);
    let mut todo = Todo::default();
    match &goal {
        Goal::Run => run(view, &mut todo),
        Goal::Stop(stop) => stop_pod(view, stop, &mut todo),
    }
    probe::due(view, &goal, &mut todo);
    let finished = is_finished(view, &goal);
    if !finished && let Some(limit) = view.deadline() {
        todo.wake(limit, now);
    }
    let (status, transitions) = status::status(view, &goal, memo);
    let memo = Memo { verdicts: probe::verdicts(view), transitions };
    Plan { steps: todo.steps, status, wake_at: todo.wake_at, memo, finished, notices: Vec::new() }
}

/// The pod as a whole. Several reasons to stop may hold; the earliest names the stop, the shortest grace bounds it.
pub(super) fn goal(view: View<'_>) -> Goal {
    let observed = view.observed;
    let grace = view.spec.grace.max(MIN_GRACE);
    let mut stops = Vec::new();
    let mut add = |why, since: Time, deadline| stops.push(Stop { why, since, deadline });
    // Before the completion, which is at the same moment when a main ends at once: it was stopped for these.
    if let Some(since) = view.deadline().filter(|d| *d <= view.now) {
        add(Why::DeadlineExceeded, since, begun(view, since) + grace);
    }
    if let Some((since, _)) = observed.evicted {
        add(Why::Evicted, since, begun(view, since) + grace);
    }
    // What ends because the pod is being removed gives it no other grace than the removal's, which may be the longer one.
    let removed = observed.deletion.as_ref().map(|deletion| deletion.requested_at);
    if let Some(since) = completed_since(view).filter(|since| removed.is_none_or(|removed| *since < removed)) {
        add(Why::Completed, since, begun(view, since) + grace);
    } else if matches!(observed.sandbox, Sandbox::Gone { .. }) && !view.replaces_sandbox() {
        add(Why::SandboxLost, view.now, view.now);
    }
    if let Some(deletion) = &observed.deletion {
        add(Why::Deleted, deletion.requested_at, deletion.deadline);
    }
    if stops.is_empty()
        && let Some(since) = observed.restart_at
        && observed.sandbox.number() < observed.restart_below
        && !matches!(observed.sandbox, Sandbox::None | Sandbox::Gone { .. })
    {
        stops.push(Stop { why: Why::Restart, since, deadline: since + grace });
    }
    if stops.is_empty()
        && let Some(since) = view.epoch.filter(|_| view.any_superseded_live())
    {
        stops.push(Stop { why: Why::RestartAll, since, deadline: since });
    }
    let deadline = stops.iter().map(|s| s.deadline).min();
    match (stops.into_iter().min_by_key(|s| s.since), deadline) {
        (Some(stop), Some(deadline)) => Goal::Stop(Stop { deadline, ..stop }),
        _ => Goal::Run,
    }
}

/// When a stop for which nobody asked began, of which the reason has held since `since`: when there was somebody to carry it
/// out, which an earlier agent may have been, as the first hook or signal tells.
fn begun(view: View<'_>, since: Time) -> Time {
    let sandbox = view.observed.sandbox.number();
    let instances = view.observed.containers.iter().flat_map(|c| &c.instances).filter(|n| n.sandbox == sandbox);
    let asked = instances.flat_map(|n| [n.signaled_at, n.pre_stop.as_ref().map(|run| run.begun)]);
    let first = asked.flatten().filter(|at| *at >= since).min();
    let there = since.max(view.observed.taken_up_at);
    first.map_or(there, |at| at.min(there))
}

fn is_finished(view: View<'_>, goal: &Goal) -> bool {
    let stopping = matches!(goal, Goal::Stop(Stop { why, .. }) if !why.goes_on());
    stopping && !view.any_live() && matches!(view.observed.sandbox, Sandbox::None | Sandbox::Gone { .. })
}

fn run(view: View<'_>, todo: &mut Todo) {
    match view.observed.sandbox {
        Sandbox::Creating { .. } | Sandbox::Removing { .. } => {}
        Sandbox::Ready { .. } => start::starts(view, todo),
        // Told when it is.
        Sandbox::None | Sandbox::Gone { .. } if view.observed.unsaved.is_some() => {}
        Sandbox::None | Sandbox::Gone { .. } => {
            let at = view.observed.sandbox_failure.as_ref().map_or(view.now, |f| backoff::SANDBOX.retry_at(f));
            if at > view.now {
                return todo.wake(at, view.now);
            }
            let number = (view.observed.sandbox.number() + 1).max(view.observed.first_sandbox);
            todo.steps.push(Step::CreateSandbox { number });
        }
    }
}

fn stop_pod(view: View<'_>, stop: &Stop, todo: &mut Todo) {
    stop::stops(view, stop, todo);
    if (!view.any_live() || stop::is_stuck(view, todo))
        && let Sandbox::Ready { number, .. } = view.observed.sandbox
    {
        todo.steps.push(Step::RemoveSandbox { number, last: !stop.why.goes_on() });
    }
}
