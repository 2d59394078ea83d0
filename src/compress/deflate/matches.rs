//! Finds what was there before.

use super::WINDOW;
use super::symbols::{LONGEST, SHORTEST};

/// Entries of the table, as a power of two: as much as a core's nearest cache holds.
const TABLE_BITS: u32 = 13;

/// Shorter ones cost as much as what they replace.
const WORTH: usize = 5;

/// Bytes at the end where nothing is looked for, so that eight bytes can be loaded.
const MARGIN: usize = 16;

/// After so many looks in vain, as a power of two, a byte more is skipped each time.
const PATIENCE: u32 = 5;

/// Every so manyth position before the block can be found from within.
const SEED_STRIDE: usize = 4;

/// Literals, then a match.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sequence {
    /// Bytes that are as they are.
    pub(super) literals: u32,
    /// What follows them: its length above [`SHORTEST`].
    pub(super) length: u8,
    /// How far back it was, above 1.
    pub(super) distance: u16,
}

impl Sequence {
    /// Bytes of the match.
    pub(super) fn length(self) -> usize {
        usize::from(self.length) + SHORTEST
    }
}

/// Where bytes were seen last, by what they hash to.
pub(super) struct Table(Box<[u32; 1 << TABLE_BITS]>);

impl Default for Table {
    #[expect(clippy::large_stack_arrays, reason = "once a thread; the length is known where it is looked up")]
    fn default() -> Self {
        Self(Box::new([0; 1 << TABLE_BITS]))
    }
}

#[inline]
fn load(window: &[u8], at: usize) -> u64 {
    window.get(at..at + 8).and_then(|bytes| bytes.try_into().ok()).map_or(0, u64::from_le_bytes)
}

/// Of the lowest five bytes.
#[inline]
fn hash(bytes: u64) -> usize {
    ((bytes << 24).wrapping_mul(0x9e37_79b1_85eb_ca87) >> (64 - TABLE_BITS)) as usize
}

impl Table {
    #[inline]
    fn replace(&mut self, bytes: u64, at: usize) -> usize {
        // A window is a few hundred kilobytes.
        std::mem::replace(&mut self.0[hash(bytes)], at as u32) as usize
    }

    /// Tells `found` all matches from `start` on, in order; what follows the last is literals.
    #[inline]
    pub(super) fn search(&mut self, window: &[u8], start: usize, mut found: impl FnMut(Sequence)) {
        self.0.fill(0);
        let limit = window.len().saturating_sub(MARGIN);
        for at in (0..start.min(limit)).step_by(SEED_STRIDE) {
            self.replace(load(window, at), at);
        }
        // What is told up to here.
        let mut told = start;
        // An empty entry of the table points to the first byte, which must lie behind.
        let mut at = start.max(1);
        let mut in_vain = 0_usize;
        while at < limit {
            let here = load(window, at);
            let before = self.replace(here, at);
            let distance = at - before;
            let equal = here ^ load(window, before);
            if distance > WINDOW || equal << (64 - 8 * WORTH) != 0 {
                in_vain += 1;
                at += 1 + (in_vain >> PATIENCE);
                continue;
            }
            in_vain = 0;
            let mut from = at;
            while from > told && from > distance && window[from - 1] == window[from - 1 - distance] {
                from -= 1;
            }
            let to = at + common(window, before, at);
            let mut literals = (from - told) as u32;
            let mut left = to - from;
            while left >= SHORTEST {
                // What is left over must be long enough to be told.
                let part =
                    if left > LONGEST && left < LONGEST + SHORTEST { LONGEST - SHORTEST } else { left.min(LONGEST) };
                found(Sequence { literals, length: (part - SHORTEST) as u8, distance: (distance - 1) as u16 });
                literals = 0;
                left -= part;
            }
            told = to;
            if to < limit {
                self.replace(load(window, at + 2), at + 2);
                self.replace(load(window, to - 2), to - 2);
            }
            at = to;
        }
    }
}

/// How many bytes are equal at `before` and `at`, up to the end.
#[inline]
fn common(window: &[u8], before: usize, at: usize) -> usize {
    let (behind, ahead) = (&window[before..], &window[at..]);
    let mut length = 0;
    for (b, a) in behind.chunks_exact(8).zip(ahead.chunks_exact(8)) {
        let differ = load(b, 0) ^ load(a, 0);
        if differ != 0 {
            return length + differ.trailing_zeros() as usize / 8;
        }
        length += 8;
    }
    length + behind[length..].iter().zip(&ahead[length..]).take_while(|(b, a)| b == a).count()
}
