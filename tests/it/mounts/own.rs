//! On other registries than ECR the POST of an upload asks whether the blob is there already.
//!
//! local-ecr stands for such a registry where it is not reached by a name of ECR's.

use local_ecr::{Builder, Entry, Fault, FaultKind, LocalEcr};

use super::{config, digests, mounting, one_on_the_other, sent, without_mounting};
use crate::support::layout::digest;
use crate::support::{Layout, Push, assert_arrived, requests, start};

/// Pushes one of the layout's images to `app`.
fn push(layout: &Layout, ecr: &LocalEcr, name: &str) -> Push {
    let host = ecr.registry_url().replace("http://", "");
    let push = Push::of(layout.choosing(&format!(":{name}"))).to_reference(format!("{host}/app:{name}"));
    push.logged_in(&host, "AWS", &ecr.issue_password()).args(["--no-cache"])
}

/// Pushes one image and then another that shares layers with it, and gives what the second push asked for.
fn one_after_the_other(layout: &Layout, ecr: &LocalEcr) -> Vec<Entry> {
    push(layout, ecr, "base").run().exits(0);
    let seen = ecr.registry_requests().len();
    push(layout, ecr, "app").run().exits(0).says(["2 blobs uploaded", "3 blobs there already"]);
    assert_arrived(ecr, "app", layout, &layout.named("app"));
    ecr.registry_requests().split_off(seen)
}

/// The digests that requests with this method name below `path`.
fn named(entries: &[Entry], method: &str, path: &str) -> Vec<String> {
    let wanted = |entry: &&Entry| entry.method == method && entry.path.contains(path);
    let mut names: Vec<String> = entries.iter().filter(wanted).filter_map(|entry| entry.digest.clone()).collect();
    names.sort();
    names
}

#[test]
fn a_registry_that_tells_is_believed() {
    let (layout, base, own) = one_on_the_other(3);
    let ecr = start(mounting());
    let asked = one_after_the_other(&layout, &ecr);
    let mut new: Vec<String> = digests([&own]).into_iter().chain([config(&layout, "app")]).collect();
    new.sort();
    assert_eq!(named(&asked, "PUT", "/blobs/uploads/"), new);
    assert_eq!(named(&asked, "POST", "from=app").len(), 5);
    let heads = named(&asked, "HEAD", "/blobs/");
    assert_eq!(heads, [digest(&base[0])], "the canary alone");
    assert!(requests(&ecr, "DELETE", "").is_empty());
}

#[test]
fn an_empty_repository_is_believed() {
    let (layout, base, _) = one_on_the_other(3);
    let ecr = start(without_mounting());
    push(&layout, &ecr, "app").run().exits(0).says(["5 blobs uploaded"]);
    assert_eq!(named(&ecr.registry_requests(), "HEAD", "/blobs/"), [digest(&base[0])]);
    assert!(requests(&ecr, "DELETE", "").is_empty());
}

/// A push to a registry that has blobs and answers their POSTs with a session, or as `builder` has it.
#[track_caller]
fn is_asked_for_each_blob(builder: Builder, jobs: &str) {
    let (layout, base, own) = one_on_the_other(3);
    let ecr = start(builder);
    push(&layout, &ecr, "base").run().exits(0);
    let seen = ecr.registry_requests().len();
    push(&layout, &ecr, "app").args([jobs]).run().exits(0).says(["2 blobs uploaded", "3 blobs there already"]);
    assert_arrived(&ecr, "app", &layout, &layout.named("app"));
    let asked = ecr.registry_requests().split_off(seen);
    let sent = named(&asked, "PUT", "/blobs/uploads/");
    assert!(digests(&base).iter().all(|there| !sent.contains(there)), "{sent:?}");
    assert!(sent.contains(&digest(&own).to_owned()), "{sent:?}");
    let sessions = asked.iter().filter(|entry| entry.method == "DELETE").count();
    assert_eq!(sessions, 3, "sessions of blobs that are there are cancelled");
}

#[test]
fn a_registry_that_does_not_tell_is_asked_for_each_blob() {
    for jobs in ["--jobs=8", "--jobs=1"] {
        is_asked_for_each_blob(without_mounting(), jobs);
    }
}

#[test]
fn a_registry_that_denies_the_question_is_asked_in_another_way() {
    is_asked_for_each_blob(without_mounting().mount_denied(true), "--jobs=8");
}

#[test]
fn a_canary_that_fails_makes_each_blob_ask() {
    let (layout, base, _) = one_on_the_other(3);
    let ecr = start(without_mounting());
    push(&layout, &ecr, "base").run().exits(0);
    ecr.inject(Fault::on("HEAD", format!("/blobs/{}", digest(&base[0]))).does(FaultKind::status(500)));
    push(&layout, &ecr, "app").run().exits(0).says(["2 blobs uploaded", "3 blobs there already"]);
}

#[test]
fn another_source_comes_first_and_what_it_lacks_is_looked_for_here() {
    let (layout, base, own) = one_on_the_other(3);
    let ecr = start(mounting());
    let host = ecr.registry_url().replace("http://", "");
    let to_base = Push::of(layout.choosing(":base")).to_reference(format!("{host}/base:v1"));
    to_base.logged_in(&host, "AWS", &ecr.issue_password()).run().exits(0);
    for there in [&base[0], &own] {
        ecr.seed_blob("app", &std::fs::read(layout.blob(digest(there))).unwrap());
    }
    let ran = push(&layout, &ecr, "app").args(["--mount-from=base"]).run().exits(0);
    ran.says(["1 blob uploaded", "3 mounted", "1 blob there already"]);
    assert_eq!(sent(&ecr, "app"), [config(&layout, "app")].into());
    assert!(digests(&base).iter().all(|layer| ecr.has_blob("app", layer)));
}
