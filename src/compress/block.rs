//! Compresses one block: what a worker does.

use flate2::{Compress, Crc, FlushCompress, Status};

use super::buffers::Buffer;
use super::deflate::{self, Deflater};
use super::{Algorithm, Compression};

/// A member without name and time, from nobody's operating system: the bytes depend on nothing but the input.
pub(super) const GZIP_HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff];

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
    fast: Deflater,
    zstd: Option<(i32, zstd::bulk::Compressor<'static>)>,
}

impl Packer {
    /// Compresses `window` from `start` on, what lies before it being what went in before, into the empty buffer `into`.
    pub(super) fn pack(&mut self, window: &[u8], start: usize, compression: &Compression, mut into: Buffer) -> Packed {
        let level = compression.effective_level();
        let block = &window[start..];
        match compression.algorithm {
            Algorithm::Gzip => {
                let mut crc = Crc::new();
                crc.update(block);
                let made = match level {
                    1 => self.fast.deflate(window, start, into.spare()),
                    _ => Self::deflate(window, start, level, into.spare()),
                };
                match made {
                    Some(made) if made <= deflate::stored_length(block.len()) => into.grow(made),
                    _ => deflate::stored(block, |piece| into.push(piece)),
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

    /// Deflates with zlib, up to a whole byte.
    fn deflate(window: &[u8], start: usize, level: i32, into: &mut [u8]) -> Option<usize> {
        // One for each block: after a reset zlib-rs 0.6.8 still knows, at level 2, what it saw before, and other threads would
        // make other bytes.
        let mut zlib = Compress::new(flate2::Compression::new(level.unsigned_abs()), false);
        if start > 0 {
            zlib.set_dictionary(&window[..start]).ok()?;
        }
        let room = into.len();
        let status = zlib.compress(&window[start..], into, FlushCompress::Sync).ok()?;
        let (read, made) = (usize::try_from(zlib.total_in()).ok()?, usize::try_from(zlib.total_out()).ok()?);
        // With room left all of the flush is there.
        (status == Status::Ok && read == window.len() - start && made < room).then_some(made)
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
