//! A connection to a server that may mean harm: what it sends comes in small portions, with a turn for everybody else between two,
//! and ends when it is too much. A parser that is fed as fast as it reads never comes back by itself.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Bytes that are read before others have their turn.
const PORTION: usize = 4 << 10;
/// Most informational answers (100 to 199) before the one that counts, as Go's client has it.
const MAX_INFORMATIONAL: usize = 5;

/// Counts the informational answers on a connection.
#[derive(Debug, Clone, Default)]
pub(super) struct Informational(Arc<AtomicUsize>);

impl Informational {
    /// One more.
    pub(super) fn count(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// The connection.
#[derive(Debug)]
pub(super) struct Paced<S> {
    stream: S,
    informational: Informational,
    /// Bytes that may still come.
    left: usize,
    /// A portion was given, and nobody else has had a turn since.
    turn: bool,
}

impl<S> Paced<S> {
    /// At most so many bytes of `stream`.
    pub(super) fn new(stream: S, most: usize, informational: Informational) -> Self {
        Self { stream, informational, left: most, turn: false }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Paced<S> {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.informational.0.load(Ordering::Relaxed) > MAX_INFORMATIONAL {
            let why = format!("more than {MAX_INFORMATIONAL} informational answers");
            return Poll::Ready(Err(io::Error::other(why)));
        }
        if std::mem::take(&mut this.turn) {
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        let room = PORTION.min(this.left).min(buffer.remaining());
        if room == 0 && buffer.remaining() > 0 {
            return Poll::Ready(Err(io::Error::other("the answer is too long")));
        }
        let mut portion = ReadBuf::new(buffer.initialize_unfilled_to(room));
        let read = Pin::new(&mut this.stream).poll_read(context, &mut portion);
        let length = portion.filled().len();
        buffer.advance(length);
        (this.left, this.turn) = (this.left - length, length > 0);
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Paced<S> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(context, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncReadExt as _;

    #[tokio::test]
    async fn others_have_a_turn_between_two_portions_and_too_much_is_an_error() {
        // Never waits by itself.
        let mut paced = Paced::new(tokio::io::repeat(b'x'), 10 * PORTION, Informational::default());
        let turns = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&turns);
        tokio::spawn(async move {
            loop {
                counted.fetch_add(1, Ordering::Relaxed);
                tokio::task::yield_now().await;
            }
        });
        let mut read = Vec::new();
        let error = paced.read_to_end(&mut read).await.unwrap_err();
        assert_eq!((error.to_string().as_str(), read.len()), ("the answer is too long", 10 * PORTION));
        assert!(turns.load(Ordering::Relaxed) >= 9, "{turns:?}");
    }

    #[tokio::test]
    async fn informational_answers_are_counted() {
        let told = Informational::default();
        let mut paced = Paced::new(tokio::io::repeat(b'x'), usize::MAX, told.clone());
        let mut buffer = [0; 8];
        for _ in 0..MAX_INFORMATIONAL {
            told.count();
        }
        assert_eq!(paced.read(&mut buffer).await.unwrap(), 8);
        told.count();
        assert!(paced.read(&mut buffer).await.is_err());
    }
}
