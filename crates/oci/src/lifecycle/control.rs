//! `start`, `state`, `kill`, `delete` and `list`: commands on a container that exists.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use nix::unistd::Pid;
use podwright_sys::cgroup::Cgroup;
use podwright_sys::{mount, process};
use serde::Serialize;

use super::launch::{unmount, warn};
use super::{listener, rdt};
use crate::error::{Error, Result, file, kernel};
use crate::hooks::{self, HookState};
use crate::state::{State, StateDir, Status};
use crate::sync::{self, Said};

/// Lets a created container execute its program.
///
/// # Errors
/// [`Error::NotFound`], [`Error::WrongStatus`]; [`Error::Container`] when the program cannot be executed.
pub fn start(root: &Path, id: &str) -> Result<()> {
    let dir = StateDir::new(root, id)?;
    let state = dir.load()?;
    let status = dir.status(state.as_ref())?;
    let (Status::Created, Some(state)) = (status, state) else {
        return Err(Error::WrongStatus { id: id.into(), found: status.as_str(), command: "start", needed: "created" });
    };
    let socket = dir.start_socket();
    let fd = open(dir.path(), OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty());
    let fd = fd.map_err(kernel(format!("open {}", dir.path().display())))?;
    let short = Path::new(&mount::proc_path(&fd)).join(socket.file_name().unwrap_or_default());
    let mut stream = UnixStream::connect(short).map_err(file("connect to", &socket))?;
    // From here on it counts as started, and nobody else can start it.
    fs::remove_file(&socket).map_err(file("remove", &socket))?;
    sync::send_go(&mut stream).map_err(file("write to", &socket))?;
    loop {
        match sync::listen(&mut stream).map_err(file("read from", &socket))? {
            Said::Failed(text) => return Err(Error::Container(text)),
            Said::Listener(listener) => {
                let json = hook_state(&state).json(Status::Created.as_str(), state.pid);
                listener::hand_over(&mut stream, &listener, state.pid, &json)?;
            }
            Said::Hooks | Said::Ready | Said::Executing => break,
        }
    }
    run_poststart(&state);
    Ok(())
}

/// The container's state as the specification's JSON.
///
/// # Errors
/// [`Error::NotFound`].
pub fn state(root: &Path, id: &str) -> Result<String> {
    let dir = StateDir::new(root, id)?;
    let state = dir.load()?;
    let status = dir.status(state.as_ref())?;
    let Some(state) = state else {
        let none = HookState { id, bundle: Path::new(""), annotations: None };
        return Ok(none.json(status.as_str(), 0));
    };
    let pid = if status == Status::Stopped { 0 } else { state.pid };
    Ok(hook_state(&state).json(status.as_str(), pid))
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
    let wrong =
        || Error::WrongStatus { id: id.into(), found: status.as_str(), command: "kill", needed: "running or created" };
    let state = state.ok_or_else(wrong)?;
    let pidfd = first_process(&state)?.ok_or_else(wrong)?;
    process::pidfd_send_signal(&pidfd, signal).map_err(kernel(format!("send signal {signal} to {id}")))
}

fn kill_all(cgroup: &Cgroup, signal: i32) -> Result<()> {
    if signal == nix::libc::SIGKILL {
        return Ok(cgroup.kill()?);
    }
    // Frozen, so that no process forks past the signal.
    cgroup.freeze(true)?;
    let sent = signal_tree(cgroup, signal);
    cgroup.freeze(false)?;
    sent
}

fn signal_tree(cgroup: &Cgroup, signal: i32) -> Result<()> {
    for pid in cgroup.procs()? {
        let sent = process::pidfd_open(Pid::from_raw(pid)).and_then(|fd| process::pidfd_send_signal(fd, signal));
        match sent {
            Ok(()) | Err(Errno::ESRCH) => {}
            Err(errno) => return Err(kernel(format!("send signal {signal} to process {pid}"))(errno)),
        }
    }
    for child in cgroup.children()? {
        signal_tree(&child, signal)?;
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

/// Removes what is left of a container that has ended; with `force` ends it first, and one that does not exist is fine.
///
/// # Errors
/// [`Error::NotFound`], [`Error::WrongStatus`]; those of removing the cgroup.
pub fn delete(root: &Path, id: &str, force: bool) -> Result<()> {
    let dir = StateDir::new(root, id)?;
    let state = match dir.load() {
        Ok(state) => state,
        Err(Error::NotFound(_)) if force => return Ok(()),
        // A state that cannot be read must not make a container undeletable.
        Err(Error::File { .. }) if force => None,
        Err(err) => return Err(err),
    };
    let status = dir.status(state.as_ref())?;
    let cgroup = dir.cgroup();
    if !force && matches!(status, Status::Running | Status::Creating) {
        return Err(Error::WrongStatus {
            id: id.into(),
            found: status.as_str(),
            command: "delete",
            needed: "stopped (or use --force)",
        });
    }
    let Some(cgroup) = cgroup else { return dir.remove() };
    destroy(&dir, state.as_ref(), &cgroup)
}

/// Ends what runs, removes the cgroup and the state, and runs the poststop hooks.
pub(super) fn destroy(dir: &StateDir, state: Option<&State>, cgroup: &Path) -> Result<()> {
    if let Some(state) = state
        && let Some(pidfd) = first_process(state)?
    {
        // Its cgroup ends it as well, unless somebody has moved it.
        match process::pidfd_send_signal(&pidfd, nix::libc::SIGKILL) {
            Ok(()) | Err(Errno::ESRCH) => {}
            Err(errno) => return Err(kernel("send SIGKILL")(errno)),
        }
    }
    Cgroup::at(cgroup).remove()?;
    if let Some(state) = state {
        rdt::remove(&state.resctrl)?;
        state.host_mount.as_deref().map_or(Ok(()), unmount)?;
    }
    dir.remove()?;
    if let Some(state) = state {
        let json = hook_state(state).json(Status::Stopped.as_str(), 0);
        // The container is gone either way; the specification wants a failure told and the rest to go on.
        for hook in &state.poststop {
            hooks::run_all("poststop", std::slice::from_ref(hook), &json).unwrap_or_else(|err| warn(&err));
        }
    }
    Ok(())
}

pub(super) fn run_poststart(state: &State) {
    if state.poststart.is_empty() {
        return;
    }
    let json = hook_state(state).json(Status::Running.as_str(), state.pid);
    for hook in &state.poststart {
        hooks::run_all("poststart", std::slice::from_ref(hook), &json).unwrap_or_else(|err| warn(&err));
    }
}

pub(super) fn hook_state(state: &State) -> HookState<'_> {
    HookState {
        id: &state.id,
        bundle: &state.bundle,
        annotations: Some(&state.annotations).filter(|annotations| !annotations.is_empty()),
    }
}

/// A line of `list`.
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
}

/// All containers below `root`, by id.
///
/// # Errors
/// read(2)'s on the directory and the states.
pub fn list(root: &Path) -> Result<Vec<Listed>> {
    let entries = match fs::read_dir(root) {
        Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(file("list", root))?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let name = entry.map_err(file("list", root))?.file_name();
        let Ok(dir) = StateDir::new(root, &name.to_string_lossy()) else { continue };
        let state = match dir.load() {
            // It was deleted meanwhile.
            Err(Error::NotFound(_)) => continue,
            other => other?,
        };
        let status = dir.status(state.as_ref())?;
        let show = |path: Option<&Path>| path.map(|path| path.display().to_string()).unwrap_or_default();
        found.push(Listed {
            oci_version: crate::OCI_VERSION,
            id: name.to_string_lossy().into_owned(),
            pid: state.as_ref().filter(|_| status != Status::Stopped).map_or(0, |state| state.pid),
            status: status.as_str(),
            bundle: show(state.as_ref().map(|state| state.bundle.as_path())),
            rootfs: show(state.as_ref().map(|state| state.rootfs.as_path())),
            created: state.map(|state| state.created).unwrap_or_default(),
        });
    }
    found.sort_by(|a, b| a.id.cmp(&b.id));
    Ok(found)
}
