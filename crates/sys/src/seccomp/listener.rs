//! The other end of a filter that notifies: takes each call that waits, and answers it.

use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// The descriptor that [`super::program::Program::load_with_listener`] hands over.
#[derive(Debug)]
pub struct Listener(OwnedFd);

/// A call that waits for its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Notification {
    /// The kernel's number for it.
    pub id: u64,
    /// The thread that makes it.
    pub tid: i32,
    /// Which call, as the architecture numbers it.
    pub number: i32,
    /// Its arguments; addresses are the caller's.
    pub args: [u64; 6],
}

/// What becomes of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// The kernel does it. What its pointers point to may have changed since it was looked at.
    Proceed,
    /// It fails with this error and is not done.
    Fail(Errno),
}

impl From<OwnedFd> for Listener {
    fn from(fd: OwnedFd) -> Self {
        Self(fd)
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Listener {
    /// Waits for the next call; `None` when nobody is left under the filter.
    ///
    /// # Errors
    /// Those of poll(2) and of `SECCOMP_IOCTL_NOTIF_RECV`.
    pub fn next(&self) -> nix::Result<Option<Notification>> {
        loop {
            let mut fds = [PollFd::new(self.as_fd(), PollFlags::POLLIN)];
            match poll(&mut fds, PollTimeout::NONE) {
                Err(Errno::EINTR) => continue,
                other => other?,
            };
            let [ready] = fds;
            let flags = ready.revents().unwrap_or(PollFlags::empty());
            if !flags.contains(PollFlags::POLLIN) {
                return Ok(None);
            }
            match self.receive() {
                // Whoever called has been killed since.
                Err(Errno::EINTR | Errno::ENOENT) => {}
                other => return other.map(Some),
            }
        }
    }

    fn receive(&self) -> nix::Result<Notification> {
        let data = libc::seccomp_data { nr: 0, arch: 0, instruction_pointer: 0, args: [0; 6] };
        // The kernel refuses one that is not all zero.
        let mut notification = libc::seccomp_notif { id: 0, pid: 0, flags: 0, data };
        // SAFETY: the descriptor is open, and `notification` is what this request fills in.
        let result = unsafe { libc::ioctl(self.0.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_RECV, &raw mut notification) };
        Errno::result(result)?;
        let libc::seccomp_notif { id, pid, data, .. } = notification;
        Ok(Notification { id, tid: pid.cast_signed(), number: data.nr, args: data.args })
    }

    /// Whether the call still waits: then what was read of its thread was the thread's, and not of another one with its number.
    #[must_use]
    pub fn is_waiting(&self, notification: &Notification) -> bool {
        let id = notification.id;
        // SAFETY: the descriptor is open, and the request reads the 8 bytes of `id`.
        let result = unsafe { libc::ioctl(self.0.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_ID_VALID, &raw const id) };
        result == 0
    }

    /// Answers a call. One whose caller has been killed needs no answer.
    ///
    /// # Errors
    /// Those of `SECCOMP_IOCTL_NOTIF_SEND`.
    pub fn answer(&self, notification: &Notification, answer: Answer) -> nix::Result<()> {
        let (error, flags) = match answer {
            Answer::Proceed => (0, libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE as u32),
            Answer::Fail(errno) => (-(errno as i32), 0),
        };
        let response = libc::seccomp_notif_resp { id: notification.id, val: 0, error, flags };
        // SAFETY: the descriptor is open, and the request reads `response`.
        let result = unsafe { libc::ioctl(self.0.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_SEND, &raw const response) };
        match Errno::result(result) {
            Ok(_) | Err(Errno::ENOENT) => Ok(()),
            Err(errno) => Err(errno),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seccomp::profile::{Action, Profile, Rule};

    #[test]
    fn calls_are_answered_from_outside() {
        let rule = Rule { names: vec!["getppid".into()], action: Action::Notify, compare: vec![] };
        let profile = Profile { default: Action::Allow, architectures: vec![], flags: 0, rules: vec![rule] };
        let program = profile.compile().unwrap();
        let (send, receive) = std::sync::mpsc::channel();
        let caller = std::thread::spawn(move || {
            nix::sys::prctl::set_no_new_privs().unwrap();
            program.load_with_listener(move |fd| send.send(fd).is_ok()).unwrap();
            // SAFETY: the call takes no arguments.
            let call = || Errno::result(unsafe { libc::syscall(libc::SYS_getppid) });
            (call(), call())
        });
        let listener = Listener::from(receive.recv().unwrap());
        let first = listener.next().unwrap().unwrap();
        assert_eq!(i64::from(first.number), libc::SYS_getppid);
        assert!(listener.is_waiting(&first));
        listener.answer(&first, Answer::Fail(Errno::ENOSPC)).unwrap();
        assert!(!listener.is_waiting(&first));
        let second = listener.next().unwrap().unwrap();
        listener.answer(&second, Answer::Proceed).unwrap();
        let (refused, done) = caller.join().unwrap();
        assert_eq!(refused, Err(Errno::ENOSPC));
        assert!(done.unwrap() > 0);
        assert_eq!(listener.next().unwrap(), None, "nobody is left");
    }
}
