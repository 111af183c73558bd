//! One pod: what is known of it, what to do next, what to tell about it.
//!
//! ```text
//!  spec ─┐
//!  Observed ─┼─> decide(now) ─> Plan { steps, status, wake_at, … }
//!  policy ─┘        ^                    │ carried out by the agent's worker
//!      Machine::apply(event) <───────────┘ answers come back as events
//! ```
//!
//! [`decide()`] is a pure function. [`Machine`] is the little state around it: it applies events, hands out the steps of
//! a plan once, and remembers probe verdicts. The rules follow the kubelet; where podwright differs, the code says so.

pub mod backoff;
mod completion;
mod conditions;
pub mod decide;
mod epoch;
mod goal;
mod hook;
mod machine;
mod notice;
pub mod observe;
mod phase;
pub mod plan;
mod probe;
pub mod resources;
mod rules;
pub mod spec;
mod stage;
mod start;
pub mod state;
mod status;
mod stop;
mod todo;
mod view;
pub mod why;

pub use decide::decide;
pub use machine::Machine;
pub(crate) use rules::due_again;
pub use view::NodePolicy;
