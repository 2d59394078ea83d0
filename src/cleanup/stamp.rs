//! Tells a blob's file from another that somebody puts in its place.

use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::blobs;

/// What changes when a file is written to, and when another takes its name. Not its change time, which another name of the
/// same file changes, too; nor its device, which isn't the same after every mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stamp {
    inode: u64,
    size: u64,
    /// Seconds since 1970, and nanoseconds.
    modified: (i64, i64),
}

impl Stamp {
    /// What a file looks like.
    #[must_use]
    pub fn of(metadata: &Metadata) -> Self {
        Self { inode: metadata.ino(), size: metadata.len(), modified: (metadata.mtime(), metadata.mtime_nsec()) }
    }

    /// What the file at `path` looks like, a symbolic link as one; none if there is none.
    ///
    /// # Errors
    /// When it can't be looked at.
    pub fn at(path: &Path) -> io::Result<Option<Self>> {
        match fs::symlink_metadata(path) {
            Ok(metadata) => Ok(Some(Self::of(&metadata))),
            Err(error) if blobs::is_absent(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }
}
