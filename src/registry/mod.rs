//! The wire: one method for each endpoint of the distribution specification that a push needs.
//!
//! Nothing here tries again: what a failure means is in [`failure`], what to do about it is the push's business.

mod authorization;
mod bearer;
pub mod body;
mod client;
pub mod endpoint;
pub mod failure;
pub mod probe;
mod session;
pub mod touch;
pub mod transport;

use std::time::Duration;

use bytes::Bytes;
use reqwest::header::{CONTENT_TYPE, HeaderValue};
use reqwest::{Method, StatusCode};
use serde::Deserialize;

use self::failure::{Meaning, Oddity, RegistryError};
pub use self::session::{Position, Session};
use self::transport::{Call, ERROR_LIMIT, Reply, Transport, TransportSettings, redacted};
use crate::auth::Credentials;
use crate::oci::descriptor::MediaType;
use crate::oci::digest::Digest;
use crate::oci::manifest::{MAX_SIZE, Manifest};
use crate::oci::reference::Host;

/// What a manifest GET may have: the largest manifest.
const MANIFEST_LIMIT: usize = 4 * 1024 * 1024;
const _: () = assert!(MANIFEST_LIMIT as u64 == MAX_SIZE);

/// A manifest that is in the registry, as a HEAD or GET tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The digest that the registry names, if it names one.
    pub digest: Option<Digest>,
}

/// What the registry says to a manifest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stored {
    /// Whether it says that it has linked the manifest to its subject.
    pub subject: bool,
}

/// A blob that is to be taken over from another repository of the same registry, and not sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// The blob.
    pub digest: Digest,
    /// The repository's name; that of the target itself asks whether it has the blob already.
    pub from: String,
}

/// What became of a POST that opens an upload.
#[derive(Debug, Clone)]
pub enum Opened {
    /// The blob is there: there is nothing to upload.
    Mounted,
    /// It isn't, as far as the registry says, and may be sent into this session.
    Session(Session),
}

/// One registry.
#[derive(Debug)]
pub struct Registry {
    transport: Transport,
}

#[derive(Deserialize)]
struct ReferrersPage {
    #[serde(rename = "manifests")]
    _manifests: Vec<serde::de::IgnoredAny>,
}

impl Registry {
    /// The registry `host`; nothing is sent yet.
    ///
    /// # Errors
    /// When the HTTP client can't be made.
    pub fn new(host: &Host, credentials: Credentials, settings: &TransportSettings) -> Result<Self, RegistryError> {
        Ok(Self { transport: Transport::new(host, credentials, settings)? })
    }

    /// Whose credentials it is shown, in words, and where they come from.
    #[must_use]
    pub fn shown(&self) -> String {
        self.transport.shown().unwrap_or_else(|| "none are known for this host: anonymous".to_owned())
    }

    /// Opens so many connections, for requests that will come soon. One that fails shows when it is needed.
    pub fn connect_ahead(&self, connections: usize) {
        self.transport.connect_ahead(connections);
    }

    /// How long an answer may take, and a byte of an upload.
    #[must_use]
    pub fn timeout(&self) -> Duration {
        self.transport.timeout()
    }

    /// `HEAD manifests/REFERENCE`; `None` where there is none, or no such repository.
    ///
    /// # Errors
    /// When the registry can't be reached or refuses.
    pub async fn head_manifest(&self, repository: &str, reference: &str) -> Result<Option<Found>, RegistryError> {
        let reply = self.head(repository, "manifests", reference).await?;
        Ok(reply.map(|reply| Found { digest: content_digest(&reply) }))
    }

    /// `GET manifests/REFERENCE`: its bytes; `None` where there is none.
    ///
    /// # Errors
    /// When the registry can't be reached or refuses; a missing repository is such a refusal.
    pub async fn get_manifest(&self, repository: &str, reference: &str) -> Result<Option<Bytes>, RegistryError> {
        let path = format!("manifests/{reference}");
        let call = Call { limit: MANIFEST_LIMIT, ..self.call(Method::GET, repository, &path) };
        let reply = self.transport.send(call).await?;
        if reply.status == StatusCode::NOT_FOUND {
            let answer = self.transport.answer(&Method::GET, &reply);
            if answer.meaning == Meaning::RepositoryMissing {
                return Err(RegistryError::Answered(Box::new(answer)));
            }
            return Ok(None);
        }
        Ok(Some(self.good(&Method::GET, reply)?.body))
    }

    /// `PUT manifests/REFERENCE`, the reference being a digest or a tag.
    ///
    /// # Errors
    /// When the registry can't be reached, refuses, or says that it stored another digest.
    pub async fn put_manifest(
        &self,
        repository: &str,
        reference: &str,
        manifest: &Manifest,
    ) -> Result<Stored, RegistryError> {
        self.put(repository, reference, &manifest.media_type, manifest.bytes.clone(), Some(&manifest.digest)).await
    }

    /// `PUT manifests/TAG` of a manifest that was made here: the index of the referrers tag schema.
    ///
    /// # Errors
    /// When the registry can't be reached or refuses.
    pub async fn put_index(&self, repository: &str, tag: &str, bytes: Bytes) -> Result<Stored, RegistryError> {
        self.put(repository, tag, &MediaType::oci_index(), bytes, None).await
    }

    async fn put(
        &self,
        repository: &str,
        reference: &str,
        media_type: &MediaType,
        bytes: Bytes,
        digest: Option<&Digest>,
    ) -> Result<Stored, RegistryError> {
        let path = format!("manifests/{reference}");
        let mut call = self.call(Method::PUT, repository, &path);
        call.content_type = Some(media_type.as_str());
        call.body = bytes;
        let reply = self.good(&Method::PUT, self.transport.send(call).await?)?;
        if let Some(digest) = digest {
            same_digest("PUT", &reply, digest)?;
        }
        Ok(Stored { subject: reply.headers.contains_key("oci-subject") })
    }

    /// `HEAD blobs/DIGEST`: whether the repository has it.
    ///
    /// # Errors
    /// When the registry can't be reached or refuses.
    pub async fn has_blob(&self, repository: &str, digest: &Digest) -> Result<bool, RegistryError> {
        Ok(self.head(repository, "blobs", digest.as_str()).await?.is_some())
    }

    /// `POST blobs/uploads/`, with `?mount=DIGEST&from=REPOSITORY` where the blob is to be mounted if it can be.
    ///
    /// # Errors
    /// When the registry can't be reached, refuses, doesn't say where to, or says that it mounted something else.
    pub async fn open_session(&self, repository: &str, mount: Option<&Mount>) -> Result<Opened, RegistryError> {
        let mut call = self.call(Method::POST, repository, "blobs/uploads/");
        if let Some(Mount { digest, from }) = mount {
            call.url.query_pairs_mut().append_pair("mount", digest.as_str()).append_pair("from", from);
            call.from = Some(from.as_str()).filter(|from| *from != repository);
        }
        let reply = self.good(&Method::POST, self.transport.send(call).await?)?;
        match mount {
            Some(mount) if reply.status == StatusCode::CREATED => {
                same_digest("POST", &reply, &mount.digest)?;
                Ok(Opened::Mounted)
            }
            _ => Ok(Opened::Session(self.session(&reply)?)),
        }
    }

    /// `GET referrers/DIGEST`: whether the registry has that endpoint, and so keeps the list by itself.
    ///
    /// # Errors
    /// When the registry can't be reached or refuses.
    pub async fn lists_referrers(&self, repository: &str, digest: &Digest) -> Result<bool, RegistryError> {
        let path = format!("referrers/{digest}");
        let call = Call { limit: MANIFEST_LIMIT, ..self.call(Method::GET, repository, &path) };
        let reply = self.transport.send(call).await?;
        if reply.status == StatusCode::NOT_FOUND {
            return Ok(false);
        }
        let reply = self.good(&Method::GET, reply)?;
        // What isn't an index comes from a registry that answers 200 to everything.
        Ok(serde_json::from_slice::<ReferrersPage>(&reply.body).is_ok())
    }

    /// A HEAD; `None` for 404. Why it was refused only a GET tells, since a HEAD has no body (facts/ecr.md, Credentials).
    async fn head(&self, repository: &str, kind: &str, reference: &str) -> Result<Option<Reply>, RegistryError> {
        let path = format!("{kind}/{reference}");
        let mut reply = self.transport.send(self.call(Method::HEAD, repository, &path)).await?;
        if is_refusal(reply.status) {
            // On ECR a GET of a blob needs a right that a push doesn't, and would be refused for the want of that one. The
            // GET of a manifest tells what else may be wrong: a token that has expired, and is renewed by asking.
            let another = self.transport.is_ecr() && kind == "blobs";
            let asked = if another { format!("manifests/{reference}") } else { path.clone() };
            let told = self.transport.send(self.call(Method::GET, repository, &asked)).await;
            if let Ok(told) = told
                && is_refusal(told.status)
                && !another
            {
                return self.good(&Method::GET, told).map(Some);
            }
            reply = self.transport.send(self.call(Method::HEAD, repository, &path)).await?;
        }
        if reply.status == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        self.good(&Method::HEAD, reply).map(Some)
    }

    fn call<'a>(&self, method: Method, repository: &'a str, path: &str) -> Call<'a> {
        let url = self.transport.url(&format!("/v2/{repository}/{path}"));
        Call {
            method,
            url,
            repository,
            from: None,
            content_type: None,
            content_range: None,
            body: Bytes::new(),
            limit: ERROR_LIMIT,
        }
    }

    fn good(&self, method: &Method, reply: Reply) -> Result<Reply, RegistryError> {
        let is_page = |value: &HeaderValue| value.as_bytes().starts_with(b"text/html");
        if reply.status.is_success() && reply.headers.get(CONTENT_TYPE).is_some_and(is_page) {
            let (method, url) = (transport::name(method), redacted(&reply.url));
            return Err(RegistryError::Odd { method, url, oddity: Oddity::Page });
        }
        if reply.status.is_success() {
            return Ok(reply);
        }
        Err(RegistryError::Answered(Box::new(self.transport.answer(method, &reply))))
    }
}

fn is_refusal(status: StatusCode) -> bool {
    matches!(status, StatusCode::BAD_REQUEST | StatusCode::FORBIDDEN)
}

fn content_digest(reply: &Reply) -> Option<Digest> {
    let header = reply.headers.get("docker-content-digest")?;
    Digest::parse(header.to_str().ok()?).ok()
}

/// Whether the registry stored what was sent, where it says so in the same algorithm.
fn same_digest(method: &'static str, reply: &Reply, digest: &Digest) -> Result<(), RegistryError> {
    match content_digest(reply) {
        Some(stored) if stored.algorithm() == digest.algorithm() && stored != *digest => {
            let oddity = Oddity::OtherDigest { digest: stored.to_string() };
            Err(RegistryError::Odd { method, url: redacted(&reply.url), oddity })
        }
        _ => Ok(()),
    }
}
