//! Cron jobs (`batch/v1`): when a job of one is made, and which of its jobs are kept.
//!
//! [`schedule`] says when, in a time zone; [`decide()`] what follows from it, from what is durably known, and from what is seen
//! of the cron job's jobs. Schedules are of the wall clock ([`jiff::Timestamp`]), which may jump; nothing here counts durations
//! by it but how late a run is.

mod decide;
pub mod schedule;
pub mod spec;
pub mod state;
mod status;
mod template;
pub mod why;

pub use decide::{Moment, Plan, Step, decide};
pub use status::status;
pub use template::{job_manifest, job_name};

#[cfg(test)]
mod decide_tests;
#[cfg(test)]
mod why_tests;
