//! The distribution project's token protocol: a challenge, a realm, a bearer token.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue};
use reqwest::{Method, Url};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;

use super::client::{Client, Payload, SendError};
use super::transport::{ERROR_LIMIT, redacted};
use crate::auth::{AuthError, Credentials};
use crate::cause::Cause;
use crate::oci::reference::Host;

/// A registry's `Bearer` challenge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Challenge {
    realm: String,
    service: Option<String>,
    scope: Option<String>,
}

impl Challenge {
    /// Where it sends, redacted.
    pub(super) fn realm(&self) -> String {
        Url::parse(&self.realm).map_or_else(|_| self.realm.clone(), |url| redacted(&url))
    }

    /// Insists that the realm is on the registry itself, and leads to where that is reached: ECR's token is for nobody else.
    pub(super) fn narrow(&mut self, host: &Host, own: impl Fn(&Url) -> Option<Url>) -> Result<(), AuthError> {
        let here = Url::parse(&self.realm).ok().and_then(|realm| own(&realm));
        let foreign = || AuthError::RealmForeign { host: host.to_string(), realm: self.realm() };
        self.realm = here.ok_or_else(foreign)?.to_string();
        Ok(())
    }

    /// The `Bearer` challenge among the values of `WWW-Authenticate`, if there is one.
    pub(super) fn find<'a>(values: impl Iterator<Item = &'a str>) -> Option<Self> {
        values
            .filter_map(|value| http_auth::parse_challenges(value).ok())
            .flatten()
            .filter(|challenge| challenge.scheme.eq_ignore_ascii_case("bearer"))
            .find_map(|challenge| {
                let param = |name: &str| {
                    let found = challenge.params.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
                    found.map(|(_, value)| value.to_unescaped())
                };
                Some(Self { realm: param("realm")?, service: param("service"), scope: param("scope") })
            })
    }
}

/// What a bearer token is to be good for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scope<'a> {
    /// The repository that is pushed to; of none at all the challenge's own scope is asked for.
    pub(super) repository: &'a str,
    /// Another one, from which something is mounted.
    pub(super) from: Option<&'a str>,
}

impl<'a> Scope<'a> {
    /// That of whoever mounts nothing.
    pub(super) fn of(repository: &'a str) -> Self {
        Self { repository, from: None }
    }

    /// As the protocol spells it. A HEAD is challenged for `pull` only; the push would have to ask again at its first POST.
    pub(super) fn text(self, challenge: &Challenge) -> String {
        let Self { repository, from } = self;
        if repository.is_empty() {
            return challenge.scope.clone().unwrap_or_default();
        }
        let from = from.map(|from| format!(" repository:{from}:pull")).unwrap_or_default();
        format!("repository:{repository}:pull,push{from}")
    }
}

/// What is given for a bearer token.
pub(super) enum Offer<'a> {
    Nothing,
    Basic(HeaderValue),
    Refresh(&'a SecretString),
}

#[derive(Deserialize)]
struct TokenReply {
    token: Option<SecretString>,
    access_token: Option<SecretString>,
}

/// Fetches a bearer token of this scope.
///
/// The realm is the one place beside the registry that sees the credentials: that is what the protocol is. It has to be
/// https, or plain http as the registry is itself.
pub(super) async fn fetch(
    client: &Client,
    host: &Host,
    origin: &Url,
    challenge: &Challenge,
    offer: Offer<'_>,
    scope: Scope<'_>,
) -> Result<HeaderValue, AuthError> {
    let host = host.to_string();
    let insecure = |realm: String| AuthError::RealmInsecure { host: host.clone(), realm };
    let mut realm = Url::parse(&challenge.realm).map_err(|_| insecure(challenge.realm.clone()))?;
    let shown = redacted(&realm);
    if realm.scheme() != "https" && !(realm.scheme() == "http" && origin.scheme() == "http") {
        return Err(insecure(shown));
    }
    let scope = scope.text(challenge);
    let mut headers = HeaderMap::new();
    let (method, body) = if let Offer::Refresh(token) = offer {
        let mut form = Url::parse("form:").map_err(|_| insecure(shown.clone()))?;
        form.query_pairs_mut()
            .append_pair("grant_type", "refresh_token")
            .append_pair("service", challenge.service.as_deref().unwrap_or_default())
            .append_pair("client_id", "ecr-push")
            .append_pair("scope", &scope)
            .append_pair("refresh_token", token.expose_secret());
        let body = form.query().unwrap_or_default().to_owned();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
        (Method::POST, Payload::Held(body.into()))
    } else {
        if let Some(service) = &challenge.service {
            realm.query_pairs_mut().append_pair("service", service);
        }
        if !scope.is_empty() {
            realm.query_pairs_mut().append_pair("scope", &scope);
        }
        if let Offer::Basic(header) = offer {
            headers.insert(AUTHORIZATION, header);
        }
        (Method::GET, Payload::EMPTY)
    };
    let unreachable = |source: SendError| AuthError::RealmUnreachable {
        host: host.clone(),
        realm: shown.clone(),
        source: Cause::new(source),
    };
    let mut response = client.send(method, &realm, headers, body).await.map_err(unreachable)?;
    let refused = |status| AuthError::Realm { host: host.clone(), realm: shown.clone(), status };
    let status = response.status;
    if !status.is_success() {
        return Err(refused(status.as_u16()));
    }
    let mut bytes = Vec::new();
    while let Some(piece) = response.chunk().await.map_err(unreachable)? {
        bytes.extend_from_slice(&piece);
        if bytes.len() > ERROR_LIMIT {
            return Err(refused(status.as_u16()));
        }
    }
    let reply: TokenReply = serde_json::from_slice(&bytes).map_err(|_| refused(status.as_u16()))?;
    let token = reply.token.or(reply.access_token).ok_or_else(|| refused(status.as_u16()))?;
    sensitive(&format!("Bearer {}", token.expose_secret())).ok_or_else(|| refused(status.as_u16()))
}

/// The `Basic` header for a name and a password.
pub(super) fn basic(credentials: &Credentials) -> Option<HeaderValue> {
    let Credentials::Basic { username, password, .. } = credentials else { return None };
    let text = STANDARD.encode(format!("{username}:{}", password.expose_secret()));
    sensitive(&format!("Basic {text}"))
}

/// A header that is never printed.
pub(super) fn sensitive(text: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes() {
        let bearer = r#"Bearer realm="https://a.example/token",scope="aws""#;
        let challenge = Challenge::find([bearer].into_iter()).unwrap();
        let check = |repository, from, text: &str| assert_eq!(Scope { repository, from }.text(&challenge), text);
        check("", None, "aws");
        check("app", None, "repository:app:pull,push");
        check("app", Some("base/x"), "repository:app:pull,push repository:base/x:pull");
    }

    #[test]
    fn challenges() {
        let check = |values: &[&str], realm: Option<&str>, service: Option<&str>| {
            let found = Challenge::find(values.iter().copied());
            assert_eq!(found.as_ref().map(|c| c.realm.as_str()), realm, "{values:?}");
            assert_eq!(found.and_then(|c| c.service), service.map(str::to_owned), "{values:?}");
        };
        let bearer = r#"Bearer realm="https://a.example/token",service="r",scope="repository:a:pull""#;
        check(&[bearer], Some("https://a.example/token"), Some("r"));
        check(&[r#"Basic realm="x""#, bearer], Some("https://a.example/token"), Some("r"));
        check(&[r#"Basic realm="x""#], None, None);
        check(&["nonsense \u{7f}"], None, None);
        check(&[], None, None);
    }
}
