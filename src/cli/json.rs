//! Standard output's `json`: one document, documented in the README. Fields are added and never changed.

use ecr_push::cause::chain;
use ecr_push::cleanup::{Cleaned, Kept};
use ecr_push::error::Error;
use ecr_push::push::{Count, TagOutcome};
use ecr_push::report::{Cleanup, DestinationReport, Report};
use ecr_push::source::layout::Listed;
use serde_json::{Value, json};

use super::scans;

/// The version of the document; it changes only if a field had to.
const SCHEMA_VERSION: u32 = 1;

/// The document for a push.
pub(super) fn document(source: &str, report: &Report, status: u8) -> Value {
    json!({
        "schemaVersion": SCHEMA_VERSION,
        "source": source,
        "digest": report.root.as_ref().map(|root| root.digest.as_str()),
        "mediaType": report.root.as_ref().map(|root| root.media_type.as_str()),
        "size": report.root.as_ref().map(|root| root.size),
        "exitStatus": status,
        "destinations": report.destinations.iter().map(|d| destination(report, d)).collect::<Vec<_>>(),
        "cleanup": cleanup(&report.cleanup),
    })
}

fn destination(report: &Report, destination: &DestinationReport) -> Value {
    let tags = destination.tags.iter().map(|(tag, outcome)| {
        let status = match outcome {
            TagOutcome::Written => "written",
            TagOutcome::AlreadyThere => "alreadyThere",
            TagOutcome::NotWritten => "notWritten",
        };
        json!({"tag": tag.as_str(), "status": status})
    });
    let referrers = destination.referrers.iter().map(|(digest, written)| {
        let status = match (written, &destination.error) {
            (true, _) => "written",
            (false, None) => "alreadyThere",
            (false, Some(_)) => "notWritten",
        };
        json!({"digest": digest.as_str(), "status": status})
    });
    let error = destination.error.as_ref();
    json!({
        "host": destination.repository.host.as_str(),
        "repository": destination.repository.name,
        "reference": report.root.as_ref().map(|root| format!("{}@{}", destination.repository, root.digest)),
        "status": if error.is_none() { "verified" } else { "failed" },
        "repositoryCreated": destination.created,
        "tags": tags.collect::<Vec<_>>(),
        "blobs": {
            "uploaded": count(destination.uploaded),
            "mounted": count(destination.mounted),
            "alreadyThere": count(destination.present),
        },
        "manifestsWritten": destination.manifests,
        "referrers": referrers.collect::<Vec<_>>(),
        "scans": destination.scans.iter().map(scans::json).collect::<Vec<_>>(),
        "scanError": destination.scan_error.as_ref().map(failure),
        "error": error.map(failure),
    })
}

/// An error, with what to do next.
pub(super) fn failure(error: &Error) -> Value {
    json!({"message": chain(error), "hint": error.hint(), "exitStatus": error.status()})
}

fn count(count: Count) -> Value {
    json!({"number": count.number, "bytes": count.bytes})
}

fn cleanup(cleanup: &Cleanup) -> Value {
    match cleanup {
        Cleanup::NotAsked => json!({"status": "notAsked"}),
        Cleanup::NotDone => json!({"status": "notDone"}),
        Cleanup::Done(done) => cleaned("done", done),
        Cleanup::Failed(error) => not_cleaned(error, error.status()),
        Cleanup::Interrupted { error, status } => not_cleaned(error, *status),
    }
}

/// What a clean-up removed, or would remove.
pub(super) fn cleaned(status: &str, cleaned: &Cleaned) -> Value {
    match (cleaned.image, cleaned.file) {
        (Some(deleted), _) => json!({
            "status": status,
            "namesRemoved": cleaned.names,
            "imageRemoved": deleted,
        }),
        (None, Some(removed)) => json!({
            "status": status,
            "bytesFreed": cleaned.freed,
            "fileRemoved": removed,
        }),
        (None, None) => json!({
            "status": status,
            "namesRemoved": cleaned.names,
            "imagesRemoved": cleaned.images.iter().map(image).collect::<Vec<_>>(),
            "blobsRemoved": cleaned.blobs,
            "orphansRemoved": cleaned.orphans,
            "bytesFreed": cleaned.freed,
            "folderRemoved": cleaned.folder,
            "folderKept": cleaned.kept.as_ref().map(|kept| match kept {
                Kept::MountPoint => json!({"reason": "mountPoint", "path": null}),
                Kept::Holds(path) => json!({"reason": "holdsMore", "path": path.to_string_lossy()}),
            }),
        }),
    }
}

fn image(image: &Listed) -> Value {
    json!({"digest": image.digest.as_str(), "names": image.names})
}

/// Why a clean-up didn't come to its end, with the exit status, and what it removed all the same.
pub(super) fn not_cleaned(error: &Error, status: u8) -> Value {
    let (before, is_interrupted) = match error {
        Error::Cleanup(error) => (error.cleaned(), error.is_interruption()),
        error => (None, matches!(error, Error::Interrupted { .. })),
    };
    let mut document = before.map_or_else(|| json!({"status": ""}), |before| cleaned("", before));
    document["status"] = json!(if is_interrupted { "interrupted" } else { "failed" });
    document["error"] = failure(error);
    document["error"]["exitStatus"] = json!(status);
    document
}
