//! HTTP/1.1 over the agent's Unix socket, as much as listing, watching and deleting need.

use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// A status code and the body.
#[derive(Debug)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The body, to be read to its end.
    pub body: Body,
}

/// The body of an answer.
#[derive(Debug)]
pub struct Body {
    reader: BufReader<UnixStream>,
    length: Length,
}

#[derive(Debug)]
enum Length {
    /// Bytes that are left.
    Known(u64),
    /// Bytes that are left of the present chunk.
    Chunked(u64),
    Over,
    /// Up to the end of the connection.
    Open,
}

/// Sends a request without a body. `timeout` bounds every single wait for bytes.
pub fn request(socket: &Path, method: &str, path: &str, timeout: Option<Duration>) -> io::Result<Answer> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(timeout)?;
    stream.set_write_timeout(timeout)?;
    write!(stream, "{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")?;
    let mut reader = BufReader::new(stream);
    let first = line(&mut reader)?;
    let status = first.split(' ').nth(1).and_then(|code| code.parse().ok()).ok_or_else(|| bad(&first))?;
    let mut length = Length::Open;
    loop {
        let header = line(&mut reader)?;
        if header.is_empty() {
            break;
        }
        let Some((name, value)) = header.split_once(':') else { return Err(bad(&header)) };
        match (name.to_ascii_lowercase().as_str(), value.trim()) {
            ("content-length", value) => length = Length::Known(value.parse().map_err(|_| bad(&header))?),
            ("transfer-encoding", value) if value.eq_ignore_ascii_case("chunked") => length = Length::Chunked(0),
            _ => {}
        }
    }
    Ok(Answer { status, body: Body { reader, length } })
}

/// The whole answer to a request.
pub fn fetch(socket: &Path, method: &str, path: &str, timeout: Duration) -> io::Result<(u16, String)> {
    let mut answer = request(socket, method, path, Some(timeout))?;
    let mut text = String::new();
    answer.body.read_to_string(&mut text)?;
    Ok((answer.status, text))
}

fn bad(line: &str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, format!("not HTTP: {line:?}"))
}

fn line(reader: &mut BufReader<UnixStream>) -> io::Result<String> {
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Err(ErrorKind::UnexpectedEof.into());
    }
    Ok(line.trim_end().to_owned())
}

impl Read for Body {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if let Length::Chunked(0) = self.length {
            let size = line(&mut self.reader)?;
            let digits = size.split(';').next().unwrap_or_default().trim();
            let left = u64::from_str_radix(digits, 16).map_err(|_| bad(&size))?;
            self.length = if left == 0 { Length::Over } else { Length::Chunked(left) };
        }
        let left = match self.length {
            Length::Over | Length::Known(0) => return Ok(0),
            Length::Open => u64::MAX,
            Length::Known(left) | Length::Chunked(left) => left,
        };
        let most = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
        let count = self.reader.read(&mut buffer[..most])?;
        if count == 0 && !matches!(self.length, Length::Open) && most > 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        match &mut self.length {
            Length::Known(left) => *left -= count as u64,
            Length::Chunked(left) => {
                *left -= count as u64;
                if *left == 0 {
                    line(&mut self.reader)?;
                }
            }
            Length::Over | Length::Open => {}
        }
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;
    use std::thread;

    use super::*;

    fn serve(answer: &'static str) -> (u16, String) {
        let dir = tempfile::tempdir().expect("a directory");
        let socket = dir.path().join("s");
        let listener = UnixListener::bind(&socket).expect("bound");
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("a client");
            let mut request = [0; 4096];
            let count = stream.read(&mut request).expect("a request");
            assert!(request[..count].starts_with(b"GET /x HTTP/1.1\r\n"));
            stream.write_all(answer.as_bytes()).expect("written");
        });
        let got = fetch(&socket, "GET", "/x", Duration::from_secs(5)).expect("an answer");
        server.join().expect("no panic");
        got
    }

    #[test]
    fn lengths_chunks_and_open_ends() {
        assert_eq!(serve("HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\nno more"), (404, "no".into()));
        let chunks = "HTTP/1.1 200 OK\r\ntransfer-encoding: Chunked\r\n\r\n3\r\nabc\r\n2;x\r\nde\r\n0\r\n\r\n";
        assert_eq!(serve(chunks), (200, "abcde".into()));
        assert_eq!(serve("HTTP/1.1 200 OK\r\n\r\nto the end"), (200, "to the end".into()));
    }
}
