//! Uploads what is lacking: the largest first, small ones in the gaps, and as many at once as the pace says.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::future::FutureExt;
use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio::time::{Instant, MissedTickBehavior};

use super::mounts::Mounts;
use tokio_util::sync::CancellationToken;

use super::pace::{Bucket, Flight, Lanes};
use super::presence::Presence;
use super::reader::Pool;
use super::upload::{UploadError, Uploader};
use super::{Arrival, Outcome, PushError, Run};
use crate::image::Blob;
use crate::plan::{Plan, Survey, Upload};

/// How often the rate is looked at.
const LOOK: Duration = Duration::from_millis(500);

/// Sessions that ECR lets be opened in a second, and at once; less than its quota, which other pushes may need as well
/// (facts/ecr.md, Speed).
const SESSIONS: u32 = 90;

/// What uploads have come to so far, for the pace.
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

/// What is under way, and what it has shown so far.
struct Traffic {
    start: Instant,
    lanes: Lanes,
    flight: Flight,
    /// When `moved` bytes had moved and `refused` refusals had come.
    looked: Duration,
    moved: u64,
    refused: u64,
}

impl Traffic {
    fn new(jobs: usize) -> Self {
        let (lanes, flight) = (Lanes::new(jobs), Flight::default());
        Self { start: Instant::now(), lanes, flight, looked: Duration::ZERO, moved: 0, refused: 0 }
    }

    fn admits(&self, blob: &Blob) -> bool {
        self.lanes.admits(self.flight, Flight::of(blob.size))
    }

    /// Takes in what happened since the last look.
    fn look(&mut self, load: &Load, waiting: bool) {
        let now = self.start.elapsed();
        let refused = load.refused.load(Ordering::Relaxed);
        if refused > std::mem::replace(&mut self.refused, refused) {
            self.lanes.refused(now, self.flight);
        }
        let passed = now.saturating_sub(self.looked);
        if passed >= LOOK {
            let moved = load.moved.load(Ordering::Relaxed);
            #[expect(clippy::cast_precision_loss, reason = "a rate is no account")]
            let rate = (moved - self.moved) as f64 / passed.as_secs_f64();
            self.lanes.measured(now, rate, self.flight, waiting);
            (self.looked, self.moved) = (now, moved);
            tracing::debug!(rate, ?self.lanes, ?self.flight, "pace");
        }
    }
}

impl Run<'_> {
    /// Uploads the plan's blobs. A target that fails gets no more of them; when all have failed the rest is stopped at once.
    pub(super) async fn upload(
        &self,
        plan: &Plan,
        surveys: &[Option<Survey>],
        mounts: &Mounts<'_>,
        outcomes: &mut [Outcome],
    ) {
        let presences = self.destinations.iter().zip(surveys).map(|(destination, survey)| {
            let survey = survey.as_ref().filter(|survey| survey.blobs_unasked)?;
            Presence::watch(self.image, survey, &destination.registry, &destination.target.repository.name)
        });
        let uploader = Uploader {
            destinations: self.destinations,
            stops: self.destinations.iter().map(|_| CancellationToken::new()).collect(),
            root: &self.image.root().manifest.digest,
            retry: &self.retry,
            sessions: self.sessions,
            reporter: self.reporter,
            mounts,
            presences: presences.collect(),
            pool: Pool::default(),
            attempts: AtomicU64::new(0),
        };
        let mut failures: Vec<Vec<UploadError>> = outcomes.iter().map(|_| Vec::new()).collect();
        let needed = |upload: &Upload, failures: &[Vec<UploadError>]| -> Vec<usize> {
            upload.targets.iter().copied().filter(|target| failures[*target].is_empty()).collect()
        };
        let load = self.retry.load();
        let mut traffic = Traffic::new(self.options.jobs);
        let mut sessions = Bucket::new(SESSIONS, SESSIONS);
        let mut waiting: Vec<(&Upload, &Blob)> =
            plan.uploads.iter().filter_map(|upload| Some((upload, self.image.blob(&upload.digest)?))).collect();
        let mut flying = FuturesUnordered::new();
        let mut looks = tokio::time::interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            while let Some(at) = waiting.iter().position(|(_, blob)| traffic.admits(blob)) {
                let (upload, blob) = waiting.remove(at);
                let targets = needed(upload, &failures);
                if targets.is_empty() {
                    continue;
                }
                traffic.flight = traffic.flight.and(Flight::of(blob.size));
                let on_ecr = targets.iter().filter(|target| self.destinations[**target].is_ecr());
                let now = traffic.start.elapsed();
                let wait = on_ecr.map(|_| sessions.admit(now)).max().unwrap_or_default();
                let uploader = &uploader;
                flying.push(async move {
                    if !wait.is_zero() {
                        tokio::time::sleep(wait).await;
                    }
                    (blob, uploader.upload(blob, &targets).await)
                });
            }
            let mut landed = tokio::select! {
                landed = flying.next() => match landed {
                    Some(landed) => vec![landed],
                    None => break,
                },
                _ = looks.tick() => Vec::new(),
            };
            // What failed at the same time is said with it.
            landed.extend(std::iter::from_fn(|| flying.next().now_or_never().flatten()));
            for (blob, results) in landed {
                traffic.flight = traffic.flight.without(Flight::of(blob.size));
                for (target, result) in results {
                    match result {
                        Ok(Arrival::Uploaded) => outcomes[target].uploaded.add(blob.size),
                        Ok(Arrival::Mounted { .. }) => outcomes[target].mounted.add(blob.size),
                        Ok(Arrival::Present) => {}
                        Err(error) => failures[target].push(error),
                    }
                }
            }
            traffic.look(&load, !waiting.is_empty());
        }
        if failures.iter().any(|failures| !failures.is_empty()) {
            // What was being opened when it was stopped.
            self.sessions.cancel_all().await;
        }
        for (outcome, mut failures) in outcomes.iter_mut().zip(failures) {
            let error = if failures.len() > 1 {
                Some(PushError::Uploads { failures })
            } else {
                failures.pop().map(PushError::Upload)
            };
            outcome.error = outcome.error.take().or(error);
        }
    }
}
