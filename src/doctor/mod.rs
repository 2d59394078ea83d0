//! Says, check by check, whether a push to a destination would work, and if not, why and how that is mended.
//!
//! Goes the way of a push and changes nothing: what it sends to the registry can't be stored, and the upload session that it
//! opens is cancelled.

mod account;
mod network;
mod rights;

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::aws::host::EcrRegistry;
use crate::aws::policy;
use crate::cause::chain;
use crate::error::Error;
use crate::event::{Event, Reporter};
use crate::oci::reference::Reference;
use crate::plan;
use crate::push::retry::{Bounds, Retry};
use crate::push::sessions::Sessions;
use crate::reach::{self, Access, Reached};
use crate::trust::Trust;

/// What is examined.
#[derive(Debug, Clone)]
pub struct Examination {
    /// Where a push would go.
    pub destination: Reference,
    /// How it would be reached.
    pub access: Access,
    /// Whether the push would make a missing repository.
    pub create_repository: bool,
}

/// What a check came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// As a push needs it.
    Good,
    /// A push works, and there is something to know.
    Notice,
    /// A push would fail.
    Failed,
    /// It can't be known beforehand.
    Unknown,
}

/// One check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// What was looked at.
    pub name: String,
    /// What it came to.
    pub state: State,
    /// What was seen.
    pub finding: String,
    /// How it is mended, if there is something to be mended.
    pub mend: Option<String>,
    /// The exit status with which a push would end here; 0 if it wouldn't.
    pub status: u8,
}

/// All checks of an examination.
#[derive(Debug, Clone, Default)]
pub struct Diagnosis {
    /// The checks, in the order of a push.
    pub checks: Vec<Check>,
    /// The IAM policy that a push there needs and no more, as JSON; none where there is no IAM.
    pub policy: Option<String>,
}

impl Diagnosis {
    /// The exit status with which a push would end: that of the first check that failed.
    #[must_use]
    pub fn status(&self) -> u8 {
        self.checks.iter().map(|check| check.status).find(|status| *status != 0).unwrap_or(0)
    }
}

/// The checks so far; each is told as soon as it is known.
struct Notes {
    checks: Vec<Check>,
    reporter: Arc<dyn Reporter>,
}

impl Notes {
    fn add(&mut self, check: Check) {
        self.reporter.report(&Event::Checked { check: check.clone() });
        self.checks.push(check);
    }

    fn note(&mut self, name: &str, state: State, finding: impl Into<String>) {
        let (name, finding) = (name.to_owned(), finding.into());
        self.add(Check { name, state, finding, mend: None, status: 0 });
    }

    fn good(&mut self, name: &str, finding: impl Into<String>) {
        self.note(name, State::Good, finding);
    }

    fn unknown(&mut self, name: &str, finding: impl Into<String>) {
        self.note(name, State::Unknown, finding);
    }

    fn failed(&mut self, name: &str, finding: impl Into<String>, mend: Option<String>, status: u8) {
        let (name, finding) = (name.to_owned(), finding.into());
        self.add(Check { name, state: State::Failed, finding, mend, status });
    }

    /// An error that a push would end with.
    fn error(&mut self, name: &str, error: impl Into<Error>) {
        let error = error.into();
        self.failed(name, chain(&error), error.hint(), error.status());
    }
}

/// What all checks share.
struct Patient<'a> {
    examination: &'a Examination,
    ecr: Option<EcrRegistry>,
    trust: Trust,
    retry: Retry,
    reporter: &'a Arc<dyn Reporter>,
}

/// Examines a destination.
///
/// # Errors
/// When nothing could be examined at all, or `cancel` was cancelled: an open session is cancelled then.
pub async fn examine(
    examination: &Examination,
    reporter: &Arc<dyn Reporter>,
    cancel: &CancellationToken,
) -> Result<Diagnosis, Error> {
    let sessions = Sessions::default();
    tokio::select! {
        diagnosis = all(examination, reporter, &sessions) => diagnosis,
        () = cancel.cancelled() => Err(Error::Interrupted { open: sessions.cancel_all().await }),
    }
}

async fn all(examination: &Examination, reporter: &Arc<dyn Reporter>, sessions: &Sessions) -> Result<Diagnosis, Error> {
    let Examination { destination, access, create_repository } = examination;
    let repository = &destination.repository;
    let targets = plan::targets(std::slice::from_ref(destination), &[]);
    let (mut registries, tokens) = reach::reach(&targets, access).await?;
    let files = access.ca_files.clone();
    let trust = tokio::task::spawn_blocking(move || Trust::load(&files)).await.map_err(Error::task)??;
    let ecr = EcrRegistry::of(&repository.host);
    let patient = Patient {
        examination,
        ecr,
        trust,
        retry: Retry::new(Bounds::new(access.retries, access.timeout), reporter.clone()),
        reporter,
    };

    let mut notes = Notes { checks: Vec::new(), reporter: reporter.clone() };
    notes.good("host", patient.host());
    let session = registries.get(repository).and_then(|reached| reached.as_ref().ok()?.ecr.clone());
    let mut known = true;
    if let Some(session) = &session {
        known = account::credentials(&mut notes, session, access.connect_timeout).await;
        network::api(&mut notes, &patient, session).await;
    }
    tokens.arrive(&mut registries).await?;
    let reached = registries.remove(repository);
    match (&reached, &session) {
        (Some(Err(_)), Some(_)) if !known => notes.unknown("token", "can't be asked for without credentials"),
        (Some(Err(error)), Some(_)) => notes.error("token", Error::Auth(error.clone())),
        (Some(Err(error)), None) => notes.error("credentials", Error::Auth(error.clone())),
        (Some(Ok(_)), Some(_)) => notes.good("token", "ECR gives one for these credentials"),
        (Some(Ok(Reached { registry, .. })), None) => notes.good("credentials", registry.shown()),
        (None, _) => {}
    }
    network::registry(&mut notes, &patient).await;
    if let Some(Ok(Reached { registry, ecr })) = &reached {
        rights::all(&mut notes, &patient, registry, ecr.as_deref(), sessions).await;
    }
    if let (Some(session), Some(Ok(_)), Some(EcrRegistry::Private(_))) = (&session, &reached, &patient.ecr) {
        account::mounts(&mut notes, session, access.connect_timeout).await;
    }
    let policy = patient.ecr.as_ref().map(|ecr| policy::least_privilege(ecr, &repository.name, *create_repository));
    Ok(Diagnosis { checks: notes.checks, policy })
}

impl Patient<'_> {
    /// What the destination's host is.
    fn host(&self) -> String {
        let host = &self.examination.destination.repository.host;
        match &self.ecr {
            Some(EcrRegistry::Private(ecr)) => {
                let fips = if ecr.fips { ", FIPS" } else { "" };
                let dual_stack = if ecr.dual_stack { ", dual-stack" } else { "" };
                format!("{host} is the private ECR of account {} in {}{fips}{dual_stack}", ecr.account, ecr.region)
            }
            Some(EcrRegistry::Public) => format!("{host} is ECR Public"),
            None => format!("{host} is not ECR"),
        }
    }
}
