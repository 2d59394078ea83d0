//! The files of a layout, be it a folder or in an archive: the one thing that `layout` and `walk` read through.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::folder::{FileError, Folder};
use super::layout::{self, LayoutError};
use super::listing::Listing;
use super::tar::{Flaw, TarError, TarIndex};
use crate::image::Content;
use crate::oci::descriptor::Descriptor;
use crate::oci::digest::{Digest, Mismatch, Verifier};
use crate::oci::manifest::MAX_SIZE;

/// Where a layout's files are.
#[derive(Debug, Clone)]
pub enum Files {
    /// In a folder.
    Folder(Folder),
    /// In a tar.
    Archive(Arc<TarIndex>),
    /// In what an engine exports, of which the documents are kept.
    Export(Arc<Listing>),
}

impl Files {
    /// What they are in, for people.
    #[must_use]
    pub fn path(&self) -> &Path {
        match self {
            Self::Folder(folder) => folder.root(),
            Self::Archive(index) => index.path(),
            Self::Export(listing) => listing.path(),
        }
    }

    /// Whether there is something in a blob's place.
    #[must_use]
    pub fn hold(&self, digest: &Digest) -> bool {
        match self {
            Self::Folder(folder) => folder.path(digest).symlink_metadata().is_ok(),
            Self::Archive(index) => index.holds(&member(digest)),
            Self::Export(listing) => listing.size(&member(digest)).is_some(),
        }
    }

    /// Where a blob's bytes are; seen to be a file of the size that its descriptor says.
    ///
    /// # Errors
    /// When it isn't there, isn't a file, leads out of the layout, can't be opened, or is of another size.
    pub fn open(&self, descriptor: &Descriptor) -> Result<Content, FileError> {
        match self {
            Self::Folder(folder) => Ok(Content::File(folder.open(descriptor)?.1)),
            Self::Archive(index) => {
                let (digest, name) = (&descriptor.digest, member(&descriptor.digest));
                let part = index.part(&name).map_err(|error| in_archive(digest, error))?;
                let part = part.ok_or_else(|| FileError::Missing { digest: digest.clone() })?;
                if part.length != descriptor.size {
                    let (expected, size, found) = (digest.clone(), descriptor.size, part.length);
                    return Err(FileError::Content(Mismatch::Size { expected, size, found }));
                }
                Ok(Content::Part(part))
            }
            Self::Export(listing) => {
                let (digest, name) = (&descriptor.digest, member(&descriptor.digest));
                let found = listing.size(&name).ok_or_else(|| FileError::Missing { digest: digest.clone() })?;
                if found != descriptor.size {
                    let (expected, size) = (digest.clone(), descriptor.size);
                    return Err(FileError::Content(Mismatch::Size { expected, size, found }));
                }
                Ok(listing.content(&name, descriptor))
            }
        }
    }

    /// Reads a blob whole and checks its digest; for what is small.
    ///
    /// # Errors
    /// As [`Files::open`], and when the bytes hash to something else.
    pub fn read(&self, descriptor: &Descriptor) -> Result<Vec<u8>, FileError> {
        match self {
            Self::Folder(folder) => folder.read(descriptor),
            Self::Archive(index) => {
                let digest = &descriptor.digest;
                self.open(descriptor)?;
                let read =
                    index.content(&member(digest), descriptor.size).map_err(|error| in_archive(digest, error))?;
                let bytes = read.ok_or_else(|| FileError::Missing { digest: digest.clone() })?;
                Verifier::check(digest, descriptor.size, &bytes)?;
                Ok(bytes)
            }
            Self::Export(listing) => {
                let digest = &descriptor.digest;
                let bytes = listing.document(&member(digest));
                let bytes = bytes.ok_or_else(|| FileError::Missing { digest: digest.clone() })?;
                Verifier::check(digest, descriptor.size, bytes)?;
                Ok(bytes.to_vec())
            }
        }
    }

    /// Reads `oci-layout` or `index.json`.
    ///
    /// # Errors
    /// When it isn't there, isn't a file, or is too large.
    pub(super) fn document(&self, path: &Path, name: &'static str) -> Result<Vec<u8>, LayoutError> {
        match self {
            Self::Folder(folder) => layout::read_file(path, name, folder.follows_symlinks()),
            Self::Archive(index) => {
                let read = index.content(name, MAX_SIZE)?;
                read.ok_or_else(|| LayoutError::NoLayout { path: PathBuf::from(path), missing: name })
            }
            Self::Export(listing) => {
                let read = listing.document(name).map(|bytes| bytes.to_vec());
                read.ok_or_else(|| LayoutError::NoLayout { path: PathBuf::from(path), missing: name })
            }
        }
    }
}

/// The name of a blob's member.
fn member(digest: &Digest) -> String {
    format!("blobs/{}/{}", digest.algorithm().name(), digest.hex())
}

fn in_archive(digest: &Digest, error: TarError) -> FileError {
    match error.flaw {
        Flaw::NotAFile { kind, .. } => FileError::NotAFile { digest: digest.clone(), kind },
        _ => FileError::Archive { digest: digest.clone(), source: error },
    }
}
