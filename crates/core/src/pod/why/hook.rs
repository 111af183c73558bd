//! Hooks that run now: which, since when, until when at the latest.

use super::super::decide::goal;
use super::super::goal::Goal;
use super::super::observe::{Instance, InstanceState};
use super::super::spec::Hook;
use super::super::stage::Stage;
use super::super::view::View;
use super::case::Case;
use super::words::{clock, duration, get, until};
use crate::time::Time;

/// A hook that runs.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Running {
    /// Since when.
    pub(super) begun: Time,
    /// What it is, since when it runs, and when it ends, in words.
    pub(super) lines: Vec<String>,
}

/// The postStart hook of an instance, if it is at work.
pub(super) fn at_start(case: &Case<'_>, view: View<'_>, i: usize, instance: &Instance) -> Option<Running> {
    if !matches!(instance.state, InstanceState::Running { .. }) || instance.stop_begun().is_some() {
        return None;
    }
    let Stage::Running(ends) = view.post_start(i, instance) else { return None };
    let hook = case.spec.containers[i].lifecycle.post_start.as_ref()?;
    let begun = instance.post_start.as_ref()?.begun;
    let end = match ends {
        Some(ends) => format!("it ends {}", until(ends, case.now)),
        None => "it has no time limit: what is started after it waits as long as it takes".to_owned(),
    };
    Some(Running { begun, lines: vec![head("postStart", hook, begun, case.now), end] })
}

/// The preStop hook of an instance, if it is at work and the stop signal waits for it.
pub(super) fn at_stop(case: &Case<'_>, view: View<'_>, i: usize, instance: &Instance) -> Option<Running> {
    if !instance.is_live() || instance.signaled_at.is_some() {
        return None;
    }
    let Stage::Running(ends) = view.pre_stop(i, instance) else { return None };
    let hook = case.spec.containers[i].lifecycle.pre_stop.as_ref()?;
    let begun = instance.pre_stop.as_ref()?.begun;
    let latest = latest(view, i, begun);
    let end = match ends {
        Some(ends) if ends < latest => format!("it ends {}, and the stop signal follows", until(ends, case.now)),
        _ => format!(
            "the stop signal follows when it is through, at the latest {} (end of the grace period)",
            until(latest, case.now)
        ),
    };
    Some(Running { begun, lines: vec![head("preStop", hook, begun, case.now), end] })
}

/// When the stop signal is sent whether or not the hook is through.
fn latest(view: View<'_>, i: usize, begun: Time) -> Time {
    let own = view.doom(i).map(|doom| begun + doom.grace);
    match goal(view) {
        Goal::Stop(stop) => own.map_or(stop.deadline, |own| own.min(stop.deadline)),
        Goal::Run => own.unwrap_or(begun + view.spec.grace),
    }
}

fn head(name: &str, hook: &Hook, begun: Time, now: Time) -> String {
    let what = match hook {
        Hook::Exec { command } => format!("exec {command:?}"),
        Hook::HttpGet(hook) => get(hook),
        Hook::Sleep(time) => format!("sleep {}", duration(*time)),
        Hook::TcpSocket => "tcpSocket".to_owned(),
    };
    format!("{name} hook: {what}, runs since {} ({})", clock(begun), duration(now.since(begun)))
}
