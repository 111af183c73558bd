//! What this runtime cannot do.

/// A configuration that this runtime cannot do, by field.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {problem}")]
pub struct PlanError {
    /// Path of the field in config.json.
    pub field: String,
    /// What was found, and what is accepted instead.
    pub problem: String,
}

impl PlanError {
    pub(crate) fn new(field: impl Into<String>, problem: impl Into<String>) -> Self {
        Self { field: field.into(), problem: problem.into() }
    }
}

/// The outcome of a part of the plan.
pub(super) type Result<T> = std::result::Result<T, PlanError>;
