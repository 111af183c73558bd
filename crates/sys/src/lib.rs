//! The Linux kernel, safe to use. The only crate of podwright with unsafe code.
//!
//! Modules are named after kernel subjects. Descriptors come out as `OwnedFd` and go in as `AsFd`; most functions return
//! the bare errno, since only the caller knows which field or file it was working for.

pub mod caps;
pub mod cgroup;
pub mod child;
pub mod device;
pub mod durable;
pub mod error;
pub mod fdpass;
pub mod file;
pub mod ids;
pub mod kmsg;
pub mod lease;
pub mod mount;
pub mod netlink;
pub mod netns;
pub mod own;
pub mod path;
pub mod podmount;
pub mod printable;
pub mod process;
pub mod procfs;
pub mod sched;
pub mod seccomp;
pub mod stdio;
pub mod terminal;
pub mod thread;
pub mod timens;
pub mod tree;
pub mod userns;
