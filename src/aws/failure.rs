//! What AWS's APIs answer when they don't do what they are asked, and what that means.
//!
//! [`meaning`] is the one place that reads AWS's codes.

use std::time::Duration;

use aws_sdk_ecr::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_ecr::operation::RequestId;
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use thiserror::Error;

use super::denial::Denial;
use crate::cause::Cause;
use crate::clock;

/// What an answer of AWS's means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AwsMeaning {
    /// The caller is known and may not do this.
    Denied,
    /// The credentials were good and have expired.
    Expired,
    /// AWS doesn't know the credentials.
    Unknown,
    /// The signature is wrong.
    Signature,
    /// This machine's clock is wrong.
    ClockSkew,
    /// The region is not enabled for the account.
    RegionDisabled,
    /// Too many requests, for now.
    Throttled,
    /// AWS is busy or broken, for now.
    Unavailable,
    /// The repository isn't there.
    RepositoryMissing,
    /// The repository is there already.
    RepositoryExists,
    /// The account may not have more of this.
    Quota,
    /// The key of the repository can't be used.
    Kms,
    /// The image isn't there.
    ImageMissing,
    /// The image has been archived.
    ImageArchived,
    /// The image was never scanned.
    NotScanned,
    /// It can't be done with this image, or in this account's setting.
    Unsupported,
    /// What was asked is not in AWS's form.
    Invalid,
    /// No, for a reason of its own.
    Refused,
}

impl AwsMeaning {
    /// Whether the same request may succeed a little later.
    #[must_use]
    pub fn is_transient(self) -> bool {
        matches!(self, Self::Throttled | Self::Unavailable)
    }
}

/// What `code` with this HTTP status means; `skew` is how far AWS's clock and ours are apart.
///
/// The codes are those of the service models of ECR, ECR Public, STS and SSO, and AWS's common errors.
#[must_use]
pub fn meaning(status: u16, code: &str, skew: Duration) -> AwsMeaning {
    match code {
        // Of a signature that is refused only the clock tells why.
        "InvalidSignatureException"
        | "SignatureDoesNotMatch"
        | "RequestExpired"
        | "RequestTimeTooSkewed"
        | "IncompleteSignature"
        | "IncompleteSignatureException" => {
            if skew >= clock::TOLERANCE || matches!(code, "RequestExpired" | "RequestTimeTooSkewed") {
                AwsMeaning::ClockSkew
            } else {
                AwsMeaning::Signature
            }
        }
        "AccessDeniedException"
        | "AccessDenied"
        | "UnauthorizedOperation"
        | "NotAuthorized"
        | "ForbiddenException"
        | "BlockedByOrganizationPolicyException" => AwsMeaning::Denied,
        "ExpiredTokenException" | "ExpiredToken" | "TokenRefreshRequired" => AwsMeaning::Expired,
        "UnrecognizedClientException"
        | "InvalidClientTokenId"
        | "InvalidAccessKeyId"
        | "AuthFailure"
        | "InvalidIdentityToken"
        | "IDPRejectedClaim"
        | "MissingAuthenticationTokenException"
        | "MissingAuthenticationToken"
        | "UnauthorizedException" => AwsMeaning::Unknown,
        "RegionDisabledException" | "OptInRequired" => AwsMeaning::RegionDisabled,
        "ThrottlingException"
        | "Throttling"
        | "ThrottledException"
        | "RequestThrottled"
        | "EC2ThrottledException"
        | "TooManyRequestsException"
        | "RequestLimitExceeded"
        | "RequestThrottledException"
        | "SlowDown" => AwsMeaning::Throttled,
        "RepositoryNotFoundException" | "RegistryNotFoundException" => AwsMeaning::RepositoryMissing,
        "RepositoryAlreadyExistsException" => AwsMeaning::RepositoryExists,
        // What passes with time is no quota on things, by whatever name.
        "LimitExceededException" if status == 429 => AwsMeaning::Throttled,
        "LimitExceededException" | "TooManyTagsException" => AwsMeaning::Quota,
        "KmsException" => AwsMeaning::Kms,
        "ImageNotFoundException" => AwsMeaning::ImageMissing,
        "ImageArchivedException" => AwsMeaning::ImageArchived,
        "ScanNotFoundException" => AwsMeaning::NotScanned,
        "UnsupportedImageTypeException" | "UnsupportedCommandException" => AwsMeaning::Unsupported,
        "InvalidParameterException"
        | "InvalidTagParameterException"
        | "ValidationException"
        | "ValidationError"
        | "SerializationException" => AwsMeaning::Invalid,
        "ServerException"
        | "ServiceUnavailable"
        | "ServiceUnavailableException"
        | "InternalFailure"
        | "InternalServerException"
        | "InternalServerError"
        | "RequestTimeout"
        | "RequestTimeoutException"
        | "IDPCommunicationError" => AwsMeaning::Unavailable,
        _ if status == 429 => AwsMeaning::Throttled,
        _ if status >= 500 => AwsMeaning::Unavailable,
        _ => AwsMeaning::Refused,
    }
}

/// An answer of AWS's that isn't success.
#[derive(Debug, Clone)]
pub struct AwsAnswer {
    /// What was asked, as an IAM action: `ecr:GetAuthorizationToken`.
    pub action: &'static str,
    /// In which region.
    pub region: String,
    /// AWS's error code.
    pub code: String,
    /// AWS's message.
    pub message: String,
    /// AWS's request id.
    pub request_id: Option<String>,
    /// How far AWS's clock and ours are apart.
    pub skew: Duration,
    /// Where the credentials that were shown had been found, once there were any.
    pub origin: Option<String>,
    /// The message, where it is a sentence about a missing permission.
    pub denial: Option<Denial>,
    /// What it means.
    pub meaning: AwsMeaning,
}

impl std::fmt::Display for AwsAnswer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { action, region, code, message, .. } = self;
        write!(f, "{action} in {region} was answered {code}")?;
        if !message.is_empty() {
            write!(f, ": {message}")?;
        }
        if self.meaning.is_transient() {
            f.write_str(", again and again")?;
        }
        self.request_id.as_ref().map_or(Ok(()), |id| write!(f, " (request id {id})"))
    }
}

/// Why AWS didn't do what it was asked.
#[derive(Debug, Error)]
pub enum ApiError {
    /// It said no.
    #[error("{0}")]
    Answered(Box<AwsAnswer>),
    /// What came is no answer of AWS's.
    #[error("{action} in {region} was answered {status} with something that is not AWS's")]
    Odd {
        /// What was asked.
        action: &'static str,
        /// In which region.
        region: String,
        /// The HTTP status.
        status: u16,
    },
    /// It couldn't be reached.
    #[error("{action} in {region} could not be asked for: the API could not be reached")]
    Unreachable {
        /// What was asked.
        action: &'static str,
        /// In which region.
        region: String,
        /// Whether it is TLS that failed: the certificate above all.
        tls: bool,
        /// What the SDK said.
        source: Cause,
    },
    /// Its name doesn't resolve.
    #[error("{action} in {region} could not be asked for: the name {host} does not resolve")]
    Nameless {
        /// What was asked.
        action: &'static str,
        /// In which region.
        region: String,
        /// The API's host.
        host: String,
    },
}

impl ApiError {
    /// What AWS's answer means, if there was one.
    #[must_use]
    pub fn meaning(&self) -> Option<AwsMeaning> {
        match self {
            Self::Answered(answer) => Some(answer.meaning),
            Self::Odd { .. } | Self::Unreachable { .. } | Self::Nameless { .. } => None,
        }
    }
}

/// What an SDK's error says of AWS's answer; gives it back where there was none.
///
/// # Errors
/// The HTTP status of something that is not AWS's, or none where nothing came at all.
pub(super) fn answer<E>(
    action: &'static str,
    region: &str,
    error: &SdkError<E, HttpResponse>,
) -> Result<AwsAnswer, Option<u16>>
where
    E: ProvideErrorMetadata,
{
    let status = error.raw_response().map(|response| response.status().as_u16());
    let code = error.as_service_error().and_then(ProvideErrorMetadata::code);
    let (Some(status), Some(code)) = (status, code) else { return Err(status) };
    let message: String = error.message().unwrap_or_default().chars().filter(|c| !c.is_control()).collect();
    let skew = error.raw_response().map_or(Duration::ZERO, skew);
    let denial = Denial::read(&message);
    let meaning = match meaning(status, code, skew) {
        // The sentence says which right on which key is missing, which is more than that it is about a key.
        AwsMeaning::Kms if denial.is_some() => AwsMeaning::Denied,
        AwsMeaning::Signature if is_about_time(&message) => AwsMeaning::ClockSkew,
        meaning => meaning,
    };
    Ok(AwsAnswer {
        action,
        region: region.to_owned(),
        meaning,
        code: code.to_owned(),
        request_id: error.request_id().map(str::to_owned),
        origin: None,
        denial,
        message,
        skew,
    })
}

/// Whether AWS says of a signature that its time is wrong, which the code doesn't say.
fn is_about_time(message: &str) -> bool {
    ["Signature expired: ", "Signature not yet current: "].iter().any(|words| message.starts_with(words))
}

/// How far the clock of whoever answered is from ours.
fn skew(response: &HttpResponse) -> Duration {
    let ahead = response.headers().get("date").and_then(clock::ahead);
    ahead.map_or(Duration::ZERO, |ahead| Duration::from_secs(ahead.unsigned_abs()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn meanings() {
        let check = |status, code: &str, skew, expected| {
            assert_eq!(meaning(status, code, Duration::from_secs(skew)), expected, "{status} {code}");
        };
        check(400, "AccessDeniedException", 0, AwsMeaning::Denied);
        check(403, "AccessDenied", 0, AwsMeaning::Denied);
        check(400, "ExpiredTokenException", 0, AwsMeaning::Expired);
        check(403, "ExpiredToken", 0, AwsMeaning::Expired);
        check(400, "UnrecognizedClientException", 0, AwsMeaning::Unknown);
        check(403, "InvalidClientTokenId", 0, AwsMeaning::Unknown);
        check(400, "InvalidIdentityToken", 0, AwsMeaning::Unknown);
        check(401, "UnauthorizedException", 0, AwsMeaning::Unknown);
        check(400, "InvalidSignatureException", 0, AwsMeaning::Signature);
        check(403, "SignatureDoesNotMatch", 200, AwsMeaning::Signature);
        check(400, "InvalidSignatureException", 301, AwsMeaning::ClockSkew);
        check(403, "SignatureDoesNotMatch", 100_000, AwsMeaning::ClockSkew);
        check(400, "RequestExpired", 0, AwsMeaning::ClockSkew);
        check(403, "RegionDisabledException", 0, AwsMeaning::RegionDisabled);
        check(403, "OptInRequired", 0, AwsMeaning::RegionDisabled);
        check(400, "ThrottlingException", 0, AwsMeaning::Throttled);
        check(429, "Whatever", 0, AwsMeaning::Throttled);
        check(500, "ServerException", 0, AwsMeaning::Unavailable);
        check(503, "Whatever", 0, AwsMeaning::Unavailable);
        check(400, "RepositoryNotFoundException", 0, AwsMeaning::RepositoryMissing);
        check(400, "RepositoryAlreadyExistsException", 0, AwsMeaning::RepositoryExists);
        check(400, "LimitExceededException", 0, AwsMeaning::Quota);
        check(429, "LimitExceededException", 0, AwsMeaning::Throttled);
        check(400, "RequestThrottled", 0, AwsMeaning::Throttled);
        check(408, "RequestTimeout", 0, AwsMeaning::Unavailable);
        check(400, "KmsException", 0, AwsMeaning::Kms);
        check(400, "ImageNotFoundException", 0, AwsMeaning::ImageMissing);
        check(400, "ImageArchivedException", 0, AwsMeaning::ImageArchived);
        check(400, "ScanNotFoundException", 0, AwsMeaning::NotScanned);
        check(400, "UnsupportedImageTypeException", 0, AwsMeaning::Unsupported);
        check(400, "InvalidParameterException", 0, AwsMeaning::Invalid);
        check(400, "InvalidTagParameterException", 0, AwsMeaning::Invalid);
        check(418, "Teapot", 0, AwsMeaning::Refused);
    }
}
