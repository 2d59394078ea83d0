//! The endpoint that gives a container its role's credentials: that of ECS, and that of EKS Pod Identity's agent.

use serde_json::json;

use super::{Source, assumed_role};
use crate::journal::Credential;
use crate::reply::Reply;
use crate::server::{Call, Shared};
use crate::sync::lock;

/// Where it is.
pub(crate) const PATH: &str = "/v1/credentials";

/// Answers a request for a container's credentials.
pub(super) fn handle(shared: &Shared, call: &Call, sequence: usize) -> Reply {
    let asked_for = shared.config.identity.container_token.as_deref();
    if asked_for.is_some() && call.authorization() != asked_for {
        return Reply::new(401).json(
            "application/json",
            &json!({
                "code": "AccessDeniedException", "message": "Unauthorized: the token is not known",
            }),
        );
    }
    shared.journal.note(sequence, |entry| entry.credential = Credential::Valid);
    let principal = assumed_role(shared, "task", "0123456789abcdef");
    let expires_in = shared.config.identity.expires_in;
    let credentials = lock(&shared.state).temporary.issue(Source::Container, principal, expires_in);
    Reply::new(200).json(
        "application/json",
        &json!({
            "AccessKeyId": credentials.access_key_id,
            "SecretAccessKey": credentials.secret_access_key,
            "Token": credentials.session_token,
            "AccountId": shared.config.home.account,
            "Expiration": credentials.expiration(),
        }),
    )
}
