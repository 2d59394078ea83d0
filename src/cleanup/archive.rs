//! Removes the file of an archive, once everything in it was pushed.
//!
//! A symbolic link is kept, and so is what it leads to: where it is one, the file is another's to remove (Nix's `result`,
//! Bazel's outputs). So is a file that isn't what was read any more.

use std::fs::{self, FileType};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::PathBuf;

use super::{Cleaned, CleanupError};
use crate::image::Image;
use crate::oci::digest::Digest;
use crate::source::archive::{Archive, Stamp};
use crate::source::docker::{DockerArchive, DockerImage, listed_beside};
use crate::source::layout::{Layout, Listed};

/// The removal of an archive's file.
#[derive(Debug)]
pub struct Removal {
    /// Its path; none for standard input.
    path: Option<PathBuf>,
    /// What the file looked like when it was opened; none if it was no regular file.
    stamp: Option<Stamp>,
    /// What is in it and wasn't pushed.
    others: Vec<Listed>,
    /// Layers in it that must not be pushed.
    withheld: Vec<Digest>,
}

impl Removal {
    /// The removal of an archive after `image` of its layout was pushed with all its referrers.
    #[must_use]
    pub fn of_layout(archive: &Archive, layout: &Layout, image: &Image) -> Self {
        let mut others = layout.left_out(image);
        // What docker would find in it, too.
        let beside = listed_beside(archive.index());
        others.extend(beside.into_iter().filter(|listed| image.blob(&listed.digest).is_none()));
        let withheld = image.withheld().iter().filter(|layer| layer.held).map(|layer| layer.digest.clone());
        Self { others, withheld: withheld.collect(), ..Self::of(archive) }
    }

    /// The removal of an archive after `image` of it was pushed.
    #[must_use]
    pub fn of_docker(docker: &DockerArchive, image: &DockerImage) -> Self {
        Self { others: docker.left_out(image), ..Self::of(docker.archive()) }
    }

    fn of(archive: &Archive) -> Self {
        let path = (!archive.is_standard_input()).then(|| archive.path().to_owned());
        Self { path, stamp: archive.stamp(), others: Vec::new(), withheld: Vec::new() }
    }
}

/// Removes the file.
///
/// Blocks. Nobody else is asked for a lock: who writes an archive takes none.
///
/// # Errors
/// When it is kept, with the reason.
pub fn clean(removal: &Removal) -> Result<Cleaned, CleanupError> {
    let Some(path) = &removal.path else { return Ok(Cleaned { file: Some(false), ..Cleaned::default() }) };
    let path = || path.clone();
    if !removal.withheld.is_empty() {
        return Err(CleanupError::Withheld { path: path(), layers: removal.withheld.clone() });
    }
    if !removal.others.is_empty() {
        return Err(CleanupError::HoldsMore { path: path(), others: removal.others.clone() });
    }
    let gone = Ok(Cleaned { file: Some(true), ..Cleaned::default() });
    let metadata = match fs::symlink_metadata(path()) {
        Ok(metadata) => metadata,
        // Somebody else took it away: nothing is left to do.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return gone,
        Err(source) => return Err(CleanupError::Kept { path: path(), what: "it can't be looked at", source }),
    };
    if let Some(kind) = other_kind(metadata.file_type()) {
        return Err(CleanupError::NoFile { path: path(), kind });
    }
    if removal.stamp != Some(Stamp::of(&metadata)) {
        return Err(CleanupError::Changed { path: path() });
    }
    match fs::remove_file(path()) {
        // Blocks are of 512 bytes whatever the file system's are (POSIX, sys/stat.h).
        Ok(()) if metadata.nlink() == 1 => {
            Ok(Cleaned { file: Some(true), freed: metadata.blocks() * 512, ..Cleaned::default() })
        }
        Ok(()) => gone,
        Err(error) if error.kind() == io::ErrorKind::NotFound => gone,
        Err(source) => Err(CleanupError::Kept { path: path(), what: "it can't be removed", source }),
    }
}

/// What it is if it is no regular file.
fn other_kind(kind: FileType) -> Option<&'static str> {
    if kind.is_file() {
        None
    } else if kind.is_symlink() {
        Some("a symbolic link")
    } else if kind.is_fifo() {
        Some("a FIFO")
    } else if kind.is_dir() {
        Some("a folder")
    } else {
        Some("a device")
    }
}
