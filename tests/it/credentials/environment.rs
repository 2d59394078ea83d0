//! Keys in the environment.

use super::{KEY, without_key};
use crate::support::{Layout, Push, ecr};

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
