//! Uploading a blob: sessions, parts, the end (facts/ecr.md, Uploading a blob).

use std::sync::Arc;

use tokio::task::block_in_place;

use super::{Exchange, denied, digest_invalid, parse_digest};
use crate::body::Broken;
use crate::config::{MissingPermission, MissingRepository, UploadStatus};
use crate::digest::{Algorithm, Digest};
use crate::iam::Action;
use crate::permission::{Asked, Denied};
use crate::reply::{Refusal, Reply, error_reply};
use crate::state::Session;
use crate::store::Upload;
use crate::sync::lock;

/// A part that isn't the last must have this many bytes.
const PART_MINIMUM: u64 = 5 * 1024 * 1024;

/// The code of a blob that can't be written for want of a key.
const KEY_CODE: &str = "BLOB_UPLOAD_INVALID";

impl Exchange<'_> {
    /// POST: a session, or a mount.
    pub(super) async fn upload_open(&mut self, repository: &str) -> Result<Reply, Refusal> {
        let config = &self.shared.config;
        let closes = config.missing_permission == MissingPermission::CloseConnection;
        match self.may(Action::InitiateLayerUpload, repository, Asked::Needed) {
            Err(Denied::Forbidden(_)) if closes => return Err(Refusal::Cut),
            outcome => outcome.map_err(denied)?,
        }
        self.create_on_push(repository);
        if let Err(refusal) = self.within(repository, |_| ()) {
            let closes = config.missing_repository == MissingRepository::CloseConnection;
            return Err(if closes { Refusal::Cut } else { refusal });
        }
        self.check_key(repository, KEY_CODE)?;
        if let Some(reply) = self.mount(repository)? {
            return Ok(reply);
        }
        let id = self.open(repository)?;
        if self.shared.config.single_post && self.call.query.contains_key("digest") {
            return self.upload_finish(repository, &id).await;
        }
        // Absolute and opaque; no Docker-Upload-UUID.
        let mut reply = Reply::new(202)
            .header("Location", &self.session_url(repository, &id))
            .header("OCI-Chunk-Min-Length", "10485760")
            .header("Range", "0-0");
        reply.session = Some(id);
        Ok(reply)
    }

    /// A new session, which its client doesn't know of yet.
    fn open(&self, repository: &str) -> Result<String, Refusal> {
        let mut state = lock(&self.shared.state);
        state.opened += 1;
        let id = session_name(state.opened);
        let session = Session {
            registry: self.call.registry.clone(),
            repository: repository.to_owned(),
            told: false,
            given_up: false,
            upload: Arc::new(tokio::sync::Mutex::new(self.shared.store.begin(&id)?)),
        };
        state.sessions.insert(id.clone(), session);
        Ok(id)
    }

    /// GET: how far the session is, if there is an answer to that (facts/ecr.md, Uploading).
    pub(super) async fn upload_status(&self, repository: &str, id: &str) -> Result<Reply, Refusal> {
        if self.call.registry.public || self.shared.config.upload_status == UploadStatus::NotFound {
            return Err(error_reply(404, "BLOB_UPLOAD_UNKNOWN", "blob upload unknown to registry").into());
        }
        let upload = self.session(repository, id)?;
        let upload = upload.lock().await;
        let received = match self.shared.config.upload_status {
            UploadStatus::FirstPart => upload.parts().first().map_or(0, |part| part.length),
            UploadStatus::NotFound | UploadStatus::Progress => upload.received(),
        };
        let reply = Reply::new(204).header("Location", &self.session_url(repository, id));
        Ok(reply.header("Range", &format!("0-{}", received.saturating_sub(1))))
    }

    /// A mount by ECR's rule (facts/ecr.md, Mounts): the account's setting is on, both repositories are of this
    /// registry and encrypted alike, and a manifest in the source names the blob. Else none, silently, and the POST opens a session;
    /// whether it does so without the right, too, is unknown.
    fn mount(&self, repository: &str) -> Result<Option<Reply>, Refusal> {
        let query = &self.call.query;
        let (Some(digest), Some(source)) = (query.get("mount"), query.get("from")) else {
            return Ok(None);
        };
        let digest = parse_digest(digest)?;
        let config = &self.shared.config;
        match self.may(Action::GetDownloadUrlForLayer, source, Asked::Tried) {
            Err(refusal) if config.mount_denied => return Err(denied(refusal)),
            Err(_) => return Ok(None),
            Ok(()) if !config.blob_mounting || self.call.registry.public => return Ok(None),
            Ok(()) => {}
        }
        let mut state = lock(&self.shared.state);
        let named = state.repository(&self.call.registry, source).and_then(|source| {
            let named = source.manifests.values().any(|manifest| manifest.document.blobs.contains(&digest));
            let blob = source.blobs.get(&digest).filter(|blob| named && !blob.archived)?;
            Some((blob.size, source.settings.encryption.clone()))
        });
        let target = state.repository_mut(&self.call.registry, repository);
        let (Some((size, encryption)), Some(target)) = (named, target) else {
            return Ok(None);
        };
        if encryption != target.settings.encryption {
            return Ok(None);
        }
        target.add_blob(digest.clone(), size, config.layer_lag);
        Ok(Some(self.uploaded(repository, &digest)))
    }

    /// PATCH: a part. Answered 201, with a `Range` that stays at the first part's end.
    pub(super) async fn upload_patch(&mut self, repository: &str, id: &str) -> Result<Reply, Refusal> {
        self.permit(Action::UploadLayerPart, repository)?;
        self.check_key(repository, KEY_CODE)?;
        let upload = self.session(repository, id)?;
        let mut upload = upload.lock().await;
        self.receive(&mut upload).await?;
        let last = upload.parts().first().map_or(0, |part| part.length - 1);
        Ok(Reply::new(201).header("Location", &self.session_url(repository, id)).header("Range", &format!("0-{last}")))
    }

    /// PUT: the last part, if there is one, and the end.
    pub(super) async fn upload_finish(&mut self, repository: &str, id: &str) -> Result<Reply, Refusal> {
        if !self.inbound.is_empty() {
            self.permit(Action::UploadLayerPart, repository)?;
        }
        self.permit(Action::CompleteLayerUpload, repository)?;
        self.check_key(repository, KEY_CODE)?;
        let upload = self.session(repository, id)?;
        let digest = self.call.query.get("digest").ok_or_else(|| digest_invalid(""))?;
        let digest = parse_digest(digest)?;
        let mut upload = upload.lock().await;
        if !self.inbound.is_empty() {
            self.receive(&mut upload).await?;
        }
        self.commit(repository, id, &upload, &digest)
    }

    /// DELETE: the session ends. What private ECR says to it is unknown (facts/ecr.md has no word of it): 204, or a
    /// refusal after which nothing more can be asked of a client.
    pub(super) fn upload_cancel(&self, repository: &str, id: &str) -> Result<Reply, Refusal> {
        self.session(repository, id)?;
        let mut state = lock(&self.shared.state);
        if self.shared.config.upload_cancel {
            state.sessions.remove(id);
            return Ok(Reply::new(204));
        }
        if let Some(session) = state.sessions.get_mut(id) {
            session.given_up = true;
        }
        Err(error_reply(405, "UNSUPPORTED", "The operation is unsupported.").into())
    }

    /// Stores the body at the session's end, and keeps what came even if the rest doesn't.
    async fn receive(&mut self, upload: &mut Upload) -> Result<(), Refusal> {
        // A body without `Content-Range` starts at 0, on a used session too (apple/containerization#790).
        let (first, last) = match self.call.header("content-range") {
            None => (0, None),
            Some(range) => parse_range(range).map(|(first, last)| (first, Some(last))).ok_or_else(|| {
                error_reply(400, "BLOB_UPLOAD_INVALID", &format!("The content range '{range}' is not valid"))
            })?,
        };
        let expected = upload.received();
        if first != expected {
            let message = format!("First byte of the layer part is {first} instead of {expected}");
            return Err(error_reply(416, "BLOB_UPLOAD_INVALID", &message).into());
        }
        let outcome = self.store(upload).await;
        upload.end_part(expected, outcome.is_ok());
        outcome?;
        if last.is_some_and(|last| last + 1 != upload.received()) {
            let message = "The content range does not match the length of the layer part";
            return Err(error_reply(400, "BLOB_UPLOAD_INVALID", message).into());
        }
        Ok(())
    }

    async fn store(&mut self, upload: &mut Upload) -> Result<(), Refusal> {
        let limit = self.shared.config.limits.layer(&self.call.registry);
        while let Some(bytes) = self.inbound.next().await.map_err(<Refusal as From<Broken>>::from)? {
            if upload.received() + bytes.len() as u64 > limit {
                // That there is a limit is certain, its words aren't (facts/ecr.md, Uploading).
                let message = format!("Layer size exceeds the maximum of {limit} bytes");
                return Err(error_reply(400, "SIZE_INVALID", &message).into());
            }
            block_in_place(|| upload.append(&bytes))?;
        }
        Ok(())
    }

    /// Makes a session's bytes a blob.
    fn commit(&self, repository: &str, id: &str, upload: &Upload, digest: &Digest) -> Result<Reply, Refusal> {
        let invalid = |message: &str| error_reply(400, "BLOB_UPLOAD_INVALID", message).into();
        if upload.received() == 0 {
            let account = &self.call.registry.account;
            return Err(invalid(&format!(
                "The upload with id '{id}' in the repository with name '{repository}' in registry with id '{account}' cannot be completed because it does not have any parts"
            )));
        }
        let earlier = upload.parts().split_last().map_or(&[][..], |(_, earlier)| earlier);
        let excused = self.shared.config.short_after_cut;
        if earlier.iter().any(|part| part.length < PART_MINIMUM && (part.whole || !excused)) {
            return Err(invalid("All layer parts except the last part should be at least 5MB"));
        }
        let algorithm = if self.shared.config.sha512 { digest.algorithm() } else { Algorithm::Sha256 };
        let found = block_in_place(|| upload.digest(algorithm))?;
        let mut state = lock(&self.shared.state);
        // Whoever cancelled in the meantime has taken it away.
        state.sessions.remove(id).ok_or_else(|| self.session_unknown(repository, id))?;
        if found != *digest {
            return Err(invalid("None of the provided layer digests match the calculated layer digest"));
        }
        self.shared.store.keep(upload, digest)?;
        if let Some(held) = state.repository_mut(&self.call.registry, repository) {
            held.add_blob(digest.clone(), upload.received(), self.shared.config.layer_lag);
        }
        Ok(self.uploaded(repository, digest))
    }

    fn uploaded(&self, repository: &str, digest: &Digest) -> Reply {
        Reply::new(201)
            .header("Location", &self.url(&format!("/v2/{repository}/blobs/{digest}")))
            .header("Docker-Content-Digest", digest.as_str())
    }

    fn session(&self, repository: &str, id: &str) -> Result<Arc<tokio::sync::Mutex<Upload>>, Refusal> {
        let state = lock(&self.shared.state);
        let session = state.sessions.get(id);
        let session = session.filter(|s| s.registry == self.call.registry && s.repository == repository);
        session.map(|session| Arc::clone(&session.upload)).ok_or_else(|| self.session_unknown(repository, id))
    }

    fn session_unknown(&self, repository: &str, id: &str) -> Refusal {
        let account = &self.call.registry.account;
        let message = format!(
            "The upload with id '{id}' in the repository with name '{repository}' in the registry with id '{account}' does not exist"
        );
        error_reply(404, "BLOB_UPLOAD_UNKNOWN", &message).into()
    }

    fn session_url(&self, repository: &str, id: &str) -> String {
        self.url(&format!("/v2/{repository}/blobs/uploads/{id}"))
    }
}

/// A name that means nothing to anybody, as long as names get.
fn session_name(number: u64) -> String {
    let digest = Digest::of(Algorithm::Sha512, format!("session {number}").as_bytes());
    let hex = &digest.as_str()["sha512:".len()..];
    format!("{}-{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..32], &hex[32..])
}

/// `<first>-<last>`, without a unit before and a total behind.
fn parse_range(range: &str) -> Option<(u64, u64)> {
    let (first, last) = range.split_once('-')?;
    let (first, last) = (first.parse().ok()?, last.parse().ok()?);
    (first <= last).then_some((first, last))
}
