//! How objects of each kind are looked after: one task an object. [`frame`] is what they have in common, the rest is how the steps that
//! core decides on are carried out. What they want of each other they ask the registry for, by [`order::Order`]s.

pub mod cron_job;
pub mod frame;
pub mod job;
pub mod order;
pub mod pod;
