//! Stopping a whole pod: mains and plain inits at once, then sidecars one by one in reverse order, all within one grace
//! period (KEP-753).

use std::time::Duration;

use super::decide::{Stop, Todo};
use super::observe::{Instance, InstanceState};
use super::plan::Step;
use super::spec::Role;
use super::view::View;
use crate::time::Time;

/// Between the stop signal and SIGKILL there is always at least this much, even when the grace is used up.
pub(super) const FLOOR: Duration = Duration::from_secs(2);

/// An end after SIGKILL is told within a moment, unless the shim hangs or a process does in the kernel.
const END_AFTER_KILL: Duration = Duration::from_secs(30);

/// Whether everything that is left was killed long ago: then the whole sandbox has to go, shim included.
pub(super) fn is_stuck(view: View<'_>, todo: &mut Todo) -> bool {
    let mut live = view.observed.containers.iter().flat_map(|c| &c.instances).filter(|n| n.is_live());
    let given_up_at = live.try_fold(None, |last: Option<Time>, n| Some(last.max(Some(n.killed_at? + END_AFTER_KILL))));
    let Some(Some(given_up_at)) = given_up_at else { return false };
    todo.wake(given_up_at, view.now);
    given_up_at <= view.now
}

/// Adds the signals and kills that are due.
///
/// A sidecar's turn comes when no main and no later sidecar has a process any more. When the grace period is over before,
/// it is signalled all the same: the order is lost then, the floor is not.
pub(super) fn stops(view: View<'_>, stop: &Stop, todo: &mut Todo) {
    for (i, container, known) in view.containers() {
        let Some(instance) = known.instances.last().filter(|n| n.is_live()) else { continue };
        let turn = match container.role {
            Role::Main | Role::Init => true,
            Role::Sidecar => !waits_for_others(view, i),
        };
        if turn || stop.deadline <= view.now {
            stop_instance(view, i, instance, stop, todo);
        }
        todo.wake(stop.deadline, view.now);
    }
}

/// Whether a main or a later sidecar is still there.
fn waits_for_others(view: View<'_>, sidecar: usize) -> bool {
    view.containers().skip(sidecar + 1).any(|(_, container, known)| {
        container.role != Role::Init && known.instances.last().is_some_and(Instance::is_live)
    })
}

fn stop_instance(view: View<'_>, i: usize, instance: &Instance, stop: &Stop, todo: &mut Todo) {
    let attempt = instance.attempt;
    let kill_at = match (&instance.state, instance.signaled_at) {
        // No process to signal yet; when it shows up in time, it is signalled then.
        (InstanceState::Starting, _) => stop.deadline + FLOOR,
        (_, Some(signaled)) => stop.deadline.max(signaled + FLOOR),
        (_, None) => {
            todo.steps.push(Step::Signal { container: i, attempt });
            return todo.wake(stop.deadline.max(view.now + FLOOR), view.now);
        }
    };
    if instance.killed_at.is_some() {
        return;
    }
    if kill_at <= view.now {
        todo.steps.push(Step::Kill { container: i, attempt });
    }
    todo.wake(kill_at, view.now);
}
