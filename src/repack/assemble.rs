//! An OCI image out of what docker keeps: a config, and layers that its `diff_ids` name. Pure.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde_json::{Value, json};

use crate::image::{Blob, Content, Image, Node, Role};
use crate::oci::descriptor::MediaType;
use crate::oci::digest::{Algorithm, Digest};
use crate::oci::manifest::{Manifest, ManifestError};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";

/// A layer as the manifest will have it.
#[derive(Debug, Clone)]
pub struct Layer {
    /// Its digest.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
    /// Its media type.
    pub media_type: MediaType,
    /// Its annotations.
    pub annotations: BTreeMap<String, String>,
    /// Where its bytes are.
    pub content: Content,
}

/// The image of this config and these layers, the base first. The same input gives the same bytes: a second push must find
/// what the first one wrote. The config stays as it is.
///
/// # Errors
/// When the manifest that was made can't be read again, which would be a bug.
pub fn assemble(
    config: &Bytes,
    layers: Vec<Layer>,
    annotations: &BTreeMap<String, String>,
) -> Result<Image, ManifestError> {
    let digest = Digest::of(Algorithm::Sha256, config);
    let descriptors: Vec<Value> = layers.iter().map(descriptor).collect();
    let mut document = json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": {"mediaType": CONFIG, "digest": digest.as_str(), "size": config.len()},
        "layers": descriptors,
    });
    if !annotations.is_empty() {
        document["annotations"] = json!(annotations);
    }
    let bytes = Bytes::from(document.to_string());
    let root = Digest::of(Algorithm::Sha256, &bytes);
    let manifest = Manifest::parse(&MANIFEST.into(), &root, bytes)?;
    let of = layers.len();
    let mut blobs = BTreeMap::new();
    let mut names = vec![digest.clone()];
    let (size, content) = (config.len() as u64, Content::Held(config.clone()));
    blobs.insert(digest.clone(), Blob { digest, size, media_type: CONFIG.into(), role: Role::Config, content });
    for (at, layer) in layers.into_iter().enumerate() {
        let Layer { digest, size, media_type, content, .. } = layer;
        names.push(digest.clone());
        let role = Role::Layer { number: at + 1, of };
        blobs.entry(digest.clone()).or_insert(Blob { digest, size, media_type, role, content });
    }
    Ok(Image::new(vec![Node { manifest, blobs: names, height: 0 }], root, Vec::new(), blobs, Vec::new()))
}

fn descriptor(layer: &Layer) -> Value {
    let mut descriptor = json!({
        "mediaType": layer.media_type.as_str(),
        "digest": layer.digest.as_str(),
        "size": layer.size,
    });
    if !layer.annotations.is_empty() {
        descriptor["annotations"] = json!(layer.annotations);
    }
    descriptor
}
