//! ECR's scans, as a user sees them: a table of findings by severity, and the same in JSON.

use ecr_push::aws::scan::{Finding, Severity};
use ecr_push::cause::chain;
use ecr_push::report::DestinationReport;
use ecr_push::scan::ImageScan;
use serde_json::{Map, Value, json};

/// Findings of one image that are listed; the rest is counted.
const LISTED: usize = 20;

/// The lines about the scans of one destination, on standard error.
pub(super) fn table(destination: &DestinationReport) -> Vec<String> {
    // What is fatal is said as an error; what isn't concerns one image of several.
    let fatal = destination.scan_error.as_ref().map(|error| chain(error));
    let shown = destination.scans.iter().filter(|scan| scan.error.is_none() || scan.error != fatal);
    shown.flat_map(|scan| image(&destination.repository.to_string(), scan)).collect()
}

fn image(repository: &str, scan: &ImageScan) -> Vec<String> {
    let platform = scan.platform.as_ref().map(|platform| format!(" ({platform})")).unwrap_or_default();
    let name = format!("{repository}@{}{platform}", scan.digest);
    let Some(status) = &scan.status else {
        return scan.error.iter().map(|error| format!("warning: {error}")).collect();
    };
    let counts: Vec<String> =
        Severity::ALL.iter().map(|severity| format!("{} {severity}", scan.count(*severity))).collect();
    let mut lines = vec![format!("scan of {name}: {status}"), format!("  {}", counts.join(", "))];
    let rows: Vec<[&str; 5]> = scan.findings.iter().take(LISTED).map(row).collect();
    if !rows.is_empty() {
        let head = ["SEVERITY", "NAME", "PACKAGE", "VERSION", "FIXED IN"];
        let all: Vec<&[&str; 5]> = std::iter::once(&head).chain(&rows).collect();
        let widths = [0, 1, 2, 3].map(|column| all.iter().map(|row| row[column].chars().count()).max().unwrap_or(0));
        lines.extend(all.iter().map(|row| {
            let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}"));
            let cells: Vec<String> = cells.chain([row[4].to_owned()]).collect();
            format!("  {}", cells.join("  ")).trim_end().to_owned()
        }));
    }
    let more = scan.findings.len().saturating_sub(LISTED);
    if more > 0 {
        lines.push(format!("  and {more} more: --output json lists them all"));
    }
    lines
}

fn row(finding: &Finding) -> [&str; 5] {
    let [package, version, fixed_in] =
        [&finding.package, &finding.version, &finding.fixed_in].map(|cell| cell.as_deref().unwrap_or("-"));
    [finding.severity.word(), &finding.name, package, version, fixed_in]
}

/// One image's scan in the document.
pub(super) fn json(scan: &ImageScan) -> Value {
    let count = |severity: &Severity| (severity.to_string(), Value::from(scan.count(*severity)));
    // Of what can't be seen nothing is known.
    let counts = scan.status.is_some().then(|| Severity::ALL.iter().map(count).collect::<Map<String, Value>>());
    let findings = scan.findings.iter().map(|finding| {
        json!({
            "name": finding.name,
            "severity": finding.severity.word(),
            "package": finding.package,
            "version": finding.version,
            "fixedIn": finding.fixed_in,
        })
    });
    json!({
        "digest": scan.digest.as_str(),
        "platform": scan.platform.as_ref().map(ToString::to_string),
        "status": scan.status,
        "counts": counts,
        "findings": findings.collect::<Vec<_>>(),
        "error": scan.error,
    })
}
