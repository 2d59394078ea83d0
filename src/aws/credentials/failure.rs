//! Why there are no credentials: what the SDK's errors say of it.

use std::error::Error as StdError;

use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_ecr::error::{ConnectorError, SdkError};
use aws_sdk_sso::operation::get_role_credentials::GetRoleCredentialsError;
use aws_sdk_sts::operation::assume_role::AssumeRoleError;
use aws_sdk_sts::operation::assume_role_with_web_identity::AssumeRoleWithWebIdentityError;
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use thiserror::Error;

use super::Place;
use crate::aws::failure::{AwsAnswer, answer};
use crate::aws::http::Nameless;
use crate::cause::{Cause, find};

/// Why there are no credentials.
#[derive(Debug, Error)]
pub enum CredentialsFailure {
    /// None of the places has any.
    #[error("no AWS credentials were found for {region}{}{}", of(profile.as_ref()), lines(looked))]
    None {
        /// The region of the registry.
        region: String,
        /// The profile that was named, if one was.
        profile: Option<String>,
        /// Every place that was looked at, with what it said.
        looked: Vec<(Place, String)>,
        /// Whether the instance metadata service is there, or may be, and doesn't answer.
        metadata_silent: bool,
    },
    /// The search doesn't come to an end.
    #[error("no AWS credentials for {region} came in {seconds} s")]
    Slow {
        /// The region of the registry.
        region: String,
        /// The bound.
        seconds: u64,
    },
    /// AWS refused what was found there.
    #[error("the AWS credentials for {region} could not be had from the {place}: {answer}")]
    Answered {
        /// The region of the registry.
        region: String,
        /// The place.
        place: Place,
        /// What AWS said.
        answer: Box<AwsAnswer>,
    },
    /// The place that should give them can't be reached: its name doesn't resolve.
    #[error("the AWS credentials for {region} could not be had from the {place}: the name {host} does not resolve")]
    Nameless {
        /// The region of the registry.
        region: String,
        /// The place.
        place: Place,
        /// The name.
        host: String,
    },
    /// What was found there can't be used.
    #[error("the AWS credentials for {region} could not be had from the {place}")]
    Broken {
        /// The region of the registry.
        region: String,
        /// The profile that was named, if one was.
        profile: Option<String>,
        /// The place.
        place: Place,
        /// What the SDK said.
        source: Cause,
    },
}

fn of(profile: Option<&String>) -> String {
    profile.map(|profile| format!(" in the profile {profile:?}")).unwrap_or_default()
}

fn lines(looked: &[(Place, String)]) -> String {
    looked.iter().map(|(place, why)| format!("\n  {place}: {why}")).collect()
}

/// Whether nothing came back from the metadata service in time, as where a container is one hop too far away from it.
pub(super) fn is_silent(error: &CredentialsError) -> bool {
    let connector = find::<ConnectorError>(error).is_some_and(ConnectorError::is_timeout);
    connector || find::<tokio::time::error::Elapsed>(error).is_some()
}

/// What is known of credentials that are there and can't be had.
pub(super) fn broken(
    region: &str,
    profile: Option<&String>,
    place: Place,
    error: CredentialsError,
) -> CredentialsFailure {
    let region = region.to_owned();
    if let Some(answer) = answered(&region, &error) {
        return CredentialsFailure::Answered { region, place, answer: Box::new(answer) };
    }
    if let Some(nameless) = find::<Nameless>(&error) {
        return CredentialsFailure::Nameless { region, place, host: nameless.host.clone() };
    }
    CredentialsFailure::Broken { region, profile: profile.cloned(), place, source: Cause::new(error) }
}

/// AWS's answer within the SDK's error, whichever of its services it was that was asked on the way.
fn answered(region: &str, error: &(dyn StdError + 'static)) -> Option<AwsAnswer> {
    let role = find::<SdkError<AssumeRoleError, HttpResponse>>(error);
    let role = role.and_then(|error| answer("sts:AssumeRole", region, error).ok());
    let web = || find::<SdkError<AssumeRoleWithWebIdentityError, HttpResponse>>(error);
    let web = || web().and_then(|error| answer("sts:AssumeRoleWithWebIdentity", region, error).ok());
    let sso = || find::<SdkError<GetRoleCredentialsError, HttpResponse>>(error);
    let sso = || sso().and_then(|error| answer("sso:GetRoleCredentials", region, error).ok());
    role.or_else(web).or_else(sso)
}
