//! What is in flight: who may join it, who has to wait, and how it goes.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::sync::futures::Notified;
use tokio::time::Instant;

use super::pace::{Bucket, Flight, Lanes};

/// Sessions that ECR lets be opened in a second, and at once; less than its quota, which other pushes may need as well
/// (facts/ecr.md, Speed).
const SESSIONS: u32 = 90;

/// So long after a refusal sessions are opened no faster.
const QUIET: Duration = Duration::from_secs(2);

/// What uploads have come to so far.
#[derive(Debug, Default)]
pub(super) struct Load {
    moved: AtomicU64,
    refused: AtomicU64,
}

impl Load {
    /// So many bytes more were taken by connections.
    pub(super) fn moved(&self, bytes: u64) {
        self.moved.fetch_add(bytes, Ordering::Relaxed);
    }

    /// A registry had too much, or a connection broke.
    pub(super) fn refused(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
    }
}

/// The uploads of one push.
#[derive(Debug)]
pub(super) struct Traffic {
    start: Instant,
    load: Arc<Load>,
    state: Mutex<State>,
    freed: Notify,
}

#[derive(Debug)]
struct State {
    lanes: Lanes,
    flight: Flight,
    sessions: Bucket,
    refusal: Option<Duration>,
    /// Those who wait for a place, the largest first; of one size, who came first.
    waiting: BTreeMap<Ticket, Flight>,
    tickets: u64,
    /// When there was a look, and what had moved and been refused until then.
    looked: Duration,
    moved: u64,
    refused: u64,
}

impl Traffic {
    /// Nothing is in flight yet, and at most `jobs` blobs will be.
    pub(super) fn new(jobs: usize, load: Arc<Load>) -> Arc<Self> {
        let (lanes, flight) = (Lanes::new(jobs), Flight::default());
        let state = State {
            lanes,
            flight,
            sessions: Bucket::new(SESSIONS),
            refusal: None,
            waiting: BTreeMap::new(),
            tickets: 0,
            looked: Duration::ZERO,
            moved: 0,
            refused: 0,
        };
        Arc::new(Self { start: Instant::now(), load, state: Mutex::new(state), freed: Notify::new() })
    }

    /// Ends when somebody has left, or when more may join, from now on.
    pub(super) fn freed(&self) -> Notified<'_> {
        self.freed.notified()
    }

    /// A lane for a new blob of `size` bytes, if it may start; `on_ecr` is how many of its targets are, and with `asks` it
    /// isn't known yet whether it has to be sent. Who was in flight before has precedence.
    pub(super) fn join(self: &Arc<Self>, size: u64, on_ecr: usize, asks: bool) -> Option<Lane> {
        let whole = Flight::of(size);
        let (one, mut state) = (if asks { Flight::QUESTION } else { whole }, self.lock());
        if !state.waiting.is_empty() || !state.lanes.admits(state.flight, one) {
            return None;
        }
        state.flight = state.flight.and(one);
        Some(Lane { traffic: self.clone(), one, whole, size, on_ecr })
    }

    /// Waits until ECR takes so many more sessions.
    pub(super) async fn turn(&self, sessions: usize) {
        let now = self.now();
        let wait = {
            let mut state = self.lock();
            (0..sessions).map(|_| state.sessions.admit(now)).max().unwrap_or_default()
        };
        if !wait.is_zero() {
            tokio::time::sleep(wait).await;
        }
    }

    /// Takes in what happened since the last look, with other blobs waiting or not.
    pub(super) fn look(&self, every: Duration, waiting: bool) {
        let (now, mut state) = (self.now(), self.lock());
        let refused = self.load.refused.load(Ordering::Relaxed);
        let flight = state.flight;
        if refused > std::mem::replace(&mut state.refused, refused) {
            state.lanes.refused(now, flight);
            if state.refusal.is_none_or(|before| now >= before + QUIET / 2) {
                state.sessions.slow_down();
                state.refusal = Some(now);
            }
        }
        let passed = now.saturating_sub(state.looked);
        if passed >= every {
            let moved = self.load.moved.load(Ordering::Relaxed);
            #[expect(clippy::cast_precision_loss, reason = "a rate is no account")]
            let rate = (moved - state.moved) as f64 / passed.as_secs_f64();
            let waiting = waiting || !state.waiting.is_empty();
            state.lanes.measured(now, rate, flight, waiting);
            if state.refusal.is_none_or(|before| now >= before + QUIET) {
                state.sessions.recover();
            }
            (state.looked, state.moved) = (now, moved);
            tracing::debug!("{rate:.0} bytes/s with {flight:?}: {:?}", state.lanes);
            drop(state);
            self.freed.notify_waiters();
        }
    }

    /// The time since the push began to send.
    fn now(&self) -> Duration {
        self.start.elapsed()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether more is in flight than is good by now.
    fn is_too_much(&self) -> bool {
        let state = self.lock();
        !state.lanes.admits(state.flight, Flight::default())
    }

    fn leave(&self, one: Flight) {
        let mut state = self.lock();
        state.flight = state.flight.without(one);
        drop(state);
        self.freed.notify_waiters();
    }

    async fn rejoin(&self, size: u64, one: Flight) {
        let waiting = Waiting::new(self, size, one);
        loop {
            let freed = self.freed();
            {
                let mut state = self.lock();
                let State { lanes, flight, waiting: all, .. } = &*state;
                let next = all.iter().find(|(_, one)| lanes.admits(*flight, **one));
                if next.is_some_and(|(ticket, _)| *ticket == waiting.ticket) {
                    state.flight = state.flight.and(one);
                    return;
                }
            }
            freed.await;
        }
    }
}

/// The blob's size and a number.
type Ticket = (Reverse<u64>, u64);

/// One who waits for a place, for as long as it lives.
struct Waiting<'a> {
    traffic: &'a Traffic,
    ticket: Ticket,
}

impl<'a> Waiting<'a> {
    fn new(traffic: &'a Traffic, size: u64, one: Flight) -> Self {
        let mut state = traffic.lock();
        state.tickets += 1;
        let ticket = (Reverse(size), state.tickets);
        state.waiting.insert(ticket, one);
        Self { traffic, ticket }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.traffic.lock().waiting.remove(&self.ticket);
        self.traffic.freed.notify_waiters();
    }
}

/// A place in the traffic, until it is dropped.
#[derive(Debug)]
pub(super) struct Lane {
    traffic: Arc<Traffic>,
    /// What it counts for now.
    one: Flight,
    /// What it counts for when it is sent.
    whole: Flight,
    /// The blob's size in bytes.
    size: u64,
    on_ecr: usize,
}

impl Lane {
    /// Waits until a first session may be opened.
    pub(super) async fn turn(&self) {
        self.traffic.turn(self.on_ecr).await;
    }

    /// Waits before another attempt, and then until there is room: a registry that asks for less gets less of those who are
    /// in flight already, too. Meanwhile the place is kept, so that nobody else is sent where one has to wait.
    pub(super) async fn wait(&mut self, pausing: impl Future<Output = ()>) {
        pausing.await;
        self.turn().await;
        if self.traffic.is_too_much() {
            self.rejoin(self.one).await;
        }
    }

    /// Waits for a place among those that are sent, now that it is known that this blob has to be.
    pub(super) async fn send(&mut self) {
        if self.one != self.whole {
            self.rejoin(self.whole).await;
        }
    }

    async fn rejoin(&mut self, one: Flight) {
        self.traffic.leave(std::mem::take(&mut self.one));
        self.traffic.rejoin(self.size, one).await;
        self.one = one;
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        self.traffic.leave(self.one);
    }
}
