//! One header of a tar: the `tar` crate's fields, and numbers that are what they say.

use super::flaw::Flaw;

/// What everything in a tar is a multiple of, in bytes.
pub(super) const BLOCK: usize = 512;

/// What a header is one of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum What {
    File,
    Folder,
    HardLink,
    SymbolicLink,
    Special(&'static str),
    /// GNU: the next member's name.
    LongName,
    /// GNU: where the next member leads.
    LongLink,
    /// Properties of the next member.
    Pax,
    /// Properties of all that follow.
    PaxGlobal,
}

impl What {
    /// Whether it says something of the member that follows.
    pub(super) fn is_extension(self) -> bool {
        matches!(self, Self::LongName | Self::LongLink | Self::Pax | Self::PaxGlobal)
    }
}

/// A header.
pub(super) struct Header {
    pub(super) what: What,
    pub(super) name: Vec<u8>,
    pub(super) link: Vec<u8>,
    pub(super) size: u64,
}

impl Header {
    /// Reads one.
    pub(super) fn read(block: &[u8; BLOCK]) -> Result<Self, Flaw> {
        if !sums_up(block) {
            return Err(Flaw::Checksum);
        }
        let header = tar::Header::from_byte_slice(block);
        let known = header.as_ustar().is_some() || header.as_gnu().is_some();
        // Some tools take another version for this one, and others for a header from before POSIX, with a shorter name.
        if !known && block[257..].starts_with(b"ustar") {
            return Err(Flaw::Format);
        }
        let name = header.path_bytes().into_owned();
        let what = match header.entry_type().as_byte() {
            // Before POSIX a folder was a file whose name ends with a slash.
            b'\0' | b'0' if name.ends_with(b"/") => What::Folder,
            b'\0' | b'0' | b'7' => What::File,
            b'1' => What::HardLink,
            b'2' => What::SymbolicLink,
            b'3' => What::Special("a character device"),
            b'4' => What::Special("a block device"),
            b'5' => What::Folder,
            b'6' => What::Special("a FIFO"),
            b'L' => What::LongName,
            b'K' => What::LongLink,
            b'x' => What::Pax,
            b'g' => What::PaxGlobal,
            b'S' => return Err(Flaw::Sparse),
            other => return Err(Flaw::Type(other.into())),
        };
        if what.is_extension() && !known {
            return Err(Flaw::Format);
        }
        let link = header.link_name_bytes().unwrap_or_default().into_owned();
        Ok(Self { what, name, link, size: size(&header.as_old().size)? })
    }
}

/// Whether a block's checksum is right: the sum of its bytes, with spaces for the checksum itself.
pub(super) fn sums_up(block: &[u8; BLOCK]) -> bool {
    let sum = |bytes: &[u8]| bytes.iter().map(|byte| u64::from(*byte)).sum::<u64>();
    let without = sum(&block[..148]) + sum(&block[156..]) + 8 * u64::from(b' ');
    octal(&block[148..156]) == Some(without)
}

/// The size in a header, in bytes: octal digits, or binary as GNU writes what has more than 8 GiB.
fn size(field: &[u8; 12]) -> Result<u64, Flaw> {
    if field[0] & 0x80 == 0 {
        return octal(field).ok_or(Flaw::Size("not a number"));
    }
    if field[0] & 0x40 != 0 {
        return Err(Flaw::Size("negative"));
    }
    let (above, number) = field.split_at(4);
    if above != [0x80, 0, 0, 0] {
        return Err(Flaw::Size("beyond 64 bits"));
    }
    Ok(number.iter().fold(0, |number, byte| number << 8 | u64::from(*byte)))
}

/// Octal digits, with spaces before and spaces or zero bytes behind them.
fn octal(field: &[u8]) -> Option<u64> {
    let begin = field.iter().position(|byte| *byte != b' ').unwrap_or(field.len());
    let digits = &field[begin..];
    let end = digits.iter().position(|byte| matches!(byte, b' ' | b'\0')).unwrap_or(digits.len());
    let (digits, rest) = digits.split_at(end);
    if !rest.iter().all(|byte| matches!(byte, b' ' | b'\0')) {
        return None;
    }
    // Twelve digits have 36 bits: there is no overflow.
    digits.iter().try_fold(0, |number, byte| matches!(byte, b'0'..=b'7').then(|| number << 3 | u64::from(byte - b'0')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        let check = |field: &[u8; 12], expected: Option<u64>| assert_eq!(size(field).ok(), expected, "{field:?}");
        check(b"00000001000\0", Some(512));
        check(b"     1000 \0\0", Some(512));
        check(b"777777777777", Some((1 << 36) - 1));
        check(b"\0\0\0\0\0\0\0\0\0\0\0\0", Some(0));
        check(b"-0000001000\0", None);
        check(b"0000000100x\0", None);
        check(b"00000008000\0", None);
        check(b"0001\x001000\0\0\0", None);
        check(b"\x80\0\0\0\0\0\0\x02\0\0\0\0", Some(1 << 33));
        check(b"\x80\0\0\0\xff\xff\xff\xff\xff\xff\xff\xff", Some(u64::MAX));
        check(b"\x80\0\0\x01\0\0\0\0\0\0\0\0", None);
        check(b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xfe\0", None);
        check(b"\xbf\xff\xff\xff\xff\xff\xff\xff\xff\xff\xfe\0", None);
    }
}
