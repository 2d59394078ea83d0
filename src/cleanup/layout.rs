//! Removes images from an OCI layout folder: their names, then the blobs that nothing else needs, then an empty folder.
//!
//! A crash at any point leaves a valid layout and at worst some unreferenced blobs, which the next clean-up removes. What a push
//! didn't push is never removed. Builders take no lock, so the index is read again right before everything that can't be
//! undone.

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::aside::{self, Aside};
use super::journal::{self, Journal};
use super::reach::Reach;
use super::removal::{Decision, Removal, decide};
use super::skeleton::Fate;
use super::stamp::Stamp;
use super::{Cleaned, CleanupError, Left, blobs, index, skeleton};
use crate::oci::descriptor::Descriptor;
use crate::oci::digest::{Algorithm, Digest};
use crate::source::folder::Folder;
use crate::source::layout::{LayoutError, Listed};
use crate::source::lock::{self, Lock};

/// The new index, before it takes the old one's place.
const ASIDE: &str = ".index.json.ecr-push";

/// How often a builder may change the index under our hands.
const ROUNDS: usize = 20;

/// Files that go, each as it was seen; none where it couldn't be looked at.
type Victims = BTreeMap<Digest, Option<Stamp>>;

/// What is to go from a layout.
#[derive(Debug, Default)]
pub struct Task {
    /// Images.
    pub removals: Vec<Removal>,
    /// Blobs that nothing named before either, if they were last changed before then.
    pub orphans: Option<SystemTime>,
    /// Whether the folder stays even if nothing is named in it any more.
    pub keeps_folder: bool,
}

/// Takes the layout in `folder` for itself. While others use it `wait` is asked, and `false` gives up. `None` if the folder isn't
/// there any more; what a crash left of it is gone then, too.
///
/// Blocks.
///
/// # Errors
/// When it can't be had. [`CleanupError::Interrupted`] where it `is_stopped`.
pub fn alone(
    folder: &Folder,
    wait: impl FnMut() -> bool,
    is_stopped: impl FnOnce() -> bool,
) -> Result<Option<Lock>, CleanupError> {
    let path = || folder.root().to_owned();
    match lock::alone(folder.root(), wait) {
        Ok(Some(lock)) => Ok(Some(lock)),
        Ok(None) => {
            skeleton::sweep(folder.root());
            Ok(None)
        }
        Err(error) if error.kind() == io::ErrorKind::WouldBlock && is_stopped() => {
            Err(CleanupError::Interrupted { path: path(), cleaned: Cleaned::default(), left: 0 })
        }
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(CleanupError::Locked { path: path() }),
        Err(source) => Err(CleanupError::Kept { path: path(), what: "it can't be locked", source }),
    }
}

/// Does a task in the layout in `folder`, which is `_alone` ours, and ends what a crash cut short there before.
///
/// Blocks. Before each blob `go_on` is asked, and `false` leaves the rest to the next clean-up.
///
/// # Errors
/// When something can't be removed; everything named then is still there, and what isn't was removed.
pub fn clean(
    folder: &Folder,
    task: &Task,
    _alone: &Lock,
    mut go_on: impl FnMut() -> bool,
) -> Result<Cleaned, CleanupError> {
    let root = folder.root();
    may_go(root, task)?;
    if !go_on() {
        return Err(CleanupError::Interrupted { path: root.to_owned(), cleaned: Cleaned::default(), left: 0 });
    }
    let Dropped { cleaned, victims, orphans, shrunk } = drop_entries(folder, task)?;
    let mut sweep =
        Sweep { folder, orphans, cleaned, left: Vec::new(), index: None, needed: HashSet::new(), named: true };
    let ended = sweep.remove(&victims, go_on);
    let Sweep { mut cleaned, mut left, named, .. } = sweep;
    if let Err(Stop { remaining, error }) = ended {
        let path = root.to_owned();
        return Err(match error {
            None => CleanupError::Interrupted { path, cleaned, left: remaining },
            Some(error) if cleaned == Cleaned::default() => error,
            Some(error) => CleanupError::Unfinished { path, cleaned, left: remaining, source: Box::new(error) },
        });
    }
    if left.is_empty() {
        let tidied = tidy(folder, !victims.is_empty());
        left.extend(tidied.err().map(|(path, source)| Left { path, source }));
    }
    if !named && left.is_empty() && !task.keeps_folder {
        match skeleton::remove(folder) {
            Ok(Fate::Gone(freed)) => {
                cleaned.folder = true;
                // The index was another one when all this began.
                cleaned.freed = cleaned.freed.saturating_add_signed(shrunk) + freed;
            }
            Ok(Fate::Stays(kept)) => cleaned.kept = Some(kept),
            Err(remains) => left.push(remains),
        }
    }
    if left.is_empty() { Ok(cleaned) } else { Err(CleanupError::Left { cleaned, left }) }
}

/// What `clean` would do. Changes nothing and takes no lock.
///
/// # Errors
/// When that can't be told, or nothing may be removed.
pub fn plan(folder: &Folder, task: &Task) -> Result<Cleaned, CleanupError> {
    let root = folder.root();
    may_go(root, task)?;
    let closed = |error: rustix::io::Errno| {
        let source = io::Error::from(error);
        CleanupError::Kept { path: root.to_owned(), what: "it can't be written to", source }
    };
    rustix::fs::access(root, rustix::fs::Access::WRITE_OK).map_err(closed)?;
    let (_, entries) = index::read(folder)?;
    let Decision { going, taken, needed } = decide(folder, &entries, &task.removals)?;
    let (victims, orphans) = victims(folder, task, &earlier(root)?, &needed)?;
    let there = |digest: &Digest, stamp: Option<Stamp>| {
        let metadata = fs::symlink_metadata(folder.path(digest)).ok().filter(|metadata| !metadata.is_dir());
        metadata.is_some_and(|metadata| stamp.is_none_or(|stamp| Stamp::of(&metadata) == stamp))
    };
    let victims: BTreeMap<_, _> = victims.iter().filter(|(digest, stamp)| there(digest, **stamp)).collect();
    let paths: HashSet<PathBuf> = victims.keys().map(|digest| folder.path(digest)).collect();
    let mut cleaned =
        Cleaned { blobs: victims.len(), freed: blobs::would_free(paths.iter()), ..gone(&entries, &going, &taken) };
    cleaned.orphans = victims.keys().filter(|digest| orphans.contains(**digest)).count();
    if !going.contains(&false) && !task.keeps_folder {
        let ours = journal::paths(root).into_iter().chain([root.join(ASIDE)]);
        let paths = paths.into_iter().chain(ours).collect();
        let unreadable = |source| LayoutError::Unreadable { path: root.to_owned(), source };
        match skeleton::would_remove(folder, &paths).map_err(unreadable)? {
            Fate::Gone(freed) => {
                cleaned.folder = true;
                cleaned.freed += freed;
            }
            Fate::Stays(kept) => cleaned.kept = Some(kept),
        }
    }
    Ok(cleaned)
}

/// Sees that nothing is to go that may be nowhere else.
fn may_go(root: &Path, task: &Task) -> Result<(), CleanupError> {
    let withheld: Vec<Digest> = task.removals.iter().flat_map(Removal::withheld).cloned().collect();
    if withheld.is_empty() { Ok(()) } else { Err(CleanupError::Withheld { path: root.to_owned(), layers: withheld }) }
}

/// What a run before this one was removing.
fn earlier(root: &Path) -> Result<Journal, CleanupError> {
    let unreadable =
        |source| CleanupError::Kept { path: root.to_owned(), what: "what an earlier run began can't be read", source };
    Journal::read(root).map_err(unreadable)
}

/// What `index.json` was relieved of, and what can follow it.
struct Dropped {
    cleaned: Cleaned,
    victims: Victims,
    /// Those of the victims that nothing named before.
    orphans: HashSet<Digest>,
    /// By how many bytes on disk the new index is smaller.
    shrunk: i64,
}

/// Takes the images' entries out of `index.json`. Where that fails nothing is left behind.
fn drop_entries(folder: &Folder, task: &Task) -> Result<Dropped, CleanupError> {
    let before = earlier(folder.root())?;
    try_to_drop_entries(folder, task, &before).inspect_err(|_| {
        // What goes wrong now is told by what went wrong before.
        let _ = before.restore(folder.root());
    })
}

fn try_to_drop_entries(folder: &Folder, task: &Task, journal: &Journal) -> Result<Dropped, CleanupError> {
    let root = folder.root();
    let kept = |what| move |source| CleanupError::Kept { path: root.to_owned(), what, source };
    for _ in 0..ROUNDS {
        let (bytes, entries) = index::read(folder)?;
        // What can't be understood is found before anything is touched.
        let Decision { going, taken, needed } = decide(folder, &entries, &task.removals)?;
        let (victims, orphans) = victims(folder, task, journal, &needed)?;
        if !victims.is_empty() {
            let images = gone(&entries, &going, &taken).images;
            let journal = Journal::of(&victims, &images, journal);
            journal.write(root).map_err(kept("what is to be removed can't be written down"))?;
        }
        let mut shrunk = 0;
        if going.contains(&true) {
            let path = root.join("index.json");
            let like = fs::metadata(&path).map_err(kept("index.json can't be looked at"))?;
            // A symbolic link's target stays.
            let freed = fs::symlink_metadata(&path).ok().map(|metadata| blobs::freed(&metadata));
            let new = index::without(folder, &bytes, &going)?;
            let aside =
                Aside::write(root.join(ASIDE), path, &new, &like).map_err(kept("a new index.json can't be written"))?;
            if index::read(folder)?.0 != bytes {
                continue;
            }
            aside.take_place().map_err(kept("the new index.json can't take its place"))?;
            let now = fs::metadata(root.join("index.json")).ok().map(|metadata| blobs::on_disk(&metadata));
            shrunk = freed.zip(now).map_or(0, |(freed, now)| freed.cast_signed() - now.cast_signed());
        }
        return Ok(Dropped { cleaned: gone(&entries, &going, &taken), victims, orphans, shrunk });
    }
    Err(CleanupError::Busy { path: root.to_owned() })
}

/// What is told of entries that go.
fn gone(entries: &[Descriptor], going: &[bool], taken: &[bool]) -> Cleaned {
    let name = |entry: &Descriptor| entry.ref_name().map(str::to_owned);
    let mut images: Vec<Listed> = Vec::new();
    for (entry, _) in entries.iter().zip(taken).filter(|(_, taken)| **taken) {
        match images.iter_mut().find(|image| image.digest == entry.digest) {
            Some(image) => image.names.extend(name(entry).filter(|name| !image.names.contains(name))),
            None => images.push(Listed { digest: entry.digest.clone(), names: name(entry).into_iter().collect() }),
        }
    }
    let mut names: Vec<String> = Vec::new();
    for name in entries.iter().zip(going).filter(|(_, going)| **going).filter_map(|(entry, _)| name(entry)) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    Cleaned { names, images, ..Cleaned::default() }
}

/// The files that go, beside those of the journal, if the index is left to what reaches `needed`; and those of them that nothing named before.
fn victims(
    folder: &Folder,
    task: &Task,
    journal: &Journal,
    needed: &HashSet<Digest>,
) -> Result<(Victims, HashSet<Digest>), CleanupError> {
    let mut victims: Victims = journal.blobs.iter().map(|(digest, stamp)| (digest.clone(), Some(*stamp))).collect();
    let reached = task.removals.iter().flat_map(Removal::reached);
    victims.extend(reached.map(|(digest, stamp)| (digest.clone(), *stamp)));
    victims.retain(|digest, _| !needed.contains(digest));
    let elsewhere =
        |source| CleanupError::Kept { path: folder.root().to_owned(), what: "its blobs aren't its own", source };
    blobs::are_inside(folder, victims.keys()).map_err(elsewhere)?;
    let mut orphans = HashSet::new();
    if let Some(before) = task.orphans {
        let unreadable = |(path, source)| CleanupError::Kept { path, what: "it can't be read", source };
        for (digest, stamp) in blobs::older(folder, before).map_err(unreadable)? {
            if !needed.contains(&digest) && !victims.contains_key(&digest) {
                orphans.insert(digest.clone());
                victims.insert(digest, Some(stamp));
            }
        }
    }
    Ok((victims, orphans))
}

/// The removal of blobs, under an index that others may change.
struct Sweep<'a> {
    folder: &'a Folder,
    orphans: HashSet<Digest>,
    cleaned: Cleaned,
    left: Vec<Left>,
    /// The index that was read last.
    index: Option<Stamp>,
    /// What its entries reach.
    needed: HashSet<Digest>,
    /// Whether it has any.
    named: bool,
}

/// Why a removal of blobs ended early.
struct Stop {
    /// Blobs that are still to be removed.
    remaining: usize,
    /// What went wrong, if somebody didn't just ask for it.
    error: Option<CleanupError>,
}

impl Sweep<'_> {
    fn remove(&mut self, victims: &Victims, mut go_on: impl FnMut() -> bool) -> Result<(), Stop> {
        let root = self.folder.root();
        let unsynced = |source| CleanupError::Kept { path: root.to_owned(), what: "it can't be synced", source };
        let stop = |sweep: &Self, at: usize, error| {
            let remaining = victims.keys().skip(at).filter(|digest| !sweep.needed.contains(*digest)).count();
            Stop { remaining, error }
        };
        // Blobs must not go before the index that doesn't name them is on disk.
        if !victims.is_empty() || !self.cleaned.images.is_empty() {
            aside::sync(root).map_err(|error| stop(self, 0, Some(unsynced(error))))?;
        }
        for (at, (digest, stamp)) in victims.iter().enumerate() {
            if !go_on() {
                return Err(stop(self, at, None));
            }
            // A builder may have added an image that shares blobs with this one.
            self.look().map_err(|error| stop(self, at, Some(error)))?;
            if self.needed.contains(digest) {
                continue;
            }
            match blobs::remove(self.folder, digest, *stamp) {
                Ok(None) => {}
                Ok(Some(freed)) => {
                    self.cleaned.blobs += 1;
                    self.cleaned.orphans += usize::from(self.orphans.contains(digest));
                    self.cleaned.freed += freed;
                }
                Err(source) => self.left.push(Left { path: self.folder.path(digest), source }),
            }
        }
        self.look().map_err(|error| stop(self, victims.len(), Some(error)))
    }

    /// Reads the index, if it is another than before.
    fn look(&mut self) -> Result<(), CleanupError> {
        let root = self.folder.root();
        // Of the file itself, be it behind a symbolic link.
        let now = fs::metadata(root.join("index.json")).ok().map(|metadata| Stamp::of(&metadata));
        if self.index.is_none() || self.index != now {
            let (_, entries) = index::read(self.folder)?;
            self.needed = Reach::of_all(self.folder, &entries)?;
            self.named = !entries.is_empty();
            self.index = now;
        }
        Ok(())
    }
}

/// Removes what was needed for the case of a crash.
fn tidy(folder: &Folder, removed: bool) -> Result<(), (PathBuf, io::Error)> {
    let root = folder.root();
    if removed {
        // The journal must not be gone before what it names.
        for algorithm in Algorithm::ALL {
            let path = root.join("blobs").join(algorithm.name());
            if path.is_dir() {
                aside::sync(&path).map_err(|error| (journal::paths(root)[0].clone(), error))?;
            }
        }
    }
    for path in journal::paths(root).into_iter().chain([root.join(ASIDE)]) {
        aside::remove(&path).map_err(|error| (path, error))?;
    }
    Ok(())
}
