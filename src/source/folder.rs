//! The files of an OCI image layout folder: where a blob lies, and that it is one that may be read.
//!
//! Nothing here knows what a manifest means.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::tar::TarError;
use crate::oci::descriptor::Descriptor;
use crate::oci::digest::{Digest, Mismatch, Verifier};

/// What is wrong with one file of a layout.
#[derive(Debug, Error)]
pub enum FileError {
    /// It isn't there.
    #[error("blob {digest} is missing")]
    Missing {
        /// The blob.
        digest: Digest,
    },
    /// It is there and isn't a regular file.
    #[error("blob {digest} is {kind} and not a file")]
    NotAFile {
        /// The blob.
        digest: Digest,
        /// What it is instead.
        kind: &'static str,
    },
    /// A symbolic link, of the blob or of a folder above it, leads out of the layout.
    #[error("blob {digest} is a symbolic link that leads out of the layout, to {target}")]
    Outside {
        /// The blob.
        digest: Digest,
        /// Where it leads.
        target: PathBuf,
    },
    /// It can't be opened or read.
    #[error("blob {digest} can't be read")]
    Unreadable {
        /// The blob.
        digest: Digest,
        /// What the system said.
        source: io::Error,
    },
    /// Its member of an archive leads nowhere, or can't be read.
    #[error("blob {digest}")]
    Archive {
        /// The blob.
        digest: Digest,
        /// Where and why.
        source: TarError,
    },
    /// Its bytes are not what the descriptor says.
    #[error("blob {0}")]
    Content(#[from] Mismatch),
}

/// A layout's folder.
#[derive(Debug, Clone)]
pub struct Folder {
    root: PathBuf,
    follow_symlinks: bool,
}

impl Folder {
    /// The layout at `root`; with `follow_symlinks` its blobs may be symbolic links that lead out of it.
    ///
    /// # Errors
    /// When there is no such path.
    pub fn new(root: &Path, follow_symlinks: bool) -> io::Result<Self> {
        Ok(Self { root: fs::canonicalize(root)?, follow_symlinks })
    }

    /// The folder, without symbolic links in its path.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Whether files of the layout may be symbolic links that lead out of it.
    #[must_use]
    pub fn follows_symlinks(&self) -> bool {
        self.follow_symlinks
    }

    /// Where the blob lies, be it there or not.
    #[must_use]
    pub fn path(&self, digest: &Digest) -> PathBuf {
        self.root.join("blobs").join(digest.algorithm().name()).join(digest.hex())
    }

    /// Opens a blob and sees that it is a regular file of the size that its descriptor says.
    ///
    /// # Errors
    /// When it isn't there, isn't a file, leads out of the layout, can't be opened, or is of another size.
    pub fn open(&self, descriptor: &Descriptor) -> Result<(File, PathBuf), FileError> {
        let digest = &descriptor.digest;
        let unreadable = |source: io::Error| match source.kind() {
            // A component of the path that is no folder: the blob can't be there.
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => FileError::Missing { digest: digest.clone() },
            _ => FileError::Unreadable { digest: digest.clone(), source },
        };
        let target = fs::canonicalize(self.path(digest)).map_err(unreadable)?;
        if !self.follow_symlinks && !target.starts_with(&self.root) {
            return Err(FileError::Outside { digest: digest.clone(), target });
        }
        // Looked at before it is opened: opening a FIFO would wait for its writer.
        let metadata = fs::metadata(&target).map_err(unreadable)?;
        if !metadata.is_file() {
            return Err(FileError::NotAFile { digest: digest.clone(), kind: kind_name(metadata.file_type()) });
        }
        if metadata.len() != descriptor.size {
            let (expected, size, found) = (digest.clone(), descriptor.size, metadata.len());
            return Err(FileError::Content(Mismatch::Size { expected, size, found }));
        }
        let file = File::open(&target).map_err(unreadable)?;
        Ok((file, target))
    }

    /// Reads a blob whole and checks its digest; for what is small.
    ///
    /// # Errors
    /// As [`Folder::open`], and when the bytes hash to something else.
    pub fn read(&self, descriptor: &Descriptor) -> Result<Vec<u8>, FileError> {
        let (file, _) = self.open(descriptor)?;
        let mut bytes = Vec::new();
        // One byte more than it may have: a file that grows meanwhile is noticed and not swallowed.
        file.take(descriptor.size.saturating_add(1))
            .read_to_end(&mut bytes)
            .map_err(|source| FileError::Unreadable { digest: descriptor.digest.clone(), source })?;
        Verifier::check(&descriptor.digest, descriptor.size, &bytes)?;
        Ok(bytes)
    }
}

/// What a thing in the file system is, for people.
fn kind_name(kind: fs::FileType) -> &'static str {
    use std::os::unix::fs::FileTypeExt;
    if kind.is_dir() {
        "a folder"
    } else if kind.is_fifo() {
        "a FIFO"
    } else if kind.is_socket() {
        "a socket"
    } else {
        "a device"
    }
}
