//! `status.conditions`.

use super::goal::{Goal, Stop, Why};
use super::observe::{Instance, InstanceState, Sandbox, succeeded};
use super::phase::Phase;
use super::spec::{RestartAction, Role};
use super::view::View;
use crate::ledger::Outcome;
use crate::time::Time;
use k8s_openapi::api::core::v1;
use k8s_openapi::apimachinery::pkg::apis::meta::v1 as meta;

/// Why a pod is not ready of which all containers are.
pub(super) const GATES_CLOSED: &str = "ReadinessGatesNotReady";

/// As the API has it.
pub(super) fn api_time(time: Time) -> meta::Time {
    meta::Time(time.to_timestamp())
}

/// One condition.
pub(super) struct Condition {
    pub(super) kind: &'static str,
    pub(super) value: bool,
    reason: Option<&'static str>,
    message: Option<String>,
}

impl Condition {
    /// As the API shows it, true or false since a moment.
    pub(super) fn into_api(self, since: Time) -> v1::PodCondition {
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

/// All conditions, in the order in which they are shown.
pub(super) fn conditions(view: View<'_>, goal: &Goal, phase: Phase) -> Vec<Condition> {
    let (complete, reason, message) = match phase {
        Phase::Succeeded => (false, Some("PodCompleted"), None),
        Phase::Failed => (false, Some("PodFailed"), None),
        Phase::Pending | Phase::Running => {
            let names = names(view, |i, role| role != Role::Init && !view.is_ready(i));
            let message = (!names.is_empty()).then(|| format!("containers with unready status: [{}]", names.join(" ")));
            (message.is_none(), message.is_some().then_some("ContainersNotReady"), message)
        }
    };
    let condition = |kind, value, reason, message| Condition { kind, value, reason, message };
    let mut all = vec![
        condition("PodReadyToStartContainers", matches!(view.observed.sandbox, Sandbox::Ready { .. }), None, None),
        initialized(view, phase),
        condition("ContainersReady", complete, reason, message.clone()),
        condition("PodScheduled", true, None, None),
    ];
    let ready = match closed_gates(view, &all) {
        Some(gates) if complete => condition("Ready", false, Some(GATES_CLOSED), Some(gates)),
        _ => condition("Ready", complete, reason, message),
    };
    all.insert(2, ready);
    let rules = view.spec.containers.iter().flat_map(|c| &c.restart_rules);
    if rules.into_iter().any(|rule| rule.action == RestartAction::RestartAllContainers) {
        let restarting = matches!(goal, Goal::Stop(Stop { why: Why::RestartAll, .. }));
        all.push(condition("AllContainersRestarting", restarting, None, None));
    }
    all.extend(disruption(view, phase));
    all
}

/// What is missing of `spec.readinessGates`. Besides the kubelet's own conditions a pod here has none, as nobody can set any.
fn closed_gates(view: View<'_>, conditions: &[Condition]) -> Option<String> {
    let closed = |gate: &String| match conditions.iter().find(|condition| condition.kind == gate) {
        Some(Condition { value: true, .. }) => None,
        Some(_) => Some(format!("the status of pod readiness gate {gate:?} is not \"True\", but False")),
        None => Some(format!("corresponding condition of pod readiness gate {gate:?} does not exist")),
    };
    let closed: Vec<String> = view.spec.readiness_gates.iter().filter_map(closed).collect();
    (!closed.is_empty()).then(|| closed.join(", "))
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

/// The pod is ended by the node and not by itself: an eviction, as of the kubelet; and what the kubelet would have no pod left for,
/// an end that nobody saw since the machine was restarted or the sandbox lost. A pod that somebody removes has none.
fn disruption(view: View<'_>, phase: Phase) -> Option<Condition> {
    let message = match &view.observed.evicted {
        Some((_, message)) => message.clone(),
        None if phase == Phase::Failed => {
            let lost: Vec<&str> = view
                .containers()
                .filter(|(i, c, _)| c.role != Role::Sidecar && view.newest(*i).is_some_and(was_lost))
                .map(|(_, c, _)| c.name.as_str())
                .collect();
            if lost.is_empty() {
                return None;
            }
            format!("The machine was restarted, or the pod's sandbox lost: nobody saw the end of [{}]", lost.join(" "))
        }
        None => return None,
    };
    let reason = Some("TerminationByKubelet");
    Some(Condition { kind: "DisruptionTarget", value: true, reason, message: Some(message) })
}

fn was_lost(instance: &Instance) -> bool {
    matches!(instance.state, InstanceState::Ended { outcome: Outcome::Lost, .. })
}

fn names<'a>(view: View<'a>, wanted: impl Fn(usize, Role) -> bool) -> Vec<&'a str> {
    view.containers().filter(|(i, c, _)| wanted(*i, c.role)).map(|(_, c, _)| c.name.as_str()).collect()
}
