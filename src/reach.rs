//! How each destination's registry is reached: credentials, and ECR's token on its way while SOURCE is read.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;

use crate::auth::{AuthError, AuthSettings, Credentials};
use crate::aws::credentials::Role;
use crate::aws::session::{AwsSession, AwsSettings};
use crate::error::Error;
use crate::oci::reference::{Host, Repository};
use crate::plan::Target;
use crate::registry::Registry;
use crate::registry::endpoint::Endpoint;
use crate::registry::transport::TransportSettings;
use crate::trust::Trust;

/// A setting that may differ from host to host.
#[derive(Debug, Clone)]
pub struct PerHost<T> {
    /// For every host that has none of its own.
    pub bare: Option<T>,
    /// For single hosts.
    pub hosts: Vec<(Host, T)>,
}

impl<T> Default for PerHost<T> {
    fn default() -> Self {
        Self { bare: None, hosts: Vec::new() }
    }
}

impl<T: Clone> PerHost<T> {
    /// The setting for `host`; the last one that was given wins.
    pub fn get(&self, host: &Host) -> Option<T> {
        let own = self.hosts.iter().rev().find(|(named, _)| named == host).map(|(_, value)| value);
        own.or(self.bare.as_ref()).cloned()
    }
}

/// How registries and AWS are reached.
#[derive(Debug, Clone)]
pub struct Access {
    /// http to registries other than ECR.
    pub plain_http: bool,
    /// A bound on connecting.
    pub connect_timeout: Duration,
    /// A bound on an answer, and on the time in which no byte of an upload moves.
    pub timeout: Duration,
    /// How often something transient is tried again.
    pub retries: u32,
    /// More certificate authorities.
    pub ca_files: Vec<PathBuf>,
    /// Docker's and podman's config files.
    pub config_files: Vec<PathBuf>,
    /// Profiles of the AWS config.
    pub profiles: PerHost<String>,
    /// Roles to assume.
    pub roles: PerHost<Role>,
    /// The region for hosts that name none.
    pub region: Option<String>,
    /// Where ECR's API is reached.
    pub endpoint_urls: PerHost<String>,
    /// Where registries are reached.
    pub registry_endpoints: PerHost<Endpoint>,
}

/// A registry that can be talked to, and whose it is.
#[derive(Clone)]
pub(crate) struct Reached {
    pub(crate) registry: Arc<Registry>,
    /// The account, if it is one of ECR's.
    pub(crate) ecr: Option<Arc<AwsSession>>,
}

/// What is known of each repository: how it is reached, or why there are no credentials for it.
pub(crate) type Registries = HashMap<Repository, Result<Reached, Arc<AuthError>>>;

/// Finds credentials for every repository, and sends for the tokens.
///
/// On ECR all repositories of a host share credentials and connections. Elsewhere each has its own: docker's and podman's
/// files may know different ones for different paths of a host.
pub(crate) async fn reach(targets: &[Target], options: &Access) -> Result<(Registries, Tokens), Error> {
    let files = options.ca_files.clone();
    let trust = tokio::task::spawn_blocking(move || Trust::load(&files)).await.map_err(Error::task)??;
    let mut registries = Registries::new();
    let mut ecr: HashMap<&Host, Reached> = HashMap::new();
    let mut tokens = Tokens::default();
    for target in targets {
        let repository = &target.repository;
        let host = &repository.host;
        if let Some(known) = ecr.get(host) {
            registries.insert(repository.clone(), Ok(known.clone()));
            continue;
        }
        let credentials = match credentials(repository, options, &trust).await? {
            Ok(credentials) => credentials,
            Err(error) => {
                registries.insert(repository.clone(), Err(Arc::new(error)));
                continue;
            }
        };
        let token = credentials.ecr().cloned();
        let session = token.as_ref().map(|token| token.session().clone());
        if let Some(token) = token {
            tokens.0.insert(host.clone(), tokio::spawn(async move { Ok(token.get().await.map(drop)?) }));
        }
        let transport = TransportSettings {
            endpoint: options.registry_endpoints.get(host),
            plain_http: options.plain_http && session.is_none(),
            trust: trust.clone(),
            connect_timeout: options.connect_timeout,
            timeout: options.timeout,
        };
        let registry = Arc::new(Registry::new(host, credentials, &transport)?);
        // For the look at the first tag, which goes out as soon as the token is there.
        registry.connect_ahead(1);
        let reached = Reached { registry, ecr: session };
        if reached.ecr.is_some() {
            ecr.insert(host, reached.clone());
        }
        registries.insert(repository.clone(), Ok(reached));
    }
    Ok((registries, tokens))
}

/// Tokens that are on their way.
#[derive(Default)]
pub(crate) struct Tokens(HashMap<Host, JoinHandle<Result<(), AuthError>>>);

impl Tokens {
    /// Waits for the tokens; repositories of a registry without one are not tried.
    pub(crate) async fn arrive(self, registries: &mut Registries) -> Result<(), Error> {
        for (host, token) in self.0 {
            if let Err(error) = token.await.map_err(Error::task)? {
                let error = Arc::new(error);
                for (_, reached) in registries.iter_mut().filter(|(repository, _)| repository.host == host) {
                    *reached = Err(error.clone());
                }
            }
        }
        Ok(())
    }
}

/// Finds the credentials for a repository; a helper that hangs doesn't hold up the push for ever.
async fn credentials(
    repository: &Repository,
    options: &Access,
    trust: &Trust,
) -> Result<Result<Credentials, AuthError>, Error> {
    let host = &repository.host;
    let auth = AuthSettings {
        aws: AwsSettings {
            profile: options.profiles.get(host),
            role: options.roles.get(host),
            region: options.region.clone(),
            endpoint_url: options.endpoint_urls.get(host),
            trust: trust.clone(),
            connect_timeout: options.connect_timeout,
            timeout: options.timeout,
            retries: options.retries,
        },
        config_files: options.config_files.clone(),
    };
    let repository = repository.clone();
    let finding = tokio::task::spawn_blocking(move || auth.find(&repository));
    match tokio::time::timeout(options.timeout, finding).await {
        Ok(found) => found.map_err(Error::task),
        Err(_) => Ok(Err(AuthError::Slow { host: host.to_string(), seconds: options.timeout.as_secs() })),
    }
}
