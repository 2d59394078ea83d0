//! The main job, as a user sees it: progress, result, exit status.

use std::ffi::OsString;
use std::io::Write;
use std::sync::Arc;

use ecr_push::error::Error;
use ecr_push::event::Reporter;
use ecr_push::job::{self, Pushed};
use ecr_push::report::{Cleanup, Report};
use tokio_util::sync::CancellationToken;

use super::args::{Output, Progress};
use super::plain::line;
use super::settings::Settings;
use super::shown::{Shown, Tags};
use super::{USAGE, digest_file, fail, json, render, scans, signals};

/// Pushed, and SOURCE is still there.
const KEPT: u8 = 7;

/// Stopped by SIGINT, unless it is known to have been another signal.
const INTERRUPTED: u8 = 130;

/// Pushes, and gives the exit status.
pub(super) async fn run(settings: &Settings, source: &OsString) -> u8 {
    let shown = Shown::begin(settings);
    let reporter: Arc<dyn Reporter> = shown.clone();
    let cancel = CancellationToken::new();
    let signals = signals::catch(cancel.clone());
    let mut digests = Ok(());
    let outcome = match pushed(settings, &reporter, &cancel).await {
        Ok(pushed) => {
            digests = digest_file::write(settings.digest_file.as_deref(), &pushed.report);
            // Whoever asked for the file needs it before SOURCE is gone.
            if digests.is_ok() {
                // Whoever watches may not have come to it yet.
                if signals.status().is_some() {
                    cancel.cancel();
                }
                job::clean(&settings.job, pushed, &reporter, &cancel).await
            } else {
                Ok(pushed.report)
            }
        }
        Err(error) => Err(error),
    };
    let caught = signals.status();
    let tags = shown.tags();
    shown.close();
    let mut report = match outcome {
        Ok(report) => report,
        Err(error) => return stopped(&error, caught, &tags),
    };
    report.interrupted_by(caught.unwrap_or(INTERRUPTED));
    let status = finish(settings, source, &report, digests);
    if signals.status().is_some() && !matches!(report.cleanup, Cleanup::Interrupted { .. }) {
        line("note: the signal came when all was over");
    }
    status
}

/// Says why nothing was pushed, and gives the exit status.
fn stopped(error: &Error, caught: Option<u8>, tags: &Tags) -> u8 {
    let open = match (error, caught) {
        (Error::Interrupted { open }, _) => *open,
        // What a signal does to others can be quicker than what it does to us: the helper that was asked for credentials.
        (_, Some(_)) => {
            fail(None, error);
            0
        }
        (_, None) => return fail(None, error),
    };
    let uploads = match open {
        0 => "open uploads were cancelled".to_owned(),
        open => format!("{} could not be cancelled in time", render::number(open, "open upload")),
    };
    line(&format!("interrupted: {uploads}, SOURCE is untouched, {}", tags.words()));
    caught.unwrap_or(INTERRUPTED)
}

/// The push, and ECR's scans of what it pushed.
async fn pushed(
    settings: &Settings,
    reporter: &Arc<dyn Reporter>,
    cancel: &CancellationToken,
) -> Result<Pushed, Error> {
    let mut pushed = job::push(&settings.job, reporter, cancel).await?;
    job::scan(&settings.job, &mut pushed, reporter, cancel).await?;
    Ok(pushed)
}

/// Prints what a push amounted to, and gives its exit status.
fn finish(settings: &Settings, source: &OsString, report: &Report, digests: std::io::Result<()>) -> u8 {
    let mut status = report.status();
    if !settings.quiet && settings.progress != Progress::None {
        for text in render::summary(report) {
            line(&text);
        }
    }
    for destination in &report.destinations {
        if !settings.quiet {
            for text in scans::table(destination) {
                line(&text);
            }
        }
        if let Some(error) = &destination.scan_error {
            fail(Some(&destination.repository.to_string()), error);
        }
        if let Some(error) = &destination.error {
            fail(Some(&destination.repository.to_string()), error);
            let written: Vec<_> =
                destination.tags.iter().filter(|(_, o)| *o == ecr_push::push::TagOutcome::Written).collect();
            for (tag, _) in written {
                line(&format!("  note: the tag {}:{tag} was written before that", destination.repository));
            }
        }
    }
    match &report.cleanup {
        Cleanup::Failed(error) => {
            for text in render::error_after("the image was pushed", "clean-up", error) {
                line(&text);
            }
        }
        Cleanup::Interrupted { error, .. } => render::interruption(error).iter().for_each(|text| line(text)),
        Cleanup::NotAsked | Cleanup::NotDone | Cleanup::Done(_) => {}
    }
    if let (Err(error), Some(path)) = (digests, &settings.digest_file) {
        line(&format!("error: --digest-file: {} can't be written: {error}", path.display()));
        line("  next: the image was pushed, and SOURCE is kept");
        status = if settings.job.options.cleanup { KEPT } else { USAGE };
    }
    let lines: String = report.lines().map(|text| text + "\n").collect();
    let text = match settings.output {
        Output::Text => lines.clone(),
        Output::Json => format!("{:#}\n", json::document(&source.to_string_lossy(), report, status)),
    };
    let mut stdout = std::io::stdout().lock();
    if let Err(error) = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        line(&format!("error: standard output can't be written: {error}; it was to get"));
        line(lines.trim_end());
        return status.max(USAGE);
    }
    status
}
