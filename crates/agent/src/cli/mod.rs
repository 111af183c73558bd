//! The command line `podwright`.

pub mod client;
