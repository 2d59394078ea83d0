//! Uploads what is lacking: the largest first, small ones in the gaps, and as many at once as the pace says.

use std::cmp::Reverse;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use futures_util::future::FutureExt;
use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio::time::MissedTickBehavior;

use super::mounts::Mounts;
use super::presence::Presence;
use super::reader::Pool;
use super::stops::Stops;
use super::traffic::Traffic;
use super::upload::{UploadError, Uploader};
use super::{Arrival, Outcome, PushError, Run};
use crate::image::{Blob, Role};
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
        let stops = Stops::new(self.destinations.len());
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
            traffic: &traffic,
            pool: Pool::default(),
            attempts: AtomicU64::new(0),
        };
        let mut failures: Vec<Vec<UploadError>> = outcomes.iter().map(|_| Vec::new()).collect();
        let needed = |upload: &Upload, failures: &[Vec<UploadError>]| -> Vec<usize> {
            upload.targets.iter().copied().filter(|target| failures[*target].is_empty()).collect()
        };
        let mut waiting: Vec<(&Upload, &Blob)> =
            plan.uploads.iter().filter_map(|upload| Some((upload, self.image.blob(&upload.digest)?))).collect();
        if uploader.presences.iter().any(Option::is_some) {
            waiting.sort_by_key(|(_, blob)| likely_lacking(blob));
        }
        let mut flying = FuturesUnordered::new();
        let mut looks = tokio::time::interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let freed = traffic.freed();
            let mut at = 0;
            while let Some((upload, blob)) = waiting.get(at).copied() {
                let targets = needed(upload, &failures);
                let on_ecr = targets.iter().filter(|target| self.destinations[**target].is_ecr()).count();
                let asks = targets.iter().any(|target| uploader.presences[*target].is_some());
                let lane = if targets.is_empty() { None } else { traffic.join(blob.size, on_ecr, asks) };
                let Some(mut lane) = lane else {
                    at += 1;
                    continue;
                };
                waiting.remove(at);
                let uploader = &uploader;
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
                    None => break,
                },
                _ = looks.tick() => Vec::new(),
                () = freed => Vec::new(),
            };
            // What failed at the same time is said with it.
            landed.extend(std::iter::from_fn(|| flying.next().now_or_never().flatten()));
            for (blob, results) in landed {
                for (target, result) in results {
                    match result {
                        Ok(Arrival::Uploaded) => outcomes[target].uploaded.add(blob.size),
                        Ok(Arrival::Mounted { .. }) => outcomes[target].mounted.add(blob.size),
                        Ok(Arrival::Present) => {}
                        Err(error) => failures[target].push(error),
                    }
                }
            }
        }
        if failures.iter().any(|failures| !failures.is_empty()) {
            // What was being opened when it was stopped.
            self.sessions.cancel_all().await;
        }
        for (outcome, mut failures) in outcomes.iter_mut().zip(failures) {
            let error = if failures.len() > 1 {
                Some(PushError::Uploads { failures })
            } else {
                failures.pop().map(PushError::Upload)
            };
            outcome.error = outcome.error.take().or(error);
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::image::Content;
    use crate::oci::digest::{Algorithm, Digest};

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
