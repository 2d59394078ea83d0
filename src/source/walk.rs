//! A walk over an image in a layout: every manifest, every blob, and everything that is wrong with them.
//!
//! Everything is checked that can be checked without reading the large blobs. Those are hashed while they are sent, so
//! that each is read once.

use std::collections::{BTreeMap, HashMap, HashSet};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use thiserror::Error;

use super::files::Files;
use super::folder::FileError;
use crate::image::{self, Blob, Content, Node, Withheld};
use crate::oci::descriptor::{Descriptor, Kind};
use crate::oci::digest::{Digest, Mismatch, Verifier};
use crate::oci::manifest::{MAX_SIZE, Manifest, ManifestError};

/// Indexes in indexes deeper than this are nobody's image.
pub(super) const MAX_DEPTH: usize = 16;

/// Blobs up to this size, in bytes, are read and hashed with the manifests and sent from memory: a small image is known
/// to be whole before anything is sent.
const HELD_EACH: u64 = 64 * 1024;

/// All of these together, in bytes: memory stays flat.
const HELD_TOTAL: u64 = 4 * 1024 * 1024;

/// One thing that is wrong with an image in a layout.
#[derive(Debug, Error)]
pub enum Defect {
    /// A file.
    #[error(transparent)]
    File(#[from] FileError),
    /// A manifest that is none.
    #[error("manifest {digest}")]
    Manifest {
        /// The manifest.
        digest: Digest,
        /// Why.
        source: ManifestError,
    },
    /// A manifest that no registry would take.
    #[error("manifest {digest} has {size} bytes, and registries take at most {MAX_SIZE}")]
    TooLarge {
        /// The manifest.
        digest: Digest,
        /// Its size in bytes.
        size: u64,
    },
    /// The `data` of a descriptor is not what it describes.
    #[error("the inline data of {digest} is not base64")]
    Data {
        /// The descriptor's digest.
        digest: Digest,
    },
    /// The `data` of a descriptor is something else.
    #[error("the inline data of {0}")]
    DataContent(Mismatch),
    /// Indexes in indexes without end.
    #[error("index {digest} is nested more than {MAX_DEPTH} deep")]
    TooDeep {
        /// The index.
        digest: Digest,
    },
}

/// A walk over an image that gathers what it finds, good and bad.
pub(super) struct Walk<'a> {
    files: &'a Files,
    /// Manifests that were made, and lie nowhere.
    pub(super) made: HashMap<Digest, Bytes>,
    pub(super) seen: HashSet<Digest>,
    pub(super) nodes: Vec<Node>,
    heights: HashMap<Digest, usize>,
    pub(super) blobs: BTreeMap<Digest, Blob>,
    bad_blobs: HashSet<Digest>,
    pub(super) withheld: Vec<Withheld>,
    held: u64,
    pub(super) defects: Vec<Defect>,
}

impl<'a> Walk<'a> {
    pub(super) fn new(files: &'a Files) -> Self {
        Self {
            files,
            made: HashMap::new(),
            seen: HashSet::new(),
            nodes: Vec::new(),
            heights: HashMap::new(),
            blobs: BTreeMap::new(),
            bad_blobs: HashSet::new(),
            withheld: Vec::new(),
            held: 0,
            defects: Vec::new(),
        }
    }

    /// Takes a manifest in with all that it points to; what is wrong with it goes to the defects.
    pub(super) fn manifest(&mut self, descriptor: &Descriptor, depth: usize) {
        let digest = &descriptor.digest;
        if !self.seen.insert(digest.clone()) {
            return;
        }
        if depth > MAX_DEPTH {
            return self.defects.push(Defect::TooDeep { digest: digest.clone() });
        }
        if descriptor.size > MAX_SIZE {
            return self.defects.push(Defect::TooLarge { digest: digest.clone(), size: descriptor.size });
        }
        let made = self.made.get(digest).cloned();
        let bytes = match made.map_or_else(|| bytes(self.files, descriptor), Ok) {
            Ok(bytes) => bytes,
            Err(defect) => return self.defects.push(defect),
        };
        let manifest = match Manifest::parse(&descriptor.media_type, digest, bytes) {
            Ok(manifest) => manifest,
            Err(source) => return self.defects.push(Defect::Manifest { digest: digest.clone(), source }),
        };
        let mut height = 0;
        for child in manifest.children() {
            self.manifest(child, depth + 1);
            height = height.max(self.heights.get(&child.digest).map_or(0, |below| below + 1));
        }
        let descriptors: Vec<&Descriptor> = manifest.blobs().collect();
        let mut blobs = Vec::with_capacity(descriptors.len());
        for (at, descriptor) in descriptors.iter().enumerate() {
            if self.blob(descriptor, image::role(at, &descriptors)) {
                blobs.push(descriptor.digest.clone());
            }
        }
        self.heights.insert(digest.clone(), height);
        self.nodes.push(Node { manifest, blobs, height });
    }

    /// Takes a blob in and says whether it has to be in the registry.
    fn blob(&mut self, descriptor: &Descriptor, role: image::Role) -> bool {
        let digest = &descriptor.digest;
        if descriptor.media_type.kind() == Kind::NonDistributable {
            if !self.withheld.iter().any(|withheld| withheld.digest == *digest) {
                let held = self.files.hold(digest);
                self.withheld.push(Withheld { digest: digest.clone(), held });
            }
            return false;
        }
        if let Some(known) = self.blobs.get(digest) {
            if known.size != descriptor.size {
                let (expected, size, found) = (digest.clone(), descriptor.size, known.size);
                self.defects.push(FileError::Content(Mismatch::Size { expected, size, found }).into());
            }
            return true;
        }
        if self.bad_blobs.contains(digest) {
            return true;
        }
        match self.content(descriptor) {
            Ok(content) => {
                let (size, media_type) = (descriptor.size, descriptor.media_type.clone());
                self.blobs.insert(digest.clone(), Blob { digest: digest.clone(), size, media_type, role, content });
            }
            Err(defect) => {
                self.bad_blobs.insert(digest.clone());
                self.defects.push(defect);
            }
        }
        true
    }

    fn content(&mut self, descriptor: &Descriptor) -> Result<Content, Defect> {
        let small = descriptor.size <= HELD_EACH && self.held + descriptor.size <= HELD_TOTAL;
        if small {
            self.held += descriptor.size;
            return bytes(self.files, descriptor).map(Content::Held);
        }
        let inline = inline_data(descriptor)?;
        match (self.files.open(descriptor), inline) {
            (Ok(content), _) => Ok(content),
            (Err(FileError::Missing { .. }), Some(inline)) => Ok(Content::Held(inline)),
            (Err(error), _) => Err(error.into()),
        }
    }
}

/// The bytes of something small, checked: in its file, or inline where that was left out.
pub(crate) fn bytes(files: &Files, descriptor: &Descriptor) -> Result<Bytes, Defect> {
    let inline = inline_data(descriptor)?;
    match (files.read(descriptor), inline) {
        (Ok(bytes), _) => Ok(bytes.into()),
        (Err(FileError::Missing { .. }), Some(inline)) => Ok(inline),
        (Err(error), _) => Err(error.into()),
    }
}

/// The content that a descriptor carries itself, checked.
fn inline_data(descriptor: &Descriptor) -> Result<Option<Bytes>, Defect> {
    let Some(text) = &descriptor.data else { return Ok(None) };
    let bytes = STANDARD.decode(text).map_err(|_| Defect::Data { digest: descriptor.digest.clone() })?;
    Verifier::check(&descriptor.digest, descriptor.size, &bytes).map_err(Defect::DataContent)?;
    Ok(Some(bytes.into()))
}
