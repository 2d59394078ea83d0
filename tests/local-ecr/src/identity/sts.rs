//! STS, in AWS's query protocol: forms in, XML out.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{IssuedCredentials, Known, REQUEST_LIMIT, Source};
use crate::auth::Signer;
use crate::body::Inbound;
use crate::iam::partition;
use crate::journal::Credential;
use crate::reply::{Refusal, Reply};
use crate::server::{Call, Shared};
use crate::sync::lock;

const NAMESPACE: &str = "https://sts.amazonaws.com/doc/2011-06-15/";

type Form = BTreeMap<String, String>;

/// Answers a request to STS.
pub(super) async fn handle(
    shared: &Arc<Shared>,
    call: &Call,
    sequence: usize,
    inbound: &mut Inbound,
) -> Result<Reply, Refusal> {
    let Some(body) = inbound.collect(REQUEST_LIMIT).await? else {
        return Ok(error(413, "RequestEntityTooLarge", "The request is too large."));
    };
    let form: Form = form_urlencoded::parse(&body).into_owned().collect();
    let action = match form.get("Action").map(String::as_str) {
        Some("AssumeRole") => "sts:AssumeRole",
        Some("AssumeRoleWithWebIdentity") => "sts:AssumeRoleWithWebIdentity",
        Some("GetCallerIdentity") => "sts:GetCallerIdentity",
        _ => {
            let _ = shared.unknown(call);
            return Ok(error(400, "InvalidAction", "Could not find operation for version 2011-06-15"));
        }
    };
    shared.journal.note(sequence, |entry| {
        entry.actions.push(action);
        let shown = ["RoleArn", "RoleSessionName", "ExternalId", "DurationSeconds"];
        let told = shown.iter().filter_map(|name| Some((*name, form.get(*name)?.clone())));
        entry.parameters.extend(told);
    });
    if action == "sts:AssumeRoleWithWebIdentity" {
        return Ok(with_web_identity(shared, sequence, &form));
    }
    let key = match signed(shared, call) {
        Ok(key) => key,
        Err(reply) => return Ok(*reply),
    };
    shared.journal.note(sequence, |entry| entry.credential = Credential::Valid);
    Ok(match action {
        "sts:AssumeRole" => assume(shared, &form),
        _ => caller(shared, key),
    })
}

/// The access key of whoever asks; refuses whoever can't be known by the signature, which itself is believed.
fn signed<'a>(shared: &Shared, call: &'a Call) -> Result<&'a str, Box<Reply>> {
    let refuse = |code: &str, message: &str| Err(Box::new(error(403, code, message)));
    let Some(signer) = call.authorization().and_then(Signer::read) else {
        return refuse("MissingAuthenticationToken", "Request is missing Authentication Token");
    };
    if signer.service != "sts" {
        return refuse("SignatureDoesNotMatch", "Credential should be scoped to correct service: 'sts'.");
    }
    let key = signer.access_key_id;
    if key == shared.config.access_key_id || shared.config.other_caller(key).is_some() {
        return Ok(key);
    }
    let token = call.header("x-amz-security-token");
    match lock(&shared.state).temporary.check(signer.access_key_id, token, None) {
        Known::Good => Ok(key),
        Known::Expired | Known::Unknown => {
            refuse("InvalidClientTokenId", "The security token included in the request is invalid.")
        }
    }
}

fn assume(shared: &Shared, form: &Form) -> Reply {
    let arn = form.get("RoleArn").map(String::as_str).unwrap_or_default();
    let trusted = shared.config.identity.roles.iter().any(|role| {
        let asked_for = role.external_id.as_ref();
        role.arn == arn && asked_for.is_none_or(|id| form.get("ExternalId") == Some(id))
    });
    if !trusted {
        // STS tells nobody whether there is such a role, nor what its trust policy asks for.
        let message = format!("User: {} is not authorized to perform: sts:AssumeRole on resource: {arn}", user(shared));
        return error(403, "AccessDenied", &message);
    }
    let credentials = issue(shared, Source::AssumedRole, session(arn, form));
    assumed("AssumeRole", &credentials, arn, form)
}

fn with_web_identity(shared: &Shared, sequence: usize, form: &Form) -> Reply {
    let settings = &shared.config.identity;
    let arn = form.get("RoleArn").map(String::as_str).unwrap_or_default();
    let Some(token) = form.get("WebIdentityToken") else {
        return error(
            400,
            "ValidationError",
            "Value at 'webIdentityToken' failed to satisfy constraint: Member must not be null",
        );
    };
    if settings.expired_web_identity_tokens.contains(token) {
        return error(
            400,
            "ExpiredTokenException",
            "Token expired: current date/time must be before the expiration date/time",
        );
    }
    if !settings.web_identity_tokens.contains(token) {
        return error(
            400,
            "InvalidIdentityToken",
            "No OpenIDConnect provider found in your account for https://issuer.example",
        );
    }
    if !settings.roles.iter().any(|role| role.arn == arn) {
        return error(403, "AccessDenied", "Not authorized to perform sts:AssumeRoleWithWebIdentity");
    }
    shared.journal.note(sequence, |entry| entry.credential = Credential::Valid);
    let credentials = issue(shared, Source::WebIdentity, session(arn, form));
    assumed("AssumeRoleWithWebIdentity", &credentials, arn, form)
}

fn caller(shared: &Shared, key: &str) -> Reply {
    let other = shared.config.other_caller(key).map(|caller| caller.arn.clone());
    let temporary = || lock(&shared.state).temporary.principal(key).map(str::to_owned);
    let arn = other.or_else(temporary).unwrap_or_else(|| user(shared));
    let account = arn.split(':').nth(4).unwrap_or_default();
    let result = format!("<Arn>{}</Arn><UserId>AIDAEXAMPLE</UserId><Account>{account}</Account>", escape(&arn));
    reply("GetCallerIdentity", &result)
}

fn user(shared: &Shared) -> String {
    let home = &shared.config.home;
    format!("arn:{}:iam::{}:user/local-ecr", partition(&home.region), home.account)
}

fn issue(shared: &Shared, source: Source, principal: String) -> IssuedCredentials {
    lock(&shared.state).temporary.issue(source, principal, shared.config.identity.expires_in)
}

/// The ARN of the session of a role that is assumed.
fn session(role: &str, form: &Form) -> String {
    let session = form.get("RoleSessionName").map(String::as_str).unwrap_or_default();
    format!("{}/{session}", role.replacen(":iam:", ":sts:", 1).replacen(":role/", ":assumed-role/", 1))
}

fn assumed(action: &str, credentials: &IssuedCredentials, arn: &str, form: &Form) -> Reply {
    let session_name = form.get("RoleSessionName").map(String::as_str).unwrap_or_default();
    let result = format!(
        "<Credentials><AccessKeyId>{}</AccessKeyId><SecretAccessKey>{}</SecretAccessKey><SessionToken>{}</SessionToken>\
         <Expiration>{}</Expiration></Credentials><AssumedRoleUser><AssumedRoleId>AROAEXAMPLE:{session_name}</AssumedRoleId>\
         <Arn>{}</Arn></AssumedRoleUser>",
        credentials.access_key_id,
        credentials.secret_access_key,
        credentials.session_token,
        credentials.expiration(),
        escape(&session(arn, form)),
    );
    reply(action, &result)
}

fn reply(action: &str, result: &str) -> Reply {
    let body = format!(
        "<{action}Response xmlns=\"{NAMESPACE}\"><{action}Result>{result}</{action}Result><ResponseMetadata>\
         <RequestId>00000000-0000-4000-8000-000000000001</RequestId></ResponseMetadata></{action}Response>\n"
    );
    Reply::new(200).header("Content-Type", "text/xml").body(body)
}

/// An error in the form of the query protocol.
fn error(status: u16, code: &str, message: &str) -> Reply {
    Reply::new(status).header("Content-Type", "text/xml").body(error_body(code, message))
}

/// Its body.
pub(crate) fn error_body(code: &str, message: &str) -> String {
    let message = escape(message);
    format!(
        "<ErrorResponse xmlns=\"{NAMESPACE}\"><Error><Type>Sender</Type><Code>{code}</Code><Message>{message}</Message>\
         </Error><RequestId>00000000-0000-4000-8000-000000000002</RequestId></ErrorResponse>\n"
    )
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
