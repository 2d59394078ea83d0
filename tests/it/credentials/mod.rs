//! Where credentials come from, what happens without them, and that nobody ever sees them.

mod environment;
mod profile;
mod rights;
mod secrets;
mod token;

use std::fs;
use std::path::Path;

use local_ecr::LocalEcr;

use crate::support::{Layout, Push, Tree};

const KEY: &str = "AWS_ACCESS_KEY_ID";
const SECRET: &str = "AWS_SECRET_ACCESS_KEY";

/// A layout, and a push of it that has no credentials yet.
fn without_key(ecr: &LocalEcr) -> (Layout, Push) {
    let layout = Layout::fixture("good/index");
    let push = Push::of(layout.path()).at(ecr).to("app:v1").without(KEY).without(SECRET);
    (layout, push)
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
