//! SOURCE: what was typed, what it is, and which of its images is meant.

pub mod folder;
pub mod layout;
pub mod lock;
pub mod walk;

use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::oci::digest::{Digest, DigestError};

/// Which of a source's images is meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Choice {
    /// The only one.
    Only,
    /// The one of that name.
    Name(String),
    /// The one of that digest.
    Digest(Digest),
}

/// A SOURCE as typed, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// The OCI image layout folder.
    pub path: PathBuf,
    /// The image in it.
    pub choice: Choice,
}

/// Why a SOURCE can't be taken apart.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SourceError {
    /// A kind that is never read from directly, with the way around.
    #[error("{prefix}: is not a source that ecr-push reads")]
    Foreign {
        /// The prefix that was typed.
        prefix: &'static str,
        /// The rest of it.
        name: String,
    },
    /// Archives, engines and standard input.
    #[error("{text:?} is not an OCI image layout folder, the only source that this version reads")]
    NotYet {
        /// What was typed.
        text: String,
    },
    /// The path isn't there.
    #[error("there is nothing at {path}")]
    Missing {
        /// The path.
        path: PathBuf,
    },
    /// There is nothing after the `:` or `@`.
    #[error("{text:?} ends where the choice of an image should follow")]
    EmptyChoice {
        /// What was typed.
        text: String,
    },
    /// What follows the `@` isn't a digest.
    #[error("what follows the `@` is no digest")]
    Digest(#[source] DigestError),
}

impl Source {
    /// Reads a SOURCE in the order that the command line promises: the whole string as a path; then a `TYPE:` prefix is
    /// stripped; then the longest existing path that is followed by `:` or `@` wins and the rest is the choice.
    ///
    /// # Errors
    /// When there is no such path, or the choice is malformed.
    pub fn parse(text: &str) -> Result<Self, SourceError> {
        Self::parse_with(text, |path| path.symlink_metadata().is_ok())
    }

    fn parse_with(text: &str, exists: impl Fn(&Path) -> bool) -> Result<Self, SourceError> {
        if !text.is_empty() && exists(Path::new(text)) {
            return Ok(Self { path: text.into(), choice: Choice::Only });
        }
        if text == "-" || text.starts_with("-:") || text.starts_with("-@") {
            return Err(SourceError::NotYet { text: text.to_owned() });
        }
        let (kind, rest) = text.split_once(':').unwrap_or(("", text));
        match kind {
            "oci" => return Self::in_folder(text, rest, &exists),
            "oci-archive" | "docker-archive" | "docker-daemon" => {
                return Err(SourceError::NotYet { text: text.to_owned() });
            }
            "containers-storage" => {
                return Err(SourceError::Foreign { prefix: "containers-storage", name: rest.to_owned() });
            }
            "containerd" => return Err(SourceError::Foreign { prefix: "containerd", name: rest.to_owned() }),
            _ => {}
        }
        Self::in_folder(text, text, &exists)
    }

    fn in_folder(text: &str, rest: &str, exists: &impl Fn(&Path) -> bool) -> Result<Self, SourceError> {
        if exists(Path::new(rest)) {
            return Ok(Self { path: rest.into(), choice: Choice::Only });
        }
        for (at, separator) in rest.rmatch_indices([':', '@']) {
            let path = Path::new(&rest[..at]);
            if at == 0 || !exists(path) {
                continue;
            }
            let chosen = &rest[at + 1..];
            if chosen.is_empty() {
                return Err(SourceError::EmptyChoice { text: text.to_owned() });
            }
            let choice = if separator == ":" {
                Choice::Name(chosen.to_owned())
            } else {
                Choice::Digest(Digest::parse(chosen).map_err(SourceError::Digest)?)
            };
            return Ok(Self { path: path.to_owned(), choice });
        }
        Err(SourceError::Missing { path: rest.into() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn reading_order() {
        let check = |text: &str, there: &[&str], path: &str, choice: Choice| {
            let found = Source::parse_with(text, |p| there.iter().any(|t| Path::new(t) == p)).unwrap();
            assert_eq!(found, Source { path: path.into(), choice }, "{text}");
        };
        let name = |text: &str| Choice::Name(text.to_owned());
        check("out", &["out"], "out", Choice::Only);
        check("oci:out", &["oci:out"], "oci:out", Choice::Only);
        check("oci:out", &["out"], "out", Choice::Only);
        check("oci:out:v1", &["out"], "out", name("v1"));
        check("out:v1", &["out"], "out", name("v1"));
        check("out:v1", &["out", "out:v1"], "out:v1", Choice::Only);
        check("out:v1:x", &["out", "out:v1"], "out:v1", name("x"));
        check("out:registry.example/team/app:v1", &["out"], "out", name("registry.example/team/app:v1"));
        check(&format!("out@{DIGEST}"), &["out"], "out", Choice::Digest(Digest::parse(DIGEST).unwrap()));
        check("out:a@b", &["out"], "out", name("a@b"));
        check("./clean", &["./clean"], "./clean", Choice::Only);
    }

    #[test]
    fn refuses() {
        let check = |text: &str, there: &[&str]| {
            Source::parse_with(text, |p| there.iter().any(|t| Path::new(t) == p)).unwrap_err()
        };
        assert!(matches!(check("out", &[]), SourceError::Missing { .. }));
        assert!(matches!(check("", &[]), SourceError::Missing { .. }));
        assert!(matches!(check("out:", &["out"]), SourceError::EmptyChoice { .. }));
        assert!(matches!(check("out@v1", &["out"]), SourceError::Digest(_)));
        assert!(matches!(check("-", &[]), SourceError::NotYet { .. }));
        assert!(matches!(check("docker-daemon:app", &[]), SourceError::NotYet { .. }));
        assert!(matches!(check("containers-storage:app", &[]), SourceError::Foreign { .. }));
    }
}
