//! What became of a push: of each digest, tag and destination, and of SOURCE.

use crate::cleanup::Cleaned;
use crate::error::Error;
use crate::oci::descriptor::MediaType;
use crate::oci::digest::Digest;
use crate::oci::reference::{Repository, Tag};
use crate::push::{Count, TagOutcome};
use crate::scan::ImageScan;

/// What became of one destination.
#[derive(Debug)]
pub struct DestinationReport {
    /// The repository.
    pub repository: Repository,
    /// Whether it was made by this run.
    pub created: bool,
    /// Its tags, each with what became of it.
    pub tags: Vec<(Tag, TagOutcome)>,
    /// Blobs that were uploaded.
    pub uploaded: Count,
    /// Blobs that were mounted from other repositories.
    pub mounted: Count,
    /// Blobs that were there already.
    pub present: Count,
    /// How many manifests were written.
    pub manifests: usize,
    /// Referrers of the image, each with whether it was written now.
    pub referrers: Vec<(Digest, bool)>,
    /// ECR's scan of each image that can run, if it was waited for.
    pub scans: Vec<ImageScan>,
    /// Why the scan doesn't let the run succeed, if it doesn't. The image is there all the same.
    pub scan_error: Option<Error>,
    /// Why it hasn't got the image, if it hasn't.
    pub error: Option<Error>,
}

impl DestinationReport {
    /// The exit status, if it isn't success.
    #[must_use]
    pub fn status(&self) -> Option<u8> {
        self.error.as_ref().or(self.scan_error.as_ref()).map(Error::status)
    }
}

/// What became of SOURCE.
#[derive(Debug)]
pub enum Cleanup {
    /// Nobody asked for it.
    NotAsked,
    /// It was kept, because a destination failed.
    NotDone,
    /// The image is gone from it.
    Done(Cleaned),
    /// Something is left.
    Failed(Error),
    /// A signal came before it was over, or before it began.
    Interrupted {
        /// What is left.
        error: Error,
        /// The exit status that the signal asks for.
        status: u8,
    },
}

/// The image that was pushed.
#[derive(Debug, Clone)]
pub struct Root {
    /// The root manifest's digest.
    pub digest: Digest,
    /// Its media type.
    pub media_type: MediaType,
    /// Bytes of all manifests and blobs.
    pub size: u64,
}

/// What became of a push.
#[derive(Debug)]
pub struct Report {
    /// The image; `None` where everything failed before its layers were compressed, and so before it was known.
    pub root: Option<Root>,
    /// Each destination, in the order of the command line.
    pub destinations: Vec<DestinationReport>,
    /// What became of SOURCE.
    pub cleanup: Cleanup,
}

impl Report {
    /// The lines of standard output: a digest reference for each destination that has the image. One whose scan found too
    /// much has it.
    pub fn lines(&self) -> impl Iterator<Item = String> {
        let good = self.destinations.iter().filter(|destination| destination.error.is_none());
        let root = self.root.as_ref();
        good.filter_map(move |destination| Some(format!("{}@{}", destination.repository, root?.digest)))
    }

    /// Takes in which signal it was that the clean-up was interrupted by, if it was.
    pub fn interrupted_by(&mut self, signal: u8) {
        if let Cleanup::Interrupted { status, .. } = &mut self.cleanup {
            *status = signal;
        }
    }

    /// The exit status: that of the first destination that failed, else that of the clean-up.
    #[must_use]
    pub fn status(&self) -> u8 {
        let failed = self.destinations.iter().find_map(DestinationReport::status);
        match (failed, &self.cleanup) {
            (Some(status), _) => status,
            (None, Cleanup::Failed(error)) => error.status(),
            (None, Cleanup::Interrupted { status, .. }) => *status,
            (None, _) => 0,
        }
    }
}
