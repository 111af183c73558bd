//! The API's connections: how many there may be, and how long one may keep the agent waiting.
//!
//! A connection is *idle* until a whole request has come, and again once its answer is on its way. There are only so many
//! connections; where another comes, the one that has been idle longest goes, so that clients that do nothing, or that send a request
//! a byte at a time, shut nobody out. Streams (`watch`, `follow`) are never idle, so there are fewer of them than of connections.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes, HttpBody, to_bytes};
use axum::http::{Request, Response, StatusCode};
use axum::response::IntoResponse as _;
use hyper::body::{Frame, Incoming, SizeHint};
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Sleep, sleep, timeout};

use super::Closing;
use super::error::ApiError;

/// Most connections at a time.
pub(super) const MOST: usize = 384;
/// Most streams among them.
pub(super) const MOST_STREAMS: usize = 256;
/// How long the head of a request may take, the wait for its first byte included; its body may take as long again.
pub(super) const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a client may leave an answer unread. That of a stream may wait: a pager holds it up for hours.
pub(super) const STALL_TIMEOUT: Duration = Duration::from_secs(30);
/// The longest head of a request, bytes.
pub(super) const LONGEST_HEAD: usize = 16 << 10;
/// Most header fields of a request.
pub(super) const MOST_HEADERS: usize = 64;
/// The longest body of a request, bytes.
pub(super) const LONGEST_BODY: usize = 64 << 10;
/// Pause after the kernel has refused a connection for want of something (descriptors, memory).
const PAUSE: Duration = Duration::from_millis(250);

/// What the connections share.
#[derive(Default)]
struct Table {
    /// By the moment since when it is idle: the first is idle longest.
    idle: Mutex<BTreeMap<u64, AbortHandle>>,
    count: AtomicU64,
}

/// A connection's place in the table.
struct Place {
    table: Arc<Table>,
    /// Its own key while it is idle.
    idle: Mutex<Option<u64>>,
    /// Known once its task runs.
    abort: OnceLock<AbortHandle>,
    /// What is being written is a stream.
    streams: AtomicBool,
}

/// Serves until `closing`, then finishes the requests that run.
///
/// # Errors
/// None; it goes on whatever happens to one connection.
pub(super) async fn serve(listener: UnixListener, router: Router, mut closing: Closing) -> io::Result<()> {
    let (table, streams) = (Arc::new(Table::default()), Arc::new(Semaphore::new(MOST_STREAMS)));
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            () = closing.wait() => break,
            // Cancel-safe, says tokio. Never empty: the condition.
            _ = connections.join_next(), if !connections.is_empty() => {}
            // Cancel-safe, says tokio.
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    if connections.len() >= MOST && !table.close_idle() {
                        refuse(&stream);
                        continue;
                    }
                    let place = Arc::new(Place::new(&table));
                    let (router, streams, closing) = (router.clone(), Arc::clone(&streams), closing.clone());
                    let task = connections.spawn(connection(stream, router, Arc::clone(&place), streams, closing));
                    // Nobody else sets it.
                    let _once = place.abort.set(task);
                    place.set_idle();
                }
                Err(error) if is_of_one_client(&error) => {}
                Err(error) => {
                    tracing::warn!(%error, "the API cannot take a connection");
                    table.close_idle();
                    sleep(PAUSE).await;
                }
            },
        }
    }
    while connections.join_next().await.is_some() {}
    Ok(())
}

fn is_of_one_client(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::Interrupted
    )
}

/// Says that there are too many, if that can be said at once.
fn refuse(stream: &UnixStream) {
    const ANSWER: &[u8] =
        b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
    // Whoever does not get it sees the connection close.
    drop(stream.try_write(ANSWER));
}

async fn connection(
    stream: UnixStream,
    router: Router,
    place: Arc<Place>,
    streams: Arc<Semaphore>,
    mut closing: Closing,
) {
    let router = TowerToHyperService::new(router);
    let here = Arc::clone(&place);
    let service = service_fn(move |request: Request<Incoming>| {
        let (router, place, streams) = (router.clone(), Arc::clone(&here), Arc::clone(&streams));
        async move { Ok::<_, Infallible>(answer(request, router, &place, streams).await) }
    });
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(REQUEST_TIMEOUT)
        .max_buf_size(LONGEST_HEAD)
        .max_headers(MOST_HEADERS);
    let client = TokioIo::new(Client { stream, place: Arc::clone(&place), stalled: None });
    let mut connection = std::pin::pin!(builder.serve_connection(client, service));
    let served = tokio::select! {
        served = &mut connection => served,
        () = closing.wait() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    place.leave();
    if let Err(error) = served {
        tracing::debug!(%error, "a connection to the API ended");
    }
}

async fn answer(
    request: Request<Incoming>,
    router: TowerToHyperService<Router>,
    place: &Arc<Place>,
    streams: Arc<Semaphore>,
) -> Response<Body> {
    let (head, body) = request.into_parts();
    let body = match timeout(REQUEST_TIMEOUT, to_bytes(Body::new(body), LONGEST_BODY)).await {
        Ok(Ok(body)) => body,
        Ok(Err(_)) => {
            return refused(
                StatusCode::PAYLOAD_TOO_LARGE,
                "RequestEntityTooLarge",
                &format!("the body of a request may have {LONGEST_BODY} bytes"),
            );
        }
        Err(_) => return refused(StatusCode::REQUEST_TIMEOUT, "Timeout", "the body of the request did not come"),
    };
    let busy = Busy::new(place);
    let response = match router.call(Request::from_parts(head, Body::from(body))).await {
        Ok(response) => response,
        Err(never) => match never {},
    };
    let is_stream = response.body().size_hint().exact().is_none();
    place.streams.store(is_stream, Ordering::Relaxed);
    if !is_stream {
        return response;
    }
    let Ok(permit) = streams.try_acquire_owned() else {
        place.streams.store(false, Ordering::Relaxed);
        let message = format!("{MOST_STREAMS} watches and follows are open already; end one of them");
        return refused(StatusCode::TOO_MANY_REQUESTS, "TooManyRequests", &message);
    };
    response.map(|body| Body::new(Stream { body, _busy: busy, _permit: permit }))
}

fn refused(code: StatusCode, reason: &'static str, message: &str) -> Response<Body> {
    ApiError { code, reason, message: message.to_owned() }.into_response()
}

impl Table {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, AbortHandle>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Closes the connection that has been idle longest; `false`: there is none.
    fn close_idle(&self) -> bool {
        let first = self.lock().pop_first();
        first.is_some_and(|(_, connection)| {
            connection.abort();
            true
        })
    }
}

impl Place {
    fn new(table: &Arc<Table>) -> Place {
        Place {
            table: Arc::clone(table),
            idle: Mutex::default(),
            abort: OnceLock::new(),
            streams: AtomicBool::new(false),
        }
    }

    fn key(&self) -> MutexGuard<'_, Option<u64>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set_idle(&self) {
        let Some(abort) = self.abort.get() else { return };
        let number = self.table.count.fetch_add(1, Ordering::Relaxed);
        let mut key = self.key();
        let mut idle = self.table.lock();
        if let Some(old) = key.replace(number) {
            idle.remove(&old);
        }
        idle.insert(number, abort.clone());
    }

    /// It is busy, or gone.
    fn leave(&self) {
        if let Some(key) = self.key().take() {
            self.table.lock().remove(&key);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.leave();
    }
}

/// Keeps a connection from counting as idle.
struct Busy(Arc<Place>);

impl Busy {
    fn new(place: &Arc<Place>) -> Busy {
        place.leave();
        Busy(Arc::clone(place))
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.set_idle();
    }
}

/// The body of a stream.
struct Stream {
    body: Body,
    _busy: Busy,
    _permit: OwnedSemaphorePermit,
}

impl HttpBody for Stream {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The client's end: writing to it fails once it has not read for too long.
struct Client {
    stream: UnixStream,
    place: Arc<Place>,
    /// Runs while the client does not read.
    stalled: Option<Pin<Box<Sleep>>>,
}

impl Client {
    /// What becomes of an attempt to write.
    fn judge<T>(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if written.is_ready() || self.place.streams.load(Ordering::Relaxed) {
            self.stalled = None;
            return written;
        }
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(sleep(STALL_TIMEOUT)));
        stalled.as_mut().poll(cx).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for Client {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Client {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.judge(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, parts);
        self.judge(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        self.judge(cx, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
