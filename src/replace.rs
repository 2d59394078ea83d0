//! Puts a file in another's place: it is there wholly or not at all, whatever happens meanwhile.
//!
//! What is written lies beside it until then, locked for as long as its writer lives. Nobody has locked what a killed one left
//! behind, so that whoever replaces the same file next removes it. Refuses to follow what others put in its way.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// How often what was just made may be taken away by somebody who takes it for left behind.
const ATTEMPTS: usize = 20;

/// Letters of a name that nobody else has.
const LETTERS: usize = 10;

/// How a file is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// For this user alone. After a crash of the machine it may be gone.
    Private,
    /// As this user makes files, and on disk before it takes the other's place.
    Kept,
}

/// Writes `bytes` to the file at `path`, in the place of what is there.
///
/// Blocks.
///
/// # Errors
/// When it can't be written; what was there is as it was then.
pub fn replace(path: &Path, bytes: &[u8], how: How) -> io::Result<()> {
    let prefix = prefix(path).ok_or(io::ErrorKind::InvalidFilename)?;
    // An empty parent is the folder that we are in.
    let folder = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    sweep(folder, &prefix);
    let (mut file, aside) = aside(folder, &prefix, how)?;
    let mut written = file.write_all(bytes);
    if how == How::Kept {
        written = written.and_then(|()| file.sync_all());
    }
    let written = written.and_then(|()| fs::rename(&aside, path));
    if written.is_err() {
        let _ = fs::remove_file(&aside);
    }
    written
}

/// What the name of a file begins with that is to take the place of `path`.
fn prefix(path: &Path) -> Option<OsString> {
    let mut prefix = OsString::from(".");
    prefix.push(path.file_name()?);
    prefix.push(".ecr-push-");
    Some(prefix)
}

/// A new file, which is locked.
fn aside(folder: &Path, prefix: &OsString, how: How) -> io::Result<(File, PathBuf)> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    if how == How::Private {
        options.mode(0o600);
    }
    for _ in 0..ATTEMPTS {
        let mut name = prefix.clone();
        name.push((0..LETTERS).map(|_| fastrand::alphanumeric()).collect::<String>());
        let path = folder.join(name);
        let file = options.open(&path)?;
        // Somebody who sweeps may have been quicker: then it is gone, or about to be.
        if !matches!(file.try_lock(), Err(TryLockError::WouldBlock)) && file.metadata()?.nlink() > 0 {
            return Ok((file, path));
        }
        let _ = fs::remove_file(path);
    }
    Err(io::ErrorKind::ResourceBusy.into())
}

/// Removes what killed writers left behind.
fn sweep(folder: &Path, prefix: &OsString) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let rest = name.as_encoded_bytes().strip_prefix(prefix.as_encoded_bytes());
        let is_ours = rest.is_some_and(|rest| rest.len() == LETTERS && rest.iter().all(u8::is_ascii_alphanumeric));
        if is_ours && entry.file_type().is_ok_and(|kind| kind.is_file()) {
            let _ = remove_abandoned(&entry.path());
        }
    }
}

/// Removes a file unless its writer lives.
fn remove_abandoned(path: &Path) -> io::Result<()> {
    let no_follow = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
    let flags = i32::try_from(no_follow.bits()).map_err(io::Error::other)?;
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    match file.try_lock() {
        // Held until it is gone, so that nobody who just made it begins to write meanwhile.
        Ok(()) => fs::remove_file(path),
        // On a file system without locks nobody knows.
        Err(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let names = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<_> = names.collect();
        names.sort();
        names
    }

    #[test]
    fn a_file_is_replaced_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        for (text, how) in [("a", How::Kept), ("bb", How::Private), ("c", How::Kept)] {
            replace(&path, text.as_bytes(), how).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
            let mode = fs::metadata(&path).unwrap().permissions().mode() & 0o777;
            assert_eq!(mode == 0o600, how == How::Private, "{mode:o}");
        }
        assert_eq!(names(folder.path()), ["file"]);
        assert!(replace(&folder.path().join("nowhere/file"), b"", How::Kept).is_err());
        assert!(replace(Path::new("/"), b"", How::Kept).is_err());
        fs::create_dir(folder.path().join("taken")).unwrap();
        assert!(replace(&folder.path().join("taken"), b"", How::Kept).is_err());
        assert_eq!(names(folder.path()), ["file", "taken"]);
    }

    #[test]
    fn what_is_left_behind_goes_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let others =
            [".file.ecr-push-", ".file.ecr-push-abc", ".file.ecr-push-0123456789x", ".other.ecr-push-0123456789"];
        for name in others {
            fs::write(at(name), "somebody's").unwrap();
        }
        symlink("nowhere", at(".file.ecr-push-ABCDEFGHIJ")).unwrap();
        fs::write(at(".file.ecr-push-abandoned0"), "half").unwrap();
        let lives = File::create(at(".file.ecr-push-livingone0")).unwrap();
        lives.lock().unwrap();
        replace(&at("file"), b"whole", How::Private).unwrap();
        let mut expected = others.map(str::to_owned).to_vec();
        expected.extend([".file.ecr-push-ABCDEFGHIJ", ".file.ecr-push-livingone0", "file"].map(str::to_owned));
        expected.sort();
        assert_eq!(names(folder.path()), expected);
        drop(lives);
        replace(&at("file"), b"whole", How::Private).unwrap();
        expected.retain(|name| name != ".file.ecr-push-livingone0");
        assert_eq!(names(folder.path()), expected);
    }

    #[test]
    fn of_many_who_write_at_once_one_is_read_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let text = |number: u8| vec![number; 10_000];
        replace(&path, &text(0), How::Private).unwrap();
        let is_over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let writers: Vec<_> = (1..5)
                .map(|number| {
                    let path = &path;
                    scope.spawn(move || (0..50).for_each(|_| replace(path, &text(number), How::Private).unwrap()))
                })
                .collect();
            scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    let read = fs::read(&path).unwrap();
                    assert_eq!(read, text(read[0]));
                }
            });
            let ended: Vec<_> = writers.into_iter().map(std::thread::ScopedJoinHandle::join).collect();
            is_over.store(true, Ordering::Relaxed);
            assert!(ended.iter().all(Result::is_ok));
        });
        assert_eq!(names(folder.path()), ["file"]);
    }
}
