//! Manifests and tags (facts/ecr.md, Manifests and tags).

use bytes::Bytes;
use serde_json::json;

use super::{Exchange, digest_invalid, parse_digest};
use crate::config::{Config, LayerLag, MissingLayer};
use crate::digest::{Algorithm, Digest};
use crate::document::{Document, Unreadable};
use crate::iam::Action;
use crate::reply::{Refusal, Reply, error_reply};
use crate::state::{Manifest, Repository};

/// Bytes that a manifest may have.
const MANIFEST_LIMIT: usize = 4 * 1024 * 1024;

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
        self.within(repository, |held| {
            let digest = held.resolve(reference)?.clone();
            let manifest = held.manifests.get(&digest)?;
            let reply = Reply::new(200).header("Content-Type", &manifest.media_type).body(manifest.bytes.clone());
            Some((digest, reply))
        })?
        .ok_or_else(|| error_reply(404, "MANIFEST_UNKNOWN", "Requested image not found").into())
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
        let media_type = self.call.header("content-type").unwrap_or_default().to_owned();
        let document = Document::read(&media_type, &bytes).map_err(|unreadable| match unreadable {
            Unreadable::Syntax => unsupported("Invalid JSON syntax"),
            Unreadable::MediaType => {
                let message = "The media type of the manifest does not match the content type of the request";
                error_reply(400, "MANIFEST_INVALID", message).into()
            }
        })?;
        let digest = self.digest_of(reference, &bytes)?;
        let config = &self.shared.config;
        let subject = document.subject.clone();
        let tag = Digest::parse(reference).is_none().then_some(reference);
        self.within(repository, |held| {
            check_document(held, &document, config).map_err(|lack| self.lacking(repository, &lack))?;
            if let Some(tag) = tag {
                check_tag(held, repository, tag, &digest, config)?;
                held.tags.insert(tag.to_owned(), digest.clone());
            }
            held.manifests.insert(digest.clone(), Manifest { media_type, bytes, document });
            Ok::<_, Refusal>(())
        })??;
        let reply = Reply::new(201).header("Docker-Content-Digest", digest.as_str());
        Ok(match subject {
            // The header says that the referrers API will name it.
            Some(subject) if config.oci_subject_header && config.referrers_api => {
                reply.header("OCI-Subject", subject.as_str())
            }
            _ => reply,
        })
    }

    /// The digest of a manifest, which must be the one it is put under.
    fn digest_of(&self, reference: &str, bytes: &Bytes) -> Result<Digest, Refusal> {
        let Some(wanted) = Digest::parse(reference) else {
            return Ok(Digest::of(Algorithm::Sha256, bytes));
        };
        let known = self.shared.config.sha512 || wanted.algorithm() == Algorithm::Sha256;
        if known && Digest::of(wanted.algorithm(), bytes) == wanted {
            Ok(wanted)
        } else {
            Err(digest_invalid(reference))
        }
    }

    /// ECR's words for what a manifest lacks.
    fn lacking(&self, repository: &str, lack: &Lack) -> Refusal {
        let (status, code, what, digests) = match (lack, self.shared.config.missing_layer) {
            (Lack::TooManyLayers, _) => {
                return unsupported("Limit on number of layers per image exceeded");
            }
            (Lack::Children(digests), _) => (400, "MANIFEST_BLOB_UNKNOWN", "Images", digests),
            (Lack::Layers(digests), MissingLayer::BlobUploadUnknown) => (404, "BLOB_UPLOAD_UNKNOWN", "Layers", digests),
            (Lack::Layers(digests), MissingLayer::ManifestBlobUnknown) => {
                (400, "MANIFEST_BLOB_UNKNOWN", "Layers", digests)
            }
        };
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
}

/// What a manifest may not be taken for.
enum Lack {
    Children(Vec<Digest>),
    Layers(Vec<Digest>),
    TooManyLayers,
}

fn check_document(held: &mut Repository, document: &Document, config: &Config) -> Result<(), Lack> {
    if config.layer_limit.is_some_and(|limit| document.layers > limit) {
        return Err(Lack::TooManyLayers);
    }
    let absent = |digest: &&Digest| !held.manifests.contains_key(digest);
    let children: Vec<_> = document.children.iter().filter(absent).cloned().collect();
    if !children.is_empty() {
        return Err(Lack::Children(children));
    }
    let known = |digest: &Digest| held.manifests.values().any(|manifest| manifest.document.blobs.contains(digest));
    // A blob that a manifest names already has outlived its lag.
    let lag = |digest: &Digest| {
        if known(digest) { LayerLag::None } else { config.layer_lag }
    };
    let lags: Vec<_> = document.blobs.iter().map(|digest| (digest.clone(), lag(digest))).collect();
    let mut layers = Vec::new();
    for (digest, lag) in lags {
        if !held.blobs.get_mut(&digest).is_some_and(|blob| blob.settled(lag)) && !layers.contains(&digest) {
            layers.push(digest);
        }
    }
    if layers.is_empty() { Ok(()) } else { Err(Lack::Layers(layers)) }
}

/// Whether a tag may be put on a digest.
fn check_tag(held: &Repository, repository: &str, tag: &str, digest: &Digest, config: &Config) -> Result<(), Refusal> {
    let Some(present) = held.tags.get(tag).filter(|_| held.mutability.is_immutable(tag)) else {
        return Ok(());
    };
    // Whether the same digest again is refused is unknown.
    if present == digest && !config.same_digest_refused {
        return Ok(());
    }
    let what = if config.older_immutability_words { "repository" } else { "tag" };
    let message = format!(
        "The image tag '{tag}' already exists in the '{repository}' repository and cannot be overwritten because the {what} is immutable."
    );
    Err(error_reply(400, "TAG_INVALID", &message).into())
}

/// A digest in its form, or a tag in its.
fn check_reference(reference: &str) -> Result<(), Refusal> {
    if reference.contains(':') {
        return parse_digest(reference).map(|_| ());
    }
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    let form = reference.bytes().next().is_some_and(word)
        && reference.len() <= 128
        && reference.bytes().all(|b| word(b) || b == b'.' || b == b'-');
    if form {
        return Ok(());
    }
    let message = "Invalid parameter at 'imageTag' failed to satisfy constraint: 'must satisfy regular expression '[a-zA-Z0-9-_.]+''";
    Err(error_reply(400, "TAG_INVALID", message).into())
}

fn unsupported(constraint: &str) -> Refusal {
    let message = format!("Invalid parameter at 'ImageManifest' failed to satisfy constraint: '{constraint}'");
    error_reply(405, "UNSUPPORTED", &message).into()
}
