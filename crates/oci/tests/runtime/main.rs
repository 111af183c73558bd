//! The real binary on a busybox root file system, as root, with the host's kernel.

mod cgroups;
mod files;
mod harness;
mod lifecycle;
mod mounts;
mod namespaces;
mod privileges;
mod seccomp;
mod shares;
mod terminal;
mod user;
