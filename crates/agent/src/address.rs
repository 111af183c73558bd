//! The node's own addresses: what pods in its network have, and where they are probed.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};

use nix::ifaddrs::getifaddrs;
use nix::net::if_::InterfaceFlags;

/// An address of TEST-NET-1 (RFC 5737) and one of the documentation prefix (RFC 3849): routed like any that are not the node's.
const ELSEWHERE: [IpAddr; 2] =
    [IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1))];

/// The node's addresses: at most one of each family, IPv4 first. A node without a network has none. Nothing is sent.
#[must_use]
pub fn of_node() -> Vec<IpAddr> {
    choose(&ELSEWHERE.map(source), &of_devices())
}

/// The address that packets to `target` would come from.
fn source(target: IpAddr) -> Option<IpAddr> {
    let any: IpAddr = if target.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0)).ok()?;
    socket.connect((target, 9)).ok()?;
    Some(socket.local_addr().ok()?.ip())
}

/// The addresses of all devices that are up. Where they cannot be read there are none.
fn of_devices() -> Vec<IpAddr> {
    let devices = getifaddrs().into_iter().flatten().filter(|device| device.flags.contains(InterfaceFlags::IFF_UP));
    let addresses = devices.filter_map(|device| {
        let address = device.address?;
        let v4 = address.as_sockaddr_in().map(|a| IpAddr::V4(a.ip()));
        v4.or_else(|| address.as_sockaddr_in6().map(|a| IpAddr::V6(a.ip())))
    });
    addresses.collect()
}

/// Of each family the address that routes prefer, else the best that a device has.
fn choose(routed: &[Option<IpAddr>], all: &[IpAddr]) -> Vec<IpAddr> {
    let of_family = |v4: bool| {
        let fits = |address: &&IpAddr| address.is_ipv4() == v4 && rank(address).is_some();
        let routed = routed.iter().flatten().find(fits);
        // The first of the best: devices come in the order in which they were made.
        routed.or_else(|| all.iter().filter(fits).min_by_key(|address| rank(address))).copied()
    };
    [true, false].into_iter().filter_map(of_family).collect()
}

/// Lower is better; `None`: of no use to others.
fn rank(address: &IpAddr) -> Option<u8> {
    match address {
        IpAddr::V4(a) if a.is_loopback() || a.is_link_local() || a.is_unspecified() => None,
        IpAddr::V4(_) => Some(0),
        IpAddr::V6(a) if a.is_loopback() || a.is_unicast_link_local() || a.is_unspecified() => None,
        // Global ones before unique local ones (RFC 4193).
        IpAddr::V6(a) => Some(u8::from(a.is_unique_local())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_each_family_one() {
        for (routed, all, expected) in [
            ("", "127.0.0.1 ::1 fe80::1 169.254.3.4", ""),
            ("", "127.0.0.1 10.0.0.1 10.0.0.2", "10.0.0.1"),
            ("10.0.0.2", "10.0.0.1 10.0.0.2", "10.0.0.2"),
            ("", "::1 fe80::1 fd00::1 2001:db8:7::1", "2001:db8:7::1"),
            ("", "::1 fe80::1 fd00::1", "fd00::1"),
            ("fd00::2", "fd00::1 2001:db8:7::1", "fd00::2"),
            ("fe80::1", "fe80::1 fd00::1", "fd00::1"),
            ("10.0.0.1", "fd00::1 10.0.0.1", "10.0.0.1 fd00::1"),
            ("2001:db8:7::1", "192.168.0.1 2001:db8:7::1", "192.168.0.1 2001:db8:7::1"),
        ] {
            let parse = |text: &str| text.split_whitespace().map(|a| a.parse().unwrap()).collect::<Vec<IpAddr>>();
            let routed: Vec<Option<IpAddr>> = parse(routed).into_iter().map(Some).collect();
            assert_eq!(choose(&routed, &parse(all)), parse(expected), "{routed:?} {all}");
        }
    }
}
