//! Since when what a pod's containers did counts.

use super::completion::completed_since;
use super::observe::Observed;
use super::rules;
use super::spec::{PodSpec, RestartAction};
use super::view::{NodePolicy, View};
use crate::time::Time;

/// The pod at one moment.
pub(super) fn view_at<'a>(spec: &'a PodSpec, policy: &'a NodePolicy, observed: &'a Observed, now: Time) -> View<'a> {
    let view = View { spec, policy, observed, now, epoch: None };
    View { epoch: epoch(view), ..view }
}

/// When the last restart of all containers was asked for in this sandbox: instances that were asked for before count for
/// nothing. One that comes when the pod is about to end is ignored.
fn epoch(view: View<'_>) -> Option<Time> {
    let sandbox = view.observed.sandbox.number();
    let rules = |(_, container, _): &(usize, &super::spec::Container, &_)| {
        container.restart_rules.iter().any(|rule| rule.action == RestartAction::RestartAllContainers)
    };
    let mut asked: Vec<Time> = view
        .containers()
        .filter(rules)
        .flat_map(|(i, _, known)| known.instances.iter().map(move |instance| (i, instance)))
        .filter(|(i, instance)| instance.sandbox == sandbox && rules::restarts_all(view.spec, *i, instance))
        .filter_map(|(_, instance)| instance.finished_at())
        .collect();
    asked.sort_unstable();
    let observed = view.observed;
    let evicted = observed.evicted.as_ref().map(|(at, _)| *at);
    let stops = [observed.deletion.as_ref().map(|d| d.requested_at), evicted, view.deadline()];
    asked.into_iter().fold(None, |epoch, at| {
        let done = completed_since(View { epoch, ..view });
        let ends = stops.into_iter().chain([done]).flatten().any(|stop| stop <= at);
        if ends { epoch } else { Some(at) }
    })
}
