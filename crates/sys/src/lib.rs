//! Being written.
pub mod durable;
