//! An image's tar as an engine streams it: blocking reads, and no more of it in memory than a few pieces.

use std::io::{self, Read};
use std::time::Duration;

use bytes::{Buf, Bytes};
use serde::Deserialize;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

use super::error::EngineError;
use super::wire::{Answer, Ask, chunk};
use super::{Engine, alive, explain};
use crate::cause::Cause;

/// Pieces that may lie between the connection and the reader; each has at most what the connection holds.
const PIECES: usize = 4;

/// What is kept of a stream's last bytes: an engine that fails in the middle of it writes why at its end, and ends it as if
/// nothing were wrong.
const TAIL: usize = 4096;

/// What every tar ends with at least, in bytes: a block of zeros.
const END: usize = 512;

/// The tar of an image, as it comes. Dropped, it closes the connection.
///
/// Reading blocks, and panics on a thread that runs asynchronous tasks. An error, and an end that comes too early, stay: no
/// read after them says that the tar ended.
#[derive(Debug)]
pub struct Export {
    pieces: mpsc::Receiver<Result<Bytes, EngineError>>,
    piece: Bytes,
    tail: Tail,
    image: String,
    endpoint: String,
    state: State,
    carrying: AbortHandle,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    Ended,
    Failed,
}

impl Drop for Export {
    fn drop(&mut self) {
        self.carrying.abort();
    }
}

impl Export {
    /// Asks for the image. Nothing bounds the time until the first byte comes, for an engine may write the whole image to its
    /// disk first; but it has to answer when it is asked whether it is there.
    pub(super) async fn begin(engine: &Engine, image: &str, path: String) -> Result<Self, EngineError> {
        let ask = Ask { method: "GET", path: &path };
        let answer = alive(engine, engine.wire.begin(ask)).await??;
        if answer.status != 200 {
            return Err(explain(engine, ask, image, answer).await);
        }
        let Answer { mut body, connection, .. } = answer;
        let (sender, pieces) = mpsc::channel(PIECES);
        let (engine, endpoint) = (engine.clone(), engine.endpoint());
        let subject = image.to_owned();
        let carrying = tokio::spawn(async move {
            let _connection = connection;
            let mut received = 0;
            loop {
                let piece = match alive(&engine, chunk(&mut body)).await {
                    Ok(Ok(Some(bytes))) => Ok(bytes),
                    Ok(Ok(None)) => return,
                    Ok(Err(error)) => Err(cut(&engine.endpoint(), &subject, received, Cause::new(error))),
                    Err(error) => Err(cut(&engine.endpoint(), &subject, received, Cause::new(error))),
                };
                received += piece.as_ref().map_or(0, |piece| piece.len() as u64);
                let failed = piece.is_err();
                if sender.send(piece).await.is_err() || failed {
                    return;
                }
            }
        });
        let (carrying, image) = (carrying.abort_handle(), image.to_owned());
        let (tail, state) = (Tail::default(), State::Open);
        Ok(Self { pieces, piece: Bytes::new(), tail, image, endpoint, state, carrying })
    }

    fn fail(&mut self, kind: io::ErrorKind, source: Cause) -> io::Error {
        self.state = State::Failed;
        io::Error::new(kind, cut(&self.endpoint, &self.image, self.tail.received, source))
    }
}

fn cut(endpoint: &str, image: &str, received: u64, source: Cause) -> EngineError {
    EngineError::Cut { endpoint: endpoint.to_owned(), image: image.to_owned(), received, source }
}

impl Read for Export {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        match self.state {
            State::Open => {}
            State::Ended => return Ok(0),
            State::Failed => return Err(self.fail(io::ErrorKind::BrokenPipe, Cause::new("it broke off before"))),
        }
        while self.piece.is_empty() {
            match self.pieces.blocking_recv() {
                Some(Ok(piece)) => {
                    self.tail.push(&piece);
                    self.piece = piece;
                }
                Some(Err(error)) => {
                    self.state = State::Failed;
                    return Err(io::Error::other(error));
                }
                None => {
                    if let Some(why) = self.tail.wrong() {
                        return Err(self.fail(io::ErrorKind::UnexpectedEof, Cause::new(why)));
                    }
                    self.state = State::Ended;
                    return Ok(0);
                }
            }
        }
        let length = buffer.len().min(self.piece.len());
        self.piece.copy_to_slice(&mut buffer[..length]);
        Ok(length)
    }
}

/// The last bytes of a stream.
#[derive(Debug, Default)]
struct Tail {
    bytes: Vec<u8>,
    received: u64,
}

impl Tail {
    fn push(&mut self, piece: &[u8]) {
        self.received += piece.len() as u64;
        self.bytes.extend_from_slice(&piece[piece.len().saturating_sub(TAIL)..]);
        self.bytes.drain(..self.bytes.len().saturating_sub(TAIL));
    }

    /// What is wrong with it as the end of a tar.
    fn wrong(&self) -> Option<String> {
        #[derive(Deserialize)]
        struct Failure {
            error: String,
        }
        let end = &self.bytes[self.bytes.len().saturating_sub(END)..];
        if end.len() == END && end.iter().all(|byte| *byte == 0) {
            return None;
        }
        // As docker writes it: an object of JSON behind whatever came before.
        let begins = self.bytes.windows(2).enumerate().filter(|(_, at)| at == b"{\"").map(|(at, _)| at);
        let failure = begins.map(|at| serde_json::from_slice::<Failure>(&self.bytes[at..])).find_map(Result::ok);
        Some(failure.map_or_else(|| "the tar has no end".to_owned(), |failure| failure.error))
    }
}

/// How long an engine may be silent before it is asked whether it is there.
pub(super) const QUIET: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tar_ends_with_zeros() {
        let check = |pieces: &[&[u8]], expected: Option<&str>| {
            let mut tail = Tail::default();
            for piece in pieces {
                tail.push(piece);
            }
            assert_eq!(tail.wrong().as_deref(), expected);
        };
        let zeros = [0; 1024];
        check(&[b"content", &zeros], None);
        check(&[b"content", &zeros[..300], &zeros[..300]], None);
        check(&[&[1; 10000], &zeros], None);
        check(&[], Some("the tar has no end"));
        check(&[&zeros[..511]], Some("the tar has no end"));
        check(&[b"content", &zeros, b"x"], Some("the tar has no end"));
        let failure = b"{\"errorDetail\":{\"message\":\"disk on fire\"},\"error\":\"disk on fire\"}\r\n";
        check(&[b"content", &zeros, failure], Some("disk on fire"));
        check(&[failure], Some("disk on fire"));
        check(&[&[1; 10000], failure], Some("disk on fire"));
    }
}
