//! What is there already is not sent, by the word of the registry's own access log.

use std::collections::BTreeSet;

use super::{push, start};
use crate::support::layout::{Layout, digest};
use crate::support::servers::{Logged, Tool, left_out};

/// Requests as `METHOD path status`, without a session's name and state.
fn short(requests: &[Logged]) -> Vec<String> {
    let line = |request: &Logged| {
        let path = request.path.split('?').next().unwrap_or_default();
        let path = path.split_once("/blobs/uploads/").map_or(path, |(before, _)| before);
        format!("{} {path} {}", request.method, request.status)
    };
    requests.iter().map(line).collect()
}

/// The digests that were committed.
fn committed(requests: &[Logged]) -> BTreeSet<String> {
    let commits = requests.iter().filter(|request| request.method == "PUT" && request.status == 201);
    let digests = commits.filter_map(|request| request.path.split_once("digest="));
    digests.map(|(_, digest)| digest.replace("%3A", ":")).collect()
}

#[test]
fn one_request_for_each_tag() {
    if left_out(&[Tool::DockerRegistry]) {
        return;
    }
    let (registry, layout) = (start(), Layout::fixture("good/nested-index"));
    let run = |args: &[&str]| push(layout.choosing(":v1"), &registry, "team/app:v1").args(args).run();
    let (ran, cold) = registry.during(|| run(&["--tag=v2"]));
    ran.exits(0);
    assert_eq!(committed(&cold), layout.reach(&layout.root()).blobs);
    assert_eq!(registry.open_sessions(), 0);

    let (ran, warm) = registry.during(|| run(&[]));
    ran.exits(0).says(["0 blobs uploaded"]);
    assert_eq!(short(&warm), ["HEAD /v2/team/app/manifests/v1 200"]);

    let (ran, warm) = registry.during(|| run(&["--tag=v2"]));
    ran.exits(0);
    let mut warm = short(&warm);
    warm.sort();
    assert_eq!(warm, ["HEAD /v2/team/app/manifests/v1 200", "HEAD /v2/team/app/manifests/v2 200"]);
}

#[test]
fn one_new_tag() {
    if left_out(&[Tool::DockerRegistry]) {
        return;
    }
    let (registry, layout) = (start(), Layout::fixture("good/nested-index"));
    push(layout.choosing(":v1"), &registry, "app:v1").run().exits(0);
    let (ran, requests) =
        registry.during(|| push(layout.choosing(":v1"), &registry, "app:v1").args(["--tag=v2"]).run());
    ran.exits(0);
    // The tag that names the image proves that all of it is there.
    let writes: Vec<_> = short(&requests).into_iter().filter(|line| !line.starts_with("HEAD")).collect();
    assert_eq!(writes, ["PUT /v2/app/manifests/v2 201"]);
    assert!(requests.len() <= 4, "two looks, one write, one look: {requests:?}");
}

#[test]
fn one_new_layer() {
    if left_out(&[Tool::DockerRegistry]) {
        return;
    }
    let (registry, layout) = (start(), Layout::empty());
    let mut layers = vec![layout.layer(50_000), layout.layer(20_000)];
    layout.list(&layout.image(&layers), Some("v1"));
    push(layout.choosing(":v1"), &registry, "app:v1").run().exits(0);
    let old = layout.blobs();

    layers.push(layout.layer(3_000));
    let image = layout.image(&layers);
    layout.list(&image, Some("v2"));
    let (ran, requests) = registry.during(|| push(layout.choosing(":v2"), &registry, "app:v2").run());
    ran.exits(0).says(["2 blobs uploaded", "2 blobs there already"]);
    let mut new: BTreeSet<String> = layout.blobs().difference(&old).cloned().collect();
    assert!(new.remove(digest(&image)), "the manifest is no blob");
    assert_eq!(committed(&requests), new, "the layer and the config");
    let writes: Vec<_> = short(&requests).into_iter().filter(|line| !line.starts_with("HEAD")).collect();
    let count = |start: &str| writes.iter().filter(|line| line.starts_with(start)).count();
    let posts = (count("POST /v2/app 202"), count("POST /v2/app 201"));
    assert_eq!((posts, count("PUT /v2/app 201"), writes.len()), ((2, 2), 2, 7), "{writes:?}");
    assert_eq!(writes.last().map(String::as_str), Some("PUT /v2/app/manifests/v2 201"));
}

#[test]
fn with_clean_up_everything_is_looked_up() {
    if left_out(&[Tool::DockerRegistry]) {
        return;
    }
    let (registry, layout) = (start(), Layout::fixture("good/nested-index"));
    push(layout.choosing(":v1"), &registry, "app:v1").run().exits(0);
    let reach = layout.reach(&layout.root());
    let expected: BTreeSet<String> = reach
        .blobs
        .iter()
        .map(|digest| format!("HEAD /v2/app/blobs/{digest} 200"))
        .chain(reach.manifests.iter().map(|digest| format!("HEAD /v2/app/manifests/{digest} 200")))
        .chain(["HEAD /v2/app/manifests/v1 200".to_owned()])
        .filter(|line| !line.contains(&layout.root()))
        .collect();
    let (ran, requests) =
        registry.during(|| push(layout.choosing(":v1"), &registry, "app:v1").args(["--cleanup"]).run());
    ran.exits(0);
    assert_eq!(short(&requests).into_iter().collect::<BTreeSet<_>>(), expected);
    assert_eq!(requests.len(), expected.len(), "nothing is asked twice: {requests:?}");
    assert!(!layout.path().exists());
}

#[test]
fn what_was_lost_is_sent_again() {
    if left_out(&[Tool::DockerRegistry]) {
        return;
    }
    let (registry, layout) = (start(), Layout::empty());
    let layer = layout.layer(50_000);
    layout.list(&layout.image(&[layer.clone(), layout.layer(10)]), Some("v1"));
    push(layout.choosing(":v1"), &registry, "app:v1").run().exits(0);
    registry.lose("app", digest(&layer));
    // The tag is still there; only clean-up makes it a matter of life and death.
    let (ran, requests) =
        registry.during(|| push(layout.choosing(":v1"), &registry, "app:v1").args(["--cleanup"]).run());
    ran.exits(0);
    assert_eq!(committed(&requests), BTreeSet::from([digest(&layer).to_owned()]));
    assert!(!layout.path().exists());
}
