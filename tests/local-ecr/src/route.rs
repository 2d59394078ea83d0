//! What a registry request is about, read from its path.

/// A place under `/v2/`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Route {
    Base,
    Blob { repository: String, digest: String },
    Uploads { repository: String },
    Session { repository: String, id: String },
    Manifest { repository: String, reference: String },
    Tags { repository: String },
    Referrers { repository: String, digest: String },
}

impl Route {
    /// Reads a path without its query; nothing when no place has this form. Repository names may have slashes, and are
    /// as they were sent.
    pub(crate) fn parse(path: &str) -> Option<Self> {
        let path = path.replace("%3A", ":").replace("%3a", ":");
        let rest = path.strip_prefix("/v2")?;
        if rest.is_empty() || rest == "/" {
            return Some(Self::Base);
        }
        let segments: Vec<&str> = rest.strip_prefix('/')?.split('/').collect();
        let (place, taken) = match segments.as_slice() {
            [.., "blobs", "uploads", ""] => (Place::Uploads, 3),
            [.., "blobs", "uploads"] => (Place::Uploads, 2),
            [.., "blobs", "uploads", _] => (Place::Session, 3),
            [.., "blobs", _] => (Place::Blob, 2),
            [.., "manifests", _] => (Place::Manifest, 2),
            [.., "tags", "list"] => (Place::Tags, 2),
            [.., "referrers", _] => (Place::Referrers, 2),
            _ => return None,
        };
        let repository = segments[..segments.len() - taken].join("/");
        let last = segments.last().map(|&segment| segment.to_owned()).unwrap_or_default();
        if repository.is_empty() {
            return None;
        }
        Some(match place {
            Place::Uploads => Self::Uploads { repository },
            Place::Session => Self::Session { repository, id: last },
            Place::Blob => Self::Blob { repository, digest: last },
            Place::Manifest => Self::Manifest { repository, reference: last },
            Place::Tags => Self::Tags { repository },
            Place::Referrers => Self::Referrers { repository, digest: last },
        })
    }

    pub(crate) fn repository(&self) -> Option<&str> {
        match self {
            Self::Base => None,
            Self::Blob { repository, .. }
            | Self::Uploads { repository }
            | Self::Session { repository, .. }
            | Self::Manifest { repository, .. }
            | Self::Tags { repository }
            | Self::Referrers { repository, .. } => Some(repository),
        }
    }

    /// The digest in the path.
    pub(crate) fn digest(&self) -> Option<&str> {
        match self {
            Self::Blob { digest, .. } | Self::Referrers { digest, .. } => Some(digest),
            Self::Manifest { reference, .. } if reference.contains(':') => Some(reference),
            _ => None,
        }
    }

    /// The tag in the path.
    pub(crate) fn tag(&self) -> Option<&str> {
        match self {
            Self::Manifest { reference, .. } if !reference.contains(':') => Some(reference),
            _ => None,
        }
    }
}

enum Place {
    Blob,
    Uploads,
    Session,
    Manifest,
    Tags,
    Referrers,
}

/// ECR's words for a name that can't be a repository's.
pub(crate) const NAME_FORM: &str = "Invalid parameter at 'repositoryName' failed to satisfy constraint: 'must satisfy regular expression '(?:[a-z0-9]+(?:[._-][a-z0-9]+)*/)*[a-z0-9]+(?:[._-][a-z0-9]+)*''";

/// Whether a name may be a repository's: lower-case words, parted by slashes, with dots, dashes and underscores between
/// letters.
pub(crate) fn is_repository(name: &str) -> bool {
    let word = |word: &str| {
        let edge = |byte: Option<u8>| byte.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        edge(word.bytes().next())
            && edge(word.bytes().last())
            && word.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'-'))
    };
    (2..=256).contains(&name.len()) && name.split('/').all(word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repositories_may_have_slashes_and_be_called_like_a_place() {
        let repository = "team/blobs/app".to_owned();
        for (path, expected) in [
            ("/v2/", Some(Route::Base)),
            (
                "/v2/team/blobs/app/manifests/v1",
                Some(Route::Manifest { repository: repository.clone(), reference: "v1".into() }),
            ),
            ("/v2/team/blobs/app/blobs/uploads/", Some(Route::Uploads { repository: repository.clone() })),
            (
                "/v2/team/blobs/app/blobs/uploads/x",
                Some(Route::Session { repository: repository.clone(), id: "x".into() }),
            ),
            (
                "/v2/team/blobs/app/blobs/a%3Ab",
                Some(Route::Blob { repository: repository.clone(), digest: "a:b".into() }),
            ),
            ("/v2/team/blobs/app/tags/list", Some(Route::Tags { repository })),
            ("/v2/App/tags/list", Some(Route::Tags { repository: "App".into() })),
            ("/v2/manifests/v1", None),
            ("/v1/app", None),
        ] {
            assert_eq!(Route::parse(path), expected, "{path}");
        }
    }
}
