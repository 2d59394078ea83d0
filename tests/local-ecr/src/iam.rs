//! What a caller may do: IAM actions by name, a policy, and the names that AWS gives things.

use std::collections::{BTreeMap, BTreeSet};

use crate::config::RegistryId;
use crate::denial::{DenyReason, PolicyKind};

/// A service with IAM actions of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Service {
    /// ECR, `ecr:`.
    Private,
    /// ECR Public, `ecr-public:`.
    Public,
}

macro_rules! actions {
    ($($action:ident),* $(,)?) => {
        /// An IAM action. The mapping from HTTP requests is the one of facts/ecr.md, Credentials.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum Action {
            $($action,)*
            /// STS's part in ECR Public's token.
            GetServiceBearerToken,
        }

        impl Action {
            /// Its name at a service.
            pub(crate) fn name(self, service: Service) -> &'static str {
                match (self, service) {
                    $((Self::$action, Service::Private) => concat!("ecr:", stringify!($action)),
                      (Self::$action, Service::Public) => concat!("ecr-public:", stringify!($action)),)*
                    (Self::GetServiceBearerToken, _) => "sts:GetServiceBearerToken",
                }
            }
        }
    };
}

actions!(
    BatchCheckLayerAvailability,
    BatchGetImage,
    CompleteLayerUpload,
    CreateRepository,
    DescribeImageScanFindings,
    DescribeImages,
    DescribeRepositories,
    DescribeRepositoryCreationTemplates,
    GetAccountSetting,
    GetAuthorizationToken,
    GetDownloadUrlForLayer,
    InitiateLayerUpload,
    ListImageReferrers,
    ListImages,
    PutImage,
    StartImageScan,
    UploadLayerPart,
);

/// What a push needs and no more (facts/ecr.md, Credentials, least privilege).
const LEAST_PRIVILEGE: [Action; 7] = [
    Action::GetAuthorizationToken,
    Action::BatchCheckLayerAvailability,
    Action::InitiateLayerUpload,
    Action::UploadLayerPart,
    Action::CompleteLayerUpload,
    Action::PutImage,
    Action::BatchGetImage,
];

/// What a push does better with and may try unasked, so that a refusal is nobody's mistake: the source of a mount
/// (facts/ecr.md, Credentials), the repository's mode before several tags are moved, and the referrers API, of whose
/// right nobody knows.
const MAY_BE_TRIED: [Action; 3] =
    [Action::GetDownloadUrlForLayer, Action::DescribeRepositories, Action::ListImageReferrers];

impl Action {
    /// Whether the least-privilege policy of a push has it.
    pub(crate) fn is_least_privilege(self) -> bool {
        LEAST_PRIVILEGE.contains(&self) || self == Self::GetServiceBearerToken
    }

    /// Whether a push may try it without being sure of the right.
    pub(crate) fn may_be_tried(self) -> bool {
        MAY_BE_TRIED.contains(&self)
    }

    /// Whether a service has it. What is read from ECR Public is anybody's, and no action guards it.
    pub(crate) fn is_of(self, service: Service) -> bool {
        let open = [Self::BatchGetImage, Self::GetDownloadUrlForLayer, Self::ListImages, Self::ListImageReferrers];
        service == Service::Private || !open.contains(&self)
    }
}

/// The identity-based policy of a caller, and what else is in its way.
#[derive(Clone, Debug)]
pub(crate) struct Policy {
    allowed: BTreeSet<String>,
    denied: BTreeMap<String, DenyReason>,
}

impl Default for Policy {
    fn default() -> Self {
        let names =
            LEAST_PRIVILEGE.iter().flat_map(|action| [Service::Private, Service::Public].map(|s| action.name(s)));
        let names = names.chain([Action::GetServiceBearerToken.name(Service::Public)]);
        Self { allowed: names.map(str::to_owned).collect(), denied: BTreeMap::new() }
    }
}

impl Policy {
    pub(crate) fn allow(&mut self, name: &str) {
        self.denied.remove(name);
        self.allowed.insert(name.to_owned());
    }

    pub(crate) fn deny(&mut self, name: &str, reason: DenyReason) {
        self.denied.insert(name.to_owned(), reason);
    }

    /// Why the caller may not do this, if so.
    pub(crate) fn refuses(&self, name: &str) -> Option<DenyReason> {
        let missing = || (!self.allowed.contains(name)).then_some(DenyReason::Missing(PolicyKind::Identity));
        self.denied.get(name).copied().or_else(missing)
    }
}

/// The ARN of a repository.
pub(crate) fn repository_arn(registry: &RegistryId, repository: &str) -> String {
    let RegistryId { account, region, public } = registry;
    if *public {
        // The alias is the account's, and no part of the name that it knows.
        let name = repository.split_once('/').map_or(repository, |(_, name)| name);
        return format!("arn:aws:ecr-public::{account}:repository/{name}");
    }
    format!("arn:{}:ecr:{region}:{account}:repository/{repository}", partition(region))
}

/// The first part of an ARN.
pub(crate) fn partition(region: &str) -> &'static str {
    match region.split('-').next() {
        Some("cn") => "aws-cn",
        Some("eusc") => "aws-eusc",
        _ if region.starts_with("us-gov-") => "aws-us-gov",
        _ => "aws",
    }
}
