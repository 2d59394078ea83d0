//! Tars, header by header: honest ones, and ones that no tool would write.

use std::fs;
use std::path::Path;

use super::Layout;

/// What everything in a tar is a multiple of, in bytes.
pub(crate) const BLOCK: usize = 512;

/// A header whose every field a test may set.
#[derive(Debug, Clone)]
pub(crate) struct Header {
    name: Vec<u8>,
    kind: u8,
    link: Vec<u8>,
    size: Option<Vec<u8>>,
    magic: [u8; 8],
}

impl Header {
    /// A member of that name and type: `0` is a file, `5` a folder, `2` a symbolic link.
    pub(crate) fn new(name: impl AsRef<[u8]>, kind: u8) -> Self {
        Self { name: name.as_ref().to_owned(), kind, link: Vec::new(), size: None, magic: *b"ustar\x0000" }
    }

    /// Where a link leads.
    pub(crate) fn link(mut self, target: &str) -> Self {
        self.link = target.into();
        self
    }

    /// The size as it is written, whatever is behind the header.
    pub(crate) fn size(mut self, field: &[u8]) -> Self {
        self.size = Some(field.to_owned());
        self
    }

    /// What tells the format: `ustar` and its version; zero bytes before there was any.
    pub(crate) fn magic(mut self, magic: [u8; 8]) -> Self {
        self.magic = magic;
        self
    }

    /// The block, with a checksum that is right.
    fn block(&self, length: usize) -> [u8; BLOCK] {
        let mut block = [0; BLOCK];
        let mut put = |at: usize, most: usize, bytes: &[u8]| {
            assert!(bytes.len() <= most, "{} is too long for its field", String::from_utf8_lossy(bytes));
            block[at..at + bytes.len()].copy_from_slice(bytes);
        };
        put(0, 100, &self.name);
        put(100, 8, b"0000644\0");
        put(124, 12, self.size.as_deref().unwrap_or(format!("{length:011o}\0").as_bytes()));
        put(136, 12, b"00000000000\0");
        put(148, 8, b"        ");
        put(156, 1, &[self.kind]);
        put(157, 100, &self.link);
        put(257, 8, &self.magic);
        let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        block
    }
}

/// A tar that grows member by member.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tar {
    bytes: Vec<u8>,
}

impl Tar {
    /// One without members.
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// All files of a layout, sorted, and no end.
    pub(crate) fn of(layout: &Layout) -> Self {
        let mut files = files(layout.path(), "");
        files.sort();
        files.iter().fold(Self::new(), |tar, (name, bytes)| tar.file(name, bytes))
    }

    /// Where the next member begins.
    pub(crate) fn position(&self) -> u64 {
        self.bytes.len() as u64
    }

    /// Adds a header with these bytes behind it.
    pub(crate) fn member(mut self, header: &Header, bytes: &[u8]) -> Self {
        self.bytes.extend_from_slice(&header.block(bytes.len()));
        self.bytes.extend_from_slice(bytes);
        self.bytes.resize(self.bytes.len().next_multiple_of(BLOCK), 0);
        self
    }

    /// Adds a file; a name that is too long for a header has one of its own, as GNU writes it.
    pub(crate) fn file(self, name: &str, bytes: &[u8]) -> Self {
        if name.len() > 100 {
            let tar = self.member(&Header::new("././@LongLink", b'L'), name.as_bytes());
            return tar.member(&Header::new(&name[..100], b'0'), bytes);
        }
        self.member(&Header::new(name, b'0'), bytes)
    }

    /// Adds a symbolic link.
    pub(crate) fn symlink(self, name: &str, target: &str) -> Self {
        self.member(&Header::new(name, b'2').link(target), b"")
    }

    /// Adds a PAX header with these records for the next member.
    pub(crate) fn pax(self, records: &[(&str, &[u8])]) -> Self {
        self.member(&Header::new("PaxHeaders/x", b'x'), &records.iter().flat_map(record).collect::<Vec<_>>())
    }

    /// Adds bytes as they are.
    pub(crate) fn raw(mut self, bytes: &[u8]) -> Self {
        self.bytes.extend_from_slice(bytes);
        self
    }

    /// The bytes so far, without an end.
    pub(crate) fn cut(self) -> Vec<u8> {
        self.bytes
    }

    /// The whole tar, with the two empty blocks that end it.
    pub(crate) fn end(mut self) -> Vec<u8> {
        self.bytes.resize(self.bytes.len() + 2 * BLOCK, 0);
        self.bytes
    }
}

/// A record of a PAX header: its length, which counts itself, a space, `KEY=VALUE` and the end of the line.
pub(crate) fn record((key, value): &(&str, &[u8])) -> Vec<u8> {
    let rest = [b" ", key.as_bytes(), b"=", value, b"\n"].concat();
    let mut length = rest.len();
    while length != rest.len() + length.to_string().len() {
        length = rest.len() + length.to_string().len();
    }
    [length.to_string().as_bytes(), &rest].concat()
}

/// The files below a folder, with their names from there.
pub(crate) fn files(folder: &Path, below: &str) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("it can be read").path();
        let name = format!("{below}{}", path.file_name().expect("a name").to_string_lossy());
        if path.is_dir() {
            found.extend(files(&path, &format!("{name}/")));
        } else {
            found.push((name, fs::read(path).expect("a file")));
        }
    }
    found
}
