//! Layers that aren't what their digest says, found while they are sent.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use local_ecr::Fault;

use crate::support::layout::digest;
use crate::support::{Layout, Push, Tree, builder, ecr, start};

/// More than is read before anything is sent, and several pieces long.
const SIZE: usize = 900_000;

/// A layout with one large layer, and the digest of that layer.
fn large() -> (Layout, String) {
    let layout = Layout::empty();
    let layer = layout.layer(SIZE);
    layout.list(&layout.image(&[layer.clone(), layout.layer(100)]), None);
    (layout, digest(&layer).to_owned())
}

/// Turns one bit of a file.
fn flip(path: &Path, at: u64) {
    let file = OpenOptions::new().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 1], at).unwrap();
}

#[test]
fn a_corrupt_layer_never_arrives() {
    let size = SIZE as u64;
    for at in [0, size / 2, size - 1] {
        let (layout, layer) = large();
        flip(&layout.blob(&layer), at);
        let ecr = start(builder().upload_cancel(true));
        let before = Tree::of(layout.parent());
        let ran = Push::of(layout.path()).at(&ecr).to("app:v1").args(["--cleanup"]).run().exits(3).prints(&[]);
        ran.says([layer.as_str(), "is corrupt", "next: this destination got no tag"]);
        assert!(!ecr.has_blob("app", &layer), "byte {at}");
        assert!(ecr.tags("app").is_empty() && ecr.here().manifests("app").is_empty(), "byte {at}");
        assert_eq!(ecr.open_sessions(), 0, "byte {at}");
        before.is_unchanged(layout.parent());
    }
}

#[test]
fn a_corrupt_layer_is_not_tried_again() {
    let (layout, layer) = large();
    flip(&layout.blob(&layer), 0);
    let ecr = ecr();
    Push::of(layout.path()).at(&ecr).to("app:v1").run().exits(3).says_nothing_of(["trying again"]);
    let sessions = ecr.registry_requests().into_iter().filter(|entry| entry.method == "POST").count();
    assert_eq!(sessions, 3, "one for each blob");
}

#[test]
fn a_corrupt_layer_reaches_none_of_several_destinations() {
    let (layout, layer) = large();
    flip(&layout.blob(&layer), SIZE as u64 - 1);
    let ecr = start(builder().repository("second"));
    Push::of(layout.path()).at(&ecr).to("app:v1").to("second:v1").run().exits(3).prints(&[]).says([layer.as_str()]);
    for repository in ["app", "second"] {
        assert!(!ecr.has_blob(repository, &layer) && ecr.tags(repository).is_empty());
    }
}

#[test]
fn a_layer_that_changes_while_it_is_pushed_never_arrives() {
    let check = |change: fn(&PathBuf), words: &str| {
        let (layout, layer) = large();
        let ecr = ecr();
        let path = layout.blob(&layer);
        // The layout was checked before the registry was asked.
        ecr.on_answer(move |entry| {
            if entry.method == "HEAD" && entry.tag.is_some() {
                change(&path);
            }
        });
        Push::of(layout.path()).at(&ecr).to("app:v1").run().exits(3).prints(&[]).says([&layer[7..], words]);
        assert!(!ecr.has_blob("app", &layer) && ecr.tags("app").is_empty(), "{words}");
    };
    let cut = |path: &PathBuf| fs::OpenOptions::new().write(true).open(path).unwrap().set_len(500_000).unwrap();
    let grow = |path: &PathBuf| fs::OpenOptions::new().write(true).open(path).unwrap().set_len(2_000_000).unwrap();
    check(cut, "has 500000 bytes where its descriptor says 900000");
    check(grow, "bytes where its descriptor says 900000");
    check(|path| fs::remove_file(path).unwrap(), "can't be read");
    check(|path| flip(path, 700_000), "is corrupt");
}

#[test]
fn a_corrupt_layer_that_the_registry_has_is_not_read() {
    let (layout, layer) = large();
    let ecr = ecr();
    Push::of(layout.path()).at(&ecr).to("app:v1").run().exits(0);
    flip(&layout.blob(&layer), 0);
    Push::of(layout.path()).at(&ecr).to("app:v2").run().exits(0);
}

#[test]
fn a_corrupt_source_outweighs_a_failing_registry() {
    let (layout, layer) = large();
    flip(&layout.blob(&layer), SIZE as u64 - 1);
    let ecr = start(builder().repository("second"));
    let slow = Fault::on("POST", "/v2/second/").times(u64::MAX).does(local_ecr::FaultKind::status(503));
    ecr.inject(slow);
    let push = Push::of(layout.path()).at(&ecr).to("app:v1").to("second:v1").args(["--retries", "0"]);
    push.run().exits(3).prints(&[]);
}
