//! A clean-up that is killed at any of its system calls leaves a valid layout, in which all that is named is whole.
//!
//! Killed before the kernel does what it was asked for, and so in each state between two calls.

use std::os::unix::process::ExitStatusExt;

use serde_json::Value;

use super::traced::{Scene, Traced};
use super::whole::{Readers, State, is_whole, state};
use crate::support::Layout;
use crate::support::layout::digest;
use crate::support::servers::{Tool, left_out};
use crate::support::strace::{Tampering, no_strace};

/// An index in an index, what refers to both, and another image that shares a layer with them.
fn nested() -> Scene {
    let layout = Layout::empty();
    let shared = layout.layer(3000);
    let inner = layout.index_of(&[layout.image(&[shared.clone(), layout.layer(10)])]);
    let outer = layout.index_of(&[inner.clone(), layout.image(&[layout.layer(20)])]);
    layout.list(&outer, Some("v1"));
    layout.list(&layout.referrer(&inner, "a note on the inner one"), None);
    layout.list(&layout.referrer(&outer, "a note on the outer one"), None);
    layout.list(&layout.image(&[shared]), Some("stays"));
    Scene::of(layout, ":v1")
}

/// Kills a clean-up at each of its calls, and looks at what is left.
#[track_caller]
#[expect(clippy::print_stdout, reason = "how much was shown is said where tests speak")]
fn sweep(scene: &Scene) {
    if no_strace() || left_out(&[Tool::Skopeo, Tool::Umoci]) {
        return;
    }
    let warm = scene.warm();
    let record = scene.run(&warm, None);
    assert!(record.status.success(), "{}", record.stderr);
    let before = state(&scene.layout, 0);
    let end = state(&record.layout, record.process);
    let (points, hidden) = record.points();
    assert!(points.iter().filter(|point| point.call.changes()).count() > 3, "{points:#?}");
    // The lock's descriptor is closed by the push and once more by the clean-up.
    let harmless = hidden.iter().all(|call| ["close", "fcntl"].contains(&call.name.as_str()));
    assert!(harmless, "these can't be told from others: {hidden:#?}");
    let mut readers = Readers::default();
    for point in &points {
        let killed = scene.run(&warm, Some((point, Tampering::Kill)));
        assert_eq!(killed.status.signal(), Some(9));
        let now = state(&killed.layout, killed.process);
        is_between(&before, &now, &end, &killed);
        if let Some(layout) = layout_of(&killed) {
            readers.read(layout, now);
        }
    }
    println!("killed at {} calls of {}; {} states", points.len(), points.len() + hidden.len(), readers.states());
}

/// The layout, if it is still there under its name.
fn layout_of(killed: &Traced) -> Option<&Layout> {
    killed.layout.path().is_dir().then_some(&killed.layout)
}

/// Asserts that a killed clean-up left something between what was there and what it would have left.
#[track_caller]
fn is_between(before: &State, now: &State, end: &State, killed: &Traced) {
    for path in end.keys() {
        assert!(now.contains_key(path), "{path} is gone, which was not to be removed: {now:#?}");
    }
    let Some(layout) = layout_of(killed) else {
        // Nothing is named any more, and what is left isn't to be taken for a layout.
        assert!(!end.contains_key("layout/"), "the folder was not to be removed: {now:#?}");
        let aside =
            now.keys().all(|path| path.starts_with(".layout.ecr-push-PID/") && !path.contains("blobs/sha256/."));
        assert!(aside, "beside the layout there is something: {now:#?}");
        return;
    };
    let own = |path: &String| path.rsplit('/').next().is_some_and(|name| name.starts_with('.'));
    let others: Vec<_> = now.keys().filter(|path| !before.contains_key(*path) && !own(path)).collect();
    assert!(others.is_empty(), "{others:?} were not there before");
    let entries = is_whole(layout);
    let index = now.get("layout/index.json");
    let old = index == before.get("layout/index.json");
    let names = |entries: &[Value]| entries.iter().map(|entry| digest(entry).to_owned()).collect::<Vec<_>>();
    if old {
        let lacking: Vec<_> = before.keys().filter(|path| !now.contains_key(*path)).collect();
        assert!(lacking.is_empty(), "{lacking:?} are gone while the image is named: {:?}", names(&entries));
    } else if end.contains_key("layout/index.json") {
        assert_eq!(index, end.get("layout/index.json"), "an index that is neither the old nor the new one");
    } else {
        assert_eq!(entries, Vec::<Value>::new());
    }
}

#[test]
fn one_of_two_images_that_share_layers() {
    sweep(&Scene::of(Layout::fixture("good/shared-layers"), ":one"));
}

#[test]
fn the_only_image_with_the_folder() {
    sweep(&Scene::of(Layout::fixture("good/one-manifest"), ""));
}

#[test]
fn nested_indexes_with_their_referrers() {
    sweep(&nested());
}

#[test]
fn one_of_two_names() {
    sweep(&Scene::of(Layout::fixture("good/two-names"), ":v1"));
}

#[test]
fn all_names_of_a_digest() {
    let layout = Layout::fixture("good/two-names");
    let choice = format!("@{}", layout.root());
    sweep(&Scene::of(layout, choice));
}
