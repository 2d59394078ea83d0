//! Removes the file of an archive, once everything in it was pushed.
//!
//! A symbolic link is kept, and so is what it leads to: where it is one, the file is another's to remove (Nix's `result`,
//! Bazel's outputs). So is a file that isn't what was read any more.

use std::collections::HashSet;
use std::fs::{self, FileType, Metadata};
use std::io;
use std::os::unix::fs::FileTypeExt;
use std::path::PathBuf;

use super::{Cleaned, CleanupError, blobs};
use crate::image::{Image, Node};
use crate::oci::descriptor::Descriptor;
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
        let withheld = image.withheld().iter().filter(|layer| layer.held).map(|layer| layer.digest.clone());
        Self { withheld: withheld.collect(), ..Self::but_for(archive, layout, image.nodes()) }
    }

    /// The removal of an archive for the image of its layout that `descriptor` describes, whole or not, without a push.
    #[must_use]
    pub fn outright(archive: &Archive, layout: &Layout, descriptor: &Descriptor) -> Self {
        let found = layout.look(descriptor, true);
        let mut removal = Self::but_for(archive, layout, &found.nodes);
        // One that can't be read is in no tree.
        removal.others.retain(|listed| listed.digest != descriptor.digest);
        removal
    }

    /// The removal of an archive if nothing is in it but these manifests and what they reach.
    fn but_for(archive: &Archive, layout: &Layout, nodes: &[Node]) -> Self {
        let mut others = layout.left_out(nodes);
        // What docker would find in it, too.
        let blobs: HashSet<&Digest> =
            nodes.iter().flat_map(|node| node.manifest.blobs()).map(|blob| &blob.digest).collect();
        let beside = listed_beside(archive.index());
        others.extend(beside.into_iter().filter(|listed| !blobs.contains(&listed.digest)));
        Self { others, ..Self::of(archive) }
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
/// Blocks. Nobody else is asked for a lock: who writes an archive takes none. Where the run `is_stopped` the file stays.
///
/// # Errors
/// When it is kept, with the reason.
pub fn clean(removal: &Removal, is_stopped: impl FnOnce() -> bool) -> Result<Cleaned, CleanupError> {
    let Some((path, metadata)) = file(removal)? else { return Ok(none(removal)) };
    if is_stopped() {
        return Err(CleanupError::Interrupted { path, cleaned: Cleaned::default(), left: 0 });
    }
    match fs::remove_file(&path) {
        Ok(()) => Ok(Cleaned { file: Some(true), freed: blobs::freed(&metadata), ..Cleaned::default() }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(none(removal)),
        Err(source) => Err(CleanupError::Kept { path, what: "it can't be removed", source }),
    }
}

/// What `clean` would do.
///
/// # Errors
/// When the file would be kept, with the reason.
pub fn plan(removal: &Removal) -> Result<Cleaned, CleanupError> {
    let freed = file(removal)?.map_or(0, |(_, metadata)| blobs::freed(&metadata));
    Ok(Cleaned { freed, ..none(removal) })
}

/// Where there is nothing to remove: standard input leaves nothing, and a file may be gone already.
fn none(removal: &Removal) -> Cleaned {
    Cleaned { file: Some(removal.path.is_some()), ..Cleaned::default() }
}

/// The file that goes, if it is there.
fn file(removal: &Removal) -> Result<Option<(PathBuf, Metadata)>, CleanupError> {
    let Some(path) = removal.path.clone() else { return Ok(None) };
    if !removal.withheld.is_empty() {
        return Err(CleanupError::Withheld { path, layers: removal.withheld.clone() });
    }
    if !removal.others.is_empty() {
        return Err(CleanupError::HoldsMore { path, others: removal.others.clone() });
    }
    let metadata = match fs::symlink_metadata(&path) {
        Ok(metadata) => metadata,
        // Somebody else took it away: nothing is left to do.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(CleanupError::Kept { path, what: "it can't be looked at", source }),
    };
    if let Some(kind) = other_kind(metadata.file_type()) {
        return Err(CleanupError::NoFile { path, kind });
    }
    if removal.stamp != Some(Stamp::of(&metadata)) {
        return Err(CleanupError::Changed { path });
    }
    Ok(Some((path, metadata)))
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
