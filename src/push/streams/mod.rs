//! Layers that are compressed while they are sent: their digest is known only when their last byte has left.
//!
//! Each is one POST, one PATCH and one PUT. No byte of it is kept, so that a cut costs the session: where a layer's end isn't
//! known no range can be named to go on from, and its bytes have to be made again anyway. A layer that broke off is made again
//! in the next round, with all others that did.

mod export;
mod making;
mod place;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use futures_util::future::{self, join_all};
use futures_util::stream::{self, StreamExt};
use tokio::sync::{mpsc, oneshot};

pub use self::export::{Exporter, Heard};
use self::making::{Expected, Fan, Making, Progress};
pub use self::making::{MakeError, whole};
use self::place::Place;
use super::reader::WAITING;
use super::retry::{Failures, Retry};
use super::sessions::Sessions;
use super::stops::Stops;
use super::upload::{UploadError, Uploader};
use super::{Arrival, Before, Destination, PushError, PushOptions};
use crate::aws::repository::NewRepository;
use crate::cause::Cause;
use crate::compress::{Compression, Made, Workers};
use crate::event::Reporter;
use crate::image::{Blob, Raw};
use crate::oci::digest::Digest;
use crate::registry::failure::{Meaning, RegistryError};

/// Layers that are made at once. Each holds a few blocks, and all share the same threads; a connection to ECR takes less than
/// what one core compresses (facts/ecr.md, Speed).
const AT_ONCE: usize = 8;

/// How layers are made.
#[derive(Debug, Clone)]
pub struct Recipe {
    /// What they are compressed with.
    pub compression: Compression,
    /// Who does it.
    pub workers: Workers,
    /// Where they come from.
    pub supply: Supply,
}

/// Where layers come from.
#[derive(Debug, Clone)]
pub enum Supply {
    /// They can be read, as often as need be.
    AtHand,
    /// An engine exports them, one after the other.
    Export(Box<Exporter>),
}

/// A layer that is to be made, and who is to get it.
#[derive(Debug, Clone)]
pub(super) struct Wanted<'a> {
    pub(super) raw: Arc<Raw>,
    /// What it is recorded to become.
    pub(super) blob: Option<&'a Blob>,
    /// The numbers of the destinations that lack it. With none it is only made, to know its digest.
    pub(super) targets: Vec<usize>,
}

/// What has become of layers.
#[derive(Debug, Default)]
pub struct Streamed {
    /// What was made, by the layer's digest in SOURCE.
    pub made: HashMap<Digest, Made>,
    /// For each destination what it got.
    pub(super) arrived: Vec<(usize, Digest, Arrival)>,
    /// For each destination what it didn't get.
    pub(super) failed: Vec<(usize, UploadError)>,
    /// Destinations whose repository was made.
    pub(super) created: HashSet<usize>,
    /// What is wrong with layers themselves.
    wrong: Vec<Arc<MakeError>>,
}

impl Streamed {
    /// What is wrong with a layer, whoever was to get it.
    #[must_use]
    pub fn refusal(&self) -> Option<PushError> {
        self.wrong.first().map(|error| PushError::Upload(UploadError::Make(error.clone())))
    }

    /// What each of so many destinations got, and why it gets nothing more, if it doesn't.
    #[must_use]
    pub fn by_destination(self, destinations: usize) -> Vec<(Before, Option<PushError>)> {
        let mut failures: Vec<Vec<UploadError>> = (0..destinations).map(|_| Vec::new()).collect();
        for (target, error) in self.failed {
            failures[target].push(error);
        }
        let mut befores: Vec<Before> = (0..destinations).map(|_| Before::default()).collect();
        for (target, layer, arrival) in self.arrived {
            let Some(made) = self.made.get(&layer) else { continue };
            befores[target].blobs.insert(made.digest.clone());
            if arrival == Arrival::Uploaded {
                befores[target].uploaded.add(made.size);
            }
        }
        for target in self.created {
            befores[target].created = true;
        }
        befores.into_iter().zip(failures.into_iter().map(PushError::of)).collect()
    }
}

/// Makes layers of which nobody knows what they become, and brings them to every destination while that is found out; with
/// no destination they are only made.
///
/// Dropping the future stops it; [`Sessions::cancel_all`] then closes what it had open.
pub async fn make(
    raws: Vec<Arc<Raw>>,
    destinations: &[Destination],
    options: &PushOptions,
    sessions: &Sessions,
    reporter: &Arc<dyn Reporter>,
) -> Streamed {
    let (stops, attempts) = (Stops::new(destinations.len()), AtomicU64::new(0));
    let retry = Retry::of(destinations, options, reporter);
    let streams = Streams {
        destinations,
        stops: &stops,
        retry: &retry,
        sessions,
        reporter,
        attempts: &attempts,
        recipe: &options.recipe,
        way: Way::Blind(options.create.as_ref()),
    };
    let targets: Vec<usize> = (0..destinations.len()).collect();
    let wanted = raws.into_iter().map(|raw| Wanted { raw, blob: None, targets: targets.clone() });
    let streamed = streams.run(wanted.collect(), options.jobs).await;
    if !streamed.failed.is_empty() {
        // What was being opened when it was stopped.
        sessions.cancel_all().await;
    }
    streamed
}

/// How it is seen where a layer goes.
pub(super) enum Way<'a> {
    /// It is known what it becomes, so that it may be there, or be mounted.
    Known(&'a Uploader<'a>),
    /// Nothing is known of it; a repository that is missing is made like this, if it is to be made.
    Blind(Option<&'a NewRepository>),
}

/// One run.
pub(super) struct Streams<'a> {
    pub(super) destinations: &'a [Destination],
    pub(super) stops: &'a Stops,
    pub(super) retry: &'a Retry,
    pub(super) sessions: &'a Sessions,
    pub(super) reporter: &'a Arc<dyn Reporter>,
    pub(super) attempts: &'a AtomicU64,
    pub(super) recipe: &'a Recipe,
    pub(super) way: Way<'a>,
}

/// The destinations whose repository was made. Layers find out side by side that it is missing, and one of them makes it.
type Created = tokio::sync::Mutex<HashSet<usize>>;

/// A layer that isn't everywhere yet.
struct Pending<'a> {
    wanted: Wanted<'a>,
    /// What has failed for each target that still lacks it, and how often.
    courses: Vec<Course>,
}

struct Course {
    target: usize,
    failures: Failures,
    error: Option<RegistryError>,
}

/// What became of a layer at one destination in one round.
enum Ended {
    Done(Arrival),
    /// Something else failed for good at this destination.
    Stopped,
    /// It wasn't its turn.
    NotReached,
    /// It may be tried again.
    Again(RegistryError),
    Failed(UploadError),
}

impl Ended {
    /// Whether there is something to be said of it.
    fn is_failure(&self) -> bool {
        matches!(self, Self::Again(_) | Self::Failed(_))
    }
}

/// What became of a layer in one round: what it is, and for each of its courses how it ended.
struct Round {
    made: Result<Option<Made>, Arc<MakeError>>,
    ended: Vec<Ended>,
}

/// Where a layer comes from.
enum Feed {
    /// It can be read.
    AtHand,
    /// It passes by on another thread, which is told how to make it, and tells what it made.
    Passing(oneshot::Sender<Making>, oneshot::Receiver<Result<Option<Made>, MakeError>>),
}

/// A layer whose bytes have left, in sessions that are not ended yet.
struct Carried {
    made: Result<Option<Made>, Arc<MakeError>>,
    /// For each target its session, and what became of the sending.
    places: Vec<(usize, Filled)>,
}

/// A session and what became of the sending, or why there is none.
type Filled = Result<(Place, Sent), Ended>;

/// What became of the bytes that went into a session; none where something else failed for good there.
type Sent = Option<Result<(), RegistryError>>;

impl Pending<'_> {
    fn targets(&self) -> Vec<usize> {
        self.courses.iter().map(|course| course.target).collect()
    }
}

impl<'a> Streams<'a> {
    /// Makes all of `wanted` and brings it where it is wanted.
    pub(super) async fn run(&self, mut wanted: Vec<Wanted<'a>>, jobs: usize) -> Streamed {
        wanted.sort_by_key(|wanted| std::cmp::Reverse(wanted.raw.size));
        let course = |target: &usize| Course { target: *target, failures: Failures::default(), error: None };
        let mut pending: Vec<Pending> = wanted
            .into_iter()
            .map(|wanted| Pending { courses: wanted.targets.iter().map(course).collect(), wanted })
            .collect();
        let created = Created::default();
        let mut streamed = Streamed::default();
        while !pending.is_empty() {
            let round = match &self.recipe.supply {
                Supply::AtHand => self.at_hand(&pending, &created, jobs).await,
                Supply::Export(exporter) => self.export(exporter, &pending, &created).await,
            };
            let mut longest = Duration::ZERO;
            for (layer, Round { made, ended }) in std::mem::take(&mut pending).into_iter().zip(round) {
                match made {
                    Ok(Some(made)) => drop(streamed.made.insert(layer.wanted.raw.digest.clone(), made)),
                    Ok(None) => {}
                    Err(error) => streamed.wrong.push(error),
                }
                let (again, wait) = self.note(layer, ended, &mut streamed);
                longest = longest.max(wait);
                pending.extend(again);
            }
            if !pending.is_empty() && !longest.is_zero() {
                tokio::time::sleep(longest).await;
            }
        }
        streamed.created = created.into_inner();
        streamed
    }

    /// One round, with layers that can be read whenever somebody wants to.
    async fn at_hand(&self, pending: &[Pending<'a>], created: &Created, jobs: usize) -> Vec<Round> {
        let making = stream::iter(pending.iter().enumerate()).map(async |(at, layer)| {
            let Wanted { raw, blob, .. } = &layer.wanted;
            let targets = layer.targets();
            let carried = self.carry(raw, *blob, Some(&raw.diff_id), &targets, None, created, Feed::AtHand).await;
            (at, self.settle(carried, raw, |_| true).await)
        });
        let mut rounds: Vec<(usize, Round)> = making.buffer_unordered(AT_ONCE.min(jobs)).collect().await;
        rounds.sort_by_key(|(at, _)| *at);
        rounds.into_iter().map(|(_, round)| round).collect()
    }

    /// Notes what became of a layer in a round; gives what has to be tried again, and after which time.
    fn note(&self, layer: Pending<'a>, ended: Vec<Ended>, streamed: &mut Streamed) -> (Option<Pending<'a>>, Duration) {
        let Pending { wanted, courses } = layer;
        let (mut again, mut longest) = (Vec::new(), Duration::ZERO);
        for (mut course, ended) in courses.into_iter().zip(ended) {
            let target = course.target;
            match ended {
                Ended::Done(arrival) => streamed.arrived.push((target, wanted.raw.digest.clone(), arrival)),
                Ended::Failed(error) => streamed.failed.push((target, error)),
                Ended::NotReached if self.stops.is_stopped(target) => {}
                Ended::NotReached => again.push(course),
                Ended::Stopped => {
                    if let Some(error) = course.error.take() {
                        streamed.failed.push((target, given_up(&wanted.raw, &course, error)));
                    }
                }
                Ended::Again(error) => {
                    course.failures.add(Duration::ZERO);
                    let wait = self.retry.wait(course.failures, &error);
                    let Some(wait) = wait else {
                        self.stops.stop(target);
                        streamed.failed.push((target, given_up(&wanted.raw, &course, error)));
                        continue;
                    };
                    // Another token is there already.
                    let wait = if error.meaning() == Some(Meaning::TokenExpired) { Duration::ZERO } else { wait };
                    let repository = &self.destinations[target].target.repository;
                    self.retry.report(&format!("{repository}: layer {}", wanted.raw.digest.short()), &error, wait);
                    course.failures.wait(wait);
                    course.error = Some(error);
                    longest = longest.max(wait);
                    again.push(course);
                }
            }
        }
        let pending = (!again.is_empty()).then_some(Pending { wanted, courses: again });
        (pending, longest)
    }

    /// Makes a layer, once, and sends it to everybody who lacks it; into these `places`, if they were seen to before.
    #[expect(clippy::too_many_arguments, reason = "a layer, who wants it, and where it comes from")]
    async fn carry(
        &self,
        raw: &Arc<Raw>,
        blob: Option<&Blob>,
        diff_id: Option<&Digest>,
        targets: &[usize],
        places: Option<Vec<Result<Place, Ended>>>,
        created: &Created,
        feed: Feed,
    ) -> Carried {
        let mut places = match places {
            Some(places) => places,
            None => self.open_all(targets, raw, blob, created).await,
        };
        let (mut uploads, mut receivers) = (Vec::new(), Vec::new());
        for place in &places {
            receivers.push(place.as_ref().ok().map(|_| {
                let (pieces, receiver) = mpsc::channel(WAITING);
                uploads.push(pieces);
                receiver
            }));
        }
        if uploads.is_empty() && !targets.is_empty() {
            let nobody = places.into_iter().map(|place| Err(place.err().unwrap_or(Ended::Stopped)));
            return Carried { made: Ok(None), places: targets.iter().copied().zip(nobody).collect() };
        }
        let attempts = places.iter().filter_map(|place| Some(place.as_ref().ok()?.attempt)).collect();
        let making = Making {
            expected: Expected {
                layer: raw.digest.clone(),
                diff_id: diff_id.cloned(),
                digest: blob.map(|blob| blob.digest.clone()),
                as_is: raw.as_is,
            },
            recipe: self.recipe.clone(),
            fan: Fan::new(uploads),
            progress: Progress { of_what_is_made: blob.is_some(), attempts, reporter: self.reporter.clone() },
        };
        let died = |source| MakeError::Died { layer: raw.digest.clone(), source };
        let made = async {
            match feed {
                Feed::AtHand => {
                    let content = raw.content.clone();
                    let run = tokio::task::spawn_blocking(move || making.run_at_hand(content.as_ref()));
                    run.await.unwrap_or_else(|lost| Err(died(Cause::new(lost))))
                }
                Feed::Passing(give, made) => {
                    // Where nobody takes it the sender of what was made is gone, too.
                    let _ = give.send(making);
                    made.await.unwrap_or_else(|lost| Err(died(Cause::new(lost))))
                }
            }
        };
        let sending = places.iter_mut().zip(receivers).zip(targets).map(async |((place, receiver), target)| {
            let (Ok(place), Some(receiver)) = (place, receiver) else { return None };
            self.send(*target, place, receiver).await
        });
        let (made, sent) = future::join(made, join_all(sending)).await;
        let places = places.into_iter().zip(sent).map(|(place, sent)| place.map(|place| (place, sent)));
        Carried { made: made.map_err(Arc::new), places: targets.iter().copied().zip(places).collect() }
    }

    /// Ends the sessions of a layer: with its digest at the targets that are meant, if all is well.
    async fn settle(&self, carried: Carried, raw: &Raw, meant: impl Fn(usize) -> bool) -> Round {
        let Carried { made, places } = carried;
        let ending = places.into_iter().map(async |(target, place)| match place {
            Ok((place, sent)) if !meant(target) => {
                self.close(place, false).await;
                match sent {
                    Some(Err(error)) => self.again(target, raw, error),
                    _ => Ended::NotReached,
                }
            }
            Ok((place, sent)) => self.end(target, raw, place, sent, &made).await,
            Err(ended) => ended,
        });
        let ended = join_all(ending).await;
        Round { made, ended }
    }
}

fn given_up(raw: &Raw, course: &Course, error: RegistryError) -> UploadError {
    UploadError::Registry { digest: raw.digest.clone(), source: error.after(course.failures.count()) }
}
