//! Keys in the environment.

use local_ecr::Source;

use super::{KEY, SECRET, SESSION, arrives, asking, fails, key_file, put, without_key};
use crate::support::{Layout, Push, builder, ecr, start};

#[test]
fn a_key_that_aws_does_not_know_is_said() {
    let ecr = ecr();
    let layout = Layout::fixture("good/one-manifest");
    let push = Push::of(layout.path()).at(&ecr).to("app:v1").env(KEY, "AKIAI44QH8DHBEXAMPLE");
    let ran = push.run().exits(4).prints(&[]).says_one_error();
    ran.says(["UnrecognizedClientException", "ap-northeast-2", "next: AWS doesn't know these credentials"]);
    assert_eq!(ecr.registry_requests(), []);
}

#[test]
fn without_credentials_the_ways_to_give_them_are_said() {
    let ecr = ecr();
    let (_layout, push) = without_key(&ecr);
    let ran = push.run().exits(4).prints(&[]).says_one_error();
    ran.says(["no AWS credentials", "AWS_ACCESS_KEY_ID", "--profile"]);
    assert_eq!(ecr.journal(), []);
}

#[test]
fn a_session_token_goes_along() {
    let ecr = ecr();
    let (layout, push) = asking(&ecr);
    let given = ecr.issue_credentials();
    let push = push.env(KEY, &given.access_key_id).env(SECRET, &given.secret_access_key);
    let ran = arrives(&ecr, &layout, &push.env(SESSION, &given.session_token), Some(Source::Test));
    ran.says(["credentials region=\"ap-northeast-2\" origin=\"environment\""]);
    assert_eq!(ecr.identity_requests(), []);
}

#[test]
fn a_session_token_that_is_missing_is_looked_for() {
    let ecr = ecr();
    let (_layout, push) = asking(&ecr);
    let given = ecr.issue_credentials();
    let push = push.env(KEY, &given.access_key_id).env(SECRET, &given.secret_access_key);
    fails(&ecr, &push, 4).says(["UnrecognizedClientException", "the session token"]);
}

#[test]
fn credentials_that_have_expired_and_cannot_be_renewed_are_said() {
    let ecr = start(builder().temporary_lifetime(0));
    let (_layout, push) = asking(&ecr);
    let given = ecr.issue_credentials();
    let push = push.env(KEY, &given.access_key_id).env(SECRET, &given.secret_access_key);
    let ran = fails(&ecr, &push.env(SESSION, &given.session_token), 4);
    ran.says(["ExpiredTokenException", "next: the AWS credentials (environment) have expired: get new ones"]);
    assert_eq!(ecr.api_requests().len(), 2, "they are looked for once more, and no more");
}

#[test]
fn what_jenkins_exports_empty_is_not_there() {
    let ecr = ecr();
    let (layout, push) = asking(&ecr);
    put(&push, ".aws/credentials", &key_file(&ecr, "default"));
    let empty = [KEY, SECRET, SESSION];
    let push = empty.iter().fold(push, |push, name| push.env(name, ""));
    arrives(&ecr, &layout, &push, None);
}

#[test]
fn what_is_set_and_empty_is_unset() {
    let ecr = start(builder());
    let layout = Layout::fixture("good/one-manifest");
    let empty = [
        "AWS_PROFILE",
        "AWS_SESSION_TOKEN",
        "AWS_ENDPOINT_URL",
        "AWS_ENDPOINT_URL_STS",
        "AWS_ENDPOINT_URL_ECR_PUBLIC",
        "AWS_REGION",
        "AWS_WEB_IDENTITY_TOKEN_FILE",
        "AWS_CONTAINER_CREDENTIALS_FULL_URI",
        "AWS_EC2_METADATA_SERVICE_ENDPOINT",
    ];
    let push = Push::of(layout.path()).at(&ecr).to("app:v1");
    empty.into_iter().fold(push, |push, name| push.env(name, "")).run().exits(0);

    // Without another word about where the API is, it is AWS's own.
    let push = Push::of(layout.path()).at(&ecr).to("app:v1").env("AWS_ENDPOINT_URL_ECR", "").args(["--retries=0"]);
    let ran = push.env("AWS_ENDPOINT_URL", "").run().exits(6).says_one_error();
    ran.says(["api.ecr.ap-northeast-2.amazonaws.com does not resolve"]);
}
