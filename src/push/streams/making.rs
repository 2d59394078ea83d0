//! Makes one layer: reads it, compresses it, and hands the pieces to every upload that wants them. Blocks.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use thiserror::Error;
use tokio::sync::mpsc::Sender;

use super::Recipe;
use crate::cause::Cause;
use crate::compress::{self, Algorithm, Compression, Made, Packing};
use crate::event::{Attempt, Event, Reporter};
use crate::image::{Content, Part, Raw};
use crate::oci::digest::Digest;
use crate::registry::body::Broken;

/// Bytes by which a layer is known to be compressed, and how.
const MAGIC: usize = 16;

const AS_IS: Compression = Compression { algorithm: Algorithm::None, level: None };

/// Bytes that are read at once of what is compressed.
const PACKED: usize = 64 * 1024;

/// How often progress is told, in bytes of what is read.
const TELL: u64 = 256 * 1024;

/// Why a layer can't be made.
#[derive(Debug, Error)]
pub enum MakeError {
    /// It can't be read.
    #[error("layer {layer} can't be read")]
    Unreadable {
        /// Its digest in SOURCE.
        layer: Digest,
        /// What the system said, or whoever reads it.
        source: io::Error,
    },
    /// It is compressed in a way that isn't known.
    #[error("layer {layer} is compressed with {packing}, which images can't have")]
    Packing {
        /// Its digest in SOURCE.
        layer: Digest,
        /// The program.
        packing: &'static str,
    },
    /// It isn't what its image's config says.
    #[error("layer {layer} has the content {found}, and its image's config says {expected}")]
    Content {
        /// Its digest in SOURCE.
        layer: Digest,
        /// What the config says.
        expected: Digest,
        /// What it is.
        found: Digest,
    },
    /// It becomes something else than the record says.
    #[error("layer {layer} becomes {found}, and was recorded to become {expected}")]
    Record {
        /// Its digest in SOURCE.
        layer: Digest,
        /// What the record says.
        expected: Digest,
        /// What it has become.
        found: Digest,
    },
    /// The thread that made it ended by itself.
    #[error("layer {layer} could not be made: reading ended unexpectedly")]
    Died {
        /// Its digest in SOURCE.
        layer: Digest,
        /// How.
        source: Cause,
    },
    /// The engine doesn't give it.
    #[error("layer {layer} can't be had from the engine")]
    Engine {
        /// Its digest.
        layer: Digest,
        /// Why.
        source: Arc<Cause>,
    },
    /// An export hasn't got it.
    #[error("the engine's export doesn't hold layer {layer}")]
    NotExported {
        /// Its digest.
        layer: Digest,
    },
}

/// The uploads that get a layer's pieces, as fast as the slowest takes them.
#[derive(Debug, Default)]
pub(super) struct Fan {
    uploads: Vec<Sender<Result<Bytes, Broken>>>,
    /// Whether there never was anybody: then it is the digest that is wanted.
    idle: bool,
}

impl Fan {
    pub(super) fn new(uploads: Vec<Sender<Result<Bytes, Broken>>>) -> Self {
        Self { idle: uploads.is_empty(), uploads }
    }

    /// Hands a piece to everybody who is still there, and says whether to go on.
    fn hand(&mut self, piece: &Bytes) -> bool {
        self.uploads.retain(|upload| upload.blocking_send(Ok(piece.clone())).is_ok());
        self.idle || !self.uploads.is_empty()
    }

    /// Tells everybody whether that was all.
    fn end(&mut self, whole: bool) {
        for upload in self.uploads.drain(..) {
            let _ = upload.blocking_send(if whole { Ok(Bytes::new()) } else { Err(Broken) });
        }
    }
}

/// What a layer has to turn out to be.
#[derive(Debug, Clone)]
pub(super) struct Expected {
    /// Its digest in SOURCE, by which it is named.
    pub(super) layer: Digest,
    /// The digest of its content; `None` while it isn't known which layer it is.
    pub(super) diff_id: Option<Digest>,
    /// The digest that it is recorded to have when it is compressed.
    pub(super) digest: Option<Digest>,
    /// Whether it is handed on as it is.
    pub(super) as_is: bool,
}

/// How one layer is made, and for whom.
pub(super) struct Making {
    pub(super) expected: Expected,
    pub(super) recipe: Recipe,
    pub(super) fan: Fan,
    pub(super) progress: Progress,
}

/// Tells every attempt how far its layer has come: how much of it was read, or was made where its size is known.
pub(super) struct Progress {
    pub(super) of_what_is_made: bool,
    pub(super) attempts: Vec<Attempt>,
    pub(super) reporter: Arc<dyn Reporter>,
}

impl Progress {
    fn tell(&self, bytes: u64) {
        for attempt in &self.attempts {
            self.reporter.report(&Event::Moved { attempt: *attempt, bytes });
        }
    }
}

impl Making {
    /// Reads the layer to its end. `None` when nobody wants it any more; what is wrong has been told to everybody.
    pub(super) fn run(mut self, from: impl Read) -> Result<Option<Made>, MakeError> {
        let Self { expected, recipe, fan, progress } = &mut self;
        let progress = &*progress;
        let from = Counted { from, untold: 0, progress };
        let made = make(from, expected, recipe, &mut |piece| {
            if progress.of_what_is_made {
                progress.tell(piece.len() as u64);
            }
            fan.hand(&piece)
        });
        fan.end(matches!(made, Ok(Some(_))));
        made
    }

    /// Reads a layer whose bytes are at hand.
    pub(super) fn run_at_hand(mut self, content: Option<&Content>) -> Result<Option<Made>, MakeError> {
        let layer = self.expected.layer.clone();
        let Some(content) = content else {
            self.fan.end(false);
            return Err(MakeError::NotExported { layer });
        };
        match open(content) {
            Ok(from) => self.run(from),
            Err(source) => {
                self.fan.end(false);
                Err(MakeError::Unreadable { layer, source })
            }
        }
    }
}

/// Compresses a layer and sees that it is what it has to be. `None` when `to` wants no more.
fn make(
    from: impl Read,
    expected: &Expected,
    recipe: &Recipe,
    to: &mut dyn FnMut(Bytes) -> bool,
) -> Result<Option<Made>, MakeError> {
    let layer = || expected.layer.clone();
    let unreadable = |source| MakeError::Unreadable { layer: layer(), source };
    let mut from = from;
    let mut first = Vec::with_capacity(MAGIC);
    from.by_ref().take(MAGIC as u64).read_to_end(&mut first).map_err(unreadable)?;
    let packing = if expected.as_is { Packing::Nothing } else { compress::packing(&first) };
    let mut whole = io::Cursor::new(first).chain(from);
    let Recipe { compression, workers, .. } = recipe;
    let compression = if expected.as_is { &AS_IS } else { compression };
    let made = match packing {
        Packing::Nothing => compress::compress(&mut whole, compression, workers, to),
        Packing::Gzip | Packing::Zstd => {
            let packed = BufReader::with_capacity(PACKED, whole);
            let mut content = compress::unpacked(packing, packed).map_err(unreadable)?;
            compress::compress(&mut content, compression, workers, to)
        }
        Packing::Bzip2 | Packing::Xz => {
            return Err(MakeError::Packing { layer: layer(), packing: packing.name() });
        }
    };
    let Some(made) = made.map_err(unreadable)? else { return Ok(None) };
    if let Some(diff_id) = expected.diff_id.as_ref().filter(|diff_id| **diff_id != made.diff_id) {
        return Err(MakeError::Content { layer: layer(), expected: diff_id.clone(), found: made.diff_id });
    }
    if let Some(digest) = expected.digest.as_ref().filter(|digest| **digest != made.digest) {
        return Err(MakeError::Record { layer: layer(), expected: digest.clone(), found: made.digest });
    }
    Ok(Some(made))
}

/// Makes a small layer in memory.
///
/// # Errors
/// When it can't be read, or isn't what its config says.
pub fn whole(raw: &Raw, recipe: &Recipe) -> Result<(Made, Bytes), MakeError> {
    let layer = || raw.digest.clone();
    let content = raw.content.as_ref().ok_or_else(|| MakeError::NotExported { layer: layer() })?;
    let from = open(content).map_err(|source| MakeError::Unreadable { layer: layer(), source })?;
    let expected = Expected { layer: layer(), diff_id: Some(raw.diff_id.clone()), digest: None, as_is: raw.as_is };
    let mut bytes = BytesMut::new();
    let mut to = |piece: Bytes| {
        bytes.extend_from_slice(&piece);
        true
    };
    let made = make(from, &expected, recipe, &mut to)?.ok_or_else(|| MakeError::NotExported { layer: layer() })?;
    Ok((made, bytes.freeze()))
}

/// Counts what is read.
struct Counted<'a, R> {
    from: R,
    untold: u64,
    progress: &'a Progress,
}

impl<R: Read> Read for Counted<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.from.read(buffer)?;
        self.untold += length as u64;
        if self.untold >= TELL || length == 0 {
            self.tell();
        }
        Ok(length)
    }
}

impl<R> Counted<'_, R> {
    fn tell(&mut self) {
        let bytes = std::mem::take(&mut self.untold);
        if bytes > 0 && !self.progress.of_what_is_made {
            self.progress.tell(bytes);
        }
    }
}

impl<R> Drop for Counted<'_, R> {
    fn drop(&mut self) {
        self.tell();
    }
}

/// Reads a layer's bytes where they are at hand.
fn open(content: &Content) -> io::Result<Box<dyn Read + Send>> {
    Ok(match content {
        Content::Held(bytes) => Box::new(io::Cursor::new(bytes.clone())),
        Content::File(path) => Box::new(File::open(path)?),
        Content::Part(part) => Box::new(PartReader { part: part.clone(), at: 0 }),
        Content::Made(_) => return Err(io::ErrorKind::NotFound.into()),
    })
}

/// Reads a part of a file from its beginning.
struct PartReader {
    part: Part,
    at: u64,
}

impl Read for PartReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.part.fill(buffer, self.at)?;
        if length == 0 && !buffer.is_empty() && self.at < self.part.length {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.at += length as u64;
        Ok(length)
    }
}
