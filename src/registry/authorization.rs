//! What one registry is shown: ECR's token, a name and password, or a bearer token that these are exchanged for.
//!
//! Decides nothing about where it may go: that is the transport's.

use std::borrow::Cow;
use std::collections::HashMap;
use std::time::Duration;

use reqwest::Url;
use reqwest::header::{HeaderMap, HeaderValue, WWW_AUTHENTICATE};
use secrecy::{ExposeSecret, SecretString};
use tokio::sync::Mutex;

use super::bearer::{self, Challenge, Offer, Scope};
use super::client::Client;
use crate::auth::{AuthError, Credentials};
use crate::aws::token::EcrToken;
use crate::cause::Cause;
use crate::oci::reference::Host;

/// What goes into `Authorization`.
#[derive(Clone)]
pub(super) enum Shown {
    Nothing,
    Ecr(SecretString),
    Fixed(HeaderValue),
    Bearer(HeaderValue),
}

impl Shown {
    pub(super) fn header(&self) -> Option<HeaderValue> {
        match self {
            Self::Nothing => None,
            // Verbatim, and from the first request on: no challenge round trip (facts/ecr.md, Credentials).
            Self::Ecr(token) => bearer::sensitive(&format!("Basic {}", token.expose_secret())),
            Self::Fixed(header) | Self::Bearer(header) => Some(header.clone()),
        }
    }
}

/// A bearer token, and the challenge that it was got for.
#[derive(Debug)]
struct Bearer {
    challenge: Challenge,
    header: HeaderValue,
}

/// The credentials of one registry, with the bearer tokens that were got for them.
#[derive(Debug)]
pub(super) struct Authorization {
    host: Host,
    pub(super) credentials: Credentials,
    bearers: Mutex<HashMap<String, Bearer>>,
    timeout: Duration,
}

impl Authorization {
    pub(super) fn new(host: Host, credentials: Credentials, timeout: Duration) -> Self {
        Self { host, credentials, bearers: Mutex::new(HashMap::new()), timeout }
    }

    /// What a request is to show that needs this scope.
    pub(super) async fn show(&self, scope: Scope<'_>) -> Result<Shown, AuthError> {
        if let Some(bearer) = self.bearers.lock().await.get(&*self.key(scope)) {
            return Ok(Shown::Bearer(bearer.header.clone()));
        }
        match &self.credentials {
            Credentials::Ecr(token) => Ok(Shown::Ecr(token.get().await?)),
            Credentials::Basic { .. } => Ok(bearer::basic(&self.credentials).map_or(Shown::Nothing, Shown::Fixed)),
            Credentials::EcrPublic(_) | Credentials::Identity { .. } | Credentials::Anonymous => Ok(Shown::Nothing),
        }
    }

    /// Other credentials than those that were refused by `origin` with these `headers`, if there are any. `own` gives the
    /// URL at which a place on the registry itself is reached, and nothing for a place elsewhere.
    pub(super) async fn better(
        &self,
        client: &Client,
        shown: &Shown,
        (origin, headers): (&Url, &HeaderMap),
        scope: Scope<'_>,
        own: impl Fn(&Url) -> Option<Url>,
    ) -> Result<Option<Shown>, AuthError> {
        if let Shown::Ecr(stale) = shown {
            let Credentials::Ecr(token) = &self.credentials else { return Ok(None) };
            return Ok(Some(Shown::Ecr(token.renew(stale).await?)));
        }
        let challenges = headers.get_all(WWW_AUTHENTICATE).iter().filter_map(|value| value.to_str().ok());
        let found = Challenge::find(challenges);
        let key = &*self.key(scope);
        // Held while a token is fetched, so that of many requests that were refused together one fetches it.
        let mut bearers = self.bearers.lock().await;
        if let Some(bearer) = bearers.get(key) {
            let stale = matches!(shown, Shown::Bearer(used) if *used == bearer.header);
            if !stale {
                return Ok(Some(Shown::Bearer(bearer.header.clone())));
            }
        }
        // Of a token that has expired ECR says so without a challenge (facts/ecr.md, Credentials): that of before stands.
        let earlier = || bearers.get(key).map(|bearer| bearer.challenge.clone());
        let Some(given) = found.or_else(earlier) else { return Ok(None) };
        let mut challenge = given.clone();
        let fetching = async {
            match &self.credentials {
                Credentials::EcrPublic(token) => {
                    challenge.narrow(&self.host, own)?;
                    self.exchange(client, origin, &challenge, token).await
                }
                Credentials::Identity { token, .. } => {
                    bearer::fetch(client, &self.host, origin, &challenge, Offer::Refresh(token), scope).await
                }
                credentials => {
                    let offer = bearer::basic(credentials).map_or(Offer::Nothing, Offer::Basic);
                    bearer::fetch(client, &self.host, origin, &challenge, offer, scope).await
                }
            }
        };
        let fetched = tokio::time::timeout(self.timeout, fetching).await;
        let header = fetched.unwrap_or_else(|elapsed| {
            let (host, realm) = (self.host.to_string(), challenge.realm());
            Err(AuthError::RealmUnreachable { host, realm, source: Cause::new(elapsed) })
        })?;
        bearers.insert(key.to_owned(), Bearer { challenge: given, header: header.clone() });
        Ok(Some(Shown::Bearer(header)))
    }

    /// ECR Public's exchange, with a token that is renewed if it has expired meanwhile.
    async fn exchange(
        &self,
        client: &Client,
        origin: &Url,
        challenge: &Challenge,
        token: &EcrToken,
    ) -> Result<HeaderValue, AuthError> {
        let offer = |token: &SecretString| Shown::Ecr(token.clone()).header().map_or(Offer::Nothing, Offer::Basic);
        let current = token.get().await?;
        match bearer::fetch(client, &self.host, origin, challenge, offer(&current), Scope::of("")).await {
            Err(AuthError::Realm { status: 401 | 403, .. }) => {
                let renewed = token.renew(&current).await?;
                bearer::fetch(client, &self.host, origin, challenge, offer(&renewed), Scope::of("")).await
            }
            fetched => fetched,
        }
    }

    /// Under which name a bearer token is kept: ECR Public's is good for all repositories.
    fn key<'a>(&self, scope: Scope<'a>) -> Cow<'a, str> {
        match (&self.credentials, scope) {
            (Credentials::EcrPublic(_), _) => Cow::Borrowed(""),
            (_, Scope { repository, from: None }) => Cow::Borrowed(repository),
            (_, Scope { repository, from: Some(from) }) => Cow::Owned(format!("{repository} {from}")),
        }
    }
}
