//! The part of a case that says how local-ecr behaves.

use local_ecr::{Builder, ExpiredToken, LocalEcr, MissingPermission, MissingRepository, Role, TagMutability};
use serde::Deserialize;

/// How local-ecr behaves where that isn't its way by itself.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Server {
    region: Option<String>,
    /// Repositories beside `app`.
    #[serde(default)]
    repositories: Vec<String>,
    /// Actions that a push doesn't need.
    #[serde(default)]
    allow: Vec<String>,
    /// Actions that are taken away.
    #[serde(default)]
    deny: Vec<String>,
    missing_repository: Option<Absence>,
    missing_permission: Option<Absence>,
    /// Repositories whose tags can't be moved.
    #[serde(default)]
    immutable: Vec<String>,
    layer_limit: Option<usize>,
    /// After how many requests a token expires.
    token_lifetime: Option<u64>,
    /// How an expired token is refused.
    expired_token: Option<Expiry>,
    #[serde(default)]
    identity: Identity,
}

/// What STS, the instance metadata service, the container endpoint and IAM Identity Center know.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Identity {
    /// ARNs of roles that may be assumed.
    roles: Vec<String>,
    /// The external id that their trust policies ask for.
    external_id: Option<String>,
    web_identity_tokens: Vec<String>,
    expired_web_identity_tokens: Vec<String>,
    /// The role of the instance.
    instance_role: Option<String>,
    metadata_out_of_reach: bool,
    /// What the container endpoint asks for.
    container_token: Option<String>,
    sso_tokens: Vec<String>,
    /// `ACCOUNT/NAME` of what users may be.
    sso_roles: Vec<String>,
}

impl Identity {
    fn set(&self, mut builder: Builder) -> Builder {
        for arn in &self.roles {
            let role = Role::new(arn);
            builder = builder.role(match &self.external_id {
                Some(id) => role.external_id(id),
                None => role,
            });
        }
        builder = self.web_identity_tokens.iter().fold(builder, |builder, token| builder.web_identity_token(token));
        let expired = &self.expired_web_identity_tokens;
        builder = expired.iter().fold(builder, |builder, token| builder.expired_web_identity_token(token));
        builder = self.instance_role.iter().fold(builder, |builder, name| builder.instance_role(name));
        builder = if self.metadata_out_of_reach { builder.metadata_out_of_reach() } else { builder };
        builder = self.container_token.iter().fold(builder, |builder, token| builder.container_token(token));
        builder = self.sso_tokens.iter().fold(builder, |builder, token| builder.sso_token(token));
        self.sso_roles.iter().fold(builder, |builder, role| {
            let (account, name) = role.split_once('/').expect("an account and a name");
            builder.sso_role(account, name)
        })
    }
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Absence {
    Answer,
    CloseConnection,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Expiry {
    Denied,
    Challenge,
}

impl Server {
    /// The server, not yet started.
    pub(super) fn builder(&self) -> Builder {
        let mut builder = self.identity.set(LocalEcr::builder().repository("app"));
        if let Some(region) = &self.region {
            builder = builder.region(region);
        }
        builder = self.repositories.iter().fold(builder, |builder, name| builder.repository(name));
        builder = self.allow.iter().fold(builder, |builder, action| builder.allow(action));
        builder = self.deny.iter().fold(builder, |builder, action| builder.deny(action));
        builder = self
            .immutable
            .iter()
            .fold(builder, |builder, repository| builder.immutability(repository, TagMutability::Immutable));
        builder = match self.missing_repository {
            Some(Absence::CloseConnection) => builder.missing_repository(MissingRepository::CloseConnection),
            Some(Absence::Answer) | None => builder,
        };
        builder = match self.missing_permission {
            Some(Absence::CloseConnection) => builder.missing_permission(MissingPermission::CloseConnection),
            Some(Absence::Answer) | None => builder,
        };
        if let Some(limit) = self.layer_limit {
            builder = builder.layer_limit(limit);
        }
        if let Some(requests) = self.token_lifetime {
            builder = builder.token_lifetime(requests);
        }
        match self.expired_token {
            Some(Expiry::Challenge) => builder.expired_token(ExpiredToken::Challenge),
            Some(Expiry::Denied) | None => builder,
        }
    }
}
