//! What to start: the walk over `initContainers`, then the mains.
//!
//! Progress is read from the records of the present sandbox, never remembered: everything before the last entry that has
//! a record has been passed.

use super::backoff;
use super::decide::Todo;
use super::observe::{Instance, InstanceState};
use super::plan::Step;
use super::spec::Role;
use super::view::View;

/// Adds the starts that are due, and stops of single containers whose startup probe failed.
pub(super) fn starts(view: View<'_>, todo: &mut Todo) {
    for (i, _, _) in view.containers() {
        stop_unstartable(view, i, todo);
    }
    let inits = view.init_count();
    let initialized = view.initialized();
    let reached = if initialized { inits } else { reached(view) };
    for i in 0..reached {
        if view.spec.containers[i].role == Role::Sidecar {
            keep_alive(view, i, todo);
        }
    }
    if !initialized {
        advance(view, reached, todo);
        return;
    }
    for (i, _, _) in view.mains() {
        if !view.done(i) {
            keep_alive(view, i, todo);
        }
    }
}

/// The last entry of `initContainers` that has a record; the first, when none has.
fn reached(view: View<'_>) -> usize {
    (0..view.init_count()).rev().find(|i| view.record(*i).is_some()).unwrap_or(0)
}

/// At the entry the pod has come to: starts it, waits for it, repeats it, or starts the next.
fn advance(view: View<'_>, i: usize, todo: &mut Todo) {
    keep_alive(view, i, todo);
    if view.passed(i) && i + 1 < view.init_count() {
        keep_alive(view, i + 1, todo);
    }
}

/// Starts a container that has no record here, or restarts one that has ended, at its time.
fn keep_alive(view: View<'_>, i: usize, todo: &mut Todo) {
    let known = &view.observed.containers[i];
    let record = view.record(i);
    let not_before = match record {
        Some(r) if r.is_live() => return,
        Some(r) if !view.restarts(i, r) => return,
        Some(r) => backoff::restart_at(r),
        None => None,
    };
    let retry = known.failure.as_ref().map(|f| backoff::DEFAULT.retry_at(f));
    let at = not_before.max(retry).unwrap_or(view.now);
    if at > view.now {
        return todo.wake(at, view.now);
    }
    todo.steps.push(Step::Start {
        container: i,
        attempt: known.instances.last().map_or(0, |n| n.attempt + 1),
        restart_delay: view.policy.crash_backoff.delay_after(record),
    });
}

/// Stops an instance whose startup probe has failed; it is restarted, or not, once it has ended.
fn stop_unstartable(view: View<'_>, i: usize, todo: &mut Todo) {
    let Some(record) = view.record(i) else { return };
    let running = matches!(record.state, InstanceState::Running { .. });
    if !running || view.observed.containers[i].probes.startup.verdict != Some(false) {
        return;
    }
    let grace = view.probe_grace(i).max(super::stop::FLOOR);
    let Instance { attempt, signaled_at, killed_at, .. } = *record;
    match (signaled_at, killed_at) {
        (None, _) => {
            todo.steps.push(Step::Signal { container: i, attempt });
            todo.wake(view.now + grace, view.now);
        }
        (Some(signaled), None) => {
            let kill_at = signaled + grace;
            if kill_at <= view.now {
                todo.steps.push(Step::Kill { container: i, attempt });
            }
            todo.wake(kill_at, view.now);
        }
        (Some(_), Some(_)) => {}
    }
}
