//! Who we are to AWS: the SDK's chain of places, one after the other, and the role that is assumed with what is found.
//!
//! The order is that of the SDK's default chain, and every place is the SDK's own; they are asked one by one here, so that
//! it can be said where credentials were found, or what was looked at in vain.

mod failure;
mod heard;
mod selected;

use std::error::Error as _;
use std::fmt;
use std::time::Duration;

use aws_config::SdkConfig;
use aws_config::ecs::EcsCredentialsProvider;
use aws_config::environment::EnvironmentVariableCredentialsProvider;
use aws_config::imds;
use aws_config::profile::{self, ProfileFileCredentialsProvider};
use aws_config::provider_config::ProviderConfig;
use aws_config::sts::AssumeRoleProvider;
use aws_config::web_identity_token::WebIdentityTokenCredentialsProvider;
use aws_credential_types::credential_feature::AwsCredentialFeature as Feature;
use aws_credential_types::provider::{self, error::CredentialsError};
use aws_sdk_ecr::config::{Credentials, ProvideCredentials};

pub use failure::CredentialsFailure;
use failure::{broken, is_silent, slow};
use heard::Heard;
use tokio::time::{Instant, timeout_at};

use crate::cause::Cause;

/// What is assumed with the credentials that were found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Role {
    /// Its ARN.
    pub arn: String,
    /// The external id that its trust policy asks for.
    pub external_id: Option<String>,
    /// The name that AWS's logs have for the session.
    pub session_name: String,
}

/// A place where credentials may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// `AWS_ACCESS_KEY_ID` and what belongs to it.
    Environment,
    /// The shared config and credentials files.
    Profile,
    /// `AWS_WEB_IDENTITY_TOKEN_FILE` and `AWS_ROLE_ARN`, as IRSA sets them.
    WebIdentity,
    /// The endpoint of ECS, or of EKS Pod Identity.
    Container,
    /// EC2's instance metadata service, version 2.
    Instance,
    /// The role that was asked for.
    Role,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Environment => "environment",
            Self::Profile => "profile",
            Self::WebIdentity => "web identity",
            Self::Container => "container endpoint",
            Self::Instance => "instance metadata",
            Self::Role => "role",
        })
    }
}

/// Credentials, and where they were found.
#[derive(Debug, Clone)]
pub struct Found {
    /// The credentials.
    pub(super) credentials: Credentials,
    place: Place,
    profile: Option<String>,
    /// Where those lie with which the role was assumed.
    below: Option<Place>,
}

impl Found {
    /// Where they were found, in words.
    #[must_use]
    pub fn origin(&self) -> String {
        let features = self.credentials.get_property::<Vec<Feature>>();
        let has = |feature| features.is_some_and(|features| features.contains(&feature));
        let place = self.below.unwrap_or(self.place);
        let within = if has(Feature::CredentialsSso) {
            " (SSO)"
        } else if has(Feature::CredentialsProcess) {
            " (credential_process)"
        } else if place == Place::Profile && has(Feature::CredentialsProfileStsWebIdToken) {
            " (web identity)"
        } else {
            ""
        };
        let named = self.profile.as_ref().filter(|_| place == Place::Profile);
        let named = named.map(|profile| format!(" {profile}")).unwrap_or_default();
        match self.below {
            Some(_) => format!("{}, assumed with those of the {place}{named}{within}", self.place),
            None => format!("{place}{named}{within}"),
        }
    }

    /// Until when they are good, in seconds since 1970; none for those that don't expire.
    #[must_use]
    pub fn expiry(&self) -> Option<u64> {
        let end = self.credentials.expiry()?;
        end.duration_since(std::time::UNIX_EPOCH).ok().map(|since| since.as_secs())
    }
}

/// Bounds on the instance metadata service. The SDK's own let a push hang for several seconds where there is none.
const METADATA_TIMEOUT: Duration = Duration::from_secs(1);
const METADATA_ATTEMPTS: u32 = 2;

/// Looks for credentials, for as long as `bound`. `sdk` is the configuration without any, `places` what the SDK's places
/// need.
///
/// An explicit `profile` outranks keys in the environment, as for the aws CLI.
pub(super) async fn find_credentials(
    sdk: &SdkConfig,
    places: &ProviderConfig,
    region: &str,
    profile: Option<&String>,
    role: Option<&Role>,
    bound: Duration,
) -> Result<Found, CredentialsFailure> {
    let end = Instant::now() + bound;
    let heard = Heard::default();
    let listening = sdk.http_client().map(|client| places.clone().with_http_client(heard.listening(client)));
    let found = search(listening.as_ref().unwrap_or(places), &heard, region, profile, end, bound).await?;
    let Some(role) = role else { return Ok(found) };
    let mut builder = AssumeRoleProvider::builder(&role.arn).configure(sdk).session_name(&role.session_name);
    if let Some(external_id) = &role.external_id {
        builder = builder.external_id(external_id);
    }
    let provider = builder.build_from_provider(found.credentials.clone()).await;
    match timeout_at(end, provider.provide_credentials()).await {
        Ok(Ok(credentials)) => {
            Ok(Found { credentials, place: Place::Role, profile: found.profile, below: Some(found.place) })
        }
        Ok(Err(error)) => {
            let mut failure = broken(region, profile, Place::Role, error).await;
            if let CredentialsFailure::Answered { answer, .. } = &mut failure {
                answer.origin = Some(found.origin());
            }
            Err(failure)
        }
        Err(_) => Err(slow(region, profile, Place::Role, bound).await),
    }
}

async fn search(
    config: &ProviderConfig,
    heard: &Heard,
    region: &str,
    profile: Option<&String>,
    end: Instant,
    bound: Duration,
) -> Result<Found, CredentialsFailure> {
    let mut looked = Vec::new();
    let mut metadata_silent = false;
    let all = [Place::Environment, Place::Profile, Place::WebIdentity, Place::Container, Place::Instance];
    let only = [Place::Profile];
    let places = if profile.is_some() { &only[..] } else { &all[..] };
    for place in places {
        let Ok(answer) = timeout_at(end, ask(*place, config, profile)).await else {
            return Err(slow(region, profile, *place, bound).await);
        };
        match answer {
            Ok(credentials) => {
                return Ok(Found { credentials, place: *place, profile: profile.cloned(), below: None });
            }
            Err(error) if *place == Place::Instance && is_silent(&error) => {
                metadata_silent = true;
                looked.push((*place, "no answer".to_owned()));
            }
            Err(error @ CredentialsError::CredentialsNotLoaded(_)) => {
                looked.push((*place, absent(*place, profile, error)));
            }
            Err(error) => {
                return Err(match (broken(region, profile, *place, error).await, heard.refusal()) {
                    (
                        CredentialsFailure::Broken { region, place: place @ Place::Container, profile, .. },
                        Some(status),
                    ) => CredentialsFailure::Odd { region, place, profile, status },
                    (failure, _) => failure,
                });
            }
        }
    }
    Err(CredentialsFailure::None { region: region.to_owned(), profile: profile.cloned(), looked, metadata_silent })
}

/// Asks one place.
async fn ask(place: Place, config: &ProviderConfig, profile: Option<&String>) -> provider::Result {
    match place {
        Place::Environment => EnvironmentVariableCredentialsProvider::new().provide_credentials().await,
        Place::Profile | Place::Role => {
            let builder = ProfileFileCredentialsProvider::builder().configure(config);
            let builder = profile.into_iter().fold(builder, profile::credentials::Builder::profile_name);
            builder.build().provide_credentials().await
        }
        Place::WebIdentity => {
            let builder = WebIdentityTokenCredentialsProvider::builder().configure(config);
            builder.build().provide_credentials().await
        }
        Place::Container => EcsCredentialsProvider::builder().configure(config).build().provide_credentials().await,
        Place::Instance => {
            let client = imds::Client::builder()
                .configure(config)
                .connect_timeout(METADATA_TIMEOUT)
                .read_timeout(METADATA_TIMEOUT)
                .max_attempts(METADATA_ATTEMPTS)
                .build();
            let builder = imds::credentials::ImdsCredentialsProvider::builder().configure(config);
            builder.imds_client(client).build().provide_credentials().await
        }
    }
}

/// Why there are none in a place. The SDK's own words name no variable, and where it has no words at all, it says that a
/// provider "was not enabled".
fn absent(place: Place, profile: Option<&String>, error: CredentialsError) -> String {
    let text = match (place, profile) {
        (Place::Environment, _) => "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY are not both set",
        (Place::Container, _) => {
            "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI and AWS_CONTAINER_CREDENTIALS_FULL_URI are not set"
        }
        (Place::Profile, Some(_)) if error.source().is_none() => "it has no credentials",
        (Place::Profile, None) if error.source().is_none() => "none in ~/.aws/config and ~/.aws/credentials",
        _ => return Cause::new(error).to_string(),
    };
    text.to_owned()
}
