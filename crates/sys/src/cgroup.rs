//! Control groups, version 2 only: cgroups(7) and the kernel's `admin-guide/cgroup-v2.rst`.
//!
//! A [`Cgroup`] is a directory name; it need not exist. Files are written with one write(2) each, as the kernel wants
//! it. Killing goes through `cgroup.kill` (Linux 5.14), waiting through poll(2) on `cgroup.events`.

mod error;
mod group;
mod limit;
mod mount;
mod stat;
#[cfg(test)]
mod tests;
mod text;

pub use error::{CgroupError, REMOVE_TIMEOUT};
pub use group::Cgroup;
pub use limit::{Limit, cpu_weight, io_weight};
pub use mount::{is_cgroup2, limits_hold_in_namespaces, v2_mount};
pub use stat::{Keyed, Pressure};
