//! The doctor at registries that are not ECR.

use super::{LOGIN, start, write_auth};
use crate::support::layout::Layout;
use crate::support::servers::{DockerRegistry, Guard, Login, Tool, left_out};
use crate::support::{Push, Ran};

/// Examines `app:v1` there, with this login.
fn examine(registry: &DockerRegistry, login: Option<Login>) -> Ran {
    let push = Push::of("doctor").to_reference(format!("{}/app:v1", registry.address()));
    let Some(login) = login else { return push.run() };
    let config = push.home().join("auth.json");
    write_auth(&config, registry.address(), login);
    push.env("REGISTRY_AUTH_FILE", config).run()
}

#[track_caller]
fn has(ran: &Ran, lines: &[&str]) {
    for line in lines {
        let found = ran.stdout.lines().any(|found| line.split_whitespace().eq(found.split_whitespace()));
        assert!(found, "no {line:?} in:\n{}", ran.stdout);
    }
}

#[test]
fn a_registry_that_takes_everything() {
    if left_out(&[Tool::DockerRegistry]) {
        return;
    }
    let registry = DockerRegistry::start(Guard::Open);
    let ran = examine(&registry, None).exits(0);
    let host = registry.address();
    has(
        &ran,
        &[
            &format!("ok host {host} is not ECR"),
            "ok credentials none are known for this host: anonymous",
            "ok login the registry lets these credentials in",
            &format!("ok repository {host}/app can be read"),
            "ok read manifests allowed",
            "ok look for blobs allowed",
            "ok begin uploads allowed",
            "ok upload allowed",
            "ok end uploads allowed",
            "ok write manifests allowed",
            "ok tag v1 is free",
            &format!("A push to {host}/app:v1 would work."),
        ],
    );
    assert!(!ran.stdout.contains("IAM"), "{}", ran.stdout);
    let layout = Layout::fixture("good/one-manifest");
    Push::of(layout.path()).to_reference(format!("{host}/app:v1")).run().exits(0);
    has(&examine(&registry, None).exits(0), &[&format!("ok tag v1 names {}, and would be moved", layout.root())]);
}

#[test]
fn a_password_that_is_wrong_or_missing() {
    if left_out(&[Tool::DockerRegistry]) {
        return;
    }
    let registry = start();
    let ran = examine(&registry, Some(LOGIN)).exits(0);
    assert!(ran.stdout.contains("\"jenkins\" in "), "{}", ran.stdout);
    for login in [None, Some(Login::ECR)] {
        let ran = examine(&registry, login).exits(4);
        let failed = ran.stdout.lines().find(|line| line.starts_with("FAILED")).unwrap_or_default();
        assert!(failed.contains("login") && failed.contains("401"), "{}", ran.stdout);
        assert!(ran.stdout.contains("docker login"), "{}", ran.stdout);
    }
}
