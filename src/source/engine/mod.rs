//! An engine's images: found, exported, and untagged. Docker's Engine API, as Docker (20.10 to 29) and Podman serve it.
//!
//! Asks no more than that: no image is pulled, no container touched, nothing forced. Every request has a connection of its own
//! and is sent once.
//!
//! What an export has in it (Docker 20.10 and Podman 4.3): asked for by a name with its tag, the image's `RepoTags` are that
//! name alone, spelled as the engine does; asked for by ID they are `null` (Docker) or `[]` (Podman). A name without a tag
//! gives all of the repository's tags with Docker, and is not found with Podman unless there is a `latest`. All else in the
//! tar is the same.

mod endpoint;
mod error;
mod export;
pub(super) mod names;
mod wire;

#[cfg(test)]
mod tests;

use std::fs;
use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use serde::Deserialize;
use serde::de::DeserializeOwned;

pub use self::endpoint::{Address, Endpoint, EngineSettings, Origin};
pub use self::error::{Asked, EngineError, Reach};
pub use self::export::Export;
pub use self::names::spelled;
use self::wire::{Answer, Ask, Wire, chunk};
use crate::cause::Cause;
use crate::oci::descriptor::Platform;
use crate::oci::digest::Digest;
use crate::reach::Access;
use crate::trust::Trust;

/// What an engine's refusal may have of text that is read, in bytes.
const REFUSAL: usize = 64 * 1024;

/// An engine that answers.
#[derive(Debug, Clone)]
pub struct Engine {
    wire: Wire,
    /// How long it may be silent before it is asked whether it is there.
    quiet: Duration,
}

/// An image that an engine has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineImage {
    /// Its ID, `sha256:` and all: the digest of its config, or of its manifest or index where the engine keeps images in
    /// containerd's store.
    pub id: String,
    /// Its names with their tags, as the engine spells them.
    pub names: Vec<String>,
    /// The one of these that was asked for; none where it was asked for by ID or digest.
    pub named: Option<String>,
    /// The repositories that it was pulled from or pushed to, with its digest there.
    pub repo_digests: Vec<String>,
    /// What it runs on.
    pub platform: Platform,
    /// Its size in bytes, uncompressed.
    pub size: u64,
    /// The digests of its uncompressed layers, the lowest first.
    pub diff_ids: Vec<Digest>,
    /// Its manifest or index, where the engine keeps images as they came, and says so (API 1.48).
    pub manifest: Option<Digest>,
}

/// What the removal of a name did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Removed {
    /// Names that are gone.
    pub untagged: Vec<String>,
    /// Whether the image itself went with them.
    pub deleted: bool,
}

/// As `GET /images/NAME/json` and `GET /images/json` give it.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Listed {
    id: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Inspected {
    id: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    #[serde(default)]
    repo_digests: Option<Vec<String>>,
    #[serde(default)]
    os: String,
    #[serde(default)]
    architecture: String,
    #[serde(default)]
    variant: Option<String>,
    #[serde(default)]
    size: u64,
    #[serde(default, rename = "RootFS")]
    root_fs: RootFs,
    #[serde(default)]
    descriptor: Option<Target>,
}

/// The descriptor of what an image is in containerd's store.
#[derive(Deserialize)]
struct Target {
    digest: Digest,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RootFs {
    #[serde(default)]
    layers: Option<Vec<Digest>>,
}

impl Engine {
    /// The first engine that has `image`, of those that the settings lead to, and the image.
    ///
    /// `image` is `NAME[:TAG]`, `NAME@sha256:…`, an ID or its beginning.
    ///
    /// # Errors
    /// When there is none; with what each engine said.
    pub async fn find(
        settings: &EngineSettings,
        access: &Access,
        image: &str,
    ) -> Result<(Self, EngineImage), EngineError> {
        let (mut asked, mut names) = (Vec::new(), Vec::new());
        let trust = Trust::load(&access.ca_files)?;
        for endpoint in settings.endpoints(|path| fs::read(path))? {
            let engine = Self::new(endpoint, &trust, access)?;
            match engine.image(image).await {
                Ok(found) => return Ok((engine, found)),
                Err(error @ (EngineError::Ambiguous { .. } | EngineError::Name { .. })) => return Err(error),
                Err(EngineError::Gone { endpoint, .. }) => {
                    asked.push(Asked { endpoint, failure: None });
                    // Without the list there is less to tell, and still something.
                    names.extend(engine.list().await.unwrap_or_default().into_iter().flat_map(|(_, names)| names));
                }
                Err(failure) => asked.push(Asked { endpoint: engine.endpoint(), failure: Some(failure) }),
            }
        }
        // One that is there and can't be spoken to is all that there is to say.
        if asked.len() == 1
            && let Some(failure) = asked.pop_if(|asked| asked.failure.is_some()).and_then(|asked| asked.failure)
        {
            return Err(failure);
        }
        let similar = names::similar(image, &names);
        Err(EngineError::NotFound { image: image.to_owned(), asked, similar })
    }

    /// The engine at `endpoint`, which is not spoken to yet. Blocks, where certificates have to be read.
    ///
    /// # Errors
    /// When certificates can't be read.
    pub fn new(endpoint: Endpoint, trust: &Trust, access: &Access) -> Result<Self, EngineError> {
        let wire = Wire::new(endpoint, trust, access.connect_timeout, access.timeout)?;
        Ok(Self { wire, quiet: export::QUIET })
    }

    /// Where it is, and what said so.
    #[must_use]
    pub fn endpoint(&self) -> String {
        self.wire.endpoint.to_string()
    }

    /// What it has under this name or ID.
    ///
    /// # Errors
    /// [`EngineError::Gone`] when that is nothing, [`EngineError::Ambiguous`] when an ID's beginning is that of several.
    pub async fn image(&self, image: &str) -> Result<EngineImage, EngineError> {
        let path = format!("/images/{}/json", in_path(image)?);
        let ask = Ask { method: "GET", path: &path };
        let (status, bytes) = self.wire.held(ask).await?;
        if status != 200 {
            // Docker says of an ID's beginning that several have that it has none of them, Podman that it can't.
            if names::is_id(image) && (status == 404 || status == 500) {
                let listed = self.list().await.unwrap_or_default();
                let ids: Vec<String> =
                    listed.into_iter().map(|(id, _)| id).filter(|id| names::begins(id, image)).collect();
                if ids.len() > 1 {
                    return Err(EngineError::Ambiguous { endpoint: self.endpoint(), image: image.to_owned(), ids });
                }
            }
            return Err(self.refusal(ask, image, status, &bytes));
        }
        let found: Inspected = self.json(ask, &bytes)?;
        let names = names(found.repo_tags);
        Ok(EngineImage {
            id: id(found.id),
            named: spelled(image, &names).map(str::to_owned),
            names,
            repo_digests: found.repo_digests.unwrap_or_default(),
            platform: Platform {
                os: found.os,
                architecture: found.architecture,
                variant: found.variant.filter(|variant| !variant.is_empty()),
            },
            size: found.size,
            diff_ids: found.root_fs.layers.unwrap_or_default(),
            manifest: found.descriptor.map(|target| target.digest),
        })
    }

    /// The image's tar, as it comes. Best asked for by ID: see the module's documentation.
    ///
    /// # Errors
    /// When the engine hasn't it, or can't.
    pub async fn export(&self, image: &str) -> Result<Export, EngineError> {
        let path = format!("/images/{}/get", in_path(image)?);
        Export::begin(self, image, path).await
    }

    /// Removes a name, as `docker rmi` does: the image goes with its last one, unless a container uses it.
    ///
    /// # Errors
    /// [`EngineError::Gone`] when there is no such name, [`EngineError::InUse`] when a container needs it.
    pub async fn remove(&self, name: &str) -> Result<Removed, EngineError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Step {
            untagged: Option<String>,
            deleted: Option<String>,
        }
        let path = format!("/images/{}?force=false&noprune=false", in_path(name)?);
        let ask = Ask { method: "DELETE", path: &path };
        let (status, bytes) = self.wire.held(ask).await?;
        match status {
            200 => {
                let steps: Vec<Step> = self.json(ask, &bytes)?;
                let deleted = steps.iter().any(|step| step.deleted.is_some());
                Ok(Removed { untagged: steps.into_iter().filter_map(|step| step.untagged).collect(), deleted })
            }
            409 => {
                let (endpoint, image) = (self.endpoint(), name.to_owned());
                let containers = self.containers(name).await.unwrap_or_default();
                Err(EngineError::InUse { endpoint, image, containers, message: message(&bytes) })
            }
            _ => Err(self.refusal(ask, name, status, &bytes)),
        }
    }

    /// Sees that no container uses an image.
    ///
    /// # Errors
    /// [`EngineError::InUse`] when one does.
    pub async fn is_unused(&self, image: &str) -> Result<(), EngineError> {
        let containers = self.containers(image).await?;
        if containers.is_empty() {
            return Ok(());
        }
        let (endpoint, image) = (self.endpoint(), image.to_owned());
        let message = "it removes nothing that is used".to_owned();
        Err(EngineError::InUse { endpoint, image, containers, message })
    }

    /// The containers that use an image, running or not: their names, or their IDs where they have none.
    async fn containers(&self, image: &str) -> Result<Vec<String>, EngineError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Container {
            id: String,
            #[serde(default)]
            names: Option<Vec<String>>,
        }
        let filters = serde_json::json!({ "ancestor": [image] }).to_string();
        let filters: String = filters.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let path = format!("/containers/json?all=true&filters={filters}");
        let ask = Ask { method: "GET", path: &path };
        let (status, bytes) = self.wire.held(ask).await?;
        if status != 200 {
            return Err(self.refusal(ask, image, status, &bytes));
        }
        let containers: Vec<Container> = self.json(ask, &bytes)?;
        let name = |container: Container| {
            let name = container.names.and_then(|names| names.into_iter().next()).unwrap_or_default();
            let name = name.trim_start_matches('/');
            if name.is_empty() { container.id.chars().take(12).collect() } else { name.to_owned() }
        };
        Ok(containers.into_iter().map(name).collect())
    }

    /// IDs and names of all images.
    async fn list(&self) -> Result<Vec<(String, Vec<String>)>, EngineError> {
        let ask = Ask { method: "GET", path: "/images/json" };
        let (status, bytes) = self.wire.held(ask).await?;
        if status != 200 {
            return Err(self.refusal(ask, "", status, &bytes));
        }
        let images: Vec<Listed> = self.json(ask, &bytes)?;
        Ok(images.into_iter().map(|image| (id(image.id), names(image.repo_tags))).collect())
    }

    /// Whether it is there.
    async fn ping(&self) -> Result<(), EngineError> {
        self.wire.held(Ask { method: "GET", path: "/_ping" }).await.map(drop)
    }

    fn json<T: DeserializeOwned>(&self, ask: Ask<'_>, bytes: &[u8]) -> Result<T, EngineError> {
        serde_json::from_slice(bytes).map_err(|error| self.wire.odd(ask, error))
    }

    fn refusal(&self, ask: Ask<'_>, image: &str, status: u16, bytes: &[u8]) -> EngineError {
        let endpoint = self.endpoint();
        if status == 404 && !image.is_empty() {
            return EngineError::Gone { endpoint, image: image.to_owned() };
        }
        let (method, path) = (ask.method, ask.path.to_owned());
        EngineError::Answered { endpoint, method, path, status, message: message(bytes) }
    }
}

/// What an answer that isn't the one that was hoped for means.
async fn explain(engine: &Engine, ask: Ask<'_>, image: &str, mut answer: Answer) -> EngineError {
    let mut bytes = Vec::new();
    while let Ok(Ok(Some(piece))) = alive(engine, chunk(&mut answer.body)).await {
        bytes.extend_from_slice(&piece);
        if bytes.len() > REFUSAL {
            break;
        }
    }
    engine.refusal(ask, image, answer.status, &bytes)
}

/// What `what` gives, for as long as the engine is there: while nothing comes it is asked now and then.
async fn alive<T>(engine: &Engine, what: impl Future<Output = T>) -> Result<T, EngineError> {
    let mut what = pin!(what);
    let mut watch = pin!(async {
        loop {
            tokio::time::sleep(engine.quiet).await;
            if let Err(error) = engine.ping().await {
                return error;
            }
        }
    });
    tokio::select! {
        biased;
        given = &mut what => Ok(given),
        error = &mut watch => Err(error),
    }
}

fn in_path(image: &str) -> Result<String, EngineError> {
    names::in_path(image).ok_or_else(|| EngineError::Name { image: image.to_owned() })
}

/// Podman leaves the algorithm out here and there.
fn id(id: String) -> String {
    if id.contains(':') { id } else { format!("sha256:{id}") }
}

/// Docker's word for having none was a name once.
fn names(names: Option<Vec<String>>) -> Vec<String> {
    let mut names = names.unwrap_or_default();
    names.retain(|name| name != "<none>:<none>");
    names
}

/// What an engine says, in a line.
fn message(bytes: &[u8]) -> String {
    #[derive(Deserialize)]
    struct Message {
        message: String,
    }
    let said = match serde_json::from_slice::<Message>(bytes) {
        Ok(Message { message }) => message,
        Err(_) => String::from_utf8_lossy(bytes).chars().take(500).collect(),
    };
    Cause::new(said).to_string()
}
