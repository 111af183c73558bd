//! A pod of the right form -> `PodSpec`, with what the form cannot say checked as the API server does.
//!
//! Where a value is wrong, a placeholder takes its place so that the check goes on and finds the other problems; the result
//! then is thrown away.

pub(super) mod container;
mod cron;
mod facts;
mod fields;
mod job;
mod lifecycle;
mod pod;
mod probe;
mod restart;
mod volume;

pub(super) use cron::cron_job;
pub(super) use job::job;
pub(super) use pod::pod;
