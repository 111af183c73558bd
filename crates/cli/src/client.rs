//! HTTP/1.1 to the agent over its Unix socket.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use http_body_util::{BodyExt, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use podwright_sys::printable;
use serde_json::Value;
use tokio::net::UnixStream;

/// How long the agent may take to begin its answer. It gives up on its own commands sooner.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);
/// Pause between tries to connect.
const CONNECT_PAUSE: Duration = Duration::from_millis(5);
/// Most bytes kept of an error's body.
const MAX_ERROR: usize = 64 << 10;

/// Why a request brought no answer, or not the one hoped for.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens, or we may not.
    #[error("cannot reach the agent at {}: {}", socket.display(), advice(source))]
    Unreachable {
        /// Where.
        socket: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It listened and then said nothing or nonsense.
    #[error("the agent at {} broke off: {message}. Is it being restarted? Try again", socket.display())]
    Broken {
        /// Where.
        socket: PathBuf,
        /// What happened.
        message: String,
    },
    /// It refused.
    #[error("{message}")]
    Refused {
        /// HTTP status.
        code: u16,
        /// metav1's word for it, empty if the answer was no Status.
        reason: String,
        /// For people.
        message: String,
    },
}

fn advice(error: &io::Error) -> String {
    let what_next = match error.kind() {
        io::ErrorKind::PermissionDenied => "only root may talk to it; try sudo",
        _ => "is podwrightd running? See: systemctl status podwright. Another socket: --socket or PODWRIGHT_SOCKET",
    };
    format!("{error}; {what_next}")
}

/// One agent.
#[derive(Debug, Clone)]
pub struct Client {
    socket: PathBuf,
}

impl Client {
    /// The agent behind this socket; nothing is connected yet.
    pub fn new(socket: impl Into<PathBuf>) -> Self {
        Client { socket: socket.into() }
    }

    /// A GET whose answer is JSON.
    ///
    /// # Errors
    /// As [`ClientError`] tells.
    pub async fn get(&self, target: &str) -> Result<Value, ClientError> {
        self.json(Method::GET, target).await
    }

    /// Any request whose answer is JSON. `target` is path and query, already encoded (see [`encode`]).
    ///
    /// # Errors
    /// As [`ClientError`] tells.
    pub async fn json(&self, method: Method, target: &str) -> Result<Value, ClientError> {
        let response = self.send(method, target).await?;
        let body = response.into_body().collect().await.map_err(|e| self.broken(e))?.to_bytes();
        serde_json::from_slice(&body).map_err(|e| self.broken(format!("its answer is no JSON: {e}")))
    }

    /// A GET whose answer is taken piece by piece.
    ///
    /// # Errors
    /// As [`ClientError`] tells.
    pub async fn stream(&self, target: &str) -> Result<Pieces, ClientError> {
        let response = self.send(Method::GET, target).await?;
        Ok(Pieces { client: self.clone(), body: response.into_body(), line: Vec::new() })
    }

    async fn send(&self, method: Method, target: &str) -> Result<Response<Incoming>, ClientError> {
        let stream =
            self.connect().await.map_err(|source| ClientError::Unreachable { socket: self.socket.clone(), source })?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(|e| self.broken(e))?;
        // Ends by itself when the answer is through or dropped; its errors show in the answer.
        tokio::spawn(connection);
        let request = Request::builder()
            .method(method)
            .uri(target)
            .header("host", "podwright")
            .body(Empty::<Bytes>::new())
            .map_err(|e| self.broken(e))?;
        let response = match tokio::time::timeout(ANSWER_TIMEOUT, sender.send_request(request)).await {
            Ok(response) => response.map_err(|e| self.broken(e))?,
            Err(_) => return Err(self.broken(format!("no answer within {} s", ANSWER_TIMEOUT.as_secs()))),
        };
        if response.status().is_success() { Ok(response) } else { Err(self.refused(response).await) }
    }

    /// Waits while more connect than the agent has taken so far: then the kernel says EAGAIN (unix(7)), and wakes nobody later.
    async fn connect(&self) -> io::Result<UnixStream> {
        let begun = tokio::time::Instant::now();
        loop {
            match UnixStream::connect(&self.socket).await {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock && begun.elapsed() < ANSWER_TIMEOUT => {
                    tokio::time::sleep(CONNECT_PAUSE).await;
                }
                other => return other,
            }
        }
    }

    async fn refused(&self, response: Response<Incoming>) -> ClientError {
        let status: StatusCode = response.status();
        let body = match response.into_body().collect().await {
            Ok(body) => body.to_bytes(),
            Err(e) => return self.broken(e),
        };
        let parsed: Value = serde_json::from_slice(&body).unwrap_or_default();
        let message = match parsed["message"].as_str() {
            Some(message) => printable::line(message).into_owned(),
            None => format!("{status}: {}", String::from_utf8_lossy(&body[..body.len().min(MAX_ERROR)]).trim()),
        };
        let reason = parsed["reason"].as_str().unwrap_or_default().to_owned();
        ClientError::Refused { code: status.as_u16(), reason, message }
    }

    pub(super) fn broken(&self, message: impl ToString) -> ClientError {
        ClientError::Broken { socket: self.socket.clone(), message: message.to_string() }
    }
}

/// An answer that comes piece by piece.
#[derive(Debug)]
pub struct Pieces {
    client: Client,
    body: Incoming,
    line: Vec<u8>,
}

impl Pieces {
    /// The next bytes; `None` at the end.
    ///
    /// # Errors
    /// When the agent breaks off.
    pub async fn bytes(&mut self) -> Result<Option<Bytes>, ClientError> {
        loop {
            match self.body.frame().await {
                None => return Ok(None),
                Some(Err(e)) => return Err(self.client.broken(e)),
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        return Ok(Some(data));
                    }
                }
            }
        }
    }

    /// The next line as JSON; `None` at the end.
    ///
    /// # Errors
    /// When the agent breaks off or a line is no JSON.
    pub async fn json_line(&mut self) -> Result<Option<Value>, ClientError> {
        loop {
            if let Some(end) = self.line.iter().position(|b| *b == b'\n') {
                let line: Vec<u8> = self.line.drain(..=end).collect();
                return serde_json::from_slice(&line)
                    .map(Some)
                    .map_err(|e| self.client.broken(format!("a line of its answer is no JSON: {e}")));
            }
            match self.bytes().await? {
                Some(bytes) => self.line.extend_from_slice(&bytes),
                None if self.line.is_empty() => return Ok(None),
                None => return Err(self.client.broken("its answer ends in the middle of a line")),
            }
        }
    }
}

/// Percent-encodes a path segment or a query value (RFC 3986: all but unreserved characters).
pub fn encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}
