//! The restart policy and rules of a single container (KEP-5307).

use super::super::problem::{At, Problems};
use crate::pod::spec::{RestartAction, RestartPolicy, RestartRule, Role};

/// Most rules of a container; the API server's limit.
const MOST_RULES: usize = 20;
/// Most exit codes of a rule; the API server's limit.
const MOST_VALUES: usize = 255;

/// The container's own policy. `Always` on an entry of `initContainers` makes a sidecar and is no policy beside that.
pub(super) fn policy(at: &At<'_>, role: Role) -> Option<RestartPolicy> {
    match at.str("restartPolicy")? {
        "Always" if role == Role::Main => Some(RestartPolicy::Always),
        "OnFailure" => Some(RestartPolicy::OnFailure),
        "Never" => Some(RestartPolicy::Never),
        _ => None,
    }
}

/// `restartPolicyRules`.
pub(super) fn rules(at: &At<'_>, problems: &mut Problems) -> Vec<RestartRule> {
    let Some(list) = at.get("restartPolicyRules") else { return Vec::new() };
    let items = at.items("restartPolicyRules");
    if !items.is_empty() && at.get("restartPolicy").is_none() {
        problems
            .at(&list, "accepted only together with the container's own restartPolicy, which holds where no rule does");
    }
    if items.len() > MOST_RULES {
        problems.at(&list, format!("found {} rules, accepted: at most {MOST_RULES}", items.len()));
    }
    items.iter().filter_map(|item| rule(item, problems)).collect()
}

fn rule(at: &At<'_>, problems: &mut Problems) -> Option<RestartRule> {
    let codes = at.get("exitCodes")?;
    let values: Vec<i32> = codes
        .items("values")
        .iter()
        .filter_map(|value| value.node.as_int().and_then(|code| i32::try_from(code).ok()))
        .collect();
    if let Some(list) = codes.get("values")
        && (values.is_empty() || values.len() > MOST_VALUES)
    {
        problems.at(&list, format!("found {} exit codes, accepted: from 1 to {MOST_VALUES}", values.len()));
    }
    let action = match at.str("action")? {
        "RestartAllContainers" => RestartAction::RestartAllContainers,
        _ => RestartAction::Restart,
    };
    Some(RestartRule { action, not_in: codes.str("operator") == Some("NotIn"), values })
}
