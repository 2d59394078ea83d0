//! The main job from end to end: source → image → plan → push → report, and then clean-up.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use crate::auth::AuthError;
use crate::aws::repository::NewRepository;
use crate::aws::session::AwsSession;
use crate::cleanup::layout::Removal;
use crate::cleanup::{self, CleanupError};
use crate::error::Error;
use crate::event::{Event, Reporter};
use crate::image::Image;
use crate::known::{self, Known, Lessons};
use crate::oci::digest::Digest;
use crate::oci::reference::{Host, Reference, Repository, Tag};
use crate::plan::{Target, targets};
use crate::push::sessions::Sessions;
use crate::push::turns::Turns;
use crate::push::{self, Count, Destination, Outcome, PushOptions};
use crate::reach::{self, Access, Reached, Registries, Tokens};
use crate::report::{Cleanup, DestinationReport, Report};
use crate::scan::{self, ScanWait};
use crate::source::layout::{Chosen, Layout, LayoutError};
use crate::source::lock::{self, Lock};
use crate::source::{Place, Source};

/// Everything that a push may be told.
#[derive(Debug, Clone)]
pub struct Options {
    /// Remove the image from SOURCE once it is verified everywhere.
    pub cleanup: bool,
    /// Push what refers to the image, too.
    pub referrers: bool,
    /// Blobs may be symbolic links that lead out of the layout.
    pub follow_symlinks: bool,
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
    /// The folder of the record of where blobs are; none if there is to be none.
    pub cache: Option<PathBuf>,
}

/// How long the record of where blobs are is waited for: a push that does without only sends more.
const RECORD: Duration = Duration::from_millis(500);

/// How many times `--timeout` another process that uses SOURCE is waited for: it may be in the middle of a push.
const PATIENCE: u32 = 10;

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
    read: Read,
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
        reached = both(job, &targets, reporter, cancel) => reached,
        () = cancel.cancelled() => Err(Error::Interrupted { open: 0 }),
    };
    let (read, reached) = reached?;
    let account = |(repository, reached): (&Repository, &Result<Reached, _>)| {
        Some((repository.clone(), reached.as_ref().ok()?.ecr.clone()?))
    };
    let accounts = reached.0.iter().filter_map(account).collect();
    let root = &read.image.root().manifest;
    reporter.report(&Event::Read {
        digest: root.digest.clone(),
        manifests: read.image.nodes().len(),
        blobs: read.image.blobs().count(),
        bytes: read.image.size(),
    });
    check_digests(&job.destinations, &root.digest)?;

    let sessions = Sessions::default();
    let mut known = match record {
        Some(record) => within(RECORD, record).await.unwrap_or_default(),
        None => Known::default(),
    };
    known.keep(&read.image.blobs().map(|blob| blob.digest.as_str()).collect());
    let pushing = push_all(job, &read.image, &targets, reached, known, &sessions, reporter);
    let destinations = tokio::select! {
        destinations = pushing => destinations?,
        () = cancel.cancelled() => {
            return Err(Error::Interrupted { open: sessions.cancel_all().await });
        }
    };
    let report = Report {
        digest: root.digest.clone(),
        media_type: root.media_type.clone(),
        size: read.image.size(),
        destinations,
        cleanup: if job.options.cleanup { Cleanup::NotDone } else { Cleanup::NotAsked },
    };
    Ok(Pushed { report, read, accounts })
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
    let Pushed { report, read, accounts } = pushed;
    let scanning = report.destinations.iter_mut().filter(|destination| destination.error.is_none()).map(
        async |destination: &mut DestinationReport| {
            let Some(account) = accounts.get(&destination.repository) else { return };
            let scanned = scan::wait(account, &destination.repository, &read.image, wait, &**reporter).await;
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
/// # Errors
/// When `cancel` is cancelled before anything was removed; what else fails is in the report.
pub async fn clean(
    job: &Job,
    pushed: Pushed,
    reporter: &Arc<dyn Reporter>,
    cancel: &CancellationToken,
) -> Result<Report, Error> {
    let Pushed { mut report, read, .. } = pushed;
    if !job.options.cleanup || report.status() != 0 {
        return Ok(report);
    }
    if cancel.is_cancelled() {
        return Err(Error::Interrupted { open: 0 });
    }
    let Read { layout, chosen, image, lock } = read;
    let removal = Removal::of(&image, &chosen);
    // Two who both share the folder would wait for each other for ever.
    drop(lock);
    let wait = patience(layout.folder().root(), &job.options, reporter, cancel);
    let cleaning = tokio::task::spawn_blocking(move || cleanup::layout::clean(layout.folder(), &removal, wait));
    report.cleanup = match cleaning.await.map_err(Error::task)? {
        Ok(cleaned) => Cleanup::Done(cleaned),
        Err(CleanupError::Locked { .. }) if cancel.is_cancelled() => return Err(Error::Interrupted { open: 0 }),
        Err(error) => Cleanup::Failed(Error::Cleanup(error)),
    };
    Ok(report)
}

/// What was read of SOURCE.
struct Read {
    layout: Layout,
    chosen: Chosen,
    image: Image,
    lock: Lock,
}

/// Reads SOURCE while tokens are being fetched; a broken SOURCE is said first.
async fn both(
    job: &Job,
    targets: &[Target],
    reporter: &Arc<dyn Reporter>,
    cancel: &CancellationToken,
) -> Result<(Read, (Registries, Tokens)), Error> {
    let (source, options) = (job.source.clone(), job.options.clone());
    let path = match &source.place {
        Place::Path { path, .. } => path.clone(),
        Place::StandardInput | Place::Engine { .. } => PathBuf::new(),
    };
    let wait = patience(&path, &options, reporter, cancel);
    let reading = tokio::task::spawn_blocking(move || read(&source, &options, wait));
    let (targets, options) = (targets.to_vec(), job.options.clone());
    let reaching = tokio::spawn(async move { reach::reach(&targets, &options.access).await });
    let read = reading.await.map_err(Error::task)??;
    let reached = reaching.await.map_err(Error::task)??;
    // Beside the uploads, other registries than ECR are asked for one blob: see `push::presence`.
    let requests = read.image.blobs().count() + 1;
    let registries: HashMap<_, _> = reached.0.values().flatten().map(|it| (Arc::as_ptr(&it.registry), it)).collect();
    for Reached { registry, ecr } in registries.into_values() {
        let most = if ecr.is_some() { CONNECTIONS_AHEAD } else { QUESTIONS_AHEAD };
        registry.connect_ahead(requests.min(most).saturating_sub(1));
    }
    Ok((read, reached))
}

/// Whether to go on waiting for a layout that somebody else uses; says once that it is waited for.
fn patience(
    path: &Path,
    options: &Options,
    reporter: &Arc<dyn Reporter>,
    cancel: &CancellationToken,
) -> impl FnMut() -> bool + Send + 'static {
    let (path, reporter, cancel) = (path.to_owned(), reporter.clone(), cancel.clone());
    let (bound, mut since) = (options.access.timeout.saturating_mul(PATIENCE), None);
    move || {
        let began = *since.get_or_insert_with(|| {
            let text = format!("waiting for another process that uses {}", path.display());
            reporter.report(&Event::Warning { text });
            Instant::now()
        });
        !cancel.is_cancelled() && began.elapsed() < bound
    }
}

fn read(source: &Source, options: &Options, wait: impl FnMut() -> bool) -> Result<Read, Error> {
    let path = match &source.place {
        Place::Path { path, .. } => path,
        Place::StandardInput | Place::Engine { .. } => {
            return Err(LayoutError::NotAFolder { path: format!("{:?}", source.place).into() }.into());
        }
    };
    // From before the index is read: a clean-up must not take away what is being pushed.
    let lock = lock::shared(path, wait).map_err(|_| LayoutError::Locked { path: path.clone() })?;
    let layout = Layout::open(path, options.follow_symlinks)?;
    let chosen = layout.choose(&source.choice)?;
    let image = layout.read(&chosen, options.referrers)?;
    if options.cleanup && !options.referrers {
        let referrers = layout.referrers(&image);
        if !referrers.is_empty() {
            return Err(Error::LeavesOut { referrers });
        }
    }
    Ok(Read { layout, chosen, image, lock })
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

/// Pushes to every target whose registry could be reached, and reports on all of them.
async fn push_all(
    job: &Job,
    image: &Image,
    targets: &[Target],
    reached: (Registries, Tokens),
    known: Known,
    sessions: &Sessions,
    reporter: &Arc<dyn Reporter>,
) -> Result<Vec<DestinationReport>, Error> {
    let (mut registries, tokens) = reached;
    tokens.arrive(&mut registries).await?;
    let mut destinations = Vec::new();
    let mut turns: HashMap<&Host, Turns> = HashMap::new();
    let mut unreachable = HashMap::new();
    for target in targets {
        match registries.get(&target.repository) {
            Some(Ok(Reached { registry, ecr })) => {
                let turns = ecr.is_some().then(|| turns.entry(&target.repository.host).or_default().clone());
                let (target, registry, ecr) = (target.clone(), registry.clone(), ecr.clone());
                destinations.push(Destination { target, registry, ecr, turns });
            }
            Some(Err(error)) => drop(unreachable.insert(&target.repository, error.clone())),
            None => {}
        }
    }
    let Options { jobs, cleanup, create, mount_from, cache, .. } = job.options.clone();
    let retries = job.options.access.retries;
    let options = PushOptions { jobs, retries, thorough: cleanup, create, mount_from, known };
    let push::Pushed { outcomes, stale } = push::push(image, &destinations, options, sessions, reporter).await;
    if let Some(folder) = cache.filter(|_| outcomes.iter().any(|outcome| outcome.error.is_none())) {
        let lessons = lessons(image, &outcomes, stale);
        within(RECORD, aside(move || known::learn(&folder, &lessons))).await;
    }
    let mut outcomes = outcomes.into_iter();
    let reports = targets.iter().filter_map(|target| match unreachable.get(&target.repository) {
        Some(error) => Some(unreached(target, error)),
        None => outcomes.next().map(|outcome| report(image, outcome)),
    });
    Ok(reports.collect())
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

fn unreached(target: &Target, error: &Arc<AuthError>) -> DestinationReport {
    let not_written = |tag: &Tag| (tag.clone(), push::TagOutcome::NotWritten);
    DestinationReport {
        repository: target.repository.clone(),
        created: false,
        tags: target.tags.iter().map(not_written).collect(),
        uploaded: Count::default(),
        mounted: Count::default(),
        present: Count::default(),
        manifests: 0,
        referrers: Vec::new(),
        scans: Vec::new(),
        scan_error: None,
        error: Some(Error::Auth(error.clone())),
    }
}
