//! `StartImageScan`, `DescribeImageScanFindings` (facts/ecr.md, Scans).

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::Outcome;
use super::images::{ImageId, identifier, not_found};
use super::request::{Exception, Request, with_next};
use crate::config::RegistryId;
use crate::digest::Digest;
use crate::document::is_index;
use crate::scanning::{Finding, ScanEnd, Scanning, Stage};
use crate::state::Repository;

/// Starts ECR's own scan of an image, which is possible once in 24 hours: here, once.
pub(super) fn start(request: &Request) -> Outcome {
    let (registry, repository) = request.place()?;
    let id = id(request)?;
    let settings = &request.shared.config.scanning;
    if settings.scanning == Scanning::Enhanced {
        // Inspector is not to be told when to scan.
        let message = "This feature is disabled: manual scans are not possible with enhanced scanning";
        return Err(Exception::new("ValidationException", message));
    }
    request.within(&registry, repository, |held| {
        let digest = found(held, &id, &registry, repository)?;
        let (archived, index) = kind(held, &digest);
        if archived {
            return Err(Exception::new("ImageArchivedException", "The image has been archived."));
        }
        if index {
            let message = "The image manifest type is not supported for scanning";
            return Err(Exception::new("UnsupportedImageTypeException", message));
        }
        if held.scans.contains_key(&digest) || is_scanned_on_push(request, held) {
            let message = "The scan quota per image has been exceeded. Wait and try again.";
            return Err(Exception::new("LimitExceededException", message));
        }
        held.scans.insert(digest.clone(), settings.begin());
        Ok(json!({
            "registryId": registry.account,
            "repositoryName": repository,
            "imageId": identifier(Some(digest.as_str()), None),
            "imageScanStatus": { "status": "IN_PROGRESS" },
        }))
    })?
}

/// Says how an image's scan goes, and what it has found once it has ended.
pub(super) fn describe(request: &Request) -> Outcome {
    let (registry, repository) = request.place()?;
    let id = id(request)?;
    let (digest, completed, end, stage) = request.within(&registry, repository, |held| {
        let digest = found(held, &id, &registry, repository)?;
        let settings = &request.shared.config.scanning;
        if is_scanned_on_push(request, held) {
            held.scans.entry(digest.clone()).or_insert_with(|| settings.begin());
        }
        let (_, index) = kind(held, &digest);
        let scan = held.scans.get_mut(&digest).ok_or_else(|| not_scanned(&digest, &registry, repository))?;
        // What an index consists of is scanned, and it itself never.
        let stage = scan.poll();
        if stage == Stage::Unknown {
            return Err(not_scanned(&digest, &registry, repository));
        }
        let end = match stage {
            _ if index => Some(ScanEnd::UnsupportedImage),
            Stage::Unsettled | Stage::Ended => Some(settings.end),
            Stage::Unknown | Stage::Running => None,
        };
        let pushed = held.manifests.get(&digest).map_or(0, |manifest| manifest.pushed);
        Ok((digest, pushed, end, stage))
    })??;
    let scanning = request.shared.config.scanning.scanning;
    let (status, description) = match end {
        Some(end) => end.status(scanning),
        None if scanning == Scanning::Enhanced => ("PENDING", "The image is waiting to be scanned."),
        None => ("IN_PROGRESS", "The scan is in progress."),
    };
    let mut output = json!({
        "registryId": registry.account,
        "repositoryName": repository,
        "imageId": identifier(Some(digest.as_str()), None),
        "imageScanStatus": { "status": status, "description": description },
    });
    if end != Some(ScanEnd::Done) {
        return Ok(output);
    }
    if stage == Stage::Unsettled {
        output["imageScanFindings"] = json!({ "findings": [] });
        return Ok(output);
    }
    let findings = request.shared.config.scanning.findings(digest.as_str());
    let counts = counts(&findings);
    let place = Place { registry: &registry, repository, digest: digest.as_str() };
    let (page, next) = request.page(findings, 100)?;
    let (name, page): (_, Vec<_>) = match scanning {
        Scanning::Enhanced => ("enhancedFindings", page.into_iter().map(|finding| place.enhanced(finding)).collect()),
        _ => ("findings", page.into_iter().map(basic).collect()),
    };
    output["imageScanFindings"] = json!({
        "imageScanCompletedAt": completed,
        "vulnerabilitySourceUpdatedAt": completed,
        "findingSeverityCounts": counts,
        name: page,
    });
    Ok(with_next(output, next))
}

fn id<'a>(request: &'a Request) -> Result<ImageId<'a>, Exception> {
    let wrong = || Exception::parameter("imageId", "Member must not be null");
    let id = ImageId::read(request.input.get("imageId").and_then(Value::as_object).ok_or_else(wrong)?)?;
    if id.reference().is_empty() { Err(wrong()) } else { Ok(id) }
}

fn found(held: &Repository, id: &ImageId, registry: &RegistryId, repository: &str) -> Result<Digest, Exception> {
    let digest = held.resolve(id.reference()).filter(|digest| held.manifests.contains_key(digest));
    digest.cloned().ok_or_else(|| not_found(id, registry, repository))
}

/// Whether an image is archived, and whether it is an index.
fn kind(held: &Repository, digest: &Digest) -> (bool, bool) {
    held.manifests.get(digest).map_or((false, false), |image| (image.archived, is_index(&image.media_type)))
}

fn is_scanned_on_push(request: &Request, held: &Repository) -> bool {
    request.shared.config.scanning.scanning != Scanning::Manual || held.settings.scan_on_push
}

fn not_scanned(digest: &Digest, registry: &RegistryId, repository: &str) -> Exception {
    let message = format!(
        "Image scan does not exist for the image with '{{imageDigest:'{digest}'}}' in the repository with name '{repository}' in the registry with id '{}'",
        registry.account,
    );
    Exception::new("ScanNotFoundException", message)
}

fn counts(findings: &[&Finding]) -> BTreeMap<String, u64> {
    let mut counts = BTreeMap::new();
    for finding in findings {
        *counts.entry(finding.severity.clone()).or_insert(0) += 1;
    }
    counts
}

/// A finding of ECR's own.
fn basic(finding: &Finding) -> Value {
    let Finding { name, severity, package, version, fixed_in } = finding;
    let attribute = |key: &str, value: &str| json!({ "key": key, "value": value });
    let mut attributes = vec![attribute("package_name", package), attribute("package_version", version)];
    attributes.extend(fixed_in.as_deref().map(|fixed| attribute("patched_package_version", fixed)));
    json!({ "name": name, "uri": uri(name), "severity": severity, "attributes": attributes })
}

fn uri(name: &str) -> String {
    format!("https://www.cve.org/CVERecord?id={name}")
}

/// Where a finding is.
struct Place<'a> {
    registry: &'a RegistryId,
    repository: &'a str,
    digest: &'a str,
}

impl Place<'_> {
    /// A finding of Inspector's.
    fn enhanced(&self, finding: &Finding) -> Value {
        let Finding { name, severity, package, version, fixed_in } = finding;
        let RegistryId { account, region, .. } = self.registry;
        let arn = crate::iam::repository_arn(self.registry, self.repository);
        let mut vulnerable = Map::new();
        vulnerable.insert("name".to_owned(), package.as_str().into());
        vulnerable.insert("version".to_owned(), version.as_str().into());
        if let Some(fixed) = fixed_in {
            vulnerable.insert("fixedInVersion".to_owned(), fixed.as_str().into());
        }
        json!({
            "awsAccountId": account,
            "findingArn": format!("arn:aws:inspector2:{region}:{account}:finding/{name}"),
            "title": format!("{name} - {package}"),
            "type": "PACKAGE_VULNERABILITY",
            "status": "ACTIVE",
            "severity": severity,
            "fixAvailable": if fixed_in.is_some() { "YES" } else { "NO" },
            "packageVulnerabilityDetails": {
                "source": "NVD",
                "sourceUrl": uri(name),
                "vulnerabilityId": name,
                "vulnerablePackages": [vulnerable],
            },
            "resources": [{
                "type": "AWS_ECR_CONTAINER_IMAGE",
                "id": format!("{arn}/{}", self.digest),
                "details": { "awsEcrContainerImage": {
                    "imageHash": self.digest, "registry": account, "repositoryName": self.repository,
                } },
            }],
        })
    }
}
