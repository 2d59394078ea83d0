//! What the caller may do: IAM actions by name, the policy in force, and the names that AWS gives things.

use std::collections::BTreeSet;

use crate::config::RegistryId;

/// An IAM action. The mapping from HTTP requests is the one of facts/ecr.md, Credentials.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    GetAuthorizationToken,
    BatchCheckLayerAvailability,
    BatchGetImage,
    CompleteLayerUpload,
    GetDownloadUrlForLayer,
    InitiateLayerUpload,
    ListImages,
    PutImage,
    UploadLayerPart,
}

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

impl Action {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::GetAuthorizationToken => "ecr:GetAuthorizationToken",
            Self::BatchCheckLayerAvailability => "ecr:BatchCheckLayerAvailability",
            Self::BatchGetImage => "ecr:BatchGetImage",
            Self::CompleteLayerUpload => "ecr:CompleteLayerUpload",
            Self::GetDownloadUrlForLayer => "ecr:GetDownloadUrlForLayer",
            Self::InitiateLayerUpload => "ecr:InitiateLayerUpload",
            Self::ListImages => "ecr:ListImages",
            Self::PutImage => "ecr:PutImage",
            Self::UploadLayerPart => "ecr:UploadLayerPart",
        }
    }

    /// Whether the least-privilege policy of a push has it.
    pub(crate) fn is_least_privilege(self) -> bool {
        LEAST_PRIVILEGE.contains(&self)
    }
}

/// The identity-based policy of the one principal that this server knows.
#[derive(Clone, Debug)]
pub(crate) struct Policy {
    allowed: BTreeSet<String>,
}

impl Default for Policy {
    fn default() -> Self {
        Self { allowed: LEAST_PRIVILEGE.iter().map(|action| action.name().to_owned()).collect() }
    }
}

impl Policy {
    pub(crate) fn allow(&mut self, name: String) {
        self.allowed.insert(name);
    }

    pub(crate) fn deny(&mut self, name: &str) {
        self.allowed.remove(name);
    }

    pub(crate) fn allows(&self, action: Action) -> bool {
        self.allowed.contains(action.name())
    }
}

/// AWS's sentence for a missing permission (facts/ecr.md, Credentials).
pub(crate) fn refusal(registry: &RegistryId, action: Action, resource: &str) -> String {
    let name = action.name();
    format!(
        "User: arn:{}:iam::{}:user/local-ecr is not authorized to perform: {name} on resource: {resource} because no identity-based policy allows the {name} action",
        partition(&registry.region),
        registry.account,
    )
}

/// The ARN of a repository.
pub(crate) fn repository_arn(registry: &RegistryId, repository: &str) -> String {
    let RegistryId { account, region } = registry;
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
