//! postStart hooks: when one is run, and how long it holds others back.

use super::observe::{HookKind, InstanceState};
use super::plan::Step;
use super::spec::Hook;
use super::stage::Stage;
use super::todo::Todo;
use super::view::View;

/// Begins the postStart hook of what has started, and looks again when a sleep is over.
pub(super) fn run_post_start(view: View<'_>, i: usize, todo: &mut Todo) {
    let Some(record) = view.record(i).filter(|r| matches!(r.state, InstanceState::Running { .. })) else { return };
    match view.post_start(i, record) {
        Stage::Due if record.stop_begun().is_none() => {
            let (attempt, kind) = (record.attempt, HookKind::PostStart);
            todo.steps.push(Step::Hook { container: i, attempt, kind, cause: None });
            if let Some(Hook::Sleep(time)) = view.spec.containers[i].lifecycle.post_start {
                todo.wake(view.now + time, view.now);
            }
        }
        Stage::Running(Some(until)) => todo.wake(until, view.now),
        Stage::Due | Stage::Running(None) | Stage::Over | Stage::Failed(_) => {}
    }
}

/// Whether a container has been asked to start and has not come to the end of its postStart hook: what follows it in the
/// list and has not been started yet waits so long.
pub(super) fn is_starting(view: View<'_>, i: usize, todo: &Todo) -> bool {
    if view.spec.containers[i].lifecycle.post_start.is_none() {
        return false;
    }
    let asked_now = todo.steps.iter().any(|step| matches!(step, Step::Start { container, .. } if *container == i));
    asked_now
        || view.record(i).is_some_and(|record| match record.state {
            InstanceState::Starting => true,
            InstanceState::Running { .. } => matches!(view.post_start(i, record), Stage::Due | Stage::Running(_)),
            InstanceState::Ended { .. } => false,
        })
}
