//! ECR's token: fetched once, renewed, and sent to nobody but the registry.

use local_ecr::{Credential, ExpiredToken, Fault, FaultKind, LocalEcr};

use crate::support::{Layout, Push, asked, assert_arrived, builder, ecr, reference, start};

#[test]
fn the_token_is_fetched_once_and_goes_with_every_request() {
    let (layout, ecr) = (Layout::fixture("good/nested-index"), ecr());
    Push::of(layout.path()).at(&ecr).to("app:v1").run().exits(0);
    assert_eq!(asked(&ecr, "ecr:GetAuthorizationToken"), 1);
    assert!(ecr.registry_requests().iter().all(|entry| entry.credential == Credential::Valid));
    assert_eq!(ecr.issued_passwords().len(), 1);
}

#[test]
fn a_token_that_expires_in_the_middle_is_renewed() {
    let layout = Layout::of_layers(&[300_000, 200, 100]);
    for how in [ExpiredToken::Denied, ExpiredToken::Challenge] {
        // A token that is used up by the questions that go out side by side, and by those that tell why they were refused,
        // is nobody's: the fault sweep has the expiry at the first requests.
        for lifetime in 4..10 {
            let ecr = start(builder().token_lifetime(lifetime).expired_token(how));
            let push = Push::of(layout.path()).at(&ecr).to("app:v1").args(["--jobs", "1"]);
            push.run().exits(0).prints(&[&reference(&ecr, "app", &layout.root())]);
            assert_arrived(&ecr, "app", &layout, &layout.root());
            let (requests, tokens) =
                (ecr.registry_requests().len() as u64, asked(&ecr, "ecr:GetAuthorizationToken") as u64);
            assert!(tokens > 1 && tokens <= requests.div_ceil(lifetime) + 1, "{tokens} tokens for {requests} requests");
        }
    }
}

#[test]
fn a_token_that_expires_while_many_blobs_are_in_flight_is_renewed() {
    let layout = Layout::of_layers(&[100_000; 12]);
    for how in [ExpiredToken::Denied, ExpiredToken::Challenge] {
        let ecr = start(builder().token_lifetime(20).expired_token(how));
        Push::of(layout.path()).at(&ecr).to("app:v1").run().exits(0);
        assert_arrived(&ecr, "app", &layout, &layout.root());
    }
}

#[test]
fn a_token_that_claims_to_have_expired_long_ago_is_used() {
    let (layout, ecr) = (Layout::fixture("good/one-manifest"), start(builder().token_expires_at_in_past(true)));
    Push::of(layout.path()).at(&ecr).to("app:v1").run().exits(0);
    assert_eq!(asked(&ecr, "ecr:GetAuthorizationToken"), 1);
}

#[test]
fn a_token_that_is_never_taken_ends_the_push() {
    let refused = Fault::on("*", "").times(u64::MAX).does(FaultKind::status(401));
    let ecr = start(builder().fault(refused));
    let layout = Layout::fixture("good/one-manifest");
    let ran = Push::of(layout.path()).at(&ecr).to("app:v1").run().exits(4).prints(&[]).says_one_error();
    ran.says(["401", "ECR doesn't take this token"]);
    assert!(ecr.api_requests().len() < 6, "{} tokens were fetched", ecr.api_requests().len());
}

#[test]
fn the_region_is_that_of_the_host_whatever_the_environment_says() {
    let layout = Layout::fixture("good/one-manifest");
    // The API takes only what is signed for a region that has a registry, and its token is good for that region alone.
    let ecr = start(LocalEcr::builder().account("111122223333").region("us-east-1").repository("app"));
    let push = Push::of(layout.path()).at(&ecr).to("app:v1");
    let push = push.env("AWS_REGION", "eu-north-1").env("AWS_DEFAULT_REGION", "eu-north-1");
    push.run().exits(0).prints(&[&reference(&ecr, "app", &layout.root())]);
    assert!(ecr.host().contains("us-east-1"));
}

#[test]
fn an_endpoint_may_be_named_on_the_command_line() {
    let ecr = ecr();
    let layout = Layout::fixture("good/one-manifest");
    let push = Push::of(layout.path()).at(&ecr).to("app:v1").env("AWS_ENDPOINT_URL_ECR", "http://127.0.0.1:9");
    push.args(["--endpoint-url", &ecr.api_url()]).run().exits(0);
}

#[test]
fn docker_credentials_are_for_other_registries() {
    let ecr = ecr();
    let layout = Layout::fixture("good/one-manifest");
    let host = ecr.registry_url().replace("http://", "");
    let push =
        Push::of(layout.path()).to_reference(format!("{host}/app:v1")).logged_in(&host, "AWS", &ecr.issue_password());
    push.run().exits(0).prints(&[&format!("{host}/app@{}", layout.root())]);
    assert_eq!(ecr.api_requests(), []);

    let anonymous = Push::of(layout.path()).to_reference(format!("{host}/app:v1"));
    let ran = anonymous.run().exits(4).prints(&[]).says_one_error();
    ran.says(["401", &format!("docker login {host}")]);
}
