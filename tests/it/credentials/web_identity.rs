//! A web identity token, as IRSA and CI systems give one.

use local_ecr::{Builder, Fault, FaultKind, LocalEcr, Role, Source};

use super::{ROLE, arrives, asked, asking, fails, put};
use crate::support::{Layout, Push, builder, start};

const TOKEN: &str = "jwt-of-nobody";

fn trusting() -> Builder {
    builder().role(Role::new(ROLE)).web_identity_token(TOKEN).expired_web_identity_token("jwt-of-yesterday")
}

/// A push that has this token in a file.
fn with_token(ecr: &LocalEcr, token: &str) -> (Layout, Push) {
    let (layout, push) = asking(ecr);
    put(&push, "jwt", token);
    let file = push.home().join("jwt");
    let push = push.env("AWS_WEB_IDENTITY_TOKEN_FILE", file).env("AWS_ROLE_ARN", ROLE);
    (layout, push)
}

#[test]
fn a_token_becomes_a_role() {
    let ecr = start(trusting());
    let (layout, push) = with_token(&ecr, TOKEN);
    let ran = arrives(&ecr, &layout, &push.env("AWS_ROLE_SESSION_NAME", "build-7"), Some(Source::WebIdentity));
    ran.says(["origin=\"web identity\""]);
    assert_eq!(asked(&ecr), ["POST / sts:AssumeRoleWithWebIdentity 200"]);
    let entry = &ecr.identity_requests()[0];
    assert_eq!(entry.signed, None, "the token is all that it takes");
    assert_eq!((&*entry.parameters["RoleArn"], &*entry.parameters["RoleSessionName"]), (ROLE, "build-7"));
}

#[test]
fn a_token_may_be_named_by_a_profile() {
    let ecr = start(trusting());
    let (layout, push) = asking(&ecr);
    put(&push, "jwt", TOKEN);
    let file = push.home().join("jwt");
    let file = file.display();
    put(&push, ".aws/config", &format!("[profile p]\nrole_arn = {ROLE}\nweb_identity_token_file = {file}\n"));
    let ran = arrives(&ecr, &layout, &push.args(["--profile=p"]), Some(Source::WebIdentity));
    ran.says(["origin=\"profile p (web identity)\""]);
}

#[test]
fn a_token_that_sts_refuses_is_said() {
    let check = |token: &str, words: [&str; 2]| {
        let ecr = start(trusting());
        let (_layout, push) = with_token(&ecr, token);
        fails(&ecr, &push, 4).says(words).says_nothing_of([token]);
        assert_eq!(ecr.api_requests(), []);
    };
    check("jwt-of-a-stranger", ["InvalidIdentityToken", "is its issuer an identity provider of the account"]);
    check("jwt-of-yesterday", ["ExpiredTokenException", "the token in AWS_WEB_IDENTITY_TOKEN_FILE has expired"]);
}

#[test]
fn a_role_that_does_not_trust_the_token_is_said() {
    let ecr = start(trusting());
    let (_layout, push) = with_token(&ecr, TOKEN);
    let ran = fails(&ecr, &push.env("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/other"), 4);
    ran.says(["AccessDenied", "trust policy has to allow sts:AssumeRoleWithWebIdentity"]);
}

#[test]
fn a_token_that_is_not_there_is_said() {
    let ecr = start(trusting());
    let (_layout, push) = with_token(&ecr, TOKEN);
    let ran = fails(&ecr, &push.env("AWS_WEB_IDENTITY_TOKEN_FILE", "/nowhere/jwt"), 4);
    ran.says(["web identity", "No such file", "AWS_WEB_IDENTITY_TOKEN_FILE"]);
}

#[test]
fn half_of_what_it_takes_is_named_among_what_was_looked_at() {
    let ecr = start(trusting());
    let (_layout, push) = with_token(&ecr, TOKEN);
    fails(&ecr, &push.without("AWS_ROLE_ARN"), 4).says(["web identity: ", "AWS_ROLE_ARN"]);
}

#[test]
fn sts_in_trouble_is_asked_again_and_then_unavailable() {
    let trouble = |times| {
        let kind = FaultKind::sts_error(503, "ServiceUnavailable", "try later");
        Fault::identity("/").times(times).does(kind)
    };
    let ecr = start(trusting().fault(trouble(2)));
    let (layout, push) = with_token(&ecr, TOKEN);
    arrives(&ecr, &layout, &push, Some(Source::WebIdentity));

    let ecr = start(trusting().fault(trouble(u64::MAX)));
    let (_layout, push) = with_token(&ecr, TOKEN);
    fails(&ecr, &push.args(["--retries=1"]), 6).says(["ServiceUnavailable", "web identity"]);
    assert_eq!(ecr.identity_requests().len(), 2);
}
