//! What the identity may not do, and what isn't there for it.

use std::time::{Duration, Instant};

use local_ecr::{LocalEcr, MissingPermission, MissingRepository};

use crate::support::{Layout, Push, Tree, assert_arrived, builder, requests, start};

#[test]
fn each_missing_right_is_named() {
    let layout = Layout::fixture("good/index");
    for action in [
        "ecr:GetAuthorizationToken",
        "ecr:BatchCheckLayerAvailability",
        "ecr:BatchGetImage",
        "ecr:InitiateLayerUpload",
        "ecr:UploadLayerPart",
        "ecr:CompleteLayerUpload",
        "ecr:PutImage",
    ] {
        let forbidden = MissingPermission::Forbidden;
        let ecr = start(builder().deny(action).missing_permission(forbidden).upload_cancel(true));
        let before = Tree::of(layout.parent());
        let ran = Push::of(layout.path()).at(&ecr).to("app:v1").args(["--cleanup"]).run();
        let ran = ran.exits(4).prints(&[]).says_one_error();
        let hint = ran.stderr.lines().find(|line| line.contains("next: ")).unwrap_or_else(|| panic!("{}", ran.stderr));
        assert!(hint.contains(action), "{action} isn't in {hint:?}; stderr:\n{}", ran.stderr);
        ecr.wait_for_quiet();
        let journal: Vec<_> = ecr.registry_requests().iter().map(ToString::to_string).collect();
        assert_eq!(ecr.open_sessions(), 0, "{action}:\n{}", journal.join("\n"));
        assert!(ecr.tags("app").is_empty(), "{action}");
        before.is_unchanged(layout.parent());
    }
}

#[test]
fn a_connection_that_is_closed_for_want_of_a_right_is_explained() {
    let ecr = start(builder().deny("ecr:InitiateLayerUpload").missing_permission(MissingPermission::CloseConnection));
    let layout = Layout::fixture("good/one-manifest");
    let ran = Push::of(layout.path()).at(&ecr).to("app:v1").run().exits(4).prints(&[]).says_one_error();
    let arn = "arn:aws:ecr:ap-northeast-2:123456789012:repository/app";
    ran.says([format!("needs ecr:InitiateLayerUpload on {arn}").as_str()]).says_nothing_of(["tried "]);
    let posts = requests(&ecr, "POST", "/blobs/uploads/").len();
    assert!(posts <= 6, "twice for each of three blobs, and not {posts} times");
}

#[test]
fn a_refused_head_is_explained_by_a_get_and_asks_for_no_other_right() {
    let ecr = start(builder().deny("ecr:BatchGetImage"));
    let layout = Layout::fixture("good/one-manifest");
    Push::of(layout.path())
        .at(&ecr)
        .to("app:v1")
        .run()
        .exits(4)
        .says(["is not authorized to perform: ecr:BatchGetImage"]);
    assert!(!requests(&ecr, "GET", "/manifests/").is_empty());
}

#[test]
fn a_missing_repository_is_named_without_delay() {
    let layout = Layout::fixture("good/index");
    for how in [MissingRepository::NotFound, MissingRepository::CloseConnection] {
        let ecr = start(LocalEcr::builder().missing_repository(how));
        let since = Instant::now();
        let ran = Push::of(layout.path()).at(&ecr).to("team/app:v1").run().exits(5).prints(&[]).says_one_error();
        ran.says(["team/app", "NAME_UNKNOWN", "create-repository"]).says_nothing_of(["trying again"]);
        assert!(since.elapsed() < Duration::from_secs(20), "{how:?} took {:?}", since.elapsed());
    }
}

#[test]
fn a_repository_that_is_made_by_the_push_gets_the_image() {
    let (layout, ecr) =
        (Layout::fixture("good/index"), start(LocalEcr::builder().missing_repository(MissingRepository::CreateOnPush)));
    Push::of(layout.path()).at(&ecr).to("team/app:v1").run().exits(0);
    assert_arrived(&ecr, "team/app", &layout, &layout.root());
}
