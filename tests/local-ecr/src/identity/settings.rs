//! What the identity side is set to know and to give.

use std::time::Duration;

/// A role that may be assumed, and what its trust policy asks for.
#[derive(Clone, Debug)]
#[must_use = "a role is nothing before the builder has it"]
pub struct Role {
    pub(crate) arn: String,
    pub(crate) external_id: Option<String>,
}

impl Role {
    /// A role that whoever signs for STS may assume.
    pub fn new(arn: &str) -> Self {
        Self { arn: arn.to_owned(), external_id: None }
    }

    /// Only with this external id.
    pub fn external_id(self, id: &str) -> Self {
        Self { external_id: Some(id.to_owned()), ..self }
    }
}

/// A session of IAM Identity Center that can be renewed, as `aws sso login` leaves it on disk.
#[derive(Clone, Debug)]
pub(crate) struct Renewal {
    pub(crate) refresh_token: String,
    /// The access token that comes of it.
    pub(crate) access_token: String,
}

/// Everything that may be set before the start.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) roles: Vec<Role>,
    pub(crate) web_identity_tokens: Vec<String>,
    pub(crate) expired_web_identity_tokens: Vec<String>,
    /// The role that is attached to the instance.
    pub(crate) instance_role: Option<String>,
    /// Whether the reply to a request for a metadata token gets lost on its way to a container.
    pub(crate) metadata_out_of_reach: bool,
    pub(crate) container_token: Option<String>,
    pub(crate) sso_tokens: Vec<String>,
    /// Account and name of what a user of Identity Center may be.
    pub(crate) sso_roles: Vec<(String, String)>,
    pub(crate) sso_renewals: Vec<Renewal>,
    /// For how many API requests temporary credentials are good.
    pub(crate) lifetime: Option<u64>,
    /// What temporary credentials say of their end.
    pub(crate) expires_in: Duration,
}

impl Settings {
    /// What identities are given for.
    pub(crate) fn secrets(&self) -> Vec<String> {
        let renewals = self.sso_renewals.iter().flat_map(|renewal| [&renewal.refresh_token, &renewal.access_token]);
        let tokens = self.web_identity_tokens.iter().chain(&self.expired_web_identity_tokens).chain(&self.sso_tokens);
        tokens.chain(renewals).chain(&self.container_token).cloned().collect()
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            roles: Vec::new(),
            web_identity_tokens: Vec::new(),
            expired_web_identity_tokens: Vec::new(),
            instance_role: None,
            metadata_out_of_reach: false,
            container_token: None,
            sso_tokens: Vec::new(),
            sso_roles: Vec::new(),
            sso_renewals: Vec::new(),
            lifetime: None,
            expires_in: Duration::from_hours(1),
        }
    }
}
