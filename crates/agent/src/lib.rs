//! Being written.

pub mod cli;
pub mod server;
pub mod status;
