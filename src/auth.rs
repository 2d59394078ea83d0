//! Host → credentials: ECR's token for ECR's hosts, docker's config and helpers for all others.
//!
//! Nothing here talks to a registry, and no secret leaves but inside a [`SecretString`].

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use docker_credential::{CredentialRetrievalError, DockerCredential};
use secrecy::SecretString;
use serde::Deserialize;
use thiserror::Error;

use crate::aws::host::EcrRegistry;
use crate::aws::session::{AwsSession, AwsSettings};
use crate::aws::token::{EcrToken, TokenError};
use crate::cause::Cause;
use crate::oci::reference::Repository;

/// Why there are no credentials.
#[derive(Debug, Error)]
pub enum AuthError {
    /// ECR gave no token.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// A docker config file isn't one.
    #[error("{path} is no docker config file, or holds something that can't be read")]
    Config {
        /// The file.
        path: PathBuf,
    },
    /// A docker config file is there and can't be read.
    #[error("{path} may hold credentials and can't be read")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A credential helper doesn't answer.
    #[error("the credential helper for {host} gave no answer in {seconds} s")]
    Slow {
        /// The registry.
        host: String,
        /// The bound.
        seconds: u64,
    },
    /// A credential helper failed.
    #[error("the credential helper {helper}, named in {path}, failed for {server}")]
    Helper {
        /// The file that names it.
        path: PathBuf,
        /// The helper's program.
        helper: String,
        /// The registry.
        server: String,
    },
    /// The place that gives out tokens gave none.
    #[error("{realm}, where {host} sends for a token, answered {status}")]
    Realm {
        /// The registry.
        host: String,
        /// The realm, redacted.
        realm: String,
        /// The status of its answer.
        status: u16,
    },
    /// The place that gives out tokens couldn't be reached.
    #[error("{realm}, where {host} sends for a token, could not be reached")]
    RealmUnreachable {
        /// The registry.
        host: String,
        /// The realm, redacted.
        realm: String,
        /// What went wrong.
        source: Cause,
    },
    /// ECR sends for a token to somebody else.
    #[error("{host} sends for a token to {realm}, which is not itself: ECR's token does not go there")]
    RealmForeign {
        /// The registry.
        host: String,
        /// The realm, redacted.
        realm: String,
    },
    /// The registry names a realm that must not see a password.
    #[error("{host} sends for a token to {realm}, which is not https")]
    RealmInsecure {
        /// The registry.
        host: String,
        /// The realm, redacted.
        realm: String,
    },
}

impl AuthError {
    /// Whether asking again may help: the place that gives out tokens is away or busy.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::RealmUnreachable { .. } => true,
            Self::Realm { status, .. } => matches!(status, 408 | 425 | 429 | 500..),
            Self::Token(_)
            | Self::Config { .. }
            | Self::Unreadable { .. }
            | Self::Slow { .. }
            | Self::Helper { .. }
            | Self::RealmForeign { .. }
            | Self::RealmInsecure { .. } => false,
        }
    }
}

/// What a registry is shown.
#[derive(Debug, Clone)]
pub enum Credentials {
    /// ECR's token, as it is.
    Ecr(Arc<EcrToken>),
    /// ECR Public's token, to be exchanged for a bearer token.
    EcrPublic(Arc<EcrToken>),
    /// A name and a password.
    Basic {
        /// The name.
        username: String,
        /// The password.
        password: SecretString,
        /// The config file that has it, or names the helper that has.
        file: PathBuf,
    },
    /// A token to be exchanged for a bearer token.
    Identity {
        /// The token.
        token: SecretString,
        /// The config file that has it, or names the helper that has.
        file: PathBuf,
    },
    /// Nothing.
    Anonymous,
}

impl Credentials {
    /// ECR's token, of either kind.
    #[must_use]
    pub fn ecr(&self) -> Option<&Arc<EcrToken>> {
        match self {
            Self::Ecr(token) | Self::EcrPublic(token) => Some(token),
            Self::Basic { .. } | Self::Identity { .. } | Self::Anonymous => None,
        }
    }
}

/// How credentials are looked for.
#[derive(Debug, Clone)]
pub struct AuthSettings {
    /// For ECR.
    pub aws: AwsSettings,
    /// Docker's and podman's config files, the first that knows the registry wins; those that aren't there are passed over.
    pub config_files: Vec<PathBuf>,
}

impl AuthSettings {
    /// The credentials for a repository. Doesn't ask ECR yet; may run a credential helper, so it blocks.
    ///
    /// # Errors
    /// When a config file is malformed, or a helper fails.
    pub fn find(&self, repository: &Repository) -> Result<Credentials, AuthError> {
        if let Some(registry) = EcrRegistry::of(&repository.host) {
            let session = AwsSession::new(registry.clone(), self.aws.clone());
            let token = Arc::new(EcrToken::new(Arc::new(session)));
            return Ok(match registry {
                EcrRegistry::Private(_) => Credentials::Ecr(token),
                EcrRegistry::Public => Credentials::EcrPublic(token),
            });
        }
        for path in &self.config_files {
            if let Some(found) = look_up(path, repository)? {
                return Ok(found);
            }
        }
        Ok(Credentials::Anonymous)
    }
}

/// As much of a config file as says which entry and which helper will be asked.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Outline {
    auths: Option<BTreeMap<String, serde_json::Value>>,
    cred_helpers: Option<BTreeMap<String, String>>,
    creds_store: Option<String>,
}

fn look_up(path: &Path, repository: &Repository) -> Result<Option<Credentials>, AuthError> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(None);
        }
        Err(source) => return Err(AuthError::Unreadable { path: path.to_owned(), source }),
    };
    let malformed = || AuthError::Config { path: path.to_owned() };
    let outline: Outline = serde_json::from_slice(&bytes).map_err(|_| malformed())?;
    let server = server_key(&outline.auths.unwrap_or_default(), repository);
    match docker_credential::get_credential_from_reader(bytes.as_slice(), &server) {
        Ok(DockerCredential::UsernamePassword(username, password)) if username.is_empty() && password.is_empty() => {
            Ok(None)
        }
        Ok(DockerCredential::UsernamePassword(username, password)) => {
            Ok(Some(Credentials::Basic { username, password: password.into(), file: path.to_owned() }))
        }
        Ok(DockerCredential::IdentityToken(token)) => {
            Ok(Some(Credentials::Identity { token: token.into(), file: path.to_owned() }))
        }
        Err(CredentialRetrievalError::NoCredentialConfigured) => Ok(None),
        // The helper protocol has no code for "I know nothing of it": this text is its constant. What a helper prints is
        // not shown, since nobody knows what it holds.
        Err(CredentialRetrievalError::HelperFailure { stdout, .. }) if stdout.contains("credentials not found") => {
            Ok(None)
        }
        Err(
            CredentialRetrievalError::HelperFailure { .. }
            | CredentialRetrievalError::HelperCommunicationError
            | CredentialRetrievalError::MalformedHelperResponse,
        ) => {
            let own = outline.cred_helpers.and_then(|mut helpers| helpers.remove(&server));
            let suffix = own.or(outline.creds_store).unwrap_or_default();
            Err(AuthError::Helper { path: path.to_owned(), helper: format!("docker-credential-{suffix}"), server })
        }
        Err(_) => Err(malformed()),
    }
}

/// The key under which a config file has the repository: podman allows `host/team/app` and `host/team` beside `host`.
fn server_key<V>(auths: &BTreeMap<String, V>, repository: &Repository) -> String {
    let mut key = repository.to_string();
    while key.len() > repository.host.as_str().len() {
        if auths.contains_key(&key) {
            return key;
        }
        let Some(end) = key.rfind('/') else { break };
        key.truncate(end);
    }
    repository.host.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::reference::Reference;

    #[test]
    fn the_longest_key_wins() {
        let auths: BTreeMap<String, bool> =
            ["h.example", "h.example/team", "h.example/team/app/x"].map(|key| (key.to_owned(), true)).into();
        let check = |reference: &str, key: &str| {
            assert_eq!(server_key(&auths, &Reference::parse(reference).unwrap().repository), key);
        };
        check("h.example/team/app", "h.example/team");
        check("h.example/team/app/x", "h.example/team/app/x");
        check("h.example/other", "h.example");
        check("other.example/team", "other.example");
    }
}
