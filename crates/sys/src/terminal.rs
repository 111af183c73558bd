//! Pseudo-terminals: pty(7), ioctl_tty(2).

use std::os::fd::{AsFd, AsRawFd as _, FromRawFd as _, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::OFlag;

/// Opens the other end of a master, whatever its name in whatever file system is (`TIOCGPTPEER`, Linux 4.13).
///
/// # Errors
/// ENOTTY for a descriptor that is no master.
pub fn peer(master: impl AsFd) -> nix::Result<OwnedFd> {
    let master = master.as_fd().as_raw_fd();
    let unlock: libc::c_int = 0;
    // SAFETY: TIOCSPTLCK reads one int through the pointer, which outlives the call.
    Errno::result(unsafe { libc::ioctl(master, libc::TIOCSPTLCK, &raw const unlock) })?;
    let flags = OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
    // SAFETY: TIOCGPTPEER takes an integer and touches no memory.
    let fd = Errno::result(unsafe { libc::ioctl(master, libc::TIOCGPTPEER, flags.bits()) })?;
    // SAFETY: a descriptor the kernel has just made for this call.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// The number of a master's other end: its name below `/dev/pts`.
///
/// # Errors
/// ENOTTY for a descriptor that is no master.
pub fn number(master: impl AsFd) -> nix::Result<u32> {
    let mut number: libc::c_uint = 0;
    // SAFETY: TIOCGPTN writes one unsigned int through the pointer, which outlives the call.
    Errno::result(unsafe { libc::ioctl(master.as_fd().as_raw_fd(), libc::TIOCGPTN, &raw mut number) })?;
    Ok(number)
}

/// A terminal's size in characters: rows and columns.
///
/// # Errors
/// ENOTTY for a descriptor that is no terminal.
pub fn size(terminal: impl AsFd) -> nix::Result<(u16, u16)> {
    let mut size = libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: TIOCGWINSZ writes one winsize through the pointer, which outlives the call.
    Errno::result(unsafe { libc::ioctl(terminal.as_fd().as_raw_fd(), libc::TIOCGWINSZ, &raw mut size) })?;
    Ok((size.ws_row, size.ws_col))
}

/// Sets a terminal's size in characters.
///
/// # Errors
/// ENOTTY for a descriptor that is no terminal.
pub fn set_size(terminal: impl AsFd, rows: u16, columns: u16) -> nix::Result<()> {
    let size = libc::winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: TIOCSWINSZ reads one winsize through the pointer, which outlives the call.
    Errno::result(unsafe { libc::ioctl(terminal.as_fd().as_raw_fd(), libc::TIOCSWINSZ, &raw const size) }).map(drop)
}

/// Makes a terminal the controlling one of the caller's session, which has none and is led by the caller.
///
/// # Errors
/// EPERM when the caller leads no session, or the terminal has one.
pub fn take_control(terminal: impl AsFd) -> nix::Result<()> {
    // SAFETY: TIOCSCTTY takes an integer and touches no memory.
    Errno::result(unsafe { libc::ioctl(terminal.as_fd().as_raw_fd(), libc::TIOCSCTTY, 0) }).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read as _, Write as _};

    #[test]
    fn what_is_written_to_the_master_is_read_from_its_peer() {
        let master = nix::fcntl::open("/dev/ptmx", OFlag::O_RDWR | OFlag::O_NOCTTY, nix::sys::stat::Mode::empty());
        let master = master.unwrap();
        let terminal = peer(&master).unwrap();
        set_size(&terminal, 11, 22).unwrap();
        assert_eq!(size(&master).unwrap(), (11, 22));
        let name = nix::unistd::ttyname(&terminal).unwrap();
        assert_eq!(name.file_name().unwrap().to_str(), Some(number(&master).unwrap().to_string().as_str()));
        let mut master = std::fs::File::from(master);
        master.write_all(b"line\n").unwrap();
        let mut text = [0; 5];
        std::fs::File::from(terminal).read_exact(&mut text).unwrap();
        assert_eq!(&text, b"line\n");
    }

    #[test]
    fn a_file_is_no_terminal() {
        let file = std::fs::File::open("/dev/null").unwrap();
        assert_eq!(peer(&file).unwrap_err(), Errno::ENOTTY);
        assert_eq!(number(&file).unwrap_err(), Errno::ENOTTY);
        assert_eq!(set_size(&file, 1, 1).unwrap_err(), Errno::ENOTTY);
        assert_eq!(take_control(&file).unwrap_err(), Errno::ENOTTY);
    }
}
