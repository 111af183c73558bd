//! `run` and `exec` in the foreground with a terminal: what the caller types goes to the container's terminal, and what is
//! written there comes back, with the caller's own terminal in raw mode meanwhile.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::termios::{SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr};
use podwright_sys::{fdpass, process, terminal};

use super::exit_status;
use super::terminal::find_host;
use crate::error::{Error, Result, file, kernel};

/// Read at once, in bytes.
const CHUNK: usize = 8192;

/// How long until the master is looked at again after all processes have closed the terminal: one may open it anew, and
/// nothing tells.
const HANGUP_PAUSE: u16 = 100;

/// Puts the caller's terminal back as it was.
struct Raw<'a> {
    terminal: BorrowedFd<'a>,
    before: Termios,
}

impl<'a> Raw<'a> {
    fn set(terminal: BorrowedFd<'a>) -> nix::Result<Self> {
        let before = tcgetattr(terminal)?;
        let mut raw = before.clone();
        cfmakeraw(&mut raw);
        tcsetattr(terminal, SetArg::TCSANOW, &raw)?;
        Ok(Self { terminal, before })
    }
}

impl Drop for Raw<'_> {
    fn drop(&mut self) {
        // A terminal that has gone needs no mode.
        tcsetattr(self.terminal, SetArg::TCSANOW, &self.before).unwrap_or(());
    }
}

/// Between the caller's descriptors and the container's terminal until its process ends; gives its exit status. The signals that
/// [`hold_signals`](super::hold_signals) keeps are passed on.
///
/// # Errors
/// Those of reading and writing; a process that goes on is left to the caller.
pub(super) fn proxy(pidfd: &impl AsFd, console: &UnixStream) -> Result<i32> {
    let (_, mut fds) = fdpass::receive(console, CHUNK).map_err(file("receive", "the container's terminal"))?;
    let master = fds.pop().ok_or_else(|| Error::Container("its terminal did not arrive".into()))?;
    fcntl(&master, FcntlArg::F_SETFL(OFlag::O_RDWR | OFlag::O_NONBLOCK)).map_err(kernel("fcntl of the terminal"))?;
    let signals = SignalFd::with_flags(&SigSet::all(), SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK);
    let signals = signals.map_err(kernel("signalfd"))?;
    let (stdin, stdout, stderr) = (io::stdin(), io::stdout(), io::stderr());
    let host = find_host([stdin.as_fd(), stdout.as_fd(), stderr.as_fd()]);
    let _raw = host.map(Raw::set).transpose().map_err(kernel("make the caller's terminal raw"))?;
    let mut proxy =
        Proxy { master: master.into(), host, typed: Vec::new(), stdin: Some(stdin.as_fd()), hung_up: false };
    proxy.resize()?;
    loop {
        proxy.wait(&signals)?;
        while let Some(signal) = signals.read_signal().map_err(kernel("read a signal"))? {
            match Signal::try_from(signal.ssi_signo.cast_signed()) {
                Ok(Signal::SIGCHLD) => {
                    if let Some(status) = exit_status(pidfd)? {
                        proxy.show()?;
                        return Ok(status);
                    }
                }
                Ok(Signal::SIGWINCH) => proxy.resize()?,
                Ok(Signal::SIGPIPE) => {}
                _ => match process::pidfd_send_signal(pidfd, signal.ssi_signo.cast_signed()) {
                    Ok(()) | Err(Errno::ESRCH) => {}
                    Err(errno) => return Err(kernel(format!("send signal {}", signal.ssi_signo))(errno)),
                },
            }
        }
        proxy.read_typed()?;
        proxy.write_typed()?;
        proxy.show()?;
    }
}

struct Proxy<'a> {
    /// Does not block.
    master: File,
    /// The caller's terminal, if it has one.
    host: Option<BorrowedFd<'a>>,
    /// Read from stdin and not yet written to the master.
    typed: Vec<u8>,
    /// `None` at its end.
    stdin: Option<BorrowedFd<'a>>,
    /// No process has the terminal open.
    hung_up: bool,
}

impl Proxy<'_> {
    fn resize(&self) -> Result<()> {
        let Some(host) = self.host else { return Ok(()) };
        let size = terminal::size(host).map_err(kernel("size of the caller's terminal"))?;
        terminal::set_size(&self.master, size.0, size.1).map_err(kernel("size of the container's terminal"))
    }

    fn wait(&self, signals: &SignalFd) -> Result<()> {
        let mut fds = vec![PollFd::new(signals.as_fd(), PollFlags::POLLIN)];
        // What was typed is passed on before more is read.
        fds.extend(self.stdin.filter(|_| self.typed.is_empty()).map(|stdin| PollFd::new(stdin, PollFlags::POLLIN)));
        let write = if self.typed.is_empty() { PollFlags::empty() } else { PollFlags::POLLOUT };
        if !self.hung_up {
            fds.push(PollFd::new(self.master.as_fd(), PollFlags::POLLIN | write));
        }
        let timeout = if self.hung_up { PollTimeout::from(HANGUP_PAUSE) } else { PollTimeout::NONE };
        match poll(&mut fds, timeout) {
            Ok(_) | Err(Errno::EINTR) => Ok(()),
            Err(errno) => Err(kernel("poll")(errno)),
        }
    }

    fn read_typed(&mut self) -> Result<()> {
        let Some(stdin) = self.stdin.filter(|_| self.typed.is_empty()) else { return Ok(()) };
        // It may be somebody else's too, so it stays blocking, and is read only when there is something.
        let mut ready = [PollFd::new(stdin, PollFlags::POLLIN)];
        if poll(&mut ready, PollTimeout::ZERO).map_err(kernel("poll stdin"))? == 0 {
            return Ok(());
        }
        let mut chunk = [0; CHUNK];
        match nix::unistd::read(stdin, &mut chunk) {
            Ok(0) | Err(Errno::EIO) => self.stdin = None,
            Ok(length) => self.typed.extend(chunk.iter().take(length)),
            Err(Errno::EAGAIN | Errno::EINTR) => {}
            Err(errno) => return Err(kernel("read stdin")(errno)),
        }
        Ok(())
    }

    fn write_typed(&mut self) -> Result<()> {
        if self.typed.is_empty() {
            return Ok(());
        }
        match self.master.write(&self.typed) {
            Ok(length) => drop(self.typed.drain(..length)),
            Err(err) if err.kind() == io::ErrorKind::WouldBlock => {}
            Err(err) if err.raw_os_error() == Some(nix::libc::EIO) => self.typed.clear(),
            Err(err) => return Err(file("write to", "the container's terminal")(err)),
        }
        Ok(())
    }

    /// Passes on all that the container has written so far.
    fn show(&mut self) -> Result<()> {
        let mut chunk = [0; CHUNK];
        loop {
            match self.master.read(&mut chunk) {
                Ok(0) => self.hung_up = true,
                Ok(length) => {
                    self.hung_up = false;
                    let mut stdout = io::stdout().lock();
                    let written =
                        stdout.write_all(chunk.get(..length).unwrap_or_default()).and_then(|()| stdout.flush());
                    written.map_err(file("write to", "stdout"))?;
                    continue;
                }
                Err(err) if err.kind() == io::ErrorKind::WouldBlock => self.hung_up = false,
                Err(err) if err.raw_os_error() == Some(nix::libc::EIO) => self.hung_up = true,
                Err(err) => return Err(file("read from", "the container's terminal")(err)),
            }
            return Ok(());
        }
    }
}
