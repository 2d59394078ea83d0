//! The order of requests: nobody ever resolves an image that isn't whole.

use std::collections::BTreeMap;

use local_ecr::Entry;

use crate::support::layout::digest;
use crate::support::{Layout, Push, ecr, requests};

/// Where in the journal each digest and each tag stands last.
fn last_of_each(entries: &[Entry]) -> BTreeMap<String, usize> {
    let name = |entry: &Entry| entry.tag.clone().or(entry.digest.clone());
    let named = |entry: &Entry| Some((name(entry)?, entry.sequence));
    entries.iter().filter_map(named).collect()
}

#[test]
fn children_come_before_parents_and_tags_last() {
    let (layout, ecr) = (Layout::fixture("good/nested-index"), ecr());
    Push::of(layout.path()).at(&ecr).to("app").args(["-t", "v1", "-t", "v2"]).run().exits(0);
    let puts = last_of_each(&requests(&ecr, "PUT", "/manifests/"));
    let last_blob = requests(&ecr, "PUT", "/blobs/uploads/").iter().map(|entry| entry.sequence).max().unwrap();
    for manifest in layout.reach(&layout.root()).manifests {
        let document: serde_json::Value =
            serde_json::from_slice(&std::fs::read(layout.blob(&manifest)).unwrap()).unwrap();
        // The root goes under its first tag, and never by digest beside it.
        let own = if manifest == layout.root() { puts["v1"] } else { puts[&manifest] };
        assert!(last_blob < own, "{manifest} came before a blob");
        for child in document["manifests"].as_array().into_iter().flatten() {
            assert!(puts[digest(child)] < own, "{} came after {manifest}", digest(child));
        }
    }
    assert!(!puts.contains_key(&layout.root()));
    assert!(puts["v1"] < puts["v2"]);
    assert_eq!(puts.values().max(), Some(&puts["v2"]));
}

#[test]
fn referrers_come_after_their_subject_and_before_further_tags() {
    let (layout, ecr) = (Layout::fixture("good/referrers"), ecr());
    Push::of(layout.path()).at(&ecr).to("app").args(["-t", "v1", "-t", "v2"]).run().exits(0);
    let puts = last_of_each(&requests(&ecr, "PUT", "/manifests/"));
    let place = |manifest: &str| if manifest == layout.root() { puts["v1"] } else { puts[manifest] };
    let mut referrers = 0;
    for entry in layout.entries() {
        let document: serde_json::Value =
            serde_json::from_slice(&std::fs::read(layout.blob(digest(&entry))).unwrap()).unwrap();
        if let Some(subject) = document["subject"]["digest"].as_str() {
            referrers += 1;
            assert!(place(subject) < place(digest(&entry)), "{} came before its subject", digest(&entry));
            assert!(place(digest(&entry)) < puts["v2"]);
        }
    }
    assert_eq!(referrers, 3);
}

#[test]
fn every_tag_is_read_back_after_it_was_written() {
    let (layout, ecr) = (Layout::fixture("good/one-manifest"), ecr());
    Push::of(layout.path()).at(&ecr).to("app").args(["-t", "v1", "-t", "v2"]).run().exits(0);
    let puts = last_of_each(&requests(&ecr, "PUT", "/manifests/"));
    let looks = last_of_each(&requests(&ecr, "HEAD", "/manifests/v"));
    for tag in ["v1", "v2"] {
        assert!(puts[tag] < looks[tag], "{tag} was not read back");
    }
}

#[test]
fn the_largest_blob_goes_first() {
    let (layout, ecr) = (Layout::of_layers(&[100_000, 400_000, 200_000, 300_000]), ecr());
    Push::of(layout.path()).at(&ecr).to("app:v1").args(["--jobs", "1"]).run().exits(0);
    let sizes: Vec<_> = requests(&ecr, "PUT", "/blobs/uploads/").iter().map(|entry| entry.bytes).collect();
    assert_eq!(sizes[..4], [400_000, 300_000, 200_000, 100_000]);
    assert_eq!(sizes.len(), 5, "the config is the smallest");
}

#[test]
fn all_tags_are_looked_at_before_the_first_is_written() {
    let (layout, ecr) = (Layout::fixture("good/one-manifest"), ecr());
    Push::of(layout.path()).at(&ecr).to("app").args(["-t", "v1", "-t", "v2", "-t", "v3"]).run().exits(0);
    let first = requests(&ecr, "PUT", "/manifests/")[0].sequence;
    let last_blob = requests(&ecr, "PUT", "/blobs/uploads/").iter().map(|entry| entry.sequence).max().unwrap();
    for tag in ["v1", "v2", "v3"] {
        let looks = requests(&ecr, "HEAD", &format!("/manifests/{tag}"));
        let between = looks.iter().any(|entry| last_blob < entry.sequence && entry.sequence < first);
        assert!(between, "{tag} was not looked at after the blobs and before the first tag");
    }
}
