//! What is told of a pod before the rest.

use super::explanation::Situation;

/// What is told of a pod before the rest.
pub(super) struct Told {
    pub(super) situation: Situation,
    pub(super) summary: String,
    pub(super) details: Vec<String>,
}
