//! Deflate, as fast as it goes: for pushes that wait for it.
//!
//! One look at a hash table for each position, longer and longer strides where nothing is found, and what looks like noise
//! is stored as it is, a few kilobytes of it between text as well. zlib's fastest level looks at every byte, and
//! changes nothing where a part of a block can't be compressed.

#![expect(
    clippy::cast_possible_truncation,
    reason = "a window is some hundred kilobytes, and lengths are bounded where they are made"
)]

mod bits;
mod huffman;
mod matches;
mod noise;
mod segment;
mod symbols;

use bits::Bits;
use matches::{Sequence, Table};
use segment::Segment;

/// How far back a match can be.
pub(super) const WINDOW: usize = 32 * 1024;

/// Bytes of input after which the codes are made anew.
const SEGMENT: usize = 64 * 1024;

/// Literals in a row that may be worth being stored on their own: the blocks around them cost some 80 bytes each.
const RUN: usize = 2 * 1024;

/// The most bytes of a stored block.
const MOST_STORED: usize = 0xffff;

/// Compresses block after block; keeps nothing but memory from one to the next.
#[derive(Default)]
pub(super) struct Deflater {
    table: Table,
    segment: Segment,
}

impl Deflater {
    /// Compresses `window` from `start` on, which is at most [`WINDOW`], up to a whole byte. Matches may begin before it. Gives
    /// the number of bytes in `into`, or nothing if there isn't room.
    pub(super) fn deflate(&mut self, window: &[u8], start: usize, into: &mut [u8]) -> Option<usize> {
        let mut out = Bits::new(into);
        let Self { table, segment } = self;
        segment.begin(start);
        let mut last = start;
        table.search(window, start, |sequence: Sequence| {
            let literals = sequence.literals as usize;
            if literals >= RUN && noise::is_noise(&window[last..last + literals]) {
                segment.end(window, &mut out);
                store(&window[last..last + literals], &mut out);
                segment.begin(last + literals);
                segment.add(Sequence { literals: 0, ..sequence });
            } else {
                segment.add(sequence);
            }
            last += literals + sequence.length();
            if segment.length() >= SEGMENT {
                segment.end(window, &mut out);
                segment.begin(last);
            }
        });
        let rest = &window[last..];
        if rest.len() >= RUN && noise::is_noise(rest) {
            segment.end(window, &mut out);
            store(rest, &mut out);
        } else {
            segment.rest(rest.len());
            segment.end(window, &mut out);
        }
        // An empty stored block: what follows begins with a byte.
        store_part(&[], &mut out);
        out.end()
    }
}

/// Bytes that `length` bytes take when they are stored.
pub(super) fn stored_length(length: usize) -> usize {
    length + length.div_ceil(MOST_STORED) * 5
}

/// Gives `to` bytes as stored blocks, which begin and end with whole bytes.
pub(super) fn stored(bytes: &[u8], mut to: impl FnMut(&[u8])) {
    for part in bytes.chunks(MOST_STORED) {
        to(&[0]);
        to(&lengths(part));
        to(part);
    }
}

/// What says how long a stored block is.
fn lengths(part: &[u8]) -> [u8; 4] {
    let length = u16::try_from(part.len()).unwrap_or(u16::MAX);
    let ([a, b], [c, d]) = (length.to_le_bytes(), (!length).to_le_bytes());
    [a, b, c, d]
}

/// Writes bytes as they are.
fn store(bytes: &[u8], out: &mut Bits) {
    for part in bytes.chunks(MOST_STORED) {
        store_part(part, out);
    }
}

fn store_part(part: &[u8], out: &mut Bits) {
    out.put(0, 3);
    out.align();
    out.bytes(&lengths(part));
    out.bytes(part);
}
