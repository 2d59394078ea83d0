//! Requests that show whether a push would be let in, and change nothing: for the doctor.
//!
//! A right is there when the registry finds fault with what was sent, and not with who sent it. What is sent is never of a
//! kind that could be stored.

use bytes::Bytes;
use reqwest::Method;

use super::failure::{Meaning, RegistryError};
use super::{Call, Registry, Session};
use crate::oci::descriptor::MediaType;
use crate::oci::digest::{Algorithm, Digest};

/// What nobody has pushed.
const NOTHING: &[u8] = b"nothing that anybody has pushed: a question of ecr-push doctor";

/// What is in no session.
const OTHER: &[u8] = b"something else than what was sent";

/// The digest of something that isn't anywhere.
#[must_use]
pub fn nowhere() -> Digest {
    Digest::of(Algorithm::Sha256, NOTHING)
}

impl Registry {
    /// `GET /v2/`: whether the credentials are let in.
    ///
    /// # Errors
    /// When the registry can't be reached or refuses the credentials.
    pub async fn ping(&self) -> Result<(), RegistryError> {
        let call = Call { url: self.transport.url("/v2/"), ..self.call(Method::GET, "", "") };
        self.good(&Method::GET, self.transport.send(call).await?).map(drop)
    }

    /// `PATCH SESSION` with a few bytes, which go when the session does.
    ///
    /// # Errors
    /// When the registry can't be reached, or refuses the caller.
    pub async fn try_part(&self, session: &Session, repository: &str) -> Result<(), RegistryError> {
        let mut call = Call { url: session.url.clone(), ..self.call(Method::PATCH, repository, "") };
        call.content_type = Some("application/octet-stream");
        call.body = Bytes::from_static(NOTHING);
        self.tried(call).await
    }

    /// `PUT SESSION?digest=…` of a digest that the session's bytes don't have, as many or few as there are.
    ///
    /// # Errors
    /// When the registry can't be reached, or refuses the caller.
    pub async fn try_completion(&self, session: &Session, repository: &str) -> Result<(), RegistryError> {
        let mut call = Call { url: session.url.clone(), ..self.call(Method::PUT, repository, "") };
        let other = Digest::of(Algorithm::Sha256, OTHER);
        call.url.query_pairs_mut().append_pair("digest", other.as_str());
        self.tried(call).await
    }

    /// `PUT manifests/DIGEST` of something that is no manifest and hasn't that digest.
    ///
    /// # Errors
    /// When the registry can't be reached, or refuses the caller.
    pub async fn try_manifest(&self, repository: &str) -> Result<(), RegistryError> {
        let index = MediaType::oci_index();
        let mut call = self.call(Method::PUT, repository, &format!("manifests/{}", nowhere()));
        call.content_type = Some(index.as_str());
        call.body = Bytes::from_static(b"{}");
        self.tried(call).await
    }

    /// Sends something of which the registry can't make anything; what it says of that doesn't matter.
    async fn tried(&self, call: Call<'_>) -> Result<(), RegistryError> {
        let method = call.method.clone();
        match self.good(&method, self.transport.send(call).await?) {
            Ok(_) => Ok(()),
            Err(error) => match error.meaning() {
                Some(
                    Meaning::SessionLost
                    | Meaning::UploadRefused
                    | Meaning::ReferenceMissing
                    | Meaning::DigestRefused
                    | Meaning::NotFound
                    | Meaning::Refused,
                ) => Ok(()),
                _ => Err(error),
            },
        }
    }
}
