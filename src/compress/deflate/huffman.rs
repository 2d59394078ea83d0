//! Prefix codes of bounded length, the canonical ones that deflate means by their lengths.

/// A code word, its bits in the order in which they are sent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Word {
    pub(super) bits: u16,
    pub(super) length: u8,
}

/// The most symbols of an alphabet.
const MOST_SYMBOLS: usize = 288;

/// The longest word of any alphabet.
const LONGEST: usize = 15;

/// Words for all symbols that occur, none longer than `longest` bits; at least two, since some decoders refuse a lone one.
pub(super) fn words(counts: &[u32], longest: usize, words: &mut [Word]) {
    words.fill(Word::default());
    let mut sorted = [0_u64; MOST_SYMBOLS];
    let mut used = 0;
    for (symbol, count) in counts.iter().enumerate().filter(|(_, count)| **count > 0) {
        sorted[used] = u64::from(*count) << 16 | symbol as u64;
        used += 1;
    }
    for symbol in (0..counts.len()).filter(|symbol| counts[*symbol] == 0) {
        if used >= 2 {
            break;
        }
        sorted[used] = 1 << 16 | symbol as u64;
        used += 1;
    }
    let sorted = &mut sorted[..used];
    sorted.sort_unstable();
    let mut of_length = depths(sorted);
    bound(&mut of_length, longest);
    // The rarest get the longest.
    let mut rarest = sorted.iter();
    for length in (1..=longest).rev() {
        for entry in rarest.by_ref().take(of_length[length] as usize) {
            words[(entry & 0xffff) as usize].length = u8::try_from(length).unwrap_or(0);
        }
    }
    number(words, &of_length);
}

/// How many words of each length an optimal code has, for symbols sorted by their counts (above bit 16), two at least.
/// After Moffat and Katajainen, In-place calculation of minimum-redundancy codes (1995).
fn depths(sorted: &[u64]) -> [u32; MOST_SYMBOLS] {
    let mut tree = [0_u32; MOST_SYMBOLS];
    let tree = &mut tree[..sorted.len()];
    for (node, entry) in tree.iter_mut().zip(sorted) {
        *node = u32::try_from(entry >> 16).unwrap_or(u32::MAX);
    }
    let many = tree.len();
    // Joins: each node becomes the weight of two, and those two point to it.
    let (mut leaf, mut root) = (0, 0);
    for next in 0..many - 1 {
        let mut weight = 0;
        for _ in 0..2 {
            if leaf >= many || (root < next && tree[root] < tree[leaf]) {
                weight += tree[root];
                tree[root] = u32::try_from(next).unwrap_or(0);
                root += 1;
            } else {
                weight += tree[leaf];
                leaf += 1;
            }
        }
        tree[next] = weight;
    }
    // Depths of the inner nodes, from the root down.
    tree[many - 2] = 0;
    for next in (0..many - 2).rev() {
        tree[next] = tree[tree[next] as usize] + 1;
    }
    // What the inner nodes leave free at each depth are words.
    let mut of_length = [0; MOST_SYMBOLS];
    let (mut free, mut depth, mut inner) = (1, 0, many - 1);
    while free > 0 {
        let mut used = 0;
        while inner > 0 && tree[inner - 1] == depth {
            used += 1;
            inner -= 1;
        }
        of_length[depth as usize] = free - used;
        free = 2 * used;
        depth += 1;
    }
    of_length
}

/// Makes no word longer than `longest`, at the cost of some shorter ones.
fn bound(of_length: &mut [u32; MOST_SYMBOLS], longest: usize) {
    let beyond: u32 = of_length[longest + 1..].iter().sum();
    if beyond == 0 {
        return;
    }
    of_length[longest + 1..].fill(0);
    of_length[longest] += beyond;
    let mut taken: u64 = (1..=longest).map(|length| u64::from(of_length[length]) << (longest - length)).sum();
    while taken > 1 << longest {
        // A longest word moves beneath a shorter one, which grows by a bit.
        let Some(shorter) = (1..longest).rev().find(|length| of_length[*length] > 0) else { return };
        of_length[longest] -= 1;
        of_length[shorter] -= 1;
        of_length[shorter + 1] += 2;
        taken -= 1;
    }
}

/// Gives the words their bits: by length, then by symbol.
fn number(words: &mut [Word], of_length: &[u32; MOST_SYMBOLS]) {
    let mut next = [0_u32; LONGEST + 1];
    for length in 2..=LONGEST {
        next[length] = (next[length - 1] + of_length[length - 1]) << 1;
    }
    for word in words.iter_mut().filter(|word| word.length > 0) {
        let bits = &mut next[usize::from(word.length)];
        word.bits = u16::try_from(*bits).unwrap_or(0).reverse_bits() >> (16 - word.length);
        *bits += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(counts: &[u32], longest: usize) -> Vec<u8> {
        let mut made = vec![Word::default(); counts.len()];
        words(counts, longest, &mut made);
        let lengths: Vec<u8> = made.iter().map(|word| word.length).collect();
        assert!(lengths.iter().all(|length| usize::from(*length) <= longest), "{lengths:?}");
        // Complete: no bits are wasted, none are lacking.
        let taken: u64 =
            lengths.iter().filter(|length| **length > 0).map(|length| 1 << (longest - usize::from(*length))).sum();
        assert_eq!(taken, 1 << longest, "{lengths:?}");
        // No word begins another.
        for (a, one) in made.iter().enumerate().filter(|(_, word)| word.length > 0) {
            for (b, other) in made.iter().enumerate().filter(|(b, word)| *b != a && word.length >= one.length) {
                let mask = (1_u16 << one.length) - 1;
                assert!(other.bits & mask != one.bits, "{a} begins {b}: {made:?}");
            }
        }
        lengths
    }

    #[test]
    fn what_is_frequent_is_short() {
        assert_eq!(check(&[8, 4, 2, 1, 1], 15), [1, 2, 3, 4, 4]);
        assert_eq!(check(&[1, 1, 1, 1], 15), [2, 2, 2, 2]);
        assert_eq!(check(&[0, 5, 0, 5], 15), [0, 1, 0, 1]);
    }

    #[test]
    fn there_are_two_words_at_least() {
        assert_eq!(check(&[0, 0, 0], 15), [1, 1, 0]);
        assert_eq!(check(&[0, 0, 9], 15), [1, 0, 1]);
        assert_eq!(check(&[9, 0, 0], 15), [1, 1, 0]);
    }

    #[test]
    fn no_word_is_too_long() {
        let fibonacci: Vec<u32> = (0..30)
            .scan((1, 1), |(a, b), _| {
                (*a, *b) = (*b, *a + *b);
                Some(*a)
            })
            .collect();
        for longest in [5, 7, 14, 15] {
            assert_eq!(check(&fibonacci, longest).into_iter().max(), u8::try_from(longest).ok());
        }
        let steep: Vec<u32> = (0..19).map(|i| 1 << i).collect();
        check(&steep, 7);
        check(&vec![1; 286], 14);
        let mut random = fastrand::Rng::with_seed(1);
        for _ in 0..200 {
            let mut counts = vec![0; random.usize(2..=286)];
            counts.fill_with(|| {
                let most = 1 << random.u32(..20);
                random.u32(..most)
            });
            check(&counts, 14);
        }
    }
}
