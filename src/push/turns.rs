//! Manifests and tags wait for their turn, where the registry counts them.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::time::Instant;

use super::pace::Window;

/// Manifests that are written in a second: ECR takes 10, of all who push to the account's region (facts/ecr.md, Speed).
const A_SECOND: usize = 9;

/// The turns of one registry, however many repositories are pushed to.
#[derive(Debug, Clone)]
pub struct Turns {
    start: Instant,
    window: Arc<Mutex<Window>>,
}

impl Default for Turns {
    fn default() -> Self {
        Self { start: Instant::now(), window: Arc::new(Mutex::new(Window::new(A_SECOND))) }
    }
}

impl Turns {
    /// Waits until one more manifest may be written.
    pub(super) async fn next(&self) {
        let wait = self.window.lock().unwrap_or_else(PoisonError::into_inner).admit(self.start.elapsed());
        if !wait.is_zero() {
            tokio::time::sleep(wait).await;
        }
    }
}
