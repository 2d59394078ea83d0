//! IAM Identity Center: the portal that gives a user's role its credentials, and the service that renews a user's session.

use std::sync::Arc;
use std::time::UNIX_EPOCH;

use serde_json::{Value, json};

use super::{REQUEST_LIMIT, Source, assumed_role};
use crate::body::Inbound;
use crate::journal::Credential;
use crate::reply::{Refusal, Reply};
use crate::server::{Call, Shared};
use crate::sync::lock;

/// The header that has a user's access token.
pub(super) const BEARER: &str = "x-amz-sso_bearer_token";

/// The portal's `GetRoleCredentials`.
pub(super) fn credentials(shared: &Shared, call: &Call, sequence: usize) -> Reply {
    let settings = &shared.config.identity;
    let parameter = |name: &str| call.query.get(name).cloned().unwrap_or_default();
    let role = (parameter("account_id"), parameter("role_name"));
    shared.journal.note(sequence, |entry| {
        entry.actions.push("sso:GetRoleCredentials");
        entry.parameters.extend([("account_id", role.0.clone()), ("role_name", role.1.clone())]);
    });
    let renewed = || lock(&shared.state).sso_tokens.clone();
    let known = |token: &str| settings.sso_tokens.iter().chain(&renewed()).any(|known| known == token);
    if !call.header(BEARER).is_some_and(known) {
        return error(401, "UnauthorizedException", "Session token not found or invalid");
    }
    shared.journal.note(sequence, |entry| entry.credential = Credential::Valid);
    if !settings.sso_roles.contains(&role) {
        return error(403, "ForbiddenException", "No access");
    }
    let principal = assumed_role(shared, &format!("AWSReservedSSO_{}_0123456789abcdef", role.1), "somebody");
    let credentials = lock(&shared.state).temporary.issue(Source::Sso, principal, settings.expires_in);
    let end = credentials.end.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis());
    Reply::new(200).json(
        "application/json",
        &json!({ "roleCredentials": {
        "accessKeyId": credentials.access_key_id,
        "secretAccessKey": credentials.secret_access_key,
        "sessionToken": credentials.session_token,
        "expiration": u64::try_from(end).unwrap_or(u64::MAX),
    } }),
    )
}

/// The OIDC service's `CreateToken`, for a session that is to go on.
pub(super) async fn token(shared: &Arc<Shared>, inbound: &mut Inbound) -> Result<Reply, Refusal> {
    let body = inbound.collect(REQUEST_LIMIT).await?.unwrap_or_default();
    let asked: Value = serde_json::from_slice(&body).unwrap_or_default();
    let refresh_token = asked["refreshToken"].as_str();
    let renewal =
        shared.config.identity.sso_renewals.iter().find(|renewal| Some(&*renewal.refresh_token) == refresh_token);
    let (Some(renewal), Some("refresh_token")) = (renewal, asked["grantType"].as_str()) else {
        return Ok(error(400, "InvalidGrantException", "Invalid refresh token provided"));
    };
    lock(&shared.state).sso_tokens.push(renewal.access_token.clone());
    Ok(Reply::new(200).json(
        "application/json",
        &json!({
            "accessToken": renewal.access_token,
            "refreshToken": renewal.refresh_token,
            "tokenType": "Bearer",
            "expiresIn": 3600,
        }),
    ))
}

/// An error in the form of AWS's REST JSON.
fn error(status: u16, code: &str, message: &str) -> Reply {
    Reply::new(status).header("X-Amzn-ErrorType", code).json("application/json", &json!({ "message": message }))
}
