//! The steps that shape the container's mounts.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag, open, openat};
use nix::mount::MsFlags;
use nix::sys::stat::{Mode, SFlag, fstat, makedev, mknodat};
use nix::unistd::{Gid, Uid, chdir, chroot, fchdir, fchownat, symlinkat};
use podwright_sys::device::Kind;
use podwright_sys::mount::{self, Change};
use podwright_sys::path::{Root, file_type, is_dir};
use podwright_sys::procfs;

use super::{Progress, Result, StepError, copy, kernel, show};
use crate::plan::{BindMount, DeviceNode, FsMount, Step};

const DIR_MODE: Mode = Mode::from_bits_retain(0o755);

/// Links that `/dev` of every container has (runtime-spec, runtime-linux.md and config-linux.md).
const DEV_LINKS: [(&str, &str); 5] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("ptmx", "pts/ptmx"),
];

pub(super) fn apply(progress: &mut Progress<'_>, step: &Step) -> Result<()> {
    match step {
        Step::Propagation(kind) => mount::set_propagation_of_all(*kind).map_err(kernel("propagation of mounts")),
        Step::BindRoot { path, early } => {
            let tree = if *early { Some(next_source(progress)?) } else { None };
            progress.root = Some(bind_root(path, tree)?);
            Ok(())
        }
        Step::MountFs(fs) => {
            let sealed = mount_fs(root(progress)?, fs)?;
            progress.sealed.extend(sealed);
            Ok(())
        }
        Step::Bind(bind) => {
            let tree = if bind.early { next_source(progress)? } else { open_source(bind)? };
            bind_mount(root(progress)?, &tree, bind)
        }
        Step::MountCgroup { .. } => mount_cgroup(root(progress)?, progress.init.cgroup, step),
        Step::ChangeMount { target, change, recursive_change } => {
            let what = || format!("mounts: change the mount on {}", show(target));
            let place = root(progress)?.locate(target).map_err(kernel(what()))?;
            change_mount(&place, *change, *recursive_change).map_err(kernel(what()))
        }
        Step::Remount { target, flags, data } => {
            let what = || format!("mounts: remount {}", show(target));
            let place = root(progress)?.locate(target).map_err(kernel(what()))?;
            mount::remount(&place, *flags, data).map_err(kernel(what()))
        }
        Step::Devices(nodes) => make_devices(root(progress)?, nodes),
        Step::DevLinks => make_dev_links(root(progress)?),
        Step::MakeCwd(path) => root(progress)?
            .make_dir(path, DIR_MODE)
            .map(drop)
            .map_err(kernel(format!("process.cwd: make {}", show(path)))),
        Step::SealMounts => seal(&progress.sealed),
        Step::Mask(path) => mask(progress, path),
        Step::ReadonlyPath(path) => make_readonly(root(progress)?, path),
        Step::ReadonlyRoot => {
            let change = Change::flags(MsFlags::MS_RDONLY, MsFlags::empty());
            mount::change(root(progress)?, false, change).map_err(kernel("root.readonly"))
        }
        Step::PivotRoot => {
            pivot_to(root(progress)?).map_err(kernel("pivot_root"))?;
            forget(progress);
            Ok(())
        }
        Step::Chroot => chroot_to(root(progress)?).map_err(kernel("chroot")),
        Step::MoveRoot => {
            move_to(root(progress)?).map_err(kernel("move the root"))?;
            forget(progress);
            Ok(())
        }
        Step::RootPropagation(kind) => mount::set_propagation(*kind).map_err(kernel("linux.rootfsPropagation")),
        _ => Err(StepError::Misplaced),
    }
}

/// Whoever looks at this process from now on finds nothing that was needed to get here.
fn forget(progress: &mut Progress<'_>) {
    (progress.root, progress.null) = (None, None);
    progress.sealed.clear();
}

fn root<'a>(progress: &'a Progress<'_>) -> Result<&'a Root> {
    progress.root.as_ref().ok_or(StepError::Misplaced)
}

fn pivot_to(root: &Root) -> nix::Result<()> {
    fchdir(root)?;
    mount::pivot_root_here()
}

/// Makes a directory the root of this process alone.
pub(super) fn chroot_to(root: impl AsFd) -> nix::Result<()> {
    fchdir(root)?;
    chroot(".")?;
    chdir("/")
}

fn move_to(root: &Root) -> nix::Result<()> {
    fchdir(root)?;
    mount::move_root_here()
}

/// What the runtime has opened for this step.
fn next_source(progress: &mut Progress<'_>) -> Result<OwnedFd> {
    progress.init.sources.pop_front().ok_or(StepError::Misplaced)
}

/// Makes the root file system a mount of its own, and the root of all lookups.
fn bind_root(path: &Path, opened: Option<OwnedFd>) -> Result<Root> {
    let what = || format!("root.path: {}", show(path));
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let target = match open(path, flags, Mode::empty()) {
        // Out of reach from a user namespace. Hooks will not find the mounts where they expect them; any other place will do.
        Err(Errno::EACCES) if opened.is_some() => open("/", flags, Mode::empty()),
        other => other,
    };
    let target = target.map_err(kernel(what()))?;
    let tree = match opened {
        Some(tree) => tree,
        None => mount::clone_tree(&target, Path::new(""), true).map_err(kernel(what()))?,
    };
    mount::attach(&tree, &target).map_err(kernel(what()))?;
    Ok(Root::new(tree))
}

/// Mounts a file system; one that is to be sealed is given back.
fn mount_fs(root: &Root, fs: &FsMount) -> Result<Option<OwnedFd>> {
    let what = || format!("mounts: mount {} on {}", fs.fstype, show(&fs.target));
    let target = if matches!(fs.fstype.as_str(), "proc" | "sysfs") {
        // A link here would put the kernel's files where a path such as /proc/kcore is not masked.
        root.make_dir_without_links(&fs.target, DIR_MODE).map_err(|errno| match errno {
            Errno::ELOOP => StepError::Symlink { path: show(&fs.target), fstype: fs.fstype.clone() },
            errno => kernel(what())(errno),
        })?
    } else {
        root.make_dir(&fs.target, DIR_MODE).map_err(kernel(what()))?
    };
    keep_out_of_proc(root, &target, &fs.target, fs.fstype == "proc")?;
    if !fs.seal && !fs.copy_up && (fs.propagation.is_none() || mount::is_too_long(&fs.data)) {
        match (mount::mount_new(&target, &fs.fstype, &fs.source, fs.flags, &fs.data), &fs.or_bind) {
            (Err(Errno::EPERM), Some(source)) => match bind_view(source, &target, fs.flags) {
                Err(Errno::ENOENT) => Err(kernel(what())(Errno::EPERM)),
                other => other.map_err(kernel(what())),
            },
            (result, _) => result.map_err(kernel(what())),
        }?;
        if let Some(kind) = fs.propagation {
            set_propagation_at(root, &fs.target, kind).map_err(kernel(what()))?;
        }
        return Ok(None);
    }
    // One that is to be read-only is sealed later.
    let tree = mount::new_fs(&fs.fstype, &fs.source, fs.flags, &fs.data).map_err(kernel(what()))?;
    if fs.copy_up {
        let covered = root.open(&fs.target, OFlag::O_RDONLY | OFlag::O_DIRECTORY).map_err(kernel(what()))?;
        copy::copy_up(covered, &tree, &fs.data)
            .map_err(|err| StepError::CopyUp { path: show(&fs.target), source: err })?;
    }
    if let Some(kind) = fs.propagation {
        let change = Change::default().propagation(kind - MsFlags::MS_REC);
        mount::change(&tree, kind.contains(MsFlags::MS_REC), change).map_err(kernel(what()))?;
    }
    mount::attach(&tree, &target).map_err(kernel(what()))?;
    Ok(fs.seal.then_some(tree))
}

/// Binds a view of the kernel that the host has mounted.
fn bind_view(source: &Path, target: &OwnedFd, flags: MsFlags) -> nix::Result<()> {
    let tree = mount::clone_tree(AT_FDCWD, source, true)?;
    mount::change(&tree, true, Change::flags(flags, MsFlags::empty()))?;
    mount::attach(&tree, target)
}

/// A detached copy of what is to be bound.
fn open_source(bind: &BindMount) -> Result<OwnedFd> {
    let what = || format!("mounts: mount {} on {}", show(&bind.source), show(&bind.target));
    mount::clone_tree(AT_FDCWD, &bind.source, bind.recursive).map_err(kernel(what()))
}

fn bind_mount(root: &Root, tree: &OwnedFd, bind: &BindMount) -> Result<()> {
    let what = || format!("mounts: mount {} on {}", show(&bind.source), show(&bind.target));
    change_mount(tree, bind.change, bind.recursive_change).map_err(kernel(what()))?;
    let place = place_for(root, tree, &bind.target).map_err(kernel(what()))?;
    let from_proc = procfs::is_proc_root(tree).map_err(kernel(what()))?;
    if !from_proc && bind.target == Path::new("/proc") {
        return Err(StepError::InsteadOfProc(show(&bind.target)));
    }
    keep_out_of_proc(root, &place, &bind.target, from_proc)?;
    mount::attach(tree, &place).map_err(kernel(what()))
}

fn change_mount(tree: &OwnedFd, top: Change, all: Change) -> nix::Result<()> {
    let changes = [(top, false), (all, true)];
    changes
        .into_iter()
        .filter(|(change, _)| !change.is_empty())
        .try_for_each(|(change, recursive)| mount::change(tree, recursive, change))
}

/// A directory or a file to attach a tree on, made like the tree's root where it is missing.
fn place_for(root: &Root, tree: &OwnedFd, target: &Path) -> nix::Result<OwnedFd> {
    if is_dir(&fstat(tree)?) {
        return root.make_dir(target, DIR_MODE);
    }
    let place = root.make_file(target)?;
    // move_mount(2) would only say that the argument is invalid.
    if is_dir(&fstat(&place)?) { Err(Errno::EISDIR) } else { Ok(place) }
}

/// Files of procfs that do not matter to a container's confinement: LXCFS and checkpointing mount over them.
const HARMLESS_IN_PROC: [&str; 11] = [
    "/proc/cpuinfo",
    "/proc/diskstats",
    "/proc/loadavg",
    "/proc/meminfo",
    "/proc/net/dev",
    "/proc/slabinfo",
    "/proc/stat",
    "/proc/swaps",
    "/proc/sys/crypto/fips_enabled",
    "/proc/sys/kernel/ns_last_pid",
    "/proc/uptime",
];

/// Refuses a place in a procfs, whatever links led there: what the container, or whoever sets it up, believes of itself would come
/// from somebody else (CVE-2019-16884, CVE-2025-52881). A procfs on top of a whole one is fine.
fn keep_out_of_proc(root: &Root, place: &OwnedFd, target: &Path, mounts_proc: bool) -> Result<()> {
    let what = || format!("mount on {}", show(target));
    if !procfs::is_proc(place).map_err(kernel(what()))? {
        return Ok(());
    }
    if mounts_proc && procfs::is_proc_root(place).map_err(kernel(what()))? {
        return Ok(());
    }
    let stat = fstat(place).map_err(kernel(what()))?;
    let is_place = |name: &&str| {
        let found = root.locate(Path::new(*name)).and_then(fstat);
        found.is_ok_and(|found| (found.st_dev, found.st_ino) == (stat.st_dev, stat.st_ino))
    };
    if HARMLESS_IN_PROC.iter().any(is_place) { Ok(()) } else { Err(StepError::InsideProc(show(target))) }
}

fn mount_cgroup(root: &Root, cgroup: &Path, step: &Step) -> Result<()> {
    let Step::MountCgroup { target, flags, namespaced, data, propagation } = step else {
        return Err(StepError::Misplaced);
    };
    let what = || format!("mount cgroup on {}", show(target));
    let mounted = *namespaced && {
        let place = root.make_dir(target, DIR_MODE).map_err(kernel(what()))?;
        keep_out_of_proc(root, &place, target, false)?;
        match mount::mount_new(&place, "cgroup2", Path::new("cgroup"), *flags, data) {
            // The cgroup namespace does not belong to the container's user namespace; or the host's mount is there already, with a
            // bind of its /sys, and the kernel does not mount one file system twice in one place.
            Err(Errno::EPERM | Errno::EBUSY) if data.is_empty() => false,
            other => other.map(|()| true).map_err(kernel(what()))?,
        }
    };
    if !mounted {
        let tree = mount::clone_tree(AT_FDCWD, cgroup, false).map_err(kernel(what()))?;
        mount::change(&tree, false, Change::flags(*flags, MsFlags::empty())).map_err(kernel(what()))?;
        let place = place_for(root, &tree, target).map_err(kernel(what()))?;
        keep_out_of_proc(root, &place, target, false)?;
        mount::attach(&tree, &place).map_err(kernel(what()))?;
    }
    match propagation {
        Some(kind) => set_propagation_at(root, target, *kind).map_err(kernel(what())),
        None => Ok(()),
    }
}

/// Of a mount that cannot be made before it has its place.
fn set_propagation_at(root: &Root, target: &Path, kind: MsFlags) -> nix::Result<()> {
    mount::change(
        root.locate(target)?,
        kind.contains(MsFlags::MS_REC),
        Change::default().propagation(kind - MsFlags::MS_REC),
    )
}

fn make_devices(root: &Root, nodes: &[DeviceNode]) -> Result<()> {
    let mut last: Option<(PathBuf, OwnedFd)> = None;
    for node in nodes {
        let what = || format!("linux.devices: make device {}", show(&node.path));
        let (Some(parent), Some(name)) = (node.path.parent(), node.path.file_name()) else {
            return Err(kernel(what())(Errno::EISDIR));
        };
        let dir = match last.take() {
            Some((path, dir)) if path == parent => dir,
            _ => root.make_dir(parent, DIR_MODE).map_err(kernel(what()))?,
        };
        make_device(&dir, Path::new(name), node, what)?;
        last = Some((parent.to_owned(), dir));
    }
    Ok(())
}

fn make_device(dir: &OwnedFd, name: &Path, node: &DeviceNode, what: impl Fn() -> String) -> Result<()> {
    let kind = match node.kind {
        Some(Kind::Block) => SFlag::S_IFBLK,
        Some(Kind::Char) => SFlag::S_IFCHR,
        None => SFlag::S_IFIFO,
    };
    let number = makedev(u64::from(node.major), u64::from(node.minor));
    let made = match mknodat(dir, name, kind, Mode::from_bits_retain(node.mode), number) {
        Ok(()) => true,
        // In a user namespace no device may be made, but the host's can be shown.
        Err(Errno::EPERM) => return bind_device(dir, name, node, what),
        Err(Errno::EEXIST) => false,
        Err(errno) => return Err(kernel(what())(errno)),
    };
    if made && node.uid == 0 && node.gid == 0 {
        return Ok(());
    }
    // Looked at by descriptor, one that was just made as well: a container that shares the directory may have swapped it.
    let found = openat(dir, name, OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC, Mode::empty());
    let found = found.map_err(kernel(what()))?;
    let stat = fstat(&found).map_err(kernel(what()))?;
    if file_type(&stat) != kind || node.kind.is_some() && stat.st_rdev != number {
        return Err(StepError::WrongDevice(format!("linux.devices: {}", show(&node.path))));
    }
    if !made {
        return Ok(());
    }
    let (uid, gid) = (Uid::from_raw(node.uid), Gid::from_raw(node.gid));
    fchownat(&found, Path::new(""), Some(uid), Some(gid), AtFlags::AT_EMPTY_PATH).map_err(kernel(what()))
}

/// Shows the host's device of the same name, owner and mode as they are there.
fn bind_device(dir: &OwnedFd, name: &Path, node: &DeviceNode, what: impl Fn() -> String) -> Result<()> {
    let tree = mount::clone_tree(AT_FDCWD, &node.path, false).map_err(kernel(what()))?;
    let stat = fstat(&tree).map_err(kernel(what()))?;
    let kind = if node.kind == Some(Kind::Block) { SFlag::S_IFBLK } else { SFlag::S_IFCHR };
    if file_type(&stat) != kind || stat.st_rdev != makedev(u64::from(node.major), u64::from(node.minor)) {
        return Err(StepError::WrongDevice(format!("linux.devices: {} of the host", show(&node.path))));
    }
    let bound = mknodat(dir, name, SFlag::S_IFREG, Mode::from_bits_retain(0o600), 0)
        .and_then(|()| openat(dir, name, OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC, Mode::empty()))
        .and_then(|place| mount::attach(&tree, &place));
    bound.map_err(kernel(what()))
}

fn make_dev_links(root: &Root) -> Result<()> {
    let dev = root.make_dir(Path::new("/dev"), DIR_MODE).map_err(kernel("make /dev"))?;
    for (link, target) in DEV_LINKS {
        match symlinkat(target, &dev, link) {
            Ok(()) | Err(Errno::EEXIST) => {}
            Err(errno) => return Err(kernel(format!("make /dev/{link}"))(errno)),
        }
    }
    Ok(())
}

fn seal(mounts: &[OwnedFd]) -> Result<()> {
    let change = Change::flags(MsFlags::MS_RDONLY, MsFlags::empty());
    mounts.iter().try_for_each(|tree| mount::change(tree, false, change)).map_err(kernel("make tmpfs read-only"))
}

/// The place of a path that need not exist.
fn existing(root: &Root, path: &Path, field: &str) -> Result<Option<OwnedFd>> {
    match root.locate(path) {
        Ok(place) => Ok(Some(place)),
        Err(Errno::ENOENT | Errno::ENOTDIR) => Ok(None),
        Err(errno) => Err(kernel(format!("{field}: {}", show(path)))(errno)),
    }
}

fn mask(progress: &mut Progress<'_>, path: &Path) -> Result<()> {
    let what = || format!("linux.maskedPaths: {}", show(path));
    let Some(place) = existing(root(progress)?, path, "linux.maskedPaths")? else { return Ok(()) };
    if is_dir(&fstat(&place).map_err(kernel(what()))?) {
        let flags = MsFlags::MS_RDONLY | MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
        return mount::mount_new(&place, "tmpfs", Path::new("tmpfs"), flags, "size=4k,nr_inodes=1")
            .map_err(kernel(what()));
    }
    if progress.null.is_none() {
        progress.null = Some(host_null()?);
    }
    match &progress.null {
        Some(null) => mount::bind(null, &place).map_err(kernel(what())),
        None => Ok(()),
    }
}

/// The host's `/dev/null`: the container's may be anything by now.
fn host_null() -> Result<OwnedFd> {
    let null = open("/dev/null", OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty()).map_err(kernel("open /dev/null"))?;
    let stat = fstat(&null).map_err(kernel("stat /dev/null"))?;
    if file_type(&stat) == SFlag::S_IFCHR && stat.st_rdev == makedev(1, 3) {
        Ok(null)
    } else {
        Err(StepError::WrongDevice("/dev/null of the host".into()))
    }
}

fn make_readonly(root: &Root, path: &Path) -> Result<()> {
    let what = || format!("linux.readonlyPaths: {}", show(path));
    let Some(place) = existing(root, path, "linux.readonlyPaths")? else { return Ok(()) };
    let tree = mount::clone_tree(&place, Path::new(""), true).map_err(kernel(what()))?;
    mount::change(&tree, true, Change::flags(MsFlags::MS_RDONLY, MsFlags::empty())).map_err(kernel(what()))?;
    mount::attach(&tree, &place).map_err(kernel(what()))
}
