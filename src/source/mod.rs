//! SOURCE: what was typed, what it is, and which of its images is meant.

pub mod archive;
pub mod docker;
pub mod engine;
pub mod files;
pub mod folder;
pub mod layout;
pub mod listing;
pub mod lock;
pub mod platforms;
pub mod spool;
pub mod tar;
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

/// What a path is said to hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// An OCI image layout folder.
    Layout,
    /// A tar of an OCI image layout.
    OciArchive,
    /// What `docker save` writes.
    DockerArchive,
}

impl Form {
    /// Its name, for people.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Layout => "OCI image layout",
            Self::OciArchive => "OCI archive",
            Self::DockerArchive => "docker archive",
        }
    }
}

/// Where an image is read from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// A folder or a file.
    Path {
        /// Its path.
        path: PathBuf,
        /// What it was said to be; without that its content tells.
        said: Option<Form>,
    },
    /// A tar from standard input.
    StandardInput,
    /// An image in a Docker or Podman engine: a name, a name with a digest, or an ID.
    Engine {
        /// As typed.
        image: String,
    },
}

/// A SOURCE as typed, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// Where it is.
    pub place: Place,
    /// The image in it. An engine's is part of its place.
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
        let whole = |path: &str, said| Self { place: Place::Path { path: path.into(), said }, choice: Choice::Only };
        if !text.is_empty() && exists(Path::new(text)) {
            return Ok(whole(text, None));
        }
        if let Some(rest) = text.strip_prefix('-')
            && (rest.is_empty() || rest.starts_with([':', '@']))
        {
            let choice = if rest.is_empty() { Choice::Only } else { choice(text, rest)? };
            return Ok(Self { place: Place::StandardInput, choice });
        }
        let (kind, rest) = text.split_once(':').unwrap_or(("", text));
        match kind {
            "oci" => Self::at_path(text, rest, Some(Form::Layout), &exists),
            "oci-archive" => Self::at_path(text, rest, Some(Form::OciArchive), &exists),
            "docker-archive" => Self::at_path(text, rest, Some(Form::DockerArchive), &exists),
            "docker-daemon" if rest.is_empty() => Err(SourceError::EmptyChoice { text: text.to_owned() }),
            "docker-daemon" => Ok(Self { place: Place::Engine { image: rest.to_owned() }, choice: Choice::Only }),
            "containers-storage" => Err(SourceError::Foreign { prefix: "containers-storage", name: rest.to_owned() }),
            "containerd" => Err(SourceError::Foreign { prefix: "containerd", name: rest.to_owned() }),
            _ => Self::at_path(text, text, None, &exists),
        }
    }

    fn at_path(
        text: &str,
        rest: &str,
        said: Option<Form>,
        exists: &impl Fn(&Path) -> bool,
    ) -> Result<Self, SourceError> {
        if exists(Path::new(rest)) {
            return Ok(Self { place: Place::Path { path: rest.into(), said }, choice: Choice::Only });
        }
        for (at, _) in rest.rmatch_indices([':', '@']) {
            let path = Path::new(&rest[..at]);
            if at > 0 && exists(path) {
                let choice = choice(text, &rest[at..])?;
                return Ok(Self { place: Place::Path { path: path.to_owned(), said }, choice });
            }
        }
        Err(SourceError::Missing { path: rest.into() })
    }
}

/// What follows a path: `:NAME` or `@DIGEST`.
fn choice(text: &str, suffix: &str) -> Result<Choice, SourceError> {
    let chosen = suffix.get(1..).unwrap_or_default();
    if chosen.is_empty() {
        return Err(SourceError::EmptyChoice { text: text.to_owned() });
    }
    if suffix.starts_with(':') {
        return Ok(Choice::Name(chosen.to_owned()));
    }
    Ok(Choice::Digest(Digest::parse(chosen).map_err(SourceError::Digest)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn reading_order() {
        let parse =
            |text: &str, there: &[&str]| Source::parse_with(text, |p| there.iter().any(|t| Path::new(t) == p)).unwrap();
        let check = |text: &str, there: &[&str], path: &str, choice: Choice| {
            let found = parse(text, there);
            let Place::Path { path: found_path, .. } = found.place else { panic!("{text}: {found:?}") };
            assert_eq!((found_path, found.choice), (path.into(), choice), "{text}");
        };
        let said = |text: &str, there: &[&str]| match parse(text, there).place {
            Place::Path { said, .. } => said,
            place => panic!("{text}: {place:?}"),
        };
        assert_eq!(said("a", &["a"]), None);
        assert_eq!(said("oci:a", &["a"]), Some(Form::Layout));
        assert_eq!(said("oci:a", &["a", "oci:a"]), None);
        assert_eq!(said("oci-archive:a:v1", &["a"]), Some(Form::OciArchive));
        assert_eq!(said("docker-archive:a", &["a"]), Some(Form::DockerArchive));
        let place = |text: &str| (parse(text, &[]).place, parse(text, &[]).choice);
        let engine = |image: &str| (Place::Engine { image: image.to_owned() }, Choice::Only);
        assert_eq!(place("docker-daemon:h.example:5000/app:v1"), engine("h.example:5000/app:v1"));
        assert_eq!(place(&format!("docker-daemon:app@{DIGEST}")), engine(&format!("app@{DIGEST}")));
        assert_eq!(place("-"), (Place::StandardInput, Choice::Only));
        assert_eq!(place("-:app:v1"), (Place::StandardInput, Choice::Name("app:v1".to_owned())));
        assert_eq!(
            place(&format!("-@{DIGEST}")),
            (Place::StandardInput, Choice::Digest(Digest::parse(DIGEST).unwrap()))
        );
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
        assert!(matches!(check("-:", &[]), SourceError::EmptyChoice { .. }));
        assert!(matches!(check("-@v1", &[]), SourceError::Digest(_)));
        assert!(matches!(check("-x", &[]), SourceError::Missing { .. }));
        assert!(matches!(check("docker-daemon:", &[]), SourceError::EmptyChoice { .. }));
        assert!(matches!(check("containers-storage:app", &[]), SourceError::Foreign { .. }));
    }
}
