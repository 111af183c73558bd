//! `v1.PodStatus` from what is known.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1;
use k8s_openapi::apimachinery::pkg::apis::meta::v1 as meta;

use super::backoff;
use super::decide::{Goal, Stop, Why};
use super::observe::{Instance, InstanceState, Memo, Outcome, Sandbox};
use super::resources;
use super::spec::{Qos, Role};
use super::view::{View, never_ran, succeeded};
use crate::time::Time;

/// When each condition took its present value.
type Transitions = BTreeMap<String, (bool, Time)>;

/// The pod's status, and when its conditions changed last.
pub(super) fn status(view: View<'_>, goal: &Goal, memo: &Memo) -> (v1::PodStatus, Transitions) {
    let phase = phase(view, goal);
    let mut transitions = Transitions::new();
    let conditions = conditions(view, phase)
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
    let address = view.policy.host_ip.clone();
    let pod_ip = address.clone().filter(|_| view.spec.host_network);
    let status = v1::PodStatus {
        phase: Some(phase.name().to_owned()),
        reason,
        message,
        conditions: Some(conditions),
        init_container_statuses: (!inits.is_empty()).then_some(inits),
        container_statuses: Some(mains),
        start_time: Some(api_time(view.observed.accepted_at)),
        qos_class: Some(qos_name(resources::qos(view.spec)).to_owned()),
        host_ips: address.clone().map(|ip| vec![v1::HostIP { ip }]),
        host_ip: address,
        pod_ips: pod_ip.clone().map(|ip| vec![v1::PodIP { ip }]),
        pod_ip,
        ..v1::PodStatus::default()
    };
    (status, transitions)
}

fn api_time(time: Time) -> meta::Time {
    meta::Time(time.to_timestamp())
}

fn qos_name(qos: Qos) -> &'static str {
    match qos {
        Qos::Guaranteed => "Guaranteed",
        Qos::Burstable => "Burstable",
        Qos::BestEffort => "BestEffort",
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Pending,
    Running,
    Succeeded,
    Failed,
}

impl Phase {
    fn name(self) -> &'static str {
        match self {
            Phase::Pending => "Pending",
            Phase::Running => "Running",
            Phase::Succeeded => "Succeeded",
            Phase::Failed => "Failed",
        }
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
    matches!(goal, Goal::Stop(Stop { why, .. }) if *why != Why::Restart) && !view.any_live()
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
    let all_zero = view.mains().all(|(i, _, _)| view.newest(i).is_some_and(succeeded));
    if !forced && view.failed_init().is_none() && all_zero { Phase::Succeeded } else { Phase::Failed }
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
        Why::Completed | Why::Deleted | Why::Restart => return (None, None),
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
    let restarts = match (run.first(), run.last()) {
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
        ..v1::ContainerStatus::default()
    }
}

fn shown<'a>(view: View<'_>, goal: &Goal, i: usize, run: &[&'a Instance]) -> Shown<'a> {
    let goes_on = matches!(goal, Goal::Run | Goal::Stop(Stop { why: Why::Restart, .. }));
    let previous = run.len().checked_sub(2).map(|p| run[p]);
    let Some(&newest) = run.last() else {
        if is_over(view, goal) && view.spec.containers[i].role == Role::Main && view.main_has_record() {
            return Shown { state: never_started(), last: None, id: None };
        }
        return Shown { state: not_started(view, i), last: None, id: None };
    };
    let stale = newest.sandbox != view.sandbox() && !view.done(i);
    match &newest.state {
        _ if stale && goes_on => Shown { state: not_started(view, i), last: Some(newest), id: Some(newest) },
        InstanceState::Starting => Shown { state: not_started(view, i), last: previous, id: Some(newest) },
        InstanceState::Running { started_at } => {
            let running = v1::ContainerStateRunning { started_at: Some(api_time(*started_at)) };
            let state = v1::ContainerState { running: Some(running), ..v1::ContainerState::default() };
            Shown { state, last: previous, id: Some(newest) }
        }
        InstanceState::Ended { .. } => {
            let held = if goes_on && view.restarts(i, newest) { held_back(view, i, newest) } else { None };
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
    let at = backoff::restart_at(ended)?;
    let message = format!(
        "back-off {} restarting failed container={} pod={}_{}({})",
        go_duration(ended.restart_delay),
        view.spec.containers[i].name,
        view.spec.name,
        view.spec.namespace,
        view.spec.uid
    );
    (at > view.now).then(|| ("CrashLoopBackOff".to_owned(), message))
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
    if let (Some(failure), false) =
        (&view.observed.sandbox_failure, matches!(view.observed.sandbox, Sandbox::Ready { .. }))
    {
        return Some(failure.message.clone());
    }
    let holder = (0..view.init_count().min(i)).find(|h| !view.passed(*h))?;
    let container = &view.spec.containers[holder];
    let name = &container.name;
    let known = &view.observed.containers[holder];
    Some(match container.role {
        Role::Init | Role::Main => format!("waiting for init container {name:?} to finish"),
        Role::Sidecar if view.record(holder).is_none() => format!("waiting for sidecar {name:?} to start"),
        Role::Sidecar if container.startup_probe.is_some() && known.probes.startup.verdict != Some(true) => {
            format!("waiting for sidecar {name:?}: its startup probe (startupProbe) has not succeeded yet")
        }
        Role::Sidecar if container.readiness_probe.is_some() => {
            format!("waiting for sidecar {name:?}: its readiness probe (readinessProbe) has not succeeded yet")
        }
        Role::Sidecar => format!("waiting for sidecar {name:?} to start"),
    })
}

fn waiting(reason: &str, message: Option<String>) -> v1::ContainerState {
    let waiting = v1::ContainerStateWaiting { reason: Some(reason.to_owned()), message };
    v1::ContainerState { waiting: Some(waiting), ..v1::ContainerState::default() }
}

fn terminated(view: View<'_>, i: usize, instance: &Instance) -> v1::ContainerState {
    let InstanceState::Ended { started_at, finished_at, outcome } = &instance.state else {
        return v1::ContainerState::default();
    };
    let (reason, message) = match outcome {
        Outcome::Exited { code: 0, .. } => ("Completed", None),
        Outcome::Exited { oom: true, .. } | Outcome::Signaled { oom: true, .. } => ("OOMKilled", None),
        Outcome::Exited { .. } | Outcome::Signaled { .. } => ("Error", None),
        Outcome::StartFailed { by_runtime: true, message } => ("StartError", Some(message.clone())),
        Outcome::StartFailed { by_runtime: false, message } => ("ContainerCannotRun", Some(message.clone())),
        Outcome::Lost => {
            ("ContainerStatusUnknown", Some("nobody saw its end: its pod's sandbox was lost while it ran".to_owned()))
        }
    };
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

struct Condition {
    kind: &'static str,
    value: bool,
    reason: Option<&'static str>,
    message: Option<String>,
}

impl Condition {
    fn into_api(self, since: Time) -> v1::PodCondition {
        v1::PodCondition {
            type_: self.kind.to_owned(),
            status: if self.value { "True" } else { "False" }.to_owned(),
            reason: self.reason.map(str::to_owned),
            message: self.message,
            last_transition_time: Some(api_time(since)),
            ..v1::PodCondition::default()
        }
    }
}

fn conditions(view: View<'_>, phase: Phase) -> Vec<Condition> {
    let (ready, reason, message) = match phase {
        Phase::Succeeded => (false, Some("PodCompleted"), None),
        Phase::Failed => (false, Some("PodFailed"), None),
        Phase::Pending | Phase::Running => {
            let names = names(view, |i, role| role != Role::Init && !view.is_ready(i));
            let message = (!names.is_empty()).then(|| format!("containers with unready status: [{}]", names.join(" ")));
            (message.is_none(), message.is_some().then_some("ContainersNotReady"), message)
        }
    };
    let condition = |kind, value, reason, message| Condition { kind, value, reason, message };
    vec![
        condition("PodReadyToStartContainers", matches!(view.observed.sandbox, Sandbox::Ready { .. }), None, None),
        initialized(view, phase),
        condition("Ready", ready, reason, message.clone()),
        condition("ContainersReady", ready, reason, message),
        condition("PodScheduled", true, None, None),
    ]
}

fn initialized(view: View<'_>, phase: Phase) -> Condition {
    let kind = "Initialized";
    if phase == Phase::Succeeded {
        return Condition { kind, value: true, reason: Some("PodCompleted"), message: None };
    }
    if view.initialized() {
        return Condition { kind, value: true, reason: None, message: None };
    }
    let names = names(view, |i, role| match role {
        Role::Init => !view.record(i).is_some_and(succeeded),
        Role::Sidecar => !view.passed(i),
        Role::Main => false,
    });
    let message = Some(format!("containers with incomplete status: [{}]", names.join(" ")));
    Condition { kind, value: false, reason: Some("ContainersNotInitialized"), message }
}

fn names<'a>(view: View<'a>, wanted: impl Fn(usize, Role) -> bool) -> Vec<&'a str> {
    view.containers().filter(|(i, c, _)| wanted(*i, c.role)).map(|(_, c, _)| c.name.as_str()).collect()
}

/// Whole seconds as Go prints a duration, which is how everybody knows this message: `10s`, `1m20s`, `5m0s`.
fn go_duration(d: std::time::Duration) -> String {
    let (minutes, seconds) = (d.as_secs() / 60, d.as_secs() % 60);
    if d.subsec_millis() > 0 && minutes == 0 {
        return format!("{}s", d.as_secs_f64());
    }
    if minutes == 0 { format!("{seconds}s") } else { format!("{minutes}m{seconds}s") }
}
