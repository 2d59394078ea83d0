//! Images and processes that share a layout or a registry don't suffer from each other.

use std::collections::BTreeSet;
use std::fs;

use ecr_push::cleanup::layout::{Task, alone, clean};
use ecr_push::cleanup::removal::Removal;
use ecr_push::oci::digest::Digest;
use ecr_push::source::Choice;
use ecr_push::source::layout;
use local_ecr::{Fault, FaultKind};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::support::layout::digest;
use crate::support::{Layout, Push, assert_arrived, builder, ecr, requests, start};

const ARTIFACT: &str = "application/vnd.oci.artifact.manifest.v1+json";

/// Two images, `a` and `b`, over one base.
fn two_over_one_base(layout: &Layout) -> (Value, Value) {
    let base = layout.layer(3000);
    let a = layout.image(&[base.clone(), layout.layer(100)]);
    let b = layout.image(&[base, layout.layer(200)]);
    (a, b)
}

#[test]
fn an_entry_of_unknown_type_does_not_hide_an_image_that_stays() {
    // Both orders: whichever is walked first must not make the other one count as known.
    for first in [true, false] {
        let (layout, ecr) = (Layout::empty(), ecr());
        let (a, b) = two_over_one_base(&layout);
        let note = layout.add("text/plain", b"a note");
        let artifact = json!({"mediaType": ARTIFACT, "blobs": [note], "subject": b});
        let artifact = layout.add(ARTIFACT, artifact.to_string().as_bytes());
        layout.list(&a, Some("a"));
        if first {
            layout.list(&artifact, None);
            layout.list(&b, Some("b"));
        } else {
            layout.list(&b, Some("b"));
            layout.list(&artifact, None);
        }
        Push::of(layout.choosing(":a")).at(&ecr).to("app:a").args(["--cleanup"]).run().exits(0);
        assert!(layout.blob(digest(&note)).exists(), "what the artifact names is kept");
        Push::of(layout.choosing(":b")).at(&ecr).to("app:b").run().exits(0);
        assert_arrived(&ecr, "app", &layout, digest(&b));
    }
}

#[test]
fn a_manifest_that_stands_inline_keeps_its_layers() {
    let (layout, ecr) = (Layout::empty(), ecr());
    let (a, mut b) = two_over_one_base(&layout);
    let path = layout.blob(digest(&b));
    let bytes = fs::read(&path).unwrap();
    fs::remove_file(&path).unwrap();
    b["data"] = json!(base64::Engine::encode(&base64::engine::general_purpose::STANDARD, &bytes));
    layout.list(&a, Some("a"));
    layout.list(&b, Some("b"));
    Push::of(layout.choosing(":a")).at(&ecr).to("app:a").args(["--cleanup"]).run().exits(0);
    Push::of(layout.choosing(":b")).at(&ecr).to("app:b").run().exits(0);
    assert_eq!(ecr.manifest("app", digest(&b)).unwrap(), bytes);
}

#[test]
fn a_push_in_progress_keeps_its_image_from_being_cleaned() {
    let layout = Layout::of_layers(&[600_000, 500_000]);
    let root = layout.root();
    let stall = Fault::on("PUT", "/blobs/uploads/").does(FaultKind::StallAfter(100_000));
    let (slow, quick) = (start(builder().fault(stall)), ecr());
    // One at a time, so that the second layer isn't read before the first one's stall is over.
    let pushing =
        Push::of(layout.path()).at(&slow).to("app:v1").args(["--timeout", "1", "--jobs", "1", "--cleanup"]).start();
    while requests(&slow, "PUT", "/blobs/uploads/").is_empty() {
        std::thread::yield_now();
    }
    let cleaning = Push::of(layout.path()).at(&quick).to("app:v1").args(["--cleanup"]).run();
    cleaning.exits(0).says(["waiting for another process"]);
    pushing.wait().exits(0);
    for ecr in [&slow, &quick] {
        assert_eq!(ecr.tag("app", "v1").as_deref(), Some(root.as_str()));
    }
    assert!(!layout.path().exists());
}

#[test]
fn each_path_of_a_host_gets_its_own_password() {
    let (layout, ecr) = (Layout::fixture("good/one-manifest"), start(builder().repository("a/x").repository("b/x")));
    let host = ecr.registry_url().trim_start_matches("http://").to_owned();
    let push = Push::of(layout.path())
        .logged_in(&format!("{host}/a"), "AWS", &ecr.issue_password())
        .to_reference(format!("{host}/a/x:v1"))
        .to_reference(format!("{host}/b/x:v1"));
    push.run().exits(4).prints(&[&format!("{host}/a/x@{}", layout.root())]);
    assert_eq!(ecr.tag("b/x", "v1"), None);
}

#[test]
fn a_broken_referrer_does_not_matter_where_it_is_left_out() {
    let (layout, ecr) = (Layout::empty(), ecr());
    let image = layout.image(&[layout.layer(100)]);
    let note = layout.referrer(&image, "a note");
    layout.list(&image, Some("v1"));
    layout.list(&note, None);
    let manifest: Value = serde_json::from_slice(&fs::read(layout.blob(digest(&note))).unwrap()).unwrap();
    fs::remove_file(layout.blob(digest(&manifest["layers"][0]))).unwrap();
    Push::of(layout.path()).at(&ecr).to("app:v1").run().exits(3);
    Push::of(layout.path()).at(&ecr).to("app:v1").args(["--no-referrers"]).run().exits(0);
    let both = Push::of(layout.path()).at(&ecr).to("app:v1").args(["--no-referrers", "--cleanup"]).run();
    both.exits(2).says(["--no-referrers"]);
}

#[test]
fn a_child_that_refers_to_another_is_listed_there() {
    let (layout, ecr) = (Layout::empty(), start(builder().referrers_api(false)));
    let image = layout.image(&[layout.layer(100)]);
    let note = layout.referrer(&image, "a note");
    layout.list(&layout.index_of(&[image.clone(), note.clone()]), Some("v1"));
    Push::of(layout.path()).at(&ecr).to("app:v1").run().exits(0);
    let list = ecr.tag("app", &digest(&image).replace(':', "-")).expect("the list of what refers to the image");
    let list: Value = serde_json::from_slice(&ecr.manifest("app", &list).unwrap()).unwrap();
    assert_eq!(list["manifests"][0]["digest"], digest(&note));
}

/// A layout of some images, each with layers out of a few, under some names, some of them in an index.
fn any_layout() -> impl Strategy<Value = Vec<(BTreeSet<usize>, bool, usize)>> {
    let layers = proptest::collection::btree_set(0_usize..5, 1..4);
    proptest::collection::vec((layers, any::<bool>(), 0_usize..3), 1..6)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn exactly_what_is_still_named_remains(images in any_layout(), chosen in any::<prop::sample::Index>(), by_name: bool) {
        let made = Layout::empty();
        let pool: Vec<Value> = (0..5).map(|_| made.layer(50)).collect();
        let orphan = made.layer(60);
        for (number, (layers, indexed, names)) in images.iter().enumerate() {
            let layers: Vec<Value> = layers.iter().map(|layer| pool[*layer].clone()).collect();
            let mut image = made.image(&layers);
            if *indexed {
                image = made.index_of(&[image]);
            }
            for name in 0..=*names {
                made.list(&image, Some(&format!("n{number}.{name}")));
            }
        }
        let number = chosen.index(images.len());
        let name = format!("n{number}.0");
        let root = made.named(&name);
        let before = made.blobs();
        let gone = made.reach(&root);

        let layout = layout::Layout::open(made.path(), false).unwrap();
        let choice = if by_name { Choice::Name(name.clone()) } else { Choice::Digest(Digest::parse(&root).unwrap()) };
        let chosen = layout.choose(&choice).unwrap();
        let image = layout.read(&chosen, &[], true).unwrap();
        let task = Task { removals: vec![Removal::of(&layout, &image, &chosen)], ..Task::default() };
        let alone = alone(layout.folder().unwrap(), || true, || false).unwrap().unwrap();
        clean(layout.folder().unwrap(), &task, &alone, || true).unwrap();

        prop_assert!(made.blob(digest(&orphan)).exists());
        let entries = made.entries();
        prop_assert!(!made.names().contains(&name));
        prop_assert!(by_name || entries.iter().all(|entry| digest(entry) != root));
        let mut needed = BTreeSet::new();
        for entry in &entries {
            let reach = made.reach(digest(entry));
            needed.extend(reach.manifests.into_iter().chain(reach.blobs));
        }
        let reached: BTreeSet<String> = gone.manifests.into_iter().chain(gone.blobs).collect();
        let expected: BTreeSet<String> =
            before.into_iter().filter(|blob| needed.contains(blob) || !reached.contains(blob)).collect();
        prop_assert_eq!(made.blobs(), expected);
    }
}
