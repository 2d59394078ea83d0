//! Manifests and indexes: the bytes as read, beside what they mean.
//!
//! A manifest is never written from what it means: serialising it again would change its digest.

use bytes::Bytes;
use serde::Deserialize;
use thiserror::Error;

use super::descriptor::{Descriptor, Kind, MediaType};
use super::digest::Digest;
use crate::cause::Cause;

/// The largest manifest that ECR takes, in bytes (facts/ecr.md, Uploading a blob); other registries say the same.
pub const MAX_SIZE: u64 = 4 * 1024 * 1024;

/// Why bytes are no manifest.
#[derive(Debug, Error)]
pub enum ManifestError {
    /// It isn't JSON, or not of the form that the specification gives.
    #[error("malformed")]
    Json(#[source] Cause),
    /// `schemaVersion` isn't 2.
    #[error("its schemaVersion is {found}, and only 2 can be pushed")]
    SchemaVersion {
        /// What it says.
        found: u64,
    },
    /// The media type inside and that of the descriptor differ.
    #[error("it calls itself {inside}, and its descriptor calls it {outside}")]
    MediaTypeDiffers {
        /// The `mediaType` in the manifest.
        inside: MediaType,
        /// The descriptor's.
        outside: MediaType,
    },
    /// It isn't a manifest of a type that can be pushed.
    #[error("{media_type} is neither an image manifest nor an index")]
    UnknownMediaType {
        /// The descriptor's media type.
        media_type: MediaType,
    },
    /// It has both `manifests` and `config` or `layers`: different clients would see different images in it.
    #[error("it has `manifests` beside `config` or `layers`, so that it can be read as two different images")]
    Ambiguous,
    /// An image manifest without a config.
    #[error("it has no `config`")]
    NoConfig,
}

/// What a manifest means.
#[derive(Debug, Clone)]
pub enum Body {
    /// An image or an artifact.
    Image {
        /// The config.
        config: Box<Descriptor>,
        /// The layers, the base first.
        layers: Vec<Descriptor>,
    },
    /// A list of manifests.
    Index {
        /// What it points to.
        manifests: Vec<Descriptor>,
    },
}

/// A manifest or an index.
#[derive(Debug, Clone)]
pub struct Manifest {
    /// The bytes as read; these are what is pushed.
    pub bytes: Bytes,
    /// Their digest.
    pub digest: Digest,
    /// The media type with which it is pushed.
    pub media_type: MediaType,
    /// What it means.
    pub body: Body,
    /// The manifest that this one refers to: it is a signature, an SBOM, an attestation.
    pub subject: Option<Descriptor>,
    /// What kind of artifact it is: `artifactType`, else the config's media type.
    pub artifact_type: Option<String>,
    /// Its own annotations, as a referrers index repeats them.
    pub annotations: Option<serde_json::Value>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Wire {
    schema_version: Option<u64>,
    media_type: Option<MediaType>,
    artifact_type: Option<String>,
    config: Option<Box<Descriptor>>,
    layers: Option<Vec<Descriptor>>,
    manifests: Option<Vec<Descriptor>>,
    subject: Option<Descriptor>,
    annotations: Option<serde_json::Value>,
}

impl Manifest {
    /// Reads a manifest whose bytes hash to `digest` already.
    ///
    /// # Errors
    /// When it isn't JSON, of an unknown type, or can be read in two ways.
    pub fn parse(media_type: &MediaType, digest: &Digest, bytes: Bytes) -> Result<Self, ManifestError> {
        if media_type.kind() == Kind::Schema1 {
            return Err(ManifestError::SchemaVersion { found: 1 });
        }
        let wire: Wire = serde_json::from_slice(&bytes).map_err(|error| ManifestError::Json(Cause::new(error)))?;
        if let Some(found) = wire.schema_version.filter(|found| *found != 2) {
            return Err(ManifestError::SchemaVersion { found });
        }
        if let Some(inside) = wire.media_type.filter(|inside| inside != media_type) {
            return Err(ManifestError::MediaTypeDiffers { inside, outside: media_type.clone() });
        }
        if wire.manifests.is_some() && (wire.config.is_some() || wire.layers.is_some()) {
            return Err(ManifestError::Ambiguous);
        }
        let mut artifact_type = wire.artifact_type;
        let body = match media_type.kind() {
            Kind::Image => {
                let config = wire.config.ok_or(ManifestError::NoConfig)?;
                artifact_type.get_or_insert_with(|| config.media_type.as_str().to_owned());
                Body::Image { config, layers: wire.layers.unwrap_or_default() }
            }
            Kind::Index => Body::Index { manifests: wire.manifests.unwrap_or_default() },
            _ => return Err(ManifestError::UnknownMediaType { media_type: media_type.clone() }),
        };
        Ok(Self {
            bytes,
            digest: digest.clone(),
            media_type: media_type.clone(),
            body,
            subject: wire.subject,
            artifact_type,
            annotations: wire.annotations,
        })
    }

    /// The manifests that an index points to; none for an image.
    #[must_use]
    pub fn children(&self) -> &[Descriptor] {
        match &self.body {
            Body::Index { manifests } => manifests,
            Body::Image { .. } => &[],
        }
    }

    /// The blobs that an image is made of, the config first; none for an index.
    pub fn blobs(&self) -> impl Iterator<Item = &Descriptor> {
        let (config, layers) = match &self.body {
            Body::Image { config, layers } => (Some(&**config), layers.as_slice()),
            Body::Index { .. } => (None, &[][..]),
        };
        config.into_iter().chain(layers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::digest::Algorithm;

    const IMAGE: &str = "application/vnd.oci.image.manifest.v1+json";
    const INDEX: &str = "application/vnd.oci.image.index.v1+json";

    fn parse(media_type: &str, text: &str) -> Result<Manifest, ManifestError> {
        let digest = Digest::of(Algorithm::Sha256, text.as_bytes());
        Manifest::parse(&media_type.into(), &digest, Bytes::copy_from_slice(text.as_bytes()))
    }

    fn descriptor(media_type: &str) -> String {
        let digest = Digest::of(Algorithm::Sha256, b"{}");
        format!(r#"{{"mediaType":"{media_type}","digest":"{digest}","size":2}}"#)
    }

    #[test]
    fn reads_images_and_indexes() {
        let config = descriptor("application/vnd.oci.empty.v1+json");
        let image = format!(r#"{{"schemaVersion":2,"config":{config},"layers":null,"subject":{}}}"#, descriptor(IMAGE));
        let image = parse(IMAGE, &image).unwrap();
        assert_eq!(image.blobs().count(), 1);
        assert_eq!(image.artifact_type.as_deref(), Some("application/vnd.oci.empty.v1+json"));
        assert!(image.subject.is_some());

        let index = format!(r#"{{"schemaVersion":2,"mediaType":"{INDEX}","manifests":[{}]}}"#, descriptor(IMAGE));
        assert_eq!(parse(INDEX, &index).unwrap().children().len(), 1);
    }

    #[test]
    fn refuses_what_two_clients_could_read_differently() {
        let config = descriptor("application/vnd.oci.image.config.v1+json");
        let both = format!(r#"{{"schemaVersion":2,"config":{config},"manifests":[]}}"#);
        assert!(matches!(parse(IMAGE, &both), Err(ManifestError::Ambiguous)));
        let twice = format!(r#"{{"schemaVersion":2,"config":{config},"config":{config}}}"#);
        assert!(matches!(parse(IMAGE, &twice), Err(ManifestError::Json(_))));
        let other = format!(r#"{{"schemaVersion":2,"mediaType":"{INDEX}","config":{config}}}"#);
        assert!(matches!(parse(IMAGE, &other), Err(ManifestError::MediaTypeDiffers { .. })));
        assert!(matches!(parse(IMAGE, r#"{"schemaVersion":1}"#), Err(ManifestError::SchemaVersion { found: 1 })));
        assert!(matches!(parse(IMAGE, r#"{"schemaVersion":2}"#), Err(ManifestError::NoConfig)));
        assert!(matches!(parse("text/plain", r#"{"schemaVersion":2}"#), Err(ManifestError::UnknownMediaType { .. })));
    }
}
