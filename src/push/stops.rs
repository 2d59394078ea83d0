//! What failed for good at a destination stops everything else that is under way to it.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

/// How long what is under way may still end by itself when something else has failed.
const GRACE: Duration = Duration::from_millis(500);

/// For each destination whether something failed there for good, and nothing more is to be sent.
#[derive(Debug, Clone)]
pub(super) struct Stops(Vec<CancellationToken>);

impl Stops {
    /// Nothing has failed at any of so many destinations.
    pub(super) fn new(destinations: usize) -> Self {
        Self((0..destinations).map(|_| CancellationToken::new()).collect())
    }

    /// Something has failed for good at this destination.
    pub(super) fn stop(&self, target: usize) {
        self.0[target].cancel();
    }

    /// Whether something has.
    pub(super) fn is_stopped(&self, target: usize) -> bool {
        self.0[target].is_cancelled()
    }

    /// Ends when something has.
    pub(super) async fn stopped(&self, target: usize) {
        self.0[target].cancelled().await;
    }

    /// Does something at a destination, as long as nothing else fails there for good, and for a moment longer: what was under
    /// way with it and fails for the same reason is to be reported with it.
    pub(super) async fn unless<T>(&self, target: usize, what: impl Future<Output = T>) -> Option<T> {
        let stopped = async {
            self.stopped(target).await;
            tokio::time::sleep(GRACE).await;
        };
        tokio::select! {
            biased;
            done = what => Some(done),
            () = stopped => None,
        }
    }
}
