//! Network namespaces: the loopback device, and doing something inside one.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use nix::errno::Errno;
use nix::sched::{CloneFlags, setns};
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket};

/// Index of `lo`: the first device of every network namespace.
const LOOPBACK_INDEX: i32 = 1;

/// Sets the loopback device of the caller's network namespace up; 127.0.0.1 and ::1 come with that.
/// One rtnetlink(7) message, `RTM_NEWLINK`, and its answer.
///
/// # Errors
/// Those of the netlink socket and of the kernel's answer; EPERM without CAP_NET_ADMIN.
pub fn loopback_up() -> nix::Result<()> {
    let request = loopback_request();
    let fd = socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::NetlinkRoute)?;
    send(fd.as_raw_fd(), &request, MsgFlags::empty())?;
    let mut answer = [0u8; 256];
    let length = recv(fd.as_raw_fd(), &mut answer, MsgFlags::empty())?;
    // nlmsghdr is 16 bytes; nlmsgerr follows with a negative errno, 0 for "done".
    let error = answer.get(..length).and_then(|a| a.get(16..20)).and_then(|e| e.try_into().ok());
    match error.map(i32::from_ne_bytes) {
        Some(0) => Ok(()),
        Some(errno) => Err(Errno::from_raw(-errno)),
        None => Err(Errno::EBADMSG),
    }
}

/// `struct nlmsghdr` and `struct ifinfomsg`, 32 bytes together, in the machine's byte order.
fn loopback_request() -> Vec<u8> {
    let flags = libc::NLM_F_REQUEST | libc::NLM_F_ACK;
    // IFF_UP is 1 and fits; the conversions below are of small constants.
    let up = libc::IFF_UP as u32;
    let mut message = Vec::with_capacity(32);
    message.extend_from_slice(&32u32.to_ne_bytes());
    message.extend_from_slice(&libc::RTM_NEWLINK.to_ne_bytes());
    message.extend_from_slice(&(flags as u16).to_ne_bytes());
    message.extend_from_slice(&1u32.to_ne_bytes()); // sequence number
    message.extend_from_slice(&0u32.to_ne_bytes()); // to the kernel
    message.extend_from_slice(&[libc::AF_UNSPEC as u8, 0]);
    message.extend_from_slice(&0u16.to_ne_bytes()); // device type: any
    message.extend_from_slice(&LOOPBACK_INDEX.to_ne_bytes());
    message.extend_from_slice(&up.to_ne_bytes());
    message.extend_from_slice(&up.to_ne_bytes()); // which flags to change
    message
}

/// Runs `f` on a thread of its own inside a network namespace. A socket that it opens and returns stays in that namespace.
///
/// # Errors
/// setns(2)'s, or that no thread could be started.
///
/// # Panics
/// When `f` does.
pub fn in_netns<T: Send>(netns: BorrowedFd<'_>, f: impl FnOnce() -> T + Send) -> io::Result<T> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("netns".into()).spawn_scoped(scope, || {
            setns(netns, CloneFlags::CLONE_NEWNET)?;
            Ok(f())
        })?;
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::AsFd;
    use std::time::Duration;

    /// A fresh network namespace, kept by the descriptor alone.
    fn fresh() -> std::fs::File {
        let thread = std::thread::spawn(|| {
            nix::sched::unshare(CloneFlags::CLONE_NEWNET).unwrap();
            std::fs::File::open("/proc/thread-self/ns/net").unwrap()
        });
        thread.join().unwrap()
    }

    #[test]
    fn loopback_comes_up_and_is_only_there() {
        let netns = fresh();
        let down =
            in_netns(netns.as_fd(), || TcpStream::connect_timeout(&([127, 0, 0, 1], 9).into(), Duration::from_secs(1)));
        assert_eq!(down.unwrap().unwrap_err().raw_os_error(), Some(libc::ENETUNREACH));
        let listener = in_netns(netns.as_fd(), || {
            loopback_up().unwrap();
            TcpListener::bind("127.0.0.1:0").unwrap()
        });
        let address = listener.unwrap().local_addr().unwrap();
        // `listener` is dropped: refused, not unreachable.
        let refused = in_netns(netns.as_fd(), || TcpStream::connect(address)).unwrap().unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
    }

    #[test]
    fn the_callers_namespace_is_left_alone() {
        let netns = fresh();
        let own = || std::fs::read_link("/proc/thread-self/ns/net").unwrap();
        let before = own();
        let inside = in_netns(netns.as_fd(), own).unwrap();
        assert_ne!(inside, before);
        assert_eq!(own(), before);
    }

    #[test]
    fn a_wrong_descriptor_is_an_error() {
        let file = std::fs::File::open("/dev/null").unwrap();
        assert_eq!(in_netns(file.as_fd(), || ()).unwrap_err().raw_os_error(), Some(libc::EINVAL));
    }
}
