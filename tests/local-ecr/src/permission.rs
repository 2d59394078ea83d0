//! Whether a caller may do what it asks for: IAM first, then the quota.

use std::time::Instant;

use crate::config::RegistryId;
use crate::iam::{Action, Service};
use crate::invariants::Violation;
use crate::quota::Bucket;
use crate::server::{Call, Shared};
use crate::sync::lock;

/// How much a client makes itself dependent on a right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    /// It asks because it needs the answer.
    Needed,
    /// It does without, if it must.
    Tried,
}

/// Why not.
#[derive(Debug)]
pub(crate) enum Denied {
    /// For want of permission, in AWS's words.
    Forbidden(String),
    /// The quota is used up.
    Throttled,
}

/// What is to be done, and on what; without a repository it is about all of them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Deed<'a> {
    pub(crate) action: Action,
    pub(crate) registry: &'a RegistryId,
    pub(crate) repository: Option<&'a str>,
    pub(crate) asked: Asked,
}

/// Lets a caller do something, or says why not. What no push may ask for is noted as a violation when it is refused.
pub(crate) fn permit(shared: &Shared, call: &Call, holder: Option<&str>, deed: Deed) -> Result<(), Denied> {
    let Deed { action, registry, repository, asked } = deed;
    let service = if registry.public { Service::Public } else { Service::Private };
    if !action.is_of(service) {
        return Ok(());
    }
    let name = action.name(service);
    if let Some(sentence) = shared.config.refusal(holder, action, registry, repository) {
        let excused = action.is_least_privilege() || asked == Asked::Tried && action.may_be_tried();
        if !excused {
            shared.violate(Violation::ForbiddenAction { action: name, request: call.to_string() });
        }
        return Err(Denied::Forbidden(sentence));
    }
    if within_quota(shared, registry, name) { Ok(()) } else { Err(Denied::Throttled) }
}

/// Takes one request out of an action's quota, if it has one: quotas are an account's in a region (facts/ecr.md, Speed).
fn within_quota(shared: &Shared, registry: &RegistryId, name: &'static str) -> bool {
    let Some(rate) = shared.config.rates.get(name) else {
        return true;
    };
    let mut state = lock(&shared.state);
    let bucket = state.buckets.entry((registry.clone(), name)).or_insert_with(|| Bucket::full(*rate));
    bucket.take(Instant::now())
}
