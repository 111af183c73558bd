//! What a shim tells the agent.

use serde::{Deserialize, Serialize};

use crate::instance::Stamp;
use crate::limits::{is_unsaid, unsaid_limit};
use crate::record::Record;

/// What a shim tells the agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Event {
    /// Answer to [`crate::Request::Hello`].
    State {
        /// [`crate::VERSION`] of the shim.
        version: u32,
        /// [`crate::SandboxConfig::number`].
        sandbox: u32,
        /// The shim's pid.
        pid: i32,
        /// When the namespaces stood.
        created: Stamp,
        /// The instances of this sandbox in the order of their start: all that have not ended, and of each container the
        /// newest that have, as far as the agent's limit lets it; the others are in their
        /// record files.
        instances: Vec<Record>,
        /// The last [`crate::Request::Remember`].
        memo: Option<String>,
        /// [`crate::MAX_REQUEST`] of the shim.
        #[serde(default = "unsaid_limit", skip_serializing_if = "is_unsaid")]
        max_request: usize,
    },
    /// An instance started, was signalled, or ended; its whole record.
    Instance(Box<Record>),
    /// A command of [`crate::Request::Exec`] is through.
    ExecDone {
        /// [`crate::Request::Exec::seq`].
        seq: u64,
        /// How it went.
        result: ExecResult,
        /// The first 10 KiB of stdout and stderr together.
        output: String,
    },
    /// The sandbox itself could not be made; the shim leaves after this.
    Failed {
        /// What went wrong, for people.
        message: String,
    },
}

/// How an exec ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "how", rename_all = "snake_case")]
pub enum ExecResult {
    /// It left with this status (128 + n for signal n).
    Exited {
        /// 0..=255.
        code: i32,
    },
    /// It was killed at its timeout.
    TimedOut,
    /// The instance has ended, before it or in its middle: nothing can be said of it.
    InstanceEnded,
    /// It could not be run: no such file, say.
    Error {
        /// What went wrong, for people.
        message: String,
    },
}
