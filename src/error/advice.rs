//! What to do next about what AWS and ECR answer: the table of causes, one line of advice each.

use std::time::Duration;

use crate::aws::credentials::{CredentialsFailure, Place};
use crate::aws::denial::{Denial, Policy};
use crate::aws::failure::{ApiError, AwsAnswer, AwsMeaning};
use crate::aws::host::EcrRegistry;
use crate::aws::region;
use crate::aws::session::AwsError;
use crate::aws::token::TokenError;
use crate::clock::TOLERANCE;
use crate::registry::failure::{Answer, Meaning};

/// About a token that couldn't be had.
pub(super) fn token(error: &TokenError) -> Option<String> {
    match error {
        TokenError::Aws(error) => aws(error),
        TokenError::Empty { .. } => Some(format!("{ELSEWHERE}: look at --endpoint-url and AWS_ENDPOINT_URL")),
    }
}

/// About anything that AWS was asked.
pub(super) fn aws(error: &AwsError) -> Option<String> {
    match error {
        AwsError::Credentials(error) => Some(credentials(error)),
        AwsError::Api(ApiError::Answered(answer)) => Some(aws_answer(answer, None)),
        AwsError::Api(ApiError::Odd { .. }) => Some(format!("{PORTAL}, and at --endpoint-url")),
        AwsError::Api(ApiError::Unreachable { tls: true, .. }) => Some(AUTHORITY.to_owned()),
        AwsError::Api(ApiError::Unreachable { .. }) => {
            Some("is the API reachable from here (proxy, VPC endpoint `ecr.api`, --endpoint-url)?".to_owned())
        }
        AwsError::Api(ApiError::Nameless { region, host, .. }) => Some(nameless(region, host)),
        AwsError::Client(_) => None,
    }
}

/// What is to be said where a certificate is not trusted.
pub(super) const AUTHORITY: &str =
    "--ca-file FILE trusts a private certificate authority, such as a proxy's that opens TLS";

/// What is to be said where a tag can't be moved.
pub(super) const IMMUTABLE: &str = "choose another tag: no one can move this one";

/// What is to be said where nothing of AWS's can have answered.
const ELSEWHERE: &str = "what answers there is not ECR's API";

/// What is to be said of an answer that AWS can't have given.
const PORTAL: &str = "a proxy or a portal answers in AWS's place: look at HTTPS_PROXY and NO_PROXY";

/// About a name of AWS's, for the region `name`, that doesn't resolve.
fn nameless(name: &str, host: &str) -> String {
    match region::known(name) {
        Some(_) => format!("{host} has to resolve from here: look at DNS, and at the proxy"),
        None => format!("{name} is no region that this version knows: was {} meant?", region::nearest(name)),
    }
}

fn credentials(error: &CredentialsFailure) -> String {
    match error {
        CredentialsFailure::None { profile: Some(profile), .. } => format!(
            "is the profile {profile}, or one that it builds on, spelled as in ~/.aws/config or ~/.aws/credentials, and are \
             those the files of the user that runs this (HOME, AWS_CONFIG_FILE, AWS_SHARED_CREDENTIALS_FILE)? Since it was \
             named, nothing else is looked at"
        ),
        CredentialsFailure::None { metadata_silent: true, .. } => format!("{GIVE}; {HOP_LIMIT}"),
        CredentialsFailure::None { .. } => GIVE.to_owned(),
        CredentialsFailure::Slow { place, .. } => {
            format!("{} --timeout SECONDS waits longer", reach(*place))
        }
        CredentialsFailure::Answered { place, sso, answer, .. } => aws_answer(answer, Some((*place, sso.as_deref()))),
        CredentialsFailure::Odd { place: Place::Instance, status: 500.., .. } => {
            "the instance metadata service is having trouble: try again".to_owned()
        }
        CredentialsFailure::Odd { place: Place::Instance, .. } => INSTANCE.to_owned(),
        CredentialsFailure::Odd { place: Place::Container, status: 500.., .. } => {
            "the container endpoint is having trouble: try again; if it stays, look at its agent's log".to_owned()
        }
        CredentialsFailure::Odd { place: Place::Container, .. } => CONTAINER.to_owned(),
        CredentialsFailure::Odd { .. } => PORTAL.to_owned(),
        CredentialsFailure::Nameless { region, host, .. } => nameless(region, host),
        CredentialsFailure::Unreachable { tls: true, .. } => AUTHORITY.to_owned(),
        CredentialsFailure::Unreachable { metadata: true, .. } => format!("only EC2 instances have one; {HOP_LIMIT}"),
        CredentialsFailure::Unreachable { place, .. } => reach(*place).to_owned(),
        CredentialsFailure::Process { profile, seconds, .. } => {
            let longer = seconds.map_or("", |_| "; --timeout SECONDS waits longer");
            format!(
                "run by hand what credential_process names in the profile {profile}: what it prints is not shown here, since \
                 it may be secret{longer}"
            )
        }
        CredentialsFailure::Login { profile, .. } => format!(
            "let the aws CLI give them to another profile: credential_process = aws configure export-credentials --profile \
             {profile} --format process"
        ),
        CredentialsFailure::Broken { sso: Some(profile), .. } => login(Some(profile)),
        CredentialsFailure::Broken { place, profile, .. } => match place {
            Place::Profile => {
                let profile = profile.as_deref().unwrap_or("default");
                format!("look at the profile {profile} in ~/.aws/config and ~/.aws/credentials")
            }
            Place::Environment => "look at AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN".to_owned(),
            Place::WebIdentity => "look at AWS_ROLE_ARN and at the file in AWS_WEB_IDENTITY_TOKEN_FILE".to_owned(),
            Place::Container => CONTAINER.to_owned(),
            Place::Instance => INSTANCE.to_owned(),
            Place::Role => "look at --role-arn, and at whether STS is reachable from here".to_owned(),
        },
    }
}

const GIVE: &str =
    "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, name a profile with --profile, or give this machine a role";

const HOP_LIMIT: &str =
    "in a container on EC2 the instance metadata service answers only where its hop limit is 2 or more";

const INSTANCE: &str = "is a role attached to this instance, and may this process ask for it?";

const CONTAINER: &str = "look at AWS_CONTAINER_CREDENTIALS_FULL_URI and its token, or at the task's role, or at the EKS Pod \
                         Identity association and its agent";

/// How a user of IAM Identity Center gets a session.
fn login(profile: Option<&str>) -> String {
    let profile = profile.map(|profile| format!(" --profile {profile}")).unwrap_or_default();
    format!("there is no SSO session, or it has ended: aws sso login{profile}")
}

/// What has to be reachable for credentials from there.
fn reach(place: Place) -> &'static str {
    match place {
        Place::Role | Place::WebIdentity => {
            "is STS reachable from here (proxy, VPC endpoint `sts`, AWS_ENDPOINT_URL_STS)?"
        }
        Place::Profile => "are STS and IAM Identity Center reachable from here (proxy, VPC endpoint `sts`)?",
        Place::Container => {
            "is its agent there (ECS's, or EKS Pod Identity's), and is AWS_CONTAINER_CREDENTIALS_FULL_URI right?"
        }
        Place::Instance | Place::Environment => "is the instance metadata service reachable from here?",
    }
}

/// About an answer of AWS's; `place` is where the credentials were being got, and for which profile of IAM Identity
/// Center, if that is what it was about.
fn aws_answer(answer: &AwsAnswer, place: Option<(Place, Option<&str>)>) -> String {
    let AwsAnswer { action, region, .. } = answer;
    match answer.meaning {
        AwsMeaning::Denied => denied(answer, place.map(|(place, _)| place)),
        AwsMeaning::Expired if *action == "sts:AssumeRoleWithWebIdentity" => {
            format!("the token in {} has expired: get a new one", token_file(place))
        }
        AwsMeaning::Expired => format!("the AWS credentials{} have expired: get new ones", found(answer)),
        AwsMeaning::Unknown => unknown(answer, place),
        AwsMeaning::Signature => format!(
            "was the secret key{} copied whole, and does it belong to the access key? Else look at the region {region} in the \
             host",
            found(answer)
        ),
        AwsMeaning::ClockSkew if answer.skew >= TOLERANCE => {
            format!("this machine's clock is {} off: set it (AWS allows for 5 min)", roughly(answer.skew))
        }
        AwsMeaning::ClockSkew => "set this machine's clock: AWS allows for 5 min".to_owned(),
        AwsMeaning::RegionDisabled => format!(
            "{region} is not enabled for the account (or STS is not in it): enable it in the account's settings, or push to \
             another region"
        ),
        AwsMeaning::Throttled => "wait a little, or raise --retries".to_owned(),
        AwsMeaning::Unavailable => "AWS is having trouble: try again, or raise --retries".to_owned(),
        // Only a scan asks for a repository that has to be there.
        AwsMeaning::RepositoryMissing => "the repository is gone since: who removes it?".to_owned(),
        AwsMeaning::RepositoryExists => "another run has created it: push again".to_owned(),
        AwsMeaning::Quota => {
            format!("a quota of the account in {region} is used up: delete something, or ask AWS for more")
        }
        AwsMeaning::Kms => KMS.to_owned(),
        AwsMeaning::ImageArchived => ARCHIVED.to_owned(),
        AwsMeaning::ImageMissing => "the image is gone since: does a lifecycle policy expire it?".to_owned(),
        AwsMeaning::NotScanned | AwsMeaning::Unsupported => "leave --wait-for-scan out for this image".to_owned(),
        AwsMeaning::Invalid => "AWS doesn't take a value that it was given: its words say which".to_owned(),
        AwsMeaning::Refused if answer.code == "UnknownOperationException" => {
            format!("{ELSEWHERE}: look at --endpoint-url and AWS_ENDPOINT_URL")
        }
        AwsMeaning::Refused => format!("AWS's words say why; {action} is what was asked"),
    }
}

/// Where the credentials were found, in brackets.
fn found(answer: &AwsAnswer) -> String {
    answer.origin.as_ref().map(|origin| format!(" ({origin})")).unwrap_or_default()
}

/// A time in its largest unit: nobody needs to know by how many seconds a clock is wrong.
fn roughly(time: Duration) -> String {
    match time.as_secs() / 60 {
        minutes if minutes < 120 => format!("{minutes} min"),
        minutes if minutes < 48 * 60 => format!("{} h", minutes / 60),
        minutes => format!("{} days", minutes / (24 * 60)),
    }
}

fn denied(answer: &AwsAnswer, place: Option<Place>) -> String {
    let action = answer.action;
    let resource = match action {
        "sts:AssumeRole" | "sts:AssumeRoleWithWebIdentity" => "the role",
        "ecr:CreateRepository"
        | "ecr-public:CreateRepository"
        | "ecr:BatchCheckLayerAvailability"
        | "ecr-public:BatchCheckLayerAvailability"
        | "ecr:DescribeImageScanFindings"
        | "ecr:StartImageScan" => "the repository",
        _ => "*",
    };
    let needed = format!("the identity needs {action} on {resource}");
    let external_id = if place == Some(Place::Profile) { "external_id in the profile" } else { "--external-id" };
    match (&answer.denial, action) {
        // STS tells nothing about the trust policy, which is as often the one that is in the way.
        (denial, "sts:AssumeRole") if denial.as_ref().is_none_or(|denial| denial.policy == Policy::Unsaid) => {
            let advice = denial.as_ref().map_or(needed, |denial| denial.advice(resource));
            format!("{advice}, and the role's trust policy has to allow it (external id included: {external_id})")
        }
        (Some(denial), _) => denial.advice(resource),
        (None, "sts:AssumeRoleWithWebIdentity") => {
            "the role's trust policy has to allow sts:AssumeRoleWithWebIdentity to this token's issuer and subject"
                .to_owned()
        }
        (None, "sso:GetRoleCredentials") => "this user has no such role in that account any more: look at sso_account_id and \
                                             sso_role_name in the profile, or ask who assigns them"
            .to_owned(),
        (None, _) if answer.code == "BlockedByOrganizationPolicyException" => {
            "a policy of the organization forbids it: nobody in the account can allow it, the organization's administrators can"
                .to_owned()
        }
        (None, _) => needed,
    }
}

/// Where a web identity token lies.
fn token_file(place: Option<(Place, Option<&str>)>) -> &'static str {
    match place {
        Some((Place::Profile, _)) => "the profile's web_identity_token_file",
        _ => "AWS_WEB_IDENTITY_TOKEN_FILE",
    }
}

fn unknown(answer: &AwsAnswer, place: Option<(Place, Option<&str>)>) -> String {
    match answer.action {
        "sso:GetRoleCredentials" => login(place.and_then(|(_, profile)| profile)),
        "sts:AssumeRoleWithWebIdentity" => format!(
            "STS doesn't take the token in {}: is its issuer an identity provider of the account, and its audience one that \
             this knows?",
            token_file(place)
        ),
        _ if region::known(&answer.region).is_some_and(|region| region.opt_in) => format!(
            "enable {0} in the account if it isn't, and get session tokens for it from a regional STS endpoint; else look at \
             the access key, the secret key and the session token{1}",
            answer.region,
            found(answer)
        ),
        _ => format!(
            "AWS doesn't know these credentials{}: look at the access key, the secret key and the session token",
            found(answer)
        ),
    }
}

const KMS: &str = "the repository's KMS key can't be used: is it enabled, and does its policy allow ECR a grant \
                   (kms:CreateGrant, kms:GenerateDataKey, kms:Decrypt)?";

const ARCHIVED: &str = "the image is archived: restore it first (aws ecr update-image-storage-class)";

/// About a registry's answer.
pub(super) fn registry_answer(answer: &Answer) -> String {
    let ecr = EcrRegistry::of(&answer.asked.host);
    match (answer.meaning, &ecr) {
        (Meaning::Unauthenticated | Meaning::TokenExpired, Some(_)) => {
            "ECR doesn't take this token, nor a new one: do --endpoint-url and --registry-endpoint lead to the host's region?"
                .to_owned()
        }
        (Meaning::Unauthenticated, None) => match &answer.asked.shown {
            Some(shown) => format!("it refuses the credentials of {shown}: docker login {} again", answer.asked.host),
            None => format!("log in first: docker login {} (or podman, or a credential helper)", answer.asked.host),
        },
        (Meaning::TokenExpired, None) => format!("log in again: docker login {}", answer.asked.host),
        (Meaning::Denied, Some(ecr)) => registry_denied(answer, ecr),
        (Meaning::Denied, None) => match &answer.asked.shown {
            Some(shown) => format!("{shown} may not push there: ask the registry's owner, or log in as somebody else"),
            None => format!("nobody is logged in: docker login {} (or podman, or a credential helper)", answer.asked.host),
        },
        (Meaning::RepositoryMissing, Some(ecr)) => create(answer, ecr),
        (Meaning::RepositoryMissing, None) => {
            "create the repository first, or the project that it is in; or is its name misspelt?".to_owned()
        }
        (Meaning::TagImmutable, _) => IMMUTABLE.to_owned(),
        (Meaning::TooLarge, Some(_)) if answer.url.contains("/blobs/") => {
            "ECR itself takes layers of this size: a proxy before it takes less, so go around it (NO_PROXY) or raise its limit"
                .to_owned()
        }
        (Meaning::TooLarge, _) => {
            "the registry, or a proxy before it, takes no body of this size: raise its limit, or make it smaller"
                .to_owned()
        }
        (Meaning::DigestRefused, _) => "the registry doesn't take digests of this algorithm: build with SHA-256".to_owned(),
        (Meaning::Kms, _) => KMS.to_owned(),
        (Meaning::Quota, _) => {
            "a quota is used up: delete images or tags (a lifecycle policy does it), ask AWS for more, or make the image smaller"
                .to_owned()
        }
        (Meaning::ImageArchived, _) => ARCHIVED.to_owned(),
        (Meaning::RateLimited, _) => "wait a little, or push with fewer --jobs".to_owned(),
        (Meaning::Unavailable | Meaning::SessionLost, _) => {
            "the registry is having trouble: try again, or raise --retries".to_owned()
        }
        (Meaning::UploadRefused, _) => {
            "what arrived is not what was sent: push again; if it stays, a proxy in between changes it".to_owned()
        }
        (Meaning::ReferenceMissing, _) => {
            "the registry has lost what it acknowledged, or is slow to find it: push again".to_owned()
        }
        (Meaning::NotFound | Meaning::Refused, _) if answer.code.is_none() => IMPOSTOR.to_owned(),
        (Meaning::NotFound | Meaning::Refused, _) => {
            "the registry's words say what it doesn't take; -v shows every request".to_owned()
        }
    }
}

/// What is to be said where no registry can have answered.
pub(super) const IMPOSTOR: &str =
    "is it the registry that answers there? Look at the host, at --registry-endpoint, and at HTTPS_PROXY and NO_PROXY";

fn registry_denied(answer: &Answer, ecr: &EcrRegistry) -> String {
    let resource = ecr.arn(&answer.asked.repository);
    let Some(denial) = Denial::read(&answer.message) else {
        let needed = format!("the identity needs {} on {resource}", actions(answer, ecr.service()));
        // ECR says why it refuses, but to a HEAD, whose answer has no body.
        let silent = answer.code.is_none() && answer.method != "HEAD";
        return if silent {
            format!("a proxy may be what refuses (HTTPS_PROXY, NO_PROXY); else {needed}")
        } else {
            needed
        };
    };
    let advice = denial.advice(&resource);
    match ecr {
        EcrRegistry::Private(host)
            if denial.policy != Policy::Resource && denial.account().is_some_and(|account| account != host.account) =>
        {
            format!("{advice}; and the repository's policy in account {} has to allow it, too", host.account)
        }
        _ => advice,
    }
}

/// How the repository that is missing is made.
fn create(answer: &Answer, ecr: &EcrRegistry) -> String {
    let (name, service) = (ecr.own_name(&answer.asked.repository), ecr.service());
    let region = ecr.region();
    format!(
        "create it: --create-repository, or aws {service} create-repository --region {region} --repository-name {name}"
    )
}

/// The IAM actions that a request needs (facts/ecr.md, Credentials).
fn actions(answer: &Answer, service: &str) -> String {
    // A repository may be called like a part of a path.
    let start = format!("/v2/{}/", answer.asked.repository);
    let place = answer.url.split_once(&start).map_or("", |(_, place)| place);
    match (answer.method, place) {
        ("POST", _) => format!("{service}:InitiateLayerUpload"),
        (_, place) if place.starts_with("blobs/uploads/") => {
            format!("{service}:UploadLayerPart and {service}:CompleteLayerUpload")
        }
        ("PUT", _) => format!("{service}:PutImage"),
        (_, place) if place.starts_with("blobs/") => format!("{service}:BatchCheckLayerAvailability"),
        _ => format!("{service}:BatchGetImage"),
    }
}
