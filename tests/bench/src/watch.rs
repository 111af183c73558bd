//! The agent's watch: Kubernetes watch events, a line each, in a chunked HTTP/1.1 answer on a Unix socket.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use crate::clock::boot_ns;

/// Longest time without any event while one is waited for.
const SILENCE: Duration = Duration::from_secs(120);

/// An open watch of all pods.
#[derive(Debug)]
pub(crate) struct Watch {
    stream: BufReader<UnixStream>,
    /// What was received beyond the last whole line.
    rest: Vec<u8>,
}

/// One event.
#[derive(Debug)]
pub(crate) struct Seen {
    /// When it was read, `CLOCK_BOOTTIME`.
    pub(crate) at: i64,
    /// ADDED, MODIFIED or DELETED.
    pub(crate) kind: String,
    /// The pod.
    pub(crate) pod: Value,
}

impl Watch {
    /// Opens it.
    ///
    /// # Errors
    /// When nobody listens, or the answer is not 200.
    pub(crate) fn open(socket: &Path) -> Result<Watch> {
        let mut stream = UnixStream::connect(socket).with_context(|| socket.display().to_string())?;
        stream.set_read_timeout(Some(SILENCE))?;
        stream.write_all(b"GET /api/v1/pods?watch=true HTTP/1.1\r\nHost: podwright\r\n\r\n")?;
        let mut stream = BufReader::new(stream);
        let status = line(&mut stream)?;
        ensure!(status.starts_with("HTTP/1.1 200"), "the watch was answered with {status:?}");
        while !line(&mut stream)?.is_empty() {}
        Ok(Watch { stream, rest: Vec::new() })
    }

    /// The next event, waited for.
    ///
    /// # Errors
    /// When the stream ends, is silent for too long, or is not what was asked for.
    pub(crate) fn next(&mut self) -> Result<Seen> {
        loop {
            if let Some(end) = self.rest.iter().position(|&b| b == b'\n') {
                let rest = self.rest.split_off(end + 1);
                let text = std::mem::replace(&mut self.rest, rest);
                let mut event: Value = serde_json::from_slice(&text).context("an event of the watch")?;
                let kind = event["type"].as_str().unwrap_or_default().to_owned();
                return Ok(Seen { at: boot_ns(), kind, pod: event["object"].take() });
            }
            self.chunk()?;
        }
    }

    fn chunk(&mut self) -> Result<()> {
        let size = line(&mut self.stream)?;
        let size =
            usize::from_str_radix(&size, 16).with_context(|| format!("{size:?} where a chunk's size belongs"))?;
        if size == 0 {
            bail!("the agent ended the watch");
        }
        let start = self.rest.len();
        self.rest.resize(start + size, 0);
        self.stream.read_exact(&mut self.rest[start..])?;
        ensure!(line(&mut self.stream)?.is_empty(), "a chunk of the watch does not end where it should");
        Ok(())
    }
}

fn line(stream: &mut BufReader<UnixStream>) -> Result<String> {
    let mut text = String::new();
    ensure!(stream.read_line(&mut text).context("the watch")? > 0, "the agent closed the watch");
    Ok(text.trim_end().to_owned())
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn events_are_put_together_from_chunks() {
        let socket = std::env::temp_dir().join(format!("podwright-bench-watch-{}", std::process::id()));
        let listener = UnixListener::bind(&socket).unwrap();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let chunks = ["{\"type\":\"ADDED\",\"obj", "ect\":{\"a\":1}}\n{\"type\":\"DELETED\",\"object\":{}}\n", ""];
            let body: String = chunks.iter().map(|c| format!("{:x}\r\n{c}\r\n", c.len())).collect();
            stream
                .write_all(format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{body}").as_bytes())
                .unwrap();
            stream
        });
        let mut watch = Watch::open(&socket).unwrap();
        let added = watch.next().unwrap();
        assert_eq!((added.kind.as_str(), &added.pod["a"]), ("ADDED", &Value::from(1)));
        assert_eq!(watch.next().unwrap().kind, "DELETED");
        assert!(watch.next().unwrap_err().to_string().contains("ended the watch"));
        drop(server.join());
        std::fs::remove_file(&socket).unwrap();
    }
}
