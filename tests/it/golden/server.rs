//! The part of a case that says how local-ecr behaves.

use local_ecr::{Builder, ExpiredToken, LocalEcr, MissingPermission, MissingRepository, TagMutability};
use serde::Deserialize;

/// How local-ecr behaves where that isn't its way by itself.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Server {
    region: Option<String>,
    /// Repositories beside `app`.
    #[serde(default)]
    repositories: Vec<String>,
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
        let mut builder = LocalEcr::builder().repository("app");
        if let Some(region) = &self.region {
            builder = builder.region(region);
        }
        builder = self.repositories.iter().fold(builder, |builder, name| builder.repository(name));
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
