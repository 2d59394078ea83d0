//! Makes compressed layers out of tars, on all cores and in one pass, and reads what others compressed.
//!
//! The same input and [`Compression`] give the same bytes whatever the number of threads, so that a second push finds its
//! layers in the registry: input is cut into blocks of a fixed size, and nothing that is decided looks further than the
//! block and the one before it. Memory is bounded by the number of threads, never by the size of a layer.
//!
//! Nothing here knows tars, registries or files: it reads bytes, and hands bytes to whoever asked.
//!
//! The usual levels are those of the shortest push over a line of 1 Gbit/s from two cores, which hash both sides and encrypt
//! beside it: the fastest as long as the line waits for the cores, the smallest as long as the cores wait for the line.
//! CPU seconds with both hashes, MB that came out, and the longer of half the CPU and the line's time:
//!
//! | 300 MB of | `/usr/lib` | | | `/usr/share` | | |
//! |---|---|---|---|---|---|---|
//! | gzip 1 (ours) | 1.9 s | 162 MB | 1.3 s | 1.7 s | 152 MB | 1.2 s |
//! | gzip 2 (zlib-rs) | 5.0 s | 159 MB | 2.5 s | 5.2 s | 151 MB | 2.6 s |
//! | gzip 6 (zlib-rs) | 6.9 s | 153 MB | 3.4 s | 6.1 s | 146 MB | 3.0 s |
//! | zstd 1 | 1.4 s | 155 MB | 1.2 s | 1.1 s | 148 MB | 1.2 s |
//! | zstd 3 | 2.0 s | 150 MB | 1.2 s | 1.6 s | 145 MB | 1.2 s |
//!
//! `gzip -6` makes 153 and 146 MB of them, in 12.9 and 10.1 s. Of 760 MB in 8 layers that are half noise gzip 1 makes 388 MB in
//! 1.7 CPU seconds, 0.9 of them for the hashes and reading; zlib-rs's fastest level 422 MB in 7.0. Zstandard in one frame would
//! be 4 to 6 % smaller than in many: but then each stream would need threads and megabytes of its own.

mod block;
mod buffers;
mod deflate;
mod packing;
mod workers;

use std::collections::VecDeque;
use std::io::{self, Read};
use std::ops::RangeInclusive;
use std::sync::mpsc::Receiver;

use bytes::Bytes;
use flate2::Crc;

use crate::oci::digest::{self, Digest, Hasher};

use block::Packed;
use buffers::BLOCK;
pub use packing::{Packing, packing, unpacked};
pub use workers::Workers;

/// What a layer is compressed with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Algorithm {
    /// One gzip member, as everything can read it.
    Gzip,
    /// Zstandard frames of a fixed size: smaller and much faster to read, but not for every old client.
    Zstd,
    /// Not at all.
    None,
}

impl Algorithm {
    /// The levels that may be asked for.
    #[must_use]
    pub fn levels(self) -> RangeInclusive<i32> {
        match self {
            Self::Gzip => 1..=9,
            Self::Zstd => 1..=19,
            Self::None => 0..=0,
        }
    }

    /// The level for the shortest push.
    fn usual_level(self) -> i32 {
        match self {
            Self::Gzip => 1,
            Self::Zstd => 3,
            Self::None => 0,
        }
    }
}

/// How a layer is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Compression {
    /// With what.
    pub algorithm: Algorithm,
    /// How hard; without it, what makes the shortest push. Beyond [`Algorithm::levels`] the nearest of them counts.
    pub level: Option<i32>,
}

/// Changes whenever this module makes other bytes of the same input with the same crates.
const VERSION: u32 = 1;

/// The crates that make the bytes, as in Cargo.lock: another version may make other ones.
const GZIP_CRATES: [(&str, &str); 2] = [("flate2", "1.1.11"), ("zlib-rs", "0.6.8")];
const ZSTD_CRATES: [(&str, &str); 2] = [("zstd", "0.13.5"), ("zstd-sys", "2.1.3+zstd.1.5.7")];

impl Compression {
    /// The level that is used.
    fn effective_level(&self) -> i32 {
        let levels = self.algorithm.levels();
        self.level.unwrap_or(self.algorithm.usual_level()).clamp(*levels.start(), *levels.end())
    }

    /// A name that changes whenever the same input might give other bytes.
    #[must_use]
    pub fn recipe(&self) -> String {
        let level = self.effective_level();
        let (name, crates): (_, &[_]) = match self.algorithm {
            // Every byte of it is made here.
            Algorithm::Gzip if level == 1 => ("gzip", &[]),
            Algorithm::Gzip => ("gzip", &GZIP_CRATES),
            Algorithm::Zstd => ("zstd", &ZSTD_CRATES),
            Algorithm::None => return "none".to_owned(),
        };
        let crates: String = crates.iter().map(|(name, version)| format!("-{name}-{version}")).collect();
        format!("{name}-{level}-{}k-v{VERSION}{crates}", BLOCK / 1024)
    }

    /// The media type of a layer's descriptor, as the image specification names it.
    #[must_use]
    pub fn layer_media_type(&self) -> &'static str {
        match self.algorithm {
            Algorithm::Gzip => "application/vnd.oci.image.layer.v1.tar+gzip",
            Algorithm::Zstd => "application/vnd.oci.image.layer.v1.tar+zstd",
            Algorithm::None => "application/vnd.oci.image.layer.v1.tar",
        }
    }
}

/// What was made of a layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Made {
    /// SHA-256 of what came out.
    pub digest: Digest,
    /// Bytes that came out.
    pub size: u64,
    /// SHA-256 of what went in.
    pub diff_id: Digest,
    /// Bytes that went in.
    pub uncompressed: u64,
}

/// Bytes on their way, and what is reckoned of them.
struct Passed {
    hasher: Hasher,
    bytes: u64,
}

impl Passed {
    fn new() -> Self {
        Self { hasher: Hasher::new(digest::Algorithm::Sha256), bytes: 0 }
    }

    fn add(&mut self, bytes: &[u8]) {
        self.hasher.update(bytes);
        self.bytes += bytes.len() as u64;
    }
}

/// Reads `from` to its end, compresses it on all workers, and gives `to` the compressed bytes in order, in pieces of at
/// most 256 KiB and a few bytes. Blocks, and hashes both sides on the calling thread.
///
/// Gives nothing when `to` says false: nobody wants more.
///
/// # Errors
/// When `from` can't be read.
pub fn compress(
    from: &mut dyn Read,
    compression: &Compression,
    workers: &Workers,
    to: &mut dyn FnMut(Bytes) -> bool,
) -> Result<Option<Made>, io::Error> {
    match compression.algorithm {
        Algorithm::None => pass(from, workers, to),
        Algorithm::Gzip | Algorithm::Zstd => pack(from, compression, workers, to),
    }
}

/// Hands on what comes in.
fn pass(from: &mut dyn Read, workers: &Workers, to: &mut dyn FnMut(Bytes) -> bool) -> io::Result<Option<Made>> {
    let mut passed = Passed::new();
    loop {
        let mut buffer = workers.buffer();
        buffer.fill(from)?;
        if buffer.is_empty() {
            break;
        }
        passed.add(&buffer);
        if !to(Bytes::from_owner(buffer)) {
            return Ok(None);
        }
    }
    let digest = passed.hasher.finish();
    Ok(Some(Made { digest: digest.clone(), size: passed.bytes, diff_id: digest, uncompressed: passed.bytes }))
}

fn pack(
    from: &mut dyn Read,
    compression: &Compression,
    workers: &Workers,
    to: &mut dyn FnMut(Bytes) -> bool,
) -> io::Result<Option<Made>> {
    let is_gzip = compression.algorithm == Algorithm::Gzip;
    let (mut inside, mut outside) = (Passed::new(), Passed::new());
    let mut give = |piece: Bytes| {
        outside.add(&piece);
        to(piece)
    };
    if is_gzip && !give(Bytes::from_static(&block::GZIP_HEADER)) {
        return Ok(None);
    }
    let mut crc = Crc::new();
    let mut under_way: VecDeque<Receiver<Packed>> = VecDeque::new();
    // What matches of the next block may point to.
    let mut before = Vec::with_capacity(if is_gzip { deflate::WINDOW } else { 0 });
    let mut is_at_end = false;
    while !is_at_end || !under_way.is_empty() {
        if !is_at_end && under_way.len() < workers.ahead() {
            let mut window = workers.buffer();
            window.push(&before);
            window.fill(from)?;
            let block = &window[before.len()..];
            is_at_end = block.len() < BLOCK;
            if block.is_empty() && inside.bytes > 0 {
                continue;
            }
            inside.add(block);
            let start = before.len();
            if is_gzip {
                before.clear();
                before.extend_from_slice(&window[window.len().saturating_sub(deflate::WINDOW)..]);
            }
            under_way.push_back(workers.pack(window, start, compression));
        } else if let Some(next) = under_way.pop_front() {
            let ended = |_| io::Error::other("a thread that compresses has ended");
            let Packed { bytes, crc: of_block } = next.recv().map_err(ended)?;
            if let Some(of_block) = &of_block {
                crc.combine(of_block);
            }
            if !bytes.is_empty() && !give(Bytes::from_owner(bytes)) {
                return Ok(None);
            }
        }
    }
    if is_gzip && !give(Bytes::from_owner(block::gzip_trailer(&crc))) {
        return Ok(None);
    }
    let Passed { hasher, bytes: uncompressed } = inside;
    let (digest, size) = (outside.hasher.finish(), outside.bytes);
    Ok(Some(Made { digest, size, diff_id: hasher.finish(), uncompressed }))
}

#[cfg(test)]
mod tests;
