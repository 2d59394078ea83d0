//! Why an engine gives no image, or keeps one.

use std::fmt;
use std::io;
use std::path::PathBuf;

use thiserror::Error;

use super::endpoint::Origin;
use crate::cause::{Cause, chain};
use crate::trust::TrustError;

/// Why an engine can't be used, or doesn't do what it is asked for.
#[derive(Debug, Error)]
pub enum EngineError {
    /// What says where the engine is says nothing that can be understood.
    #[error("{origin}: {value:?} is no address of an engine")]
    Malformed {
        /// What says it.
        origin: Origin,
        /// The address.
        value: String,
    },
    /// The engine is behind SSH.
    #[error("{origin} leads to {url}, and ecr-push speaks no SSH")]
    Ssh {
        /// What says it.
        origin: Origin,
        /// The address, without user.
        url: String,
    },
    /// The docker context isn't there, or isn't one.
    #[error("{origin} can't be read from {path}")]
    Context {
        /// The context.
        origin: Origin,
        /// Its file.
        path: PathBuf,
        /// Why not.
        source: Cause,
    },
    /// Somebody wants the engine's certificate not to be looked at.
    #[error("{origin} turns certificate checks off, and ecr-push always looks at certificates")]
    Unchecked {
        /// What says it.
        origin: Origin,
    },
    /// Certificates can't be read.
    #[error(transparent)]
    Trust(#[from] TrustError),
    /// The certificate or key that is shown to the engine can't be used.
    #[error("the client certificate in {folder} can't be used")]
    Identity {
        /// The folder with `cert.pem` and `key.pem`.
        folder: PathBuf,
        /// Why not.
        source: Cause,
    },
    /// A name that no engine can be asked for.
    #[error("{image:?} is no name of an image")]
    Name {
        /// As typed.
        image: String,
    },
    /// There is no engine, or no connection to it.
    #[error("{endpoint}: {reach}")]
    Unreachable {
        /// The engine's address.
        endpoint: String,
        /// What it looks like.
        reach: Reach,
        /// What the system said.
        source: Cause,
    },
    /// No engine that was asked has the image.
    #[error("{}", not_found(image, asked))]
    NotFound {
        /// As typed.
        image: String,
        /// The engines, and what each of them said.
        asked: Vec<Asked>,
        /// Names like it that engines have, the most alike first.
        similar: Vec<String>,
    },
    /// The image that was there a moment ago is gone.
    #[error("{endpoint} has no image {image}")]
    Gone {
        /// The engine's address.
        endpoint: String,
        /// The image.
        image: String,
    },
    /// Several images have an ID that begins like this.
    #[error("{endpoint} has several images whose ID begins with {image}: {}", ids.join(", "))]
    Ambiguous {
        /// The engine's address.
        endpoint: String,
        /// As typed.
        image: String,
        /// Their IDs.
        ids: Vec<String>,
    },
    /// The engine keeps an image, since a container or another image needs it.
    #[error("{endpoint} keeps {image}{}: {message}", used_by(containers))]
    InUse {
        /// The engine's address.
        endpoint: String,
        /// The name that was to go.
        image: String,
        /// The names of the containers, or their IDs where they have none.
        containers: Vec<String>,
        /// What the engine said.
        message: String,
    },
    /// The engine refuses, or can't.
    #[error("{endpoint} answered {method} {path} with {status}: {message}")]
    Answered {
        /// The engine's address.
        endpoint: String,
        /// The request's method.
        method: &'static str,
        /// The request's path.
        path: String,
        /// The status of the answer.
        status: u16,
        /// What the engine said.
        message: String,
    },
    /// What comes is no answer of an engine.
    #[error("{endpoint} gave no answer of an engine to {method} {path}")]
    Odd {
        /// The engine's address.
        endpoint: String,
        /// The request's method.
        method: &'static str,
        /// The request's path.
        path: String,
        /// What is wrong with it.
        source: Cause,
    },
    /// The stream of an image broke off.
    #[error("{endpoint} sent {received} bytes of {image} and then no more")]
    Cut {
        /// The engine's address.
        endpoint: String,
        /// The image.
        image: String,
        /// How many bytes came.
        received: u64,
        /// Why.
        source: Cause,
    },
}

/// How an engine can't be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// There is no socket.
    Missing,
    /// The socket is somebody else's.
    Denied,
    /// Nobody listens.
    Refused,
    /// The name of its host doesn't resolve.
    Name,
    /// TLS failed.
    Tls,
    /// It didn't answer in time.
    Slow,
    /// It closed the connection, or something else broke it.
    Broken,
}

impl fmt::Display for Reach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Missing => "there is no socket",
            Self::Denied => "permission denied",
            Self::Refused => "nobody listens",
            Self::Name => "the name of its host does not resolve",
            Self::Tls => "TLS failed",
            Self::Slow => "no answer in time",
            Self::Broken => "the connection broke",
        })
    }
}

impl Reach {
    pub(super) fn of(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::NotFound => Self::Missing,
            io::ErrorKind::PermissionDenied => Self::Denied,
            io::ErrorKind::ConnectionRefused => Self::Refused,
            io::ErrorKind::TimedOut => Self::Slow,
            _ => Self::Broken,
        }
    }
}

/// An engine that was asked for an image.
#[derive(Debug)]
pub struct Asked {
    /// Its address.
    pub endpoint: String,
    /// What it said; nothing where it is there and hasn't the image.
    pub failure: Option<EngineError>,
}

impl Asked {
    /// How it couldn't be reached, if that is what it is.
    #[must_use]
    pub fn reach(&self) -> Option<Reach> {
        match self.failure {
            Some(EngineError::Unreachable { reach, .. }) => Some(reach),
            _ => None,
        }
    }
}

/// Those that are there come first; the sockets that aren't there are told in one breath.
fn not_found(image: &str, asked: &[Asked]) -> String {
    let (missing, there): (Vec<&Asked>, Vec<&Asked>) =
        asked.iter().partition(|asked| asked.reach() == Some(Reach::Missing));
    let mut said: Vec<String> = there
        .iter()
        .map(|asked| match &asked.failure {
            None => format!("{} does not have it", asked.endpoint),
            Some(error) => chain(error),
        })
        .collect();
    let begin = if there.is_empty() { "there is no engine to ask" } else { "no engine has it" };
    if !missing.is_empty() {
        let sockets: Vec<&str> = missing.iter().map(|asked| asked.endpoint.as_str()).collect();
        said.push(format!("there is no socket at {}", sockets.join(", ")));
    }
    format!("docker-daemon:{image}: {begin}: {}", said.join("; "))
}

fn used_by(containers: &[String]) -> String {
    match containers {
        [] => String::new(),
        [one] => format!(", which the container {one} uses"),
        several => format!(", which the containers {} use", several.join(", ")),
    }
}
