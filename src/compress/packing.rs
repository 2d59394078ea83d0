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

#[cfg(test)]
mod tests {
    use std::io::{Cursor, Write};

    use super::*;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn zstd(bytes: &[u8]) -> Vec<u8> {
        zstd::encode_all(bytes, 1).unwrap()
    }

    fn inside(bytes: &[u8]) -> io::Result<Vec<u8>> {
        let mut inside = Vec::new();
        unpacked(packing(bytes), Cursor::new(bytes.to_vec()))?.read_to_end(&mut inside)?;
        Ok(inside)
    }

    #[test]
    fn told_by_the_first_bytes() {
        let check = |first: &[u8], expected| assert_eq!(packing(first), expected, "{first:?}");
        check(&gzip(b"x"), Packing::Gzip);
        check(&zstd(b"x"), Packing::Zstd);
        check(&[0x5f, 0x2a, 0x4d, 0x18, 0, 0, 0, 0], Packing::Zstd);
        check(b"BZh91AY", Packing::Bzip2);
        check(b"\xfd7zXZ\0", Packing::Xz);
        for first in [&b""[..], b"\x1f", b"BZh0", b"(\xb5/", b"app/run", b"\0\0\0\0\0\0"] {
            check(first, Packing::Nothing);
        }
    }

    #[test]
    fn all_that_is_inside_is_read() {
        let long = b"0123456789".repeat(100_000);
        let skipped = [&[0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0][..], b"abc"].concat();
        assert_eq!(inside(&[gzip(b"one "), gzip(b""), gzip(b"two")].concat()).unwrap(), b"one two");
        assert_eq!(inside(&[zstd(b"one "), zstd(b""), zstd(b"two")].concat()).unwrap(), b"one two");
        assert_eq!(
            inside(&[&skipped[..], &zstd(b"one "), &skipped, &zstd(b"two"), &skipped].concat()).unwrap(),
            b"one two"
        );
        assert_eq!(inside(&gzip(&long)).unwrap(), long);
        assert_eq!(inside(&zstd(&long)).unwrap(), long);
        assert_eq!(inside(b"a tar").unwrap(), b"a tar");
    }

    #[test]
    fn what_is_broken_or_foreign_is_an_error() {
        for whole in [gzip(&[7; 1000]), zstd(&[7; 1000])] {
            assert!(inside(&whole[..whole.len() - 1]).is_err());
        }
        // What zstd makes has no checksum unless it is asked for one: a layer's digest says more.
        let mut other = gzip(&[7; 1000]);
        other[10] ^= 0x55;
        assert!(inside(&other).is_err());
        for foreign in [&b"BZh91AY"[..], b"\xfd7zXZ\0"] {
            assert_eq!(inside(foreign).unwrap_err().kind(), io::ErrorKind::Unsupported);
        }
    }
}
