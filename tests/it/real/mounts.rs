//! Mounts on a real registry: from elsewhere, and from the repository itself in place of a question.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{LOGIN, push, start, write_auth};
use crate::support::Push;
use crate::support::layout::{Layout, digest};
use crate::support::servers::{DockerRegistry, Guard, Logged, Login, Notary, Tool, left_out};

/// How many requests have this method and status, and this in their path.
fn count(requests: &[Logged], method: &str, status: u16, path: &str) -> usize {
    let is = |request: &&Logged| (request.method.as_str(), request.status) == (method, status);
    requests.iter().filter(is).filter(|request| request.path.contains(path)).count()
}

/// A layout with an image `base` of three layers, and one `app` that has one more.
fn one_on_the_other() -> Layout {
    let layout = Layout::empty();
    let mut layers: Vec<Value> = [30_000, 20_000, 10_000].map(|size| layout.layer(size)).to_vec();
    layout.list(&layout.image(&layers), Some("base"));
    layers.push(layout.layer(2000));
    layout.list(&layout.image(&layers), Some("app"));
    layout
}

#[test]
fn one_layer_of_many_is_sent_after_one_question() {
    if left_out(&[Tool::DockerRegistry]) {
        return;
    }
    let (registry, layout) = (start(), Layout::empty());
    let mut layers: Vec<Value> = (0..30).map(|number| layout.layer(1000 + number)).collect();
    layout.list(&layout.image(&layers), Some("v1"));
    push(layout.choosing(":v1"), &registry, "app:v1").run().exits(0);
    layers[29] = layout.layer(900);
    layout.list(&layout.image(&layers), Some("v2"));
    let (ran, requests) = registry.during(|| push(layout.choosing(":v2"), &registry, "app:v2").run());
    ran.exits(0).says(["2 blobs uploaded", "29 blobs there already"]);
    assert_eq!(count(&requests, "POST", 201, "from=app"), 29);
    assert_eq!(count(&requests, "POST", 202, "from=app"), 2);
    assert_eq!(count(&requests, "PUT", 201, "/blobs/uploads/"), 2);
    assert_eq!(count(&requests, "HEAD", 200, "/blobs/"), 1, "the canary");
    assert_eq!((count(&requests, "HEAD", 404, "/blobs/"), registry.open_sessions()), (0, 0));
}

#[test]
fn what_the_user_names_or_the_record_knows_is_mounted() {
    if left_out(&[Tool::DockerRegistry]) {
        return;
    }
    let (registry, layout) = (start(), one_on_the_other());
    let cache = tempfile::tempdir().unwrap();
    let option = format!("--cache-dir={}", cache.path().display());
    push(layout.choosing(":base"), &registry, "base:v1").args([&option]).run().exits(0);
    for (repository, option) in [("named", "--mount-from=base"), ("known", option.as_str())] {
        let (ran, requests) = registry
            .during(|| push(layout.choosing(":app"), &registry, &format!("{repository}:v1")).args([option]).run());
        ran.exits(0).says(["3 mounted", "2 blobs uploaded"]);
        assert_eq!(count(&requests, "PUT", 201, "/blobs/uploads/"), 2);
        assert_eq!(registry.tags(repository), ["v1"]);
    }
    assert_eq!(registry.open_sessions(), 0);
}

#[test]
fn a_bearer_token_is_good_for_the_source_too() {
    if left_out(&[Tool::DockerRegistry]) {
        return;
    }
    let notary = Notary::start(Some(Login::JENKINS), None);
    let registry = DockerRegistry::start(Guard::Bearer(&notary));
    let (layout, host) = (one_on_the_other(), registry.address());
    let push = |name: &str| {
        let push = Push::of(layout.choosing(&format!(":{name}"))).to_reference(format!("{host}/team/{name}:v1"));
        let config = push.home().join("auth.json");
        write_auth(&config, host, LOGIN);
        push.env("REGISTRY_AUTH_FILE", config)
    };
    push("base").run().exits(0);
    let before = notary.asked().len();
    let (ran, requests) = registry.during(|| push("app").args(["--mount-from=team/base"]).run());
    ran.exits(0).says(["3 mounted", "2 blobs uploaded"]).says_nothing_of(["warning"]);
    let layers = layout.reach(&layout.named("app")).blobs;
    let mounted = requests.iter().filter(|request| (request.method.as_str(), request.status) == ("POST", 201));
    let mounted: BTreeSet<_> =
        mounted.filter_map(|request| layers.iter().find(|layer| request.path.contains(&layer[7..]))).collect();
    assert_eq!(mounted.len(), 3);
    assert!(!mounted.iter().any(|layer| *layer == digest(&layout.entries()[1])));
    let asked: Vec<_> = notary.asked().split_off(before).into_iter().map(|asked| asked.target).collect();
    let both = "scope=repository%3Ateam%2Fapp%3Apull%2Cpush+repository%3Ateam%2Fbase%3Apull";
    assert_eq!(asked.iter().filter(|target| target.contains(both)).count(), 1, "{asked:?}");
}
