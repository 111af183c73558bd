//! User namespaces: their mappings, and namespaces that exist for the sake of a mapping alone (user_namespaces(7)).

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;

use nix::sched::CloneFlags;
use nix::unistd::Pid;

use crate::process::{Cloned, clone, pidfd_send_signal, wait};

/// Writes the mappings of a process that is in a new user namespace. Each is lines of "inside outside count"; the kernel takes
/// one write for each, once.
///
/// # Errors
/// EPERM without CAP_SETUID and CAP_SETGID in the parent namespace; EINVAL for ranges that overlap. The name of the file
/// comes with it.
pub fn write_mappings(pid: Pid, uids: &str, gids: &str) -> Result<(), (&'static str, io::Error)> {
    for (name, text) in [("uid_map", uids), ("gid_map", gids)] {
        let file = OpenOptions::new().write(true).open(format!("/proc/{pid}/{name}"));
        file.and_then(|mut file| file.write_all(text.as_bytes())).map_err(|err| (name, err))?;
    }
    Ok(())
}

/// A user namespace with these mappings in which nobody lives: what a mount's ids are mapped by
/// ([`crate::mount::map_ids`]). The caller has one thread.
///
/// # Errors
/// clone3(2)'s, and as [`write_mappings`].
pub fn mapping_only(uids: &str, gids: &str) -> io::Result<OwnedFd> {
    let (ours, mut theirs) = UnixStream::pair()?;
    let (pid, pidfd) = match clone(CloneFlags::CLONE_NEWUSER, None)? {
        Cloned::Parent { pid, pidfd } => (pid, pidfd),
        Cloned::Child => {
            // Lives until the other end is closed, which the parent's death does as well.
            drop(ours);
            theirs.read_to_end(&mut Vec::new()).ok();
            // SAFETY: ends the process at once; nothing of the parent's that was copied is run or flushed.
            unsafe { libc::_exit(0) }
        }
    };
    let namespace = write_mappings(pid, uids, gids)
        .map_err(|(_, err)| err)
        .and_then(|()| File::open(format!("/proc/{pid}/ns/user")));
    pidfd_send_signal(&pidfd, libc::SIGKILL)?;
    wait(&pidfd)?;
    drop((ours, theirs));
    namespace.map(OwnedFd::from)
}
