//! `--dry-run`, as a user sees it: a table of what would be sent, mounted, tagged and removed.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::io::Write;
use std::sync::Arc;

use ecr_push::error::Error;
use ecr_push::event::Reporter;
use ecr_push::job::forecast::{Foreseen, forecast};
use ecr_push::oci::digest::Digest;
use ecr_push::plan::{Look, Target};
use ecr_push::push::Count;
use ecr_push::push::forecast::{BlobForecast, Fate, Forecast};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::args::Output;
use super::plain::line;
use super::render::{number, printable, role, size};
use super::settings::Settings;
use super::shown::Shown;
use super::{USAGE, fail, json, render, signals};

/// The version of the JSON document; it changes only if a field had to.
const SCHEMA_VERSION: u32 = 1;

/// Says what a push would do, and gives the exit status.
pub(super) async fn run(settings: &Settings, source: &OsString) -> u8 {
    let shown = Shown::begin(settings);
    let reporter: Arc<dyn Reporter> = shown.clone();
    let cancel = CancellationToken::new();
    let signals = signals::catch(cancel.clone());
    let foreseen = forecast(&settings.job, &reporter, &cancel).await;
    let caught = signals.status();
    shown.close();
    let foreseen = match foreseen {
        Ok(foreseen) => foreseen,
        Err(error @ Error::Interrupted { .. }) => {
            line("interrupted: nothing was changed");
            return caught.unwrap_or_else(|| error.status());
        }
        Err(error) => return fail(None, &error),
    };
    let status = foreseen.status();
    let text = match settings.output {
        Output::Text => printable(&text(&foreseen)),
        Output::Json => format!("{:#}\n", document(&source.to_string_lossy(), &foreseen, status)),
    };
    let mut stdout = std::io::stdout().lock();
    if let Err(error) = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        line(&format!("error: standard output can't be written: {error}"));
        return status.max(USAGE);
    }
    for (target, error) in foreseen.destinations.iter().filter_map(|destination| destination.as_ref().err()) {
        fail(Some(&target.repository.to_string()), error);
    }
    if let Some(Err(error)) = &foreseen.cleanup {
        fail(Some("clean-up"), error);
    }
    status
}

/// The blobs of one fate, together.
fn count<'a>(blobs: impl Iterator<Item = &'a BlobForecast>) -> Count {
    blobs.fold(Count::default(), |sum, blob| Count { number: sum.number + 1, bytes: sum.bytes + blob.size })
}

fn text(foreseen: &Foreseen) -> String {
    let root = &foreseen.root;
    let mut text = format!("dry run: {} ({}), nothing is changed\n", root.digest, size(root.size));
    for destination in &foreseen.destinations {
        match destination {
            Ok(forecast) => table(forecast, &mut text),
            Err((Target { repository, .. }, _)) => {
                let _ = writeln!(text, "\n{repository}\n  would fail");
            }
        }
    }
    match &foreseen.cleanup {
        None => {}
        Some(Ok(cleaned)) => {
            let _ = writeln!(text, "\n{}", render::cleaned(cleaned, true).replacen("dry run", "clean-up", 1));
        }
        Some(Err(_)) => text.push_str("\nclean-up: SOURCE would be kept\n"),
    }
    text
}

fn table(forecast: &Forecast, text: &mut String) {
    let repository = &forecast.target.repository;
    let _ = writeln!(text, "\n{repository}{}", if forecast.creates { " (would be created)" } else { "" });
    let mut row = |what: &str, which: &str, rest: &str| {
        let _ = writeln!(text, "{}", format!("  {what:<7} {which:<12} {rest}").trim_end());
    };
    for blob in &forecast.blobs {
        let what = match &blob.fate {
            Fate::There => continue,
            Fate::Mounted { .. } => "mount",
            Fate::Uploaded => "send",
        };
        let from = match &blob.fate {
            Fate::Mounted { from } => format!("  from {from}, if it can be"),
            Fate::There | Fate::Uploaded => String::new(),
        };
        row(what, &role(blob.role), &format!("{}  {:>10}{from}", blob.digest.short(), size(blob.size)));
    }
    let there = count(forecast.blobs.iter().filter(|blob| blob.fate == Fate::There));
    if there.number > 0 {
        row("skip", &number(there.number, "blob"), &format!("{:12}  {:>10}  there already", "", size(there.bytes)));
    }
    for (at, tag) in forecast.target.tags.iter().enumerate() {
        let now = match &forecast.looks[at] {
            Look::Same => "names the image already".to_owned(),
            Look::Other(digest) => format!("moves from {}", digest.short()),
            Look::Absent => "new".to_owned(),
        };
        row("tag", tag.as_str(), &now);
    }
    let sent = count(forecast.blobs.iter().filter(|blob| blob.fate == Fate::Uploaded));
    let mounted = count(forecast.blobs.iter().filter(|blob| matches!(blob.fate, Fate::Mounted { .. })));
    let mounts = match mounted.number {
        0 => String::new(),
        mounts => format!("{mounts} to mount ({}), ", size(mounted.bytes)),
    };
    let _ = writeln!(
        text,
        "  in all: {} to send ({}), {mounts}{} to write",
        number(sent.number, "blob"),
        size(sent.bytes),
        number(forecast.manifests, "manifest"),
    );
}

fn document(source: &str, foreseen: &Foreseen, status: u8) -> Value {
    let cleanup = match &foreseen.cleanup {
        None => json!({"status": "notAsked"}),
        Some(Ok(cleaned)) => json::cleaned("planned", cleaned),
        Some(Err(error)) => json::not_cleaned(error, error.status()),
    };
    json!({
        "schemaVersion": SCHEMA_VERSION,
        "source": source,
        "dryRun": true,
        "digest": foreseen.root.digest.as_str(),
        "mediaType": foreseen.root.media_type.as_str(),
        "size": foreseen.root.size,
        "exitStatus": status,
        "destinations": foreseen.destinations.iter().map(|it| destination(&foreseen.root.digest, it)).collect::<Vec<_>>(),
        "cleanup": cleanup,
    })
}

fn destination(root: &Digest, destination: &Result<Forecast, (Target, Error)>) -> Value {
    let (target, forecast, error) = match destination {
        Ok(forecast) => (&forecast.target, Some(forecast), None),
        Err((target, error)) => (target, None, Some(error)),
    };
    let repository = &target.repository;
    let mut document = json!({
        "host": repository.host.as_str(),
        "repository": repository.name,
        "reference": format!("{repository}@{root}"),
        "error": error.map(json::failure),
    });
    let Some(forecast) = forecast else { return document };
    let tags = target.tags.iter().zip(&forecast.looks).map(|(tag, look)| {
        let (status, now) = match look {
            Look::Same => ("alreadyThere", Some(root)),
            Look::Other(digest) => ("wouldMove", Some(digest)),
            Look::Absent => ("new", None),
        };
        json!({"tag": tag.as_str(), "status": status, "names": now.map(Digest::as_str)})
    });
    let blobs = forecast.blobs.iter().map(|blob| {
        let (fate, from) = match &blob.fate {
            Fate::There => ("alreadyThere", None),
            Fate::Mounted { from } => ("wouldMount", Some(from)),
            Fate::Uploaded => ("wouldUpload", None),
        };
        json!({"digest": blob.digest.as_str(), "size": blob.size, "role": role(blob.role), "status": fate, "from": from})
    });
    document["repositoryCreated"] = json!(forecast.creates);
    document["tags"] = tags.collect();
    document["blobs"] = blobs.collect();
    document["manifestsWritten"] = json!(forecast.manifests);
    document["referrersWritten"] = forecast.referrers.iter().map(|digest| json!(digest.as_str())).collect();
    document
}
