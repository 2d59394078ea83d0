//! Setting the identity side up.

use std::time::Duration;

use super::settings::{Renewal, Role, Settings};
use crate::builder::Builder;

impl Builder {
    fn identities(self, change: impl FnOnce(&mut Settings)) -> Self {
        self.set(|config| change(&mut config.identity))
    }

    /// A role that STS lets be assumed; any other is refused.
    pub fn role(self, role: Role) -> Self {
        self.identities(|settings| settings.roles.push(role))
    }

    /// A token of an identity provider, for which STS lets roles be assumed.
    pub fn web_identity_token(self, token: &str) -> Self {
        self.identities(|settings| settings.web_identity_tokens.push(token.to_owned()))
    }

    /// A token that was one once.
    pub fn expired_web_identity_token(self, token: &str) -> Self {
        self.identities(|settings| settings.expired_web_identity_tokens.push(token.to_owned()))
    }

    /// The role of the instance that the metadata service speaks for. Without it the instance has none.
    pub fn instance_role(self, name: &str) -> Self {
        self.identities(|settings| settings.instance_role = Some(name.to_owned()))
    }

    /// The metadata service is one hop too far away: no token ever arrives.
    pub fn metadata_out_of_reach(self) -> Self {
        self.identities(|settings| settings.metadata_out_of_reach = true)
    }

    /// The `Authorization` that the container endpoint asks for; none unless set.
    pub fn container_token(self, token: &str) -> Self {
        self.identities(|settings| settings.container_token = Some(token.to_owned()))
    }

    /// An access token of IAM Identity Center.
    pub fn sso_token(self, token: &str) -> Self {
        self.identities(|settings| settings.sso_tokens.push(token.to_owned()))
    }

    /// What the users of IAM Identity Center may be.
    pub fn sso_role(self, account: &str, name: &str) -> Self {
        self.identities(|settings| settings.sso_roles.push((account.to_owned(), name.to_owned())))
    }

    /// A refresh token of IAM Identity Center, and the access token that it gives.
    pub fn sso_renewal(self, refresh_token: &str, access_token: &str) -> Self {
        let renewal = Renewal { refresh_token: refresh_token.to_owned(), access_token: access_token.to_owned() };
        self.identities(|settings| settings.sso_renewals.push(renewal))
    }

    /// Temporary credentials expire after so many API requests, each for itself; the API says so.
    pub fn temporary_lifetime(self, requests: u64) -> Self {
        self.identities(|settings| settings.lifetime = Some(requests))
    }

    /// What temporary credentials say of their own end: so long after they are given; an hour unless set.
    pub fn temporary_expires_in(self, time: Duration) -> Self {
        self.identities(|settings| settings.expires_in = time)
    }
}
