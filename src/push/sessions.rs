//! Open upload sessions, and their end: none is left behind on success, failure or a signal.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
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
            let mut book = book.lock().unwrap_or_else(PoisonError::into_inner);
            book.next += 1;
            let key = Key(book.next);
            book.open.insert(key, Open { registry, repository, session: session.clone() });
            Ok(Opened::Session(key, session))
        });
        opening.await.unwrap_or_else(|lost| Err(RegistryError::Client(Cause::new(lost))))
    }

    /// Notes where a session is now.
    pub fn moved(&self, key: Key, session: Session) {
        let mut book = self.book.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(open) = book.open.get_mut(&key) {
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

    /// Cancels all sessions: those that are open, and those that are being opened right now; gives how many the registry
    /// didn't confirm to have closed.
    pub async fn cancel_all(&self) -> usize {
        self.tasks.close();
        let _ = tokio::time::timeout(CANCEL_BOUND / 2, self.tasks.wait()).await;
        let open = std::mem::take(&mut self.book.lock().unwrap_or_else(PoisonError::into_inner).open);
        let unconfirmed = cancel(open.into_values().collect()).await;
        self.tasks.len() + unconfirmed
    }

    fn take(&self, key: Key) -> Option<Open> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner).open.remove(&key)
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
