//! Tags: which are written, what happens to those that can't be, and how they are read back.

use local_ecr::{Fault, FaultKind, TagMutability};

use super::brief;
use crate::support::layout::sha256;
use crate::support::{Layout, Push, assert_arrived, builder, ecr, reference, requests, start};

#[test]
fn the_tag_is_latest_unless_something_else_is_said() {
    let layout = Layout::fixture("good/one-manifest");
    let by_digest = format!("app@{}", layout.root());
    let check = |destination: &str, args: &[&str], tags: &[&str]| {
        let ecr = ecr();
        let ran = Push::of(layout.path()).at(&ecr).to(destination).args(args).run().exits(0);
        ran.prints(&[&reference(&ecr, "app", &layout.root())]);
        assert_eq!(ecr.tags("app"), tags, "{destination} {args:?}");
        assert_arrived(&ecr, "app", &layout, &layout.root());
    };
    check("app", &[], &["latest"]);
    check("app:v1", &[], &["v1"]);
    check("app", &["--tag", "v1", "-t", "v2", "--tag=v1"], &["v1", "v2"]);
    check("app:v1", &["--tag", "v2"], &["v1", "v2"]);
    check(&by_digest, &[], &[]);
    check(&by_digest, &["--tag", "v1"], &["v1"]);
    check(&format!("app:v1@{}", layout.root()), &[], &["v1"]);
}

#[test]
fn an_image_that_is_there_by_digest_costs_one_request() {
    let (layout, ecr) = (Layout::fixture("good/index"), ecr());
    let push = || Push::of(layout.path()).at(&ecr).to(&format!("app@{}", layout.root())).run().exits(0);
    push();
    let seen = ecr.registry_requests().len();
    push();
    assert_eq!(brief(&super::since(&ecr, seen)), [format!("HEAD {}", layout.root())]);
}

#[test]
fn a_wrong_digest_is_noticed_before_anything_is_written() {
    let layout = Layout::fixture("good/one-manifest");
    let other = sha256(b"another image");
    for destination in [format!("app@{other}"), format!("app:v1@{other}")] {
        let ecr = ecr();
        let push = Push::of(layout.path()).at(&ecr).to("app:fine").to(&destination);
        push.run().exits(2).prints(&[]).says([other.as_str(), &layout.root()]);
        assert_eq!(ecr.registry_requests(), [], "{destination}");
    }
}

#[test]
fn an_immutable_tag_of_another_image_is_left_alone() {
    for older in [false, true] {
        let (old, new) = (Layout::of_layers(&[10]), Layout::of_layers(&[20]));
        let ecr = start(builder().immutability("app", TagMutability::Immutable).older_immutability_words(older));
        Push::of(old.path()).at(&ecr).to("app:v1").run().exits(0);
        let ran = Push::of(new.path()).at(&ecr).to("app:v1").run().exits(5).prints(&[]);
        ran.says(["immutable", "app:v1", &old.root(), &new.root(), "next: choose another tag"]);
        assert_eq!(ecr.tag("app", "v1"), Some(old.root()));
    }
}

#[test]
fn a_tag_that_is_refused_is_refused_before_another_is_written() {
    let (old, new) = (Layout::of_layers(&[10]), Layout::of_layers(&[20]));
    let filters = TagMutability::MutableWithExclusion(vec!["v1".to_owned()]);
    let ecr = start(builder().immutability("app", filters));
    Push::of(old.path()).at(&ecr).to("app:v1").run().exits(0);
    let ran = Push::of(new.path()).at(&ecr).to("app:latest").args(["-t", "v1", "-t", "v2"]).run().exits(5).prints(&[]);
    ran.says(["app:v1 is immutable", &old.root(), &new.root()]).says_nothing_of(["was written before that"]);
    assert_eq!(ecr.tags("app"), ["v1"]);
}

#[test]
fn an_immutable_tag_of_the_same_image_is_no_error() {
    for refused in [false, true] {
        let (layout, ecr) = (
            Layout::fixture("good/one-manifest"),
            start(builder().immutability("app", TagMutability::Immutable).same_digest_refused(refused)),
        );
        let push = || Push::of(layout.path()).at(&ecr).to("app:v1").run().exits(0);
        push();
        push().prints(&[&reference(&ecr, "app", &layout.root())]);
        assert_eq!(requests(&ecr, "PUT", "/manifests/").len(), 1);
    }
}

#[test]
fn an_immutable_tag_that_somebody_else_wrote_meanwhile_for_the_same_image_is_no_error() {
    let layout = Layout::fixture("good/one-manifest");
    let immutable = builder().immutability("app", TagMutability::Immutable).same_digest_refused(true);
    let ecr = start(immutable);
    Push::of(layout.path()).at(&ecr).to("app:v1").run().exits(0);
    // The look beforehand doesn't see it yet.
    let hidden = FaultKind::status(404);
    ecr.inject(Fault::on("HEAD", "/manifests/v1").does(hidden));
    Push::of(layout.path()).at(&ecr).to("app:v1").run().exits(0).prints(&[&reference(&ecr, "app", &layout.root())]);
    assert_eq!(requests(&ecr, "PUT", "/manifests/v1").len(), 2);
}

#[test]
fn a_tag_that_lags_behind_is_waited_for() {
    let layout = Layout::fixture("good/one-manifest");
    let lag = Fault::on("HEAD", "/manifests/v1").nth(2).times(2).does(FaultKind::status(404));
    let ecr = start(builder().fault(lag));
    Push::of(layout.path()).at(&ecr).to("app:v1").run().exits(0);
    assert_eq!(requests(&ecr, "HEAD", "/manifests/v1").len(), 4);
}

#[test]
fn a_tag_that_never_appears_fails_the_push() {
    let layout = Layout::fixture("good/one-manifest");
    let gone = Fault::on("HEAD", "/manifests/v1").nth(2).times(u64::MAX).does(FaultKind::status(404));
    let ecr = start(builder().fault(gone));
    let push = Push::of(layout.path()).at(&ecr).to("app:v1").args(["--cleanup"]);
    push.run().exits(5).prints(&[]).says(["app:v1 is not there", "SOURCE was kept"]);
    assert_eq!(requests(&ecr, "HEAD", "/manifests/v1").len(), 6, "one look beforehand and five afterwards");
    assert!(layout.path().is_dir());
}

#[test]
fn a_tag_that_somebody_else_moved_fails_the_push() {
    let layout = Layout::fixture("good/one-manifest");
    let other = sha256(b"another image");
    let header = FaultKind::Header { name: "Docker-Content-Digest".to_owned(), value: Some(other.clone()) };
    let moved = Fault::on("HEAD", "/manifests/v1").nth(2).times(u64::MAX).does(header);
    let ecr = start(builder().fault(moved));
    let push = Push::of(layout.path()).at(&ecr).to("app:v1").args(["--cleanup"]);
    push.run().exits(5).prints(&[]).says([other.as_str(), &layout.root(), "somebody else moved it"]);
    assert!(layout.path().is_dir());
}

#[test]
fn a_tag_is_moved_where_tags_may_move() {
    let (old, new, ecr) = (Layout::of_layers(&[10]), Layout::of_layers(&[20]), ecr());
    Push::of(old.path()).at(&ecr).to("app:v1").run().exits(0);
    Push::of(new.path()).at(&ecr).to("app:v1").run().exits(0);
    assert_eq!(ecr.tag("app", "v1"), Some(new.root()));
}
