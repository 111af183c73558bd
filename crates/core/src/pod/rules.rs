//! Restart policies and rules of single containers (KEP-5307), and the rule that restarts all of them (KEP-5532).

use super::backoff;
use super::observe::{Instance, InstanceState, Observed, never_ran};
use super::spec::{PodSpec, RestartAction, RestartPolicy, Role};
use crate::ledger::{Asker, Cause};
use crate::time::Time;

/// The policy that holds for a container: its own, else the pod's.
pub(super) fn policy(spec: &PodSpec, i: usize) -> RestartPolicy {
    spec.containers[i].restart_policy.unwrap_or(spec.restart_policy)
}

/// Whether an ended instance is to be followed by another, as long as the pod goes on.
pub(super) fn restarts(spec: &PodSpec, i: usize, ended: &Instance) -> bool {
    let InstanceState::Ended { outcome, .. } = &ended.state else { return false };
    let container = &spec.containers[i];
    if never_ran(ended) || container.role == Role::Sidecar {
        return true;
    }
    let policy = policy(spec, i);
    if ended.is_probe_killed() {
        return policy != RestartPolicy::Never;
    }
    let code = outcome.exit_code();
    if container.restart_rules.iter().any(|rule| rule.matches(code)) {
        return true;
    }
    match policy {
        RestartPolicy::Never => false,
        RestartPolicy::OnFailure => code != 0,
        // A plain init that succeeded is not repeated.
        RestartPolicy::Always => container.role == Role::Main || code != 0,
    }
}

/// When a container that ended on its own account was to be started again, had its pod gone on.
pub(crate) fn due_again(spec: &PodSpec, observed: &Observed, i: usize) -> Option<Time> {
    let mut newest = observed.containers.get(i)?.instances.iter().rev();
    let (last, before) = (newest.next()?, newest.next());
    let own = last.cause.as_ref().is_none_or(|cause| cause.by == Asker::PostStart) || last.is_probe_killed();
    let before = before.filter(|before| before.sandbox == last.sandbox);
    backoff::restart_at(last, before).filter(|_| own && restarts(spec, i, last))
}

/// Whether an instance that is being stopped on its own account will not be followed by another, whatever its exit code.
pub(super) fn ends_for_good(spec: &PodSpec, i: usize, cause: &Cause) -> bool {
    let container = &spec.containers[i];
    let by_code = cause.by == Asker::PostStart && !container.restart_rules.is_empty();
    container.role == Role::Main && policy(spec, i) == RestartPolicy::Never && !by_code
}

/// Whether the end of an instance asks for a restart of all containers: it left by itself, and the first rule that
/// matches says so.
pub(super) fn restarts_all(spec: &PodSpec, i: usize, ended: &Instance) -> bool {
    let InstanceState::Ended { outcome, .. } = &ended.state else { return false };
    let code = outcome.exit_code();
    let first = spec.containers[i].restart_rules.iter().find(|rule| rule.matches(code));
    ended.cause.is_none()
        && !never_ran(ended)
        && first.is_some_and(|rule| rule.action == RestartAction::RestartAllContainers)
}
