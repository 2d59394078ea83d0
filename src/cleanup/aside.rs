//! Puts a file of the layout's folder in the place of an old one so that a crash leaves the one or the other.

use std::fs::{self, File, Metadata};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// A new file beside the old one; gone again unless it takes its place.
pub(super) struct Aside {
    path: PathBuf,
    target: PathBuf,
}

impl Aside {
    /// Writes what is to take `target`'s place to `path`, in the same folder, with the owner and the rights of `like`, and sees
    /// it on disk. Always the same path: the next run writes over what a crash left.
    pub(super) fn write(path: PathBuf, target: PathBuf, bytes: &[u8], like: &Metadata) -> io::Result<Self> {
        // What a crash left, or what somebody put there: a symbolic link is removed and never followed.
        remove(&path)?;
        let mut file = File::create_new(&path)?;
        let aside = Self { path, target };
        file.set_permissions(like.permissions())?;
        // Only root may give files away; everybody else owns both already, or can't help it.
        let _ = std::os::unix::fs::fchown(&file, Some(like.uid()), Some(like.gid()));
        file.write_all(bytes)?;
        file.sync_all()?;
        Ok(aside)
    }

    /// Takes the old one's place.
    pub(super) fn take_place(self) -> io::Result<()> {
        let stamp =
            |path: &Path| fs::symlink_metadata(path).map(|it| (it.ino(), it.len(), it.mtime(), it.mtime_nsec()));
        let before = stamp(&self.path);
        match fs::rename(&self.path, &self.target) {
            // A network file system that asks twice says so of what it has done (Linux NFS FAQ, A10).
            Err(_) if before.is_ok_and(|before| stamp(&self.target).is_ok_and(|now| now == before)) => Ok(()),
            renamed => renamed,
        }
    }
}

impl Drop for Aside {
    fn drop(&mut self) {
        // Where it took the old one's place there is nothing under this name.
        let _ = fs::remove_file(&self.path);
    }
}

/// Removes a file, if it is there.
pub(super) fn remove(path: &Path) -> io::Result<()> {
    // Where nothing may be removed this is refused before it is seen that there is nothing.
    if fs::symlink_metadata(path).is_err_and(|error| error.kind() == io::ErrorKind::NotFound) {
        return Ok(());
    }
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Sees on disk what was renamed and removed in a folder.
pub(super) fn sync(folder: &Path) -> io::Result<()> {
    match File::open(folder).and_then(|folder| folder.sync_all()) {
        // File systems of other machines may have nothing to do for a folder, and say so.
        Err(error) if matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported) => Ok(()),
        synced => synced,
    }
}
