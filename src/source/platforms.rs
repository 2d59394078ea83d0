//! Some platforms of an image: one's manifest itself, or a new index of several.
//!
//! Reads indexes, and what it takes to know a platform that no index names; the rest of the image may be missing where it isn't
//! chosen. What is chosen isn't checked here.

use std::collections::{HashMap, HashSet};

use bytes::Bytes;
use serde_json::Value;
use thiserror::Error;

use super::files::Files;
use super::walk::{Defect, MAX_DEPTH, bytes};
use crate::oci::descriptor::{Descriptor, Kind, Platform};
use crate::oci::digest::{Algorithm, Digest};
use crate::oci::manifest::{Body, MAX_SIZE, Manifest};
use crate::platform::Wanted;

/// Why there is no choosing platforms.
#[derive(Debug, Error)]
pub enum PlatformError {
    /// None of them is the one that was asked for.
    #[error("{image} has no image for {wanted}; it has:\n{}", list(there))]
    Missing {
        /// The image.
        image: Digest,
        /// What was asked for, as typed.
        wanted: String,
        /// What there is.
        there: Vec<Offered>,
    },
    /// Several are.
    #[error("{image} has several images for {wanted}:\n{}", list(there))]
    Ambiguous {
        /// The image.
        image: Digest,
        /// What was asked for, as typed.
        wanted: String,
        /// Those that it may mean.
        there: Vec<Offered>,
    },
}

/// An image for a platform.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offered {
    /// The platform, if one is named anywhere.
    pub platform: Option<Platform>,
    /// The digest of its manifest.
    pub digest: Digest,
}

fn list(there: &[Offered]) -> String {
    let line = |offered: &Offered| match &offered.platform {
        Some(platform) => format!("  {platform}  {}", offered.digest),
        None => format!("  (none named)  {}", offered.digest),
    };
    there.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// What is left of an image.
#[derive(Debug)]
pub(super) struct Selected {
    /// Its root.
    pub(super) root: Descriptor,
    /// Indexes that were made.
    pub(super) made: HashMap<Digest, Bytes>,
}

/// Why nothing is left.
#[derive(Debug)]
pub(super) enum SelectError {
    Platform(PlatformError),
    Defect(Defect),
}

/// An image in an index, at any depth.
struct Leaf {
    descriptor: Descriptor,
    platform: Option<Platform>,
}

/// An index as read.
struct Index {
    bytes: Bytes,
    children: Vec<Descriptor>,
}

/// What becomes of an index.
enum Narrowed {
    /// Nothing in it was chosen.
    Nothing,
    /// All of it was.
    Same,
    /// It is this one now.
    New(Digest, u64),
}

struct Selection<'a> {
    files: &'a Files,
    leaves: Vec<Leaf>,
    indexes: HashMap<Digest, Index>,
    made: HashMap<Digest, Bytes>,
}

/// Chooses `wanted` of the image whose root this is.
pub(super) fn select(files: &Files, root: &Descriptor, wanted: &[Wanted]) -> Result<Selected, SelectError> {
    let mut selection = Selection { files, leaves: Vec::new(), indexes: HashMap::new(), made: HashMap::new() };
    if root.media_type.kind() == Kind::Index {
        selection.index(root, None, 0).map_err(SelectError::Defect)?;
    } else {
        selection.leaf(root, None);
    }
    let chosen = selection.choose(&root.digest, wanted).map_err(SelectError::Platform)?;
    let mut root = root.clone();
    if let [only] = chosen.iter().collect::<Vec<_>>().as_slice() {
        let leaf = selection.leaves.iter().find(|leaf| leaf.descriptor.digest == **only);
        root = leaf.map_or(root, |leaf| leaf.descriptor.clone());
    } else if let Narrowed::New(digest, size) = selection.narrow(&root.digest, &chosen) {
        root = Descriptor { digest, size, data: None, ..root };
    }
    Ok(Selected { root, made: selection.made })
}

impl Selection<'_> {
    /// Takes an index in, with what is in it.
    fn index(&mut self, descriptor: &Descriptor, inherited: Option<&Platform>, depth: usize) -> Result<(), Defect> {
        let digest = &descriptor.digest;
        if depth > MAX_DEPTH {
            return Err(Defect::TooDeep { digest: digest.clone() });
        }
        let manifest = self.manifest(descriptor)?;
        let children = manifest.children().to_vec();
        for child in children.iter().filter(|child| !child.is_attestation()) {
            let platform = named(child).or(inherited);
            // Of one that isn't there nothing is known but what this one says; if it is chosen that is said in its place.
            if child.media_type.kind() != Kind::Index || self.index(child, platform, depth + 1).is_err() {
                self.leaf(child, platform);
            }
        }
        self.indexes.insert(digest.clone(), Index { bytes: manifest.bytes, children });
        Ok(())
    }

    /// Takes an image in. What its index says of it counts, else what its config does.
    fn leaf(&mut self, descriptor: &Descriptor, platform: Option<&Platform>) {
        let platform = platform.cloned().or_else(|| self.config(descriptor));
        self.leaves.push(Leaf { descriptor: descriptor.clone(), platform });
    }

    fn manifest(&self, descriptor: &Descriptor) -> Result<Manifest, Defect> {
        let digest = &descriptor.digest;
        if descriptor.size > MAX_SIZE {
            return Err(Defect::TooLarge { digest: digest.clone(), size: descriptor.size });
        }
        let bytes = bytes(self.files, descriptor)?;
        Manifest::parse(&descriptor.media_type, digest, bytes)
            .map_err(|source| Defect::Manifest { digest: digest.clone(), source })
    }

    /// The platform that an image's config names.
    fn config(&self, descriptor: &Descriptor) -> Option<Platform> {
        let Body::Image { config, .. } = self.manifest(descriptor).ok()?.body else { return None };
        let bytes = (config.size <= MAX_SIZE).then(|| bytes(self.files, &config).ok())??;
        serde_json::from_slice(&bytes).ok().filter(|platform: &Platform| !platform.os.is_empty())
    }

    /// The digests of what is meant.
    fn choose(&self, image: &Digest, wanted: &[Wanted]) -> Result<HashSet<Digest>, PlatformError> {
        let platforms: Vec<_> = self.leaves.iter().map(|leaf| leaf.platform.clone()).collect();
        let offered = |at: usize| {
            let Leaf { descriptor, platform } = &self.leaves[at];
            Offered { platform: platform.clone(), digest: descriptor.digest.clone() }
        };
        let mut chosen = HashSet::new();
        for one in wanted {
            let (image, wanted) = (image.clone(), one.to_string());
            let found = one.among(&platforms);
            let digests: HashSet<_> = found.iter().map(|at| &self.leaves[*at].descriptor.digest).collect();
            match digests.len() {
                0 => {
                    let there = (0..self.leaves.len()).map(offered).collect();
                    return Err(PlatformError::Missing { image, wanted, there });
                }
                1 => chosen.extend(digests.into_iter().cloned()),
                _ => {
                    let there = found.into_iter().map(offered).collect();
                    return Err(PlatformError::Ambiguous { image, wanted, there });
                }
            }
        }
        Ok(chosen)
    }

    /// Leaves what was chosen in an index, with what attests it, and all else as it is.
    fn narrow(&mut self, digest: &Digest, chosen: &HashSet<Digest>) -> Narrowed {
        let Some(Index { bytes, children }) = self.indexes.get(digest) else { return Narrowed::Nothing };
        let (bytes, children) = (bytes.clone(), children.clone());
        let mut index: Value = serde_json::from_slice(&bytes).unwrap_or_default();
        let Some(entries) = index["manifests"].as_array_mut() else { return Narrowed::Nothing };
        let mut kept = Vec::new();
        let (mut is_same, mut has_images) = (true, false);
        for (child, mut entry) in children.iter().zip(std::mem::take(entries)) {
            let is_kept = if child.is_attestation() {
                let subject = child.annotation(REFERENCE_DIGEST);
                subject.is_some_and(|subject| chosen.iter().any(|digest| digest.as_str() == subject))
            } else if self.indexes.contains_key(&child.digest) {
                match self.narrow(&child.digest, chosen) {
                    Narrowed::Nothing => false,
                    Narrowed::Same => true,
                    Narrowed::New(digest, size) => {
                        is_same = false;
                        entry["digest"] = digest.as_str().into();
                        entry["size"] = size.into();
                        if let Some(entry) = entry.as_object_mut() {
                            entry.shift_remove("data");
                        }
                        true
                    }
                }
            } else {
                chosen.contains(&child.digest)
            };
            is_same &= is_kept;
            has_images |= is_kept && !child.is_attestation();
            if is_kept {
                kept.push(entry);
            }
        }
        *entries = kept;
        if !has_images {
            return Narrowed::Nothing;
        }
        if is_same {
            return Narrowed::Same;
        }
        let bytes = Bytes::from(index.to_string());
        let (digest, size) = (Digest::of(Algorithm::Sha256, &bytes), bytes.len() as u64);
        self.made.insert(digest.clone(), bytes);
        Narrowed::New(digest, size)
    }
}

/// What BuildKit calls the image that an attestation is about.
const REFERENCE_DIGEST: &str = "vnd.docker.reference.digest";

/// The platform that an index names for a child.
fn named(child: &Descriptor) -> Option<&Platform> {
    child.platform.as_ref().filter(|platform| !platform.os.is_empty() && !platform.architecture.is_empty())
}
