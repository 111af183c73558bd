//! Servers for probes and hooks: HTTP/1, plain TCP, noise, gRPC health. One thread per connection, all addresses.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::str::FromStr;
use std::sync::Arc;
use std::thread::{Builder, sleep};
use std::time::Duration;

use crate::args::seconds;
use crate::grpc;
use crate::line::Events;

const STACK: usize = 128 << 10;
/// A peer that says nothing is dropped after this.
const IDLE: Duration = Duration::from_secs(60);
const MAX_HEADERS: usize = 100;
const MAX_LINE: u64 = 16 << 10;

#[derive(Debug, Clone, Copy, PartialEq)]
enum Kind {
    Http,
    Tcp,
    Garbage,
    Grpc,
}

/// `serve=KIND:PORT`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Service {
    kind: Kind,
    port: u16,
}

impl FromStr for Service {
    type Err = String;
    fn from_str(text: &str) -> Result<Service, String> {
        let (kind, port) = text.split_once(':').ok_or_else(|| format!("serve={text}: expected KIND:PORT"))?;
        let kind = match kind {
            "http" => Kind::Http,
            "tcp" => Kind::Tcp,
            "garbage" => Kind::Garbage,
            "grpc" => Kind::Grpc,
            _ => return Err(format!("serve={text}: {kind:?} is none of http, tcp, garbage, grpc")),
        };
        let port = port.parse().map_err(|_| format!("serve={text}: {port:?} is no port"))?;
        Ok(Service { kind, port })
    }
}

/// A service that is still to listen.
#[derive(Debug)]
pub(crate) struct Server(Service);

impl Server {
    pub(crate) fn new(service: Service) -> Server {
        Server(service)
    }

    /// Binds the port, then serves it in the background. IPv6 covers IPv4 too where the host has it.
    pub(crate) fn listen(self) -> Result<(), String> {
        let Service { kind, port } = self.0;
        let any = [SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)), SocketAddr::from((Ipv4Addr::UNSPECIFIED, port))];
        let listener = TcpListener::bind(&any[..]).map_err(|e| format!("port {port}: {e}"))?;
        let events = Arc::new(Events::own().map_err(|e| format!("stdout: {e}"))?);
        let accept = move || {
            for stream in listener.incoming().filter_map(Result::ok) {
                let events = Arc::clone(&events);
                // A connection that gets no thread is closed, as by any server that is out of memory.
                drop(Builder::new().stack_size(STACK).spawn(move || serve(kind, stream, &events)));
            }
        };
        Builder::new().stack_size(STACK).spawn(accept).map(|_| ()).map_err(|e| format!("thread: {e}"))
    }
}

fn serve(kind: Kind, mut stream: TcpStream, events: &Events) {
    let served = stream.set_read_timeout(Some(IDLE)).and_then(|()| match kind {
        Kind::Tcp => Ok(()),
        Kind::Garbage => stream.write_all(b"\x00\xff\x13garbage\x07\x80\r\r\n\x01"),
        Kind::Http => http(&stream, events),
        Kind::Grpc => grpc::serve(&stream),
    });
    if let Err(error) = served {
        eprintln!("act: connection: {error}");
    }
}

/// One request per connection.
fn http(stream: &TcpStream, events: &Events) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream);
    let first = header_line(&mut reader)?;
    let path = first.split(' ').nth(1).unwrap_or("/").to_owned();
    let mut values = vec![("path".to_owned(), path.clone())];
    for _ in 0..MAX_HEADERS {
        let line = header_line(&mut reader)?;
        let Some((name, value)) = line.split_once(':') else { break };
        values.push((format!("h.{name}"), value.trim().to_owned()));
    }
    events.write("http", &values.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect::<Vec<_>>());
    let answer = answer(&path);
    sleep(answer.delay);
    let location = answer.location.map_or(String::new(), |to| format!("Location: {to}\r\n"));
    let body = "act\n";
    let status = answer.status;
    // 1xx, 204 and 304 have no body (RFC 9110, section 6.4.1).
    let rest = if status < 200 || status == 204 || status == 304 {
        "\r\n".to_owned()
    } else {
        format!("Content-Length: {}\r\n\r\n{body}", body.len())
    };
    let mut out = stream;
    out.write_all(format!("HTTP/1.1 {status} act\r\nConnection: close\r\n{location}{rest}").as_bytes())
}

fn header_line(reader: &mut impl BufRead) -> std::io::Result<String> {
    let mut line = String::new();
    reader.take(MAX_LINE).read_line(&mut line)?;
    Ok(line.trim_end().to_owned())
}

#[derive(Debug, PartialEq)]
struct Answer {
    status: u16,
    location: Option<String>,
    delay: Duration,
}

/// `/NNN` that status, `/hop/NNN` a redirect to it, `/loop` one to itself, `/away` one to another host, `/slow/S` 200
/// after S seconds; `/` 200, else 404.
fn answer(path: &str) -> Answer {
    let plain = |status| Answer { status, location: None, delay: Duration::ZERO };
    let hop = |to: &str| Answer { location: Some(to.to_owned()), ..plain(302) };
    let path = path.split('?').next().unwrap_or("/");
    let status = |text: &str| text.parse().ok().filter(|n| (100..=599).contains(n));
    match path.split('/').skip(1).collect::<Vec<_>>()[..] {
        [""] => plain(200),
        ["loop"] => hop("/loop"),
        ["away"] => hop("http://away.invalid/200"),
        ["hop", to] if status(to).is_some() => hop(&format!("/{to}")),
        ["slow", time] => match seconds(time) {
            Ok(Some(delay)) => Answer { delay, ..plain(200) },
            _ => plain(404),
        },
        [code] => status(code).map_or_else(|| plain(404), plain),
        _ => plain(404),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths() {
        let of = |path| {
            let a = answer(path);
            (a.status, a.location, a.delay.as_millis())
        };
        assert_eq!(of("/200"), (200, None, 0));
        assert_eq!(of("/503?x=1"), (503, None, 0));
        assert_eq!(of("/hop/404"), (302, Some("/404".into()), 0));
        assert_eq!(of("/loop"), (302, Some("/loop".into()), 0));
        assert_eq!(of("/slow/0.5"), (200, None, 500));
        assert_eq!((of("/slow/x").0, of("/9").0, of("/a/b").0, of("/").0), (404, 404, 404, 200));
        assert!(of("/away").1.is_some_and(|to| to.starts_with("http://")));
    }

    #[test]
    fn services() {
        assert_eq!("http:80".parse(), Ok(Service { kind: Kind::Http, port: 80 }));
        assert!("udp:80".parse::<Service>().is_err() && "http:x".parse::<Service>().is_err());
    }
}
