//! `v1.PodStatus` from what is known.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1;

use super::conditions::{api_time, conditions};
use super::goal::{Goal, Stop, Why};
use super::observe::{Instance, InstanceState, Memo, Sandbox, never_ran, succeeded};
use super::phase::Phase;
use super::spec::{Qos, RestartPolicy, Role};
use super::stage::Stage;
use super::view::View;
use super::{backoff, resources, rules, start};
use crate::ledger::{Asker, Outcome};
use crate::signal;
use crate::time::Time;

/// The waiting reason of a container whose restart has to wait.
pub(super) const CRASH_LOOP: &str = "CrashLoopBackOff";
/// Bytes of termination messages of a whole pod; each container has an even share.
const MAX_MESSAGES: usize = 12 << 10;

/// When each condition took its present value.
type Transitions = BTreeMap<String, (bool, Time)>;

/// The pod's status, and when its conditions changed last.
pub(super) fn status(view: View<'_>, goal: &Goal, memo: &Memo) -> (v1::PodStatus, Transitions) {
    let phase = phase(view, goal);
    let mut transitions = Transitions::new();
    let conditions = conditions(view, goal, phase)
        .into_iter()
        .map(|c| {
            let since = match memo.transitions.get(c.kind) {
                Some((value, at)) if *value == c.value => *at,
                _ => view.now,
            };
            transitions.insert(c.kind.to_owned(), (c.value, since));
            c.into_api(since)
        })
        .collect();
    let (mut inits, mut mains) = (Vec::new(), Vec::new());
    for (i, container, _) in view.containers() {
        let list = if container.role == Role::Main { &mut mains } else { &mut inits };
        list.push(container_status(view, goal, i));
    }
    let (reason, message) = reason(view, goal, phase);
    let host_ips = view.policy.host_ips.clone();
    let pod_ips = if view.spec.host_network { host_ips.clone() } else { Vec::new() };
    let status = v1::PodStatus {
        phase: Some(phase.name().to_owned()),
        reason,
        message,
        conditions: Some(conditions),
        init_container_statuses: (!inits.is_empty()).then_some(inits),
        container_statuses: Some(mains),
        start_time: Some(api_time(view.observed.accepted_at)),
        qos_class: Some(qos_name(resources::qos(view.spec)).to_owned()),
        host_ip: host_ips.first().cloned(),
        host_ips: (!host_ips.is_empty()).then(|| host_ips.into_iter().map(|ip| v1::HostIP { ip }).collect()),
        pod_ip: pod_ips.first().cloned(),
        pod_ips: (!pod_ips.is_empty()).then(|| pod_ips.into_iter().map(|ip| v1::PodIP { ip }).collect()),
        ..v1::PodStatus::default()
    };
    (status, transitions)
}

fn qos_name(qos: Qos) -> &'static str {
    match qos {
        Qos::Guaranteed => "Guaranteed",
        Qos::Burstable => "Burstable",
        Qos::BestEffort => "BestEffort",
    }
}

/// A terminal phase is held back until nothing of the pod runs any more.
fn phase(view: View<'_>, goal: &Goal) -> Phase {
    if let (Goal::Stop(Stop { why, .. }), true) = (goal, is_over(view, goal)) {
        return final_phase(view, why);
    }
    let inits_done = view.main_has_record()
        || view.containers().all(|(i, c, _)| c.role != Role::Init || view.record(i).is_some_and(succeeded));
    let all_have_run = view.containers().all(|(i, c, _)| c.role == Role::Init || has_run(view, i));
    if inits_done && all_have_run { Phase::Running } else { Phase::Pending }
}

/// Whether the phase is a terminal one.
fn is_over(view: View<'_>, goal: &Goal) -> bool {
    matches!(goal, Goal::Stop(Stop { why, .. }) if !why.goes_on()) && !view.any_live()
}

/// Whether an instance of a container has come to its end or runs, in the present sandbox or for good.
fn has_run(view: View<'_>, i: usize) -> bool {
    let tried = |n: &Instance| n.state != InstanceState::Starting && !never_ran(n);
    let sandbox = view.sandbox();
    view.done(i) || view.observed.containers[i].instances.iter().any(|n| n.sandbox == sandbox && tried(n))
}

/// Mains decide; how sidecars ended never matters.
fn final_phase(view: View<'_>, why: &Why) -> Phase {
    let forced = matches!(why, Why::DeadlineExceeded | Why::Evicted);
    let all_zero =
        view.mains().all(|(i, _, _)| view.newest(i).is_some_and(|n| succeeded(n) && !never_began(view, i, n)));
    if !forced && view.failed_init().is_none() && all_zero { Phase::Succeeded } else { Phase::Failed }
}

/// Whether the postStart hook of an instance has failed that will not be followed by another: it never came to its work,
/// whatever its exit code says.
fn never_began(view: View<'_>, i: usize, instance: &Instance) -> bool {
    let hook_failed = instance.cause.as_ref().is_some_and(|cause| cause.by == Asker::PostStart);
    hook_failed && rules::policy(view.spec, i) == RestartPolicy::Never
}

fn reason(view: View<'_>, goal: &Goal, phase: Phase) -> (Option<String>, Option<String>) {
    let Goal::Stop(stop) = goal else { return (None, None) };
    if phase != Phase::Failed {
        return (None, None);
    }
    let (reason, message) = match stop.why {
        Why::DeadlineExceeded => {
            let seconds = view.spec.active_deadline.unwrap_or_default().as_secs();
            ("DeadlineExceeded", format!("pod was active for longer than activeDeadlineSeconds ({seconds} s)"))
        }
        Why::Evicted => {
            let message = view.observed.evicted.as_ref().map_or(String::new(), |(_, m)| m.clone());
            ("Evicted", message)
        }
        Why::SandboxLost => ("SandboxLost", "the pod's sandbox was lost and restartPolicy wants no other".to_owned()),
        Why::Completed | Why::Deleted | Why::Restart | Why::RestartAll => return (None, None),
    };
    (Some(reason.to_owned()), Some(message))
}

/// What a container status shows.
struct Shown<'a> {
    state: v1::ContainerState,
    last: Option<&'a Instance>,
    id: Option<&'a Instance>,
}

fn container_status(view: View<'_>, goal: &Goal, i: usize) -> v1::ContainerStatus {
    let container = &view.spec.containers[i];
    let run: Vec<&Instance> =
        view.observed.containers[i].instances.iter().filter(|n| n.sandbox >= view.observed.first_sandbox).collect();
    let shown = shown(view, goal, i, &run);
    let stop_signal = run.last().and_then(|n| n.stop_signal).or(container.lifecycle.stop_signal);
    // A start that was asked for may be refused yet, and what was counted is not taken back.
    let newest = run.iter().rfind(|n| n.state != InstanceState::Starting);
    let restarts = match (run.first(), newest) {
        (Some(first), Some(newest)) => newest.attempt - first.attempt,
        _ => 0,
    };
    v1::ContainerStatus {
        name: container.name.clone(),
        image: container.image.clone(),
        image_id: container.image.clone(),
        container_id: shown.id.map(|n| container_id(view, i, n)),
        ready: view.is_ready(i),
        started: Some(view.is_started(i)),
        restart_count: i32::try_from(restarts).unwrap_or(i32::MAX),
        last_state: Some(shown.last.map_or_else(v1::ContainerState::default, |n| terminated(view, i, n))),
        state: Some(shown.state),
        stop_signal: stop_signal.map(signal::name),
        ..v1::ContainerStatus::default()
    }
}

fn shown<'a>(view: View<'_>, goal: &Goal, i: usize, run: &[&'a Instance]) -> Shown<'a> {
    let goes_on = match goal {
        Goal::Run => true,
        Goal::Stop(stop) => stop.why.goes_on(),
    };
    let previous = run.len().checked_sub(2).map(|p| run[p]);
    let Some(&newest) = run.last() else {
        if is_over(view, goal) && view.spec.containers[i].role == Role::Main && view.main_has_record() {
            return Shown { state: never_started(), last: None, id: None };
        }
        return Shown { state: not_started(view, i), last: None, id: None };
    };
    let stale =
        (newest.sandbox != view.sandbox() && !view.done(i)) || (view.is_superseded(newest) && !newest.is_live());
    match &newest.state {
        _ if stale && goes_on => Shown { state: not_started(view, i), last: Some(newest), id: Some(newest) },
        InstanceState::Starting => Shown { state: not_started(view, i), last: previous, id: Some(newest) },
        InstanceState::Running { started_at } => {
            let running = v1::ContainerStateRunning { started_at: Some(api_time(*started_at)) };
            let state = v1::ContainerState { running: Some(running), ..v1::ContainerState::default() };
            Shown { state, last: previous, id: Some(newest) }
        }
        InstanceState::Ended { .. } => {
            let held = if goes_on && rules::restarts(view.spec, i, newest) { held_back(view, i, newest) } else { None };
            match held {
                Some((reason, message)) => {
                    Shown { state: waiting(&reason, Some(message)), last: Some(newest), id: Some(newest) }
                }
                None => Shown { state: terminated(view, i, newest), last: previous, id: Some(newest) },
            }
        }
    }
}

/// Why a container that is to be restarted has not been yet: reason and message.
fn held_back(view: View<'_>, i: usize, ended: &Instance) -> Option<(String, String)> {
    if let Some((reason, message)) = start_failure(view, i) {
        return Some((reason, message));
    }
    if let InstanceState::Ended { outcome: Outcome::StartFailed { by_runtime: false, message }, .. } = &ended.state {
        return Some(("CreateContainerError".to_owned(), message.clone()));
    }
    let at = backoff::restart_at(ended, start::last_two(view, i).1)?;
    let message = format!(
        "back-off {} restarting failed container={} pod={}_{}({})",
        go_duration(ended.restart_delay),
        view.spec.containers[i].name,
        view.spec.name,
        view.spec.namespace,
        view.spec.uid
    );
    (at > view.now).then(|| (CRASH_LOOP.to_owned(), message))
}

fn start_failure(view: View<'_>, i: usize) -> Option<(String, String)> {
    let failure = view.observed.containers[i].failure.as_ref()?;
    let again = failure.count > 1 && failure.reason == "ErrImagePull";
    let reason = if again { "ImagePullBackOff".to_owned() } else { failure.reason.clone() };
    Some((reason, failure.message.clone()))
}

/// The waiting state of a container that has no instance here yet.
fn not_started(view: View<'_>, i: usize) -> v1::ContainerState {
    if let Some((reason, message)) = start_failure(view, i) {
        return waiting(&reason, Some(message));
    }
    let reason = if view.init_count() > 0 { "PodInitializing" } else { "ContainerCreating" };
    waiting(reason, waits_for(view, i))
}

/// What holds a container back, for people.
fn waits_for(view: View<'_>, i: usize) -> Option<String> {
    let has_sandbox = matches!(view.observed.sandbox, Sandbox::Ready { .. });
    if let (Some(error), false) = (view.observed.unsaved.as_ref().and_then(|u| u.error.as_ref()), has_sandbox) {
        return Some(format!("waiting until the pod can be saved: {error}"));
    }
    if let (Some(failure), false) = (&view.observed.sandbox_failure, has_sandbox) {
        return Some(failure.message.clone());
    }
    let Some(holder) = (0..view.init_count().min(i)).find(|h| !view.passed(*h)) else {
        let name = &view.spec.containers[starting_before(view, i)?].name;
        return Some(format!("waiting for the postStart hook of container {name:?}"));
    };
    let container = &view.spec.containers[holder];
    let name = &container.name;
    let known = &view.observed.containers[holder];
    Some(match container.role {
        Role::Init | Role::Main => format!("waiting for init container {name:?} to finish"),
        Role::Sidecar if view.record(holder).is_none() => format!("waiting for sidecar {name:?} to start"),
        Role::Sidecar if post_start_runs(view, holder) => {
            format!("waiting for sidecar {name:?}: its postStart hook (lifecycle.postStart) has not returned yet")
        }
        Role::Sidecar if container.startup_probe.is_some() && known.probes.startup.verdict != Some(true) => {
            format!("waiting for sidecar {name:?}: its startup probe (startupProbe) has not succeeded yet")
        }
        Role::Sidecar if container.readiness_probe.is_some() => {
            format!("waiting for sidecar {name:?}: its readiness probe (readinessProbe) has not succeeded yet")
        }
        Role::Sidecar => format!("waiting for sidecar {name:?} to start"),
    })
}

/// The main whose postStart hook holds back the first start of a main.
pub(super) fn starting_before(view: View<'_>, i: usize) -> Option<usize> {
    view.mains().map(|(m, _, _)| m).take_while(|m| *m < i).find(|m| post_start_runs(view, *m))
}

fn post_start_runs(view: View<'_>, i: usize) -> bool {
    let record = view.record(i).filter(|r| matches!(r.state, InstanceState::Running { .. }));
    record.is_some_and(|r| matches!(view.post_start(i, r), Stage::Due | Stage::Running(_)))
}

fn waiting(reason: &str, message: Option<String>) -> v1::ContainerState {
    let waiting = v1::ContainerStateWaiting { reason: Some(reason.to_owned()), message };
    v1::ContainerState { waiting: Some(waiting), ..v1::ContainerState::default() }
}

fn terminated(view: View<'_>, i: usize, instance: &Instance) -> v1::ContainerState {
    let InstanceState::Ended { started_at, finished_at, outcome } = &instance.state else {
        return v1::ContainerState::default();
    };
    let restarting = instance.cause.as_ref().is_some_and(|c| c.by == Asker::RestartRule);
    let (reason, message) = match outcome {
        Outcome::Exited { .. } | Outcome::Signaled { .. } if restarting => ("RestartingAllContainers", None),
        Outcome::Exited { code: 0, .. } => ("Completed", None),
        Outcome::Exited { oom: true, .. } | Outcome::Signaled { oom: true, .. } => ("OOMKilled", None),
        Outcome::Exited { .. } | Outcome::Signaled { .. } => ("Error", None),
        Outcome::StartFailed { by_runtime: true, message } => ("StartError", Some(message.clone())),
        Outcome::StartFailed { by_runtime: false, message } => ("ContainerCannotRun", Some(message.clone())),
        Outcome::Lost => {
            ("ContainerStatusUnknown", Some("nobody saw its end: its pod's sandbox was lost while it ran".to_owned()))
        }
    };
    let messages = message.into_iter().chain(Some(instance.message.clone()).filter(|m| !m.is_empty()));
    let message = messages.collect::<Vec<_>>().join(": ");
    let message = Some(cut(message, MAX_MESSAGES / view.spec.containers.len().max(1))).filter(|m| !m.is_empty());
    let terminated = v1::ContainerStateTerminated {
        container_id: Some(container_id(view, i, instance)),
        exit_code: outcome.exit_code(),
        finished_at: Some(api_time(*finished_at)),
        message,
        reason: Some(reason.to_owned()),
        signal: None,
        started_at: started_at.map(api_time),
    };
    v1::ContainerState { terminated: Some(terminated), ..v1::ContainerState::default() }
}

/// The first bytes of a text, and no half character.
fn cut(mut text: String, bytes: usize) -> String {
    text.truncate(text.floor_char_boundary(bytes));
    text
}

/// A main that was held up (no image, say) until its pod ended, while others ran.
fn never_started() -> v1::ContainerState {
    let terminated = v1::ContainerStateTerminated {
        exit_code: Outcome::Lost.exit_code(),
        message: Some("it had not been started when its pod ended".to_owned()),
        reason: Some("ContainerStatusUnknown".to_owned()),
        ..v1::ContainerStateTerminated::default()
    };
    v1::ContainerState { terminated: Some(terminated), ..v1::ContainerState::default() }
}

fn container_id(view: View<'_>, i: usize, instance: &Instance) -> String {
    format!("podwright://{}-{}-{}", view.spec.uid, view.spec.containers[i].name, instance.attempt)
}

/// Whole seconds as Go prints a duration, which is how everybody knows this message: `10s`, `1m20s`, `5m0s`.
fn go_duration(d: std::time::Duration) -> String {
    let (minutes, seconds) = (d.as_secs() / 60, d.as_secs() % 60);
    if d.subsec_millis() > 0 && minutes == 0 {
        return format!("{}s", d.as_secs_f64());
    }
    if minutes == 0 { format!("{seconds}s") } else { format!("{minutes}m{seconds}s") }
}
