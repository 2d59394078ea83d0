//! The binary's own: what was typed, what it means, and what people see of it.

pub(crate) mod args;
mod bars;
mod json;
mod plain;
mod render;
mod settings;

use std::ffi::OsString;
use std::io::{IsTerminal, Write};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use ecr_push::error::Error;
use ecr_push::event::{Event, Reporter};
use ecr_push::job;
use ecr_push::report::{Cleanup, Report};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use self::args::{Output, Progress};
use self::bars::Bars;
use self::plain::{Plain, line};
use self::settings::{Settings, SettingsError};

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
    let level = match verbose {
        0 => return,
        1 => LevelFilter::DEBUG,
        _ => LevelFilter::TRACE,
    };
    let ours = tracing_subscriber::filter::Targets::new().with_target("ecr_push", level);
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_ansi(false).with_target(false);
    let _ = tracing_subscriber::registry().with(ours).with(lines).try_init();
}

/// What shows progress, and remembers what became of tags, to say so if the run is stopped.
struct Shown {
    inner: Mutex<Option<Box<dyn Reporter>>>,
    quiet: bool,
    tags: Mutex<Tags>,
}

/// Tags of this run, by their full names.
#[derive(Debug, Clone, Default)]
struct Tags {
    written: Vec<String>,
    being_written: Vec<String>,
}

impl Tags {
    /// What the user has to know of them when the run was stopped.
    fn words(&self) -> String {
        let mut words = Vec::new();
        if !self.written.is_empty() {
            words.push(format!("these tags had been written: {}", self.written.join(", ")));
        }
        if !self.being_written.is_empty() {
            words.push(format!("these may have been: {}", self.being_written.join(", ")));
        }
        if words.is_empty() { "no tag was written".to_owned() } else { words.join("; ") }
    }
}

impl Reporter for Shown {
    fn report(&self, event: &Event) {
        let mut tags = self.tags.lock().unwrap_or_else(PoisonError::into_inner);
        match event {
            Event::Tagging { repository, tag } => tags.being_written.push(format!("{repository}:{tag}")),
            Event::Tagged { repository, tag } => {
                let name = format!("{repository}:{tag}");
                tags.being_written.retain(|other| *other != name);
                tags.written.push(name);
            }
            _ => {}
        }
        drop(tags);
        match &*self.inner.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(inner) => inner.report(event),
            None if !self.quiet && matches!(event, Event::Warning { .. }) => {
                line(&plain::words(event).unwrap_or_default());
            }
            None => {}
        }
    }
}

impl Shown {
    /// Ends progress before anything else is printed. A connection that is being torn down may still hold a reporter, and
    /// a bar that is drawn late would overwrite the error.
    fn close(&self) {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    fn new(settings: &Settings) -> Self {
        let inner: Option<Box<dyn Reporter>> = match settings.progress {
            _ if settings.quiet => None,
            Progress::None => None,
            // Log lines would tear the bars apart.
            Progress::Auto if std::io::stderr().is_terminal() && settings.bars && settings.verbose == 0 => {
                Some(Box::new(Bars::new(settings.utf8)))
            }
            Progress::Bar => Some(Box::new(Bars::new(settings.utf8))),
            Progress::Auto | Progress::Plain => Some(Box::new(Plain::new())),
        };
        Self { inner: Mutex::new(inner), quiet: settings.quiet, tags: Mutex::default() }
    }
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
            digests = write_digests(settings, &pushed.report);
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
    let tags = shown.tags.lock().unwrap_or_else(PoisonError::into_inner).clone();
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

/// Writes the digest file of a push that succeeded.
fn write_digests(settings: &Settings, report: &Report) -> std::io::Result<()> {
    let Some(path) = settings.digest_file.as_deref().filter(|_| report.status() == 0) else { return Ok(()) };
    let lines: String = report.lines().map(|text| text + "\n").collect();
    write_whole(path, &lines)
}

/// Writes a file that is either there wholly or not at all; what is no regular file, a device or a pipe, is written to.
fn write_whole(path: &Path, text: &str) -> std::io::Result<()> {
    use std::fs;
    match fs::metadata(path) {
        Ok(there) if !there.is_file() => {
            return fs::OpenOptions::new().write(true).open(path)?.write_all(text.as_bytes());
        }
        _ => {}
    }
    // A symbolic link stays one.
    let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let mut aside = path.as_os_str().to_owned();
    aside.push(format!(".ecr-push-{}", std::process::id()));
    let mut file = fs::File::create_new(&aside)?;
    let written =
        file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).and_then(|()| fs::rename(&aside, path));
    if written.is_err() {
        let _ = fs::remove_file(&aside);
    }
    written
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
