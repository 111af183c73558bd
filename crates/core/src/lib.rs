//! The pure heart of podwright.
//!
//! Values in, values out: nothing here reads a clock, a file or the environment, and nothing blocks. The main path is
//! [`manifest`] (text -> accepted objects) -> [`pod`] (what to do next for one pod) and [`bundle`] (pod container + bundle
//! -> OCI spec).

pub mod api;
pub mod bundle;
pub mod cron;
pub mod job;
pub mod ledger;
pub mod manifest;
pub mod objects;
pub mod pod;
pub mod rehearse;
pub mod signal;
pub mod sim;
pub mod time;
pub mod timeline;
