//! When nothing was left to run.

use super::rules;
use super::view::View;
use crate::time::Time;

/// When nothing was left to run: an init failed for good, or the last main ended for good, or began to.
pub(super) fn completed_since(view: View<'_>) -> Option<Time> {
    if let Some(at) = view.failed_init() {
        return Some(at);
    }
    view.mains().map(|(i, _, _)| left_at(view, i)).collect::<Option<Vec<_>>>()?.into_iter().max()
}

/// When a main ended for good. One whose probe or postStart hook has failed, and which will not be restarted, ends as soon
/// as its stop begins: if it is the last one, the whole pod is stopped with it, as the kubelet does.
fn left_at(view: View<'_>, i: usize) -> Option<Time> {
    let doom = view.doom(i).filter(|doom| rules::ends_for_good(view.spec, i, &doom.cause));
    if let (Some(_), Some(record)) = (doom, view.record(i)) {
        return Some(record.stop_begun().unwrap_or(view.now));
    }
    let newest = view.newest(i).filter(|_| view.done(i))?;
    let stopped = newest.cause.as_ref().filter(|c| c.by.is_of_instance() && rules::ends_for_good(view.spec, i, c));
    let begun = stopped.and_then(|_| newest.stop_begun());
    begun.or_else(|| newest.finished_at())
}
