//! Asks one repository what it has of an image, and no more than is needed to know what it lacks.
//!
//! What keeps the first byte waiting is asked first and side by side: the tags, and ECR's API for the blobs. Which of the
//! manifests below an index are there is for their writing to know: [`children`].

use std::collections::{BTreeSet, HashSet};
use std::pin::pin;

use futures_util::future::{self, Either};
use futures_util::stream::{self, StreamExt, TryStreamExt};

use super::availability::{self, Availability};
use super::repository::{self, Repository};
use super::retry::Retry;
use super::tags::look;
use super::{Destination, PushError, PushOptions};
use crate::event::{Event, Reporter};
use crate::image::Image;
use crate::oci::digest::Digest;
use crate::plan::{Look, Survey};
use crate::registry::failure::RegistryError;

/// Questions under way at once; each is one small request.
const QUESTIONS: usize = 16;

/// What `destination` has and lacks.
///
/// A tag that names the digest already proves that everything is there, since registries refuse manifests whose parts
/// are missing; so does a child manifest. With clean-up ahead only ECR's word is enough for that, and on other
/// registries everything is looked up.
pub(super) async fn survey(
    image: &Image,
    destination: &Destination,
    options: &PushOptions,
    retry: &Retry,
    reporter: &dyn Reporter,
) -> Result<Survey, PushError> {
    let whole = &destination.target.repository;
    let root = &image.root().manifest;
    let mut references: Vec<String> = destination.target.tags.iter().map(|tag| tag.as_str().to_owned()).collect();
    if references.is_empty() {
        references.push(root.digest.to_string());
    }
    let looks = ask(&references, async |reference| {
        retry.run(&format!("{whole}:{reference}"), async || look(destination, reference, root).await).await
    });
    let referrers = ask(image.referrers(), async |digest| has_manifest(destination, digest, retry).await);
    let looking = future::try_join(looks, referrers);
    let asking = pin!(availability::ask(image, destination));
    let ((looks, referrers), asking) = match future::select(pin!(looking), asking).await {
        Either::Left((looked, asking)) => (looked?, Either::Left(asking)),
        Either::Right((availability, looking)) => (looking.await?, Either::Right(future::ready(availability))),
    };

    let mut survey = Survey { looks, ..Survey::default() };
    let known = survey.looks.contains(&Look::Same);
    let moves = repository::check_mutability(destination, &survey.looks, root);
    if known && (destination.is_ecr() || !options.thorough) && referrers.iter().all(|there| *there) {
        // Nothing is lacking. What the API would say isn't waited for, and it doesn't matter if that is a refusal.
        moves.await?;
        return Ok(survey);
    }
    let (availability, ()) = future::try_join(asking, moves).await?;
    let absent = survey.looks.iter().all(|look| *look == Look::Absent);
    if absent && options.dry_run {
        let (there, creates) = (availability.repository, options.create.is_some());
        survey.created = repository::would_create(destination, root, there, creates, retry).await?;
    } else if absent
        && let (Some(new), Some(session)) = (&options.create, &destination.ecr)
        && repository::ensure(destination, session, new, root, availability.repository, retry).await?
            == Repository::Created
    {
        reporter.report(&Event::Created { repository: whole.clone() });
        survey.created = true;
    }
    if survey.created || !known && availability.repository == Some(false) {
        // It has nothing, and isn't asked.
        survey.manifests = image.nodes().iter().map(|node| node.manifest.digest.clone()).collect();
        survey.blobs = image.blobs().map(|blob| blob.digest.clone()).collect();
    } else {
        let referrers = image.referrers().iter().zip(referrers).collect();
        lacks(image, destination, options, retry, referrers, &availability, &mut survey).await?;
    }
    survey.blobs.retain(|blob| !destination.before.blobs.contains(blob));
    repository::check_sizes(image, destination, &survey.blobs)?;
    Ok(survey)
}

/// Adds to `survey` what is lacking below the root and the referrers, after the looks; `referrers` is which of these are there.
async fn lacks<'a>(
    image: &'a Image,
    destination: &Destination,
    options: &PushOptions,
    retry: &Retry,
    referrers: Vec<(&'a Digest, bool)>,
    availability: &Availability<'a>,
    survey: &mut Survey,
) -> Result<(), RegistryError> {
    let root = image.root();
    let digest = &root.manifest.digest;
    let known = survey.looks.contains(&Look::Same);
    let told = destination.is_ecr() && availability.unknown.is_empty();
    survey.blobs_unasked = !(destination.is_ecr() || known && options.thorough || options.dry_run);
    let (mut answers, mut questions) = (referrers, BTreeSet::new());
    if known || destination.target.tags.is_empty() {
        // What was looked at was the root itself, or a tag that names it.
        answers.push((digest, known));
    } else if told || survey.blobs_unasked && root.children().next().is_none() {
        // It is written under a tag anyway, and its blobs are found to be there without it.
        answers.push((digest, false));
    } else {
        questions.extend(root.children().chain([digest]));
    }
    let proof = destination.is_ecr() || !options.thorough;
    let has = async |digest| if told { Ok(false) } else { has_manifest(destination, digest, retry).await };
    let (manifests, mut blobs) = walk(image, answers, questions, proof, has).await?;
    survey.children_unasked = told && manifests.iter().any(|it| *it != digest && !image.referrers().contains(it));
    survey.manifests = manifests.into_iter().cloned().collect();

    blobs.retain(|blob| !availability.there.contains(blob));
    if !survey.blobs_unasked {
        let open: Vec<&Digest> = blobs.iter().filter(|blob| availability.unknown.contains(*blob)).copied().collect();
        let answers = ask(&open, async |digest| has_blob(destination, digest, retry).await).await?;
        for (blob, _) in open.into_iter().zip(answers).filter(|(_, there)| *there) {
            blobs.remove(blob);
        }
    }
    survey.blobs = blobs.into_iter().cloned().collect();
    Ok(())
}

/// Which manifests have to be written, of those that a survey didn't ask for: for while the blobs are on their way.
pub(super) async fn children(
    image: &Image,
    destination: &Destination,
    survey: &Survey,
    retry: &Retry,
) -> Result<HashSet<Digest>, RegistryError> {
    let root = &image.root().manifest.digest;
    let is_top = |digest: &&Digest| *digest == root || image.referrers().contains(digest);
    let mut tops: Vec<(&Digest, bool)> = survey.manifests.iter().filter(is_top).map(|top| (top, false)).collect();
    let mut questions = BTreeSet::new();
    if survey.blobs.is_empty() && !destination.target.tags.is_empty() {
        // With all of its blobs there the image may well be there under another tag, which one question tells.
        tops.retain(|(digest, _)| *digest != root);
        questions.extend(survey.manifests.get(root));
    }
    let has = async |digest| has_manifest(destination, digest, retry).await;
    let (manifests, _) = walk(image, tops, questions, true, has).await?;
    Ok(manifests.into_iter().cloned().collect())
}

/// Goes through an image's manifests from the top; gives those that are lacking, and the blobs of whatever isn't proven.
///
/// `answers` says of some whether they are there, and `questions` are asked first. Breadth first: a level's questions go out
/// together, and what is there is not walked if that is a `proof` of all that is below it.
async fn walk<'a>(
    image: &'a Image,
    mut answers: Vec<(&'a Digest, bool)>,
    mut questions: BTreeSet<&'a Digest>,
    proof: bool,
    has: impl AsyncFn(&'a Digest) -> Result<bool, RegistryError>,
) -> Result<(HashSet<&'a Digest>, BTreeSet<&'a Digest>), RegistryError> {
    let mut seen: HashSet<&Digest> = answers.iter().map(|(digest, _)| *digest).collect();
    let (mut manifests, mut blobs) = (HashSet::new(), BTreeSet::new());
    loop {
        for (digest, there) in answers.drain(..) {
            if !there {
                manifests.insert(digest);
            }
            if let Some(node) = image.node(digest).filter(|_| !(there && proof)) {
                blobs.extend(&node.blobs);
                questions.extend(node.children().filter(|child| !seen.contains(child)));
            }
        }
        if questions.is_empty() {
            return Ok((manifests, blobs));
        }
        seen.extend(&questions);
        let asked: Vec<&Digest> = std::mem::take(&mut questions).into_iter().collect();
        let there = ask(&asked, async |digest| has(*digest).await).await?;
        answers = asked.into_iter().zip(there).collect();
    }
}

async fn has_manifest(destination: &Destination, digest: &Digest, retry: &Retry) -> Result<bool, RegistryError> {
    let repository = &destination.target.repository;
    let asking = async || destination.registry.head_manifest(&repository.name, digest.as_str()).await;
    let found = retry.run(&format!("{repository}: manifest {}", digest.short()), asking).await?;
    Ok(found.is_some())
}

async fn has_blob(destination: &Destination, digest: &Digest, retry: &Retry) -> Result<bool, RegistryError> {
    let repository = &destination.target.repository;
    let asking = async || destination.registry.has_blob(&repository.name, digest).await;
    retry.run(&format!("{repository}: blob {}", digest.short()), asking).await
}

/// Asks about each of `items`, several at once, and gives the answers in their order.
pub(super) async fn ask<'a, T, A>(
    items: &'a [T],
    question: impl AsyncFn(&'a T) -> Result<A, RegistryError>,
) -> Result<Vec<A>, RegistryError> {
    stream::iter(items).map(|item| question(item)).buffered(QUESTIONS).try_collect().await
}
