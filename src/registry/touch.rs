//! Whether anybody answers at a URL: its name, a connection, TLS. Sends no credentials.

use std::net::IpAddr;
use std::time::Duration;

use hyper_util::client::proxy::matcher::Matcher;
use reqwest::header::{DATE, HeaderMap};
use reqwest::{Method, Url};
use thiserror::Error;

use super::client::{Client, Payload};
use super::endpoint::Endpoint;
use super::failure::{Network, RegistryError};
use super::transport::{network, redacted};
use crate::cause::Cause;
use crate::clock;
use crate::trust::Trust;

/// How a place is reached.
#[derive(Debug, Clone)]
pub struct Way {
    /// The place.
    pub endpoint: Endpoint,
    /// The proxy that is asked to lead there, without its password; none for the direct way.
    pub proxy: Option<String>,
}

impl Way {
    /// The way to `endpoint`, as the environment has it (`HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY`, `NO_PROXY`). No proxy
    /// leads back to this machine.
    #[must_use]
    pub fn to(endpoint: Endpoint) -> Self {
        let uri = endpoint.url().as_str().parse().ok().filter(|_| !endpoint.is_near());
        let intercept = uri.and_then(|uri| Matcher::from_env().intercept(&uri));
        let proxy = intercept.and_then(|proxy| Url::parse(&proxy.uri().to_string()).ok()).map(|url| redacted(&url));
        Self { endpoint, proxy }
    }

    /// The host that has to be found, and its port.
    #[must_use]
    pub fn first_host(&self) -> (String, u16) {
        let proxy = self.proxy.as_ref().and_then(|proxy| Url::parse(proxy).ok());
        let url = proxy.as_ref().unwrap_or(self.endpoint.url());
        let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']).to_owned();
        (host, url.port_or_known_default().unwrap_or(443))
    }
}

/// Why nobody answers.
#[derive(Debug, Error)]
pub enum TouchError {
    /// The name is nobody's.
    #[error("the name {host} does not resolve")]
    Name {
        /// The host.
        host: String,
        /// What the system said.
        source: Cause,
    },
    /// There is no way there.
    #[error(transparent)]
    Network(#[from] RegistryError),
}

impl TouchError {
    /// How it can't be reached, if that is what it is.
    #[must_use]
    pub fn network(&self) -> Option<Network> {
        match self {
            Self::Name { .. } => Some(Network::Name),
            Self::Network(RegistryError::Unreachable { network, .. }) => Some(*network),
            Self::Network(_) => None,
        }
    }
}

/// The addresses of the first host on the way.
///
/// # Errors
/// When its name doesn't resolve in `bound`.
pub async fn resolve(way: &Way, bound: Duration) -> Result<Vec<IpAddr>, TouchError> {
    let (host, port) = way.first_host();
    let name = |source| TouchError::Name { host: host.clone(), source };
    let found = tokio::time::timeout(bound, tokio::net::lookup_host((host.as_str(), port))).await;
    let found = found.map_err(|elapsed| name(Cause::new(elapsed)))?.map_err(|error| name(Cause::new(error)))?;
    let mut addresses: Vec<IpAddr> = found.map(|address| address.ip()).collect();
    addresses.sort();
    addresses.dedup();
    Ok(addresses)
}

/// Asks for anything at all, and gives by how many seconds our clock is ahead of the one over there.
///
/// # Errors
/// When nobody answers in `timeout`; whatever is answered is good.
pub async fn touch(
    way: &Way,
    trust: &Trust,
    connect_timeout: Duration,
    timeout: Duration,
) -> Result<Option<i64>, TouchError> {
    let client = Client::new(trust, connect_timeout, way.proxy.is_none());
    let url = way.endpoint.url();
    let asking = client.send(Method::GET, url, HeaderMap::new(), Payload::EMPTY);
    let answered = tokio::time::timeout(timeout, asking).await;
    let response = match answered {
        Ok(answered) => answered.map_err(|error| network(false, "GET", url, error))?,
        Err(elapsed) => {
            let (url, network, source) = (redacted(url), Network::Timeout, Cause::new(elapsed));
            return Err(RegistryError::Unreachable { method: "GET", url, network, ecr: false, source }.into());
        }
    };
    let date = response.headers.get(DATE).and_then(|date| date.to_str().ok());
    Ok(date.and_then(clock::ahead))
}
