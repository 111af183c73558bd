//! `start`, `state`, `kill`, `delete` and `list`: commands on a container that exists.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::net::UnixStream;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use nix::unistd::Pid;
use podwright_sys::cgroup::Cgroup;
use podwright_sys::{mount, process};
use serde::Serialize;

use super::launch::unmount;
use super::{change, listener, rdt, wrong_status};
use crate::clock;
use crate::error::{Error, Result, file, kernel};
use crate::hooks::{self, HookState, Place};
use crate::log::warn;
use crate::state::{LOCK_TIMEOUT, Lock, State, StateDir, Status};
use crate::sync::{self, Said};
use crate::systemd;

/// Lets a created container execute its program.
///
/// # Errors
/// [`Error::NotFound`], [`Error::WrongStatus`]; [`Error::Container`] when the program cannot be executed.
pub fn start(root: &Path, id: &str) -> Result<()> {
    let (lock, state, status) = change(root, id)?;
    let (Status::Created, Some(state)) = (status, state) else { return Err(wrong_status(id, status, "start")) };
    let dir = StateDir::new(root, id)?;
    let socket = dir.start_socket();
    let fd = open(dir.path(), OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty());
    let fd = fd.map_err(kernel(format!("open {}", dir.path().display())))?;
    let short = Path::new(&mount::proc_path(&fd)).join(socket.file_name().unwrap_or_default());
    let mut stream = UnixStream::connect(short).map_err(file("connect to", &socket))?;
    // From here on it counts as started, and nobody else can start it.
    fs::remove_file(&socket).map_err(file("remove", &socket))?;
    let mut lives = sync::send_go(&mut stream).map_err(file("write to", &socket))?;
    loop {
        match sync::listen(&mut stream).map_err(file("read from", &socket))? {
            Said::Failed(text) => return Err(Error::Container(text)),
            Said::HookFailed(text) => {
                destroy(&dir, &lock, Some(&state))?;
                return Err(Error::Container(text));
            }
            Said::Listener(listener) => {
                let json = hook_state(&state).json(Status::Created.as_str(), state.pid);
                lives = listener::hand_over(&mut stream, &listener, state.pid, &json)?;
            }
            Said::Executing if lives => break,
            _ => return Err(Error::Container("it ended before it could execute its program".into())),
        }
    }
    // Hooks may call this runtime.
    drop(lock);
    run_poststart(&dir, &state)
}

/// The container's state: the specification's fields, and those that runc adds.
///
/// # Errors
/// [`Error::NotFound`].
pub fn state(root: &Path, id: &str) -> Result<Listed> {
    let dir = StateDir::new(root, id)?;
    let state = dir.load()?;
    let status = dir.status(state.as_ref())?;
    Ok(listed(id, &dir, state, status))
}

/// Sends a signal to the first process, or with `all` to every process in the container's cgroup.
///
/// # Errors
/// [`Error::NotFound`]; [`Error::WrongStatus`] for a container that has ended, unless `all`.
pub fn kill(root: &Path, id: &str, signal: i32, all: bool) -> Result<()> {
    let dir = StateDir::new(root, id)?;
    let state = dir.load()?;
    if all {
        let cgroup = dir.cgroup().map(Cgroup::at).ok_or_else(|| Error::NotFound(id.to_owned()))?;
        return kill_all(&cgroup, signal);
    }
    let status = dir.status(state.as_ref())?;
    let state = state.ok_or_else(|| wrong_status(id, status, "kill"))?;
    let pidfd = first_process(&state)?.ok_or_else(|| wrong_status(id, Status::Stopped, "kill"))?;
    process::pidfd_send_signal(&pidfd, signal).map_err(kernel(format!("send signal {signal} to {id}")))
}

fn kill_all(cgroup: &Cgroup, signal: i32) -> Result<()> {
    if signal == nix::libc::SIGKILL {
        return Ok(cgroup.kill()?);
    }
    if !cgroup.exists() {
        return Ok(());
    }
    match signal_all(cgroup, signal) {
        // It has gone meanwhile.
        Err(_) if !cgroup.exists() => Ok(()),
        other => other,
    }
}

fn signal_all(cgroup: &Cgroup, signal: i32) -> Result<()> {
    // Frozen, so that no process forks past the signal; a paused container stays so.
    let paused = cgroup.is_frozen()?;
    cgroup.freeze(true)?;
    let sent = signal_tree(cgroup, signal);
    if !paused {
        cgroup.freeze(false)?;
    }
    sent
}

fn signal_tree(cgroup: &Cgroup, signal: i32) -> Result<()> {
    for pid in cgroup.all_procs()? {
        let sent = process::pidfd_open(Pid::from_raw(pid)).and_then(|fd| process::pidfd_send_signal(fd, signal));
        match sent {
            Ok(()) | Err(Errno::ESRCH) => {}
            Err(errno) => return Err(kernel(format!("send signal {signal} to process {pid}"))(errno)),
        }
    }
    Ok(())
}

/// A descriptor of the first process; `None` when it has ended.
pub(super) fn first_process(state: &State) -> Result<Option<OwnedFd>> {
    let pid = Pid::from_raw(state.pid);
    let pidfd = match process::pidfd_open(pid) {
        Err(Errno::ESRCH) => return Ok(None),
        other => other.map_err(kernel(format!("pidfd_open {pid}")))?,
    };
    // Looked at after the descriptor is there: if this is the container's process, then so is that.
    let stat = process::stat(pid).map_err(file("read", format!("/proc/{pid}/stat")))?;
    Ok(stat.filter(|stat| stat.start == state.pid_start && !stat.zombie).map(|_| pidfd))
}

/// Removes what is left of a container that has ended, or that was never started; with `force` ends it first, and one that
/// does not exist is fine.
///
/// # Errors
/// [`Error::NotFound`], [`Error::WrongStatus`]; those of removing the cgroup.
pub fn delete(root: &Path, id: &str, force: bool) -> Result<()> {
    if force {
        return delete_by_force(root, id);
    }
    let (lock, state, status) = change(root, id)?;
    if !matches!(status, Status::Created | Status::Stopped) {
        return Err(wrong_status(id, status, "delete"));
    }
    let dir = StateDir::new(root, id)?;
    destroy(&dir, &lock, state.as_ref())
}

fn delete_by_force(root: &Path, id: &str) -> Result<()> {
    let dir = StateDir::new(root, id)?;
    // Whoever is still making it gives up when its first process is gone, and may even clean up.
    if let Some(cgroup) = dir.cgroup() {
        Cgroup::at(cgroup).kill()?;
    }
    let lock = match dir.seize(LOCK_TIMEOUT) {
        Err(Error::NotFound(_)) => return Ok(()),
        other => other?,
    };
    let state = match dir.load() {
        Ok(state) => state,
        Err(Error::NotFound(_)) => return Ok(()),
        // A state that cannot be read must not make a container undeletable.
        Err(Error::File { .. } | Error::StateVersion { .. }) => None,
        Err(err) => return Err(err),
    };
    destroy(&dir, &lock, state.as_ref())
}

/// Ends what runs, removes the cgroup and the state, and runs the poststop hooks.
pub(super) fn destroy(dir: &StateDir, lock: &Lock, state: Option<&State>) -> Result<()> {
    if let Some(state) = state
        && let Some(pidfd) = first_process(state)?
    {
        // Its cgroup ends it as well, unless somebody has moved it.
        match process::pidfd_send_signal(&pidfd, nix::libc::SIGKILL) {
            Ok(()) | Err(Errno::ESRCH) => {}
            Err(errno) => return Err(kernel("send SIGKILL")(errno)),
        }
    }
    // Either of the two may have been damaged.
    let cgroup = dir.cgroup().or_else(|| state.map(|state| state.cgroup.clone()));
    if let Some(cgroup) = cgroup.map(Cgroup::at) {
        // What ended before it had a state is known by its cgroup alone. systemd would not notice that one's removal.
        let name = cgroup.path().file_name().and_then(|name| name.to_str()).filter(|name| name.ends_with(".scope"));
        if let Some(unit) = state.map_or(name, |state| state.unit.as_deref()) {
            // With a dead systemd the container goes all the same.
            cgroup.kill()?;
            systemd::stop(unit).unwrap_or_else(|err| warn(&err));
        }
        cgroup.remove()?;
    }
    if let Some(state) = state {
        rdt::remove(&state.resctrl)?;
    }
    dir.host_mount().as_deref().map_or(Ok(()), unmount)?;
    dir.remove(lock)?;
    if let Some(state) = state {
        let json = hook_state(state).json(Status::Stopped.as_str(), 0);
        // The container is gone either way; the specification wants a failure told and the rest to go on.
        hooks::run_poststop(&state.poststop, &json, &state.bundle);
    }
    Ok(())
}

/// Runs the poststart hooks. One that fails ends the container and destroys it (runtime-spec 1.3, runtime.md, "Lifecycle", 9).
///
/// # Errors
/// [`Error::Hook`].
pub(super) fn run_poststart(dir: &StateDir, state: &State) -> Result<()> {
    if state.poststart.is_empty() {
        return Ok(());
    }
    let json = hook_state(state).json(Status::Running.as_str(), state.pid);
    let place = Place::Runtime { bundle: &state.bundle, first: None };
    hooks::run_all("poststart", &state.poststart, &json, place, &[])
        .inspect_err(|_| destroy_same(dir, state).unwrap_or_else(|err| warn(&err)))
}

/// Destroys a container without having held it, unless somebody has done so and maybe made another one by this id.
pub(super) fn destroy_same(dir: &StateDir, state: &State) -> Result<()> {
    let lock = match dir.lock(LOCK_TIMEOUT) {
        Err(Error::NotFound(_)) => return Ok(()),
        other => other?,
    };
    match dir.load() {
        Ok(Some(found)) if found == *state => destroy(dir, &lock, Some(state)),
        Ok(_) | Err(Error::NotFound(_)) => Ok(()),
        Err(err) => Err(err),
    }
}

pub(super) fn hook_state(state: &State) -> HookState<'_> {
    HookState {
        id: &state.id,
        bundle: &state.bundle,
        annotations: Some(&state.annotations).filter(|annotations| !annotations.is_empty()),
    }
}

/// What `state` and `list` tell of a container.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Listed {
    /// The specification's version.
    pub oci_version: &'static str,
    /// The container.
    pub id: String,
    /// Its first process; 0 when that has ended.
    pub pid: i32,
    /// Its status.
    pub status: &'static str,
    /// Its bundle.
    pub bundle: String,
    /// Its root file system.
    pub rootfs: String,
    /// When it was created, RFC 3339.
    pub created: String,
    /// From the configuration.
    #[serde(skip_serializing_if = "HashMap::is_empty")]
    pub annotations: HashMap<String, String>,
    /// Who made it: a user's name, or # and the number.
    pub owner: String,
}

fn listed(id: &str, dir: &StateDir, state: Option<State>, status: Status) -> Listed {
    let owner = fs::metadata(dir.path()).map_or(0, |found| found.uid());
    let show = |path: Option<&Path>| path.map(|path| path.display().to_string()).unwrap_or_default();
    Listed {
        oci_version: crate::OCI_VERSION,
        id: id.to_owned(),
        pid: state.as_ref().filter(|_| status != Status::Stopped).map_or(0, |state| state.pid),
        status: status.as_str(),
        bundle: show(state.as_ref().map(|state| state.bundle.as_path())),
        rootfs: show(state.as_ref().map(|state| state.rootfs.as_path())),
        // Callers parse it as a time, also of a container that is being made.
        created: state.as_ref().map_or_else(|| clock::EPOCH.to_owned(), |state| state.created.clone()),
        annotations: state.map(|state| state.annotations).unwrap_or_default(),
        // The only user whose name is known without the host's name service, which static programs cannot ask.
        owner: if owner == 0 { "root".into() } else { format!("#{owner}") },
    }
}

/// All containers below `root`, by id. One whose state cannot be read is told of and left out.
///
/// # Errors
/// read(2)'s on the directory.
pub fn list(root: &Path) -> Result<Vec<Listed>> {
    let entries = match fs::read_dir(root) {
        Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(file("list", root))?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let name = entry.map_err(file("list", root))?.file_name();
        let name = name.to_string_lossy();
        let Ok(dir) = StateDir::new(root, &name) else { continue };
        let loaded = dir.load().and_then(|state| Ok((dir.status(state.as_ref())?, state)));
        match loaded {
            Ok((status, state)) => found.push(listed(&name, &dir, state, status)),
            // It was deleted meanwhile.
            Err(Error::NotFound(_)) => {}
            Err(err) => warn(&err),
        }
    }
    found.sort_by(|a, b| a.id.cmp(&b.id));
    Ok(found)
}
