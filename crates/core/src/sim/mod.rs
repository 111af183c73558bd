//! A node in a value: virtual clock, fake shims, fake containers under the real [`crate::pod::Machine`].
//!
//! Two users: the seeded simulation, which crashes agent and shims at every step, fills the disk, and checks the named invariants of
//! `docs/simulation.md`, and [`rehearse`](crate::rehearse), which shows how a pod would start and stop.

mod actor;
mod check;
mod cron;
mod cron_books;
mod disk;
mod job;
mod node;
mod random;
mod schedule;
mod world;

pub use actor::{Actor, HookTurn, Start, Term, Turn};
pub use check::Violation;
pub use cron::{CronReport, CronSchedule};
pub use job::{JobReport, JobSchedule};
pub use node::{Entry, What};
pub use random::Random;
pub use schedule::{Report, Schedule};
pub use world::World;
