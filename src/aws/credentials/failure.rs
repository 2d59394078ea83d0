//! Why there are no credentials: what the SDK's errors say of it.

use std::error::Error as StdError;
use std::time::Duration;

use aws_config::imds::client::error::{ImdsError, TokenError};
use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_ecr::error::{ConnectorError, SdkError};
use aws_sdk_sso::operation::get_role_credentials::GetRoleCredentialsError;
use aws_sdk_sts::operation::assume_role::AssumeRoleError;
use aws_sdk_sts::operation::assume_role_with_web_identity::AssumeRoleWithWebIdentityError;
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use thiserror::Error;

use super::Place;
use super::selected::{Selected, selected};
use crate::aws::failure::{AwsAnswer, answer};
use crate::cause::{Cause, find};
use crate::names::Nameless;

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
    /// A place doesn't come to an end.
    #[error("no AWS credentials for {region} came from the {place}{} in {seconds} s", named(profile.as_ref()))]
    Slow {
        /// The region of the registry.
        region: String,
        /// The place.
        place: Place,
        /// The profile, where that is the place.
        profile: Option<String>,
        /// The bound.
        seconds: u64,
    },
    /// AWS refused what was found there.
    #[error("the AWS credentials for {region} could not be had from the {place}{}: {answer}", named(profile.as_ref()))]
    Answered {
        /// The region of the registry.
        region: String,
        /// The place.
        place: Place,
        /// The profile, where that is the place.
        profile: Option<String>,
        /// The profile of IAM Identity Center, where that was asked.
        sso: Option<String>,
        /// What AWS said.
        answer: Box<AwsAnswer>,
    },
    /// What came from there is nothing that AWS would say.
    #[error("the AWS credentials for {region} could not be had from the {place}{}: {status} was the answer", named(profile.as_ref()))]
    Odd {
        /// The region of the registry.
        region: String,
        /// The place.
        place: Place,
        /// The profile, where that is the place.
        profile: Option<String>,
        /// The HTTP status.
        status: u16,
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
    /// The place that should give them can't be reached.
    #[error(
        "the AWS credentials for {region} could not be had from the {place}{}: {} could not be reached",
        named(profile.as_ref()),
        giver(*place, *metadata)
    )]
    Unreachable {
        /// The region of the registry.
        region: String,
        /// The place.
        place: Place,
        /// The profile, where that is the place.
        profile: Option<String>,
        /// Whether it is the instance metadata service, which a profile names.
        metadata: bool,
        /// Whether it is TLS that failed: the certificate above all.
        tls: bool,
        /// What the SDK said.
        source: Cause,
    },
    /// A profile's process gives none. What it prints is not shown, since nobody knows what it holds.
    #[error("the credential_process of the profile {profile} gave no AWS credentials for {region}{}", within(*seconds))]
    Process {
        /// The region of the registry.
        region: String,
        /// The profile that has the process: the one that was asked for, or one below it.
        profile: String,
        /// The bound that it was stopped at.
        seconds: Option<u64>,
    },
    /// A profile that only the aws CLI can read.
    #[error(
        "the AWS credentials for {region} could not be had from the profile {profile}: ecr-push can't read what `aws login` writes"
    )]
    Login {
        /// The region of the registry.
        region: String,
        /// The profile.
        profile: String,
    },
    /// What was found there can't be used.
    #[error("the AWS credentials for {region} could not be had from the {place}{}", named(profile.as_ref()))]
    Broken {
        /// The region of the registry.
        region: String,
        /// The profile, where that is the place.
        profile: Option<String>,
        /// The place.
        place: Place,
        /// The profile of IAM Identity Center that was to give them.
        sso: Option<String>,
        /// What the SDK said.
        source: Cause,
    },
}

fn of(profile: Option<&String>) -> String {
    profile.map(|profile| format!(" in the profile {profile}")).unwrap_or_default()
}

/// The name of a profile behind its place.
fn named(profile: Option<&String>) -> String {
    profile.map(|profile| format!(" {profile}")).unwrap_or_default()
}

/// Who gives credentials there.
fn giver(place: Place, metadata: bool) -> &'static str {
    match place {
        _ if metadata => "the instance metadata service",
        Place::Role | Place::WebIdentity => "STS",
        Place::Environment | Place::Profile | Place::Container | Place::Instance => "what gives them",
    }
}

fn within(seconds: Option<u64>) -> String {
    seconds.map(|seconds| format!(" in {seconds} s")).unwrap_or_default()
}

fn lines(looked: &[(Place, String)]) -> String {
    looked.iter().map(|(place, why)| format!("\n  {place}: {why}")).collect()
}

/// Whether nothing came back from the metadata service in time, as where a container is one hop too far away from it.
pub(super) fn is_silent(error: &CredentialsError) -> bool {
    let connector = find::<ConnectorError>(error).is_some_and(ConnectorError::is_timeout);
    connector || find::<tokio::time::error::Elapsed>(error).is_some()
}

/// What is known of a place that has credentials and doesn't give them.
pub(super) async fn broken(
    region: &str,
    profile: Option<&String>,
    place: Place,
    error: CredentialsError,
) -> CredentialsFailure {
    let region = region.to_owned();
    let Selected { name: profile, process, login, sso } = selected(place, profile).await;
    if let Some(nameless) = find::<Nameless>(&error) {
        return CredentialsFailure::Nameless { region, place, host: nameless.host.clone() };
    }
    let (sso, sso_region) = sso.unzip();
    match answered(&region, sso_region.as_ref().unwrap_or(&region), &error) {
        Some(Ok(answer)) => {
            return CredentialsFailure::Answered { region, place, profile, sso, answer: Box::new(answer) };
        }
        Some(Err(Some(status))) => return CredentialsFailure::Odd { region, place, profile, status },
        Some(Err(None)) => {}
        None if find::<ConnectorError>(&error).is_some() || is_silent(&error) => {}
        None => {
            return match (login, process) {
                (Some(profile), _) => CredentialsFailure::Login { region, profile },
                (None, Some(profile)) => CredentialsFailure::Process { region, profile, seconds: None },
                (None, None) => CredentialsFailure::Broken { region, profile, place, sso, source: Cause::new(error) },
            };
        }
    }
    let metadata = find::<ImdsError>(&error).is_some() || find::<SdkError<TokenError, HttpResponse>>(&error).is_some();
    let tls = find::<rustls::Error>(&error).is_some();
    CredentialsFailure::Unreachable { region, place, profile, metadata, tls, source: Cause::new(error) }
}

/// What is known of a place that gave nothing within `bound`.
pub(super) async fn slow(region: &str, profile: Option<&String>, place: Place, bound: Duration) -> CredentialsFailure {
    let (region, seconds) = (region.to_owned(), bound.as_secs());
    let Selected { name: profile, process, .. } = selected(place, profile).await;
    match process {
        Some(profile) => CredentialsFailure::Process { region, profile, seconds: Some(seconds) },
        None => CredentialsFailure::Slow { region, place, profile, seconds },
    }
}

/// The answer within the SDK's error, whichever service it was that was asked on the way: STS in `region`, IAM Identity
/// Center in a region of its own. As [`answer`] gives it: an HTTP status for what is not AWS's, or nothing where nothing came.
fn answered(
    region: &str,
    sso_region: &str,
    error: &(dyn StdError + 'static),
) -> Option<Result<AwsAnswer, Option<u16>>> {
    if let Some(ImdsError::ErrorResponse(context)) = find::<ImdsError>(error) {
        return Some(Err(Some(context.response().status().as_u16())));
    }
    let role = find::<SdkError<AssumeRoleError, HttpResponse>>(error);
    let role = role.map(|error| answer("sts:AssumeRole", region, error));
    let web = || find::<SdkError<AssumeRoleWithWebIdentityError, HttpResponse>>(error);
    let web = || web().map(|error| answer("sts:AssumeRoleWithWebIdentity", region, error));
    let sso = || find::<SdkError<GetRoleCredentialsError, HttpResponse>>(error);
    let sso = || sso().map(|error| answer("sso:GetRoleCredentials", sso_region, error));
    role.or_else(web).or_else(sso)
}
