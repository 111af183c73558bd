//! How a job's end is told.

use super::plan::Notice;
use super::state::Verdict;

/// The event about a job that is over.
pub(super) fn notice(verdict: &Verdict) -> Notice {
    if verdict.success {
        Notice::normal("Completed", "Job completed")
    } else {
        Notice::warning(&verdict.reason, verdict.message.clone())
    }
}
