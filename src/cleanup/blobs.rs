//! The files below `blobs`: which of them nobody knows, what they take on disk, and their removal.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::stamp::Stamp;
use crate::oci::digest::{Algorithm, Digest};
use crate::source::folder::Folder;

/// Whether a file was neither written to nor changed since `before`. Its change time counts as well: what was unpacked or moved
/// just now may have been written long ago.
fn is_older(metadata: &Metadata, before: SystemTime) -> bool {
    changed(metadata) < before
}

/// When a file was last written to, or given another name, owner or place.
pub(crate) fn changed(metadata: &Metadata) -> SystemTime {
    let at = |seconds: i64, nanoseconds: i64| {
        let since = Duration::new(u64::try_from(seconds).unwrap_or(0), u32::try_from(nanoseconds).unwrap_or(0));
        SystemTime::UNIX_EPOCH + since
    };
    at(metadata.mtime(), metadata.mtime_nsec()).max(at(metadata.ctime(), metadata.ctime_nsec()))
}

/// The blobs of a layout that are older than `before`.
///
/// # Errors
/// When a folder of them can't be read; with its path.
pub(super) fn older(folder: &Folder, before: SystemTime) -> Result<BTreeMap<Digest, Stamp>, (PathBuf, io::Error)> {
    let mut found = BTreeMap::new();
    for algorithm in Algorithm::ALL {
        let path = folder.root().join("blobs").join(algorithm.name());
        if is_outside(folder, &path) {
            continue;
        }
        let failed = |error| (path.clone(), error);
        for entry in fs::read_dir(&path).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let name = entry.file_name();
            let Some(digest) = name.to_str().and_then(|hex| Digest::parse(&format!("{}:{hex}", algorithm.name())).ok())
            else {
                continue;
            };
            // Gone meanwhile, and nobody's concern any more.
            let Ok(metadata) = entry.metadata() else { continue };
            let is_blob = metadata.is_file() || folder.follows_symlinks() && metadata.is_symlink();
            if is_blob && is_older(&metadata, before) {
                found.insert(digest, Stamp::of(&metadata));
            }
        }
    }
    Ok(found)
}

/// Whether a folder of blobs isn't there, or is a symbolic link out of the layout: the links of a layout are its own, their
/// targets never.
fn is_outside(folder: &Folder, path: &Path) -> bool {
    fs::canonicalize(path).map_or(true, |path| !path.starts_with(folder.root()))
}

/// Removes a blob if it is the one that was meant, or whatever is there without a stamp; gives the bytes that came back on disk, or
/// `None` if it wasn't there.
pub(super) fn remove(folder: &Folder, digest: &Digest, stamp: Option<Stamp>) -> io::Result<Option<u64>> {
    let path = folder.path(digest);
    let metadata = match fs::symlink_metadata(&path) {
        Ok(metadata) => metadata,
        Err(error) if is_absent(&error) => return Ok(None),
        Err(error) => return Err(error),
    };
    if stamp.is_some_and(|stamp| Stamp::of(&metadata) != stamp) {
        return Ok(None);
    }
    match fs::remove_file(&path) {
        Ok(()) => Ok(Some(freed(&metadata))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether there is nothing of that name.
pub(super) fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// Sees that the folders of these blobs are the layout's own.
///
/// # Errors
/// With the first that lies elsewhere.
pub(super) fn are_inside<'a>(folder: &Folder, mut blobs: impl Iterator<Item = &'a Digest>) -> io::Result<()> {
    let outside = Algorithm::ALL.map(|algorithm| {
        let path = folder.root().join("blobs").join(algorithm.name());
        let elsewhere = fs::canonicalize(path).ok().filter(|path| !path.starts_with(folder.root()));
        (algorithm, elsewhere)
    });
    let elsewhere = blobs.find_map(|blob| {
        let (_, path) = outside.iter().find(|(algorithm, _)| *algorithm == blob.algorithm())?;
        path.clone()
    });
    match elsewhere {
        Some(path) => Err(io::Error::other(format!("{} lies outside of the layout", path.display()))),
        None => Ok(()),
    }
}

/// The bytes on disk that come back when this name of a file goes.
pub(super) fn freed(metadata: &Metadata) -> u64 {
    if metadata.is_dir() || metadata.nlink() == 1 { on_disk(metadata) } else { 0 }
}

/// Blocks are of 512 bytes whatever the file system's are (POSIX, sys/stat.h).
pub(super) fn on_disk(metadata: &Metadata) -> u64 {
    metadata.blocks() * 512
}

/// The bytes on disk that would come back if all of these went.
pub(super) fn would_free<'a>(paths: impl Iterator<Item = &'a PathBuf>) -> u64 {
    // How many of a file's names go: only with the last of them does it.
    let mut files: HashMap<(u64, u64), (u64, Metadata)> = HashMap::new();
    let mut total = 0;
    for metadata in paths.filter_map(|path| fs::symlink_metadata(path).ok()) {
        if metadata.is_dir() {
            total += on_disk(&metadata);
            continue;
        }
        files.entry((metadata.dev(), metadata.ino())).or_insert_with(|| (0, metadata)).0 += 1;
    }
    let whole = files.values().filter(|(names, metadata)| *names == metadata.nlink());
    total + whole.map(|(_, metadata)| on_disk(metadata)).sum::<u64>()
}
