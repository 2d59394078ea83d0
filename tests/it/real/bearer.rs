//! The token protocol in front of a real registry, which verifies what a notary signs.

use std::sync::atomic::{AtomicUsize, Ordering};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::{Pulled, blobs};
use crate::support::layout::Layout;
use crate::support::servers::{
    Authority, DockerRegistry, Front, Guard, Login, Notary, REFRESH_TOKEN, Said, Tool, left_out,
};
use crate::support::{Push, Ran};

/// What no run may print: the password, plain and as it is sent, the refresh token, and how every signed token begins.
fn secrets() -> [String; 4] {
    [Login::JENKINS.password.to_owned(), Login::JENKINS.encoded(), REFRESH_TOKEN.to_owned(), "eyJ".to_owned()]
}

/// Pushes to each of `repositories` with this config of docker's.
#[track_caller]
fn push(layout: &Layout, host: &str, repositories: &[&str], config: &Value, args: &[&str]) -> Ran {
    let mut push = Push::of(layout.path()).args(["-vv"]).args(args);
    for repository in repositories {
        push = push.to_reference(format!("{host}/{repository}"));
    }
    std::fs::create_dir(push.home().join(".docker")).expect("a new folder");
    std::fs::write(push.home().join(".docker/config.json"), config.to_string()).expect("it can be written");
    let secrets = secrets();
    push.run().says_nothing_of(secrets.iter().map(String::as_str))
}

fn password(host: &str) -> Value {
    json!({"auths": {host: {"auth": Login::JENKINS.encoded()}}})
}

fn scope(repository: &str) -> String {
    format!("scope=repository%3A{}%3Apull%2Cpush", repository.replace('/', "%2F"))
}

#[test]
fn password_for_a_token() {
    if left_out(&[Tool::DockerRegistry, Tool::Skopeo]) {
        return;
    }
    let notary = Notary::start(Some(Login::JENKINS), None);
    let registry = DockerRegistry::start(Guard::Bearer(&notary));
    let layout = Layout::fixture("good/index");
    let host = registry.address();
    let (ran, requests) =
        registry.during(|| push(&layout, host, &["team/app:v1", "team/app:v2", "other:v1"], &password(host), &[]));
    let lines = ["team/app", "other"].map(|name| format!("{host}/{name}@{}", layout.root()));
    ran.exits(0).prints(&[&lines[0], &lines[1]]);

    // One token for each repository, for both pulling and pushing, although the first request only wanted to pull.
    let asked = notary.asked();
    let mut targets: Vec<_> = asked.iter().map(|asked| asked.target.clone()).collect();
    targets.sort();
    assert_eq!(targets.len(), 2, "{targets:?}");
    assert!(targets[0].contains(&scope("other")) && targets[1].contains(&scope("team/app")), "{targets:?}");
    for asked in asked {
        assert_eq!((asked.method.as_str(), asked.authorization()), ("GET", Some(&Login::JENKINS.header()[..])));
        assert!(asked.target.contains("service=registry.test"), "{}", asked.target);
    }
    let refused = requests.iter().filter(|request| request.status == 401).count();
    assert!(refused <= 3, "asked without a token for each tag at most: {requests:?}");

    let pulled = Pulled::layout(&registry, "team/app:v2", Login::JENKINS);
    assert_eq!((pulled.digest(), blobs(&pulled.path)), (layout.root(), blobs(layout.path())));
}

#[test]
fn wrong_password() {
    if left_out(&[Tool::DockerRegistry]) {
        return;
    }
    let notary = Notary::start(Some(Login::ECR), None);
    let registry = DockerRegistry::start(Guard::Bearer(&notary));
    let (layout, host) = (Layout::fixture("good/one-manifest"), registry.address());
    for config in [password(host), json!({}), json!({"auths": {host: {"identitytoken": "stale"}}})] {
        let ran = push(&layout, host, &["app:v1"], &config, &[]);
        ran.exits(4).prints(&[]).says_one_error().says(["401", &format!("docker login {host}")]);
    }
    assert_eq!(notary.asked().len(), 3, "what is refused is not tried again");
    assert_eq!(registry.tags("app"), [""; 0]);
}

#[test]
fn nobody_has_to_log_in() {
    if left_out(&[Tool::DockerRegistry]) {
        return;
    }
    let notary = Notary::start(None, None);
    let registry = DockerRegistry::start(Guard::Bearer(&notary));
    let layout = Layout::fixture("good/one-manifest");
    push(&layout, registry.address(), &["app:v1"], &json!({}), &[]).exits(0);
    assert_eq!(registry.tags("app"), ["v1"]);
    assert_eq!(notary.asked()[0].authorization(), None);
}

#[test]
fn refresh_token_for_a_token() {
    if left_out(&[Tool::DockerRegistry]) {
        return;
    }
    let nobody = "00000000-0000-0000-0000-000000000000:";
    let configs: [fn(&str, &str) -> Value; 2] = [
        |host, _| json!({"auths": {host: {"identitytoken": REFRESH_TOKEN}}}),
        // As `docker login` to Azure's registry leaves it behind.
        |host, auth| json!({"auths": {host: {"auth": auth, "identitytoken": REFRESH_TOKEN}}}),
    ];
    for config in configs {
        let notary = Notary::start(Some(Login::JENKINS), None);
        let registry = DockerRegistry::start(Guard::Bearer(&notary));
        let (layout, host) = (Layout::fixture("good/one-manifest"), registry.address());
        let auth = STANDARD.encode(nobody);
        push(&layout, host, &["team/app:v1"], &config(host, &auth), &[]).exits(0);
        assert_eq!(registry.tags("team/app"), ["v1"]);
        let [asked] = &notary.asked()[..] else { panic!("asked {} times", notary.asked().len()) };
        let body = String::from_utf8_lossy(&asked.body);
        assert_eq!((asked.method.as_str(), asked.authorization()), ("POST", None));
        for part in ["grant_type=refresh_token", &scope("team/app"), "service=registry.test"] {
            assert!(body.contains(part), "no {part} in {body}");
        }
        assert!(!asked.target.contains(REFRESH_TOKEN), "no secret in a URL, which servers log");
    }
}

#[test]
fn https_registry() {
    if left_out(&[Tool::DockerRegistry]) {
        return;
    }
    let authority = Authority::new();
    let ca_file = format!("--ca-file={}", authority.ca_file().display());
    let layout = Layout::fixture("good/one-manifest");

    let notary = Notary::start(Some(Login::JENKINS), Some(&authority));
    let registry = DockerRegistry::start_tls(Guard::Bearer(&notary), &authority);
    let host = registry.address();
    push(&layout, host, &["app:v1"], &password(host), &[&ca_file]).exits(0);
    assert_eq!(registry.tags("app"), ["v1"]);

    // A realm that would see the password in the clear.
    let notary = Notary::start(Some(Login::JENKINS), None);
    let registry = DockerRegistry::start_tls(Guard::Bearer(&notary), &authority);
    let host = registry.address();
    for config in [password(host), json!({"auths": {host: {"identitytoken": REFRESH_TOKEN}}})] {
        let ran = push(&layout, host, &["app:v1"], &config, &[&ca_file]);
        ran.exits(4).prints(&[]).says_one_error().says(["/token", "not https"]);
    }
    assert!(notary.asked().is_empty(), "{:?}", notary.asked());
}

#[test]
fn token_that_expires_in_mid_push() {
    if left_out(&[Tool::DockerRegistry]) {
        return;
    }
    let registry = DockerRegistry::start(Guard::Open);
    let behind = registry.address().to_owned();
    // Each token is good for four requests, and after that for none.
    let (current, uses) = (AtomicUsize::new(1), AtomicUsize::new(0));
    let front = Front::start(move |asked| {
        let realm = format!("http://{}/token", asked.header("host").unwrap_or_default());
        if asked.target.starts_with("/token") {
            return Said::status(200)
                .body(json!({"token": format!("t{}", current.load(Ordering::SeqCst))}).to_string());
        }
        let good = format!("Bearer t{}", current.load(Ordering::SeqCst));
        if asked.authorization() != Some(&good) {
            return Said::status(401).header("www-authenticate", format!(r#"Bearer realm="{realm}",service="s""#));
        }
        if uses.fetch_add(1, Ordering::SeqCst) % 4 == 3 {
            current.fetch_add(1, Ordering::SeqCst);
        }
        asked.forward(&behind)
    });
    let (layout, host) = (Layout::of_layers(&[300_000, 200_000, 100_000, 10]), front.address());
    // One after the other: in flight together they would use up each other's tokens faster than they can be fetched.
    push(&layout, host, &["app:v1"], &password(host), &["--jobs=1"]).exits(0);
    assert_eq!(registry.tags("app"), ["v1"]);
    assert_eq!(registry.open_sessions(), 0, "a session whose token expired was cancelled");
}
