//! Why a request is denied, in AWS's sentences (IAM user guide, "Troubleshoot access denied error messages").

/// A kind of policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PolicyKind {
    /// One that is attached to the caller.
    Identity,
    /// The repository's own.
    Resource,
    /// One of the organization's, on accounts.
    ServiceControl,
    /// One of the organization's, on resources.
    ResourceControl,
    /// That of the VPC endpoint through which the request comes.
    VpcEndpoint,
    /// The caller's permissions boundary.
    Boundary,
    /// The one that the caller's session was made with.
    Session,
}

impl PolicyKind {
    /// With its article, and without.
    fn named(self) -> (&'static str, &'static str) {
        match self {
            Self::Identity => ("an identity-based policy", "identity-based policy"),
            Self::Resource => ("a resource-based policy", "resource-based policy"),
            Self::ServiceControl => ("a service control policy", "service control policy"),
            Self::ResourceControl => ("a resource control policy", "resource control policy"),
            Self::VpcEndpoint => ("a VPC endpoint policy", "VPC endpoint policy"),
            Self::Boundary => ("a permissions boundary", "permissions boundary"),
            Self::Session => ("a session policy", "session policy"),
        }
    }
}

/// Why an action is denied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DenyReason {
    /// No policy of this kind allows it.
    Missing(PolicyKind),
    /// A policy of this kind forbids it.
    Explicit(PolicyKind),
    /// AWS doesn't say.
    Unsaid,
}

impl DenyReason {
    /// AWS's sentence (facts/ecr.md, Credentials).
    pub(crate) fn sentence(self, principal: &str, action: &str, resource: &str) -> String {
        let start = format!("User: {principal} is not authorized to perform: {action} on resource: {resource}");
        match self {
            Self::Missing(policy) => format!("{start} because no {} allows the {action} action", policy.named().1),
            Self::Explicit(policy) => format!("{start} with an explicit deny in {}", policy.named().0),
            Self::Unsaid => start,
        }
    }
}
