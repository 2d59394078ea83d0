//! Uploads what is lacking: the largest first, small ones in the gaps, and as many at once as the pace says.

use std::cmp::Reverse;
use std::collections::HashSet;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use futures_util::future::{self, FutureExt};
use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio::time::MissedTickBehavior;

use super::mounts::Mounts;
use super::presence::Presence;
use super::reader::Pool;
use super::stops::Stops;
use super::streams::{Streamed, Streams, Wanted, Way};
use super::traffic::Traffic;
use super::upload::{UploadError, Uploader};
use super::{Arrival, Outcome, PushError, Run};
use crate::image::{Blob, Content, Role};
use crate::oci::digest::Digest;
use crate::plan::{Plan, Survey, Upload};

/// How often the rate is looked at.
const LOOK: Duration = Duration::from_millis(500);

/// The order in which a registry is asked for blobs: large ones first, but among those of about one size the upper layers, and
/// the config before all. Of an image that has changed these are lacking, and their bytes can leave while others are asked for.
fn likely_lacking(blob: &Blob) -> (bool, Reverse<Option<u32>>, Reverse<usize>) {
    match blob.role {
        Role::Config => (false, Reverse(None), Reverse(0)),
        Role::Layer { number, .. } => (true, Reverse(blob.size.checked_ilog2()), Reverse(number)),
    }
}

impl Run<'_> {
    /// Uploads the plan's blobs. A target that fails gets no more of them; when all have failed the rest is stopped at once.
    pub(super) async fn upload(
        &self,
        plan: &Plan,
        surveys: &[Option<Survey>],
        mounts: &Mounts<'_>,
        outcomes: &mut [Outcome],
    ) {
        let presences = self.destinations.iter().zip(surveys).map(|(destination, survey)| {
            let survey = survey.as_ref().filter(|survey| survey.blobs_unasked)?;
            Presence::watch(self.image, survey, &destination.registry, &destination.target.repository.name)
        });
        let (stops, attempts) = (Stops::new(self.destinations.len()), AtomicU64::new(0));
        let traffic = Traffic::new(self.options.jobs, self.retry.load());
        let uploader = Uploader {
            destinations: self.destinations,
            stops: &stops,
            root: &self.image.root().manifest.digest,
            retry: &self.retry,
            sessions: self.sessions,
            reporter: self.reporter,
            mounts,
            presences: presences.collect(),
            traffic: traffic.clone(),
            pool: Pool::default(),
            attempts: &attempts,
        };
        let lacking = plan.uploads.iter().filter_map(|upload| Some((upload, self.image.blob(&upload.digest)?)));
        let (made, waiting): (Vec<_>, Vec<_>) = lacking.partition(|(_, blob)| matches!(blob.content, Content::Made(_)));
        let streams = Streams {
            destinations: self.destinations,
            stops: &stops,
            retry: &self.retry,
            sessions: self.sessions,
            reporter: self.reporter,
            attempts: &attempts,
            recipe: &self.options.recipe,
            way: Way::Known(&uploader),
        };
        let made = made.into_iter().filter_map(|(upload, blob)| match &blob.content {
            Content::Made(raw) => Some(Wanted { raw: raw.clone(), blob: Some(blob), targets: upload.targets.clone() }),
            _ => None,
        });
        let making = streams.run(made.collect(), self.options.jobs);
        let (landed, streamed) = future::join(self.fly(&uploader, waiting), making).await;
        let Streamed { arrived, failed, .. } = streamed;
        let size = |digest: &Digest| self.image.made_of(digest).map_or(0, |blob| blob.size);
        let arrived = arrived.into_iter().map(|(target, digest, arrival)| (target, Ok((arrival, size(&digest)))));
        let failed = failed.into_iter().map(|(target, error)| (target, Err(error)));
        let mut failures: Vec<Vec<UploadError>> = outcomes.iter().map(|_| Vec::new()).collect();
        for (target, result) in landed.into_iter().chain(arrived).chain(failed) {
            match result {
                Ok((Arrival::Uploaded, size)) => outcomes[target].uploaded.add(size),
                Ok((Arrival::Mounted { .. }, size)) => outcomes[target].mounted.add(size),
                Ok((Arrival::Present, _)) => {}
                Err(error) => failures[target].push(error),
            }
        }
        if failures.iter().any(|failures| !failures.is_empty()) {
            // What was being opened when it was stopped.
            self.sessions.cancel_all().await;
        }
        for (outcome, failures) in outcomes.iter_mut().zip(failures) {
            outcome.error = outcome.error.take().or(PushError::of(failures));
        }
    }

    /// Uploads blobs that can be read, the largest first, as many at once as is good.
    async fn fly(
        &self,
        uploader: &Uploader<'_>,
        mut waiting: Vec<(&Upload, &Blob)>,
    ) -> Vec<(usize, Result<(Arrival, u64), UploadError>)> {
        let traffic = &uploader.traffic;
        if uploader.presences.iter().any(Option::is_some) {
            waiting.sort_by_key(|(_, blob)| likely_lacking(blob));
        }
        let (mut results, mut failed) = (Vec::new(), HashSet::new());
        let mut flying = FuturesUnordered::new();
        let mut looks = tokio::time::interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let freed = traffic.freed();
            let mut at = 0;
            while let Some((upload, blob)) = waiting.get(at).copied() {
                let targets: Vec<usize> =
                    upload.targets.iter().copied().filter(|target| !failed.contains(target)).collect();
                let on_ecr = targets.iter().filter(|target| self.destinations[**target].is_ecr()).count();
                let asks = targets.iter().any(|target| uploader.presences[*target].is_some());
                let lane = if targets.is_empty() { None } else { traffic.join(blob.size, on_ecr, asks) };
                let Some(mut lane) = lane else {
                    at += 1;
                    continue;
                };
                waiting.remove(at);
                flying.push(async move {
                    lane.turn().await;
                    (blob, uploader.upload(blob, &targets, &mut lane).await)
                });
            }
            // Now, while every place is taken that may be.
            traffic.look(LOOK, !waiting.is_empty());
            let mut landed = tokio::select! {
                landed = flying.next() => match landed {
                    Some(landed) => vec![landed],
                    None => return results,
                },
                _ = looks.tick() => Vec::new(),
                () = freed => Vec::new(),
            };
            // What failed at the same time is said with it.
            landed.extend(std::iter::from_fn(|| flying.next().now_or_never().flatten()));
            for (blob, ended) in landed {
                for (target, result) in ended {
                    if result.is_err() {
                        failed.insert(target);
                    }
                    results.push((target, result.map(|arrival| (arrival, blob.size))));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::oci::digest::Algorithm;

    #[test]
    fn what_is_new_is_asked_for_first() {
        let blob = |role, size| {
            let (digest, content) = (Digest::of(Algorithm::Sha256, b""), Content::Held(Bytes::new()));
            Blob { digest, size, media_type: "text/plain".into(), role, content }
        };
        let layer = |number, size| blob(Role::Layer { number, of: 9 }, size);
        let mut blobs = [
            layer(1, 200_000),
            layer(2, 190_000),
            layer(3, 90_000_000),
            layer(4, 195_000),
            layer(5, 0),
            blob(Role::Config, 900),
        ];
        blobs.sort_by_key(likely_lacking);
        let sizes = blobs.map(|blob| blob.size);
        assert_eq!(sizes, [900, 90_000_000, 195_000, 190_000, 200_000, 0]);
    }
}
