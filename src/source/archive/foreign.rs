//! What a file is that is no tar: told by how it begins.

/// What a file is instead of a tar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Foreign {
    /// Packed with xz.
    Xz,
    /// Packed with bzip2.
    Bzip2,
    /// Packed with lz4.
    Lz4,
    /// A zip.
    Zip,
    /// A page of HTML: what a server says instead of a file.
    Page,
    /// A Dockerfile.
    Dockerfile,
    /// JSON, such as the output of `docker inspect`.
    Json,
    /// Some other text.
    Text,
    /// Anything else.
    Unknown,
}

impl Foreign {
    /// What a file is that begins with these bytes; none if it begins as a tar does, with its first 512 bytes.
    #[must_use]
    pub fn of(begin: &[u8]) -> Option<Self> {
        let magic = |magic: &[u8]| begin.starts_with(magic);
        let block = begin.first_chunk::<512>();
        // An empty block may be all of an empty tar.
        if block.is_some_and(|block| *block == [0; 512] || super::super::tar::begins_a_member(block)) {
            return None;
        }
        // Before the texts: the beginning of a damaged tar is text, too, and is filled up with zero bytes.
        let zeroes = begin.contains(&0);
        Some(match begin {
            _ if magic(b"\xfd7zXZ\0") => Self::Xz,
            _ if magic(b"BZh") => Self::Bzip2,
            _ if magic(b"\x04\x22\x4d\x18") => Self::Lz4,
            _ if magic(b"PK\x03\x04") => Self::Zip,
            // A damaged or cut tar: its index says where.
            _ if begin.get(257..262) == Some(b"ustar") || zeroes && block.is_none() => return None,
            _ if zeroes => Self::Unknown,
            _ => std::str::from_utf8(valid(begin)).map_or(Self::Unknown, text),
        })
    }

    /// What it is, for people.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Xz => "packed with xz",
            Self::Bzip2 => "packed with bzip2",
            Self::Lz4 => "packed with lz4",
            Self::Zip => "a zip file",
            Self::Page => "a page of HTML",
            Self::Dockerfile => "a Dockerfile",
            Self::Json => "JSON",
            Self::Text => "text",
            Self::Unknown => "something else",
        }
    }
}

/// The bytes without a character that is cut at their end.
fn valid(begin: &[u8]) -> &[u8] {
    match std::str::from_utf8(begin) {
        Err(error) if error.error_len().is_none() => &begin[..error.valid_up_to()],
        _ => begin,
    }
}

fn text(text: &str) -> Foreign {
    let text = text.trim_start_matches('\u{feff}').trim_start();
    let lower = text.to_ascii_lowercase();
    if lower.starts_with("<!doctype html") || lower.starts_with("<html") {
        return Foreign::Page;
    }
    if text.starts_with(['{', '[']) {
        return Foreign::Json;
    }
    let mut lines = lower.lines().map(str::trim);
    let first = lines.find(|line| !line.is_empty() && !line.starts_with('#'));
    let is_dockerfile = lower.starts_with("# syntax=")
        || first.is_some_and(|line| ["from ", "arg "].iter().any(|word| line.starts_with(word)));
    if is_dockerfile { Foreign::Dockerfile } else { Foreign::Text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn beginnings() {
        let check = |begin: &[u8], expected| assert_eq!(Foreign::of(begin), Some(expected), "{begin:?}");
        check(b"\xfd7zXZ\0\0\x04", Foreign::Xz);
        check(b"BZh91AY&SY", Foreign::Bzip2);
        check(b"PK\x03\x04\x14\0", Foreign::Zip);
        check(b"\x04\x22\x4d\x18d", Foreign::Lz4);
        check(b"\n<!DOCTYPE HTML>\n<html>", Foreign::Page);
        check(b"<html><body>Sign in", Foreign::Page);
        check(b"# syntax=docker/dockerfile:1\n", Foreign::Dockerfile);
        check(b"# the app\n\nFROM debian:13\nRUN true\n", Foreign::Dockerfile);
        check(b"ARG BASE\nFROM $BASE\n", Foreign::Dockerfile);
        check(b"[{\"Id\": 1}]", Foreign::Json);
        check(b"Error response from daemon\n", Foreign::Text);
        check("grüß".as_bytes().get(..3).unwrap(), Foreign::Text);
        check(&[0xff; 512], Foreign::Unknown);
        assert_eq!(Foreign::of(&[0; 512]), None);
        assert_eq!(Foreign::of(b"blobs/\0\0\0"), None);
    }
}
