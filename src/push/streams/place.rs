//! Where a layer goes at one destination: its session, from its opening to its end.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use futures_util::future::join_all;
use tokio::sync::mpsc;

use super::making::MakeError;
use super::{Created, Ended, Sent, Streams, Way};
use crate::aws::repository;
use crate::compress::Made;
use crate::event::{Attempt, Ending, Event};
use crate::image::{Blob, Raw};
use crate::push::arrival::Entry;
use crate::push::sessions::{Key, Opened};
use crate::push::upload::UploadError;
use crate::push::{Arrival, Destination, opening};
use crate::registry::Session;
use crate::registry::body::{Broken, UploadBody};
use crate::registry::failure::{Meaning, RegistryError};

/// An open session, and the attempt that fills it.
pub(super) struct Place {
    pub(super) key: Key,
    pub(super) session: Session,
    pub(super) attempt: Attempt,
}

impl Streams<'_> {
    /// For each target a session for a layer, or why there is none.
    pub(super) async fn open_all(
        &self,
        targets: &[usize],
        raw: &Raw,
        blob: Option<&Blob>,
        created: &Created,
    ) -> Vec<Result<Place, Ended>> {
        join_all(targets.iter().map(|target| self.open(*target, raw, blob, created))).await
    }

    /// A session for a layer, or why there is none.
    pub(super) async fn open(
        &self,
        target: usize,
        raw: &Raw,
        blob: Option<&Blob>,
        created: &Created,
    ) -> Result<Place, Ended> {
        if self.stops.is_stopped(target) {
            return Err(Ended::Stopped);
        }
        let Some(opened) = self.stops.unless(target, self.enter(target, blob, created)).await else {
            return Err(Ended::Stopped);
        };
        let (key, session) = match opened {
            Ok(Entry::Session(key, session)) => (key, session),
            Ok(Entry::There(arrival)) => return Err(Ended::Done(arrival)),
            Err(error) => return Err(self.again(target, raw, error)),
        };
        let attempt = Attempt(self.attempts.fetch_add(1, Ordering::Relaxed));
        self.reporter.report(&Event::Started {
            attempt,
            repository: self.destinations[target].target.repository.clone(),
            digest: raw.digest.clone(),
            role: blob.map_or(raw.role, |blob| blob.role),
            size: blob.map_or(raw.size, |blob| blob.size),
            from: 0,
        });
        Ok(Place { key, session, attempt })
    }

    pub(super) async fn enter(
        &self,
        target: usize,
        blob: Option<&Blob>,
        created: &Created,
    ) -> Result<Entry, RegistryError> {
        let new = match (&self.way, blob) {
            (Way::Known(uploader), Some(blob)) => return uploader.enter(target, blob).await,
            (Way::Known(_), None) => None,
            (Way::Blind(new), _) => *new,
        };
        let destination = &self.destinations[target];
        let repository = &destination.target.repository;
        let reference = destination.target.tags.first().map_or("latest", |tag| tag.as_str());
        let open = async || {
            let opened =
                opening::open(self.sessions, &destination.registry, repository, reference, None, &**self.reporter);
            Ok::<_, RegistryError>(match opened.await? {
                Opened::Session(key, session) => Entry::Session(key, session),
                Opened::Mounted => Entry::There(Arrival::Present),
            })
        };
        match (open().await, new, &destination.ecr) {
            (Err(error), Some(new), Some(account)) if error.meaning() == Some(Meaning::RepositoryMissing) => {
                let mut created = created.lock().await;
                // Whatever stands in the way of making it, the push itself will say.
                if !created.contains(&target)
                    && matches!(repository::create(account, &repository.name, new).await, Ok(true))
                {
                    created.insert(target);
                    self.reporter.report(&Event::Created { repository: repository.clone() });
                }
                drop(created);
                open().await
            }
            (opened, ..) => opened,
        }
    }

    /// Sends what is made into a session; says where that is then.
    pub(super) async fn send(
        &self,
        target: usize,
        place: &mut Place,
        pieces: mpsc::Receiver<Result<Bytes, Broken>>,
    ) -> Sent {
        let Destination { registry, target: to, .. } = &self.destinations[target];
        let load = self.retry.load();
        let body = UploadBody::unsized_of(pieces, Box::new(move |bytes| load.moved(bytes)));
        let watch = body.watch();
        let sent = self.stops.unless(target, registry.send_all(&place.session, &to.repository.name, body)).await;
        // Whoever makes it must not wait for an upload that is over.
        watch.end();
        Some(match sent? {
            Ok(session) => {
                self.sessions.moved(place.key, session.clone());
                place.session = session;
                Ok(())
            }
            Err(error) => Err(error),
        })
    }

    pub(super) async fn end(
        &self,
        target: usize,
        raw: &Raw,
        place: Place,
        sent: Sent,
        made: &Result<Option<Made>, Arc<MakeError>>,
    ) -> Ended {
        let Destination { registry, target: to, .. } = &self.destinations[target];
        let ended = match (made, sent) {
            (Err(error), _) => {
                self.stops.stop(target);
                Ended::Failed(UploadError::Make(error.clone()))
            }
            (_, Some(Err(error))) => self.again(target, raw, error),
            (_, None) | (Ok(None), _) => Ended::Stopped,
            (Ok(Some(made)), Some(Ok(()))) => {
                let finishing = registry.finish(&place.session, &to.repository.name, &made.digest, made.size);
                match self.stops.unless(target, finishing).await {
                    Some(Ok(())) => Ended::Done(Arrival::Uploaded),
                    Some(Err(error)) => self.again(target, raw, error),
                    None => Ended::Stopped,
                }
            }
        };
        self.close(place, matches!(ended, Ended::Done(_))).await;
        ended
    }

    /// A session that is over; cancelled, if its blob isn't there now.
    pub(super) async fn close(&self, place: Place, done: bool) {
        if done {
            self.sessions.done(place.key);
        } else {
            self.sessions.cancel(place.key).await;
        }
        let ending = if done { Ending::Done } else { Ending::GivenUp };
        self.reporter.report(&Event::Ended { attempt: place.attempt, ending });
    }

    /// What comes of a request that failed.
    pub(super) fn again(&self, target: usize, raw: &Raw, error: RegistryError) -> Ended {
        let transient = match error.meaning() {
            Some(Meaning::UploadRefused) => raw.size > 0,
            _ => error.is_transient(),
        };
        if transient || error.meaning() == Some(Meaning::TokenExpired) {
            return Ended::Again(error);
        }
        self.stops.stop(target);
        Ended::Failed(UploadError::Registry { digest: raw.digest.clone(), source: error })
    }
}
