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
use super::stamp::Stamp;
use crate::oci::digest::Digest;

/// The journal's name, and what it is called while it is written.
const NAMES: [&str; 2] = [".ecr-push.removing", ".ecr-push.removing.new"];

/// No journal is larger, in bytes.
const MOST: u64 = 64 * 1024 * 1024;

/// The version of its form.
const VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
struct Written {
    version: u32,
    blobs: BTreeMap<String, Stamp>,
}

/// The files that a run before this one was removing from the layout at `root`.
pub(super) fn read(root: &Path) -> BTreeMap<Digest, Stamp> {
    let path = root.join(NAMES[0]);
    let sane = fs::symlink_metadata(&path).is_ok_and(|metadata| metadata.is_file() && metadata.len() <= MOST);
    let bytes = if sane { fs::read(&path).unwrap_or_default() } else { Vec::new() };
    let written = serde_json::from_slice::<Written>(&bytes).ok().filter(|written| written.version == VERSION);
    let blobs = written.map(|written| written.blobs).unwrap_or_default();
    blobs.into_iter().filter_map(|(digest, stamp)| Some((Digest::parse(&digest).ok()?, stamp))).collect()
}

/// Writes down what is about to be removed, and sees it on disk.
pub(super) fn write(root: &Path, blobs: &BTreeMap<Digest, Stamp>) -> io::Result<()> {
    let blobs = blobs.iter().map(|(digest, stamp)| (digest.to_string(), *stamp)).collect();
    let bytes = serde_json::to_vec(&Written { version: VERSION, blobs }).map_err(io::Error::from)?;
    let like = fs::metadata(root.join("index.json"))?;
    let [path, new] = NAMES.map(|name| root.join(name));
    Aside::write(new, path, &bytes, &like)?.take_place()?;
    sync(root)
}

/// Puts it back as it was `before`.
pub(super) fn restore(root: &Path, before: &BTreeMap<Digest, Stamp>) -> io::Result<()> {
    if before.is_empty() { paths(root).iter().try_for_each(|path| remove(path)) } else { write(root, before) }
}

/// Where it lies, be it there or not, and what it is called while it is written.
pub(super) fn paths(root: &Path) -> [PathBuf; 2] {
    NAMES.map(|name| root.join(name))
}
