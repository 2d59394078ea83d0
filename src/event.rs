//! What happens while a push runs, for whoever shows it.

use std::time::Duration;

use crate::doctor::Check;
use crate::image::Role;
use crate::oci::digest::Digest;
use crate::oci::reference::Repository;

/// Names one attempt at uploading one blob to one repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Attempt(pub u64);

/// How an attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// The blob is in the registry.
    Done,
    /// It isn't, and the attempt's bytes don't count.
    GivenUp,
    /// It isn't, and the attempt's bytes count as far as the registry says that it kept them: another attempt goes on there.
    Broken,
}

/// Something that happened.
#[derive(Debug, Clone)]
pub enum Event {
    /// SOURCE was read and is whole.
    Read {
        /// The root manifest's digest.
        digest: Digest,
        /// How many manifests there are.
        manifests: usize,
        /// How many blobs there are.
        blobs: usize,
        /// Bytes of all of them.
        bytes: u64,
    },
    /// Layers are compressed on their way to the registries, since nobody knows what they become. What is counted of them is
    /// what is read.
    Compressing {
        /// How many layers.
        layers: usize,
        /// Their bytes in SOURCE.
        bytes: u64,
        /// How many destinations get them meanwhile.
        destinations: usize,
    },
    /// A repository that was missing was made.
    Created {
        /// The repository.
        repository: Repository,
    },
    /// It is known what one repository lacks.
    Planned {
        /// The repository.
        repository: Repository,
        /// Blobs to upload.
        blobs: usize,
        /// Their bytes.
        bytes: u64,
        /// Whether these are the most: some of them may prove to be there when their upload is opened.
        at_most: bool,
        /// Blobs that are there already, as far as is known.
        present: usize,
    },
    /// A blob needn't be uploaded after all: its bytes are not to be sent any more.
    Spared {
        /// The repository.
        repository: Repository,
        /// The blob.
        digest: Digest,
        /// What it is in the image.
        role: Role,
        /// Its size in bytes.
        size: u64,
        /// The repository that it was mounted from; none if it was there already.
        from: Option<String>,
    },
    /// An attempt at uploading a blob begins.
    Started {
        /// The attempt.
        attempt: Attempt,
        /// The repository.
        repository: Repository,
        /// The blob.
        digest: Digest,
        /// What it is in the image.
        role: Role,
        /// Its size in bytes.
        size: u64,
        /// Bytes that earlier attempts brought there.
        from: u64,
    },
    /// An attempt has moved on.
    Moved {
        /// The attempt.
        attempt: Attempt,
        /// How many bytes more.
        bytes: u64,
    },
    /// An attempt is over.
    Ended {
        /// The attempt.
        attempt: Attempt,
        /// How.
        ending: Ending,
    },
    /// Something failed and will be tried again.
    Waiting {
        /// What was tried.
        what: String,
        /// Why it failed.
        why: String,
        /// How long until the next try.
        wait: Duration,
    },
    /// A manifest was written.
    Manifest {
        /// The repository.
        repository: Repository,
        /// Its digest.
        digest: Digest,
    },
    /// A tag is about to be written.
    Tagging {
        /// The repository.
        repository: Repository,
        /// The tag.
        tag: String,
    },
    /// A tag was written.
    Tagged {
        /// The repository.
        repository: Repository,
        /// The tag.
        tag: String,
    },
    /// Everything in one repository was read back.
    Verified {
        /// The repository.
        repository: Repository,
    },
    /// ECR's scan is waited for.
    Scanning {
        /// The repository.
        repository: Repository,
        /// How many images are scanned.
        images: usize,
    },
    /// The doctor has looked at something.
    Checked {
        /// What came of it.
        check: Check,
    },
    /// Something that the user should know.
    Warning {
        /// What.
        text: String,
    },
}

/// Takes events. Called from many threads, and never fails.
pub trait Reporter: Send + Sync {
    /// Takes one event.
    fn report(&self, event: &Event);
}
