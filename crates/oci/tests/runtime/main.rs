//! The real binary on a busybox root file system, as root, with the host's kernel.

mod cgroups;
mod files;
mod harness;
mod lifecycle;
mod namespaces;
mod privileges;
mod terminal;
