//! What `docker save` writes, and all who imitate it: podman, skopeo, jib, kaniko, bazel, nix.
//!
//! Reads which images are in it, and where their configs and layers lie. Makes no manifest of them, and unpacks nothing:
//! that the layers are what the config says is seen when they are read.

mod document;
mod error;

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

pub use self::document::{Config, Entry};
pub use self::error::DockerError;
use super::Choice;
use super::archive::{Archive, inner};
use super::engine::names::{LOCALHOST, full, has_host};
use super::layout::Listed;
use super::tar::TarIndex;
use crate::cause::Cause;
use crate::compress::{Packing, packing};
use crate::image::Part;
use crate::oci::descriptor::Platform;
use crate::oci::digest::{Algorithm, Digest};
use crate::oci::manifest::{Body, MAX_SIZE, Manifest};

/// The list of images.
const MANIFEST: &str = "manifest.json";

/// The largest config that is taken, in bytes: as large as a manifest, which is more than any builder writes.
const MAX_CONFIG: u64 = MAX_SIZE;

/// A docker archive.
#[derive(Debug)]
pub struct DockerArchive {
    archive: Arc<Archive>,
    images: Vec<DockerImage>,
}

/// An image in it.
#[derive(Debug, Clone)]
pub struct DockerImage {
    /// Its names as they stand there.
    pub names: Vec<String>,
    /// Its config, byte for byte.
    pub config: Bytes,
    /// The config's digest: the image ID.
    pub config_digest: Digest,
    /// Its layers, the base first.
    pub layers: Vec<DockerLayer>,
    /// What the OCI manifest beside it says, where there is one.
    pub annotations: BTreeMap<String, String>,
    /// What it runs on.
    pub platform: Platform,
}

/// A layer in it.
#[derive(Debug, Clone)]
pub struct DockerLayer {
    /// The digest of its uncompressed bytes, as the config says.
    pub diff_id: Digest,
    /// Its bytes.
    pub part: Part,
    /// How they are packed.
    pub packing: Packing,
    /// What the OCI manifest beside it says, where there is one.
    pub annotations: BTreeMap<String, String>,
}

impl DockerArchive {
    /// Reads which images are in it.
    ///
    /// # Errors
    /// When an image isn't whole, or can be read in two ways; the message has the place in the file.
    pub fn open(archive: Arc<Archive>) -> Result<Self, DockerError> {
        let index = archive.index();
        let path = || index.path().to_owned();
        let bytes = index.content(MANIFEST, MAX_SIZE)?.ok_or_else(|| DockerError::NoManifest { path: path() })?;
        let malformed = |source| malformed(index, MANIFEST, source);
        let entries = Entry::parse(&bytes).map_err(malformed)?;
        let inner = inner::images(index);
        let mut images: Vec<DockerImage> = Vec::new();
        for (at, entry) in entries.into_iter().enumerate() {
            let image = image(index, &entry, at + 1, &inner)?;
            match images.iter_mut().find(|known| known.config_digest == image.config_digest) {
                Some(known) if known.is_same(&image) => {
                    let new: Vec<_> = image.names.into_iter().filter(|name| !known.names.contains(name)).collect();
                    known.names.extend(new);
                }
                Some(_) => {
                    let (offset, digest) = (offset(index, MANIFEST), image.config_digest);
                    return Err(DockerError::TwoOfOneConfig { path: path(), offset, digest });
                }
                None => images.push(image),
            }
        }
        if images.is_empty() {
            return Err(DockerError::Empty { path: path(), offset: offset(index, MANIFEST) });
        }
        Ok(Self { archive, images })
    }

    /// The archive that it is in.
    #[must_use]
    pub fn archive(&self) -> &Arc<Archive> {
        &self.archive
    }

    /// The images in it, once each.
    #[must_use]
    pub fn images(&self) -> &[DockerImage] {
        &self.images
    }

    /// The image that is meant. Names are taken as engines take them: `app` is podman's `localhost/app:latest`, and where
    /// there is none of that name `docker.io/library/app:latest`. A digest is an image ID.
    ///
    /// # Errors
    /// When it isn't there, or several are and none was chosen.
    pub fn choose(&self, choice: &Choice) -> Result<&DockerImage, DockerError> {
        let path = || self.archive.path().to_owned();
        let no_such =
            |wanted: String| DockerError::NoSuchImage { path: path(), wanted, images: listed(self.images.iter()) };
        match choice {
            Choice::Only => match self.images.as_slice() {
                [one] => Ok(one),
                many => Err(DockerError::NoneChosen { path: path(), images: listed(many.iter()) }),
            },
            Choice::Digest(digest) => self
                .images
                .iter()
                .find(|image| image.config_digest == *digest)
                .ok_or_else(|| no_such(format!("@{digest}"))),
            Choice::Name(name) => {
                let of = |wanted: Option<String>| {
                    let named =
                        |image: &&DockerImage| wanted.is_some() && image.names.iter().any(|it| full(it) == wanted);
                    self.images.iter().filter(named).collect::<Vec<_>>()
                };
                let mut found = if has_host(name) { Vec::new() } else { of(full(&format!("{LOCALHOST}/{name}"))) };
                if found.is_empty() {
                    found = of(full(name));
                }
                match found.as_slice() {
                    [] => Err(no_such(format!(":{name}"))),
                    [one] => Ok(one),
                    many => {
                        let images = listed(many.iter().copied());
                        Err(DockerError::AmbiguousName { path: path(), name: name.clone(), images })
                    }
                }
            }
        }
    }
}

impl DockerArchive {
    /// What is in it beside `image`: other images, and what the OCI layout beside them has more.
    #[must_use]
    pub fn left_out(&self, image: &DockerImage) -> Vec<Listed> {
        let others = self.images.iter().filter(|other| other.config_digest != image.config_digest);
        let mut left = listed(others);
        for (descriptor, manifest) in inner::manifests(self.archive.index()) {
            let is_of =
                |image: &DockerImage| manifest.blobs().next().is_some_and(|it| it.digest == image.config_digest);
            if !self.images.iter().any(is_of) {
                let names = descriptor.ref_name().map(str::to_owned).into_iter().collect();
                left.push(Listed { digest: descriptor.digest, names });
            }
        }
        left
    }
}

/// The images in the list of an archive that is read as a layout, by their configs; none if there is no list that can be
/// read: then there is nobody who could read it.
#[must_use]
pub fn listed_beside(index: &TarIndex) -> Vec<Listed> {
    let read = index.content(MANIFEST, MAX_SIZE).ok().flatten();
    let entries = read.and_then(|bytes| Entry::parse(&bytes).ok()).unwrap_or_default();
    let image = |entry: Entry| {
        let config = index.content(&member(index, &entry.config).ok()?, MAX_CONFIG).ok()??;
        Some(Listed { digest: Digest::of(Algorithm::Sha256, &config), names: entry.names })
    };
    entries.into_iter().filter_map(image).collect()
}

fn listed<'a>(images: impl Iterator<Item = &'a DockerImage>) -> Vec<Listed> {
    images.map(|image| Listed { digest: image.config_digest.clone(), names: image.names.clone() }).collect()
}

impl DockerImage {
    /// Whether another one of the same config has its layers in the same places.
    fn is_same(&self, other: &Self) -> bool {
        let place = |layer: &DockerLayer| (layer.part.offset, layer.part.length);
        self.layers.iter().map(place).eq(other.layers.iter().map(place))
    }
}

/// One image of the list, its number from 1.
fn image(index: &TarIndex, entry: &Entry, number: usize, inner: &[Manifest]) -> Result<DockerImage, DockerError> {
    let path = || index.path().to_owned();
    let missing = |member: &str| {
        let (offset, member) = (offset(index, MANIFEST), member.to_owned());
        DockerError::Missing { path: path(), offset, number, member }
    };
    let name = member(index, &entry.config)?;
    let bytes = index.content(&name, MAX_CONFIG)?.ok_or_else(|| missing(&entry.config))?;
    let config = Config::parse(&bytes).map_err(|source| malformed(index, &name, source))?;
    let config_digest = Digest::of(Algorithm::Sha256, &bytes);
    if let Some(named) = named_digest(&name).filter(|named| *named != config_digest) {
        let offset = offset(index, &name);
        return Err(DockerError::ConfigDiffers { path: path(), offset, named, found: config_digest });
    }
    let diff_ids = config.rootfs.diff_ids.unwrap_or_default();
    if diff_ids.len() != entry.layers.len() {
        let (offset, layers, diff_ids) = (offset(index, MANIFEST), entry.layers.len(), diff_ids.len());
        return Err(DockerError::LayersDiffer { path: path(), offset, number, layers, diff_ids });
    }
    let is_it = |manifest: &&Manifest| match &manifest.body {
        Body::Image { config, layers } => config.digest == config_digest && layers.len() == diff_ids.len(),
        Body::Index { .. } => false,
    };
    let inner = inner.iter().find(is_it);
    let mut annotations = inner.into_iter().flat_map(|manifest| match &manifest.body {
        Body::Image { layers, .. } => {
            layers.iter().map(|layer| layer.annotations.clone().unwrap_or_default()).collect()
        }
        Body::Index { .. } => Vec::new(),
    });
    let mut layers = Vec::with_capacity(diff_ids.len());
    for (diff_id, layer) in diff_ids.into_iter().zip(&entry.layers) {
        let name = member(index, layer)?;
        let part = index.part(&name)?.ok_or_else(|| missing(layer))?;
        let packing = layer_packing(index, &name, &part)?;
        layers.push(DockerLayer { diff_id, part, packing, annotations: annotations.next().unwrap_or_default() });
    }
    let own = inner.and_then(|manifest| manifest.annotations.clone());
    let annotations = own.and_then(|own| serde_json::from_value(own).ok()).unwrap_or_default();
    let names = entry.names.clone();
    Ok(DockerImage { names, config: bytes.into(), config_digest, layers, annotations, platform: config.platform })
}

/// The member that `manifest.json` means.
fn member(index: &TarIndex, name: &str) -> Result<String, DockerError> {
    super::tar::normal(name.as_bytes()).map_err(|flaw| index.error(offset(index, MANIFEST), flaw).into())
}

/// How a layer is packed; what docker takes and no registry does is refused.
fn layer_packing(index: &TarIndex, member: &str, part: &Part) -> Result<Packing, DockerError> {
    let mut begin = [0; 6];
    let offset = offset(index, member);
    let unreadable = |source| index.error(offset, super::tar::Flaw::Unreadable(source));
    let length = part.fill(&mut begin, 0).map_err(unreadable)?;
    match packing(&begin[..length]) {
        other @ (Packing::Bzip2 | Packing::Xz) => {
            let (path, member, packing) = (index.path().to_owned(), member.to_owned(), other.name());
            Err(DockerError::LayerPacked { path, offset, member, packing })
        }
        known => Ok(known),
    }
}

/// The digest that a config's name stands for, if it does: `<hex>.json`, `sha256:<hex>`, `blobs/sha256/<hex>`.
fn named_digest(name: &str) -> Option<Digest> {
    let name = name.rsplit('/').next().unwrap_or(name);
    let hex = name.strip_suffix(".json").unwrap_or(name);
    let hex = hex.strip_prefix("sha256:").unwrap_or(hex);
    Digest::parse(&format!("sha256:{hex}")).ok()
}

fn offset(index: &TarIndex, member: &str) -> u64 {
    index.offset(member).unwrap_or_default()
}

fn malformed(index: &TarIndex, member: &str, source: Cause) -> DockerError {
    let (path, member, offset) = (index.path().to_owned(), member.to_owned(), offset(index, member));
    DockerError::Malformed { path, offset, member, source }
}

#[cfg(test)]
mod tests;
