//! Ids of the calling thread. A C library changes them for all threads of a process, by a signal to each: one that waits under a
//! seccomp filter ([`crate::seccomp::Aside`]) must not be disturbed. Elsewhere there is one thread only.

use nix::errno::Errno;

/// Sets the supplementary groups (setgroups(2)).
///
/// # Errors
/// EPERM without CAP_SETGID, or where a user namespace forbids it; EINVAL for an id that has no mapping.
pub fn set_groups(groups: &[u32]) -> nix::Result<()> {
    // SAFETY: the kernel reads `len` ids of 32 bits from the pointer, which are the slice's, and writes nothing.
    Errno::result(unsafe { libc::syscall(libc::SYS_setgroups, groups.len(), groups.as_ptr()) }).map(drop)
}

/// Sets the real, the effective and the saved group (setresgid(2)).
///
/// # Errors
/// EPERM without CAP_SETGID; EINVAL for an id that has no mapping.
pub fn set_group(gid: u32) -> nix::Result<()> {
    // SAFETY: the call takes integers and touches no memory.
    Errno::result(unsafe { libc::syscall(libc::SYS_setresgid, gid, gid, gid) }).map(drop)
}

/// Sets the real, the effective and the saved user (setresuid(2)).
///
/// # Errors
/// EPERM without CAP_SETUID; EINVAL for an id that has no mapping.
pub fn set_user(uid: u32) -> nix::Result<()> {
    // SAFETY: the call takes integers and touches no memory.
    Errno::result(unsafe { libc::syscall(libc::SYS_setresuid, uid, uid, uid) }).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::unistd::{Uid, getegid, geteuid, getgroups};

    #[test]
    fn only_the_calling_thread_changes() {
        if !Uid::effective().is_root() {
            return assert_eq!(set_user(4711), Err(Errno::EPERM));
        }
        let changed = std::thread::spawn(|| {
            set_groups(&[7, 8]).unwrap();
            set_group(4712).unwrap();
            set_user(4711).unwrap();
            let groups: Vec<u32> = getgroups().unwrap().into_iter().map(|gid| gid.as_raw()).collect();
            (geteuid().as_raw(), getegid().as_raw(), groups)
        });
        assert_eq!(changed.join().unwrap(), (4711, 4712, vec![7, 8]));
        assert!(geteuid().is_root());
    }
}
