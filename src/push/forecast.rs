//! What a push would do: every question that it asks, and nothing of what it writes.

use std::collections::HashSet;
use std::sync::Arc;

use futures_util::future::join_all;

use super::mounts::Mounts;
use super::retry::Retry;
use super::{Destination, PushError, PushOptions, survey};
use crate::event::Reporter;
use crate::image::{Blob, Image, Role};
use crate::oci::digest::Digest;
use crate::plan::{Look, Plan, Survey, Target};

/// What would become of one destination.
#[derive(Debug)]
pub struct Forecast {
    /// What is to be written where.
    pub target: Target,
    /// Whether its repository would be made.
    pub creates: bool,
    /// What each of the target's tags names now.
    pub looks: Vec<Look>,
    /// Every blob of the image, the largest first.
    pub blobs: Vec<BlobForecast>,
    /// Manifests that would be written, by digest or with a tag.
    pub manifests: usize,
    /// Referrers that would be written.
    pub referrers: Vec<Digest>,
    /// Why it would fail, as far as that can be known.
    pub error: Option<PushError>,
}

/// What would become of a blob.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlobForecast {
    /// The blob.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
    /// What it is in its image.
    pub role: Role,
    /// What would become of it.
    pub fate: Fate,
}

/// What would become of a blob in one repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fate {
    /// It is there.
    There,
    /// It would be sent, unless it can be mounted from this repository.
    Mounted {
        /// The repository that would be tried first.
        from: String,
    },
    /// It would be sent.
    Uploaded,
}

/// Says what `push` would do to each destination, in their order.
pub async fn forecast(
    image: &Image,
    destinations: &[Destination],
    options: &PushOptions,
    reporter: &Arc<dyn Reporter>,
) -> Vec<Forecast> {
    let retry = Retry::of(destinations, options, reporter);
    let mounts = Mounts::new(image, &options.mount_from, &options.known);
    let asking = destinations.iter().map(async |destination| {
        let surveyed = survey::survey(image, destination, options, &retry, &**reporter).await;
        let mut survey = match surveyed {
            Ok(survey) => survey,
            Err(error) => return failed(destination, error),
        };
        if survey.children_unasked {
            match survey::children(image, destination, &survey, &retry).await {
                Ok(children) => survey.manifests.retain(|digest| is_top(image, digest) || children.contains(digest)),
                Err(error) => return failed(destination, error.into()),
            }
        }
        foreseen(image, destination, survey, &mounts)
    });
    join_all(asking).await
}

fn is_top(image: &Image, digest: &Digest) -> bool {
    *digest == image.root().manifest.digest || image.referrers().contains(digest)
}

fn failed(destination: &Destination, error: PushError) -> Forecast {
    Forecast {
        target: destination.target.clone(),
        creates: false,
        looks: Vec::new(),
        blobs: Vec::new(),
        manifests: 0,
        referrers: Vec::new(),
        error: Some(error),
    }
}

fn foreseen(image: &Image, destination: &Destination, survey: Survey, mounts: &Mounts) -> Forecast {
    let target = &destination.target;
    let (creates, looks, lacking) = (survey.created, survey.looks.clone(), survey.blobs.clone());
    let writes = Plan::new(image, std::slice::from_ref(target), &[Some(survey)]).writes.pop().unwrap_or_default();
    let by_digest: HashSet<&Digest> = writes.waves.iter().flatten().collect();
    let manifests = by_digest.len() + usize::from(writes.root_by_digest) + writes.tags.len() + writes.referrers.len();
    let fate = |blob: &Blob| {
        if !lacking.contains(&blob.digest) {
            return Fate::There;
        }
        // A repository that isn't there yet takes nothing from others on ECR, either: it is made first.
        match mounts.worth(destination, &blob.digest).into_iter().next() {
            Some(candidate) => Fate::Mounted { from: candidate.from },
            None => Fate::Uploaded,
        }
    };
    let forecast =
        |blob: &Blob| BlobForecast { digest: blob.digest.clone(), size: blob.size, role: blob.role, fate: fate(blob) };
    let mut blobs: Vec<BlobForecast> = image.blobs().map(forecast).collect();
    blobs.sort_by_key(|blob| std::cmp::Reverse(blob.size));
    Forecast { target: target.clone(), creates, looks, blobs, manifests, referrers: writes.referrers, error: None }
}
