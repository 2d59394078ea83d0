//! The HTTP client: HTTP/1.1, one stream for each connection, and connections that are opened ahead of their first request.
//!
//! Knows URLs, headers and bodies, and nothing of registries. What may have reached the server is not sent again, and no
//! redirect is followed.

mod connector;
mod payload;

use std::fmt;
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use http_body::Body as _;
use hyper::body::Incoming;
use hyper_util::client::legacy;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use reqwest::header::{CONTENT_LENGTH, HeaderMap, HeaderValue, PROXY_AUTHORIZATION, USER_AGENT};
use reqwest::{Method, StatusCode, Url};
use thiserror::Error;

use self::connector::Connector;
pub(super) use self::payload::Payload;
use crate::trust::Trust;

/// What a connection holds of a body that its socket doesn't take yet, in bytes. Pieces of an upload lie there, and many
/// uploads are under way.
const WRITE_BUFFER: usize = 64 * 1024;

/// Who we are.
const AGENT: HeaderValue = HeaderValue::from_static(concat!("ecr-push/", env!("CARGO_PKG_VERSION")));

/// Why a request wasn't answered.
#[derive(Debug, Error)]
pub(super) enum SendError {
    /// The connection broke, or never was.
    #[error(transparent)]
    Client(#[from] legacy::Error),
    /// The answer broke off.
    #[error(transparent)]
    Answer(#[from] hyper::Error),
    /// The URL can't be asked for.
    #[error("its URL can't be asked for")]
    Url(#[from] http::uri::InvalidUri),
}

impl SendError {
    /// Whether no connection came about.
    pub(super) fn is_connect(&self) -> bool {
        matches!(self, Self::Client(error) if error.is_connect())
    }

    /// Whether a connection took too long to come about.
    pub(super) fn is_timeout(&self) -> bool {
        let is_elapsed = crate::cause::find::<tokio::time::error::Elapsed>(self).is_some();
        let late = crate::cause::find::<std::io::Error>(self);
        is_elapsed || late.is_some_and(|error| error.kind() == std::io::ErrorKind::TimedOut)
    }
}

/// An answer whose body is still to come.
pub(super) struct Response {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    body: Incoming,
}

impl Response {
    /// The next bytes of the body; `None` at its end.
    pub(super) async fn chunk(&mut self) -> Result<Option<Bytes>, SendError> {
        loop {
            let frame = std::future::poll_fn(|cx| Pin::new(&mut self.body).poll_frame(cx)).await;
            let Some(frame) = frame.transpose()? else { return Ok(None) };
            if let Ok(bytes) = frame.into_data() {
                return Ok(Some(bytes));
            }
        }
    }
}

/// A pool of connections.
#[derive(Clone)]
pub(super) struct Client {
    pool: legacy::Client<Connector, Payload>,
    connector: Connector,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").finish_non_exhaustive()
    }
}

impl Client {
    /// A client without connections; a `direct` one asks no proxy, whatever the environment says.
    pub(super) fn new(trust: &Trust, connect_timeout: Duration, direct: bool) -> Self {
        let connector = Connector::new(trust, connect_timeout, direct);
        let pool = legacy::Client::builder(TokioExecutor::new())
            .timer(TokioTimer::new())
            .pool_timer(TokioTimer::new())
            .http1_max_buf_size(WRITE_BUFFER)
            .build(connector.clone());
        Self { pool, connector }
    }

    /// Opens so many connections to where `url` is, for the requests that will come.
    pub(super) fn connect_ahead(&self, url: &Url, connections: usize) {
        if let Ok(uri) = url.as_str().parse() {
            self.connector.connect_ahead(&uri, connections);
        }
    }

    /// Sends a request; the answer is there once its headers are.
    pub(super) async fn send(
        &self,
        method: Method,
        url: &Url,
        headers: HeaderMap,
        body: Payload,
    ) -> Result<Response, SendError> {
        let uri: http::Uri = url.as_str().parse()?;
        let mut request = http::Request::new(body);
        *request.method_mut() = method;
        *request.headers_mut() = headers;
        let length =
            request.body().size_hint().exact().filter(|length| {
                *length > 0 || !matches!(*request.method(), Method::GET | Method::HEAD | Method::DELETE)
            });
        let headers = request.headers_mut();
        headers.insert(USER_AGENT, AGENT);
        if let Some(length) = length {
            headers.insert(CONTENT_LENGTH, length.into());
        }
        if let Some(proxy) = self.connector.proxy_authorization(&uri) {
            headers.insert(PROXY_AUTHORIZATION, proxy);
        }
        *request.uri_mut() = uri;
        let (head, body) = self.pool.request(request).await?.into_parts();
        Ok(Response { status: head.status, headers: head.headers, body })
    }
}
