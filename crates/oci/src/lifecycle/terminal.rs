//! The console socket: who gets the master of a container's terminal.

use std::io::{self, IsTerminal as _};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;

use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use podwright_sys::{fdpass, mount, terminal};

use crate::error::{Error, Result, file, kernel};
use crate::plan::{Step, TerminalSize};

/// Who gets the master of a terminal.
pub(super) struct Console {
    /// The first process's end of a connection, over which it sends the master.
    pub(super) theirs: Option<UnixStream>,
    /// Our end, where this process is the one that gets it.
    pub(super) ours: Option<UnixStream>,
}

/// Connects to the console socket where the steps make a terminal, before anything else is made. A command in the foreground
/// without a socket takes the terminal itself, which then begins with the size of the caller's.
///
/// # Errors
/// [`Error::Usage`] for a terminal that nobody takes, or a socket without a terminal; connect(2)'s.
pub(super) fn connect(steps: &mut [Step], socket: Option<&Path>, foreground: bool) -> Result<Console> {
    let wanted = steps.iter().any(|step| matches!(step, Step::OpenTerminal { .. }));
    match (wanted, socket) {
        (false, None) => Ok(Console { theirs: None, ours: None }),
        (true, Some(path)) => Ok(Console { theirs: Some(connect_to(path)?), ours: None }),
        (true, None) if foreground => {
            for step in steps {
                if let Step::OpenTerminal { size: size @ None, .. } = step {
                    *size = size_of_host();
                }
            }
            let (ours, theirs) = UnixStream::pair().map_err(file("make", "socketpair"))?;
            Ok(Console { theirs: Some(theirs), ours: Some(ours) })
        }
        (true, None) => Err(Error::Usage(
            "process.terminal is true: a command that does not wait needs --console-socket to send the terminal to"
                .into(),
        )),
        (false, Some(_)) => {
            Err(Error::Usage("--console-socket: process.terminal is not true, so there is nothing to send".into()))
        }
    }
}

/// The caller's terminal, if it has one.
pub(super) fn find_host<'a>(stdio: [BorrowedFd<'a>; 3]) -> Option<BorrowedFd<'a>> {
    stdio.into_iter().find(BorrowedFd::is_terminal)
}

fn size_of_host() -> Option<TerminalSize> {
    let (stdin, stdout, stderr) = (io::stdin(), io::stdout(), io::stderr());
    let host = find_host([stdin.as_fd(), stdout.as_fd(), stderr.as_fd()])?;
    // Without one it begins with none.
    let (rows, columns) = terminal::size(host).ok()?;
    Some(TerminalSize { rows, columns })
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

/// Sends a pidfd to whoever asks for it: it stays the process's, whatever becomes of the pid.
///
/// # Errors
/// connect(2)'s and sendmsg(2)'s.
pub(super) fn send_pidfd(socket: Option<&Path>, pidfd: &OwnedFd) -> Result<()> {
    let Some(path) = socket else { return Ok(()) };
    fdpass::send(&connect_to(path)?, b"pidfd", &[pidfd.as_fd()]).map_err(file("send a pidfd to", path))
}
