//! `podFailurePolicy` and `successPolicy`: what an end of a pod means, and when enough indexes have succeeded.

use super::indexes::Indexes;
use super::spec::{Action, FailureRule, JobSpec, On, SuccessRule};
use super::state::PodEnd;
use crate::pod::spec::Role;

/// What a failed pod means to its job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Meaning {
    /// It counts; that is so without a policy, too.
    Counts,
    /// It does not count.
    Ignored,
    /// Its index has failed.
    FailsIndex,
    /// The job has failed, and why.
    FailsJob(String),
}

/// What the end of a pod of that name means. The first rule that matches decides.
pub(super) fn meaning(spec: &JobSpec, name: &str, end: &PodEnd) -> Meaning {
    match rule(spec, name, end) {
        None | Some((_, Action::Count, _)) => Meaning::Counts,
        Some((_, Action::Ignore, _)) => Meaning::Ignored,
        Some((_, Action::FailIndex, _)) => Meaning::FailsIndex,
        Some((n, Action::FailJob, what)) => Meaning::FailsJob(format!("{what} matching FailJob rule at index {n}")),
    }
}

/// The rule that is about this end: its place in the list, its action, and what of the pod it is about.
pub(super) fn rule(spec: &JobSpec, name: &str, end: &PodEnd) -> Option<(usize, Action, String)> {
    let rules = spec.failure_policy.as_deref().unwrap_or_default();
    let mut matching = rules.iter().enumerate();
    matching.find_map(|(n, rule)| matched(spec, name, rule, end).map(|what| (n, rule.action, what)))
}

/// What of the pod the rule is about, in the job controller's words.
fn matched(spec: &JobSpec, name: &str, rule: &FailureRule, end: &PodEnd) -> Option<String> {
    let namespace = &spec.namespace;
    match &rule.on {
        On::ExitCodes { container, one_of, codes } => {
            let (of, code) = end.exits.iter().find(|(of, code)| {
                let meant = container.as_ref().map_or_else(|| !is_sidecar(spec, of), |named| named == of);
                meant && *code != 0 && codes.contains(code) == *one_of
            })?;
            Some(format!("Container {of} for pod {namespace}/{name} failed with exit code {code}"))
        }
        On::PodConditions(patterns) => {
            let (kind, _) = patterns.iter().find(|pattern| end.conditions.contains(pattern))?;
            Some(format!("Pod {namespace}/{name} has condition {kind}"))
        }
    }
}

/// How a sidecar ends says nothing about the job, unless a rule names it.
fn is_sidecar(spec: &JobSpec, container: &str) -> bool {
    spec.template.pod.containers.iter().any(|c| c.name == container && c.role == Role::Sidecar)
}

/// The first rule of the success policy that these completed indexes meet.
pub(super) fn success(rules: &[SuccessRule], completed: &Indexes) -> Option<usize> {
    rules.iter().position(|rule| {
        let done = rule.indexes.as_ref().map_or(completed.len(), |wanted| wanted.count_in(completed));
        match (rule.count, &rule.indexes) {
            (Some(count), _) => done >= count,
            (None, Some(wanted)) => done == wanted.len(),
            // Refused by validation: a rule that says nothing.
            (None, None) => false,
        }
    })
}
