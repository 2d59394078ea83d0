//! A clean-up that is killed at any of its system calls leaves a valid layout, in which all that is named is whole, and the
//! next one goes on where it ended.
//!
//! Killed before the kernel does what it was asked for, and so in each state between two calls. What a power cut would leave
//! is a matter of what was synced when, and of that the order of calls tells.

use std::collections::BTreeSet;

use super::traced::{Point, Scene, Traced};
use super::whole::{Readers, State, is_between, is_whole, layout_of, state};
use crate::support::servers::{Tool, left_out};
use crate::support::strace::{Call, Tampering, no_strace};
use crate::support::{Layout, Push, ecr};

fn shared() -> Scene {
    Scene::of(Layout::fixture("good/shared-layers"), ":one")
}

fn only() -> Scene {
    Scene::of(Layout::fixture("good/one-manifest"), "")
}

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

fn one_name() -> Scene {
    Scene::of(Layout::fixture("good/two-names"), ":v1")
}

fn all_names() -> Scene {
    let layout = Layout::fixture("good/two-names");
    let choice = format!("@{}", layout.root());
    Scene::of(layout, choice)
}

/// Kills a clean-up at each of those of its calls that are chosen, and looks at what is left.
#[track_caller]
#[expect(clippy::print_stdout, reason = "how much was shown is said where tests speak")]
fn sweep(scene: &Scene, choose: impl Fn(&[Point]) -> Vec<Point>) {
    if no_strace() || left_out(&[Tool::Skopeo, Tool::Umoci]) {
        return;
    }
    let warm = scene.warm();
    let record = scene.run(&warm, None);
    assert!(record.status.success(), "{}", record.stderr);
    let (before, end) = (state(&scene.layout, 0), state(&record.layout, record.process));
    let (points, hidden) = record.points();
    assert!(points.iter().filter(|point| point.call.changes()).count() > 3, "{points:#?}");
    // The lock's descriptor is closed by the push and once more by the clean-up.
    let harmless = hidden.iter().all(|call| ["close", "fcntl"].contains(&call.name.as_str()));
    assert!(harmless, "these can't be told from others: {hidden:#?}");
    let (chosen, mut readers, mut states) = (choose(&points), Readers::default(), BTreeSet::new());
    for point in &chosen {
        let killed = scene.run(&warm, Some((point, Tampering::Kill)));
        let now = state(&killed.layout, killed.process);
        is_between(&before, &now, &end, &killed);
        if let Some(layout) = layout_of(&killed) {
            readers.read(layout, now.clone());
        }
        if states.insert(now.clone()) {
            settles(scene, &killed, &before, &now, &end);
        }
    }
    let calls = points.len() + hidden.len();
    println!("killed at {} of {calls} calls: {} states, {} of them read", chosen.len(), states.len(), readers.states());
}

fn all(points: &[Point]) -> Vec<Point> {
    points.to_vec()
}

/// Between two changes the layout is in one state, and one kill shows that.
fn each_state(points: &[Point]) -> Vec<Point> {
    let begins = |at: usize| at == 0 || points[at].call.changes() || points[at - 1].call.changes();
    (0..points.len()).filter(|at| begins(*at)).map(|at| points[at].clone()).collect()
}

/// Asserts that a clean-up after the killed one comes to its end, and that nothing is left of either then.
#[track_caller]
fn settles(scene: &Scene, killed: &Traced, before: &State, now: &State, end: &State) {
    let layout = &killed.layout;
    let still_named = now.get("layout/index.json") == before.get("layout/index.json");
    let expected = match layout_of(killed) {
        // The same once more.
        Some(_) if still_named => {
            scene.clean(layout, &ecr());
            end.clone()
        }
        // The next image of the layout is the last one.
        Some(_) if !is_whole(layout).is_empty() => {
            let choice = layout.names().first().map(|name| format!(":{name}")).expect("what stays has a name");
            Scene { layout: layout.copied(), choice }.clean(layout, &ecr());
            State::new()
        }
        // No image that could be pushed: the layout itself is cleaned.
        Some(_) => {
            Push::of("clean").to_reference(layout.path().display().to_string()).run().exits(0);
            State::new()
        }
        // A builder makes it anew.
        None => {
            scene.layout.copy_to(layout.path());
            scene.clean(layout, &ecr());
            end.clone()
        }
    };
    assert_eq!(state(layout, killed.process), expected, "what is left after what was left: {now:#?}");
}

/// Asserts on what is synced before what.
#[track_caller]
fn is_in_order(scene: &Scene) {
    if no_strace() {
        return;
    }
    let record = scene.run(&scene.warm(), None);
    assert!(record.status.success(), "{}", record.stderr);
    let plain = |call: &Call| call.paths.iter().map(|path| record.plain(path)).collect::<Vec<_>>();
    let find = |what: &str, wanted: &dyn Fn(&Call) -> bool| {
        let found = record.calls.iter().position(|call| call.succeeded() && wanted(call));
        found.unwrap_or_else(|| panic!("no call {what}: {:#?}", record.calls))
    };
    let is_sync = |call: &Call| ["fsync", "fdatasync"].contains(&call.name.as_str());
    let renamed = find("that puts the new index in its place", &|call| {
        call.name.starts_with("rename") && plain(call).contains(&"layout/index.json".to_owned())
    });
    let new = &plain(&record.calls[renamed])[0];
    assert_ne!(new, "layout/index.json");
    let of_new = |call: &Call| plain(call) == std::slice::from_ref(new);
    let written = record.calls.iter().rposition(|call| call.name.starts_with("write") && of_new(call));
    let synced = find("that syncs the new index", &|call| is_sync(call) && of_new(call));
    assert!(written.is_some_and(|written| written < synced), "the new index is written after it is synced");
    assert!(synced < renamed, "the new index is synced after it took its place");
    let folder =
        record.calls[renamed..].iter().position(|call| call.succeeded() && is_sync(call) && plain(call) == ["layout"]);
    let folder = renamed + folder.unwrap_or_else(|| panic!("the folder is not synced: {:#?}", record.calls));
    let is_removal = |call: &Call| {
        let inside = |path: &String| path.starts_with("layout/blobs/") || path.starts_with(".layout.ecr-push-");
        call.succeeded()
            && ["unlink", "unlinkat", "rmdir", "rename"].contains(&call.name.as_str())
            && plain(call).iter().any(inside)
    };
    let removed = record.calls.iter().position(is_removal);
    assert!(removed.is_none_or(|removed| folder < removed), "a blob goes before its name is gone for good");
    let threads: BTreeSet<_> = record.calls[synced..].iter().filter(|c| c.changes()).map(|c| c.thread).collect();
    assert_eq!(threads.len(), 1, "the order is that of one thread");
}

#[test]
fn one_of_two_images_that_share_layers() {
    sweep(&shared(), all);
}

#[test]
fn the_only_image_with_the_folder() {
    sweep(&only(), all);
}

#[test]
fn nested_indexes_with_their_referrers() {
    sweep(&nested(), each_state);
}

#[test]
fn one_of_two_names() {
    sweep(&one_name(), each_state);
}

#[test]
fn all_names_of_a_digest() {
    sweep(&all_names(), each_state);
}

#[test]
fn nothing_is_removed_before_its_name_is_gone_for_good() {
    for scene in [shared(), only(), nested(), one_name(), all_names()] {
        is_in_order(&scene);
    }
}
