//! What may stand between us and a registry: a proxy that the environment names, and one that the registry hides behind.

use super::{LOGIN, push_to, start};
use crate::support::Push;
use crate::support::layout::Layout;
use crate::support::servers::{Authority, DockerRegistry, Front, Guard, Login, Moto, Tool, left_out};

/// A proxy for http, whatever the host: it passes everything on to this server.
fn proxy(address: &str) -> Front {
    let behind = address.to_owned();
    Front::start(move |asked| asked.forward(&behind))
}

#[test]
fn named_by_the_environment() {
    if left_out(&[Tool::DockerRegistry]) {
        return;
    }
    let (registry, layout) = (start(), Layout::fixture("good/one-manifest"));
    let proxy = proxy(registry.address());
    // No such host: only the proxy knows where it is.
    let push = || push_to(layout.path(), "registry.invalid", "app:v1").args(["--plain-http", "--retries=0"]);
    let address = format!("http://{}", proxy.address());
    push().env("HTTP_PROXY", &address).run().exits(0);
    assert_eq!(registry.tags("app"), ["v1"]);
    let asked = proxy.asked();
    assert!(asked.iter().all(|asked| asked.target.starts_with("http://registry.invalid/v2/")), "{asked:?}");

    push().env("HTTP_PROXY", &address).env("NO_PROXY", ".invalid").run().exits(6).prints(&[]);
    assert_eq!(proxy.asked().len(), asked.len(), "NO_PROXY counts");
}

#[test]
fn for_the_api_as_well() {
    if left_out(&[Tool::DockerRegistry, Tool::Moto]) {
        return;
    }
    let (moto, registry) = (Moto::start(), DockerRegistry::start(Guard::Basic(Login::ECR)));
    let (api, data) = (moto.address().to_owned(), registry.address().to_owned());
    let proxy = Front::start(move |asked| asked.forward(if asked.target.contains("/v2/") { &data } else { &api }));
    let layout = Layout::fixture("good/one-manifest");
    Push::of(layout.path())
        .to_reference("123456789012.dkr.ecr.eu-central-1.amazonaws.com/app:v1")
        .env("AWS_ACCESS_KEY_ID", "AKIAEXAMPLE")
        .env("AWS_SECRET_ACCESS_KEY", "secret")
        .env("AWS_ENDPOINT_URL_ECR", "http://api.invalid")
        .env("HTTP_PROXY", format!("http://{}", proxy.address()))
        .args(["--registry-endpoint=http://registry.invalid"])
        .run()
        .exits(0);
    assert_eq!(registry.tags("app"), ["v1"]);
    let api = proxy.asked().into_iter().filter(|asked| asked.target.starts_with("http://api.invalid/"));
    assert_eq!(api.count(), 2, "for the token, and for what is there");
}

#[test]
fn that_ends_tls() {
    if left_out(&[Tool::DockerRegistry]) {
        return;
    }
    let (authority, layout) = (Authority::new(), Layout::fixture("good/one-manifest"));
    let registry = start();
    let behind = registry.address().to_owned();
    // The registry knows nothing of TLS: where an upload goes on it says with http.
    let front = Front::start_tls(&authority, move |asked| asked.forward(&behind));
    let push = push_to(layout.path(), front.address(), "app:v1").env("SSL_CERT_FILE", authority.ca_file());
    push.run().exits(0);
    assert_eq!(registry.tags("app"), ["v1"]);
    let header = LOGIN.header();
    assert!(front.asked().iter().all(|asked| asked.authorization() == Some(&header)), "{:?}", front.asked());
}

#[test]
fn that_makes_locations_relative() {
    if left_out(&[Tool::DockerRegistry]) {
        return;
    }
    let (registry, layout) = (start(), Layout::fixture("good/one-manifest"));
    let behind = registry.address().to_owned();
    let front = Front::start(move |asked| {
        asked.forward(&behind).map_header("location", |url| match url.find("/v2/") {
            Some(at) => url[at..].to_owned(),
            None => url.to_owned(),
        })
    });
    push_to(layout.path(), front.address(), "app:v1").run().exits(0);
    assert_eq!(registry.tags("app"), ["v1"]);
}
