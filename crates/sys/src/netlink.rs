//! Network devices by rtnetlink(7): moving one into another namespace without losing its addresses.

use std::io;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::net::if_::{if_nameindex, if_nametoindex};
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket};

use crate::netns::in_netns;

/// Length of `struct nlmsghdr`.
const HEADER: usize = 16;

/// Attributes of addresses (linux/if_addr.h) that say what an address is, not how it came about.
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_BROADCAST: u16 = 4;
const IFA_FLAGS: u16 = 8;
const IFA_RT_PRIORITY: u16 = 9;

/// linux/if_link.h
const IFLA_IFNAME: u16 = 3;
const IFLA_NET_NS_FD: u16 = 28;

/// Why a device could not be moved.
#[derive(Debug, thiserror::Error)]
pub enum MoveError {
    /// There is none of that name.
    #[error("there is no network device {0:?}")]
    Missing(String),
    /// The name is taken.
    #[error("the container's network namespace has a device {0:?} already")]
    Taken(String),
    /// It has moved, and cannot be found.
    #[error("the device is not found after its move")]
    Lost,
    /// A call failed.
    #[error("{0}")]
    Call(&'static str, #[source] io::Error),
}

fn call<E: Into<io::Error>>(what: &'static str) -> impl FnOnce(E) -> MoveError {
    move |err| MoveError::Call(what, err.into())
}

/// An address of a device, as the kernel tells and takes it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Address {
    family: u8,
    prefix: u8,
    scope: u8,
    attributes: Vec<(u16, Vec<u8>)>,
}

/// Moves a device of the caller's network namespace into another one under the name `to` (`%d` in it becomes a number), sets it
/// up and gives it its permanent global addresses again, which the kernel takes from a device that moves.
///
/// # Errors
/// [`MoveError`]. Up to the move itself nothing is changed.
pub fn move_device(from: &str, to: &str, namespace: BorrowedFd<'_>) -> Result<(), MoveError> {
    let index = if_nametoindex(from).map_err(|_| MoveError::Missing(from.to_owned()))?;
    let before =
        in_netns(namespace, indexes).map_err(call("enter the network namespace"))?.map_err(call("list devices"))?;
    if before.iter().any(|(_, name)| name == to) {
        return Err(MoveError::Taken(to.to_owned()));
    }
    let netlink = Netlink::open().map_err(call("open a netlink socket"))?;
    let addresses = netlink.addresses(index).map_err(call("read its addresses"))?;
    let fd = namespace.as_raw_fd().to_ne_bytes();
    let attributes = [(IFLA_NET_NS_FD, fd.to_vec()), (IFLA_IFNAME, terminated(to))];
    netlink.set_link(index, 0, &attributes).map_err(call("move it"))?;
    in_netns(namespace, || {
        let moved = indexes().map_err(call("list devices"))?.into_iter().find(|device| !before.contains(device));
        let (index, _) = moved.ok_or(MoveError::Lost)?;
        let netlink = Netlink::open().map_err(call("open a netlink socket"))?;
        for address in &addresses {
            netlink.add_address(index, address).map_err(call("give it its addresses again"))?;
        }
        netlink.set_link(index, libc::IFF_UP.cast_unsigned(), &[]).map_err(call("set it up"))
    })
    .map_err(call("enter the network namespace"))?
}

/// The devices of the caller's network namespace.
fn indexes() -> nix::Result<Vec<(u32, String)>> {
    let list = if_nameindex()?;
    Ok(list.iter().map(|device| (device.index(), device.name().to_string_lossy().into_owned())).collect())
}

fn terminated(name: &str) -> Vec<u8> {
    let mut bytes = name.as_bytes().to_vec();
    bytes.push(0);
    bytes
}

struct Netlink(OwnedFd);

impl Netlink {
    fn open() -> nix::Result<Self> {
        let flags = SockFlag::SOCK_CLOEXEC;
        socket(AddressFamily::Netlink, SockType::Raw, flags, SockProtocol::NetlinkRoute).map(Self)
    }

    /// Changes a device: flags to set, and attributes.
    fn set_link(&self, index: u32, up: u32, attributes: &[(u16, Vec<u8>)]) -> nix::Result<()> {
        // struct ifinfomsg: family, padding, type, index, flags, mask of flags
        let mut body = vec![0; 4];
        body.extend(index.to_ne_bytes());
        body.extend(up.to_ne_bytes());
        body.extend(up.to_ne_bytes());
        self.request(libc::RTM_NEWLINK, libc::NLM_F_ACK, body, attributes)?;
        self.answer(|_, _| {})
    }

    fn add_address(&self, index: u32, address: &Address) -> nix::Result<()> {
        // struct ifaddrmsg: family, length of the prefix, flags, scope, index
        let mut body = vec![address.family, address.prefix, 0, address.scope];
        body.extend(index.to_ne_bytes());
        let flags = libc::NLM_F_ACK | libc::NLM_F_CREATE | libc::NLM_F_EXCL;
        self.request(libc::RTM_NEWADDR, flags, body, &address.attributes)?;
        self.answer(|_, _| {})
    }

    /// Addresses of a device that are permanent and of global scope.
    fn addresses(&self, index: u32) -> nix::Result<Vec<Address>> {
        self.request(libc::RTM_GETADDR, libc::NLM_F_DUMP, vec![0; 8], &[])?;
        let mut found = Vec::new();
        self.answer(|kind, body| {
            if kind == libc::RTM_NEWADDR {
                found.extend(address_of(body, index));
            }
        })?;
        Ok(found)
    }

    fn request(&self, kind: u16, flags: i32, body: Vec<u8>, attributes: &[(u16, Vec<u8>)]) -> nix::Result<()> {
        let mut message = body;
        for (kind, value) in attributes {
            let length = u16::try_from(4 + value.len()).map_err(|_| Errno::EMSGSIZE)?;
            message.extend(length.to_ne_bytes());
            message.extend(kind.to_ne_bytes());
            message.extend(value);
            message.resize(message.len().next_multiple_of(4), 0);
        }
        let flags = u16::try_from(libc::NLM_F_REQUEST | flags).map_err(|_| Errno::EINVAL)?;
        let length = u32::try_from(HEADER + message.len()).map_err(|_| Errno::EMSGSIZE)?;
        let mut whole = length.to_ne_bytes().to_vec();
        whole.extend(kind.to_ne_bytes());
        whole.extend(flags.to_ne_bytes());
        whole.extend([0; 8]); // sequence number, and to the kernel
        whole.extend(message);
        send(self.0.as_fd().as_raw_fd(), &whole, MsgFlags::empty()).map(drop)
    }

    /// Reads messages up to the end of a dump or the acknowledgement.
    fn answer(&self, mut each: impl FnMut(u16, &[u8])) -> nix::Result<()> {
        // What the kernel sends at once at most (NLMSG_GOODSIZE is 8 KiB; dumps are made of up to 32 KiB).
        let mut buffer = vec![0; 64 << 10];
        loop {
            let length = recv(self.0.as_raw_fd(), &mut buffer, MsgFlags::empty())?;
            let mut rest = buffer.get(..length).unwrap_or_default();
            while let Some((kind, body, next)) = message(rest) {
                match i32::from(kind) {
                    libc::NLMSG_DONE => return Ok(()),
                    libc::NLMSG_ERROR => {
                        let number = body.first_chunk().map_or(libc::EBADMSG, |bytes| -i32::from_ne_bytes(*bytes));
                        return if number == 0 { Ok(()) } else { Err(Errno::from_raw(number)) };
                    }
                    _ => each(kind, body),
                }
                rest = next;
            }
        }
    }
}

/// The first message: its kind, its body, and what follows.
fn message(bytes: &[u8]) -> Option<(u16, &[u8], &[u8])> {
    let length = u32::from_ne_bytes(*bytes.first_chunk()?) as usize;
    let kind = u16::from_ne_bytes(*bytes.get(4..)?.first_chunk()?);
    let body = bytes.get(HEADER..length)?;
    Some((kind, body, bytes.get(length.next_multiple_of(4)..).unwrap_or_default()))
}

/// An address message's address, if it is of this device and to be kept.
fn address_of(body: &[u8], wanted: u32) -> Option<Address> {
    let [family, prefix, flags, scope, i0, i1, i2, i3] = *body.first_chunk()?;
    let mut attributes = Vec::new();
    let mut all_flags = u32::from(flags);
    let mut rest = body.get(8..)?;
    while let Some((kind, value, next)) = attribute(rest) {
        match kind {
            IFA_FLAGS => all_flags = u32::from_ne_bytes(*value.first_chunk()?),
            IFA_ADDRESS | IFA_LOCAL | IFA_BROADCAST | IFA_RT_PRIORITY => attributes.push((kind, value.to_vec())),
            _ => {}
        }
        rest = next;
    }
    let global = scope == libc::RT_SCOPE_UNIVERSE;
    let permanent = all_flags & libc::IFA_F_PERMANENT != 0;
    let ours = u32::from_ne_bytes([i0, i1, i2, i3]) == wanted;
    (ours && global && permanent).then_some(Address { family, prefix, scope, attributes })
}

fn attribute(bytes: &[u8]) -> Option<(u16, &[u8], &[u8])> {
    let length = usize::from(u16::from_ne_bytes(*bytes.first_chunk()?));
    let kind = u16::from_ne_bytes(*bytes.get(2..)?.first_chunk()?);
    let value = bytes.get(4..length)?;
    Some((kind, value, bytes.get(length.next_multiple_of(4)..).unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permanent_global_addresses_are_kept() {
        let message = |flags: u8, scope: u8, index: u32| {
            let mut body = vec![2, 24, flags, scope];
            body.extend(index.to_ne_bytes());
            for (kind, value) in
                [(IFA_ADDRESS, vec![10, 0, 0, 1]), (3, b"eth0\0".to_vec()), (IFA_LOCAL, vec![10, 0, 0, 1])]
            {
                body.extend((4 + value.len() as u16).to_ne_bytes());
                body.extend(kind.to_ne_bytes());
                body.extend(&value);
                body.resize(body.len().next_multiple_of(4), 0);
            }
            body
        };
        let ip = vec![10, 0, 0, 1];
        let attributes = vec![(IFA_ADDRESS, ip.clone()), (IFA_LOCAL, ip)];
        let kept = Address { family: 2, prefix: 24, scope: 0, attributes };
        assert_eq!(address_of(&message(0x80, 0, 5), 5), Some(kept), "the label goes: the name may change");
        assert_eq!(address_of(&message(0x80, 0, 5), 6), None, "another device's");
        assert_eq!(address_of(&message(0, 0, 5), 5), None, "one with a lifetime");
        assert_eq!(address_of(&message(0x80, 253, 5), 5), None, "one of the link");
        assert_eq!(address_of(&[1, 2], 5), None);
    }

    #[test]
    fn broken_messages_end_the_reading() {
        assert_eq!(message(&[0; 3]), None);
        assert_eq!(message(&[255; 20]), None);
        assert_eq!(attribute(&[1, 0, 0, 0]), None);
    }
}
