//! Every shape of image on a registry that isn't ECR, read back by clients that aren't ours.

use std::collections::BTreeSet;

use super::reader::Reader;
use super::{LOGIN, Pulled, push, start};
use crate::support::Tree;
use crate::support::layout::{Layout, digest, fixture_names, sha256};
use crate::support::servers::{Tool, left_out};

#[test]
fn every_layout_arrives() {
    if left_out(&[Tool::DockerRegistry]) {
        return;
    }
    let registry = start();
    let reader = Reader::of(&registry);
    for name in fixture_names("good").into_iter().filter(|name| name != "sha512") {
        let layout = Layout::fixture(&format!("good/{name}"));
        for (number, entry) in layout.entries().iter().enumerate() {
            let (root, tag) = (digest(entry), format!("t{number}"));
            let line = format!("{}/{name}@{root}", registry.address());
            push(layout.choosing(&format!("@{root}")), &registry, &format!("{name}:{tag}"))
                .run()
                .exits(0)
                .prints(&[&line]);
            assert_eq!(reader.manifest(&name, &tag).map(|(_, digest)| digest).as_deref(), Some(root), "{name}:{tag}");
            reader.finds_all(&name, &layout, root);
        }
    }
    assert_eq!(registry.open_sessions(), 0);
}

#[test]
fn skopeo_copies_all_platforms() {
    if left_out(&[Tool::DockerRegistry, Tool::Skopeo]) {
        return;
    }
    let registry = start();
    // Not nested-index, which this skopeo can't read from anywhere.
    for name in ["index", "attestations", "docker-list", "docker-schema2", "zstd-layer", "artifact"] {
        let layout = Layout::fixture(&format!("good/{name}"));
        push(layout.choosing(":v1"), &registry, &format!("{name}:v1")).run().exits(0);
        let pulled = Pulled::dir(&registry, &format!("{name}:v1"), LOGIN);
        assert_eq!(pulled.digest(), layout.root(), "{name}");
        let found: BTreeSet<String> = pulled.files().iter().map(|bytes| sha256(bytes)).collect();
        assert_eq!(found, layout.blobs(), "{name}");
    }
}

#[test]
fn sha512_is_refused() {
    if left_out(&[Tool::DockerRegistry]) {
        return;
    }
    let (registry, layout) = (start(), Layout::fixture("good/sha512"));
    let before = Tree::of(layout.parent());
    let ran = push(layout.choosing(":v1"), &registry, "app:v1").args(["--cleanup"]).run();
    ran.exits(5).prints(&[]).says_one_error().says(["sha512:", "doesn't take digests of this algorithm"]);
    assert_eq!(registry.tags("app"), [""; 0]);
    assert_eq!(registry.open_sessions(), 0);
    before.is_unchanged(layout.parent());
}
