//! What can be known of an ECR repository before anything is sent: whether it has to be made, whether it would refuse a tag,
//! and whether a layer is too large for it.

use std::collections::HashSet;

use super::retry::Retry;
use super::{Destination, PushError};
use crate::aws::host::EcrRegistry;
use crate::aws::repository::{self, NewRepository};
use crate::aws::session::AwsSession;
use crate::image::Image;
use crate::oci::digest::Digest;
use crate::oci::manifest::Manifest;
use crate::plan::Look;
use crate::registry::failure::{Meaning, RegistryError};

/// Whether a repository had to be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Repository {
    /// It was there, or is by now.
    There,
    /// It was made.
    Created,
}

/// Makes the repository if it is missing; `known` is whether it is there, where that is known.
pub(super) async fn ensure(
    destination: &Destination,
    session: &AwsSession,
    new: &NewRepository,
    root: &Manifest,
    known: Option<bool>,
    retry: &Retry,
) -> Result<Repository, PushError> {
    let there = match known {
        Some(there) => there,
        None => missing(destination, root, retry).await?.is_none(),
    };
    if there {
        return Ok(Repository::There);
    }
    let whole = &destination.target.repository;
    match repository::create(session, &whole.name, new).await {
        Ok(true) => Ok(Repository::Created),
        Ok(false) => Ok(Repository::There),
        Err(source) => Err(PushError::Create { repository: whole.to_string(), source }),
    }
}

/// Whether a push would make the repository; `known` and `creates` are whether it is there and whether it may be made.
///
/// # Errors
/// When it is missing and may not be made.
pub(super) async fn would_create(
    destination: &Destination,
    root: &Manifest,
    known: Option<bool>,
    creates: bool,
    retry: &Retry,
) -> Result<bool, PushError> {
    match known {
        _ if !destination.is_ecr() => Ok(false),
        Some(true) => Ok(false),
        Some(false) if creates => Ok(true),
        Some(false) | None => match missing(destination, root, retry).await? {
            Some(error) if !creates => Err(error.into()),
            missing => Ok(missing.is_some()),
        },
    }
}

/// What the registry says of a repository that is missing; `None` if it is there.
///
/// A HEAD's 404 doesn't tell a missing tag from a missing repository; a GET's does. That is one request of a push that has
/// a whole image to send, and no right that it doesn't need anyway.
async fn missing(
    destination: &Destination,
    root: &Manifest,
    retry: &Retry,
) -> Result<Option<RegistryError>, RegistryError> {
    let whole = &destination.target.repository;
    let asking = async || destination.registry.get_manifest(&whole.name, root.digest.as_str()).await;
    match retry.run(&whole.to_string(), asking).await {
        Ok(_) => Ok(None),
        Err(error) if error.meaning() == Some(Meaning::RepositoryMissing) => Ok(Some(error)),
        Err(error) => Err(error),
    }
}

/// Refuses a push of which it can be known that a tag will be refused after another one has been moved.
///
/// Of several tags that would be moved the one that is refused may come second: a repository's mode may except some. With
/// one alone there is nothing to be known, since it is written first. The right to ask isn't one that a push needs, so that
/// it is no failure when it is missing.
pub(super) async fn check_mutability(
    destination: &Destination,
    looks: &[Look],
    root: &Manifest,
) -> Result<(), PushError> {
    let tags = &destination.target.tags;
    let moved: Vec<_> = tags.iter().zip(looks).filter(|(_, look)| matches!(look, Look::Other(_))).collect();
    let (Some(session), true) = (&destination.ecr, moved.len() > 1) else { return Ok(()) };
    let repository = &destination.target.repository;
    let Ok(Some(settings)) = repository::describe(session, &repository.name).await else { return Ok(()) };
    for (tag, look) in moved {
        if let Look::Other(theirs) = look
            && settings.mutability.is_immutable(tag.as_str())
        {
            return Err(PushError::TagImmutable {
                reference: format!("{repository}:{tag}"),
                ours: root.digest.clone(),
                theirs: theirs.clone(),
            });
        }
    }
    Ok(())
}

/// Refuses a layer that is larger than ECR takes, before any of it is sent.
pub(super) fn check_sizes(image: &Image, destination: &Destination, blobs: &HashSet<Digest>) -> Result<(), PushError> {
    let repository = &destination.target.repository;
    let Some(limit) = EcrRegistry::of(&repository.host).map(|registry| registry.layer_limit()) else { return Ok(()) };
    match image.blobs().find(|blob| blob.size > limit && blobs.contains(&blob.digest)) {
        Some(blob) => Err(PushError::TooLarge { digest: blob.digest.clone(), size: blob.size, limit }),
        None => Ok(()),
    }
}
