//! Opens connections: directly or through a proxy, plain or TLS; some of them before anybody asks.

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use std::{io, vec};

use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_rustls::{HttpsConnector, MaybeHttpsStream};
use hyper_util::client::legacy::connect::dns::Name;
use hyper_util::client::legacy::connect::proxy::Tunnel;
use hyper_util::client::legacy::connect::{Connected, Connection, HttpConnector};
use hyper_util::client::proxy::matcher::{Intercept, Matcher};
use hyper_util::rt::TokioIo;
use reqwest::header::{HeaderMap, HeaderValue, USER_AGENT};
use rustls::ClientConfig;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tower_service::Service;

use super::AGENT;
use crate::names::{self, Nameless};
use crate::trust::Trust;

type BoxError = Box<dyn std::error::Error + Send + Sync>;
type Opening<T> = Pin<Box<dyn Future<Output = Result<T, BoxError>> + Send>>;
type Plain = HttpConnector<Names>;

/// An open connection.
pub(super) type Stream = MaybeHttpsStream<Line>;

/// A connection that was opened ahead and not used for so long may have been closed by the other side.
const FRESH: Duration = Duration::from_secs(15);

/// Opens connections, or hands out one that was opened ahead.
#[derive(Clone)]
pub(super) struct Connector {
    tcp: Plain,
    trust: Trust,
    proxies: Option<Arc<Matcher>>,
    timeout: Duration,
    ahead: Arc<Mutex<HashMap<String, Vec<Ahead>>>>,
}

/// A connection that nobody has asked for yet.
struct Ahead {
    since: Instant,
    opening: JoinHandle<Result<Stream, BoxError>>,
}

impl Connector {
    pub(super) fn new(trust: &Trust, timeout: Duration, direct: bool) -> Self {
        let mut tcp = HttpConnector::new_with_resolver(Names);
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(timeout));
        let proxies = (!direct).then(|| Arc::new(Matcher::from_system()));
        Self { tcp, trust: trust.clone(), proxies, timeout, ahead: Arc::default() }
    }

    /// Opens so many connections to where `uri` is, for those who will ask for one.
    pub(super) fn connect_ahead(&self, uri: &http::Uri, connections: usize) {
        let openings = (0..connections).map(|_| Ahead { since: Instant::now(), opening: tokio::spawn(self.open(uri)) });
        self.lock().entry(place(uri)).or_default().extend(openings);
    }

    /// What a proxy wants to see of each request that isn't tunnelled.
    pub(super) fn proxy_authorization(&self, uri: &http::Uri) -> Option<HeaderValue> {
        let plain = uri.scheme_str() == Some("http");
        let intercept = self.proxies.as_ref().filter(|_| plain)?.intercept(uri)?;
        intercept.basic_auth().cloned()
    }

    fn open(&self, uri: &http::Uri) -> impl Future<Output = Result<Stream, BoxError>> + Send + 'static {
        let (this, uri) = (self.clone(), uri.clone());
        async move { tokio::time::timeout(this.timeout, this.connect(uri)).await? }
    }

    async fn connect(&self, uri: http::Uri) -> Result<Stream, BoxError> {
        let proxy = self.proxies.as_ref().and_then(|proxies| proxies.intercept(&uri));
        let secure = |uri: &http::Uri| uri.scheme_str() == Some("https");
        let tls = if secure(&uri) || proxy.as_ref().is_some_and(|proxy| secure(proxy.uri())) {
            let trust = self.trust.clone();
            // One configuration for all connections: later ones resume the TLS session of earlier ones.
            Some(tokio::task::spawn_blocking(move || trust.tls()).await??)
        } else {
            None
        };
        let mut way = Way { tcp: self.tcp.clone(), tls: tls.clone(), proxy };
        match tls.filter(|_| secure(&uri)) {
            Some(tls) => HttpsConnector::from((way, tls)).call(uri).await,
            None => Ok(MaybeHttpsStream::Http(way.call(uri).await?)),
        }
    }

    /// A connection that was opened ahead; one that is open already rather than one that is still to be.
    fn take(&self, uri: &http::Uri) -> Option<Ahead> {
        let mut ahead = self.lock();
        let openings = ahead.get_mut(&place(uri))?;
        openings.retain(|ahead| ahead.since.elapsed() < FRESH);
        let open = openings.iter().position(|ahead| ahead.opening.is_finished());
        (!openings.is_empty()).then(|| openings.remove(open.unwrap_or(0)))
    }

    /// Forgets the connections that were opened ahead: where one fails the others are no better.
    fn forget(&self, uri: &http::Uri) {
        self.lock().remove(&place(uri));
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, Vec<Ahead>>> {
        self.ahead.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Scheme, host and port.
fn place(uri: &http::Uri) -> String {
    format!("{}://{}", uri.scheme_str().unwrap_or_default(), uri.authority().map_or("", |authority| authority.as_str()))
}

impl Service<http::Uri> for Connector {
    type Response = Stream;
    type Error = BoxError;
    type Future = Opening<Stream>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: http::Uri) -> Self::Future {
        let this = self.clone();
        Box::pin(async move {
            let Some(ahead) = this.take(&uri) else { return this.open(&uri).await };
            let opened = ahead.opening.await?;
            if opened.is_err() {
                this.forget(&uri);
            }
            opened
        })
    }
}

/// The way to a host, up to where TLS begins: straight, through a proxy's tunnel, or to a proxy that passes requests on.
#[derive(Clone)]
struct Way {
    tcp: Plain,
    tls: Option<Arc<ClientConfig>>,
    proxy: Option<Intercept>,
}

impl Service<http::Uri> for Way {
    type Response = Line;
    type Error = BoxError;
    type Future = Opening<Line>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: http::Uri) -> Self::Future {
        let mut first = First { tcp: self.tcp.clone(), tls: self.tls.clone() };
        let Some(proxy) = self.proxy.clone() else {
            first.tls = None;
            return Box::pin(async move { Ok(Line { stream: first.call(uri).await?, passed_on: false }) });
        };
        if uri.scheme_str() == Some("http") {
            let opening = first.call(proxy.uri().clone());
            return Box::pin(async move { Ok(Line { stream: opening.await?, passed_on: true }) });
        }
        let agent = HeaderMap::from_iter([(USER_AGENT, AGENT)]);
        let mut tunnel = Tunnel::new(proxy.uri().clone(), first).with_headers(agent);
        if let Some(authorization) = proxy.basic_auth() {
            tunnel = tunnel.with_auth(authorization.clone());
        }
        let opening = tunnel.call(uri);
        Box::pin(async move { Ok(Line { stream: opening.await?, passed_on: false }) })
    }
}

/// The first stretch of the way: to the host itself, or to a proxy, which may speak TLS as well.
#[derive(Clone)]
struct First {
    tcp: Plain,
    tls: Option<Arc<ClientConfig>>,
}

impl Service<http::Uri> for First {
    type Response = MaybeHttpsStream<TokioIo<TcpStream>>;
    type Error = BoxError;
    type Future = Opening<Self::Response>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: http::Uri) -> Self::Future {
        if let Some(tls) = &self.tls {
            return HttpsConnector::from((self.tcp.clone(), tls.clone())).call(uri);
        }
        let opening = self.tcp.call(uri);
        Box::pin(async move { Ok(MaybeHttpsStream::Http(opening.await?)) })
    }
}

/// A connection's bytes, before TLS.
pub(super) struct Line {
    stream: MaybeHttpsStream<TokioIo<TcpStream>>,
    /// Whether a proxy at its end passes requests on, and has to be told whole URLs.
    passed_on: bool,
}

impl Connection for Line {
    fn connected(&self) -> Connected {
        self.stream.connected().proxy(self.passed_on)
    }
}

impl Read for Line {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl Write for Line {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bytes)
    }
}

/// Looks names up as the rest of the program does.
#[derive(Debug, Clone)]
struct Names;

impl Service<Name> for Names {
    type Response = vec::IntoIter<std::net::SocketAddr>;
    type Error = Nameless;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Nameless>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Nameless>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        Box::pin(async move { names::lookup(name.as_str()).await })
    }
}
