//! What a run is about to remove, in a file of the layout's folder: whoever cleans the layout next ends what a crash cut short.
//!
//! A file is removed by its word only if it is still the one that was meant, and nothing that is named needs it. A journal that
//! makes no sense is none.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::aside::{Aside, remove, sync};
use super::blobs::is_absent;
use super::stamp::Stamp;
use crate::oci::digest::Digest;
use crate::source::Choice;
use crate::source::layout::Listed;

/// The journal's name, and what it is called while it is written.
const NAMES: [&str; 2] = [".ecr-push.removing", ".ecr-push.removing.new"];

/// No journal is larger, in bytes.
const MOST: u64 = 64 * 1024 * 1024;

/// The version of its form.
const VERSION: u32 = 1;

/// What is being removed.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Journal {
    version: u32,
    /// The names that go.
    names: Vec<String>,
    /// The images that go, or lose names.
    images: Vec<Digest>,
    /// The files that go.
    pub(super) blobs: BTreeMap<Digest, Stamp>,
}

impl Journal {
    /// Of these files and images, after what an earlier run was removing.
    pub(super) fn of(blobs: &BTreeMap<Digest, Option<Stamp>>, images: &[Listed], earlier: &Self) -> Self {
        let names = images.iter().flat_map(|image| &image.names);
        Self {
            version: VERSION,
            names: earlier.names.iter().chain(names).cloned().collect(),
            images: earlier.images.iter().chain(images.iter().map(|image| &image.digest)).cloned().collect(),
            blobs: blobs.iter().filter_map(|(digest, stamp)| Some((digest.clone(), (*stamp)?))).collect(),
        }
    }

    /// What a run before this one was removing from the layout at `root`.
    ///
    /// # Errors
    /// When there is a journal that can't be read.
    pub(crate) fn read(root: &Path) -> io::Result<Self> {
        let path = root.join(NAMES[0]);
        let bytes = match fs::symlink_metadata(&path) {
            Ok(metadata) if metadata.is_file() && metadata.len() <= MOST => fs::read(&path)?,
            Ok(_) => Vec::new(),
            Err(error) if is_absent(&error) => Vec::new(),
            Err(error) => return Err(error),
        };
        let written = serde_json::from_slice::<Self>(&bytes).ok().filter(|written| written.version == VERSION);
        Ok(written.unwrap_or_default())
    }

    /// Writes down what is about to be removed, and sees it on disk.
    pub(super) fn write(&self, root: &Path) -> io::Result<()> {
        let bytes = serde_json::to_vec(self).map_err(io::Error::from)?;
        let like = fs::metadata(root.join("index.json"))?;
        let [path, new] = NAMES.map(|name| root.join(name));
        Aside::write(new, path, &bytes, &like)?.take_place()?;
        sync(root)
    }

    /// Puts it back as it was.
    pub(super) fn restore(&self, root: &Path) -> io::Result<()> {
        if self.blobs.is_empty() { paths(root).iter().try_for_each(|path| remove(path)) } else { self.write(root) }
    }

    /// Whether anything is left to do of it.
    pub(crate) fn is_empty(&self) -> bool {
        self.blobs.is_empty()
    }

    /// Whether it is about what `choice` chooses.
    pub(crate) fn is_about(&self, choice: &Choice) -> bool {
        match choice {
            Choice::Only => !self.is_empty(),
            Choice::Name(name) => self.names.contains(name),
            Choice::Digest(digest) => self.images.contains(digest),
        }
    }
}

/// Where it lies, be it there or not, and what it is called while it is written.
pub(super) fn paths(root: &Path) -> [PathBuf; 2] {
    NAMES.map(|name| root.join(name))
}
