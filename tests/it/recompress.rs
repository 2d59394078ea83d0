//! `--recompress`: other layers with the same content, and manifests, indexes and referrers that fit them.

use std::collections::BTreeMap;
use std::fs;

use local_ecr::LocalEcr;
use serde_json::{Value, json};

use crate::support::archive::{self, Era, LARGE, Saved, Stored, assert_pushed, blob, manifest, of_layout, unpacked};
use crate::support::layout::{digest, fixture_names, sha256};
use crate::support::{Layout, Push, Tree, builder, ecr, reference, requests, start};

const FROM: &str = "ecr-push.recompressed-from";
const ZSTD: [&str; 2] = ["--recompress", "--compression=zstd"];

/// What has become of an image, by the digests that it had in its layout.
struct Moved<'a> {
    ecr: &'a LocalEcr,
    layout: &'a Layout,
    /// New digests by old ones, as the annotation tells.
    now: BTreeMap<String, String>,
}

impl<'a> Moved<'a> {
    /// Reads what repository `app` has.
    fn of(ecr: &'a LocalEcr, layout: &'a Layout) -> Self {
        let manifests = ecr.here().manifests("app");
        let moved = |new: &String| {
            let bytes = ecr.manifest("app", new)?;
            let document: Value = serde_json::from_slice(&bytes).ok()?;
            Some((document["annotations"][FROM].as_str()?.to_owned(), new.clone()))
        };
        Self { ecr, layout, now: manifests.iter().filter_map(moved).collect() }
    }

    fn now(&self, old: &str) -> String {
        self.now.get(old).cloned().unwrap_or_else(|| old.to_owned())
    }

    fn old(&self, digest: &str) -> Vec<u8> {
        fs::read(self.layout.blob(digest)).unwrap_or_else(|error| panic!("{digest}: {error}"))
    }

    /// Asserts that a manifest and all below it is there, and is what it was but for its layers' compression.
    #[track_caller]
    fn is_whole(&self, old: &str) {
        let new = self.now(old);
        let before: Value = serde_json::from_slice(&self.old(old)).unwrap();
        let after: Value = if new == old {
            serde_json::from_slice(&self.ecr.manifest("app", old).unwrap_or_else(|| panic!("no manifest {old}")))
                .unwrap()
        } else {
            manifest(self.ecr, "app", &new)
        };
        if new == old {
            assert_eq!(after, before);
        } else {
            let mut annotations = before["annotations"].clone();
            annotations[FROM] = json!(old);
            assert_eq!(after["annotations"], annotations, "{old}");
            let is_index = before.get("manifests").is_some();
            let kind = if is_index { "index" } else { "manifest" };
            assert_eq!(after["mediaType"], format!("application/vnd.oci.image.{kind}.v1+json"), "{old}");
            // Whatever else there is stays.
            for (key, value) in before.as_object().unwrap() {
                if !["annotations", "mediaType", "layers", "manifests", "config", "subject"].contains(&&**key) {
                    assert_eq!(&after[key], value, "{key} of {old}");
                }
            }
        }
        self.config_is_kept(&before, &after);
        self.layers_are_kept(&before, &after);
        self.children_are_kept(&before, &after);
        if let Some(subject) = before.get("subject") {
            let now = self.now(digest(subject));
            assert_eq!(after["subject"]["digest"], now, "the subject of {old}");
            // What is pushed alone may have its subject elsewhere.
            let size = self.ecr.manifest("app", &now).map_or(subject["size"].clone(), |bytes| json!(bytes.len()));
            assert_eq!(after["subject"]["size"], size, "the subject of {old}");
        }
    }

    fn config_is_kept(&self, before: &Value, after: &Value) {
        let Some(config) = before.get("config") else { return };
        assert_eq!(after["config"]["digest"], config["digest"]);
        assert_eq!(after["config"]["size"], config["size"]);
        assert!(self.ecr.has_blob("app", digest(config)), "no config {config}");
    }

    fn layers_are_kept(&self, before: &Value, after: &Value) {
        let list = |document: &Value| document["layers"].as_array().cloned().unwrap_or_default();
        assert_eq!(list(before).len(), list(after).len());
        for (was, is) in list(before).iter().zip(list(after)) {
            let media_type = was["mediaType"].as_str().unwrap();
            let withheld = media_type.contains("nondistributable") || media_type.contains("foreign");
            let can_run = before["config"]["mediaType"].as_str().unwrap().contains(".image");
            if withheld || !can_run || !media_type.contains("tar") {
                assert_eq!((&is["digest"], &is["size"]), (&was["digest"], &was["size"]), "{was}");
                assert_eq!(self.ecr.has_blob("app", digest(was)), !withheld, "{was}");
                continue;
            }
            assert_eq!(is["mediaType"], "application/vnd.oci.image.layer.v1.tar+zstd", "{was}");
            let content = unpacked("+zstd", &blob(self.ecr, "app", &is));
            assert!(content == unpacked(media_type, &self.old(digest(was))), "the content of {was} has changed");
            assert!(is.get("data").is_none(), "{is}");
        }
    }

    fn children_are_kept(&self, before: &Value, after: &Value) {
        let list = |document: &Value| document["manifests"].as_array().cloned().unwrap_or_default();
        assert_eq!(list(before).len(), list(after).len());
        for (was, is) in list(before).iter().zip(list(after)) {
            let mut expected = was.clone();
            let now = self.now(digest(was));
            expected["digest"] = json!(now);
            expected["size"] = json!(self.ecr.manifest("app", &now).unwrap_or_else(|| panic!("no {now}")).len());
            expected["mediaType"] = is["mediaType"].clone();
            let spoken_of = was["annotations"]["vnd.docker.reference.digest"].as_str();
            if let Some(image) = spoken_of {
                expected["annotations"]["vnd.docker.reference.digest"] = json!(self.now(image));
            }
            expected.as_object_mut().unwrap().remove("data");
            assert_eq!(is, expected);
            self.is_whole(digest(was));
        }
    }
}

#[test]
fn every_layout_with_other_layers() {
    for name in fixture_names("good") {
        let layout = Layout::fixture(&format!("good/{name}"));
        for entry in layout.entries() {
            let root = digest(&entry);
            let ecr = start(builder().sha512(true));
            let before = Tree::of(layout.parent());
            let ran = Push::of(layout.choosing(&format!("@{root}"))).at(&ecr).to("app:v1").args(ZSTD).run().exits(0);
            let moved = Moved::of(&ecr, &layout);
            let new = moved.now(root);
            assert_eq!(ecr.tag("app", "v1").as_ref(), Some(&new), "{name}");
            let ran = ran.prints(&[&reference(&ecr, "app", &new)]);
            if new != root {
                ran.says([root, &new, "recompressed"]);
            }
            moved.is_whole(root);
            for referrer in
                layout.entries().iter().filter(|entry| ecr.manifest("app", &moved.now(digest(entry))).is_some())
            {
                moved.is_whole(digest(referrer));
            }
            before.is_unchanged(layout.parent());
        }
    }
}

/// The new digest of what a layout has.
fn recompressed(layout: &Layout) -> (LocalEcr, String) {
    let ecr = ecr();
    Push::of(layout.path()).at(&ecr).to("app:v1").args(ZSTD).run().exits(0);
    let new = ecr.tag("app", "v1").expect("a tag");
    (ecr, new)
}

#[test]
fn images_get_a_new_digest_and_keep_what_refers_to_them() {
    for (name, manifests) in [("index", 3), ("docker-schema2", 1), ("referrers", 4), ("attestations", 3)] {
        let layout = Layout::fixture(&format!("good/{name}"));
        let (ecr, new) = recompressed(&layout);
        assert_ne!(new, layout.root(), "{name}");
        assert_eq!(manifest(&ecr, "app", &new)["annotations"][FROM], layout.root(), "{name}");
        assert_eq!(ecr.here().manifests("app").len(), manifests, "{name}");
        assert!(!ecr.here().manifests("app").contains(&layout.root()), "{name}: what was isn't pushed");
    }
}

#[test]
fn a_signature_follows_its_image() {
    let layout = Layout::fixture("good/referrers");
    let (ecr, new) = recompressed(&layout);
    let subjects = ecr.here().manifests("app").into_iter().filter_map(|digest| {
        let document = manifest(&ecr, "app", &digest);
        Some((
            digest,
            document["artifactType"].as_str()?.to_owned(),
            document["subject"]["digest"].as_str()?.to_owned(),
        ))
    });
    let subjects: Vec<_> = subjects.collect();
    let sbom = subjects.iter().find(|(_, kind, _)| kind == "application/spdx+json").expect("an SBOM");
    assert_eq!(sbom.2, new);
    let mut signed: Vec<_> = subjects.iter().filter(|(_, kind, _)| kind.contains("cosign")).map(|it| &it.2).collect();
    let mut expected = vec![&new, &sbom.0];
    signed.sort();
    expected.sort();
    assert_eq!(signed, expected);
}

/// An image of gzip'd layers that are large enough to be compressed on their way.
fn large() -> (Layout, Saved) {
    packed(Saved::usual())
}

fn packed(saved: Saved) -> (Layout, Saved) {
    let layout = Layout::empty();
    let layers: Vec<Value> = saved
        .layers
        .iter()
        .map(|layer| layout.add("application/vnd.oci.image.layer.v1.tar+gzip", &archive::gzip(layer)))
        .collect();
    let config = layout.add("application/vnd.oci.image.config.v1+json", &saved.config);
    let media_type = "application/vnd.oci.image.manifest.v1+json";
    let manifest = json!({"schemaVersion": 2, "mediaType": media_type, "config": config, "layers": layers});
    layout.list(&layout.add(media_type, manifest.to_string().as_bytes()), Some("v1"));
    (layout, saved)
}

#[test]
fn large_layers_are_recompressed_on_their_way() {
    let (layout, saved) = large();
    assert!(saved.layers[0].len() > LARGE);
    let (ecr, new) = recompressed(&layout);
    assert_pushed(&ecr, "app", &new, &saved, "+zstd");
    assert_eq!(requests(&ecr, "PATCH", "").len(), 1, "the other one is small enough when it is packed");
    let stored = Stored::new(&of_layout(&layout, true));
    for threads in ["1", "2", "8"] {
        let push = Push::of(stored.path()).at(&ecr).to("app:v2").args(ZSTD);
        push.args(["--compression-threads", threads]).run().exits(0).prints(&[&reference(&ecr, "app", &new)]);
    }
    let wrong = sha256(b"something else");
    let ran = Push::of(layout.path()).at(&ecr).to(&format!("app:v3@{wrong}")).args(ZSTD).run().exits(2);
    ran.prints(&[]).says([new.as_str(), wrong.as_str()]);
    assert_eq!(ecr.tags("app"), ["v1", "v2"]);
}

#[test]
fn an_image_of_large_layers_alone_is_recompressed() {
    let (layout, saved) = packed(Saved::new(&["app:v1"], vec![archive::layer(1, LARGE), archive::layer(2, LARGE)]));
    let (ecr, new) = recompressed(&layout);
    assert_pushed(&ecr, "app", &new, &saved, "+zstd");
    assert_eq!(requests(&ecr, "PATCH", "").len(), 2);
}

#[test]
fn a_layer_that_cannot_be_unpacked_never_arrives() {
    for at in [0, 1] {
        let (layout, saved) = large();
        let document: Value = serde_json::from_slice(&fs::read(layout.blob(&layout.root())).unwrap()).unwrap();
        let layer = digest(&document["layers"][at]).to_owned();
        let mut bytes = fs::read(layout.blob(&layer)).unwrap();
        let last = bytes.len() - 20;
        bytes[last] ^= 1;
        fs::write(layout.blob(&layer), bytes).unwrap();
        let ecr = start(builder().upload_cancel(true));
        let before = Tree::of(layout.parent());
        let ran =
            Push::of(layout.path()).at(&ecr).to("app:v1").args(ZSTD).args(["--cleanup"]).run().exits(3).prints(&[]);
        ran.says([&layer[7..]]);
        assert!(ecr.tags("app").is_empty() && ecr.here().manifests("app").is_empty(), "layer {at} of {}", saved.id());
        assert_eq!(ecr.open_sessions(), 0);
        before.is_unchanged(layout.parent());
    }
}

#[test]
fn what_is_pushed_with_other_layers_is_cleaned_up() {
    let (layout, _) = large();
    let ecr = ecr();
    Push::of(layout.path()).at(&ecr).to("app:v1").args(ZSTD).args(["--cleanup"]).run().exits(0);
    assert!(!layout.path().exists());
}

#[test]
fn compressed_layers_of_a_docker_archive_are_recompressed() {
    let (ecr, image) = (ecr(), Saved::usual());
    let stored = Stored::new(&Era::Jib.save(&[&image]));
    for (compression, packing) in [("zstd", "+zstd"), ("gzip", "+gzip"), ("none", "")] {
        let args = ["--recompress".to_owned(), format!("--compression={compression}")];
        Push::of(stored.path()).at(&ecr).to(&format!("app:{compression}")).args(args).run().exits(0);
        let root = ecr.tag("app", compression).expect("a tag");
        assert_pushed(&ecr, "app", &root, &image, packing);
    }
}
