//! Where cgroup v2 is mounted.

use std::fs;
use std::path::{Path, PathBuf};

use nix::sys::statfs::{CGROUP2_SUPER_MAGIC, statfs};

use super::error::{CgroupError, Result, io_error};

/// Where the cgroup v2 hierarchy is mounted, for this process.
///
/// # Errors
/// [`CgroupError::NoV2Mount`] where there is none.
pub fn v2_mount() -> Result<PathBuf> {
    // The two usual places cost a system call each; mountinfo grows with every container's mounts.
    for usual in ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"] {
        if is_cgroup2(Path::new(usual)) {
            return Ok(usual.into());
        }
    }
    find_v2_mount(&mountinfo()?).ok_or(CgroupError::NoV2Mount)
}

/// All mounts. Anybody's mount points are among them, and need not be text.
fn mountinfo() -> Result<String> {
    let path = Path::new("/proc/self/mountinfo");
    let text = fs::read(path).map_err(io_error("read", path))?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

/// Whether the kernel keeps a cgroup namespace away from the limits of its own root (the mount option `nsdelegate`, which holds for the whole
/// hierarchy). Else root of a container that may make user namespaces can mount its hierarchy and change them.
///
/// # Errors
/// As reading a file.
pub fn limits_hold_in_namespaces() -> Result<bool> {
    Ok(has_nsdelegate(&mountinfo()?))
}

pub(super) fn has_nsdelegate(mountinfo: &str) -> bool {
    let options = mountinfo.lines().filter_map(|line| line.split_once(" - ")?.1.strip_prefix("cgroup2 "));
    options.filter_map(|rest| rest.rsplit(' ').next()).any(|options| options.split(',').any(|one| one == "nsdelegate"))
}

/// Whether `path` lies in a cgroup v2 file system.
#[must_use]
pub fn is_cgroup2(path: &Path) -> bool {
    statfs(path).is_ok_and(|found| found.filesystem_type() == CGROUP2_SUPER_MAGIC)
}

/// The mount point of the first cgroup2 line of a mountinfo text (proc_pid_mountinfo(5)) that shows the hierarchy's root.
pub(super) fn find_v2_mount(mountinfo: &str) -> Option<PathBuf> {
    let mut partial = None;
    for line in mountinfo.lines() {
        let Some((left, right)) = line.split_once(" - ") else { continue };
        if right.split(' ').next() != Some("cgroup2") {
            continue;
        }
        let mut fields = left.split(' ').skip(3);
        let (Some(root), Some(point)) = (fields.next(), fields.next()) else { continue };
        let point = PathBuf::from(unescape(point));
        if root == "/" {
            return Some(point);
        }
        partial.get_or_insert(point);
    }
    partial
}

/// Undoes mountinfo's octal escapes of blank, tab, newline and backslash.
fn unescape(field: &str) -> String {
    field.replace("\\040", " ").replace("\\011", "\t").replace("\\012", "\n").replace("\\134", "\\")
}
