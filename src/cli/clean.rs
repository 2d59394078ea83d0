//! `ecr-push clean`, as a user sees it.

use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use ecr_push::clean;
use ecr_push::cleanup::Cleaned;
use ecr_push::error::Error;
use ecr_push::event::{Event, Reporter};
use ecr_push::source::Place;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::args::Output;
use super::plain::{self, line};
use super::settings::CleanSettings;
use super::{USAGE, json, render, signals};

/// The version of the JSON document; it changes only if a field had to.
const SCHEMA_VERSION: u32 = 1;

/// Stopped by SIGINT, unless it is known to have been another signal.
const INTERRUPTED: u8 = 130;

/// Says what it is that is waited for.
struct Waiting {
    quiet: bool,
}

impl Reporter for Waiting {
    fn report(&self, event: &Event) {
        if let (false, Some(words)) = (self.quiet, plain::words(event)) {
            line(&words);
        }
    }
}

/// Cleans, prints, and gives the exit status.
pub(super) async fn run(settings: CleanSettings) -> u8 {
    let CleanSettings { cleaning, source, output, quiet, .. } = settings;
    let (place, dry_run) = (cleaning.source.place.clone(), cleaning.dry_run);
    let reporter: Arc<dyn Reporter> = Arc::new(Waiting { quiet });
    let cancel = CancellationToken::new();
    let signals = signals::catch(cancel.clone());
    let outcome = clean::clean(cleaning, &reporter, &cancel).await;
    let caught = signals.status();
    tell(&source, &place, dry_run, output, quiet, &outcome, caught)
}

/// Ends what a crash left of a layout whose folder isn't there any more; `None` if there is no such thing.
pub(super) fn remains(source: &str, output: Output, quiet: bool) -> Option<u8> {
    // The path may have a choice behind it.
    let ends = source.rmatch_indices([':', '@']).map(|(at, _)| at);
    let (path, freed) = std::iter::once(source.len())
        .chain(ends)
        .map(|end| Path::new(&source[..end]))
        .find_map(|path| Some((path, clean::remains(path)?)))?;
    let cleaned = Cleaned { folder: true, freed, ..Cleaned::default() };
    let place = Place::Path { path: path.to_owned(), said: None };
    Some(tell(source, &place, false, output, quiet, &Ok(cleaned), None))
}

fn tell(
    source: &str,
    place: &Place,
    dry_run: bool,
    output: Output,
    quiet: bool,
    outcome: &Result<Cleaned, Error>,
    caught: Option<u8>,
) -> u8 {
    let status = match outcome {
        Ok(_) => 0,
        Err(Error::Interrupted { .. }) => {
            line("interrupted: nothing is removed any more; what had begun the next clean-up ends");
            return caught.unwrap_or(INTERRUPTED);
        }
        Err(error) => error.status(),
    };
    // Which signal it was only whoever caught it knows.
    let status = caught.filter(|_| status == INTERRUPTED).unwrap_or(status);
    match outcome {
        Ok(cleaned) if !quiet => line(&render::cleaned(cleaned, dry_run)),
        Ok(_) => {}
        Err(error) if [INTERRUPTED, caught.unwrap_or(INTERRUPTED)].contains(&status) => {
            for text in render::interruption(error) {
                line(&text);
            }
        }
        // Which image it is that stays.
        Err(error) => _ = super::fail(Some(source), error),
    }
    let cleaned = match outcome {
        Ok(cleaned) => Some(cleaned),
        Err(Error::Cleanup(error)) => error.cleaned(),
        // SOURCE was never come to.
        Err(_) => return status,
    };
    let text = match output {
        Output::Text => cleaned.map(|cleaned| lines(place, cleaned)).unwrap_or_default(),
        Output::Json => format!("{:#}\n", document(source, dry_run, outcome, status)),
    };
    let mut stdout = std::io::stdout().lock();
    if let Err(error) = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        line(&format!("error: standard output can't be written: {error}"));
        return status.max(USAGE);
    }
    status
}

/// A line for each name that went, as SOURCE would be written.
fn lines(place: &Place, cleaned: &Cleaned) -> String {
    let lines: Vec<String> = match place {
        Place::Path { path, .. } if cleaned.file == Some(true) => vec![path.display().to_string()],
        Place::Path { path, .. } => {
            let unnamed = cleaned.images.iter().filter(|image| image.names.is_empty());
            let names = cleaned.names.iter().map(|name| format!("{}:{name}", path.display()));
            names.chain(unnamed.map(|image| format!("{}@{}", path.display(), image.digest))).collect()
        }
        Place::Engine { .. } => cleaned.names.iter().map(|name| format!("docker-daemon:{name}")).collect(),
        Place::StandardInput => Vec::new(),
    };
    lines.into_iter().map(|text| render::one_line(&text) + "\n").collect()
}

fn document(source: &str, dry_run: bool, outcome: &Result<Cleaned, Error>, status: u8) -> Value {
    let cleanup = match outcome {
        Ok(cleaned) => json::cleaned(if dry_run { "planned" } else { "done" }, cleaned),
        Err(error) => json::not_cleaned(error, status),
    };
    json!({
        "schemaVersion": SCHEMA_VERSION,
        "source": source,
        "dryRun": dry_run,
        "exitStatus": status,
        "cleanup": cleanup,
    })
}
