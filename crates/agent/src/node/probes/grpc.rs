//! `grpc`: `Check` of the service `grpc.health.v1.Health`, without TLS. Two messages of one field each are written and read
//! by hand; the rest is HTTP/2.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Bytes;
use hyper::header::{CONTENT_TYPE, HeaderMap, TE, USER_AGENT};
use hyper::rt::Executor;
use hyper::rt::bounds::Http2ClientConnExec;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::JoinSet;

use super::http::AGENT;
use super::socket;
use super::target::authority;

/// Most of an answer that is read, bytes.
const MAX_BODY: usize = 10 * 1024;
/// `HealthCheckResponse.ServingStatus.SERVING`.
const SERVING: u64 = 1;
/// How long an answer may be on its way when its connection has ended.
const LATE: Duration = Duration::from_millis(100);

/// Tasks that end with this: hyper gives the connection to one, which a server could have go on for ever.
#[derive(Default)]
struct Tasks(Arc<Mutex<JoinSet<()>>>);

/// Starts them.
#[derive(Clone)]
struct Starter(Arc<Mutex<JoinSet<()>>>);

impl<F> Executor<F> for Starter
where
    F: Future + Send + 'static,
    F::Output: Send,
{
    fn execute(&self, task: F) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).spawn(async move { drop(task.await) });
    }
}

impl Drop for Tasks {
    fn drop(&mut self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).abort_all();
    }
}

/// Asks once.
///
/// # Errors
/// Anything but SERVING, for people.
pub(super) async fn check(host: &str, port: u16, service: &str, pid: Option<i32>) -> Result<(), String> {
    let what = authority(host, port);
    let stream = socket::connect(host, port, pid).await.map_err(|error| format!("dial tcp {what}: {error}"))?;
    let tasks = Tasks::default();
    ask(stream, &what, service, Starter(Arc::clone(&tasks.0))).await
}

/// Asks the server `what` over `stream`, which the tasks of `executor` may hold longer.
async fn ask<S, E>(stream: S, what: &str, service: &str, executor: E) -> Result<(), String>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    E: Http2ClientConnExec<Full<Bytes>, TokioIo<S>> + Unpin + Clone,
{
    let builder = hyper::client::conn::http2::Builder::new(executor);
    let failed = |error: hyper::Error| format!("rpc to {what} failed: {}", podwright_sys::error::chain(&error));
    let (mut sender, connection) = builder.handshake(TokioIo::new(stream)).await.map_err(failed)?;
    let request = Request::post(format!("http://{what}/grpc.health.v1.Health/Check"))
        .header(CONTENT_TYPE, "application/grpc")
        .header(TE, "trailers")
        .header(USER_AGENT, AGENT)
        .body(Full::new(Bytes::from(question(service))))
        .map_err(|error| error.to_string())?;
    let answer = async {
        let response = sender.send_request(request).await.map_err(failed)?;
        judge(response, service).await
    };
    let (mut answer, mut connection) = (std::pin::pin!(answer), std::pin::pin!(connection));
    let ended = tokio::select! {
        answer = &mut answer => return answer,
        ended = &mut connection => ended,
    };
    // What came before the end is there, and nothing will follow.
    let late = tokio::time::timeout(LATE, answer).await;
    late.unwrap_or_else(|_| {
        Err(ended.map_or_else(failed, |()| format!("rpc to {what} failed: the connection was closed")))
    })
}

async fn judge(response: Response<hyper::body::Incoming>, service: &str) -> Result<(), String> {
    let (head, body) = response.into_parts();
    if head.status != StatusCode::OK {
        return Err(format!("not a gRPC server: it answered with HTTP status {}", head.status.as_u16()));
    }
    let body = Limited::new(body, MAX_BODY).collect().await.map_err(|error| format!("rpc failed: {error}"))?;
    // An answer without a message has its status among the headers.
    let trailers = body.trailers().cloned().unwrap_or_default();
    let text = |name: &str| {
        let of = |map: &HeaderMap| map.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
        of(&trailers).or_else(|| of(&head.headers))
    };
    match text("grpc-status").as_deref() {
        Some("0") => {}
        Some("12") => {
            return Err("this server does not implement the grpc health protocol (grpc.health.v1.Health)".into());
        }
        Some("5") => return Err(format!("service {service:?} is not known to the server")),
        Some(code) => {
            let message = text("grpc-message").unwrap_or_default();
            return Err(format!("health rpc failed: code = {code} desc = {message}"));
        }
        None => return Err("not a gRPC server: its answer has no grpc-status".to_owned()),
    }
    match serving_status(&body.to_bytes()) {
        Some(SERVING) => Ok(()),
        Some(status) => Err(format!("service unhealthy (responded with {:?})", status_name(status))),
        None => Err("the answer is no HealthCheckResponse".to_owned()),
    }
}

/// A message's frame, uncompressed, with a `HealthCheckRequest`: field 1, a string, left out when empty.
fn question(service: &str) -> Vec<u8> {
    let mut message = Vec::new();
    if !service.is_empty() {
        message.push(1 << 3 | 2);
        let mut length = service.len();
        while length >= 0x80 {
            message.push(u8::try_from(length & 0x7f).unwrap_or(0) | 0x80);
            length >>= 7;
        }
        message.push(u8::try_from(length).unwrap_or(0));
        message.extend_from_slice(service.as_bytes());
    }
    let mut frame = vec![0];
    frame.extend_from_slice(&u32::try_from(message.len()).unwrap_or(u32::MAX).to_be_bytes());
    frame.extend_from_slice(&message);
    frame
}

/// Field 1 of a `HealthCheckResponse`, an enumeration, 0 when left out. `None`: it is none.
fn serving_status(frame: &[u8]) -> Option<u64> {
    let (head, message) = frame.split_at_checked(5)?;
    let length = u32::from_be_bytes(head.get(1..)?.try_into().ok()?);
    if head.first() != Some(&0) || usize::try_from(length).ok()? != message.len() {
        return None;
    }
    let mut rest = message;
    let mut status = 0;
    while !rest.is_empty() {
        let tag = varint(&mut rest)?;
        match tag & 7 {
            0 => {
                let value = varint(&mut rest)?;
                if tag >> 3 == 1 {
                    status = value;
                }
            }
            1 => rest = rest.get(8..)?,
            2 => {
                let length = usize::try_from(varint(&mut rest)?).ok()?;
                rest = rest.get(length..)?;
            }
            5 => rest = rest.get(4..)?,
            _ => return None,
        }
    }
    Some(status)
}

fn varint(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (byte, more) = rest.split_first()?;
        *rest = more;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

fn status_name(status: u64) -> String {
    match status {
        0 => "UNKNOWN".to_owned(),
        2 => "NOT_SERVING".to_owned(),
        3 => "SERVICE_UNKNOWN".to_owned(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages() {
        assert_eq!(question(""), [0, 0, 0, 0, 0]);
        assert_eq!(question("up"), [0, 0, 0, 0, 4, 10, 2, b'u', b'p']);
        let long = question(&"x".repeat(300));
        assert_eq!(long[..8], [0, 0, 0, 1, 47, 10, 0xac, 2]);
        assert_eq!(serving_status(&[0, 0, 0, 0, 2, 8, 1]), Some(SERVING));
        assert_eq!(serving_status(&[0, 0, 0, 0, 0]), Some(0));
        // A field of the future before it.
        assert_eq!(serving_status(&[0, 0, 0, 0, 6, 18, 2, 9, 9, 8, 2]), Some(2));
        for broken in [&[][..], &[0, 0, 0, 0, 3, 8, 1], &[1, 0, 0, 0, 0], &[0, 0, 0, 0, 1, 8], &[0, 0, 0, 0, 1, 7]] {
            assert_eq!(serving_status(broken), None, "{broken:?}");
        }
    }

    /// A server that takes so little of what it is sent that the request does not get through, after so long: whether it still has the
    /// connection then.
    async fn goes_on<E>(executor: E, tasks: Option<Tasks>) -> bool
    where
        E: Http2ClientConnExec<Full<Bytes>, TokioIo<tokio::io::DuplexStream>> + Unpin + Clone,
    {
        use tokio::io::AsyncWriteExt as _;
        let brief = Duration::from_millis(200);
        let (client, mut server) = tokio::io::duplex(64);
        server.write_all(b"\0\0\0\x04\0\0\0\0\0").await.unwrap();
        assert!(tokio::time::timeout(brief, ask(client, "server", "", executor)).await.is_err());
        drop(tasks);
        // Tasks that are to end have their turn.
        tokio::time::sleep(brief).await;
        server.write_all(b"\0").await.is_ok()
    }

    #[tokio::test]
    async fn the_connection_ends_with_the_check() {
        // The control: with hyper's own tasks it outlives the check.
        assert!(goes_on(hyper_util::rt::TokioExecutor::new(), None).await);
        let tasks = Tasks::default();
        let starter = Starter(Arc::clone(&tasks.0));
        assert!(!goes_on(starter, Some(tasks)).await);
    }

    #[tokio::test]
    async fn what_is_no_grpc_server_fails() {
        use tokio::io::AsyncWriteExt as _;
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
            }
        });
        assert!(check("127.0.0.1", port, "", None).await.is_err());
        assert!(check("127.0.0.1", 1, "", None).await.unwrap_err().contains("refused"));
    }
}
