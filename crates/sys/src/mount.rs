//! Mounts: the descriptor-based calls of Linux 5.2 and 5.12 next to mount(2).
//!
//! Targets are descriptors throughout: a path that was checked and a path that is mounted on are then the same thing.

use std::ffi::{CStr, CString};
use std::mem::size_of;
use std::os::fd::{AsFd, AsRawFd as _, FromRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use nix::NixPath as _;
use nix::errno::Errno;
use nix::mount::{MsFlags, mount};

pub use nix::mount::MntFlags;

/// A change of mount attributes (mount_setattr(2)), in the words of mount(2)'s flags.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Change {
    set: u64,
    clear: u64,
    propagation: u64,
}

/// The flags of mount(2) that belong to a mount, with mount_setattr(2)'s names for them.
const ATTRIBUTES: [(MsFlags, u64); 8] = [
    (MsFlags::MS_RDONLY, libc::MOUNT_ATTR_RDONLY),
    (MsFlags::MS_NOSUID, libc::MOUNT_ATTR_NOSUID),
    (MsFlags::MS_NODEV, libc::MOUNT_ATTR_NODEV),
    (MsFlags::MS_NOEXEC, libc::MOUNT_ATTR_NOEXEC),
    (MsFlags::MS_NODIRATIME, libc::MOUNT_ATTR_NODIRATIME),
    (MsFlags::MS_NOATIME, libc::MOUNT_ATTR_NOATIME),
    (MsFlags::MS_STRICTATIME, libc::MOUNT_ATTR_STRICTATIME),
    (MsFlags::from_bits_retain(1 << 8), libc::MOUNT_ATTR_NOSYMFOLLOW),
];

impl Change {
    /// Turns flags of mount(2) on and others off. The three ways of keeping access times exclude each other: naming one
    /// of them replaces the others. Flags that are not attributes of a mount are left out.
    #[must_use]
    pub fn flags(set: MsFlags, clear: MsFlags) -> Self {
        let bits = |flags: MsFlags| {
            ATTRIBUTES.iter().filter(|(flag, _)| flags.contains(*flag)).fold(0, |bits, (_, attr)| bits | attr)
        };
        let mut change = Self { set: bits(set), clear: bits(clear) & !libc::MOUNT_ATTR__ATIME, propagation: 0 };
        let atime = MsFlags::MS_NOATIME | MsFlags::MS_STRICTATIME | MsFlags::MS_RELATIME;
        if (set | clear).intersects(atime) {
            change.clear |= libc::MOUNT_ATTR__ATIME;
        }
        change
    }

    /// The same with a propagation type: one of `MS_SHARED`, `MS_SLAVE`, `MS_PRIVATE`, `MS_UNBINDABLE`.
    #[must_use]
    pub fn propagation(mut self, kind: MsFlags) -> Self {
        self.propagation = kind.bits();
        self
    }

    /// Whether it changes nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// A detached copy of the mount at `source` (open_tree(2) with `OPEN_TREE_CLONE`), `recursive` with those below it. An empty
/// path means the descriptor itself.
///
/// # Errors
/// open_tree(2)'s.
pub fn clone_tree(dir: impl AsFd, source: &Path, recursive: bool) -> nix::Result<OwnedFd> {
    let mut flags = libc::OPEN_TREE_CLONE | libc::OPEN_TREE_CLOEXEC | libc::AT_EMPTY_PATH.cast_unsigned();
    if recursive {
        flags |= libc::AT_RECURSIVE.cast_unsigned();
    }
    let call = |path: &CStr| {
        // SAFETY: the path is a terminated string that outlives the call; the rest are integers.
        unsafe { libc::syscall(libc::SYS_open_tree, dir.as_fd().as_raw_fd(), path.as_ptr(), flags) }
    };
    let fd = Errno::result(source.with_nix_path(call)?)?;
    // SAFETY: a descriptor the kernel has just made for this call.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as libc::c_int) })
}

/// Attaches a detached tree at the place that `target` stands for (move_mount(2)).
///
/// # Errors
/// move_mount(2)'s.
pub fn attach(tree: impl AsFd, target: impl AsFd) -> nix::Result<()> {
    let flags = libc::MOVE_MOUNT_F_EMPTY_PATH | libc::MOVE_MOUNT_T_EMPTY_PATH;
    let (from, to) = (tree.as_fd().as_raw_fd(), target.as_fd().as_raw_fd());
    // SAFETY: both paths are the static empty string; the rest are integers.
    let result = unsafe { libc::syscall(libc::SYS_move_mount, from, c"".as_ptr(), to, c"".as_ptr(), flags) };
    Errno::result(result).map(drop)
}

/// Changes the mount that `at` stands for (its root must be `at`), `recursive` with those below it (mount_setattr(2), Linux 5.12).
///
/// # Errors
/// mount_setattr(2)'s.
pub fn change(at: impl AsFd, recursive: bool, change: Change) -> nix::Result<()> {
    let attr = libc::mount_attr {
        attr_set: change.set,
        attr_clr: change.clear,
        propagation: change.propagation,
        userns_fd: 0,
    };
    set_attributes(at, recursive, &attr)
}

fn set_attributes(at: impl AsFd, recursive: bool, attr: &libc::mount_attr) -> nix::Result<()> {
    let flags = libc::AT_EMPTY_PATH | if recursive { libc::AT_RECURSIVE } else { 0 };
    let (fd, size) = (at.as_fd().as_raw_fd(), size_of::<libc::mount_attr>());
    let attr = std::ptr::from_ref(attr);
    // SAFETY: the path is the static empty string, `attr` has the size given and outlives the call.
    let result = unsafe { libc::syscall(libc::SYS_mount_setattr, fd, c"".as_ptr(), flags, attr, size) };
    Errno::result(result).map(drop)
}

/// Shows the files of a detached mount with other owners: those that `userns` maps from its inside to its outside, `recursive`
/// with the mounts below (`MOUNT_ATTR_IDMAP`, Linux 5.12).
///
/// # Errors
/// EPERM without CAP_SYS_ADMIN over the file system; EINVAL for a file system that cannot do it, or is mapped already.
pub fn map_ids(tree: impl AsFd, recursive: bool, userns: impl AsFd) -> nix::Result<()> {
    let fd = userns.as_fd().as_raw_fd();
    let attr = libc::mount_attr {
        attr_set: libc::MOUNT_ATTR_IDMAP,
        attr_clr: 0,
        propagation: 0,
        userns_fd: u64::try_from(fd).map_err(|_| Errno::EBADF)?,
    };
    set_attributes(tree, recursive, &attr)
}

/// Mounts a new file system at the place that `target` stands for.
///
/// This is one mount(2) on `/proc/self/fd/N`, against five calls of the newer interface; it needs the host's `/proc`.
///
/// # Errors
/// mount(2)'s.
pub fn mount_new(target: impl AsFd, fstype: &str, source: &Path, flags: MsFlags, data: &str) -> nix::Result<()> {
    let path = proc_path(target);
    mount(Some(source), path.as_str(), Some(fstype), flags, Some(data).filter(|data| !data.is_empty()))
}

/// Changes the file system that is mounted at the place that `target` stands for; it has exactly these flags then.
///
/// # Errors
/// mount(2)'s.
pub fn remount(target: impl AsFd, flags: MsFlags, data: &str) -> nix::Result<()> {
    let path = proc_path(target);
    let data = Some(data).filter(|data| !data.is_empty());
    mount(None::<&str>, path.as_str(), None::<&str>, MsFlags::MS_REMOUNT | flags, data)
}

/// Binds what `source` stands for onto `target`, without what is mounted below it: one mount(2).
///
/// # Errors
/// mount(2)'s.
pub fn bind(source: impl AsFd, target: impl AsFd) -> nix::Result<()> {
    let (source, target) = (proc_path(source), proc_path(target));
    mount(Some(source.as_str()), target.as_str(), None::<&str>, MsFlags::MS_BIND, None::<&str>)
}

/// Makes a detached mount of a new file system (fsopen(2), fsmount(2)), for [`attach`] and for a later [`change`]. `data` is a
/// comma-separated list, as mount(2) takes it, without a value that [`is_too_long`].
///
/// # Errors
/// fsopen(2)'s, fsconfig(2)'s and fsmount(2)'s.
pub fn new_fs(fstype: &str, source: &Path, flags: MsFlags, data: &str) -> nix::Result<OwnedFd> {
    let call = |name: &CStr| {
        // SAFETY: the name is a terminated string that outlives the call.
        unsafe { libc::syscall(libc::SYS_fsopen, name.as_ptr(), libc::FSOPEN_CLOEXEC) }
    };
    let fd = Errno::result(fstype.with_nix_path(call)?)?;
    // SAFETY: a descriptor the kernel has just made for this call.
    let context = unsafe { OwnedFd::from_raw_fd(fd as libc::c_int) };
    configure(&context, libc::FSCONFIG_SET_STRING, c"source", Some(source))?;
    for (flag, name) in SUPERBLOCK_FLAGS {
        if flags.contains(flag) {
            configure(&context, libc::FSCONFIG_SET_FLAG, name, None)?;
        }
    }
    for (key, value) in options(data) {
        let key = CString::new(key).map_err(|_| Errno::EINVAL)?;
        let command = if value.is_some() { libc::FSCONFIG_SET_STRING } else { libc::FSCONFIG_SET_FLAG };
        configure(&context, command, &key, value.map(Path::new))?;
    }
    let null = std::ptr::null::<libc::c_char>();
    let create = libc::FSCONFIG_CMD_CREATE;
    // SAFETY: key and value are null, as FSCONFIG_CMD_CREATE wants them.
    let result = unsafe { libc::syscall(libc::SYS_fsconfig, context.as_raw_fd(), create, null, null, 0) };
    Errno::result(result)?;
    let attributes = Change::flags(flags, MsFlags::empty()).set;
    // SAFETY: takes integers only.
    let result = unsafe { libc::syscall(libc::SYS_fsmount, context.as_raw_fd(), libc::FSMOUNT_CLOEXEC, attributes) };
    let fd = Errno::result(result)?;
    // SAFETY: a descriptor the kernel has just made for this call.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as libc::c_int) })
}

/// Whether a value in the comma-separated list is longer than fsconfig(2) takes it; mount(2) takes a page in all.
#[must_use]
pub fn is_too_long(data: &str) -> bool {
    const LIMIT: usize = 255;
    options(data).into_iter().any(|(_, value)| value.is_some_and(|value| value.len() > LIMIT))
}

/// The options of a comma-separated list, as keys and values. A value in double quotes may hold commas.
fn options(data: &str) -> Vec<(&str, Option<&str>)> {
    let mut quoted = false;
    let parts = data.split(|c| {
        quoted ^= c == '"';
        c == ',' && !quoted
    });
    parts
        .filter(|option| !option.is_empty())
        .map(|option| match option.split_once('=') {
            None => (option, None),
            Some((key, value)) => (key, Some(value.trim_matches('"'))),
        })
        .collect()
}

/// The flags of mount(2) that belong to a file system and not to a mount.
const SUPERBLOCK_FLAGS: [(MsFlags, &CStr); 4] = [
    (MsFlags::MS_SYNCHRONOUS, c"sync"),
    (MsFlags::MS_DIRSYNC, c"dirsync"),
    (MsFlags::MS_MANDLOCK, c"mand"),
    (MsFlags::from_bits_retain(1 << 25), c"lazytime"),
];

fn configure(context: &OwnedFd, command: libc::fsconfig_command, key: &CStr, value: Option<&Path>) -> nix::Result<()> {
    let value = value.map(|value| CString::new(value.as_os_str().as_bytes()).map_err(|_| Errno::EINVAL)).transpose()?;
    let pointer = value.as_ref().map_or(std::ptr::null(), |value| value.as_ptr());
    // SAFETY: key and value are terminated strings (or null for a flag) that outlive the call.
    let result = unsafe { libc::syscall(libc::SYS_fsconfig, context.as_raw_fd(), command, key.as_ptr(), pointer, 0) };
    Errno::result(result).map(drop)
}

/// The name of a descriptor in `/proc`.
pub fn proc_path(fd: impl AsFd) -> String {
    format!("/proc/self/fd/{}", fd.as_fd().as_raw_fd())
}

/// Sets the propagation of everything below `/`.
///
/// # Errors
/// mount(2)'s.
pub fn set_propagation_of_all(kind: MsFlags) -> nix::Result<()> {
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | kind, None::<&str>)
}

/// Sets the propagation of `/`.
///
/// # Errors
/// mount(2)'s.
pub fn set_propagation(kind: MsFlags) -> nix::Result<()> {
    mount(None::<&str>, "/", None::<&str>, kind, None::<&str>)
}

/// Makes the working directory the root of the mount namespace and lets go of the old root (pivot_root(2), notes on `.`). No mount of
/// the old tree may be shared with another namespace ([`set_propagation_of_all`]): their removal would travel there.
///
/// # Errors
/// pivot_root(2)'s and umount2(2)'s.
pub fn pivot_root_here() -> nix::Result<()> {
    nix::unistd::pivot_root(".", ".")?;
    // The old root now lies on top of the new one.
    nix::mount::umount2(".", MntFlags::MNT_DETACH)?;
    nix::unistd::chdir("/")
}

/// Moves the mount at the working directory over the root of the mount namespace and makes it the caller's root: what remains
/// where pivot_root(2) is refused, on the initial ramfs. The old mounts stay below the new root, out of sight. Of them the
/// kernel's own views go first: with a proc or sysfs in reach, a process that gets out of a chroot(2) could do most harm.
///
/// # Errors
/// umount2(2)'s, mount(2)'s and chroot(2)'s.
pub fn move_root_here() -> nix::Result<()> {
    let root = nix::unistd::getcwd()?;
    let table = std::fs::read_to_string("/proc/self/mountinfo").map_err(|_| Errno::ENOENT)?;
    // The newest first, so that a mount goes before the one it lies in.
    for point in kernel_views(&table).into_iter().rev().filter(|point| !point.starts_with(&root)) {
        match nix::mount::umount2(&point, MntFlags::MNT_DETACH) {
            Ok(()) | Err(Errno::ENOENT) => {}
            // Locked by a user namespace: covered instead.
            Err(Errno::EPERM | Errno::EINVAL) => {
                mount(Some("tmpfs"), &point, Some("tmpfs"), MsFlags::MS_RDONLY, Some("size=4k,nr_inodes=1"))?;
            }
            Err(errno) => return Err(errno),
        }
    }
    mount(Some("."), "/", None::<&str>, MsFlags::MS_MOVE, None::<&str>)?;
    nix::unistd::chroot(".")?;
    nix::unistd::chdir("/")
}

/// Where a proc or sysfs is mounted, from proc_pid_mountinfo(5). Names with blanks, which the kernel writes as `\040`, are left
/// as they are: these file systems are in places with plain names.
fn kernel_views(table: &str) -> Vec<PathBuf> {
    let view = |line: &str| {
        let (left, right) = line.split_once(" - ")?;
        let fstype = right.split(' ').next()?;
        matches!(fstype, "proc" | "sysfs").then(|| left.split(' ').nth(4).map(PathBuf::from))?
    };
    table.lines().filter_map(view).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quoted_values_hold_commas() {
        let found = options("size=1k,,noswap,context=\"u:r:t:s0:c1,c2\",mode=1");
        let expected =
            [("size", Some("1k")), ("noswap", None), ("context", Some("u:r:t:s0:c1,c2")), ("mode", Some("1"))];
        assert_eq!(found, expected);
    }

    #[test]
    fn the_kernels_views_are_found() {
        let table = "22 1 0:20 / /proc rw,nosuid shared:5 - proc proc rw\n23 1 0:21 / /sys rw - sysfs sysfs rw\n\
                     24 1 8:1 / /a\\040- rw - ext4 proc rw\n25 24 0:20 / /srv/proc rw - proc none rw\n";
        assert_eq!(kernel_views(table), [Path::new("/proc"), Path::new("/sys"), Path::new("/srv/proc")]);
    }

    #[test]
    fn access_time_modes_replace_each_other() {
        let change = Change::flags(MsFlags::MS_NOATIME | MsFlags::MS_RDONLY, MsFlags::MS_NOEXEC);
        assert_eq!(change.set, libc::MOUNT_ATTR_NOATIME | libc::MOUNT_ATTR_RDONLY);
        assert_eq!(change.clear, libc::MOUNT_ATTR_NOEXEC | libc::MOUNT_ATTR__ATIME);
        assert_eq!(Change::flags(MsFlags::MS_RELATIME, MsFlags::empty()).clear, libc::MOUNT_ATTR__ATIME);
        assert!(Change::flags(MsFlags::MS_SYNCHRONOUS, MsFlags::empty()).is_empty());
        assert!(!Change::default().propagation(MsFlags::MS_PRIVATE).is_empty());
    }
}
