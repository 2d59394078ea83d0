//! Waits for ECR's scan of what was pushed, and says whether it found too much.

use std::collections::BTreeMap;
use std::time::Duration;

use thiserror::Error;
use tokio::time::Instant;

use crate::aws::failure::AwsMeaning;
use crate::aws::scan::{self, Finding, ScanState, Severity};
use crate::aws::session::{AwsError, AwsSession};
use crate::cause::chain;
use crate::event::{Event, Reporter};
use crate::image::Image;
use crate::oci::descriptor::Platform;
use crate::oci::digest::Digest;
use crate::oci::reference::Repository;

/// How a scan is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ScanWait {
    /// The severity from which on a finding fails the run; none for a look alone.
    pub fail_at: Option<Severity>,
    /// A bound on waiting.
    pub bound: Duration,
}

/// Why a scan doesn't let a run succeed.
#[derive(Debug, Error)]
pub enum ScanError {
    /// AWS doesn't tell.
    #[error("the scan of {image} can't be looked at")]
    Aws {
        /// The image.
        image: String,
        /// Why.
        source: AwsError,
    },
    /// Nobody scans it.
    #[error("{image} is not scanned: no scan was started when it was pushed{}", why(refusal.as_ref()))]
    Off {
        /// The image.
        image: String,
        /// Why none could be started now.
        refusal: Option<AwsError>,
    },
    /// It takes too long.
    #[error("the scan of {image} is still {status} after {seconds} s")]
    Slow {
        /// The image.
        image: String,
        /// ECR's word for how far it is.
        status: String,
        /// The bound.
        seconds: u64,
    },
    /// ECR can't scan it.
    #[error("ECR can't scan {image}: {status}{}", said(description.as_ref()))]
    Unsupported {
        /// The image.
        image: String,
        /// ECR's word.
        status: String,
        /// What ECR says of it.
        description: Option<String>,
    },
    /// It has come to nothing.
    #[error("the scan of {image} has come to nothing: {status}{}", said(description.as_ref()))]
    Failed {
        /// The image.
        image: String,
        /// ECR's word.
        status: String,
        /// What ECR says of it.
        description: Option<String>,
    },
    /// It has found too much.
    #[error("the scan found {number} of severity {at} or above{}", worst(name.as_deref(), *number))]
    Found {
        /// How many findings there are of that severity or a higher one.
        number: usize,
        /// The severity.
        at: Severity,
        /// The worst one that is listed.
        name: Option<String>,
    },
}

fn why(refusal: Option<&AwsError>) -> String {
    refusal.map(|error| format!(", and none can be started now: {error}")).unwrap_or_default()
}

fn said(description: Option<&String>) -> String {
    description.map(|description| format!(" ({description})")).unwrap_or_default()
}

fn worst(name: Option<&str>, number: usize) -> String {
    match name {
        None => ", without listing them".to_owned(),
        Some(name) if number == 1 => format!(": {name}"),
        Some(name) => format!(", {name} among them"),
    }
}

/// The scan of one image.
#[derive(Debug)]
pub struct ImageScan {
    /// The image.
    pub digest: Digest,
    /// Its platform, if an index names one.
    pub platform: Option<Platform>,
    /// ECR's word for how the scan ended; none if that can't be known.
    pub status: Option<String>,
    /// What it has found, the worst first.
    pub findings: Vec<Finding>,
    /// How many there are of each severity, by ECR's own count.
    pub counted: BTreeMap<Severity, usize>,
    /// Why there is nothing to be seen, if there isn't.
    pub error: Option<String>,
}

impl ImageScan {
    /// How many findings there are of this severity: as many as are listed, or as ECR counts, whichever is more.
    #[must_use]
    pub fn count(&self, severity: Severity) -> usize {
        let listed = self.findings.iter().filter(|finding| finding.severity == severity).count();
        listed.max(self.counted.get(&severity).copied().unwrap_or_default())
    }
}

/// The scans of all images of one destination.
#[derive(Debug)]
pub struct Scanned {
    /// Each image that can run; an index has several.
    pub images: Vec<ImageScan>,
    /// Why the run doesn't succeed, if it doesn't.
    pub error: Option<ScanError>,
}

/// Waits until every image of `image` has been scanned in `repository`, or `wait` says that it is enough.
///
/// An index itself is never scanned: its findings are its children's (facts/ecr.md, Scans). One of several that ECR can't
/// scan is noted and passed over.
pub async fn wait(
    session: &AwsSession,
    repository: &Repository,
    image: &Image,
    wait: ScanWait,
    reporter: &dyn Reporter,
) -> Scanned {
    let runnable = image.runnable();
    let several = runnable.len() > 1;
    reporter.report(&Event::Scanning { repository: repository.clone(), images: runnable.len() });
    let waiting = runnable.into_iter().map(async |(digest, platform)| {
        let name = match platform.filter(|_| several) {
            Some(platform) => format!("{repository}@{digest} ({platform})"),
            None => format!("{repository}@{digest}"),
        };
        let image = |error: Option<String>| ImageScan {
            digest: digest.clone(),
            platform: platform.cloned(),
            status: None,
            findings: Vec::new(),
            counted: BTreeMap::new(),
            error,
        };
        match watch(session, &repository.name, digest, &name, wait.bound).await {
            Ok(scan::Scan { status, findings, counts, .. }) => {
                (ImageScan { status: Some(status), findings, counted: counts, ..image(None) }, None)
            }
            Err(error) => (image(Some(chain(&error))), Some(error)),
        }
    });
    let (images, errors) = futures_util::future::join_all(waiting).await.into_iter().unzip::<_, _, Vec<_>, Vec<_>>();
    let error = verdict(&images, errors, wait.fail_at);
    Scanned { images, error }
}

/// Why the scans of these images don't let a run succeed, if they don't; `errors` has one for each that can't be seen.
fn verdict(images: &[ImageScan], errors: Vec<Option<ScanError>>, fail_at: Option<Severity>) -> Option<ScanError> {
    let unsupported = |error: &Option<ScanError>| matches!(error, Some(ScanError::Unsupported { .. }));
    let none_supported = errors.iter().all(unsupported);
    let fatal = errors.into_iter().filter(|error| none_supported || !unsupported(error)).flatten().next();
    if fatal.is_some() {
        return fatal;
    }
    let at = fail_at?;
    let bad = Severity::ALL.into_iter().filter(|severity| *severity >= at);
    let number: usize = bad.flat_map(|severity| images.iter().map(move |image| image.count(severity))).sum();
    let listed = images.iter().flat_map(|image| &image.findings).filter(|finding| finding.severity >= at);
    let name = listed.max_by_key(|finding| finding.severity).map(|finding| finding.name.clone());
    (number > 0).then_some(ScanError::Found { number, at, name })
}

/// For how long an image that was just pushed may be unknown to the scanner: Inspector has been seen to take half of that.
const LAG: Duration = Duration::from_mins(1);

/// How long to wait before the next look, when the first one is so long ago. Basic scans take seconds, Inspector's minutes.
fn pause(elapsed: Duration) -> Duration {
    match elapsed.as_secs() {
        0..5 => Duration::from_secs(1),
        5..60 => Duration::from_secs(3),
        _ => Duration::from_secs(10),
    }
}

/// Looks at one image's scan until it is done, or for as long as it may take.
async fn watch(
    session: &AwsSession,
    repository: &str,
    digest: &Digest,
    name: &str,
    bound: Duration,
) -> Result<scan::Scan, ScanError> {
    let mut status = "unknown to ECR".to_owned();
    // The questions have bounds of their own, which are larger.
    let looking = tokio::time::timeout(bound, look(session, repository, digest, name, bound, &mut status)).await;
    looking.unwrap_or_else(|_| Err(ScanError::Slow { image: name.to_owned(), status, seconds: bound.as_secs() }))
}

/// Looks again and again; starts a scan where nobody has. `status` is ECR's last word.
async fn look(
    session: &AwsSession,
    repository: &str,
    digest: &Digest,
    name: &str,
    bound: Duration,
    status: &mut String,
) -> Result<scan::Scan, ScanError> {
    let since = Instant::now();
    // In time to say why, and not only that it took too long.
    let lag = LAG.min(bound / 2);
    let mut started: Option<Result<(), AwsError>> = None;
    loop {
        match scan::describe(session, repository, digest).await {
            Ok(scan) => match scan.state {
                ScanState::Done => return Ok(scan),
                ScanState::Pending => *status = scan.status,
                ScanState::Unsupported => {
                    let (image, scan::Scan { status, description, .. }) = (name.to_owned(), scan);
                    return Err(ScanError::Unsupported { image, status, description });
                }
                ScanState::Failed => {
                    let (image, scan::Scan { status, description, .. }) = (name.to_owned(), scan);
                    return Err(ScanError::Failed { image, status, description });
                }
            },
            Err(source) => match source.meaning() {
                // Either ECR has just not noticed the push yet, or the repository is not set to scan what is pushed. To
                // start a scan is right in both cases; where that isn't possible only the first one is worth waiting for.
                Some(AwsMeaning::NotScanned) => {
                    if !matches!(started, Some(Ok(()))) && !started.as_ref().is_some_and(is_final) {
                        started = Some(scan::start(session, repository, digest).await);
                    }
                    if started.as_ref().is_some_and(is_final) && since.elapsed() >= lag {
                        let refusal = started.and_then(Result::err);
                        return Err(ScanError::Off { image: name.to_owned(), refusal });
                    }
                }
                Some(AwsMeaning::ImageMissing) if since.elapsed() < lag => {}
                Some(meaning) if meaning.is_transient() => {}
                _ => return Err(ScanError::Aws { image: name.to_owned(), source }),
            },
        }
        tokio::time::sleep(pause(since.elapsed())).await;
    }
}

/// Whether there is no use in starting a scan once more.
fn is_final(started: &Result<(), AwsError>) -> bool {
    started.as_ref().is_err_and(|error| error.meaning().is_some_and(|meaning| !meaning.is_transient()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::digest::Algorithm;

    fn scan(severities: &[Severity]) -> ImageScan {
        let finding = |severity: &Severity| Finding {
            name: format!("CVE-{severity}"),
            severity: *severity,
            package: None,
            version: None,
            fixed_in: None,
        };
        let (digest, findings) = (Digest::of(Algorithm::Sha256, b""), severities.iter().map(finding).collect());
        ImageScan { digest, platform: None, status: None, findings, counted: BTreeMap::new(), error: None }
    }

    #[test]
    fn verdicts() {
        let check = |images: &[ImageScan], errors, fail_at, expected: Option<&str>| {
            let error = verdict(images, errors, fail_at).map(|error| error.to_string());
            assert_eq!(error.as_deref(), expected);
        };
        let none = || vec![None, None];
        let two = [scan(&[Severity::Low]), scan(&[Severity::High, Severity::Medium])];
        check(&two, none(), None, None);
        check(&two, none(), Some(Severity::Critical), None);
        check(&two, none(), Some(Severity::High), Some("the scan found 1 of severity high or above: CVE-high"));
        check(
            &two,
            none(),
            Some(Severity::Low),
            Some("the scan found 3 of severity low or above, CVE-high among them"),
        );
        check(&[scan(&[])], vec![None], Some(Severity::Undefined), None);
        let counted = ImageScan { counted: BTreeMap::from([(Severity::Critical, 2)]), ..scan(&[Severity::Low]) };
        let found = "the scan found 2 of severity high or above, without listing them";
        check(&[counted], vec![None], Some(Severity::High), Some(found));

        let (image, status) = (String::new(), String::new());
        let unsupported =
            || Some(ScanError::Unsupported { image: image.clone(), status: status.clone(), description: None });
        check(&two, vec![unsupported(), None], Some(Severity::Critical), None);
        check(&[scan(&[])], vec![unsupported()], None, Some("ECR can't scan : "));
        let slow = Some(ScanError::Slow { image: "x".to_owned(), status: "PENDING".to_owned(), seconds: 3 });
        check(&two, vec![None, slow], Some(Severity::High), Some("the scan of x is still PENDING after 3 s"));
    }

    #[test]
    fn pauses_grow() {
        let check = |elapsed, expected| assert_eq!(pause(Duration::from_secs(elapsed)).as_secs(), expected);
        check(0, 1);
        check(5, 3);
        check(59, 3);
        check(60, 10);
        check(3600, 10);
    }
}
