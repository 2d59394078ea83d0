//! `--platform`: one platform is its manifest itself, several are a new index of what was there, and nothing else is read.

use std::collections::BTreeSet;
use std::fs;

use local_ecr::LocalEcr;
use serde_json::{Value, json};

use crate::support::layout::{INDEX, digest, sha256};
use crate::support::{Layout, Push, Ran, Tree, assert_arrived, ecr, reference};

/// An index of three platforms, each with an attestation, and with annotations.
struct Family {
    layout: Layout,
    /// The index.
    index: Value,
    /// Each platform with its entry, and that of its attestation.
    platforms: Vec<(&'static str, Value, Value)>,
}

impl Family {
    fn new() -> Self {
        let layout = Layout::empty();
        let platforms = ["linux/amd64", "linux/arm64/v8", "linux/arm/v6"].map(|text| {
            let mut image = layout.image(&[layout.layer(1000)]);
            image["platform"] = platform(text);
            image["annotations"] = json!({"com.example.built-on": "a \u{2116} 7 machine"});
            let mut attestation = layout.image(&[layout.layer(100)]);
            attestation["platform"] = json!({"architecture": "unknown", "os": "unknown"});
            attestation["annotations"] = json!({
                "vnd.docker.reference.digest": digest(&image), "vnd.docker.reference.type": "attestation-manifest",
            });
            (text, image, attestation)
        });
        let images = platforms.iter().map(|(_, image, _)| image.clone());
        let attestations = platforms.iter().map(|(_, _, attestation)| attestation.clone());
        let entries: Vec<Value> = images.chain(attestations).collect();
        let index = json!({
            "annotations": {"org.opencontainers.image.version": "1.2", "com.example.a": "1 < 2"},
            "schemaVersion": 2, "mediaType": INDEX, "manifests": entries,
        });
        let root = layout.add(INDEX, index.to_string().as_bytes());
        layout.list(&root, Some("v1"));
        Self { layout, index, platforms: platforms.into() }
    }

    fn root(&self) -> String {
        self.layout.root()
    }

    /// The digest of a platform's manifest.
    fn image(&self, at: usize) -> String {
        digest(&self.platforms[at].1).to_owned()
    }

    /// Takes away what of the others nobody needs.
    fn forget(&self, at: usize) {
        for entry in [&self.platforms[at].1, &self.platforms[at].2] {
            let reach = self.layout.reach(digest(entry));
            let kept = self.layout.reach(digest(&self.platforms[(at + 1) % 3].1));
            for blob in reach.manifests.iter().chain(&reach.blobs).filter(|blob| !kept.blobs.contains(*blob)) {
                let _ = fs::remove_file(self.layout.blob(blob));
            }
        }
    }

    fn push(&self, ecr: &LocalEcr, platforms: &[&str]) -> Ran {
        push(&self.layout, ecr, platforms).run()
    }
}

fn platform(text: &str) -> Value {
    let parts: Vec<&str> = text.split('/').collect();
    let mut platform = json!({"os": parts[0], "architecture": parts[1]});
    if let Some(variant) = parts.get(2) {
        platform["variant"] = json!(variant);
    }
    platform
}

fn push(layout: &Layout, ecr: &LocalEcr, platforms: &[&str]) -> Push {
    let options = platforms.iter().map(|platform| format!("--platform={platform}"));
    Push::of(layout.path()).at(ecr).to("app:v1").args(options)
}

fn manifests(ecr: &LocalEcr) -> BTreeSet<String> {
    ecr.here().manifests("app").into_iter().collect()
}

#[test]
fn one_platform_is_its_manifest_itself() {
    for (asked, at) in
        [("linux/amd64", 0), ("linux/x86_64", 0), ("linux/arm64", 1), ("linux/arm64/v8", 1), ("linux/arm", 2)]
    {
        let family = Family::new();
        let before = Tree::of(family.layout.parent());
        let (ecr, root) = (ecr(), family.image(at));
        let ran = family.push(&ecr, &[asked]).exits(0);
        ran.prints(&[&reference(&ecr, "app", &root)]).says(["warning:", asked, &root, &family.root(), "attestations"]);
        assert_arrived(&ecr, "app", &family.layout, &root);
        assert_eq!(ecr.here().manifests("app"), std::slice::from_ref(&root), "{asked}");
        assert_eq!(ecr.here().blobs("app"), Vec::from_iter(family.layout.reach(&root).blobs), "{asked}");
        assert_eq!(ecr.tag("app", "v1"), Some(root));
        before.is_unchanged(family.layout.parent());
    }
}

#[test]
fn several_platforms_are_a_new_index_in_the_old_order() {
    let family = Family::new();
    let ecr = ecr();
    // Not the order in which they lie there.
    let ran = family.push(&ecr, &["linux/arm64", "linux/amd64"]).exits(0);
    let root = ecr.tag("app", "v1").unwrap();
    ran.prints(&[&reference(&ecr, "app", &root)]).says(["warning:", "new index", &root, &family.root()]);
    let mut expected = family.index.clone();
    let kept = |entry: &Value| {
        let there = family.platforms[..2].iter().flat_map(|(_, image, attestation)| [image, attestation]);
        there.into_iter().any(|other| other == entry)
    };
    expected["manifests"].as_array_mut().unwrap().retain(kept);
    // As text: the order of fields is kept, too.
    let there = ecr.manifest("app", &root).unwrap();
    assert_eq!(std::str::from_utf8(&there).unwrap(), expected.to_string());
    assert_eq!(root, sha256(&there));
    for entry in expected["manifests"].as_array().unwrap() {
        assert_arrived(&ecr, "app", &family.layout, digest(entry));
    }
    assert_eq!(manifests(&ecr).len(), 5);
    // The same again is the same digest.
    family.push(&ecr, &["linux/amd64/v1", "linux/arm64", "linux/aarch64"]).exits(0);
    assert_eq!(ecr.tag("app", "v1"), Some(root));
}

#[test]
fn all_platforms_are_the_image_itself() {
    let family = Family::new();
    let ecr = ecr();
    let ran = family.push(&ecr, &["linux/amd64", "linux/arm64", "linux/arm/v6"]).exits(0);
    ran.prints(&[&reference(&ecr, "app", &family.root())]).says_nothing_of(["warning"]);
    assert_arrived(&ecr, "app", &family.layout, &family.root());
}

#[test]
fn what_is_not_chosen_may_be_missing() {
    let family = Family::new();
    family.forget(2);
    let ecr = ecr();
    family.push(&ecr, &["linux/arm64"]).exits(0);
    family.push(&ecr, &["linux/amd64", "linux/arm64"]).exits(0);
    // What is chosen may not.
    let before = ecr.registry_requests().len();
    family.push(&ecr, &["linux/arm"]).exits(3).says([family.image(2).as_str(), "missing"]);
    family.push(&ecr, &["linux/arm64", "linux/arm"]).exits(3).says([family.image(2).as_str(), "missing"]);
    assert_eq!(ecr.registry_requests().iter().skip(before).filter(|it| it.method != "GET").count(), 0);
}

#[test]
fn an_index_in_an_index_is_narrowed_as_well() {
    let layout = Layout::empty();
    let [amd64, arm64, s390x] = ["linux/amd64", "linux/arm64", "linux/s390x"].map(|text| {
        let mut image = layout.image(&[layout.layer(500)]);
        image["platform"] = platform(text);
        image
    });
    let mut inner = layout.index_of(&[amd64.clone(), arm64.clone()]);
    inner["annotations"] = json!({"com.example.inner": "yes"});
    let outer = layout.index_of(&[inner.clone(), s390x.clone()]);
    layout.list(&outer, None);
    let read =
        |ecr: &LocalEcr, root: &str| -> Value { serde_json::from_slice(&ecr.manifest("app", root).unwrap()).unwrap() };

    let one = ecr();
    push(&layout, &one, &["linux/arm64"]).run().exits(0).prints(&[&reference(&one, "app", digest(&arm64))]);

    let ecr = ecr();
    push(&layout, &ecr, &["linux/s390x", "linux/arm64"]).run().exits(0);
    let root = ecr.tag("app", "v1").unwrap();
    let entries = read(&ecr, &root)["manifests"].clone();
    assert_eq!(entries[1], s390x);
    assert_eq!(entries[0]["annotations"], inner["annotations"]);
    assert_ne!(entries[0]["digest"], inner["digest"]);
    assert_eq!(read(&ecr, digest(&entries[0]))["manifests"], json!([arm64]));
    assert_eq!(manifests(&ecr).len(), 4);

    // Nothing of the inner one is left out: it stays as it was.
    push(&layout, &ecr, &["linux/amd64", "linux/arm64"]).run().exits(0);
    let entries = read(&ecr, &ecr.tag("app", "v1").unwrap())["manifests"].clone();
    assert_eq!(entries, json!([inner]));
}

#[test]
fn an_image_without_index_is_of_the_platform_that_its_config_names() {
    let layout = Layout::fixture("good/one-manifest");
    let (ecr, root) = (ecr(), layout.root());
    let ran = push(&layout, &ecr, &["linux/arm64"]).run().exits(2).prints(&[]);
    ran.says(["linux/arm64", "linux/amd64", &root]);
    assert!(manifests(&ecr).is_empty());
    // Nothing is left out, and so nothing stands against clean-up.
    let ran = push(&layout, &ecr, &["linux/amd64"]).args(["--cleanup"]).run().exits(0);
    ran.prints(&[&reference(&ecr, "app", &root)]).says_nothing_of(["warning"]);
    assert!(!layout.path().exists());
}

#[test]
fn an_entry_without_platform_is_of_the_one_that_its_config_names() {
    let layout = Layout::empty();
    let plain = layout.image(&[layout.layer(500)]);
    let mut other = layout.image(&[layout.layer(500)]);
    other["platform"] = platform("linux/arm64");
    layout.list(&layout.index_of(&[plain.clone(), other]), None);
    let ecr = ecr();
    push(&layout, &ecr, &["linux/amd64"]).run().exits(0).prints(&[&reference(&ecr, "app", digest(&plain))]);
}

#[test]
fn what_is_not_there_or_not_clear_is_listed() {
    let family = Family::new();
    let ecr = ecr();
    let ran = family.push(&ecr, &["linux/amd64", "linux/s390x"]).exits(2).prints(&[]).says_one_error();
    ran.says(["linux/s390x", "linux/amd64", "linux/arm64/v8", "linux/arm/v6", &family.image(2)]);
    family.push(&ecr, &["linux/arm/v7"]).exits(2).says(["linux/arm/v6"]);
    family.push(&ecr, &["linux/arm64/v9"]).exits(2).says(["linux/arm64/v8"]);

    let layout = Layout::empty();
    let entries = ["linux/arm/v5", "linux/arm/v6"].map(|text| {
        let mut image = layout.image(&[layout.layer(500)]);
        image["platform"] = platform(text);
        image
    });
    layout.list(&layout.index_of(&entries), None);
    let ran = push(&layout, &ecr, &["linux/arm"]).run().exits(2).prints(&[]).says_one_error();
    ran.says(["several images for linux/arm", "linux/arm/v5", "linux/arm/v6", "variant"]);
    assert!(ecr.registry_requests().iter().all(|request| request.method == "GET"));
}

#[test]
fn referrers_of_what_is_chosen_go_along() {
    let family = Family::new();
    let entry =
        |value: &Value| json!({"mediaType": value["mediaType"], "digest": value["digest"], "size": value["size"]});
    let root = family.layout.entries()[0].clone();
    let signatures = [&root, &family.platforms[0].1, &family.platforms[2].1].map(|subject| {
        let signature = family.layout.referrer(&entry(subject), digest(subject));
        family.layout.list(&signature, None);
        digest(&signature).to_owned()
    });
    let ecr = ecr();
    let push = |platforms: &[&str]| {
        let options = platforms.iter().map(|platform| format!("--platform={platform}"));
        Push::of(family.layout.choosing(":v1")).at(&ecr).to("app:v1").args(options).run().exits(0)
    };
    let one = push(&["linux/amd64"]);
    one.prints(&[&reference(&ecr, "app", &family.image(0))]);
    assert_eq!(manifests(&ecr), BTreeSet::from([family.image(0), signatures[1].clone()]));
    push(&["linux/arm64", "linux/arm"]);
    let there = manifests(&ecr);
    assert!(there.contains(&signatures[2]), "that of a platform that was chosen");
    assert!(!there.contains(&signatures[0]), "that of the old index");
}

#[test]
fn a_digest_in_the_destination_is_that_of_what_is_pushed() {
    let family = Family::new();
    let ecr = ecr();
    let to = |digest: &str| {
        let push = Push::of(family.layout.path()).at(&ecr).to(&format!("app@{digest}"));
        push.args(["--platform=linux/arm64"]).run()
    };
    to(&family.root()).exits(2).says([family.root().as_str(), &family.image(1)]);
    to(&family.image(1)).exits(0).prints(&[&reference(&ecr, "app", &family.image(1))]);
}

#[test]
fn clean_up_is_refused_where_something_is_left_out() {
    let family = Family::new();
    let before = Tree::of(family.layout.parent());
    let ecr = ecr();
    let cleaning = |platforms: &[&str]| push(&family.layout, &ecr, platforms).args(["--cleanup"]).run();
    for platforms in [&["linux/amd64"][..], &["linux/amd64", "linux/arm64"]] {
        cleaning(platforms).exits(2).prints(&[]).says(["--cleanup", "--platform", &family.root()]);
    }
    assert!(manifests(&ecr).is_empty());
    before.is_unchanged(family.layout.parent());
    cleaning(&["linux/amd64", "linux/arm64", "linux/arm"]).exits(0);
    assert!(!family.layout.path().exists());
}

#[test]
fn the_environment_has_a_list() {
    let family = Family::new();
    let ecr = ecr();
    let list = "linux/amd64 linux/arm64";
    Push::of(family.layout.path()).at(&ecr).to("app:v1").env("ECR_PUSH_PLATFORM", list).run().exits(0);
    assert_eq!(manifests(&ecr).len(), 5);
    Push::of(family.layout.path())
        .at(&ecr)
        .to("app:v2")
        .env("ECR_PUSH_PLATFORM", "arm64")
        .run()
        .exits(2)
        .says(["arm64"]);
}

#[test]
fn a_docker_list_stays_one() {
    let layout = Layout::fixture("good/docker-list");
    let ecr = ecr();
    push(&layout, &ecr, &["linux/amd64", "linux/arm64"]).run().exits(0).prints(&[&reference(
        &ecr,
        "app",
        &layout.root(),
    )]);
    push(&layout, &ecr, &["linux/arm64"]).run().exits(0);
    let root = ecr.tag("app", "v1").unwrap();
    assert!(layout.reach(&layout.root()).manifests.contains(&root));
    assert_ne!(root, layout.root());
}
