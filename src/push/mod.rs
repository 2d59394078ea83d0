//! Carries a plan out: blobs side by side, then manifests, then tags, then the check.
//!
//! A destination that fails gets no tags; the others finish. Nothing here touches SOURCE but to read it.

mod arrival;
mod availability;
mod blobs;
mod course;
mod error;
pub mod forecast;
mod mounts;
pub(crate) mod opening;
pub mod pace;
mod presence;
pub mod reader;
mod repository;
pub mod retry;
pub mod sessions;
mod stops;
pub mod streams;
mod survey;
mod tags;
mod traffic;
pub mod turns;
pub mod upload;

use std::collections::HashSet;
use std::sync::Arc;

use futures_util::future::{self, join_all};
use futures_util::stream::{self, StreamExt, TryStreamExt};

pub use self::error::PushError;
use self::mounts::Mounts;
use self::retry::Retry;
use self::sessions::Sessions;
use self::streams::Recipe;
use self::turns::Turns;
use crate::aws::repository::NewRepository;
use crate::aws::session::AwsSession;
use crate::event::{Event, Reporter};
use crate::image::Image;
use crate::known::Known;
use crate::oci::digest::Digest;
use crate::oci::manifest::Manifest;
use crate::oci::reference::Repository;
use crate::plan::{self, Look, Plan, Survey, Target, Writes};
use crate::registry::failure::RegistryError;
use crate::registry::{Registry, Stored};

/// Manifests under way at once in one repository.
const MANIFESTS: usize = 8;

/// A target and how it is reached.
#[derive(Debug, Clone)]
pub struct Destination {
    /// What is to be written where.
    pub target: Target,
    /// Its registry; destinations on one host share it.
    pub registry: Arc<Registry>,
    /// The account, if it is ECR.
    pub ecr: Option<Arc<AwsSession>>,
    /// When manifests may be written, where that is counted; shared by the destinations on one host.
    pub turns: Option<Turns>,
    /// What it got of the image already, before the image was known.
    pub before: Before,
}

/// What a destination got of an image before it was known: see [`streams`].
#[derive(Debug, Clone, Default)]
pub struct Before {
    /// Blobs.
    pub blobs: HashSet<Digest>,
    /// Those of them that were uploaded.
    pub uploaded: Count,
    /// Whether its repository was made.
    pub created: bool,
}

impl Destination {
    /// Whether it is ECR, whose word on what it has is enough.
    pub(crate) fn is_ecr(&self) -> bool {
        self.ecr.is_some()
    }

    /// Waits until one more manifest may be written.
    async fn turn(&self) {
        if let Some(turns) = &self.turns {
            turns.next().await;
        }
    }

    /// Writes a manifest under `reference` when it is its turn.
    async fn put_manifest(&self, reference: &str, manifest: &Manifest) -> Result<Stored, RegistryError> {
        self.turn().await;
        self.registry.put_manifest(&self.target.repository.name, reference, manifest).await
    }
}

/// How a push is carried out.
#[derive(Debug, Clone)]
pub struct PushOptions {
    /// Blobs in flight at once.
    pub jobs: usize,
    /// How often something transient is tried again without progress.
    pub retries: u32,
    /// Look up every blob and child even where a tag names the image already: SOURCE will be removed afterwards.
    pub thorough: bool,
    /// Ask for everything that a push would only come to see, and write nothing.
    pub dry_run: bool,
    /// How a repository that is missing is made; none if it is not to be made.
    pub create: Option<NewRepository>,
    /// Repositories of each target's registry that blobs are to be mounted from.
    pub mount_from: Vec<String>,
    /// Where earlier pushes saw blobs.
    pub known: Known,
    /// How layers are made that are compressed on their way.
    pub recipe: Recipe,
}

/// What became of one tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TagOutcome {
    /// It was written.
    Written,
    /// It named the image already.
    AlreadyThere,
    /// It was left alone, because something failed before.
    NotWritten,
}

/// What became of a blob in one repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Arrival {
    /// It was sent.
    Uploaded,
    /// It was mounted.
    Mounted {
        /// The repository that it was mounted from.
        from: String,
    },
    /// It was there already.
    Present,
}

/// A number of things and their bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Count {
    /// How many.
    pub number: usize,
    /// Their bytes.
    pub bytes: u64,
}

impl Count {
    fn add(&mut self, bytes: u64) {
        self.number += 1;
        self.bytes += bytes;
    }
}

/// What became of one destination.
#[derive(Debug)]
pub struct Outcome {
    /// What was to be written where.
    pub target: Target,
    /// Whether its repository was made.
    pub created: bool,
    /// For each of the target's tags.
    pub tags: Vec<TagOutcome>,
    /// Blobs that were uploaded.
    pub uploaded: Count,
    /// Blobs that were mounted from other repositories.
    pub mounted: Count,
    /// Manifests that were written, by digest or with a tag.
    pub manifests: usize,
    /// Referrers that were written.
    pub referrers: Vec<Digest>,
    /// Why it failed, if it did.
    pub error: Option<PushError>,
}

/// What became of a push.
#[derive(Debug)]
pub struct Pushed {
    /// Of each destination, in their order.
    pub outcomes: Vec<Outcome>,
    /// Where blobs were thought to be, and could not be mounted from.
    pub stale: Vec<(Repository, Digest)>,
}

/// One run: what all its steps share.
struct Run<'a> {
    image: &'a Image,
    destinations: &'a [Destination],
    options: &'a PushOptions,
    sessions: &'a Sessions,
    reporter: &'a Arc<dyn Reporter>,
    retry: Retry,
}

/// Pushes `image` to every destination and says what became of each, in their order.
///
/// Dropping the future stops the push; [`Sessions::cancel_all`] then closes what it had open.
pub async fn push(
    image: &Image,
    destinations: &[Destination],
    options: PushOptions,
    sessions: &Sessions,
    reporter: &Arc<dyn Reporter>,
) -> Pushed {
    let retry = Retry::of(destinations, &options, reporter);
    let run = Run { image, destinations, options: &options, sessions, reporter, retry };
    let mounts = Mounts::new(image, &options.mount_from, &options.known);
    let mut outcomes: Vec<Outcome> = destinations.iter().map(untouched).collect();
    let surveys = run.survey(&mut outcomes).await;
    let targets: Vec<Target> = destinations.iter().map(|destination| destination.target.clone()).collect();
    let mut plan = Plan::new(image, &targets, &surveys);
    let uploading = run.upload(&plan, &surveys, &mounts, &mut outcomes);
    let ((), children) = future::join(uploading, run.ask_for_children(&surveys)).await;
    leave_out(&mut plan, children, &mut outcomes);
    run.put_children(&plan, &mut outcomes).await;
    run.look_again(&mut plan, &surveys, &mut outcomes).await;
    run.put_roots(&plan, &mut outcomes).await;
    Pushed { outcomes, stale: mounts.stale() }
}

fn untouched(destination: &Destination) -> Outcome {
    Outcome {
        target: destination.target.clone(),
        created: destination.before.created,
        tags: vec![TagOutcome::NotWritten; destination.target.tags.len()],
        uploaded: destination.before.uploaded,
        mounted: Count::default(),
        manifests: 0,
        referrers: Vec::new(),
        error: None,
    }
}

/// Takes out of a plan what has proven to be there since it was made.
fn leave_out(plan: &mut Plan, children: Vec<Option<Result<HashSet<Digest>, RegistryError>>>, outcomes: &mut [Outcome]) {
    for ((writes, children), outcome) in plan.writes.iter_mut().zip(children).zip(outcomes) {
        match children {
            Some(Ok(lacking)) => writes.leave_out_all_but(&lacking),
            Some(Err(error)) => outcome.error = outcome.error.take().or(Some(error.into())),
            None => {}
        }
    }
}

impl Run<'_> {
    async fn survey(&self, outcomes: &mut [Outcome]) -> Vec<Option<Survey>> {
        let asking = self
            .destinations
            .iter()
            .map(|d| survey::survey(self.image, d, self.options, &self.retry, &**self.reporter));
        let answers = join_all(asking).await;
        let noted = answers.into_iter().zip(self.destinations).zip(outcomes).map(|((answer, destination), outcome)| {
            let survey = match answer {
                Ok(survey) => survey,
                Err(error) => {
                    outcome.error = Some(error);
                    return None;
                }
            };
            outcome.created |= survey.created;
            for (tag, look) in outcome.tags.iter_mut().zip(&survey.looks) {
                if *look == Look::Same {
                    *tag = TagOutcome::AlreadyThere;
                }
            }
            let lacking = survey.blobs.iter().filter_map(|digest| self.image.blob(digest));
            self.reporter.report(&Event::Planned {
                repository: destination.target.repository.clone(),
                blobs: survey.blobs.len(),
                bytes: lacking.map(|blob| blob.size).sum(),
                at_most: survey.blobs_unasked && !survey.blobs.is_empty(),
                present: self.image.blobs().count() - survey.blobs.len(),
            });
            Some(survey)
        });
        noted.collect()
    }

    /// Which of the manifests that a survey left open have to be written; nothing where it left none open.
    async fn ask_for_children(
        &self,
        surveys: &[Option<Survey>],
    ) -> Vec<Option<Result<HashSet<Digest>, RegistryError>>> {
        let asking = self.destinations.iter().zip(surveys).map(async |(destination, survey)| {
            let survey = survey.as_ref().filter(|survey| survey.children_unasked)?;
            Some(survey::children(self.image, destination, survey, &self.retry).await)
        });
        join_all(asking).await
    }

    async fn put_children(&self, plan: &Plan, outcomes: &mut [Outcome]) {
        let putting = self.destinations.iter().zip(&plan.writes).zip(outcomes).map(async |((to, writes), outcome)| {
            if outcome.error.is_some() {
                return;
            }
            for wave in &writes.waves {
                let put = stream::iter(wave).map(|digest| self.put_by_digest(to, digest)).buffer_unordered(MANIFESTS);
                match put.try_collect::<Vec<()>>().await {
                    Ok(put) => outcome.manifests += put.len(),
                    Err(error) => {
                        outcome.error = Some(error.into());
                        return;
                    }
                }
            }
        });
        join_all(putting).await;
    }

    async fn put_by_digest(&self, destination: &Destination, digest: &Digest) -> Result<(), RegistryError> {
        let Some(node) = self.image.node(digest) else { return Ok(()) };
        let repository = &destination.target.repository;
        tags::put_by_digest(destination, &node.manifest, &self.retry).await?;
        self.reporter.report(&Event::Manifest { repository: repository.clone(), digest: digest.clone() });
        Ok(())
    }

    /// Looks at every tag once more before the first is written, when several will be: a destination that has gone away
    /// meanwhile is noticed while no tag has moved yet.
    async fn look_again(&self, plan: &mut Plan, surveys: &[Option<Survey>], outcomes: &mut [Outcome]) {
        if plan.writes.iter().map(|writes| writes.tags.len()).sum::<usize>() < 2 {
            return;
        }
        let root = &self.image.root().manifest;
        let looking = self.destinations.iter().zip(&mut plan.writes).zip(surveys).zip(outcomes).map(
            async |(((destination, writes), before), outcome)| {
                if outcome.error.is_some() {
                    return;
                }
                let whole = &destination.target.repository;
                let looks = survey::ask(&writes.tags, async |at: &usize| {
                    let tag = destination.target.tags[*at].as_str();
                    self.retry.run(&format!("{whole}:{tag}"), async || tags::look(destination, tag, root).await).await
                });
                let looks = match looks.await {
                    Ok(looks) => looks,
                    Err(error) => {
                        outcome.error = Some(error.into());
                        return;
                    }
                };
                let mut now = vec![Look::Same; destination.target.tags.len()];
                for (at, look) in writes.tags.iter().zip(looks) {
                    if look == Look::Same {
                        outcome.tags[*at] = TagOutcome::AlreadyThere;
                    }
                    now[*at] = look;
                }
                writes.tags = plan::order(&destination.target, &now);
                let is_new = |(now, before): (&Look, &Look)| matches!(now, Look::Other(_)) && now != before;
                // Somebody else wrote a tag meanwhile, and what would move is not what it was.
                if before.as_ref().is_some_and(|before| now.iter().zip(&before.looks).any(is_new)) {
                    outcome.error = repository::check_mutability(destination, &now, root).await.err();
                }
            },
        );
        join_all(looking).await;
    }

    async fn put_roots(&self, plan: &Plan, outcomes: &mut [Outcome]) {
        let putting = self.destinations.iter().zip(&plan.writes).zip(outcomes).map(async |((to, writes), outcome)| {
            if outcome.error.is_none() {
                outcome.error = self.put_root(to, writes, outcome).await.err();
            }
        });
        join_all(putting).await;
    }

    /// The root under its first tag, then what refers to it, then the other tags; then every tag is read back.
    async fn put_root(
        &self,
        destination: &Destination,
        writes: &Writes,
        outcome: &mut Outcome,
    ) -> Result<(), PushError> {
        let root = &self.image.root().manifest;
        let target = &destination.target;
        let repository = &target.repository;
        let mut tags = writes.tags.iter();
        if let Some(first) = tags.next() {
            self.put_tag(destination, *first, outcome).await?;
        } else if writes.root_by_digest {
            self.put_by_digest(destination, &root.digest).await?;
            outcome.manifests += 1;
        }
        if root.subject.is_some() && !writes.tags.is_empty() {
            tags::link(destination, root, &self.retry).await?;
        }
        for digest in self.image.referrers().iter().filter(|_| self.options.thorough && !destination.is_ecr()) {
            // SOURCE will go, so that a listing which an earlier push didn't come to write is written now or never.
            if let Some(node) = self.image.node(digest).filter(|_| !writes.referrers.contains(digest)) {
                tags::link(destination, &node.manifest, &self.retry).await?;
            }
        }
        for digest in &writes.referrers {
            self.put_by_digest(destination, digest).await?;
            outcome.referrers.push(digest.clone());
            outcome.manifests += 1;
        }
        for at in tags {
            self.put_tag(destination, *at, outcome).await?;
        }
        let written = writes.tags.iter().map(|at| target.tags[*at].as_str());
        let references = written.chain(writes.root_by_digest.then_some(root.digest.as_str()));
        let reading = references.map(|reference| tags::read_back(destination, reference, root, &self.retry));
        futures_util::future::try_join_all(reading).await?;
        self.reporter.report(&Event::Verified { repository: repository.clone() });
        Ok(())
    }

    async fn put_tag(&self, destination: &Destination, at: usize, outcome: &mut Outcome) -> Result<(), PushError> {
        let target = &destination.target;
        let tag = &target.tags[at];
        let (repository, name) = (target.repository.clone(), tag.to_string());
        self.reporter.report(&Event::Tagging { repository, tag: name });
        let wrote = tags::put_tag(destination, tag, &self.image.root().manifest, &self.retry).await?;
        outcome.tags[at] = if wrote { TagOutcome::Written } else { TagOutcome::AlreadyThere };
        if wrote {
            outcome.manifests += 1;
            let (repository, tag) = (target.repository.clone(), tag.to_string());
            self.reporter.report(&Event::Tagged { repository, tag });
        }
        Ok(())
    }
}
