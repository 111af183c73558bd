//! Keeps the runtime's own binary out of a container's reach (CVE-2019-5736).
//!
//! A container can make the kernel execute `/proc/self/exe` again (as its program, or as an interpreter that its program names), or
//! look at `/proc/PID/exe` of a runtime process that has entered its PID namespace. Either way it gets at the runtime's
//! binary through the mount it was executed from, and could open it for writing as soon as nobody executes it.
//!
//! So a runtime that makes processes in containers first executes itself again from a detached, read-only copy of that mount
//! (open_tree(2), mount_setattr(2)). Opening the file for writing through such a mount fails with EROFS. Nobody can make it
//! writable again: it is in no mount namespace, and once its descriptor is closed by execve(2) nothing refers to it but the
//! process. That costs two system calls and an execve(2), against a copy of the whole binary for a sealed memfd; a caller that
//! executes the runtime from a read-only mount or a sealed memfd saves even that. Where the mount cannot be copied, since it belongs
//! to another mount namespace, a sealed memfd is made. In addition the runtime is not dumpable, so
//! that only a holder of CAP_SYS_PTRACE can look into it.

use std::ffi::{CString, OsString};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt as _;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, FcntlArg, OFlag, SealFlag, fcntl, open};
use nix::mount::MsFlags;
use nix::sys::prctl;
use nix::sys::stat::Mode;
use nix::sys::statvfs::{FsFlags, statvfs};
use nix::unistd::execveat;
use podwright_sys::child::sealed_memfd;
use podwright_sys::mount::{Change, change, clone_tree};

use crate::error::{Result, kernel};

const SELF: &str = "/proc/self/exe";

/// In the environment of the second execution, so that a kernel on which it does not help is told from one that was not asked.
const MARK: &str = "PODWRIGHT_OCI_READ_ONLY";

/// Returns once the process runs from a binary that it cannot reach for writing; before that, it starts the process anew.
pub(crate) fn own_binary() -> Result<()> {
    prctl::set_dumpable(false).map_err(kernel("prctl PR_SET_DUMPABLE"))?;
    if is_safe() {
        return Ok(());
    }
    let again = if std::env::var_os(MARK).is_some() { Err(Errno::EROFS) } else { execute_again() };
    again.map_err(kernel("execute this program again from a read-only mount or a sealed memfd"))
}

fn is_safe() -> bool {
    if statvfs(SELF).is_ok_and(|found| found.flags().contains(FsFlags::ST_RDONLY)) {
        return true;
    }
    let seals = open(SELF, OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())
        .and_then(|file| fcntl(&file, FcntlArg::F_GET_SEALS))
        .map(SealFlag::from_bits_truncate);
    seals.is_ok_and(|seals| seals.contains(SealFlag::F_SEAL_WRITE))
}

fn execute_again() -> nix::Result<()> {
    let program = read_only_mount().or_else(|_| sealed_copy())?;
    let args = strings(std::env::args_os())?;
    let mark = (OsString::from(MARK), OsString::from("1"));
    let env = strings(std::env::vars_os().chain([mark]).map(|(mut key, value)| {
        key.push("=");
        key.push(value);
        key
    }))?;
    execveat(&program, c"", &args, &env, AtFlags::AT_EMPTY_PATH).map(|never| match never {})
}

fn read_only_mount() -> nix::Result<OwnedFd> {
    let tree = clone_tree(AT_FDCWD, Path::new(SELF), false)?;
    change(&tree, false, Change::flags(MsFlags::MS_RDONLY, MsFlags::empty()))?;
    Ok(tree)
}

fn sealed_copy() -> nix::Result<OwnedFd> {
    let copy = std::fs::read(SELF).and_then(|bytes| sealed_memfd("podwright-oci", &bytes));
    copy.map_err(|err| err.raw_os_error().map_or(Errno::EIO, Errno::from_raw))
}

fn strings(list: impl Iterator<Item = OsString>) -> nix::Result<Vec<CString>> {
    list.map(|text| CString::new(text.into_vec()).map_err(|_| Errno::EINVAL)).collect()
}
