//! Jobs (`batch/v1`): which pods of a job are made, removed and counted, and when the job is over.
//!
//! [`decide()`] is the whole of it: a job's spec, what is durably known of it ([`state::JobState`]) and what is seen of its pods
//! become the next state and the steps that follow from it. The caller makes the state durable before it carries a step
//! out, so that whoever dies in between begins again from where nothing was lost and nothing was done twice.

mod conditions;
mod count;
mod decide;
pub mod indexes;
pub mod plan;
mod policy;
pub mod spec;
pub mod state;
mod status;
mod template;
pub mod why;

pub use decide::decide;
pub use status::status;
pub use template::pod_manifest;

#[cfg(test)]
mod decide_tests;
#[cfg(test)]
mod policy_tests;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod why_tests;
