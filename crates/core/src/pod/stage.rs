//! Where a hook stands.

use super::observe::{HookEnd, HookRun};
use super::spec::Hook;
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
pub(super) fn stage(hook: Option<&Hook>, run: Option<&HookRun>, now: Time) -> Stage {
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
