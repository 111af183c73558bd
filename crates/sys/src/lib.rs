//! The Linux kernel, safe to use. The only crate of podwright with unsafe code.
//!
//! Modules are named after kernel subjects. Descriptors come out as `OwnedFd` and go in as `AsFd`; most functions return
//! the bare errno, since only the caller knows which field or file it was working for.

pub mod cgroup;
pub mod child;
pub mod durable;
pub mod netns;
pub mod podmount;
