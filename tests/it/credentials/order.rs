//! Which place counts where several have credentials.

use std::fs;

use local_ecr::{Role, Source};

use super::{KEY, METADATA_OFF, ROLE, SECRET, SESSION, arrives, asking, key_file, put};
use crate::support::{builder, start};

#[test]
fn the_places_are_looked_at_in_the_order_of_the_sdk() {
    // Each is taken away once it was the one.
    let order = [Some(Source::Test), None, Some(Source::WebIdentity), Some(Source::Container), Some(Source::Instance)];
    for (gone, source) in order.into_iter().enumerate() {
        let ecr = start(builder().role(Role::new(ROLE)).web_identity_token("jwt-of-nobody").instance_role("node"));
        let (layout, mut push) = asking(&ecr);
        let there = |place| gone <= place;
        if there(0) {
            let given = ecr.issue_credentials();
            push = push.env(KEY, &given.access_key_id).env(SECRET, &given.secret_access_key);
            push = push.env(SESSION, &given.session_token);
        }
        if there(1) {
            put(&push, ".aws/credentials", &key_file(&ecr, "default"));
        }
        if there(2) {
            put(&push, "jwt", "jwt-of-nobody");
            let file = push.home().join("jwt");
            push = push.env("AWS_WEB_IDENTITY_TOKEN_FILE", file).env("AWS_ROLE_ARN", ROLE);
        }
        if there(3) {
            push = push.env("AWS_CONTAINER_CREDENTIALS_FULL_URI", ecr.container_url());
        }
        arrives(&ecr, &layout, &push.without(METADATA_OFF), source);
    }
}

#[test]
fn a_profile_that_is_named_outranks_keys_in_the_environment() {
    let check = |args: &[&str], environment: &[(&str, &str)]| {
        let ecr = start(builder());
        let (layout, push) = asking(&ecr);
        put(&push, ".aws/credentials", &key_file(&ecr, "p"));
        let push = push.env(KEY, "AKIAI44QH8DHBEXAMPLE").env(SECRET, "none").args(args);
        let push = environment.iter().fold(push, |push, (name, value)| push.env(name, value));
        arrives(&ecr, &layout, &push, None).says(["origin=\"profile p\""]);
    };
    check(&["--profile", "p"], &[]);
    check(&[], &[("ECR_PUSH_PROFILE", "p")]);
}

#[test]
fn a_profile_in_aws_profile_does_not() {
    let ecr = start(builder());
    let (layout, push) = asking(&ecr);
    put(&push, ".aws/credentials", "[p]\naws_access_key_id = AKIAI44QH8DHBEXAMPLE\naws_secret_access_key = none\n");
    let push = push.env(KEY, ecr.access_key_id()).env(SECRET, ecr.secret_access_key()).env("AWS_PROFILE", "p");
    arrives(&ecr, &layout, &push, None);
}

#[test]
fn the_shared_files_may_lie_elsewhere() {
    let ecr = start(builder());
    let (layout, push) = asking(&ecr);
    put(&push, "elsewhere", &key_file(&ecr, "p"));
    let file = push.home().join("elsewhere");
    let push = push.env("AWS_SHARED_CREDENTIALS_FILE", &file).env("AWS_PROFILE", "p");
    arrives(&ecr, &layout, &push, None);
    fs::remove_file(file).unwrap();
    super::fails(&start(builder()), &push, 4).says(["no AWS credentials", "profile: "]);
}
