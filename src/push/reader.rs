//! Reads a blob, hashes it, and hands to every upload the pieces that it wants.
//!
//! The last piece leaves only when the digest is right: no registry ever gets the end of a corrupt blob. Over all readings of
//! a blob each byte is hashed once.

use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use thiserror::Error;
use tokio::sync::mpsc::Sender;

use crate::cause::Cause;
use crate::image::{Blob, Content, Part};
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

/// An upload that wants a blob's bytes from this one on.
#[derive(Debug)]
pub struct Wanted {
    /// The number of the first byte.
    pub from: u64,
    /// Where the pieces go.
    pub pieces: Sender<Result<Bytes, Broken>>,
}

/// How far a blob has been hashed, in all readings of it so far.
#[derive(Debug)]
pub struct Hashing {
    state: State,
    /// What the file looked like that was hashed.
    file: Option<Stamp>,
}

#[derive(Debug)]
enum State {
    /// So many bytes were taken in.
    Running(Verifier, u64),
    /// The whole blob was, and it is right.
    Right,
}

/// What changes when a file does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp([i64; 5], [u64; 2]);

impl Stamp {
    fn of(metadata: &Metadata) -> Self {
        let times = [metadata.mtime(), metadata.mtime_nsec(), metadata.ctime(), metadata.ctime_nsec()];
        let [modified, modified_ns, changed, changed_ns] = times;
        let length = metadata.len().try_into().unwrap_or(i64::MAX);
        Self([modified, modified_ns, changed, changed_ns, length], [metadata.dev(), metadata.ino()])
    }
}

impl Hashing {
    /// Nothing of `blob` has been hashed yet.
    #[must_use]
    pub fn new(blob: &Blob) -> Self {
        Self { state: State::Running(Verifier::new(&blob.digest, blob.size), 0), file: None }
    }

    /// What is known so far, for a reading; nothing is left.
    pub(super) fn take(&mut self, blob: &Blob) -> Self {
        std::mem::replace(self, Self::new(blob))
    }

    /// Begins anew when the file is another one than before.
    fn look_at(&mut self, blob: &Blob, metadata: &Metadata) {
        let stamp = Stamp::of(metadata);
        if self.file.is_some_and(|before| before != stamp) {
            *self = Self::new(blob);
        }
        self.file = Some(stamp);
    }

    /// The first byte that is still to be hashed; none once all are.
    fn position(&self) -> Option<u64> {
        match &self.state {
            State::Running(_, position) => Some(*position),
            State::Right => None,
        }
    }

    /// Takes in what is new in a piece that begins at `at`, which isn't behind the first byte that is still to be hashed.
    fn update(&mut self, at: u64, piece: &[u8]) {
        let State::Running(verifier, position) = &mut self.state else { return };
        let known = usize::try_from(position.saturating_sub(at)).unwrap_or(usize::MAX);
        if let Some(new) = piece.get(known..) {
            verifier.update(new);
            *position += new.len() as u64;
        }
    }

    /// Says whether it is right, with all bytes taken in.
    fn finish(&mut self) -> Result<(), Mismatch> {
        match std::mem::replace(&mut self.state, State::Right) {
            State::Running(verifier, _) => verifier.finish(),
            State::Right => Ok(()),
        }
    }
}

/// Sends to all of `wanted` what they want of `blob`, as fast as the slowest takes it; one that went away is left out.
///
/// Blocks. Ends early, without an error, when nobody is left.
///
/// # Errors
/// When the file can't be read, or its bytes are not what the descriptor says; everybody has been told then.
pub fn send(blob: &Blob, pool: &Pool, hashing: &mut Hashing, mut wanted: Vec<Wanted>) -> Result<(), ReadError> {
    let sent = match &blob.content {
        // Hashed when it was taken into memory.
        Content::Held(bytes) => {
            if !bytes.is_empty() {
                hand(&mut wanted, 0, bytes);
            }
            Ok(())
        }
        Content::File(path) => match File::open(path) {
            Ok(file) => {
                // To its end, wherever that is: a file that grew must not pass for what it was.
                let part = Part { file: Arc::new(file), path: path.clone(), offset: 0, length: u64::MAX };
                send_part(blob, &part, pool, hashing, &mut wanted)
            }
            Err(source) => Err(ReadError::Unreadable { path: path.clone(), source }),
        },
        Content::Part(part) => send_part(blob, part, pool, hashing, &mut wanted),
        // Nobody gets the end of what isn't there to be read: see `push::streams`.
        Content::Made(_) => Ok(()),
    };
    if sent.is_err() {
        // Whoever reads it again hashes it again: nothing of it is known to be right.
        *hashing = Hashing::new(blob);
        for upload in &wanted {
            let _ = upload.pieces.blocking_send(Err(Broken));
        }
    }
    sent
}

fn send_part(
    blob: &Blob,
    part: &Part,
    pool: &Pool,
    hashing: &mut Hashing,
    wanted: &mut Vec<Wanted>,
) -> Result<(), ReadError> {
    let unreadable = |source| ReadError::Unreadable { path: part.path.clone(), source };
    let of_size = |found| Mismatch::Size { expected: blob.digest.clone(), size: blob.size, found };
    hashing.look_at(blob, &part.file.metadata().map_err(unreadable)?);
    let mut last: Option<(u64, Bytes)> = None;
    let mut at = 0;
    loop {
        at = next(at, hashing, wanted);
        let mut buffer = pool.take();
        let length = part.fill(&mut buffer, at).map_err(unreadable)?;
        let piece = Pooled { buffer, length, pool: pool.clone() };
        if length == 0 {
            break;
        }
        if at + length as u64 > blob.size {
            // It grew since it was checked; more than the descriptor says must never leave.
            return Err(of_size(at + length as u64).into());
        }
        hashing.update(at, piece.as_ref());
        if let Some((begins, ready)) = last.replace((at, Bytes::from_owner(piece)))
            && !hand(wanted, begins, &ready)
        {
            return Ok(());
        }
        at += length as u64;
    }
    if at != blob.size {
        return Err(of_size(at).into());
    }
    hashing.finish()?;
    if let Some((begins, ready)) = last {
        hand(wanted, begins, &ready);
    }
    Ok(())
}

/// The first byte from `at` on that somebody wants, or that is still to be hashed.
fn next(at: u64, hashing: &Hashing, wanted: &[Wanted]) -> u64 {
    let first = wanted.iter().map(|upload| upload.from).chain(hashing.position()).min();
    first.map_or(at, |first| first.max(at))
}

/// Hands a piece that begins at `at` to everybody who is still there and wants it, and says whether anybody is there.
fn hand(wanted: &mut Vec<Wanted>, at: u64, piece: &Bytes) -> bool {
    wanted.retain(|upload| {
        let unwanted = usize::try_from(upload.from.saturating_sub(at)).unwrap_or(usize::MAX);
        if unwanted >= piece.len() {
            return !upload.pieces.is_closed();
        }
        upload.pieces.blocking_send(Ok(piece.slice(unwanted..))).is_ok()
    });
    !wanted.is_empty()
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::fs::FileExt;

    use proptest::prelude::*;
    use tempfile::NamedTempFile;
    use tokio::sync::mpsc;

    use super::*;
    use crate::image::Role;
    use crate::oci::digest::{Algorithm, Digest};

    fn file(bytes: &[u8]) -> NamedTempFile {
        let mut file = NamedTempFile::new().unwrap();
        file.write_all(bytes).unwrap();
        file
    }

    /// A blob in `file` whose descriptor is for `described`.
    fn blob(file: &NamedTempFile, described: &[u8]) -> Blob {
        Blob {
            digest: Digest::of(Algorithm::Sha256, described),
            size: described.len() as u64,
            media_type: "text/plain".into(),
            role: Role::Config,
            content: Content::File(file.path().to_owned()),
        }
    }

    /// What those get who want a blob from these bytes on. One that takes no more than `pieces` goes away then.
    fn read(blob: &Blob, hashing: &mut Hashing, from: &[(u64, usize)]) -> (Vec<Vec<u8>>, Result<(), ReadError>) {
        let mut wanted = Vec::new();
        let takers = from.iter().map(|(from, most)| {
            let (pieces, mut receiver) = mpsc::channel(WAITING);
            wanted.push(Wanted { from: *from, pieces });
            let most = *most;
            std::thread::spawn(move || {
                let mut got = Vec::new();
                for _ in 0..most {
                    let Some(Ok(piece)) = receiver.blocking_recv() else { break };
                    got.extend_from_slice(&piece);
                }
                got
            })
        });
        let takers: Vec<_> = takers.collect();
        let result = send(blob, &Pool::default(), hashing, wanted);
        (takers.into_iter().map(|taker| taker.join().unwrap()).collect(), result)
    }

    fn sent(bytes: &[u8], described: &[u8]) -> (Vec<Vec<u8>>, Result<(), ReadError>) {
        let file = file(bytes);
        let blob = blob(&file, described);
        read(&blob, &mut Hashing::new(&blob), &[(0, usize::MAX); 2])
    }

    fn noise(length: usize) -> Vec<u8> {
        (0..length).map(|at| u8::try_from(at % 251).unwrap()).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn pieces_tile_the_blob(length in 0_usize..3 * PIECE, flip in proptest::option::of(any::<prop::sample::Index>())) {
            let good = noise(length);
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

        /// Readings that end early, at any place and for any reason, and go on anywhere.
        #[test]
        fn readings_from_any_bytes_on_tile_the_blob(
            length in 1_usize..4 * PIECE,
            readings in prop::collection::vec(
                prop::collection::vec((any::<prop::sample::Index>(), 0_usize..5), 1..4), 1..5
            ),
        ) {
            let bytes = noise(length);
            let file = file(&bytes);
            let blob = blob(&file, &bytes);
            let mut hashing = Hashing::new(&blob);
            let numbered = |(from, most): &(prop::sample::Index, usize)| (from.index(length) as u64, *most);
            let readings = readings.iter().map(|reading| reading.iter().map(numbered).collect::<Vec<_>>());
            let mut hashed = 0;
            for from in readings.chain([vec![(0, usize::MAX)]]) {
                let (got, result) = read(&blob, &mut hashing, &from);
                prop_assert!(result.is_ok());
                for (got, (from, most)) in got.iter().zip(&from) {
                    let rest = &bytes[usize::try_from(*from).unwrap()..];
                    prop_assert!(rest.starts_with(got));
                    prop_assert!(got.len() == rest.len() || *most != usize::MAX);
                }
                // A byte that was taken in twice, or left out, would make the digest wrong.
                let position = hashing.position().unwrap_or(length as u64);
                prop_assert!(position >= hashed, "hashed again");
                hashed = position;
            }
            prop_assert_eq!(hashing.position(), None);
        }
    }

    #[test]
    fn what_is_corrupt_stays_so_when_it_is_read_again() {
        let (file, good) = (tempfile::NamedTempFile::new().unwrap(), vec![7; 2 * PIECE]);
        let mut bytes = good.clone();
        bytes[PIECE + 1] ^= 1;
        std::fs::write(file.path(), &bytes).unwrap();
        let blob = Blob {
            digest: Digest::of(Algorithm::Sha256, &good),
            size: good.len() as u64,
            media_type: "text/plain".into(),
            role: Role::Config,
            content: Content::File(file.path().to_owned()),
        };
        let mut hashing = Hashing::new(&blob);
        for _ in 0..2 {
            let (got, result) = read(&blob, &mut hashing, &[(0, usize::MAX)]);
            assert!(matches!(result, Err(ReadError::Corrupt(_))), "{result:?}");
            assert!(got[0].len() < bytes.len());
        }
    }

    #[test]
    fn a_file_that_grew_or_shrank_is_refused() {
        let long = vec![7; PIECE + 5];
        assert!(matches!(sent(&long, &long[..PIECE]).1, Err(ReadError::Corrupt(Mismatch::Size { .. }))));
        assert!(matches!(sent(&long[..9], &long).1, Err(ReadError::Corrupt(Mismatch::Size { .. }))));
    }

    #[test]
    fn a_file_that_changes_between_two_readings_is_hashed_anew() {
        let bytes = noise(2 * PIECE);
        let file = file(&bytes);
        let blob = blob(&file, &bytes);
        let mut hashing = Hashing::new(&blob);
        assert!(read(&blob, &mut hashing, &[(0, usize::MAX)]).1.is_ok());
        file.as_file().write_all_at(&[bytes[5] ^ 1], 5).unwrap();
        let (got, result) = read(&blob, &mut hashing, &[(PIECE as u64, usize::MAX)]);
        assert!(matches!(result, Err(ReadError::Corrupt(Mismatch::Digest { .. }))));
        assert!(got[0].len() < PIECE);
    }
}
