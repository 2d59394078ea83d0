//! The body of an upload: pieces that a reader hands over, counted and watched.
//!
//! Knows its length from the start, so that it goes out with a `Content-Length`.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use thiserror::Error;
use tokio::sync::mpsc::Receiver;

/// The reader gave up: the blob is corrupt, can't be read, or nobody wants it any more.
#[derive(Debug, Clone, Copy, Error)]
#[error("the blob could not be read to its end")]
pub struct Broken;

/// How the last byte may take its time: the registry still has to hash and store what arrived. Bytes a second.
const SETTLING_RATE: u64 = 20 * 1024 * 1024;

/// What is known of a body in flight.
#[derive(Debug, Clone)]
pub struct Watch(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    start: Instant,
    size: u64,
    sent: AtomicU64,
    /// Milliseconds after `start` at which a piece was taken last.
    moved: AtomicU64,
    /// Whether the connection waits for the reader, and not the other way round.
    starved: AtomicBool,
}

impl Watch {
    fn now(&self) -> u64 {
        u64::try_from(self.0.start.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Ends when no byte moved for `bound`; never while it is the reader that is waited for.
    pub(super) async fn stalled(&self, bound: Duration) {
        loop {
            let settling = self.0.sent.load(Ordering::Relaxed) >= self.0.size;
            let bound = if settling { bound + Duration::from_secs(self.0.size / SETTLING_RATE) } else { bound };
            let idle = if self.0.starved.load(Ordering::Relaxed) {
                Duration::ZERO
            } else {
                Duration::from_millis(self.now().saturating_sub(self.0.moved.load(Ordering::Relaxed)))
            };
            let Some(left) = bound.checked_sub(idle).filter(|left| !left.is_zero()) else { return };
            tokio::time::sleep(left).await;
        }
    }
}

/// Called with the number of bytes of each piece that the connection takes.
pub type Taken = Box<dyn Fn(u64) + Send + Sync>;

/// The body of one attempt at an upload.
pub struct UploadBody {
    pieces: Receiver<Result<Bytes, Broken>>,
    remaining: u64,
    watch: Watch,
    taken: Taken,
}

impl UploadBody {
    /// A body of `size` bytes that come out of `pieces`.
    #[must_use]
    pub fn new(pieces: Receiver<Result<Bytes, Broken>>, size: u64, taken: Taken) -> Self {
        let watch = Watch(Arc::new(Inner {
            start: Instant::now(),
            size,
            sent: AtomicU64::new(0),
            moved: AtomicU64::new(0),
            starved: AtomicBool::new(false),
        }));
        Self { pieces, remaining: size, watch, taken }
    }

    /// What can be known of it while it is in flight.
    #[must_use]
    pub fn watch(&self) -> Watch {
        self.watch.clone()
    }
}

impl std::fmt::Debug for UploadBody {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("UploadBody").field("remaining", &self.remaining).finish_non_exhaustive()
    }
}

impl Body for UploadBody {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let polled = self.pieces.poll_recv(cx);
        let inner = &self.watch.0;
        inner.starved.store(polled.is_pending(), Ordering::Relaxed);
        inner.moved.store(self.watch.now(), Ordering::Relaxed);
        match polled {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Some(Ok(piece))) => {
                let length = piece.len() as u64;
                inner.sent.fetch_add(length, Ordering::Relaxed);
                self.remaining = self.remaining.saturating_sub(length);
                (self.taken)(length);
                Poll::Ready(Some(Ok(Frame::data(piece))))
            }
            // A reader that went away before the end must not look like an end.
            Poll::Ready(None) if self.remaining > 0 => Poll::Ready(Some(Err(Broken))),
            Poll::Ready(None) => Poll::Ready(None),
            Poll::Ready(Some(Err(broken))) => Poll::Ready(Some(Err(broken))),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.remaining == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.remaining)
    }
}
