//! Tags and referrers: what a reference names, writing it, and reading it back.

use std::time::Duration;

use bytes::Bytes;
use serde_json::{Value, json};

use super::retry::Retry;
use super::{Destination, PushError};
use crate::oci::digest::Digest;
use crate::oci::manifest::Manifest;
use crate::oci::reference::Tag;
use crate::plan::Look;
use crate::registry::failure::{Meaning, RegistryError};

/// Waits between the looks at a tag that was just written: 3 s in all, since registries may lag.
const LOOKS: [Duration; 5] = [
    Duration::ZERO,
    Duration::from_millis(200),
    Duration::from_millis(500),
    Duration::from_millis(900),
    Duration::from_millis(1400),
];

/// What `reference` names: one request, or two where the registry's HEAD names no digest that can be compared.
pub(super) async fn look(destination: &Destination, reference: &str, root: &Manifest) -> Result<Look, RegistryError> {
    let repository = &destination.target.repository.name;
    let Some(found) = destination.registry.head_manifest(repository, reference).await? else {
        return Ok(Look::Absent);
    };
    if let Some(digest) = found.digest {
        if is_digest_of(&digest, root) {
            return Ok(Look::Same);
        }
        if digest.algorithm() == root.digest.algorithm() {
            return Ok(Look::Other(digest));
        }
    }
    let Some(bytes) = destination.registry.get_manifest(repository, reference).await? else {
        return Ok(Look::Absent);
    };
    if bytes == root.bytes {
        return Ok(Look::Same);
    }
    Ok(Look::Other(Digest::of(root.digest.algorithm(), &bytes)))
}

/// Whether a registry that names `digest` means `root`: it may name the SHA-256 of what SOURCE knows by its SHA-512.
fn is_digest_of(digest: &Digest, root: &Manifest) -> bool {
    *digest == root.digest
        || digest.algorithm() != root.digest.algorithm() && *digest == Digest::of(digest.algorithm(), &root.bytes)
}

/// Writes `tag` and says whether it had to: a registry that refuses because the tag is immutable may refuse even the
/// digest that it has (facts/ecr.md, Manifests and tags).
pub(super) async fn put_tag(
    destination: &Destination,
    tag: &Tag,
    root: &Manifest,
    retry: &Retry,
) -> Result<bool, PushError> {
    let repository = &destination.target.repository;
    let put =
        retry.run(&format!("{repository}:{tag}"), async || destination.put_manifest(tag.as_str(), root).await).await;
    match put {
        Ok(_) => Ok(true),
        Err(error) if error.meaning() == Some(Meaning::TagImmutable) => {
            match look(destination, tag.as_str(), root).await {
                Ok(Look::Same) => Ok(false),
                Ok(Look::Other(theirs)) => Err(PushError::TagImmutable {
                    reference: format!("{repository}:{tag}"),
                    ours: root.digest.clone(),
                    theirs,
                }),
                Ok(Look::Absent) | Err(_) => Err(error.into()),
            }
        }
        Err(error) => Err(error.into()),
    }
}

/// Reads `reference` back: it has to name the image, at the latest after five looks in 3 s.
pub(super) async fn read_back(
    destination: &Destination,
    reference: &str,
    root: &Manifest,
    retry: &Retry,
) -> Result<(), PushError> {
    let mut last = Look::Absent;
    for wait in LOOKS {
        tokio::time::sleep(wait).await;
        last = retry
            .run(&format!("reading back {}:{reference}", destination.target.repository), async || {
                look(destination, reference, root).await
            })
            .await?;
        if last == Look::Same {
            return Ok(());
        }
    }
    let repository = &destination.target.repository;
    let separator = if reference.contains(':') { '@' } else { ':' };
    let reference = format!("{repository}{separator}{reference}");
    let ours = root.digest.clone();
    Err(match last {
        Look::Other(theirs) => PushError::TagMoved { reference, ours, theirs },
        Look::Absent | Look::Same => PushError::NotThere { reference },
    })
}

/// Writes a manifest by its digest, and sees that it can be found from its subject if it has one.
pub(super) async fn put_by_digest(
    destination: &Destination,
    manifest: &Manifest,
    retry: &Retry,
) -> Result<(), RegistryError> {
    let repository = &destination.target.repository;
    let stored = retry
        .run(&format!("{repository}: manifest {}", manifest.digest.short()), async || {
            destination.put_manifest(manifest.digest.as_str(), manifest).await
        })
        .await?;
    if stored.subject { Ok(()) } else { link(destination, manifest, retry).await }
}

/// Sees that a manifest which is there can be found from its subject, if it has one: through the registry's referrers API,
/// or through the tag that stands in for it.
///
/// For when the answer to its PUT had no `OCI-Subject`: the registry didn't link it, or is ECR, of which that isn't known.
pub(super) async fn link(destination: &Destination, referrer: &Manifest, retry: &Retry) -> Result<(), RegistryError> {
    let Some(subject) = &referrer.subject else { return Ok(()) };
    let repository = &destination.target.repository.name;
    let registry = &destination.registry;
    let what = format!("{}: referrer {}", destination.target.repository, referrer.digest.short());
    let asked = retry.run(&what, async || registry.lists_referrers(repository, &subject.digest).await).await;
    let listed = match asked {
        // ECR has the API; which right it takes to look at it is not known, and a push needs no more than the least.
        Err(error) if destination.is_ecr() && error.meaning() == Some(Meaning::Denied) => true,
        asked => asked?,
    };
    if listed {
        return Ok(());
    }
    let tag = subject.digest.referrers_tag();
    let known = retry.run(&what, async || registry.get_manifest(repository, &tag).await).await?;
    let Some(index) = listing(known.as_ref(), referrer) else { return Ok(()) };
    let put = async || {
        destination.turn().await;
        registry.put_index(repository, &tag, index.clone()).await
    };
    retry.run(&what, put).await?;
    Ok(())
}

/// The index of the referrers tag schema with `referrer` added, or `None` if it is listed already.
fn listing(known: Option<&Bytes>, referrer: &Manifest) -> Option<Bytes> {
    let empty = || {
        json!({
            "schemaVersion": 2,
            "mediaType": oci_client::manifest::OCI_IMAGE_INDEX_MEDIA_TYPE,
            "manifests": [],
        })
    };
    let mut index =
        known.and_then(|bytes| serde_json::from_slice(bytes).ok()).filter(Value::is_object).unwrap_or_else(empty);
    if !index["manifests"].is_array() {
        index["manifests"] = json!([]);
    }
    let listed = index["manifests"].as_array_mut()?;
    if listed.iter().any(|entry| entry["digest"] == referrer.digest.as_str()) {
        return None;
    }
    let mut entry = json!({
        "mediaType": referrer.media_type.as_str(),
        "digest": referrer.digest.as_str(),
        "size": referrer.bytes.len(),
    });
    if let Some(artifact_type) = &referrer.artifact_type {
        entry["artifactType"] = json!(artifact_type);
    }
    if let Some(annotations) = &referrer.annotations {
        entry["annotations"] = annotations.clone();
    }
    listed.push(entry);
    Some(index.to_string().into())
}
