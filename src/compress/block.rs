//! Compresses one block: what a worker does.

use flate2::{Compress, Crc, FlushCompress, Status};

use super::buffers::Buffer;
use super::{Algorithm, Compression};

/// A member without name and time, from nobody's operating system: the bytes depend on nothing but the input.
pub(super) const GZIP_HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff];

/// How far back deflate can point.
const WINDOW: usize = 32 * 1024;

/// The most bytes of a stored block.
const MOST_STORED: usize = 0xffff;

/// What became of a block.
pub(super) struct Packed {
    pub(super) bytes: Buffer,
    /// Of what went in; for gzip.
    pub(super) crc: Option<Crc>,
}

/// What ends a member: an empty last block, the checksum, the length.
pub(super) fn gzip_trailer(crc: &Crc) -> [u8; 10] {
    let mut trailer = [0; 10];
    trailer[0] = 3;
    trailer[2..6].copy_from_slice(&crc.sum().to_le_bytes());
    trailer[6..].copy_from_slice(&crc.amount().to_le_bytes());
    trailer
}

/// A worker's compressors, made when first needed.
#[derive(Default)]
pub(super) struct Packer {
    deflate: Option<(i32, Compress)>,
    zstd: Option<(i32, zstd::bulk::Compressor<'static>)>,
}

impl Packer {
    /// Compresses `block` into the empty buffer `into`.
    pub(super) fn pack(&mut self, block: &[u8], before: &[u8], compression: &Compression, mut into: Buffer) -> Packed {
        let level = compression.effective_level();
        match compression.algorithm {
            Algorithm::Gzip => {
                let mut crc = Crc::new();
                crc.update(block);
                if !self.deflate(block, before, level, &mut into) {
                    into.clear();
                    stored(block, &mut into);
                }
                Packed { bytes: into, crc: Some(crc) }
            }
            Algorithm::Zstd => {
                self.frame(block, level, &mut into);
                Packed { bytes: into, crc: None }
            }
            Algorithm::None => {
                into.push(block);
                Packed { bytes: into, crc: None }
            }
        }
    }

    /// Deflates, up to a whole byte; says false if stored it would be smaller.
    fn deflate(&mut self, block: &[u8], before: &[u8], level: i32, into: &mut Buffer) -> bool {
        if self.deflate.as_ref().is_none_or(|(of, _)| *of != level) {
            let of = flate2::Compression::new(level.unsigned_abs());
            self.deflate = Some((level, Compress::new(of, false)));
        }
        let Some((_, deflate)) = &mut self.deflate else { return false };
        deflate.reset();
        let dictionary = &before[before.len().saturating_sub(WINDOW)..];
        if !dictionary.is_empty() && deflate.set_dictionary(dictionary).is_err() {
            return false;
        }
        let room = stored_length(block.len());
        // With more room than it can need: zlib-rs 0.6.8 panics at level 1 where noise doesn't fit.
        let status = deflate.compress(block, into.spare(), FlushCompress::Sync);
        let (read, made) = (deflate.total_in(), usize::try_from(deflate.total_out()).unwrap_or(usize::MAX));
        // With room left all of the flush is there.
        if !matches!(status, Ok(Status::Ok)) || read != block.len() as u64 || made >= room {
            return false;
        }
        into.grow(made);
        true
    }

    /// A frame of its own.
    fn frame(&mut self, block: &[u8], level: i32, into: &mut Buffer) {
        if self.zstd.as_ref().is_none_or(|(of, _)| *of != level) {
            self.zstd = zstd::bulk::Compressor::new(level).ok().map(|compressor| (level, compressor));
        }
        if let Some((_, compressor)) = &mut self.zstd
            && let Ok(made) = compressor.compress_to_buffer(block, into.spare())
        {
            into.grow(made);
        }
    }
}

/// Bytes that `length` bytes take when they are stored.
fn stored_length(length: usize) -> usize {
    length + length.div_ceil(MOST_STORED).max(1) * 5
}

/// Stores a block as it is, from one whole byte to another.
fn stored(block: &[u8], into: &mut Buffer) {
    for part in block.chunks(MOST_STORED) {
        let length = u16::try_from(part.len()).unwrap_or(u16::MAX);
        into.push(&[0]);
        into.push(&length.to_le_bytes());
        into.push(&(!length).to_le_bytes());
        into.push(part);
    }
}
