//! The main job from end to end: source → image → plan → push → report, and then clean-up.

mod draft;
pub mod forecast;
mod make;
mod read;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use self::make::Making;
use self::read::Origin;
use crate::auth::AuthError;
use crate::aws::repository::NewRepository;
use crate::aws::session::AwsSession;
use crate::cleanup::CleanupError;
use crate::compress::Compression;
use crate::error::Error;
use crate::event::{Event, Reporter};
use crate::image::Image;
use crate::known::{self, Known, Lessons};
use crate::oci::digest::Digest;
use crate::oci::reference::{Host, Reference, Repository, Tag};
use crate::plan::{Target, targets};
use crate::platform::Wanted;
use crate::push::sessions::Sessions;
use crate::push::streams::{Recipe, Streamed};
use crate::push::turns::Turns;
use crate::push::{self, Before, Count, Destination, Outcome, PushError, PushOptions, TagOutcome};
use crate::reach::{self, Access, Reached, Registries, Tokens};
use crate::report::{Cleanup, DestinationReport, Report, Root};
use crate::scan::{self, ScanWait};
use crate::source::Source;
use crate::source::engine::EngineSettings;

/// Everything that a push may be told.
#[derive(Debug, Clone)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of the command line")]
pub struct Options {
    /// Remove the image from SOURCE once it is verified everywhere.
    pub cleanup: bool,
    /// With it, remove blobs of a layout that nothing names, too, if they haven't changed for so long.
    pub prune_orphans: Option<Duration>,
    /// The platforms that are pushed; all if there are none.
    pub platforms: Vec<Wanted>,
    /// Push what refers to the image, too.
    pub referrers: bool,
    /// Blobs may be symbolic links that lead out of the layout.
    pub follow_symlinks: bool,
    /// Say what would be sent, written and removed, and change nothing.
    pub dry_run: bool,
    /// Blobs in flight at once.
    pub jobs: usize,
    /// How registries are reached.
    pub access: Access,
    /// How a repository that is missing is made; none if it is not to be made.
    pub create: Option<NewRepository>,
    /// How long ECR's scan is waited for; none if it isn't.
    pub scan: Option<ScanWait>,
    /// Repositories of each destination's registry that blobs are to be mounted from.
    pub mount_from: Vec<String>,
    /// Where engines are.
    pub engine: EngineSettings,
    /// The folder of the records of where blobs are, and of what layers become; none if there are to be none.
    pub cache: Option<PathBuf>,
    /// The folder for what has to be unpacked before it can be read.
    pub temporary: PathBuf,
    /// What layers are compressed with that SOURCE has uncompressed.
    pub compression: Compression,
    /// Compress all layers with it, whatever they are in SOURCE.
    pub recompress: bool,
    /// Threads that compress.
    pub threads: usize,
}

/// How long the record of where blobs are is waited for: a push that does without only sends more.
const RECORD: Duration = Duration::from_millis(500);

/// Connections that are opened to ECR while its token is on its way: what is there already needs none of them, and of what
/// isn't at most so many large blobs go first.
const CONNECTIONS_AHEAD: usize = 8;

/// Connections that are opened to another registry ahead: there each blob has its question.
const QUESTIONS_AHEAD: usize = 32;

/// An image and where it goes.
#[derive(Debug, Clone)]
pub struct Job {
    /// SOURCE.
    pub source: Source,
    /// The destinations.
    pub destinations: Vec<Reference>,
    /// Tags for every destination, beside its own.
    pub tags: Vec<Tag>,
    /// How.
    pub options: Options,
}

/// A push that is over, with what clean-up needs.
pub struct Pushed {
    /// What became of it.
    pub report: Report,
    /// What was pushed; `None` where everything failed before it was known.
    image: Option<Image>,
    origin: Origin,
    /// Whom to ask for scans.
    accounts: HashMap<Repository, Arc<AwsSession>>,
}

/// Pushes the image.
///
/// Cancelling `cancel` stops it at once: open uploads are cancelled, SOURCE stays as it is.
///
/// # Errors
/// When nothing was written anywhere; what failed for single destinations is in the report.
pub async fn push(job: &Job, reporter: &Arc<dyn Reporter>, cancel: &CancellationToken) -> Result<Pushed, Error> {
    let targets = targets(&job.destinations, &job.tags);
    let record = job.options.cache.clone().map(|folder| aside(move || Known::read(&folder)));
    let reached = tokio::select! {
        // First of all: what is being waited for may give up for the same reason, and with another word for it.
        biased;
        () = cancel.cancelled() => Err(Error::Interrupted { open: 0 }),
        reached = Box::pin(both(job, &targets, reporter, cancel)) => reached,
    };
    let ((origin, making), (registries, tokens)) = reached?;
    let account = |(repository, reached): (&Repository, &Result<Reached, _>)| {
        Some((repository.clone(), reached.as_ref().ok()?.ecr.clone()?))
    };
    let accounts = registries.iter().filter_map(account).collect();
    let known = match record {
        Some(record) => within(RECORD, record).await.unwrap_or_default(),
        None => Known::default(),
    };
    let sessions = Sessions::default();
    let run = Run { job, targets: &targets, known, sessions: &sessions, reporter };
    // On the heap: what a push needs in all of its steps is more than a stack should hold.
    let pushing = Box::pin(run.push(making, registries, tokens));
    let (image, destinations) = tokio::select! {
        biased;
        () = cancel.cancelled() => {
            return Err(Error::Interrupted { open: sessions.cancel_all().await });
        }
        pushed = pushing => pushed?,
    };
    let root = image.as_ref().map(root);
    let cleanup = if job.options.cleanup { Cleanup::NotDone } else { Cleanup::NotAsked };
    Ok(Pushed { report: Report { root, destinations, cleanup }, image, origin, accounts })
}

/// Waits for ECR's scans of what was pushed, if that was asked for.
///
/// # Errors
/// When `cancel` is cancelled; what else fails is in the report.
pub async fn scan(
    job: &Job,
    pushed: &mut Pushed,
    reporter: &Arc<dyn Reporter>,
    cancel: &CancellationToken,
) -> Result<(), Error> {
    let Some(wait) = job.options.scan else { return Ok(()) };
    let Pushed { report, image: Some(image), accounts, .. } = pushed else { return Ok(()) };
    let scanning = report.destinations.iter_mut().filter(|destination| destination.error.is_none()).map(
        async |destination: &mut DestinationReport| {
            let Some(account) = accounts.get(&destination.repository) else { return };
            let scanned = scan::wait(account, &destination.repository, image, wait, &**reporter).await;
            destination.scans = scanned.images;
            destination.scan_error = scanned.error.map(Error::Scan);
        },
    );
    tokio::select! {
        _ = futures_util::future::join_all(scanning) => Ok(()),
        () = cancel.cancelled() => Err(Error::Interrupted { open: 0 }),
    }
}

/// Removes the image from SOURCE after a push, if that was asked for and every destination has it.
///
/// Cancelling `cancel` stops it between two removals; the report says what is left then.
///
/// # Errors
/// When nobody knows what became of it; what else fails is in the report.
pub async fn clean(
    job: &Job,
    pushed: Pushed,
    reporter: &Arc<dyn Reporter>,
    cancel: &CancellationToken,
) -> Result<Report, Error> {
    let Pushed { mut report, origin, .. } = pushed;
    if !job.options.cleanup || report.status() != 0 {
        return Ok(report);
    }
    if cancel.is_cancelled() {
        report.cleanup = interrupted(Error::Interrupted { open: 0 });
        return Ok(report);
    }
    let tagged = |destination: &DestinationReport| {
        let repository = destination.repository.to_string();
        destination.tags.iter().map(move |(tag, _)| format!("{repository}:{tag}")).collect::<Vec<_>>()
    };
    let names: Vec<String> = report.destinations.iter().flat_map(tagged).collect();
    report.cleanup = match origin.clean(&names, &job.options, reporter, cancel).await? {
        Ok(cleaned) => Cleanup::Done(cleaned),
        Err(error @ (CleanupError::Interrupted { .. } | CleanupError::EngineInterrupted { .. })) => {
            interrupted(Error::Cleanup(error))
        }
        Err(error) => Cleanup::Failed(Error::Cleanup(error)),
    };
    Ok(report)
}

/// A clean-up that didn't come to its end because of `error`.
fn interrupted(error: Error) -> Cleanup {
    let status = error.status();
    Cleanup::Interrupted { error, status }
}

/// Reads SOURCE while tokens are being fetched; a broken SOURCE is said first.
async fn both(
    job: &Job,
    targets: &[Target],
    reporter: &Arc<dyn Reporter>,
    cancel: &CancellationToken,
) -> Result<((Origin, Making), (Registries, Tokens)), Error> {
    let (targets, options) = (targets.to_vec(), job.options.clone());
    let reaching = tokio::spawn(async move { reach::reach(&targets, &options.access).await });
    let read = read::read(&job.source, &job.options, reporter, cancel).await?;
    let reached = reaching.await.map_err(Error::task)??;
    // Beside the uploads, other registries than ECR are asked for one blob: see `push::presence`.
    let requests = read.1.blobs() + 1;
    let registries: HashMap<_, _> = reached.0.values().flatten().map(|it| (Arc::as_ptr(&it.registry), it)).collect();
    for Reached { registry, ecr } in registries.into_values() {
        let most = if ecr.is_some() { CONNECTIONS_AHEAD } else { QUESTIONS_AHEAD };
        registry.connect_ahead(requests.min(most).saturating_sub(1));
    }
    Ok((read, reached))
}

fn check_digests(destinations: &[Reference], found: &Digest) -> Result<(), Error> {
    for destination in destinations {
        if let Some(asked) = destination.digest.as_ref().filter(|asked| *asked != found) {
            let (reference, asked, found) = (destination.to_string(), asked.clone(), found.clone());
            return Err(Error::DigestDiffers { reference, asked, found });
        }
    }
    Ok(())
}

/// One push, as all of its steps see it.
struct Run<'a> {
    job: &'a Job,
    targets: &'a [Target],
    known: Known,
    sessions: &'a Sessions,
    reporter: &'a Arc<dyn Reporter>,
}

impl Run<'_> {
    /// Pushes to every target whose registry could be reached, and reports on all of them.
    async fn push(
        self,
        mut making: Making,
        mut registries: Registries,
        tokens: Tokens,
    ) -> Result<(Option<Image>, Vec<DestinationReport>), Error> {
        let image = making.image()?;
        if let Some(image) = &image {
            self.is_known(making.before(), image)?;
        }
        tokens.arrive(&mut registries).await?;
        let mut options = self.options(making.recipe());
        let mut tried = self.attempt(&mut making, &mut options, &registries, image).await?;
        if tried.errors().any(PushError::is_of_record) {
            // The record is wrong about a layer, and nothing may depend on it: no manifest has been written yet.
            making.forget();
            options.recipe = making.recipe();
            tried = self.attempt(&mut making, &mut options, &registries, None).await?;
        }
        let Tried { image, outcomes, mut failed } = tried;
        let mut outcomes = outcomes.into_iter();
        let reports = self.targets.iter().filter_map(|target| match failed.remove(&target.repository) {
            Some(failure) => Some(failure.report(target)),
            None => Some(report(image.as_ref()?, outcomes.next()?)),
        });
        let reports = reports.collect();
        Ok((image, reports))
    }

    /// Pushes to every target whose registry could be reached.
    async fn attempt(
        &self,
        making: &mut Making,
        options: &mut PushOptions,
        registries: &Registries,
        mut image: Option<Image>,
    ) -> Result<Tried, Error> {
        let (mut destinations, mut failed) = self.destinations(registries);
        if image.is_none() {
            // A digest that was asked for is compared before anything is written.
            let asked = self.job.destinations.iter().any(|destination| destination.digest.is_some());
            let meanwhile: &[Destination] = if asked { &[] } else { &destinations };
            let streamed = making.finish(meanwhile, options, self.sessions, self.reporter).await?;
            making.learn(self.job.options.cache.as_deref(), &streamed).await;
            destinations = sort_out(destinations, streamed, asked, &mut failed)?;
            image = making.image()?;
            match &image {
                Some(image) => self.is_known(making.before(), image)?,
                // Whoever hasn't failed must have got everything.
                None if !destinations.is_empty() => return Err(Error::Unmade),
                None => {}
            }
        }
        let mut outcomes = Vec::new();
        if let Some(image) = &image {
            options.known = self.known.clone();
            options.known.keep(&image.blobs().map(|blob| blob.digest.as_str()).collect());
            let pushed = push::push(image, &destinations, options.clone(), self.sessions, self.reporter).await;
            self.learn(image, &pushed).await;
            outcomes = pushed.outcomes;
        }
        Ok(Tried { image, outcomes, failed })
    }

    /// Tells what is pushed and what it was `before`, and compares it with what was asked for.
    fn is_known(&self, before: Option<&Digest>, image: &Image) -> Result<(), Error> {
        let root = &image.root().manifest;
        if let Some(before) = before.filter(|before| **before != root.digest) {
            let text = format!("recompressed: image {before} of SOURCE is pushed as {}", root.digest);
            self.reporter.report(&Event::Warning { text });
        }
        self.reporter.report(&Event::Read {
            digest: root.digest.clone(),
            manifests: image.nodes().len(),
            blobs: image.blobs().count(),
            bytes: image.size(),
        });
        check_digests(&self.job.destinations, &root.digest)
    }

    /// The targets whose registry could be reached, and why the others couldn't.
    fn destinations(&self, registries: &Registries) -> (Vec<Destination>, HashMap<Repository, Failure>) {
        let mut destinations = Vec::new();
        let mut turns: HashMap<&Host, Turns> = HashMap::new();
        let mut failed = HashMap::new();
        for target in self.targets {
            match registries.get(&target.repository) {
                Some(Ok(Reached { registry, ecr })) => {
                    let turns = ecr.is_some().then(|| turns.entry(&target.repository.host).or_default().clone());
                    let (target, registry, ecr) = (target.clone(), registry.clone(), ecr.clone());
                    destinations.push(Destination { target, registry, ecr, turns, before: Before::default() });
                }
                Some(Err(error)) => {
                    failed.insert(target.repository.clone(), Failure::Unreached(error.clone()));
                }
                None => {}
            }
        }
        (destinations, failed)
    }

    fn options(&self, recipe: Recipe) -> PushOptions {
        let Options { jobs, cleanup, dry_run, create, mount_from, .. } = self.job.options.clone();
        let retries = self.job.options.access.retries;
        PushOptions { jobs, retries, thorough: cleanup, dry_run, create, mount_from, known: Known::default(), recipe }
    }

    async fn learn(&self, image: &Image, pushed: &push::Pushed) {
        let verified = pushed.outcomes.iter().any(|outcome| outcome.error.is_none());
        if let Some(folder) = self.job.options.cache.clone().filter(|_| verified) {
            let lessons = lessons(image, &pushed.outcomes, pushed.stale.clone());
            within(RECORD, aside(move || known::learn(&folder, &lessons))).await;
        }
    }
}

/// What an attempt came to.
struct Tried {
    image: Option<Image>,
    /// Of the destinations that got as far, in their order.
    outcomes: Vec<Outcome>,
    failed: HashMap<Repository, Failure>,
}

impl Tried {
    fn errors(&self) -> impl Iterator<Item = &PushError> {
        let early = self.failed.values().filter_map(|failure| match failure {
            Failure::Push { error, .. } => Some(error),
            Failure::Unreached(_) => None,
        });
        self.outcomes.iter().filter_map(|outcome| outcome.error.as_ref()).chain(early)
    }
}

/// Why a destination failed before the image was pushed.
enum Failure {
    /// Its registry can't be reached.
    Unreached(Arc<AuthError>),
    /// It didn't take the layers.
    Push {
        error: PushError,
        /// What it had taken.
        uploaded: Count,
        /// Whether its repository was made.
        created: bool,
    },
}

impl Failure {
    fn report(self, target: &Target) -> DestinationReport {
        match self {
            Self::Unreached(error) => unreached(target, Error::Auth(error)),
            Self::Push { error, uploaded, created } => {
                DestinationReport { created, uploaded, ..unreached(target, Error::Push(error)) }
            }
        }
    }
}

/// The destinations that go on, with what they got; what the others failed with goes to `failed`.
fn sort_out(
    destinations: Vec<Destination>,
    streamed: Streamed,
    asked: bool,
    failed: &mut HashMap<Repository, Failure>,
) -> Result<Vec<Destination>, Error> {
    if asked {
        // Nobody got anything, and what is wrong is wrong for all.
        return streamed.refusal().map_or(Ok(destinations), |error| Err(Error::Push(error)));
    }
    let count = destinations.len();
    let mut going = Vec::new();
    for (mut destination, (before, error)) in destinations.into_iter().zip(streamed.by_destination(count)) {
        if let Some(error) = error {
            let repository = destination.target.repository;
            failed.insert(repository, Failure::Push { error, uploaded: before.uploaded, created: before.created });
        } else {
            destination.before = before;
            going.push(destination);
        }
    }
    Ok(going)
}

/// What is known now of where blobs are: a destination that was read back has all of them.
fn lessons(image: &Image, outcomes: &[Outcome], stale: Vec<(Repository, Digest)>) -> Lessons {
    let blobs: Vec<Digest> = image.blobs().map(|blob| blob.digest.clone()).collect();
    let verified = outcomes.iter().filter(|outcome| outcome.error.is_none());
    Lessons { there: verified.map(|outcome| (outcome.target.repository.clone(), blobs.clone())).collect(), stale }
}

/// Does something on a thread of its own, which may be left alone with a file system that doesn't answer.
fn aside<T: Send + 'static>(what: impl FnOnce() -> T + Send + 'static) -> oneshot::Receiver<T> {
    let (done, told) = oneshot::channel();
    std::thread::spawn(move || drop(done.send(what())));
    told
}

/// What comes within `bound`, if anything does.
async fn within<T>(bound: Duration, told: oneshot::Receiver<T>) -> Option<T> {
    tokio::time::timeout(bound, told).await.ok()?.ok()
}

fn report(image: &Image, outcome: Outcome) -> DestinationReport {
    let total = Count { number: image.blobs().count(), bytes: image.blobs().map(|blob| blob.size).sum() };
    let Outcome { target, created, tags, uploaded, mounted, manifests, referrers, error } = outcome;
    let present = match error {
        None => Count {
            number: total.number - uploaded.number - mounted.number,
            bytes: total.bytes - uploaded.bytes - mounted.bytes,
        },
        // What a push that failed has not sent is not there.
        Some(_) => Count::default(),
    };
    let written = |digest: &Digest| (digest.clone(), referrers.contains(digest));
    DestinationReport {
        repository: target.repository,
        created,
        tags: target.tags.into_iter().zip(tags).collect(),
        uploaded,
        mounted,
        present,
        manifests,
        referrers: image.referrers().iter().map(written).collect(),
        scans: Vec::new(),
        scan_error: None,
        error: error.map(Error::Push),
    }
}

fn root(image: &Image) -> Root {
    let root = &image.root().manifest;
    Root { digest: root.digest.clone(), media_type: root.media_type.clone(), size: image.size() }
}

fn unreached(target: &Target, error: Error) -> DestinationReport {
    DestinationReport {
        repository: target.repository.clone(),
        created: false,
        tags: target.tags.iter().map(|tag| (tag.clone(), TagOutcome::NotWritten)).collect(),
        uploaded: Count::default(),
        mounted: Count::default(),
        present: Count::default(),
        manifests: 0,
        referrers: Vec::new(),
        scans: Vec::new(),
        scan_error: None,
        error: Some(error),
    }
}
