//! Reads a blob once, hashes it, and hands its pieces to every upload that wants them.
//!
//! The last piece leaves only when the digest is right: no registry ever gets the end of a corrupt blob.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use thiserror::Error;
use tokio::sync::mpsc::Sender;

use crate::cause::Cause;
use crate::image::{Blob, Content};
use crate::oci::digest::{Mismatch, Verifier};
use crate::registry::body::Broken;

/// The size of a piece in bytes: large enough for 1 GB/s over TLS, small enough for dozens of streams.
pub const PIECE: usize = 128 * 1024;

/// Pieces that wait for a connection.
pub const WAITING: usize = 1;

/// Pieces that one blob in flight holds at most: beside those that wait one is being read, one is held back until it is known
/// whether it is the last, and one is on the wire.
pub const STREAM_PIECES: usize = WAITING + 3;

/// Why a blob can't be sent.
#[derive(Debug, Error)]
pub enum ReadError {
    /// It isn't what its descriptor says.
    #[error("blob {0}")]
    Corrupt(#[from] Mismatch),
    /// It can't be read.
    #[error("{path} can't be read")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The thread that read it ended by itself.
    #[error("reading ended unexpectedly")]
    Died(#[source] Cause),
}

/// Buffers that are used again: an allocation for each piece would cost more than hashing it, with musl.
#[derive(Debug, Clone, Default)]
pub struct Pool(Arc<Mutex<Vec<Vec<u8>>>>);

/// A buffer that goes back to its pool when the last who holds it lets go.
#[derive(Debug)]
struct Pooled {
    buffer: Vec<u8>,
    length: usize,
    pool: Pool,
}

impl AsRef<[u8]> for Pooled {
    fn as_ref(&self) -> &[u8] {
        &self.buffer[..self.length]
    }
}

impl Drop for Pooled {
    fn drop(&mut self) {
        let buffer = std::mem::take(&mut self.buffer);
        self.pool.0.lock().unwrap_or_else(PoisonError::into_inner).push(buffer);
    }
}

impl Pool {
    fn take(&self) -> Vec<u8> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop();
        kept.unwrap_or_else(|| vec![0; PIECE])
    }
}

/// Sends the pieces of `blob` to all of `wanted`, as fast as the slowest takes them; one that went away is left out.
///
/// Blocks. Ends early, without an error, when nobody is left.
///
/// # Errors
/// When the file can't be read, or its bytes are not what the descriptor says; everybody has been told then.
pub fn send(blob: &Blob, pool: &Pool, mut wanted: Vec<Sender<Result<Bytes, Broken>>>) -> Result<(), ReadError> {
    let sent = match &blob.content {
        // Hashed when it was taken into memory.
        Content::Held(bytes) => {
            if !bytes.is_empty() {
                hand(&mut wanted, bytes);
            }
            Ok(())
        }
        Content::File(path) => send_file(blob, path, pool, &mut wanted),
    };
    if sent.is_err() {
        for upload in &wanted {
            let _ = upload.blocking_send(Err(Broken));
        }
    }
    sent
}

fn send_file(
    blob: &Blob,
    path: &Path,
    pool: &Pool,
    wanted: &mut Vec<Sender<Result<Bytes, Broken>>>,
) -> Result<(), ReadError> {
    let unreadable = |source| ReadError::Unreadable { path: path.to_owned(), source };
    let mut file = File::open(path).map_err(unreadable)?;
    let mut verifier = Verifier::new(&blob.digest, blob.size);
    let mut last: Option<Bytes> = None;
    let mut seen = 0;
    loop {
        let mut buffer = pool.take();
        let length = fill(&mut file, &mut buffer).map_err(unreadable)?;
        let piece = Pooled { buffer, length, pool: pool.clone() };
        if length == 0 {
            break;
        }
        seen += length as u64;
        if seen > blob.size {
            // It grew since it was checked; more than the descriptor says must never leave.
            let (expected, size) = (blob.digest.clone(), blob.size);
            return Err(Mismatch::Size { expected, size, found: seen }.into());
        }
        verifier.update(piece.as_ref());
        if let Some(ready) = last.replace(Bytes::from_owner(piece))
            && !hand(wanted, &ready)
        {
            return Ok(());
        }
    }
    verifier.finish()?;
    if let Some(ready) = last {
        hand(wanted, &ready);
    }
    Ok(())
}

/// Hands a piece to everybody who is still there, and says whether anybody is.
fn hand(wanted: &mut Vec<Sender<Result<Bytes, Broken>>>, piece: &Bytes) -> bool {
    wanted.retain(|upload| upload.blocking_send(Ok(piece.clone())).is_ok());
    !wanted.is_empty()
}

/// Reads until the buffer is full or the file ends.
fn fill(file: &mut File, buffer: &mut [u8]) -> io::Result<usize> {
    let mut length = 0;
    while length < buffer.len() {
        match file.read(&mut buffer[length..]) {
            Ok(0) => break,
            Ok(more) => length += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(length)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use proptest::prelude::*;
    use tokio::sync::mpsc;

    use super::*;
    use crate::image::Role;
    use crate::oci::digest::{Algorithm, Digest};

    /// What two readers get of a file with `bytes` whose descriptor is for `described`.
    fn sent(bytes: &[u8], described: &[u8]) -> (Vec<Vec<u8>>, Result<(), ReadError>) {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(bytes).unwrap();
        let blob = Blob {
            digest: Digest::of(Algorithm::Sha256, described),
            size: described.len() as u64,
            media_type: "text/plain".into(),
            role: Role::Config,
            content: Content::File(file.path().to_owned()),
        };
        let (senders, mut receivers): (Vec<_>, Vec<_>) = (0..2).map(|_| mpsc::channel(64)).unzip();
        let result = send(&blob, &Pool::default(), senders);
        let got = receivers.iter_mut().map(|receiver| {
            let mut got = Vec::new();
            while let Some(Ok(piece)) = receiver.blocking_recv() {
                got.extend_from_slice(&piece);
            }
            got
        });
        (got.collect(), result)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn pieces_tile_the_blob(length in 0_usize..3 * PIECE, flip in proptest::option::of(any::<prop::sample::Index>())) {
            let good: Vec<u8> = (0..length).map(|at| u8::try_from(at % 251).unwrap()).collect();
            let mut bytes = good.clone();
            let flipped = flip.filter(|_| length > 0).map(|at| bytes[at.index(length)] ^= 1).is_some();
            let (got, result) = sent(&bytes, &good);
            prop_assert_eq!(result.is_err(), flipped);
            for got in got {
                if flipped {
                    // Everything but the last piece may have left, and never the end.
                    prop_assert!(got.len() < length && got == bytes[..got.len()]);
                } else {
                    prop_assert_eq!(&got, &good);
                }
            }
        }
    }

    #[test]
    fn a_file_that_grew_or_shrank_is_refused() {
        let long = vec![7; PIECE + 5];
        assert!(matches!(sent(&long, &long[..PIECE]).1, Err(ReadError::Corrupt(Mismatch::Size { .. }))));
        assert!(matches!(sent(&long[..9], &long).1, Err(ReadError::Corrupt(Mismatch::Size { .. }))));
    }
}
