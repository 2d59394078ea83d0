//! The body of an upload: pieces that a reader hands over, counted and watched.
//!
//! One whose length is known from the start goes out with a `Content-Length`. That of a layer which is compressed on its way
//! ends with an empty piece, so that whoever made it and went away can't be taken for its end.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use thiserror::Error;
use tokio::sync::mpsc::{self, Receiver};

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
    /// Bytes of the blob; `u64::MAX` for as long as nobody knows.
    size: AtomicU64,
    /// The number of the byte that comes next.
    sent: AtomicU64,
    /// Milliseconds after `start` at which a piece was taken last.
    moved: AtomicU64,
    /// Whether the connection waits for the reader, and not the other way round.
    starved: AtomicBool,
    /// Where the pieces come from, until the attempt is over.
    pieces: Mutex<Option<Receiver<Result<Bytes, Broken>>>>,
}

impl Watch {
    fn now(&self) -> u64 {
        u64::try_from(self.0.start.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Bytes of the blob that the registry may have: what was there before, and all that the connection took.
    #[must_use]
    pub fn sent(&self) -> u64 {
        self.0.sent.load(Ordering::Relaxed)
    }

    /// Whether the connection took all bytes, so far as it is known how many there are.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.sent() >= self.0.size.load(Ordering::Relaxed)
    }

    /// How long no byte has moved.
    #[must_use]
    pub fn idle(&self) -> Duration {
        Duration::from_millis(self.now().saturating_sub(self.0.moved.load(Ordering::Relaxed)))
    }

    /// Takes no more pieces. A connection that nobody waits for may keep its body for as long as it can't write, and whoever
    /// hands over pieces would be kept as well.
    pub fn end(&self) {
        self.pieces().take();
    }

    fn poll_piece(&self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Broken>>> {
        self.pieces().as_mut().map_or(Poll::Ready(None), |pieces| pieces.poll_recv(cx))
    }

    fn pieces(&self) -> MutexGuard<'_, Option<Receiver<Result<Bytes, Broken>>>> {
        self.0.pieces.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends when no byte moved for `bound`; never while it is the reader that is waited for.
    pub(super) async fn stalled(&self, bound: Duration) {
        loop {
            let size = self.0.size.load(Ordering::Relaxed);
            let settling = self.sent() >= size;
            let bound = if settling { bound + Duration::from_secs(size / SETTLING_RATE) } else { bound };
            let idle = if self.0.starved.load(Ordering::Relaxed) { Duration::ZERO } else { self.idle() };
            let Some(left) = bound.checked_sub(idle).filter(|left| !left.is_zero()) else { return };
            tokio::time::sleep(left).await;
        }
    }
}

/// Called with the number of bytes of each piece that the connection takes.
pub type Taken = Box<dyn Fn(u64) + Send + Sync>;

/// The body of one attempt at an upload.
pub struct UploadBody {
    /// What came before it was known that it comes.
    first: Option<Result<Bytes, Broken>>,
    from: u64,
    /// Bytes that are still to come; `None` where only the end tells.
    remaining: Option<u64>,
    ended: bool,
    watch: Watch,
    taken: Taken,
}

impl UploadBody {
    /// The bytes of a blob of `size` bytes that come after the first `from`, out of `pieces`.
    #[must_use]
    pub fn new(pieces: Receiver<Result<Bytes, Broken>>, from: u64, size: u64, taken: Taken) -> Self {
        Self { remaining: Some(size.saturating_sub(from)), ..Self::of(pieces, from, size, taken) }
    }

    /// A blob of which nobody knows how long it will be: all of `pieces` up to an empty one.
    #[must_use]
    pub fn unsized_of(pieces: Receiver<Result<Bytes, Broken>>, taken: Taken) -> Self {
        Self::of(pieces, 0, u64::MAX, taken)
    }

    fn of(pieces: Receiver<Result<Bytes, Broken>>, from: u64, size: u64, taken: Taken) -> Self {
        let watch = Watch(Arc::new(Inner {
            start: Instant::now(),
            size: AtomicU64::new(size),
            sent: AtomicU64::new(from),
            moved: AtomicU64::new(0),
            starved: AtomicBool::new(false),
            pieces: Mutex::new(Some(pieces)),
        }));
        Self { first: None, from, remaining: None, ended: false, watch, taken }
    }

    /// No bytes, where the registry has all `size` of them.
    #[must_use]
    pub fn nothing_after(size: u64) -> Self {
        Self::new(mpsc::channel(1).1, size, size, Box::new(|_| ()))
    }

    /// Waits until there is a piece to send: a connection on which nothing comes for long is closed.
    #[must_use]
    pub async fn ready(mut self) -> Self {
        let watch = self.watch.clone();
        self.first = poll_fn(|cx| watch.poll_piece(cx)).await;
        self.watch.0.moved.store(self.watch.now(), Ordering::Relaxed);
        self
    }

    /// The number of its first byte in the blob.
    #[must_use]
    pub fn from(&self) -> u64 {
        self.from
    }

    /// The blob's size in bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.watch.0.size.load(Ordering::Relaxed)
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
        let polled = match self.first.take() {
            Some(first) => Poll::Ready(Some(first)),
            None => self.watch.poll_piece(cx),
        };
        let inner = &self.watch.0;
        inner.starved.store(polled.is_pending(), Ordering::Relaxed);
        inner.moved.store(self.watch.now(), Ordering::Relaxed);
        match polled {
            Poll::Pending => Poll::Pending,
            // Behind all that it had, and not merely nothing for now.
            Poll::Ready(Some(Ok(piece))) if piece.is_empty() && self.remaining.is_none() => {
                inner.size.store(inner.sent.load(Ordering::Relaxed), Ordering::Relaxed);
                self.ended = true;
                Poll::Ready(None)
            }
            Poll::Ready(Some(Ok(piece))) => {
                let length = piece.len() as u64;
                inner.sent.fetch_add(length, Ordering::Relaxed);
                self.remaining = self.remaining.map(|remaining| remaining.saturating_sub(length));
                (self.taken)(length);
                Poll::Ready(Some(Ok(Frame::data(piece))))
            }
            // A reader that went away before the end must not look like an end.
            Poll::Ready(None) if self.ended || self.remaining == Some(0) => Poll::Ready(None),
            Poll::Ready(None) => Poll::Ready(Some(Err(Broken))),
            Poll::Ready(Some(Err(broken))) => Poll::Ready(Some(Err(broken))),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.ended || self.remaining == Some(0)
    }

    fn size_hint(&self) -> SizeHint {
        self.remaining.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}
