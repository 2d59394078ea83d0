//! Compressing an image's layers anew: which of them, and what the image is like afterwards.
//!
//! Compresses nothing itself: that happens while a layer is sent (`push::streams`), unless it is known from before what it
//! becomes.

pub mod assemble;
mod rewrite;

use std::collections::HashSet;
use std::io;
use std::sync::Arc;

use serde::Deserialize;
use thiserror::Error;

pub use self::rewrite::{FROM, Layers, rewrite};
use crate::cause::Cause;
use crate::image::{Content, Image, Node, Raw, Role};
use crate::oci::descriptor::{Descriptor, MediaType};
use crate::oci::digest::Digest;
use crate::oci::manifest::{Body, MAX_SIZE};

/// A layer after it was compressed.
#[derive(Debug, Clone)]
pub struct Repacked {
    /// Its digest.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
    /// Its media type.
    pub media_type: MediaType,
    /// Where its bytes are, or what they are made of.
    pub content: Content,
}

/// Why an image's layers can't be compressed anew.
#[derive(Debug, Error)]
pub enum RepackError {
    /// A config can't be read.
    #[error("config {digest} can't be read")]
    Unreadable {
        /// The config.
        digest: Digest,
        /// What the system said.
        source: io::Error,
    },
    /// A config isn't what it should be.
    #[error("config {digest} is malformed")]
    Malformed {
        /// The config.
        digest: Digest,
        /// Where and why.
        source: Cause,
    },
    /// An engine's export, in which the config is, can't be had.
    #[error("the engine doesn't export the image")]
    Export(#[source] Cause),
    /// An engine's export hasn't got it.
    #[error("the engine's export holds no config with the layers that the image has")]
    NoConfig,
    /// Config and manifest disagree.
    #[error("config {config} names {diff_ids} layers, and manifest {manifest} has {layers}")]
    LayersDiffer {
        /// The manifest.
        manifest: Digest,
        /// Its layers.
        layers: usize,
        /// The config.
        config: Digest,
        /// Its `diff_ids`.
        diff_ids: usize,
    },
}

#[derive(Deserialize)]
struct ConfigJson {
    rootfs: RootFs,
}

#[derive(Deserialize)]
struct RootFs {
    diff_ids: Vec<Digest>,
}

/// The digests of an image's layers, if these bytes are its config.
#[must_use]
pub fn diff_ids_of(config: &[u8]) -> Option<Vec<Digest>> {
    serde_json::from_slice::<ConfigJson>(config).ok().map(|config| config.rootfs.diff_ids)
}

/// Every layer of every image in `image` that can be compressed, once each. Signatures, SBOMs and attestations are no images,
/// and what they call layers is left as it is.
///
/// # Errors
/// When an image's config can't be read, or has other layers than its manifest.
pub fn layers(image: &Image) -> Result<Vec<Arc<Raw>>, RepackError> {
    let (mut seen, mut found) = (HashSet::new(), Vec::new());
    for node in image.nodes() {
        let Some((config, layers)) = runnable(node) else { continue };
        let diff_ids = diff_ids(image, config)?;
        if diff_ids.len() != layers.len() {
            return Err(RepackError::LayersDiffer {
                manifest: node.manifest.digest.clone(),
                layers: layers.len(),
                config: config.digest.clone(),
                diff_ids: diff_ids.len(),
            });
        }
        for (at, (layer, diff_id)) in layers.iter().zip(diff_ids).enumerate() {
            let Some(blob) = image.blob(&layer.digest).filter(|_| is_tar(&layer.media_type)) else { continue };
            if seen.insert(&layer.digest) {
                found.push(Arc::new(Raw {
                    digest: layer.digest.clone(),
                    diff_id,
                    size: layer.size,
                    role: Role::Layer { number: at + 1, of: layers.len() },
                    content: Some(blob.content.clone()).filter(|content| !matches!(content, Content::Made(_))),
                    as_is: false,
                }));
            }
        }
    }
    Ok(found)
}

/// Config and layers of what can run.
fn runnable(node: &Node) -> Option<(&Descriptor, &[Descriptor])> {
    match &node.manifest.body {
        Body::Image { config, layers } if is_config(&config.media_type) => Some((config, layers)),
        Body::Image { .. } | Body::Index { .. } => None,
    }
}

fn diff_ids(image: &Image, config: &Descriptor) -> Result<Vec<Digest>, RepackError> {
    let digest = || config.digest.clone();
    let unreadable = |source| RepackError::Unreadable { digest: digest(), source };
    let bytes = match image.blob(&config.digest) {
        Some(blob) if blob.size <= MAX_SIZE => blob.content.read().map_err(unreadable)?,
        _ => return Err(unreadable(io::ErrorKind::FileTooLarge.into())),
    };
    let parsed: Result<ConfigJson, _> = serde_json::from_slice(&bytes);
    Ok(parsed.map_err(|error| RepackError::Malformed { digest: digest(), source: Cause::new(error) })?.rootfs.diff_ids)
}

fn is_config(media_type: &MediaType) -> bool {
    matches!(
        media_type.as_str(),
        "application/vnd.oci.image.config.v1+json" | "application/vnd.docker.container.image.v1+json"
    )
}

/// Whether it is a layer that may be distributed, compressed or not.
fn is_tar(media_type: &MediaType) -> bool {
    matches!(
        media_type.as_str(),
        "application/vnd.oci.image.layer.v1.tar"
            | "application/vnd.oci.image.layer.v1.tar+gzip"
            | "application/vnd.oci.image.layer.v1.tar+zstd"
            | "application/vnd.docker.image.rootfs.diff.tar"
            | "application/vnd.docker.image.rootfs.diff.tar.gzip"
            | "application/vnd.docker.image.rootfs.diff.tar.zstd"
    )
}
