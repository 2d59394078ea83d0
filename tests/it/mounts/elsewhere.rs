//! Mounts from other repositories: what the user names, and the base that the image names.

use local_ecr::{Answer, Fault, FaultKind};
use serde_json::Value;

use super::{config, digests, mounting, one_on_the_other, push, sent, tried, without_mounting};
use crate::support::layout::digest;
use crate::support::{Layout, Push, assert_arrived, requests, start};

#[test]
fn what_the_user_names_is_mounted_and_the_rest_is_sent() {
    let (layout, base, own) = one_on_the_other(3);
    let ecr = start(mounting());
    push(&layout, &ecr, "base").run().exits(0);
    let ran = push(&layout, &ecr, "app").args(["--mount-from=base", "--output=json"]).run().exits(0);
    let mut new = digests([&own]);
    new.insert(config(&layout, "app"));
    assert_eq!(sent(&ecr, "app"), new);
    assert_arrived(&ecr, "app", &layout, &layout.named("app"));

    let document: Value = serde_json::from_str(&ran.stdout).unwrap();
    let blobs = &document["destinations"][0]["blobs"];
    let bytes: u64 = base.iter().map(|layer| layer["size"].as_u64().unwrap()).sum();
    assert_eq!((&blobs["mounted"]["number"], &blobs["mounted"]["bytes"]), (&3.into(), &bytes.into()));
    assert_eq!((&blobs["uploaded"]["number"], &blobs["alreadyThere"]["number"]), (&2.into(), &0.into()));
    ran.says(["mounted layer 1/4", "from base to", "2 blobs uploaded", "3 mounted (30.00 kB), 0 blobs there already"]);
}

#[test]
fn every_source_that_the_user_names_is_tried_in_every_destination() {
    let layout = Layout::empty();
    let layers = [layout.layer(1000), layout.layer(2000)];
    for (name, layer) in ["one", "two"].into_iter().zip(&layers) {
        layout.list(&layout.image(std::slice::from_ref(layer)), Some(name));
    }
    layout.list(&layout.image(&layers), Some("app"));
    let ecr = start(mounting().repository("one").repository("two"));
    for name in ["one", "two"] {
        push(&layout, &ecr, name).run().exits(0);
    }
    let sources = ["--mount-from=one", "--mount-from=two"];
    push(&layout, &ecr, "app").to("base:v1").args(sources).run().exits(0).says(["2 mounted"]);
    for repository in ["app", "base"] {
        assert_eq!(sent(&ecr, repository), [config(&layout, "app")].into());
        assert_arrived(&ecr, repository, &layout, &layout.named("app"));
    }
}

#[test]
fn where_nothing_is_mounted_each_session_is_used() {
    let (layout, _, _) = one_on_the_other(3);
    let ecr = start(without_mounting().allow("ecr:GetDownloadUrlForLayer"));
    push(&layout, &ecr, "base").run().exits(0);
    let ran = push(&layout, &ecr, "app").args(["--mount-from=base"]).run().exits(0);
    ran.says(["5 blobs uploaded"]).says_nothing_of(["warning", "mounted"]);
    assert_eq!(tried(&ecr, "base").len(), 5);
    assert_eq!(requests(&ecr, "POST", "/v2/app/").len(), 5, "one POST for each blob");
    assert!(requests(&ecr, "DELETE", "").is_empty(), "no session is thrown away");
}

#[test]
fn a_right_that_is_missing_is_said_once_where_the_user_named_the_source() {
    let (layout, _, _) = one_on_the_other(3);
    let ecr = start(without_mounting().blob_mounting(true).mount_denied(true));
    push(&layout, &ecr, "base").run().exits(0);
    let ran = push(&layout, &ecr, "app").args(["--mount-from=base", "--jobs=1"]).run().exits(0);
    assert_eq!(ran.stderr.matches("warning: --mount-from").count(), 1, "{}", ran.stderr);
    ran.says(["ecr:GetDownloadUrlForLayer", "from base to", "5 blobs uploaded"]);
    let answers: Vec<_> = tried(&ecr, "base").into_iter().map(|entry| entry.answer).collect();
    assert_eq!(answers, [Answer::Status(403)], "what is closed is tried once");
    assert_arrived(&ecr, "app", &layout, &layout.named("app"));
}

#[test]
fn a_right_that_is_missing_is_not_said_where_nobody_named_the_source() {
    let layout = Layout::empty();
    let image = layout.image(&[layout.layer(1000)]);
    layout.list(&image, Some("base"));
    let ecr = start(without_mounting().blob_mounting(true).mount_denied(true));
    layout.list(&layout.based_on(&image, &format!("{}/base:v1", ecr.host())), Some("app"));
    push(&layout, &ecr, "base").run().exits(0);
    push(&layout, &ecr, "app").run().exits(0).says_nothing_of(["warning", "Download"]).says(["2 blobs uploaded"]);
    assert_eq!(tried(&ecr, "base").len(), 1);
}

#[test]
fn who_refuses_is_asked_no_more() {
    let (layout, _, _) = one_on_the_other(12);
    let ecr = start(without_mounting());
    push(&layout, &ecr, "base").run().exits(0);
    push(&layout, &ecr, "app").args(["--mount-from=base", "--jobs=1"]).run().exits(0);
    assert_eq!(tried(&ecr, "base").len(), 8);
    assert_eq!(sent(&ecr, "app").len(), 14);
}

#[test]
fn a_source_without_the_blob_does_not_end_the_others() {
    // The largest come first, and they are the ones that the base hasn't.
    let layout = Layout::empty();
    let base = [layout.layer(1000), layout.layer(1001)];
    let own: Vec<Value> = (0..7).map(|number| layout.layer(5000 + number)).collect();
    layout.list(&layout.image(&base), Some("base"));
    layout.list(&layout.image(&[&base[..], &own].concat()), Some("app"));
    let ecr = start(mounting());
    push(&layout, &ecr, "base").run().exits(0);
    push(&layout, &ecr, "app").args(["--mount-from=base", "--jobs=1"]).run().exits(0).says(["2 mounted"]);
}

#[test]
fn layers_of_the_base_that_the_image_names_are_mounted() {
    let (layout, base, own) = one_on_the_other(2);
    let ecr = start(mounting());
    let image = layout.entries()[1].clone();
    for (name, host) in [("mine", ecr.host()), ("other", "h.example".to_owned())] {
        layout.list(&layout.based_on(&image, &format!("{host}/base:v1")), Some(name));
    }
    push(&layout, &ecr, "base").run().exits(0);
    let to_app = |name: &str| Push::of(layout.choosing(&format!(":{name}"))).at(&ecr).to("app:v1");

    to_app("other").run().exits(0).says(["4 blobs uploaded"]);
    assert_eq!(tried(&ecr, "base"), [], "a base in another registry");

    let ecr = start(mounting());
    push(&layout, &ecr, "base").run().exits(0);
    Push::of(layout.choosing(":mine")).at(&ecr).to("app:v1").run().exits(0).says(["2 mounted"]);
    let asked: Vec<_> = tried(&ecr, "base").into_iter().filter_map(|entry| entry.digest).collect();
    assert_eq!(asked.into_iter().collect::<std::collections::BTreeSet<_>>(), {
        let mut layers = digests(&base);
        layers.extend(digests([&own]));
        layers
    });
    assert!(!tried(&ecr, "base").iter().any(|entry| entry.digest == Some(config(&layout, "mine"))));
}

#[test]
fn a_mount_that_fails_for_now_is_tried_again() {
    let (layout, base, _) = one_on_the_other(1);
    let ecr = start(mounting());
    push(&layout, &ecr, "base").run().exits(0);
    let path = format!("mount={}", digest(&base[0]).replace(':', "%3A"));
    for kind in [FaultKind::status(429), FaultKind::status(503)] {
        ecr.inject(Fault::on("POST", path.clone()).does(kind));
    }
    let ran = push(&layout, &ecr, "app").args(["--mount-from=base"]).run().exits(0);
    ran.says(["trying again", "1 mounted"]);
    assert_arrived(&ecr, "app", &layout, &layout.named("app"));
}

#[test]
fn what_is_mounted_in_another_digest_is_not_believed() {
    let (layout, base, _) = one_on_the_other(1);
    let ecr = start(mounting());
    push(&layout, &ecr, "base").run().exits(0);
    let path = format!("mount={}", digest(&base[0]).replace(':', "%3A"));
    let other = format!("sha256:{}", "0".repeat(64));
    let kind = FaultKind::Header { name: "Docker-Content-Digest".to_owned(), value: Some(other) };
    ecr.inject(Fault::on("POST", path).does(kind));
    push(&layout, &ecr, "app").args(["--mount-from=base"]).run().exits(0).says(["3 blobs uploaded"]);
    assert!(sent(&ecr, "app").contains(digest(&base[0])));
}
