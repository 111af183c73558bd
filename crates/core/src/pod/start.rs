//! What to start: the walk over `initContainers`, then the mains.
//!
//! Progress is read from the records of the present sandbox, never remembered: everything before the last entry that has
//! a record has been passed.

use std::time::Duration;

use super::observe::Instance;
use super::plan::Step;
use super::spec::Role;
use super::todo::Todo;
use super::view::View;
use super::{backoff, hook, rules, stop};

/// Adds the starts that are due, their hooks, and stops of single containers of which a probe or hook has failed.
pub(super) fn starts(view: View<'_>, todo: &mut Todo) {
    for (i, _, _) in view.containers() {
        hook::run_post_start(view, i, todo);
        stop::stop_doomed(view, i, todo);
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
    let mut earlier_is_starting = false;
    for (i, _, _) in view.mains() {
        let held = earlier_is_starting && view.record(i).is_none();
        if !view.done(i) && !held {
            keep_alive(view, i, todo);
        }
        earlier_is_starting |= hook::is_starting(view, i, todo);
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
    if view.record(i).is_some_and(|r| r.is_live() || !rules::restarts(view.spec, i, r)) {
        return;
    }
    let (previous, before) = last_two(view, i);
    let not_before = previous.and_then(|p| backoff::restart_at(p, before));
    let retry = known.failure.as_ref().map(|f| backoff::DEFAULT.retry_at(f));
    // What is asked for at the very moment of a restart of all containers would count as one of those before it.
    let restarted = view.epoch.map(|epoch| epoch + Duration::from_nanos(1));
    let at = not_before.max(retry).max(restarted).unwrap_or(view.now);
    if at > view.now {
        return todo.wake(at, view.now);
    }
    todo.steps.push(Step::Start {
        container: i,
        attempt: known.instances.last().map_or(0, |n| n.attempt + 1),
        restart_delay: view.policy.crash_backoff.delay_after(previous, before),
    });
}

/// The two newest instances that back-off goes by: those of this sandbox. Where all containers are restarted, the
/// others start afresh, but the one that asked for it keeps its back-off: else it might ask for ever, without a pause.
pub(super) fn last_two(view: View<'_>, i: usize) -> (Option<&Instance>, Option<&Instance>) {
    let sandbox = view.sandbox();
    let mut newest = view.observed.containers[i].instances.iter().rev();
    let counts =
        |n: &&Instance| n.sandbox == sandbox && (!view.is_superseded(n) || rules::restarts_all(view.spec, i, n));
    let previous = newest.next().filter(counts);
    let before = previous.and_then(|_| newest.next().filter(counts));
    (previous, before)
}
