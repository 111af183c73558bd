//! What a worker says to its pod's shim, and how shims come to life.

mod binary;
mod connection;

pub use binary::ShimBinary;
pub use connection::{Connection, ConnectionError, Line, TooLong};
