//! Manifests and tags (facts/ecr.md, Manifests and tags).

use serde_json::json;

use super::{Exchange, digest_invalid, parse_digest};
use crate::config::{MissingLayer, TooManyTags};
use crate::digest::Digest;
use crate::iam::Action;
use crate::images::{MANIFEST_LIMIT, Misplaced, NewImage, TAG_FORM, Unfound, find, is_tag, put};
use crate::reply::{Refusal, Reply, error_reply};
use crate::sync::lock;

impl Exchange<'_> {
    /// HEAD: the digest is in a header.
    pub(super) fn manifest_head(&self, repository: &str, reference: &str) -> Result<Reply, Refusal> {
        let (digest, reply) = self.manifest(repository, reference)?;
        Ok(reply.header("Docker-Content-Digest", digest.as_str()))
    }

    /// GET: no header names the digest.
    pub(super) fn manifest_get(&self, repository: &str, reference: &str) -> Result<Reply, Refusal> {
        self.manifest(repository, reference).map(|(_, reply)| reply)
    }

    fn manifest(&self, repository: &str, reference: &str) -> Result<(Digest, Reply), Refusal> {
        self.permit(Action::BatchGetImage, repository)?;
        check_reference(reference)?;
        let found = self.within(repository, |held| {
            let (digest, manifest) = find(held, reference, &self.shared.config)?;
            let reply = Reply::new(200).header("Content-Type", &manifest.media_type).body(manifest.bytes.clone());
            Ok((digest.clone(), reply))
        })?;
        found.map_err(|unfound| match unfound {
            Unfound::Missing => error_reply(404, "MANIFEST_UNKNOWN", "Requested image not found").into(),
            Unfound::Archived => archived(),
        })
    }

    /// PUT: everything it points to must be there. The reply has no `Location`.
    pub(super) async fn manifest_put(&mut self, repository: &str, reference: &str) -> Result<Reply, Refusal> {
        self.permit(Action::PutImage, repository)?;
        self.create_on_push(repository);
        self.within(repository, |_| ())?;
        check_reference(reference)?;
        let Some(bytes) = self.inbound.collect(MANIFEST_LIMIT).await? else {
            let constraint = format!("Member must have length less than or equal to {MANIFEST_LIMIT}");
            return Err(unsupported(&constraint));
        };
        let media_type = self.call.header("content-type").unwrap_or_default();
        let config = &self.shared.config;
        let by_digest = reference.contains(':');
        let (tag, digest) = if by_digest { (None, Some(reference)) } else { (Some(reference), None) };
        let image = NewImage { media_type, bytes, tag, digest };
        let placed = put(self.shared, &self.call.registry, repository, image);
        let placed = placed.map_err(|misplaced| self.misplaced(repository, misplaced))?;
        let subject = placed.subject;
        let reply = Reply::new(201).header("Docker-Content-Digest", placed.digest.as_str());
        Ok(match subject {
            // The header says that the referrers API will name it.
            Some(subject) if config.oci_subject_header && config.referrers_api => {
                reply.header("OCI-Subject", subject.as_str())
            }
            _ => reply,
        })
    }

    /// ECR's words for why an image can't be put.
    fn misplaced(&self, repository: &str, misplaced: Misplaced) -> Refusal {
        let config = &self.shared.config;
        match misplaced {
            Misplaced::RepositoryMissing => self.name_unknown(repository),
            Misplaced::Syntax => unsupported("Invalid JSON syntax"),
            Misplaced::MediaType => {
                let message = "The media type of the manifest does not match the content type of the request";
                error_reply(400, "MANIFEST_INVALID", message).into()
            }
            Misplaced::Digest(digest) => digest_invalid(&digest),
            Misplaced::TooManyLayers => unsupported("Limit on number of layers per image exceeded"),
            Misplaced::Children(digests) => self.lacking(400, "MANIFEST_BLOB_UNKNOWN", "Images", repository, &digests),
            Misplaced::Layers(digests) => {
                let (status, code) = match config.missing_layer {
                    MissingLayer::BlobUploadUnknown => (404, "BLOB_UPLOAD_UNKNOWN"),
                    MissingLayer::ManifestBlobUnknown => (400, "MANIFEST_BLOB_UNKNOWN"),
                };
                self.lacking(status, code, "Layers", repository, &digests)
            }
            Misplaced::Immutable(tag) => {
                let what = if config.older_immutability_words { "repository" } else { "tag" };
                let message = format!(
                    "The image tag '{tag}' already exists in the '{repository}' repository and cannot be overwritten because the {what} is immutable."
                );
                error_reply(400, "TAG_INVALID", &message).into()
            }
            Misplaced::TooManyTags => match config.too_many_tags {
                TooManyTags::Unsupported => unsupported("Limit on number of tags per image exceeded"),
                TooManyTags::TagInvalid => {
                    error_reply(400, "TAG_INVALID", "Limit on number of tags per image exceeded").into()
                }
            },
            Misplaced::Archived => archived(),
            Misplaced::Key(failure) => key_failure("MANIFEST_INVALID", &failure),
        }
    }

    fn lacking(&self, status: u16, code: &str, what: &str, repository: &str, digests: &[Digest]) -> Refusal {
        let account = &self.call.registry.account;
        let digests: Vec<_> = digests.iter().map(Digest::as_str).collect();
        let message = format!(
            "{what} with digests '[{}]' required for pushing image into repository with name '{repository}' in the registry with id '{account}' do not exist",
            digests.join(", "),
        );
        error_reply(status, code, &message).into()
    }

    /// All tags; ECR's own order is unknown, this one is stable.
    pub(super) fn tags(&self, repository: &str) -> Result<Reply, Refusal> {
        self.permit(Action::ListImages, repository)?;
        self.within(repository, |held| {
            let tags: Vec<_> = held.tags.keys().collect();
            Reply::new(200).json("application/json; charset=utf-8", &json!({ "name": repository, "tags": tags }))
        })
    }

    /// Refuses bytes for a repository whose key can't be used.
    pub(super) fn check_key(&self, repository: &str, code: &str) -> Result<(), Refusal> {
        let state = lock(&self.shared.state);
        let held = state.repository(&self.call.registry, repository);
        let failure = held.and_then(|held| self.shared.config.creation.key_failure(&held.settings.encryption));
        failure.map_or(Ok(()), |failure| Err(key_failure(code, &failure)))
    }
}

/// A digest in its form, or a tag in its.
fn check_reference(reference: &str) -> Result<(), Refusal> {
    if reference.contains(':') {
        return parse_digest(reference).map(|_| ());
    }
    if is_tag(reference) { Ok(()) } else { Err(error_reply(400, "TAG_INVALID", TAG_FORM).into()) }
}

/// The registry's form of the API's `KmsException`; the code is a guess.
fn key_failure(code: &str, failure: &str) -> Refusal {
    error_reply(400, code, &format!("KmsException: {failure}")).into()
}

fn archived() -> Refusal {
    error_reply(405, "UNSUPPORTED", "The image has been archived. Restore it before it is used.").into()
}

fn unsupported(constraint: &str) -> Refusal {
    let message = format!("Invalid parameter at 'ImageManifest' failed to satisfy constraint: '{constraint}'");
    error_reply(405, "UNSUPPORTED", &message).into()
}
