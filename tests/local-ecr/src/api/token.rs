//! `GetAuthorizationToken`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use super::Outcome;
use super::request::Request;
use crate::auth::{Kind, expires_at};
use crate::sync::lock;

/// A token for the registries of the region, whatever the account (facts/ecr.md, Credentials). The deprecated
/// `registryIds` is not looked at.
pub(super) fn get(request: &Request) -> Outcome {
    let registry = crate::config::RegistryId::new(request.account(), request.region);
    request.permit(&registry, None)?;
    let password = lock(&request.shared.state).tokens.issue(Kind::of(&registry), request.holder);
    // base64 of AWS:<password>; `expiresAt` as a number, in awsJson's way.
    Ok(json!({ "authorizationData": [{
        "authorizationToken": STANDARD.encode(format!("AWS:{password}")),
        "expiresAt": expires_at(request.shared.config.token_expires_at_in_past),
        "proxyEndpoint": format!("https://{}", registry.host()),
    }] }))
}
