//! `BatchCheckLayerAvailability`.

use serde_json::{Value, json};

use super::Outcome;
use super::request::{Exception, Request};
use crate::digest::Digest;
use crate::state::Repository;

/// Digests that may be asked about at once (facts/ecr.md, Speed).
const MOST: usize = 100;

/// Which layers are there. A layer that isn't is no failure; a digest that is none is one.
pub(super) fn check(request: &Request) -> Outcome {
    let (registry, repository) = request.place()?;
    let digests = request.texts("layerDigests")?;
    if digests.is_empty() || digests.len() > MOST {
        return Err(Exception::parameter("layerDigests", "Member must have length between 1 and 100"));
    }
    request.within(&registry, repository, |held| {
        let mut layers = Vec::new();
        let mut failures = Vec::new();
        for text in digests {
            match Digest::parse(text) {
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
