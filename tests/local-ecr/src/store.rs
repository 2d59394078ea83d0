//! Blobs on disk: bytes are hashed on their way into a file and never held whole.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256, Sha512};

use crate::digest::{Algorithm, Digest};

/// Piece in which a file is read back.
const PIECE: usize = 256 * 1024;

/// Where blobs and unfinished uploads lie. Blobs are shared by all repositories; which repository
/// has which is not known here.
#[derive(Debug)]
pub(crate) struct Store {
    folder: PathBuf,
}

impl Store {
    /// A store in an empty folder that someone else removes.
    pub(crate) fn new(folder: &Path) -> io::Result<Self> {
        std::fs::create_dir(folder.join("blobs"))?;
        std::fs::create_dir(folder.join("uploads"))?;
        Ok(Self { folder: folder.to_owned() })
    }

    pub(crate) fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.folder.join("blobs").join(digest.file_name())
    }

    /// An empty file for an upload session.
    pub(crate) fn begin(&self, session: &str) -> io::Result<Upload> {
        let path = self.folder.join("uploads").join(session);
        let file = File::create(&path)?;
        Ok(Upload { path, file, hasher: Sha256::new(), received: 0, parts: Vec::new() })
    }

    /// Makes an upload a blob.
    pub(crate) fn keep(&self, upload: &Upload, digest: &Digest) -> io::Result<()> {
        std::fs::rename(&upload.path, self.blob_path(digest))
    }

    /// Writes a blob that is held.
    pub(crate) fn put(&self, digest: &Digest, bytes: &[u8]) -> io::Result<()> {
        std::fs::write(self.blob_path(digest), bytes)
    }
}

/// One request's body, stored in a session.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Part {
    pub(crate) length: u64,
    /// Whether the body came to its end.
    pub(crate) whole: bool,
}

/// What an upload session holds.
#[derive(Debug)]
pub(crate) struct Upload {
    path: PathBuf,
    file: File,
    hasher: Sha256,
    received: u64,
    parts: Vec<Part>,
}

impl Upload {
    /// Bytes stored, which is also the offset that comes next.
    pub(crate) fn received(&self) -> u64 {
        self.received
    }

    pub(crate) fn parts(&self) -> &[Part] {
        &self.parts
    }

    /// Writes bytes at the end. Blocks.
    pub(crate) fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)?;
        self.hasher.update(bytes);
        self.received += bytes.len() as u64;
        Ok(())
    }

    /// Ends a part that began at this offset; one without bytes is none.
    pub(crate) fn end_part(&mut self, began: u64, whole: bool) {
        let length = self.received - began;
        if length > 0 {
            self.parts.push(Part { length, whole });
        }
    }

    /// The digest of what was stored. Blocks for a SHA-512, which nobody could foresee while the bytes came in.
    pub(crate) fn digest(&self, algorithm: Algorithm) -> io::Result<Digest> {
        match algorithm {
            Algorithm::Sha256 => Ok(Digest::from_sha256(self.hasher.clone())),
            Algorithm::Sha512 => {
                let mut hasher = Sha512::new();
                let mut file = File::open(&self.path)?;
                let mut piece = vec![0; PIECE];
                loop {
                    match file.read(&mut piece)? {
                        0 => return Ok(Digest::from_sha512(hasher)),
                        read => hasher.update(&piece[..read]),
                    }
                }
            }
        }
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        // A finished upload has been renamed; then there is nothing to remove.
        let _ = std::fs::remove_file(&self.path);
    }
}
