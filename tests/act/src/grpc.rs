//! A gRPC health server (grpc.health.v1.Health/Check), as much of HTTP/2 (RFC 9113) as its one call needs.
//!
//! Request headers are not decoded: health is the only service, so the path says nothing new. The answer's headers are
//! static HPACK (RFC 7541) without a dynamic table, so nothing has to be remembered of the peer's.

use std::collections::HashMap;
use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Our limit on frames, the protocol's default.
const MAX_FRAME: usize = 16 << 10;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const END_STREAM: u8 = 1;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;
const PADDED: u8 = 8;

struct Frame {
    kind: u8,
    flags: u8,
    stream: u32,
    payload: Vec<u8>,
}

/// Serves one connection until the peer closes it.
pub(crate) fn serve(mut stream: &TcpStream) -> io::Result<()> {
    let mut preface = [0; PREFACE.len()];
    stream.read_exact(&mut preface)?;
    if preface != PREFACE {
        return Err(io::Error::new(ErrorKind::InvalidData, "no HTTP/2 preface"));
    }
    send(stream, SETTINGS, 0, 0, &[])?;
    let mut bodies: HashMap<u32, Vec<u8>> = HashMap::new();
    while let Some(frame) = receive(stream)? {
        let ended = frame.flags & END_STREAM != 0;
        match frame.kind {
            SETTINGS if frame.flags & ACK == 0 => send(stream, SETTINGS, ACK, 0, &[])?,
            PING if frame.flags & ACK == 0 => send(stream, PING, ACK, 0, &frame.payload)?,
            GOAWAY => return Ok(()),
            HEADERS if ended => answer(stream, frame.stream, &[])?,
            DATA => {
                let body = bodies.entry(frame.stream).or_default();
                body.extend(unpadded(&frame)?);
                if body.len() > MAX_FRAME {
                    return Err(io::Error::new(ErrorKind::InvalidData, "the request is too long"));
                }
                if ended {
                    let body = bodies.remove(&frame.stream).unwrap_or_default();
                    answer(stream, frame.stream, &body)?;
                }
            }
            _ => {}
        }
    }
    Ok(())
}

/// The next frame; `None` at the end of the connection.
fn receive(mut stream: &TcpStream) -> io::Result<Option<Frame>> {
    let mut head = [0; 9];
    match stream.read_exact(&mut head) {
        Err(e) if e.kind() == ErrorKind::UnexpectedEof => return Ok(None),
        other => other?,
    }
    let [a, b, c, kind, flags, s0, s1, s2, s3] = head;
    let length = u32::from_be_bytes([0, a, b, c]) as usize;
    if length > MAX_FRAME {
        return Err(io::Error::new(ErrorKind::InvalidData, format!("a frame of {length} bytes")));
    }
    let mut payload = vec![0; length];
    stream.read_exact(&mut payload)?;
    Ok(Some(Frame { kind, flags, stream: u32::from_be_bytes([s0, s1, s2, s3]) & 0x7fff_ffff, payload }))
}

fn send(mut stream: &TcpStream, kind: u8, flags: u8, id: u32, payload: &[u8]) -> io::Result<()> {
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX).to_be_bytes();
    let mut frame = vec![length[1], length[2], length[3], kind, flags];
    frame.extend(id.to_be_bytes());
    frame.extend(payload);
    stream.write_all(&frame)
}

fn unpadded(frame: &Frame) -> io::Result<&[u8]> {
    if frame.flags & PADDED == 0 {
        return Ok(&frame.payload);
    }
    let inner =
        frame.payload.split_first().and_then(|(pad, rest)| rest.get(..rest.len().checked_sub(usize::from(*pad))?));
    inner.ok_or_else(|| io::Error::new(ErrorKind::InvalidData, "more padding than frame"))
}

/// Answers one Check: `""` and `up` are SERVING, `down` is NOT_SERVING, others are NOT_FOUND (gRPC status 5).
fn answer(stream: &TcpStream, id: u32, body: &[u8]) -> io::Result<()> {
    // ":status: 200" is entry 8 of the static table; the others are literals without indexing.
    let mut headers = vec![0x88];
    literal(&mut headers, "content-type", "application/grpc");
    let Some(serving) = service(body).and_then(|name| match name.as_str() {
        "" | "up" => Some(1),
        "down" => Some(2),
        _ => None,
    }) else {
        literal(&mut headers, "grpc-status", "5");
        return send(stream, HEADERS, END_HEADERS | END_STREAM, id, &headers);
    };
    send(stream, HEADERS, END_HEADERS, id, &headers)?;
    // Not compressed, two bytes of message: field 1, varint.
    send(stream, DATA, 0, id, &[0, 0, 0, 0, 2, 0x08, serving])?;
    let mut trailers = Vec::new();
    literal(&mut trailers, "grpc-status", "0");
    send(stream, HEADERS, END_HEADERS | END_STREAM, id, &trailers)
}

fn literal(block: &mut Vec<u8>, name: &str, value: &str) {
    block.push(0);
    for text in [name, value] {
        // All of them are shorter than the 127 bytes at which a second length byte begins.
        block.push(u8::try_from(text.len()).unwrap_or(0));
        block.extend(text.as_bytes());
    }
}

/// `HealthCheckRequest.service` of a length-prefixed message; `None` when it is none.
fn service(body: &[u8]) -> Option<String> {
    match body.get(5..)? {
        [] => Some(String::new()),
        [0x0a, length, name @ ..] if usize::from(*length) == name.len() => String::from_utf8(name.to_vec()).ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::service;

    #[test]
    fn the_service_of_a_request() {
        assert_eq!(service(&[0, 0, 0, 0, 0]), Some(String::new()));
        assert_eq!(service(b"\0\0\0\0\x04\x0a\x02up"), Some("up".into()));
        assert_eq!(service(b"\0\0\0\0\x04\x0a\x07up"), None);
        assert_eq!(service(b""), None);
    }
}
