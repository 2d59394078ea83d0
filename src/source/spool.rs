//! A stream as a file that can be read by offset: an unlinked temporary file, gone when its last reader is.
//!
//! What is packed is unpacked on the way, once. A bomb is noticed by what it unpacks to, a full disk before it is full.

use std::fs::File;
use std::io::{self, BufReader, Read, Write};
use std::path::{Path, PathBuf};

use flate2::bufread::MultiGzDecoder;
use thiserror::Error;

use crate::compress::Packing;

/// Why a stream can't be spooled.
#[derive(Debug, Error)]
pub enum SpoolError {
    /// The stream can't be read.
    #[error("it can't be read after byte {read}")]
    Unreadable {
        /// Bytes that came.
        read: u64,
        /// What the system said.
        source: io::Error,
    },
    /// It isn't sound gzip or zstd, or is cut off.
    #[error("it is damaged or cut off: its {} can't be unpacked after byte {read}", packing.name())]
    Unpack {
        /// How it is packed.
        packing: Packing,
        /// Bytes that were read before, within a buffer's length.
        read: u64,
        /// What the decoder said.
        source: io::Error,
    },
    /// It unpacks to far more than any image.
    #[error("it unpacks to more than {unpacked} bytes from the first {read}: no image does")]
    Bomb {
        /// Bytes that were read.
        read: u64,
        /// Bytes that came of them.
        unpacked: u64,
    },
    /// There is no room left.
    #[error("{} has no room left for it, after {written} bytes", folder.display())]
    Full {
        /// The folder of temporary files.
        folder: PathBuf,
        /// Bytes that were written.
        written: u64,
    },
    /// There can be no temporary file.
    #[error("{} takes no temporary file", folder.display())]
    Folder {
        /// The folder of temporary files.
        folder: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// Bytes that may come of anything, however small: layers of zeroes are in real images, too.
const FREE: u64 = 256 * 1024 * 1024;

/// Beyond them so many may come of each byte. Software unpacks to three or four times its size.
const RATIO: u64 = 100;

/// Room in bytes that is left to others: a machine whose disk is full is in worse trouble than a push that failed.
const MARGIN: u64 = 32 * 1024 * 1024;

/// Bytes between two looks at how much room there is.
const LOOK: u64 = 8 * 1024 * 1024;

const BUFFER: usize = 256 * 1024;

/// Writes what comes of `from` to an unlinked temporary file in `folder`; what gzip or zstd packed is unpacked.
///
/// # Errors
/// When it can't be read, unpacked, or kept.
pub fn spool(from: impl Read, packing: Packing, folder: &Path) -> Result<File, SpoolError> {
    spool_within(from, packing, folder, Bounds { free: FREE, ratio: RATIO })
}

#[derive(Clone, Copy)]
struct Bounds {
    free: u64,
    ratio: u64,
}

fn spool_within(from: impl Read, packing: Packing, folder: &Path, bounds: Bounds) -> Result<File, SpoolError> {
    let to = tempfile::tempfile_in(folder).map_err(|source| no_room(source, folder, 0))?;
    let from = BufReader::with_capacity(BUFFER, Counted { from, read: 0, failed: None });
    match packing {
        Packing::Nothing | Packing::Bzip2 | Packing::Xz => copy(from, |from| from, to, packing, folder, bounds),
        Packing::Gzip => copy(MultiGzDecoder::new(from), MultiGzDecoder::get_mut, to, packing, folder, bounds),
        Packing::Zstd => {
            let decoder = zstd::stream::read::Decoder::with_buffer(from).map_err(|source| SpoolError::Unpack {
                packing,
                read: 0,
                source,
            })?;
            copy(decoder, zstd::stream::read::Decoder::get_mut, to, packing, folder, bounds)
        }
    }
}

/// `below` gives what a decoder reads from.
fn copy<D: Read, R: Read>(
    mut from: D,
    below: impl Fn(&mut D) -> &mut BufReader<Counted<R>>,
    mut to: File,
    packing: Packing,
    folder: &Path,
    bounds: Bounds,
) -> Result<File, SpoolError> {
    let mut buffer = vec![0; BUFFER];
    let (mut written, mut look) = (0, 0);
    loop {
        let length = match from.read(&mut buffer) {
            Ok(0) => break,
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => {
                let below = below(&mut from).get_mut();
                let read = below.read;
                return Err(match below.failed.take() {
                    Some(source) => SpoolError::Unreadable { read, source },
                    None => SpoolError::Unpack { packing, read, source: error },
                });
            }
        };
        let read = below(&mut from).get_ref().read;
        if written >= look {
            if room(folder).is_some_and(|room| room < MARGIN) {
                return Err(SpoolError::Full { folder: folder.to_owned(), written });
            }
            look = written + LOOK;
        }
        to.write_all(&buffer[..length]).map_err(|source| no_room(source, folder, written))?;
        written += length as u64;
        if written > bounds.free && written / bounds.ratio > read {
            return Err(SpoolError::Bomb { read, unpacked: written });
        }
    }
    Ok(to)
}

fn no_room(source: io::Error, folder: &Path, written: u64) -> SpoolError {
    let folder = folder.to_owned();
    match source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
            SpoolError::Full { folder, written }
        }
        _ => SpoolError::Folder { folder, source },
    }
}

/// Bytes that this user may still write in a folder; none if the system doesn't say.
fn room(folder: &Path) -> Option<u64> {
    let file_system = rustix::fs::statvfs(folder).ok()?;
    file_system.f_bavail.checked_mul(file_system.f_frsize)
}

/// Counts what is read, and keeps what failed apart from what a decoder makes of it.
struct Counted<R> {
    from: R,
    read: u64,
    failed: Option<io::Error>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.from.read(buffer) {
            Ok(length) => {
                self.read += length as u64;
                Ok(length)
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Err(error),
            Err(error) => {
                let kind = error.kind();
                self.failed = Some(error);
                Err(kind.into())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compress::packing;
    use std::os::unix::fs::FileExt;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn zstd(bytes: &[u8]) -> Vec<u8> {
        zstd::encode_all(bytes, 1).unwrap()
    }

    fn spooled(from: impl Read, packing: Packing) -> Result<Vec<u8>, SpoolError> {
        let folder = tempfile::tempdir().unwrap();
        let file = spool_within(from, packing, folder.path(), Bounds { free: 1000, ratio: 100 })?;
        assert_eq!(folder.path().read_dir().unwrap().count(), 0, "it has no name");
        let mut bytes = vec![0; usize::try_from(file.metadata().unwrap().len()).unwrap()];
        file.read_exact_at(&mut bytes, 0).unwrap();
        Ok(bytes)
    }

    #[test]
    fn what_is_packed_is_unpacked() {
        let check = |packed: &[u8], expected: &[u8]| {
            assert_eq!(spooled(packed, packing(packed)).unwrap(), expected, "{packed:?}");
        };
        check(b"plain", b"plain");
        check(&gzip(b"abc"), b"abc");
        check(&[gzip(b"abc"), gzip(b""), gzip(b"def")].concat(), b"abcdef");
        check(&zstd(b"abc"), b"abc");
        check(&[zstd(b"abc"), b"\x50\x2a\x4d\x18\x02\0\0\0xx".to_vec(), zstd(b"def")].concat(), b"abcdef");
        check(&[b"\x5a\x2a\x4d\x18\x00\0\0\0".to_vec(), zstd(b"def")].concat(), b"def");
    }

    #[test]
    fn what_is_damaged_or_too_much_is_refused() {
        let noise: Vec<u8> = (0..10_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13).to_le_bytes()[0]).collect();
        for packed in [gzip(&noise), zstd(&noise)] {
            let packing = packing(&packed);
            let cut = spooled(&packed[..packed.len() - 1], packing);
            assert!(matches!(cut, Err(SpoolError::Unpack { .. })), "{packing:?}");
            let mut broken = packed.clone();
            broken[3..12].fill(0xff);
            assert!(matches!(spooled(&*broken, packing), Err(SpoolError::Unpack { .. })), "{packing:?}");
            let trailing = [packed, b"garbage".to_vec()].concat();
            assert!(matches!(spooled(&*trailing, packing), Err(SpoolError::Unpack { .. })), "{packing:?}");
        }
        for bomb in [gzip(&vec![0; 1 << 20]), zstd(&vec![0; 1 << 20])] {
            assert!(matches!(spooled(&*bomb, packing(&bomb)), Err(SpoolError::Bomb { .. })));
        }
        assert!(spooled(&*vec![0; 1 << 20], Packing::Nothing).is_ok(), "what isn't packed is no bomb");
    }

    #[test]
    fn what_cannot_be_read_or_kept_is_said() {
        struct Broken;
        impl Read for Broken {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(io::Error::other("the tape tore"))
            }
        }
        for packing in [Packing::Nothing, Packing::Gzip, Packing::Zstd] {
            let error = spooled(Read::chain(&gzip(b"abc")[..4], Broken), packing).unwrap_err();
            let is_it =
                matches!(&error, SpoolError::Unreadable { source, .. } if source.to_string() == "the tape tore");
            assert!(is_it || packing == Packing::Zstd, "{error:?}");
        }
        let nowhere = Path::new("/nowhere");
        assert!(matches!(spool(&b"abc"[..], Packing::Nothing, nowhere), Err(SpoolError::Folder { .. })));
    }
}
