//! What a pod's mount namespace holds besides the host's mounts: overlay roots, tmpfs volumes, sub-paths of volumes.

use std::ffi::OsString;
use std::fs::{self, OpenOptions};
use std::io::{self, Read as _};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, open, openat, openat2};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::stat::{Mode, SFlag, fchmod, fstat, mkdirat};
use nix::unistd::{SysconfVar, sysconf};

use crate::mount::{Change, attach, change, clone_tree};

/// A mount that could not be made.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {}", path.display())]
pub struct PodMountError {
    /// What was tried, as a verb.
    pub action: &'static str,
    /// On what.
    pub path: PathBuf,
    /// The kernel's answer.
    pub source: io::Error,
}

fn failed<E: Into<io::Error>>(action: &'static str, path: &Path) -> impl FnOnce(E) -> PodMountError {
    move |source| PodMountError { action, path: path.to_owned(), source: source.into() }
}

/// Makes the calling process's mounts follow the host's, but not the other way round.
///
/// # Errors
/// mount(2)'s.
pub fn follow_host() -> nix::Result<()> {
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_SLAVE, None::<&str>)
}

/// Covers a file with a read-only mount of itself: whoever executes it from here has no way to write to it (CVE-2019-5736).
///
/// # Errors
/// open(2)'s, open_tree(2)'s, mount_setattr(2)'s (Linux 5.12) and move_mount(2)'s.
pub fn cover_read_only(file: &Path) -> nix::Result<()> {
    let place = open(file, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty())?;
    let tree = clone_tree(&place, Path::new(""), false)?;
    change(&tree, false, Change::flags(MsFlags::MS_RDONLY, MsFlags::empty()))?;
    attach(&tree, &place)
}

/// Mounts an overlay over `lower` at `target`. `layer` gets the directories `upper` and `work`; it must be new, or empty.
/// The root of the overlay has the mode and owner of `lower`.
///
/// The overlay is `volatile` where the kernel can (5.10): its layer does not outlive the container, so nothing is synced.
///
/// # Errors
/// [`PodMountError`] with the path at fault; EINVAL when the paths together are longer than a page.
pub fn overlay(lower: &Path, layer: &Path, target: &Path) -> Result<(), PodMountError> {
    let (upper, work) = (layer.join("upper"), layer.join("work"));
    let meta = fs::metadata(lower).map_err(failed("read the root file system", lower))?;
    for path in [&upper, &work, &target.to_owned()] {
        fs::create_dir_all(path).map_err(failed("create directory", path))?;
    }
    std::os::unix::fs::chown(&upper, Some(meta.uid()), Some(meta.gid())).map_err(failed("change owner of", &upper))?;
    let mode = fs::Permissions::from_mode(meta.mode() & 0o7777);
    fs::set_permissions(&upper, mode).map_err(failed("change mode of", &upper))?;
    let options = overlay_options(lower, &upper, &work);
    let attempt = |options: &OsString| {
        mount(Some("overlay"), target, Some("overlay"), MsFlags::empty(), Some(options.as_os_str()))
    };
    let mut volatile = options.clone();
    volatile.push(",volatile");
    match attempt(&volatile) {
        Err(Errno::EINVAL) => attempt(&options),
        other => other,
    }
    .map_err(failed("mount the overlay", target))
}

fn overlay_options(lower: &Path, upper: &Path, work: &Path) -> OsString {
    let mut options = Vec::new();
    for (key, path) in [("lowerdir=", lower), (",upperdir=", upper), (",workdir=", work)] {
        options.extend_from_slice(key.as_bytes());
        for byte in path.as_os_str().as_bytes() {
            // A colon separates layers, a comma options (Documentation/filesystems/overlayfs.rst).
            if matches!(byte, b'\\' | b':' | b',') {
                options.push(b'\\');
            }
            options.push(*byte);
        }
    }
    OsString::from_vec(options)
}

/// Mounts a tmpfs of at most `size` bytes that anyone may write to (mode 1777), as a `Memory` volume.
///
/// # Errors
/// [`PodMountError`] with the path at fault.
pub fn tmpfs(target: &Path, size: Option<u64>) -> Result<(), PodMountError> {
    fs::create_dir_all(target).map_err(failed("create directory", target))?;
    let options = size.map_or_else(|| "mode=1777".to_owned(), |size| format!("mode=1777,size={size}"));
    mount(Some("tmpfs"), target, Some("tmpfs"), MsFlags::empty(), Some(options.as_str()))
        .map_err(failed("mount a tmpfs at", target))
}

/// Mounts a tmpfs at `target` for a few small files that containers write to: at most `size` bytes (whole pages) and `files` files, each
/// of them counted by the kernel. Only the owner makes files in it, and none of them is a program or a device.
///
/// # Errors
/// [`PodMountError`] with the path at fault.
pub fn small_tmpfs(target: &Path, size: u64, files: usize) -> Result<(), PodMountError> {
    fs::create_dir_all(target).map_err(failed("create directory", target))?;
    // One more for the directory itself.
    let options = format!("mode=0755,size={size},nr_inodes={}", files + 1);
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("tmpfs"), target, Some("tmpfs"), flags, Some(options.as_str()))
        .map_err(failed("mount a tmpfs at", target))
}

/// Covers `directory` with a tmpfs that holds copies of the regular files in it, mode 0644, and leaves `slack` bytes for what
/// containers write to them.
///
/// # Errors
/// [`PodMountError`] with the path at fault.
pub fn cover_with_copies(directory: &Path, slack: u64) -> Result<(), PodMountError> {
    let mut files = Vec::new();
    let mut size = slack;
    for entry in fs::read_dir(directory).map_err(failed("read directory", directory))? {
        let path = entry.map_err(failed("read directory", directory))?.path();
        let file = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
            .open(&path)
            .map_err(failed("open", &path))?;
        let stat = file.metadata().map_err(failed("read", &path))?;
        if stat.is_file() {
            size += stat.len().next_multiple_of(page_size());
            files.push((path, file, stat.len()));
        }
    }
    small_tmpfs(directory, size, files.len())?;
    for (path, file, length) in files {
        let copy = OpenOptions::new().write(true).create_new(true).open(&path).and_then(|mut copy| {
            io::copy(&mut file.take(length), &mut copy)?;
            copy.set_permissions(fs::Permissions::from_mode(0o644))
        });
        copy.map_err(failed("copy", &path))?;
    }
    Ok(())
}

/// What a tmpfs counts in, bytes.
fn page_size() -> u64 {
    // sysconf(3) knows it on every Linux; else the largest that there is.
    sysconf(SysconfVar::PAGE_SIZE).ok().flatten().and_then(|size| u64::try_from(size).ok()).unwrap_or(64 << 10)
}

/// Binds `volume`/`path` at `target`, which is made, a file or a directory like its source.
///
/// The path is resolved by the kernel beneath the volume's root: neither a symlink nor `..` leaves it, whatever a container
/// does to the volume meanwhile. Missing directories are made, with the mode of the volume's root, as kubelet does.
///
/// # Errors
/// [`PodMountError`] with the path at fault; EXDEV for one that leaves the volume.
pub fn subpath(volume: &Path, path: &Path, target: &Path) -> Result<(), PodMountError> {
    let full = volume.join(path);
    if !path.components().all(|c| matches!(c, Component::Normal(_) | Component::CurDir)) {
        return Err(failed("use the sub-path", &full)(Errno::EXDEV));
    }
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let root = open(volume, flags, Mode::empty()).map_err(failed("open the volume", volume))?;
    let source = match open_beneath(root.as_fd(), path, OFlag::O_PATH) {
        Err(Errno::ENOENT) => make_beneath(root.as_fd(), path).map_err(failed("create the sub-path", &full))?,
        other => other.map_err(failed("open the sub-path", &full))?,
    };
    let stat = fstat(&source).map_err(failed("read", &full))?;
    if SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT == SFlag::S_IFDIR {
        fs::create_dir_all(target).map_err(failed("create directory", target))?;
    } else {
        let parent = target.parent().unwrap_or(target);
        fs::create_dir_all(parent).map_err(failed("create directory", parent))?;
        OpenOptions::new().create(true).append(true).open(target).map_err(failed("create file", target))?;
    }
    let source = PathBuf::from(format!("/proc/self/fd/{}", source.as_raw_fd()));
    mount(Some(&source), target, None::<&str>, MsFlags::MS_BIND | MsFlags::MS_REC, None::<&str>)
        .map_err(failed("bind the sub-path at", target))
}

fn open_beneath(root: BorrowedFd<'_>, path: &Path, flags: OFlag) -> nix::Result<OwnedFd> {
    // openat2(2): EAGAIN when something was renamed meanwhile, with the advice to try again.
    const TRIES: usize = 32;
    let resolve = ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_MAGICLINKS;
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    let mut result = Err(Errno::EAGAIN);
    for _ in 0..TRIES {
        result = openat2(root, path, OpenHow::new().flags(flags | OFlag::O_CLOEXEC).resolve(resolve));
        if !matches!(result, Err(Errno::EAGAIN)) {
            break;
        }
    }
    result
}

/// Makes the missing directories of `path` and opens the last. A dangling symlink on the way is EEXIST, never followed.
fn make_beneath(root: BorrowedFd<'_>, path: &Path) -> nix::Result<OwnedFd> {
    let mode = Mode::from_bits_truncate(fstat(root)?.st_mode & 0o2777);
    let directory = OFlag::O_PATH | OFlag::O_DIRECTORY;
    let mut reached = PathBuf::new();
    let mut parent = open_beneath(root, &reached, directory)?;
    for component in path.components() {
        let Component::Normal(name) = component else { continue };
        reached.push(name);
        parent = match open_beneath(root, &reached, directory) {
            Err(Errno::ENOENT) => make_in(parent.as_fd(), Path::new(name), mode)?,
            other => other?,
        };
    }
    Ok(parent)
}

fn make_in(parent: BorrowedFd<'_>, name: &Path, mode: Mode) -> nix::Result<OwnedFd> {
    mkdirat(parent, name, mode)?;
    // Opened for real and not followed: what we change the mode of is a directory in `parent`, even if someone races us.
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let made = openat(parent, name, flags, Mode::empty())?;
    fchmod(&made, mode)?;
    Ok(made)
}

/// Detaches the mount at `target` with all below it. One that is not there is fine.
///
/// # Errors
/// umount2(2)'s other errors.
pub fn unmount(target: &Path) -> Result<(), PodMountError> {
    match umount2(target, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW) {
        Ok(()) | Err(Errno::EINVAL | Errno::ENOENT) => Ok(()),
        Err(errno) => Err(failed("unmount", target)(errno)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
    use std::os::unix::fs::symlink;
    use std::sync::atomic::{AtomicBool, Ordering};

    /// Runs a test on a thread with a mount namespace of its own: nothing is left on the host, whatever fails.
    fn in_private_mounts(test: impl FnOnce(&Path) + Send) {
        let dir = tempfile::tempdir().unwrap();
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                nix::sched::unshare(nix::sched::CloneFlags::CLONE_FS | nix::sched::CloneFlags::CLONE_NEWNS).unwrap();
                follow_host().unwrap();
                // overlayfs does not stack on every file system a temporary directory may be on.
                tmpfs(dir.path(), None).unwrap();
                test(dir.path());
            });
            thread.join().unwrap();
        });
    }

    #[test]
    fn overlay_with_hostile_names_leaves_the_lower_alone() {
        in_private_mounts(|dir| {
            let dir = dir.join("a:b,c\\d e");
            let (lower, layer, target) = (dir.join("lower"), dir.join("layer"), dir.join("root"));
            fs::create_dir_all(&lower).unwrap();
            fs::set_permissions(&lower, fs::Permissions::from_mode(0o751)).unwrap();
            fs::write(lower.join("old"), "old").unwrap();
            overlay(&lower, &layer, &target).unwrap();
            assert_eq!(fs::metadata(&target).unwrap().mode() & 0o7777, 0o751);
            fs::write(target.join("old"), "new").unwrap();
            assert_eq!(fs::read_to_string(lower.join("old")).unwrap(), "old");
            assert_eq!(fs::read_to_string(layer.join("upper/old")).unwrap(), "new");
            unmount(&target).unwrap();
            unmount(&target).unwrap();
            assert!(!target.join("old").exists());
        });
    }

    #[test]
    fn tmpfs_is_bounded_and_open_to_all() {
        in_private_mounts(|dir| {
            let target = dir.join("t");
            tmpfs(&target, Some(1 << 20)).unwrap();
            assert_eq!(fs::metadata(&target).unwrap().mode() & 0o7777, 0o1777);
            let error = fs::write(target.join("big"), vec![0; 2 << 20]).unwrap_err();
            assert_eq!(error.raw_os_error(), Some(libc::ENOSPC));
        });
    }

    #[test]
    fn small_files_are_bounded_together_and_copies_hide_what_they_are_of() {
        in_private_mounts(|dir| {
            let files = dir.join("files");
            fs::create_dir(&files).unwrap();
            fs::write(files.join("hosts"), "h\n").unwrap();
            fs::write(files.join("big"), vec![b'b'; 100_000]).unwrap();
            let outside = open(&files, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty()).unwrap();
            cover_with_copies(&files, 64 << 10).unwrap();
            assert_eq!(fs::read_to_string(files.join("hosts")).unwrap(), "h\n");
            assert_eq!(fs::metadata(files.join("big")).unwrap().len(), 100_000);
            assert_eq!(fs::metadata(files.join("hosts")).unwrap().mode() & 0o7777, 0o644);
            let mut hosts = OpenOptions::new().append(true).open(files.join("hosts")).unwrap();
            let error = io::Write::write_all(&mut hosts, &vec![0; 1 << 20]).unwrap_err();
            assert_eq!(error.raw_os_error(), Some(libc::ENOSPC));
            assert!(fs::metadata(files.join("hosts")).unwrap().len() >= 64 << 10);
            assert_eq!(fs::write(files.join("more"), "").unwrap_err().raw_os_error(), Some(libc::ENOSPC));
            let own = openat(&outside, "hosts", OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty()).unwrap();
            assert_eq!(io::read_to_string(fs::File::from(own)).unwrap(), "h\n");
        });
    }

    #[test]
    fn links_are_not_copied() {
        in_private_mounts(|dir| {
            let files = dir.join("files");
            fs::create_dir(&files).unwrap();
            symlink("/etc/passwd", files.join("hosts")).unwrap();
            let error = cover_with_copies(&files, 1).unwrap_err();
            assert_eq!(error.source.raw_os_error(), Some(libc::ELOOP));
        });
    }

    #[test]
    fn subpaths_are_made_with_the_mode_of_the_volume() {
        in_private_mounts(|dir| {
            let volume = dir.join("v");
            fs::create_dir(&volume).unwrap();
            fs::set_permissions(&volume, fs::Permissions::from_mode(0o777)).unwrap();
            subpath(&volume, Path::new("a/b"), &dir.join("t")).unwrap();
            assert_eq!(fs::metadata(volume.join("a/b")).unwrap().mode() & 0o7777, 0o777);
            fs::write(dir.join("t/x"), "x").unwrap();
            assert_eq!(fs::read_to_string(volume.join("a/b/x")).unwrap(), "x");
            subpath(&volume, Path::new("a/b/x"), &dir.join("file")).unwrap();
            assert_eq!(fs::read_to_string(dir.join("file")).unwrap(), "x");
        });
    }

    #[test]
    fn subpaths_may_use_links_inside_and_never_leave() {
        in_private_mounts(|dir| {
            let (volume, outside) = (dir.join("v"), dir.join("outside"));
            fs::create_dir_all(volume.join("real")).unwrap();
            fs::create_dir(&outside).unwrap();
            symlink("real", volume.join("inside")).unwrap();
            symlink("../outside", volume.join("up")).unwrap();
            symlink(&outside, volume.join("absolute")).unwrap();
            symlink("nowhere", volume.join("dangling")).unwrap();
            subpath(&volume, Path::new("inside/new"), &dir.join("t")).unwrap();
            assert!(volume.join("real/new").is_dir());
            for (path, errno) in [
                ("up", libc::EXDEV),
                ("up/new", libc::EXDEV),
                ("absolute", libc::EXDEV),
                ("absolute/new", libc::EXDEV),
                ("dangling", libc::EEXIST),
                ("../outside", libc::EXDEV),
                ("/etc", libc::EXDEV),
            ] {
                let error = subpath(&volume, Path::new(path), &dir.join("t2")).unwrap_err();
                assert_eq!(error.source.raw_os_error(), Some(errno), "{path}: {error}");
            }
            assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
        });
    }

    /// CVE-2021-25741: the directory is exchanged for a symlink to the host while it is mounted.
    #[test]
    fn a_subpath_that_is_swapped_stays_inside() {
        in_private_mounts(|dir| {
            let (volume, outside) = (dir.join("v"), dir.join("outside"));
            fs::create_dir_all(volume.join("a")).unwrap();
            fs::create_dir(&outside).unwrap();
            fs::write(outside.join("canary"), "").unwrap();
            symlink(&outside, volume.join("b")).unwrap();
            let (a, b) = (volume.join("a"), volume.join("b"));
            let done = AtomicBool::new(false);
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    while !done.load(Ordering::Relaxed) {
                        renameat2(AT_FDCWD, &a, AT_FDCWD, &b, RenameFlags::RENAME_EXCHANGE).unwrap();
                    }
                });
                let (mut mounted, mut fooled) = (0, false);
                let begun = std::time::Instant::now();
                let mut tries = 0;
                // On a busy machine the other thread may not have its turn in the first 500.
                while tries < 500 || ((mounted == 0 || !fooled) && begun.elapsed().as_secs() < 20) {
                    tries += 1;
                    // A naive look at what is there, as a control.
                    fooled |= a.join("canary").exists();
                    match subpath(&volume, Path::new("a/new"), &dir.join("t")) {
                        Ok(()) => {
                            mounted += 1;
                            assert!(!dir.join("t/canary").exists());
                            unmount(&dir.join("t")).unwrap();
                        }
                        Err(error) => {
                            let errno = error.source.raw_os_error();
                            assert!(matches!(errno, Some(libc::EXDEV | libc::EEXIST | libc::EAGAIN)), "{error:?}");
                        }
                    }
                }
                done.store(true, Ordering::Relaxed);
                assert!(mounted > 0 && fooled, "{mounted} of {tries} are mounted, fooled: {fooled}");
            });
            assert_eq!(fs::read_dir(&outside).unwrap().count(), 1);
        });
    }
}
