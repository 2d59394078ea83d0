//! An image with other layers: new manifests, indexes and referrers that fit each other again. Pure.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;
use serde_json::{Value, json};

use super::{Repacked, is_config};
use crate::image::{Blob, Image, Node, role};
use crate::oci::descriptor::MediaType;
use crate::oci::digest::{Algorithm, Digest};
use crate::oci::manifest::{Body, Manifest, ManifestError};

/// The annotation in which a rewritten manifest names the digest that it had before.
pub const FROM: &str = "ecr-push.recompressed-from";

/// What BuildKit calls the manifest that an attestation in an index speaks of.
const REFERENCE_DIGEST: &str = "vnd.docker.reference.digest";

/// Annotations of a layer that are about its compressed bytes, and wrong for others.
const OF_BYTES: [&str; 3] = ["containerd.io/snapshot/stargz/", "io.github.containers.zstd-chunked.", "io.containers."];

/// Where a manifest has gone.
struct Moved {
    digest: Digest,
    size: usize,
    media_type: MediaType,
}

/// `image` with these layers in place of those whose digests they stand under. Manifests that change become OCI manifests,
/// since Docker's have no name for zstd; the rest, and what is unknown in them, stays as it is.
///
/// # Errors
/// When a manifest that was made can't be read again, which would be a bug.
pub fn rewrite(image: &Image, layers: &HashMap<Digest, Repacked>) -> Result<Image, ManifestError> {
    let mut moved: HashMap<&Digest, Moved> = HashMap::new();
    let mut nodes = Vec::with_capacity(image.nodes().len());
    for node in image.nodes() {
        match changed(node, layers, &moved) {
            Some(document) => {
                let bytes = Bytes::from(document.to_string());
                let digest = Digest::of(Algorithm::Sha256, &bytes);
                let media_type = oci(&node.manifest.media_type);
                let size = bytes.len();
                let manifest = Manifest::parse(&media_type, &digest, bytes)?;
                nodes.push(renewed(node, manifest, layers));
                moved.insert(&node.manifest.digest, Moved { digest, size, media_type });
            }
            None => nodes.push(node.clone()),
        }
    }
    let now = |digest: &Digest| moved.get(digest).map_or_else(|| digest.clone(), |moved| moved.digest.clone());
    let root = now(&image.root().manifest.digest);
    let referrers = image.referrers().iter().map(now).collect();
    let blobs = blobs(image, &nodes, layers);
    Ok(Image::new(nodes, root, referrers, blobs, image.withheld().to_vec()))
}

/// The manifest as it has to be now; `None` if it is what it was.
fn changed(node: &Node, layers: &HashMap<Digest, Repacked>, moved: &HashMap<&Digest, Moved>) -> Option<Value> {
    let mut document: Value = serde_json::from_slice(&node.manifest.bytes).ok()?;
    let mut changes = 0;
    if can_run(node) {
        for layer in list(&mut document, "layers") {
            changes += usize::from(replace_layer(layer, layers));
        }
    }
    for child in list(&mut document, "manifests") {
        changes += usize::from(point_to(child, moved));
        let spoken_of = child["annotations"][REFERENCE_DIGEST].as_str().and_then(|text| Digest::parse(text).ok());
        if let Some(now) = spoken_of.and_then(|digest| moved.get(&digest)) {
            child["annotations"][REFERENCE_DIGEST] = json!(now.digest.as_str());
            changes += 1;
        }
    }
    if let Some(subject) = document.get_mut("subject") {
        changes += usize::from(point_to(subject, moved));
    }
    if changes == 0 {
        return None;
    }
    let media_type = oci(&node.manifest.media_type);
    document["mediaType"] = json!(media_type.as_str());
    for key in ["config", "layers"] {
        for descriptor in document.get_mut(key).into_iter().flat_map(each) {
            if let Some(now) = descriptor["mediaType"].as_str().map(|text| oci(&text.into())) {
                descriptor["mediaType"] = json!(now.as_str());
            }
        }
    }
    if !document["annotations"].is_object() {
        document["annotations"] = json!({});
    }
    document["annotations"][FROM] = json!(node.manifest.digest.as_str());
    Some(document)
}

fn list<'a>(document: &'a mut Value, key: &str) -> impl Iterator<Item = &'a mut Value> {
    document.get_mut(key).and_then(Value::as_array_mut).into_iter().flatten()
}

fn each(value: &mut Value) -> Box<dyn Iterator<Item = &mut Value> + '_> {
    match value {
        Value::Array(all) => Box::new(all.iter_mut()),
        Value::Object(_) => Box::new(std::iter::once(value)),
        _ => Box::new(std::iter::empty()),
    }
}

/// Signatures and attestations keep their layers, even if they should have one in common with an image.
fn can_run(node: &Node) -> bool {
    matches!(&node.manifest.body, Body::Image { config, .. } if is_config(&config.media_type))
}

fn replace_layer(layer: &mut Value, layers: &HashMap<Digest, Repacked>) -> bool {
    let digest = layer["digest"].as_str().and_then(|text| Digest::parse(text).ok());
    let Some(now) = digest.and_then(|digest| layers.get(&digest)) else { return false };
    layer["mediaType"] = json!(now.media_type.as_str());
    layer["digest"] = json!(now.digest.as_str());
    layer["size"] = json!(now.size);
    if let Some(fields) = layer.as_object_mut() {
        // The bytes that these give are the old ones.
        fields.retain(|key, _| key != "data" && key != "urls");
    }
    if let Some(annotations) = layer.get_mut("annotations").and_then(Value::as_object_mut) {
        annotations.retain(|key, _| !OF_BYTES.iter().any(|prefix| key.starts_with(prefix)));
    }
    true
}

fn point_to(descriptor: &mut Value, moved: &HashMap<&Digest, Moved>) -> bool {
    let digest = descriptor["digest"].as_str().and_then(|text| Digest::parse(text).ok());
    let Some(now) = digest.and_then(|digest| moved.get(&digest)) else { return false };
    descriptor["mediaType"] = json!(now.media_type.as_str());
    descriptor["digest"] = json!(now.digest.as_str());
    descriptor["size"] = json!(now.size);
    if let Some(fields) = descriptor.as_object_mut() {
        fields.retain(|key, _| key != "data");
    }
    true
}

/// The OCI name of what Docker has a name of its own for; any other name as it is.
fn oci(media_type: &MediaType) -> MediaType {
    MediaType::from(match media_type.as_str() {
        "application/vnd.docker.distribution.manifest.v2+json" => "application/vnd.oci.image.manifest.v1+json",
        "application/vnd.docker.distribution.manifest.list.v2+json" => "application/vnd.oci.image.index.v1+json",
        "application/vnd.docker.container.image.v1+json" => "application/vnd.oci.image.config.v1+json",
        "application/vnd.docker.image.rootfs.diff.tar" => "application/vnd.oci.image.layer.v1.tar",
        "application/vnd.docker.image.rootfs.diff.tar.gzip" => "application/vnd.oci.image.layer.v1.tar+gzip",
        "application/vnd.docker.image.rootfs.diff.tar.zstd" => "application/vnd.oci.image.layer.v1.tar+zstd",
        "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip" => {
            "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"
        }
        other => other,
    })
}

/// The node of a manifest that took the place of `node`'s.
fn renewed(node: &Node, manifest: Manifest, layers: &HashMap<Digest, Repacked>) -> Node {
    let swap = can_run(node);
    let now = |digest: &Digest| match layers.get(digest).filter(|_| swap) {
        Some(layer) => layer.digest.clone(),
        None => digest.clone(),
    };
    Node { manifest, blobs: node.blobs.iter().map(now).collect(), height: node.height }
}

/// What the nodes need: of the old blobs those that are still named, and the new ones.
fn blobs(image: &Image, nodes: &[Node], layers: &HashMap<Digest, Repacked>) -> BTreeMap<Digest, Blob> {
    let by_new: HashMap<&Digest, &Repacked> = layers.values().map(|layer| (&layer.digest, layer)).collect();
    let mut blobs = BTreeMap::new();
    for node in nodes {
        let descriptors: Vec<_> = node.manifest.blobs().collect();
        for (at, descriptor) in descriptors.iter().enumerate() {
            let digest = &descriptor.digest;
            if blobs.contains_key(digest) || !node.blobs.contains(digest) {
                continue;
            }
            // What came out as it went in is sent as it is.
            let content = match (image.blob(digest), by_new.get(digest)) {
                (Some(old), _) => old.content.clone(),
                (None, Some(new)) => new.content.clone(),
                (None, None) => continue,
            };
            let (size, media_type, role) = (descriptor.size, descriptor.media_type.clone(), role(at, &descriptors));
            blobs.insert(digest.clone(), Blob { digest: digest.clone(), size, media_type, role, content });
        }
    }
    blobs
}
