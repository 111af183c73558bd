//! Whether anybody has a file open for writing: fcntl(2), "Leases".

use std::io;
use std::os::fd::{AsFd, AsRawFd as _};

/// `asm-generic/fcntl.h`; libc does not have it for glibc.
const F_SETSIG: libc::c_int = 10;

/// Whether some process has this regular file, open for reading here, open for writing.
///
/// Takes a read lease and gives it back at once: the kernel refuses one while there is a writer. A process that opens the
/// file for writing in between waits until the lease is given back. The kernel would tell the holder by a signal whose
/// default is to end the process, so one that is ignored by default is chosen first.
///
/// # Errors
/// Where the file system knows no leases (9p, NFS, FUSE), or the file is another user's and `CAP_LEASE` is lacking.
pub fn open_for_writing(file: impl AsFd) -> io::Result<bool> {
    set(&file, F_SETSIG, libc::SIGURG)?;
    match set(&file, libc::F_SETLEASE, libc::F_RDLCK) {
        Ok(()) => set(&file, libc::F_SETLEASE, libc::F_UNLCK).map(|()| false),
        Err(error) if error.raw_os_error() == Some(libc::EAGAIN) => Ok(true),
        Err(error) => Err(error),
    }
}

fn set(file: &impl AsFd, command: libc::c_int, argument: libc::c_int) -> io::Result<()> {
    // SAFETY: F_SETSIG and F_SETLEASE take an int and touch no memory of ours; `file` keeps the descriptor open.
    let result = unsafe { libc::fcntl(file.as_fd().as_raw_fd(), command, argument) };
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{File, OpenOptions};

    #[test]
    fn a_writer_is_seen_and_a_reader_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        std::fs::write(&path, "x").unwrap();
        let file = File::open(&path).unwrap();
        assert!(!open_for_writing(&file).unwrap());
        let other = File::open(&path).unwrap();
        assert!(!open_for_writing(&file).unwrap());
        drop(other);
        let writer = OpenOptions::new().append(true).open(&path).unwrap();
        assert!(open_for_writing(&file).unwrap());
        drop(writer);
        assert!(!open_for_writing(&file).unwrap());
    }

    #[test]
    fn a_writer_that_comes_in_between_does_no_harm() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        std::fs::write(&path, "x").unwrap();
        let file = File::open(&path).unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for _ in 0..2000 {
                    drop(OpenOptions::new().append(true).open(&path).unwrap());
                }
            });
            for _ in 0..2000 {
                open_for_writing(&file).unwrap();
            }
        });
    }
}
