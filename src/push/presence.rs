//! Whether a registry is to be believed that it lacks a blob, where nothing but the POST of its upload asked for it.
//!
//! The specification lets a registry answer 202 to `?mount=D&from=<own repository>` whether it has the blob or not, and
//! what it has is not to be sent. One question beside the first POSTs tells: a HEAD of the blob that is most likely there.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

use crate::image::Image;
use crate::oci::digest::Digest;
use crate::oci::manifest::Body;
use crate::plan::Survey;
use crate::registry::Registry;

/// The canary's answer is waited for no longer: without it each blob is asked for.
const PATIENCE: Duration = Duration::from_secs(5);

/// What a HEAD of the canary said.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Head {
    /// Nothing yet.
    #[default]
    UnderWay,
    There,
    Absent,
    Failed,
}

/// What the POST of the canary's own upload said.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Post {
    /// It wasn't sent, or failed.
    #[default]
    Unsent,
    UnderWay,
    /// 202: it isn't there.
    Absent,
}

/// What is known of a registry by now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Evidence {
    head: Head,
    post: Post,
    /// Whether any POST said that its blob is there.
    tells: bool,
}

/// What to do about a blob that is not there, says its POST.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    /// Send it.
    Believe,
    /// Ask with a HEAD first.
    Ask,
    /// It isn't known yet.
    Wait,
}

/// What to do about a 202; `asked` is whether it answered a mount from the very repository, and not from another one, which
/// tells nothing of this one.
fn verdict(evidence: Evidence, asked: bool) -> Verdict {
    match evidence {
        // Nothing suggests that anything is there.
        Evidence { head: Head::Absent, .. } => Verdict::Believe,
        Evidence { tells: true, .. } if asked => Verdict::Believe,
        Evidence { head: Head::UnderWay, .. } => Verdict::Wait,
        Evidence { head: Head::There, post: Post::UnderWay, .. } if asked => Verdict::Wait,
        Evidence { .. } => Verdict::Ask,
    }
}

/// The blob of those that `survey` lists which is most likely there: the base layer of the first image.
fn canary(image: &Image, survey: &Survey) -> Option<Digest> {
    let layers = image.nodes().iter().filter_map(|node| match &node.manifest.body {
        Body::Image { layers, .. } => Some(layers),
        Body::Index { .. } => None,
    });
    let listed = |digest: &&Digest| survey.blobs.contains(*digest);
    let base = layers.flatten().map(|layer| &layer.digest).find(listed);
    base.or_else(|| image.blobs().map(|blob| &blob.digest).find(listed)).cloned()
}

/// What one run finds out about one repository.
#[derive(Debug)]
pub(super) struct Presence {
    canary: Digest,
    evidence: watch::Sender<Evidence>,
    _asking: AbortOnDropHandle<()>,
}

impl Presence {
    /// Asks for the canary; none where there is nothing to send.
    pub(super) fn watch(image: &Image, survey: &Survey, registry: &Arc<Registry>, repository: &str) -> Option<Self> {
        let canary = canary(image, survey)?;
        let evidence = watch::Sender::new(Evidence::default());
        let (registry, repository) = (registry.clone(), repository.to_owned());
        let (asked, told) = (canary.clone(), evidence.clone());
        let asking = tokio::spawn(async move {
            // Not tried again: others wait for it, and an answer that doesn't come only makes them ask for themselves.
            let head = match tokio::time::timeout(PATIENCE, registry.has_blob(&repository, &asked)).await {
                Ok(Ok(true)) => Head::There,
                Ok(Ok(false)) => Head::Absent,
                Ok(Err(_)) | Err(_) => Head::Failed,
            };
            told.send_modify(|evidence| evidence.head = head);
        });
        Some(Self { canary, evidence, _asking: AbortOnDropHandle::new(asking) })
    }

    /// Notes that a blob's POST is about to be sent.
    pub(super) fn posting(&self, digest: &Digest) {
        self.note(digest, |evidence| evidence.post = Post::UnderWay);
    }

    /// Notes what a blob's POST said: whether the blob is there, or nothing if it failed.
    pub(super) fn posted(&self, digest: &Digest, there: Option<bool>) {
        if there == Some(true) {
            self.evidence.send_modify(|evidence| evidence.tells = true);
        }
        let post = if there == Some(false) { Post::Absent } else { Post::Unsent };
        self.note(digest, |evidence| evidence.post = post);
    }

    fn note(&self, digest: &Digest, change: impl FnOnce(&mut Evidence)) {
        if *digest == self.canary {
            self.evidence.send_modify(change);
        }
    }

    /// Whether a HEAD has to be sent before a blob that was answered 202 is. Waits no longer than for the canary.
    pub(super) async fn is_doubtful(&self, asked: bool) -> bool {
        let mut seen = self.evidence.subscribe();
        let decided = seen.wait_for(|evidence| verdict(*evidence, asked) != Verdict::Wait).await;
        decided.map_or(true, |evidence| verdict(*evidence, asked) == Verdict::Ask)
    }
}

#[cfg(test)]
mod tests {
    use super::Verdict::{Ask, Believe, Wait};
    use super::*;

    #[test]
    fn whom_to_believe() {
        let check = |head, post, tells, own, elsewhere| {
            let evidence = Evidence { head, post, tells };
            assert_eq!((verdict(evidence, true), verdict(evidence, false)), (own, elsewhere), "{evidence:?}");
        };
        for post in [Post::Unsent, Post::UnderWay, Post::Absent] {
            check(Head::UnderWay, post, false, Wait, Wait);
            check(Head::UnderWay, post, true, Believe, Wait);
            check(Head::Absent, post, false, Believe, Believe);
            check(Head::Absent, post, true, Believe, Believe);
            check(Head::There, post, true, Believe, Ask);
            check(Head::Failed, post, false, Ask, Ask);
            check(Head::Failed, post, true, Believe, Ask);
        }
        check(Head::There, Post::Unsent, false, Ask, Ask);
        check(Head::There, Post::UnderWay, false, Wait, Ask);
        check(Head::There, Post::Absent, false, Ask, Ask);
    }
}
