//! What there may be at most, and the switches for what nobody knows.

use crate::builder::Builder;
use crate::config::{ArchivedImage, RegistryId, TooManyTags, UploadStatus};
use crate::quota::Rate;

const MIB: u64 = 1024 * 1024;

/// ECR's quotas for each account and region, each second (facts/ecr.md, Speed).
const QUOTAS: [(&str, u32); 6] = [
    ("ecr:PutImage", 10),
    ("ecr:InitiateLayerUpload", 100),
    ("ecr:CompleteLayerUpload", 100),
    ("ecr:UploadLayerPart", 500),
    ("ecr:BatchCheckLayerAvailability", 1000),
    ("ecr:GetAuthorizationToken", 500),
];

/// Most of everything.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Tags of an image.
    pub(crate) tags: usize,
    /// Bytes of a layer; ECR's own limit unless set.
    layer: Option<u64>,
    /// Items on a page of the API's, whatever was asked for.
    pub(crate) page: Option<usize>,
}

impl Default for Limits {
    fn default() -> Self {
        // facts/ecr.md, Manifests and tags.
        Self { tags: 1000, layer: None, page: None }
    }
}

impl Limits {
    /// Most bytes of a layer (facts/ecr.md, Uploading).
    pub(crate) fn layer(&self, registry: &RegistryId) -> u64 {
        self.layer.unwrap_or(if registry.public { 10_000 * MIB } else { 52_000 * MIB })
    }
}

/// Limits.
impl Builder {
    /// Most tags of an image; 1,000 unless set.
    pub fn tag_limit(self, tags: usize) -> Self {
        self.set(|config| config.limits.tags = tags)
    }

    /// Most bytes of a layer; 52,000 MiB unless set, and 10,000 MiB on ECR Public.
    pub fn layer_size_limit(self, bytes: u64) -> Self {
        self.set(|config| config.limits.layer = Some(bytes))
    }

    /// Most items on a page of the API's, whatever was asked for.
    pub fn page_limit(self, items: usize) -> Self {
        self.set(|config| config.limits.page = Some(items))
    }

    /// ECR's documented quotas. See [`Builder::rate`] for one.
    pub fn quotas(self) -> Self {
        QUOTAS.into_iter().fold(self, |builder, (action, rate)| {
            let rate = Rate { burst: rate, per_second: f64::from(rate) };
            builder.set(|config| _ = config.rates.insert(action.to_owned(), rate))
        })
    }
}

/// Answers that nobody knows.
impl Builder {
    /// How a tag is refused that an image can't have any more.
    pub fn too_many_tags(self, how: TooManyTags) -> Self {
        self.set(|config| config.too_many_tags = how)
    }

    /// What whoever puts or gets an archived image is told.
    pub fn archived_image(self, how: ArchivedImage) -> Self {
        self.set(|config| config.archived_image = how)
    }

    /// What a GET on an upload session gets.
    pub fn upload_status(self, how: UploadStatus) -> Self {
        self.set(|config| config.upload_status = how)
    }

    /// Whether a POST for an upload with `?digest=` and the whole blob is taken as one; else it opens a session, and the
    /// body goes nowhere (facts/ecr.md, Uploading: no evidence).
    pub fn single_post(self, taken: bool) -> Self {
        self.set(|config| config.single_post = taken)
    }

    /// Whether a part may be short, and not be the last, that a cut left behind: a client goes on at the byte that is named
    /// (facts/ecr.md, Uploading), and nobody says what becomes of that at the end.
    pub fn short_after_cut(self, taken: bool) -> Self {
        self.set(|config| config.short_after_cut = taken)
    }

    /// Whether the referrers API needs `ecr:ListImageReferrers` instead of `ecr:BatchGetImage`.
    pub fn referrers_own_right(self, own: bool) -> Self {
        self.set(|config| config.referrers_own_right = own)
    }
}
