//! A registry's account, as AWS's APIs are asked about it: credentials, regions, endpoints, clients.

use std::time::{Duration, SystemTime};

use aws_config::provider_config::ProviderConfig;
use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, SdkConfig};
use aws_sdk_ecr::config::Region;
use aws_sdk_ecr::error::{ProvideErrorMetadata, SdkError};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_types::service_config::ServiceConfigKey;
use thiserror::Error;
use tokio::sync::Mutex;

use super::credentials::{CredentialsFailure, Found, Role, find_credentials};
use super::failure::{ApiError, AwsAnswer, AwsMeaning, answer};
use super::host::EcrRegistry;
use super::http;
use crate::cause::{Cause, find};
use crate::names::Nameless;
use crate::trust::Trust;

/// Why something that AWS was to do was not done.
#[derive(Debug, Error)]
pub enum AwsError {
    /// There is nobody to do it as.
    #[error(transparent)]
    Credentials(#[from] CredentialsFailure),
    /// The API.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// The HTTP client can't be made.
    #[error("the HTTP client for AWS can't be made")]
    Client(#[source] Cause),
}

impl AwsError {
    /// What AWS's answer means, if there was one.
    #[must_use]
    pub fn meaning(&self) -> Option<AwsMeaning> {
        match self {
            Self::Api(error) => error.meaning(),
            Self::Credentials(_) | Self::Client(_) => None,
        }
    }
}

/// How AWS is asked, beyond what the registry's host says.
#[derive(Debug, Clone)]
pub struct AwsSettings {
    /// The profile of the shared config files; none for the chain's own.
    pub profile: Option<String>,
    /// The role to assume.
    pub role: Option<Role>,
    /// Where credentials are got for a registry that names no region: ECR Public.
    pub region: Option<String>,
    /// Where ECR's API is, when it isn't AWS's.
    pub endpoint_url: Option<String>,
    /// The trusted authorities.
    pub trust: Trust,
    /// A bound on connecting.
    pub connect_timeout: Duration,
    /// A bound on one attempt at a request.
    pub timeout: Duration,
    /// How often a request is tried again.
    pub retries: u32,
}

/// Credentials that end within this time are looked for anew.
const SOON: Duration = Duration::from_mins(1);

/// The account of one registry.
#[derive(Debug)]
pub struct AwsSession {
    registry: EcrRegistry,
    settings: AwsSettings,
    loaded: Mutex<Option<Loaded>>,
}

/// Credentials and the configuration that they are part of.
#[derive(Debug, Clone)]
struct Loaded {
    sdk: SdkConfig,
    found: Found,
}

impl AwsSession {
    /// The account of `registry`; nothing is asked yet.
    #[must_use]
    pub fn new(registry: EcrRegistry, settings: AwsSettings) -> Self {
        Self { registry, settings, loaded: Mutex::new(None) }
    }

    /// The registry.
    #[must_use]
    pub fn registry(&self) -> &EcrRegistry {
        &self.registry
    }

    /// The credentials, looked for by the first who asks.
    ///
    /// # Errors
    /// When there are none.
    pub async fn found(&self) -> Result<Found, AwsError> {
        Ok(self.loaded().await?.found)
    }

    /// Takes it that the credentials have expired, whatever they say of themselves.
    pub async fn forget(&self) {
        *self.loaded.lock().await = None;
    }

    async fn loaded(&self) -> Result<Loaded, AwsError> {
        let mut loaded = self.loaded.lock().await;
        let good =
            |loaded: &&Loaded| loaded.found.credentials.expiry().is_none_or(|end| end > SystemTime::now() + SOON);
        if let Some(loaded) = loaded.as_ref().filter(good) {
            return Ok(loaded.clone());
        }
        let fresh = self.load().await?;
        *loaded = Some(fresh.clone());
        Ok(fresh)
    }

    /// The region that credentials are got in, which on ECR Public need not be that of its API.
    fn home(&self) -> &str {
        match (&self.registry, &self.settings.region) {
            (EcrRegistry::Public, Some(region)) => region,
            _ => self.registry.region(),
        }
    }

    /// What files and environment say, before there are any credentials.
    async fn configured(&self) -> Result<(SdkConfig, ProviderConfig), AwsError> {
        let settings = &self.settings;
        let region = Region::new(self.home().to_owned());
        let http = http::client(&settings.trust).map_err(|error| AwsError::Client(Cause::new(error)))?;
        let timeouts = TimeoutConfig::builder()
            .connect_timeout(settings.connect_timeout)
            .operation_attempt_timeout(settings.timeout)
            .build();
        let retries = RetryConfig::standard().with_max_attempts(settings.retries.saturating_add(1));
        let mut loader = aws_config::defaults(BehaviorVersion::v2026_01_12())
            .http_client(http.clone())
            .region(region.clone())
            .timeout_config(timeouts.clone())
            .retry_config(retries.clone())
            .no_credentials();
        if let Some(profile) = &settings.profile {
            loader = loader.profile_name(profile);
        }
        let places = ProviderConfig::without_region()
            .with_region(Some(region))
            .with_http_client(http)
            .with_timeout_config(timeouts)
            .with_retry_config(retries);
        Ok((loader.load().await, places))
    }

    async fn load(&self) -> Result<Loaded, AwsError> {
        let settings = &self.settings;
        let name = self.home();
        let (sdk, places) = self.configured().await?;
        let (profile, role) = (settings.profile.as_ref(), settings.role.as_ref());
        // Asked outright and not left to the clients: there a missing credential is one opaque failure among others.
        // On the heap: the SDK's futures are large, and every request to a registry may end up here.
        let found = Box::pin(find_credentials(&sdk, &places, name, profile, role, settings.timeout)).await?;
        tracing::debug!(region = name, origin = found.origin(), "credentials");
        let provider = aws_sdk_ecr::config::SharedCredentialsProvider::new(found.credentials.clone());
        Ok(Loaded { sdk: sdk.into_builder().credentials_provider(provider).build(), found })
    }

    /// Where ECR's API is asked; nothing is asked yet, and no credentials are needed to know it.
    ///
    /// # Errors
    /// When the HTTP client can't be made, or AWS's rules have no such place.
    pub async fn api_url(&self) -> Result<String, AwsError> {
        if let Some(endpoint) = &self.settings.endpoint_url {
            return Ok(endpoint.clone());
        }
        let (sdk, _) = self.configured().await?;
        if let Some(endpoint) = configured_endpoint(&sdk, self.service_id()) {
            return Ok(endpoint);
        }
        let odd = |error: Box<dyn std::error::Error + Send + Sync>| AwsError::Client(Cause::new(error));
        let endpoint = match &self.registry {
            EcrRegistry::Private(host) => {
                use aws_sdk_ecr::config::endpoint::{DefaultResolver, Params, ResolveEndpoint as _};
                let params = Params::builder().region(host.region.clone());
                let params = params.use_fips(host.fips).use_dual_stack(host.dual_stack).build();
                let params = params.map_err(|error| odd(error.into()))?;
                DefaultResolver::new().resolve_endpoint(&params).await
            }
            EcrRegistry::Public => {
                use aws_sdk_ecrpublic::config::endpoint::{DefaultResolver, Params, ResolveEndpoint as _};
                let params = Params::builder().region(self.registry.region().to_owned()).build();
                let params = params.map_err(|error| odd(error.into()))?;
                DefaultResolver::new().resolve_endpoint(&params).await
            }
        };
        Ok(endpoint.map_err(odd)?.url().to_owned())
    }

    /// The service, as the SDK's settings for single services name it.
    fn service_id(&self) -> &'static str {
        match &self.registry {
            EcrRegistry::Private(_) => "ECR",
            EcrRegistry::Public => "ECR PUBLIC",
        }
    }

    /// A client for private ECR.
    ///
    /// # Errors
    /// When there are no credentials.
    pub(super) async fn ecr(&self) -> Result<aws_sdk_ecr::Client, AwsError> {
        let sdk = self.loaded().await?.sdk;
        let mut config = aws_sdk_ecr::config::Builder::from(&sdk);
        if let Some(endpoint) = &self.settings.endpoint_url {
            config = config.endpoint_url(endpoint);
        }
        if let EcrRegistry::Private(host) = &self.registry {
            // With an endpoint of one's own these two are a configuration error (facts/ecr.md, Hosts).
            let own = self.settings.endpoint_url.is_some() || configured_endpoint(&sdk, self.service_id()).is_some();
            config = config.use_fips(host.fips && !own).use_dual_stack(host.dual_stack && !own);
        }
        Ok(aws_sdk_ecr::Client::from_conf(config.build()))
    }

    /// A client for ECR Public.
    ///
    /// # Errors
    /// When there are no credentials.
    pub(super) async fn public(&self) -> Result<aws_sdk_ecrpublic::Client, AwsError> {
        let mut config = aws_sdk_ecrpublic::config::Builder::from(&self.loaded().await?.sdk);
        // Neither is the environment's business: the host says it all (facts/ecr.md, Hosts).
        config = config.region(Region::new(self.registry.region().to_owned())).use_fips(false).use_dual_stack(false);
        if let Some(endpoint) = &self.settings.endpoint_url {
            config = config.endpoint_url(endpoint);
        }
        Ok(aws_sdk_ecrpublic::Client::from_conf(config.build()))
    }

    /// A client for STS.
    ///
    /// # Errors
    /// When there are no credentials.
    pub(super) async fn sts(&self) -> Result<aws_sdk_sts::Client, AwsError> {
        Ok(aws_sdk_sts::Client::new(&self.loaded().await?.sdk))
    }

    /// Asks an API, and once more with new credentials where the old ones have expired.
    ///
    /// # Errors
    /// What AWS says, or why it couldn't be asked.
    pub(super) async fn ask<T, E, F>(&self, action: &'static str, mut request: impl FnMut() -> F) -> Result<T, AwsError>
    where
        F: Future<Output = Result<Result<T, SdkError<E, HttpResponse>>, AwsError>>,
        E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
    {
        let mut renewed = false;
        loop {
            tracing::debug!(region = self.registry.region(), "{action}");
            // Boxed: what the SDK does takes more room than everything around it.
            let error = match Box::pin(request()).await? {
                Ok(output) => return Ok(output),
                Err(error) => self.failed(action, error).await,
            };
            if error.meaning() != Some(AwsMeaning::Expired) || renewed {
                return Err(error.into());
            }
            renewed = true;
            self.forget().await;
        }
    }

    async fn failed<E>(&self, action: &'static str, error: SdkError<E, HttpResponse>) -> ApiError
    where
        E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
    {
        let region = self.registry.region().to_owned();
        match answer(action, &region, &error) {
            Ok(answer) => {
                let origin = self.loaded.lock().await.as_ref().map(|loaded| loaded.found.origin());
                ApiError::Answered(Box::new(AwsAnswer { origin, ..answer }))
            }
            Err(Some(status)) => ApiError::Odd { action, region, status },
            Err(None) => {
                if let Some(Nameless { host, .. }) = find(&error) {
                    return ApiError::Nameless { action, region, host: host.clone() };
                }
                let tls = find::<rustls::Error>(&error).is_some();
                ApiError::Unreachable { action, region, tls, source: Cause::new(error) }
            }
        }
    }
}

/// The endpoint for a service that environment or profile name, as the SDK itself will find it.
fn configured_endpoint(sdk: &SdkConfig, service_id: &str) -> Option<String> {
    let key =
        ServiceConfigKey::builder().service_id(service_id).env("AWS_ENDPOINT_URL").profile("endpoint_url").build();
    let for_service = key.ok().and_then(|key| sdk.service_config().and_then(|config| config.load_config(key)));
    for_service.or_else(|| sdk.endpoint_url().map(str::to_owned))
}
