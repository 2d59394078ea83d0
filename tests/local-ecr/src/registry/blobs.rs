//! Blobs that are there.

use std::fs::File;

use super::{Exchange, parse_digest};
use crate::digest::Digest;
use crate::iam::Action;
use crate::reply::{Refusal, Reply, error_reply};

impl Exchange<'_> {
    /// HEAD: length and digest.
    pub(super) fn blob_head(&self, repository: &str, digest: &str) -> Result<Reply, Refusal> {
        self.permit(Action::BatchCheckLayerAvailability, repository)?;
        let (digest, size) = self.blob(repository, digest)?;
        Ok(described(&digest).measured(size))
    }

    /// GET: the bytes.
    pub(super) fn blob_get(&self, repository: &str, digest: &str) -> Result<Reply, Refusal> {
        self.permit(Action::GetDownloadUrlForLayer, repository)?;
        let (digest, size) = self.blob(repository, digest)?;
        let file = File::open(self.shared.store.blob_path(&digest))?;
        Ok(described(&digest).file(file, size))
    }

    fn blob(&self, repository: &str, digest: &str) -> Result<(Digest, u64), Refusal> {
        let digest = parse_digest(digest)?;
        let size = self.within(repository, |held| {
            // Archived counts as absent (facts/ecr.md, Speed).
            held.blobs.get(&digest).filter(|blob| !blob.archived).map(|blob| blob.size)
        })?;
        let unknown = || error_reply(404, "BLOB_UNKNOWN", &format!("blob unknown to registry: {digest}"));
        let size = size.ok_or_else(unknown)?;
        Ok((digest, size))
    }
}

fn described(digest: &Digest) -> Reply {
    Reply::new(200).header("Content-Type", "application/octet-stream").header("Docker-Content-Digest", digest.as_str())
}
