//! One blob: session, send, commit; again in new sessions where that may help.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures_util::future::join_all;
use thiserror::Error;
use tokio::sync::mpsc;

use super::arrival::Entry;
use super::mounts::Mounts;
use super::presence::Presence;
use super::reader::{self, Pool, ReadError, WAITING};
use super::retry::Retry;
use super::sessions::{Key, Sessions};
use super::{Arrival, Destination};
use crate::cause::Cause;
use crate::event::{Attempt, Ending, Event, Reporter};
use crate::image::Blob;
use crate::oci::digest::{Algorithm, Digest};
use crate::registry::Session;
use crate::registry::body::UploadBody;
use crate::registry::failure::{Meaning, RegistryError};

/// Why a blob isn't in a repository.
#[derive(Debug, Error)]
pub enum UploadError {
    /// It can't be read, or is corrupt.
    #[error(transparent)]
    Read(Arc<ReadError>),
    /// The registry doesn't get it.
    #[error("blob {digest} could not be uploaded")]
    Registry {
        /// The blob.
        digest: Digest,
        /// Why.
        source: RegistryError,
    },
}

/// Uploads blobs.
pub(super) struct Uploader<'a> {
    pub(super) destinations: &'a [Destination],
    /// The root manifest's digest: what is asked for when a registry doesn't say why it closes the connection.
    pub(super) root: &'a Digest,
    pub(super) retry: &'a Retry,
    pub(super) sessions: &'a Sessions,
    pub(super) reporter: &'a Arc<dyn Reporter>,
    pub(super) mounts: &'a Mounts<'a>,
    /// For each target, what tells whether its registry is to be believed; none where it was asked for each blob.
    pub(super) presences: Vec<Option<Presence>>,
    pub(super) pool: Pool,
    pub(super) attempts: AtomicU64,
}

/// One target of one attempt, with its session.
struct Opened {
    target: usize,
    key: Key,
    session: Session,
    attempt: Attempt,
}

impl Uploader<'_> {
    /// Uploads `blob` to the targets of these numbers, reading it once for all of them; gives what became of each.
    pub(super) async fn upload(&self, blob: &Blob, targets: &[usize]) -> Vec<(usize, Result<Arrival, UploadError>)> {
        let mut pending = targets.to_vec();
        let mut results = Vec::with_capacity(targets.len());
        let mut failed = 0;
        loop {
            let mut transient = Vec::new();
            for (target, outcome) in self.attempt(blob, &pending).await {
                match outcome {
                    Err(UploadError::Registry { source, .. }) if may_try_again(blob, &source, failed) => {
                        transient.push((target, source));
                    }
                    outcome => results.push((target, outcome)),
                }
            }
            failed += 1;
            // All of them wait together, so that the next attempt is one reading again.
            let goes_on = match transient.iter().max_by_key(|(_, error)| error.retry_after()) {
                None => return results,
                Some((target, error)) => {
                    let repository = &self.destinations[*target].target.repository;
                    let what = format!("{repository}: blob {}", blob.digest.short());
                    self.retry.pause(&what, error, failed).await
                }
            };
            if !goes_on {
                let digest = || blob.digest.clone();
                let lost = transient.into_iter();
                results.extend(lost.map(|(target, source)| {
                    (target, Err(UploadError::Registry { digest: digest(), source: source.after(failed) }))
                }));
                return results;
            }
            pending = transient.into_iter().map(|(target, _)| target).collect();
        }
    }

    async fn attempt(&self, blob: &Blob, targets: &[usize]) -> Vec<(usize, Result<Arrival, UploadError>)> {
        let registry_error = |source| UploadError::Registry { digest: blob.digest.clone(), source };
        let mut results = Vec::new();
        let mut opened = Vec::new();
        let entering = targets.iter().map(async |target| (*target, self.enter(*target, blob).await));
        for (target, entry) in join_all(entering).await {
            match entry {
                Ok(Entry::Session(key, session)) => {
                    let attempt = self.start(target, blob);
                    opened.push(Opened { target, key, session, attempt });
                }
                Ok(Entry::There(arrival)) => {
                    self.spare(target, blob, &arrival);
                    results.push((target, Ok(arrival)));
                }
                Err(error) => results.push((target, Err(registry_error(error)))),
            }
        }
        if opened.is_empty() {
            return results;
        }
        let (senders, bodies): (Vec<_>, Vec<_>) = opened.iter().map(|opened| self.body(blob, opened.attempt)).unzip();
        let (for_reader, pool) = (blob.clone(), self.pool.clone());
        let reading = tokio::task::spawn_blocking(move || reader::send(&for_reader, &pool, senders));
        let commits = opened.iter().zip(bodies).map(|(opened, body)| self.commit(opened, blob, body));
        let committed = join_all(commits).await;
        let read = reading.await.unwrap_or_else(|lost| Err(ReadError::Died(Cause::new(lost)))).map_err(Arc::new);
        for (opened, outcome) in opened.iter().zip(committed) {
            let outcome = match (outcome, &read) {
                (Ok(()), _) => Ok(Arrival::Uploaded),
                // The broken body is what the registry noticed; the broken file is why.
                (Err(_), Err(read)) => Err(UploadError::Read(read.clone())),
                (Err(error), Ok(())) => Err(registry_error(error)),
            };
            let ending = if outcome.is_ok() { Ending::Done } else { Ending::GivenUp };
            self.reporter.report(&Event::Ended { attempt: opened.attempt, ending });
            results.push((opened.target, outcome));
        }
        results
    }

    fn start(&self, target: usize, blob: &Blob) -> Attempt {
        let attempt = Attempt(self.attempts.fetch_add(1, Ordering::Relaxed));
        self.reporter.report(&Event::Started {
            attempt,
            repository: self.destinations[target].target.repository.clone(),
            digest: blob.digest.clone(),
            role: blob.role,
            size: blob.size,
        });
        attempt
    }

    fn spare(&self, target: usize, blob: &Blob, arrival: &Arrival) {
        let from = match arrival {
            Arrival::Mounted { from } => Some(from.clone()),
            Arrival::Uploaded | Arrival::Present => None,
        };
        self.reporter.report(&Event::Spared {
            repository: self.destinations[target].target.repository.clone(),
            digest: blob.digest.clone(),
            role: blob.role,
            size: blob.size,
            from,
        });
    }

    fn body(
        &self,
        blob: &Blob,
        attempt: Attempt,
    ) -> (mpsc::Sender<Result<bytes::Bytes, crate::registry::body::Broken>>, UploadBody) {
        let (sender, receiver) = mpsc::channel(WAITING);
        let (reporter, load) = (self.reporter.clone(), self.retry.load());
        let taken = move |bytes| {
            load.moved(bytes);
            reporter.report(&Event::Moved { attempt, bytes });
        };
        (sender, UploadBody::new(receiver, blob.size, Box::new(taken)))
    }

    async fn commit(&self, opened: &Opened, blob: &Blob, body: UploadBody) -> Result<(), RegistryError> {
        let destination = &self.destinations[opened.target];
        let name = &destination.target.repository.name;
        let committed = destination.registry.commit(&opened.session, name, &blob.digest, body).await;
        let outcome = committed.map_err(|error| about_digest(blob, error));
        match &outcome {
            Ok(()) => self.sessions.done(opened.key),
            // A used session is never used again: ECR keeps what arrived in it (facts/ecr.md, Uploading a blob).
            Err(_) => self.sessions.cancel(opened.key).await,
        }
        outcome
    }
}

/// Whether a failure is worth another attempt, after `failed` that failed before it. A token that has expired is renewed by
/// then, but whoever refuses the new one, too, won't take a third. ECR refuses an empty blob with the very code that a
/// damaged upload has (facts/ecr.md, Uploading a blob), and what is empty can't have been damaged.
fn may_try_again(blob: &Blob, error: &RegistryError, failed: u32) -> bool {
    match error.meaning() {
        Some(Meaning::TokenExpired) => failed < 2,
        Some(Meaning::UploadRefused) => blob.size > 0,
        _ => error.is_transient(),
    }
}

/// Bytes and digest differ, says the registry. With SHA-256 something was damaged on the way, and may arrive the next time;
/// with another algorithm it is one that the registry doesn't reckon with.
fn about_digest(blob: &Blob, error: RegistryError) -> RegistryError {
    match error {
        RegistryError::Answered(mut answer)
            if matches!(answer.meaning, Meaning::UploadRefused | Meaning::DigestRefused) =>
        {
            answer.meaning = match blob.digest.algorithm() {
                Algorithm::Sha256 => Meaning::UploadRefused,
                Algorithm::Sha512 => Meaning::DigestRefused,
            };
            RegistryError::Answered(answer)
        }
        error => error,
    }
}
