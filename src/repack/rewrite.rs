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

/// Layers, by the digests of those in whose place they stand.
pub type Layers = HashMap<Digest, Repacked>;

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
pub fn rewrite(image: &Image, layers: &Layers) -> Result<Image, ManifestError> {
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
fn changed(node: &Node, layers: &Layers, moved: &HashMap<&Digest, Moved>) -> Option<Value> {
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

fn replace_layer(layer: &mut Value, layers: &Layers) -> bool {
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
fn renewed(node: &Node, manifest: Manifest, layers: &Layers) -> Node {
    let swap = can_run(node);
    let now = |digest: &Digest| match layers.get(digest).filter(|_| swap) {
        Some(layer) => layer.digest.clone(),
        None => digest.clone(),
    };
    Node { manifest, blobs: node.blobs.iter().map(now).collect(), height: node.height }
}

/// What the nodes need: of the old blobs those that are still named, and the new ones.
fn blobs(image: &Image, nodes: &[Node], layers: &Layers) -> BTreeMap<Digest, Blob> {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::{Content, Raw, Role};

    const IMAGE: &str = "application/vnd.oci.image.manifest.v1+json";
    const INDEX: &str = "application/vnd.oci.image.index.v1+json";
    const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
    const GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
    const ZSTD: &str = "application/vnd.oci.image.layer.v1.tar+zstd";

    fn digest(text: &str) -> Digest {
        Digest::of(Algorithm::Sha256, text.as_bytes())
    }

    fn descriptor(media_type: &str, text: &str) -> Value {
        json!({"mediaType": media_type, "digest": digest(text).as_str(), "size": text.len()})
    }

    /// Puts images together out of documents.
    #[derive(Default)]
    struct Builder {
        nodes: Vec<Node>,
        blobs: BTreeMap<Digest, Blob>,
    }

    impl Builder {
        fn add(&mut self, media_type: &str, document: &Value) -> Value {
            let bytes = document.to_string();
            let digest = digest(&bytes);
            let descriptor = json!({"mediaType": media_type, "digest": digest.as_str(), "size": bytes.len()});
            let manifest = Manifest::parse(&media_type.into(), &digest, bytes.into()).unwrap();
            let blobs: Vec<Digest> = manifest.blobs().map(|blob| blob.digest.clone()).collect();
            for blob in manifest.blobs() {
                let (digest, size, media_type) = (blob.digest.clone(), blob.size, blob.media_type.clone());
                let content = Content::Held(Bytes::new());
                self.blobs.insert(digest.clone(), Blob { digest, size, media_type, role: Role::Config, content });
            }
            self.nodes.push(Node { manifest, blobs, height: 0 });
            descriptor
        }

        fn image(&mut self, config: &str, layers: &[&str]) -> Value {
            let layers: Vec<Value> = layers.iter().map(|layer| descriptor(GZIP, layer)).collect();
            let document = json!({"schemaVersion": 2, "mediaType": IMAGE, "x-unknown": {"b": 1, "a": 2},
                "config": descriptor(CONFIG, config), "layers": layers});
            self.add(IMAGE, &document)
        }

        fn build(self, root: &Value, referrers: &[&Value]) -> Image {
            let parse = |descriptor: &Value| Digest::parse(descriptor["digest"].as_str().unwrap()).unwrap();
            let referrers = referrers.iter().map(|descriptor| parse(descriptor)).collect();
            Image::new(self.nodes, parse(root), referrers, self.blobs, Vec::new())
        }
    }

    /// What is made of each of these layers.
    fn made(layers: &[&str]) -> HashMap<Digest, Repacked> {
        let repacked = layers.iter().map(|layer| {
            let raw = Raw {
                digest: digest(layer),
                diff_id: digest(layer),
                size: 1,
                role: Role::Config,
                content: None,
                as_is: false,
            };
            let now = format!("{layer} in zstd");
            let content = Content::Made(std::sync::Arc::new(raw));
            let (size, media_type) = (now.len() as u64, ZSTD.into());
            (digest(layer), Repacked { digest: digest(&now), size, media_type, content })
        });
        repacked.collect()
    }

    fn document(image: &Image, digest: &Digest) -> Value {
        serde_json::from_slice(&image.node(digest).unwrap().manifest.bytes).unwrap()
    }

    #[test]
    fn everything_points_to_what_is_there_now() {
        let mut builder = Builder::default();
        let amd = builder.image("amd config", &["base", "amd"]);
        let arm = builder.image("arm config", &["base", "arm"]);
        let mut attestation = builder.add(
            IMAGE,
            &json!({"schemaVersion": 2, "mediaType": IMAGE, "config": descriptor(CONFIG, "attestation"),
                "layers": [descriptor("application/vnd.in-toto+json", "statement")]}),
        );
        attestation["annotations"] =
            json!({REFERENCE_DIGEST: amd["digest"], "vnd.docker.reference.type": "attestation-manifest"});
        let index = builder.add(
            INDEX,
            &json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [amd, arm, attestation],
                "annotations": {"kept": "yes"}}),
        );
        let signature = builder.add(
            IMAGE,
            &json!({"schemaVersion": 2, "mediaType": IMAGE, "config": descriptor("application/vnd.oci.empty.v1+json", "{}"),
                "layers": [descriptor("text/plain", "signature"), descriptor(GZIP, "base")], "subject": amd}),
        );
        let old = builder.build(&index, &[&signature]);
        let new = rewrite(&old, &made(&["base", "amd", "arm"])).unwrap();

        let root = new.root();
        assert_ne!(root.manifest.digest, old.root().manifest.digest);
        let document_of = |digest: &Digest| document(&new, digest);
        let index = document_of(&root.manifest.digest);
        assert_eq!(index["annotations"], json!({"kept": "yes", FROM: old.root().manifest.digest.as_str()}));
        for node in new.nodes() {
            for child in node.manifest.children() {
                let there = new.node(&child.digest).unwrap();
                assert_eq!(child.size, there.manifest.bytes.len() as u64);
            }
            for blob in &node.blobs {
                assert!(new.blob(blob).is_some(), "{blob} is lacking");
            }
        }
        let amd = root.manifest.children()[0].digest.clone();
        assert_eq!(index["manifests"][2]["annotations"][REFERENCE_DIGEST], json!(amd.as_str()));
        assert_eq!(index["manifests"][2]["digest"], attestation["digest"], "an attestation is left as it is");
        let image = document_of(&amd);
        assert_eq!(image["layers"][0]["mediaType"], json!(ZSTD));
        assert_eq!(image["layers"][0]["digest"], json!(digest("base in zstd").as_str()));
        assert_eq!(image["config"]["digest"], json!(digest("amd config").as_str()));
        assert_eq!(image["x-unknown"].to_string(), r#"{"b":1,"a":2}"#);
        assert!(image.get("manifests").is_none() && image.get("subject").is_none());

        let signature = document_of(&new.referrers()[0]);
        assert_eq!(signature["subject"]["digest"], json!(amd.as_str()));
        assert_eq!(signature["layers"][1]["digest"], json!(digest("base").as_str()), "no image, no layer");
    }

    #[test]
    fn what_does_not_change_keeps_its_bytes() {
        let mut builder = Builder::default();
        let image = builder.image("config", &["base"]);
        let old = builder.build(&image, &[]);
        let new = rewrite(&old, &made(&["another"])).unwrap();
        assert_eq!(new.root().manifest.bytes, old.root().manifest.bytes);
    }

    #[test]
    fn dockers_manifests_become_oci_manifests() {
        let mut builder = Builder::default();
        let docker = "application/vnd.docker.distribution.manifest.v2+json";
        let gzip = "application/vnd.docker.image.rootfs.diff.tar.gzip";
        let mut stargz = descriptor(gzip, "base");
        stargz["annotations"] = json!({"containerd.io/snapshot/stargz/toc.digest": "sha256:…", "mine": "yes"});
        let image = builder.add(
            docker,
            &json!({"schemaVersion": 2, "mediaType": docker,
                "config": descriptor("application/vnd.docker.container.image.v1+json", "config"),
                "layers": [stargz, descriptor(gzip, "kept")]}),
        );
        let old = builder.build(&image, &[]);
        let new = rewrite(&old, &made(&["base"])).unwrap();
        let document = document(&new, &new.root().manifest.digest);
        assert_eq!(document["mediaType"], json!(IMAGE));
        assert_eq!(document["config"]["mediaType"], json!(CONFIG));
        let layers: Vec<&str> = [0, 1].iter().map(|at| document["layers"][at]["mediaType"].as_str().unwrap()).collect();
        assert_eq!(layers, [ZSTD, GZIP]);
        assert_eq!(document["layers"][0]["annotations"], json!({"mine": "yes"}));
    }
}
