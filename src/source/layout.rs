//! An OCI image layout, a folder or in an archive: its index, its images, which of them is meant, and what refers to it.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use thiserror::Error;

use super::Choice;
use super::archive::Archive;
use super::files::Files;
use super::folder::Folder;
use super::listing::Listing;
use super::platforms::{PlatformError, SelectError, Selected, select};
use super::tar::TarError;
use super::walk::{Defect, Walk, bytes};
use crate::cause::{Cause, chain};
use crate::image::{Blob, Image, Node, Withheld};
use crate::oci::descriptor::{Descriptor, Kind};
use crate::oci::digest::{Algorithm, Digest};
use crate::oci::manifest::{MAX_SIZE, Manifest};
use crate::platform::Wanted;

/// The only version of the layout that there is.
const VERSION: &str = "1.0.0";

/// Why a folder is not a layout that can be pushed from.
#[derive(Debug, Error)]
pub enum LayoutError {
    /// A file or something else, and no folder.
    #[error("{path} is not a folder")]
    NotAFolder {
        /// The path.
        path: PathBuf,
    },
    /// `oci-layout` or `index.json` isn't there.
    #[error("{path} is not an OCI image layout: it has no {missing}")]
    NoLayout {
        /// The folder.
        path: PathBuf,
        /// The file that isn't there.
        missing: &'static str,
    },
    /// A file can't be read.
    #[error("{path} can't be read")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Another process has the layout for itself and doesn't come to an end.
    #[error("{path} is locked by another process that cleans it")]
    Locked {
        /// The folder.
        path: PathBuf,
    },
    /// A file isn't what it should be.
    #[error("{path} is malformed")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Where and why.
        source: Cause,
    },
    /// A file's member of an archive leads nowhere, or can't be read.
    #[error(transparent)]
    Tar(#[from] TarError),
    /// A layout of a version that isn't known.
    #[error("{path} is a layout of version {found:?}, and {VERSION} is the one that can be read")]
    Version {
        /// The folder.
        path: PathBuf,
        /// What it says.
        found: String,
    },
    /// `index.json` is too large to be sane.
    #[error("{path} has {size} bytes, and an index may have at most {MAX_SIZE}")]
    IndexTooLarge {
        /// The file.
        path: PathBuf,
        /// Its size in bytes.
        size: u64,
    },
    /// There is nothing in it.
    #[error("{path} holds no image")]
    Empty {
        /// The folder.
        path: PathBuf,
    },
    /// There are several images.
    #[error("{path} holds {} images, and none was chosen:\n{}", images.len(), list(images))]
    NoneChosen {
        /// The folder.
        path: PathBuf,
        /// What there is.
        images: Vec<Listed>,
    },
    /// What was chosen isn't there.
    #[error("{path} holds no image {wanted}; it holds {}", or_none(images))]
    NoSuchImage {
        /// The folder.
        path: PathBuf,
        /// What was asked for, as typed.
        wanted: String,
        /// What there is.
        images: Vec<Listed>,
    },
    /// The name stands for several images.
    #[error("{path} gives the name {name:?} to several images:\n{}", list(images))]
    AmbiguousName {
        /// The folder.
        path: PathBuf,
        /// The name.
        name: String,
        /// The images of that name.
        images: Vec<Listed>,
    },
    /// The platforms that were asked for aren't there.
    #[error(transparent)]
    Platform(#[from] PlatformError),
    /// The image isn't whole.
    #[error("the image in {path} is not whole: {}", enumerate(defects))]
    Defects {
        /// The folder.
        path: PathBuf,
        /// Everything that is wrong.
        defects: Vec<Defect>,
    },
}

/// An image of a layout, for a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Its digest.
    pub digest: Digest,
    /// Its names.
    pub names: Vec<String>,
}

pub(crate) fn list(images: &[Listed]) -> String {
    let line = |image: &Listed| {
        let names: String = image.names.iter().map(|name| format!("  :{name}")).collect();
        format!("  @{}{names}", image.digest)
    };
    images.iter().map(line).collect::<Vec<_>>().join("\n")
}

fn or_none(images: &[Listed]) -> String {
    if images.is_empty() { "none".to_owned() } else { format!("these:\n{}", list(images)) }
}

fn enumerate(defects: &[Defect]) -> String {
    match defects {
        [one] => chain(one),
        many => {
            let lines: String = many.iter().map(|defect| format!("\n  {}", chain(defect))).collect();
            format!("{} defects{lines}", many.len())
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Marker {
    image_layout_version: String,
}

#[derive(Deserialize)]
struct IndexJson {
    manifests: Option<Vec<Descriptor>>,
}

/// An image of a layout that was chosen.
#[derive(Debug, Clone)]
pub struct Chosen {
    /// Its descriptor in `index.json`.
    pub descriptor: Descriptor,
    /// The name that chose it, if one did: clean-up then removes that name only.
    pub name: Option<String>,
}

/// What was found of an image, whole or not.
#[derive(Debug)]
pub struct Found {
    /// Its manifests that can be read, children before parents.
    pub nodes: Vec<Node>,
    /// Those that refer to it, a subject before its referrers.
    pub referrers: Vec<Digest>,
    /// Its blobs that are there.
    pub blobs: BTreeMap<Digest, Blob>,
    /// Layers that must not be distributed.
    pub withheld: Vec<Withheld>,
    /// What is wrong with it.
    pub defects: Vec<Defect>,
}

/// An OCI image layout.
#[derive(Debug)]
pub struct Layout {
    files: Files,
    path: PathBuf,
    entries: Vec<Descriptor>,
    /// What can be read and names a subject, with that.
    referrers: Vec<(Descriptor, Digest)>,
    /// Their places, by subject.
    by_subject: HashMap<Digest, Vec<usize>>,
    /// The places of entries that are lists of referrers.
    lists: Vec<usize>,
    /// What other entries give a name to.
    named: HashSet<Digest>,
}

impl Layout {
    /// Opens the layout at `path` and reads its index.
    ///
    /// # Errors
    /// When it isn't a layout.
    pub fn open(path: &Path, follow_symlinks: bool) -> Result<Self, LayoutError> {
        let unreadable = |source| LayoutError::Unreadable { path: path.to_owned(), source };
        if !fs::metadata(path).map_err(unreadable)?.is_dir() {
            return Err(LayoutError::NotAFolder { path: path.to_owned() });
        }
        let folder = Folder::new(path, follow_symlinks).map_err(unreadable)?;
        Self::read_index(Files::Folder(folder), path)
    }

    /// Reads the index of the layout in an archive.
    ///
    /// # Errors
    /// When there is none.
    pub fn in_archive(archive: &Archive) -> Result<Self, LayoutError> {
        Self::read_index(Files::Archive(archive.index().clone()), archive.path())
    }

    /// Reads the index of the layout in what an engine exports.
    ///
    /// # Errors
    /// When there is none.
    pub fn in_export(listing: Arc<Listing>) -> Result<Self, LayoutError> {
        let path = listing.path().to_owned();
        Self::read_index(Files::Export(listing), &path)
    }

    fn read_index(files: Files, path: &Path) -> Result<Self, LayoutError> {
        let marker: Marker = parse(path, "oci-layout", &files.document(path, "oci-layout")?)?;
        if marker.image_layout_version != VERSION {
            return Err(LayoutError::Version { path: path.to_owned(), found: marker.image_layout_version });
        }
        let entries = match &files {
            Files::Folder(folder) => self::read_index(path, folder.follows_symlinks())?.1,
            Files::Archive(_) | Files::Export(_) => parse_index(path, &files.document(path, "index.json")?)?,
        };
        let lists = entries.iter().enumerate().filter(|(_, entry)| is_referrers_index(entry)).map(|(at, _)| at);
        let (lists, referrers, by_subject): (Vec<usize>, _, _) = (lists.collect(), Vec::new(), HashMap::new());
        let others = entries.iter().enumerate().filter(|(at, _)| lists.binary_search(at).is_err());
        let named =
            others.filter(|(_, entry)| entry.ref_name().is_some()).map(|(_, entry)| entry.digest.clone()).collect();
        let mut layout = Self { files, path: path.to_owned(), entries, referrers, by_subject, lists, named };
        layout.referrers = layout.find_referrers();
        for (at, (_, subject)) in layout.referrers.iter().enumerate() {
            layout.by_subject.entry(subject.clone()).or_default().push(at);
        }
        Ok(layout)
    }

    /// Where its files are.
    #[must_use]
    pub fn files(&self) -> &Files {
        &self.files
    }

    /// The folder, if it is one.
    #[must_use]
    pub fn folder(&self) -> Option<&Folder> {
        match &self.files {
            Files::Folder(folder) => Some(folder),
            Files::Archive(_) | Files::Export(_) => None,
        }
    }

    /// The entries of its index.
    #[must_use]
    pub fn entries(&self) -> &[Descriptor] {
        &self.entries
    }

    /// The entries that are lists of referrers, as the referrers tag schema has them.
    pub fn lists(&self) -> impl Iterator<Item = &Descriptor> {
        self.lists.iter().map(|at| &self.entries[*at])
    }

    /// Whether an entry gives a name to it, and not as to a list of referrers.
    #[must_use]
    pub fn names(&self, digest: &Digest) -> bool {
        self.named.contains(digest)
    }

    /// The images in it, once each, with their names. Referrers of images that are here too are not images of their own.
    #[must_use]
    pub fn images(&self) -> Vec<Listed> {
        let present: HashSet<&Digest> = self.entries.iter().map(|entry| &entry.digest).collect();
        let here = self.referrers.iter().filter(|(_, subject)| present.contains(subject));
        let refers: HashSet<&Digest> = here.map(|(entry, _)| &entry.digest).collect();
        let (mut images, mut places): (Vec<Listed>, HashMap<&Digest, usize>) = (Vec::new(), HashMap::new());
        for entry in &self.entries {
            let is_other = is_referrers_index(entry) || entry.media_type.kind() == Kind::Other;
            if is_other || refers.contains(&entry.digest) {
                continue;
            }
            let at = *places.entry(&entry.digest).or_insert_with(|| {
                images.push(Listed { digest: entry.digest.clone(), names: Vec::new() });
                images.len() - 1
            });
            images[at].names.extend(entry.ref_name().map(str::to_owned));
        }
        images
    }

    /// The image that is meant.
    ///
    /// # Errors
    /// When it isn't there, or several are and none was chosen.
    pub fn choose(&self, choice: &Choice) -> Result<Chosen, LayoutError> {
        let path = || self.path.clone();
        let entry = |digest: &Digest| self.entries.iter().find(|entry| entry.digest == *digest).cloned();
        let no_such = |wanted: String| LayoutError::NoSuchImage { path: path(), wanted, images: self.images() };
        match choice {
            Choice::Only => match self.images().as_slice() {
                [] => Err(LayoutError::Empty { path: path() }),
                [one] => entry(&one.digest)
                    .map(|descriptor| Chosen { descriptor, name: None })
                    .ok_or_else(|| LayoutError::Empty { path: path() }),
                many => Err(LayoutError::NoneChosen { path: path(), images: many.to_vec() }),
            },
            Choice::Digest(digest) => entry(digest)
                .map(|descriptor| Chosen { descriptor, name: None })
                .ok_or_else(|| no_such(format!("@{digest}"))),
            Choice::Name(name) => {
                let named = |entry: &&Descriptor| entry.ref_name() == Some(name.as_str());
                let mut found: Vec<&Descriptor> = self.entries.iter().filter(named).collect();
                let mut digests = HashSet::new();
                found.retain(|entry| digests.insert(entry.digest.clone()));
                match found.as_slice() {
                    [] => Err(no_such(format!(":{name}"))),
                    [one] => Ok(Chosen { descriptor: (*one).clone(), name: Some(name.clone()) }),
                    _ => {
                        let images =
                            self.images().into_iter().filter(|image| digests.contains(&image.digest)).collect();
                        Err(LayoutError::AmbiguousName { path: path(), name: name.clone(), images })
                    }
                }
            }
        }
    }

    /// Reads an image, or `platforms` of it if there are any, and checks that it is whole; with `referrers` also what refers
    /// to it.
    ///
    /// # Errors
    /// With every defect that was found, or when a platform isn't there.
    pub fn read(&self, chosen: &Chosen, platforms: &[Wanted], referrers: bool) -> Result<Image, LayoutError> {
        let mut walk = Walk::new(&self.files);
        let mut root = chosen.descriptor.clone();
        if !platforms.is_empty() {
            match select(&self.files, &root, platforms) {
                Ok(Selected { root: selected, made }) => (root, walk.made) = (selected, made),
                Err(SelectError::Platform(error)) => return Err(error.into()),
                Err(SelectError::Defect(defect)) => walk.defects.push(defect),
            }
        }
        if walk.defects.is_empty() {
            walk.manifest(&root, 0);
        }
        let Found { nodes, referrers, blobs, withheld, defects } = self.found(walk, referrers);
        if defects.is_empty() {
            Ok(Image::new(nodes, root.digest, referrers, blobs, withheld))
        } else {
            Err(LayoutError::Defects { path: self.path.clone(), defects })
        }
    }

    /// All that can be read of an image, with what is wrong with it; with `referrers` also what refers to it.
    #[must_use]
    pub fn look(&self, root: &Descriptor, referrers: bool) -> Found {
        let mut walk = Walk::new(&self.files);
        walk.manifest(root, 0);
        self.found(walk, referrers)
    }

    /// What a walk found; with `referrers` it goes on to what refers to that.
    fn found(&self, mut walk: Walk, referrers: bool) -> Found {
        let mut found = Vec::new();
        if referrers {
            // Signatures of SBOMs: a referrer can be a subject itself, so look again until nothing is found.
            while let Some(next) = self.referrer_of(&walk.seen) {
                let digest = next.digest.clone();
                walk.manifest(&next, 0);
                found.push(digest);
            }
        }
        let Walk { nodes, blobs, withheld, defects, .. } = walk;
        Found { nodes, referrers: found, blobs, withheld, defects }
    }

    /// What refers to `image`, be it part of it or not.
    #[must_use]
    pub fn referrers(&self, image: &Image) -> Vec<Digest> {
        let mut seen: HashSet<Digest> = image.nodes().iter().map(|node| node.manifest.digest.clone()).collect();
        let mut found = Vec::new();
        while let Some(next) = self.referrer_of(&seen) {
            seen.insert(next.digest.clone());
            found.push(next.digest);
        }
        found
    }

    /// What `index.json` lists and isn't among these manifests, be it an image or not.
    #[must_use]
    pub fn left_out(&self, nodes: &[Node]) -> Vec<Listed> {
        let manifests = || nodes.iter().map(|node| &node.manifest.digest);
        let pushed: HashSet<&Digest> = manifests().collect();
        let lists: HashSet<String> = manifests().map(Digest::referrers_tag).collect();
        let is_list =
            |entry: &Descriptor| is_referrers_index(entry) && entry.ref_name().is_some_and(|name| lists.contains(name));
        let left = self.entries.iter().filter(|entry| !pushed.contains(&entry.digest) && !is_list(entry));
        left.map(|entry| {
            let names = entry.ref_name().map(str::to_owned).into_iter().collect();
            Listed { digest: entry.digest.clone(), names }
        })
        .collect()
    }

    /// A referrer of what was seen that wasn't seen itself: the first of them.
    fn referrer_of(&self, seen: &HashSet<Digest>) -> Option<Descriptor> {
        let referring = seen.iter().filter_map(|subject| self.by_subject.get(subject)).flatten();
        let first = referring.filter(|at| !seen.contains(&self.referrers[**at].0.digest)).min()?;
        Some(self.referrers[*first].0.clone())
    }

    /// What refers to something, each with its subject: of the entries, and of those in referrers indexes behind them, those
    /// that can be read; defects are for whoever pushes them.
    fn find_referrers(&self) -> Vec<(Descriptor, Digest)> {
        let (mut entries, mut listed) = (Vec::new(), Vec::new());
        for entry in &self.entries {
            let Some(manifest) = self.manifest_of(entry) else { continue };
            if is_referrers_index(entry) {
                for child in manifest.children() {
                    let subject = self.manifest_of(child).and_then(|manifest| manifest.subject);
                    listed.extend(subject.map(|subject| (child.clone(), subject.digest)));
                }
            }
            entries.extend(manifest.subject.map(|subject| (entry.clone(), subject.digest)));
        }
        entries.append(&mut listed);
        entries
    }

    /// The manifest that a descriptor describes, if it is one that can be read.
    pub(crate) fn manifest_of(&self, descriptor: &Descriptor) -> Option<Manifest> {
        let manifest_like = matches!(descriptor.media_type.kind(), Kind::Image | Kind::Index);
        if !manifest_like || descriptor.size > MAX_SIZE {
            return None;
        }
        let bytes = bytes(&self.files, descriptor).ok()?;
        Manifest::parse(&descriptor.media_type, &descriptor.digest, bytes).ok()
    }
}

/// Whether an entry is what the referrers tag schema writes: an index under the name `sha256-…` that lists referrers.
#[must_use]
pub fn is_referrers_index(entry: &Descriptor) -> bool {
    let by_schema = |name: &str| {
        Algorithm::ALL.into_iter().any(|algorithm| {
            name.strip_prefix(algorithm.name())
                .and_then(|rest| rest.strip_prefix('-'))
                .is_some_and(|hex| hex.len() == 64 && hex.bytes().all(|b| b.is_ascii_hexdigit()))
        })
    };
    entry.media_type.kind() == Kind::Index && entry.ref_name().is_some_and(by_schema)
}

/// How often an index that a builder is writing in place is read again, and after how long.
const HALF: (usize, Duration) = (50, Duration::from_millis(10));

/// Reads `index.json` of the folder at `path`: its bytes, and its entries. One that makes no sense is read again for a while, since
/// builders write theirs in place. Blocks.
///
/// # Errors
/// When it can't be read, or goes on making no sense.
pub fn read_index(path: &Path, follow_symlinks: bool) -> Result<(Vec<u8>, Vec<Descriptor>), LayoutError> {
    let (most, pause) = HALF;
    let mut rounds = 0;
    loop {
        let bytes = read_file(path, "index.json", follow_symlinks)?;
        match parse_index(path, &bytes) {
            Ok(entries) => return Ok((bytes, entries)),
            Err(error) if rounds == most => return Err(error),
            Err(_) => std::thread::sleep(pause),
        }
        rounds += 1;
    }
}

/// Reads the bytes of `index.json`.
///
/// # Errors
/// When there are too many, or it isn't JSON of that form.
pub fn parse_index(path: &Path, bytes: &[u8]) -> Result<Vec<Descriptor>, LayoutError> {
    let index: IndexJson = parse(path, "index.json", bytes)?;
    Ok(index.manifests.unwrap_or_default())
}

/// Reads `oci-layout` or `index.json`.
///
/// # Errors
/// When it isn't there, isn't a file, is too large, or is a symbolic link out of the layout and `follow_symlinks` doesn't
/// allow that.
pub fn read_file(folder: &Path, name: &'static str, follow_symlinks: bool) -> Result<Vec<u8>, LayoutError> {
    let path = folder.join(name);
    let failed = |source: io::Error| match source.kind() {
        io::ErrorKind::NotFound => LayoutError::NoLayout { path: folder.to_owned(), missing: name },
        _ => LayoutError::Unreadable { path: path.clone(), source },
    };
    let target = fs::canonicalize(&path).map_err(failed)?;
    if !follow_symlinks && !target.starts_with(fs::canonicalize(folder).map_err(failed)?) {
        return Err(failed(io::Error::other("it is a symbolic link that leads out of the layout")));
    }
    let metadata = fs::metadata(&target).map_err(failed)?;
    if !metadata.is_file() {
        return Err(failed(io::Error::other("it is not a file")));
    }
    if metadata.len() > MAX_SIZE {
        return Err(LayoutError::IndexTooLarge { path, size: metadata.len() });
    }
    fs::read(&target).map_err(failed)
}

fn parse<T: serde::de::DeserializeOwned>(folder: &Path, name: &str, bytes: &[u8]) -> Result<T, LayoutError> {
    serde_json::from_slice(bytes)
        .map_err(|error| LayoutError::Malformed { path: folder.join(name), source: Cause::new(error) })
}
