//! The shared config and credentials files.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use super::{key_file, put, without_key};
use crate::support::{ecr, reference};

#[test]
fn a_profile_is_read_from_the_shared_files() {
    let check = |args: &[&str], environment: &[(&str, &str)]| {
        let ecr = ecr();
        let (layout, push) = without_key(&ecr);
        put(&push, ".aws/credentials", &key_file(&ecr, "p"));
        // A region of the profile counts for nothing: the host names it.
        put(&push, ".aws/config", "[profile p]\nregion = eu-north-1\n");
        let push = environment.iter().fold(push.args(args), |push, (name, value)| push.env(name, value));
        push.run().exits(0).prints(&[&reference(&ecr, "app", &layout.root())]);
    };
    check(&["--profile", "p"], &[]);
    check(&[], &[("AWS_PROFILE", "p")]);
    check(&["--profile", "p"], &[("AWS_PROFILE", "q")]);
    check(&[], &[("ECR_PUSH_PROFILE", "p"), ("AWS_PROFILE", "q")]);
    check(&["--profile=q", "--profile=123456789012.dkr.ecr.ap-northeast-2.amazonaws.com=p"], &[]);
}

#[test]
fn a_profile_that_is_not_there_is_named() {
    let ecr = ecr();
    let (_layout, push) = without_key(&ecr);
    put(&push, ".aws/credentials", &key_file(&ecr, "p"));
    push.args(["--profile", "nobody"]).run().exits(4).prints(&[]).says(["nobody"]);
}

#[test]
fn a_process_of_the_profile_gives_credentials() {
    let ecr = ecr();
    let (layout, push) = without_key(&ecr);
    let json = serde_json::json!({
        "Version": 1, "AccessKeyId": ecr.access_key_id(), "SecretAccessKey": ecr.secret_access_key(),
    });
    let script = push.home().join("give");
    fs::write(&script, format!("#!/bin/sh\necho '{json}'\n")).unwrap();
    fs::set_permissions(&script, PermissionsExt::from_mode(0o755)).unwrap();
    put(&push, ".aws/config", &format!("[profile p]\ncredential_process = {}\n", script.display()));
    push.args(["--profile", "p"]).run().exits(0).prints(&[&reference(&ecr, "app", &layout.root())]);
}
