//! Removes an image from an OCI layout folder: its name, then the blobs that nothing else needs, then an empty folder.
//!
//! A crash at any point leaves a valid layout and at worst some unreferenced blobs. What the run didn't push is never
//! removed. Builders take no lock, so the index is read again right before everything that can't be undone.

use std::collections::HashSet;
use std::fs::{self, File, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use super::{Cleaned, CleanupError, Left};
use crate::image::Image;
use crate::oci::descriptor::{Descriptor, Kind};
use crate::oci::digest::{Algorithm, Digest};
use crate::oci::manifest::{MAX_SIZE, Manifest};
use crate::source::folder::{FileError, Folder};
use crate::source::layout::{Chosen, is_referrers_index, parse_index, read_file};
use crate::source::walk::Defect;

/// The new index, before it takes the old one's place. Always the same name: the next run writes over what a crash left.
const ASIDE: &str = ".index.json.ecr-push";

/// How often a builder may change the index under our hands.
const ROUNDS: usize = 20;

/// How often a lock that somebody else has is asked for.
const LOCK_POLL: Duration = Duration::from_millis(50);

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
/// Blocks, and waits for another ecr-push that cleans the same layout until `stop` says that it's enough.
///
/// # Errors
/// When it can't be removed, or not wholly; everything named then is still there, and what isn't was removed.
pub fn clean(folder: &Folder, removal: &Removal, stop: impl Fn() -> bool) -> Result<Cleaned, CleanupError> {
    let root = folder.root();
    let kept = |what| move |source| CleanupError::Kept { path: root.to_owned(), what, source };
    if !removal.withheld.is_empty() {
        return Err(CleanupError::Withheld { path: root.to_owned(), layers: removal.withheld.clone() });
    }
    // The lock lies on the folder itself: it needs no file, and goes with the process.
    let lock = match File::open(root) {
        Ok(lock) => lock,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Cleaned::default()),
        Err(error) => return Err(kept("it can't be opened")(error)),
    };
    loop {
        match lock.try_lock() {
            Ok(()) => break,
            Err(TryLockError::WouldBlock) if stop() => return Err(CleanupError::Locked { path: root.to_owned() }),
            // Asked again and again rather than waited for: a signal has to end this.
            Err(TryLockError::WouldBlock) => std::thread::sleep(LOCK_POLL),
            Err(TryLockError::Error(error)) => return Err(kept("it can't be locked")(error)),
        }
    }
    if !is_same_folder(&lock, root) {
        // Whoever held the lock before took the folder away: nothing is left to do.
        return Ok(Cleaned::default());
    }
    let (names, index) = drop_entries(root, removal)?;
    let mut cleaned = Cleaned { names, ..Cleaned::default() };
    let mut left = Vec::new();
    let (entries, lists) = index;
    let needed = needed(folder, &entries)?;
    for digest in removal.reached.iter().chain(&lists).filter(|digest| !needed.contains(*digest)) {
        remove_blob(folder, digest, &mut cleaned, &mut left);
    }
    if entries.is_empty() && left.is_empty() {
        match remove_folder(root) {
            Ok(gone) => cleaned.folder = gone,
            Err(source) => left.push(Left { path: root.to_owned(), source }),
        }
    }
    if left.is_empty() { Ok(cleaned) } else { Err(CleanupError::Left { cleaned, left }) }
}

fn is_same_folder(lock: &File, root: &Path) -> bool {
    match (lock.metadata(), fs::metadata(root)) {
        (Ok(held), Ok(there)) => held.ino() == there.ino() && held.dev() == there.dev(),
        _ => false,
    }
}

type Index = (Vec<Descriptor>, Vec<Digest>);

/// Takes the image's entries out of `index.json`; gives the names that went, and the entries as they are on disk now with
/// the lists of referrers that are gone.
fn drop_entries(root: &Path, removal: &Removal) -> Result<(Vec<String>, Index), CleanupError> {
    let kept = |what| move |source| CleanupError::Kept { path: root.to_owned(), what, source };
    let aside = root.join(ASIDE);
    for _ in 0..ROUNDS {
        let bytes = read_file(root, "index.json", false)?;
        let entries = parse_index(root, &bytes)?;
        let going = going(root, &entries, removal)?;
        let pick = |gone: bool| entries.iter().zip(&going).filter(move |(_, going)| **going == gone).map(|(e, _)| e);
        let lists = pick(true).filter(|entry| is_referrers_index(entry)).map(|entry| entry.digest.clone()).collect();
        let names = pick(true).filter_map(|entry| entry.ref_name().map(str::to_owned)).collect();
        if going.contains(&true) {
            let replacement = without(&bytes, &going);
            write_aside(&aside, root, &replacement).map_err(kept("a new index.json can't be written"))?;
            if read_file(root, "index.json", false)? != bytes {
                continue;
            }
            fs::rename(&aside, root.join("index.json")).map_err(kept("the new index.json can't take its place"))?;
            // Blobs must not go before the index that doesn't name them is on disk.
            File::open(root).and_then(|folder| folder.sync_all()).map_err(kept("it can't be synced"))?;
        }
        // Once more, since a builder may have added an image that shares blobs with this one.
        let entries = parse_index(root, &read_file(root, "index.json", false)?)?;
        return Ok((names, (entries, lists)));
    }
    let _ = fs::remove_file(&aside);
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

/// Writes the new index beside the old one, with its owner and rights, and sees it on disk.
fn write_aside(aside: &Path, root: &Path, bytes: &[u8]) -> io::Result<()> {
    let like = fs::metadata(root.join("index.json"))?;
    // What a crash left, or what somebody put there: a symbolic link is removed and never followed.
    match fs::remove_file(aside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = File::create_new(aside)?;
    file.set_permissions(like.permissions())?;
    // Only root may give files away; everybody else owns both already, or can't help it.
    let _ = std::os::unix::fs::fchown(&file, Some(like.uid()), Some(like.gid()));
    file.write_all(bytes)?;
    file.sync_all()
}

/// Everything that the entries reach. A manifest that isn't there reaches nothing; one that can't be understood stops the
/// clean-up.
fn needed(folder: &Folder, entries: &[Descriptor]) -> Result<HashSet<Digest>, CleanupError> {
    let unclear = |defect| CleanupError::Unclear { path: folder.root().to_owned(), defect: Box::new(defect) };
    let mut reached = HashSet::new();
    let mut waiting: Vec<Descriptor> = entries.to_vec();
    while let Some(descriptor) = waiting.pop() {
        if !reached.insert(descriptor.digest.clone()) {
            continue;
        }
        let digest = &descriptor.digest;
        let is_manifest = matches!(descriptor.media_type.kind(), Kind::Image | Kind::Index);
        if descriptor.size > MAX_SIZE {
            if is_manifest {
                return Err(unclear(Defect::TooLarge { digest: digest.clone(), size: descriptor.size }));
            }
            continue;
        }
        let bytes = match folder.read(&descriptor) {
            Ok(bytes) => bytes,
            Err(FileError::Missing { .. }) => continue,
            Err(error) => return Err(unclear(error.into())),
        };
        if is_manifest {
            let manifest = Manifest::parse(&descriptor.media_type, digest, bytes.into())
                .map_err(|source| unclear(Defect::Manifest { digest: digest.clone(), source }))?;
            reached.extend(manifest.blobs().map(|blob| blob.digest.clone()));
            waiting.extend(manifest.children().iter().cloned());
            // A signature that stays keeps what it signs.
            waiting.extend(manifest.subject);
        } else if let Ok(value) = serde_json::from_slice::<Value>(&bytes) {
            // A type that nobody here knows may point to blobs all the same: whatever looks like a digest is kept.
            gather(&value, &mut reached);
        }
    }
    Ok(reached)
}

fn gather(value: &Value, found: &mut HashSet<Digest>) {
    match value {
        Value::String(text) => found.extend(Digest::parse(text)),
        Value::Array(values) => values.iter().for_each(|value| gather(value, found)),
        Value::Object(fields) => fields.values().for_each(|value| gather(value, found)),
        _ => {}
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

/// Removes the folder if nothing but a layout's skeleton is in it; says whether it went.
fn remove_folder(root: &Path) -> io::Result<bool> {
    if !is_skeleton(root)? {
        return Ok(false);
    }
    let name = root.file_name().unwrap_or_default().to_string_lossy();
    let aside: PathBuf = root.with_file_name(format!(".{name}.ecr-push-{}", std::process::id()));
    // Moved away first, so that nobody ever sees half a skeleton.
    match fs::rename(root, &aside) {
        Ok(()) => {}
        // A mount point, as volumes of containers are: its space is free, and the folder isn't ours to take.
        Err(error) if error.kind() == io::ErrorKind::ResourceBusy => return Ok(false),
        Err(error) => return Err(error),
    }
    // A builder may have been quicker by a hair, and a folder in it may be a mount point: then all goes back.
    let removed = is_skeleton(&aside).and_then(|empty| if empty { dissolve(&aside).map(|()| true) } else { Ok(false) });
    if !matches!(removed, Ok(true)) {
        fs::rename(&aside, root)?;
    }
    removed
}

/// Removes a skeleton, its files last.
fn dissolve(root: &Path) -> io::Result<()> {
    for algorithm in Algorithm::ALL {
        remove_empty(&root.join("blobs").join(algorithm.name()))?;
    }
    for folder in ["blobs", "ingest"] {
        remove_empty(&root.join(folder))?;
    }
    for file in ["oci-layout", "index.json"] {
        fs::remove_file(root.join(file))?;
    }
    fs::remove_dir(root)
}

fn remove_empty(folder: &Path) -> io::Result<()> {
    match fs::remove_dir(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Whether the folder has nothing but `oci-layout`, an index without entries, and empty folders that builders make.
fn is_skeleton(root: &Path) -> io::Result<bool> {
    let is_empty = |folder: &Path| -> io::Result<bool> { Ok(fs::read_dir(folder)?.next().is_none()) };
    for entry in fs::read_dir(root)? {
        let entry = entry?;
        let (kind, path) = (entry.file_type()?, entry.path());
        let expected = match entry.file_name().to_str() {
            Some("oci-layout") => kind.is_file(),
            Some("index.json") => {
                let entries = read_file(root, "index.json", false).and_then(|bytes| parse_index(root, &bytes));
                kind.is_file() && entries.is_ok_and(|entries| entries.is_empty())
            }
            // containerd's content store, which buildx writes through, leaves this one.
            Some("ingest") => kind.is_dir() && is_empty(&path)?,
            Some("blobs") if kind.is_dir() => {
                let mut empty = true;
                for folder in fs::read_dir(&path)? {
                    let folder = folder?;
                    let known = Algorithm::ALL.iter().any(|a| folder.file_name() == a.name());
                    empty &= known && folder.file_type()?.is_dir() && is_empty(&folder.path())?;
                }
                empty
            }
            _ => false,
        };
        if !expected {
            return Ok(false);
        }
    }
    Ok(true)
}
