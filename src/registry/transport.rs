//! Sends requests to one registry: origin, credentials, deadlines, redirects, redaction.
//!
//! Knows nothing of blobs and manifests. Credentials go to the registry's origin and nowhere else; every further URL is
//! checked where it is resolved.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use reqwest::Url;
use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_RANGE, CONTENT_TYPE, HeaderMap, HeaderValue, LOCATION};
use reqwest::{Method, StatusCode};
use tokio::sync::{Mutex, OnceCell};

use super::authorization::{Authorization, Shown};
use super::bearer::Scope;
use super::body::UploadBody;
use super::client::{Client, Payload, Response, SendError};
use super::endpoint::Endpoint;
use super::failure::{Answer, Asked, Meaning, Network, Oddity, RegistryError};
use crate::auth::Credentials;
use crate::cause::{Cause, find};
use crate::names::Nameless;
use crate::oci::descriptor::MediaType;
use crate::oci::reference::Host;
use crate::trust::Trust;

/// How the registry is reached.
#[derive(Debug, Clone)]
pub struct TransportSettings {
    /// Where the registry is, when that isn't `https://HOST`.
    pub endpoint: Option<Endpoint>,
    /// http instead of https.
    pub plain_http: bool,
    /// The trusted authorities.
    pub trust: Trust,
    /// A bound on connecting.
    pub connect_timeout: Duration,
    /// A bound on an answer, and on the time in which no byte of an upload moves.
    pub timeout: Duration,
}

/// A request, but for its credentials.
#[derive(Debug, Clone)]
pub(super) struct Call<'a> {
    pub(super) method: Method,
    pub(super) url: Url,
    /// The repository, for the scope of a bearer token.
    pub(super) repository: &'a str,
    /// Another one, from which something is mounted.
    pub(super) from: Option<&'a str>,
    pub(super) content_type: Option<&'a str>,
    pub(super) content_range: Option<&'a str>,
    pub(super) body: Bytes,
    /// The most that is read of the answer.
    pub(super) limit: usize,
}

/// An answer, read whole.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
    /// The URL that answered, against which a `Location` is resolved.
    pub(super) url: Url,
    /// The repository that it is about.
    pub(super) repository: String,
}

/// An answer to an error is never larger than this, in bytes.
pub(super) const ERROR_LIMIT: usize = 64 * 1024;

const MAX_REDIRECTS: usize = 5;

/// A connection pool to one registry, with its credentials.
#[derive(Debug)]
pub(super) struct Transport {
    client: Client,
    /// Where to try, in this order; the first that connects is kept.
    candidates: Vec<Url>,
    origin: OnceCell<Url>,
    probing: Mutex<()>,
    /// `https://HOST`, as the registry may call itself when it is reached under another name.
    own_name: Option<Url>,
    host: Host,
    authorization: Authorization,
    timeout: Duration,
}

impl Transport {
    pub(super) fn new(
        host: &Host,
        credentials: Credentials,
        settings: &TransportSettings,
    ) -> Result<Self, RegistryError> {
        // No proxy leads back to this machine; Go's clients leave it out in the same way.
        let direct = settings.endpoint.as_ref().map_or(host.is_near(), Endpoint::is_near);
        let client = Client::new(&settings.trust, settings.connect_timeout, direct);
        let parse = |text: String| Url::parse(&text).map_err(|error| RegistryError::Client(Cause::new(error)));
        let https = parse(format!("https://{host}/"))?;
        let http = parse(format!("http://{host}/"))?;
        let candidates = match &settings.endpoint {
            Some(endpoint) => vec![endpoint.url().clone()],
            None if settings.plain_http => vec![http],
            None if host.is_loopback() => vec![https.clone(), http],
            None => vec![https.clone()],
        };
        Ok(Self {
            client,
            // With one candidate there is nothing to find out.
            origin: OnceCell::new_with((candidates.len() == 1).then(|| candidates[0].clone())),
            candidates,
            probing: Mutex::new(()),
            own_name: settings.endpoint.is_some().then_some(https),
            host: host.clone(),
            authorization: Authorization::new(host.clone(), credentials, settings.timeout),
            timeout: settings.timeout,
        })
    }

    /// The registry's URL with `path` behind it. Before the first answer it is the first candidate.
    pub(super) fn url(&self, path: &str) -> Url {
        let mut url = self.origin().clone();
        let base = url.path().trim_end_matches('/').to_owned();
        url.set_path(&format!("{base}{path}"));
        url.set_query(None);
        url
    }

    /// Opens connections, where it is known already how the registry is reached.
    pub(super) fn connect_ahead(&self, connections: usize) {
        if let Some(origin) = self.origin.get() {
            self.client.connect_ahead(origin, connections);
        }
    }

    pub(super) fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Sends a request and reads its answer, whatever it says; asks again with better credentials where the registry
    /// wants them.
    pub(super) async fn send(&self, call: Call<'_>) -> Result<Reply, RegistryError> {
        let scope = Scope { repository: call.repository, from: call.from };
        let mut shown = self.authorization.show(scope).await?;
        let mut renewals = 0;
        loop {
            let reply = self.follow(&call, shown.header()).await?;
            // What another host asks for after a redirect is none of its business.
            if renewals < 2 && self.is_own(&reply.url) && self.refused(&call.method, &reply) {
                renewals += 1;
                if let Some(better) = self.better(&shown, &reply, scope).await? {
                    shown = better;
                    continue;
                }
            }
            return Ok(reply);
        }
    }

    /// Sends a body that can't be sent twice; says whether it was refused for credentials that have been renewed since. The
    /// caller bounds the time.
    pub(super) async fn send_body(
        &self,
        method: &Method,
        url: &Url,
        repository: &str,
        range: Option<&str>,
        body: UploadBody,
    ) -> Result<(Reply, bool), RegistryError> {
        let shown =
            if self.is_own(url) { self.authorization.show(Scope::of(repository)).await? } else { Shown::Nothing };
        let mut headers = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"))]);
        if let Some(range) = range.and_then(|text| HeaderValue::from_str(text).ok()) {
            headers.insert(CONTENT_RANGE, range);
        }
        if let Some(header) = shown.header() {
            headers.insert(AUTHORIZATION, header);
        }
        let sending = self.client.send(method.clone(), url, headers, Payload::Upload(body));
        let response = sending.await.map_err(|error| network(self.is_ecr(), name(method), url, error))?;
        let reply = read(self.is_ecr(), name(method), url, response, ERROR_LIMIT, repository).await?;
        trace(method.as_str(), url, reply.status);
        let mut renewed = false;
        if self.is_own(url) && self.refused(method, &reply) {
            // The body is spent, so that nobody is asked again here; the next attempt finds the new token.
            renewed = self.better(&shown, &reply, Scope::of(repository)).await?.is_some();
        }
        Ok((reply, renewed))
    }

    /// What an answer that isn't success says.
    pub(super) fn answer(&self, method: &Method, reply: &Reply) -> Answer {
        let header = |name: &str| reply.headers.get(name)?.to_str().ok().map(str::to_owned);
        Answer::read(
            self.asked(&reply.repository),
            name(method),
            redacted(&reply.url),
            reply.status.as_u16(),
            &reply.body,
            header,
        )
    }

    /// The URL in a `Location`, and never one that would carry bytes in the clear to somebody else.
    pub(super) fn location(&self, method: &'static str, reply: &Reply) -> Result<Url, RegistryError> {
        let odd = |oddity| RegistryError::Odd { method, url: redacted(&reply.url), oddity };
        let text = reply.headers.get(LOCATION).and_then(|value| value.to_str().ok());
        let url = text.and_then(|text| reply.url.join(text).ok()).ok_or_else(|| odd(Oddity::NoLocation))?;
        let url = self.homeward(&url);
        if url.scheme() != "https" && !self.is_own(&url) {
            return Err(odd(Oddity::InsecureLocation));
        }
        Ok(url)
    }

    /// The URL at which a place is reached that the registry names: as it stands, or on the registry's own origin.
    ///
    /// A registry behind a proxy that ends TLS says http; one reached through a VPC endpoint says its own name. Both mean
    /// the place that was asked.
    fn homeward(&self, url: &Url) -> Url {
        let mut url = url.clone();
        let same_name = |other: &Url| other.host_str() == url.host_str();
        let origin = self.origin();
        if same_name(origin) && origin.port_or_known_default() == url.port_or_known_default()
            || self.own_name.as_ref().is_some_and(same_name)
            || same_name(origin) && origin.scheme() == "https" && url.scheme() == "http" && url.port().is_none()
        {
            let _ = url.set_host(origin.host_str());
            let _ = url.set_port(origin.port());
            let _ = url.set_scheme(origin.scheme());
        }
        url
    }

    /// Where the registry is, or may be as long as nothing answered.
    fn origin(&self) -> &Url {
        self.origin.get().unwrap_or(&self.candidates[0])
    }

    /// Whether credentials may go to `url`.
    fn is_own(&self, url: &Url) -> bool {
        match self.origin.get() {
            Some(origin) => origin.origin() == url.origin(),
            None => self.candidates.iter().any(|own| own.origin() == url.origin()),
        }
    }

    fn asked(&self, repository: &str) -> Asked {
        let repository = repository.to_owned();
        Asked { host: self.host.clone(), repository, ecr: self.is_ecr(), shown: self.shown() }
    }

    /// Whose credentials go there, and where they come from; nothing for ECR's token, and where there are none.
    pub(super) fn shown(&self) -> Option<String> {
        match &self.authorization.credentials {
            Credentials::Basic { username, file, .. } => Some(format!("{username:?} in {}", file.display())),
            Credentials::Identity { file, .. } => Some(format!("a token in {}", file.display())),
            Credentials::Ecr(_) | Credentials::EcrPublic(_) | Credentials::Anonymous => None,
        }
    }

    pub(super) fn is_ecr(&self) -> bool {
        self.authorization.credentials.ecr().is_some()
    }

    fn refused(&self, method: &Method, reply: &Reply) -> bool {
        !reply.status.is_success()
            && matches!(self.answer(method, reply).meaning, Meaning::Unauthenticated | Meaning::TokenExpired)
    }

    /// Other credentials than those that were refused, if there are any.
    async fn better(&self, shown: &Shown, reply: &Reply, scope: Scope<'_>) -> Result<Option<Shown>, RegistryError> {
        let own = |url: &Url| Some(self.homeward(url)).filter(|url| self.is_own(url));
        let refusal = (&reply.url, &reply.headers);
        Ok(self.authorization.better(&self.client, shown, refusal, scope, own).await?)
    }

    /// Sends a request and, for GET and HEAD, goes where it is sent; credentials stay behind when that is elsewhere.
    async fn follow(&self, call: &Call<'_>, header: Option<HeaderValue>) -> Result<Reply, RegistryError> {
        let mut url = call.url.clone();
        for _ in 0..=MAX_REDIRECTS {
            let reply = self.once(call, &url, header.as_ref()).await?;
            trace(call.method.as_str(), &url, reply.status);
            let reading = matches!(call.method, Method::GET | Method::HEAD);
            if !(reading && reply.status.is_redirection() && reply.headers.contains_key(LOCATION)) {
                return Ok(reply);
            }
            url = self.location(name(&call.method), &reply)?;
        }
        Err(RegistryError::Odd { method: name(&call.method), url: redacted(&call.url), oddity: Oddity::Redirects })
    }

    /// The URL as it is asked for once it is known how the registry is reached; none as long as that is to be found out.
    fn settled(&self, url: &Url) -> Option<Url> {
        let mut url = url.clone();
        let ours = self.candidates.iter().any(|candidate| candidate.origin() == url.origin());
        if ours {
            let _ = url.set_scheme(self.origin.get()?.scheme());
        }
        Some(url)
    }

    async fn once(&self, call: &Call<'_>, url: &Url, header: Option<&HeaderValue>) -> Result<Reply, RegistryError> {
        if let Some(url) = self.settled(url) {
            return self.exchange(call, &url, header).await;
        }
        // The first request finds out which candidate connects, and all others wait for it: a loopback registry is tried
        // with https and then with http, and that costs no request of its own.
        let probing = self.probing.lock().await;
        if let Some(url) = self.settled(url) {
            drop(probing);
            return self.exchange(call, &url, header).await;
        }
        let mut url = url.clone();
        let mut first_failure = None;
        for candidate in &self.candidates {
            let _ = url.set_scheme(candidate.scheme());
            match self.exchange(call, &url, header).await {
                Err(error @ RegistryError::Unreachable { network: Network::Connect | Network::NotTls, .. }) => {
                    first_failure.get_or_insert(error);
                }
                other => {
                    let _ = self.origin.set(candidate.clone());
                    return other;
                }
            }
        }
        if let Some(RegistryError::Unreachable { url, .. }) = &mut first_failure
            && self.candidates.len() > 1
        {
            url.push_str(" (and the same with http)");
        }
        Err(first_failure.unwrap_or(RegistryError::Odd {
            method: name(&call.method),
            url: redacted(&url),
            oddity: Oddity::NoPlace,
        }))
    }

    async fn exchange(&self, call: &Call<'_>, url: &Url, header: Option<&HeaderValue>) -> Result<Reply, RegistryError> {
        let mut headers = HeaderMap::new();
        if let Some(header) = header.filter(|_| self.is_own(url)) {
            headers.insert(AUTHORIZATION, header.clone());
        }
        let reading = matches!(call.method, Method::GET | Method::HEAD);
        if reading && let Ok(accept) = HeaderValue::from_str(&MediaType::MANIFESTS.join(", ")) {
            headers.insert(ACCEPT, accept);
        }
        if let Some(content_type) = call.content_type.and_then(|text| HeaderValue::from_str(text).ok()) {
            headers.insert(CONTENT_TYPE, content_type);
        }
        if let Some(range) = call.content_range.and_then(|text| HeaderValue::from_str(text).ok()) {
            headers.insert(CONTENT_RANGE, range);
        }
        let body = if reading { Payload::EMPTY } else { Payload::Held(call.body.clone()) };
        let method = name(&call.method);
        let answered = async {
            let sending = self.client.send(call.method.clone(), url, headers, body);
            let response = sending.await.map_err(|error| network(self.is_ecr(), method, url, error))?;
            read(self.is_ecr(), method, url, response, call.limit, call.repository).await
        };
        tokio::time::timeout(self.timeout, answered).await.unwrap_or_else(|elapsed| {
            let (url, network, ecr) = (redacted(url), Network::Timeout, self.is_ecr());
            tracing::debug!("{method} {url} failed: {elapsed}");
            Err(RegistryError::Unreachable { method, url, network, ecr, source: Cause::new(network.text()) })
        })
    }
}

/// Reads an answer, and no more of it than `limit` bytes.
async fn read(
    ecr: bool,
    method: &'static str,
    url: &Url,
    mut response: Response,
    limit: usize,
    repository: &str,
) -> Result<Reply, RegistryError> {
    let (status, headers) = (response.status, std::mem::take(&mut response.headers));
    let mut body = BytesMut::new();
    loop {
        let piece = match response.chunk().await {
            Ok(Some(piece)) => piece,
            Ok(None) => break,
            // Only a GET is asked for its body. What a POST has to say stands in its headers, and a session that is known
            // by them must not be forgotten.
            Err(_) if method != "GET" => break,
            Err(error) => return Err(network(ecr, method, url, error)),
        };
        if body.len() + piece.len() > limit {
            if status.is_success() {
                return Err(RegistryError::Odd { method, url: redacted(url), oddity: Oddity::Body });
            }
            break;
        }
        body.extend_from_slice(&piece);
    }
    Ok(Reply { status, headers, body: body.freeze(), url: url.clone(), repository: repository.to_owned() })
}

pub(super) fn name(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::DELETE => "DELETE",
        Method::PATCH => "PATCH",
        _ => "PUT",
    }
}

/// What stands before the name of an upload session.
const SESSIONS: &str = "/blobs/uploads/";

/// A URL without user, query and fragment, and without the name of an upload session: whoever knows that can write to it,
/// and it is long.
pub(super) fn redacted(url: &Url) -> String {
    let mut url = url.clone();
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.set_query(None);
    url.set_fragment(None);
    if let Some((before, _)) = url.path().split_once(SESSIONS) {
        url.set_path(&format!("{before}{SESSIONS}"));
    }
    url.to_string()
}

fn trace(method: &str, url: &Url, status: StatusCode) {
    tracing::debug!("{method} {} {}", redacted(url), status.as_u16());
}

/// Which kind of failure the HTTP client met.
pub(super) fn network(ecr: bool, method: &'static str, url: &Url, error: SendError) -> RegistryError {
    let kind = if let Some(error) = find::<rustls::Error>(&error) {
        // A server without TLS answers the handshake with text.
        if matches!(error, rustls::Error::InvalidMessage(_)) { Network::NotTls } else { Network::Tls }
    } else if error.is_timeout() {
        Network::Timeout
    } else if find::<Nameless>(&error).is_some() {
        Network::Name
    } else if error.is_connect() {
        Network::Connect
    } else {
        Network::Closed
    };
    tracing::debug!("{method} {} failed: {error:?}", redacted(url));
    let source = match kind {
        Network::Connect | Network::Tls | Network::NotTls => Cause::new(error),
        // There is no more to it, and each system has its own words for it.
        Network::Name | Network::Closed | Network::Timeout => Cause::new(kind.text()),
    };
    RegistryError::Unreachable { method, url: redacted(url), network: kind, ecr, source }
}
