//! One blob: session, send, commit; after a cut it goes on where it broke off, or again in a new session.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::future::{Either, join_all, ready};
use thiserror::Error;
use tokio::sync::mpsc;

use super::arrival::Entry;
use super::course::Course;
use super::mounts::Mounts;
use super::presence::Presence;
use super::reader::{self, Hashing, Pool, ReadError, WAITING, Wanted};
use super::retry::Retry;
use super::sessions::{Key, Sessions};
use super::stops::Stops;
use super::streams::MakeError;
use super::traffic::{Lane, Traffic};
use super::{Arrival, Destination};
use crate::cause::Cause;
use crate::event::{Attempt, Ending, Event, Reporter};
use crate::image::Blob;
use crate::oci::digest::{Algorithm, Digest};
use crate::registry::body::{Broken, UploadBody};
use crate::registry::failure::{Meaning, RegistryError};
use crate::registry::{Position, Session};

/// Why a blob isn't in a repository.
#[derive(Debug, Error)]
pub enum UploadError {
    /// It can't be read, or is corrupt.
    #[error(transparent)]
    Read(Arc<ReadError>),
    /// It can't be compressed, or isn't what it should be.
    #[error(transparent)]
    Make(Arc<MakeError>),
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
    pub(super) stops: &'a Stops,
    /// The root manifest's digest: what is asked for when a registry doesn't say why it closes the connection.
    pub(super) root: &'a Digest,
    pub(super) retry: &'a Retry,
    pub(super) sessions: &'a Sessions,
    pub(super) reporter: &'a Arc<dyn Reporter>,
    pub(super) mounts: &'a Mounts<'a>,
    /// For each target, what tells whether its registry is to be believed; none where it was asked for each blob.
    pub(super) presences: Vec<Option<Presence>>,
    pub(super) traffic: Arc<Traffic>,
    pub(super) pool: Pool,
    pub(super) attempts: &'a AtomicU64,
}

/// What an attempt has to do for one target.
enum Step {
    /// Nothing: the registry has the blob.
    There(Arrival),
    /// Send the bytes from this one on in this session.
    From(u64, Key, Session),
}

/// What became of one target in one attempt.
enum Outcome {
    Done(Arrival),
    /// Something else failed for good at this destination.
    Stopped,
    /// It may be tried again.
    Again(RegistryError),
    Failed(UploadError),
}

impl Uploader<'_> {
    /// Uploads `blob` to the targets of these numbers, reading it once for all of them; gives what became of each.
    ///
    /// A failure for good at one destination stops whatever is under way to it, of this blob and of all others. What was
    /// stopped has no result, unless it had failed before and was to be tried again.
    pub(super) async fn upload(
        &self,
        blob: &Blob,
        targets: &[usize],
        lane: &mut Lane,
    ) -> Vec<(usize, Result<Arrival, UploadError>)> {
        let mut results = Vec::with_capacity(targets.len());
        let mut courses: Vec<Course> = targets.iter().map(|target| Course::new(*target)).collect();
        let mut hashing = Hashing::new(blob);
        while !courses.is_empty() {
            let outcomes;
            (outcomes, hashing) = self.attempt(blob, hashing, &mut courses, lane).await;
            let mut waiting = Vec::new();
            for (mut course, outcome) in courses.drain(..).zip(outcomes) {
                let result = match outcome {
                    Outcome::Done(arrival) => Ok(arrival),
                    Outcome::Failed(error) => Err(error),
                    Outcome::Stopped => match course.error.take() {
                        Some(error) => Err(self.given_up(blob, &course, error)),
                        None => continue,
                    },
                    Outcome::Again(error) => {
                        // Another token is there already, and its want was no failure of the upload.
                        let wait = match error.meaning() {
                            Some(Meaning::TokenExpired) => Some(Duration::ZERO),
                            _ => self.retry.wait(course.failures, &error),
                        };
                        if let Some(wait) = wait {
                            waiting.push((wait, error, course));
                            continue;
                        }
                        self.abandon(&mut course).await;
                        Err(self.given_up(blob, &course, error))
                    }
                };
                results.push((course.target, result));
            }
            if waiting.iter().any(|(_, error, _)| error.meaning() == Some(Meaning::UploadRefused)) {
                // What was right may have changed since it was hashed.
                hashing = Hashing::new(blob);
            }
            courses = self.wait(blob, waiting, lane).await;
        }
        results
    }

    /// All of them wait together, so that the next attempt is one reading again.
    async fn wait(&self, blob: &Blob, waiting: Vec<(Duration, RegistryError, Course)>, lane: &mut Lane) -> Vec<Course> {
        let Some((wait, error, course)) = waiting.iter().max_by_key(|(wait, ..)| *wait) else { return Vec::new() };
        let (wait, repository) = (*wait, &self.destinations[course.target].target.repository);
        self.retry.report(&format!("{repository}: blob {}", blob.digest.short()), error, wait);
        let all_stopped = join_all(waiting.iter().map(|(.., course)| self.stops.stopped(course.target)));
        tokio::select! {
            () = lane.wait(tokio::time::sleep(wait)) => {}
            _ = all_stopped => {}
        }
        let noted = waiting.into_iter().map(|(_, error, mut course)| {
            course.failures.wait(wait);
            course.error = Some(error);
            course
        });
        noted.collect()
    }

    async fn attempt(
        &self,
        blob: &Blob,
        mut hashing: Hashing,
        courses: &mut [Course],
        lane: &mut Lane,
    ) -> (Vec<Outcome>, Hashing) {
        let steps = join_all(courses.iter_mut().map(|course| self.step(course, blob))).await;
        let froms: Vec<Option<u64>> = steps
            .iter()
            .map(|step| match step {
                Ok(Step::From(from, ..)) => Some(*from).filter(|from| *from < blob.size),
                _ => None,
            })
            .collect();
        if froms.iter().any(Option::is_some) {
            lane.send().await;
        }
        let lowest = froms.iter().flatten().min().copied();
        let (mut wanted, mut carrying) = (Vec::new(), Vec::new());
        for (course, step) in courses.iter_mut().zip(steps) {
            let (from, key, session) = match step {
                Ok(Step::From(from, key, session)) => (from, key, session),
                Ok(Step::There(arrival)) => {
                    carrying.push(Either::Left(ready(Outcome::Done(arrival))));
                    continue;
                }
                Err(outcome) => {
                    carrying.push(Either::Left(ready(outcome)));
                    continue;
                }
            };
            let (pieces, receiver) = mpsc::channel(WAITING);
            if from < blob.size {
                wanted.push(Wanted { from, pieces });
            }
            let place = Place { key, session, from, later: lowest.is_some_and(|lowest| lowest < from) };
            carrying.push(Either::Right(self.carry(course, blob, place, receiver)));
        }
        let reading = (!wanted.is_empty()).then(|| {
            let (blob, pool, mut hashing) = (blob.clone(), self.pool.clone(), hashing.take(blob));
            tokio::task::spawn_blocking(move || (reader::send(&blob, &pool, &mut hashing, wanted), hashing))
        });
        let mut outcomes = join_all(carrying).await;
        let Some(reading) = reading else { return (outcomes, hashing) };
        let (read, hashing) = match reading.await {
            Ok(read) => read,
            Err(lost) => (Err(ReadError::Died(Cause::new(lost))), Hashing::new(blob)),
        };
        if let Err(read) = read.map_err(Arc::new) {
            // What is corrupt is so for those, too, who were to be sent it later.
            let for_all = matches!(*read, ReadError::Corrupt(_));
            for ((course, outcome), from) in courses.iter_mut().zip(&mut outcomes).zip(froms) {
                // The broken body is what the registry noticed; the broken file is why.
                let concerned = from.is_some() && matches!(outcome, Outcome::Failed(_))
                    || (from.is_some() || for_all) && matches!(outcome, Outcome::Again(_));
                if concerned {
                    self.stops.stop(course.target);
                    self.abandon(course).await;
                    *outcome = Outcome::Failed(UploadError::Read(read.clone()));
                }
            }
        }
        (outcomes, hashing)
    }

    /// What is to be done for one target, or why nothing can be.
    async fn step(&self, course: &mut Course, blob: &Blob) -> Result<Step, Outcome> {
        let began = Instant::now();
        let is_stopped = self.stops.is_stopped(course.target);
        let step = if is_stopped { None } else { self.stops.unless(course.target, self.prepare(course, blob)).await };
        match step {
            Some(Ok(step)) => {
                course.error = None;
                Ok(step)
            }
            Some(Err(error)) => Err(self.failed(course, blob, error, began.elapsed()).await),
            None => {
                self.abandon(course).await;
                Err(Outcome::Stopped)
            }
        }
    }

    /// Goes on in the session that broke off, or opens a new one.
    async fn prepare(&self, course: &mut Course, blob: &Blob) -> Result<Step, RegistryError> {
        let Destination { registry, target, .. } = &self.destinations[course.target];
        let name = &target.repository.name;
        let told = course.told();
        if let Some(held) = &course.held {
            let (key, all_sent) = (held.key, held.sent >= blob.size);
            if let Some(bytes) = told.filter(|bytes| course.goes_on_at(*bytes)) {
                let session = held.session.clone();
                course.found(bytes);
                return Ok(Step::From(bytes, key, session));
            }
            match registry.position(&held.session, name).await {
                Ok(Position::At { bytes, session }) if course.goes_on_at(bytes) => {
                    self.sessions.moved(key, session.clone());
                    course.found(bytes);
                    return Ok(Step::From(bytes, key, session));
                }
                Ok(Position::Gone) => {
                    let arrived = all_sent && registry.has_blob(name, &blob.digest).await?;
                    self.sessions.done(key);
                    course.held = None;
                    if arrived {
                        // Only the answer that said so was lost.
                        return Ok(Step::There(Arrival::Uploaded));
                    }
                }
                Ok(Position::At { .. } | Position::Untold) => self.abandon(course).await,
                Err(error) => {
                    if course.asks_no_more(&error) {
                        self.abandon(course).await;
                    }
                    return Err(error);
                }
            }
        }
        match self.enter(course.target, blob).await? {
            Entry::Session(key, session) => {
                course.begin(key, session.clone());
                Ok(Step::From(0, key, session))
            }
            Entry::There(arrival) => {
                self.spare(course.target, blob, &arrival);
                Ok(Step::There(arrival))
            }
        }
    }

    /// Sends what a session lacks, and ends it.
    async fn carry(
        &self,
        course: &mut Course,
        blob: &Blob,
        place: Place,
        pieces: mpsc::Receiver<Result<Bytes, Broken>>,
    ) -> Outcome {
        let attempt = Attempt(self.attempts.fetch_add(1, Ordering::Relaxed));
        let Place { key, mut session, from, later } = place;
        self.reporter.report(&Event::Started {
            attempt,
            repository: self.destinations[course.target].target.repository.clone(),
            digest: blob.digest.clone(),
            role: blob.role,
            size: blob.size,
            from,
        });
        let (reporter, load) = (self.reporter.clone(), self.retry.load());
        let taken = Box::new(move |bytes| {
            load.moved(bytes);
            reporter.report(&Event::Moved { attempt, bytes });
        });
        let body = UploadBody::new(pieces, from, blob.size, taken);
        let watch = body.watch();
        let body = async { if later { body.ready().await } else { body } };
        let sending = async { self.send(course.target, blob, key, &mut session, body.await).await };
        let sent = self.stops.unless(course.target, sending).await;
        watch.end();
        course.sent(session, watch.sent(), from);
        let (outcome, ending) = match sent {
            Some(Ok(())) => {
                self.sessions.done(key);
                (Outcome::Done(Arrival::Uploaded), Ending::Done)
            }
            Some(Err(error)) => {
                let outcome = self.failed(course, blob, about_digest(blob, error), watch.idle()).await;
                (outcome, if course.held.is_some() { Ending::Broken } else { Ending::GivenUp })
            }
            None => {
                self.abandon(course).await;
                (Outcome::Stopped, Ending::GivenUp)
            }
        };
        self.reporter.report(&Event::Ended { attempt, ending });
        outcome
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

    async fn send(
        &self,
        target: usize,
        blob: &Blob,
        key: Key,
        session: &mut Session,
        body: UploadBody,
    ) -> Result<(), RegistryError> {
        let Destination { registry, target, .. } = &self.destinations[target];
        let name = &target.repository.name;
        if body.from() == 0 {
            return registry.commit(session, name, &blob.digest, body).await;
        }
        if body.from() < body.size() {
            *session = registry.send_rest(session, name, body).await?;
            self.sessions.moved(key, session.clone());
        }
        registry.finish(session, name, &blob.digest, blob.size).await
    }

    /// What comes of a failure in which nothing had moved for `lost`: the session is cancelled, unless it may go on.
    async fn failed(&self, course: &mut Course, blob: &Blob, error: RegistryError, lost: Duration) -> Outcome {
        let again = if error.meaning() == Some(Meaning::TokenExpired) {
            course.expires()
        } else {
            course.failures.add(lost);
            may_try_again(blob, &error)
        };
        if !again {
            // First, so that nobody sends on while the session is cancelled.
            self.stops.stop(course.target);
        }
        if !(again && course.may_go_on(&error, blob.size)) {
            self.abandon(course).await;
        }
        if again {
            return Outcome::Again(error);
        }
        let source = error.after(course.expired());
        Outcome::Failed(UploadError::Registry { digest: blob.digest.clone(), source })
    }

    /// The failure of what is tried no more.
    fn given_up(&self, blob: &Blob, course: &Course, error: RegistryError) -> UploadError {
        self.stops.stop(course.target);
        let source = error.after(course.failures.count());
        UploadError::Registry { digest: blob.digest.clone(), source }
    }

    /// Cancels the session, if there is one.
    async fn abandon(&self, course: &mut Course) {
        if let Some(held) = course.held.take() {
            self.sessions.cancel(held.key).await;
        }
    }
}

/// Where the bytes of one attempt go.
struct Place {
    key: Key,
    session: Session,
    /// The first byte that is sent.
    from: u64,
    /// Whether others are sent bytes before that one.
    later: bool,
}

/// Whether a failure is worth another attempt. ECR refuses an empty blob with the very code that a damaged upload has
/// (facts/ecr.md, Uploading a blob), and what is empty can't have been damaged.
fn may_try_again(blob: &Blob, error: &RegistryError) -> bool {
    match error.meaning() {
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
