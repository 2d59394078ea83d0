//! What a request carries: nothing, a few bytes, or an upload.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use crate::registry::body::{Broken, UploadBody};

/// A request's body.
#[derive(Debug)]
pub(in crate::registry) enum Payload {
    /// Bytes that are held.
    Held(Bytes),
    /// A blob's, as they are read.
    Upload(UploadBody),
}

impl Payload {
    pub(in crate::registry) const EMPTY: Self = Self::Held(Bytes::new());
}

impl Body for Payload {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        match &mut *self {
            Self::Held(bytes) if bytes.is_empty() => Poll::Ready(None),
            Self::Held(bytes) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
            Self::Upload(body) => Pin::new(body).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Held(bytes) => bytes.is_empty(),
            Self::Upload(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Held(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Self::Upload(body) => body.size_hint(),
        }
    }
}
