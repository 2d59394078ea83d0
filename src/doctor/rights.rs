//! The repository, what may be done to it, and what stands in a push's way there.

use std::sync::Arc;

use super::{Notes, Patient, State};
use crate::aws::host::EcrRegistry;
use crate::aws::repository::{self, RepositorySettings};
use crate::aws::session::{AwsError, AwsSession};
use crate::cause::chain;
use crate::error::status;
use crate::oci::reference::Repository;
use crate::push::opening;
use crate::push::sessions::{Opened, Sessions};
use crate::registry::failure::{Meaning, RegistryError};
use crate::registry::probe::nowhere;
use crate::registry::{Found, Registry};

/// What may be done to find out more.
enum Presence {
    /// The repository is there, or is made by whoever pushes to it.
    There(Settings),
    /// A push would make it, and so would a question that goes too far.
    ToCome,
    /// It isn't known whether it is there.
    Unclear,
    /// A push would fail for the lack of it.
    Missing,
}

/// Login, repository, rights, tag.
pub(super) async fn all(
    notes: &mut Notes,
    patient: &Patient<'_>,
    registry: &Arc<Registry>,
    ecr: Option<&AwsSession>,
    sessions: &Sessions,
) {
    let destination = &patient.examination.destination;
    let ping = patient.retry.run("login", async || registry.ping().await).await;
    if let Err(error) = ping {
        return notes.error("login", error);
    }
    notes.good("login", "the registry lets these credentials in");
    let name = &destination.repository.name;
    let right = |action: &str| match &patient.ecr {
        Some(ecr) => format!("{}:{action}", ecr.service()),
        None => elsewhere(action).to_owned(),
    };
    let Some(presence) = repository(notes, patient, registry, ecr, &right("BatchGetImage")).await else { return };
    let blobs = patient.retry.run("asking", async || registry.has_blob(name, &nowhere()).await).await;
    verdict(notes, &right("BatchCheckLayerAvailability"), blobs.map(drop));
    let why = match presence {
        Presence::There(settings) => {
            uploads(notes, patient, registry, sessions, &right).await;
            if let Some(tag) = &destination.tag {
                let naming = async || registry.head_manifest(name, tag.as_str()).await;
                let named = patient.retry.run("the tag", naming).await;
                self::tag(notes, named, &settings, tag.as_str());
            }
            return;
        }
        Presence::ToCome | Presence::Missing => "can't be tried before the repository is there",
        Presence::Unclear => "can't be tried as long as it isn't known that the repository is there",
    };
    for action in ["InitiateLayerUpload", "UploadLayerPart", "CompleteLayerUpload", "PutImage"] {
        notes.unknown(&right(action), why);
    }
}

/// What a right is called at registries that are not ECR.
fn elsewhere(action: &str) -> &str {
    match action {
        "BatchGetImage" => "read manifests",
        "BatchCheckLayerAvailability" => "look for blobs",
        "InitiateLayerUpload" => "begin uploads",
        "UploadLayerPart" => "upload",
        "CompleteLayerUpload" => "end uploads",
        "PutImage" => "write manifests",
        other => other,
    }
}

/// Whether the repository is there, and may be read: told by how a question for a manifest that nobody has is answered.
/// Gives nothing where there is nothing more to be asked.
async fn repository(
    notes: &mut Notes,
    patient: &Patient<'_>,
    registry: &Registry,
    ecr: Option<&AwsSession>,
    right: &str,
) -> Option<Presence> {
    let repository = &patient.examination.destination.repository;
    let asking = async || registry.get_manifest(&repository.name, nowhere().as_str()).await;
    let presence = match patient.retry.run("reading", asking).await {
        Ok(_) => {
            let settings = settings(ecr, &repository.name).await;
            // Other registries don't tell a repository that is missing from one that is empty.
            let finding =
                if ecr.is_some() { there(repository, &settings) } else { format!("{repository} can be read") };
            notes.good("repository", finding);
            Presence::There(settings)
        }
        Err(error) => match error.meaning() {
            Some(Meaning::RepositoryMissing) => missing(notes, patient, ecr, error).await,
            Some(Meaning::Denied) => {
                notes.unknown("repository", format!("whether {repository} is there can't be seen"));
                notes.error(right, error);
                return Some(Presence::Unclear);
            }
            _ => {
                notes.error("repository", error);
                return None;
            }
        },
    };
    // Everybody may read ECR Public.
    if !matches!(patient.ecr, Some(EcrRegistry::Public)) {
        notes.good(right, "allowed");
    }
    Some(presence)
}

/// What it means that the repository is missing.
async fn missing(notes: &mut Notes, patient: &Patient<'_>, ecr: Option<&AwsSession>, error: RegistryError) -> Presence {
    let repository = &patient.examination.destination.repository;
    let (Some(session), Some(host)) = (ecr, &patient.ecr) else {
        notes.good("repository", format!("{repository} is not there yet; whoever pushes to it makes it"));
        return Presence::There(Settings::None);
    };
    if patient.examination.create_repository {
        let finding = format!("{repository} is missing, and --create-repository makes it");
        notes.note("repository", State::Notice, finding);
        notes.unknown(&format!("{}:CreateRepository", host.service()), "can't be tried without making it");
        return Presence::ToCome;
    }
    if let Ok(true) = repository::is_created_by_push(session, &repository.name).await {
        let finding = format!("{repository} is missing, and a creation template makes it when it is pushed to");
        notes.note("repository", State::Notice, finding);
        return Presence::ToCome;
    }
    notes.error("repository", error);
    Presence::Missing
}

/// What a repository is set to, as far as the caller may see that.
enum Settings {
    Seen(RepositorySettings),
    Hidden(AwsError),
    /// There are none.
    None,
}

async fn settings(ecr: Option<&AwsSession>, repository: &str) -> Settings {
    let Some(session) = ecr else { return Settings::None };
    match repository::describe(session, repository).await {
        Ok(Some(settings)) => Settings::Seen(settings),
        Ok(None) => Settings::None,
        Err(error) => Settings::Hidden(error),
    }
}

/// What is known of a repository that is there.
fn there(repository: &Repository, settings: &Settings) -> String {
    let Settings::Seen(settings) = settings else { return format!("{repository} is there") };
    let scanned = if settings.scan_on_push { ", scanned when pushed to" } else { "" };
    let key = settings.kms_key.as_ref().map(|key| format!(", encrypted with {key}")).unwrap_or_default();
    format!("{repository} is there, its tags are {}{scanned}{key}", settings.mutability)
}

/// Opens a session, writes into it, ends it in a way that stores nothing, and cancels it; then puts what is no manifest.
async fn uploads(
    notes: &mut Notes,
    patient: &Patient<'_>,
    registry: &Arc<Registry>,
    sessions: &Sessions,
    right: &impl Fn(&str) -> String,
) {
    let name = &patient.examination.destination.repository.name;
    let repository = &patient.examination.destination.repository;
    let reference = nowhere();
    let opening =
        async || opening::open(sessions, registry, repository, reference.as_str(), None, &**patient.reporter).await;
    match patient.retry.run("an upload session", opening).await {
        Ok(Opened::Session(key, session)) => {
            notes.good(&right("InitiateLayerUpload"), "allowed");
            let part = patient.retry.run("a part", async || registry.try_part(&session, name).await).await;
            let written = part.is_ok();
            verdict(notes, &right("UploadLayerPart"), part);
            if written {
                let ending = async || registry.try_completion(&session, name).await;
                let completion = patient.retry.run("the end", ending).await;
                verdict(notes, &right("CompleteLayerUpload"), completion);
            } else {
                notes.unknown(&right("CompleteLayerUpload"), "can't be tried as long as nothing can be uploaded");
            }
            sessions.cancel(key).await;
        }
        // Nothing was to be mounted.
        Ok(Opened::Mounted) => {}
        Err(error) => {
            notes.error(&right("InitiateLayerUpload"), error);
            for action in ["UploadLayerPart", "CompleteLayerUpload"] {
                notes.unknown(&right(action), "can't be tried without an upload session");
            }
        }
    }
    let put = patient.retry.run("a manifest", async || registry.try_manifest(name).await).await;
    verdict(notes, &right("PutImage"), put);
}

fn verdict(notes: &mut Notes, name: &str, tried: Result<(), RegistryError>) {
    match tried {
        Ok(()) => notes.good(name, "allowed"),
        // Whoever may not ask isn't told so much.
        Err(error) if error.meaning() == Some(Meaning::RepositoryMissing) => notes.good(name, "allowed"),
        Err(error) => notes.error(name, error),
    }
}

/// What the destination's tag names, and whether it can be moved.
fn tag(notes: &mut Notes, named: Result<Option<Found>, RegistryError>, settings: &Settings, tag: &str) {
    let found = match named {
        Ok(Some(found)) => found.digest.map_or_else(|| "an image".to_owned(), |digest| digest.to_string()),
        Ok(None) => return notes.good("tag", format!("{tag} is free")),
        Err(error) => return notes.error("tag", error),
    };
    match settings {
        Settings::Seen(settings) if settings.mutability.is_immutable(tag) => notes.failed(
            "tag",
            format!("{tag} is immutable and names {found}: only that very image can be pushed there"),
            Some("choose another tag".to_owned()),
            status::REFUSED,
        ),
        Settings::Seen(_) | Settings::None => {
            notes.good("tag", format!("{tag} names {found}, and would be moved"));
        }
        Settings::Hidden(error) => notes
            .unknown("tag", format!("{tag} names {found}; whether it can be moved can't be seen: {}", chain(error))),
    }
}
