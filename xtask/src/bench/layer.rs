//! Writes layers of any size without holding them: a tar with one file of noise, in gzip's stored blocks.
//!
//! The bytes depend on seed and size alone.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use sha2::{Digest as _, Sha256};

use crate::fixtures::json::{Descriptor, media};
use crate::fixtures::layout::Layer;
use crate::fixtures::tar;

/// A stored block of deflate; a multiple of what a tar is made of.
const PIECE: usize = 32 * 1024;

/// What fills a file's last block and the two that end a tar.
const EMPTY: [u8; 3 * tar::BLOCK] = [0; 3 * tar::BLOCK];

/// Writes a layer that holds `size` bytes of noise into a new file.
pub(crate) fn write(path: &Path, seed: u64, size: u64) -> io::Result<Layer> {
    let mut out = Gzip::begin(BufWriter::with_capacity(1 << 20, File::create(path)?))?;
    out.block(&tar::header(&format!("opt/bench/{seed}"), 0o644, size))?;
    let (mut noise, mut left) = (Noise(seed), size);
    let mut piece = vec![0; PIECE];
    while left > 0 {
        let length = usize::try_from(left).map_or(PIECE, |left| left.min(PIECE));
        noise.fill(&mut piece[..length]);
        out.block(&piece[..length])?;
        left -= length as u64;
    }
    let padding = usize::try_from(size.next_multiple_of(tar::BLOCK as u64) - size).unwrap_or_default();
    out.end(&EMPTY[..padding + 2 * tar::BLOCK])
}

/// Bytes that can't be compressed (Vigna's `SplitMix64`).
struct Noise(u64);

impl Noise {
    fn fill(&mut self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut word = self.0;
            word = (word ^ word >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            word = (word ^ word >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
            chunk.copy_from_slice(&(word ^ word >> 31).to_le_bytes()[..chunk.len()]);
        }
    }
}

/// A gzip file (RFC 1952) that is being written, with the digests of what is in it and of itself.
struct Gzip<W> {
    out: W,
    packed: Sha256,
    packed_size: usize,
    plain: Sha256,
    plain_size: u64,
    checksum: Checksum,
}

impl<W: Write> Gzip<W> {
    fn begin(out: W) -> io::Result<Self> {
        let mut gzip = Self {
            out,
            packed: Sha256::new(),
            packed_size: 0,
            plain: Sha256::new(),
            plain_size: 0,
            checksum: Checksum::new(),
        };
        gzip.put(&[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff])?;
        Ok(gzip)
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.packed.update(bytes);
        self.packed_size += bytes.len();
        self.out.write_all(bytes)
    }

    fn block(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stored(bytes, false)
    }

    fn stored(&mut self, bytes: &[u8], last: bool) -> io::Result<()> {
        let length = u16::try_from(bytes.len()).map_err(io::Error::other)?;
        self.plain.update(bytes);
        self.plain_size += u64::from(length);
        self.checksum.update(bytes);
        self.put(&[u8::from(last)])?;
        self.put(&length.to_le_bytes())?;
        self.put(&(!length).to_le_bytes())?;
        self.put(bytes)
    }

    /// Writes the last block and the end.
    fn end(mut self, bytes: &[u8]) -> io::Result<Layer> {
        self.stored(bytes, true)?;
        let checksum = self.checksum.value();
        self.put(&checksum.to_le_bytes())?;
        // The format wants the size modulo 2^32.
        let size = self.plain_size.to_le_bytes();
        self.put(&size[..4])?;
        self.out.flush()?;
        let text = |hasher: Sha256| {
            format!("sha256:{}", hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect::<String>())
        };
        let descriptor = Descriptor::new(media::LAYER_GZIP, text(self.packed), self.packed_size);
        Ok(Layer { descriptor, diff_id: text(self.plain) })
    }
}

/// The checksum of gzip, by a table: gigabytes pass through it.
struct Checksum {
    sum: u32,
    table: [u32; 256],
}

impl Checksum {
    fn new() -> Self {
        let table = std::array::from_fn(|byte| {
            let start = u32::try_from(byte).unwrap_or_default();
            (0..8).fold(start, |sum, _| if sum & 1 == 1 { sum >> 1 ^ 0xedb8_8320 } else { sum >> 1 })
        });
        Self { sum: !0, table }
    }

    fn update(&mut self, bytes: &[u8]) {
        self.sum = bytes.iter().fold(self.sum, |sum, byte| {
            let [low, ..] = sum.to_le_bytes();
            self.table[usize::from(low ^ byte)] ^ sum >> 8
        });
    }

    fn value(&self) -> u32 {
        !self.sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::compress;
    use crate::fixtures::layout::Algorithm;

    #[test]
    fn is_what_it_says_it_is() {
        let folder = tempfile::tempdir().unwrap();
        for size in [0, 1, 511, 512, 513, 100_000] {
            let path = folder.path().join(size.to_string());
            let layer = write(&path, 7, size).unwrap();
            let bytes = std::fs::read(&path).unwrap();
            assert_eq!(layer.descriptor.digest, Algorithm::Sha256.digest(&bytes), "{size}");
            assert_eq!(layer.descriptor.size, bytes.len() as u64, "{size}");
            let plain = unpack(&bytes);
            assert_eq!(layer.diff_id, Algorithm::Sha256.digest(&plain), "{size}");
            assert_eq!(plain[..512], tar::header("opt/bench/7", 0o644, size), "{size}");
            assert_eq!(plain.len() as u64, 512 + size.next_multiple_of(512) + 1024, "{size}");
            let checksum = u32::from_le_bytes(bytes[bytes.len() - 8..][..4].try_into().unwrap());
            assert_eq!(checksum, compress::crc32(&plain), "{size}");
        }
    }

    /// What is in stored blocks.
    fn unpack(gzip: &[u8]) -> Vec<u8> {
        let (mut at, mut plain) = (10, Vec::new());
        loop {
            let (last, length) = (gzip[at] == 1, u16::from_le_bytes([gzip[at + 1], gzip[at + 2]]));
            at += 5;
            plain.extend_from_slice(&gzip[at..at + usize::from(length)]);
            at += usize::from(length);
            if last {
                assert_eq!(at + 8, gzip.len());
                return plain;
            }
        }
    }

    #[test]
    fn seeds_make_other_bytes_and_the_same_seed_makes_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let digest = |seed| write(&folder.path().join("layer"), seed, 1000).unwrap().descriptor.digest;
        assert_eq!(digest(1), digest(1));
        assert_ne!(digest(1), digest(2));
    }
}
