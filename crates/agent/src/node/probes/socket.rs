//! TCP connections from inside a pod's network.

use std::fs::{self, File};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::AsFd as _;

use podwright_sys::netns::in_netns;
use tokio::net::{TcpSocket, TcpStream};

/// Connects, from inside the network of process `pid` (`None`: the host's).
pub(super) async fn connect(host: &str, port: u16, pid: Option<i32>) -> io::Result<TcpStream> {
    let address = SocketAddr::new(resolve(host)?, port);
    let open = move || if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() };
    let socket = match pid {
        None => open()?,
        // A socket belongs to the network it was opened in; connecting needs no thread.
        Some(pid) => {
            let opened = tokio::task::spawn_blocking(move || {
                let network = File::open(format!("/proc/{pid}/ns/net"))?;
                in_netns(network.as_fd(), open)?
            });
            opened.await.map_err(io::Error::other)??
        }
    };
    socket.connect(address).await
}

/// An address, `localhost`, or a name in /etc/hosts. There is no name service in a pod's own network.
fn resolve(host: &str) -> io::Result<IpAddr> {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    if let Ok(address) = bare.parse() {
        return Ok(address);
    }
    if bare.eq_ignore_ascii_case("localhost") {
        return Ok(Ipv4Addr::LOCALHOST.into());
    }
    let hosts = fs::read_to_string("/etc/hosts").unwrap_or_default();
    look_up(bare, &hosts).ok_or_else(|| {
        io::Error::new(io::ErrorKind::NotFound, format!("host {host:?} is neither an address nor a name in /etc/hosts"))
    })
}

fn look_up(name: &str, hosts: &str) -> Option<IpAddr> {
    hosts.lines().find_map(|line| {
        let mut words = line.split('#').next().unwrap_or_default().split_whitespace();
        let address = words.next()?.parse().ok()?;
        words.any(|word| word.eq_ignore_ascii_case(name)).then_some(address)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_looked_up_in_hosts() {
        let hosts = "# x\n127.0.0.1 localhost\n10.0.0.7\tdb db.local # main\nbroken\n";
        assert_eq!(look_up("DB.local", hosts), Some("10.0.0.7".parse().unwrap()));
        assert_eq!(look_up("main", hosts), None);
        assert_eq!(resolve("[::1]").unwrap(), "::1".parse::<IpAddr>().unwrap());
        assert!(resolve("no.such.name.invalid").unwrap_err().to_string().contains("/etc/hosts"));
    }
}
