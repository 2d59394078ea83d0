//! An attempt failed: wait so long, or stop. The decision is pure; [`Retry::run`] carries it out.

use std::sync::Arc;
use std::time::Duration;

use super::blobs::Load;
use crate::event::{Event, Reporter};
use crate::registry::failure::RegistryError;

/// The first wait's upper bound.
const BASE: Duration = Duration::from_millis(500);

/// No wait is longer, unless the registry asks for it.
const CAP: Duration = Duration::from_secs(20);

/// A registry that asks for more than this is unavailable.
const MOST_ASKED: Duration = Duration::from_mins(2);

/// How long to wait before attempt `failed + 1`, or `None` to stop.
///
/// Exponential with full jitter: `random` is in 0..1. What the registry asks for is honoured as a lower bound.
#[must_use]
pub fn wait(failed: u32, retries: u32, asked: Option<Duration>, random: f64) -> Option<Duration> {
    if failed > retries || asked.is_some_and(|asked| asked > MOST_ASKED) {
        return None;
    }
    let ceiling = BASE.saturating_mul(2_u32.saturating_pow(failed.saturating_sub(1))).min(CAP);
    Some(ceiling.mul_f64(random.clamp(0.0, 1.0)).max(asked.unwrap_or_default()))
}

/// Tries again what is transient.
#[derive(Clone)]
pub struct Retry {
    retries: u32,
    reporter: Arc<dyn Reporter>,
    load: Arc<Load>,
}

impl Retry {
    /// At most `retries` further attempts; each wait is reported.
    pub fn new(retries: u32, reporter: Arc<dyn Reporter>) -> Self {
        Self { retries, reporter, load: Arc::default() }
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
        let mut failed = 0;
        loop {
            let error = match attempt().await {
                Ok(value) => return Ok(value),
                Err(error) => error,
            };
            failed += 1;
            if !error.is_transient() || !self.pause(what, &error, failed).await {
                return Err(error.after(failed));
            }
        }
    }

    /// Waits before the next attempt at something that may be tried again, or says that it was tried often enough.
    pub async fn pause(&self, what: &str, error: &RegistryError, failed: u32) -> bool {
        if error.asks_for_less() {
            self.load.refused();
        }
        let Some(wait) = wait(failed, self.retries, error.retry_after(), fastrand::f64()) else { return false };
        let (what, why) = (what.to_owned(), error.brief());
        self.reporter.report(&Event::Waiting { what, why, wait });
        tokio::time::sleep(wait).await;
        true
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn grows_and_stops() {
        let check = |failed, expected: Option<u64>| {
            assert_eq!(wait(failed, 8, None, 1.0), expected.map(Duration::from_millis), "{failed}");
        };
        check(1, Some(500));
        check(2, Some(1000));
        check(4, Some(4000));
        check(8, Some(20_000));
        check(9, None);
        assert_eq!(wait(1, 0, None, 0.5), None);
        assert_eq!(wait(1, 5, Some(Duration::from_secs(7)), 0.0), Some(Duration::from_secs(7)));
        assert_eq!(wait(1, 5, Some(Duration::from_hours(1)), 0.0), None);
    }

    proptest! {
        #[test]
        fn bounded(failed in 1_u32.., retries: u32, random in 0.0..1.0_f64) {
            if let Some(wait) = wait(failed, retries, None, random) {
                prop_assert!(wait <= CAP && failed <= retries);
            }
        }
    }
}
