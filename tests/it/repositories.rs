//! `--create-repository`, and tags that can't be moved.

use local_ecr::{Builder, DenyReason, Encryption, LocalEcr, PolicyKind, TagMutability, ViolationKind};

use crate::support::{Layout, Push, Ran, asked, assert_arrived, builder, reference, requests, start};

fn may_create() -> Builder {
    LocalEcr::builder().allow("ecr:CreateRepository")
}

#[test]
fn a_missing_repository_is_made_as_it_was_asked_for() {
    let key = "arn:aws:kms:ap-northeast-2:123456789012:key/0123";
    let (layout, ecr) = (Layout::fixture("good/index"), start(may_create()));
    let push =
        Push::of(layout.path()).at(&ecr).to("team/app:v1").args(["--create-repository", "--repository-immutable"]);
    let push = push.args(["--repository-scan-on-push", "--repository-kms-key", key]);
    let push = push.args(["--repository-tag", "team=blue", "--repository-tag=cost=a=b"]);
    let ran = push.run().exits(0).prints(&[&reference(&ecr, "team/app", &layout.root())]);
    ran.says(["team/app created"]);
    assert_arrived(&ecr, "team/app", &layout, &layout.root());
    let settings = ecr.here().repository_settings("team/app").unwrap();
    assert_eq!(settings.mutability, TagMutability::Immutable);
    assert!(settings.scan_on_push);
    assert_eq!(settings.encryption, Encryption::Kms { key: key.to_owned() });
    let tags: Vec<_> = settings.tags.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    assert_eq!(tags, [("cost", "a=b"), ("team", "blue")]);
}

#[test]
fn a_repository_that_is_there_is_left_as_it_is() {
    let (layout, ecr) = (Layout::fixture("good/one-manifest"), start(may_create().repository("app")));
    let push = Push::of(layout.path()).at(&ecr).to("app:v1").args(["--create-repository", "--repository-immutable"]);
    push.run().exits(0).says_nothing_of(["created"]);
    assert_eq!(asked(&ecr, "ecr:CreateRepository"), 0);
    assert_eq!(ecr.here().repository_settings("app").unwrap().mutability, TagMutability::Mutable);
}

#[test]
fn a_tag_that_is_there_already_costs_no_question_about_the_repository() {
    let (layout, ecr) = (Layout::fixture("good/one-manifest"), start(may_create()));
    let push = Push::of(layout.path()).at(&ecr).to("app:v1").args(["--create-repository"]);
    push.run().exits(0);
    let before = ecr.registry_requests().len();
    push.run().exits(0);
    assert_eq!(ecr.registry_requests().len(), before + 1);
}

#[test]
fn somebody_else_who_makes_it_at_the_same_time_is_no_error() {
    let (layout, ecr) = (Layout::fixture("good/one-manifest"), start(may_create().creation_race()));
    let push = Push::of(layout.path()).at(&ecr).to("app:v1").args(["--create-repository"]);
    push.run().exits(0).prints(&[&reference(&ecr, "app", &layout.root())]);
    assert_eq!(asked(&ecr, "ecr:CreateRepository"), 1);
}

#[test]
fn two_destinations_make_a_repository_each() {
    let (layout, ecr) = (Layout::fixture("good/one-manifest"), start(may_create()));
    Push::of(layout.path()).at(&ecr).to("a/app:v1").to("b/app:v1").args(["--create-repository"]).run().exits(0);
    assert_eq!(ecr.here().repositories(), ["a/app", "b/app"]);
}

#[test]
fn why_it_could_not_be_made_is_said() {
    let layout = Layout::fixture("good/one-manifest");
    let push = |builder: Builder, args: &[&str], status, words: &[&str]| {
        let ecr = start(builder);
        ecr.expect_violation(ViolationKind::ForbiddenAction);
        let push = Push::of(layout.path()).at(&ecr).to("app:v1").args(["--create-repository"]).args(args);
        push.run().exits(status).prints(&[]).says_one_error().says(words.iter().copied());
        assert!(!ecr.here().repositories().contains(&"app".to_owned()));
    };
    let resource = "ecr:CreateRepository on arn:aws:ecr:ap-northeast-2:123456789012:repository/app";
    push(LocalEcr::builder(), &[], 4, &["could not be created", "  next: ", resource]);
    let denied = may_create().deny_with("ecr:CreateRepository", DenyReason::Explicit(PolicyKind::ServiceControl));
    push(denied, &[], 4, &["service control policy", "organization"]);
    push(
        may_create().repository("other").repository_limit(1),
        &["--retries=0"],
        5,
        &["LimitExceededException", "quota"],
    );
    let key = "arn:aws:kms:ap-northeast-2:123456789012:key/0123";
    push(may_create().unusable_kms_key(key), &["--repository-kms-key", key], 5, &["KmsException", "KMS key"]);
}

#[test]
fn without_it_nothing_is_made_or_asked() {
    let (layout, ecr) = (Layout::fixture("good/one-manifest"), start(may_create()));
    let ran = Push::of(layout.path()).at(&ecr).to("app:v1").run().exits(5).prints(&[]).says_one_error();
    ran.says(["NAME_UNKNOWN", "--create-repository"]);
    assert_eq!(asked(&ecr, "ecr:CreateRepository"), 0);
}

/// All modes, with the tags `v1` and `latest` there: which of them can't be moved.
fn modes() -> [(TagMutability, &'static [&'static str]); 4] {
    [
        (TagMutability::Mutable, &[]),
        (TagMutability::Immutable, &["v1", "latest"]),
        (TagMutability::MutableWithExclusion(vec!["v*".to_owned()]), &["v1"]),
        (TagMutability::ImmutableWithExclusion(vec!["latest".to_owned()]), &["v1"]),
    ]
}

fn ran_names(ran: &Ran, tag: &str) -> bool {
    ran.stderr.contains(&format!("/app:{tag} is immutable"))
}

#[test]
fn no_tag_moves_when_one_of_them_would_be_refused() {
    let (old, new) = (Layout::of_layers(&[10]), Layout::of_layers(&[20]));
    for may_look in [false, true] {
        for (mode, immutable) in modes() {
            let server = builder().immutability("app", mode.clone());
            let ecr = start(if may_look { server.allow("ecr:DescribeRepositories") } else { server });
            Push::of(old.path()).at(&ecr).to("app:latest").args(["-t", "v1"]).run().exits(0);
            let put = requests(&ecr, "PUT", "/manifests/").len();
            let posted = requests(&ecr, "POST", "/blobs/uploads/").len();
            let push = Push::of(new.path()).at(&ecr).to("app:latest").args(["-t", "v1", "-t", "new"]);
            let at = format!("{mode:?}, {may_look}");
            if immutable.is_empty() {
                push.run().exits(0);
                assert_eq!(ecr.tags("app"), ["latest", "new", "v1"], "{at}");
                assert_eq!(ecr.tag("app", "v1"), Some(new.root()), "{at}");
                continue;
            }
            let ran = push.run().exits(5).prints(&[]).says_one_error();
            let ran = ran.says(["immutable", &old.root(), &new.root(), "choose another tag"]);
            let named = immutable.iter().any(|tag| ran_names(&ran, tag));
            assert!(named, "{at}: {}", ran.stderr);
            assert_eq!(ecr.tags("app"), ["latest", "v1"], "{at}");
            for tag in ["latest", "v1"] {
                assert_eq!(ecr.tag("app", tag), Some(old.root()), "{at}");
            }
            if may_look {
                // It was known before anything was sent.
                assert_eq!(requests(&ecr, "POST", "/blobs/uploads/").len(), posted, "{at}");
                assert_eq!(requests(&ecr, "PUT", "/manifests/").len(), put, "{at}");
            }
        }
    }
}

#[test]
fn the_same_image_again_is_no_write_in_any_mode() {
    let layout = Layout::fixture("good/one-manifest");
    for (mode, _) in modes() {
        let ecr = start(builder().immutability("app", mode.clone()).same_digest_refused(true));
        let push = || Push::of(layout.path()).at(&ecr).to("app:v1").args(["-t", "latest"]).run().exits(0);
        push();
        let put = requests(&ecr, "PUT", "/manifests/").len();
        push().prints(&[&reference(&ecr, "app", &layout.root())]);
        assert_eq!(requests(&ecr, "PUT", "/manifests/").len(), put, "{mode:?}");
    }
}

#[test]
fn a_repositorys_mode_is_asked_for_only_where_several_tags_would_move() {
    let (old, new) = (Layout::of_layers(&[10]), Layout::of_layers(&[20]));
    let ecr = start(builder());
    Push::of(old.path()).at(&ecr).to("app:v1").args(["-t", "v2"]).run().exits(0);
    Push::of(new.path()).at(&ecr).to("app:v1").run().exits(0);
    assert_eq!(asked(&ecr, "ecr:DescribeRepositories"), 0);
    // Refused, without a word, and nobody minds.
    Push::of(old.path()).at(&ecr).to("app:v1").run().exits(0);
    let ran = Push::of(new.path()).at(&ecr).to("app:v1").args(["-t", "v2"]).run().exits(0);
    ran.says_nothing_of(["DescribeRepositories", "warning"]);
    assert_eq!(asked(&ecr, "ecr:DescribeRepositories"), 1);
}
