//! Stopping a whole pod: mains and plain inits at once, then sidecars one by one in reverse order, all within one grace
//! period (KEP-753); and stopping a single container of a pod that goes on.
//!
//! preStop hooks take their time from the same grace. All of them begin when the stop does; only the signals are ordered.

use super::goal::{Stop, Why};
use super::observe::{HookKind, Instance, InstanceState};
use super::plan::Step;
use super::spec::{Hook, Role};
use super::stage::Stage;
use super::todo::Todo;
use super::view::View;
use crate::ledger::{Asker, Cause};
use crate::time::Time;
use std::time::Duration;

/// Between the stop signal and SIGKILL there is always at least this much, even when the grace is used up.
pub(super) const FLOOR: Duration = Duration::from_secs(2);

/// An end after SIGKILL is told within a moment, unless the shim hangs or a process does in the kernel.
const END_AFTER_KILL: Duration = Duration::from_secs(30);

/// How one instance is stopped.
struct Order {
    cause: Cause,
    /// End of its grace.
    deadline: Time,
    /// Whether nobody else has to end first.
    turn: bool,
    /// Whether its preStop hook is run.
    hooks: bool,
}

/// Whether everything that is left was killed long ago: then the whole sandbox has to go, shim included.
pub(super) fn is_stuck(view: View<'_>, todo: &mut Todo) -> bool {
    let mut live = view.observed.containers.iter().flat_map(|c| &c.instances).filter(|n| n.is_live());
    let given_up_at = live.try_fold(None, |last: Option<Time>, n| Some(last.max(Some(n.killed_at? + END_AFTER_KILL))));
    let Some(Some(given_up_at)) = given_up_at else { return false };
    todo.wake(given_up_at, view.now);
    given_up_at <= view.now
}

/// Adds the hooks, signals and kills that are due.
///
/// A sidecar's turn comes when no main and no later sidecar has a process any more. When the grace period is over before,
/// it is signalled all the same: the order is lost then, the floor is not.
pub(super) fn stops(view: View<'_>, stop: &Stop, todo: &mut Todo) {
    let hooks = stop.why != Why::RestartAll;
    // What is stopped on its own account comes first: its record tells the next agent why the others are stopped with it.
    let (own, others): (Vec<_>, Vec<_>) = view.containers().partition(|(i, _, _)| view.doom(*i).is_some());
    for (i, container, known) in own.into_iter().chain(others) {
        let Some(instance) = known.instances.last().filter(|n| n.is_live()) else { continue };
        let turn = match container.role {
            Role::Main => true,
            Role::Init if hooks => true,
            Role::Sidecar if hooks => !waits_for_others(view, i),
            Role::Init | Role::Sidecar => !waits_for_mains(view),
        };
        let own = view.doom(i).map(|doom| doom.cause);
        let cause = own.unwrap_or_else(|| cause_of(view, &stop.why));
        stop_instance(view, i, instance, &Order { cause, deadline: stop.deadline, turn, hooks }, todo);
        todo.wake(stop.deadline, view.now);
    }
}

/// Who asks for the end of a container when the whole pod is stopped.
fn cause_of(view: View<'_>, why: &Why) -> Cause {
    match why {
        // With its sandbox everything in it is gone: nothing is left to stop.
        Why::Completed | Why::SandboxLost => Asker::Completion.into(),
        Why::DeadlineExceeded => Asker::Deadline.into(),
        Why::Evicted => {
            let text = view.observed.evicted.as_ref().map_or(String::new(), |(_, message)| message.clone());
            Cause { by: Asker::Eviction, text }
        }
        Why::Deleted => view.observed.deletion.as_ref().map_or(Asker::Deletion.into(), |d| d.cause.clone()),
        Why::Restart => Asker::Restart.into(),
        Why::RestartAll => Asker::RestartRule.into(),
    }
}

/// Whether a main or a later sidecar is still there.
fn waits_for_others(view: View<'_>, sidecar: usize) -> bool {
    view.containers().skip(sidecar + 1).any(|(_, container, known)| {
        container.role != Role::Init && known.instances.last().is_some_and(Instance::is_live)
    })
}

fn waits_for_mains(view: View<'_>) -> bool {
    view.mains().any(|(_, _, known)| known.instances.last().is_some_and(Instance::is_live))
}

/// Stops an instance on its own account, of which a probe or the postStart hook has failed. What follows its end is for the
/// restart policy to say.
pub(super) fn stop_doomed(view: View<'_>, i: usize, todo: &mut Todo) {
    let (Some(doom), Some(record)) = (view.doom(i), view.record(i)) else { return };
    let deadline = record.stop_begun().unwrap_or(view.now) + doom.grace;
    stop_instance(view, i, record, &Order { cause: doom.cause, deadline, turn: true, hooks: true }, todo);
}

fn stop_instance(view: View<'_>, i: usize, instance: &Instance, order: &Order, todo: &mut Todo) {
    let kill_at = match (&instance.state, instance.signaled_at) {
        // No process to signal yet; when it shows up in time, it is signalled then.
        (InstanceState::Starting, _) => order.deadline + FLOOR,
        (_, Some(signaled)) => order.deadline.max(signaled + FLOOR),
        (_, None) => return ask_to_leave(view, i, instance, order, todo),
    };
    if instance.killed_at.is_some() {
        return;
    }
    if kill_at <= view.now {
        todo.steps.push(Step::Kill { container: i, attempt: instance.attempt });
    }
    todo.wake(kill_at, view.now);
}

/// First the preStop hook, then, when it is over and the turn has come, the stop signal; at the end of the grace at once.
fn ask_to_leave(view: View<'_>, i: usize, instance: &Instance, order: &Order, todo: &mut Todo) {
    let (attempt, cause) = (instance.attempt, order.cause.clone());
    let grace_left = order.deadline > view.now;
    let stage = if order.hooks { view.pre_stop(i, instance) } else { Stage::Over };
    todo.wake(order.deadline, view.now);
    match stage {
        Stage::Due if grace_left => {
            todo.steps.push(Step::Hook { container: i, attempt, kind: HookKind::PreStop, cause: Some(cause) });
            if let Some(Hook::Sleep(time)) = view.spec.containers[i].lifecycle.pre_stop {
                todo.wake(view.now + time, view.now);
            }
        }
        Stage::Running(until) if grace_left => until.into_iter().for_each(|until| todo.wake(until, view.now)),
        // Where there is no grace from the beginning, order is all that is kept.
        _ if !order.turn && (grace_left || !order.hooks) => {}
        _ => {
            todo.steps.push(Step::Signal { container: i, attempt, cause });
            todo.wake(order.deadline.max(view.now + FLOOR), view.now);
        }
    }
}
