//! AWS's sentence for a missing permission, taken apart.
//!
//! The sentences are those of the IAM user guide, "Troubleshoot access denied error messages"; ECR's registry repeats them
//! word by word (facts/ecr.md, Credentials). There is nothing else in an answer that says as much, so that this is one of
//! the few places that read a text.

use std::fmt;

/// Who may not do what, and which policy says so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Denial {
    /// The ARN of the caller.
    pub principal: Option<String>,
    /// The action, such as `ecr:PutImage`.
    pub action: String,
    /// The ARN of what it was to be done on.
    pub resource: Option<String>,
    /// The kind of policy that is in the way.
    pub policy: Policy,
    /// Whether that policy forbids it, or only doesn't allow it.
    pub explicit: bool,
}

/// The kinds of policies that AWS names in such a sentence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Policy {
    /// One that is attached to the caller.
    Identity,
    /// The repository's own.
    Resource,
    /// One of the organization's, on accounts.
    ServiceControl,
    /// One of the organization's, on resources.
    ResourceControl,
    /// That of the VPC endpoint through which the request came.
    VpcEndpoint,
    /// The caller's permissions boundary.
    Boundary,
    /// The one that the caller's session was made with.
    Session,
    /// AWS doesn't say.
    Unsaid,
}

/// As AWS spells them, in either form: "because no … policy allows" and "with an explicit deny in a …".
const POLICIES: [(&str, Policy); 7] = [
    ("identity-based policy", Policy::Identity),
    ("resource-based policy", Policy::Resource),
    ("service control policy", Policy::ServiceControl),
    ("resource control policy", Policy::ResourceControl),
    ("VPC endpoint policy", Policy::VpcEndpoint),
    ("permissions boundary", Policy::Boundary),
    ("session policy", Policy::Session),
];

impl Denial {
    /// Reads a message; `None` where it is no such sentence.
    #[must_use]
    pub fn read(message: &str) -> Option<Self> {
        let (before, after) = message.split_once("is not authorized to perform: ")?;
        let mut words = after.split_whitespace();
        let action = words.next()?.trim_end_matches(['.', ',']).to_owned();
        let is_action = action.split_once(':').is_some_and(|(service, name)| !service.is_empty() && !name.is_empty());
        if !is_action {
            return None;
        }
        let principal = before.rsplit_once("User: ").map(|(_, arn)| arn.trim().to_owned()).filter(|arn| is_arn(arn));
        let resource = after.split_once("on resource: ").and_then(|(_, rest)| rest.split_whitespace().next());
        let resource = resource.map(|arn| arn.trim_end_matches(['.', ',']).to_owned()).filter(|arn| is_arn(arn));
        let named = POLICIES.into_iter().find(|(words, _)| after.contains(words));
        let policy = named.map_or(Policy::Unsaid, |(_, policy)| policy);
        Some(Self { principal, action, resource, policy, explicit: after.contains("with an explicit deny") })
    }

    /// The account of the caller, if the sentence names it.
    #[must_use]
    pub fn account(&self) -> Option<&str> {
        self.principal.as_deref()?.split(':').nth(4).filter(|account| !account.is_empty())
    }

    /// What to do about it; `resource` is what it was to be done on, for where the sentence doesn't say.
    #[must_use]
    pub fn advice(&self, resource: &str) -> String {
        let Self { action, .. } = self;
        let resource = self.resource.as_deref().unwrap_or(resource);
        let who = self.principal.as_deref().unwrap_or("the identity");
        let forbidden = format!("{action} on {resource} is forbidden");
        match (self.policy, self.explicit) {
            (Policy::ServiceControl, _) => format!(
                "{forbidden} by a service control policy: nobody in the account can allow it, the organization's \
                 administrators can"
            ),
            (Policy::ResourceControl, _) => format!(
                "{forbidden} by a resource control policy: nobody in the account can allow it, the organization's \
                 administrators can"
            ),
            (Policy::VpcEndpoint, true) => {
                format!("{forbidden} by the policy of the VPC endpoint: take the deny out of it")
            }
            (Policy::VpcEndpoint, false) => {
                format!("the policy of the VPC endpoint has to allow {action} on {resource}")
            }
            (Policy::Boundary, true) => {
                format!("{forbidden} by the permissions boundary of {who}: take the deny out of it")
            }
            (Policy::Boundary, false) => {
                format!("the permissions boundary of {who} has to allow {action} on {resource}")
            }
            (Policy::Session, true) => {
                format!("{forbidden} by the policy that the session of {who} was made with: take the deny out of it")
            }
            (Policy::Session, false) => {
                format!("the policy that the session of {who} was made with has to allow {action} on {resource}")
            }
            (Policy::Resource, true) => format!("{forbidden} by {}: take the deny out of it", self.resource_policy()),
            (Policy::Resource, false) => {
                let theirs = resource.split(':').nth(4);
                let stranger = self.account().is_some_and(|account| Some(account) != theirs);
                let of = if stranger { ", which is of another account" } else { "" };
                format!("{} has to allow {action} on {resource} to {who}{of}", self.resource_policy())
            }
            (Policy::Identity | Policy::Unsaid, true) => {
                format!("{forbidden} by a policy of {who}: take the deny out of it")
            }
            (Policy::Identity | Policy::Unsaid, false) => format!("{who} needs {action} on {resource}"),
        }
    }

    /// What the resource's own policy is called: not all that a push asks for is a repository's.
    fn resource_policy(&self) -> &'static str {
        match self.action.split(':').next() {
            Some("kms") => "the key's policy",
            Some("sts") => "the role's trust policy",
            _ => "the repository's policy",
        }
    }
}

fn is_arn(text: &str) -> bool {
    text.starts_with("arn:") && !text.chars().any(char::is_whitespace)
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let spelled = POLICIES.into_iter().find(|(_, policy)| policy == self);
        f.write_str(spelled.map_or("policy", |(words, _)| words))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHO: &str = "arn:aws:iam::123456789012:user/ci";
    const WHAT: &str = "arn:aws:ecr:eu-west-1:123456789012:repository/app";

    fn read(end: &str) -> Denial {
        let message = format!("User: {WHO} is not authorized to perform: ecr:PutImage on resource: {WHAT} {end}");
        Denial::read(&message).unwrap_or_else(|| panic!("{message}"))
    }

    #[test]
    fn sentences() {
        let check = |end: &str, policy, explicit, advice: &str| {
            let found = read(end);
            assert_eq!((found.policy, found.explicit), (policy, explicit), "{end}");
            assert_eq!(found.action, "ecr:PutImage");
            assert_eq!((found.principal.as_deref(), found.resource.as_deref()), (Some(WHO), Some(WHAT)));
            assert!(found.advice("*").contains(advice), "{end}: {}", found.advice("*"));
        };
        let no = |what: &str| format!("because no {what} allows the ecr:PutImage action");
        let deny = |what: &str| format!("with an explicit deny in {what}");
        check(&no("identity-based policy"), Policy::Identity, false, "user/ci needs ecr:PutImage on arn:aws:ecr:");
        check(&deny("an identity-based policy"), Policy::Identity, true, "take the deny out");
        check(&no("resource-based policy"), Policy::Resource, false, "repository's policy has to allow");
        check(&deny("a resource-based policy"), Policy::Resource, true, "repository's policy: take");
        check(&no("service control policy"), Policy::ServiceControl, false, "organization");
        check(&deny("a service control policy"), Policy::ServiceControl, true, "organization");
        check(&deny("a resource control policy"), Policy::ResourceControl, true, "organization");
        check(&no("VPC endpoint policy"), Policy::VpcEndpoint, false, "VPC endpoint has to allow ecr:PutImage");
        check(&deny("a VPC endpoint policy"), Policy::VpcEndpoint, true, "policy of the VPC endpoint: take");
        check(&no("permissions boundary"), Policy::Boundary, false, "boundary");
        check(
            &deny("a permissions boundary"),
            Policy::Boundary,
            true,
            "boundary of arn:aws:iam::123456789012:user/ci: take",
        );
        check(&no("session policy"), Policy::Session, false, "made with has to allow ecr:PutImage");
        check(&deny("a session policy"), Policy::Session, true, "made with: take the deny out");
        check("", Policy::Unsaid, false, "needs ecr:PutImage");
        assert_eq!(read("").account(), Some("123456789012"));
    }

    #[test]
    fn whose_policy_it_is() {
        let check = |who: &str, action: &str, resource: &str, advice: &str| {
            let text = format!("User: {who} is not authorized to perform: {action} on resource: {resource}");
            let found = Denial::read(&format!("{text} because no resource-based policy allows the {action} action"));
            assert_eq!(found.unwrap().advice("*"), advice);
        };
        let other = "arn:aws:iam::111122223333:user/ci";
        let key = "arn:aws:kms:eu-west-1:123456789012:key/k";
        check(
            WHO,
            "ecr:PutImage",
            WHAT,
            &format!("the repository's policy has to allow ecr:PutImage on {WHAT} to {WHO}"),
        );
        check(
            other,
            "ecr:PutImage",
            WHAT,
            &format!(
                "the repository's policy has to allow ecr:PutImage on {WHAT} to {other}, which is of another account"
            ),
        );
        check(WHO, "kms:Decrypt", key, &format!("the key's policy has to allow kms:Decrypt on {key} to {WHO}"));
    }

    #[test]
    fn without_a_resource() {
        let found = Denial::read("User: x is not authorized to perform: ecr:GetAuthorizationToken").unwrap();
        assert_eq!((found.principal.as_deref(), found.resource.as_deref(), found.account()), (None, None, None));
        assert_eq!(found.advice("*"), "the identity needs ecr:GetAuthorizationToken on *");
    }

    #[test]
    fn other_texts() {
        for text in ["", "Not Authorized", "is not authorized to perform: nothing", "Rate exceeded"] {
            assert_eq!(Denial::read(text), None, "{text}");
        }
    }
}
