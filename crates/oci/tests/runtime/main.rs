//! The real binary on a busybox root file system, as root, with the host's kernel.

mod cgroups;
mod commands;
mod faults;
mod files;
mod harness;
mod hooks;
mod hostile;
mod lifecycle;
mod malformed;
mod mounts;
mod namespaces;
mod privileges;
mod resources;
mod seccomp;
mod shares;
mod terminal;
mod user;
