//! Redirects and `Location`s that lead away from the registry: bytes may go there, credentials never.

use super::write_auth;
use crate::support::layout::Layout;
use crate::support::servers::{Asked, Authority, DockerRegistry, Front, Guard, Login, Said, Tool, left_out};
use crate::support::{Push, Ran};

/// A registry that sends some requests on to a stranger, who passes them on to the same store.
struct Sending {
    store: DockerRegistry,
    registry: Front,
    stranger: Front,
    authority: Authority,
    layout: Layout,
}

/// Whether, and how, a request is sent on: from the request, its answer so far, and the stranger's URL.
type Send = fn(&Asked, Said, &str) -> Said;

impl Sending {
    fn new(stranger_scheme: &str, send: Send) -> Self {
        let store = DockerRegistry::start(Guard::Open);
        let behind = store.address().to_owned();
        let (authority, answer) = (Authority::new(), move |asked: &Asked| asked.forward(&behind));
        let stranger = match stranger_scheme {
            "https" => Front::start_tls(&authority, answer),
            _ => Front::start(answer),
        };
        let elsewhere = format!("{stranger_scheme}://{}", stranger.address());
        Self::with(store, authority, stranger, send, elsewhere)
    }

    fn with(store: DockerRegistry, authority: Authority, stranger: Front, send: Send, elsewhere: String) -> Self {
        let behind = store.address().to_owned();
        let registry = Front::start(move |asked| send(asked, asked.forward(&behind), &elsewhere));
        Self { store, registry, stranger, authority, layout: Layout::fixture("good/one-manifest") }
    }

    #[track_caller]
    fn push(&self) -> Ran {
        let reference = format!("{}/app:v1", self.registry.address());
        let push = Push::of(self.layout.path()).to_reference(reference).args(["-vv", "--retries=1"]);
        let push = push.args([format!("--ca-file={}", self.authority.ca_file().display())]);
        let config = push.home().join("auth.json");
        write_auth(&config, self.registry.address(), Login::JENKINS);
        let ran = push.env("REGISTRY_AUTH_FILE", config).run();
        for asked in self.registry.asked() {
            assert_eq!(asked.authorization(), Some(&Login::JENKINS.header()[..]), "{} {}", asked.method, asked.target);
        }
        for asked in self.stranger.asked() {
            assert_eq!(asked.authorization(), None, "{} {}", asked.method, asked.target);
        }
        ran.says_nothing_of([Login::JENKINS.password, &Login::JENKINS.encoded()])
    }

    /// The methods of what the stranger was asked.
    fn strange(&self) -> Vec<String> {
        let mut methods: Vec<_> = self.stranger.asked().into_iter().map(|asked| asked.method).collect();
        methods.dedup();
        methods
    }
}

/// Sends reading away, as registries do that keep blobs in a bucket.
fn reading(asked: &Asked, answer: Said, stranger: &str) -> Said {
    match asked.method.as_str() {
        "GET" | "HEAD" => Said::status(307).header("location", format!("{stranger}{}", asked.target)),
        _ => answer,
    }
}

/// Sends the bytes of uploads away.
fn uploads(_: &Asked, answer: Said, stranger: &str) -> Said {
    answer.map_header("location", |location| match location.split_once("/v2/") {
        Some((_, path)) if path.contains("/uploads/") => format!("{stranger}/v2/{path}"),
        _ => location.to_owned(),
    })
}

#[test]
fn reading_is_sent_away() {
    if left_out(&[Tool::DockerRegistry]) {
        return;
    }
    let sending = Sending::new("https", reading);
    sending.push().exits(0);
    assert_eq!(sending.store.tags("app"), ["v1"]);
    assert_eq!(sending.strange(), ["HEAD"]);
}

#[test]
fn reading_is_sent_away_in_the_clear() {
    if left_out(&[Tool::DockerRegistry]) {
        return;
    }
    let sending = Sending::new("http", reading);
    sending.push().exits(6).prints(&[]).says_one_error().says(["not https"]);
    assert_eq!(sending.strange(), [""; 0]);
    assert_eq!(sending.store.tags("app"), [""; 0]);
}

#[test]
fn uploads_are_sent_away() {
    if left_out(&[Tool::DockerRegistry]) {
        return;
    }
    let sending = Sending::new("https", uploads);
    sending.push().exits(0);
    assert_eq!(sending.store.tags("app"), ["v1"]);
    assert_eq!(sending.strange(), ["PUT"]);
}

#[test]
fn uploads_are_sent_away_in_the_clear() {
    if left_out(&[Tool::DockerRegistry]) {
        return;
    }
    let sending = Sending::new("http", uploads);
    sending.push().exits(6).prints(&[]).says(["not https"]);
    assert_eq!(sending.strange(), [""; 0]);
    assert_eq!(sending.store.tags("app"), [""; 0]);
}

#[test]
fn a_stranger_names_no_realm() {
    if left_out(&[Tool::DockerRegistry]) {
        return;
    }
    for sent_away in [reading as Send, uploads] {
        let authority = Authority::new();
        let realm = Front::start_tls(&authority, |_| Said::status(200).body(r#"{"token": "t"}"#));
        let challenge = format!(r#"Bearer realm="https://{}/token",service="s""#, realm.address());
        let stranger =
            Front::start_tls(&authority, move |_| Said::status(401).header("www-authenticate", challenge.clone()));
        // By another name than the realm, see Notary.
        let elsewhere = format!("https://{}", stranger.address().replace("127.0.0.1", "localhost"));
        let store = DockerRegistry::start(Guard::Open);
        let sending = Sending::with(store, authority, stranger, sent_away, elsewhere);
        let ran = sending.push();
        let shown = realm.asked().into_iter().filter_map(|asked| asked.authorization().map(str::to_owned));
        assert_eq!(shown.collect::<Vec<_>>(), [""; 0], "what the stranger's realm was shown; stderr:\n{}", ran.stderr);
        ran.exits(4).prints(&[]);
        assert_eq!(sending.store.tags("app"), [""; 0]);
    }
}
