//! What the runtime does for a container in a user namespace, since the container's first process is not allowed to.

use std::collections::VecDeque;
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::chown;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use nix::fcntl::{AT_FDCWD, OFlag, open};
use nix::mount::MsFlags;
use nix::sched::{CloneFlags, setns};
use nix::sys::stat::Mode;
use nix::unistd::{Pid, setgroups};
use podwright_inside as inside;
use podwright_sys::cgroup::Cgroup;
use podwright_sys::mount::{self, Change};
use podwright_sys::process::{self, Cloned};
use podwright_sys::userns;

use super::launch::clone_into;
use crate::error::{Error, Result, file, kernel};
use crate::plan::{BindMount, Plan, Step, UserNamespace};
use crate::sync;
use podwright_sys::error::chain;

/// The files of a cgroup that whoever it is delegated to may write.
const DELEGATED_FILES: &str = "/sys/kernel/cgroup/delegate";

/// Opens what the steps want the runtime to open, in their order.
///
/// # Errors
/// open_tree(2)'s and mount_setattr(2)'s, naming the mount.
pub(super) fn open_sources(steps: &[Step]) -> Result<VecDeque<OwnedFd>> {
    let initial = steps.iter().find_map(|step| match step {
        Step::Propagation(kind) => Some(*kind),
        _ => None,
    });
    let mut sources = VecDeque::new();
    for step in steps {
        match step {
            Step::BindRoot { path, early: true } => {
                sources.push_back(open_root(path, initial.unwrap_or(MsFlags::MS_PRIVATE))?);
            }
            Step::Bind(bind) if bind.early => sources.push_back(open_bind(bind)?),
            _ => {}
        }
    }
    Ok(sources)
}

fn open_root(path: &Path, propagation: MsFlags) -> Result<OwnedFd> {
    let what = || format!("root.path: {}", path.display());
    let dir =
        open(path, OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty()).map_err(kernel(what()))?;
    let tree = mount::clone_tree(&dir, Path::new(""), true).map_err(kernel(what()))?;
    // As if it had been copied with the mount namespace.
    mount::change(&tree, true, Change::default().propagation(propagation)).map_err(kernel(what()))?;
    Ok(tree)
}

fn open_bind(bind: &BindMount) -> Result<OwnedFd> {
    let what = || format!("mount {} on {}", bind.source.display(), bind.target.display());
    let tree = mount::clone_tree(AT_FDCWD, &bind.source, bind.recursive).map_err(kernel(what()))?;
    if let Some(mapping) = &bind.mapping {
        let what = || format!("{}: map the owners of files", what());
        let (uids, gids) = (mapping.mappings.uids.to_string(), mapping.mappings.gids.to_string());
        let namespace = userns::mapping_only(&uids, &gids).map_err(|err| in_words(what(), &err))?;
        mount::map_ids(&tree, mapping.recursive, namespace).map_err(kernel(what()))?;
    }
    Ok(tree)
}

/// Makes the first process by way of a process in between, which enters namespaces that the first one is to be in from the
/// beginning. The first process is the runtime's child all the same.
///
/// # Errors
/// clone3(2)'s and setns(2)'s, naming the namespace.
pub(super) fn clone_on_the_way(plan: &Plan, cgroup: &Cgroup, group: &OwnedFd) -> Result<(Cloned, bool)> {
    let (mut ours, mut theirs) = UnixStream::pair().map_err(file("make", "socketpair"))?;
    let (between, inside) = clone_into(CloneFlags::empty(), group)?;
    let Cloned::Parent { pidfd, .. } = between else {
        drop(ours);
        let code = match enter_and_clone(plan, (!inside).then(|| cgroup.path())) {
            Ok(Cloned::Child) => return Ok((Cloned::Child, true)),
            Ok(Cloned::Parent { pid, .. }) => i32::from(sync::send_pid(&mut theirs, pid.as_raw()).is_err()),
            Err(err) => {
                sync::send_error(&mut theirs, &chain(&err), false);
                1
            }
        };
        std::process::exit(code);
    };
    drop(theirs);
    let said = sync::receive_pid(&mut ours);
    process::wait(&pidfd).map_err(kernel("wait for the process in between"))?;
    let pid = Pid::from_raw(said.map_err(file("read from", "the process in between"))?.map_err(Error::Container)?);
    // Our child, and not waited for, so the pid is its own.
    let pidfd = process::pidfd_open(pid).map_err(kernel(format!("pidfd_open {pid}")))?;
    Ok((Cloned::Parent { pid, pidfd }, true))
}

fn enter_and_clone(plan: &Plan, enter_cgroup: Option<&Path>) -> Result<Cloned> {
    if let Some(cgroup) = enter_cgroup {
        write(&cgroup.join("cgroup.procs"), "0")?;
    }
    // A user namespace may forbid it.
    setgroups(&[]).map_err(kernel("leave all groups"))?;
    let what = |path: &Path| format!("linux.namespaces: enter {}", path.display());
    // All paths are looked up before one of the namespaces changes what they mean.
    let mut opened = Vec::with_capacity(plan.on_the_way.len());
    for (kind, path) in &plan.on_the_way {
        let fd = open(path, OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty()).map_err(kernel(what(path)))?;
        opened.push((*kind, path, fd));
    }
    for (kind, path, fd) in opened {
        setns(fd, kind).map_err(kernel(what(path)))?;
    }
    process::clone_sibling(plan.namespaces).map_err(kernel("clone3"))
}

/// Writes the mappings of a new user namespace, and what else only the runtime may write of its first process.
///
/// # Errors
/// write(2)'s, naming the field.
pub(super) fn prepare(user: &UserNamespace, steps: &[Step], pid: Pid) -> Result<()> {
    if let Some(mappings) = user.mappings.as_ref().filter(|_| user.new) {
        userns::write_mappings(pid, &mappings.uids.to_string(), &mappings.gids.to_string()).map_err(
            |(name, err)| {
                let field = if name == "uid_map" { "linux.uidMappings" } else { "linux.gidMappings" };
                in_words(format!("{field}: write /proc/{pid}/{name}"), &err)
            },
        )?;
    }
    for step in steps {
        if let Step::Inside(inside::Step::Rlimit { resource, hard, .. }) = step {
            process::raise_hard_limit(pid.as_raw(), *resource, *hard)
                .map_err(kernel(format!("process.rlimits: {}", inside::rlimit_name(*resource))))?;
        }
    }
    match user.oom_score_adj {
        Some(value) => write(&PathBuf::from(format!("/proc/{pid}/oom_score_adj")), &value.to_string()),
        None => Ok(()),
    }
}

/// Gives a cgroup to a user of the container (runtime-spec, config-linux.md, "Cgroup ownership"): its directory, and the files
/// that the kernel lists for that.
///
/// # Errors
/// chown(2)'s.
pub(super) fn delegate(cgroup: &Cgroup, uid: u32) -> Result<()> {
    let own = |path: &Path| match chown(path, Some(uid), None) {
        Err(err) if err.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other.map_err(file("give away", path)),
    };
    own(cgroup.path())?;
    // The specification's own list, where the kernel has none.
    let list = fs::read_to_string(DELEGATED_FILES)
        .unwrap_or_else(|_| "cgroup.procs\ncgroup.subtree_control\ncgroup.threads\n".into());
    list.lines().try_for_each(|name| own(&cgroup.path().join(name)))
}

fn write(path: &Path, text: &str) -> Result<()> {
    OpenOptions::new()
        .write(true)
        .open(path)
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .map_err(file("write", path))
}

fn in_words(what: String, err: &io::Error) -> Error {
    kernel(what)(err.raw_os_error().map_or(nix::errno::Errno::EIO, nix::errno::Errno::from_raw))
}
