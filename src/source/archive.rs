//! A tar that holds images: opened, told apart by its content, and indexed. Nothing is unpacked beside it.
//!
//! A plain tar in a file is read where it lies. What is packed, and what comes from a pipe, goes through an unlinked
//! temporary file. What the images are is `layout`'s and `docker`'s to say.

mod foreign;
pub(super) mod inner;

use std::fs::{File, Metadata};
use std::io::{self, IsTerminal, Read, Seek};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use thiserror::Error;

pub use self::foreign::Foreign;
use super::Form;
use super::spool::{SpoolError, spool};
use super::tar::{TarError, TarIndex};
use crate::compress::{Packing, packing};
use crate::oci::descriptor::Descriptor;

/// What standard input is called, for people.
const STANDARD_INPUT: &str = "standard input";

/// Bytes that are looked at to tell what a file is: a tar's first header.
const BEGIN: usize = 512;

/// Why there is no archive to read images from.
#[derive(Debug, Error)]
pub enum ArchiveError {
    /// It can't be opened or read.
    #[error("{} can't be read", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A folder, a socket, a disk.
    #[error("{} is {kind} and not a file", path.display())]
    NotAFile {
        /// The path.
        path: PathBuf,
        /// What it is.
        kind: &'static str,
    },
    /// Nobody writes to standard input.
    #[error("standard input is a terminal, and an archive is expected there")]
    Terminal,
    /// There is nothing in it.
    #[error("{} is empty", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// Something else than a tar.
    #[error("{} is {} and not a tar", path.display(), what.name())]
    Foreign {
        /// The file.
        path: PathBuf,
        /// What it is.
        what: Foreign,
    },
    /// It couldn't be unpacked, or not be kept.
    #[error("{} can't be unpacked or kept", path.display())]
    Spool {
        /// The file.
        path: PathBuf,
        /// Why.
        source: SpoolError,
    },
    /// The tar isn't sound.
    #[error(transparent)]
    Tar(#[from] TarError),
    /// The files of a container, as `docker export` writes them.
    #[error("{} holds the files of a container, and no image", path.display())]
    Filesystem {
        /// The file.
        path: PathBuf,
    },
    /// What `docker save` wrote before version 1.10.
    #[error("{} is a docker archive from before Docker 1.10: it has `repositories` and no `manifest.json`", path.display())]
    Old {
        /// The file.
        path: PathBuf,
    },
    /// The images are in a folder in it.
    #[error("{} holds an image in its folder {folder:?}, and not at its top", path.display())]
    Nested {
        /// The file.
        path: PathBuf,
        /// The folder.
        folder: String,
    },
    /// Neither kind of archive.
    #[error("{} holds no image: it has neither `index.json` nor `manifest.json`", path.display())]
    NoImage {
        /// The file.
        path: PathBuf,
    },
    /// Not what it was said to be.
    #[error("{} is no {}: it has no `{missing}`", path.display(), said.name())]
    NotSaid {
        /// The file.
        path: PathBuf,
        /// What it was said to be.
        said: Form,
        /// The member that isn't there.
        missing: &'static str,
    },
}

/// What changes when a file does, and when another takes its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    place: [u64; 2],
    size: u64,
    times: [i64; 4],
}

impl Stamp {
    /// What a file looks like.
    #[must_use]
    pub fn of(metadata: &Metadata) -> Self {
        Self {
            place: [metadata.dev(), metadata.ino()],
            size: metadata.len(),
            times: [metadata.mtime(), metadata.mtime_nsec(), metadata.ctime(), metadata.ctime_nsec()],
        }
    }
}

/// A tar that holds images.
#[derive(Debug)]
pub struct Archive {
    index: Arc<TarIndex>,
    form: Form,
    file: Option<Stamp>,
    spooled: bool,
    standard_input: bool,
}

impl Archive {
    /// Opens the archive at `path`; `said` is what it was said to be, and `temporary` the folder for what has to be unpacked.
    ///
    /// Blocks; while a FIFO is read as long as its writer takes.
    ///
    /// # Errors
    /// When there is no archive of images in it, or it isn't sound.
    pub fn open(path: &Path, said: Option<Form>, temporary: &Path) -> Result<Self, ArchiveError> {
        let unreadable = |source| ArchiveError::Unreadable { path: path.to_owned(), source };
        // Looked at before it is opened: a disk or a tape might be wound.
        readable(path, &std::fs::metadata(path).map_err(unreadable)?)?;
        let file = File::open(path).map_err(unreadable)?;
        let metadata = file.metadata().map_err(unreadable)?;
        readable(path, &metadata)?;
        let stamp = metadata.is_file().then(|| Stamp::of(&metadata));
        Self::read(file, metadata.is_file(), path, said, temporary, stamp)
    }

    /// Reads an archive from standard input: by offset where that is a file, else to its end first.
    ///
    /// # Errors
    /// As [`Archive::open`], and when standard input is a terminal.
    pub fn standard_input(temporary: &Path) -> Result<Self, ArchiveError> {
        let path = Path::new(STANDARD_INPUT);
        let unreadable = |source| ArchiveError::Unreadable { path: path.to_owned(), source };
        let stdin = io::stdin();
        if stdin.is_terminal() {
            return Err(ArchiveError::Terminal);
        }
        // Past the buffer of `Stdin`, which has read nothing yet.
        let mut file = File::from(stdin.as_fd().try_clone_to_owned().map_err(unreadable)?);
        let metadata = file.metadata().map_err(unreadable)?;
        readable(path, &metadata)?;
        // Somebody may have read the beginning already: what follows is the archive then.
        let whole = metadata.is_file() && file.stream_position().map_err(unreadable)? == 0;
        Ok(Self { standard_input: true, ..Self::read(file, whole, path, None, temporary, None)? })
    }

    fn read(
        mut file: File,
        by_offset: bool,
        path: &Path,
        said: Option<Form>,
        temporary: &Path,
        stamp: Option<Stamp>,
    ) -> Result<Self, ArchiveError> {
        let unreadable = |source| ArchiveError::Unreadable { path: path.to_owned(), source };
        let mut begin = Vec::with_capacity(BEGIN);
        (&mut file).take(BEGIN as u64).read_to_end(&mut begin).map_err(unreadable)?;
        if begin.is_empty() {
            return Err(ArchiveError::Empty { path: path.to_owned() });
        }
        let packing = packing(&begin);
        let packed = matches!(packing, Packing::Gzip | Packing::Zstd);
        if !packed && let Some(what) = Foreign::of(&begin) {
            return Err(ArchiveError::Foreign { path: path.to_owned(), what });
        }
        let spooled = packed || !by_offset;
        if spooled {
            let from = io::Cursor::new(begin).chain(file);
            file = spool(from, packing, temporary)
                .map_err(|source| ArchiveError::Spool { path: path.to_owned(), source })?;
        }
        let index = Arc::new(TarIndex::read(Arc::new(file), path)?);
        let form = form(&index, said)?;
        // Not before: a container's files have links to wherever they like.
        index.check_links()?;
        Ok(Self { index, form, file: stamp, spooled, standard_input: false })
    }

    /// The members.
    #[must_use]
    pub fn index(&self) -> &Arc<TarIndex> {
        &self.index
    }

    /// What it holds: an OCI layout, or what `docker save` writes.
    #[must_use]
    pub fn form(&self) -> Form {
        self.form
    }

    /// What it is called.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.index.path()
    }

    /// What the file looked like when it was opened; none if it isn't a regular file that has a path.
    #[must_use]
    pub fn stamp(&self) -> Option<Stamp> {
        self.file
    }

    /// Whether it came from standard input.
    #[must_use]
    pub fn is_standard_input(&self) -> bool {
        self.standard_input
    }

    /// Whether it had to be written to a temporary file.
    #[must_use]
    pub fn is_spooled(&self) -> bool {
        self.spooled
    }
}

fn readable(path: &Path, metadata: &Metadata) -> Result<(), ArchiveError> {
    let kind = metadata.file_type();
    let kind = if kind.is_dir() {
        "a folder"
    } else if kind.is_socket() {
        "a socket"
    } else if kind.is_block_device() {
        "a block device"
    } else {
        return Ok(());
    };
    Err(ArchiveError::NotAFile { path: path.to_owned(), kind })
}

/// What kind of archive it is.
fn form(index: &Arc<TarIndex>, said: Option<Form>) -> Result<Form, ArchiveError> {
    let path = || index.path().to_owned();
    let oci = index.holds("oci-layout") && index.holds("index.json");
    let docker = index.holds("manifest.json");
    let missing = |form, missing| Err(ArchiveError::NotSaid { path: path(), said: form, missing });
    match said {
        Some(form @ (Form::OciArchive | Form::Layout)) if !oci => {
            return missing(form, if index.holds("oci-layout") { "index.json" } else { "oci-layout" });
        }
        Some(form @ Form::DockerArchive) if !docker => return missing(form, "manifest.json"),
        Some(form) => return Ok(form),
        None => {}
    }
    match (oci, docker) {
        (true, true) if has_uncompressed_layers(index) => Ok(Form::DockerArchive),
        (true, _) => Ok(Form::OciArchive),
        (false, true) => Ok(Form::DockerArchive),
        (false, false) => Err(no_image(index)),
    }
}

/// Whether a layout in an archive has an image with uncompressed layers, or none that can be read.
///
/// `docker save` makes such a manifest up since version 25, and nobody knows it by its digest; one whose layers are
/// compressed came from a registry or a build.
fn has_uncompressed_layers(index: &Arc<TarIndex>) -> bool {
    let images = inner::images(index);
    let is_uncompressed = |layer: &Descriptor| layer.media_type.as_str().rsplit('.').next() == Some("tar");
    images.is_empty() || images.iter().any(|image| image.blobs().skip(1).any(is_uncompressed))
}

/// What a tar without an image is.
fn no_image(index: &TarIndex) -> ArchiveError {
    let path = index.path().to_owned();
    if index.holds("repositories") {
        return ArchiveError::Old { path };
    }
    // docker puts `.dockerenv` into every container; podman has no such mark.
    let at_top = ["bin", "dev", "etc", "lib", "proc", "sys", "usr", "var"].iter().filter(|name| index.holds(name));
    if index.holds(".dockerenv") || at_top.count() > 2 {
        return ArchiveError::Filesystem { path };
    }
    let folder = |name: &str| {
        let (folder, file) = name.split_once('/')?;
        matches!(file, "oci-layout" | "manifest.json").then(|| folder.to_owned())
    };
    match index.names().find_map(folder) {
        Some(folder) => ArchiveError::Nested { path, folder },
        None => ArchiveError::NoImage { path },
    }
}

#[cfg(test)]
mod tests;
