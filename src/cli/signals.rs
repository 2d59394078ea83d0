//! SIGINT and SIGTERM: the first cancels the run, the second ends the process.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// What was caught so far; watches for as long as it lives.
pub(super) struct Caught {
    status: Arc<Mutex<Option<u8>>>,
    watching: JoinHandle<()>,
}

impl Caught {
    /// The exit status that the first signal asks for, if there was one.
    pub(super) fn status(&self) -> Option<u8> {
        *self.status.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Caught {
    fn drop(&mut self) {
        self.watching.abort();
    }
}

/// Cancels `cancel` at the first signal.
pub(super) fn catch(cancel: CancellationToken) -> Caught {
    let status = Arc::new(Mutex::new(None));
    let watching = tokio::spawn(watch(cancel, status.clone()));
    Caught { status, watching }
}

async fn watch(cancel: CancellationToken, caught: Arc<Mutex<Option<u8>>>) {
    let (Ok(mut interrupt), Ok(mut terminate)) = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
    else {
        return;
    };
    loop {
        let status = tokio::select! {
            _ = interrupt.recv() => 130,
            _ = terminate.recv() => 143,
        };
        if cancel.is_cancelled() {
            std::process::exit(i32::from(status));
        }
        *caught.lock().unwrap_or_else(PoisonError::into_inner) = Some(status);
        cancel.cancel();
    }
}
