//! An attempt failed: wait so long, or stop. The decision is pure; [`Retry::run`] carries it out.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::traffic::Load;
use super::{Destination, PushOptions};
use crate::event::{Event, Reporter};
use crate::registry::failure::RegistryError;

/// The first wait's upper bound.
const BASE: Duration = Duration::from_millis(500);

/// No wait is longer, unless the registry asks for it.
const CAP: Duration = Duration::from_secs(20);

/// A registry that asks for more than this is unavailable.
const MOST_ASKED: Duration = Duration::from_mins(2);

/// Bytes more that a registry must have for a cut to count as progress.
const PROGRESS: u64 = 4 * 1024 * 1024;

/// How many times `--timeout` may be lost without progress.
const TIMEOUTS: u32 = 10;

/// The least that may be lost: a short `--timeout` is no reason for fewer attempts.
const LEAST_PATIENCE: Duration = Duration::from_mins(2);

/// How long it goes on.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Further attempts without progress.
    pub retries: u32,
    /// Time that may be lost without progress.
    pub time: Duration,
}

impl Bounds {
    /// For so many `--retries` and this `--timeout`.
    #[must_use]
    pub fn new(retries: u32, timeout: Duration) -> Self {
        Self { retries, time: timeout.saturating_mul(TIMEOUTS).max(LEAST_PATIENCE) }
    }
}

/// What has failed since there was progress last.
#[derive(Debug, Clone, Copy, Default)]
pub struct Failures {
    /// Attempts.
    count: u32,
    /// Time in which nothing moved: waits, and silence.
    lost: Duration,
    /// The most bytes that the registry was known to have.
    most: u64,
}

impl Failures {
    /// How many attempts failed.
    #[must_use]
    pub fn count(&self) -> u32 {
        self.count
    }

    /// One more attempt failed, in which nothing moved for `lost`.
    pub fn add(&mut self, lost: Duration) {
        self.count = self.count.saturating_add(1);
        self.lost = self.lost.saturating_add(lost);
    }

    /// Another attempt waits for so long.
    pub fn wait(&mut self, wait: Duration) {
        self.lost = self.lost.saturating_add(wait);
    }

    /// The registry has so many bytes. Only what it never had before is progress: sessions that are lost and begun again
    /// and again are none.
    pub fn reached(&mut self, bytes: u64) {
        if bytes >= self.most.saturating_add(PROGRESS) {
            *self = Self { most: bytes, ..Self::default() };
        }
    }
}

/// How long to wait before the next attempt after these failures, or `None` to stop.
///
/// Exponential with full jitter: `random` is in 0..1. What the registry asks for is honoured as a lower bound.
#[must_use]
pub fn wait(failures: Failures, bounds: Bounds, asked: Option<Duration>, random: f64) -> Option<Duration> {
    if failures.count > bounds.retries || asked.is_some_and(|asked| asked > MOST_ASKED) {
        return None;
    }
    let ceiling = BASE.saturating_mul(2_u32.saturating_pow(failures.count.saturating_sub(1))).min(CAP);
    let wait = ceiling.mul_f64(random.clamp(0.0, 1.0)).max(asked.unwrap_or_default());
    Some(wait).filter(|wait| failures.lost.saturating_add(*wait) <= bounds.time)
}

/// Tries again what is transient.
#[derive(Clone)]
pub struct Retry {
    bounds: Bounds,
    reporter: Arc<dyn Reporter>,
    load: Arc<Load>,
}

impl Retry {
    /// Further attempts within these bounds; each wait is reported.
    pub fn new(bounds: Bounds, reporter: Arc<dyn Reporter>) -> Self {
        Self { bounds, reporter, load: Arc::default() }
    }

    /// As a push is told to, and as long as its registries may take.
    pub(super) fn of(destinations: &[Destination], options: &PushOptions, reporter: &Arc<dyn Reporter>) -> Self {
        let timeout = destinations.iter().map(|destination| destination.registry.timeout()).max().unwrap_or_default();
        Self::new(Bounds::new(options.retries, timeout), reporter.clone())
    }

    /// What is noted of refusals, and of what moves.
    #[must_use]
    pub(super) fn load(&self) -> Arc<Load> {
        self.load.clone()
    }

    /// Runs `attempt` until it succeeds, fails for good, or has been tried often enough.
    ///
    /// # Errors
    /// The last attempt's.
    pub async fn run<T>(
        &self,
        what: &str,
        mut attempt: impl AsyncFnMut() -> Result<T, RegistryError>,
    ) -> Result<T, RegistryError> {
        let mut failures = Failures::default();
        loop {
            let began = Instant::now();
            let error = match attempt().await {
                Ok(value) => return Ok(value),
                Err(error) => error,
            };
            failures.add(began.elapsed());
            let Some(wait) = self.wait(failures, &error).filter(|_| error.is_transient()) else {
                return Err(error.after(failures.count));
            };
            failures.wait(wait);
            self.report(what, &error, wait);
            tokio::time::sleep(wait).await;
        }
    }

    /// How long to wait before the next attempt at something that may be tried again; `None` if it was tried often enough.
    pub(super) fn wait(&self, failures: Failures, error: &RegistryError) -> Option<Duration> {
        if error.asks_for_less() {
            self.load.refused();
        }
        wait(failures, self.bounds, error.retry_after(), fastrand::f64())
    }

    /// Says that `what` will be tried again.
    pub(super) fn report(&self, what: &str, error: &RegistryError, wait: Duration) {
        self.reporter.report(&Event::Waiting { what: what.to_owned(), why: error.brief(), wait });
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MIB: u64 = 1024 * 1024;

    fn failed(count: u32, lost: u64) -> Failures {
        Failures { count, lost: Duration::from_secs(lost), most: 0 }
    }

    fn bounds(retries: u32) -> Bounds {
        Bounds::new(retries, Duration::from_mins(1))
    }

    #[test]
    fn grows_and_stops() {
        let check = |count, lost, expected: Option<u64>| {
            let wait = wait(failed(count, lost), bounds(8), None, 1.0);
            assert_eq!(wait, expected.map(Duration::from_millis), "{count} {lost}");
        };
        check(1, 0, Some(500));
        check(2, 0, Some(1000));
        check(4, 0, Some(4000));
        check(8, 0, Some(20_000));
        check(9, 0, None);
        check(8, 580, Some(20_000));
        check(8, 581, None);
        check(1, 600, None);
        let asked = |retries, asked| wait(failed(1, 0), bounds(retries), asked, 0.0);
        assert_eq!(wait(failed(1, 0), bounds(0), None, 0.5), None);
        assert_eq!(asked(5, Some(Duration::from_secs(7))), Some(Duration::from_secs(7)));
        assert_eq!(asked(5, Some(Duration::from_hours(1))), None);
    }

    #[test]
    fn a_short_timeout_is_no_reason_for_fewer_attempts() {
        assert_eq!(Bounds::new(5, Duration::from_secs(1)).time, Duration::from_mins(2));
        assert_eq!(Bounds::new(5, Duration::from_mins(5)).time, Duration::from_mins(50));
    }

    #[test]
    fn progress_is_what_was_never_there_before() {
        let mut failures = Failures::default();
        let mut check = |bytes: u64, expected: u32| {
            failures.add(Duration::from_secs(1));
            failures.reached(bytes);
            assert_eq!((failures.count, failures.lost.as_secs()), (expected, u64::from(expected)), "{bytes}");
        };
        check(0, 1);
        check(3 * MIB, 2);
        check(4 * MIB, 0);
        check(7 * MIB, 1);
        check(8 * MIB, 0);
        check(0, 1);
        check(8 * MIB, 2);
        check(100 * MIB, 0);
    }

    proptest! {
        #[test]
        fn bounded(count in 1_u32.., retries: u32, random in 0.0..1.0_f64) {
            if let Some(wait) = wait(failed(count, 0), bounds(retries), None, random) {
                prop_assert!(wait <= CAP && count <= retries);
            }
        }

        /// However little or much each attempt brings, it ends.
        #[test]
        fn ends(size in 1_u64..1 << 36, reached in prop::collection::vec(any::<prop::sample::Index>(), 1..50)) {
            let (mut failures, mut attempts) = (Failures::default(), 0_u64);
            let mut reached = reached.into_iter().cycle();
            while wait(failures, bounds(5), None, 0.0).is_some() {
                failures.add(Duration::ZERO);
                failures.reached(reached.next().map_or(0, |at| at.index(usize::MAX) as u64 % size));
                attempts += 1;
                prop_assert!(attempts <= 6 * (2 + size / PROGRESS));
            }
        }
    }
}
