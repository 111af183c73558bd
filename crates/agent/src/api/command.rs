//! What the API asks of the agent. Sent over a bounded `tokio::sync::mpsc`; every command is answered once.

use std::time::Duration;

use podwright_core::objects::Kind;
use podwright_core::pod::why::Explanation;
use podwright_core::timeline::Timeline;
use tokio::sync::oneshot;

/// Commands that may wait for the agent; more are answered with 503.
pub const COMMAND_QUEUE: usize = 64;

/// The agent's answer: a text for the user, or why not.
pub type Reply = Result<Accepted, Refused>;

/// A command was taken on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accepted {
    /// The object's uid, so that the caller can tell it from a later one of the same name.
    pub uid: String,
    /// What follows from it, for people; e.g. that a pod from the directory stays away until its file changes.
    pub note: Option<String>,
}

/// A command was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// No such object that could still be acted on.
    #[error("{} \"{name}\" not found in namespace \"{namespace}\"", kind.resource())]
    NotFound {
        /// As asked.
        kind: Kind,
        /// As asked.
        namespace: String,
        /// As asked.
        name: String,
    },
    /// The pod's state does not allow it, e.g. a restart of a pod that is being removed.
    #[error("{message}")]
    Conflict {
        /// For people: what is in the way, and what to do next.
        message: String,
    },
    /// What was asked for is not valid.
    #[error("{message}")]
    Invalid {
        /// For people.
        message: String,
    },
    /// The agent itself could not do it.
    #[error("{message}")]
    Internal {
        /// For people.
        message: String,
    },
}

/// What the API asks of the agent.
#[derive(Debug)]
pub enum Command {
    /// Remove an object, with all that belongs to it. Answered once the request is recorded, not when it is gone.
    Delete {
        /// What it is.
        kind: Kind,
        /// Whose.
        namespace: String,
        /// Whose.
        name: String,
        /// Of a pod: overrides the spec's grace period; `None`: the spec's.
        grace: Option<Duration>,
        /// For the answer.
        reply: oneshot::Sender<Reply>,
    },
    /// Explain a pod, or one of its containers; a job or cron job. A name asked for as a pod's may be one of those, if there is
    /// no such pod.
    Why {
        /// What it is.
        kind: Kind,
        /// Whose.
        namespace: String,
        /// Whose.
        name: String,
        /// Which container; `None`: the one that matters most.
        container: Option<String>,
        /// For the answer.
        reply: oneshot::Sender<Result<Explanation, Refused>>,
    },
    /// The life of a pod as rows of a chart.
    Timeline {
        /// Whose.
        namespace: String,
        /// Whose.
        name: String,
        /// For the answer.
        reply: oneshot::Sender<Result<Timeline, Refused>>,
    },
    /// Make a job from a cron job's template, now.
    Instantiate {
        /// Of both.
        namespace: String,
        /// The cron job's.
        name: String,
        /// The job's name.
        job: String,
        /// For the answer.
        reply: oneshot::Sender<Reply>,
    },
    /// Stop a pod and run it again from its first init, back-off forgotten.
    Restart {
        /// Whose.
        namespace: String,
        /// Whose.
        name: String,
        /// For the answer.
        reply: oneshot::Sender<Reply>,
    },
}
