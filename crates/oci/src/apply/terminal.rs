//! The steps for a terminal: a pair of the container's own devpts, whose master goes to whoever listens at the console socket.

use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::{Mode, SFlag, fstat, makedev, mknodat};
use nix::sys::statfs::{DEVPTS_SUPER_MAGIC, fstatfs};
use nix::unistd::{dup2_stderr, dup2_stdin, dup2_stdout};
use podwright_inside as inside;
use podwright_sys::path::{Root, file_type};
use podwright_sys::{fdpass, mount, terminal};

use super::{Progress, Result, StepError, kernel};
use crate::plan::{Step, TerminalSize};

pub(super) fn apply(progress: &mut Progress<'_>, step: &Step) -> Result<()> {
    match step {
        Step::OpenTerminal { size, console } => open(progress, *size, *console),
        Step::AttachTerminal => attach(progress),
        _ => Err(StepError::Misplaced),
    }
}

fn open(progress: &mut Progress<'_>, size: Option<TerminalSize>, console: bool) -> Result<()> {
    let own;
    let root = match &progress.root {
        Some(root) => root,
        None => {
            own = inside::own_root().map_err(kernel("process.terminal: open /"))?;
            &own
        }
    };
    let master = open_master(root).map_err(kernel("process.terminal: /dev/pts/ptmx of the container"))?;
    let terminal = terminal::peer(&master).map_err(kernel("process.terminal: open the terminal"))?;
    if let Some(TerminalSize { rows, columns }) = size {
        terminal::set_size(&terminal, rows, columns).map_err(kernel("process.consoleSize"))?;
    }
    if console {
        bind_console(root, &terminal).map_err(kernel("process.terminal: mount /dev/console"))?;
    }
    let number = terminal::number(&master).map_err(kernel("process.terminal: name of the terminal"))?;
    let socket = progress.init.console.take().ok_or(StepError::Misplaced)?;
    fdpass::send(&socket, format!("/dev/pts/{number}").as_bytes(), &[master.as_fd()]).map_err(StepError::Console)?;
    progress.terminal = Some(terminal);
    Ok(())
}

/// A new master. Its directory is known to be a devpts before anything in it is opened, so that no device of the image's
/// making is opened, and the master is known to be one before it is used.
fn open_master(root: &Root) -> nix::Result<OwnedFd> {
    let dir = root.open(Path::new("/dev/pts"), OFlag::O_PATH | OFlag::O_DIRECTORY)?;
    if fstatfs(&dir)?.filesystem_type() != DEVPTS_SUPER_MAGIC {
        return Err(Errno::ENODEV);
    }
    let flags = OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let master = openat(&dir, "ptmx", flags, Mode::empty())?;
    let stat = fstat(&master)?;
    let is_ptmx = file_type(&stat) == SFlag::S_IFCHR && stat.st_rdev == makedev(5, 2);
    if is_ptmx && fstatfs(&master)?.filesystem_type() == DEVPTS_SUPER_MAGIC { Ok(master) } else { Err(Errno::ENODEV) }
}

/// Mounts the terminal by its descriptor, on `/dev/console` itself: no name that the image could have changed is looked up.
fn bind_console(root: &Root, terminal: &OwnedFd) -> nix::Result<()> {
    let dev = root.make_dir(Path::new("/dev"), Mode::from_bits_retain(0o755))?;
    match mknodat(&dev, "console", SFlag::S_IFREG, Mode::from_bits_retain(0o600), 0) {
        Ok(()) | Err(Errno::EEXIST) => {}
        Err(errno) => return Err(errno),
    }
    let place = openat(&dev, "console", OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC, Mode::empty())?;
    if matches!(file_type(&fstat(&place)?), SFlag::S_IFLNK | SFlag::S_IFDIR) {
        return Err(Errno::ELOOP);
    }
    let tree = mount::clone_tree(terminal, Path::new(""), false)?;
    mount::attach(&tree, &place)
}

/// Makes the terminal the session's, and descriptors 0 to 2.
fn attach(progress: &mut Progress<'_>) -> Result<()> {
    let terminal = progress.terminal.take().ok_or(StepError::Misplaced)?;
    terminal::take_control(&terminal).map_err(kernel("process.terminal: make it the controlling one"))?;
    let moved = dup2_stdin(&terminal).and_then(|()| dup2_stdout(&terminal)).and_then(|()| dup2_stderr(&terminal));
    moved.map_err(kernel("process.terminal: use it as descriptors 0 to 2"))
}
