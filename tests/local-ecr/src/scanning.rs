//! Scans: what finds what, and how long it takes (facts/ecr.md, Scans).

use std::collections::BTreeMap;

use crate::builder::Builder;

/// Who scans images, and when.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Scanning {
    /// ECR, when it is asked to, and in repositories that scan on push. Such scans end in `COMPLETE`.
    #[default]
    Manual,
    /// ECR, everything that is pushed.
    Basic,
    /// Inspector, everything that is pushed, and for ever: such scans end in `ACTIVE`.
    Enhanced,
}

/// How scans end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ScanEnd {
    /// With findings, `COMPLETE` or `ACTIVE`.
    #[default]
    Done,
    /// `FAILED`.
    Failed,
    /// `UNSUPPORTED_IMAGE`, as those of indexes end always.
    UnsupportedImage,
    /// `SCAN_ELIGIBILITY_EXPIRED`.
    EligibilityExpired,
    /// `FINDINGS_UNAVAILABLE`.
    FindingsUnavailable,
    /// `LIMIT_EXCEEDED`.
    LimitExceeded,
    /// `IMAGE_ARCHIVED`.
    ImageArchived,
}

impl ScanEnd {
    /// Its status and what ECR says of it.
    pub(crate) fn status(self, scanning: Scanning) -> (&'static str, &'static str) {
        match self {
            Self::Done if scanning == Scanning::Enhanced => ("ACTIVE", "Continuous scan is selected for image."),
            Self::Done => ("COMPLETE", "The scan was completed successfully."),
            Self::Failed => ("FAILED", "The scan failed."),
            Self::UnsupportedImage => (
                "UNSUPPORTED_IMAGE",
                "UnsupportedImageError: The operating system and/or package manager are not supported.",
            ),
            Self::EligibilityExpired => ("SCAN_ELIGIBILITY_EXPIRED", "The scan eligibility of the image has expired."),
            Self::FindingsUnavailable => {
                ("FINDINGS_UNAVAILABLE", "There are no scan findings available for the image.")
            }
            Self::LimitExceeded => ("LIMIT_EXCEEDED", "The limit of continuously scanned images has been exceeded."),
            Self::ImageArchived => ("IMAGE_ARCHIVED", "The image has been archived."),
        }
    }
}

/// Something that a scan finds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What it is called: `CVE-2024-3094`.
    pub name: String,
    /// How bad it is: `CRITICAL`, `HIGH`, `MEDIUM`, `LOW`, `INFORMATIONAL`, `UNDEFINED`; `UNTRIAGED` says only Inspector.
    pub severity: String,
    /// The package that has it.
    pub package: String,
    /// The package's version.
    pub version: String,
    /// The version that hasn't got it any more.
    pub fixed_in: Option<String>,
}

impl Finding {
    /// One of this name and severity, in a package.
    #[must_use]
    pub fn new(name: &str, severity: &str, package: &str, version: &str) -> Self {
        let [name, severity, package, version] = [name, severity, package, version].map(str::to_owned);
        Self { name, severity, package, version, fixed_in: None }
    }

    /// With a version that hasn't got it any more.
    #[must_use]
    pub fn fixed_in(self, version: &str) -> Self {
        Self { fixed_in: Some(version.to_owned()), ..self }
    }
}

/// How scans go.
#[derive(Clone, Debug, Default)]
pub(crate) struct Settings {
    pub(crate) scanning: Scanning,
    polls: u32,
    /// Questions that are answered as if nobody knew of the scan, and with its end before anything is found.
    lag: u32,
    unsettled: u32,
    pub(crate) end: ScanEnd,
    /// For all images, and for one by digest.
    findings: Vec<Finding>,
    findings_in: BTreeMap<String, Vec<Finding>>,
}

impl Settings {
    /// What is found in an image.
    pub(crate) fn findings(&self, digest: &str) -> Vec<&Finding> {
        self.findings.iter().chain(self.findings_in.get(digest).into_iter().flatten()).collect()
    }

    /// A scan that has just begun.
    pub(crate) fn begin(&self) -> Scan {
        Scan { lag: self.lag, polls: self.polls, unsettled: self.unsettled }
    }
}

/// One image's scan.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scan {
    /// Questions to which it is still unknown.
    lag: u32,
    /// Questions that are still answered without its end.
    polls: u32,
    /// Questions that are still answered with its end, and an empty list.
    unsettled: u32,
}

/// How far a scan is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    Unknown,
    Running,
    /// Its status is that of the end, and what it has found isn't there yet.
    Unsettled,
    Ended,
}

impl Scan {
    /// How far it is; counts the question.
    pub(crate) fn poll(&mut self) -> Stage {
        let stages = [
            (&mut self.lag, Stage::Unknown),
            (&mut self.polls, Stage::Running),
            (&mut self.unsettled, Stage::Unsettled),
        ];
        for (left, stage) in stages {
            if *left > 0 {
                *left -= 1;
                return stage;
            }
        }
        Stage::Ended
    }
}

/// Scans.
impl Builder {
    /// Who scans images, and when; ECR unless set, and when asked to.
    pub fn scanning(self, scanning: Scanning) -> Self {
        self.set(|config| config.scanning.scanning = scanning)
    }

    /// Questions about a scan that are answered with `IN_PROGRESS`, or `PENDING` by Inspector, before it has ended.
    pub fn scan_polls(self, polls: u32) -> Self {
        self.set(|config| config.scanning.polls = polls)
    }

    /// Questions about an image that was just pushed to which no scan of it is known yet.
    pub fn scan_lag(self, polls: u32) -> Self {
        self.set(|config| config.scanning.lag = polls)
    }

    /// Questions that are answered with the status of the end and an empty list, before what was found is there, as
    /// Inspector does it (aws/aws-sdk#289).
    pub fn scan_unsettled(self, polls: u32) -> Self {
        self.set(|config| config.scanning.unsettled = polls)
    }

    /// How scans end.
    pub fn scan_ends(self, end: ScanEnd) -> Self {
        self.set(|config| config.scanning.end = end)
    }

    /// Something that scans find in every image, but not in indexes.
    pub fn finding(self, finding: Finding) -> Self {
        self.set(|config| config.scanning.findings.push(finding))
    }

    /// Something that scans find in the image with this digest.
    pub fn finding_in(self, digest: &str, finding: Finding) -> Self {
        self.set(|config| config.scanning.findings_in.entry(digest.to_owned()).or_default().push(finding))
    }
}
