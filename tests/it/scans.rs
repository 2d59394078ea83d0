//! `--wait-for-scan`: what ECR's scans come to, and what becomes of the run.

use local_ecr::{Builder, Fault, FaultKind, Finding, LocalEcr, ScanEnd, Scanning};
use serde_json::{Value, json};

use crate::support::layout::digest;
use crate::support::{Layout, Push, asked, builder, reference, start};

/// As the builder of the tests, with what scans need and a push doesn't.
fn scanned(scanning: Scanning) -> Builder {
    builder().scanning(scanning).allow("ecr:DescribeImageScanFindings")
}

fn high() -> Finding {
    Finding::new("CVE-2026-0001", "HIGH", "openssl", "3.0.1").fixed_in("3.0.2")
}

fn low() -> Finding {
    Finding::new("CVE-2026-0002", "LOW", "zlib", "1.2")
}

fn push(layout: &Layout, ecr: &LocalEcr, args: &[&str]) -> Push {
    Push::of(layout.path()).at(ecr).to("app:v1").args(args)
}

#[test]
fn a_finding_of_the_severity_or_above_ends_with_9_and_keeps_source() {
    for scanning in [Scanning::Basic, Scanning::Enhanced] {
        let (layout, ecr) =
            (Layout::fixture("good/one-manifest"), start(scanned(scanning).finding(high()).finding(low())));
        let file = layout.parent().join("digest");
        let line = reference(&ecr, "app", &layout.root());
        let args = ["--wait-for-scan=MEDIUM", "--cleanup", "--digest-file", file.to_str().unwrap()];
        let ran = push(&layout, &ecr, &args).run().exits(9).prints(&[&line]).says_one_error();
        ran.says([
            "0 critical, 1 high, 0 medium, 1 low",
            "SEVERITY  NAME           PACKAGE  VERSION  FIXED IN",
            "high      CVE-2026-0001  openssl  3.0.1    3.0.2",
            "low       CVE-2026-0002  zlib     1.2      -",
            "the scan found 1 of severity medium or above: CVE-2026-0001",
            "SOURCE is kept",
        ]);
        assert!(layout.path().is_dir());
        assert_eq!(std::fs::read_to_string(&file).unwrap(), format!("{line}\n"));
        assert_eq!(ecr.tag("app", "v1"), Some(layout.root()));
    }
}

#[test]
fn findings_below_the_severity_are_shown_and_no_failure() {
    for args in [&["--wait-for-scan", "critical"][..], &["--wait-for-scan"], &["--wait-for-scan=yes"]] {
        let (layout, ecr) = (Layout::fixture("good/one-manifest"), start(scanned(Scanning::Basic).finding(high())));
        let args: Vec<&str> = args.iter().copied().chain(["--cleanup"]).collect();
        push(&layout, &ecr, &args).run().exits(0).says(["COMPLETE", "CVE-2026-0001"]);
        assert!(!layout.path().exists(), "clean-up comes after the scan");
    }
}

#[test]
fn the_end_is_waited_for() {
    let (layout, ecr) = (Layout::fixture("good/one-manifest"), start(scanned(Scanning::Enhanced).scan_polls(2)));
    push(&layout, &ecr, &["--wait-for-scan=low"]).run().exits(0).says(["waiting for ECR's scan of 1 image", "ACTIVE"]);
    assert_eq!(asked(&ecr, "ecr:DescribeImageScanFindings"), 3);
}

#[test]
fn a_status_that_is_ahead_of_its_findings_is_no_end() {
    for scanning in [Scanning::Basic, Scanning::Enhanced] {
        let server = scanned(scanning).scan_lag(2).scan_unsettled(2).finding(high());
        let (layout, ecr) = (Layout::fixture("good/one-manifest"), start(server));
        ecr.expect_violation(local_ecr::ViolationKind::ForbiddenAction);
        push(&layout, &ecr, &["--wait-for-scan=high", "--cleanup"]).run().exits(9).says(["CVE-2026-0001"]);
        assert!(layout.path().is_dir());
        assert_eq!(asked(&ecr, "ecr:DescribeImageScanFindings"), 5);
        assert_eq!(asked(&ecr, "ecr:StartImageScan"), 1, "a refusal is final");
    }
}

#[test]
fn the_bound_is_one_on_questions_without_an_answer_too() {
    let ecr = start(scanned(Scanning::Basic).fault(Fault::operation("Scan").times(u64::MAX).does(FaultKind::Stall)));
    let layout = Layout::fixture("good/one-manifest");
    let ran = push(&layout, &ecr, &["--wait-for-scan", "--scan-timeout=2"]).run().exits(6).says_one_error();
    ran.says(["still unknown to ECR after 2 s"]);
}

#[test]
fn ecrs_own_count_counts_even_where_nothing_is_listed() {
    let body = r#"{"imageScanStatus": {"status": "COMPLETE"}, "imageScanFindings":
        {"imageScanCompletedAt": 1763942400, "findingSeverityCounts": {"CRITICAL": 2}, "findings": []}}"#;
    let headers = vec![("Content-Type".to_owned(), "application/x-amz-json-1.1".to_owned())];
    let answer = FaultKind::Status { status: 200, headers, body: body.to_owned() };
    let ecr = start(scanned(Scanning::Basic).fault(Fault::operation("Scan").times(u64::MAX).does(answer)));
    let layout = Layout::fixture("good/one-manifest");
    let ran = push(&layout, &ecr, &["--wait-for-scan=critical", "--cleanup"]).run().exits(9).says_one_error();
    ran.says(["2 critical, 0 high", "the scan found 2 of severity critical or above, without listing them"]);
    assert!(layout.path().is_dir());
}

#[test]
fn throttling_is_waited_out() {
    let busy = FaultKind::api_error(400, "ThrottlingException", "Rate exceeded");
    let ecr = start(scanned(Scanning::Basic).fault(Fault::operation("Scan").times(3).does(busy)));
    let layout = Layout::fixture("good/one-manifest");
    push(&layout, &ecr, &["--wait-for-scan", "--retries=0"]).run().exits(0).says(["COMPLETE"]);
}

#[test]
fn the_wait_has_a_bound() {
    let (layout, ecr) = (Layout::fixture("good/one-manifest"), start(scanned(Scanning::Basic).scan_polls(u32::MAX)));
    let args = ["--wait-for-scan=low", "--scan-timeout=2", "--cleanup"];
    let ran = push(&layout, &ecr, &args).run().exits(6).says_one_error();
    ran.says(["still IN_PROGRESS after 2 s", "--scan-timeout"]).prints(&[&reference(&ecr, "app", &layout.root())]);
    assert!(layout.path().is_dir());
}

#[test]
fn a_scan_that_nobody_started_is_started() {
    let (layout, ecr) = (
        Layout::fixture("good/one-manifest"),
        start(scanned(Scanning::Manual).allow("ecr:StartImageScan").finding(high()).scan_polls(1)),
    );
    push(&layout, &ecr, &["--wait-for-scan=high"]).run().exits(9);
    assert_eq!(asked(&ecr, "ecr:StartImageScan"), 1);
}

#[test]
fn that_images_are_not_scanned_is_said() {
    let (layout, ecr) = (Layout::fixture("good/one-manifest"), start(scanned(Scanning::Manual)));
    ecr.expect_violation(local_ecr::ViolationKind::ForbiddenAction);
    let args = ["--wait-for-scan=high", "--scan-timeout=6"];
    let ran = push(&layout, &ecr, &args).run().exits(4).says_one_error();
    ran.says(["is not scanned", "ecr:StartImageScan", "--repository-scan-on-push"]);
    assert_eq!(asked(&ecr, "ecr:StartImageScan"), 1);
}

#[test]
fn a_repository_that_is_made_to_scan_does() {
    let ecr =
        start(LocalEcr::builder().allow("ecr:DescribeImageScanFindings").allow("ecr:CreateRepository").finding(low()));
    let layout = Layout::fixture("good/one-manifest");
    let args = ["--create-repository", "--repository-scan-on-push", "--wait-for-scan=low"];
    push(&layout, &ecr, &args).run().exits(9);
    assert_eq!(asked(&ecr, "ecr:StartImageScan"), 0);
}

#[test]
fn the_right_that_is_missing_is_named() {
    let (layout, ecr) = (Layout::fixture("good/one-manifest"), start(builder().scanning(Scanning::Basic)));
    ecr.expect_violation(local_ecr::ViolationKind::ForbiddenAction);
    let ran = push(&layout, &ecr, &["--wait-for-scan"]).run().exits(4).says_one_error();
    ran.says([
        "  next: ",
        "needs ecr:DescribeImageScanFindings on arn:aws:ecr:ap-northeast-2:123456789012:repository/app",
    ]);
}

#[test]
fn every_other_end_is_said() {
    for (end, word) in [
        (ScanEnd::Failed, "FAILED"),
        (ScanEnd::UnsupportedImage, "UNSUPPORTED_IMAGE"),
        (ScanEnd::EligibilityExpired, "SCAN_ELIGIBILITY_EXPIRED"),
        (ScanEnd::FindingsUnavailable, "FINDINGS_UNAVAILABLE"),
        (ScanEnd::LimitExceeded, "LIMIT_EXCEEDED"),
        (ScanEnd::ImageArchived, "IMAGE_ARCHIVED"),
    ] {
        let (layout, ecr) = (Layout::fixture("good/one-manifest"), start(scanned(Scanning::Enhanced).scan_ends(end)));
        let ran = push(&layout, &ecr, &["--wait-for-scan=high", "--cleanup"]).run().exits(5).says_one_error();
        ran.says([word, "  next: the image was pushed"]).prints(&[&reference(&ecr, "app", &layout.root())]);
        assert!(layout.path().is_dir());
    }
}

#[test]
fn an_index_is_scanned_through_its_children() {
    let layout = Layout::empty();
    let images = [1, 2].map(|size| layout.image(&[layout.layer(size)]));
    let digests = images.each_ref().map(|image| digest(image).to_owned());
    layout.list(&layout.index_of(&images), None);
    let ecr = start(scanned(Scanning::Basic).finding_in(&digests[1], high()).finding_in(&digests[0], low()));
    let ran = push(&layout, &ecr, &["--wait-for-scan=HIGH", "--output=json"]).run().exits(9);
    let document: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(document["exitStatus"], 9);
    let destination = &document["destinations"][0];
    assert_eq!((&destination["status"], &destination["error"]), (&json!("verified"), &Value::Null));
    assert_eq!(destination["scanError"]["exitStatus"], 9);
    let scans = destination["scans"].as_array().unwrap();
    let names: Vec<&str> = scans.iter().map(|scan| scan["digest"].as_str().unwrap()).collect();
    assert_eq!(names, digests, "each image, and not the index");
    assert_eq!((&scans[0]["status"], &scans[0]["counts"]["low"]), (&json!("COMPLETE"), &json!(1)));
    let finding = json!({
        "name": "CVE-2026-0001", "severity": "high", "package": "openssl", "version": "3.0.1", "fixedIn": "3.0.2",
    });
    assert_eq!(scans[1]["findings"], json!([finding]));
}

#[test]
fn attestations_are_no_images() {
    let layout = Layout::fixture("good/attestations");
    let ecr = start(scanned(Scanning::Basic).finding(low()));
    let ran = push(&layout, &ecr, &["--wait-for-scan", "--output=json"]).run().exits(0);
    let document: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(document["destinations"][0]["scans"].as_array().unwrap().len(), 1);
}

#[test]
fn findings_come_in_pages() {
    let names: Vec<String> = (0..25).map(|number| format!("CVE-2026-{number:04}")).collect();
    let more = |builder: Builder, name: &String| builder.finding(Finding::new(name, "LOW", "p", "1"));
    let ecr = start(names.iter().fold(scanned(Scanning::Basic).page_limit(10), more));
    let layout = Layout::fixture("good/one-manifest");
    let ran = push(&layout, &ecr, &["--wait-for-scan=medium"]).run().exits(0);
    assert_eq!(asked(&ecr, "ecr:DescribeImageScanFindings"), 3);
    ran.says(["25 low", "CVE-2026-0019", "and 5 more"]).says_nothing_of(["CVE-2026-0020"]);
}

#[test]
fn each_destination_has_a_scan_of_its_own() {
    let layout = Layout::fixture("good/one-manifest");
    let ecr = start(scanned(Scanning::Basic).repository("other").finding(high()));
    let push = push(&layout, &ecr, &["--wait-for-scan=high", "--output=json"]).to("other:v1");
    let document: Value = serde_json::from_str(&push.run().exits(9).stdout).unwrap();
    for at in 0..2 {
        assert_eq!(document["destinations"][at]["scans"].as_array().unwrap().len(), 1);
    }
}

#[test]
fn a_signal_ends_the_wait() {
    let (layout, ecr) = (Layout::fixture("good/one-manifest"), start(scanned(Scanning::Basic).scan_polls(u32::MAX)));
    let (seen, waiting) = std::sync::mpsc::channel();
    ecr.on_answer(move |entry| {
        if entry.actions.contains(&"ecr:DescribeImageScanFindings") {
            let _ = seen.send(());
        }
    });
    let running = push(&layout, &ecr, &["--wait-for-scan", "--cleanup"]).start();
    waiting.recv_timeout(std::time::Duration::from_mins(1)).expect("the scan is asked for");
    running.signal("TERM");
    let ran = running.wait();
    assert_eq!(ran.status, 143, "{}", ran.stderr);
    assert!(ran.stderr.contains("these tags had been written"), "{}", ran.stderr);
    assert!(layout.path().is_dir());
}
