//! The last of a layout: a folder in which nothing is left but what makes it one.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::{Kept, Left, aside, blobs};
use crate::oci::digest::Algorithm;
use crate::source::folder::Folder;
use crate::source::layout::{LayoutError, parse_index, read_file};
use crate::source::lock;

/// The files that make a folder a layout; these go last.
const FILES: [&str; 2] = ["oci-layout", "index.json"];

/// What became of a skeleton.
#[derive(Debug, Clone)]
pub(super) enum Fate {
    /// It is gone, and so many bytes came back on disk.
    Gone(u64),
    /// It stays.
    Stays(Kept),
}

/// Removes the folder if nothing but a layout's skeleton is in it.
///
/// # Errors
/// With what is left, and why.
pub(super) fn remove(folder: &Folder) -> Result<Fate, Left> {
    let root = folder.root();
    let left = |path: &Path| {
        let path = path.to_owned();
        move |source| Left { path, source }
    };
    // A process of our number may have been killed here: in containers numbers come again.
    sweep(root);
    let parts = match parts(root, folder, None).map_err(left(root))? {
        Parts::All(parts) => parts,
        Parts::Foreign(path) => return Ok(Fate::Stays(Kept::Holds(path))),
    };
    let freed = blobs::would_free(parts.iter());
    let folders: Vec<&PathBuf> =
        parts.iter().filter(|path| path.parent().is_some_and(|it| it.ends_with("blobs"))).collect();
    let aside = root.with_file_name(format!("{}{}", prefix(root), std::process::id()));
    // Moved away first, so that nobody ever sees half a skeleton.
    match fs::rename(root, &aside) {
        Ok(()) => {}
        // A mount point, as volumes of containers are: its space is free, and the folder isn't ours to take.
        Err(error) if error.kind() == io::ErrorKind::ResourceBusy => return Ok(Fate::Stays(Kept::MountPoint)),
        // A folder of an image's lower layer, in a container (Linux, overlayfs: redirect_dir).
        Err(error) if error.kind() == io::ErrorKind::CrossesDevices => {
            return dissolve(root).map(|()| Fate::Gone(freed)).map_err(left(root));
        }
        Err(error) => return Err(left(root)(error)),
    }
    // A builder may have been quicker by a hair, and a folder in it may be a mount point: then all goes back.
    let fate = self::parts(&aside, folder, None).and_then(|parts| match parts {
        Parts::All(_) => dissolve(&aside).map(|()| Fate::Gone(freed)),
        Parts::Foreign(path) => Ok(Fate::Stays(Kept::Holds(path))),
    });
    if matches!(fate, Ok(Fate::Gone(_))) {
        return Ok(Fate::Gone(freed));
    }
    if let Some(gone) = FILES.iter().find(|file| fs::symlink_metadata(aside.join(file)).is_err()) {
        // Nobody should take the half of a skeleton for a layout. Whoever sweeps next removes it.
        let source = fate.err().unwrap_or_else(|| io::Error::other(format!("its {gone} can't be looked at")));
        return Err(Left { path: aside, source });
    }
    fs::rename(&aside, root).map_err(left(&aside))?;
    for folder in folders.iter().filter(|folder| !folder.exists()) {
        // Builders make it anew where they have to.
        let _ = fs::create_dir(folder);
    }
    match fate {
        Err(error) if error.kind() == io::ErrorKind::ResourceBusy => Ok(Fate::Stays(Kept::MountPoint)),
        fate => fate.map_err(left(root)),
    }
}

/// What `remove` would do once the files at `going` are gone, and all entries of the index.
///
/// # Errors
/// When the folder can't be read.
pub(super) fn would_remove(folder: &Folder, going: &HashSet<PathBuf>) -> io::Result<Fate> {
    let root = folder.root();
    let device = |path: &Path| fs::metadata(path).map(|metadata| metadata.dev());
    if let Some(parent) = root.parent()
        && device(root)? != device(parent)?
    {
        return Ok(Fate::Stays(Kept::MountPoint));
    }
    Ok(match parts(root, folder, Some(going))? {
        Parts::All(parts) => Fate::Gone(blobs::would_free(parts.iter())),
        Parts::Foreign(path) => Fate::Stays(Kept::Holds(path)),
    })
}

/// Removes what crashes left of skeletons beside the layout at `root`: nothing is named in them, and nobody works at them.
/// Gives the bytes that came back on disk, or `None` if there was nothing.
pub(crate) fn sweep(root: &Path) -> Option<u64> {
    let prefix = prefix(root);
    let is_ours = |name: &str| {
        name.strip_prefix(&prefix).is_some_and(|id| !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_digit()))
    };
    let beside = root.parent().and_then(|parent| fs::read_dir(parent).ok());
    let mut swept = None;
    for entry in beside.into_iter().flatten().flatten() {
        let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
        if !is_folder || !entry.file_name().to_str().is_some_and(is_ours) {
            continue;
        }
        // Whoever is at it has it locked.
        if let Ok(Some(_lock)) = lock::alone(&entry.path(), || false)
            && let Ok(folder) = Folder::new(&entry.path(), false)
            && let Ok(Parts::All(parts)) = parts(folder.root(), &folder, None)
        {
            let freed = blobs::would_free(parts.iter());
            if dissolve(folder.root()).is_ok() {
                swept = Some(swept.unwrap_or(0) + freed);
            }
        }
    }
    swept
}

/// Removes half a skeleton, which a crash left where a folder can't be moved aside; gives the bytes that came back on disk, or
/// `None` if it is none.
///
/// # Errors
/// With what is left, and why.
pub(crate) fn remove_half(folder: &Folder) -> Result<Option<u64>, Left> {
    let root = folder.root();
    let left = |source| Left { path: root.to_owned(), source };
    let there = FILES.iter().filter(|file| fs::symlink_metadata(root.join(file)).is_ok()).count();
    match parts(root, folder, None).map_err(left)? {
        Parts::All(parts) if there == 1 => {
            let freed = blobs::would_free(parts.iter());
            dissolve(root).map(|()| Some(freed)).map_err(left)
        }
        Parts::All(_) | Parts::Foreign(_) => Ok(None),
    }
}

/// What a skeleton's name begins with while it is removed.
fn prefix(root: &Path) -> String {
    format!(".{}.ecr-push-", root.file_name().unwrap_or_default().to_string_lossy())
}

/// Removes a skeleton, its files last.
fn dissolve(root: &Path) -> io::Result<()> {
    for algorithm in Algorithm::ALL {
        remove_empty(&root.join("blobs").join(algorithm.name()))?;
    }
    for folder in ["blobs", "ingest"] {
        remove_empty(&root.join(folder))?;
    }
    for file in FILES {
        // Only a folder that is busy is a mount point.
        aside::remove(&root.join(file)).map_err(|error| match error.kind() {
            io::ErrorKind::ResourceBusy => io::Error::other(error),
            _ => error,
        })?;
    }
    fs::remove_dir(root)
}

fn remove_empty(folder: &Path) -> io::Result<()> {
    match fs::remove_dir(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// What is in a folder.
enum Parts {
    /// These, and nothing but a skeleton.
    All(Vec<PathBuf>),
    /// Something else, relative to the folder.
    Foreign(PathBuf),
}

/// All files and folders of a skeleton: `oci-layout`, an index without entries, and empty folders that builders make. Some may
/// be gone already; where there is `going` those in it are as good as that, and so are the index's entries.
fn parts(root: &Path, folder: &Folder, going: Option<&HashSet<PathBuf>>) -> io::Result<Parts> {
    let is_file = |kind: fs::FileType| kind.is_file() || folder.follows_symlinks() && kind.is_symlink();
    let goes = |path: &Path| going.is_some_and(|going| going.contains(path));
    // The first thing in a folder that doesn't go.
    let holds = |folder: &Path| -> io::Result<Option<PathBuf>> {
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            if !goes(&path) {
                return Ok(Some(path));
            }
        }
        Ok(None)
    };
    let mut parts = vec![root.to_owned()];
    for entry in fs::read_dir(root)? {
        let entry = entry?;
        let (kind, path) = (entry.file_type()?, entry.path());
        if goes(&path) {
            continue;
        }
        let foreign = match entry.file_name().to_str() {
            Some("oci-layout") if is_file(kind) => None,
            Some("index.json") if is_file(kind) => {
                let read = || read_file(root, "index.json", folder.follows_symlinks());
                let is_empty = || match read().and_then(|bytes| parse_index(root, &bytes)) {
                    Ok(entries) => Ok(entries.is_empty()),
                    Err(LayoutError::Unreadable { source, .. }) => Err(source),
                    Err(_) => Ok(false),
                };
                if going.is_some() || is_empty()? { None } else { Some(path.clone()) }
            }
            // containerd's content store, which buildx writes through, leaves this one.
            Some("ingest") if kind.is_dir() => holds(&path)?,
            Some("blobs") if kind.is_dir() => {
                let mut foreign = None;
                for folder in fs::read_dir(&path)? {
                    let folder = folder?;
                    let known = Algorithm::ALL.iter().any(|a| folder.file_name() == a.name());
                    let is_ours = known && folder.file_type()?.is_dir();
                    foreign = foreign.or(if is_ours { holds(&folder.path())? } else { Some(folder.path()) });
                    parts.push(folder.path());
                }
                foreign
            }
            _ => Some(path.clone()),
        };
        if let Some(foreign) = foreign {
            return Ok(Parts::Foreign(foreign.strip_prefix(root).unwrap_or(&foreign).to_owned()));
        }
        parts.push(path);
    }
    Ok(Parts::All(parts))
}
