//! Where credentials come from, what happens without them, and that nobody ever sees them.

mod container;
mod environment;
mod instance;
mod order;
mod process;
mod profile;
mod renewal;
mod rights;
mod role;
mod secrets;
mod several;
mod sso;
mod token;
mod web_identity;

use std::fs;
use std::path::Path;

use local_ecr::{Entry, LocalEcr, Source};

use crate::support::{Layout, Push, Ran, Tree, reference};

const KEY: &str = "AWS_ACCESS_KEY_ID";
const SECRET: &str = "AWS_SECRET_ACCESS_KEY";
const SESSION: &str = "AWS_SESSION_TOKEN";

/// A layout, and a push of it that has no credentials yet.
fn without_key(ecr: &LocalEcr) -> (Layout, Push) {
    let layout = Layout::fixture("good/index");
    let push = Push::of(layout.path()).at(ecr).to("app:v1").without(KEY).without(SECRET);
    (layout, push)
}

/// The metadata service is off in every push unless this is taken away.
const METADATA_OFF: &str = "AWS_EC2_METADATA_DISABLED";

/// A role of local-ecr's account.
const ROLE: &str = "arn:aws:iam::123456789012:role/push";

/// A push without credentials that asks local-ecr whoever it asks for some.
fn asking(ecr: &LocalEcr) -> (Layout, Push) {
    let (layout, push) = without_key(ecr);
    let places = ["ENDPOINT_URL_STS", "ENDPOINT_URL_SSO", "ENDPOINT_URL_SSO_OIDC", "EC2_METADATA_SERVICE_ENDPOINT"];
    let push = places.iter().fold(push, |push, name| push.env(&format!("AWS_{name}"), ecr.identity_url()));
    (layout, push.args(["-vv"]).env("RUST_LOG", "trace"))
}

/// Runs a push that arrives, and that ECR's API saw signed with credentials of this source alone; `None` is local-ecr's
/// own key.
#[track_caller]
fn arrives(ecr: &LocalEcr, layout: &Layout, push: &Push, source: Option<Source>) -> Ran {
    let ran = push.run().exits(0).prints(&[&reference(ecr, "app", &layout.root())]);
    hides(ecr, &ran);
    let signers = signers(ecr, &ecr.api_requests());
    assert!(!signers.is_empty() && signers.iter().all(|signer| *signer == source), "signed by {signers:?}");
    ran
}

/// Runs a push that ends for want of credentials.
#[track_caller]
fn fails(ecr: &LocalEcr, push: &Push, status: i32) -> Ran {
    let ran = push.run().exits(status).prints(&[]).says_one_error().says(["  next: "]);
    hides(ecr, &ran);
    assert_eq!(ecr.registry_requests(), []);
    ran
}

/// Asserts that a run shows no secret.
#[track_caller]
fn hides(ecr: &LocalEcr, ran: &Ran) {
    nobody_saw(&ecr.secrets(), &[&ran.stdout, &ran.stderr], &[]);
}

/// Where the credentials come from that requests to ECR's API were signed with.
#[track_caller]
fn signers(ecr: &LocalEcr, requests: &[Entry]) -> Vec<Option<Source>> {
    let issued = ecr.issued_credentials();
    let source = |entry: &Entry| {
        let signed = entry.signed.as_ref().expect("every request to the API is signed");
        assert_eq!(signed.service, "ecr", "{entry}");
        let source = issued.iter().find(|credentials| credentials.access_key_id == signed.access_key_id);
        assert!(source.is_some() || signed.access_key_id == ecr.access_key_id(), "signed by a stranger: {signed:?}");
        source.map(|credentials| credentials.source)
    };
    requests.iter().map(source).collect()
}

/// What was asked of those who hand out credentials, in short.
fn asked(ecr: &LocalEcr) -> Vec<String> {
    ecr.identity_requests().iter().map(ToString::to_string).collect()
}

/// Puts a file into a push's HOME.
fn put(push: &Push, path: &str, text: &str) {
    let path = push.home().join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

fn key_file(ecr: &LocalEcr, profile: &str) -> String {
    let (id, secret) = (ecr.access_key_id(), ecr.secret_access_key());
    format!("[{profile}]\naws_access_key_id = {id}\naws_secret_access_key = {secret}\n")
}

/// Asserts that neither outputs nor files below these folders have any of the secrets.
fn nobody_saw(secrets: &[String], outputs: &[&str], folders: &[&Path]) {
    let mut texts: Vec<(String, Vec<u8>)> = vec![("the output".to_owned(), outputs.concat().into_bytes())];
    for folder in folders {
        for path in Tree::of(folder).paths() {
            let path = folder.join(path);
            texts.push((path.display().to_string(), fs::read(&path).unwrap_or_default()));
        }
    }
    for secret in secrets {
        for (place, text) in &texts {
            let found = text.windows(secret.len()).any(|window| window == secret.as_bytes());
            assert!(!found, "{place} has a secret: {secret:.20}…");
        }
    }
}

fn encoded(text: &str) -> String {
    base64::Engine::encode(&base64::engine::general_purpose::STANDARD, text)
}
