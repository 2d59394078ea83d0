//! ECR Public: its token and what that is exchanged for, its region, its limits.

use local_ecr::{Builder, Credential, Entry, ExpiredToken, LocalEcr};

use crate::support::{Layout, Push, asked, assert_arrived, reference, requests, start};

const APP: &str = "alias/app";

fn public() -> Builder {
    LocalEcr::builder().public("alias").repository(APP)
}

fn push(layout: &Layout, ecr: &LocalEcr) -> Push {
    Push::of(layout.path()).at(ecr).to("alias/app:v1")
}

#[test]
fn the_token_is_exchanged_once_and_goes_with_every_request() {
    let (layout, ecr) = (Layout::fixture("good/index"), start(public()));
    assert_eq!(ecr.host(), "public.ecr.aws");
    push(&layout, &ecr).run().exits(0).prints(&[&reference(&ecr, APP, &layout.root())]);
    assert_arrived(&ecr, APP, &layout, &layout.root());
    assert_eq!(asked(&ecr, "ecr-public:GetAuthorizationToken"), 1);
    for entry in ecr.api_requests() {
        let signed = entry.signed.as_ref().unwrap();
        assert_eq!((signed.service.as_str(), signed.region.as_str()), ("ecr-public", "us-east-1"));
    }
    assert_eq!(requests(&ecr, "GET", "/token").len(), 1);
    // Those that went out before there was a token were challenged; all others had it.
    let challenged = |entry: &&Entry| entry.credential == Credential::Absent;
    assert!(ecr.registry_requests().iter().filter(challenged).count() <= 2);
}

#[test]
fn whatever_the_environment_says_of_regions() {
    let (layout, ecr) = (Layout::fixture("good/one-manifest"), start(public()));
    let push = push(&layout, &ecr).env("AWS_REGION", "eu-central-1").args(["--region", "eu-north-1"]);
    push.run().exits(0);
    assert_eq!(ecr.api_requests()[0].signed.as_ref().unwrap().region, "us-east-1");
}

#[test]
fn a_token_that_expires_on_the_way_is_renewed() {
    let layout = Layout::of_layers(&[300_000, 200, 100]);
    for how in [ExpiredToken::Denied, ExpiredToken::Challenge] {
        for lifetime in 5..9 {
            let ecr = start(public().token_lifetime(lifetime).expired_token(how));
            push(&layout, &ecr).args(["--jobs", "1"]).run().exits(0);
            assert_arrived(&ecr, APP, &layout, &layout.root());
            assert!(requests(&ecr, "GET", "/token").len() > 1, "{how:?} {lifetime}");
        }
    }
}

#[test]
fn each_right_that_is_missing_is_named() {
    let layout = Layout::fixture("good/one-manifest");
    for action in [
        "ecr-public:GetAuthorizationToken",
        "sts:GetServiceBearerToken",
        "ecr-public:BatchCheckLayerAvailability",
        "ecr-public:InitiateLayerUpload",
        "ecr-public:UploadLayerPart",
        "ecr-public:CompleteLayerUpload",
        "ecr-public:PutImage",
    ] {
        let ecr = start(public().deny(action));
        let ran = push(&layout, &ecr).run().exits(4).prints(&[]).says_one_error();
        let next = ran.stderr.lines().find(|line| line.contains("next: ")).unwrap_or_default();
        assert!(next.contains(action), "{action}: {}", ran.stderr);
    }
}

#[test]
fn a_missing_repository_is_made() {
    let (layout, ecr) = (
        Layout::fixture("good/one-manifest"),
        start(LocalEcr::builder().public("alias").allow("ecr-public:CreateRepository")),
    );
    let ran = push(&layout, &ecr).run().exits(5).prints(&[]).says_one_error();
    ran.says(["--create-repository", "aws ecr-public create-repository --region us-east-1 --repository-name app"]);
    push(&layout, &ecr).args(["--create-repository", "--repository-tag", "a=b"]).run().exits(0);
    assert_arrived(&ecr, APP, &layout, &layout.root());
}

#[test]
fn a_layer_beyond_its_limit_is_refused_before_anything_is_sent() {
    let layout = Layout::of_holes(10_000 * 1024 * 1024 + 1);
    let ecr = start(public());
    let ran = push(&layout, &ecr).run().exits(5).prints(&[]).says_one_error();
    ran.says(["10485760001 bytes", "takes 10485760000"]);
    assert_eq!(requests(&ecr, "POST", "/blobs/uploads/"), [] as [Entry; 0]);
}

#[test]
fn what_private_ecr_alone_has_is_refused() {
    let layout = Layout::fixture("good/one-manifest");
    let ecr = start(public());
    for option in ["--repository-immutable", "--repository-scan-on-push", "--repository-kms-key=x"] {
        push(&layout, &ecr).args(["--create-repository", option]).run().exits(2).says(["ECR Public"]);
    }
    push(&layout, &ecr).args(["--wait-for-scan"]).run().exits(2).says(["only private ECR scans images"]);
}
