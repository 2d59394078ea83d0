//! How long another process that uses SOURCE is waited for.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use crate::event::{Event, Reporter};

/// How many times `--timeout` another process that uses SOURCE is waited for: it may be in the middle of a push.
const PATIENCE: u32 = 10;

/// Whether to go on waiting for a layout that somebody else uses; says once that it is waited for.
pub(crate) fn patience(
    path: &Path,
    timeout: Duration,
    reporter: &Arc<dyn Reporter>,
    cancel: &CancellationToken,
) -> impl FnMut() -> bool + Send + 'static + use<> {
    let (path, reporter, cancel): (PathBuf, _, _) = (path.to_owned(), reporter.clone(), cancel.clone());
    let (bound, mut since) = (timeout.saturating_mul(PATIENCE), None);
    move || {
        let began = *since.get_or_insert_with(|| {
            let text = format!("waiting for another process that uses {}", path.display());
            reporter.report(&Event::Warning { text });
            Instant::now()
        });
        !cancel.is_cancelled() && began.elapsed() < bound
    }
}
