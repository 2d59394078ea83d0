//! The last of a layout: a folder in which nothing is left but what makes it one.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::{Left, aside, blobs};
use crate::oci::digest::Algorithm;
use crate::source::folder::Folder;
use crate::source::layout::{LayoutError, parse_index, read_file};
use crate::source::lock;

/// The files that make a folder a layout; these go last.
const FILES: [&str; 2] = ["oci-layout", "index.json"];

/// What became of a skeleton.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Removed {
    /// Whether the folder went.
    pub(super) folder: bool,
    /// Bytes that came back on disk.
    pub(super) freed: u64,
}

/// Removes the folder if nothing but a layout's skeleton is in it.
///
/// # Errors
/// With what is left, and why.
pub(super) fn remove(folder: &Folder) -> Result<Removed, Left> {
    let root = folder.root();
    let left = |path: &Path| {
        let path = path.to_owned();
        move |source| Left { path, source }
    };
    let Some(parts) = parts(root, folder, None).map_err(left(root))? else {
        return Ok(Removed::default());
    };
    let removed = Removed { folder: true, freed: blobs::would_free(parts.iter()) };
    let aside = root.with_file_name(format!("{}{}", prefix(root), std::process::id()));
    // Moved away first, so that nobody ever sees half a skeleton.
    match fs::rename(root, &aside) {
        Ok(()) => {}
        // A mount point, as volumes of containers are: its space is free, and the folder isn't ours to take.
        Err(error) if error.kind() == io::ErrorKind::ResourceBusy => return Ok(Removed::default()),
        // A folder of an image's lower layer, in a container (Linux, overlayfs: redirect_dir).
        Err(error) if error.kind() == io::ErrorKind::CrossesDevices => {
            return dissolve(root).map(|()| removed).map_err(left(root));
        }
        Err(error) => return Err(left(root)(error)),
    }
    // A builder may have been quicker by a hair, and a folder in it may be a mount point: then all goes back.
    let gone = self::parts(&aside, folder, None).and_then(|parts| match parts {
        Some(_) => match dissolve(&aside) {
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy => Ok(false),
            dissolved => dissolved.map(|()| true),
        },
        None => Ok(false),
    });
    match gone {
        Ok(true) => Ok(removed),
        // Nobody should take the half of a skeleton for a layout. Whoever sweeps next removes it.
        Err(source) if FILES.iter().any(|file| fs::symlink_metadata(aside.join(file)).is_err()) => {
            Err(Left { path: aside, source })
        }
        kept => {
            fs::rename(&aside, root).map_err(left(&aside))?;
            kept.map(|_| Removed::default()).map_err(left(root))
        }
    }
}

/// What `remove` would do once the files at `going` are gone, and all entries of the index.
///
/// # Errors
/// When the folder can't be read.
pub(super) fn would_remove(folder: &Folder, going: &HashSet<PathBuf>) -> io::Result<Removed> {
    let parts = parts(folder.root(), folder, Some(going))?;
    Ok(parts.map_or_else(Removed::default, |parts| Removed { folder: true, freed: blobs::would_free(parts.iter()) }))
}

/// Removes what crashes left of skeletons beside the layout at `root`: nothing is named in them, and nobody works at them.
/// Says whether there was one.
pub(crate) fn sweep(root: &Path) -> bool {
    let prefix = prefix(root);
    let is_ours = |name: &str| {
        name.strip_prefix(&prefix).is_some_and(|id| !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_digit()))
    };
    let beside = root.parent().and_then(|parent| fs::read_dir(parent).ok());
    let mut swept = false;
    for entry in beside.into_iter().flatten().flatten() {
        let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
        if !is_folder || !entry.file_name().to_str().is_some_and(is_ours) {
            continue;
        }
        // Whoever is at it has it locked.
        if let Ok(Some(_lock)) = lock::alone(&entry.path(), || false)
            && let Ok(folder) = Folder::new(&entry.path(), false)
            && let Ok(Some(_)) = parts(folder.root(), &folder, None)
        {
            swept |= dissolve(folder.root()).is_ok();
        }
    }
    swept
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
        aside::remove(&root.join(file))?;
    }
    fs::remove_dir(root)
}

fn remove_empty(folder: &Path) -> io::Result<()> {
    match fs::remove_dir(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// All files and folders of a skeleton: `oci-layout`, an index without entries, and empty folders that builders make. Some may
/// be gone already; where there is `going` those in it are as good as that, and so are the index's entries. `None` if there is
/// something else.
fn parts(root: &Path, folder: &Folder, going: Option<&HashSet<PathBuf>>) -> io::Result<Option<Vec<PathBuf>>> {
    let is_file = |kind: fs::FileType| kind.is_file() || folder.follows_symlinks() && kind.is_symlink();
    let goes = |path: &Path| going.is_some_and(|going| going.contains(path));
    let is_empty = |folder: &Path| -> io::Result<bool> {
        for entry in fs::read_dir(folder)? {
            if !goes(&entry?.path()) {
                return Ok(false);
            }
        }
        Ok(true)
    };
    let mut parts = vec![root.to_owned()];
    for entry in fs::read_dir(root)? {
        let entry = entry?;
        let (kind, path) = (entry.file_type()?, entry.path());
        if goes(&path) {
            continue;
        }
        let expected = match entry.file_name().to_str() {
            Some("oci-layout") => is_file(kind),
            Some("index.json") => {
                let read = || read_file(root, "index.json", folder.follows_symlinks());
                let is_empty = || match read().and_then(|bytes| parse_index(root, &bytes)) {
                    Ok(entries) => Ok(entries.is_empty()),
                    Err(LayoutError::Unreadable { source, .. }) => Err(source),
                    Err(_) => Ok(false),
                };
                is_file(kind) && (going.is_some() || is_empty()?)
            }
            // containerd's content store, which buildx writes through, leaves this one.
            Some("ingest") => kind.is_dir() && is_empty(&path)?,
            Some("blobs") if kind.is_dir() => {
                let mut empty = true;
                for folder in fs::read_dir(&path)? {
                    let folder = folder?;
                    let known = Algorithm::ALL.iter().any(|a| folder.file_name() == a.name());
                    empty &= known && folder.file_type()?.is_dir() && is_empty(&folder.path())?;
                    parts.push(folder.path());
                }
                empty
            }
            _ => false,
        };
        if !expected {
            return Ok(None);
        }
        parts.push(path);
    }
    Ok(Some(parts))
}
