//! Every error's exit status, and what to do next. The one place that says either.

mod advice;
mod archive;
mod engine;
mod hint;

use std::sync::Arc;

use thiserror::Error as ThisError;

use self::engine::engine_hint;
use self::hint::{auth_hint, cleanup_hint, layout_hint, push_hint, registry_hint, scan_hint, source_hint};
use crate::auth::AuthError;
use crate::aws::credentials::{CredentialsFailure, Place};
use crate::aws::failure::{ApiError, AwsMeaning};
use crate::aws::session::AwsError;
use crate::aws::token::TokenError;
use crate::cause::Cause;
use crate::cleanup::CleanupError;
use crate::oci::digest::Digest;
use crate::oci::manifest::ManifestError;
use crate::push::PushError;
use crate::push::reader::ReadError;
use crate::push::streams::MakeError;
use crate::push::upload::UploadError;
use crate::registry::failure::{Meaning, RegistryError};
use crate::repack::RepackError;
use crate::scan::ScanError;
use crate::source::SourceError;
use crate::source::archive::ArchiveError;
use crate::source::docker::DockerError;
use crate::source::engine::EngineError;
use crate::source::layout::LayoutError;
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
    /// Layers that are to be compressed.
    #[error(transparent)]
    Repack(#[from] RepackError),
    /// A manifest that was made can't be read again.
    #[error("the manifest that was made for the image can't be read")]
    Made(#[from] ManifestError),
    /// No layer failed, and one is lacking all the same.
    #[error("not every layer was compressed, and nothing says why")]
    Unmade,
    /// SOURCE, where an engine has it, or should.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// SOURCE, as a file that should be an archive.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// SOURCE, as a docker archive.
    #[error(transparent)]
    Docker(#[from] DockerError),
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
    /// ECR's scan.
    #[error(transparent)]
    Scan(#[from] ScanError),
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
    /// Clean-up was asked for together with platforms that aren't all.
    #[error("--cleanup would remove what --platform leaves out of {image}")]
    LeavesOutPlatforms {
        /// The image as it is in SOURCE.
        image: Digest,
    },
    /// Clean-up.
    #[error(transparent)]
    Cleanup(#[from] CleanupError),
    /// A thread died.
    #[error("a task ended unexpectedly")]
    Task(#[source] Cause),
    /// An option of layouts, where SOURCE is none.
    #[error("{option} is for OCI image layout folders, and SOURCE is not one")]
    OnlyLayouts {
        /// The option.
        option: &'static str,
    },
    /// Standard input, where something is to be removed.
    #[error("standard input leaves nothing to remove")]
    NothingToClean,
    /// The user stopped the run.
    #[error("interrupted")]
    Interrupted {
        /// Upload sessions that the registry didn't confirm to have closed.
        open: usize,
    },
}

/// Exit statuses, as the command line promises them.
pub(crate) mod status {
    pub(crate) const BUG: u8 = 1;
    pub(crate) const USAGE: u8 = 2;
    pub(crate) const SOURCE: u8 = 3;
    pub(crate) const DENIED: u8 = 4;
    pub(crate) const REFUSED: u8 = 5;
    pub(crate) const UNAVAILABLE: u8 = 6;
    pub(crate) const CLEANUP: u8 = 7;
    pub(crate) const FOUND: u8 = 9;
    pub(crate) const INTERRUPTED: u8 = 130;
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
                SourceError::Foreign { .. } | SourceError::EmptyChoice { .. } | SourceError::Digest(_) => status::USAGE,
            },
            Self::Layout(error) => match error {
                LayoutError::NoneChosen { .. }
                | LayoutError::NoSuchImage { .. }
                | LayoutError::AmbiguousName { .. }
                | LayoutError::Platform(_) => status::USAGE,
                LayoutError::NotAFolder { .. }
                | LayoutError::NoLayout { .. }
                | LayoutError::Unreadable { .. }
                | LayoutError::Locked { .. }
                | LayoutError::Malformed { .. }
                | LayoutError::Tar(_)
                | LayoutError::Version { .. }
                | LayoutError::IndexTooLarge { .. }
                | LayoutError::Empty { .. }
                | LayoutError::Defects { .. } => status::SOURCE,
            },
            Self::Repack(_) | Self::Archive(_) => status::SOURCE,
            Self::Engine(error) => engine_status(error),
            Self::Docker(error) => archive::docker_status(error),
            Self::Trust(_)
            | Self::DigestDiffers { .. }
            | Self::LeavesOut { .. }
            | Self::LeavesOutPlatforms { .. }
            | Self::OnlyLayouts { .. }
            | Self::NothingToClean => status::USAGE,
            Self::Auth(error) => auth_status(error),
            Self::Registry(error) => registry_status(error),
            Self::Push(error) => push_status(error),
            Self::Scan(error) => scan_status(error),
            // SIGINT's: which signal it was only whoever caught it knows.
            Self::Interrupted { .. }
            | Self::Cleanup(CleanupError::Interrupted { .. } | CleanupError::EngineInterrupted { .. }) => {
                status::INTERRUPTED
            }
            Self::Cleanup(_) => status::CLEANUP,
            Self::Task(_) | Self::Made(_) | Self::Unmade => status::BUG,
        }
    }

    /// What to do next, where that is known.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Source(error) => Some(source_hint(error)),
            Self::Layout(error) => layout_hint(error),
            Self::Engine(error) => engine_hint(error),
            Self::Archive(error) => archive::hint(error),
            Self::Docker(error) => archive::docker_hint(error),
            Self::Trust(_) | Self::Interrupted { .. } | Self::NothingToClean => None,
            Self::DigestDiffers { asked, .. } => {
                Some(format!("choose that image with DIR@{asked}, or leave the digest out of the destination"))
            }
            Self::OnlyLayouts { .. } => Some("leave the option out".to_owned()),
            Self::Auth(error) => auth_hint(error),
            Self::Registry(error) => registry_hint(error),
            Self::Push(error) => push_hint(error),
            Self::Scan(error) => scan_hint(error),
            Self::LeavesOut { .. } | Self::LeavesOutPlatforms { .. } => {
                Some("leave out one of the two options".to_owned())
            }
            Self::Cleanup(error) => Some(cleanup_hint(error)),
            Self::Repack(_) => Some("nothing was sent; build or save the image again".to_owned()),
            Self::Task(_) | Self::Made(_) | Self::Unmade => {
                Some("this is a bug in ecr-push: please report it".to_owned())
            }
        }
    }
}

fn engine_status(error: &EngineError) -> u8 {
    match error {
        EngineError::Malformed { .. }
        | EngineError::Ssh { .. }
        | EngineError::Context { .. }
        | EngineError::Unchecked { .. }
        | EngineError::Trust(_)
        | EngineError::Identity { .. }
        | EngineError::Name { .. }
        | EngineError::Ambiguous { .. }
        // What the engine itself can't take for a name.
        | EngineError::Answered { status: 400, .. } => status::USAGE,
        EngineError::Unreachable { .. }
        | EngineError::NotFound { .. }
        | EngineError::Gone { .. }
        | EngineError::InUse { .. }
        | EngineError::Answered { .. }
        | EngineError::Odd { .. }
        | EngineError::Cut { .. } => status::SOURCE,
    }
}

fn auth_status(error: &AuthError) -> u8 {
    match error {
        _ if error.is_transient() => status::UNAVAILABLE,
        AuthError::Token(TokenError::Aws(error)) => match aws_status(error) {
            // Whatever it says: without a token nobody is let in.
            status::REFUSED => status::DENIED,
            status => status,
        },
        AuthError::RealmUnreachable { .. } => status::UNAVAILABLE,
        AuthError::Token(TokenError::Empty { .. })
        | AuthError::Config { .. }
        | AuthError::Unreadable { .. }
        | AuthError::Slow { .. }
        | AuthError::Helper { .. }
        | AuthError::Realm { .. }
        | AuthError::RealmForeign { .. }
        | AuthError::RealmInsecure { .. } => status::DENIED,
    }
}

fn aws_status(error: &AwsError) -> u8 {
    match error {
        AwsError::Credentials(error) => match error {
            CredentialsFailure::Answered { answer, .. } => {
                if answer.meaning.is_transient() { status::UNAVAILABLE } else { status::DENIED }
            }
            // The machine's own endpoints have nothing but statuses to refuse with; what comes in AWS's place is no refusal.
            CredentialsFailure::Odd { place: Place::Instance | Place::Container, status: 400..500, .. }
            // Where it isn't reached it is not this machine's.
            | CredentialsFailure::Unreachable { metadata: true, .. }
            | CredentialsFailure::None { .. }
            | CredentialsFailure::Process { .. }
            | CredentialsFailure::Login { .. }
            | CredentialsFailure::Broken { .. } => status::DENIED,
            CredentialsFailure::Odd { .. }
            | CredentialsFailure::Nameless { .. }
            | CredentialsFailure::Unreachable { .. }
            | CredentialsFailure::Slow { .. } => status::UNAVAILABLE,
        },
        AwsError::Api(error) => match error {
            ApiError::Answered(answer) => meaning_status(answer.meaning),
            ApiError::Odd { .. } | ApiError::Unreachable { .. } | ApiError::Nameless { .. } => status::UNAVAILABLE,
        },
        AwsError::Client(_) => status::BUG,
    }
}

fn meaning_status(meaning: AwsMeaning) -> u8 {
    match meaning {
        AwsMeaning::Denied
        | AwsMeaning::Expired
        | AwsMeaning::Unknown
        | AwsMeaning::Signature
        | AwsMeaning::ClockSkew
        | AwsMeaning::RegionDisabled => status::DENIED,
        AwsMeaning::Throttled | AwsMeaning::Unavailable => status::UNAVAILABLE,
        AwsMeaning::RepositoryMissing
        | AwsMeaning::RepositoryExists
        | AwsMeaning::Quota
        | AwsMeaning::Kms
        | AwsMeaning::ImageMissing
        | AwsMeaning::ImageArchived
        | AwsMeaning::NotScanned
        | AwsMeaning::Unsupported
        | AwsMeaning::Invalid
        | AwsMeaning::Refused => status::REFUSED,
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
            | Meaning::Kms
            | Meaning::Quota
            | Meaning::ImageArchived
            | Meaning::NotFound
            | Meaning::Refused => status::REFUSED,
        },
        RegistryError::Shut { .. } => status::DENIED,
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
        PushError::Create { source, .. } | PushError::Layers { source, .. } => aws_status(source),
        PushError::TooLarge { .. }
        | PushError::TagImmutable { .. }
        | PushError::TagMoved { .. }
        | PushError::NotThere { .. } => status::REFUSED,
    }
}

fn scan_status(error: &ScanError) -> u8 {
    match error {
        ScanError::Aws { source, .. } => aws_status(source),
        ScanError::Off { refusal: Some(refusal), .. } if refusal.meaning() == Some(AwsMeaning::Denied) => {
            status::DENIED
        }
        ScanError::Slow { .. } => status::UNAVAILABLE,
        ScanError::Off { .. } | ScanError::Unsupported { .. } | ScanError::Failed { .. } => status::REFUSED,
        ScanError::Found { .. } => status::FOUND,
    }
}

fn upload_status(error: &UploadError) -> u8 {
    match error {
        UploadError::Read(error) => match &**error {
            ReadError::Corrupt(_) | ReadError::Unreadable { .. } => status::SOURCE,
            ReadError::Died(_) => status::BUG,
        },
        UploadError::Make(error) => match &**error {
            MakeError::Unreadable { .. }
            | MakeError::Packing { .. }
            | MakeError::Content { .. }
            | MakeError::Engine { .. }
            | MakeError::NotExported { .. } => status::SOURCE,
            MakeError::Died { .. } | MakeError::Record { .. } => status::BUG,
        },
        UploadError::Registry { source, .. } => registry_status(source),
    }
}
