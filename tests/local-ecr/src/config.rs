//! How a server is to behave: what the builder collects and the handlers read.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::callers::Callers;
use crate::fault::Fault;
use crate::iam::Policy;
use crate::identity;
use crate::limits::Limits;
use crate::link::Link;
use crate::quota::Rate;
use crate::repository::Creation;
use crate::scanning;
use crate::tls::TlsVersion;

/// ECR Public's one host, and the one region of its API (facts/ecr.md, Hosts and Credentials).
pub(crate) const PUBLIC: (&str, &str) = ("public.ecr.aws", "us-east-1");

/// A registry: a private one of an account in a region, or an account's part of ECR Public.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct RegistryId {
    pub(crate) account: String,
    pub(crate) region: String,
    pub(crate) public: bool,
}

impl RegistryId {
    pub(crate) fn new(account: impl Into<String>, region: impl Into<String>) -> Self {
        Self { account: account.into(), region: region.into(), public: false }
    }

    /// An account's part of ECR Public.
    pub(crate) fn public(account: impl Into<String>) -> Self {
        Self { public: true, ..Self::new(account, PUBLIC.1) }
    }

    /// The standard host name (facts/ecr.md, Hosts).
    pub(crate) fn host(&self) -> String {
        if self.public {
            return PUBLIC.0.to_owned();
        }
        let Self { account, region, .. } = self;
        format!("{account}.dkr.ecr.{region}.{}", self.suffixes().0)
    }

    /// What its standard host names end in, and what its dual-stack ones do (facts/ecr.md, Hosts).
    pub(crate) fn suffixes(&self) -> (&'static str, &'static str) {
        match self.region.split('-').next() {
            Some("cn") => ("amazonaws.com.cn", "on.amazonwebservices.com.cn"),
            Some("eusc") => ("amazonaws.eu", "on.aws"),
            _ => ("amazonaws.com", "on.aws"),
        }
    }

    /// Account and region out of any of ECR's host names; ports are not looked at. ECR Public's names no account.
    pub(crate) fn from_host(host: &str) -> Option<Self> {
        let host = host.rsplit_once(':').map_or(host, |(name, _)| name);
        if host == PUBLIC.0 {
            return Some(Self::public(""));
        }
        let (account, rest) = host.split_once(".dkr")?;
        let rest = rest.strip_prefix(".ecr").or_else(|| rest.strip_prefix("-ecr"))?;
        let rest = rest.strip_prefix("-fips").unwrap_or(rest).strip_prefix('.')?;
        let (region, _suffix) = rest.split_once('.')?;
        let digits = account.len() == 12 && account.bytes().all(|b| b.is_ascii_digit());
        digits.then(|| Self::new(account, region))
    }
}

/// What a POST for an upload gets when the repository is not there. All were seen
/// (facts/ecr.md, Uploading, "Missing repository").
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MissingRepository {
    /// 404 `NAME_UNKNOWN`.
    #[default]
    NotFound,
    /// The connection closes without a reply. Other requests get 404 `NAME_UNKNOWN`.
    CloseConnection,
    /// A creation template applies: the push itself makes the repository.
    CreateOnPush,
}

/// What a POST for an upload gets without `ecr:InitiateLayerUpload`. Both were seen (facts/ecr.md, Uploading).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MissingPermission {
    /// 403 `DENIED` in AWS's words.
    #[default]
    Forbidden,
    /// The connection closes without a reply. Other requests get the 403.
    CloseConnection,
}

/// Whether a tag may move to another digest (facts/ecr.md, Manifests and tags). Filters are tag
/// names in which `*` stands for any characters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum TagMutability {
    /// Every tag may move.
    #[default]
    Mutable,
    /// No tag may move.
    Immutable,
    /// Tags may move, except those that a filter matches.
    MutableWithExclusion(Vec<String>),
    /// Tags may not move, except those that a filter matches.
    ImmutableWithExclusion(Vec<String>),
}

impl TagMutability {
    pub(crate) fn is_immutable(&self, tag: &str) -> bool {
        let matched = |filters: &[String]| filters.iter().any(|filter| wildcard(filter, tag));
        match self {
            Self::Mutable => false,
            Self::Immutable => true,
            Self::MutableWithExclusion(filters) => matched(filters),
            Self::ImmutableWithExclusion(filters) => !matched(filters),
        }
    }
}

fn wildcard(filter: &str, tag: &str) -> bool {
    match filter.split_once('*') {
        None => filter == tag,
        Some((start, rest)) => tag
            .strip_prefix(start)
            .is_some_and(|tail| (0..=tail.len()).any(|i| tail.is_char_boundary(i) && wildcard(rest, &tail[i..]))),
    }
}

/// For how long a manifest is refused for a layer whose upload was acknowledged
/// (facts/ecr.md, Manifests, "Lag").
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LayerLag {
    /// Not at all.
    #[default]
    None,
    /// For this long after the upload's 201.
    For(Duration),
    /// For this many manifest PUTs that name the blob.
    Refusals(u32),
}

/// Code and status of a manifest that is refused for a missing layer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MissingLayer {
    /// 404 `BLOB_UPLOAD_UNKNOWN`, as seen (oras-project/oras-py#54, mapbox/ecs-conex#50).
    #[default]
    BlobUploadUnknown,
    /// 400 `MANIFEST_BLOB_UNKNOWN`, as for an index's children.
    ManifestBlobUnknown,
}

/// The answer to an expired token: its text is certain, its status isn't (facts/ecr.md, Credentials).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ExpiredToken {
    /// 403 `DENIED` with "Your authorization token has expired…".
    #[default]
    Denied,
    /// The 401 that a wrong token gets.
    Challenge,
}

/// The answer to a tag that an image can't have any more (facts/ecr.md, Manifests: 1,000; the words are unknown).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TooManyTags {
    /// 405 `UNSUPPORTED`, as for too many layers.
    #[default]
    Unsupported,
    /// 400 `TAG_INVALID`, as for an immutable tag.
    TagInvalid,
}

/// The answer to whoever puts or gets an image that has been archived; it is unknown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ArchivedImage {
    /// It is as if it weren't there: 404 `MANIFEST_UNKNOWN`. A PUT brings it back.
    #[default]
    NotFound,
    /// 405 `UNSUPPORTED` with the reason, for PUT as for GET; `ImageInaccessible` from the API.
    Inaccessible,
}

/// The answer to a GET on an upload session: seen on ECR Public, else unknown (facts/ecr.md, Uploading).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UploadStatus {
    /// 404 `BLOB_UPLOAD_UNKNOWN`.
    #[default]
    NotFound,
    /// 204 with the `Range` of what is there, as the OCI specification has it. ECR Public's stays a 404.
    Progress,
    /// 204 with a `Range` that stays at the end of the first part, as a PATCH's answer does.
    FirstPart,
}

/// Everything that may be set before the start.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of its own for an unknown of facts/ecr.md")]
pub(crate) struct Config {
    pub(crate) home: RegistryId,
    pub(crate) access_key_id: String,
    pub(crate) secret_access_key: String,
    pub(crate) repositories: Vec<(RegistryId, String)>,
    pub(crate) mutability: BTreeMap<String, TagMutability>,
    pub(crate) same_digest_refused: bool,
    pub(crate) older_immutability_words: bool,
    pub(crate) policy: Policy,
    pub(crate) callers: Callers,
    pub(crate) public_alias: Option<String>,
    pub(crate) creation: Creation,
    pub(crate) limits: Limits,
    pub(crate) scanning: scanning::Settings,
    pub(crate) missing_repository: MissingRepository,
    pub(crate) missing_permission: MissingPermission,
    pub(crate) missing_layer: MissingLayer,
    pub(crate) too_many_tags: TooManyTags,
    pub(crate) archived_image: ArchivedImage,
    pub(crate) upload_status: UploadStatus,
    pub(crate) single_post: bool,
    pub(crate) short_after_cut: bool,
    pub(crate) referrers_own_right: bool,
    pub(crate) layer_lag: LayerLag,
    pub(crate) layer_limit: Option<usize>,
    pub(crate) token_lifetime: Option<u64>,
    pub(crate) token_expires_at_in_past: bool,
    pub(crate) expired_token: ExpiredToken,
    pub(crate) sha512: bool,
    pub(crate) referrers_api: bool,
    pub(crate) oci_subject_header: bool,
    pub(crate) blob_mounting: bool,
    pub(crate) mount_denied: bool,
    pub(crate) upload_cancel: bool,
    pub(crate) rates: BTreeMap<String, Rate>,
    pub(crate) faults: Vec<Fault>,
    pub(crate) tls: bool,
    pub(crate) tls_versions: Vec<TlsVersion>,
    pub(crate) http2: bool,
    pub(crate) link: Option<Link>,
    pub(crate) identity: identity::Settings,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            home: RegistryId::new("123456789012", "ap-northeast-2"),
            // The pair that AWS's own documentation prints: it is nobody's.
            access_key_id: "AKIAIOSFODNN7EXAMPLE".to_owned(),
            secret_access_key: "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY".to_owned(),
            repositories: Vec::new(),
            mutability: BTreeMap::new(),
            same_digest_refused: false,
            older_immutability_words: false,
            policy: Policy::default(),
            callers: Callers::default(),
            public_alias: None,
            creation: Creation::default(),
            limits: Limits::default(),
            scanning: scanning::Settings::default(),
            missing_repository: MissingRepository::default(),
            missing_permission: MissingPermission::default(),
            missing_layer: MissingLayer::default(),
            too_many_tags: TooManyTags::default(),
            archived_image: ArchivedImage::default(),
            upload_status: UploadStatus::default(),
            single_post: false,
            short_after_cut: true,
            referrers_own_right: false,
            layer_lag: LayerLag::default(),
            layer_limit: None,
            token_lifetime: None,
            token_expires_at_in_past: false,
            expired_token: ExpiredToken::default(),
            sha512: false,
            referrers_api: true,
            oci_subject_header: false,
            blob_mounting: false,
            mount_denied: false,
            upload_cancel: true,
            rates: BTreeMap::new(),
            faults: Vec::new(),
            tls: false,
            tls_versions: vec![TlsVersion::V1_2, TlsVersion::V1_3],
            http2: false,
            link: None,
            identity: identity::Settings::default(),
        }
    }
}

impl Config {
    /// The registry that a host names, or else the one at home.
    pub(crate) fn registry_at(&self, host: &str) -> RegistryId {
        let named = RegistryId::from_host(host).filter(|named| !(named.public && self.home.public));
        named.unwrap_or_else(|| self.home.clone())
    }

    /// The regions that have a registry: an API request must be signed for one of them.
    pub(crate) fn has_region(&self, region: &str) -> bool {
        let private = |id: &RegistryId| !id.public && id.region == region;
        private(&self.home) || self.repositories.iter().any(|(id, _)| private(id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_name_account_and_region() {
        for (host, expected) in [
            ("123456789012.dkr.ecr.us-west-2.amazonaws.com", Some("us-west-2")),
            ("123456789012.dkr.ecr-fips.us-gov-west-1.amazonaws.com:443", Some("us-gov-west-1")),
            ("123456789012.dkr-ecr.us-west-2.on.aws", Some("us-west-2")),
            ("127.0.0.1:5000", None),
            ("12.dkr.ecr.us-west-2.amazonaws.com", None),
        ] {
            let found = RegistryId::from_host(host);
            assert_eq!(found.map(|id| id.region).as_deref(), expected, "{host}");
        }
    }

    #[test]
    fn filters_turn_the_mode_round() {
        let filters = vec!["latest*".to_owned(), "*-rc".to_owned()];
        let mutable = TagMutability::MutableWithExclusion(filters.clone());
        let immutable = TagMutability::ImmutableWithExclusion(filters);
        for (tag, matched) in [("latest", true), ("latest-2", true), ("v1-rc", true), ("v1", false)] {
            assert_eq!(mutable.is_immutable(tag), matched, "{tag}");
            assert_eq!(immutable.is_immutable(tag), !matched, "{tag}");
        }
    }
}
