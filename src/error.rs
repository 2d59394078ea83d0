//! Every error's exit status, and what to do next. The one place that says either.

use std::sync::Arc;

use thiserror::Error as ThisError;

use crate::auth::AuthError;
use crate::aws::host::EcrHost;
use crate::aws::token::TokenError;
use crate::cause::Cause;
use crate::cleanup::CleanupError;
use crate::oci::digest::Digest;
use crate::oci::manifest::ManifestError;
use crate::push::PushError;
use crate::push::reader::ReadError;
use crate::push::upload::UploadError;
use crate::registry::failure::{Answer, Meaning, Network, RegistryError};
use crate::source::SourceError;
use crate::source::folder::FileError;
use crate::source::layout::LayoutError;
use crate::source::walk::Defect;
use crate::trust::TrustError;

/// Why a run failed.
#[derive(Debug, ThisError)]
pub enum Error {
    /// SOURCE, as typed.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// SOURCE, as found.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// Certificates.
    #[error(transparent)]
    Trust(#[from] TrustError),
    /// Credentials; shared by all destinations on one host.
    #[error(transparent)]
    Auth(Arc<AuthError>),
    /// A registry's client can't be made.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// A destination.
    #[error(transparent)]
    Push(#[from] PushError),
    /// A destination names another digest than the one in SOURCE.
    #[error("{reference} asks for {asked}, and SOURCE has {found}")]
    DigestDiffers {
        /// The destination.
        reference: String,
        /// The digest that it names.
        asked: Digest,
        /// SOURCE's.
        found: Digest,
    },
    /// Clean-up was asked for together with something that leaves parts of SOURCE unpushed.
    #[error("--cleanup would remove what --no-referrers leaves out: {} manifests refer to the image", referrers.len())]
    LeavesOut {
        /// What would not be pushed.
        referrers: Vec<Digest>,
    },
    /// Clean-up.
    #[error(transparent)]
    Cleanup(#[from] CleanupError),
    /// A thread died.
    #[error("a task ended unexpectedly")]
    Task(#[source] Cause),
    /// The user stopped the run.
    #[error("interrupted")]
    Interrupted {
        /// Upload sessions that the registry didn't confirm to have closed.
        open: usize,
    },
}

/// Exit statuses, as the command line promises them.
mod status {
    pub(super) const BUG: u8 = 1;
    pub(super) const USAGE: u8 = 2;
    pub(super) const SOURCE: u8 = 3;
    pub(super) const DENIED: u8 = 4;
    pub(super) const REFUSED: u8 = 5;
    pub(super) const UNAVAILABLE: u8 = 6;
    pub(super) const CLEANUP: u8 = 7;
    pub(super) const INTERRUPTED: u8 = 130;
}

impl Error {
    /// For a task that didn't come to its end.
    pub(crate) fn task(error: tokio::task::JoinError) -> Self {
        Self::Task(Cause::new(error))
    }

    /// The exit status.
    #[must_use]
    pub fn status(&self) -> u8 {
        match self {
            Self::Source(error) => match error {
                SourceError::Missing { .. } => status::SOURCE,
                SourceError::Foreign { .. }
                | SourceError::NotYet { .. }
                | SourceError::EmptyChoice { .. }
                | SourceError::Digest(_) => status::USAGE,
            },
            Self::Layout(error) => match error {
                LayoutError::NoneChosen { .. }
                | LayoutError::NoSuchImage { .. }
                | LayoutError::AmbiguousName { .. } => status::USAGE,
                LayoutError::NotAFolder { .. }
                | LayoutError::NoLayout { .. }
                | LayoutError::Unreadable { .. }
                | LayoutError::Locked { .. }
                | LayoutError::Malformed { .. }
                | LayoutError::Version { .. }
                | LayoutError::IndexTooLarge { .. }
                | LayoutError::Empty { .. }
                | LayoutError::Defects { .. } => status::SOURCE,
            },
            Self::Trust(_) | Self::DigestDiffers { .. } | Self::LeavesOut { .. } => status::USAGE,
            Self::Auth(error) => auth_status(error),
            Self::Registry(error) => registry_status(error),
            Self::Push(error) => push_status(error),
            Self::Cleanup(_) => status::CLEANUP,
            Self::Task(_) => status::BUG,
            Self::Interrupted { .. } => status::INTERRUPTED,
        }
    }

    /// What to do next, where that is known.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Source(error) => Some(source_hint(error)),
            Self::Layout(error) => layout_hint(error),
            Self::Trust(_) | Self::DigestDiffers { .. } | Self::Interrupted { .. } => None,
            Self::Auth(error) => auth_hint(error),
            Self::Registry(error) => registry_hint(error),
            Self::Push(error) => push_hint(error),
            Self::LeavesOut { .. } => Some("leave out one of the two options".to_owned()),
            Self::Cleanup(error) => Some(cleanup_hint(error)),
            Self::Task(_) => Some("this is a bug in ecr-push: please report it".to_owned()),
        }
    }
}

fn auth_status(error: &AuthError) -> u8 {
    match error {
        _ if error.is_transient() => status::UNAVAILABLE,
        AuthError::Token(error) => match error {
            TokenError::Unreachable { .. } | TokenError::Unavailable { .. } => status::UNAVAILABLE,
            TokenError::NoCredentials { .. }
            | TokenError::Credentials { .. }
            | TokenError::Slow { .. }
            | TokenError::Refused { .. }
            | TokenError::Empty { .. } => status::DENIED,
        },
        AuthError::RealmUnreachable { .. } => status::UNAVAILABLE,
        AuthError::Config { .. }
        | AuthError::Unreadable { .. }
        | AuthError::Slow { .. }
        | AuthError::Helper { .. }
        | AuthError::Realm { .. }
        | AuthError::RealmInsecure { .. } => status::DENIED,
    }
}

fn registry_status(error: &RegistryError) -> u8 {
    match error {
        RegistryError::Answered(answer) => match answer.meaning {
            Meaning::Unauthenticated | Meaning::TokenExpired | Meaning::Denied => status::DENIED,
            Meaning::RateLimited | Meaning::Unavailable | Meaning::SessionLost => status::UNAVAILABLE,
            Meaning::RepositoryMissing
            | Meaning::TagImmutable
            | Meaning::UploadRefused
            | Meaning::ReferenceMissing
            | Meaning::DigestRefused
            | Meaning::TooLarge
            | Meaning::NotFound
            | Meaning::Refused => status::REFUSED,
        },
        RegistryError::Unreachable { .. } | RegistryError::Stalled { .. } | RegistryError::Odd { .. } => {
            status::UNAVAILABLE
        }
        RegistryError::Persistent { last, .. } => registry_status(last),
        RegistryError::Auth(error) => auth_status(error),
        RegistryError::Client(_) => status::BUG,
    }
}

fn push_status(error: &PushError) -> u8 {
    match error {
        PushError::Registry(error) => registry_status(error),
        PushError::Upload(failure) => upload_status(failure),
        // A corrupt SOURCE outweighs what the registry says of it.
        PushError::Uploads { failures } => {
            let corrupt = failures.iter().any(|failure| matches!(failure, UploadError::Read(_)));
            if corrupt { status::SOURCE } else { failures.first().map_or(status::BUG, upload_status) }
        }
        PushError::TagImmutable { .. } | PushError::TagMoved { .. } | PushError::NotThere { .. } => status::REFUSED,
    }
}

fn upload_status(error: &UploadError) -> u8 {
    match error {
        UploadError::Read(error) => match &**error {
            ReadError::Corrupt(_) | ReadError::Unreadable { .. } => status::SOURCE,
            ReadError::Died(_) => status::BUG,
        },
        UploadError::Registry { source, .. } => registry_status(source),
    }
}

fn source_hint(error: &SourceError) -> String {
    match error {
        SourceError::Foreign { prefix: "containers-storage", name } => {
            format!("write it out first: podman save --format oci-dir -o DIR {name}, then ecr-push DIR DESTINATION")
        }
        SourceError::Foreign { name, .. } => {
            format!(
                "write it out first: ctr image export FILE {name} && mkdir DIR && tar -xf FILE -C DIR, then ecr-push DIR \
                 DESTINATION"
            )
        }
        SourceError::NotYet { .. } => {
            "unpack an OCI archive with `mkdir DIR && tar -xf FILE -C DIR`; write an engine's \
             image out with `skopeo copy docker-daemon:NAME:TAG oci:DIR`"
                .to_owned()
        }
        SourceError::Missing { .. } => "SOURCE is a folder with `oci-layout` and `index.json`, as `buildah push IMAGE \
             oci:DIR` or `docker buildx build -o type=oci,tar=false,dest=DIR` write it"
            .to_owned(),
        SourceError::EmptyChoice { .. } | SourceError::Digest(_) => {
            "choose an image with DIR:NAME or DIR@sha256:DIGEST".to_owned()
        }
    }
}

fn layout_hint(error: &LayoutError) -> Option<String> {
    match error {
        LayoutError::NotAFolder { path } => Some(format!(
            "this version reads folders; an OCI archive is unpacked with `mkdir DIR && tar -xf {} -C DIR`",
            path.display()
        )),
        LayoutError::NoneChosen { .. } | LayoutError::NoSuchImage { .. } => {
            Some("choose one of these by writing what stands there behind SOURCE".to_owned())
        }
        LayoutError::AmbiguousName { .. } => Some("choose one of these by its digest".to_owned()),
        LayoutError::Defects { defects, .. } => Some(defects_hint(defects)),
        LayoutError::NoLayout { .. }
        | LayoutError::Unreadable { .. }
        | LayoutError::Locked { .. }
        | LayoutError::Malformed { .. }
        | LayoutError::Version { .. }
        | LayoutError::IndexTooLarge { .. }
        | LayoutError::Empty { .. } => None,
    }
}

fn defects_hint(defects: &[Defect]) -> String {
    let is = |wanted: fn(&Defect) -> bool| defects.iter().any(wanted);
    if is(|defect| matches!(defect, Defect::File(FileError::Outside { .. }))) {
        "--follow-symlinks allows blobs that are symbolic links out of the layout"
    } else if is(|defect| matches!(defect, Defect::Manifest { source: ManifestError::UnknownMediaType { .. }, .. })) {
        "ecr-push knows OCI and Docker schema 2 manifests and indexes; nothing was sent"
    } else {
        "nothing was sent; build or copy the image again"
    }
    .to_owned()
}

fn auth_hint(error: &AuthError) -> Option<String> {
    match error {
        AuthError::Token(TokenError::NoCredentials { .. }) => Some(
            "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, name a profile with --profile, or give this machine a role"
                .to_owned(),
        ),
        AuthError::Token(TokenError::Credentials { .. } | TokenError::Slow { .. }) => {
            Some("the profile, role or metadata service that should give credentials failed: see above".to_owned())
        }
        AuthError::Token(TokenError::Refused { code, region, .. }) => Some(match code.as_str() {
            "AccessDeniedException" => "the identity needs ecr:GetAuthorizationToken on *".to_owned(),
            "ExpiredTokenException" | "ExpiredToken" => "the AWS credentials have expired: get new ones".to_owned(),
            "InvalidSignatureException" => format!(
                "look at the secret key, at this machine's clock, and at the spelling of the region {region} in the host"
            ),
            "UnrecognizedClientException" | "InvalidClientTokenId" => {
                "AWS doesn't know these credentials: look at the access key, the secret key and the session token".to_owned()
            }
            _ => format!("look at the AWS credentials for {region}"),
        }),
        AuthError::Token(TokenError::Unreachable { region, .. }) => Some(format!(
            "is {region} a region, and is its ECR API reachable from here (proxy, VPC endpoint `ecr.api`)?"
        )),
        AuthError::Config { .. } | AuthError::Unreadable { .. } => {
            Some("mend it, or name another with DOCKER_CONFIG or REGISTRY_AUTH_FILE".to_owned())
        }
        AuthError::Helper { helper, server, .. } => Some(format!("try it by hand: echo {server} | {helper} get")),
        AuthError::Realm { .. } if error.is_transient() => Some("try again later".to_owned()),
        AuthError::Realm { host, .. } => Some(format!("log in again: docker login {host}")),
        AuthError::Token(TokenError::Unavailable { .. }) => Some("AWS is having trouble: try again".to_owned()),
        AuthError::Token(TokenError::Empty { .. })
        | AuthError::Slow { .. }
        | AuthError::RealmUnreachable { .. }
        | AuthError::RealmInsecure { .. } => None,
    }
}

fn push_hint(error: &PushError) -> Option<String> {
    match error {
        PushError::Registry(error) => registry_hint(error),
        PushError::Upload(failure) => upload_hint(failure),
        PushError::Uploads { failures } => failures.iter().find_map(upload_hint),
        PushError::TagImmutable { .. } => Some("choose another tag: no one can move this one".to_owned()),
        PushError::TagMoved { .. } => Some("SOURCE was kept; find out who else writes this tag".to_owned()),
        PushError::NotThere { .. } => Some("SOURCE was kept; push again".to_owned()),
    }
}

fn upload_hint(error: &UploadError) -> Option<String> {
    match error {
        UploadError::Read(error) => match &**error {
            ReadError::Corrupt(_) => Some("this destination got no tag; build or copy the image again".to_owned()),
            ReadError::Unreadable { .. } | ReadError::Died(_) => None,
        },
        UploadError::Registry { source, .. } => registry_hint(source),
    }
}

fn registry_hint(error: &RegistryError) -> Option<String> {
    match error {
        RegistryError::Answered(answer) => Some(answer_hint(answer)),
        RegistryError::Unreachable { network, ecr, .. } => match network {
            Network::Name => Some("look at the spelling of the host, of the region in it above all".to_owned()),
            Network::NotTls => Some("it may speak http: --plain-http, or http:// in --registry-endpoint".to_owned()),
            Network::Tls => Some("--ca-file FILE trusts a private certificate authority".to_owned()),
            Network::Closed if *ecr => Some(
                "ECR closes connections when the repository or ecr:InitiateLayerUpload on it is missing".to_owned(),
            ),
            Network::Timeout => Some("--timeout SECONDS allows for a slower registry".to_owned()),
            Network::Connect => Some(
                "is the registry reachable from here (proxy, VPC endpoint `ecr.dkr`, --registry-endpoint)?".to_owned(),
            ),
            Network::Closed => None,
        },
        RegistryError::Stalled { .. } => Some("--timeout SECONDS allows for a slower line".to_owned()),
        RegistryError::Auth(error) => auth_hint(error),
        RegistryError::Persistent { last, .. } => registry_hint(last),
        RegistryError::Odd { .. } | RegistryError::Client(_) => None,
    }
}

fn answer_hint(answer: &Answer) -> String {
    match answer.meaning {
        Meaning::Unauthenticated if answer.asked.ecr => {
            "ECR doesn't take this token: are the credentials those of an account that may use this registry?"
                .to_owned()
        }
        Meaning::Unauthenticated => match &answer.asked.shown {
            Some(shown) => format!("it refuses the credentials of {shown}: docker login {} again", answer.asked.host),
            None => format!("log in first: docker login {} (or podman, or a credential helper)", answer.asked.host),
        },
        Meaning::TokenExpired => "the token was renewed and refused again: look at this machine's clock".to_owned(),
        Meaning::Denied if answer.asked.ecr => format!("the identity needs {} on this repository", action(answer)),
        Meaning::Denied => "the account that is logged in may not push there".to_owned(),
        Meaning::RepositoryMissing if answer.asked.ecr => create_hint(answer),
        Meaning::RepositoryMissing => "create it first".to_owned(),
        Meaning::TagImmutable => "choose another tag: no one can move this one".to_owned(),
        Meaning::TooLarge => "it is larger than this registry takes: make it smaller".to_owned(),
        Meaning::DigestRefused => "the registry doesn't take digests of this algorithm".to_owned(),
        Meaning::RateLimited => "wait a little, or push with fewer --jobs".to_owned(),
        Meaning::Unavailable | Meaning::SessionLost => {
            "the registry is having trouble: try again, or raise --retries".to_owned()
        }
        Meaning::UploadRefused | Meaning::ReferenceMissing | Meaning::NotFound | Meaning::Refused => {
            "the registry's words say what it doesn't take; -v shows every request".to_owned()
        }
    }
}

/// How the repository that is missing is made.
fn create_hint(answer: &Answer) -> String {
    let region = EcrHost::of(&answer.asked.host).map(|host| host.region).unwrap_or_default();
    let path = answer.url.split("/v2/").nth(1).unwrap_or_default();
    let ends = ["/manifests/", "/blobs/", "/referrers/"].iter().filter_map(|part| path.rfind(part));
    let name = &path[..ends.max().unwrap_or(path.len())];
    format!("create it first: aws ecr create-repository --region {region} --repository-name {name}")
}

/// The IAM action that a request needs (facts/ecr.md, Uploading a blob).
fn action(answer: &Answer) -> &'static str {
    let upload = answer.url.contains("/blobs/uploads/");
    match (answer.method, upload) {
        ("POST", _) => "ecr:InitiateLayerUpload",
        (_, true) => "ecr:UploadLayerPart and ecr:CompleteLayerUpload",
        ("PUT", false) => "ecr:PutImage",
        _ if answer.url.contains("/blobs/") => "ecr:BatchCheckLayerAvailability",
        _ => "ecr:BatchGetImage",
    }
}

fn cleanup_hint(error: &CleanupError) -> String {
    let what = match error {
        CleanupError::Withheld { .. } => "remove it by hand if these layers may go",
        CleanupError::Left { .. } | CleanupError::Kept { .. } => "remove what is named by hand",
        CleanupError::Layout(_)
        | CleanupError::NameMoved { .. }
        | CleanupError::Unclear { .. }
        | CleanupError::Locked { .. }
        | CleanupError::Busy { .. } => "look at the layout before you remove it",
    };
    format!("the image was pushed; {what}")
}
