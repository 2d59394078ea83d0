//! ECR's API and ECR Public's, `awsJson1.1`: who asks, what for, and AWS's form of answers and errors.
//!
//! Names and shapes are those of the service models; what isn't needed to push an image isn't here.

mod account;
mod images;
mod layers;
mod public;
mod repositories;
mod request;
mod scans;
mod templates;
mod token;

use std::sync::Arc;

use serde_json::{Map, Value, json};

use self::request::{Exception, Request};
use crate::auth::Signer;
use crate::body::Inbound;
use crate::iam::{Action, Service};
use crate::identity::Known;
use crate::journal::Credential;
use crate::reply::{Refusal, Reply};
use crate::server::{Call, Shared};
use crate::sync::lock;

const JSON: &str = "application/x-amz-json-1.1";
const TARGETS: [(&str, Service); 2] =
    [("AmazonEC2ContainerRegistry_V20150921.", Service::Private), ("SpencerFrontendService.", Service::Public)];
/// More than any request here needs: a manifest of 4 MiB in which every character is escaped.
const REQUEST_LIMIT: usize = 16 * 1024 * 1024;

/// What an operation gives.
type Outcome = Result<Value, Exception>;

/// An operation: the action that it needs, and what it does.
type Operation = (Action, fn(&Request) -> Outcome);

/// Answers an API request.
pub(crate) async fn handle(
    shared: &Arc<Shared>,
    call: &Call,
    sequence: usize,
    inbound: &mut Inbound,
) -> Result<Reply, Refusal> {
    let reply = match operate(shared, call, sequence, inbound).await? {
        Ok(output) => Reply::new(200).json(JSON, &output),
        Err(exception) => error(&exception),
    };
    // AWS names every request; nobody may rely on what the name looks like.
    Ok(reply.header("X-Amzn-RequestId", &format!("00000000-0000-4000-8000-{sequence:012x}")))
}

fn operation(service: Service, name: &str) -> Option<Operation> {
    Some(match (service, name) {
        (Service::Private, "GetAuthorizationToken") => (Action::GetAuthorizationToken, token::get),
        (Service::Private, "BatchCheckLayerAvailability") => (Action::BatchCheckLayerAvailability, layers::check),
        (Service::Private, "CreateRepository") => (Action::CreateRepository, repositories::create),
        (Service::Private, "DescribeRepositories") => (Action::DescribeRepositories, repositories::describe),
        (Service::Private, "PutImage") => (Action::PutImage, images::put),
        (Service::Private, "BatchGetImage") => (Action::BatchGetImage, images::get),
        (Service::Private, "DescribeImages") => (Action::DescribeImages, images::describe),
        (Service::Private, "ListImages") => (Action::ListImages, images::list),
        (Service::Private, "StartImageScan") => (Action::StartImageScan, scans::start),
        (Service::Private, "DescribeImageScanFindings") => (Action::DescribeImageScanFindings, scans::describe),
        (Service::Private, "DescribeRepositoryCreationTemplates") => {
            (Action::DescribeRepositoryCreationTemplates, templates::describe)
        }
        (Service::Private, "GetAccountSetting") => (Action::GetAccountSetting, account::setting),
        (Service::Public, "GetAuthorizationToken") => (Action::GetAuthorizationToken, public::token),
        (Service::Public, "BatchCheckLayerAvailability") => (Action::BatchCheckLayerAvailability, layers::check_public),
        (Service::Public, "CreateRepository") => (Action::CreateRepository, public::create),
        (Service::Public, "DescribeRepositories") => (Action::DescribeRepositories, public::describe),
        _ => return None,
    })
}

async fn operate(
    shared: &Arc<Shared>,
    call: &Call,
    sequence: usize,
    inbound: &mut Inbound,
) -> Result<Outcome, Refusal> {
    let target = call.header("x-amz-target").unwrap_or_default();
    let named = TARGETS.into_iter().find_map(|(start, service)| Some((service, target.strip_prefix(start)?)));
    let known = named.and_then(|(service, name)| Some((service, operation(service, name)?)));
    if call.method == "GET" && call.path == "/" && call.authorization().is_none() {
        // Somebody looks whether anybody is here.
        return Ok(Err(Exception::new("UnknownOperationException", "")));
    }
    let Some((service, (action, work))) = known.filter(|_| call.method == "POST" && call.path == "/") else {
        let _ = shared.unknown(call);
        let message = "The requested operation is not recognized by the service.";
        return Ok(Err(Exception::new("UnknownOperationException", message)));
    };
    shared.journal.note(sequence, |entry| entry.actions.push(action.name(service)));
    let signer = match signer(shared, call, service) {
        Ok(signer) => signer,
        Err(exception) => return Ok(Err(exception)),
    };
    shared.journal.note(sequence, |entry| entry.credential = Credential::Valid);
    let Some(body) = inbound.collect(REQUEST_LIMIT).await? else {
        return Ok(Err(Exception::new("RequestEntityTooLargeException", "The request is too large.")));
    };
    let Some(input) = read(&body) else {
        return Ok(Err(Exception::new("SerializationException", "The request body is not a JSON object.")));
    };
    // The identity at home and what it was given have no entry among the others.
    let holder = Some(signer.access_key_id).filter(|key| shared.config.other_caller(key).is_some());
    Ok(work(&Request { shared, call, sequence, action, service, holder, region: signer.region, input }))
}

fn read(body: &[u8]) -> Option<Map<String, Value>> {
    match serde_json::from_slice(body) {
        Ok(Value::Object(fields)) => Some(fields),
        _ => None,
    }
}

/// Who signed the request; the signature itself is believed.
fn signer<'a>(shared: &Shared, call: &'a Call, service: Service) -> Result<Signer<'a>, Exception> {
    let refuse = |code, message: &str| Err(Exception::new(code, message));
    let Some(signer) = call.authorization().and_then(Signer::read) else {
        return refuse("MissingAuthenticationTokenException", "Missing Authentication Token");
    };
    let known = signer.access_key_id == shared.config.access_key_id;
    let other = shared.config.other_caller(signer.access_key_id);
    let complete = other.is_some_and(|caller| {
        caller.session_token.as_deref().is_none_or(|token| call.header("x-amz-security-token") == Some(token))
    });
    let worth = if known || complete {
        if has_expired(shared, signer.access_key_id) { Known::Expired } else { Known::Good }
    } else {
        let (token, lifetime) = (call.header("x-amz-security-token"), shared.config.identity.lifetime);
        lock(&shared.state).temporary.check(signer.access_key_id, token, lifetime)
    };
    match worth {
        Known::Good => {}
        Known::Expired => {
            return refuse("ExpiredTokenException", "The security token included in the request is expired");
        }
        Known::Unknown => {
            return refuse("UnrecognizedClientException", "The security token included in the request is invalid.");
        }
    }
    let name = match service {
        Service::Private => "ecr",
        Service::Public => "ecr-public",
    };
    if signer.service != name {
        let message = format!("Credential should be scoped to correct service: '{name}'.");
        return refuse("InvalidSignatureException", &message);
    }
    let here = match service {
        Service::Private => shared.config.has_region(signer.region),
        Service::Public => signer.region == crate::config::PUBLIC.1,
    };
    if !here {
        return refuse("InvalidSignatureException", "Credential should be scoped to a valid region.");
    }
    Ok(signer)
}

/// Whether a key has been used up; counts the request against its lifetime.
fn has_expired(shared: &Shared, access_key_id: &str) -> bool {
    let Some(most) = shared.config.callers.lifetimes.get(access_key_id) else {
        return false;
    };
    let mut state = lock(&shared.state);
    let asked = state.asked.entry(access_key_id.to_owned()).or_default();
    *asked += 1;
    *asked > *most
}

/// An error in AWS's form.
fn error(exception: &Exception) -> Reply {
    let Exception { code, message } = exception;
    let body = json!({ "__type": code, "message": message });
    let status = if *code == "RequestEntityTooLargeException" { 413 } else { 400 };
    Reply::new(status).header("X-Amzn-ErrorType", code).json(JSON, &body)
}
