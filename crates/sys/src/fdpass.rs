//! Descriptors handed to another process over a Unix socket: unix(7), `SCM_RIGHTS`.

use std::io::{self, IoSlice, IoSliceMut, Write as _};
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;

use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, recvmsg, sendmsg};

/// Descriptors taken from one message; more are closed by the kernel.
const MAX_FDS: usize = 16;

/// Sends a text and, with its first byte, descriptors.
///
/// # Errors
/// sendmsg(2)'s; `InvalidInput` for an empty text, which can carry nothing.
pub fn send(stream: &UnixStream, text: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    if text.is_empty() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let raw: Vec<RawFd> = fds.iter().map(|fd| fd.as_raw_fd()).collect();
    let rights = [ControlMessage::ScmRights(&raw)];
    let sent = sendmsg::<()>(stream.as_raw_fd(), &[IoSlice::new(text)], &rights, MsgFlags::MSG_NOSIGNAL, None)?;
    let mut stream = stream;
    stream.write_all(text.get(sent..).unwrap_or_default())
}

/// Receives one message: at most `max` bytes of its text, and its descriptors, close-on-exec.
///
/// # Errors
/// recvmsg(2)'s.
pub fn receive(stream: &UnixStream, max: usize) -> io::Result<(Vec<u8>, Vec<OwnedFd>)> {
    let mut text = vec![0; max];
    let mut space = nix::cmsg_space!([RawFd; MAX_FDS]);
    let (length, raw) = {
        let mut slices = [IoSliceMut::new(&mut text)];
        let flags = MsgFlags::MSG_CMSG_CLOEXEC;
        let message = recvmsg::<()>(stream.as_raw_fd(), &mut slices, Some(&mut space), flags)?;
        let mut raw = Vec::new();
        for part in message.cmsgs()? {
            if let ControlMessageOwned::ScmRights(fds) = part {
                raw.extend(fds);
            }
        }
        (message.bytes, raw)
    };
    text.truncate(length);
    // SAFETY: recvmsg(2) has just made these descriptors for us, and nothing else knows their numbers.
    let fds = raw.into_iter().map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }).collect();
    Ok((text, fds))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::io::Read as _;
    use std::os::fd::AsFd as _;

    #[test]
    fn a_descriptor_arrives_with_its_text() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        send(&ours, b"text", &[File::open("/proc/self/stat").unwrap().as_fd()]).unwrap();
        let (text, mut fds) = receive(&theirs, 16).unwrap();
        assert_eq!((text.as_slice(), fds.len()), (&b"text"[..], 1));
        let mut stat = String::new();
        File::from(fds.remove(0)).read_to_string(&mut stat).unwrap();
        assert!(stat.starts_with(&format!("{} ", std::process::id())), "{stat}");
    }

    #[test]
    fn a_text_alone_is_fine_and_a_descriptor_alone_is_not() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        assert_eq!(send(&ours, b"", &[ours.as_fd()]).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        send(&ours, b"text", &[]).unwrap();
        let (text, fds) = receive(&theirs, 2).unwrap();
        assert_eq!((text.as_slice(), fds.len()), (&b"te"[..], 0));
    }
}
