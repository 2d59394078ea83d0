//! What the registries hold, in memory: repositories, sessions, tokens. Blobs' bytes are in the store.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;

use crate::auth::Tokens;
use crate::config::{Config, LayerLag, RegistryId};
use crate::digest::Digest;
use crate::document::Document;
use crate::fault::Fault;
use crate::identity::Temporary;
use crate::invariants::Violation;
use crate::quota::Bucket;
use crate::repository::RepositorySettings;
use crate::scanning::Scan;
use crate::store::Upload;

/// Everything that changes while the server runs.
#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) repositories: BTreeMap<(RegistryId, String), Repository>,
    pub(crate) sessions: HashMap<String, Session>,
    pub(crate) tokens: Tokens,
    pub(crate) temporary: Temporary,
    /// Tokens of the instance metadata service.
    pub(crate) metadata_tokens: Vec<String>,
    /// Access tokens of IAM Identity Center that were given for refresh tokens.
    pub(crate) sso_tokens: Vec<String>,
    pub(crate) faults: Vec<Fault>,
    pub(crate) buckets: BTreeMap<(RegistryId, &'static str), Bucket>,
    /// API requests of keys that expire.
    pub(crate) asked: BTreeMap<String, u64>,
    /// Whether somebody else has made the repository that [`Builder::creation_race`](crate::Builder::creation_race) is about.
    pub(crate) raced: bool,
    pub(crate) violations: Vec<Violation>,
    /// How many sessions were ever opened: a part of their names.
    pub(crate) opened: u64,
}

impl State {
    pub(crate) fn new(config: &Config) -> Self {
        let mut state = Self { faults: config.faults.clone(), ..Self::default() };
        for (registry, name) in &config.repositories {
            state.create(config, registry, name);
        }
        state
    }

    /// Makes a repository, unless it is there.
    pub(crate) fn create(&mut self, config: &Config, registry: &RegistryId, name: &str) -> &mut Repository {
        let settings = || RepositorySettings {
            mutability: config.mutability.get(name).cloned().unwrap_or_default(),
            encryption: config.creation.encryption.get(name).cloned().unwrap_or_default(),
            ..RepositorySettings::default()
        };
        self.repositories.entry((registry.clone(), name.to_owned())).or_insert_with(|| Repository {
            settings: settings(),
            created: now(),
            ..Repository::default()
        })
    }

    pub(crate) fn repository(&self, registry: &RegistryId, name: &str) -> Option<&Repository> {
        self.repositories.get(&(registry.clone(), name.to_owned()))
    }

    pub(crate) fn repository_mut(&mut self, registry: &RegistryId, name: &str) -> Option<&mut Repository> {
        self.repositories.get_mut(&(registry.clone(), name.to_owned()))
    }
}

/// One repository.
#[derive(Debug, Default)]
pub(crate) struct Repository {
    pub(crate) settings: RepositorySettings,
    /// In seconds since 1970.
    pub(crate) created: u64,
    pub(crate) blobs: BTreeMap<Digest, Blob>,
    pub(crate) manifests: BTreeMap<Digest, Manifest>,
    pub(crate) tags: BTreeMap<String, Digest>,
    /// Scans that were asked about, by image.
    pub(crate) scans: BTreeMap<Digest, Scan>,
}

impl Repository {
    /// A blob whose upload was just acknowledged. One that was there keeps its age.
    pub(crate) fn add_blob(&mut self, digest: Digest, size: u64, lag: LayerLag) {
        let refusals = if let LayerLag::Refusals(refusals) = lag { refusals } else { 0 };
        let blob = Blob { size, since: Instant::now(), refusals, archived: false };
        self.blobs.entry(digest).or_insert(blob).archived = false;
    }

    /// The digest that a tag or digest stands for.
    pub(crate) fn resolve(&self, reference: &str) -> Option<&Digest> {
        match Digest::parse(reference) {
            Some(digest) => self.manifests.get_key_value(&digest).map(|(digest, _)| digest),
            None => self.tags.get(reference),
        }
    }

    /// What a manifest points to, directly or through others, that isn't there.
    pub(crate) fn missing_below(&self, root: &Digest) -> Vec<Digest> {
        let Some(manifest) = self.manifests.get(root) else {
            return vec![root.clone()];
        };
        let blobs = manifest.document.blobs.iter().filter(|digest| !self.blobs.contains_key(digest)).cloned();
        let children = manifest.document.children.iter().flat_map(|child| self.missing_below(child));
        blobs.chain(children).collect()
    }
}

/// A blob that a repository has.
#[derive(Debug)]
pub(crate) struct Blob {
    pub(crate) size: u64,
    pub(crate) since: Instant,
    /// Manifests that are still to be refused for its lack.
    pub(crate) refusals: u32,
    /// Whether it has been moved to archive storage: for a push it is not there (facts/ecr.md, Speed).
    pub(crate) archived: bool,
}

impl Blob {
    /// Whether a manifest may name it yet; counts the refusal if not.
    pub(crate) fn settled(&mut self, lag: LayerLag) -> bool {
        match lag {
            LayerLag::None => true,
            LayerLag::For(time) => self.since.elapsed() >= time,
            LayerLag::Refusals(_) => {
                let settled = self.refusals == 0;
                self.refusals = self.refusals.saturating_sub(1);
                settled
            }
        }
    }
}

/// A manifest that a repository has.
#[derive(Debug)]
pub(crate) struct Manifest {
    pub(crate) media_type: String,
    pub(crate) bytes: Bytes,
    pub(crate) document: Document,
    /// In seconds since 1970.
    pub(crate) pushed: u64,
    /// Whether it has been moved to archive storage.
    pub(crate) archived: bool,
}

impl Manifest {
    pub(crate) fn new(media_type: &str, bytes: Bytes, document: Document) -> Self {
        Self { media_type: media_type.to_owned(), bytes, document, pushed: now(), archived: false }
    }
}

/// The time, in seconds since 1970.
fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// An upload session.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) registry: RegistryId,
    pub(crate) repository: String,
    /// Whether its client got to know of it: a session that nobody knows can't be cancelled by anybody.
    pub(crate) told: bool,
    /// Whether its client asked for its end, in vain: nothing more can be expected.
    pub(crate) given_up: bool,
    pub(crate) upload: Arc<tokio::sync::Mutex<Upload>>,
}
