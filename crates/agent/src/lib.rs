//! The node agent `podwrightd`.
//!
//! The modules read in the order the data flows: [`sources`] (what is wanted) -> [`registry`] (one place an object) -> [`controllers`]
//! (one task an object, the only callers of core's decisions) -> [`node`] (what carries a pod's steps out) -> [`status`] (what is known)
//! -> [`api`]. What of it is kept is in [`state`]; what any of them writes to disk goes through [`storage`].

pub mod address;
pub mod api;
pub mod aside;
pub mod clock;
pub mod config;
pub mod context;
pub mod controllers;
pub mod explain;
pub mod logging;
pub mod node;
pub mod notify;
pub mod paths;
pub mod preflight;
pub mod registry;
pub mod sources;
pub mod state;
pub mod status;
pub mod storage;
pub mod wall;
