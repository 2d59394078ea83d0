//! Images: putting one and finding one, for the registry and the API alike. How either says what is wrong is its own.

use bytes::Bytes;

use crate::config::{ArchivedImage, Config, LayerLag, RegistryId};
use crate::digest::{Algorithm, Digest};
use crate::document::{Document, Unreadable};
use crate::server::Shared;
use crate::state::{Manifest, Repository};
use crate::sync::lock;

/// Bytes that a manifest may have (facts/ecr.md, Uploading).
pub(crate) const MANIFEST_LIMIT: usize = 4 * 1024 * 1024;

/// The form of a tag.
pub(crate) const TAG_FORM: &str =
    "Invalid parameter at 'imageTag' failed to satisfy constraint: 'must satisfy regular expression '[a-zA-Z0-9-_.]+''";

/// An image to be put.
#[derive(Debug)]
pub(crate) struct NewImage<'a> {
    pub(crate) media_type: &'a str,
    pub(crate) bytes: Bytes,
    pub(crate) tag: Option<&'a str>,
    /// The digest that it is said to have.
    pub(crate) digest: Option<&'a str>,
}

/// What became of it.
#[derive(Debug)]
pub(crate) struct Placed {
    pub(crate) digest: Digest,
    pub(crate) subject: Option<Digest>,
    /// Whether there is anything that wasn't there before.
    pub(crate) new: bool,
}

/// Why an image can't be put.
#[derive(Debug)]
pub(crate) enum Misplaced {
    RepositoryMissing,
    Syntax,
    MediaType,
    /// The digest is not that of the bytes, or none that can be used.
    Digest(String),
    TooManyLayers,
    Children(Vec<Digest>),
    Layers(Vec<Digest>),
    Immutable(String),
    TooManyTags,
    Archived,
    /// The key of the repository can't be used.
    Key(String),
}

/// Why an image isn't found.
#[derive(Debug)]
pub(crate) enum Unfound {
    Missing,
    Archived,
}

/// Puts an image: everything that it points to must be there.
pub(crate) fn put(
    shared: &Shared,
    registry: &RegistryId,
    repository: &str,
    image: NewImage,
) -> Result<Placed, Misplaced> {
    let config = &shared.config;
    let document = Document::read(image.media_type, &image.bytes).map_err(|unreadable| match unreadable {
        Unreadable::Syntax => Misplaced::Syntax,
        Unreadable::MediaType => Misplaced::MediaType,
    })?;
    let digest = digest_of(&image, config)?;
    let subject = document.subject.clone();
    let mut state = lock(&shared.state);
    let held = state.repository_mut(registry, repository).ok_or(Misplaced::RepositoryMissing)?;
    if let Some(failure) = config.creation.key_failure(&held.settings.encryption) {
        return Err(Misplaced::Key(failure));
    }
    check_document(held, &document, config)?;
    let archived = held.manifests.get(&digest).is_some_and(|manifest| manifest.archived);
    if archived && config.archived_image == ArchivedImage::Inaccessible {
        return Err(Misplaced::Archived);
    }
    let tagged = image.tag.is_none_or(|tag| held.tags.get(tag) == Some(&digest));
    let new = archived || !tagged || !held.manifests.contains_key(&digest);
    if let Some(tag) = image.tag {
        check_tag(held, tag, &digest, config)?;
        held.tags.insert(tag.to_owned(), digest.clone());
    }
    held.manifests.insert(digest.clone(), Manifest::new(image.media_type, image.bytes, document));
    Ok(Placed { digest, subject, new })
}

/// An image that a tag or a digest names.
pub(crate) fn find<'a>(
    held: &'a Repository,
    reference: &str,
    config: &Config,
) -> Result<(&'a Digest, &'a Manifest), Unfound> {
    let digest = held.resolve(reference).ok_or(Unfound::Missing)?;
    let manifest = held.manifests.get(digest).ok_or(Unfound::Missing)?;
    match (manifest.archived, config.archived_image) {
        (false, _) => Ok((digest, manifest)),
        (true, ArchivedImage::NotFound) => Err(Unfound::Missing),
        (true, ArchivedImage::Inaccessible) => Err(Unfound::Archived),
    }
}

/// Whether a text may be a tag.
pub(crate) fn is_tag(text: &str) -> bool {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    text.bytes().next().is_some_and(word)
        && text.len() <= 128
        && text.bytes().all(|b| word(b) || b == b'.' || b == b'-')
}

/// The digest of a manifest, which must be the one it is put under.
fn digest_of(image: &NewImage, config: &Config) -> Result<Digest, Misplaced> {
    let Some(text) = image.digest else {
        return Ok(Digest::of(Algorithm::Sha256, &image.bytes));
    };
    let wanted = Digest::parse(text).filter(|wanted| {
        let known = config.sha512 || wanted.algorithm() == Algorithm::Sha256;
        known && Digest::of(wanted.algorithm(), &image.bytes) == *wanted
    });
    wanted.ok_or_else(|| Misplaced::Digest(text.to_owned()))
}

fn check_document(held: &mut Repository, document: &Document, config: &Config) -> Result<(), Misplaced> {
    if config.layer_limit.is_some_and(|limit| document.layers > limit) {
        return Err(Misplaced::TooManyLayers);
    }
    let absent = |digest: &&Digest| !held.manifests.contains_key(digest);
    let children: Vec<_> = document.children.iter().filter(absent).cloned().collect();
    if !children.is_empty() {
        return Err(Misplaced::Children(children));
    }
    let known = |digest: &Digest| held.manifests.values().any(|manifest| manifest.document.blobs.contains(digest));
    // A blob that a manifest names already has outlived its lag.
    let lag = |digest: &Digest| {
        if known(digest) { LayerLag::None } else { config.layer_lag }
    };
    let lags: Vec<_> = document.blobs.iter().map(|digest| (digest.clone(), lag(digest))).collect();
    let mut layers = Vec::new();
    for (digest, lag) in lags {
        let settled = held.blobs.get_mut(&digest).is_some_and(|blob| !blob.archived && blob.settled(lag));
        if !settled && !layers.contains(&digest) {
            layers.push(digest);
        }
    }
    if layers.is_empty() { Ok(()) } else { Err(Misplaced::Layers(layers)) }
}

/// Whether a tag may be put on a digest.
fn check_tag(held: &Repository, tag: &str, digest: &Digest, config: &Config) -> Result<(), Misplaced> {
    let present = held.tags.get(tag);
    if let Some(present) = present.filter(|_| held.settings.mutability.is_immutable(tag))
        // Whether the same digest again is refused is unknown.
        && (present != digest || config.same_digest_refused)
    {
        return Err(Misplaced::Immutable(tag.to_owned()));
    }
    let tags = held.tags.iter().filter(|(known, under)| *under == digest && known.as_str() != tag).count();
    if tags < config.limits.tags { Ok(()) } else { Err(Misplaced::TooManyTags) }
}
