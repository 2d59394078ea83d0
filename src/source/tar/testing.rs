//! Tars for unit tests, as honest or not as a test wants them.

use super::header::BLOCK;

/// A member's header, with its bytes padded behind it.
pub(crate) fn member(name: &str, kind: u8, link: &str, size: &[u8], bytes: &[u8]) -> Vec<u8> {
    let mut tar = vec![0; BLOCK];
    let mut put = |at: usize, bytes: &[u8]| tar[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, name.as_bytes());
    put(100, b"0000644\0");
    put(124, size);
    put(148, b"        ");
    put(156, &[kind]);
    put(157, link.as_bytes());
    put(257, b"ustar\x0000");
    let sum: u64 = tar.iter().map(|byte| u64::from(*byte)).sum();
    tar[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    tar.extend_from_slice(bytes);
    tar.resize(tar.len().next_multiple_of(BLOCK), 0);
    tar
}

pub(crate) fn typed(name: &str, kind: u8, link: &str, bytes: &[u8]) -> Vec<u8> {
    member(name, kind, link, format!("{:011o}\0", bytes.len()).as_bytes(), bytes)
}

pub(crate) fn file(name: &str, bytes: &[u8]) -> Vec<u8> {
    if name.len() > 100 {
        return [typed("", b'L', "", name.as_bytes()), typed("long", b'0', "", bytes)].concat();
    }
    typed(name, b'0', "", bytes)
}

pub(crate) fn link(name: &str, target: &str) -> Vec<u8> {
    typed(name, b'2', target, b"")
}

/// A tar that grows member by member.
#[derive(Default)]
pub(crate) struct Tar(Vec<u8>);

impl Tar {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    pub(crate) fn file(self, name: impl AsRef<str>, bytes: &[u8]) -> Self {
        self.raw(&file(name.as_ref(), bytes))
    }

    pub(crate) fn raw(mut self, member: &[u8]) -> Self {
        self.0.extend_from_slice(member);
        self
    }

    pub(crate) fn end(mut self) -> Vec<u8> {
        self.0.resize(self.0.len() + 2 * BLOCK, 0);
        self.0
    }
}
