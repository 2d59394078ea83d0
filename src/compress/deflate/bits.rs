//! Bits, the lowest first, as deflate packs them.

/// Writes bits into a slice. What doesn't fit is lost, and [`Bits::end`] says so.
pub(super) struct Bits<'a> {
    into: &'a mut [u8],
    at: usize,
    held: u64,
    count: u32,
    is_full: bool,
}

impl<'a> Bits<'a> {
    pub(super) fn new(into: &'a mut [u8]) -> Self {
        Self { into, at: 0, held: 0, count: 0, is_full: false }
    }

    /// Holds the lowest `count` bits of `bits`, the others being 0. At most 56 may be held before [`Self::flush`].
    #[inline]
    pub(super) fn hold(&mut self, bits: u64, count: u32) {
        self.held |= bits << self.count;
        self.count += count;
    }

    /// Writes all whole bytes.
    #[inline]
    pub(super) fn flush(&mut self) {
        if let Some(to) = self.into.get_mut(self.at..self.at + 8) {
            to.copy_from_slice(&self.held.to_le_bytes());
            let bytes = self.count / 8;
            self.at += bytes as usize;
            self.held >>= bytes * 8;
            self.count %= 8;
        } else {
            (self.held, self.count, self.is_full) = (0, 0, true);
        }
    }

    /// Holds and writes.
    #[inline]
    pub(super) fn put(&mut self, bits: u64, count: u32) {
        self.hold(bits, count);
        self.flush();
    }

    /// Fills up the last byte with zeros.
    pub(super) fn align(&mut self) {
        self.count = self.count.next_multiple_of(8);
        self.flush();
    }

    /// Appends whole bytes; the last byte must have been filled up.
    pub(super) fn bytes(&mut self, bytes: &[u8]) {
        if let Some(to) = self.into.get_mut(self.at..self.at + bytes.len()) {
            to.copy_from_slice(bytes);
            self.at += bytes.len();
        } else {
            self.is_full = true;
        }
    }

    /// How many bytes were written, if all did fit.
    pub(super) fn end(self) -> Option<usize> {
        (!self.is_full).then_some(self.at)
    }
}
