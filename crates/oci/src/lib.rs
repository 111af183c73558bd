//! podwright-oci: an OCI runtime (runtime-spec 1.3) for Linux with cgroup v2.
//!
//! [`plan`] turns a configuration into a list of steps, without touching anything. `apply` does them in the container's first
//! process. [`lifecycle`] has the commands, [`state`] what is kept between them.

mod apply;
pub mod cli;
mod clock;
pub mod config;
mod error;
mod example;
mod features;
mod hooks;
pub mod lifecycle;
mod log;
pub mod plan;
mod protect;
pub mod state;
mod status;
mod sync;
mod systemd;

pub use error::Error;
pub use systemd::BusError;

/// The version of runtime-spec that this runtime follows.
pub const OCI_VERSION: &str = "1.3.0";
