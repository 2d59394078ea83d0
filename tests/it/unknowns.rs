//! Both answers to whatever is unknown of ECR (U in facts/ecr.md, or two answers seen): a push comes to the same.
//!
//! Here each is turned by itself, then all of them. `ECR_PUSH_TEST_UNKNOWNS=other` turns all of them for every test.

use local_ecr::{Builder, Fault, FaultKind, LayerLag, LocalEcr, TagMutability, Unknown};

use crate::support::layout::digest;
use crate::support::{Layout, Push, assert_arrived, builder, reference, requests, start};

/// What may be so or otherwise, beside the unknowns: settings of an account, and what is likely only.
type Setting = (&'static str, fn(Builder) -> Builder);

const SETTINGS: [Setting; 4] = [
    ("no referrers API", |builder| builder.referrers_api(false)),
    ("mounts", |builder| builder.blob_mounting(true).allow("ecr:GetDownloadUrlForLayer")),
    ("an expiry in the past", |builder| builder.token_expires_at_in_past(true)),
    ("layers that lag", |builder| builder.layer_lag(LayerLag::Refusals(1))),
];

/// Does something with a local-ecr of each kind, which starts out as `base`.
fn under_each_answer(base: impl Fn() -> Builder, what: impl Fn(&str, &LocalEcr)) {
    let with = |name: &str, unknowns: &[Unknown], settings: &[Setting]| {
        let builder = base().other_answers(unknowns);
        let ecr = start(settings.iter().fold(builder, |builder, (_, set)| set(builder)));
        what(name, &ecr);
    };
    with("the likelier answers", &[], &[]);
    for unknown in Unknown::ALL {
        with(&format!("{unknown:?}"), &[unknown], &[]);
    }
    for setting in SETTINGS {
        with(setting.0, &[], &[setting]);
    }
    with("all other answers", &Unknown::ALL, &[]);
    with("all other answers and settings", &Unknown::ALL, &SETTINGS);
}

#[test]
fn an_index_with_referrers_and_two_tags_arrives_and_is_known_the_next_time() {
    let layout = Layout::fixture("good/referrers");
    under_each_answer(builder, |name, ecr| {
        let push = Push::of(layout.path()).at(ecr).to("app").args(["--tag=v1", "--tag=v2"]);
        let line = reference(ecr, "app", &layout.root());
        push.run().exits(0).prints(&[&line]);
        for entry in layout.entries() {
            assert_arrived(ecr, "app", &layout, digest(&entry));
        }
        for tag in ["v1", "v2"] {
            assert_eq!(ecr.tag("app", tag), Some(layout.root()), "{name}");
        }
        let written = || ["POST", "PUT"].map(|method| requests(ecr, method, "").len());
        let before = written();
        push.run().exits(0).prints(&[&line]);
        assert_eq!(written(), before, "{name}");
    });
}

#[test]
fn another_image_takes_the_tag_over() {
    let (old, new) = (Layout::of_layers(&[10]), Layout::of_layers(&[20]));
    under_each_answer(builder, |name, ecr| {
        for layout in [&old, &new] {
            Push::of(layout.path()).at(ecr).to("app:v1").run().exits(0);
            assert_eq!(ecr.tag("app", "v1"), Some(layout.root()), "{name}");
        }
    });
}

#[test]
fn an_immutable_tag_may_be_pushed_again_and_not_moved() {
    let (old, new) = (Layout::of_layers(&[10]), Layout::of_layers(&[20]));
    under_each_answer(
        || builder().immutability("app", TagMutability::Immutable),
        |name, ecr| {
            let push = Push::of(old.path()).at(ecr).to("app:v1");
            push.run().exits(0);
            push.run().exits(0).prints(&[&reference(ecr, "app", &old.root())]);
            let ran = Push::of(new.path()).at(ecr).to("app:v1").run().exits(5).prints(&[]);
            ran.says(["immutable", "next: choose another tag"]);
            assert_eq!(ecr.tag("app", "v1"), Some(old.root()), "{name}");
        },
    );
}

#[test]
fn a_tag_that_appears_meanwhile_for_the_same_image_is_no_error() {
    let layout = Layout::of_layers(&[10]);
    under_each_answer(
        || builder().immutability("app", TagMutability::Immutable),
        |_, ecr| {
            let push = Push::of(layout.path()).at(ecr).to("app:v1");
            push.run().exits(0);
            // The look beforehand doesn't see it yet.
            ecr.inject(Fault::on("HEAD", "/manifests/v1").does(FaultKind::status(404)));
            push.run().exits(0).prints(&[&reference(ecr, "app", &layout.root())]);
        },
    );
}

#[test]
fn a_token_that_expires_on_the_way_is_renewed() {
    let layout = Layout::of_layers(&[300, 200]);
    under_each_answer(
        || builder().token_lifetime(6),
        |name, ecr| {
            Push::of(layout.path()).at(ecr).to("app:v1").args(["--jobs=1"]).run().exits(0);
            assert_arrived(ecr, "app", &layout, &layout.root());
            assert!(ecr.issued_passwords().len() > 1, "{name}");
        },
    );
}

#[test]
fn the_local_image_is_removed_after_all() {
    under_each_answer(builder, |name, ecr| {
        let (layout, pristine) = (Layout::fixture("good/index"), Layout::fixture("good/index"));
        Push::of(layout.path()).at(ecr).to("app:v1").args(["--cleanup"]).run().exits(0);
        assert!(!layout.path().exists(), "{name}");
        assert_arrived(ecr, "app", &pristine, &pristine.root());
    });
}

#[test]
fn a_refused_upload_is_taken_back_as_far_as_that_goes() {
    let layout = Layout::of_layers(&[100_000]);
    let fault = || Fault::on("PUT", "/blobs/uploads/").times(u64::MAX).does(FaultKind::status(400));
    under_each_answer(
        || builder().fault(fault()),
        |name, ecr| {
            Push::of(layout.path()).at(ecr).to("app:v1").run().exits(5).prints(&[]);
            assert!(!requests(ecr, "DELETE", "/blobs/uploads/").is_empty(), "{name}");
            assert!(ecr.tags("app").is_empty(), "{name}");
            assert_eq!(ecr.check(), Ok(()), "{name}");
        },
    );
}

#[test]
fn what_is_missing_is_named() {
    let layout = Layout::of_layers(&[100]);
    under_each_answer(LocalEcr::builder, |_, ecr| {
        let ran = Push::of(layout.path()).at(ecr).to("team/app:v1").run().exits(5).prints(&[]).says_one_error();
        ran.says(["team/app", "NAME_UNKNOWN", "create-repository"]);
    });
    under_each_answer(
        || builder().deny("ecr:InitiateLayerUpload"),
        |name, ecr| {
            let push = Push::of(layout.path()).at(ecr).to("app:v1").args(["--retries=1"]);
            let ran = push.run().prints(&[]).says_one_error().says(["ecr:InitiateLayerUpload"]);
            assert_ne!(ran.status, 0, "{name}");
            assert!(ecr.tags("app").is_empty(), "{name}");
        },
    );
}

#[test]
fn sha512_is_taken_or_refused_without_a_tag() {
    let layout = Layout::fixture("good/sha512");
    under_each_answer(builder, |name, ecr| {
        let ran = Push::of(layout.path()).at(ecr).to("app:v1").run();
        if ran.status == 0 {
            assert_arrived(ecr, "app", &layout, &layout.root());
        } else {
            ran.exits(5).prints(&[]).says(["sha512:", "doesn't take digests of this algorithm"]);
            assert!(ecr.tags("app").is_empty(), "{name}");
        }
    });
}
