//! The binary's own: what was typed, what it means, and what people see of it.

pub(crate) mod args;
mod bars;
mod digest_file;
mod json;
mod plain;
mod render;
mod settings;
mod shown;

use std::ffi::OsString;
use std::io::Write;
use std::sync::{Arc, Mutex, PoisonError};

use ecr_push::error::Error;
use ecr_push::event::{Event, Reporter};
use ecr_push::job;
use ecr_push::report::{Cleanup, Report};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use self::args::{Output, Progress};
use self::plain::line;
use self::settings::{Settings, SettingsError};
use self::shown::Shown;

/// A wrong command line.
const USAGE: u8 = 2;

/// Pushed, and SOURCE is still there.
const KEPT: u8 = 7;

/// Runs the program and gives its exit status.
pub(crate) fn run() -> u8 {
    let args = match args::parse(std::env::args_os(), |name| std::env::var_os(name)) {
        Ok(args) => args,
        Err(error) => {
            let _ = error.print();
            return u8::try_from(error.exit_code()).unwrap_or(USAGE);
        }
    };
    let source = args.source.clone();
    let settings = match Settings::of(args) {
        Ok(settings) => settings,
        Err(SettingsError::Source(error)) => return fail(None, &error.into()),
        Err(error) => {
            line(&format!("error: {}", ecr_push::cause::chain(&error)));
            return USAGE;
        }
    };
    log(settings.verbose);
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            line(&format!("error: no threads can be started: {error}"));
            return 1;
        }
    };
    let status = runtime.block_on(push(&settings, &source));
    // Whatever still reads a blob for nobody must not hold up the end.
    runtime.shutdown_background();
    status
}

/// Says that it was our fault.
pub(crate) fn confess() {
    line("error: this is a bug in ecr-push: please report it, with the lines above");
}

/// Prints an error and gives its exit status.
fn fail(subject: Option<&str>, error: &Error) -> u8 {
    for text in render::error(subject, error) {
        line(&text);
    }
    error.status()
}

/// Logs requests to standard error. Only our own: other crates' logs were never read for secrets.
fn log(verbose: u8) {
    use tracing_subscriber::filter::LevelFilter;
    use tracing_subscriber::layer::SubscriberExt;
    use tracing_subscriber::util::SubscriberInitExt;
    if verbose == 0 {
        return;
    }
    let ours = tracing_subscriber::filter::Targets::new().with_target("ecr_push", LevelFilter::DEBUG);
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_ansi(false).with_target(false);
    let _ = tracing_subscriber::registry().with(ours).with(lines).try_init();
}

async fn push(settings: &Settings, source: &OsString) -> u8 {
    let shown = Arc::new(Shown::new(settings));
    let reporter: Arc<dyn Reporter> = shown.clone();
    for text in warnings(settings) {
        reporter.report(&Event::Warning { text });
    }
    let cancel = CancellationToken::new();
    let caught = Arc::new(Mutex::new(None));
    let signals = tokio::spawn(watch(cancel.clone(), caught.clone()));
    let mut digests = Ok(());
    let outcome = match job::push(&settings.job, &reporter, &cancel).await {
        Ok(pushed) => {
            digests = digest_file::write(settings.digest_file.as_deref(), &pushed.report);
            // Whoever asked for the file needs it before SOURCE is gone.
            if digests.is_ok() {
                job::clean(&settings.job, pushed, &reporter, &cancel).await
            } else {
                Ok(pushed.report)
            }
        }
        Err(error) => Err(error),
    };
    signals.abort();
    let caught = *caught.lock().unwrap_or_else(PoisonError::into_inner);
    let tags = shown.tags();
    shown.close();
    let report = match outcome {
        Ok(report) => report,
        Err(error @ Error::Interrupted { open }) => {
            let uploads = match open {
                0 => "open uploads were cancelled".to_owned(),
                open => format!("{} could not be cancelled in time", render::number(open, "open upload")),
            };
            line(&format!("interrupted: {uploads}, SOURCE is untouched, {}", tags.words()));
            return caught.unwrap_or_else(|| error.status());
        }
        Err(error) => return fail(None, &error),
    };
    finish(settings, source, &report, digests)
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
        if let Some(error) = &destination.error {
            fail(Some(&destination.repository.to_string()), error);
            let written: Vec<_> =
                destination.tags.iter().filter(|(_, o)| *o == ecr_push::push::TagOutcome::Written).collect();
            for (tag, _) in written {
                line(&format!("  note: the tag {}:{tag} was written before that", destination.repository));
            }
        }
    }
    if let Cleanup::Failed(error) = &report.cleanup {
        fail(Some("clean-up"), error);
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

/// What the user should know before anything is sent.
fn warnings(settings: &Settings) -> Vec<String> {
    let options = &settings.job.options;
    let endpoints = options.registry_endpoints.bare.iter();
    let endpoints = endpoints.chain(options.registry_endpoints.hosts.iter().map(|(_, endpoint)| endpoint));
    let insecure = endpoints.filter(|endpoint| endpoint.is_in_the_clear());
    insecure.map(|endpoint| format!("credentials and image go to {endpoint} in the clear")).collect()
}

/// Cancels the run at the first signal, and ends the process at the second.
async fn watch(cancel: CancellationToken, caught: Arc<Mutex<Option<u8>>>) {
    let (Ok(mut interrupt), Ok(mut terminate)) = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
    else {
        return;
    };
    loop {
        let status = tokio::select! {
            _ = interrupt.recv() => 130,
            _ = terminate.recv() => 143,
        };
        if cancel.is_cancelled() {
            std::process::exit(i32::from(status));
        }
        *caught.lock().unwrap_or_else(PoisonError::into_inner) = Some(status);
        cancel.cancel();
    }
}
