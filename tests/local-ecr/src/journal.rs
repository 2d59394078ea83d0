//! The journal: every request that arrived, in the order of arrival, and what became of it.
//!
//! It never holds a credential, only whether one came along and whether it was good.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::sync::lock;

/// The port that a request came in on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// ECR's API.
    Api,
    /// The registry, `/v2/`.
    Registry,
    /// Those who hand out credentials: STS, instance metadata, the container endpoint, IAM Identity Center.
    Identity,
    /// A host that is neither: a place for redirects to lead to. Nothing is there.
    Elsewhere,
}

/// Whether a credential came with a request, and what it was worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Credential {
    /// None came.
    Absent,
    /// It was good.
    Valid,
    /// It was good once.
    Expired,
    /// It was never good.
    Wrong,
}

/// Who signed a request, and for what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signed {
    /// The id of the access key.
    pub access_key_id: String,
    /// The region of the signature's scope.
    pub region: String,
    /// The service of the signature's scope.
    pub service: String,
}

/// What a request got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Nothing yet.
    Pending,
    /// A reply with this status.
    Status(u16),
    /// A closed connection, by either party.
    Cut,
    /// Silence.
    Stalled,
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pending => f.write_str("pending"),
            Self::Status(status) => write!(f, "{status}"),
            Self::Cut => f.write_str("cut"),
            Self::Stalled => f.write_str("stalled"),
        }
    }
}

/// One connection, open for requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connection {
    /// When that was, since the server's start.
    pub at: Duration,
    /// The port.
    pub side: Side,
    /// Whether its TLS session is an earlier one, resumed.
    pub resumed: bool,
}

/// One request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its place in the order of arrival, from one.
    pub sequence: usize,
    /// When its head had arrived, since the server's start.
    pub at: Duration,
    /// The port.
    pub side: Side,
    /// The method.
    pub method: String,
    /// Path and query, as sent.
    pub path: String,
    /// The `Host` header.
    pub host: String,
    /// Whether a credential came along.
    pub credential: Credential,
    /// Length of the body as far as it arrived.
    pub bytes: u64,
    /// What it got.
    pub answer: Answer,
    /// The IAM actions it needs, `ecr:…`.
    pub actions: Vec<&'static str>,
    /// Who signed it.
    pub signed: Option<Signed>,
    /// What else it says of who wants to be whom: parameters of STS and IAM Identity Center that are no secrets.
    pub parameters: BTreeMap<&'static str, String>,
    /// The repository it names.
    pub repository: Option<String>,
    /// The digest it names, in path or query.
    pub digest: Option<String>,
    /// The tag it names.
    pub tag: Option<String>,
    /// The `Content-Range` header.
    pub content_range: Option<String>,
    /// The `Range` header.
    pub range: Option<String>,
    /// The `Accept` headers, joined.
    pub accept: Option<String>,
}

/// Compact: `HEAD /v2/app/manifests/v1 404`.
impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} ", self.method, self.path)?;
        match (self.side, self.actions.first()) {
            (Side::Api | Side::Identity, Some(action)) => write!(f, "{action} ")?,
            (Side::Elsewhere, _) => write!(f, "(elsewhere) ")?,
            _ => (),
        }
        write!(f, "{}", self.answer)
    }
}

/// All entries so far.
#[derive(Debug)]
pub(crate) struct Journal {
    started: Instant,
    lines: Mutex<Vec<Line>>,
    connections: Mutex<Vec<Connection>>,
    /// Called with each entry when its answer is known.
    echo: Mutex<Option<Echo>>,
    /// What happened, in moments.
    pub(crate) moments: Arc<Moments>,
}

/// The moments at which something happens: a request's head has arrived, or another 64 KiB of its body, or its answer is known
/// and not yet sent.
#[derive(Default)]
pub(crate) struct Moments {
    seen: AtomicU64,
    watch: Mutex<Option<Watch>>,
}

type Watch = Box<dyn Fn(u64) + Send>;

/// Bytes of a body from one moment to the next.
const STEP: u64 = 64 * 1024;

impl fmt::Debug for Moments {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Moments")
    }
}

impl Moments {
    pub(crate) fn seen(&self) -> u64 {
        self.seen.load(Ordering::SeqCst)
    }

    pub(crate) fn watch(&self, watch: impl Fn(u64) + Send + 'static) {
        *lock(&self.watch) = Some(Box::new(watch));
    }

    /// One more. Whoever comes next waits for whoever watches.
    fn pass(&self) {
        let watch = lock(&self.watch);
        let number = self.seen.fetch_add(1, Ordering::SeqCst) + 1;
        if let Some(watch) = &*watch {
            watch(number);
        }
    }

    /// A body had `before` bytes, and has so many more.
    pub(crate) fn received(&self, before: u64, more: u64) {
        for _ in before / STEP..(before + more) / STEP {
            self.pass();
        }
    }
}

struct Echo(Box<dyn Fn(&Entry) + Send>);

impl fmt::Debug for Echo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Echo")
    }
}

#[derive(Debug)]
struct Line {
    entry: Entry,
    /// Counts on while the body arrives.
    bytes: Arc<AtomicU64>,
}

impl Line {
    fn read(&self) -> Entry {
        Entry { bytes: self.bytes.load(Ordering::Relaxed), ..self.entry.clone() }
    }
}

impl Journal {
    pub(crate) fn new() -> Self {
        Self {
            started: Instant::now(),
            lines: Mutex::default(),
            connections: Mutex::default(),
            echo: Mutex::default(),
            moments: Arc::default(),
        }
    }

    /// Notes a connection.
    pub(crate) fn connect(&self, side: Side, resumed: bool) {
        let at = self.started.elapsed();
        lock(&self.connections).push(Connection { at, side, resumed });
    }

    pub(crate) fn connections(&self) -> Vec<Connection> {
        lock(&self.connections).clone()
    }

    /// Notes a request; gives its sequence number and the counter of its body's bytes.
    pub(crate) fn begin(&self, mut entry: Entry) -> (usize, Arc<AtomicU64>) {
        let bytes = Arc::new(AtomicU64::new(0));
        let mut lines = lock(&self.lines);
        entry.sequence = lines.len() + 1;
        entry.at = self.started.elapsed();
        let sequence = entry.sequence;
        lines.push(Line { entry, bytes: Arc::clone(&bytes) });
        drop(lines);
        self.moments.pass();
        (sequence, bytes)
    }

    /// Adds what became known of a request.
    pub(crate) fn note(&self, sequence: usize, change: impl FnOnce(&mut Entry)) {
        if let Some(line) = lock(&self.lines).get_mut(sequence - 1) {
            change(&mut line.entry);
        }
    }

    /// Notes what a request got. The first answer stands: a stalled request that ends with its
    /// connection was stalled.
    pub(crate) fn answer(&self, sequence: usize, answer: Answer) {
        self.note(sequence, |entry| {
            if entry.answer == Answer::Pending {
                entry.answer = answer;
            }
        });
        if let (Some(echo), Some(entry)) = (&*lock(&self.echo), self.entry(sequence)) {
            (echo.0)(&entry);
        }
        self.moments.pass();
    }

    pub(crate) fn entry(&self, sequence: usize) -> Option<Entry> {
        lock(&self.lines).get(sequence - 1).map(Line::read)
    }

    pub(crate) fn entries(&self) -> Vec<Entry> {
        lock(&self.lines).iter().map(Line::read).collect()
    }

    pub(crate) fn echo(&self, echo: impl Fn(&Entry) + Send + 'static) {
        *lock(&self.echo) = Some(Echo(Box::new(echo)));
    }
}
