//! What of a pod's life is worth a `v1.Event`. The reasons are the kubelet's.

use super::observe::{HookKind, HookRun, Instance, InstanceState, Observed, ProbeKind, ProbeOutcome};
use super::plan::{Notice, Step};
use super::spec::{Hook, PodSpec};
use super::stage::NO_TCP;
use super::why::duration;
use crate::ledger::{Asker, Cause, LogLoss, Outcome};

fn normal(reason: &'static str, container: usize, message: String) -> Notice {
    Notice { warning: false, reason, message, container: Some(container) }
}

fn warning(reason: &'static str, container: usize, message: String) -> Notice {
    Notice { warning: true, reason, message, container: Some(container) }
}

/// For a step that is handed out.
pub(super) fn of_step(spec: &PodSpec, observed: &Observed, step: &Step) -> Option<Notice> {
    let name = |i: usize| &spec.containers[i].name;
    match step {
        Step::Signal { container, attempt, cause } => {
            let instances = observed.containers[*container].instances.iter();
            let hooked = instances.rev().any(|i| i.attempt == *attempt && i.pre_stop.is_some());
            (!hooked).then(|| normal("Killing", *container, killing(name(*container), cause)))
        }
        Step::Hook { container, cause: Some(cause), .. } => {
            Some(normal("Killing", *container, killing(name(*container), cause)))
        }
        Step::Kill { container, .. } => Some(warning(
            "ExceededGracePeriod",
            *container,
            format!("Container {} did not end within its grace period and gets SIGKILL", name(*container)),
        )),
        Step::CreateSandbox { .. } | Step::RemoveSandbox { .. } | Step::Start { .. } | Step::Probe { .. } => None,
        Step::Hook { cause: None, .. } => None,
    }
}

/// The kubelet's words.
fn killing(name: &str, cause: &Cause) -> String {
    match cause.by {
        Asker::LivenessProbe => format!("Container {name} failed liveness probe, will be restarted"),
        Asker::StartupProbe => format!("Container {name} failed startup probe, will be restarted"),
        Asker::PostStart => format!("Stopping container {name}: its postStart hook failed: {}", cause.text),
        Asker::RestartRule => format!("Stopping container {name} to restart all containers"),
        Asker::Deletion
        | Asker::User
        | Asker::ManifestRemoved
        | Asker::ManifestChanged
        | Asker::Owner
        | Asker::Completion
        | Asker::Deadline
        | Asker::Eviction
        | Asker::Restart
        | Asker::SandboxRemoved
        | Asker::ShimDied
        | Asker::Reboot
        | Asker::Other => format!("Stopping container {name}"),
    }
}

/// A `tcpSocket` hook that is begun has failed with that.
pub(super) fn of_tcp_hook(spec: &PodSpec, step: &Step) -> Option<Notice> {
    let Step::Hook { container, kind, .. } = step else { return None };
    let lifecycle = &spec.containers[*container].lifecycle;
    let hook = match kind {
        HookKind::PostStart => &lifecycle.post_start,
        HookKind::PreStop => &lifecycle.pre_stop,
    };
    matches!(hook, Some(Hook::TcpSocket)).then(|| hook_failed(spec, *container, *kind, NO_TCP))
}

fn hook_failed(spec: &PodSpec, i: usize, kind: HookKind, failure: &str) -> Notice {
    let (reason, hook) = match kind {
        HookKind::PostStart => ("FailedPostStartHook", "PostStart"),
        HookKind::PreStop => ("FailedPreStopHook", "PreStop"),
    };
    warning(reason, i, format!("{hook} hook of container {} failed: {failure}", spec.containers[i].name))
}

/// For hooks that have failed since.
pub(super) fn of_hooks(spec: &PodSpec, i: usize, before: Option<&Instance>, after: &Instance) -> Vec<Notice> {
    let failure = |run: &Option<HookRun>| run.as_ref().and_then(|run| run.ended.as_ref()?.failure.clone());
    let mut notices = Vec::new();
    for (kind, run, known) in [
        (HookKind::PostStart, &after.post_start, before.map(|b| &b.post_start)),
        (HookKind::PreStop, &after.pre_stop, before.map(|b| &b.pre_stop)),
    ] {
        if let (Some(failure), None) = (failure(run), known.and_then(failure)) {
            notices.push(hook_failed(spec, i, kind, &failure));
        }
    }
    notices
}

/// For a change of an instance.
pub(super) fn of_change(spec: &PodSpec, i: usize, before: Option<&Instance>, after: &Instance) -> Vec<Notice> {
    let name = &spec.containers[i].name;
    let mut notices = of_hooks(spec, i, before, after);
    notices.extend(of_log(name, i, before, after));
    let was_running = before.is_some_and(|b| matches!(b.state, InstanceState::Running { .. }));
    match &after.state {
        InstanceState::Running { .. } if !was_running => {
            let image = &spec.containers[i].image;
            notices.push(normal("Pulled", i, format!("Container image {image:?} is present on this machine")));
            notices.push(normal("Created", i, format!("Created container {name}")));
            notices.push(normal("Started", i, format!("Started container {name}")));
        }
        InstanceState::Ended { outcome: Outcome::StartFailed { message, .. }, .. } => {
            notices.push(warning("Failed", i, format!("Container {name} could not be started: {message}")));
        }
        InstanceState::Ended { outcome, .. } => notices.extend(ended(name, i, after, outcome)),
        InstanceState::Starting | InstanceState::Running { .. } => {}
    }
    notices
}

/// When lines of the log begin to be lost, and when that is over.
fn of_log(name: &str, i: usize, before: Option<&Instance>, after: &Instance) -> Option<Notice> {
    let loss = after.log_lost.as_ref()?;
    let was = before.and_then(|before| before.log_lost.as_ref());
    let LogLoss { lines, bytes, error, .. } = loss;
    let message = match (was.is_some_and(|was| was.ongoing), loss.ongoing) {
        (false, true) => format!("The log of container {name} cannot be written, and lines of it are lost: {error}"),
        (was_ongoing, false) if was_ongoing || was.is_none_or(|was| was.lines != *lines) => {
            let took = duration(loss.last.since(loss.first));
            format!("{lines} lines ({bytes} bytes) of the log of container {name} were lost within {took}: {error}")
        }
        _ => return None,
    };
    Some(warning("LogLinesLost", i, message))
}

/// For a container that is held back after its end.
pub(super) fn back_off(spec: &PodSpec, i: usize) -> Notice {
    let PodSpec { name, namespace, uid, .. } = spec;
    let container = &spec.containers[i].name;
    warning("BackOff", i, format!("Back-off restarting failed container {container} in pod {name}_{namespace}({uid})"))
}

fn ended(name: &str, i: usize, instance: &Instance, outcome: &Outcome) -> Option<Notice> {
    let code = outcome.exit_code();
    match outcome {
        Outcome::Exited { oom: true, .. } | Outcome::Signaled { oom: true, .. } if code != 0 => {
            Some(warning("OOMKilling", i, format!("Container {name} went over its memory limit and was killed")))
        }
        Outcome::Lost => Some(warning("Lost", i, format!("Nobody saw the end of container {name}"))),
        Outcome::Exited { .. } | Outcome::Signaled { .. } if code != 0 && instance.signaled_at.is_none() => {
            Some(warning("Failed", i, format!("Container {name} ended with exit code {code}")))
        }
        Outcome::Exited { .. } | Outcome::Signaled { .. } | Outcome::StartFailed { .. } => None,
    }
}

/// For a probe that did not succeed.
pub(super) fn of_probe(spec: &PodSpec, i: usize, kind: ProbeKind, outcome: &ProbeOutcome) -> Option<Notice> {
    let kind = match kind {
        ProbeKind::Startup => "Startup",
        ProbeKind::Readiness => "Readiness",
        ProbeKind::Liveness => "Liveness",
    };
    let (verb, output) = match outcome {
        ProbeOutcome::Success | ProbeOutcome::Cut => return None,
        ProbeOutcome::Failure(output) => ("failed", output),
        ProbeOutcome::Error(output) => ("could not be run", output),
    };
    Some(warning("Unhealthy", i, format!("{kind} probe of container {} {verb}: {output}", spec.containers[i].name)))
}

/// For a start that did not get as far as an instance.
pub(super) fn start_failed(spec: &PodSpec, i: usize, message: &str) -> Notice {
    warning("Failed", i, format!("Container {} cannot be started: {message}", spec.containers[i].name))
}

/// For a sandbox that could not be made.
pub(super) fn sandbox_failed(message: &str) -> Notice {
    Notice {
        warning: true,
        reason: "FailedCreatePodSandBox",
        message: format!("The pod's sandbox could not be made: {message}"),
        container: None,
    }
}

/// For a pod of which nothing is started before it is on disk.
pub(super) fn not_saved(message: &str) -> Notice {
    Notice {
        warning: true,
        reason: "FailedCreatePodSandBox",
        message: format!("The pod waits until it can be saved: {message}"),
        container: None,
    }
}

/// For a sandbox that went without being asked.
pub(super) fn sandbox_lost() -> Notice {
    Notice {
        warning: true,
        reason: "SandboxChanged",
        message: "The pod's sandbox was lost; what ran in it has been killed".to_owned(),
        container: None,
    }
}
