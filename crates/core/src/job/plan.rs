//! What follows from a decision about a job.

use k8s_openapi::api::batch::v1::JobStatus;

use super::state::JobState;
use crate::time::Time;

/// The next state, and what to do once it is durable.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// What is true from now on.
    pub state: JobState,
    /// In order.
    pub steps: Vec<Step>,
    /// For the API.
    pub status: JobStatus,
    /// When to decide again if nothing happens before.
    pub wake_at: Option<Time>,
    /// What is worth telling.
    pub notices: Vec<Notice>,
    /// Its time after the end is over: it is to be removed.
    pub expired: bool,
    /// Its removal was asked for, and nothing of it runs any more.
    pub gone: bool,
}

/// One thing to do. Carried out twice it does no more than once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Make the pod of this serial number.
    Create {
        /// Key of [`JobState::pods`].
        serial: u64,
    },
    /// Remove the pod of this name.
    Delete {
        /// `metadata.name`.
        name: String,
        /// Why, for people.
        why: &'static str,
    },
}

/// Something worth telling: an Event about the job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// The job controller's own word.
    pub reason: String,
    /// For people.
    pub message: String,
    /// `Warning` instead of `Normal`.
    pub warning: bool,
}

impl Notice {
    pub(crate) fn normal(reason: &str, message: impl Into<String>) -> Notice {
        Notice { reason: reason.to_owned(), message: message.into(), warning: false }
    }

    pub(crate) fn warning(reason: &str, message: impl Into<String>) -> Notice {
        Notice { reason: reason.to_owned(), message: message.into(), warning: true }
    }
}
