//! What repositories are set to, and how their making may go.

use std::collections::{BTreeMap, BTreeSet};

use crate::builder::Builder;
use crate::config::{RegistryId, TagMutability};
use crate::iam::partition;

/// How a repository's content is encrypted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Encryption {
    /// With keys of S3's.
    #[default]
    Aes256,
    /// With a key of KMS.
    Kms {
        /// The key's ARN.
        key: String,
    },
    /// With a key of KMS, twice.
    KmsDsse {
        /// The key's ARN.
        key: String,
    },
}

impl Encryption {
    /// The key of KMS.
    #[must_use]
    pub fn key(&self) -> Option<&str> {
        match self {
            Self::Aes256 => None,
            Self::Kms { key } | Self::KmsDsse { key } => Some(key),
        }
    }
}

/// What a repository is set to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RepositorySettings {
    /// Which tags may move.
    pub mutability: TagMutability,
    /// Whether images are scanned when they are pushed.
    pub scan_on_push: bool,
    /// How it is encrypted.
    pub encryption: Encryption,
    /// Its AWS tags.
    pub tags: BTreeMap<String, String>,
}

/// How the making of repositories may go.
#[derive(Clone, Debug, Default)]
pub(crate) struct Creation {
    /// By name, for those that are there from the start.
    pub(crate) encryption: BTreeMap<String, Encryption>,
    /// Keys of KMS that can't be used.
    pub(crate) unusable_keys: BTreeSet<String>,
    /// Most repositories of a registry.
    pub(crate) limit: Option<usize>,
    /// Whether somebody else makes the first repository just before.
    pub(crate) race: bool,
}

impl Creation {
    /// AWS's words for a key that can't be used, if this is one.
    pub(crate) fn key_failure(&self, encryption: &Encryption) -> Option<String> {
        let key = encryption.key().filter(|key| self.unusable_keys.contains(*key))?;
        Some(format!(
            "The operation failed due to an encryption key error: KMS key {key} is not usable (KMSInvalidStateException)"
        ))
    }
}

/// The ARN of a key of KMS that is named by its ARN, its id or an alias; of ECR's own if it isn't.
pub(crate) fn key_arn(registry: &RegistryId, key: Option<&str>) -> String {
    let RegistryId { account, region, .. } = registry;
    let named = |name: &str| format!("arn:{}:kms:{region}:{account}:{name}", partition(region));
    match key {
        None => named("alias/aws/ecr"),
        Some(arn) if arn.starts_with("arn:") => arn.to_owned(),
        Some(alias) if alias.starts_with("alias/") => named(alias),
        Some(id) => named(&format!("key/{id}")),
    }
}

/// Repositories and their making.
impl Builder {
    /// How repositories of this name are encrypted that are there from the start, or made by a push.
    pub fn encryption(self, repository: &str, encryption: Encryption) -> Self {
        self.set(|config| _ = config.creation.encryption.insert(repository.to_owned(), encryption))
    }

    /// A key of KMS, by its ARN, that can't be used: no repository can be made with it, and nothing can be written to
    /// one that has it.
    pub fn unusable_kms_key(self, arn: &str) -> Self {
        self.set(|config| _ = config.creation.unusable_keys.insert(arn.to_owned()))
    }

    /// Most repositories that a registry may have; unlimited unless set.
    pub fn repository_limit(self, repositories: usize) -> Self {
        self.set(|config| config.creation.limit = Some(repositories))
    }

    /// Somebody else makes the repository just before the first `CreateRepository` does.
    pub fn creation_race(self) -> Self {
        self.set(|config| config.creation.race = true)
    }

    /// ECR Public instead of a private registry at home: `public.ecr.aws`, where the account's repositories are called
    /// `ALIAS/NAME`.
    pub fn public(self, alias: &str) -> Self {
        self.set(|config| config.public_alias = Some(alias.to_owned()))
    }
}
