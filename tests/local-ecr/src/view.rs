//! What a registry holds, and putting things there without asking it.

use std::path::PathBuf;

use bytes::Bytes;

use crate::config::{LayerLag, RegistryId};
use crate::digest::{Algorithm, Digest};
use crate::document::Document;
use crate::repository::RepositorySettings;
use crate::server::Shared;
use crate::state::{Manifest, Repository};
use crate::sync::lock;

/// One registry of a running server.
#[derive(Debug)]
pub struct RegistryView<'a> {
    shared: &'a Shared,
    registry: RegistryId,
}

impl<'a> RegistryView<'a> {
    pub(crate) fn new(shared: &'a Shared, registry: RegistryId) -> Self {
        Self { shared, registry }
    }

    fn read<T>(&self, repository: &str, work: impl FnOnce(&Repository) -> T) -> Option<T> {
        lock(&self.shared.state).repository(&self.registry, repository).map(work)
    }

    /// The names of the repositories.
    #[must_use]
    pub fn repositories(&self) -> Vec<String> {
        let state = lock(&self.shared.state);
        state.repositories.keys().filter(|(id, _)| *id == self.registry).map(|(_, name)| name.clone()).collect()
    }

    /// The digest under a tag.
    #[must_use]
    pub fn tag(&self, repository: &str, tag: &str) -> Option<String> {
        self.read(repository, |held| held.tags.get(tag).map(ToString::to_string))?
    }

    /// A repository's tags, sorted.
    #[must_use]
    pub fn tags(&self, repository: &str) -> Vec<String> {
        self.read(repository, |held| held.tags.keys().cloned().collect()).unwrap_or_default()
    }

    /// The digests of a repository's manifests, sorted.
    #[must_use]
    pub fn manifests(&self, repository: &str) -> Vec<String> {
        self.read(repository, |held| held.manifests.keys().map(ToString::to_string).collect()).unwrap_or_default()
    }

    /// A manifest's bytes.
    #[must_use]
    pub fn manifest(&self, repository: &str, digest: &str) -> Option<Bytes> {
        let digest = Digest::parse(digest)?;
        self.read(repository, |held| held.manifests.get(&digest).map(|manifest| manifest.bytes.clone()))?
    }

    /// The digests of a repository's blobs, sorted.
    #[must_use]
    pub fn blobs(&self, repository: &str) -> Vec<String> {
        self.read(repository, |held| held.blobs.keys().map(ToString::to_string).collect()).unwrap_or_default()
    }

    /// The file that holds a blob, if the repository has it.
    #[must_use]
    pub fn blob_path(&self, repository: &str, digest: &str) -> Option<PathBuf> {
        let digest = Digest::parse(digest)?;
        let held = self.read(repository, |held| held.blobs.contains_key(&digest))?;
        held.then(|| self.shared.store.blob_path(&digest))
    }

    /// What a repository is set to.
    #[must_use]
    pub fn repository_settings(&self, repository: &str) -> Option<RepositorySettings> {
        self.read(repository, |held| held.settings.clone())
    }

    /// Moves a blob to archive storage.
    ///
    /// # Panics
    ///
    /// When it isn't there.
    pub fn archive_blob(&self, repository: &str, digest: &str) {
        self.change(repository, digest, |held, digest| held.blobs.get_mut(digest).map(|blob| blob.archived = true));
    }

    /// Moves an image to archive storage.
    ///
    /// # Panics
    ///
    /// When it isn't there.
    pub fn archive_image(&self, repository: &str, digest: &str) {
        let archive = |held: &mut Repository, digest: &Digest| {
            held.manifests.get_mut(digest).map(|manifest| manifest.archived = true)
        };
        self.change(repository, digest, archive);
    }

    fn change(&self, repository: &str, digest: &str, work: impl FnOnce(&mut Repository, &Digest) -> Option<()>) {
        let mut state = lock(&self.shared.state);
        let held = state.repository_mut(&self.registry, repository);
        let done = held.zip(Digest::parse(digest)).and_then(|(held, digest)| work(held, &digest));
        done.unwrap_or_else(|| panic!("{repository} has no {digest}"));
    }

    /// Puts a blob there, and the repository too if it is missing; gives the digest.
    ///
    /// # Panics
    ///
    /// When it can't be written to disk.
    #[expect(clippy::must_use_candidate, reason = "a test may know the digest")]
    pub fn seed_blob(&self, repository: &str, bytes: &[u8]) -> String {
        let digest = Digest::of(Algorithm::Sha256, bytes);
        self.shared.store.put(&digest, bytes).expect("the blob folder is writable");
        let mut state = lock(&self.shared.state);
        let held = state.create(&self.shared.config, &self.registry, repository);
        held.add_blob(digest.clone(), bytes.len() as u64, LayerLag::None);
        digest.to_string()
    }

    /// Puts a manifest there, whether complete or not, and a tag on it if one is given; gives the digest.
    ///
    /// # Panics
    ///
    /// When it isn't a manifest of this media type.
    #[expect(clippy::must_use_candidate, reason = "a test may know the digest")]
    pub fn seed_manifest(&self, repository: &str, media_type: &str, bytes: &[u8], tag: Option<&str>) -> String {
        let document = Document::read(media_type, bytes)
            .unwrap_or_else(|unreadable| panic!("not a manifest of type {media_type}: {unreadable:?}"));
        let digest = Digest::of(Algorithm::Sha256, bytes);
        let manifest = Manifest::new(media_type, Bytes::copy_from_slice(bytes), document);
        let mut state = lock(&self.shared.state);
        let held = state.create(&self.shared.config, &self.registry, repository);
        held.manifests.insert(digest.clone(), manifest);
        if let Some(tag) = tag {
            held.tags.insert(tag.to_owned(), digest.clone());
        }
        digest.to_string()
    }
}
