//! The last of a layout: a folder in which nothing is left but what makes it one.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::Left;
use crate::oci::digest::Algorithm;
use crate::source::folder::Folder;
use crate::source::layout::{parse_index, read_file};

/// Removes the folder if nothing but a layout's skeleton is in it; says whether it went.
///
/// # Errors
/// With what is left, and why.
pub(super) fn remove(folder: &Folder) -> Result<bool, Left> {
    let root = folder.root();
    let left = |path: &Path| {
        let path = path.to_owned();
        move |source| Left { path, source }
    };
    if !is_skeleton(root, folder).map_err(left(root))? {
        return Ok(false);
    }
    let name = root.file_name().unwrap_or_default().to_string_lossy();
    let aside: PathBuf = root.with_file_name(format!(".{name}.ecr-push-{}", std::process::id()));
    // Moved away first, so that nobody ever sees half a skeleton.
    match fs::rename(root, &aside) {
        Ok(()) => {}
        // A mount point, as volumes of containers are: its space is free, and the folder isn't ours to take.
        Err(error) if error.kind() == io::ErrorKind::ResourceBusy => return Ok(false),
        Err(error) => return Err(left(root)(error)),
    }
    // A builder may have been quicker by a hair, and a folder in it may be a mount point: then all goes back.
    let removed =
        is_skeleton(&aside, folder).and_then(|empty| if empty { dissolve(&aside).map(|()| true) } else { Ok(false) });
    if !matches!(removed, Ok(true)) {
        fs::rename(&aside, root).map_err(left(&aside))?;
    }
    removed.map_err(left(root))
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
fn is_skeleton(root: &Path, folder: &Folder) -> io::Result<bool> {
    let is_file = |kind: fs::FileType| kind.is_file() || folder.follows_symlinks() && kind.is_symlink();
    let is_empty = |folder: &Path| -> io::Result<bool> { Ok(fs::read_dir(folder)?.next().is_none()) };
    for entry in fs::read_dir(root)? {
        let entry = entry?;
        let (kind, path) = (entry.file_type()?, entry.path());
        let expected = match entry.file_name().to_str() {
            Some("oci-layout") => is_file(kind),
            Some("index.json") => {
                let entries = read_file(root, "index.json", folder.follows_symlinks())
                    .and_then(|bytes| parse_index(root, &bytes));
                is_file(kind) && entries.is_ok_and(|entries| entries.is_empty())
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
