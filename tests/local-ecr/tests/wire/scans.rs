use local_ecr::{Finding, LocalEcr, ScanEnd, Scanning};
use serde_json::{Value, json};

use crate::signed::Api;

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";

fn finding(name: &str, severity: &str) -> Finding {
    Finding::new(name, severity, "openssl", "3.0").fixed_in("3.1")
}

/// A server that lets itself be asked about scans, and an image and an index on it.
fn server(change: impl FnOnce(local_ecr::Builder) -> local_ecr::Builder) -> (LocalEcr, String, String) {
    let builder = LocalEcr::builder().repository("app").allow("ecr:StartImageScan");
    let ecr = change(builder.allow("ecr:DescribeImageScanFindings")).start().expect("starts");
    let config = json!({ "mediaType": "application/json", "digest": ecr.seed_blob("app", b"{}"), "size": 2 });
    let image = json!({ "schemaVersion": 2, "config": config, "layers": [] }).to_string();
    let image = ecr.seed_manifest("app", MANIFEST, image.as_bytes(), Some("v1"));
    let index = json!({ "schemaVersion": 2, "manifests": [] }).to_string();
    let index = ecr.seed_manifest("app", INDEX, index.as_bytes(), None);
    (ecr, image, index)
}

fn of(digest: &str) -> Value {
    json!({ "repositoryName": "app", "imageId": { "imageDigest": digest } })
}

fn status(api: &Api, digest: &str) -> Value {
    api.ask("DescribeImageScanFindings", &of(digest))["imageScanStatus"]["status"].clone()
}

#[test]
fn a_scan_is_to_be_started_and_only_once() {
    let (ecr, image, index) = server(|builder| builder.scan_polls(2).finding(finding("CVE-1", "HIGH")));
    let api = Api::new(&ecr);
    api.refused("DescribeImageScanFindings", &of(&image), "ScanNotFoundException", &image);
    assert_eq!(api.ask("StartImageScan", &of(&image))["imageScanStatus"], json!({ "status": "IN_PROGRESS" }));
    api.refused("StartImageScan", &of(&image), "LimitExceededException", "quota per image");
    api.refused("StartImageScan", &of(&index), "UnsupportedImageTypeException", "not supported");
    let absent = json!({ "repositoryName": "app", "imageId": { "imageTag": "v9" } });
    api.refused("StartImageScan", &absent, "ImageNotFoundException", "imageTag:'v9'");
    api.refused("StartImageScan", &json!({ "repositoryName": "app" }), "InvalidParameterException", "'imageId'");
    let tagged = json!({ "repositoryName": "app", "imageId": { "imageTag": "v1" } });
    let pending = api.ask("DescribeImageScanFindings", &tagged);
    assert_eq!(
        (&pending["imageScanStatus"]["status"], &pending["imageScanFindings"]),
        (&json!("IN_PROGRESS"), &Value::Null)
    );
    assert_eq!([status(&api, &image), status(&api, &image)], ["IN_PROGRESS", "COMPLETE"]);
}

#[test]
fn basic_findings_come_page_by_page() {
    let (ecr, image, index) = server(|builder| {
        let builder = builder.scanning(Scanning::Basic).page_limit(2);
        builder.finding(finding("CVE-1", "HIGH")).finding(finding("CVE-2", "LOW")).finding(finding("CVE-3", "HIGH"))
    });
    let api = Api::new(&ecr);
    let first = api.ask("DescribeImageScanFindings", &of(&image));
    assert_eq!(first["imageScanStatus"]["status"], "COMPLETE");
    let found = &first["imageScanFindings"];
    assert_eq!(found["findingSeverityCounts"], json!({ "HIGH": 2, "LOW": 1 }));
    assert!(found["imageScanCompletedAt"].is_u64());
    let one = &found["findings"][0];
    assert_eq!((&one["name"], &one["severity"]), (&json!("CVE-1"), &json!("HIGH")));
    let attributes = json!([
        { "key": "package_name", "value": "openssl" },
        { "key": "package_version", "value": "3.0" },
        { "key": "patched_package_version", "value": "3.1" },
    ]);
    assert_eq!(one["attributes"], attributes);
    let mut next = of(&image);
    next["nextToken"] = first["nextToken"].clone();
    let second = api.ask("DescribeImageScanFindings", &next);
    let names = |page: &Value| page["imageScanFindings"]["findings"].as_array().expect("a list").len();
    assert_eq!((names(&first), names(&second), &second["nextToken"]), (2, 1, &Value::Null));
    // The first scan of all counts.
    api.refused("StartImageScan", &of(&image), "LimitExceededException", "");
    assert_eq!(status(&api, &index), "UNSUPPORTED_IMAGE");
}

#[test]
fn inspector_never_completes() {
    let (ecr, image, _) =
        server(|builder| builder.scanning(Scanning::Enhanced).scan_polls(1).finding(finding("CVE-1", "UNTRIAGED")));
    let api = Api::new(&ecr);
    api.refused("StartImageScan", &of(&image), "ValidationException", "enhanced");
    assert_eq!(status(&api, &image), "PENDING");
    let told = api.ask("DescribeImageScanFindings", &of(&image));
    assert_eq!(told["imageScanStatus"]["status"], "ACTIVE");
    assert_eq!(told["imageScanFindings"]["findings"], Value::Null);
    let one = &told["imageScanFindings"]["enhancedFindings"][0];
    let details = &one["packageVulnerabilityDetails"];
    assert_eq!((&details["vulnerabilityId"], &one["severity"]), (&json!("CVE-1"), &json!("UNTRIAGED")));
    let vulnerable = json!([{ "name": "openssl", "version": "3.0", "fixedInVersion": "3.1" }]);
    assert_eq!(details["vulnerablePackages"], vulnerable);
    assert_eq!(one["resources"][0]["details"]["awsEcrContainerImage"]["imageHash"], image);
}

#[test]
fn a_scan_may_end_otherwise() {
    for (end, word) in [
        (ScanEnd::Failed, "FAILED"),
        (ScanEnd::UnsupportedImage, "UNSUPPORTED_IMAGE"),
        (ScanEnd::EligibilityExpired, "SCAN_ELIGIBILITY_EXPIRED"),
        (ScanEnd::FindingsUnavailable, "FINDINGS_UNAVAILABLE"),
        (ScanEnd::LimitExceeded, "LIMIT_EXCEEDED"),
        (ScanEnd::ImageArchived, "IMAGE_ARCHIVED"),
    ] {
        let (ecr, image, _) = server(|builder| builder.scanning(Scanning::Basic).scan_ends(end));
        let told = Api::new(&ecr).ask("DescribeImageScanFindings", &of(&image));
        assert_eq!((&told["imageScanStatus"]["status"], &told["imageScanFindings"]), (&json!(word), &Value::Null));
    }
}

#[test]
fn a_repository_that_scans_on_push_does() {
    let (ecr, image, _) = server(|builder| builder.allow("ecr:CreateRepository").allow_pull());
    let api = Api::new(&ecr);
    let scanning = json!({ "repositoryName": "new", "imageScanningConfiguration": { "scanOnPush": true } });
    api.ask("CreateRepository", &scanning);
    let bytes = ecr.manifest("app", &image).expect("it was seeded");
    ecr.seed_blob("new", b"{}");
    ecr.seed_manifest("new", MANIFEST, &bytes, None);
    let asked = json!({ "repositoryName": "new", "imageId": { "imageDigest": image } });
    assert_eq!(api.ask("DescribeImageScanFindings", &asked)["imageScanStatus"]["status"], "COMPLETE");
    api.refused("DescribeImageScanFindings", &of(&image), "ScanNotFoundException", "");
}

#[test]
fn findings_may_be_of_one_image() {
    let digest = {
        let (_ecr, image, _) = server(|builder| builder);
        image
    };
    let (ecr, image, _) =
        server(|builder| builder.scanning(Scanning::Basic).finding_in(&digest, finding("CVE-1", "LOW")));
    let other = json!({ "schemaVersion": 2, "layers": [], "config": { "mediaType": "application/json",
        "digest": ecr.seed_blob("app", b"[]"), "size": 2 } });
    let other = ecr.seed_manifest("app", MANIFEST, other.to_string().as_bytes(), None);
    let api = Api::new(&ecr);
    for (digest, counts) in [(image, json!({ "LOW": 1 })), (other, json!({}))] {
        let told = api.ask("DescribeImageScanFindings", &of(&digest));
        assert_eq!(told["imageScanFindings"]["findingSeverityCounts"], counts);
    }
}
