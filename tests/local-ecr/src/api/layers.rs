//! `BatchCheckLayerAvailability`, ECR's and ECR Public's.

use serde_json::{Value, json};

use super::request::{Exception, Request};
use super::{Outcome, public};
use crate::config::RegistryId;
use crate::digest::{Algorithm, Digest};
use crate::state::Repository;

/// Digests that may be asked about at once (facts/ecr.md, Speed).
const MOST: usize = 100;

/// Which layers are there. A layer that isn't is no failure; a digest that is none is one.
pub(super) fn check(request: &Request) -> Outcome {
    let (registry, repository) = request.place()?;
    told(request, &registry, repository)
}

/// The same of ECR Public, whose registries may be named by their alias.
pub(super) fn check_public(request: &Request) -> Outcome {
    let registry = RegistryId::public(request.account());
    let alias = request.shared.config.public_alias.as_deref();
    let named = request.text("registryId")?;
    let repository = public::full_name(request, request.repository()?);
    request.permit(&registry, Some(&repository))?;
    match named {
        Some(name) if name != registry.account && Some(name) != alias => {
            let message = format!("The registry with id '{name}' does not exist");
            Err(Exception::new("RegistryNotFoundException", message))
        }
        _ => told(request, &registry, &repository),
    }
}

fn told(request: &Request, registry: &RegistryId, repository: &str) -> Outcome {
    let digests = request.texts("layerDigests")?;
    if digests.is_empty() || digests.len() > MOST {
        return Err(Exception::parameter("layerDigests", "Member must have length between 1 and 100"));
    }
    let taken = |digest: &Digest| request.shared.config.sha512 || digest.algorithm() == Algorithm::Sha256;
    request.within(registry, repository, |held| {
        let mut layers = Vec::new();
        let mut failures = Vec::new();
        for text in digests {
            match Digest::parse(text).filter(taken) {
                Some(digest) => layers.push(layer(held, &digest)),
                None => failures.push(failure(text)),
            }
        }
        json!({ "layers": layers, "failures": failures })
    })
}

fn layer(held: &Repository, digest: &Digest) -> Value {
    match held.blobs.get(digest) {
        Some(blob) => {
            let availability = if blob.archived { "ARCHIVED" } else { "AVAILABLE" };
            json!({ "layerDigest": digest.as_str(), "layerAvailability": availability, "layerSize": blob.size,
                "mediaType": "application/vnd.docker.image.rootfs.diff.tar.gzip" })
        }
        None => json!({ "layerDigest": digest.as_str(), "layerAvailability": "UNAVAILABLE" }),
    }
}

fn failure(text: &str) -> Value {
    let (code, reason) = if text.is_empty() {
        ("MissingLayerDigest", "Missing layer digest")
    } else {
        ("InvalidLayerDigest", "Invalid layer digest")
    };
    json!({ "layerDigest": text, "failureCode": code, "failureReason": reason })
}
