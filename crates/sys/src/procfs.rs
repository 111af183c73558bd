//! procfs, and nothing that only answers under its name.
//!
//! Writes to procfs set labels, limits and kernel parameters. One that lands in another file (a mount of somebody else's on
//! top, a symlink) either does nothing, so that a container runs without its confinement, or does something else, such as
//! writing to `/proc/sysrq-trigger` (CVE-2019-16884, CVE-2025-52881). So the root is looked at, and what is below it is opened
//! without crossing into any mount.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, open, openat2};
use nix::mount::MsFlags;
use nix::sys::stat::{Mode, fstat};
use nix::sys::statfs::{PROC_SUPER_MAGIC, fstatfs};

use crate::mount;

/// Number of the root's inode (linux/proc_ns.h, `PROC_ROOT_INO`).
const ROOT_INODE: u64 = 1;

/// A proc file system.
#[derive(Debug)]
pub struct Proc {
    root: OwnedFd,
}

impl Proc {
    /// The one at `/proc`; `None` when something else is there.
    ///
    /// # Errors
    /// open(2)'s.
    pub fn open() -> nix::Result<Option<Self>> {
        Self::at(Path::new("/proc"))
    }

    fn at(path: &Path) -> nix::Result<Option<Self>> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let root = match open(path, flags, Mode::empty()) {
            Err(Errno::ENOTDIR | Errno::ELOOP) => return Ok(None),
            other => other?,
        };
        Ok(is_proc_root(&root)?.then_some(Self { root }))
    }

    /// One that is mounted nowhere, so that nobody can have mounted anything on it (fsopen(2), Linux 5.2).
    ///
    /// # Errors
    /// fsmount(2)'s; EPERM where this process is not shown all of procfs.
    pub fn private() -> nix::Result<Self> {
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
        mount::new_fs("proc", Path::new("proc"), flags, "").map(|root| Self { root })
    }

    /// Opens a file by its path below the root, such as `self/oom_score_adj`. Mounts on the way are not crossed: where there is
    /// one, a private procfs is asked instead. Magic links are not followed.
    ///
    /// # Errors
    /// openat2(2)'s; those of [`Proc::private`].
    pub fn file(&self, path: &Path, flags: OFlag) -> nix::Result<OwnedFd> {
        match self.open_below(path, flags) {
            Err(Errno::EXDEV) => Self::private()?.open_below(path, flags),
            other => other,
        }
    }

    fn open_below(&self, path: &Path, flags: OFlag) -> nix::Result<OwnedFd> {
        let resolve = ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_XDEV | ResolveFlag::RESOLVE_NO_MAGICLINKS;
        openat2(&self.root, path, OpenHow::new().flags(flags | OFlag::O_CLOEXEC).resolve(resolve))
    }
}

/// Whether this is somewhere in a proc file system.
///
/// # Errors
/// fstatfs(2)'s.
pub fn is_proc(place: impl AsFd) -> nix::Result<bool> {
    Ok(fstatfs(place)?.filesystem_type() == PROC_SUPER_MAGIC)
}

/// Whether this is the root of a proc file system.
///
/// # Errors
/// fstatfs(2)'s and fstat(2)'s.
pub fn is_proc_root(place: impl AsFd) -> nix::Result<bool> {
    let place = place.as_fd();
    Ok(is_proc(place)? && fstat(place)?.st_ino == ROOT_INODE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, File};
    use std::io::Read as _;

    /// Runs a test on a thread with a mount namespace of its own.
    fn in_private_mounts(test: impl FnOnce() + Send) {
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                nix::sched::unshare(nix::sched::CloneFlags::CLONE_FS | nix::sched::CloneFlags::CLONE_NEWNS).unwrap();
                crate::podmount::follow_host().unwrap();
                test();
            });
            thread.join().unwrap();
        });
    }

    fn text(proc: &Proc, path: &str) -> nix::Result<String> {
        let mut text = String::new();
        File::from(proc.file(Path::new(path), OFlag::O_RDONLY)?).read_to_string(&mut text).unwrap();
        Ok(text)
    }

    #[test]
    fn proc_is_recognised() {
        let proc = Proc::open().unwrap().expect("the host has a /proc");
        assert!(text(&proc, "self/status").unwrap().contains(&format!("Pid:\t{}", std::process::id())));
        assert_eq!(text(&proc, "../etc/passwd").unwrap_err(), Errno::EXDEV);
        assert_eq!(proc.file(Path::new("self/exe"), OFlag::O_RDONLY).unwrap_err(), Errno::ELOOP);
        for other in ["/tmp", "/proc/self", "/proc/version"] {
            assert!(Proc::at(Path::new(other)).unwrap().is_none(), "{other}");
        }
    }

    /// CVE-2025-52881: what is written to is not what is mounted there.
    #[test]
    fn mounts_in_proc_are_looked_under() {
        in_private_mounts(|| {
            let dir = tempfile::tempdir().unwrap();
            fs::write(dir.path().join("fake"), "fake").unwrap();
            let mount = |source: &Path, target: &str| {
                nix::mount::mount(Some(source), target, None::<&str>, MsFlags::MS_BIND, None::<&str>).unwrap();
            };
            mount(&dir.path().join("fake"), "/proc/sys/kernel/ostype");
            mount(Path::new("/proc/version"), "/proc/sys/kernel/hostname");
            let proc = Proc::open().unwrap().unwrap();
            assert_eq!(fs::read_to_string("/proc/sys/kernel/ostype").unwrap(), "fake", "a naive reader is fooled");
            assert_eq!(text(&proc, "sys/kernel/ostype").unwrap(), "Linux\n");
            assert!(!text(&proc, "sys/kernel/hostname").unwrap().contains("Linux version"));
            nix::mount::mount(Some("tmpfs"), "/proc", Some("tmpfs"), MsFlags::empty(), None::<&str>).unwrap();
            assert!(Proc::open().unwrap().is_none());
        });
    }
}
