//! Faults on purpose: a real agent with real shims, whose calls are failed from outside ([`supervise`]), whose disk is filled ([`fill`]), and
//! which is killed; and what must hold all the same.
//!
//! The containers' programs say in files that no fault reaches when they start and how they leave ([`truth`]). [`check`] compares that
//! with what the agent has recorded, [`observe`] with what it shows meanwhile. Both are pure functions of what was read.

pub mod calls;
pub mod chaos;
pub mod check;
pub mod fill;
pub mod inject;
pub mod node;
pub mod observe;
pub mod random;
pub mod recorded;
pub mod run;
pub mod scenario;
pub mod supervise;
pub mod truth;
