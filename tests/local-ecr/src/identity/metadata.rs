//! EC2's instance metadata service, version 2 alone: a PUT gives a token, and nothing is told without it.

use std::time::SystemTime;

use serde_json::json;

use super::issued::written;
use super::{IssuedCredentials, Source, assumed_role};
use crate::digest::{Algorithm, Digest};
use crate::journal::Credential;
use crate::reply::{Refusal, Reply};
use crate::server::{Call, Shared};
use crate::sync::lock;

/// The header that has the token.
pub(super) const TOKEN: &str = "x-aws-ec2-metadata-token";
const TTL: &str = "X-aws-ec2-metadata-token-ttl-seconds";
/// Six hours, the longest that a token may last.
const LONGEST: u32 = 21_600;
/// The folders that list the role, by the age of the client that asks.
const FOLDERS: [&str; 2] =
    ["/latest/meta-data/iam/security-credentials-extended/", "/latest/meta-data/iam/security-credentials/"];

/// Answers a request for metadata.
pub(super) fn handle(shared: &Shared, call: &Call, sequence: usize) -> Result<Reply, Refusal> {
    if call.path == "/latest/api/token" {
        return token(shared, call);
    }
    let known = |token: &str| lock(&shared.state).metadata_tokens.iter().any(|known| known == token);
    if call.method != "GET" || !call.header(TOKEN).is_some_and(known) {
        return Ok(Reply::new(401));
    }
    shared.journal.note(sequence, |entry| entry.credential = Credential::Valid);
    let Some(asked) = FOLDERS.iter().find_map(|folder| call.path.strip_prefix(folder)) else {
        return Ok(Reply::new(404));
    };
    let text = |body: String| Reply::new(200).header("Content-Type", "text/plain").body(body);
    Ok(match (&shared.config.identity.instance_role, asked) {
        (Some(role), "") => text(role.clone()),
        (Some(role), asked) if role == asked => {
            let principal = assumed_role(shared, role, "i-0123456789abcdef0");
            let expires_in = shared.config.identity.expires_in;
            let credentials = lock(&shared.state).temporary.issue(Source::Instance, principal, expires_in);
            text(document(&credentials))
        }
        _ => Reply::new(404),
    })
}

fn token(shared: &Shared, call: &Call) -> Result<Reply, Refusal> {
    if shared.config.identity.metadata_out_of_reach {
        return Err(Refusal::Stall);
    }
    let ttl = call.header(TTL).and_then(|ttl| ttl.parse().ok());
    let (true, Some(ttl @ 1..=LONGEST)) = (call.method == "PUT", ttl) else {
        return Ok(Reply::new(if call.method == "PUT" { 400 } else { 405 }));
    };
    let mut state = lock(&shared.state);
    let seed = format!("{}{:?}", state.metadata_tokens.len(), SystemTime::now());
    let token = Digest::of(Algorithm::Sha512, seed.as_bytes()).as_str()["sha512:".len()..][..56].to_owned();
    state.metadata_tokens.push(token.clone());
    Ok(Reply::new(200).header(TTL, &ttl.to_string()).body(token))
}

fn document(credentials: &IssuedCredentials) -> String {
    json!({
        "Code": "Success",
        "LastUpdated": written(SystemTime::now()),
        "Type": "AWS-HMAC",
        "AccessKeyId": credentials.access_key_id,
        "SecretAccessKey": credentials.secret_access_key,
        "Token": credentials.session_token,
        "Expiration": credentials.expiration(),
    })
    .to_string()
}
