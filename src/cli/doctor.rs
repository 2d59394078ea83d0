//! `ecr-push doctor`, as a user sees it.

use std::io::Write;
use std::sync::Arc;

use ecr_push::doctor::{self, Check, Diagnosis, State};
use ecr_push::event::{Event, Reporter};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::args::Output;
use super::plain::{self, line};
use super::settings::DoctorSettings;
use super::{USAGE, fail, render, signals};

/// The version of the JSON document; it changes only if a field had to.
const SCHEMA_VERSION: u32 = 1;

/// Says what is waited for, so that nobody takes a slow check for a hang.
struct Lines {
    quiet: bool,
}

impl Reporter for Lines {
    fn report(&self, event: &Event) {
        if let Some(text) = plain::words(event).filter(|_| !self.quiet) {
            line(&text);
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
    let reporter: Arc<dyn Reporter> = Arc::new(Lines { quiet: settings.quiet });
    let diagnosis = match doctor::examine(&settings.examination, &reporter, &cancel).await {
        Ok(diagnosis) => diagnosis,
        Err(error) => {
            let status = fail(None, &error);
            return caught.status().unwrap_or(status);
        }
    };
    let destination = settings.examination.destination.to_string();
    let text = match settings.output {
        Output::Text => text(&destination, &diagnosis),
        Output::Json => format!("{:#}\n", document(&destination, &diagnosis)),
    };
    let mut stdout = std::io::stdout().lock();
    if let Err(error) = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
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

fn text(destination: &str, diagnosis: &Diagnosis) -> String {
    let width = diagnosis.checks.iter().map(|check| check.name.chars().count()).max().unwrap_or(0);
    let mut lines: Vec<String> = Vec::new();
    for Check { name, state, finding, mend, .. } in &diagnosis.checks {
        // What has several lines stays in its column.
        let finding = finding.replace('\n', &format!("\n{:7}  {:width$}  ", "", ""));
        lines.push(format!("{:7}  {name:width$}  {finding}", word(*state)));
        lines.extend(mend.iter().map(|mend| format!("{:7}  {:width$}  next: {mend}", "", "")));
    }
    if let Some(policy) = &diagnosis.policy {
        lines.push(String::new());
        lines.push("The IAM policy that a push there needs, and no more:".to_owned());
        lines.push(policy.clone());
    }
    lines.push(String::new());
    let unknown = diagnosis.checks.iter().any(|check| check.state == State::Unknown);
    lines.push(match (diagnosis.status(), unknown) {
        (0, false) => format!("A push to {destination} would work."),
        (0, true) => format!("Nothing stands in the way of a push to {destination}, as far as can be seen."),
        (status, _) => format!("A push to {destination} would end with exit status {status}."),
    });
    render::printable(&(lines.join("\n") + "\n"))
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
