//! What the agent and a shim say to each other, and what a shim leaves on disk.
//!
//! The wire is a Unix stream socket with one JSON object a line, [`Request`] towards the shim and [`Event`] towards the
//! agent. The newest connection is the agent; an older one is closed. Everything here is read by other versions of
//! podwright: a shim outlives upgrades of the agent. A field may be added with `#[serde(default)]`, and a request of which
//! only pods have need that older agents refused; any other change raises [`VERSION`], and the golden files in
//! `tests/golden/` keep the old forms readable.
//!
//! Times are pairs of boot-time and wall-clock nanoseconds ([`Stamp`]): the first for arithmetic within one boot, the
//! second for people and for comparison across boots.

mod event;
mod hook;
mod instance;
mod ledger;
mod limits;
mod record;
mod request;
mod sandbox;

pub use event::{Event, ExecResult};
pub use hook::{HookKind, HookRun};
pub use instance::{InstanceId, Stamp};
pub use ledger::{
    Cause, CpuTime, Evidence, Figures, Health, LogLoss, MAX_CHANGES, MAX_TEXT, MemoryEvents, OomLimit, Origin,
    Pressure, ProbeFailures, ReadyChange, SANDBOX_REMOVED, Victim,
};
pub use limits::{MAX_EVENT, MAX_MEMO, MAX_REQUEST, UNSAID_LIMIT, VERSION};
pub use record::{Exit, Outcome, Record, StartStage, Unsaved};
pub use request::{MessageRequest, PodMount, Request, StartRequest};
pub use sandbox::{SUPERVISOR, SandboxConfig, attempt_of, record_file};
