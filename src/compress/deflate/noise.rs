//! Tells what can't be compressed by looking at some of it.

/// Bytes that are looked at, at most.
const LOOKED_AT: usize = 2048;

/// Bytes that are looked at in a row.
const ROW: usize = 32;

/// Whether no code for single bytes would make these shorter: all values are about as frequent, as in what is compressed or
/// encrypted already. Decided by a sample at fixed places.
pub(super) fn is_noise(bytes: &[u8]) -> bool {
    let mut counts = [0_u32; 256];
    let stride = (bytes.len() * ROW / LOOKED_AT).max(ROW);
    let mut seen = 0_u64;
    for row in bytes.chunks(stride) {
        let row = &row[..row.len().min(ROW)];
        for byte in row {
            counts[usize::from(*byte)] += 1;
        }
        seen += row.len() as u64;
    }
    // Pairs of equal bytes: 1 in 256 where all values are as likely; 1 in 200 is worth no more than 3 % of the length.
    let pairs: u64 = counts.iter().map(|count| u64::from(*count) * u64::from(count.saturating_sub(1))).sum();
    pairs * 200 < seen * seen.saturating_sub(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_noise() {
        let mut random = fastrand::Rng::with_seed(1);
        for length in [2048, 5000, 65536, 262_144] {
            let noise: Vec<u8> = (0..length).map(|_| random.u8(..)).collect();
            let base64: Vec<u8> = noise.iter().map(|byte| b'A' + byte % 64).collect();
            let sparse: Vec<u8> = noise.iter().map(|byte| if *byte < 32 { 0 } else { *byte }).collect();
            assert!(is_noise(&noise), "{length}");
            assert!(!is_noise(&base64), "{length}");
            assert!(!is_noise(&sparse), "{length}");
            assert!(!is_noise(&vec![7; length]), "{length}");
        }
    }
}
