//! Requests to an engine: a connection for each, through its socket or to its port, plain or TLS.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{HOST, USER_AGENT};
use http::{HeaderValue, Method, Request, Response};
use http_body::Body;
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::rt::{Read, Write};
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::UnixStream;
use tokio::task::{AbortHandle, JoinHandle};
use tower_service::Service;

use super::endpoint::{Address, Endpoint};
use super::error::{EngineError, Reach};
use crate::cause::{self, Cause};
use crate::trust::{Trust, TrustError};

/// What a connection holds of an answer that nobody has read yet, in bytes.
const BUFFER: usize = 256 * 1024;

/// What an answer may have at most that is held whole, in bytes: a list of thousands of images, and more.
const HELD: usize = 64 * 1024 * 1024;

/// How long a connection may be silent before the system asks whether anybody is left at its other end, and how long between
/// such questions.
const KEEPALIVE: Duration = Duration::from_secs(15);

const AGENT: HeaderValue = HeaderValue::from_static(concat!("ecr-push/", env!("CARGO_PKG_VERSION")));

/// A request without a body.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ask<'a> {
    pub(super) method: &'static str,
    /// Path and query, percent-encoded.
    pub(super) path: &'a str,
}

/// An answer whose body is still to come, and its connection, which ends with it.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) body: Incoming,
    pub(super) connection: Connection,
}

/// Carries the bytes of a connection; dropped, it closes it.
#[derive(Debug)]
pub(super) struct Connection(AbortHandle);

impl Drop for Connection {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// How an engine is spoken to.
#[derive(Debug, Clone)]
pub(super) struct Wire {
    pub(super) endpoint: Endpoint,
    tls: Option<Arc<ClientConfig>>,
    /// A bound on connecting.
    connect_timeout: Duration,
    /// A bound on an answer that is held whole.
    timeout: Duration,
}

impl Wire {
    /// Blocks, where certificates have to be read.
    pub(super) fn new(
        endpoint: Endpoint,
        trust: &Trust,
        connect_timeout: Duration,
        timeout: Duration,
    ) -> Result<Self, EngineError> {
        let tls = match &endpoint.address {
            Address::Tcp { tls: Some(folder), .. } => Some(config(folder, trust)?),
            Address::Tcp { tls: None, .. } | Address::Unix(_) => None,
        };
        Ok(Self { endpoint, tls, connect_timeout, timeout })
    }

    /// Asks, and holds the answer: its status and its bytes, within the bound in time.
    pub(super) async fn held(&self, ask: Ask<'_>) -> Result<(u16, Bytes), EngineError> {
        let asking = async {
            let mut answer = self.begin(ask).await?;
            let mut held = BytesMut::new();
            while let Some(bytes) = chunk(&mut answer.body).await.map_err(|error| self.odd(ask, error))? {
                held.extend_from_slice(&bytes);
                if held.len() > HELD {
                    return Err(self.odd(ask, "it has no end"));
                }
            }
            Ok((answer.status, held.freeze()))
        };
        match tokio::time::timeout(self.timeout, asking).await {
            Ok(answered) => answered,
            Err(elapsed) => Err(self.unreachable(Reach::Slow, Cause::new(elapsed))),
        }
    }

    /// Asks, and waits for the answer's head as long as that takes.
    pub(super) async fn begin(&self, ask: Ask<'_>) -> Result<Answer, EngineError> {
        let (mut sender, connection) = match tokio::time::timeout(self.connect_timeout, self.connect()).await {
            Ok(connected) => connected?,
            Err(elapsed) => return Err(self.unreachable(Reach::Slow, Cause::new(elapsed))),
        };
        let (base, host) = match &self.endpoint.address {
            // What docker's own client says there; Go's server wants something.
            Address::Unix(_) => ("", "localhost".to_owned()),
            Address::Tcp { host, port, base, .. } => (base.as_str(), format!("{host}:{port}")),
        };
        let mut request = Request::new(Empty);
        *request.method_mut() = Method::from_bytes(ask.method.as_bytes()).map_err(|error| self.odd(ask, error))?;
        *request.uri_mut() = format!("{base}{}", ask.path).parse().map_err(|error| self.odd(ask, error))?;
        request.headers_mut().insert(HOST, HeaderValue::from_str(&host).map_err(|error| self.odd(ask, error))?);
        request.headers_mut().insert(USER_AGENT, AGENT);
        let response: Response<Incoming> = match sender.send_request(request).await {
            Ok(response) => response,
            // Who speaks something else than HTTP.
            Err(error) if error.is_parse() => return Err(self.odd(ask, error)),
            Err(error) => return Err(self.unreachable(Reach::Broken, Cause::new(error))),
        };
        Ok(Answer { status: response.status().as_u16(), body: response.into_body(), connection })
    }

    async fn connect(&self) -> Result<(http1::SendRequest<Empty>, Connection), EngineError> {
        match &self.endpoint.address {
            Address::Unix(path) => {
                let stream = UnixStream::connect(path).await;
                let stream = stream.map_err(|error| self.unreachable(Reach::of(&error), Cause::new(error)))?;
                self.shake_hands(TokioIo::new(stream)).await
            }
            Address::Tcp { host, port, .. } => {
                let mut tcp = HttpConnector::new();
                tcp.enforce_http(false);
                tcp.set_nodelay(true);
                tcp.set_keepalive(Some(KEEPALIVE));
                tcp.set_keepalive_interval(Some(KEEPALIVE));
                let scheme = if self.tls.is_some() { "https" } else { "http" };
                let uri: http::Uri = format!("{scheme}://{host}:{port}/")
                    .parse()
                    .map_err(|error| self.unreachable(Reach::Name, Cause::new(error)))?;
                if let Some(tls) = &self.tls {
                    let stream = HttpsConnector::from((tcp, tls.clone())).call(uri).await;
                    self.shake_hands(stream.map_err(|error| self.unreachable(reach(&*error), Cause::new(error)))?).await
                } else {
                    let stream = tcp.call(uri).await;
                    self.shake_hands(stream.map_err(|error| self.unreachable(reach(&error), Cause::new(error)))?).await
                }
            }
        }
    }

    async fn shake_hands(
        &self,
        stream: impl Read + Write + Unpin + Send + 'static,
    ) -> Result<(http1::SendRequest<Empty>, Connection), EngineError> {
        let hands = http1::Builder::new().max_buf_size(BUFFER).handshake(stream).await;
        let (sender, connection) = hands.map_err(|error| self.unreachable(Reach::Broken, Cause::new(error)))?;
        // What breaks it is told to whoever waits for an answer.
        let carrying: JoinHandle<()> = tokio::spawn(async move { drop(connection.await) });
        Ok((sender, Connection(carrying.abort_handle())))
    }

    pub(super) fn odd(&self, ask: Ask<'_>, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> EngineError {
        let (endpoint, method, path) = (self.endpoint.to_string(), ask.method, ask.path.to_owned());
        EngineError::Odd { endpoint, method, path, source: Cause::new(source) }
    }

    pub(super) fn unreachable(&self, reach: Reach, source: Cause) -> EngineError {
        EngineError::Unreachable { endpoint: self.endpoint.to_string(), reach, source }
    }
}

/// The next bytes of a body; none at its end.
pub(super) async fn chunk(body: &mut Incoming) -> Result<Option<Bytes>, hyper::Error> {
    loop {
        let frame = std::future::poll_fn(|cx| std::pin::Pin::new(&mut *body).poll_frame(cx)).await;
        let Some(frame) = frame.transpose()? else { return Ok(None) };
        if let Ok(bytes) = frame.into_data() {
            return Ok(Some(bytes));
        }
    }
}

/// What became of a connection to a port.
fn reach(error: &(dyn std::error::Error + 'static)) -> Reach {
    if cause::find::<rustls::Error>(error).is_some() {
        return Reach::Tls;
    }
    let Some(error) = cause::find::<io::Error>(error) else { return Reach::Name };
    match Reach::of(error) {
        // Only sockets in the file system are missing, or forbidden to somebody.
        Reach::Missing | Reach::Denied => Reach::Broken,
        // What has no kind of its own comes from looking its name up.
        Reach::Broken if error.raw_os_error().is_none() => Reach::Name,
        reach => reach,
    }
}

/// TLS as docker does it: `ca.pem` is all that is trusted, if it is there; `cert.pem` with `key.pem` is shown.
fn config(folder: &Path, trust: &Trust) -> Result<Arc<ClientConfig>, EngineError> {
    let (ca, cert, key) = (folder.join("ca.pem"), folder.join("cert.pem"), folder.join("key.pem"));
    let mut roots = RootCertStore::empty();
    if ca.exists() {
        roots.add_parsable_certificates(Trust::load(std::slice::from_ref(&ca))?.named().iter().cloned());
    } else {
        roots.add_parsable_certificates(trust.all().iter().cloned());
    }
    let identity = |source: Cause| EngineError::Identity { folder: folder.to_owned(), source };
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = builder.map_err(|error| identity(Cause::new(error)))?.with_root_certificates(roots);
    if !cert.exists() && !key.exists() {
        return Ok(Arc::new(builder.with_no_client_auth()));
    }
    let read = |path: &Path| fs::read(path).map_err(|source| TrustError::Unreadable { path: path.to_owned(), source });
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&read(&cert)?).collect();
    let chain = chain.map_err(|error| identity(Cause::new(error)))?;
    let key = PrivateKeyDer::from_pem_slice(&read(&key)?).map_err(|error| identity(Cause::new(error)))?;
    let config = builder.with_client_auth_cert(chain, key).map_err(|error| identity(Cause::new(error)))?;
    Ok(Arc::new(config))
}

/// A request's body.
#[derive(Debug)]
pub(super) struct Empty;

impl Body for Empty {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<http_body::Frame<Bytes>, Self::Error>>> {
        std::task::Poll::Ready(None)
    }

    fn is_end_stream(&self) -> bool {
        true
    }

    fn size_hint(&self) -> http_body::SizeHint {
        http_body::SizeHint::with_exact(0)
    }
}
