//! What of a pod's life is worth a `v1.Event`. The reasons are the kubelet's.

use super::observe::{Instance, InstanceState, Observed, Outcome, ProbeKind, ProbeOutcome};
use super::plan::{Notice, Step};
use super::spec::PodSpec;

fn normal(reason: &'static str, container: usize, message: String) -> Notice {
    Notice { warning: false, reason, message, container: Some(container) }
}

fn warning(reason: &'static str, container: usize, message: String) -> Notice {
    Notice { warning: true, reason, message, container: Some(container) }
}

/// For a step that is handed out.
pub(super) fn of_step(spec: &PodSpec, observed: &Observed, step: &Step) -> Option<Notice> {
    let name = |i: usize| &spec.containers[i].name;
    match *step {
        Step::Signal { container, .. } => {
            let unstartable = observed.containers[container].probes.startup.verdict == Some(false);
            let why = if unstartable { ": its startup probe failed" } else { "" };
            Some(normal("Killing", container, format!("Stopping container {}{why}", name(container))))
        }
        Step::Kill { container, .. } => Some(warning(
            "ExceededGracePeriod",
            container,
            format!("Container {} did not end within its grace period and gets SIGKILL", name(container)),
        )),
        Step::CreateSandbox { .. } | Step::RemoveSandbox { .. } | Step::Start { .. } | Step::Probe { .. } => None,
    }
}

/// For a change of an instance.
pub(super) fn of_change(spec: &PodSpec, i: usize, before: Option<&Instance>, after: &Instance) -> Option<Notice> {
    let name = &spec.containers[i].name;
    let was_running = before.is_some_and(|b| matches!(b.state, InstanceState::Running { .. }));
    match &after.state {
        InstanceState::Running { .. } if !was_running => {
            Some(normal("Started", i, format!("Started container {name}")))
        }
        InstanceState::Ended { outcome: Outcome::StartFailed { message, .. }, .. } => {
            Some(warning("Failed", i, format!("Container {name} could not be started: {message}")))
        }
        InstanceState::Ended { outcome, .. } => ended(name, i, after, outcome),
        InstanceState::Starting | InstanceState::Running { .. } => None,
    }
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
    };
    let (verb, output) = match outcome {
        ProbeOutcome::Success => return None,
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

/// For a sandbox that went without being asked.
pub(super) fn sandbox_lost() -> Notice {
    Notice {
        warning: true,
        reason: "SandboxChanged",
        message: "The pod's sandbox was lost; what ran in it has been killed".to_owned(),
        container: None,
    }
}
