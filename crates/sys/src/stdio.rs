//! Descriptors 0 to 2.

use std::fmt;
use std::io::{self, Write as _};
use std::os::fd::AsFd as _;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::{FileStat, SFlag, fstat, makedev};
use nix::unistd::{dup2_stderr, dup2_stdin, dup2_stdout, ftruncate};

use crate::path::{Root, file_type};

/// Writes a line to standard error, if that takes it. It may be a file on a disk that is full, or a pipe that nobody reads:
/// `eprintln!` ends the program then, which has better things to do than to tell what went wrong.
pub fn say(line: fmt::Arguments<'_>) {
    // There is nobody else to tell.
    drop(io::stderr().write_all(format!("{line}\n").as_bytes()));
}

/// Empties the file that standard error is appended to, if it has more bytes than this. Whatever else it is stays as it is.
pub fn bound_stderr(most: u64) {
    let stderr = io::stderr();
    let is_full = fstat(&stderr).is_ok_and(|stat| {
        file_type(&stat) == SFlag::S_IFREG && u64::try_from(stat.st_size).is_ok_and(|size| size > most)
    });
    if is_full {
        // There is nobody to tell.
        ftruncate(&stderr, 0).unwrap_or(());
    }
}

/// Puts the `/dev/null` below a root in the place of any other on descriptors 0 to 2, open for reading and writing: who has a
/// descriptor of a file can change its mode and its owner, and a container's root has the right to. Where the container may
/// not open its own (its device rules, a file system without devices), the descriptors stay as they are.
///
/// # Errors
/// `ENODEV`: there is something else of that name. openat2(2)'s, but for `EACCES` and `EPERM`.
pub fn use_null_of(root: &Root) -> nix::Result<()> {
    let (stdin, stdout, stderr) = (io::stdin(), io::stdout(), io::stderr());
    // One that is closed stays so.
    let foreign = [stdin.as_fd(), stdout.as_fd(), stderr.as_fd()].map(|fd| fstat(fd).is_ok_and(|stat| is_null(&stat)));
    if foreign == [false; 3] {
        return Ok(());
    }
    let null = match root.open(Path::new("/dev/null"), OFlag::O_RDWR | OFlag::O_NOCTTY) {
        Err(Errno::EACCES | Errno::EPERM) => return Ok(()),
        other => other?,
    };
    if !is_null(&fstat(&null)?) {
        return Err(Errno::ENODEV);
    }
    if foreign[0] {
        dup2_stdin(&null)?;
    }
    if foreign[1] {
        dup2_stdout(&null)?;
    }
    if foreign[2] {
        dup2_stderr(&null)?;
    }
    Ok(())
}

fn is_null(stat: &FileStat) -> bool {
    file_type(stat) == SFlag::S_IFCHR && stat.st_rdev == makedev(1, 3)
}
