//! Descriptors and the media types that decide how a push treats what they point to.

use std::collections::BTreeMap;
use std::fmt;

use oci_client::manifest as known;
use serde::Deserialize;

use super::digest::Digest;

/// A media type as written.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize)]
#[serde(transparent)]
pub struct MediaType(String);

/// What kind of thing a media type says it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// An image manifest, OCI or Docker schema 2.
    Image,
    /// An image index or Docker manifest list.
    Index,
    /// Docker's schema 1, which no registry worth naming takes any more.
    Schema1,
    /// A layer that its licence forbids to distribute.
    NonDistributable,
    /// Everything else: configs, layers, and whatever artifacts bring.
    Other,
}

impl MediaType {
    /// The OCI image index.
    #[must_use]
    pub fn oci_index() -> Self {
        Self(known::OCI_IMAGE_INDEX_MEDIA_TYPE.to_owned())
    }

    /// The media type as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What kind of thing it names.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self.0.as_str() {
            known::OCI_IMAGE_MEDIA_TYPE | known::IMAGE_MANIFEST_MEDIA_TYPE => Kind::Image,
            known::OCI_IMAGE_INDEX_MEDIA_TYPE | known::IMAGE_MANIFEST_LIST_MEDIA_TYPE => Kind::Index,
            "application/vnd.docker.distribution.manifest.v1+json"
            | "application/vnd.docker.distribution.manifest.v1+prettyjws" => Kind::Schema1,
            // OCI's come with and without a compression suffix, Docker calls them foreign.
            other
                if other.starts_with(known::IMAGE_LAYER_NONDISTRIBUTABLE_MEDIA_TYPE)
                    || other.starts_with("application/vnd.docker.image.rootfs.foreign.diff.tar") =>
            {
                Kind::NonDistributable
            }
            _ => Kind::Other,
        }
    }

    /// Every manifest type, for an `Accept` header: without the full list ECR converts what it returns by tag.
    pub const MANIFESTS: [&'static str; 4] = [
        known::OCI_IMAGE_MEDIA_TYPE,
        known::OCI_IMAGE_INDEX_MEDIA_TYPE,
        known::IMAGE_MANIFEST_MEDIA_TYPE,
        known::IMAGE_MANIFEST_LIST_MEDIA_TYPE,
    ];
}

impl fmt::Display for MediaType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<&str> for MediaType {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

/// What points to a manifest or a blob.
///
/// Our own type and not `oci_client`'s: that one drops `data`, and takes negative sizes and any digest.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// The media type of what it points to.
    pub media_type: MediaType,
    /// The digest of what it points to.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
    /// The content itself, base64.
    pub data: Option<String>,
    /// Annotations.
    pub annotations: Option<BTreeMap<String, String>>,
    /// What it runs on, if it is an image that an index points to.
    pub platform: Option<Platform>,
}

/// What an image runs on.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Platform {
    /// The operating system: `linux`.
    #[serde(default)]
    pub os: String,
    /// The architecture: `arm64`.
    #[serde(default)]
    pub architecture: String,
    /// Which one of it: `v8`.
    pub variant: Option<String>,
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        self.variant.as_ref().map_or(Ok(()), |variant| write!(f, "/{variant}"))
    }
}

/// What BuildKit calls a child of an index that says something of another child.
const REFERENCE_TYPE: &str = "vnd.docker.reference.type";

impl Descriptor {
    /// Whether what it points to says something of an image and is none itself: BuildKit's attestations lie beside the
    /// images in their index, for a platform that isn't one.
    #[must_use]
    pub fn is_attestation(&self) -> bool {
        self.annotation(REFERENCE_TYPE).is_some() || self.platform.as_ref().is_some_and(|it| it.os == "unknown")
    }

    /// The annotation `key`.
    #[must_use]
    pub fn annotation(&self, key: &str) -> Option<&str> {
        self.annotations.as_ref()?.get(key).map(String::as_str)
    }

    /// The name that a layout's `index.json` gives to an image.
    #[must_use]
    pub fn ref_name(&self) -> Option<&str> {
        self.annotation(oci_client::annotations::ORG_OPENCONTAINERS_IMAGE_REF_NAME)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds() {
        let check = |text: &str, kind| assert_eq!(MediaType::from(text).kind(), kind, "{text}");
        check("application/vnd.oci.image.manifest.v1+json", Kind::Image);
        check("application/vnd.docker.distribution.manifest.v2+json", Kind::Image);
        check("application/vnd.oci.image.index.v1+json", Kind::Index);
        check("application/vnd.docker.distribution.manifest.list.v2+json", Kind::Index);
        check("application/vnd.docker.distribution.manifest.v1+prettyjws", Kind::Schema1);
        check("application/vnd.oci.image.layer.nondistributable.v1.tar+zstd", Kind::NonDistributable);
        check("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", Kind::NonDistributable);
        check("application/vnd.oci.image.layer.v1.tar+gzip", Kind::Other);
        check("application/vnd.oci.empty.v1+json", Kind::Other);
    }
}
