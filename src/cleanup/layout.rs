//! Removes an image from an OCI layout folder: its name, then the blobs that nothing else needs, then an empty folder.
//!
//! A crash at any point leaves a valid layout and at worst some unreferenced blobs. What the run didn't push is never
//! removed. Builders take no lock, so the index is read again right before everything that can't be undone.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::reach::needed;
use super::{Cleaned, CleanupError, Left, skeleton};
use crate::image::Image;
use crate::oci::descriptor::Descriptor;
use crate::oci::digest::Digest;
use crate::source::folder::Folder;
use crate::source::layout::{Chosen, is_referrers_index, parse_index, read_file};
use crate::source::lock;

/// The new index, before it takes the old one's place. Always the same name: the next run writes over what a crash left.
const ASIDE: &str = ".index.json.ecr-push";

/// How often a builder may change the index under our hands.
const ROUNDS: usize = 20;

/// What is to be removed from a layout.
#[derive(Debug)]
pub struct Removal {
    /// Only this name, or all names of the image.
    name: Option<String>,
    root: Digest,
    referrers: HashSet<Digest>,
    /// The names that the referrers tag schema gives to lists of what refers to these manifests.
    lists: HashSet<String>,
    reached: HashSet<Digest>,
    withheld: Vec<Digest>,
}

impl Removal {
    /// The removal of `image`, chosen as `chosen`, after it was pushed with all its referrers.
    #[must_use]
    pub fn of(image: &Image, chosen: &Chosen) -> Self {
        let manifests = image.nodes().iter().map(|node| &node.manifest.digest);
        let withheld = image.withheld().iter().filter(|layer| layer.held);
        Self {
            name: chosen.name.clone(),
            root: image.root().manifest.digest.clone(),
            referrers: image.referrers().iter().cloned().collect(),
            lists: manifests.clone().map(Digest::referrers_tag).collect(),
            reached: manifests.chain(image.blobs().map(|blob| &blob.digest)).cloned().collect(),
            withheld: withheld.map(|layer| layer.digest.clone()).collect(),
        }
    }
}

/// Removes an image from the layout in `folder`.
///
/// Blocks. While others use the layout `wait` is asked, and `false` gives up.
///
/// # Errors
/// When it can't be removed, or not wholly; everything named then is still there, and what isn't was removed.
pub fn clean(folder: &Folder, removal: &Removal, wait: impl FnMut() -> bool) -> Result<Cleaned, CleanupError> {
    let root = folder.root();
    if !removal.withheld.is_empty() {
        return Err(CleanupError::Withheld { path: root.to_owned(), layers: removal.withheld.clone() });
    }
    let _lock = match lock::alone(root, wait) {
        Ok(Some(lock)) => lock,
        // Somebody else took the folder away: nothing is left to do.
        Ok(None) => return Ok(Cleaned::default()),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            return Err(CleanupError::Locked { path: root.to_owned() });
        }
        Err(source) => return Err(CleanupError::Kept { path: root.to_owned(), what: "it can't be locked", source }),
    };
    let Dropped { names, lists, entries } = drop_entries(folder, removal)?;
    let mut cleaned = Cleaned { names, ..Cleaned::default() };
    let mut left = Vec::new();
    let needed = needed(folder, &entries)?;
    for digest in removal.reached.iter().chain(&lists).filter(|digest| !needed.contains(*digest)) {
        remove_blob(folder, digest, &mut cleaned, &mut left);
    }
    if entries.is_empty() && left.is_empty() {
        match skeleton::remove(folder) {
            Ok(gone) => cleaned.folder = gone,
            Err(remains) => left.push(remains),
        }
    }
    if left.is_empty() { Ok(cleaned) } else { Err(CleanupError::Left { cleaned, left }) }
}

/// What the index is like without the image.
struct Dropped {
    /// The names that went.
    names: Vec<String>,
    /// Lists of referrers that went.
    lists: Vec<Digest>,
    /// What is in it now.
    entries: Vec<Descriptor>,
}

/// Takes the image's entries out of `index.json`.
fn drop_entries(folder: &Folder, removal: &Removal) -> Result<Dropped, CleanupError> {
    let root = folder.root();
    let kept = |what| move |source| CleanupError::Kept { path: root.to_owned(), what, source };
    let read_index = || read_file(root, "index.json", folder.follows_symlinks());
    for _ in 0..ROUNDS {
        let bytes = read_index()?;
        let entries = parse_index(root, &bytes)?;
        let going = going(root, &entries, removal)?;
        let pick = |gone: bool| entries.iter().zip(&going).filter(move |(_, going)| **going == gone).map(|(e, _)| e);
        let lists = pick(true).filter(|entry| is_referrers_index(entry)).map(|entry| entry.digest.clone()).collect();
        let names = pick(true).filter_map(|entry| entry.ref_name().map(str::to_owned)).collect();
        if going.contains(&true) {
            // What can't be understood is found before anything is touched.
            needed(folder, &pick(false).cloned().collect::<Vec<_>>())?;
            let aside =
                Aside::write(root, &without(&bytes, &going)).map_err(kept("a new index.json can't be written"))?;
            if read_index()? != bytes {
                continue;
            }
            aside.take_place().map_err(kept("the new index.json can't take its place"))?;
            // Blobs must not go before the index that doesn't name them is on disk.
            File::open(root).and_then(|folder| folder.sync_all()).map_err(kept("it can't be synced"))?;
        }
        // Once more, since a builder may have added an image that shares blobs with this one.
        let entries = parse_index(root, &read_index()?)?;
        return Ok(Dropped { names, lists, entries });
    }
    Err(CleanupError::Busy { path: root.to_owned() })
}

/// For each entry, whether it goes.
fn going(root: &Path, entries: &[Descriptor], removal: &Removal) -> Result<Vec<bool>, CleanupError> {
    let is_ours = |entry: &Descriptor| {
        entry.digest == removal.root && (removal.name.is_none() || entry.ref_name() == removal.name.as_deref())
    };
    if let Some(name) = &removal.name
        && !entries.iter().any(is_ours)
        && let Some(moved) = entries.iter().find(|entry| entry.ref_name() == Some(name))
    {
        let (path, name, now) = (root.to_owned(), name.clone(), moved.digest.clone());
        return Err(CleanupError::NameMoved { path, name, now });
    }
    // While another name of the image remains, so does what refers to it.
    let remains = entries.iter().any(|entry| entry.digest == removal.root && !is_ours(entry));
    let refers = |entry: &Descriptor| {
        removal.referrers.contains(&entry.digest)
            || is_referrers_index(entry) && entry.ref_name().is_some_and(|name| removal.lists.contains(name))
    };
    Ok(entries.iter().map(|entry| is_ours(entry) || !remains && refers(entry)).collect())
}

/// `index.json` without the entries that go; whatever else it holds stays as it is.
fn without(bytes: &[u8], going: &[bool]) -> Vec<u8> {
    let mut index: Value = serde_json::from_slice(bytes).unwrap_or_default();
    if let Some(entries) = index["manifests"].as_array_mut() {
        let mut going = going.iter();
        entries.retain(|_| !going.next().copied().unwrap_or_default());
    }
    index.to_string().into_bytes()
}

/// A new index beside the old one; gone again unless it takes its place.
struct Aside<'a> {
    root: &'a Path,
    path: PathBuf,
}

impl<'a> Aside<'a> {
    /// Writes it with the old one's owner and rights, and sees it on disk.
    fn write(root: &'a Path, bytes: &[u8]) -> io::Result<Self> {
        let path = root.join(ASIDE);
        let like = fs::metadata(root.join("index.json"))?;
        // What a crash left, or what somebody put there: a symbolic link is removed and never followed.
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = File::create_new(&path)?;
        let aside = Self { root, path };
        file.set_permissions(like.permissions())?;
        // Only root may give files away; everybody else owns both already, or can't help it.
        let _ = std::os::unix::fs::fchown(&file, Some(like.uid()), Some(like.gid()));
        file.write_all(bytes)?;
        file.sync_all()?;
        Ok(aside)
    }

    fn take_place(self) -> io::Result<()> {
        fs::rename(&self.path, self.root.join("index.json"))
    }
}

impl Drop for Aside<'_> {
    fn drop(&mut self) {
        // Where it took the old one's place there is nothing under this name.
        let _ = fs::remove_file(&self.path);
    }
}

fn remove_blob(folder: &Folder, digest: &Digest, cleaned: &mut Cleaned, left: &mut Vec<Left>) {
    let path = folder.path(digest);
    let Ok(metadata) = fs::symlink_metadata(&path) else { return };
    // With followed symbolic links the folder above may be somebody else's: the links of a layout go, their targets never.
    let outside =
        path.parent().and_then(|parent| fs::canonicalize(parent).ok()).is_none_or(|p| !p.starts_with(folder.root()));
    let removed = if outside { Err(io::Error::other("it lies outside of the layout")) } else { fs::remove_file(&path) };
    match removed {
        Ok(()) => {
            cleaned.blobs += 1;
            if metadata.is_file() && metadata.nlink() == 1 {
                // Blocks are of 512 bytes whatever the file system's are (POSIX, sys/stat.h).
                cleaned.freed += metadata.blocks() * 512;
            }
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(source) => left.push(Left { path, source }),
    }
}
