//! Open upload sessions, and their end: none is left behind on success, failure or a signal.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio_util::task::TaskTracker;

use crate::cause::Cause;
use crate::registry::failure::RegistryError;
use crate::registry::{self, Mount, Registry, Session};

/// How long a registry gets to take sessions back when the push is over already.
const CANCEL_BOUND: Duration = Duration::from_millis(900);

/// An open session, by which it is found again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Key(u64);

/// What became of an opening.
#[derive(Debug)]
pub enum Opened {
    /// The blob is there: no session was needed.
    Mounted,
    /// A session, which is noted.
    Session(Key, Session),
}

struct Open {
    registry: Arc<Registry>,
    repository: String,
    session: Session,
}

#[derive(Default)]
struct Book {
    next: u64,
    open: HashMap<Key, Open>,
    /// All are being cancelled: what comes in now has come too late to be noted.
    is_closing: bool,
    /// What came too late and may be open still.
    unconfirmed: usize,
}

/// The sessions that are open in this run.
#[derive(Clone, Default)]
pub struct Sessions {
    book: Arc<Mutex<Book>>,
    /// What is under way: openings and cancellations, which go on when the push is dropped.
    tasks: TaskTracker,
}

impl std::fmt::Debug for Sessions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sessions").finish_non_exhaustive()
    }
}

impl Sessions {
    /// Opens a session and notes it, unless what is to be mounted could be.
    ///
    /// # Errors
    /// As [`Registry::open_session`].
    pub async fn open(
        &self,
        registry: Arc<Registry>,
        repository: &str,
        mount: Option<Mount>,
    ) -> Result<Opened, RegistryError> {
        let (book, repository) = (self.book.clone(), repository.to_owned());
        // A task of its own: a push that is dropped while the answer is under way would otherwise lose the session.
        let opening = self.tasks.spawn(async move {
            let session = match registry.open_session(&repository, mount.as_ref()).await? {
                registry::Opened::Mounted => return Ok(Opened::Mounted),
                registry::Opened::Session(session) => session,
            };
            let lock = || book.lock().unwrap_or_else(PoisonError::into_inner);
            let open = Open { registry, repository, session: session.clone() };
            let (key, late) = lock().note(open);
            if let Some(open) = late {
                let unconfirmed = cancel(vec![open]).await;
                lock().unconfirmed += unconfirmed;
            }
            Ok(Opened::Session(key, session))
        });
        opening.await.unwrap_or_else(|lost| Err(RegistryError::Client(Cause::new(lost))))
    }

    /// Notes where a session is now.
    pub fn moved(&self, key: Key, session: Session) {
        if let Some(open) = self.lock().open.get_mut(&key) {
            open.session = session;
        }
    }

    /// Forgets a session that the registry has closed itself.
    pub fn done(&self, key: Key) {
        self.take(key);
    }

    /// Cancels one session, waiting a little for the registry's answer.
    pub async fn cancel(&self, key: Key) {
        if let Some(open) = self.take(key) {
            // A task of its own, for the same reason.
            let _ = self.tasks.spawn(cancel(vec![open])).await;
        }
    }

    /// Cancels all sessions: those that are open, and those that are being opened right now as soon as the registry names
    /// them; gives how many it didn't confirm to have closed. Takes no longer than one cancellation may.
    pub async fn cancel_all(&self) -> usize {
        self.tasks.close();
        let open = {
            let mut book = self.lock();
            book.is_closing = true;
            std::mem::take(&mut book.open)
        };
        let opening = tokio::time::timeout(CANCEL_BOUND, self.tasks.wait());
        let (unconfirmed, _) = futures_util::future::join(cancel(open.into_values().collect()), opening).await;
        let mut book = self.lock();
        book.is_closing = false;
        self.tasks.len() + unconfirmed + std::mem::take(&mut book.unconfirmed)
    }

    fn take(&self, key: Key) -> Option<Open> {
        self.lock().open.remove(&key)
    }

    fn lock(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Book {
    /// Notes a session, or gives it back to be cancelled.
    fn note(&mut self, open: Open) -> (Key, Option<Open>) {
        self.next += 1;
        let key = Key(self.next);
        if self.is_closing {
            return (key, Some(open));
        }
        self.open.insert(key, open);
        (key, None)
    }
}

/// Cancels sessions, and gives how many the registry didn't confirm to have closed: it forgets these by itself in the end.
async fn cancel(open: Vec<Open>) -> usize {
    let cancelling = open.iter().map(async |open| {
        let answer = tokio::time::timeout(CANCEL_BOUND, open.registry.cancel(&open.session, &open.repository)).await;
        usize::from(!matches!(answer, Ok(Ok(()))))
    });
    futures_util::future::join_all(cancelling).await.into_iter().sum()
}
