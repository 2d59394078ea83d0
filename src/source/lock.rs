//! The lock on a layout's folder: shared by whoever reads an image from it, alone for whoever removes one.
//!
//! It lies on the folder itself, so that it needs no file, and it ends with its process. Builders know nothing of it.

use std::fs::{self, File, TryLockError};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

/// How often a lock that somebody else has is asked for. Asked again and again rather than waited for: a signal has to
/// be able to end this.
const POLL: Duration = Duration::from_millis(20);

/// Keeps a layout from being cleaned as long as it lives.
#[derive(Debug)]
pub struct Lock {
    _folder: Option<File>,
}

/// Shares the folder at `root` with other readers. While somebody else has it alone `wait` is asked, and `false` gives up.
///
/// Where there can be no lock, as on a file system without them or in a folder that can't be opened, nobody is held back.
///
/// # Errors
/// When `wait` gives up.
pub fn shared(root: &Path, wait: impl FnMut() -> bool) -> io::Result<Lock> {
    // Looked at first: opening a FIFO would wait for its writer.
    let folder = if root.is_dir() { File::open(root).ok() } else { None };
    let Some(folder) = folder else { return Ok(Lock { _folder: None }) };
    match lock(|| folder.try_lock_shared(), wait) {
        Ok(()) => Ok(Lock { _folder: Some(folder) }),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(error),
        Err(_) => Ok(Lock { _folder: None }),
    }
}

/// Takes the folder at `root` alone. While others have it `wait` is asked, and `false` gives up. `None` if the folder went
/// away meanwhile.
///
/// # Errors
/// When `wait` gives up (`WouldBlock`), or the folder can't be opened or locked.
pub fn alone(root: &Path, wait: impl FnMut() -> bool) -> io::Result<Option<Lock>> {
    let folder = match File::open(root) {
        Ok(folder) => folder,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    lock(|| folder.try_lock(), wait)?;
    // Whoever had the lock before may have taken the folder away.
    let held = folder.metadata()?;
    let same = match fs::metadata(root) {
        Ok(there) => held.ino() == there.ino() && held.dev() == there.dev(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => false,
        Err(error) => return Err(error),
    };
    Ok(same.then_some(Lock { _folder: Some(folder) }))
}

fn lock(attempt: impl Fn() -> Result<(), TryLockError>, mut wait: impl FnMut() -> bool) -> io::Result<()> {
    loop {
        match attempt() {
            Ok(()) => return Ok(()),
            Err(TryLockError::Error(error)) => return Err(error),
            Err(TryLockError::WouldBlock) if wait() => std::thread::sleep(POLL),
            Err(TryLockError::WouldBlock) => return Err(io::ErrorKind::WouldBlock.into()),
        }
    }
}
