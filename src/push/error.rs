//! Why a destination hasn't got the image, in words.

use thiserror::Error;

use super::streams::MakeError;
use super::upload::UploadError;
use crate::aws::session::AwsError;
use crate::cause::chain;
use crate::oci::digest::{Algorithm, Digest};
use crate::registry::failure::RegistryError;

/// Why a destination hasn't got the image.
#[derive(Debug, Error)]
pub enum PushError {
    /// A request failed.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// Blobs failed.
    #[error("{} blobs could not be uploaded:{}", failures.len(), lines(failures))]
    Uploads {
        /// Each of them.
        failures: Vec<UploadError>,
    },
    /// One blob failed.
    #[error(transparent)]
    Upload(UploadError),
    /// An immutable tag is taken by another image.
    #[error("the tag {reference} is immutable and names {theirs}, not {ours}")]
    TagImmutable {
        /// The tag's full name.
        reference: String,
        /// The digest that was pushed.
        ours: Digest,
        /// The digest that it names.
        theirs: Digest,
    },
    /// The repository couldn't be made.
    #[error("the repository {repository} is missing and could not be created")]
    Create {
        /// Its full name.
        repository: String,
        /// Why.
        source: AwsError,
    },
    /// ECR's API doesn't say which blobs are there, and the registry wouldn't either.
    #[error("it can't be asked which blobs {repository} has")]
    Layers {
        /// Its full name.
        repository: String,
        /// Why.
        source: AwsError,
    },
    /// A layer is larger than ECR takes.
    #[error("the layer {digest} has {size} bytes, and this registry takes {limit}")]
    TooLarge {
        /// The layer.
        digest: Digest,
        /// Its size in bytes.
        size: u64,
        /// The registry's limit in bytes.
        limit: u64,
    },
    /// A tag names something else than what was just written to it.
    #[error("{reference} names {theirs} after {ours} was written to it: somebody else moved it")]
    TagMoved {
        /// The tag's full name.
        reference: String,
        /// The digest that was pushed.
        ours: Digest,
        /// The digest that it names.
        theirs: Digest,
    },
    /// What was written can't be read.
    #[error("{reference} is not there, although the registry acknowledged it")]
    NotThere {
        /// Its full name.
        reference: String,
    },
}

impl PushError {
    /// Whether it is no more than that a layer has become something else than the record says.
    pub(crate) fn is_of_record(&self) -> bool {
        let is_it = |error: &UploadError| matches!(error, UploadError::Make(error) if matches!(**error, MakeError::Record { .. }));
        match self {
            Self::Upload(error) => is_it(error),
            Self::Uploads { failures } => failures.iter().any(is_it),
            _ => false,
        }
    }

    /// What these failures amount to, if there are any.
    pub(super) fn of(mut failures: Vec<UploadError>) -> Option<Self> {
        if failures.len() > 1 { Some(Self::Uploads { failures }) } else { failures.pop().map(Self::Upload) }
    }
}

/// The failures, those with the same cause in one line.
fn lines(failures: &[UploadError]) -> String {
    let mut lines: Vec<(String, Vec<String>)> = Vec::new();
    for failure in failures {
        let (cause, blob) = match failure {
            UploadError::Registry { digest, source } => (chain(source), named(digest)),
            UploadError::Read(error) => (chain(&**error), String::new()),
            UploadError::Make(error) => (chain(&**error), String::new()),
        };
        match lines.iter_mut().find(|(known, _)| *known == cause) {
            Some((_, blobs)) => blobs.push(blob),
            None => lines.push((cause, vec![blob])),
        }
    }
    // Which of them failed first is a matter of luck.
    for (_, blobs) in &mut lines {
        blobs.sort_unstable();
    }
    let line = |(cause, blobs): &(String, Vec<String>)| match blobs.join(", ").as_str() {
        "" => format!("\n  {cause}"),
        blobs => format!("\n  {blobs}: {cause}"),
    };
    lines.iter().map(line).collect()
}

/// A digest in short; which kind it is matters where it isn't the usual one.
fn named(digest: &Digest) -> String {
    match digest.algorithm() {
        Algorithm::Sha256 => digest.short().to_owned(),
        Algorithm::Sha512 => format!("sha512:{}", digest.short()),
    }
}
