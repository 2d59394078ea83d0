//! A profile's `credential_process`.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use local_ecr::{LocalEcr, Source};
use serde_json::json;

use super::{arrives, asking, fails, put};
use crate::support::{Layout, Push, ecr};

/// A push with a profile whose process is this script.
fn with_process(ecr: &LocalEcr, script: &str) -> (Layout, Push) {
    let (layout, push) = asking(ecr);
    put(&push, "give", &format!("#!/bin/sh\n{script}\n"));
    let path = push.home().join("give");
    fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
    put(&push, ".aws/config", &format!("[profile p]\ncredential_process = {} --secret=argument\n", path.display()));
    (layout, push.args(["--profile=p"]))
}

#[test]
fn a_process_gives_credentials() {
    let ecr = ecr();
    let given = ecr.issue_credentials();
    let json = json!({
        "Version": 1, "AccessKeyId": given.access_key_id, "SecretAccessKey": given.secret_access_key,
        "SessionToken": given.session_token, "Expiration": "2099-01-01T00:00:00Z",
    });
    let (layout, push) = with_process(&ecr, &format!("echo noise >&2\necho '{json}'"));
    let ran = arrives(&ecr, &layout, &push, Some(Source::Test));
    ran.says(["origin=\"profile p (credential_process)\""]).says_nothing_of(["noise", "--secret=argument"]);
}

#[test]
fn a_process_that_fails_is_named_and_what_it_says_is_not_shown() {
    let check = |script: &str| {
        let ecr = ecr();
        let (_layout, push) = with_process(&ecr, script);
        let ran = fails(&ecr, &push, 4);
        ran.says(["credential_process", "profile p", "by hand"]).says_nothing_of([
            "hunter2",
            "--secret=argument",
            "aws sso login",
        ]);
    };
    check("echo 'the password hunter2 is wrong' >&2; exit 3");
    check("echo 'hunter2 is no JSON'");
    check("echo '{\"Version\": 1, \"SecretAccessKey\": \"hunter2\"}'");
    check(
        "echo '{\"Version\": 1, \"AccessKeyId\": \"AKIA\", \"SecretAccessKey\": \"hunter2\", \"Expiration\": \"hunter2\"}'",
    );
    check("echo '{\"Version\": \"hunter2\"}'");
}

#[test]
fn a_process_below_a_role_is_named_too() {
    let ecr = ecr();
    let (_layout, push) = with_process(&ecr, "echo hunter2 >&2; exit 1");
    let config = fs::read_to_string(push.home().join(".aws/config")).unwrap();
    let role = format!("[profile r]\nrole_arn = {}\nsource_profile = p\n", super::ROLE);
    put(&push, ".aws/config", &format!("{config}{role}"));
    fails(&ecr, &push.args(["--profile=r"]), 4).says(["credential_process", "profile p"]).says_nothing_of(["hunter2"]);
}

#[test]
fn a_process_that_hangs_is_not_waited_for_for_ever() {
    let ecr = ecr();
    let (_layout, push) = with_process(&ecr, "exec sleep 20");
    let since = Instant::now();
    let ran = fails(&ecr, &push.args(["--timeout=1"]), 4);
    ran.says(["profile", "1 s", "--timeout"]);
    assert!(since.elapsed() < Duration::from_secs(10), "it took {:?}", since.elapsed());
}
