//! What must hold however a client behaves, and what is said when it doesn't.

use std::fmt;

use crate::config::RegistryId;
use crate::journal::Side;
use crate::server::{Call, Shared};
use crate::sync::lock;

/// Something that a well-behaved push never does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Violation {
    /// A request that the server has no answer to.
    UnknownRequest {
        /// Method and path.
        request: String,
    },
    /// A request that the least-privilege policy of a push doesn't allow.
    ForbiddenAction {
        /// The IAM action.
        action: &'static str,
        /// Method and path.
        request: String,
    },
    /// A credential that went to a host it isn't for.
    StrayCredential {
        /// The host, as the request named it.
        host: String,
        /// Method and path.
        request: String,
    },
    /// A tag on an image that isn't whole.
    IncompleteTag {
        /// The repository.
        repository: String,
        /// The tag.
        tag: String,
        /// The digests that it reaches and the repository doesn't have.
        missing: Vec<String>,
    },
    /// An upload session whose location the client was told, and that it neither finished nor cancelled.
    OpenSession {
        /// The repository.
        repository: String,
        /// The session's name, the end of its location.
        session: String,
    },
}

/// The kinds of [`Violation`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ViolationKind {
    /// [`Violation::UnknownRequest`].
    UnknownRequest,
    /// [`Violation::ForbiddenAction`].
    ForbiddenAction,
    /// [`Violation::StrayCredential`].
    StrayCredential,
    /// [`Violation::IncompleteTag`].
    IncompleteTag,
    /// [`Violation::OpenSession`].
    OpenSession,
}

impl Violation {
    /// Its kind.
    #[must_use]
    pub fn kind(&self) -> ViolationKind {
        match self {
            Self::UnknownRequest { .. } => ViolationKind::UnknownRequest,
            Self::ForbiddenAction { .. } => ViolationKind::ForbiddenAction,
            Self::StrayCredential { .. } => ViolationKind::StrayCredential,
            Self::IncompleteTag { .. } => ViolationKind::IncompleteTag,
            Self::OpenSession { .. } => ViolationKind::OpenSession,
        }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownRequest { request } => write!(f, "unknown request: {request}"),
            Self::ForbiddenAction { action, request } => {
                write!(f, "{request} needs {action}, which a least-privilege push doesn't have")
            }
            Self::StrayCredential { host, request } => {
                write!(f, "a credential went to {host}: {request}")
            }
            Self::IncompleteTag { repository, tag, missing } => {
                write!(f, "tag {repository}:{tag} is on an incomplete image, missing {}", missing.join(", "))
            }
            Self::OpenSession { repository, session } => {
                write!(f, "upload session {session} in {repository} was neither finished nor cancelled")
            }
        }
    }
}

/// What is wrong by now: what requests did, and what they left behind.
pub(crate) fn violations(shared: &Shared) -> Vec<Violation> {
    let state = lock(&shared.state);
    let mut found = state.violations.clone();
    for ((_, name), repository) in &state.repositories {
        for (tag, root) in &repository.tags {
            let missing = repository.missing_below(root);
            if !missing.is_empty() {
                found.push(Violation::IncompleteTag {
                    repository: name.clone(),
                    tag: tag.clone(),
                    missing: missing.iter().map(ToString::to_string).collect(),
                });
            }
        }
    }
    let owed = state.sessions.iter().filter(|(_, session)| session.told && !session.given_up);
    found.extend(
        owed.map(|(id, session)| Violation::OpenSession {
            repository: session.repository.clone(),
            session: id.clone(),
        }),
    );
    found
}

/// Whether a request brings a credential to where it has no business: a token to anything but the registry's
/// own names, a signature to anything but the API. The port is the one that the request came in on.
pub(crate) fn is_stray_credential(call: &Call, port: u16) -> bool {
    let Some(header) = call.authorization() else {
        return false;
    };
    let signature = header.starts_with("AWS4-");
    let (name, at) = call.host.rsplit_once(':').unwrap_or((&call.host, ""));
    let loopback = ["127.0.0.1", "localhost", "[::1]"].contains(&name) && at.parse() == Ok(port);
    let api_host =
        || ["api.ecr.", "ecr.", "api.ecr-public.", "ecr-public."].iter().any(|start| name.starts_with(start));
    match call.side {
        Side::Api => !(signature && (loopback || api_host())),
        Side::Registry => signature || !(loopback || RegistryId::from_host(&call.host).is_some()),
        // What may go there `identity` knows; a token of the registry may not.
        Side::Identity => header.starts_with("Basic "),
        Side::Elsewhere => true,
    }
}
