//! The main job from end to end: source → image → plan → push → report, and then clean-up.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::auth::{AuthError, AuthSettings, Credentials};
use crate::aws::token::AwsSettings;
use crate::cleanup::layout::Removal;
use crate::cleanup::{self, CleanupError};
use crate::error::Error;
use crate::event::{Event, Reporter};
use crate::image::Image;
use crate::oci::digest::Digest;
use crate::oci::reference::{Host, Reference, Repository, Tag};
use crate::plan::Target;
use crate::push::sessions::Sessions;
use crate::push::{self, Count, Destination, Outcome, PushOptions};
use crate::registry::Registry;
use crate::registry::transport::{TransportSettings, Url};
use crate::report::{Cleanup, DestinationReport, Report};
use crate::source::Source;
use crate::source::layout::{Chosen, Layout};
use crate::trust::Trust;

/// A setting that may differ from host to host.
#[derive(Debug, Clone)]
pub struct PerHost<T> {
    /// For every host that has none of its own.
    pub bare: Option<T>,
    /// For single hosts.
    pub hosts: Vec<(Host, T)>,
}

impl<T> Default for PerHost<T> {
    fn default() -> Self {
        Self { bare: None, hosts: Vec::new() }
    }
}

impl<T: Clone> PerHost<T> {
    /// The setting for `host`; the last one that was given wins.
    pub fn get(&self, host: &Host) -> Option<T> {
        let own = self.hosts.iter().rev().find(|(named, _)| named == host).map(|(_, value)| value);
        own.or(self.bare.as_ref()).cloned()
    }
}

/// Everything that a push may be told.
#[derive(Debug, Clone)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of the command line")]
pub struct Options {
    /// Remove the image from SOURCE once it is verified everywhere.
    pub cleanup: bool,
    /// Push what refers to the image, too.
    pub referrers: bool,
    /// Blobs may be symbolic links that lead out of the layout.
    pub follow_symlinks: bool,
    /// Blobs in flight at once.
    pub jobs: usize,
    /// How often something transient is tried again.
    pub retries: u32,
    /// http to registries other than ECR.
    pub plain_http: bool,
    /// A bound on connecting.
    pub connect_timeout: Duration,
    /// A bound on an answer, and on the time in which no byte of an upload moves.
    pub timeout: Duration,
    /// More certificate authorities.
    pub ca_files: Vec<PathBuf>,
    /// Docker's and podman's config files.
    pub config_files: Vec<PathBuf>,
    /// Profiles of the AWS config.
    pub profiles: PerHost<String>,
    /// Where ECR's API is reached.
    pub endpoint_urls: PerHost<String>,
    /// Where registries are reached.
    pub registry_endpoints: PerHost<Url>,
}

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

/// What is written where: destinations in one repository are one target, `--tag`s are added, and where neither tag nor
/// digest is given the tag is `latest`.
#[must_use]
pub fn targets(destinations: &[Reference], tags: &[Tag]) -> Vec<Target> {
    let mut targets: Vec<Target> = Vec::new();
    let latest = Tag::parse("latest").ok();
    for destination in destinations {
        let at = targets.iter().position(|target| target.repository == destination.repository);
        let at = at.unwrap_or_else(|| {
            targets.push(Target { repository: destination.repository.clone(), tags: Vec::new() });
            targets.len() - 1
        });
        let implied =
            latest.iter().filter(|_| destination.tag.is_none() && destination.digest.is_none() && tags.is_empty());
        for tag in destination.tag.iter().chain(tags).chain(implied) {
            if !targets[at].tags.contains(tag) {
                targets[at].tags.push(tag.clone());
            }
        }
    }
    targets
}

/// A registry that can be talked to, and its token, which is on its way while SOURCE is read.
struct Reached {
    registry: Arc<Registry>,
    is_ecr: bool,
    token: Option<JoinHandle<Result<(), AuthError>>>,
}

/// What is known of each host: how it is reached, or why there are no credentials for it.
type Registries = HashMap<Host, Result<Reached, Arc<AuthError>>>;

/// A push that is over, with what clean-up needs.
pub struct Pushed {
    /// What became of it.
    pub report: Report,
    read: Read,
}

/// Pushes the image.
///
/// Cancelling `cancel` stops it at once: open uploads are cancelled, SOURCE stays as it is.
///
/// # Errors
/// When nothing was written anywhere; what failed for single destinations is in the report.
pub async fn push(job: &Job, reporter: &Arc<dyn Reporter>, cancel: &CancellationToken) -> Result<Pushed, Error> {
    let targets = targets(&job.destinations, &job.tags);
    let reached = tokio::select! {
        reached = both(job, &targets) => reached,
        () = cancel.cancelled() => Err(Error::Interrupted { open: 0 }),
    };
    let (read, registries) = reached?;
    let root = &read.image.root().manifest;
    reporter.report(&Event::Read {
        digest: root.digest.clone(),
        manifests: read.image.nodes().len(),
        blobs: read.image.blobs().count(),
        bytes: read.image.size(),
    });
    check_digests(&job.destinations, &root.digest)?;

    let sessions = Sessions::default();
    let pushing = push_all(job, &read.image, &targets, registries, &sessions, reporter);
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
    Ok(Pushed { report, read })
}

/// Removes the image from SOURCE after a push, if that was asked for and every destination has it.
///
/// # Errors
/// When `cancel` is cancelled before anything was removed; what else fails is in the report.
pub async fn clean(job: &Job, pushed: Pushed, cancel: &CancellationToken) -> Result<Report, Error> {
    let Pushed { mut report, read } = pushed;
    if !job.options.cleanup || report.status() != 0 {
        return Ok(report);
    }
    if cancel.is_cancelled() {
        return Err(Error::Interrupted { open: 0 });
    }
    let removal = Removal::of(&read.image, &read.chosen);
    let (stopped, patience) = (cancel.clone(), job.options.timeout);
    let cleaning = tokio::task::spawn_blocking(move || {
        let since = Instant::now();
        cleanup::layout::clean(read.layout.folder(), &removal, || stopped.is_cancelled() || since.elapsed() > patience)
    });
    report.cleanup = match cleaning.await.map_err(Error::Task)? {
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
}

/// Reads SOURCE while tokens are being fetched; a broken SOURCE is said first.
async fn both(job: &Job, targets: &[Target]) -> Result<(Read, Registries), Error> {
    let (source, options) = (job.source.clone(), job.options.clone());
    let reading = tokio::task::spawn_blocking(move || read(&source, &options));
    let (targets, options) = (targets.to_vec(), job.options.clone());
    let reaching = tokio::spawn(async move { reach(&targets, &options).await });
    let read = reading.await.map_err(Error::Task)??;
    Ok((read, reaching.await.map_err(Error::Task)??))
}

fn read(source: &Source, options: &Options) -> Result<Read, Error> {
    let layout = Layout::open(&source.path, options.follow_symlinks)?;
    let chosen = layout.choose(&source.choice)?;
    let image = layout.read(&chosen, true)?;
    if options.referrers {
        return Ok(Read { layout, chosen, image });
    }
    if options.cleanup && !image.referrers().is_empty() {
        return Err(Error::LeavesOut { referrers: image.referrers().to_vec() });
    }
    let image = layout.read(&chosen, false)?;
    Ok(Read { layout, chosen, image })
}

/// Finds credentials for every host once, and sends for the tokens.
async fn reach(targets: &[Target], options: &Options) -> Result<Registries, Error> {
    let files = options.ca_files.clone();
    let trust = tokio::task::spawn_blocking(move || Trust::load(&files)).await.map_err(Error::Task)??;
    let mut registries = HashMap::new();
    for target in targets {
        let host = &target.repository.host;
        if registries.contains_key(host) {
            continue;
        }
        let reached = match credentials(&target.repository, options, &trust).await? {
            Ok(credentials) => Ok(reach_one(host, credentials, options, &trust)?),
            Err(error) => Err(Arc::new(error)),
        };
        registries.insert(host.clone(), reached);
    }
    Ok(registries)
}

/// Finds the credentials for a repository; a helper that hangs doesn't hold up the push for ever.
async fn credentials(
    repository: &Repository,
    options: &Options,
    trust: &Trust,
) -> Result<Result<Credentials, AuthError>, Error> {
    let host = &repository.host;
    let auth = AuthSettings {
        aws: AwsSettings {
            profile: options.profiles.get(host),
            endpoint_url: options.endpoint_urls.get(host),
            trust: trust.clone(),
            connect_timeout: options.connect_timeout,
            timeout: options.timeout,
            retries: options.retries,
        },
        config_files: options.config_files.clone(),
    };
    let repository = repository.clone();
    let finding = tokio::task::spawn_blocking(move || auth.find(&repository));
    match tokio::time::timeout(options.timeout, finding).await {
        Ok(found) => found.map_err(Error::Task),
        Err(_) => Ok(Err(AuthError::Slow { host: host.to_string(), seconds: options.timeout.as_secs() })),
    }
}

fn reach_one(host: &Host, credentials: Credentials, options: &Options, trust: &Trust) -> Result<Reached, Error> {
    let is_ecr = matches!(credentials, Credentials::Ecr(_));
    let token = match &credentials {
        Credentials::Ecr(token) => {
            let token = token.clone();
            Some(tokio::spawn(async move { Ok(token.get().await.map(drop)?) }))
        }
        _ => None,
    };
    let transport = TransportSettings {
        endpoint: options.registry_endpoints.get(host),
        plain_http: options.plain_http && !is_ecr,
        trust: trust.clone(),
        connect_timeout: options.connect_timeout,
        timeout: options.timeout,
    };
    Ok(Reached { registry: Arc::new(Registry::new(host, credentials, &transport)?), is_ecr, token })
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

/// Waits for the tokens; a registry without one is not tried.
async fn await_tokens(registries: &mut Registries) -> Result<(), Error> {
    for reached in registries.values_mut() {
        if let Ok(Reached { token: Some(token), .. }) = reached
            && let Err(error) = token.await.map_err(Error::Task)?
        {
            *reached = Err(Arc::new(error));
        }
    }
    Ok(())
}

/// Pushes to every target whose registry could be reached, and reports on all of them.
async fn push_all(
    job: &Job,
    image: &Image,
    targets: &[Target],
    mut registries: Registries,
    sessions: &Sessions,
    reporter: &Arc<dyn Reporter>,
) -> Result<Vec<DestinationReport>, Error> {
    await_tokens(&mut registries).await?;
    let mut destinations = Vec::new();
    let mut unreachable = HashMap::new();
    for target in targets {
        let host = &target.repository.host;
        match registries.get(host) {
            Some(Ok(Reached { registry, is_ecr, .. })) => {
                let (target, registry, is_ecr) = (target.clone(), registry.clone(), *is_ecr);
                destinations.push(Destination { target, registry, is_ecr });
            }
            Some(Err(error)) => drop(unreachable.insert(host, error.clone())),
            None => {}
        }
    }
    let Options { jobs, retries, cleanup, .. } = job.options;
    let options = PushOptions { jobs, retries, thorough: cleanup };
    let mut outcomes = push::push(image, &destinations, options, sessions, reporter).await.into_iter();
    let reports = targets.iter().filter_map(|target| match unreachable.get(&target.repository.host) {
        Some(error) => Some(unreached(target, error)),
        None => outcomes.next().map(|outcome| report(image, outcome)),
    });
    Ok(reports.collect())
}

fn report(image: &Image, outcome: Outcome) -> DestinationReport {
    let total = Count { number: image.blobs().count(), bytes: image.blobs().map(|blob| blob.size).sum() };
    let Outcome { target, tags, uploaded, manifests, referrers, error } = outcome;
    let present = match error {
        None => Count { number: total.number - uploaded.number, bytes: total.bytes - uploaded.bytes },
        // What a push that failed has not sent is not there.
        Some(_) => Count::default(),
    };
    let written = |digest: &Digest| (digest.clone(), referrers.contains(digest));
    DestinationReport {
        repository: target.repository,
        tags: target.tags.into_iter().zip(tags).collect(),
        uploaded,
        present,
        manifests,
        referrers: image.referrers().iter().map(written).collect(),
        error: error.map(Error::Push),
    }
}

fn unreached(target: &Target, error: &Arc<AuthError>) -> DestinationReport {
    let not_written = |tag: &Tag| (tag.clone(), push::TagOutcome::NotWritten);
    DestinationReport {
        repository: target.repository.clone(),
        tags: target.tags.iter().map(not_written).collect(),
        uploaded: Count::default(),
        present: Count::default(),
        manifests: 0,
        referrers: Vec::new(),
        error: Some(Error::Auth(error.clone())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_where() {
        let check = |destinations: &[&str], tags: &[&str], expected: &[(&str, &[&str])]| {
            let destinations: Vec<_> = destinations.iter().map(|text| Reference::parse(text).unwrap()).collect();
            let tags: Vec<_> = tags.iter().map(|text| Tag::parse(text).unwrap()).collect();
            let targets = targets(&destinations, &tags);
            let found: Vec<(String, Vec<&str>)> = targets
                .iter()
                .map(|target| (target.repository.to_string(), target.tags.iter().map(Tag::as_str).collect()))
                .collect();
            let expected: Vec<_> = expected.iter().map(|(name, tags)| ((*name).to_owned(), tags.to_vec())).collect();
            assert_eq!(found, expected);
        };
        let digest = format!("h.example/a@{}", Digest::of(crate::oci::digest::Algorithm::Sha256, b""));
        check(&["h.example/a"], &[], &[("h.example/a", &["latest"])]);
        check(&["h.example/a:v1"], &[], &[("h.example/a", &["v1"])]);
        check(&["h.example/a"], &["v1", "v2", "v1"], &[("h.example/a", &["v1", "v2"])]);
        check(
            &["h.example/a:v1", "h.example/b:v2"],
            &["x"],
            &[("h.example/a", &["v1", "x"]), ("h.example/b", &["v2", "x"])],
        );
        check(&["h.example/a:v1", "h.example/a:v2"], &[], &[("h.example/a", &["v1", "v2"])]);
        check(&[&digest], &[], &[("h.example/a", &[])]);
        check(&[&digest], &["v1"], &[("h.example/a", &["v1"])]);
        check(&[&digest, "h.example/a"], &[], &[("h.example/a", &["latest"])]);
    }
}
