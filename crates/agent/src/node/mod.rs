//! The hands of the pod controller: what makes sandboxes, volumes and instances, asks shims, and tries probes.
//!
//! Nothing here decides what is to run.

pub mod files;
pub mod ledger;
pub mod leftovers;
pub mod probes;
pub mod records;
pub mod sandbox;
pub mod sandbox_file;
pub mod setup;
pub mod shim;
pub mod start;
pub mod strays;
pub mod volumes;
