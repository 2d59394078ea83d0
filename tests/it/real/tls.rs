//! https with a private certificate authority, http on the loopback address, and how either is found out.

use std::path::Path;

use super::push_to;
use crate::support::Push;
use crate::support::layout::Layout;
use crate::support::servers::{Authority, DockerRegistry, Guard, Login, Tool, left_out};

fn push(layout: &Layout, host: &str) -> Push {
    push_to(layout.path(), host, "app:v1")
}

#[test]
fn private_authority() {
    if left_out(&[Tool::DockerRegistry]) {
        return;
    }
    let (authority, layout) = (Authority::new(), Layout::fixture("good/one-manifest"));
    let registry = DockerRegistry::start_tls(Guard::Basic(Login::JENKINS), &authority);
    let host = registry.address();
    // A certificate that nobody trusts doesn't become better by waiting, and credentials don't go out in the clear.
    let ran = push(&layout, host).run().exits(6).prints(&[]).says_one_error();
    ran.says(["--ca-file"]).says_nothing_of(["trying again"]);
    let other = Authority::new();
    let ran = push(&layout, host).args([with("--ca-file", &other.ca_file())]).run();
    ran.exits(6).prints(&[]).says_one_error();
    assert_eq!(registry.requests(), []);

    let ca_file = authority.ca_file();
    push(&layout, host).args([with("--ca-file", &ca_file)]).run().exits(0);
    assert_eq!(registry.tags("app"), ["v1"]);
    for variable in ["SSL_CERT_FILE", "AWS_CA_BUNDLE", "ECR_PUSH_CA_FILE"] {
        let (ran, requests) = registry.during(|| push(&layout, host).env(variable, &ca_file).run());
        ran.exits(0);
        assert_eq!(requests.len(), 1, "{variable}: {requests:?}");
    }
    // Beside one that has nothing to do with it.
    let both = [with("--ca-file", &other.ca_file()), with("--ca-file", &ca_file)];
    push(&layout, host).args(both).run().exits(0);
    let localhost = host.replace("127.0.0.1", "localhost");
    push(&layout, &localhost).env("SSL_CERT_FILE", &ca_file).run().exits(0);
}

#[test]
fn ca_file_that_is_none() {
    let layout = Layout::fixture("good/one-manifest");
    let folder = tempfile::TempDir::new().expect("a temporary folder");
    let (empty, missing) = (folder.path().join("empty.pem"), folder.path().join("missing.pem"));
    std::fs::write(&empty, "no certificate\n").expect("it can be written");
    for path in [empty, missing] {
        let ran = push(&layout, "127.0.0.1:1").args([with("--ca-file", &path)]).run();
        ran.exits(2).prints(&[]).says_one_error().says([path.to_str().expect("a path of the test is UTF-8")]);
    }
}

#[test]
fn endpoint_under_another_name() {
    if left_out(&[Tool::DockerRegistry]) {
        return;
    }
    let (authority, layout) = (Authority::new(), Layout::fixture("good/one-manifest"));
    let registry = DockerRegistry::start_tls(Guard::Basic(Login::JENKINS), &authority);
    let endpoint = format!("--registry-endpoint=registry.example=https://{}", registry.address());
    let push = push(&layout, "registry.example").args([endpoint, with("--ca-file", &authority.ca_file())]);
    push.run().exits(0).prints(&[&format!("registry.example/app@{}", layout.root())]);
    assert_eq!(registry.tags("app"), ["v1"]);
}

#[test]
fn loopback_without_tls() {
    if left_out(&[Tool::DockerRegistry]) {
        return;
    }
    let layout = Layout::fixture("good/index");
    let registry = DockerRegistry::start(Guard::Basic(Login::JENKINS));
    let host = registry.address();
    let localhost = host.replace("127.0.0.1", "localhost");
    push(&layout, host).run().exits(0);
    assert_eq!(registry.tags("app"), ["v1"]);
    for (host, args) in [(host, &[][..]), (&localhost, &[]), (host, &["--plain-http"])] {
        let (ran, requests) = registry.during(|| push(&layout, host).args(args).run());
        ran.exits(0);
        let [request] = &requests[..] else { panic!("{host} {args:?}: {requests:?}") };
        assert_eq!(
            (request.method.as_str(), request.path.as_str(), request.status),
            ("HEAD", "/v2/app/manifests/v1", 200)
        );
    }
}

#[test]
fn plain_http_is_never_https() {
    if left_out(&[Tool::DockerRegistry]) {
        return;
    }
    let (authority, layout) = (Authority::new(), Layout::fixture("good/one-manifest"));
    let registry = DockerRegistry::start_tls(Guard::Open, &authority);
    let push = push(&layout, registry.address()).args(["--plain-http", &with("--ca-file", &authority.ca_file())]);
    // What a TLS server says to plain http is a status of its own.
    push.run().exits(5).prints(&[]).says_one_error();
    assert_eq!(registry.requests(), []);
}

#[test]
fn nobody_is_there() {
    let layout = Layout::fixture("good/one-manifest");
    let free = std::net::TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
    let host = free.expect("there is a free port").to_string();
    let ran = push(&layout, &host).args(["--retries=1"]).run();
    ran.exits(6).prints(&[]).says_one_error().says([&host[..], "trying again"]);
}

fn with(option: &str, path: &Path) -> String {
    format!("{option}={}", path.display())
}
