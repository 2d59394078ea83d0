//! How deflate writes lengths and distances (RFC 1951, 3.2.5): a symbol, and bits that say which of its values.

/// Shortest and longest match.
pub(super) const SHORTEST: usize = 3;
pub(super) const LONGEST: usize = 258;

/// The symbol that ends a block.
pub(super) const END: usize = 256;

/// The symbol of the shortest lengths.
const FIRST_LENGTH: usize = 257;

/// How many literals and lengths there are, and how many distances.
pub(super) const LITERALS: usize = 286;
pub(super) const DISTANCES: usize = 30;

/// A symbol with the bits that follow it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Symbol {
    pub(super) code: usize,
    pub(super) extra: u64,
    pub(super) extra_bits: u32,
}

/// Symbols of lengths, from [`SHORTEST`] on: below [`FIRST_LENGTH`], so that they fit a byte.
const LENGTHS: [u8; 256] = lengths();

const fn lengths() -> [u8; 256] {
    let mut table = [0; 256];
    let mut above = 0;
    while above < 256 {
        table[above] = match above {
            0..8 => above as u8,
            255 => 28,
            _ => {
                let log = above.ilog2();
                (4 * (log - 1) + ((above as u32 >> (log - 2)) & 3)) as u8
            }
        };
        above += 1;
    }
    table
}

/// How a match's length is written, which is `above` more than [`SHORTEST`].
#[inline]
pub(super) fn length(above: u8) -> Symbol {
    let code = LENGTHS[usize::from(above)];
    let extra_bits = if code < 8 || code == 28 { 0 } else { u32::from(code) / 4 - 1 };
    let extra = u64::from(above) & ((1 << extra_bits) - 1);
    Symbol { code: FIRST_LENGTH + usize::from(code), extra, extra_bits }
}

/// How a match's distance is written, which is `above` more than 1.
#[inline]
pub(super) fn distance(above: u16) -> Symbol {
    let above = u32::from(above);
    if above < 2 {
        return Symbol { code: above as usize, extra: 0, extra_bits: 0 };
    }
    let log = above.ilog2();
    let extra_bits = log - 1;
    let code = 2 * log + ((above >> extra_bits) & 1);
    Symbol { code: code as usize, extra: u64::from(above & ((1 << extra_bits) - 1)), extra_bits }
}
