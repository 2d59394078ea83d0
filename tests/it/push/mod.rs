//! What a push sends, in which order, and what it makes of the registry's answers.

mod order;
mod questions;
mod result;
mod several;
mod tags;

use local_ecr::{Entry, LayerLag, LocalEcr};

use crate::support::layout::digest;
use crate::support::{Layout, Push, assert_arrived, builder, ecr, reference, requests, start};

/// The registry requests of a second push: what came after the first `seen`.
fn since(ecr: &LocalEcr, seen: usize) -> Vec<Entry> {
    ecr.registry_requests().split_off(seen)
}

/// Method and what a request names, without the names of sessions.
fn brief(entries: &[Entry]) -> Vec<String> {
    let name = |entry: &Entry| entry.tag.clone().or(entry.digest.clone()).unwrap_or_default();
    entries.iter().map(|entry| format!("{} {}", entry.method, name(entry)).trim().to_owned()).collect()
}

/// Pushes a layout twice, and gives what the second push asked for.
#[track_caller]
fn again(layout: &Layout, tags: &[&str]) -> Vec<String> {
    let ecr = ecr();
    let push = || {
        let push = Push::of(layout.path()).at(&ecr).to("app");
        tags.iter().fold(push, |push, tag| push.args(["--tag", tag])).run().exits(0)
    };
    push();
    let seen = ecr.registry_requests().len();
    push().prints(&[&reference(&ecr, "app", &layout.root())]);
    let mut asked = brief(&since(&ecr, seen));
    asked.sort();
    asked
}

#[test]
fn an_image_that_is_there_costs_one_request_for_each_tag() {
    for fixture in ["good/one-manifest", "good/nested-index"] {
        let layout = Layout::fixture(fixture);
        assert_eq!(again(&layout, &["v1"]), ["HEAD v1"], "{fixture}");
        assert_eq!(again(&layout, &["v1", "v2", "v3"]), ["HEAD v1", "HEAD v2", "HEAD v3"], "{fixture}");
    }
}

#[test]
fn an_image_that_is_there_costs_one_request_more_for_each_referrer() {
    let layout = Layout::of_layers(&[100]);
    let image = layout.entries()[0].clone();
    let referrers = ["one", "two"].map(|text| {
        let referrer = layout.referrer(&image, text);
        layout.list(&referrer, None);
        format!("HEAD {}", digest(&referrer))
    });
    let mut expected = [referrers.to_vec(), vec!["HEAD v1".to_owned()]].concat();
    expected.sort();
    assert_eq!(again(&layout, &["v1"]), expected);
}

#[test]
fn one_new_layer_sends_that_layer_the_config_and_the_manifest() {
    let layout = Layout::empty();
    let (base, app) = (layout.layer(700_000), layout.layer(300_000));
    let ecr = ecr();
    layout.list(&layout.image(&[base.clone(), app]), Some("old"));
    Push::of(layout.choosing(":old")).at(&ecr).to("app:v1").run().exits(0);
    let (seen, new) = (ecr.registry_requests().len(), layout.layer(200_000));
    layout.list(&layout.image(&[base.clone(), new.clone()]), Some("new"));
    Push::of(layout.choosing(":new")).at(&ecr).to("app:v1").run().exits(0);

    let requests = since(&ecr, seen);
    let with_body: Vec<_> = requests.into_iter().filter(|entry| entry.method != "HEAD").collect();
    let count = |method: &str| with_body.iter().filter(|entry| entry.method == method).count();
    assert_eq!((count("POST"), count("PUT"), with_body.len()), (2, 3, 5), "{:?}", brief(&with_body));
    let sent: Vec<_> = with_body.iter().filter_map(|entry| entry.digest.as_deref()).collect();
    assert!(sent.contains(&digest(&new)), "{sent:?}");
    assert!(!sent.contains(&digest(&base)), "{sent:?}");
    assert_eq!(with_body.iter().filter(|entry| entry.tag.as_deref() == Some("v1")).count(), 1);
    assert_arrived(&ecr, "app", &layout, &layout.named("new"));
}

#[test]
fn a_second_tag_of_an_image_that_is_there_sends_no_blob() {
    let (layout, ecr) = (Layout::fixture("good/index"), ecr());
    Push::of(layout.path()).at(&ecr).to("app:v1").run().exits(0);
    let seen = ecr.registry_requests().len();
    Push::of(layout.path()).at(&ecr).to("app:v2").run().exits(0);
    let root = layout.root();
    // That all blobs are there is told by the API, and that all children are by the root.
    assert_eq!(brief(&since(&ecr, seen)), ["HEAD v2", &format!("HEAD {root}"), "PUT v2", "HEAD v2"]);
    assert_eq!(ecr.tags("app"), ["v1", "v2"]);
}

#[test]
fn a_layer_that_two_platforms_share_is_sent_once() {
    let layout = Layout::empty();
    let shared = layout.layer(300_000);
    let images = [1, 2].map(|size| layout.image(&[shared.clone(), layout.layer(size)]));
    layout.list(&layout.index_of(&images), None);
    let ecr = ecr();
    Push::of(layout.path()).at(&ecr).to("app:v1").run().exits(0);
    let uploads = requests(&ecr, "PUT", "/blobs/uploads/").into_iter();
    let sent: Vec<_> = uploads.filter(|entry| entry.digest.as_deref() == Some(digest(&shared))).collect();
    assert_eq!(sent.len(), 1, "{:?}", brief(&sent));
    assert_eq!(sent[0].bytes, 300_000);
}

#[test]
fn a_large_layer_arrives_whole() {
    let (layout, ecr) = (Layout::of_layers(&[9_000_001, 3_000_000, 262_144, 65_536]), ecr());
    Push::of(layout.path()).at(&ecr).to("app:v1").run().exits(0);
    assert_arrived(&ecr, "app", &layout, &layout.root());
}

#[test]
fn a_layer_that_lags_behind_is_waited_for() {
    let (layout, ecr) = (Layout::fixture("good/index"), start(builder().layer_lag(LayerLag::Refusals(2))));
    let ran = Push::of(layout.path()).at(&ecr).to("app:v1").run().exits(0);
    ran.says(["trying again"]);
    assert_arrived(&ecr, "app", &layout, &layout.root());
}
