//! Buffers of one size, used again and again: an allocator that gives them back to the system would be asked thousands of
//! times a second.

use std::io::{self, Read};
use std::ops::Deref;
use std::sync::{Arc, Mutex, PoisonError};

/// Bytes of input that are compressed at a time.
pub(super) const BLOCK: usize = 256 * 1024;

/// Bytes of a buffer: a block, and the window before it or what a compressor may need beyond it.
const CAPACITY: usize = BLOCK + BLOCK / 4;

/// Buffers that are free.
#[derive(Debug, Clone, Default)]
pub(super) struct Buffers(Arc<Mutex<Vec<Box<[u8]>>>>);

impl Buffers {
    /// An empty one.
    pub(super) fn take(&self) -> Buffer {
        let free = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let bytes = free.unwrap_or_else(|| vec![0; CAPACITY].into_boxed_slice());
        Buffer { bytes, length: 0, home: self.clone() }
    }
}

/// A buffer that goes back when it is dropped.
#[derive(Debug)]
pub(super) struct Buffer {
    bytes: Box<[u8]>,
    length: usize,
    home: Buffers,
}

impl Buffer {
    /// Reads a block behind what is in it, or what is left before the end.
    pub(super) fn fill(&mut self, from: &mut dyn Read) -> io::Result<()> {
        let end = self.length + BLOCK;
        while self.length < end {
            match from.read(&mut self.bytes[self.length..end]) {
                Ok(0) => break,
                Ok(read) => self.length += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// What is behind what is in it, to be written to.
    pub(super) fn spare(&mut self) -> &mut [u8] {
        &mut self.bytes[self.length..]
    }

    /// Counts bytes in that were written to [`Self::spare`].
    pub(super) fn grow(&mut self, by: usize) {
        self.length = (self.length + by).min(self.bytes.len());
    }

    /// Appends what there must be room for.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.spare()[..bytes.len()].copy_from_slice(bytes);
        self.length += bytes.len();
    }
}

impl Deref for Buffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let bytes = std::mem::take(&mut self.bytes);
        self.home.0.lock().unwrap_or_else(PoisonError::into_inner).push(bytes);
    }
}
