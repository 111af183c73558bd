//! Where a hook stands. Which are to run is for [`super::start`] and [`super::stop`] to say.

use super::decide::Todo;
use super::observe::{HookEnd, HookKind, HookRun, Instance, InstanceState};
use super::plan::Step;
use super::spec::Hook;
use super::view::View;
use crate::time::Time;

/// Why every `tcpSocket` hook fails.
pub(super) const NO_TCP: &str = "a hook cannot do anything with tcpSocket";

/// A hook of one instance at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Stage {
    /// It has not begun.
    Due,
    /// It runs; a sleep is known to end at a certain time.
    Running(Option<Time>),
    /// There is none, or it has succeeded.
    Over,
    /// It has failed, and this is why.
    Failed(String),
}

/// Where a hook stands at `now`.
fn stage(hook: Option<&Hook>, run: Option<&HookRun>, now: Time) -> Stage {
    match (hook, run) {
        (None, _) => Stage::Over,
        (Some(Hook::Sleep(time)), _) if time.is_zero() => Stage::Over,
        (Some(_), None) => Stage::Due,
        (Some(_), Some(HookRun { ended: Some(HookEnd { failure: Some(failure), .. }), .. })) => {
            Stage::Failed(failure.clone())
        }
        (Some(_), Some(HookRun { ended: Some(HookEnd { failure: None, .. }), .. })) => Stage::Over,
        (Some(Hook::Sleep(time)), Some(run)) if run.begun + *time <= now => Stage::Over,
        (Some(Hook::Sleep(time)), Some(run)) => Stage::Running(Some(run.begun + *time)),
        (Some(Hook::TcpSocket), Some(_)) => Stage::Failed(NO_TCP.to_owned()),
        (Some(Hook::Exec { .. } | Hook::HttpGet(_)), Some(_)) => Stage::Running(None),
    }
}

/// The postStart hook of an instance. With the instance it ends too: what was not over then will never be.
pub(super) fn post_start(view: View<'_>, i: usize, instance: &Instance) -> Stage {
    let hook = view.spec.containers[i].lifecycle.post_start.as_ref();
    let now = instance.finished_at().map_or(view.now, |end| end.min(view.now));
    stage(hook, instance.post_start.as_ref(), now)
}

/// The preStop hook of an instance.
pub(super) fn pre_stop(view: View<'_>, i: usize, instance: &Instance) -> Stage {
    stage(view.spec.containers[i].lifecycle.pre_stop.as_ref(), instance.pre_stop.as_ref(), view.now)
}

/// Begins the postStart hook of what has started, and looks again when a sleep is over.
pub(super) fn run_post_start(view: View<'_>, i: usize, todo: &mut Todo) {
    let Some(record) = view.record(i).filter(|r| matches!(r.state, InstanceState::Running { .. })) else { return };
    match post_start(view, i, record) {
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
            InstanceState::Running { .. } => matches!(post_start(view, i, record), Stage::Due | Stage::Running(_)),
            InstanceState::Ended { .. } => false,
        })
}
