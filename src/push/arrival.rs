//! How a blob gets into a repository without being sent, and the session to send it into where that can't be.

use super::mounts::Candidate;
use super::opening;
use super::sessions::{Key, Opened};
use super::upload::Uploader;
use super::{Arrival, Destination};
use crate::event::Event;
use crate::image::Blob;
use crate::oci::digest::Digest;
use crate::registry::failure::{Meaning, Network, RegistryError};
use crate::registry::{Mount, Session};

/// What a blob needs.
pub(super) enum Entry {
    /// Nothing: it is there.
    There(Arrival),
    /// To be sent into this session.
    Session(Key, Session),
}

/// What a registry says to a mount from another repository.
enum Tried {
    Mounted,
    /// No, and here is a session.
    Session(Key, Session),
    /// No.
    Refused,
}

impl Uploader<'_> {
    /// Sees whether a blob that target number `at` lacks, or of which it wasn't asked, can be spared.
    ///
    /// A session that is opened on the way is used, and not thrown away. The one exception is a blob that turns out to be there
    /// after all.
    pub(super) async fn enter(&self, at: usize, blob: &Blob) -> Result<Entry, RegistryError> {
        let destination = &self.destinations[at];
        let target = &destination.target.repository;
        let presence = self.presences.get(at).and_then(Option::as_ref);
        let mut held: Option<(Key, Session)> = None;
        let mut asked_others = false;
        for candidate in self.mounts.worth(destination, &blob.digest) {
            if !self.mounts.is_worth(target, &candidate) {
                continue;
            }
            if destination.is_ecr() && std::mem::replace(&mut asked_others, true) {
                // The place in the traffic is good for one session.
                self.traffic.turn(1).await;
            }
            let tried = match self.try_mount(destination, &blob.digest, &candidate).await {
                Ok(tried) => tried,
                // There is a session already, and what it is for goes on without a mount.
                Err(_) if held.is_some() => break,
                Err(error) => return Err(error),
            };
            self.mounts.note(target, &blob.digest, &candidate, matches!(tried, Tried::Mounted));
            match (tried, &held) {
                (Tried::Mounted, _) => {
                    if let Some((key, _)) = held {
                        self.sessions.cancel(key).await;
                    }
                    return Ok(Entry::There(Arrival::Mounted { from: candidate.from }));
                }
                (Tried::Session(key, _), Some(_)) => self.sessions.cancel(key).await,
                (Tried::Session(key, session), None) => held = Some((key, session)),
                (Tried::Refused, _) => {}
            }
        }
        self.mounts.settle(target, &blob.digest);
        // With a session held another repository was asked.
        let (key, session, asked) = if let Some((key, session)) = held {
            (key, session, false)
        } else {
            if asked_others {
                self.traffic.turn(1).await;
            }
            match self.open(at, destination, &blob.digest).await? {
                (Opened::Mounted, _) => return Ok(Entry::There(Arrival::Present)),
                (Opened::Session(key, session), asked) => (key, session, asked),
            }
        };
        if let Some(presence) = presence
            && presence.is_doubtful(asked).await
            && self.has(destination, &blob.digest).await
        {
            self.sessions.cancel(key).await;
            return Ok(Entry::There(Arrival::Present));
        }
        Ok(Entry::Session(key, session))
    }

    /// Tries to mount a blob from another repository. Whatever stands in the way of that alone doesn't fail the push.
    async fn try_mount(
        &self,
        destination: &Destination,
        digest: &Digest,
        candidate: &Candidate,
    ) -> Result<Tried, RegistryError> {
        let target = &destination.target.repository;
        let mount = Mount { digest: digest.clone(), from: candidate.from.clone() };
        match self.sessions.open(destination.registry.clone(), &target.name, Some(mount)).await {
            Ok(Opened::Mounted) => Ok(Tried::Mounted),
            Ok(Opened::Session(key, session)) => Ok(Tried::Session(key, session)),
            Err(error) if is_refusal(&error) => {
                let denied = matches!(error.meaning(), Some(Meaning::Denied | Meaning::Unauthenticated));
                if denied && self.mounts.close(target, candidate) && candidate.asked {
                    let text = format!(
                        "--mount-from: nothing is mounted from {} to {target}, and blobs are uploaded: {}",
                        candidate.from,
                        error.brief()
                    );
                    self.reporter.report(&Event::Warning { text });
                }
                Ok(Tried::Refused)
            }
            Err(error) => Err(error),
        }
    }

    /// Opens a session. On other registries than ECR the same request asks whether the blob is there already, so that
    /// nobody has to ask before; ECR mounts only where the account allows it, and nothing from a repository into itself.
    /// Says whether it was asked so.
    async fn open(
        &self,
        at: usize,
        destination: &Destination,
        digest: &Digest,
    ) -> Result<(Opened, bool), RegistryError> {
        let target = &destination.target.repository;
        let root = self.root.as_str();
        let open = async |mount: Option<&Mount>| {
            opening::open(self.sessions, &destination.registry, target, root, mount, &**self.reporter).await
        };
        if destination.is_ecr() || !self.mounts.may_tell(target) {
            return Ok((open(None).await?, false));
        }
        let own = Mount { digest: digest.clone(), from: target.name.clone() };
        let presence = self.presences.get(at).and_then(Option::as_ref);
        presence.inspect(|presence| presence.posting(digest));
        let opened = open(Some(&own)).await;
        presence.inspect(|presence| {
            let there = opened.as_ref().ok().map(|opened| matches!(opened, Opened::Mounted));
            presence.posted(digest, there);
        });
        match opened {
            Ok(opened) => Ok((opened, true)),
            // It may have failed at the question and not at the upload; if not, it says so once more.
            Err(error) if is_refusal(&error) => {
                let opened = open(None).await?;
                self.mounts.is_mute(target);
                Ok((opened, false))
            }
            Err(error) => Err(error),
        }
    }

    /// Whether a repository has a blob, as far as it says so.
    async fn has(&self, destination: &Destination, digest: &Digest) -> bool {
        let repository = &destination.target.repository;
        let asking = async || destination.registry.has_blob(&repository.name, digest).await;
        // Whoever doesn't answer that gets the blob: its session is there.
        self.retry.run(&format!("{repository}: blob {}", digest.short()), asking).await.unwrap_or(false)
    }
}

/// Whether a failed mount says no more than that there is no mount, so that another POST may do. What else is wrong that one
/// will tell.
fn is_refusal(error: &RegistryError) -> bool {
    match error {
        RegistryError::Answered(answer) => !matches!(answer.meaning, Meaning::RateLimited | Meaning::Unavailable),
        // ECR may just close the connection where a right is missing (facts/ecr.md, Uploading a blob).
        RegistryError::Unreachable { network, ecr, .. } => *ecr && *network == Network::Closed,
        RegistryError::Odd { .. } => true,
        RegistryError::Auth(error) => !error.is_transient(),
        RegistryError::Stalled { .. }
        | RegistryError::Shut { .. }
        | RegistryError::Persistent { .. }
        | RegistryError::Client(_) => false,
    }
}
