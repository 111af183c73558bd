//! The console socket: who gets the master of a container's terminal.

use std::os::unix::net::UnixStream;
use std::path::Path;

use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use podwright_sys::mount;

use crate::error::{Error, Result, file, kernel};
use crate::plan::Step;

/// Connects to the console socket where the steps make a terminal, before anything else is made: the first process sends
/// the master over this connection.
///
/// # Errors
/// [`Error::Usage`] for a terminal without a socket, or a socket without a terminal; connect(2)'s.
pub(super) fn connect(steps: &[Step], socket: Option<&Path>) -> Result<Option<UnixStream>> {
    let wanted = steps.iter().any(|step| matches!(step, Step::OpenTerminal { .. }));
    match (wanted, socket) {
        (false, None) => Ok(None),
        (true, Some(path)) => connect_to(path).map(Some),
        (true, None) => {
            Err(Error::Usage("process.terminal is true: it needs --console-socket to send the terminal to".into()))
        }
        (false, Some(_)) => {
            Err(Error::Usage("--console-socket: process.terminal is not true, so there is nothing to send".into()))
        }
    }
}

/// Connects to a socket through its directory's descriptor: its path may be too long for an address.
pub(super) fn connect_to(path: &Path) -> Result<UnixStream> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(Error::Usage(format!("{}: is no path of a socket", path.display())));
    };
    let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
    let dir = open(parent, OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty());
    let dir = dir.map_err(kernel(format!("open {}", parent.display())))?;
    UnixStream::connect(Path::new(&mount::proc_path(&dir)).join(name)).map_err(file("connect to", path))
}
