//! What a push asks before it sends anything: of ECR's API where it can, and of the registry no more than it has to.

use std::collections::BTreeMap;
use std::time::Duration;

use local_ecr::{Builder, DenyReason, Entry, Fault, FaultKind, LocalEcr, MissingRepository, PolicyKind, Side};
use serde_json::Value;

use crate::support::layout::digest;
use crate::support::{Layout, Push, asked, assert_arrived, builder, ecr, reference, requests, start};

const CHECK: &str = "BatchCheckLayerAvailability";

/// How often what was asked since the first `seen` requests, but for the token; blobs count together.
fn counts(ecr: &LocalEcr, seen: usize) -> BTreeMap<String, usize> {
    ecr.wait_for_quiet();
    let mut counts = BTreeMap::new();
    for entry in &ecr.journal()[seen..] {
        let what = match (entry.side, entry.actions.first()) {
            (Side::Api, Some(action)) => action.split_once(':').map_or(*action, |(_, name)| name).to_owned(),
            // A fault struck before it was read.
            (Side::Api, None) => CHECK.to_owned(),
            _ if entry.path.contains("/blobs/") => format!("{} blob", entry.method),
            _ => {
                format!("{} {}", entry.method, entry.tag.as_ref().or(entry.digest.as_ref()).map_or("", String::as_str))
            }
        };
        if what != "GetAuthorizationToken" && !what.starts_with("GET ") {
            *counts.entry(what).or_insert(0) += 1;
        }
    }
    counts
}

fn expected(counts: &[(&str, usize)]) -> BTreeMap<String, usize> {
    counts.iter().map(|(what, count)| ((*what).to_owned(), *count)).collect()
}

#[track_caller]
fn assert_asked(ecr: &LocalEcr, seen: usize, counted: &[(&str, usize)]) {
    assert_eq!(counts(ecr, seen), expected(counted));
}

fn push(layout: &Layout, ecr: &LocalEcr) -> Push {
    Push::of(layout.path()).at(ecr).to("app:v1")
}

/// A layout with two images that have all of so many layers in common but one: `old` and `new`.
fn changed(layers: usize) -> Layout {
    let layout = Layout::empty();
    let mut all: Vec<Value> = (0..layers).map(|_| layout.layer(10)).collect();
    layout.list(&layout.image(&all), Some("old"));
    all[layers / 2] = layout.layer(10);
    layout.list(&layout.image(&all), Some("new"));
    layout
}

#[test]
fn one_layer_that_changed_costs_a_look_a_check_for_each_hundred_and_itself() {
    for (layers, checks) in [(99, 1), (100, 2), (200, 3)] {
        let (layout, ecr) = (changed(layers), ecr());
        Push::of(layout.choosing(":old")).at(&ecr).to("app:v1").run().exits(0);
        let seen = ecr.journal().len();
        Push::of(layout.choosing(":new")).at(&ecr).to("app:v1").run().exits(0);
        assert_arrived(&ecr, "app", &layout, &layout.named("new"));
        // A look and a reading back; the layer and the config; the manifest.
        let expected = [("HEAD v1", 2), (CHECK, checks), ("POST blob", 2), ("PUT blob", 2), ("PUT v1", 1)];
        assert_asked(&ecr, seen, &expected);
    }
}

#[test]
fn a_cold_push_asks_for_no_single_blob() {
    let (layout, ecr) = (Layout::of_layers(&[5; 204]), ecr());
    push(&layout, &ecr).args(["-t", "v2"]).run().exits(0);
    assert_arrived(&ecr, "app", &layout, &layout.root());
    let blobs = [("POST blob", 205), ("PUT blob", 205), (CHECK, 3)];
    // Several tags are looked at once more before the first is written.
    let tags = [("HEAD v1", 3), ("HEAD v2", 3), ("PUT v1", 1), ("PUT v2", 1)];
    assert_asked(&ecr, 0, &[&blobs[..], &tags].concat());
    let journal = ecr.journal();
    let first = journal.iter().position(|entry| entry.method == "POST" && entry.side == Side::Registry).unwrap();
    let known = journal[..first].iter().filter(|entry| entry.actions.contains(&"ecr:BatchCheckLayerAvailability"));
    assert_eq!(known.count(), 3);
}

#[test]
fn by_digest_alone_the_root_is_looked_at() {
    let (layout, ecr) = (Layout::fixture("good/one-manifest"), ecr());
    let root = layout.root();
    Push::of(layout.path()).at(&ecr).to(&format!("app@{root}")).run().exits(0);
    let blobs = layout.reach(&root).blobs.len();
    let (looks, put) = (format!("HEAD {root}"), format!("PUT {root}"));
    assert_asked(&ecr, 0, &[(&looks, 2), (CHECK, 1), ("POST blob", blobs), ("PUT blob", blobs), (&put, 1)]);
}

#[test]
fn what_the_api_says_is_not_waited_for_where_a_tag_says_enough() {
    let layout = Layout::fixture("good/nested-index");
    let denial = FaultKind::api_error(400, "AccessDeniedException", "Access denied");
    for kind in [FaultKind::Stall, FaultKind::Cut, FaultKind::status(500), denial] {
        let ecr = ecr();
        push(&layout, &ecr).args(["-t", "v2"]).run().exits(0);
        ecr.inject(Fault::operation(CHECK).times(u64::MAX).does(kind));
        let seen = ecr.registry_requests().len();
        // Longer than the test may take, if anybody waited for it.
        let ran = push(&layout, &ecr).args(["-t", "v2", "--timeout=600"]).run().exits(0);
        ran.prints(&[&reference(&ecr, "app", &layout.root())]).says_nothing_of([CHECK, "warning", "trying again"]);
        assert_eq!(ecr.registry_requests().len(), seen + 2);
    }
}

#[test]
fn a_referrer_that_is_missing_is_all_that_is_sent() {
    let layout = Layout::of_layers(&[100]);
    let (image, ecr) = (layout.entries()[0].clone(), ecr());
    push(&layout, &ecr).run().exits(0);
    let note = layout.referrer(&image, "a note");
    layout.list(&note, None);
    let seen = ecr.journal().len();
    push(&layout, &ecr).run().exits(0);
    assert_arrived(&ecr, "app", &layout, digest(&note));
    let (look, put) = (format!("HEAD {}", digest(&note)), format!("PUT {}", digest(&note)));
    assert_asked(&ecr, seen, &[("HEAD v1", 1), (&look, 1), (CHECK, 1), ("POST blob", 2), ("PUT blob", 2), (&put, 1)]);
}

/// An index over an index, `[one, [two, three]]`, and the descriptors of these.
fn nested(layout: &Layout) -> (Value, Value, Vec<Value>) {
    let images: Vec<Value> = [1, 2, 3].map(|size| layout.image(&[layout.layer(size)])).to_vec();
    let inner = layout.index_of(&images[1..]);
    let outer = layout.index_of(&[images[0].clone(), inner.clone()]);
    (outer, inner, images)
}

#[test]
fn a_child_that_is_there_is_neither_walked_nor_written() {
    let (layout, ecr) = (Layout::empty(), ecr());
    let (outer, inner, images) = nested(&layout);
    layout.list(&inner, Some("inner"));
    layout.list(&outer, Some("outer"));
    Push::of(layout.choosing(":inner")).at(&ecr).to("app:inner").run().exits(0);
    let seen = ecr.journal().len();
    Push::of(layout.choosing(":outer")).at(&ecr).to("app:v1").run().exits(0);
    assert_arrived(&ecr, "app", &layout, digest(&outer));
    let [new, there] = [&images[0], &inner].map(|child| format!("HEAD {}", digest(child)));
    let put = format!("PUT {}", digest(&images[0]));
    let blobs = [(CHECK, 1), ("POST blob", 2), ("PUT blob", 2)];
    let manifests = [("HEAD v1", 2), (new.as_str(), 1), (there.as_str(), 1), (put.as_str(), 1), ("PUT v1", 1)];
    assert_asked(&ecr, seen, &[&blobs[..], &manifests].concat());
}

#[test]
fn children_are_asked_for_while_blobs_are_on_their_way() {
    let layout = Layout::empty();
    let (outer, ..) = nested(&layout);
    layout.list(&outer, None);
    let wait = Duration::from_secs(1);
    let ecr = start(builder().fault(Fault::on("HEAD", "/manifests/sha256:").times(2).does(FaultKind::Delay(wait))));
    push(&layout, &ecr).run().exits(0);
    assert_arrived(&ecr, "app", &layout, &layout.root());
    let asked = requests(&ecr, "HEAD", "/manifests/sha256:");
    assert_eq!(asked.len(), 4, "both levels");
    let sent = requests(&ecr, "PUT", "/blobs/uploads/");
    assert!(sent.iter().all(|entry| entry.at < asked[0].at + wait), "{sent:?} waited for {asked:?}");
    let written = &requests(&ecr, "PUT", "/manifests/")[0];
    assert!(asked[0].at + wait <= written.at, "{written} was written before it was known to be lacking");
}

#[test]
fn a_question_about_a_child_that_fails_for_good_leaves_the_destination_without_a_tag() {
    let layout = Layout::empty();
    let (outer, ..) = nested(&layout);
    layout.list(&outer, None);
    let broken = Fault::on("HEAD", "/manifests/sha256:").times(u64::MAX).does(FaultKind::status(503));
    let ecr = start(builder().fault(broken));
    push(&layout, &ecr).args(["--retries=0"]).run().exits(6).prints(&[]).says_one_error();
    assert_eq!(requests(&ecr, "PUT", "/manifests/"), []);
}

#[test]
fn each_repository_is_asked_for_itself() {
    let (layout, ecr) = (Layout::of_layers(&[10, 20]), start(builder().repository("second")));
    push(&layout, &ecr).run().exits(0);
    let seen = ecr.journal().len();
    push(&layout, &ecr).to("second:v2").run().exits(0);
    assert_arrived(&ecr, "second", &layout, &layout.root());
    let blobs = [("POST blob", 3), ("PUT blob", 3)];
    let tags = [("HEAD v1", 1), ("HEAD v2", 2), ("PUT v2", 1)];
    let mut found = counts(&ecr, seen);
    // What the one repository would be told isn't waited for: it has the image.
    assert!((1..=2).contains(&found.remove(CHECK).unwrap()));
    assert_eq!(found, expected(&[&blobs[..], &tags].concat()));
}

#[test]
fn a_repository_that_is_missing_is_found_out_by_the_upload_alone() {
    let layout = Layout::fixture("good/index");
    let blobs = layout.reach(&layout.root()).blobs.len();
    for how in [MissingRepository::NotFound, MissingRepository::CloseConnection, MissingRepository::CreateOnPush] {
        let ecr = start(LocalEcr::builder().missing_repository(how));
        let ran = push(&layout, &ecr).run();
        assert_eq!(requests(&ecr, "HEAD", "/blobs/"), []);
        assert_eq!(asked(&ecr, "ecr:BatchCheckLayerAvailability"), 1);
        let posts = requests(&ecr, "POST", "/blobs/uploads/").len();
        if how == MissingRepository::CreateOnPush {
            ran.exits(0);
            assert_arrived(&ecr, "app", &layout, &layout.root());
            assert_eq!(posts, blobs);
            assert_eq!(requests(&ecr, "HEAD", "/manifests/sha256:"), [], "nothing can be there");
        } else {
            ran.exits(5).prints(&[]).says_one_error().says(["NAME_UNKNOWN", "--create-repository"]);
            assert!(posts > 0);
        }
    }
}

#[test]
fn a_repository_that_is_missing_is_made_without_another_question() {
    let layout = Layout::fixture("good/one-manifest");
    let blobs = layout.reach(&layout.root()).blobs.len();
    let ecr = start(LocalEcr::builder().allow("ecr:CreateRepository"));
    push(&layout, &ecr).args(["--create-repository"]).run().exits(0);
    assert_arrived(&ecr, "app", &layout, &layout.root());
    assert_eq!(requests(&ecr, "GET", ""), []);
    let expected =
        [("HEAD v1", 2), (CHECK, 1), ("CreateRepository", 1), ("POST blob", blobs), ("PUT blob", blobs), ("PUT v1", 1)];
    assert_asked(&ecr, 0, &expected);

    // Where the API doesn't tell, the registry is asked.
    let blocked = Fault::operation(CHECK).times(u64::MAX).does(FaultKind::status(404));
    let ecr = start(LocalEcr::builder().allow("ecr:CreateRepository").fault(blocked));
    push(&layout, &ecr).args(["--create-repository"]).run().exits(0);
    assert_eq!(requests(&ecr, "GET", "/manifests/").len(), 1);
    assert_eq!(requests(&ecr, "HEAD", "/blobs/"), [], "what was made just now has nothing");
}

#[test]
fn without_the_right_nothing_else_is_tried() {
    let layout = Layout::fixture("good/index");
    for reason in [PolicyKind::Identity, PolicyKind::Session, PolicyKind::Boundary] {
        let ecr = start(builder().deny_with("ecr:BatchCheckLayerAvailability", DenyReason::Missing(reason)));
        let ran = push(&layout, &ecr).run().exits(4).prints(&[]).says_one_error();
        let next = ran.stderr.lines().find(|line| line.contains("next: ")).unwrap_or_default();
        let words = "ecr:BatchCheckLayerAvailability on arn:aws:ecr:ap-northeast-2:123456789012:repository/app";
        assert!(next.contains(words), "{}", ran.stderr);
        assert_eq!(ecr.registry_requests().len(), 1, "the look at the tag");
    }
}

/// What may come of an API that can't be asked, where the registry can.
fn blocked() -> Vec<FaultKind> {
    let policy = "User: arn:aws:iam::123456789012:user/ci is not authorized to perform: ecr:BatchCheckLayerAvailability on \
                  resource: arn:aws:ecr:ap-northeast-2:123456789012:repository/app because no VPC endpoint policy allows the \
                  ecr:BatchCheckLayerAvailability action";
    let page = vec![("Content-Type".to_owned(), "text/html".to_owned())];
    vec![
        FaultKind::api_error(400, "UnknownOperationException", ""),
        FaultKind::api_error(501, "NotImplementedError", "The action has not been implemented"),
        FaultKind::api_error(500, "ServerException", "try later"),
        FaultKind::api_error(400, "ThrottlingException", "Rate exceeded"),
        FaultKind::api_error(400, "InvalidParameterException", "layerDigests"),
        FaultKind::api_error(400, "AccessDeniedException", policy),
        FaultKind::Status { status: 404, headers: page, body: "<html>".to_owned() },
        FaultKind::Cut,
        FaultKind::Stall,
    ]
}

#[test]
fn where_the_api_is_blocked_each_blob_is_looked_up() {
    let layout = changed(3);
    for kind in blocked() {
        let ecr = ecr();
        Push::of(layout.choosing(":old")).at(&ecr).to("app:v1").run().exits(0);
        ecr.inject(Fault::operation(CHECK).times(u64::MAX).does(kind.clone()));
        let seen = ecr.journal().len();
        let push = Push::of(layout.choosing(":new")).at(&ecr).to("app:v1").args(["--retries=0", "--timeout=1"]);
        push.run().exits(0).says_nothing_of(["warning"]);
        assert_arrived(&ecr, "app", &layout, &layout.named("new"));
        let root = format!("HEAD {}", layout.named("new"));
        let blobs = [("HEAD blob", 4), ("POST blob", 2), ("PUT blob", 2)];
        let manifests = [("HEAD v1", 2), (root.as_str(), 1), ("PUT v1", 1), (CHECK, 1)];
        assert_eq!(counts(&ecr, seen), expected(&[&blobs[..], &manifests].concat()), "{kind:?}");
    }
}

#[test]
fn a_hundred_that_are_not_told_of_are_looked_up_beside_those_that_are() {
    let (layout, ecr) = (Layout::of_layers(&[5; 149]), ecr());
    ecr.inject(Fault::operation(CHECK).does(FaultKind::api_error(400, "UnknownOperationException", "")));
    push(&layout, &ecr).run().exits(0);
    assert_arrived(&ecr, "app", &layout, &layout.root());
    let looked_up = requests(&ecr, "HEAD", "/blobs/").len();
    assert!([50, 100].contains(&looked_up), "{looked_up}");
}

#[test]
fn an_index_of_which_the_api_says_nothing_is_walked_before_its_blobs_are_looked_up() {
    let layout = Layout::empty();
    let (outer, inner, images) = nested(&layout);
    layout.list(&inner, Some("inner"));
    layout.list(&outer, Some("outer"));
    let ecr = start(builder().fault(Fault::operation(CHECK).times(u64::MAX).does(FaultKind::status(404))));
    Push::of(layout.choosing(":inner")).at(&ecr).to("app:inner").run().exits(0);
    let seen = ecr.journal().len();
    Push::of(layout.choosing(":outer")).at(&ecr).to("app:v1").run().exits(0);
    assert_arrived(&ecr, "app", &layout, digest(&outer));
    let heads = [&outer, &inner, &images[0]].map(|manifest| format!("HEAD {}", digest(manifest)));
    let put = format!("PUT {}", digest(&images[0]));
    let mut expected = vec![("HEAD v1", 2), (CHECK, 1), ("HEAD blob", 2), ("POST blob", 2), ("PUT blob", 2)];
    expected.extend(heads.iter().map(|head| (head.as_str(), 1)).chain([(put.as_str(), 1), ("PUT v1", 1)]));
    assert_asked(&ecr, seen, &expected);
}

#[test]
fn what_has_been_archived_is_sent_again() {
    let layout = changed(3);
    let ecr = ecr();
    Push::of(layout.choosing(":old")).at(&ecr).to("app:v1").run().exits(0);
    let shared: Vec<_> = layout.reach(&layout.named("old")).blobs.into_iter().collect();
    let shared = shared.iter().find(|blob| layout.reach(&layout.named("new")).blobs.contains(*blob)).unwrap();
    ecr.here().archive_blob("app", shared);
    let seen = ecr.journal().len();
    Push::of(layout.choosing(":new")).at(&ecr).to("app:v1").run().exits(0);
    assert_arrived(&ecr, "app", &layout, &layout.named("new"));
    assert_asked(&ecr, seen, &[("HEAD v1", 2), (CHECK, 1), ("POST blob", 3), ("PUT blob", 3), ("PUT v1", 1)]);
}

#[test]
fn a_digest_of_another_algorithm_is_looked_up_by_itself() {
    let (layout, ecr) = (Layout::fixture("good/sha512"), start(builder().sha512(true)));
    push(&layout, &ecr).run().exits(0);
    assert_arrived(&ecr, "app", &layout, &layout.root());
    let reach = layout.reach(&layout.root());
    let others = reach.blobs.iter().filter(|blob| blob.starts_with("sha512:")).count();
    assert!(others > 0);
    let looked_up = requests(&ecr, "HEAD", "/blobs/");
    assert_eq!(looked_up.len(), others);
    assert!(looked_up.iter().all(|entry| entry.path.contains("/blobs/sha512:")), "{looked_up:?}");
}

fn public() -> Builder {
    LocalEcr::builder().public("alias").repository("alias/app")
}

#[test]
fn ecr_public_is_asked_in_the_same_way() {
    let (layout, ecr) = (changed(100), start(public()));
    Push::of(layout.choosing(":old")).at(&ecr).to("alias/app:v1").run().exits(0);
    let seen = ecr.journal().len();
    Push::of(layout.choosing(":new")).at(&ecr).to("alias/app:v1").run().exits(0);
    assert_arrived(&ecr, "alias/app", &layout, &layout.named("new"));
    let looks = |entry: &&Entry| entry.method == "HEAD" && !entry.actions.is_empty();
    assert_eq!(ecr.registry_requests().iter().filter(looks).count(), 0, "no right is needed to look at a tag");
    let counts = counts(&ecr, seen);
    let of = |what: &str| counts.get(what).copied().unwrap_or_default();
    assert_eq!((of(CHECK), of("HEAD blob"), of("POST blob"), of("PUT blob"), of("PUT v1")), (2, 0, 2, 2, 1));

    let ecr = start(public().deny("ecr-public:BatchCheckLayerAvailability"));
    let push = Push::of(layout.choosing(":new")).at(&ecr).to("alias/app:v1");
    push.run().exits(4).prints(&[]).says_one_error().says(["next: ", "ecr-public:BatchCheckLayerAvailability on arn:"]);
    assert_eq!(requests(&ecr, "POST", "/blobs/uploads/"), []);
}
