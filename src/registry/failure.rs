//! What a registry's answer means. The one place that says what is transient and what is final.

use std::time::Duration;

use oci_client::errors::{OciEnvelope, OciErrorCode};
use thiserror::Error;

use crate::auth::AuthError;
use crate::cause::{Cause, chain};
use crate::clock;
use crate::oci::reference::Host;

/// What an answer that isn't success means for the push.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Meaning {
    /// The credentials are missing or wrong.
    Unauthenticated,
    /// The credentials were good and have expired.
    TokenExpired,
    /// The credentials are known and may not do this.
    Denied,
    /// The repository isn't there.
    RepositoryMissing,
    /// The tag is taken and can't be moved.
    TagImmutable,
    /// The upload session is gone or spoilt: a new one may do.
    SessionLost,
    /// The bytes that arrived are not the ones that the digest names.
    UploadRefused,
    /// A blob or manifest that this manifest names isn't there, or not yet.
    ReferenceMissing,
    /// The registry doesn't take digests of this kind.
    DigestRefused,
    /// It is larger than the registry takes.
    TooLarge,
    /// The key of the repository can't be used.
    Kms,
    /// The account may not have more of this.
    Quota,
    /// The image has been archived.
    ImageArchived,
    /// Too many requests, for now.
    RateLimited,
    /// The registry is busy or broken, for now.
    Unavailable,
    /// It isn't there.
    NotFound,
    /// No, for a reason of its own.
    Refused,
}

impl Meaning {
    /// Whether the same request may succeed a little later.
    #[must_use]
    pub fn is_transient(self) -> bool {
        matches!(
            self,
            Self::SessionLost | Self::UploadRefused | Self::ReferenceMissing | Self::RateLimited | Self::Unavailable
        )
    }
}

/// What `status` with the first error of its body means.
#[must_use]
pub fn meaning(status: u16, code: Option<&OciErrorCode>, message: &str) -> Meaning {
    use OciErrorCode as Code;
    match (status, code) {
        // ECR says so in the text alone (facts/ecr.md, Credentials).
        (_, Some(Code::Denied)) if message.contains("authorization token has expired") => Meaning::TokenExpired,
        (429, _) | (_, Some(Code::Toomanyrequests)) => Meaning::RateLimited,
        (401, _) => Meaning::Unauthenticated,
        // Whoever has a code of his own is asked for it first: texts quote names, and names may be called anything.
        (_, Some(Code::NameUnknown)) => Meaning::RepositoryMissing,
        (_, Some(Code::TagInvalid)) if message.contains("immutable") => Meaning::TagImmutable,
        (400..500, _) if message.contains("is not authorized to perform: ") => Meaning::Denied,
        // These have no code of their own among the specification's: the registries' words are what there is.
        (400..500, _) if mentions(message, &RATE) => Meaning::RateLimited,
        (400..500, _) if mentions(message, &KMS) => Meaning::Kms,
        (400..500, _) if mentions(message, &ARCHIVED) => Meaning::ImageArchived,
        (400..500, _) if mentions(message, &QUOTA) => Meaning::Quota,
        (403, _) | (_, Some(Code::Denied)) => Meaning::Denied,
        (501 | 505, _) => Meaning::Refused,
        (408 | 425 | 500.., _) => Meaning::Unavailable,
        // Proxies say so as well, and they know no codes.
        (413, _) => Meaning::TooLarge,
        (_, Some(Code::BlobUploadUnknown)) | (416, _) => Meaning::SessionLost,
        (_, Some(Code::BlobUploadInvalid | Code::SizeInvalid)) => Meaning::UploadRefused,
        (_, Some(Code::DigestInvalid)) => Meaning::DigestRefused,
        (_, Some(Code::ManifestBlobUnknown | Code::BlobUnknown)) => Meaning::ReferenceMissing,
        (404, _) => Meaning::NotFound,
        _ => Meaning::Refused,
    }
}

/// A quota for a time, which is no quota on things.
const RATE: [&str; 3] = ["Rate exceeded", "ThrottlingException", "TooManyRequestsException"];

/// ECR's exception, KMS's own, and KMS's words about a key, the older ones among them.
const KMS: [&str; 5] = ["KmsException", "KMSInvalidStateException", "KMS key", "AWS KMS", "customer master key"];

/// ECR's exception, and what a sentence about it may say; nothing was seen yet.
const ARCHIVED: [&str; 3] = ["ImageArchivedException", "image is archived", "has been archived"];

/// ECR's exception and its words on layers, images and tags (semaphoreci/docs#404, namespacelabs/foundation#649); Quay's and
/// Harbor's on space.
const QUOTA: [&str; 6] = [
    "LimitExceededException",
    "Limit on number of",
    "maximum allowed number of",
    "service limit",
    "uota has been exceeded",
    "exceed the configured upper limit",
];

/// Whether a message has any of these words, as they are spelled.
fn mentions(message: &str, any: &[&str]) -> bool {
    any.iter().any(|words| message.contains(words))
}

/// A registry's answer that isn't success.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The method of the request.
    pub method: &'static str,
    /// Its URL, without query and user.
    pub url: String,
    /// The status.
    pub status: u16,
    /// The error's code, as the registry spells it.
    pub code: Option<String>,
    /// The error's message.
    pub message: String,
    /// The request's id, if the registry gave one.
    pub request_id: Option<String>,
    /// How long the registry asks to wait.
    pub retry_after: Option<Duration>,
    /// What it means.
    pub meaning: Meaning,
    /// Who answered.
    pub asked: Asked,
}

/// The registry that was asked, for what can be said about its answers.
#[derive(Debug, Clone)]
pub struct Asked {
    /// Its host, which may be reached under another name.
    pub host: Host,
    /// The repository that was asked about.
    pub repository: String,
    /// Whether it is ECR.
    pub ecr: bool,
    /// Whose credentials it was shown, and where they come from; nothing for ECR's token.
    pub shown: Option<String>,
}

impl Answer {
    /// Reads an answer; `headers` gives a header's value by its lower-case name.
    pub fn read(
        asked: Asked,
        method: &'static str,
        url: String,
        status: u16,
        body: &[u8],
        headers: impl Fn(&str) -> Option<String>,
    ) -> Self {
        let first = serde_json::from_slice::<OciEnvelope>(body).ok().and_then(|e| e.errors.into_iter().next());
        let (code, message) = match first {
            Some(error) => (Some(error.code), shown(&error.message)),
            None => (None, plain_text(body)),
        };
        let spelled = code.as_ref().and_then(|code| match serde_json::to_value(code) {
            Ok(serde_json::Value::String(text)) => Some(text),
            _ => None,
        });
        let meaning = match meaning(status, code.as_ref(), &message) {
            // A manifest is no upload: ECR has one code for a session and for a layer that it doesn't know.
            Meaning::SessionLost if url.contains("/manifests/") => Meaning::ReferenceMissing,
            meaning => meaning,
        };
        Self {
            method,
            url,
            status,
            meaning,
            code: spelled,
            message,
            request_id: headers("x-amzn-requestid").or_else(|| headers("x-request-id")),
            asked,
            retry_after: headers("retry-after").and_then(|text| clock::asked(&text, headers("date").as_deref())),
        }
    }

    /// The byte with which an upload goes on that was offered another: ECR says so in the text alone (facts/ecr.md, Uploading
    /// a blob).
    pub(crate) fn wanted_byte(&self) -> Option<u64> {
        let (_, rest) = self.message.split_once("First byte of the layer part is ")?;
        let (_, wanted) = rest.split_once(" instead of ")?;
        let digits = wanted.find(|c: char| !c.is_ascii_digit()).unwrap_or(wanted.len());
        wanted[..digits].parse().ok()
    }
}

impl std::fmt::Display for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {} was answered {}", self.method, self.url, self.status)?;
        if let Some(code) = &self.code {
            write!(f, " {code}")?;
        }
        if !self.message.is_empty() {
            write!(f, ": {}", self.message)?;
        }
        self.request_id.as_ref().map_or(Ok(()), |id| write!(f, " (request id {id})"))
    }
}

/// The beginning of a body that isn't JSON, if it is text: proxies and load balancers explain themselves so.
fn plain_text(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(&body[..body.len().min(4096)]);
    if text.trim_start().starts_with('<') {
        return String::new();
    }
    let line = text.lines().find(|line| !line.trim().is_empty()).unwrap_or_default();
    shown(line)
}

/// A registry's words as they may be shown: in one line, without control characters, and not without end.
fn shown(text: &str) -> String {
    let text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(MESSAGE_LIMIT).collect();
    text.trim().to_owned()
}

/// Characters of a registry's message that are shown.
const MESSAGE_LIMIT: usize = 1000;

/// How a registry couldn't be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Network {
    /// Its name doesn't resolve.
    Name,
    /// Nothing answers there.
    Connect,
    /// Its certificate is not trusted, or there is no common version of TLS.
    Tls,
    /// Something answers that doesn't speak TLS.
    NotTls,
    /// The connection ended before the answer did.
    Closed,
    /// It took too long.
    Timeout,
}

impl Network {
    pub(super) fn text(self) -> &'static str {
        match self {
            Self::Name => "failed: the host's name does not resolve",
            Self::Connect => "failed: no connection",
            Self::Tls => "failed: no trusted TLS connection",
            Self::NotTls => "failed: what answers there does not speak TLS",
            Self::Closed => "failed: the connection was closed before an answer came",
            Self::Timeout => "failed: no answer in time",
        }
    }
}

/// An answer that is no answer to what was asked.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Oddity {
    /// An upload was opened without saying where.
    #[error("it was answered without a usable Location")]
    NoLocation,
    /// The next URL is on another host over plain http.
    #[error("it was answered with a Location that is not https, on another host")]
    InsecureLocation,
    /// There is no place to ask.
    #[error("there is no such place")]
    NoPlace,
    /// A page comes, as a portal shows it to people.
    #[error("it was answered with a page for people")]
    Page,
    /// Redirects without end.
    #[error("it was redirected too often")]
    Redirects,
    /// The registry says that something else arrived.
    #[error("the registry stored it as {digest}")]
    OtherDigest {
        /// What the registry says.
        digest: String,
    },
    /// The answer's body is larger than anything sane.
    #[error("its answer is too large")]
    Body,
    /// The registry says that it has all of a layer that hasn't been sent to its end.
    #[error("it was answered before all of the layer had been sent")]
    Early,
}

/// Why a request to a registry failed.
#[derive(Debug, Error)]
pub enum RegistryError {
    /// The registry said no.
    #[error("{0}")]
    Answered(Box<Answer>),
    /// The registry couldn't be reached.
    #[error("{method} {url} {}", network.text())]
    Unreachable {
        /// The method.
        method: &'static str,
        /// The URL, redacted.
        url: String,
        /// In which way.
        network: Network,
        /// Whether it is ECR.
        ecr: bool,
        /// What the HTTP client said.
        source: Cause,
    },
    /// The registry answers, and closes the connection at this request.
    #[error("{method} {url}: ECR closes the connection every time, and answers other requests")]
    Shut {
        /// The method.
        method: &'static str,
        /// The URL, redacted.
        url: String,
        /// The IAM action that the request needs.
        action: String,
        /// The ARN on which it is needed.
        resource: String,
    },
    /// Bytes stopped flowing.
    #[error("{method} {url} stalled: no byte moved for {seconds} s")]
    Stalled {
        /// The method.
        method: &'static str,
        /// The URL, redacted.
        url: String,
        /// The bound.
        seconds: u64,
    },
    /// Something transient failed as often as it may.
    #[error("{} (tried {attempts} times)", chain(&**last))]
    Persistent {
        /// How often it was tried.
        attempts: u32,
        /// The last failure.
        last: Box<RegistryError>,
    },
    /// The registry's answer makes no sense.
    #[error("{method} {url}: {oddity}")]
    Odd {
        /// The method.
        method: &'static str,
        /// The URL, redacted.
        url: String,
        /// In which way.
        oddity: Oddity,
    },
    /// There are no credentials.
    #[error(transparent)]
    Auth(#[from] AuthError),
    /// The HTTP client can't be made.
    #[error("the HTTP client can't be made")]
    Client(#[source] Cause),
}

impl RegistryError {
    /// Whether the same request may succeed a little later.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Answered(answer) => answer.meaning.is_transient(),
            // A certificate doesn't become trusted by waiting, nor a server another one.
            Self::Unreachable { network, .. } => !matches!(network, Network::Tls | Network::NotTls),
            Self::Stalled { .. } => true,
            Self::Auth(error) => error.is_transient(),
            Self::Persistent { .. } | Self::Shut { .. } | Self::Odd { .. } | Self::Client(_) => false,
        }
    }

    /// Whether fewer requests at once may go better: the registry is busy, or connections break.
    #[must_use]
    pub fn asks_for_less(&self) -> bool {
        match self {
            Self::Answered(answer) => matches!(answer.meaning, Meaning::RateLimited | Meaning::Unavailable),
            Self::Unreachable { network, .. } => matches!(network, Network::Closed | Network::Timeout),
            Self::Stalled { .. } => true,
            _ => false,
        }
    }

    /// The failure without its URL, for a line that names the object already.
    #[must_use]
    pub fn brief(&self) -> String {
        match self {
            Self::Answered(answer) => {
                let code = answer.code.as_deref().unwrap_or_default();
                format!("{} was answered {} {code} {}", answer.method, answer.status, answer.message)
                    .trim_end()
                    .to_owned()
            }
            Self::Unreachable { method, network, .. } => format!("{method} {}", network.text()),
            Self::Stalled { method, seconds, .. } => format!("{method} stalled: no byte moved for {seconds} s"),
            other => other.to_string(),
        }
    }

    /// The same failure, noted as the last of several.
    #[must_use]
    pub fn after(self, attempts: u32) -> Self {
        if attempts > 1 { Self::Persistent { attempts, last: Box::new(self) } } else { self }
    }

    /// What a registry's answer means, if there was one.
    #[must_use]
    pub fn meaning(&self) -> Option<Meaning> {
        match self {
            Self::Answered(answer) => Some(answer.meaning),
            Self::Persistent { last, .. } => last.meaning(),
            _ => None,
        }
    }

    /// How long the registry asks to wait.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Answered(answer) => answer.retry_after,
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, body: &str) -> Answer {
        let asked =
            Asked { host: Host::parse("h.example").unwrap(), repository: "app".to_owned(), ecr: false, shown: None };
        Answer::read(asked, "PUT", "https://h.example/v2/".to_owned(), status, body.as_bytes(), |_| None)
    }

    #[test]
    fn meanings() {
        let check = |status, code: &str, message: &str, expected| {
            let body = if code.is_empty() {
                String::new()
            } else {
                serde_json::json!({"errors": [{"code": code, "message": message}]}).to_string()
            };
            assert_eq!(answer(status, &body).meaning, expected, "{status} {code} {message}");
        };
        check(401, "", "", Meaning::Unauthenticated);
        check(403, "DENIED", "Your authorization token has expired. Reauthenticate.", Meaning::TokenExpired);
        check(403, "DENIED", "User: arn:… is not authorized", Meaning::Denied);
        check(404, "NAME_UNKNOWN", "The repository …", Meaning::RepositoryMissing);
        check(404, "MANIFEST_UNKNOWN", "", Meaning::NotFound);
        check(404, "BLOB_UPLOAD_UNKNOWN", "", Meaning::SessionLost);
        check(400, "TAG_INVALID", "… cannot be overwritten because the tag is immutable.", Meaning::TagImmutable);
        check(400, "TAG_INVALID", "too long", Meaning::Refused);
        check(400, "BLOB_UPLOAD_INVALID", "None of the provided …", Meaning::UploadRefused);
        check(416, "BLOB_UPLOAD_INVALID", "First byte …", Meaning::SessionLost);
        check(404, "MANIFEST_BLOB_UNKNOWN", "", Meaning::ReferenceMissing);
        check(400, "DIGEST_INVALID", "", Meaning::DigestRefused);
        check(405, "UNSUPPORTED", "Invalid JSON syntax", Meaning::Refused);
        check(413, "", "", Meaning::TooLarge);
        check(405, "UNSUPPORTED", "… 'Limit on number of layers per image exceeded'", Meaning::Quota);
        check(400, "UNKNOWN", "KmsException: the KMS key is disabled", Meaning::Kms);
        check(403, "DENIED", "The ciphertext refers to a KMS key that does not exist", Meaning::Kms);
        check(400, "UNKNOWN", "The image with digest sha256:… has been archived", Meaning::ImageArchived);
        check(400, "UNKNOWN", "KMSInvalidStateException: arn:… is pending deletion", Meaning::Kms);
        check(403, "DENIED", "The ciphertext refers to a customer master key that does not exist", Meaning::Kms);
        check(403, "DENIED", "… is not authorized to perform: kms:Decrypt … AWS KMS", Meaning::Denied);
        check(403, "DENIED", "… already has the maximum allowed number of images which is '10000'", Meaning::Quota);
        check(403, "DENIED", "… exceeds the maximum allowed number of tags per image which is '1000", Meaning::Quota);
        check(412, "UNKNOWN", "… will exceed the configured upper limit of 2.0 GiB", Meaning::Quota);
        check(403, "DENIED", "Quota has been exceeded on namespace", Meaning::Quota);
        check(413, "SIZE_INVALID", "", Meaning::TooLarge);
        check(429, "TOOMANYREQUESTS", "Rate exceeded", Meaning::RateLimited);
        check(400, "UNKNOWN", "ThrottlingException: Rate exceeded", Meaning::RateLimited);
        check(400, "UNKNOWN", "LimitExceededException: Rate exceeded", Meaning::RateLimited);
        // Words that mean something else, and names that somebody chose.
        check(400, "TAG_INVALID", "a tag has a limit of 128 characters", Meaning::Refused);
        check(400, "UNSUPPORTED", "the limit exceeded no one's patience", Meaning::Refused);
        check(
            404,
            "NAME_UNKNOWN",
            "The repository with name 'kmsexception/limitexceeded' …",
            Meaning::RepositoryMissing,
        );
        check(400, "TAG_INVALID", "The image tag 'KmsException' … the tag is immutable.", Meaning::TagImmutable);
        check(503, "UNKNOWN", "KmsException: try later", Meaning::Unavailable);
        check(500, "", "", Meaning::Unavailable);
        check(501, "", "", Meaning::Refused);
        check(503, "UNKNOWN", "", Meaning::Unavailable);
        check(408, "", "", Meaning::Unavailable);
        check(425, "", "", Meaning::Unavailable);
        check(418, "", "", Meaning::Refused);
    }

    #[test]
    fn a_layer_that_a_manifest_names_is_no_session() {
        let body = r#"{"errors":[{"code":"BLOB_UPLOAD_UNKNOWN"}]}"#;
        let host = Host::parse("h.example").unwrap();
        let asked = Asked { host, repository: "app".to_owned(), ecr: false, shown: None };
        let url = "https://h.example/v2/app/manifests/v1".to_owned();
        let answer = Answer::read(asked, "PUT", url, 404, body.as_bytes(), |_| None);
        assert_eq!(answer.meaning, Meaning::ReferenceMissing);
    }

    #[test]
    fn the_byte_that_is_wanted() {
        let check = |message: &str, expected| {
            let body = serde_json::json!({"errors": [{"code": "BLOB_UPLOAD_INVALID", "message": message}]}).to_string();
            assert_eq!(answer(416, &body).wanted_byte(), expected, "{message}");
        };
        check("First byte of the layer part is 0 instead of 11304960", Some(11_304_960));
        check("First byte of the layer part is 0 instead of 7.", Some(7));
        check("First byte of the layer part is 0 instead of -7", None);
        check("First byte of the layer part is 0 instead of 99999999999999999999", None);
        check("First byte of the layer part is 0", None);
        check("", None);
    }

    #[test]
    fn texts() {
        assert_eq!(answer(401, "Not Authorized\n").message, "Not Authorized");
        assert_eq!(answer(502, "<html><b>Bad Gateway</b></html>").message, "");
        let coded = answer(403, r#"{"errors":[{"code":"DENIED","message":"no"}]}"#);
        assert_eq!(coded.to_string(), "PUT https://h.example/v2/ was answered 403 DENIED: no");
        assert_eq!(answer(400, r#"{"errors":[{"code":"ARTIFACT_LOCKED"}]}"#).code.as_deref(), Some("ARTIFACT_LOCKED"));
    }
}
