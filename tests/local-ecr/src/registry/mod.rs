//! The registry, `/v2/`: who may ask, and which place answers.

mod blobs;
mod manifests;
mod referrers;
mod token;
mod uploads;

use std::sync::Arc;

use hyper::Method;

use crate::body::Inbound;
use crate::config::{ExpiredToken, MissingRepository};
use crate::digest::Digest;
use crate::iam::{Action, Service};
use crate::journal::Credential;
use crate::permission::{Asked, Deed, Denied, permit};
use crate::reply::{Refusal, Reply, error_reply};
use crate::route::{NAME_FORM, Route, is_repository};
use crate::server::{Call, Shared};
use crate::state::Repository;
use crate::sync::lock;

/// Answers a registry request.
pub(crate) async fn handle(
    shared: &Arc<Shared>,
    call: &Call,
    sequence: usize,
    inbound: &mut Inbound,
) -> Result<Reply, Refusal> {
    let exchange = Exchange { shared, call, sequence, inbound };
    let versioned = |reply: Reply| reply.header("Docker-Distribution-Api-Version", "registry/2.0");
    match exchange.dispatch().await {
        Ok(reply) => Ok(versioned(reply)),
        Err(Refusal::Reply(reply)) => Err(versioned(*reply).into()),
        other => other,
    }
}

/// One request and all that is needed to answer it.
struct Exchange<'a> {
    shared: &'a Arc<Shared>,
    call: &'a Call,
    sequence: usize,
    inbound: &'a mut Inbound,
}

impl Exchange<'_> {
    async fn dispatch(mut self) -> Result<Reply, Refusal> {
        if self.is_exchange() {
            return self.token();
        }
        let Some(route) = self.call.route.clone() else {
            return Ok(self.shared.unknown(self.call));
        };
        self.authenticate()?;
        if route.repository().is_some_and(|name| !is_repository(name)) {
            return Err(error_reply(400, "NAME_INVALID", NAME_FORM).into());
        }
        match (self.call.method.clone(), route) {
            (Method::GET | Method::HEAD, Route::Base) => Ok(Reply::new(200)),
            (Method::HEAD, Route::Blob { repository, digest }) => self.blob_head(&repository, &digest),
            (Method::GET, Route::Blob { repository, digest }) => self.blob_get(&repository, &digest),
            (Method::POST, Route::Uploads { repository }) => self.upload_open(&repository).await,
            (Method::PATCH, Route::Session { repository, id }) => self.upload_patch(&repository, &id).await,
            (Method::PUT, Route::Session { repository, id }) => self.upload_finish(&repository, &id).await,
            (Method::DELETE, Route::Session { repository, id }) => self.upload_cancel(&repository, &id),
            (Method::GET | Method::HEAD, Route::Session { repository, id }) => {
                self.upload_status(&repository, &id).await
            }
            (Method::HEAD, Route::Manifest { repository, reference }) => self.manifest_head(&repository, &reference),
            (Method::GET, Route::Manifest { repository, reference }) => self.manifest_get(&repository, &reference),
            (Method::PUT, Route::Manifest { repository, reference }) => {
                self.manifest_put(&repository, &reference).await
            }
            (Method::GET, Route::Tags { repository }) => self.tags(&repository),
            (Method::GET, Route::Referrers { repository, digest }) => self.referrers(&repository, &digest),
            _ => Ok(self.shared.unknown(self.call)),
        }
    }

    /// Auth with an issued token, Basic or for ECR Public Bearer, or one of the refusals of facts/ecr.md, Credentials.
    fn authenticate(&self) -> Result<(), Refusal> {
        if self.is_unexchanged() {
            self.shared.journal.note(self.sequence, |entry| entry.credential = Credential::Wrong);
            return Err(self.challenge());
        }
        match (self.call.credential, self.shared.config.expired_token) {
            (Credential::Valid, _) => Ok(()),
            (Credential::Expired, ExpiredToken::Denied) => {
                let message = "Your authorization token has expired. Reauthenticate and try again.";
                Err(error_reply(403, "DENIED", message).into())
            }
            _ => Err(self.challenge()),
        }
    }

    /// Notes the action that a request needs, and says whether it may be done.
    fn may(&self, action: Action, repository: &str, asked: Asked) -> Result<(), Denied> {
        let registry = &self.call.registry;
        let service = if registry.public { Service::Public } else { Service::Private };
        if action.is_of(service) {
            self.shared.journal.note(self.sequence, |entry| entry.actions.push(action.name(service)));
        }
        let holder = lock(&self.shared.state).tokens.holder(self.call.authorization());
        let deed = Deed { action, registry, repository: Some(repository), asked };
        permit(self.shared, self.call, holder.as_deref(), deed)
    }

    /// The same, refused in the registry's form.
    fn permit(&self, action: Action, repository: &str) -> Result<(), Refusal> {
        self.may(action, repository, Asked::Needed).map_err(denied)
    }

    /// Does something with a repository, or says that it isn't there.
    fn within<T>(&self, name: &str, work: impl FnOnce(&mut Repository) -> T) -> Result<T, Refusal> {
        match lock(&self.shared.state).repository_mut(&self.call.registry, name) {
            Some(repository) => Ok(work(repository)),
            None => Err(self.name_unknown(name)),
        }
    }

    /// Makes a missing repository where a creation template applies (facts/ecr.md, Uploading).
    fn create_on_push(&self, name: &str) {
        if self.shared.config.missing_repository == MissingRepository::CreateOnPush {
            lock(&self.shared.state).create(&self.shared.config, &self.call.registry, name);
        }
    }

    fn name_unknown(&self, name: &str) -> Refusal {
        let account = &self.call.registry.account;
        let message = format!("The repository with name '{name}' does not exist in the registry with id '{account}'");
        error_reply(404, "NAME_UNKNOWN", &message).into()
    }

    /// An absolute URL of the same origin (facts/ecr.md, Uploading).
    fn url(&self, path: &str) -> String {
        format!("{}://{}{path}", self.shared.scheme(), self.call.host)
    }
}

fn denied(denied: Denied) -> Refusal {
    match denied {
        Denied::Forbidden(sentence) => error_reply(403, "DENIED", &sentence).into(),
        // Without `Retry-After` (facts/ecr.md, Speed).
        Denied::Throttled => error_reply(429, "TOOMANYREQUESTS", "Rate exceeded").into(),
    }
}

fn digest_invalid(text: &str) -> Refusal {
    error_reply(400, "DIGEST_INVALID", &format!("The digest '{text}' is not valid")).into()
}

fn parse_digest(text: &str) -> Result<Digest, Refusal> {
    Digest::parse(text).ok_or_else(|| digest_invalid(text))
}
