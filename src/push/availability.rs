//! What ECR's API says of an image's blobs, all of them at once: a request for each hundred instead of one for each.

use std::collections::HashSet;

use futures_util::future::join_all;

use super::{Destination, PushError};
use crate::aws::denial::Policy;
use crate::aws::failure::{ApiError, AwsMeaning};
use crate::aws::layers;
use crate::aws::session::AwsError;
use crate::image::Image;
use crate::oci::digest::{Algorithm, Digest};

/// What the API says.
#[derive(Debug, Default)]
pub(super) struct Availability<'a> {
    /// Whether the repository is there, if the API has told.
    pub(super) repository: Option<bool>,
    /// The blobs that are there.
    pub(super) there: HashSet<&'a Digest>,
    /// Those of which it doesn't say anything: the registry has to be asked.
    pub(super) unknown: HashSet<&'a Digest>,
}

/// Asks for all blobs of `image`; where the destination isn't ECR, nobody is asked.
///
/// The SHA-512 of a blob isn't asked for: it isn't known whether the API takes one (facts/ecr.md, Manifests and tags), and it
/// would refuse what is named beside it, too.
///
/// # Errors
/// When the right is missing. Whatever else keeps the API from answering leaves blobs unknown.
pub(super) async fn ask<'a>(image: &'a Image, destination: &Destination) -> Result<Availability<'a>, PushError> {
    let digests = image.blobs().map(|blob| &blob.digest);
    let Some(session) = &destination.ecr else {
        return Ok(Availability { unknown: digests.collect(), ..Availability::default() });
    };
    let repository = &destination.target.repository;
    let (asked, unasked): (Vec<&Digest>, Vec<_>) = digests.partition(|digest| digest.algorithm() == Algorithm::Sha256);
    let mut availability = Availability { unknown: unasked.into_iter().collect(), ..Availability::default() };
    let asking = asked.chunks(layers::MOST).map(async |digests| {
        let answer = layers::available(session, &repository.name, digests).await;
        (digests, answer)
    });
    for (digests, answer) in join_all(asking).await {
        match answer {
            Ok(there) => {
                availability.repository = Some(true);
                availability.there.extend(there);
            }
            Err(error) => match Failure::of(error.meaning(), policy(&error)) {
                Failure::RepositoryMissing => {
                    let repository = Some(false);
                    return Ok(Availability { repository, ..Availability::default() });
                }
                Failure::Final => {
                    return Err(PushError::Layers { repository: repository.to_string(), source: error });
                }
                Failure::Blocked => {
                    tracing::debug!(%repository, %error, "each blob is looked up in the registry instead");
                    availability.unknown.extend(digests);
                }
            },
        }
    }
    Ok(availability)
}

/// What it means that the API doesn't say what is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Failure {
    /// Nothing is there. That is nothing to refuse a push for, which may make the repository (facts/ecr.md, Uploading a blob).
    RepositoryMissing,
    /// The registry would refuse the same.
    Final,
    /// The registry may answer all the same.
    Blocked,
}

impl Failure {
    /// By AWS's answer, if there was one, and the policy that forbids it, if there is one.
    fn of(meaning: Option<AwsMeaning>, policy: Option<Policy>) -> Self {
        match (meaning, policy) {
            (Some(AwsMeaning::RepositoryMissing), _) => Self::RepositoryMissing,
            // That is the policy of the API's own way out of a network; the registry's has another.
            (Some(AwsMeaning::Denied), Some(Policy::VpcEndpoint)) => Self::Blocked,
            // It is the right that a HEAD needs, too (facts/ecr.md, Credentials).
            (Some(AwsMeaning::Denied), _) => Self::Final,
            _ => Self::Blocked,
        }
    }
}

fn policy(error: &AwsError) -> Option<Policy> {
    match error {
        AwsError::Api(ApiError::Answered(answer)) => answer.denial.as_ref().map(|denial| denial.policy),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures() {
        let check = |meaning, policy, expected| {
            assert_eq!(Failure::of(meaning, policy), expected, "{meaning:?} {policy:?}");
        };
        check(Some(AwsMeaning::RepositoryMissing), None, Failure::RepositoryMissing);
        check(Some(AwsMeaning::Denied), None, Failure::Final);
        check(Some(AwsMeaning::Denied), Some(Policy::Identity), Failure::Final);
        check(Some(AwsMeaning::Denied), Some(Policy::Resource), Failure::Final);
        check(Some(AwsMeaning::Denied), Some(Policy::VpcEndpoint), Failure::Blocked);
        check(Some(AwsMeaning::Throttled), None, Failure::Blocked);
        check(Some(AwsMeaning::Unavailable), None, Failure::Blocked);
        check(Some(AwsMeaning::Invalid), None, Failure::Blocked);
        check(Some(AwsMeaning::Refused), None, Failure::Blocked);
        check(Some(AwsMeaning::Expired), None, Failure::Blocked);
        check(None, None, Failure::Blocked);
    }
}
