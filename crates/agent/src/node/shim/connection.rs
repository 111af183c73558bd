//! The line protocol of [`podwright_proto`] over a Unix socket.

use std::io;
use std::path::Path;
use std::time::Duration;

use nix::errno::Errno;
use podwright_proto::{Event, MAX_EVENT, Request, VERSION};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};

use crate::paths::short;

/// A connection to a shim that failed.
#[derive(Debug, thiserror::Error)]
pub enum ConnectionError {
    /// Nobody listens: there is no shim.
    #[error("the shim is gone")]
    Gone,
    /// The socket failed.
    #[error("the connection to the shim failed")]
    Io(#[from] io::Error),
    /// The shim said something that is not in the protocol.
    #[error("the shim sent what version {VERSION} of the protocol does not know: {line:?}")]
    Protocol {
        /// The start of the line.
        line: String,
        /// Why.
        source: serde_json::Error,
    },
    /// A line longer than the protocol allows.
    #[error("the shim sent a line of more than {MAX_EVENT} bytes")]
    TooLong,
}

/// A request as it goes over the wire. Made before it is known whether the shim takes one as long as this.
#[derive(Debug)]
pub struct Line(Vec<u8>);

/// A request is longer than a shim takes, which would close the connection over it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "argument list too long: the request has {bytes} bytes, and the sandbox that this pod is in takes at most {limit}; `podwright restart` \
     makes a new one"
)]
pub struct TooLong {
    /// What it has.
    pub bytes: usize,
    /// What the shim takes.
    pub limit: usize,
}

impl Line {
    /// The request's.
    ///
    /// # Errors
    /// When it cannot be written as JSON.
    pub fn of(request: &Request) -> io::Result<Line> {
        let mut line = serde_json::to_vec(request).map_err(io::Error::other)?;
        line.push(b'\n');
        Ok(Line(line))
    }

    /// Whether a shim with this limit takes it.
    ///
    /// # Errors
    /// [`TooLong`].
    pub fn fits(&self, limit: usize) -> Result<(), TooLong> {
        let bytes = self.0.len();
        if bytes > limit { Err(TooLong { bytes, limit }) } else { Ok(()) }
    }
}

/// Pause before a shim is tried again that could not be reached, and may be alive.
const OPEN_RETRY: Duration = Duration::from_millis(500);

/// Whether a failure to connect may pass: all but what says for certain that no shim listens there. No descriptors or memory here, a
/// full queue there, a file system that does not give the path: none of them says anything of the shim, and the pod that is taken for
/// dead is killed.
fn may_pass(error: &io::Error) -> bool {
    let errno = error.raw_os_error().map(Errno::from_raw);
    !matches!(errno, None | Some(Errno::ECONNREFUSED | Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP | Errno::ENOTSOCK))
}

/// A connection.
#[derive(Debug)]
pub struct Connection {
    reader: BufReader<OwnedReadHalf>,
    writer: OwnedWriteHalf,
    /// What was read of a line that is not complete; survives a cancelled [`Connection::next`].
    line: Vec<u8>,
}

impl Connection {
    /// Connects and says hello; the first event will be [`Event::State`].
    ///
    /// # Errors
    /// [`ConnectionError::Gone`] where there is no shim.
    pub async fn open(socket: &Path) -> Result<Connection, ConnectionError> {
        let gone = |error: io::Error| match error.kind() {
            io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound => ConnectionError::Gone,
            _ => ConnectionError::Io(error),
        };
        if std::fs::symlink_metadata(socket).is_ok_and(|found| found.is_symlink()) {
            let error = io::Error::new(io::ErrorKind::InvalidData, "its socket is a symbolic link");
            return Err(ConnectionError::Io(error));
        }
        let (path, _directory) = short(socket).map_err(gone)?;
        let (reader, writer) = UnixStream::connect(path).await.map_err(gone)?.into_split();
        let mut connection = Connection { reader: BufReader::new(reader), writer, line: Vec::new() };
        connection.send(&Line::of(&Request::Hello { version: VERSION, max_event: MAX_EVENT })?).await?;
        Ok(connection)
    }

    /// As [`Connection::open`], and waits while it is not known whether there is a shim: one is not dead for want of our descriptors.
    ///
    /// # Errors
    /// As there.
    pub async fn open_patiently(socket: &Path) -> Result<Connection, ConnectionError> {
        let mut said = false;
        loop {
            match Connection::open(socket).await {
                Err(ConnectionError::Io(error)) if may_pass(&error) => {
                    if !std::mem::replace(&mut said, true) {
                        tracing::warn!(socket = %socket.display(), %error, "a shim cannot be reached yet");
                    }
                    tokio::time::sleep(OPEN_RETRY).await;
                }
                other => return other,
            }
        }
    }

    /// Sends a request.
    ///
    /// # Errors
    /// Those of the socket.
    pub async fn send(&mut self, line: &Line) -> Result<(), ConnectionError> {
        Ok(self.writer.write_all(&line.0).await?)
    }

    /// The next event; `None` when the shim has closed the connection. Cancel-safe: what was read is kept.
    ///
    /// # Errors
    /// Those of the socket, and of the protocol.
    pub async fn next(&mut self) -> Result<Option<Event>, ConnectionError> {
        loop {
            let available = self.reader.fill_buf().await?;
            if available.is_empty() {
                return Ok(None);
            }
            let end = available.iter().position(|b| *b == b'\n');
            let taken = end.map_or(available.len(), |end| end + 1);
            self.line.extend_from_slice(&available[..taken]);
            self.reader.consume(taken);
            if self.line.len() > MAX_EVENT {
                return Err(ConnectionError::TooLong);
            }
            if end.is_some() {
                let parsed = serde_json::from_slice(&self.line).map_err(|source| ConnectionError::Protocol {
                    line: String::from_utf8_lossy(&self.line).chars().take(200).collect(),
                    source,
                });
                // A big line (a long state) is not kept for a pod that will send small ones.
                self.line = Vec::new();
                return parsed.map(Some);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use podwright_proto::ExecResult;
    use tokio::net::UnixListener;

    #[tokio::test]
    async fn lines_come_in_pieces_and_the_end_is_seen() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("shim.sock");
        assert!(matches!(Connection::open(&socket).await, Err(ConnectionError::Gone)));
        let listener = UnixListener::bind(&socket).unwrap();
        let mut connection = Connection::open(&socket).await.unwrap();
        let (mut other, _) = listener.accept().await.unwrap();
        let mut hello = [0; 100];
        let n = tokio::io::AsyncReadExt::read(&mut other, &mut hello).await.unwrap();
        assert_eq!(hello[..n], *b"{\"type\":\"hello\",\"version\":1,\"max_event\":134217728}\n");
        let event = Event::ExecDone { seq: 7, result: ExecResult::Exited { code: 1 }, output: "x".repeat(20_000) };
        let text = serde_json::to_string(&event).unwrap();
        other.write_all(&text.as_bytes()[..9_000]).await.unwrap();
        let waited = tokio::time::timeout(Duration::from_millis(20), connection.next()).await;
        assert!(waited.is_err());
        other.write_all(&text.as_bytes()[9_000..]).await.unwrap();
        other.write_all(b"\nnonsense\n").await.unwrap();
        assert_eq!(connection.next().await.unwrap(), Some(event));
        assert!(matches!(connection.next().await, Err(ConnectionError::Protocol { .. })));
        drop(other);
        assert!(matches!(connection.next().await, Ok(None)));
        drop(listener);
        assert!(matches!(Connection::open(&socket).await, Err(ConnectionError::Gone)));
    }

    #[tokio::test]
    async fn a_shim_whose_queue_is_full_is_not_dead() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("shim.sock");
        let socket = tokio::net::UnixSocket::new_stream().unwrap();
        socket.bind(&path).unwrap();
        let listener = socket.listen(1).unwrap();
        let mut queued = Vec::new();
        let full = loop {
            match Connection::open(&path).await {
                Ok(connection) => queued.push(connection),
                Err(error) => break error,
            }
        };
        assert!(matches!(full, ConnectionError::Io(_)), "{full}");
        let (opened, _) = tokio::join!(Connection::open_patiently(&path), async {
            tokio::time::sleep(Duration::from_millis(50)).await;
            listener.accept().await.unwrap()
        });
        opened.unwrap();
    }

    #[tokio::test]
    async fn a_path_longer_than_a_socket_address_works() {
        let dir = tempfile::tempdir().unwrap();
        let deep = dir.path().join("d".repeat(60)).join("e".repeat(60));
        std::fs::create_dir_all(&deep).unwrap();
        let socket = deep.join("shim.sock");
        let (path, directory) = short(&socket).unwrap();
        let _listener = UnixListener::bind(path).unwrap();
        drop(directory);
        assert!(socket.exists());
        Connection::open(&socket).await.unwrap();
    }
}
