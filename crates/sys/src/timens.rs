//! Time namespaces: time_namespaces(7).

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};

use nix::sched::{CloneFlags, setns, unshare};

/// linux/sched.h; nix does not have it, since for clone(2) the bit means something else.
pub const CLONE_NEWTIME: CloneFlags = CloneFlags::from_bits_retain(0x80);

/// Makes a time namespace, sets its clocks (lines of "clock seconds nanoseconds", `monotonic` or `boottime`) and enters it.
///
/// unshare(2) alone makes one for later children only, whose clocks can be set as long as there are none. clone3(2) would
/// put the child into it at once, when it is too late to set them.
///
/// # Errors
/// EINVAL on a kernel without time namespaces; ERANGE for a clock that would be negative.
pub fn enter_new(offsets: &str) -> io::Result<()> {
    unshare(CLONE_NEWTIME)?;
    if !offsets.is_empty() {
        OpenOptions::new().write(true).open("/proc/self/timens_offsets")?.write_all(offsets.as_bytes())?;
    }
    Ok(setns(File::open("/proc/self/ns/time_for_children")?, CLONE_NEWTIME)?)
}
