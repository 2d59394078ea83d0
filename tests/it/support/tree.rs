//! A snapshot of a folder, to see that nothing in it changed.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::layout::sha256;

/// Every path below a folder, with everything that a run could change about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Tree(BTreeMap<PathBuf, Thing>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Thing {
    mode: u32,
    modified: (i64, i64),
    content: String,
}

impl Tree {
    /// What is at `path` now; nothing if it isn't there.
    pub(crate) fn of(path: &Path) -> Self {
        let mut things = BTreeMap::new();
        walk(path, Path::new(""), &mut things);
        Self(things)
    }

    /// Asserts that nothing was added, taken away or changed.
    #[track_caller]
    pub(crate) fn is_unchanged(&self, path: &Path) {
        assert_eq!(&Self::of(path), self, "{} was changed", path.display());
    }

    /// The paths, relative to the folder.
    pub(crate) fn paths(&self) -> Vec<&Path> {
        self.0.keys().filter(|path| !path.as_os_str().is_empty()).map(PathBuf::as_path).collect()
    }
}

fn walk(root: &Path, inside: &Path, things: &mut BTreeMap<PathBuf, Thing>) {
    let path = if inside.as_os_str().is_empty() { root.to_owned() } else { root.join(inside) };
    let Ok(metadata) = fs::symlink_metadata(&path) else { return };
    let kind = metadata.file_type();
    let content = if kind.is_symlink() {
        format!("link to {:?}", fs::read_link(&path))
    } else if kind.is_file() {
        fs::read(&path).map_or_else(|error| error.to_string(), |bytes| sha256(&bytes))
    } else {
        format!("{kind:?}")
    };
    let modified = (metadata.mtime(), metadata.mtime_nsec());
    things.insert(inside.to_owned(), Thing { mode: metadata.mode(), modified, content });
    if kind.is_dir() {
        for entry in fs::read_dir(&path).into_iter().flatten().flatten() {
            walk(root, &inside.join(entry.file_name()), things);
        }
    }
}
