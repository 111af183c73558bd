//! The node agent `podwrightd`.
//!
//! The modules read in the order the data flows: [`source`] (the manifest directory) -> [`worker`] (one pod each, the only
//! caller of the core's decisions) -> [`shim`] (what a worker says to its pod's shim) -> [`status`] (what is known) ->
//! [`server`] (the API). What any of them writes to disk goes through [`storage`].

pub mod address;
pub mod aside;
pub mod clock;
pub mod config;
pub mod job;
pub mod logging;
pub mod notify;
pub mod paths;
pub mod preflight;
pub mod probe;
pub mod server;
pub mod shim;
pub mod source;
pub mod status;
pub mod storage;
pub mod unusable;
pub mod worker;
