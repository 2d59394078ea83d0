//! The referrers API, which ECR has (facts/ecr.md, Manifests and tags).

use serde_json::{Value, json};

use super::{Exchange, denied, parse_digest};
use crate::digest::Digest;
use crate::document::OCI_INDEX;
use crate::iam::Action;
use crate::permission::Asked;
use crate::reply::{Refusal, Reply};
use crate::state::Manifest;

impl Exchange<'_> {
    /// GET: an index of the manifests whose subject this digest is; empty if there are none, whether the
    /// subject is there or not.
    pub(super) fn referrers(&self, repository: &str, subject: &str) -> Result<Reply, Refusal> {
        if !self.shared.config.referrers_api {
            return Ok(Reply::new(404)
                .header("Content-Type", "text/plain; charset=utf-8")
                .body("404 page not found\n"));
        }
        // AWS documents BatchGetImage for the API's ListImageReferrers too; which one the registry asks for is unknown.
        let own = self.shared.config.referrers_own_right;
        let action = if own { Action::ListImageReferrers } else { Action::BatchGetImage };
        self.may(action, repository, Asked::Tried).map_err(denied)?;
        let subject = parse_digest(subject)?;
        let wanted = self.call.query.get("artifactType");
        let manifests: Vec<_> = self.within(repository, |held| {
            let referring =
                held.manifests.iter().filter(|(_, manifest)| manifest.document.subject.as_ref() == Some(&subject));
            referring
                .filter(|(_, manifest)| wanted.is_none() || manifest.document.artifact_type.as_ref() == wanted)
                .map(|(digest, manifest)| descriptor(digest, manifest))
                .collect()
        })?;
        let index = json!({ "schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": manifests });
        let reply = Reply::new(200).json(OCI_INDEX, &index);
        Ok(if wanted.is_some() { reply.header("OCI-Filters-Applied", "artifactType") } else { reply })
    }
}

fn descriptor(digest: &Digest, manifest: &Manifest) -> Value {
    let mut descriptor = json!({
        "mediaType": manifest.media_type,
        "digest": digest.as_str(),
        "size": manifest.bytes.len(),
    });
    if let Some(artifact_type) = &manifest.document.artifact_type {
        descriptor["artifactType"] = json!(artifact_type);
    }
    if let Some(annotations) = &manifest.document.annotations {
        descriptor["annotations"] = annotations.clone();
    }
    descriptor
}
