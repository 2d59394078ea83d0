//! Bodies of requests and replies, with the exact control that faults need.

use std::fs::File;
use std::io::{self, Read};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt as _;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::sync::mpsc;

use crate::journal::Moments;
use crate::spoil::{BodyFault, Spoilt};

/// Piece in which a file is sent.
const PIECE: usize = 256 * 1024;
/// How long an unwanted body is read on, so that its sender gets to see the reply.
const DRAIN: Duration = Duration::from_secs(10);

/// Why a request's body did not come to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Broken {
    /// The connection closed, or is to be closed.
    Cut,
    /// No more is to be read, and nothing answered.
    Stall,
    /// No more matters: the fault has its own answer.
    Refuse,
}

/// A request's body.
pub(crate) struct Inbound {
    body: Incoming,
    received: Arc<AtomicU64>,
    moments: Arc<Moments>,
    /// Bytes left until a fault happens.
    fault: Option<(u64, Broken)>,
    /// Whether it came to its end, or broke by itself.
    ended: bool,
}

impl Inbound {
    pub(crate) fn new(body: Incoming, received: Arc<AtomicU64>, moments: Arc<Moments>) -> Self {
        Self { body, received, moments, fault: None, ended: false }
    }

    /// Whether there is surely nothing in it.
    pub(crate) fn is_empty(&self) -> bool {
        self.body.is_end_stream()
    }

    /// Breaks after so many bytes.
    pub(crate) fn break_after(&mut self, bytes: u64, how: Broken) {
        self.fault = Some((bytes, how));
    }

    /// The next bytes; none at the end.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, Broken> {
        if let Some((0, how)) = self.fault {
            return Err(how);
        }
        loop {
            let Some(frame) = self.body.frame().await else {
                self.ended = true;
                return Ok(None);
            };
            let frame = frame.map_err(|_| {
                self.ended = true;
                Broken::Cut
            })?;
            let Ok(mut bytes) = frame.into_data() else {
                continue;
            };
            if let Some((left, _)) = &mut self.fault {
                bytes.truncate(usize::try_from(*left).unwrap_or(usize::MAX));
                *left -= bytes.len() as u64;
            }
            let before = self.received.fetch_add(bytes.len() as u64, Ordering::Relaxed);
            self.moments.received(before, bytes.len() as u64);
            return Ok(Some(bytes));
        }
    }

    /// The whole body, or none when it is longer than this; the rest is then left unread.
    pub(crate) async fn collect(&mut self, limit: usize) -> Result<Option<Bytes>, Broken> {
        let mut whole = BytesMut::new();
        while let Some(bytes) = self.next().await? {
            if whole.len() + bytes.len() > limit {
                return Ok(None);
            }
            whole.extend_from_slice(&bytes);
        }
        Ok(Some(whole.freeze()))
    }

    /// Reads the rest of an unwanted body in the background: closing a connection on unread bytes
    /// resets it, and takes the reply away from a client that is still sending.
    pub(crate) fn drain(mut self) {
        if self.ended || self.body.is_end_stream() {
            return;
        }
        self.fault = None;
        tokio::spawn(async move {
            let rest = async { while let Ok(Some(_)) = self.next().await {} };
            let _ = tokio::time::timeout(DRAIN, rest).await;
        });
    }
}

/// A reply's body.
pub(crate) enum Outbound {
    /// Bytes held.
    Whole(Bytes),
    /// A file, read by a thread of its own.
    File { pieces: mpsc::Receiver<io::Result<Bytes>>, left: u64 },
    /// Only a length, for the reply to a HEAD.
    Measured(u64),
    /// Something goes wrong with it.
    Spoilt(Spoilt),
}

impl Outbound {
    pub(crate) fn file(file: File, length: u64) -> Self {
        let (sender, pieces) = mpsc::channel(2);
        tokio::task::spawn_blocking(move || send(file, &sender));
        Self::File { pieces, left: length }
    }

    /// With something that goes wrong; only a length has nothing that could.
    pub(crate) fn spoil(self, fault: BodyFault) -> Self {
        if matches!(self, Self::Measured(_)) { self } else { Self::Spoilt(Spoilt::new(self, fault)) }
    }
}

fn send(mut file: File, pieces: &mpsc::Sender<io::Result<Bytes>>) {
    loop {
        let mut piece = vec![0; PIECE];
        let read = match file.read(&mut piece) {
            Ok(0) => return,
            Ok(read) => {
                piece.truncate(read);
                Ok(piece.into())
            }
            Err(error) => Err(error),
        };
        if pieces.blocking_send(read).is_err() {
            // The client has gone.
            return;
        }
    }
}

impl Body for Outbound {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        match self.get_mut() {
            Self::Whole(bytes) if bytes.is_empty() => Poll::Ready(None),
            Self::Whole(bytes) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
            Self::Measured(_) => Poll::Ready(None),
            Self::File { pieces, left } => pieces.poll_recv(context).map(|piece| {
                piece.map(|piece| {
                    piece.map(|bytes| {
                        *left = left.saturating_sub(bytes.len() as u64);
                        Frame::data(bytes)
                    })
                })
            }),
            Self::Spoilt(spoilt) => spoilt.poll_frame(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Whole(bytes) if bytes.is_empty())
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(match self {
            Self::Whole(bytes) => bytes.len() as u64,
            Self::Measured(length) | Self::File { left: length, .. } => *length,
            Self::Spoilt(spoilt) => spoilt.claimed(),
        })
    }
}
