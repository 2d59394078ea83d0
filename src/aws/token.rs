//! ECR's authorization token: fetched once for each registry, fetched again when it expires in mid-push.
//!
//! The region, FIPS and dual-stack come from the registry's host; everything else is the AWS SDK's default chain.

use std::error::Error as StdError;
use std::time::Duration;

use aws_config::BehaviorVersion;
use aws_config::profile::ProfileFileCredentialsProvider;
use aws_config::provider_config::ProviderConfig;
use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_ecr::config::SharedHttpClient;
use aws_sdk_ecr::config::timeout::TimeoutConfig;
use aws_sdk_ecr::config::{Credentials, ProvideCredentials, Region, RuntimeComponents};
use aws_sdk_ecr::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_ecr::operation::RequestId;
use aws_smithy_http_client::Connector;
use aws_smithy_http_client::proxy::ProxyConfig;
use aws_smithy_http_client::tls::{self, TlsContext};
use aws_types::service_config::ServiceConfigKey;
use secrecy::SecretString;
use thiserror::Error;
use tokio::sync::Mutex;

use super::host::EcrHost;
use crate::cause::Cause;
use crate::trust::Trust;

/// Why there is no token.
#[derive(Debug, Error)]
pub enum TokenError {
    /// The SDK's chain found no credentials.
    #[error("no AWS credentials were found for {region}{}", of(profile.as_ref()))]
    NoCredentials {
        /// The profile that was named, if one was.
        profile: Option<String>,
        /// The region of the registry.
        region: String,
        /// What the chain said.
        source: Cause,
    },
    /// The SDK's chain doesn't come to an end.
    #[error("no AWS credentials for {region} came in {seconds} s")]
    Slow {
        /// The region of the registry.
        region: String,
        /// The bound.
        seconds: u64,
    },
    /// The SDK's chain found credentials that it couldn't get.
    #[error("the AWS credentials for {region} could not be had")]
    Credentials {
        /// The region of the registry.
        region: String,
        /// What the chain said.
        source: Cause,
    },
    /// ECR's API said no.
    #[error(
        "ecr:GetAuthorizationToken in {region} was answered {code}: {message}{}",
        request_id.as_ref().map(|id| format!(" (request id {id})")).unwrap_or_default()
    )]
    Refused {
        /// The region of the registry.
        region: String,
        /// AWS's error code.
        code: String,
        /// AWS's message.
        message: String,
        /// AWS's request id.
        request_id: Option<String>,
    },
    /// ECR's API is busy or broken, for now.
    #[error("ecr:GetAuthorizationToken in {region} was answered {code}: {message}, again and again")]
    Unavailable {
        /// The region of the registry.
        region: String,
        /// AWS's error code.
        code: String,
        /// AWS's message.
        message: String,
    },
    /// ECR's API couldn't be reached, or gave something that is no answer.
    #[error("ECR's API in {region} could not be reached")]
    Unreachable {
        /// The region of the registry.
        region: String,
        /// What the SDK said.
        source: Cause,
    },
    /// The answer has no token.
    #[error("ECR's API in {region} answered without a token")]
    Empty {
        /// The region of the registry.
        region: String,
    },
}

fn of(profile: Option<&String>) -> String {
    profile.map(|profile| format!(" in the profile {profile:?}")).unwrap_or_default()
}

/// How tokens are got, beyond what the host says.
#[derive(Debug, Clone)]
pub struct AwsSettings {
    /// The profile of the shared config files; none for the chain's own.
    pub profile: Option<String>,
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

/// The token of one registry.
#[derive(Debug)]
pub struct EcrToken {
    host: EcrHost,
    settings: AwsSettings,
    current: Mutex<Option<SecretString>>,
}

impl EcrToken {
    /// A token that isn't fetched yet.
    #[must_use]
    pub fn new(host: EcrHost, settings: AwsSettings) -> Self {
        Self { host, settings, current: Mutex::new(None) }
    }

    /// The token, as it goes behind `Basic`; fetched by the first who asks, while others wait for it.
    ///
    /// `expiresAt` is not looked at: test servers put it into the past (facts/ecr.md, Credentials), and the registry says
    /// itself when a token has expired.
    ///
    /// # Errors
    /// When there are no credentials, or ECR gives no token for them.
    pub async fn get(&self) -> Result<SecretString, TokenError> {
        let mut current = self.current.lock().await;
        if let Some(token) = &*current {
            return Ok(token.clone());
        }
        let token = self.fetch().await?;
        *current = Some(token.clone());
        Ok(token)
    }

    /// A token other than `stale`, which the registry refused.
    ///
    /// # Errors
    /// As [`EcrToken::get`].
    pub async fn renew(&self, stale: &SecretString) -> Result<SecretString, TokenError> {
        use secrecy::ExposeSecret;
        let mut current = self.current.lock().await;
        // Of many requests that were refused together the first fetches, and the others find its token here.
        if let Some(token) = current.as_ref().filter(|token| token.expose_secret() != stale.expose_secret()) {
            return Ok(token.clone());
        }
        let token = self.fetch().await?;
        *current = Some(token.clone());
        Ok(token)
    }

    async fn fetch(&self) -> Result<SecretString, TokenError> {
        let region = self.host.region.clone();
        let http = http_client(&self.settings.trust)
            .map_err(|error| TokenError::Unreachable { region: region.clone(), source: Cause::new(error) })?;
        let timeouts = TimeoutConfig::builder()
            .connect_timeout(self.settings.connect_timeout)
            .operation_attempt_timeout(self.settings.timeout)
            .build();
        let mut loader = aws_config::defaults(BehaviorVersion::v2026_01_12())
            .http_client(http.clone())
            .region(Region::new(region.clone()))
            .timeout_config(timeouts)
            .retry_config(aws_config::retry::RetryConfig::standard().with_max_attempts(self.settings.retries + 1));
        if let Some(profile) = &self.settings.profile {
            // As for the aws CLI a profile that is asked for outright outranks keys in the environment; the chain alone
            // would look at the environment first.
            let config = ProviderConfig::without_region()
                .with_region(Some(Region::new(region.clone())))
                .with_http_client(http.clone());
            let provider = ProfileFileCredentialsProvider::builder().configure(&config).profile_name(profile).build();
            loader = loader.profile_name(profile).credentials_provider(provider);
        }
        let sdk = loader.load().await;
        // Asked outright and not left to the client: there a missing credential is one opaque failure among others.
        let finding = credentials(&sdk, &region, self.settings.profile.as_ref());
        let found = tokio::time::timeout(self.settings.timeout, finding).await;
        let seconds = self.settings.timeout.as_secs();
        let credentials = found.map_err(|_| TokenError::Slow { region: region.clone(), seconds })??;
        let mut config = aws_sdk_ecr::config::Builder::from(&sdk).credentials_provider(credentials);
        if let Some(endpoint) = &self.settings.endpoint_url {
            config = config.endpoint_url(endpoint);
        }
        // With an endpoint of one's own these two are a configuration error (facts/ecr.md, Hosts).
        let own_endpoint = self.settings.endpoint_url.is_some() || configured_endpoint(&sdk);
        config = config.use_fips(self.host.fips && !own_endpoint).use_dual_stack(self.host.dual_stack && !own_endpoint);
        tracing::debug!(region, "ecr:GetAuthorizationToken");
        let client = aws_sdk_ecr::Client::from_conf(config.build());
        let output = client.get_authorization_token().send().await.map_err(|error| classify(&region, error))?;
        output
            .authorization_data
            .unwrap_or_default()
            .into_iter()
            .find_map(|data| data.authorization_token)
            .map(SecretString::from)
            .ok_or(TokenError::Empty { region })
    }
}

/// The SDK's HTTP client with our authorities, and with the proxy that the environment names: the SDK's own builder for a
/// client with other authorities leaves proxies out.
fn http_client(trust: &Trust) -> Result<SharedHttpClient, Box<dyn StdError + Send + Sync>> {
    let context = TlsContext::builder().with_trust_store(trust.store()).build()?;
    Ok(aws_smithy_http_client::Builder::new().build_with_connector_fn(move |settings, components| {
        let mut builder = Connector::builder()
            .tls_provider(tls::Provider::rustls(tls::rustls_provider::CryptoMode::AwsLc))
            .tls_context(context.clone())
            .proxy_config(ProxyConfig::from_env());
        builder.set_connector_settings(settings.cloned());
        builder.set_sleep_impl(components.and_then(RuntimeComponents::sleep_impl));
        builder.build()
    }))
}

async fn credentials(
    sdk: &aws_config::SdkConfig,
    region: &str,
    profile: Option<&String>,
) -> Result<Credentials, TokenError> {
    let (region, profile) = (region.to_owned(), profile.cloned());
    let Some(provider) = sdk.credentials_provider() else {
        let source = Cause::new(CredentialsError::not_loaded_no_source());
        return Err(TokenError::NoCredentials { profile, region, source });
    };
    provider.provide_credentials().await.map_err(|error| match &error {
        CredentialsError::CredentialsNotLoaded(_) => {
            TokenError::NoCredentials { profile, region, source: Cause::new(error) }
        }
        _ => TokenError::Credentials { region, source: Cause::new(error) },
    })
}

/// Whether environment or profile name an endpoint for ECR, as the SDK itself will find it.
fn configured_endpoint(sdk: &aws_config::SdkConfig) -> bool {
    let key = ServiceConfigKey::builder().service_id("ECR").env("AWS_ENDPOINT_URL").profile("endpoint_url").build();
    let for_service = key.ok().and_then(|key| sdk.service_config().and_then(|config| config.load_config(key)));
    for_service.is_some() || sdk.endpoint_url().is_some()
}

/// Codes of AWS's that mean "later".
const THROTTLED: [&str; 3] = ["ThrottlingException", "TooManyRequestsException", "RequestLimitExceeded"];

fn classify<E>(region: &str, error: SdkError<E>) -> TokenError
where
    E: ProvideErrorMetadata + StdError + Send + Sync + 'static,
{
    let region = region.to_owned();
    let request_id = error.request_id().map(str::to_owned);
    let broken = error.raw_response().is_some_and(|response| response.status().as_u16() >= 500);
    let Some(code) = error.as_service_error().and_then(ProvideErrorMetadata::code).map(str::to_owned) else {
        return TokenError::Unreachable { region, source: Cause::new(error) };
    };
    let message = error.message().unwrap_or("no message").to_owned();
    // The SDK has tried these again as often as it may.
    if broken || THROTTLED.contains(&code.as_str()) {
        return TokenError::Unavailable { region, code, message };
    }
    TokenError::Refused { region, code, message, request_id }
}
