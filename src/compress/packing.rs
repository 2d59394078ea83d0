//! What others compressed: told by its first bytes, and read.

use std::io::{self, Read};

use flate2::read::MultiGzDecoder;

/// What a tar is packed in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packing {
    /// Nothing that is known: it may be a tar, or anything else.
    Nothing,
    /// gzip.
    Gzip,
    /// Zstandard.
    Zstd,
    /// bzip2, which registries' clients don't read.
    Bzip2,
    /// xz, which registries' clients don't read.
    Xz,
}

impl Packing {
    /// Its name, as people write it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Nothing => "nothing",
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
            Self::Bzip2 => "bzip2",
            Self::Xz => "xz",
        }
    }
}

/// What something is packed in that begins with `first`; six bytes are enough.
#[must_use]
pub fn packing(first: &[u8]) -> Packing {
    match first {
        [0x1f, 0x8b, ..] => Packing::Gzip,
        // The second is a frame to be skipped, with which parallel compressors like to begin.
        [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Packing::Zstd,
        [b'B', b'Z', b'h', b'1'..=b'9', ..] => Packing::Bzip2,
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Packing::Xz,
        _ => Packing::Nothing,
    }
}

/// Reads what is inside `from`, through all members and frames. How much may come out is the caller's to bound.
///
/// # Errors
/// When `packing` is one that isn't read; what is broken shows when it is read.
pub fn unpacked<'a>(packing: Packing, from: impl Read + 'a) -> io::Result<Box<dyn Read + 'a>> {
    match packing {
        Packing::Nothing => Ok(Box::new(from)),
        Packing::Gzip => Ok(Box::new(MultiGzDecoder::new(from))),
        Packing::Zstd => Ok(Box::new(zstd::Decoder::new(from)?)),
        Packing::Bzip2 | Packing::Xz => Err(io::ErrorKind::Unsupported.into()),
    }
}
