//! A stretch of input under codes of its own: a block of deflate, written in the shortest of its three ways.

use super::bits::Bits;
use super::huffman::{Word, words};
use super::matches::Sequence;
use super::symbols::{self, DISTANCES, END, LITERALS};

/// The longest word for a literal: four of them are held at a time.
const LONGEST_LITERAL: usize = 14;
const LONGEST_DISTANCE: usize = 15;
const LONGEST_OF_LENGTHS: usize = 7;

/// The order in which the lengths of the code for lengths are written (RFC 1951, 3.2.7).
const ORDER: [usize; 19] = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15];

/// Literals and matches, collected and counted.
pub(super) struct Segment {
    from: usize,
    to: usize,
    sequences: Vec<Sequence>,
    /// Literals after the last match.
    rest: usize,
    literals: [u32; LITERALS],
    distances: [u32; DISTANCES],
    /// Bits that follow symbols.
    extra: u64,
}

impl Default for Segment {
    fn default() -> Self {
        Self {
            from: 0,
            to: 0,
            sequences: Vec::new(),
            rest: 0,
            literals: [0; LITERALS],
            distances: [0; DISTANCES],
            extra: 0,
        }
    }
}

/// A code for lengths of words, with repetitions: symbol, bits that follow, how many.
struct Lengths {
    runs: Vec<(u8, u8, u8)>,
    words: [Word; 19],
    literals: usize,
    distances: usize,
    order: usize,
    bits: u64,
}

impl Segment {
    /// Begins a new one at `from`.
    pub(super) fn begin(&mut self, from: usize) {
        (self.from, self.to, self.rest, self.extra) = (from, from, 0, 0);
        self.sequences.clear();
        self.literals.fill(0);
        self.distances.fill(0);
    }

    /// Bytes of input that it has.
    pub(super) fn length(&self) -> usize {
        self.to - self.from
    }

    /// Takes in literals and a match.
    #[inline]
    pub(super) fn add(&mut self, sequence: Sequence) {
        let (length, distance) = (symbols::length(sequence.length), symbols::distance(sequence.distance));
        self.literals[length.code] += 1;
        self.distances[distance.code] += 1;
        self.extra += u64::from(length.extra_bits + distance.extra_bits);
        self.to += sequence.literals as usize + sequence.length();
        self.sequences.push(sequence);
    }

    /// Takes in literals at the end.
    pub(super) fn rest(&mut self, literals: usize) {
        self.rest = literals;
        self.to += literals;
    }

    /// Writes what it has, if anything.
    pub(super) fn end(&mut self, window: &[u8], out: &mut Bits) {
        let input = &window[self.from..self.to];
        if input.is_empty() {
            return;
        }
        self.count(input);
        let mut literals = [Word::default(); LITERALS];
        let mut distances = [Word::default(); DISTANCES];
        words(&self.literals, LONGEST_LITERAL, &mut literals);
        words(&self.distances, LONGEST_DISTANCE, &mut distances);
        let lengths = Lengths::of(&literals, &distances);
        let dynamic = lengths.bits + cost(&self.literals, &literals) + cost(&self.distances, &distances);
        let fixed = cost(&self.literals, &FIXED_LITERALS) + cost(&self.distances, &FIXED_DISTANCES);
        let stored = 8 * (input.len() as u64 + 6);
        if stored <= dynamic.min(fixed) + self.extra {
            super::store(input, out);
        } else if fixed <= dynamic {
            out.put(0b010, 3);
            self.write(input, &FIXED_LITERALS, &FIXED_DISTANCES, out);
        } else {
            out.put(0b100, 3);
            lengths.write(out);
            self.write(input, &literals, &distances, out);
        }
    }

    /// Counts the literals, and the end.
    fn count(&mut self, input: &[u8]) {
        let mut at = 0;
        // Two tables: equal neighbours would wait for each other.
        let mut odd = [0_u32; 256];
        let mut count = |bytes: &[u8]| {
            let mut pairs = bytes.chunks_exact(2);
            for pair in pairs.by_ref() {
                self.literals[usize::from(pair[0])] += 1;
                odd[usize::from(pair[1])] += 1;
            }
            for byte in pairs.remainder() {
                odd[usize::from(*byte)] += 1;
            }
        };
        for sequence in &self.sequences {
            let end = at + sequence.literals as usize;
            count(&input[at..end]);
            at = end + sequence.length();
        }
        count(&input[at..]);
        for (count, more) in self.literals.iter_mut().zip(odd) {
            *count += more;
        }
        self.literals[END] = 1;
    }

    fn write(&self, input: &[u8], literals: &[Word; LITERALS], distances: &[Word; DISTANCES], out: &mut Bits) {
        let mut at = 0;
        for sequence in &self.sequences {
            let end = at + sequence.literals as usize;
            write_literals(&input[at..end], literals, out);
            let (length, distance) = (symbols::length(sequence.length), symbols::distance(sequence.distance));
            // 14 + 5 + 15 + 13 bits.
            let word = literals[length.code];
            out.hold(u64::from(word.bits) | length.extra << word.length, u32::from(word.length) + length.extra_bits);
            let word = distances[distance.code];
            out.hold(
                u64::from(word.bits) | distance.extra << word.length,
                u32::from(word.length) + distance.extra_bits,
            );
            out.flush();
            at = end + sequence.length();
        }
        write_literals(&input[at..], literals, out);
        let end = literals[END];
        out.put(u64::from(end.bits), u32::from(end.length));
    }
}

#[inline]
fn write_literals(bytes: &[u8], words: &[Word; LITERALS], out: &mut Bits) {
    let mut fours = bytes.chunks_exact(4);
    for four in fours.by_ref() {
        for byte in four {
            let word = words[usize::from(*byte)];
            out.hold(u64::from(word.bits), u32::from(word.length));
        }
        out.flush();
    }
    for byte in fours.remainder() {
        let word = words[usize::from(*byte)];
        out.hold(u64::from(word.bits), u32::from(word.length));
    }
    out.flush();
}

/// Bits of all symbols.
fn cost(counts: &[u32], words: &[Word]) -> u64 {
    counts.iter().zip(words).map(|(count, word)| u64::from(*count) * u64::from(word.length)).sum()
}

impl Lengths {
    fn of(literals: &[Word; LITERALS], distances: &[Word; DISTANCES]) -> Self {
        let used = |words: &[Word], least: usize| {
            words.iter().rposition(|w| w.length > 0).map_or(0, |last| last + 1).max(least)
        };
        let (many_literals, many_distances) = (used(literals, 257), used(distances, 1));
        let all = literals[..many_literals].iter().chain(&distances[..many_distances]).map(|word| word.length);
        let runs = runs(all);
        let mut counts = [0; 19];
        for (symbol, _, _) in &runs {
            counts[usize::from(*symbol)] += 1;
        }
        let mut made = [Word::default(); 19];
        words(&counts, LONGEST_OF_LENGTHS, &mut made);
        let order = ORDER.iter().rposition(|symbol| made[*symbol].length > 0).map_or(0, |last| last + 1).max(4);
        let extra: u64 = runs.iter().map(|(_, _, bits)| u64::from(*bits)).sum();
        let bits = 14 + 3 * order as u64 + cost(&counts, &made) + extra;
        Self { runs, words: made, literals: many_literals, distances: many_distances, order, bits }
    }

    fn write(&self, out: &mut Bits) {
        out.put((self.literals - 257) as u64, 5);
        out.put((self.distances - 1) as u64, 5);
        out.put((self.order - 4) as u64, 4);
        for symbol in &ORDER[..self.order] {
            out.put(u64::from(self.words[*symbol].length), 3);
        }
        for (symbol, extra, bits) in &self.runs {
            let word = self.words[usize::from(*symbol)];
            out.hold(u64::from(word.bits), u32::from(word.length));
            out.put(u64::from(*extra), u32::from(*bits));
        }
    }
}

/// Lengths as they are written: each for itself, or repeated (16), or as many zeros (17 and 18), with the bits that follow.
fn runs(lengths: impl Iterator<Item = u8>) -> Vec<(u8, u8, u8)> {
    let mut runs = Vec::with_capacity(LITERALS);
    let mut lengths = lengths.peekable();
    while let Some(length) = lengths.next() {
        let mut many = 1_u8;
        while many < 138 && lengths.next_if_eq(&length).is_some() {
            many += 1;
        }
        if length == 0 {
            match many {
                11.. => runs.push((18, many - 11, 7)),
                3.. => runs.push((17, many - 3, 3)),
                _ => runs.extend(std::iter::repeat_n((0, 0, 0), usize::from(many))),
            }
            continue;
        }
        runs.push((length, 0, 0));
        many -= 1;
        while many >= 3 {
            let part = many.min(6);
            runs.push((16, part - 3, 2));
            many -= part;
        }
        runs.extend(std::iter::repeat_n((length, 0, 0), usize::from(many)));
    }
    runs
}

/// The codes that needn't be written (RFC 1951, 3.2.6).
const FIXED_LITERALS: [Word; LITERALS] = fixed_literals();
const FIXED_DISTANCES: [Word; DISTANCES] = fixed_distances();

const fn fixed_literals() -> [Word; LITERALS] {
    let mut words = [Word { bits: 0, length: 0 }; LITERALS];
    let mut symbol = 0;
    while symbol < LITERALS {
        let of = symbol as u16;
        let (bits, length) = match symbol {
            0..144 => (0x30 + of, 8),
            144..256 => (0x190 + of - 144, 9),
            256..280 => (of - 256, 7),
            _ => (0xc0 + of - 280, 8),
        };
        words[symbol] = Word { bits: bits.reverse_bits() >> (16 - length), length };
        symbol += 1;
    }
    words
}

const fn fixed_distances() -> [Word; DISTANCES] {
    let mut words = [Word { bits: 0, length: 0 }; DISTANCES];
    let mut symbol = 0;
    while symbol < DISTANCES {
        words[symbol] = Word { bits: (symbol as u16).reverse_bits() >> 11, length: 5 };
        symbol += 1;
    }
    words
}
