//! ECR's API, `awsJson1.1`: so far what a push by a least-privilege role asks of it.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use crate::auth::{Signer, expires_at};
use crate::body::Inbound;
use crate::config::RegistryId;
use crate::iam::{Action, refusal};
use crate::identity::Known;
use crate::journal::Credential;
use crate::reply::{Refusal, Reply};
use crate::server::{Call, Shared};
use crate::sync::lock;

const JSON: &str = "application/x-amz-json-1.1";
const TARGET: &str = "AmazonEC2ContainerRegistry_V20150921.";
/// More than any request here needs.
const REQUEST_LIMIT: usize = 1024 * 1024;

/// Answers an API request.
pub(crate) async fn handle(
    shared: &Arc<Shared>,
    call: &Call,
    sequence: usize,
    inbound: &mut Inbound,
) -> Result<Reply, Refusal> {
    let reply = operate(shared, call, sequence, inbound).await?;
    // AWS names every request; nobody may rely on what the name looks like.
    Ok(reply.header("X-Amzn-RequestId", &format!("00000000-0000-4000-8000-{sequence:012x}")))
}

async fn operate(shared: &Arc<Shared>, call: &Call, sequence: usize, inbound: &mut Inbound) -> Result<Reply, Refusal> {
    let operation = call.header("x-amz-target").and_then(|target| target.strip_prefix(TARGET));
    if call.method != "POST" || call.path != "/" || operation != Some("GetAuthorizationToken") {
        let _ = shared.unknown(call);
        return Ok(error(
            400,
            "UnknownOperationException",
            "The requested operation is not recognized by the service.",
        ));
    }
    let action = Action::GetAuthorizationToken;
    shared.journal.note(sequence, |entry| entry.actions.push(action.name()));
    let signer = match signer(shared, call) {
        Ok(signer) => signer,
        Err(reply) => return Ok(*reply),
    };
    shared.journal.note(sequence, |entry| entry.credential = Credential::Valid);
    let Some(body) = inbound.collect(REQUEST_LIMIT).await? else {
        return Ok(error(413, "RequestEntityTooLargeException", "The request is too large."));
    };
    if !matches!(serde_json::from_slice(&body), Ok(serde_json::Value::Object(_))) {
        return Ok(error(400, "SerializationException", "The request body is not a JSON object."));
    }
    let registry = RegistryId::new(&shared.config.home.account, signer.region);
    if !shared.config.policy.allows(action) {
        return Ok(error(400, "AccessDeniedException", &refusal(&registry, action, "*")));
    }
    if !crate::registry::within_quota(shared, action) {
        return Ok(error(400, "ThrottlingException", "Rate exceeded"));
    }
    let password = lock(&shared.state).tokens.issue(&registry.region);
    // facts/ecr.md, Credentials: base64 of AWS:<password>; `expiresAt` as a number, in awsJson's way.
    Ok(Reply::new(200).json(
        JSON,
        &json!({ "authorizationData": [{
            "authorizationToken": STANDARD.encode(format!("AWS:{password}")),
            "expiresAt": expires_at(shared.config.token_expires_at_in_past),
            "proxyEndpoint": format!("https://{}", registry.host()),
        }] }),
    ))
}

/// Who signed the request; the signature itself is believed.
fn signer<'a>(shared: &Shared, call: &'a Call) -> Result<Signer<'a>, Box<Reply>> {
    let refuse = |code: &str, message: &str| Err(Box::new(error(400, code, message)));
    let Some(signer) = call.authorization().and_then(Signer::read) else {
        return refuse("MissingAuthenticationTokenException", "Missing Authentication Token");
    };
    if signer.access_key_id != shared.config.access_key_id {
        let token = call.header("x-amz-security-token");
        let lifetime = shared.config.identity.lifetime;
        match lock(&shared.state).temporary.check(signer.access_key_id, token, lifetime) {
            Known::Good => (),
            Known::Expired => {
                return refuse("ExpiredTokenException", "The security token included in the request is expired");
            }
            Known::Unknown => {
                return refuse("UnrecognizedClientException", "The security token included in the request is invalid.");
            }
        }
    }
    if signer.service != "ecr" {
        return refuse("InvalidSignatureException", "Credential should be scoped to correct service: 'ecr'.");
    }
    if !shared.config.has_region(signer.region) {
        return refuse("InvalidSignatureException", "Credential should be scoped to a valid region.");
    }
    Ok(signer)
}

/// An error in AWS's form.
fn error(status: u16, code: &str, message: &str) -> Reply {
    Reply::new(status).header("X-Amzn-ErrorType", code).json(JSON, &json!({ "__type": code, "message": message }))
}
