//! Who asks: the identity at home and others, each of an account and with a policy of its own.

use std::collections::BTreeMap;

use crate::builder::Builder;
use crate::config::{Config, RegistryId};
use crate::denial::{DenyReason, PolicyKind};
use crate::iam::{Action, Policy, Service, partition, repository_arn};

/// An identity beside the one at home.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    pub(crate) secret_access_key: String,
    /// What must come along in `X-Amz-Security-Token`.
    pub(crate) session_token: Option<String>,
    pub(crate) account: String,
    pub(crate) arn: String,
    policy: Policy,
}

/// Identities and what repositories allow them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Callers {
    /// By access key.
    others: BTreeMap<String, Caller>,
    /// API requests for which an access key is good.
    pub(crate) lifetimes: BTreeMap<String, u64>,
    /// What repositories say of an account that isn't theirs.
    grants: BTreeMap<String, bool>,
}

impl Config {
    /// An identity other than the one at home.
    pub(crate) fn other_caller(&self, access_key_id: &str) -> Option<&Caller> {
        self.callers.others.get(access_key_id)
    }

    /// The account of an identity; of the one at home if there is no key.
    pub(crate) fn account_of(&self, holder: Option<&str>) -> &str {
        holder.and_then(|key| self.other_caller(key)).map_or(&self.home.account, |caller| &caller.account)
    }

    /// Why an identity may not do something, if so: what AWS says of it. Without a repository it is about all of them.
    ///
    /// An identity's own policies come first; then, in an account that isn't its own, the repository's.
    pub(crate) fn refusal(
        &self,
        holder: Option<&str>,
        action: Action,
        registry: &RegistryId,
        repository: Option<&str>,
    ) -> Option<String> {
        let service = if registry.public { Service::Public } else { Service::Private };
        let caller = holder.and_then(|key| self.other_caller(key));
        let policy = caller.map_or(&self.policy, |caller| &caller.policy);
        let account = self.account_of(holder);
        let granted = || self.callers.grants.get(account).copied().unwrap_or(*account == self.home.account);
        let foreign = repository.is_some() && *account != registry.account && !granted();
        let name = action.name(service);
        let reason = policy.refuses(name).or(foreign.then_some(DenyReason::Missing(PolicyKind::Resource)))?;
        let home = || format!("arn:{}:iam::{account}:user/local-ecr", partition(&registry.region));
        let principal = caller.map_or_else(home, |caller| caller.arn.clone());
        let resource = repository.map_or_else(|| "*".to_owned(), |repository| repository_arn(registry, repository));
        Some(reason.sentence(&principal, name, &resource))
    }
}

/// Identities beside the one that [`Builder::access_key`] is of.
impl Builder {
    /// Another identity whose requests the API takes: its key pair, the session token that must come along if it has
    /// one, its account and its ARN. It may do what a least-privilege push needs.
    pub fn identity(self, access_key_id: &str, secret: &str, token: Option<&str>, account: &str, arn: &str) -> Self {
        let caller = Caller {
            secret_access_key: secret.to_owned(),
            session_token: token.map(str::to_owned),
            account: account.to_owned(),
            arn: arn.to_owned(),
            policy: Policy::default(),
        };
        self.set(|config| _ = config.callers.others.insert(access_key_id.to_owned(), caller))
    }

    /// Grants an IAM action to another identity.
    ///
    /// # Panics
    ///
    /// Without an [identity](Builder::identity) of this key.
    pub fn identity_allow(self, access_key_id: &str, action: &str) -> Self {
        self.of_identity(access_key_id, |policy| policy.allow(action))
    }

    /// Takes an IAM action away from another identity, for this reason.
    ///
    /// # Panics
    ///
    /// Without an [identity](Builder::identity) of this key.
    pub fn identity_deny(self, access_key_id: &str, action: &str, reason: DenyReason) -> Self {
        self.of_identity(access_key_id, |policy| policy.deny(action, reason))
    }

    fn of_identity(self, access_key_id: &str, change: impl FnOnce(&mut Policy)) -> Self {
        self.set(|config| {
            let caller = config.callers.others.get_mut(access_key_id);
            change(&mut caller.unwrap_or_else(|| panic!("no identity has the key {access_key_id}")).policy);
        })
    }

    /// A key, that at home among them, has expired after so many API requests.
    pub fn identity_expires_after(self, access_key_id: &str, requests: u64) -> Self {
        self.set(|config| _ = config.callers.lifetimes.insert(access_key_id.to_owned(), requests))
    }

    /// The policy of every repository allows this account. The account at home needs no such word.
    pub fn repository_policy_allows(self, account: &str) -> Self {
        self.set(|config| _ = config.callers.grants.insert(account.to_owned(), true))
    }

    /// No policy of a repository of another account allows this one, be it that at home.
    pub fn repository_policy_omits(self, account: &str) -> Self {
        self.set(|config| _ = config.callers.grants.insert(account.to_owned(), false))
    }

    /// Takes an IAM action away from the identity at home, for another reason than the want of a policy that allows it.
    pub fn deny_with(self, action: &str, reason: DenyReason) -> Self {
        self.set(|config| config.policy.deny(action, reason))
    }
}
