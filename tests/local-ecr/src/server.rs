//! Listens, notes each request in the journal, lets faults strike, and hands over to the API or the registry.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fmt;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hyper::body::Incoming;
use hyper::header::{AUTHORIZATION, CONTENT_RANGE, HOST, HeaderMap};
use hyper::{Method, Request, Response};
use tokio::net::{TcpListener, TcpStream};

use crate::auth::Signer;
use crate::body::{Broken, Inbound, Outbound};
use crate::config::{Config, RegistryId};
use crate::connection;
use crate::fault::{FaultKind, words};
use crate::invariants::{Violation, is_stray_credential};
use crate::journal::{Answer, Credential, Entry, Journal, Side};
use crate::link::SharedLink;
use crate::reply::{Refusal, Reply, error_reply};
use crate::route::Route;
use crate::spoil::BodyFault;
use crate::state::State;
use crate::store::Store;
use crate::sync::lock;
use crate::tls::Tls;
use crate::{api, identity, registry};

/// What all connections share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) config: Config,
    pub(crate) journal: Journal,
    pub(crate) store: Store,
    pub(crate) state: Mutex<State>,
    pub(crate) activity: Activity,
    pub(crate) addresses: Addresses,
    pub(crate) tls: Option<Tls>,
    pub(crate) link: Option<SharedLink>,
}

/// Where the server listens.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Addresses {
    pub(crate) api: SocketAddr,
    pub(crate) registry: SocketAddr,
    pub(crate) identity: SocketAddr,
    pub(crate) elsewhere: SocketAddr,
}

impl Addresses {
    fn of(self, side: Side) -> SocketAddr {
        match side {
            Side::Api => self.api,
            Side::Registry => self.registry,
            Side::Identity => self.identity,
            Side::Elsewhere => self.elsewhere,
        }
    }
}

impl Shared {
    /// The scheme of all its URLs.
    pub(crate) fn scheme(&self) -> &'static str {
        if self.tls.is_some() { "https" } else { "http" }
    }

    pub(crate) fn violate(&self, violation: Violation) {
        lock(&self.state).violations.push(violation);
    }

    /// Notes a request that nothing here knows.
    pub(crate) fn unknown(&self, call: &Call) -> Reply {
        self.violate(Violation::UnknownRequest { request: call.to_string() });
        Reply::new(404).header("Content-Type", "text/plain; charset=utf-8").body("404 page not found\n")
    }
}

/// How much is going on, so that a check can wait until nothing is.
#[derive(Debug, Default)]
pub(crate) struct Activity {
    requests: Arc<AtomicUsize>,
    connections: Arc<AtomicUsize>,
}

impl Activity {
    pub(crate) fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }

    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

/// Counts for as long as it lives.
struct Counted(Arc<AtomicUsize>);

impl Counted {
    fn new(counter: &Arc<AtomicUsize>) -> Self {
        counter.fetch_add(1, Ordering::SeqCst);
        Self(Arc::clone(counter))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// A request's head, read.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) side: Side,
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) query: BTreeMap<String, String>,
    pub(crate) host: String,
    pub(crate) headers: HeaderMap,
    pub(crate) route: Option<Route>,
    /// The registry that the host names, or else the one at home.
    pub(crate) registry: RegistryId,
    pub(crate) credential: Credential,
    target: String,
}

/// Method, path and query.
impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.method, self.target)
    }
}

impl Call {
    fn read(shared: &Shared, side: Side, request: hyper::http::request::Parts) -> Self {
        let headers = request.headers;
        let text = |name| headers.get(name).and_then(|value: &hyper::header::HeaderValue| value.to_str().ok());
        // HTTP/2 has it in the URI.
        let authority = request.uri.authority().map(hyper::http::uri::Authority::as_str);
        let host = text(HOST.as_str()).or(authority).unwrap_or_default().to_owned();
        let registry = shared.config.registry_at(&host);
        let path = request.uri.path().to_owned();
        let query = request.uri.query().unwrap_or_default();
        let query = form_urlencoded::parse(query.as_bytes()).into_owned().collect();
        let target = request.uri.path_and_query().map_or_else(|| path.clone(), ToString::to_string);
        let route = if side == Side::Registry { Route::parse(&path) } else { None };
        let credential = match (side, text(AUTHORIZATION.as_str())) {
            (_, None) => Credential::Absent,
            (Side::Registry, header) => {
                lock(&shared.state).tokens.check(header, &registry, shared.config.token_lifetime)
            }
            // The API and those who hand out credentials judge for themselves and correct this; elsewhere none is good.
            (Side::Api | Side::Identity | Side::Elsewhere, Some(_)) => Credential::Wrong,
        };
        Self { side, method: request.method, path, query, host, headers, route, registry, credential, target }
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    pub(crate) fn authorization(&self) -> Option<&str> {
        self.header(AUTHORIZATION.as_str())
    }

    /// Whether this text is anywhere in the head.
    pub(crate) fn holds(&self, text: &str) -> bool {
        let has = |bytes: &[u8]| bytes.windows(text.len().max(1)).any(|window| window == text.as_bytes());
        has(self.target.as_bytes()) || self.headers.values().any(|value| has(value.as_bytes()))
    }

    fn entry(&self) -> Entry {
        let route = self.route.as_ref();
        let owned = |text: Option<&str>| text.map(str::to_owned);
        let accept: Vec<_> = self.headers.get_all("accept").iter().filter_map(|value| value.to_str().ok()).collect();
        Entry {
            sequence: 0,
            at: Duration::ZERO,
            side: self.side,
            method: self.method.to_string(),
            path: self.target.clone(),
            host: self.host.clone(),
            credential: self.credential,
            bytes: 0,
            answer: Answer::Pending,
            actions: Vec::new(),
            signed: self.authorization().and_then(Signer::read).map(|signer| signer.noted()),
            parameters: BTreeMap::new(),
            repository: owned(route.and_then(Route::repository)),
            digest: owned(route.and_then(Route::digest))
                .or_else(|| self.query.get("digest").or(self.query.get("mount")).cloned()),
            tag: owned(route.and_then(Route::tag)),
            content_range: owned(self.header(CONTENT_RANGE.as_str())),
            range: owned(self.header("range")),
            accept: (!accept.is_empty()).then(|| accept.join(", ")),
        }
    }
}

/// Accepts connections for as long as the runtime lives.
pub(crate) async fn listen(shared: Arc<Shared>, side: Side, listener: TcpListener) {
    loop {
        // A connection that failed before it was accepted is its client's business.
        if let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(Arc::clone(&shared), side, stream));
        }
    }
}

async fn serve(shared: Arc<Shared>, side: Side, stream: TcpStream) {
    let _open = Counted::new(&shared.activity.connections);
    // A connection that comes to no HTTP is its client's business, too.
    let _ = connection::serve(shared, side, stream).await;
}

/// Makes hyper close the connection without a reply.
#[derive(Debug)]
pub(crate) struct Closed;

impl fmt::Display for Closed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the connection is to be closed")
    }
}

impl std::error::Error for Closed {}

/// How a request ended.
enum End {
    Reply {
        reply: Reply,
        delay: Duration,
        body: Option<BodyFault>,
    },
    Cut,
    /// The body is held unread: were it dropped, hyper would read on.
    Stalled(Inbound),
}

/// Answers one request.
pub(crate) async fn answer(
    shared: Arc<Shared>,
    side: Side,
    request: Request<Incoming>,
) -> Result<Response<Outbound>, Closed> {
    let busy = Counted::new(&shared.activity.requests);
    let (head, body) = request.into_parts();
    let call = Call::read(&shared, side, head);
    if is_stray_credential(&call, shared.addresses.of(side).port()) || identity::is_stray(&shared, &call) {
        shared.violate(Violation::StrayCredential { host: call.host.clone(), request: call.to_string() });
    }
    let (sequence, received) = shared.journal.begin(call.entry());
    let inbound = Inbound::new(body, received, Arc::clone(&shared.journal.moments));
    // In a task of its own: hyper drops this future together with the connection, but what arrived
    // before a cut is to be kept (facts/ecr.md, Uploading).
    let task = tokio::spawn(act(Arc::clone(&shared), call, sequence, inbound, busy));
    match task.await {
        Ok(End::Reply { reply, delay, body }) => {
            tokio::time::sleep(delay).await;
            if let Some(session) = &reply.session
                && reply.headers.contains_key("location")
                && let Some(session) = lock(&shared.state).sessions.get_mut(session)
            {
                session.told = true;
            }
            Ok(reply.into_response(body))
        }
        Ok(End::Cut) | Err(_) => Err(Closed),
        Ok(End::Stalled(unread)) => {
            let never: Infallible = std::future::pending().await;
            drop(unread);
            match never {}
        }
    }
}

/// Acts on a request, as far as faults let it.
async fn act(shared: Arc<Shared>, call: Call, sequence: usize, mut inbound: Inbound, _busy: Counted) -> End {
    let fault = {
        let mut state = lock(&shared.state);
        let (method, target) = (call.method.as_str(), call.target.as_str());
        let operation = call.header("x-amz-target").unwrap_or_default();
        let path = if call.side == Side::Api { operation } else { target };
        // Every fault counts every request, so that two faults don't shift each other.
        let struck: Vec<_> =
            state.faults.iter_mut().filter_map(|fault| fault.strike(call.side, method, path)).collect();
        let struck = struck.into_iter().next();
        if let (Some(_), "DELETE", Some(Route::Session { id, .. })) = (&struck, method, &call.route)
            && let Some(session) = state.sessions.get_mut(id)
        {
            // The client did what it could.
            session.given_up = true;
        }
        struck
    };
    let end = match fault {
        Some(FaultKind::Cut) => End::Cut,
        Some(FaultKind::Stall) => End::Stalled(inbound),
        Some(FaultKind::Status { status, headers, body }) => {
            inbound.drain();
            let reply = Reply::new(status).header("Docker-Distribution-Api-Version", "registry/2.0").body(body);
            let reply = headers.iter().fold(reply, |reply, (name, value)| reply.header(name, value));
            End::Reply { reply, delay: Duration::ZERO, body: None }
        }
        Some(FaultKind::Redirect(place)) => {
            inbound.drain();
            let reply = Reply::new(307).header("Location", &place);
            End::Reply { reply, delay: Duration::ZERO, body: None }
        }
        fault => {
            match fault {
                Some(FaultKind::CutAfter(bytes)) => inbound.break_after(bytes, Broken::Cut),
                Some(FaultKind::StallAfter(bytes)) => inbound.break_after(bytes, Broken::Stall),
                Some(FaultKind::StatusAfter(bytes, _)) => inbound.break_after(bytes, Broken::Refuse),
                _ => (),
            }
            let outcome = handle(&shared, &call, sequence, &mut inbound).await;
            spoil(outcome, fault, &call, inbound)
        }
    };
    shared.journal.answer(
        sequence,
        match &end {
            End::Reply { reply, .. } => Answer::Status(reply.status),
            End::Cut => Answer::Cut,
            End::Stalled(_) => Answer::Stalled,
        },
    );
    end
}

async fn handle(shared: &Arc<Shared>, call: &Call, sequence: usize, inbound: &mut Inbound) -> Result<Reply, Refusal> {
    match call.side {
        Side::Api => api::handle(shared, call, sequence, inbound).await,
        Side::Registry => registry::handle(shared, call, sequence, inbound).await,
        Side::Identity => identity::handle(shared, call, sequence, inbound).await,
        Side::Elsewhere => Ok(error_reply(404, "UNKNOWN", "Nothing is here")),
    }
}

/// Does to the outcome of a request what its fault demands.
fn spoil(outcome: Result<Reply, Refusal>, fault: Option<FaultKind>, call: &Call, inbound: Inbound) -> End {
    let mut reply = match outcome {
        Ok(reply) => reply,
        Err(Refusal::Reply(reply)) => *reply,
        Err(Refusal::Cut) => return End::Cut,
        Err(Refusal::Stall) => return End::Stalled(inbound),
        Err(Refusal::Fault) => match fault {
            Some(FaultKind::StatusAfter(_, status)) => {
                let (code, message) = words(status);
                error_reply(status, code, message)
            }
            _ => return End::Cut,
        },
    };
    inbound.drain();
    let mut delay = Duration::ZERO;
    let mut body = None;
    match fault {
        Some(FaultKind::CutReply) => return End::Cut,
        // A HEAD's reply has no body in which it could break off.
        Some(FaultKind::TruncatedReply) => body = Some(BodyFault::Halve),
        Some(FaultKind::TruncatedReplyAfter(bytes)) => body = Some(BodyFault::Truncate(bytes)),
        Some(FaultKind::StalledReplyAfter(bytes)) => body = Some(BodyFault::Stall(bytes)),
        Some(FaultKind::SlowReply { bytes, every }) => body = Some(BodyFault::Drip(bytes, every)),
        Some(FaultKind::Delay(time)) => delay = time,
        Some(FaultKind::Header { name, value }) => reply.set(&name, value.as_deref()),
        _ => (),
    }
    body = body.filter(|_| call.method != Method::HEAD);
    End::Reply { reply, delay, body }
}
