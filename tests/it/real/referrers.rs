//! Signatures and SBOMs on a registry without the referrers API: they are found through the referrers tag.

use serde_json::Value;

use super::reader::Reader;
use super::{push, start};
use crate::support::layout::{Layout, digest};
use crate::support::servers::{DockerRegistry, Tool, left_out};

/// The tag under which whatever refers to `subject` is listed.
fn referrers_tag(subject: &str) -> String {
    subject.replace(':', "-")
}

/// What is listed as referring to `subject`: digests and artifact types, sorted.
fn listed(reader: &Reader, repository: &str, subject: &str) -> Vec<(String, String)> {
    let (bytes, _) = reader.manifest(repository, &referrers_tag(subject)).expect("there is a referrers tag");
    let index: Value = serde_json::from_slice(&bytes).expect("an index is JSON");
    assert_eq!(index["mediaType"], crate::support::layout::INDEX);
    let entries = index["manifests"].as_array().expect("an index lists manifests").iter();
    let mut listed: Vec<_> = entries
        .map(|entry| {
            let (bytes, found) = reader.manifest(repository, digest(entry)).expect("what is listed is there");
            assert_eq!((found.as_str(), Some(bytes.len() as u64)), (digest(entry), entry["size"].as_u64()));
            (found, entry["artifactType"].as_str().unwrap_or_default().to_owned())
        })
        .collect();
    listed.sort();
    listed
}

/// The layout's image, its SBOM, its signature, and the SBOM's signature.
struct Family {
    layout: Layout,
    image: String,
    sbom: String,
    signature: String,
    sbom_signature: String,
}

impl Family {
    fn new() -> Self {
        let layout = Layout::fixture("good/referrers");
        let find = |artifact: &str, subject: &str| {
            let entries = layout.entries().into_iter().map(|entry| digest(&entry).to_owned());
            let manifests = entries.map(|digest| (std::fs::read(layout.blob(&digest)).expect("it is there"), digest));
            let mut parsed =
                manifests.map(|(bytes, digest)| (serde_json::from_slice(&bytes).expect("it is JSON"), digest));
            let is = |manifest: &Value| {
                let kind = manifest["artifactType"].as_str().unwrap_or_default();
                kind.contains(artifact) && manifest["subject"]["digest"] == subject
            };
            parsed.find(|(manifest, _)| is(manifest)).expect("the layout has it").1
        };
        let image = layout.named("v1");
        let (sbom, signature) = (find("spdx", &image), find("cosign", &image));
        let sbom_signature = find("cosign", &sbom);
        Self { layout, image, sbom, signature, sbom_signature }
    }

    /// Asserts that all of them are there and found from each other.
    #[track_caller]
    fn is_found(&self, registry: &DockerRegistry) {
        let reader = Reader::of(registry);
        for root in [&self.image, &self.sbom, &self.signature, &self.sbom_signature] {
            reader.finds_all("app", &self.layout, root);
        }
        let cosign = "application/vnd.dev.cosign.artifact.sig.v1+json".to_owned();
        let mut expected =
            vec![(self.signature.clone(), cosign.clone()), (self.sbom.clone(), "application/spdx+json".to_owned())];
        expected.sort();
        assert_eq!(listed(&reader, "app", &self.image), expected);
        assert_eq!(listed(&reader, "app", &self.sbom), [(self.sbom_signature.clone(), cosign)]);
    }

    fn tags(&self) -> Vec<String> {
        let mut tags = vec!["v1".to_owned(), referrers_tag(&self.image), referrers_tag(&self.sbom)];
        tags.sort();
        tags
    }
}

#[test]
fn are_listed() {
    if left_out(&[Tool::DockerRegistry]) {
        return;
    }
    let (registry, family) = (start(), Family::new());
    push(family.layout.choosing(":v1"), &registry, "app:v1").run().exits(0);
    family.is_found(&registry);
    assert_eq!(registry.tags("app"), family.tags());

    // Again: one request for the tag, and one for each referrer.
    let (ran, requests) = registry.during(|| push(family.layout.choosing(":v1"), &registry, "app:v1").run());
    ran.exits(0);
    assert!(requests.iter().all(|request| request.method == "HEAD"), "{requests:?}");
    assert_eq!(requests.len(), 4);

    // Another tag, with clean-up: everything is looked up, nothing listed twice, and all of it goes from the disk.
    push(family.layout.choosing(":v1"), &registry, "app:v2").args(["--cleanup"]).run().exits(0);
    let again = Family::new();
    again.is_found(&registry);
    assert!(!family.layout.path().exists());
}

#[test]
fn are_added_to_what_is_listed() {
    if left_out(&[Tool::DockerRegistry]) {
        return;
    }
    let (registry, layout) = (start(), Layout::empty());
    let image = layout.image(&[layout.layer(1000)]);
    layout.list(&image, Some("v1"));
    let reader = Reader::of(&registry);
    let mut expected = Vec::new();
    for text in ["one", "two", "three"] {
        let referrer = layout.referrer(&image, text);
        layout.list(&referrer, None);
        push(layout.choosing(":v1"), &registry, "app:v1").run().exits(0);
        expected.push((digest(&referrer).to_owned(), "application/vnd.example.note".to_owned()));
        expected.sort();
        assert_eq!(listed(&reader, "app", digest(&image)), expected);
    }
}

#[test]
fn are_left_out_if_asked_for() {
    if left_out(&[Tool::DockerRegistry]) {
        return;
    }
    let (registry, family) = (start(), Family::new());
    push(family.layout.choosing(":v1"), &registry, "app:v1").args(["--no-referrers"]).run().exits(0);
    assert_eq!(registry.tags("app"), ["v1"]);
    let reader = Reader::of(&registry);
    assert_eq!(reader.manifest("app", &family.signature), None);
    let ran = push(family.layout.choosing(":v1"), &registry, "app:v1").args(["--no-referrers", "--cleanup"]).run();
    ran.exits(2).says_one_error();
    assert!(family.layout.path().exists());
}

#[test]
fn are_read_from_a_referrers_tag() {
    if left_out(&[Tool::DockerRegistry]) {
        return;
    }
    let (registry, family) = (start(), Family::new());
    let tagged = Layout::fixture("good/referrers-tag");
    push(tagged.choosing(":v1"), &registry, "app:v1").run().exits(0);
    family.is_found(&registry);
    assert_eq!(registry.tags("app"), family.tags());
}

#[test]
fn are_listed_when_they_are_pushed_alone() {
    if left_out(&[Tool::DockerRegistry]) {
        return;
    }
    let (registry, family) = (start(), Family::new());
    push(family.layout.choosing(":v1"), &registry, "app:v1").args(["--no-referrers"]).run().exits(0);
    let Family { layout, signature, sbom, .. } = &family;
    push(layout.choosing(&format!("@{signature}")), &registry, &format!("app@{signature}")).run().exits(0);
    push(layout.choosing(&format!("@{sbom}")), &registry, "app:sbom").run().exits(0);
    family.is_found(&registry);
}

#[test]
fn are_listed_even_if_they_are_there_already() {
    if left_out(&[Tool::DockerRegistry]) {
        return;
    }
    let (registry, family) = (start(), Family::new());
    push(family.layout.choosing(":v1"), &registry, "app:v1").run().exits(0);
    // A push that stopped between a referrer and its listing leaves this behind.
    registry.untag("app", &referrers_tag(&family.image));
    push(family.layout.choosing(":v1"), &registry, "app:v1").args(["--cleanup"]).run().exits(0);
    assert!(!family.layout.path().exists());
    Family::new().is_found(&registry);
}
