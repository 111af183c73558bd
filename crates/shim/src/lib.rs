//! The shim's decisions ([`machine`]), which are pure.
//!
//! The shim itself is the binary `podwright-shim`: one thread, one poll loop, which does what the machine says.

pub mod machine;
