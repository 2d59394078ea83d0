//! An upload session: sending, asking how far it came, going on there, and its end.
//!
//! What becomes of a session that broke off is not decided here.

use bytes::Bytes;
use reqwest::header::{LOCATION, RANGE};
use reqwest::{Method, StatusCode, Url};

use super::body::UploadBody;
use super::failure::{Meaning, Oddity, RegistryError};
use super::transport::{Call, Reply, name, redacted};
use super::{Registry, same_digest};
use crate::oci::digest::Digest;

/// A part that isn't the last must have this many bytes on ECR, whatever `OCI-Chunk-Min-Length` says (facts/ecr.md, Uploading
/// a blob).
const ECR_PART_MINIMUM: u64 = 5 * 1024 * 1024;

/// An upload session.
#[derive(Debug, Clone)]
pub struct Session {
    pub(super) url: Url,
    /// What the registry wants of a part that isn't the last, in bytes.
    part_minimum: u64,
}

impl Session {
    /// Bytes that a part must have which isn't the last; 0 where the registry doesn't say.
    #[must_use]
    pub fn part_minimum(&self) -> u64 {
        self.part_minimum
    }

    fn closing(&self, digest: &Digest) -> Url {
        let mut url = self.url.clone();
        url.query_pairs_mut().append_pair("digest", digest.as_str());
        url
    }
}

/// How far a session came.
#[derive(Debug, Clone)]
pub enum Position {
    /// It goes on here.
    At {
        /// Bytes that it has.
        bytes: u64,
        /// The session, which may have moved.
        session: Session,
    },
    /// The registry knows no such session, or no more.
    Gone,
    /// The registry doesn't say, and the session is of no more use.
    Untold,
}

impl Registry {
    /// The session that the answer to a POST opens.
    pub(super) fn session(&self, reply: &Reply) -> Result<Session, RegistryError> {
        let said = header(reply, "oci-chunk-min-length").and_then(|text| text.trim().parse().ok());
        let part_minimum = if self.transport.is_ecr() { ECR_PART_MINIMUM } else { said.unwrap_or(0) };
        Ok(Session { url: self.transport.location("POST", reply)?, part_minimum })
    }

    /// `PUT SESSION?digest=DIGEST` with the whole blob as its body: what ECR takes at any size, in one request.
    ///
    /// # Errors
    /// When the registry can't be reached, refuses, or no byte moves for the settings' `timeout`.
    pub async fn commit(
        &self,
        session: &Session,
        repository: &str,
        digest: &Digest,
        body: UploadBody,
    ) -> Result<(), RegistryError> {
        let reply = self.stream(Method::PUT, &session.closing(digest), repository, None, body).await?;
        same_digest("PUT", &reply, digest)
    }

    /// `PATCH SESSION` with all that the session lacks, from the body's first byte on; gives where the session is then.
    ///
    /// # Errors
    /// As [`Registry::commit`].
    pub async fn send_rest(
        &self,
        session: &Session,
        repository: &str,
        body: UploadBody,
    ) -> Result<Session, RegistryError> {
        // Without a unit: ECR's form, and the specification's (facts/ecr.md, Uploading a blob).
        let range = format!("{}-{}", body.from(), body.size().saturating_sub(1));
        let reply = self.stream(Method::PATCH, &session.url, repository, Some(&range), body).await?;
        self.moved("PATCH", session, &reply)
    }

    /// `PATCH SESSION` with a whole blob of which nobody knows yet how long it will be; gives where the session is then.
    ///
    /// One PATCH without a range, as docker sends it: ECR takes it (facts/ecr.md, Uploading a blob). Several would have to be
    /// of 5 MiB at least, and are a round trip each.
    ///
    /// # Errors
    /// As [`Registry::commit`].
    pub async fn send_all(
        &self,
        session: &Session,
        repository: &str,
        body: UploadBody,
    ) -> Result<Session, RegistryError> {
        let watch = body.watch();
        let reply = self.stream(Method::PATCH, &session.url, repository, None, body).await?;
        if !watch.is_whole() {
            let (method, url) = ("PATCH", redacted(&session.url));
            return Err(RegistryError::Odd { method, url, oddity: Oddity::Early });
        }
        self.moved("PATCH", session, &reply)
    }

    /// `PUT SESSION?digest=DIGEST` for a session that has all `size` bytes.
    ///
    /// # Errors
    /// As [`Registry::commit`].
    pub async fn finish(
        &self,
        session: &Session,
        repository: &str,
        digest: &Digest,
        size: u64,
    ) -> Result<(), RegistryError> {
        self.commit(session, repository, digest, UploadBody::nothing_after(size)).await
    }

    /// How far a session came: by a GET, as the specification has it, or else on ECR by what it says to a part that can't
    /// come next (facts/ecr.md, Uploading a blob).
    ///
    /// # Errors
    /// When the registry can't be reached, or has no answer for now.
    pub async fn position(&self, session: &Session, repository: &str) -> Result<Position, RegistryError> {
        let call = Call { url: session.url.clone(), ..self.call(Method::GET, repository, "") };
        let reply = self.transport.send(call).await?;
        if reply.status.is_success()
            && let Some(bytes) = header(&reply, RANGE.as_str()).and_then(received)
        {
            return Ok(Position::At { bytes, session: self.moved("GET", session, &reply)? });
        }
        self.not_for_now(&Method::GET, &reply)?;
        if self.transport.is_ecr() {
            return self.position_by_refusal(session, repository).await;
        }
        Ok(if reply.status == StatusCode::NOT_FOUND { Position::Gone } else { Position::Untold })
    }

    /// Offers the first byte again, which is refused with the number of the one that is wanted. Where nothing was stored it
    /// is taken, and the session is spoilt by a part that is too short.
    async fn position_by_refusal(&self, session: &Session, repository: &str) -> Result<Position, RegistryError> {
        let mut call = Call { url: session.url.clone(), ..self.call(Method::PATCH, repository, "") };
        call.content_type = Some("application/octet-stream");
        call.content_range = Some("0-0");
        call.body = Bytes::from_static(&[0]);
        let reply = self.transport.send(call).await?;
        if reply.status.is_success() {
            return Ok(Position::Untold);
        }
        self.not_for_now(&Method::PATCH, &reply)?;
        let answer = self.transport.answer(&Method::PATCH, &reply);
        if let Some(bytes) = answer.wanted_byte() {
            return Ok(Position::At { bytes, session: session.clone() });
        }
        let gone = reply.status == StatusCode::NOT_FOUND && answer.meaning != Meaning::RepositoryMissing;
        Ok(if gone { Position::Gone } else { Position::Untold })
    }

    /// `DELETE SESSION`.
    ///
    /// # Errors
    /// When the registry can't be reached or refuses; ECR forgets sessions by itself in the end.
    pub async fn cancel(&self, session: &Session, repository: &str) -> Result<(), RegistryError> {
        let call = Call { url: session.url.clone(), ..self.call(Method::DELETE, repository, "") };
        self.good(&Method::DELETE, self.transport.send(call).await?).map(drop)
    }

    /// An error for an answer that will be another one later.
    fn not_for_now(&self, method: &Method, reply: &Reply) -> Result<(), RegistryError> {
        let answer = self.transport.answer(method, reply);
        if !reply.status.is_success() && matches!(answer.meaning, Meaning::RateLimited | Meaning::Unavailable) {
            return Err(RegistryError::Answered(Box::new(answer)));
        }
        Ok(())
    }

    /// The session after this answer, which may name another place for it.
    fn moved(&self, method: &'static str, session: &Session, reply: &Reply) -> Result<Session, RegistryError> {
        if !reply.headers.contains_key(LOCATION) {
            return Ok(session.clone());
        }
        Ok(Session { url: self.transport.location(method, reply)?, ..session.clone() })
    }

    async fn stream(
        &self,
        method: Method,
        url: &Url,
        repository: &str,
        range: Option<&str>,
        body: UploadBody,
    ) -> Result<Reply, RegistryError> {
        let watch = body.watch();
        let send = self.transport.send_body(&method, url, repository, range, body);
        let stalled = watch.stalled(self.transport.timeout());
        let (reply, renewed) = tokio::select! {
            reply = send => reply?,
            () = stalled => {
                let (method, url, seconds) = (name(&method), redacted(url), self.transport.timeout().as_secs());
                return Err(RegistryError::Stalled { method, url, seconds });
            }
        };
        self.good(&method, reply).map_err(|error| match error {
            // Whatever the registry calls it, another attempt will show other credentials.
            RegistryError::Answered(mut answer) if renewed => {
                answer.meaning = Meaning::TokenExpired;
                RegistryError::Answered(answer)
            }
            RegistryError::Answered(mut answer) if answer.meaning == Meaning::TokenExpired => {
                answer.meaning = Meaning::Unauthenticated;
                RegistryError::Answered(answer)
            }
            error => error,
        })
    }
}

fn header<'a>(reply: &'a Reply, name: &str) -> Option<&'a str> {
    reply.headers.get(name)?.to_str().ok()
}

/// Bytes that a session has whose `Range` this is. What nothing was sent to has `0-0` as well as what has one byte.
fn received(range: &str) -> Option<u64> {
    let range = range.trim();
    let (first, last) = range.strip_prefix("bytes=").unwrap_or(range).split_once('-')?;
    if first != "0" {
        return None;
    }
    last.parse::<u64>().ok()?.checked_add(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges() {
        let check = |range: &str, expected| assert_eq!(received(range), expected, "{range:?}");
        check("0-0", Some(1));
        check("0-1048575", Some(1_048_576));
        check(" bytes=0-9 ", Some(10));
        check("1-9", None);
        check("0-", None);
        check("0--1", None);
        check("", None);
        check("bytes 0-9/10", None);
        check("0-18446744073709551615", None);
    }
}
