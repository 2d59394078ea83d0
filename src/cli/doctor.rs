//! `ecr-push doctor`, as a user sees it.

use std::io::Write;
use std::sync::{Arc, Mutex, PoisonError};

use ecr_push::doctor::{self, Check, Diagnosis, State};
use ecr_push::event::{Event, Reporter};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::args::Output;
use super::plain::{Plain, line};
use super::settings::DoctorSettings;
use super::{USAGE, fail, render, signals};

/// The version of the JSON document; it changes only if a field had to.
const SCHEMA_VERSION: u32 = 1;

/// Prints each check as soon as it is known, and says what is waited for.
struct Shown {
    output: Output,
    /// Nothing if it is to be quiet.
    progress: Option<Plain>,
    /// Why standard output can't be written, if it can't.
    broken: Mutex<Option<std::io::Error>>,
}

impl Shown {
    fn print(&self, text: &str) {
        let mut stdout = std::io::stdout().lock();
        if let Err(error) = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
            self.broken.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
        }
    }
}

impl Reporter for Shown {
    fn report(&self, event: &Event) {
        match (event, self.output) {
            (Event::Checked { check }, Output::Text) => self.print(&lines(check)),
            _ => self.progress.iter().for_each(|progress| progress.report(event)),
        }
    }
}

/// Examines, and gives the exit status.
pub(super) async fn run(settings: &DoctorSettings) -> u8 {
    if !settings.quiet {
        for warning in &settings.warnings {
            line(&format!("warning: {warning}"));
        }
    }
    let cancel = CancellationToken::new();
    let caught = signals::catch(cancel.clone());
    let progress = (!settings.quiet).then(Plain::new);
    let shown = Arc::new(Shown { output: settings.output, progress, broken: Mutex::default() });
    let reporter: Arc<dyn Reporter> = shown.clone();
    let diagnosis = match doctor::examine(&settings.examination, &reporter, &cancel).await {
        Ok(diagnosis) => diagnosis,
        Err(error) => {
            let status = fail(None, &error);
            return caught.status().unwrap_or(status);
        }
    };
    let destination = settings.examination.destination.to_string();
    shown.print(&match settings.output {
        Output::Text => verdict(&destination, &diagnosis),
        Output::Json => format!("{:#}\n", document(&destination, &diagnosis)),
    });
    let broken = shown.broken.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(error) = broken {
        line(&format!("error: standard output can't be written: {error}"));
        return diagnosis.status().max(USAGE);
    }
    diagnosis.status()
}

fn word(state: State) -> &'static str {
    match state {
        State::Good => "ok",
        State::Notice => "note",
        State::Failed => "FAILED",
        State::Unknown => "unknown",
    }
}

/// The width of a check's name: that of the longest right on private ECR.
const WIDTH: usize = "ecr:BatchCheckLayerAvailability".len();

/// The lines about one check.
fn lines(check: &Check) -> String {
    let Check { name, state, finding, mend, .. } = check;
    let column = format!("\n{:7}  {:WIDTH$}  ", "", "");
    let mend = mend.as_ref().map(|mend| format!("{column}next: {mend}")).unwrap_or_default();
    // What has several lines stays in its column.
    let finding = finding.replace('\n', &column);
    render::printable(&format!("{:7}  {name:WIDTH$}  {finding}{mend}\n", word(*state)))
}

/// What stands below the checks.
fn verdict(destination: &str, diagnosis: &Diagnosis) -> String {
    let mut lines: Vec<String> = Vec::new();
    if let Some(policy) = &diagnosis.policy {
        lines.push(format!("\nThe IAM policy that a push there needs, and no more:\n{policy}"));
    }
    let unknown = diagnosis.checks.iter().any(|check| check.state == State::Unknown);
    lines.push(match (diagnosis.status(), unknown) {
        (0, false) => format!("\nA push to {destination} would work.\n"),
        (0, true) => format!("\nNothing stands in the way of a push to {destination}, as far as can be seen.\n"),
        (status, _) => format!("\nA push to {destination} would end with exit status {status}.\n"),
    });
    render::printable(&lines.join("\n"))
}

fn document(destination: &str, diagnosis: &Diagnosis) -> Value {
    let check = |check: &Check| {
        let state = match check.state {
            State::Good => "ok",
            State::Notice => "note",
            State::Failed => "failed",
            State::Unknown => "unknown",
        };
        json!({
            "name": check.name,
            "state": state,
            "finding": check.finding,
            "mend": check.mend,
            "exitStatus": check.status,
        })
    };
    let policy = diagnosis.policy.as_ref().and_then(|policy| serde_json::from_str::<Value>(policy).ok());
    json!({
        "schemaVersion": SCHEMA_VERSION,
        "destination": destination,
        "exitStatus": diagnosis.status(),
        "checks": diagnosis.checks.iter().map(check).collect::<Vec<_>>(),
        "policy": policy,
    })
}
