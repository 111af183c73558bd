//! What a call that waits for its answer is about: read from the caller's memory and descriptors.

use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::{Component, Path, PathBuf};

use podwright_sys::seccomp::{Action, FLAG_SPEC_ALLOW, FLAG_WAIT_KILLABLE_RECV, Notification, Profile, Rule};

use crate::inject::{Call, Kind, Program};

/// Where a call has its file.
#[derive(Debug, Clone, Copy)]
enum Place {
    /// A directory's descriptor and a path, in these arguments.
    At(usize, usize),
    /// A path.
    Path(usize),
    /// A descriptor.
    Fd(usize),
    /// A socket's address.
    Socket(usize),
    /// There is none.
    Nowhere,
}

/// What a call does, where its arguments say so.
#[derive(Debug, Clone, Copy)]
enum What {
    Is(Kind),
    /// It depends on open(2)'s flags in this argument.
    Flags(usize),
    /// On the flags in the structure that this argument points to.
    FlagsIn(usize),
}

type Entry = (&'static str, libc::c_long, What, Place);

/// Every call that may fail.
const CALLS: &[Entry] = &[
    ("openat", libc::SYS_openat, What::Flags(2), Place::At(0, 1)),
    ("openat2", libc::SYS_openat2, What::FlagsIn(2), Place::At(0, 1)),
    ("mkdirat", libc::SYS_mkdirat, What::Is(Kind::Create), Place::At(0, 1)),
    ("mknodat", libc::SYS_mknodat, What::Is(Kind::Create), Place::At(0, 1)),
    ("symlinkat", libc::SYS_symlinkat, What::Is(Kind::Create), Place::At(1, 2)),
    ("linkat", libc::SYS_linkat, What::Is(Kind::Create), Place::At(2, 3)),
    ("bind", libc::SYS_bind, What::Is(Kind::Create), Place::Socket(1)),
    ("write", libc::SYS_write, What::Is(Kind::Write), Place::Fd(0)),
    ("writev", libc::SYS_writev, What::Is(Kind::Write), Place::Fd(0)),
    ("pwrite64", libc::SYS_pwrite64, What::Is(Kind::Write), Place::Fd(0)),
    ("pwritev", libc::SYS_pwritev, What::Is(Kind::Write), Place::Fd(0)),
    ("pwritev2", libc::SYS_pwritev2, What::Is(Kind::Write), Place::Fd(0)),
    ("sendfile", libc::SYS_sendfile, What::Is(Kind::Write), Place::Fd(0)),
    ("copy_file_range", libc::SYS_copy_file_range, What::Is(Kind::Write), Place::Fd(2)),
    ("splice", libc::SYS_splice, What::Is(Kind::Write), Place::Fd(2)),
    ("fallocate", libc::SYS_fallocate, What::Is(Kind::Write), Place::Fd(0)),
    ("fsync", libc::SYS_fsync, What::Is(Kind::Sync), Place::Fd(0)),
    ("fdatasync", libc::SYS_fdatasync, What::Is(Kind::Sync), Place::Fd(0)),
    ("syncfs", libc::SYS_syncfs, What::Is(Kind::Sync), Place::Fd(0)),
    ("renameat", libc::SYS_renameat, What::Is(Kind::Rename), Place::At(2, 3)),
    ("renameat2", libc::SYS_renameat2, What::Is(Kind::Rename), Place::At(2, 3)),
    ("ftruncate", libc::SYS_ftruncate, What::Is(Kind::Truncate), Place::Fd(0)),
    ("truncate", libc::SYS_truncate, What::Is(Kind::Truncate), Place::Path(0)),
    ("unlinkat", libc::SYS_unlinkat, What::Is(Kind::Remove), Place::At(0, 1)),
    ("fchmod", libc::SYS_fchmod, What::Is(Kind::Attribute), Place::Fd(0)),
    ("fchmodat", libc::SYS_fchmodat, What::Is(Kind::Attribute), Place::At(0, 1)),
    ("fchown", libc::SYS_fchown, What::Is(Kind::Attribute), Place::Fd(0)),
    ("fchownat", libc::SYS_fchownat, What::Is(Kind::Attribute), Place::At(0, 1)),
    ("utimensat", libc::SYS_utimensat, What::Is(Kind::Attribute), Place::At(0, 1)),
    ("socket", libc::SYS_socket, What::Is(Kind::Descriptor), Place::Nowhere),
    ("socketpair", libc::SYS_socketpair, What::Is(Kind::Descriptor), Place::Nowhere),
    ("accept4", libc::SYS_accept4, What::Is(Kind::Descriptor), Place::Nowhere),
    ("pipe2", libc::SYS_pipe2, What::Is(Kind::Descriptor), Place::Nowhere),
    ("eventfd2", libc::SYS_eventfd2, What::Is(Kind::Descriptor), Place::Nowhere),
    ("signalfd4", libc::SYS_signalfd4, What::Is(Kind::Descriptor), Place::Nowhere),
    ("memfd_create", libc::SYS_memfd_create, What::Is(Kind::Descriptor), Place::Nowhere),
    ("epoll_create1", libc::SYS_epoll_create1, What::Is(Kind::Descriptor), Place::Nowhere),
    ("pidfd_open", libc::SYS_pidfd_open, What::Is(Kind::Descriptor), Place::Nowhere),
    ("inotify_init1", libc::SYS_inotify_init1, What::Is(Kind::Descriptor), Place::Nowhere),
    ("timerfd_create", libc::SYS_timerfd_create, What::Is(Kind::Descriptor), Place::Nowhere),
    ("dup", libc::SYS_dup, What::Is(Kind::Descriptor), Place::Nowhere),
    ("clone", libc::SYS_clone, What::Is(Kind::Process), Place::Nowhere),
    ("clone3", libc::SYS_clone3, What::Is(Kind::Process), Place::Nowhere),
    ("ppoll", libc::SYS_ppoll, What::Is(Kind::Wait), Place::Nowhere),
];

/// Those of older architectures, which glibc uses where they are.
#[cfg(target_arch = "x86_64")]
const OLD_CALLS: &[Entry] = &[
    ("open", libc::SYS_open, What::Flags(1), Place::Path(0)),
    ("creat", libc::SYS_creat, What::Is(Kind::Create), Place::Path(0)),
    ("mkdir", libc::SYS_mkdir, What::Is(Kind::Create), Place::Path(0)),
    ("mknod", libc::SYS_mknod, What::Is(Kind::Create), Place::Path(0)),
    ("symlink", libc::SYS_symlink, What::Is(Kind::Create), Place::Path(1)),
    ("link", libc::SYS_link, What::Is(Kind::Create), Place::Path(1)),
    ("rename", libc::SYS_rename, What::Is(Kind::Rename), Place::Path(1)),
    ("unlink", libc::SYS_unlink, What::Is(Kind::Remove), Place::Path(0)),
    ("rmdir", libc::SYS_rmdir, What::Is(Kind::Remove), Place::Path(0)),
    ("chmod", libc::SYS_chmod, What::Is(Kind::Attribute), Place::Path(0)),
    ("chown", libc::SYS_chown, What::Is(Kind::Attribute), Place::Path(0)),
    ("accept", libc::SYS_accept, What::Is(Kind::Descriptor), Place::Nowhere),
    ("pipe", libc::SYS_pipe, What::Is(Kind::Descriptor), Place::Nowhere),
    ("fork", libc::SYS_fork, What::Is(Kind::Process), Place::Nowhere),
    ("vfork", libc::SYS_vfork, What::Is(Kind::Process), Place::Nowhere),
    ("poll", libc::SYS_poll, What::Is(Kind::Wait), Place::Nowhere),
];
#[cfg(not(target_arch = "x86_64"))]
const OLD_CALLS: &[Entry] = &[];

/// Longest path that is read.
const MAX_PATH: usize = 4096;

/// A filter that asks about each of these calls, and about nothing else.
pub fn profile() -> Profile {
    let names = CALLS.iter().chain(OLD_CALLS).map(|(name, ..)| (*name).to_owned()).collect();
    let rule = Rule { names, action: Action::Notify, compare: Vec::new() };
    // Without the second flag a call that waits would be interrupted by the end of any child.
    let flags = FLAG_SPEC_ALLOW | FLAG_WAIT_KILLABLE_RECV;
    Profile { default: Action::Allow, architectures: Vec::new(), flags, rules: vec![rule] }
}

/// Who and what is watched.
#[derive(Debug, Clone)]
pub struct Scope {
    /// The directory of the programs.
    pub bin: PathBuf,
    /// The directories for state, log and run.
    pub directories: Vec<PathBuf>,
}

impl Scope {
    /// The program that a thread runs; `None`: a container's, or one that does not matter.
    pub fn program(&self, tid: i32) -> Option<Program> {
        let exe = fs::read_link(format!("/proc/{tid}/exe")).ok()?;
        // The shim runs from a sealed memory file.
        if exe.to_string_lossy().starts_with("/memfd:podwright-shim") {
            return Some(Program::Shim);
        }
        match exe.strip_prefix(&self.bin).ok()?.to_str()? {
            "podwrightd" => Some(Program::Agent),
            "podwright-oci" => Some(Program::Runtime),
            _ => None,
        }
    }

    /// What a call is about; `None` where the caller is gone or cannot be read, or the call is none of [`profile`]'s.
    pub fn call(&self, program: Program, notification: &Notification) -> Option<Call> {
        let wanted = libc::c_long::from(notification.number);
        let (name, _, what, place) = CALLS.iter().chain(OLD_CALLS).find(|(_, number, ..)| *number == wanted)?;
        let (tid, args) = (notification.tid, &notification.args);
        let argument = |index: usize| args.get(index).copied().unwrap_or_default();
        let kind = match what {
            What::Is(kind) => *kind,
            What::Flags(index) => opens(argument(*index)),
            What::FlagsIn(index) => opens(u64::from_ne_bytes(memory(tid, argument(*index), 8)?.try_into().ok()?)),
        };
        let path = match place {
            Place::At(directory, path) => at(tid, argument(*directory), &text(tid, argument(*path))?),
            Place::Path(path) => at(tid, libc::AT_FDCWD as u64, &text(tid, argument(*path))?),
            Place::Fd(fd) => file(tid, argument(*fd)),
            Place::Socket(address) => socket(tid, argument(*address)),
            Place::Nowhere => None,
        };
        let inside = path.as_ref().is_some_and(|path| self.directories.iter().any(|root| path.starts_with(root)));
        Some(Call { program, name, kind, path, inside })
    }

    /// The first bytes of what a write(2) writes.
    pub fn written(&self, notification: &Notification) -> Option<String> {
        let [_, address, length, ..] = notification.args;
        let length = usize::try_from(length).ok()?.min(MAX_PATH);
        Some(String::from_utf8_lossy(&memory(notification.tid, address, length)?).into_owned())
    }
}

fn opens(flags: u64) -> Kind {
    let has = |flag: i32| flags & u64::from(flag.cast_unsigned()) != 0;
    if has(libc::O_PATH) {
        return Kind::OpenToRead;
    }
    match (has(libc::O_CREAT), has(libc::O_WRONLY | libc::O_RDWR | libc::O_TRUNC)) {
        (true, _) => Kind::Create,
        (false, true) => Kind::OpenToWrite,
        (false, false) => Kind::OpenToRead,
    }
}

/// As many bytes as can be read.
fn memory(tid: i32, address: u64, length: usize) -> Option<Vec<u8>> {
    let mut bytes = vec![0; length];
    let count = File::open(format!("/proc/{tid}/mem")).ok()?.read_at(&mut bytes, address).ok()?;
    bytes.truncate(count);
    Some(bytes)
}

/// The text up to a zero. It is read piece by piece, since the page behind it may not be there.
fn text(tid: i32, address: u64) -> Option<PathBuf> {
    let file = File::open(format!("/proc/{tid}/mem")).ok()?;
    let mut bytes = Vec::new();
    while bytes.len() < MAX_PATH {
        let mut piece = [0; 256];
        let at = address.checked_add(bytes.len() as u64)?;
        let length = (256 - at % 256) as usize;
        let count = file.read_at(piece.get_mut(..length)?, at).ok().filter(|count| *count > 0)?;
        let piece = piece.get(..count)?;
        match piece.iter().position(|byte| *byte == 0) {
            Some(end) => {
                bytes.extend(piece.get(..end)?);
                return Some(PathBuf::from(String::from_utf8_lossy(&bytes).into_owned()));
            }
            None => bytes.extend(piece),
        }
    }
    None
}

fn file(tid: i32, fd: u64) -> Option<PathBuf> {
    // A descriptor is an int, whatever the upper half of the register holds.
    fs::read_link(format!("/proc/{tid}/fd/{}", fd as i32)).ok().filter(|path| path.is_absolute())
}

/// Where a path leads from a directory, by its words alone: no link of the bed's own is in the way but those of /proc.
fn at(tid: i32, directory: u64, path: &Path) -> Option<PathBuf> {
    if let Some((fd, rest)) = behind_descriptor(path) {
        return Some(file(tid, fd)?.join(rest));
    }
    if path.is_absolute() {
        return Some(path.to_owned());
    }
    let base = if directory as i32 == libc::AT_FDCWD {
        fs::read_link(format!("/proc/{tid}/cwd")).ok()?
    } else {
        file(tid, directory)?
    };
    Some(base.join(path))
}

/// `/proc/self/fd/N/REST` and `/proc/thread-self/fd/N/REST`.
fn behind_descriptor(path: &Path) -> Option<(u64, PathBuf)> {
    let rest = path.strip_prefix("/proc").ok()?;
    let mut parts = rest.components();
    let who = parts.next()?;
    let is = |part: Component<'_>, name: &str| part.as_os_str() == name;
    if !(is(who, "self") || is(who, "thread-self")) || !is(parts.next()?, "fd") {
        return None;
    }
    let number = parts.next()?.as_os_str().to_str()?.parse().ok()?;
    Some((number, parts.as_path().to_owned()))
}

/// The path of a Unix socket's address.
fn socket(tid: i32, address: u64) -> Option<PathBuf> {
    let bytes = memory(tid, address, 110)?;
    let (family, path) = bytes.split_at_checked(2)?;
    if family != (libc::AF_UNIX as u16).to_ne_bytes() {
        return None;
    }
    let end = path.iter().position(|byte| *byte == 0).unwrap_or(path.len());
    let path = String::from_utf8_lossy(path.get(..end)?).into_owned();
    at(tid, libc::AT_FDCWD as u64, Path::new(&path)).filter(|_| end > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_tell_what_an_open_does() {
        let flags = |flags: i32| opens(flags as u64);
        assert_eq!(flags(libc::O_RDONLY), Kind::OpenToRead);
        assert_eq!(flags(libc::O_WRONLY | libc::O_APPEND), Kind::OpenToWrite);
        assert_eq!(flags(libc::O_WRONLY | libc::O_CREAT), Kind::Create);
        assert_eq!(flags(libc::O_PATH | libc::O_DIRECTORY), Kind::OpenToRead);
    }

    #[test]
    fn paths_behind_descriptors() {
        assert_eq!(behind_descriptor(Path::new("/proc/self/fd/7/a/b")), Some((7, "a/b".into())));
        assert_eq!(behind_descriptor(Path::new("/proc/1/fd/7")), None);
        let me = i32::try_from(std::process::id()).unwrap_or_default();
        let text = c"/some/where";
        let address = text.as_ptr() as u64;
        assert_eq!(super::text(me, address), Some("/some/where".into()));
        assert_eq!(at(me, libc::AT_FDCWD as u64, Path::new("x")), std::env::current_dir().ok().map(|d| d.join("x")));
    }

    #[test]
    fn the_filter_compiles() {
        assert!(profile().compile().is_ok_and(|program| program.has_listener()));
    }
}
