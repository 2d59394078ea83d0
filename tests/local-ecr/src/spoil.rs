//! Bodies of replies that go wrong on their way.

use std::future::Future as _;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body as _, Frame};
use tokio::time::Sleep;

use crate::body::Outbound;

/// What came before a break must have left the process first: hyper sends what it holds while a body makes it wait.
const BEFORE_BREAK: Duration = Duration::from_millis(20);
/// What the body of a reply promises that breaks off although it has nothing.
const LEAST_CLAIM: u64 = 64;

/// What goes wrong with a reply's body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BodyFault {
    /// It breaks off after half of it.
    Halve,
    /// It breaks off after so many bytes.
    Truncate(u64),
    /// After so many bytes no more comes.
    Stall(u64),
    /// Each piece of so many bytes comes after this time.
    Drip(usize, Duration),
}

/// A body, and what goes wrong with it.
pub(crate) struct Spoilt {
    whole: Box<Outbound>,
    fault: BodyFault,
    /// Taken from the whole and not passed on yet.
    held: Bytes,
    /// What the reply's head promises, less what was passed on.
    claimed: u64,
    /// Bytes to pass on before the break.
    left: u64,
    wait: Duration,
    /// Begins when somebody waits: one that is over before hyper asks for the first time lets it send nothing at all.
    pause: Option<Pin<Box<Sleep>>>,
}

impl Spoilt {
    pub(crate) fn new(whole: Outbound, fault: BodyFault) -> Self {
        let length = whole.size_hint().lower();
        let (claimed, left, wait) = match fault {
            BodyFault::Halve => (length.max(LEAST_CLAIM), length / 2, BEFORE_BREAK),
            BodyFault::Truncate(bytes) | BodyFault::Stall(bytes) => {
                (length.max(LEAST_CLAIM).max(bytes), bytes, BEFORE_BREAK)
            }
            BodyFault::Drip(_, every) => (length, length, every),
        };
        Self { whole: Box::new(whole), fault, held: Bytes::new(), claimed, left, wait, pause: None }
    }

    pub(crate) fn claimed(&self) -> u64 {
        self.claimed
    }

    pub(crate) fn poll_frame(&mut self, context: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        while self.held.is_empty() && self.left > 0 {
            match ready!(Pin::new(&mut *self.whole).poll_frame(context)) {
                Some(frame) => self.held = frame?.into_data().unwrap_or_default(),
                None => self.left = 0,
            }
        }
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(self.held.len());
        let piece = match self.fault {
            BodyFault::Drip(_, _) if most == 0 => return Poll::Ready(None),
            BodyFault::Drip(bytes, _) => {
                ready!(self.poll_pause(context));
                most.min(bytes.max(1))
            }
            BodyFault::Stall(_) if most == 0 => return Poll::Pending,
            BodyFault::Halve | BodyFault::Truncate(_) if most == 0 => {
                ready!(self.poll_pause(context));
                return Poll::Ready(Some(Err(io::ErrorKind::ConnectionAborted.into())));
            }
            _ => most,
        };
        self.left -= piece as u64;
        self.claimed -= piece as u64;
        Poll::Ready(Some(Ok(Frame::data(self.held.split_to(piece)))))
    }

    /// Waits once more.
    fn poll_pause(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let pause = self.pause.get_or_insert_with(|| Box::pin(tokio::time::sleep(self.wait)));
        ready!(pause.as_mut().poll(context));
        self.pause = None;
        Poll::Ready(())
    }
}
