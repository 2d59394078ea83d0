//! Digests, and hashers that refuse a wrong ending.
//!
//! Only the algorithms that the image specification registers are known; a digest that parses is safe to use as a
//! file name.

use std::fmt;

use serde::Deserialize;
use sha2::{Digest as _, Sha256, Sha512};
use thiserror::Error;

/// A hash algorithm that the image specification registers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Algorithm {
    /// `sha256`, what every builder writes.
    Sha256,
    /// `sha512`, allowed by the specification and refused by many registries.
    Sha512,
}

impl Algorithm {
    /// Every algorithm, for whoever walks a layout's `blobs` folder.
    pub const ALL: [Self; 2] = [Self::Sha256, Self::Sha512];

    /// The name as it stands before the colon, and as a folder below `blobs`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
            Self::Sha512 => "sha512",
        }
    }

    fn hex_length(self) -> usize {
        match self {
            Self::Sha256 => 64,
            Self::Sha512 => 128,
        }
    }
}

/// Why a text is no digest.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum DigestError {
    /// There is no `algorithm:` before the hexadecimal part.
    #[error("{text:?} is no digest: it has no `algorithm:`")]
    NoAlgorithm {
        /// What was read.
        text: String,
    },
    /// The algorithm is not one of `sha256` and `sha512`.
    #[error("{text:?} is of an unknown algorithm: sha256 and sha512 are known")]
    UnknownAlgorithm {
        /// What was read.
        text: String,
    },
    /// The encoded part is not as many lower-case hexadecimal digits as the algorithm gives.
    #[error("{text:?} is no digest: {length} lower-case hexadecimal digits must follow the colon")]
    NotHexadecimal {
        /// What was read.
        text: String,
        /// How many digits the algorithm gives.
        length: usize,
    },
}

/// A digest such as `sha256:2cf2…`, checked.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
pub struct Digest {
    algorithm: Algorithm,
    text: String,
}

impl Digest {
    /// Reads a digest.
    ///
    /// # Errors
    /// When the text isn't `sha256:` with 64 or `sha512:` with 128 lower-case hexadecimal digits.
    pub fn parse(text: &str) -> Result<Self, DigestError> {
        let owned = || text.to_owned();
        let Some((name, hex)) = text.split_once(':') else {
            return Err(DigestError::NoAlgorithm { text: owned() });
        };
        let Some(algorithm) = Algorithm::ALL.into_iter().find(|a| a.name() == name) else {
            return Err(DigestError::UnknownAlgorithm { text: owned() });
        };
        let length = algorithm.hex_length();
        let lower_hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        if hex.len() != length || !hex.bytes().all(lower_hex) {
            return Err(DigestError::NotHexadecimal { text: owned(), length });
        }
        Ok(Self { algorithm, text: owned() })
    }

    /// The digest of `bytes`.
    #[must_use]
    pub fn of(algorithm: Algorithm, bytes: &[u8]) -> Self {
        let mut hasher = Hasher::new(algorithm);
        hasher.update(bytes);
        hasher.finish()
    }

    /// The algorithm.
    #[must_use]
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The whole digest as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The part after the colon.
    #[must_use]
    pub fn hex(&self) -> &str {
        &self.text[self.algorithm.name().len() + 1..]
    }

    /// The first twelve hexadecimal digits: what docker shows, and enough for people.
    #[must_use]
    pub fn short(&self) -> &str {
        &self.hex()[..12]
    }

    /// The tag under which the referrers of this manifest stand where there is no referrers API: the distribution
    /// specification's referrers tag schema.
    #[must_use]
    pub fn referrers_tag(&self) -> String {
        // The schema truncates the encoded part at 64 characters, so that the whole fits a tag.
        format!("{}-{}", self.algorithm.name(), &self.hex()[..64])
    }
}

impl TryFrom<String> for Digest {
    type Error = DigestError;

    fn try_from(text: String) -> Result<Self, DigestError> {
        Self::parse(&text)
    }
}

impl serde::Serialize for Digest {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Reckons a digest piece by piece.
#[derive(Debug, Clone)]
pub enum Hasher {
    /// For `sha256`.
    Sha256(Sha256State),
    /// For `sha512`.
    Sha512(Sha512State),
}

/// The state of a running SHA-256.
#[derive(Debug, Clone)]
pub struct Sha256State(Sha256);

/// The state of a running SHA-512.
#[derive(Debug, Clone)]
pub struct Sha512State(Box<Sha512>);

impl Hasher {
    /// A hasher that has seen nothing.
    #[must_use]
    pub fn new(algorithm: Algorithm) -> Self {
        match algorithm {
            Algorithm::Sha256 => Self::Sha256(Sha256State(Sha256::new())),
            Algorithm::Sha512 => Self::Sha512(Sha512State(Box::new(Sha512::new()))),
        }
    }

    /// Takes the next bytes in.
    pub fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Sha256(state) => state.0.update(bytes),
            Self::Sha512(state) => state.0.update(bytes),
        }
    }

    /// The digest of all that was seen.
    #[must_use]
    pub fn finish(self) -> Digest {
        let (algorithm, hex) = match self {
            Self::Sha256(state) => (Algorithm::Sha256, hex(&state.0.finalize())),
            Self::Sha512(state) => (Algorithm::Sha512, hex(&state.0.finalize())),
        };
        Digest { algorithm, text: format!("{}:{hex}", algorithm.name()) }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// How content differs from what its descriptor says.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Mismatch {
    /// There are more or fewer bytes.
    #[error("{expected} has {found} bytes where its descriptor says {size}")]
    Size {
        /// The digest in the descriptor.
        expected: Digest,
        /// The descriptor's size in bytes.
        size: u64,
        /// The number of bytes found.
        found: u64,
    },
    /// The bytes hash to something else.
    #[error("{expected} is corrupt: its bytes hash to {found}")]
    Digest {
        /// The digest in the descriptor.
        expected: Digest,
        /// What the bytes hash to.
        found: Digest,
    },
}

/// A hasher that knows what must come out.
#[derive(Debug)]
pub struct Verifier {
    expected: Digest,
    size: u64,
    seen: u64,
    hasher: Hasher,
}

impl Verifier {
    /// Expects `size` bytes that hash to `expected`.
    #[must_use]
    pub fn new(expected: &Digest, size: u64) -> Self {
        Self { expected: expected.clone(), size, seen: 0, hasher: Hasher::new(expected.algorithm()) }
    }

    /// Checks bytes that are all there.
    ///
    /// # Errors
    /// When length or digest differ.
    pub fn check(expected: &Digest, size: u64, bytes: &[u8]) -> Result<(), Mismatch> {
        let mut verifier = Self::new(expected, size);
        verifier.update(bytes);
        verifier.finish()
    }

    /// Takes the next bytes in.
    pub fn update(&mut self, bytes: &[u8]) {
        self.seen += bytes.len() as u64;
        self.hasher.update(bytes);
    }

    /// Says whether it was what was expected.
    ///
    /// # Errors
    /// When length or digest differ.
    pub fn finish(self) -> Result<(), Mismatch> {
        if self.seen != self.size {
            return Err(Mismatch::Size { expected: self.expected, size: self.size, found: self.seen });
        }
        let found = self.hasher.finish();
        if found == self.expected { Ok(()) } else { Err(Mismatch::Digest { expected: self.expected, found }) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EMPTY: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn parses_only_what_is_safe() {
        let check = |text: &str, good: bool| assert_eq!(Digest::parse(text).is_ok(), good, "{text}");
        check(EMPTY, true);
        check(&format!("sha512:{}", "0".repeat(128)), true);
        check(&EMPTY.to_uppercase(), false);
        check(&EMPTY.replace("e3", "E3"), false);
        check("sha256:", false);
        check("sha256:../../../../etc/passwd", false);
        check(&format!("sha256:{}", "0".repeat(63)), false);
        check(&format!("md5:{}", "0".repeat(32)), false);
        check(&"0".repeat(64), false);
        check("", false);
    }

    #[test]
    fn parts_and_hash() {
        let digest = Digest::of(Algorithm::Sha256, b"");
        assert_eq!(digest.as_str(), EMPTY);
        assert_eq!(digest.short(), "e3b0c44298fc");
        assert_eq!(digest.referrers_tag(), EMPTY.replace(':', "-"));
        let long = Digest::of(Algorithm::Sha512, b"");
        assert_eq!(long.referrers_tag().len(), "sha512-".len() + 64);
    }

    #[test]
    fn verifier_refuses_a_wrong_ending() {
        let digest = Digest::of(Algorithm::Sha512, b"abc");
        assert_eq!(Verifier::check(&digest, 3, b"abc"), Ok(()));
        assert!(matches!(Verifier::check(&digest, 3, b"ab"), Err(Mismatch::Size { found: 2, .. })));
        assert!(matches!(Verifier::check(&digest, 3, b"abd"), Err(Mismatch::Digest { .. })));
    }
}
