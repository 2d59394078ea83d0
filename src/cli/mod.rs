//! The binary's own: what was typed, what it means, and what people see of it.

pub(crate) mod args;
mod bars;
mod clean;
mod digest_file;
mod doctor;
mod dry_run;
mod environment;
mod inspect;
mod json;
mod plain;
mod push;
mod render;
mod scans;
mod settings;
mod shown;
mod signals;

use ecr_push::error::Error;
use ecr_push::source::SourceError;

use self::args::Typed;
use self::plain::line;
use self::settings::{CleanSettings, DoctorSettings, InspectSettings, Settings, SettingsError};

/// A wrong command line.
const USAGE: u8 = 2;

/// Runs the program and gives its exit status.
pub(crate) fn run() -> u8 {
    environment::without_empty();
    let typed = match args::parse(std::env::args_os(), |name| std::env::var_os(name)) {
        Ok(typed) => typed,
        Err(error) => {
            let _ = error.print();
            return u8::try_from(error.exit_code()).unwrap_or(USAGE);
        }
    };
    match typed {
        Typed::Push(args) => {
            let source = args.source.clone();
            match Settings::of(*args) {
                Ok(settings) if settings.job.options.dry_run => {
                    block_on(settings.verbose, dry_run::run(&settings, &source))
                }
                Ok(settings) => block_on(settings.verbose, push::run(&settings, &source)),
                Err(error) => refuse(error),
            }
        }
        Typed::Clean(args) => {
            let (output, quiet, dry_run) = (args.talk.output, args.talk.quiet, args.dry_run);
            match CleanSettings::of(*args) {
                Ok(settings) => block_on(settings.verbose, clean::run(settings)),
                // What isn't there may have been cut short while it went.
                Err(SettingsError::Source(SourceError::Missing { path })) if !dry_run => {
                    let remains = clean::remains(&path.to_string_lossy(), output, quiet);
                    remains.unwrap_or_else(|| refuse(SourceError::Missing { path }.into()))
                }
                Err(error) => refuse(error),
            }
        }
        Typed::Doctor(args) => match DoctorSettings::of(*args) {
            Ok(settings) => block_on(settings.verbose, doctor::run(&settings)),
            Err(error) => refuse(error),
        },
        Typed::Inspect(args) => match InspectSettings::of(*args) {
            Ok(settings) => block_on(settings.verbose, inspect::run(settings)),
            Err(error) => refuse(error),
        },
    }
}

/// Says what is wrong with the command line, and gives the exit status.
fn refuse(error: SettingsError) -> u8 {
    if let SettingsError::Source(error) = error {
        return fail(None, &error.into());
    }
    line(&format!("error: {}", ecr_push::cause::chain(&error)));
    USAGE
}

fn block_on(verbose: u8, command: impl Future<Output = u8>) -> u8 {
    log(verbose);
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            line(&format!("error: no threads can be started: {error}"));
            return 1;
        }
    };
    let status = runtime.block_on(command);
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
