//! ECR's scan of one image: what it has found by now, and starting it.
//!
//! Waits for nothing; that is [`crate::scan`]'s.

use std::collections::BTreeMap;
use std::fmt;

use aws_sdk_ecr::types as ecr;

use super::host::EcrRegistry;
use super::session::{AwsError, AwsSession};
use crate::oci::digest::Digest;

/// ECR's severities, the lowest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// None was given, or not yet.
    Undefined,
    /// For information.
    Informational,
    /// Low.
    Low,
    /// Medium.
    Medium,
    /// High.
    High,
    /// Critical.
    Critical,
}

impl Severity {
    /// All of them, the highest first.
    pub const ALL: [Self; 6] =
        [Self::Critical, Self::High, Self::Medium, Self::Low, Self::Informational, Self::Undefined];

    /// What ECR's or Inspector's word stands for. Inspector says `UNTRIAGED` of what nobody has looked at yet.
    #[must_use]
    pub fn read(word: &str) -> Self {
        let said = |severity: &Self| word.eq_ignore_ascii_case(severity.word());
        Self::ALL.into_iter().find(said).unwrap_or(Self::Undefined)
    }

    /// Its word, in lower case.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Undefined => "undefined",
            Self::Informational => "informational",
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
            Self::Critical => "critical",
        }
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// Something that a scan has found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What it is called: `CVE-2024-3094`.
    pub name: String,
    /// How bad it is.
    pub severity: Severity,
    /// The package that has it.
    pub package: Option<String>,
    /// The package's version.
    pub version: Option<String>,
    /// The version that hasn't got it any more.
    pub fixed_in: Option<String>,
}

/// What a scan's status means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScanState {
    /// It goes on, or hasn't begun.
    Pending,
    /// Its findings are there. Inspector's scans never end: they are there from `ACTIVE` on (facts/ecr.md, Scans).
    Done,
    /// ECR can't scan such an image.
    Unsupported,
    /// It has come to nothing.
    Failed,
}

/// A scan, as far as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scan {
    /// What its status means.
    pub state: ScanState,
    /// ECR's word for it.
    pub status: String,
    /// What ECR says of it.
    pub description: Option<String>,
    /// What it has found, the worst first; empty before it is done.
    pub findings: Vec<Finding>,
    /// How many there are of each severity, by ECR's own count.
    pub counts: BTreeMap<Severity, usize>,
}

/// What the scan of the image `digest` has found by now.
///
/// # Errors
/// When AWS refuses, has no scan of it, or can't be asked.
pub async fn describe(session: &AwsSession, repository: &str, digest: &Digest) -> Result<Scan, AwsError> {
    let mut scan: Option<Scan> = None;
    let mut next: Option<String> = None;
    loop {
        let asking = session.ask("ecr:DescribeImageScanFindings", || async {
            let request = session.ecr().await?.describe_image_scan_findings();
            let request = request.set_registry_id(account(session)).repository_name(repository);
            Ok(request.image_id(image_id(digest)).set_next_token(next.clone()).send().await)
        });
        let page = asking.await?;
        let scan = scan.get_or_insert_with(|| opened(page.image_scan_status.as_ref()));
        // Inspector's status is ahead of its findings at first: an empty list without a date is none yet.
        let first = next.is_none();
        if first && scan.state == ScanState::Done && page.image_scan_findings.as_ref().is_none_or(is_unsettled) {
            scan.state = ScanState::Pending;
        }
        let found = page.image_scan_findings.filter(|_| scan.state == ScanState::Done);
        if let Some(found) = found {
            scan.findings.extend(found.findings().iter().map(basic));
            scan.findings.extend(found.enhanced_findings().iter().map(enhanced));
            for (severity, count) in found.finding_severity_counts.unwrap_or_default() {
                let count = usize::try_from(count).unwrap_or_default();
                scan.counts.insert(Severity::read(severity.as_str()), count);
            }
        }
        next = page.next_token.filter(|token| !token.is_empty() && scan.state == ScanState::Done);
        if next.is_none() {
            scan.findings.sort_by(|a, b| b.severity.cmp(&a.severity).then_with(|| a.name.cmp(&b.name)));
            return Ok(scan.clone());
        }
    }
}

/// Starts the scan of the image `digest`, which is possible once in 24 hours (facts/ecr.md, Scans).
///
/// # Errors
/// When AWS refuses, or can't be asked.
pub async fn start(session: &AwsSession, repository: &str, digest: &Digest) -> Result<(), AwsError> {
    let asking = session.ask("ecr:StartImageScan", || async {
        let request = session.ecr().await?.start_image_scan();
        let request = request.set_registry_id(account(session)).repository_name(repository);
        Ok(request.image_id(image_id(digest)).send().await)
    });
    asking.await.map(drop)
}

fn account(session: &AwsSession) -> Option<String> {
    match session.registry() {
        EcrRegistry::Private(host) => Some(host.account.clone()),
        EcrRegistry::Public => None,
    }
}

fn image_id(digest: &Digest) -> ecr::ImageIdentifier {
    ecr::ImageIdentifier::builder().image_digest(digest.as_str()).build()
}

fn opened(status: Option<&ecr::ImageScanStatus>) -> Scan {
    let word = status.and_then(ecr::ImageScanStatus::status);
    let description = status.and_then(ecr::ImageScanStatus::description).unwrap_or_default();
    let state = match word {
        Some(ecr::ScanStatus::Complete | ecr::ScanStatus::Active) => ScanState::Done,
        Some(ecr::ScanStatus::InProgress | ecr::ScanStatus::Pending) | None => ScanState::Pending,
        Some(ecr::ScanStatus::UnsupportedImage) => ScanState::Unsupported,
        // Basic scanning has only these words for it.
        Some(ecr::ScanStatus::Failed) if description.starts_with("UnsupportedImageError") => ScanState::Unsupported,
        Some(_) => ScanState::Failed,
    };
    Scan {
        state,
        status: word.map_or("no status", ecr::ScanStatus::as_str).to_owned(),
        description: status.and_then(ecr::ImageScanStatus::description).map(str::to_owned),
        findings: Vec::new(),
        counts: BTreeMap::new(),
    }
}

/// Whether a list of findings is empty because nobody has looked yet (aws/aws-sdk#289).
fn is_unsettled(found: &ecr::ImageScanFindings) -> bool {
    let listed = found.findings().len() + found.enhanced_findings().len();
    let counted = found.finding_severity_counts.as_ref().is_some_and(|counts| !counts.is_empty());
    found.image_scan_completed_at.is_none() && listed == 0 && !counted
}

/// One of ECR's own.
fn basic(finding: &ecr::ImageScanFinding) -> Finding {
    let attribute = |key: &str| {
        let found = finding.attributes().iter().find(|attribute| attribute.key() == key);
        found.and_then(ecr::Attribute::value).map(str::to_owned)
    };
    Finding {
        name: finding.name().unwrap_or("without a name").to_owned(),
        severity: finding.severity().map_or(Severity::Undefined, |severity| Severity::read(severity.as_str())),
        package: attribute("package_name"),
        version: attribute("package_version"),
        fixed_in: attribute("patched_package_version"),
    }
}

/// One of Inspector's.
fn enhanced(finding: &ecr::EnhancedImageScanFinding) -> Finding {
    let details = finding.package_vulnerability_details();
    let package = details.and_then(|details| details.vulnerable_packages().first());
    let id = details.and_then(ecr::PackageVulnerabilityDetails::vulnerability_id);
    Finding {
        name: id.or(finding.title()).unwrap_or("without a name").to_owned(),
        severity: finding.severity().map_or(Severity::Undefined, Severity::read),
        package: package.and_then(ecr::VulnerablePackage::name).map(str::to_owned),
        version: package.and_then(ecr::VulnerablePackage::version).map(str::to_owned),
        fixed_in: package.and_then(ecr::VulnerablePackage::fixed_in_version).map(str::to_owned),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn severities() {
        let check = |word: &str, expected| assert_eq!(Severity::read(word), expected, "{word}");
        check("CRITICAL", Severity::Critical);
        check("High", Severity::High);
        check("MEDIUM", Severity::Medium);
        check("LOW", Severity::Low);
        check("INFORMATIONAL", Severity::Informational);
        check("UNDEFINED", Severity::Undefined);
        check("UNTRIAGED", Severity::Undefined);
        assert!(Severity::ALL.is_sorted_by(|a, b| a > b));
    }

    #[test]
    fn states() {
        let check = |word: &str, expected| {
            let status = ecr::ImageScanStatus::builder().status(word.into()).build();
            assert_eq!(opened(Some(&status)).state, expected, "{word}");
        };
        check("COMPLETE", ScanState::Done);
        check("ACTIVE", ScanState::Done);
        check("IN_PROGRESS", ScanState::Pending);
        check("PENDING", ScanState::Pending);
        check("UNSUPPORTED_IMAGE", ScanState::Unsupported);
        check("FAILED", ScanState::Failed);
        check("SCAN_ELIGIBILITY_EXPIRED", ScanState::Failed);
        check("FINDINGS_UNAVAILABLE", ScanState::Failed);
        check("LIMIT_EXCEEDED", ScanState::Failed);
        check("IMAGE_ARCHIVED", ScanState::Failed);
        check("WHATEVER_COMES", ScanState::Failed);
        assert_eq!(opened(None).state, ScanState::Pending);
    }
}
