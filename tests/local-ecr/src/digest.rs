//! Content digests, as text and as computed.

use std::fmt;

use sha2::{Digest as _, Sha256, Sha512};

/// A hash algorithm that a digest may name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Algorithm {
    Sha256,
    Sha512,
}

/// `algorithm:hex`, checked for its form.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Digest(String);

impl Digest {
    /// Reads a digest; nothing when the algorithm is unknown or the hex has another length or upper case.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (algorithm, hex) = text.split_once(':')?;
        let length = match algorithm {
            "sha256" => 64,
            "sha512" => 128,
            _ => return None,
        };
        let plain = hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        (hex.len() == length && plain).then(|| Self(text.to_owned()))
    }

    /// The digest of bytes held.
    pub(crate) fn of(algorithm: Algorithm, bytes: &[u8]) -> Self {
        match algorithm {
            Algorithm::Sha256 => Self::from_sha256(Sha256::new_with_prefix(bytes)),
            Algorithm::Sha512 => Self::from_sha512(Sha512::new_with_prefix(bytes)),
        }
    }

    pub(crate) fn from_sha256(hasher: Sha256) -> Self {
        Self(format!("sha256:{}", hex(&hasher.finalize())))
    }

    pub(crate) fn from_sha512(hasher: Sha512) -> Self {
        Self(format!("sha512:{}", hex(&hasher.finalize())))
    }

    pub(crate) fn algorithm(&self) -> Algorithm {
        if self.0.starts_with("sha512:") { Algorithm::Sha512 } else { Algorithm::Sha256 }
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// A name for a file that holds this content.
    pub(crate) fn file_name(&self) -> String {
        self.0.replace(':', "-")
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Lower-case hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    use fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}
