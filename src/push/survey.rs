//! Asks one repository what it has of an image, and no more than is needed to know what it lacks.

use std::collections::{BTreeSet, HashSet};

use futures_util::stream::{self, StreamExt, TryStreamExt};

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
    let proof = destination.is_ecr() || !options.thorough;
    let whole = &destination.target.repository;
    let repository = &whole.name;
    let root = &image.root().manifest;
    let mut references: Vec<String> = destination.target.tags.iter().map(|tag| tag.as_str().to_owned()).collect();
    if references.is_empty() {
        references.push(root.digest.to_string());
    }
    let looks = ask(&references, async |reference| {
        retry.run(&format!("{whole}:{reference}"), async || look(destination, reference, root).await).await
    });
    let has_manifest = async |digest: &Digest| {
        retry
            .run(&format!("{whole}: manifest {}", digest.short()), async || {
                Ok(destination.registry.head_manifest(repository, digest.as_str()).await?.is_some())
            })
            .await
    };
    let (looks, referrers) = futures_util::try_join!(looks, ask(image.referrers(), has_manifest))?;

    let mut survey = Survey { looks, ..Survey::default() };
    if survey.looks.iter().all(|look| *look == Look::Absent)
        && let (Some(new), Some(session)) = (&options.create, &destination.ecr)
        && repository::ensure(destination, session, new, root, retry).await? == Repository::Created
    {
        reporter.report(&Event::Created { repository: whole.clone() });
        // What was made just now has nothing, and isn't asked.
        survey.created = true;
        survey.manifests = image.nodes().iter().map(|node| node.manifest.digest.clone()).collect();
        survey.blobs = image.blobs().map(|blob| blob.digest.clone()).collect();
        repository::check_sizes(image, destination, &survey.blobs)?;
        return Ok(survey);
    }
    repository::check_mutability(destination, &survey.looks, root).await?;
    let mut answers: Vec<(&Digest, bool)> = image.referrers().iter().zip(referrers).collect();
    let mut questions: BTreeSet<&Digest> = BTreeSet::new();
    let known = survey.looks.contains(&Look::Same);
    if known || destination.target.tags.is_empty() {
        // What was looked at was the root itself, or a tag that names it.
        answers.push((&root.digest, known));
    } else {
        questions.insert(&root.digest);
    }
    // Breadth first: a level's questions go out together, and what is proven is not walked.
    let mut seen: HashSet<&Digest> = answers.iter().map(|(digest, _)| *digest).collect();
    let mut blobs: BTreeSet<&Digest> = BTreeSet::new();
    loop {
        for (digest, there) in answers.drain(..) {
            if !there {
                survey.manifests.insert(digest.clone());
            }
            if let Some(node) = image.node(digest).filter(|_| !(there && proof)) {
                blobs.extend(&node.blobs);
                questions.extend(node.children().filter(|child| !seen.contains(child)));
            }
        }
        if questions.is_empty() {
            break;
        }
        seen.extend(&questions);
        let asked: Vec<&Digest> = std::mem::take(&mut questions).into_iter().collect();
        let there = ask(&asked, async |digest| has_manifest(digest).await).await?;
        answers = asked.into_iter().zip(there).collect();
    }
    let blobs: Vec<&Digest> = blobs.into_iter().collect();
    let answers = ask(&blobs, async |digest| {
        retry
            .run(&format!("{whole}: blob {}", digest.short()), async || {
                destination.registry.has_blob(repository, digest).await
            })
            .await
    })
    .await?;
    survey.blobs = blobs.into_iter().zip(answers).filter(|(_, there)| !there).map(|(blob, _)| blob.clone()).collect();
    repository::check_sizes(image, destination, &survey.blobs)?;
    Ok(survey)
}

/// Asks about each of `items`, several at once, and gives the answers in their order.
pub(super) async fn ask<'a, T, A>(
    items: &'a [T],
    question: impl AsyncFn(&'a T) -> Result<A, RegistryError>,
) -> Result<Vec<A>, RegistryError> {
    stream::iter(items).map(|item| question(item)).buffered(QUESTIONS).try_collect().await
}
